"""Object stores and web folders, through fsspec: what lies under a prefix, and the size, etag and mtime of single objects.

An https folder is read through its index page; only links below the folder are followed.
"""

import datetime as dt
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from curate.clip import NS_PER_S
from curate.errors import ConfigError
from curate.sources.globs import is_glob, matches, split_glob
from curate.sources.sidecars import MAX_SIDECAR_BYTES, is_sidecar, media_stems, parse_caption, sidecar_of
from curate.sources.source import MEDIA_EXTENSIONS, ListingNotes, Source, extension_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Identity = tuple[int | None, str | None, int | None]

# Requests in flight; each waits on the network for some 50 ms, so the processor does not matter.
NUM_REQUESTS = 32
NUM_SIDECARS_AT_ONCE = 1000


def list_storage(url: str, notes: ListingNotes) -> list[Source]:
    """Sources under a folder, a glob or a single object. Raises `ConfigError` when the storage refuses or is not there."""
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
            return _sources(fs, folder, {name: fs.info(path)}, None, notes)
        return _sources(fs, root, _find(fs, root, path, notes), pattern, notes)
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


def _find(fs: "AbstractFileSystem", root: str, path: str, notes: ListingNotes) -> dict[str, dict[str, Any]]:
    """Objects below the root: relative path -> what the storage says of it."""
    if _is_web(root):
        return _crawl(fs, root, notes)
    prefix = path.rstrip("/") + "/"
    return {name[len(prefix) :]: info for name, info in fs.find(path, detail=True).items() if name.startswith(prefix)}


def _crawl(fs: "AbstractFileSystem", root: str, notes: ListingNotes) -> dict[str, dict[str, Any]]:
    """Index pages link to their parents too, so each link is held against the folder it was found in."""
    folders, seen, files = [root + "/"], set[str](), list[str]()
    with ThreadPoolExecutor(NUM_REQUESTS) as pool:
        while folders:
            folder = folders.pop()
            if folder in seen:
                continue
            seen.add(folder)
            listing = pool.submit(fs.ls, folder, detail=False)
            error = listing.exception()
            if error and folder == root + "/":
                raise error
            if error:
                notes.say(f"{folder}: cannot be listed: {error}")
                continue
            below = [link for link in listing.result() if link.startswith(folder) and len(link) > len(folder) and "?" not in link]
            folders += [link for link in below if link.endswith("/")]
            files += [link for link in below if not link.endswith("/")]
        requests = [pool.submit(fs.info, url) for url in files]
        return {url[len(root) + 1 :]: {} if ask.exception() else ask.result() for url, ask in zip(files, requests, strict=True)}


def _sources(
    fs: "AbstractFileSystem", root: str, infos: dict[str, dict[str, Any]], pattern: tuple[str, ...] | None, notes: ListingNotes
) -> list[Source]:
    """`pattern` None takes every object whatever its name."""
    taken: list[str] = []
    names: dict[str, set[str]] = {}
    for key in infos:
        folder, _, name = key.rpartition("/")
        names.setdefault(folder, set()).add(name)
    stems = {folder: media_stems(inside) for folder, inside in names.items()}
    for key in infos:
        folder, _, name = key.rpartition("/")
        parts = tuple(key.split("/"))
        if any(part.startswith(".") for part in parts):
            notes.num_hidden += 1
        elif pattern is None or (matches(pattern, parts) and extension_of(name) in MEDIA_EXTENSIONS):
            taken.append(key)
        elif matches(pattern, parts) and not is_sidecar(name, stems[folder]) and name:
            notes.skipped[extension_of(name)] += 1
    sidecars = {key: _beside(key, names) for key in taken}
    captions = _captions(fs, root, infos, {sidecar for sidecar in sidecars.values() if sidecar}, notes)
    return [Source(key, f"{root}/{key}", *_identity(infos[key]), captions.get(sidecars[key] or "")) for key in taken]


def _beside(key: str, names: dict[str, set[str]]) -> str | None:
    folder, slash, name = key.rpartition("/")
    sidecar = sidecar_of(name, names[folder])
    return None if sidecar is None else folder + slash + sidecar


def _captions(
    fs: "AbstractFileSystem", root: str, infos: dict[str, dict[str, Any]], sidecars: Iterable[str], notes: ListingNotes
) -> dict[str, str]:
    """Sidecars are fetched many at a time: one after the other, a round trip each, they would take longer than the listing."""
    wanted = []
    for sidecar in sorted(sidecars):
        if (infos[sidecar].get("size") or 0) > MAX_SIDECAR_BYTES:
            notes.say(f"{root}/{sidecar}: ignored as a caption: larger than {MAX_SIDECAR_BYTES // 1024} KiB")
        else:
            wanted.append(sidecar)
    captions: dict[str, str] = {}
    for first in range(0, len(wanted), NUM_SIDECARS_AT_ONCE):
        paths = {fs._strip_protocol(f"{root}/{sidecar}"): sidecar for sidecar in wanted[first : first + NUM_SIDECARS_AT_ONCE]}
        for path, data in fs.cat(list(paths), on_error="return").items():
            sidecar = paths[path]
            if isinstance(data, bytes):
                caption = parse_caption(f"{root}/{sidecar}", data, notes)
                if caption:
                    captions[sidecar] = caption
            else:
                notes.say(f"{root}/{sidecar}: ignored as a caption: {data}")
    return captions
