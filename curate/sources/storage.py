"""Object stores and web folders, through fsspec: what lies under a prefix, and the size, etag and mtime of single objects.

An https folder is read through its index page; only links below the folder are followed.
"""

import datetime as dt
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from posixpath import splitext
from typing import TYPE_CHECKING, Any

from curate.clip import NS_PER_S
from curate.errors import ConfigError
from curate.extras import require, store_needs
from curate.sources.globs import is_glob, matches, split_glob
from curate.sources.pages import NUM_REQUESTS, Page, pages
from curate.sources.retry import retried
from curate.sources.sidecars import MAX_SIDECAR_BYTES, SIDECAR_EXTENSIONS, parse_caption
from curate.sources.source import MEDIA_EXTENSIONS, ListingNotes, Source, extension_of
from curate.sources.table import BLOCK_ROWS, SourceRows, SourceTable

if TYPE_CHECKING:
    import pyarrow as pa
    from fsspec import AbstractFileSystem

Identity = tuple[int | None, str | None, int | None]

NUM_SIDECARS_AT_ONCE = 1000


def list_storage(url: str, notes: ListingNotes) -> SourceTable:
    """Sources under a folder, a glob or a single object, by key. Raises `ConfigError` when the storage refuses or is not there.

    An object is seen once and held as a source; its memory is some 200 bytes and its names.
    """
    pattern: tuple[str, ...] = ()
    root = url.rstrip("/")
    is_file = extension_of(root) in MEDIA_EXTENSIONS and not is_glob(root)
    if is_glob(root):
        root, pattern = split_glob(root)
    try:
        fs, path = _open(root)
        if is_file and not (_is_web(root) or fs.isfile(path)):
            is_file = False
        if is_file:
            folder, _, name = root.rpartition("/")
            listing = _Listing(folder, None, notes)
            listing.take([(name, fs.info(path))])
        else:
            listing = _Listing(root, pattern, notes)
            for page in pages(fs, root if _is_web(root) else path, notes):
                listing.take(page)
        return listing.sources(fs)
    except ConfigError:
        raise
    except Exception as error:  # each storage has its own exceptions, and every one of them means the same to the user
        raise _refused(f"input {url!r} cannot be listed", error) from error


def identities(urls: Sequence[str]) -> list[Identity | None]:
    """Size, etag and mtime of files named one by one, local or not; None for what cannot be looked up."""
    remote = [url for url in urls if "://" in url]
    found: dict[str, Identity | None] = {}
    if remote:
        with ThreadPoolExecutor(NUM_REQUESTS) as pool:
            requests = [pool.submit(_remote_identity, url) for url in remote]
            found = {url: None if request.exception() else request.result() for url, request in zip(remote, requests, strict=True)}
    return [found[url] if "://" in url else _local_identity(url) for url in urls]


def read_bytes(path: str) -> bytes:
    """Content of a list file."""
    try:
        if "://" not in path:
            with open(path, "rb") as file:
                return file.read()
        fs, stripped = _open(path)
        return bytes(fs.cat_file(stripped))
    except Exception as error:  # see list_storage
        raise _refused(f"{path}: cannot be read", error) from error


def _refused(what: str, error: Exception) -> ConfigError:
    reason = "it does not exist" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__
    return ConfigError(f"{what}: {reason}")


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _open(url: str) -> "tuple[AbstractFileSystem, str]":
    from fsspec.core import url_to_fs

    require(store_needs(input=url))
    fs, path = url_to_fs(url)
    return fs, path


def _local_identity(path: str) -> Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, None, status.st_mtime_ns


def _remote_identity(url: str) -> Identity:
    fs, path = _open(url)
    return _identity(fs.info(path))


