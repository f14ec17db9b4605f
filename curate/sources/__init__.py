"""Lists the sources of a run: a folder, a glob, a list file or one media file, local or behind any fsspec URL.

A source's key is what the rest of the manifest calls it, so it must not depend on who lists, when, or what else is listed:

    folder, glob, file   the path relative to the input root (a glob's root is its longest part without `*?[`; a file's its folder)
    list file            the path relative to the list file's folder for entries that lie in it, the full URL for all others

In a folder the file name decides (`MEDIA_EXTENSIONS`); other files are counted, names that start with a dot are left alone. What
somebody named outright (an entry of a list, a single file) counts whatever its name. A broken file is listed: it fails later, with
its reason. Captions come from the list's `caption` column, else from `x.txt` or `x.json` beside `x.mp4` (see `curate.sources.sidecars`).
"""

import hashlib
import heapq
import os
from collections.abc import Iterable, Iterator, Sequence

from curate.errors import ConfigError
from curate.sources.folder import list_local
from curate.sources.globs import is_glob
from curate.sources.lists import LIST_EXTENSIONS, local_path, read_list
from curate.sources.source import MEDIA_EXTENSIONS, ListingNotes, Source, extension_of
from curate.sources.storage import list_storage
from curate.sources.table import SourceTable

__all__ = [
    "MEDIA_EXTENSIONS",
    "ListingNotes",
    "Source",
    "SourceTable",
    "group",
    "is_list",
    "list_sources",
    "listing",
    "select",
    "shard_sizes",
]

MAX_SHARD_BYTES = 8 * 2**30


def list_sources(location: str, notes: ListingNotes | None = None) -> Iterator[Source]:
    """The sources of `listing`, one after the other."""
    return iter(listing(location, notes))


def listing(location: str, notes: ListingNotes | None = None) -> SourceTable:
    """Sources of `location`, sorted by key. `notes`, when given, collects what was skipped, unreadable or ignored, and is told of progress.

    Raises `ConfigError` when the location does not exist, cannot be read, holds no media, or names a key twice.
    """
    notes = ListingNotes() if notes is None else notes
    if is_list(location):
        found = read_list(location if _is_remote(location) else os.path.abspath(local_path(location)), notes)
    elif _is_remote(location):
        found = list_storage(location, notes)
    else:
        found = list_local(os.path.abspath(local_path(location)), notes)
    if not found:
        skipped = notes.summary()
        raise ConfigError(f"input {location!r} holds no media files" + (f"; {skipped}" if skipped else "") + f". {_known()}")
    return found.by_key()


def is_list(location: str) -> bool:
    """Whether the location is a file that names sources."""
    if extension_of(location) not in LIST_EXTENSIONS:
        return False
    return not is_glob(location) if _is_remote(location) else os.path.isfile(local_path(location))


def select(sources: Iterable[Source], limit: int | None, seed: int = 0) -> SourceTable:
    """A seeded subset of at most `limit` sources, sorted by key; None takes all.

    It is the same whatever order the sources come in, and the subset of a smaller limit lies inside that of a larger one.
    """
    table = SourceTable.of(sources)
    if limit is not None and limit < len(table):
        if limit < 1:
            raise ConfigError(f"limit_sources={limit} must be 1 or more")
        digests = ((hashlib.sha256(f"{seed}\0{key}".encode()).digest(), place) for place, key in enumerate(table.keys()))
        table = table.take([place for _, place in heapq.nsmallest(limit, digests)])
    return table.by_key()


def group(sources: Sequence[Source], shard_sources: int, max_shard_bytes: int = MAX_SHARD_BYTES) -> list[tuple[Source, ...]]:
    """Shards cut from the list in its order; see `shard_sizes`."""
    ends, shards = 0, []
    for size in shard_sizes((source.size_bytes for source in sources), shard_sources, max_shard_bytes):
        shards.append(tuple(sources[ends : ends + size]))
        ends += size
    return shards


def shard_sizes(sizes_bytes: Iterable[int | None], shard_sources: int, max_shard_bytes: int = MAX_SHARD_BYTES) -> list[int]:
    """How many sources each shard takes from a list, in its order: at most `shard_sources` and `max_shard_bytes` bytes each.

    A source larger than the budget is a shard of its own; a source of unknown size counts as empty.
    """
    if shard_sources < 1 or max_shard_bytes < 1:
        raise ConfigError(f"shard_sources={shard_sources} and max_shard_bytes={max_shard_bytes} must be 1 or more")
    counts: list[int] = []
    num_bytes = 0
    for size in sizes_bytes:
        if counts and counts[-1] < shard_sources and num_bytes + (size or 0) <= max_shard_bytes:
            counts[-1] += 1
            num_bytes += size or 0
        else:
            counts.append(1)
            num_bytes = size or 0
    return counts


def _is_remote(location: str) -> bool:
    return "://" in location and not location.startswith("file://")


def _known() -> str:
    return f"Media are known by their extension: {' '.join(sorted(MEDIA_EXTENSIONS))}"
