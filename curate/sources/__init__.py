"""Lists the sources of a run: a folder, a glob, a list file or one media file, local or behind any fsspec URL.

A source's key is what the rest of the manifest calls it, so it must not depend on who lists, when, or what else is listed:

    folder, glob, file   the path relative to the input root (a glob's root is its longest part without `*?[`; a file's its folder)
    list file            the path relative to the list file's folder for entries that lie in it, the full URL for all others

In a folder the file name decides (`MEDIA_EXTENSIONS`); other files are counted, names that start with a dot are left alone. What
somebody named outright (an entry of a list, a single file) counts whatever its name. A broken file is listed: it fails later, with
its reason. Captions come from the list's `caption` column, else from `x.txt` or `x.json` beside `x.mp4` (see `curate.sources.sidecars`).
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence

from curate.errors import ConfigError
from curate.sources.folder import list_local
from curate.sources.globs import is_glob
from curate.sources.lists import LIST_EXTENSIONS, local_path, read_list
from curate.sources.source import MEDIA_EXTENSIONS, ListingNotes, Source, extension_of
from curate.sources.storage import list_storage

__all__ = ["MEDIA_EXTENSIONS", "ListingNotes", "Source", "group", "list_sources", "select"]

MAX_SHARD_BYTES = 8 * 2**30


def list_sources(location: str, notes: ListingNotes | None = None) -> Iterator[Source]:
    """Sources of `location`, sorted by key. `notes`, when given, collects what was skipped, unreadable or ignored.

    Raises `ConfigError` at the call when the location does not exist, cannot be read, holds no media, or names a key twice.
    """
    notes = ListingNotes() if notes is None else notes
    extension = extension_of(location)
    if "://" in location and not location.startswith("file://"):
        if extension in LIST_EXTENSIONS and not is_glob(location):
            found = read_list(location, notes)
        else:
            found = list_storage(location, notes)
    else:
        path = os.path.abspath(local_path(location))
        if extension in LIST_EXTENSIONS and os.path.isfile(path):
            found = read_list(path, notes)
        else:
            found = list_local(path, notes)
    if not found:
        skipped = notes.summary()
        raise ConfigError(f"input {location!r} holds no media files" + (f"; {skipped}" if skipped else "") + f". {_known()}")
    return iter(sorted(found, key=lambda source: source.key))


def select(sources: Iterable[Source], limit: int | None, seed: int = 0) -> list[Source]:
    """A seeded subset of at most `limit` sources, sorted by key; None takes all.

    It is the same whatever order the sources come in, and the subset of a smaller limit lies inside that of a larger one.
    """
    chosen = list(sources)
    if limit is not None and limit < len(chosen):
        if limit < 1:
            raise ConfigError(f"limit_sources={limit} must be 1 or more")
        chosen = sorted(chosen, key=lambda source: hashlib.sha256(f"{seed}\0{source.key}".encode()).digest())[:limit]
    return sorted(chosen, key=lambda source: source.key)


def group(sources: Sequence[Source], shard_sources: int, max_shard_bytes: int = MAX_SHARD_BYTES) -> list[tuple[Source, ...]]:
    """Shards cut from the list in its order: at most `shard_sources` sources and `max_shard_bytes` bytes each.

    A source larger than the budget is a shard of its own; a source of unknown size counts as empty.
    """
    if shard_sources < 1 or max_shard_bytes < 1:
        raise ConfigError(f"shard_sources={shard_sources} and max_shard_bytes={max_shard_bytes} must be 1 or more")
    shards: list[tuple[Source, ...]] = []
    shard: list[Source] = []
    num_bytes = 0
    for source in sources:
        size = source.size_bytes or 0
        if shard and (len(shard) == shard_sources or num_bytes + size > max_shard_bytes):
            shards.append(tuple(shard))
            shard, num_bytes = [], 0
        shard.append(source)
        num_bytes += size
    if shard:
        shards.append(tuple(shard))
    return shards


def _known() -> str:
    return f"Media are known by their extension: {' '.join(sorted(MEDIA_EXTENSIONS))}"