def _identity(info: dict[str, Any]) -> Identity:
    size, etag = info.get("size"), info.get("ETag") or info.get("etag")
    stamps = (info.get(key) for key in ("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "modified", "created"))
    mtime = next((stamp for stamp in stamps if stamp is not None), None)
    return None if size is None else int(size), None if etag is None else str(etag).strip('"'), _to_ns(mtime)


def _to_ns(stamp: object) -> int | None:
    if isinstance(stamp, str):
        stamp = _parse_date(stamp)
    if isinstance(stamp, dt.datetime):
        stamp = stamp if stamp.tzinfo else stamp.replace(tzinfo=dt.UTC)
        since = stamp - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        return (since.days * 86_400 + since.seconds) * NS_PER_S + since.microseconds * 1000
    return round(stamp * NS_PER_S) if isinstance(stamp, (int, float)) else None


def _parse_date(text: str) -> dt.datetime | None:
    """ISO 8601, or the dates of e-mail and HTTP headers."""
    for parse in (dt.datetime.fromisoformat, parsedate_to_datetime):
        try:
            return parse(text)
        except ValueError:
            continue
    return None


class _Listing:
    """What is kept of a storage's objects while their pages come: the sources, and the names of what may be a caption."""

    def __init__(self, root: str, pattern: tuple[str, ...] | None, notes: ListingNotes) -> None:
        self._root, self._pattern, self._notes = root, pattern, notes
        self._rows = SourceRows()
        self._texts: dict[str, int] = {}  # key of what may be a caption -> its size
        self._others: set[str] = set()  # media that the pattern leaves out, without their extension

    def take(self, page: Page) -> None:
        """`pattern` None takes every object whatever its name."""
        before = len(self._rows)
        for key, info in page:
            extension = extension_of(key.rpartition("/")[2])
            is_media = extension in MEDIA_EXTENSIONS
            if key.startswith(".") or "/." in key:
                self._notes.num_hidden += 1
            elif self._pattern is None or (is_media and matches(self._pattern, tuple(key.split("/")))):
                self._rows.add(Source(key, f"{self._root}/{key}", *_identity(info)))
            elif is_media:
                self._others.add(splitext(key)[0])
            elif extension in SIDECAR_EXTENSIONS:
                self._texts[key] = int(info.get("size") or 0)
            elif matches(self._pattern, tuple(key.split("/"))):
                self._notes.skipped[extension] += 1
        self._notes.saw(len(page), len(self._rows) - before)

    def sources(self, fs: "AbstractFileSystem") -> SourceTable:
        """Sorted by key, with their captions."""
        found = self._rows.table().by_key()
        if not self._texts:
            return found
        sidecars = self._sidecars(found)
        for text in self._texts:
            is_beside = splitext(text)[0] in sidecars or splitext(text)[0] in self._others
            if not is_beside and matches(self._pattern or (), tuple(text.split("/"))):
                self._notes.skipped[extension_of(text)] += 1
        return found.with_captions(self._captions(fs, found, sidecars))

    def _sidecars(self, found: SourceTable) -> dict[str, str]:
        """Source without its extension -> what stands beside it."""
        sidecars = {}
        for key in found.keys():  # noqa: SIM118  not a dictionary's
            stem = splitext(key)[0]
            name = next((stem + extension for extension in SIDECAR_EXTENSIONS if stem + extension in self._texts), None)
            if name is not None:
                sidecars[stem] = name
        return sidecars

    def _captions(self, fs: "AbstractFileSystem", found: SourceTable, sidecars: dict[str, str]) -> "pa.ChunkedArray":
        """They are fetched many at a time: one after the other, a round trip each, they would take longer than the listing."""
        import pyarrow as pa

        captions: list[str | None] = []
        blocks = []
        for first in range(0, len(found), NUM_SIDECARS_AT_ONCE):
            own = [sidecars.get(splitext(key)[0]) for key in found[first : first + NUM_SIDECARS_AT_ONCE].keys()]  # noqa: SIM118
            texts = self._fetched(fs, sorted({name for name in own if name}))
            captions += [texts.get(name or "") for name in own]
            if len(captions) > BLOCK_ROWS:
                blocks.append(pa.array(captions, pa.string()))
                captions = []
        return pa.chunked_array([*blocks, pa.array(captions, pa.string())])

    def _fetched(self, fs: "AbstractFileSystem", names: Sequence[str]) -> dict[str, str]:
        """Captions by the names of their files; those that hold none are left out."""
        wanted, captions = [], {}
        for name in names:
            if self._texts[name] > MAX_SIDECAR_BYTES:
                self._notes.say(f"{self._root}/{name}: ignored as a caption: larger than {MAX_SIDECAR_BYTES // 1024} KiB")
            else:
                wanted.append(name)
        with ThreadPoolExecutor(NUM_REQUESTS) as pool:
            # Not `fs.cat` of many, which takes names with brackets for patterns.
            asked = [(name, pool.submit(_content, fs, f"{self._root}/{name}")) for name in wanted]
        for name, answer in asked:
            if answer.exception():
                self._notes.say(f"{self._root}/{name}: ignored as a caption: {answer.exception()}")
                continue
            caption = parse_caption(f"{self._root}/{name}", answer.result(), self._notes)
            if caption:
                captions[name] = caption
        self._notes.saw(captions=len(wanted))
        return captions


def _content(fs: "AbstractFileSystem", url: str) -> bytes:
    return bytes(retried(lambda: fs.cat_file(fs._strip_protocol(url))))
