"""List files: `.txt` (one URL a line), `.csv` and `.parquet` (a column `url`, optionally `caption`), local or behind an fsspec URL.

A relative path counts from the folder of the list. In `.txt`, white space around a line is removed and empty lines do not count;
names that begin or end with white space, or contain line ends, need CSV or Parquet. Text is UTF-8.
"""

import csv
import io
import os
import posixpath
from dataclasses import dataclass

from curate.errors import ConfigError
from curate.extras import require, store_needs
from curate.sources.sidecars import read_caption, sidecar_names
from curate.sources.source import ListingNotes, Source, extension_of
from curate.sources.storage import identities, read_bytes
from curate.sources.table import SourceRows, SourceTable

LIST_EXTENSIONS = frozenset({".txt", ".csv", ".parquet"})
NUM_LOOKED_UP_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as written, with its place (line or row, from 1) for messages."""

    place: int
    url: str
    caption: str | None = None


def read_list(path: str, notes: ListingNotes) -> SourceTable:
    """Sources of a list file. `path` is absolute or an fsspec URL.

    Raises `ConfigError` for a list that cannot be read, has no `url` column, an empty entry, or two entries of one key.
    """
    data = read_bytes(path)
    parse = {".txt": _parse_text, ".csv": _parse_csv, ".parquet": _parse_parquet}[extension_of(path)]
    entries = parse(path, data)
    base = path.rpartition("/")[0] if "://" in path else os.path.dirname(path)
    found: dict[str, tuple[Entry, str]] = {}
    for entry in entries:
        key, url = resolve(entry.url, base)
        if key in found:
            first = found[key][0]
            raise ConfigError(
                f"{path}: entries {first.place} ({first.url!r}) and {entry.place} ({entry.url!r}) name the same source {key!r}; keep one"
            )
        found[key] = (entry, url)
    schemes = {url.partition("://")[0]: url for _, url in found.values()}
    require(need for url in schemes.values() for need in store_needs(**{path: url}))
    return _with_identities(path, found, notes)


def resolve(entry: str, base: str) -> tuple[str, str]:
    """Key and URL of an entry of a list that lies in the folder `base`."""
    if entry.startswith("file://"):
        entry = local_path(entry)
    if "://" in entry:
        return (entry[len(base) + 1 :] if entry.startswith(base + "/") else entry), entry
    if "://" in base and not entry.startswith("/"):
        scheme, _, root = base.partition("://")
        url = f"{scheme}://{posixpath.normpath(posixpath.join(root, entry))}"
        return (url[len(base) + 1 :] if url.startswith(base + "/") else url), url
    url = os.path.normpath(os.path.join(base, entry))
    inside = url.startswith(base.rstrip(os.sep) + os.sep)
    return (os.path.relpath(url, base) if inside else url).replace(os.sep, "/"), url


def local_path(url: str) -> str:
    """The path a `file://` URL stands for; anything else comes back as it is."""
    if not url.startswith("file://"):
        return url
    from urllib.parse import unquote, urlsplit

    return unquote(urlsplit(url).path)


def _with_identities(path: str, found: dict[str, tuple[Entry, str]], notes: ListingNotes) -> SourceTable:
    rows, num_unknown = SourceRows(), 0
    entries = list(found.items())
    for first in range(0, len(entries), NUM_LOOKED_UP_AT_ONCE):
        block = entries[first : first + NUM_LOOKED_UP_AT_ONCE]
        for (key, (entry, url)), identity in zip(block, identities([url for _, (_, url) in block]), strict=True):
            num_unknown += identity is None
            caption = (entry.caption or "").strip() or None
            if caption is None and "://" not in url:
                caption = read_caption(url, sidecar_names(url) - {os.path.basename(path)}, notes)
            rows.add(Source(key, url, *(identity or (None, None, None)), caption))
        notes.saw(len(block), len(block))
    if num_unknown:
        notes.say(f"{path}: {num_unknown} of {len(rows)} entries cannot be looked up now; each is tried in its turn")
    return rows.table()


def _text(path: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: a list file must be UTF-8 text; byte {error.start} is not (a list made by PowerShell is UTF-16: save it as UTF-8)"
        ) from error


def _parse_text(path: str, data: bytes) -> list[Entry]:
    # Not splitlines(): that also breaks names at form feeds and Unicode line separators.
    lines = _text(path, data).replace("\r\n", "\n").split("\n")
    return [Entry(place, line.strip()) for place, line in enumerate(lines, 1) if line.strip()]


def _parse_csv(path: str, data: bytes) -> list[Entry]:
    reader = csv.DictReader(io.StringIO(_text(path, data), newline=""))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ConfigError(f"{path}: line {reader.line_num} is not CSV: {error}") from error
    _check_columns(path, list(reader.fieldnames or []))
    return [_entry(path, place, row.get("url"), row.get("caption")) for place, row in enumerate(rows, 1)]


def _parse_parquet(path: str, data: bytes) -> list[Entry]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(data))
        names = file.schema_arrow.names
        _check_columns(path, names)
        table = file.read(columns=[name for name in ("url", "caption") if name in names])
    except pa.ArrowException as error:
        raise ConfigError(f"{path}: cannot be read as Parquet: {error}") from error
    urls = table["url"].to_pylist()
    captions = table["caption"].to_pylist() if "caption" in table.column_names else [None] * len(urls)
    return [_entry(path, place, url, caption) for place, (url, caption) in enumerate(zip(urls, captions, strict=True), 1)]


def _check_columns(path: str, names: list[str]) -> None:
    if "url" not in names:
        raise ConfigError(
            f"{path}: a list needs a column named 'url' (and may have 'caption'); its columns are: {', '.join(names) or 'none'}"
        )


def _entry(path: str, place: int, url: object, caption: object) -> Entry:
    if not isinstance(url, str) or not url.strip():
        raise ConfigError(f"{path}: row {place} has no url ({url!r})")
    if caption is not None and not isinstance(caption, str):
        raise ConfigError(f"{path}: row {place} has a caption that is not text: {caption!r}")
    return Entry(place, url, caption)
