"""Local folders, globs and single files."""

import os
import stat
from collections.abc import Iterator

from curate.errors import ConfigError
from curate.sources.globs import is_glob, matches, may_hold, split_glob
from curate.sources.sidecars import is_sidecar, media_stems, read_caption, sidecar_names
from curate.sources.source import MEDIA_EXTENSIONS, ListingNotes, Source, extension_of
from curate.sources.table import SourceRows, SourceTable

NUM_SAID_AT_ONCE = 1000


def list_local(path: str, notes: ListingNotes) -> SourceTable:
    """Sources of an absolute path: a folder, else one file, else a glob."""
    if os.path.isdir(path):
        return _walk(path, (), notes)
    if os.path.lexists(path):
        caption = read_caption(path, sidecar_names(path), notes)
        return SourceTable.of([Source(os.path.basename(path), path, *_identity(_stat(path)), caption)])
    if is_glob(path):
        root, pattern = split_glob(path, os.sep)
        if os.path.isdir(root):
            return _walk(root, pattern, notes)
        raise ConfigError(f"input {path!r}: the folder {root!r} does not exist")
    raise ConfigError(f"input {path!r} does not exist")


def _walk(root: str, pattern: tuple[str, ...], notes: ListingNotes) -> SourceTable:
    """Each real folder once, linked ones last, so that no loop of links and no second name of a folder lists a file twice."""
    found = SourceRows()
    seen: set[tuple[int, int]] = set()
    folders, links = [""], list[str]()
    while folders or links:
        if folders:
            folder = folders.pop()
        else:
            links.sort()
            folder = links.pop(0)
        full = os.path.join(root, folder) if folder else root
        try:
            status = os.stat(full)
            if (status.st_dev, status.st_ino) in seen:
                notes.say(f"{full}: leads to a folder that is listed already")
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(full) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise ConfigError(f"input {full!r} cannot be listed: {error.strerror}") from error
            notes.say(f"{full}: cannot be listed: {error.strerror}")
            continue
        for source in _taken(root, folder, listed, pattern, folders, links, notes):
            found.add(source)
    return found.table()


def _taken(
    root: str,
    folder: str,
    entries: list[os.DirEntry[str]],
    pattern: tuple[str, ...],
    folders: list[str],
    links: list[str],
    notes: ListingNotes,
) -> Iterator[Source]:
    """The media files of one folder; its subfolders go to `folders`, those behind a link to `links`."""
    num_seen = num_taken = 0
    names = {entry.name for entry in entries}
    stems = media_stems(names)
    for entry in entries:
        num_seen += 1
        if num_seen == NUM_SAID_AT_ONCE:
            notes.saw(num_seen, num_taken)
            num_seen = num_taken = 0
        if entry.name.startswith("."):
            notes.num_hidden += 1
            continue
        relative = os.path.join(folder, entry.name)
        parts = tuple(relative.split(os.sep))
        if _is_folder(entry):
            if may_hold(pattern, parts):
                (links if entry.is_symlink() else folders).append(relative)
            continue
        extension = extension_of(entry.name)
        if not matches(pattern, parts) or is_sidecar(entry.name, stems):
            continue
        status = _stat(entry.path)
        if extension not in MEDIA_EXTENSIONS:
            notes.skipped[extension] += 1
        elif status and not stat.S_ISREG(status.st_mode):
            notes.say(f"{entry.path}: is not a regular file")
            notes.skipped[extension] += 1
        elif not _is_text(relative):
            notes.say(f"{os.path.join(root, folder)}: the name {entry.name!r} is not valid UTF-8; rename the file to have it listed")
            notes.skipped[extension] += 1
        else:
            caption = read_caption(entry.path, names, notes)
            num_taken += 1
            yield Source(relative.replace(os.sep, "/"), entry.path, *_identity(status), caption)
    notes.saw(num_seen, num_taken)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _stat(path: str) -> os.stat_result | None:
    """None for what cannot be looked at (a dangling link, say): it is listed all the same and fails when it is opened."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _identity(status: os.stat_result | None) -> tuple[int | None, None, int | None]:
    return (status.st_size, None, status.st_mtime_ns) if status else (None, None, None)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
