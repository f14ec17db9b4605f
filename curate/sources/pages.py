"""The objects below a place in a storage, page by page as they come.

    S3          ListObjectsV2, 1,000 objects a page, in order of their keys
    GCS         objects.list, the same
    the web     index pages, folder by folder; each file is asked for its size
    all others  `ls`, folder by folder, some at a time

What is held at a time is one page (one folder, where that is what the storage answers with), however many there are.
"""

import datetime as dt
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from curate.sources.retry import retried
from curate.sources.source import ListingNotes

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Page = list[tuple[str, dict[str, Any]]]

# Requests in flight; each waits on the network for some 50 ms, so the processor does not matter.
NUM_REQUESTS = 32
PAGE_OBJECTS = 1000


def pages(fs: "AbstractFileSystem", path: str, notes: ListingNotes) -> Iterator[Page]:
    """Path relative to the folder `path`, and what the storage says of the object. `path` is as `fs` names it; a web folder is its URL.

    Names that end with a slash are markers of folders and are left out. Raises what the storage raises for a folder that is not there or
    may not be listed; where that is true of a folder inside it, `notes` say so.
    """
    kinds = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if kinds & {"http", "https"}:
        yield from _crawl(fs, path, notes)
    elif "s3" in kinds and hasattr(fs, "call_s3") and hasattr(fs, "split_path"):
        yield from _s3_pages(fs, path)
    elif "gs" in kinds and hasattr(fs, "call") and hasattr(fs, "split_path"):
        yield from _gcs_pages(fs, path)
    else:
        yield from _walk(fs, path, notes)


def _place(fs: "AbstractFileSystem", path: str) -> tuple[str, str]:
    """Bucket, and the prefix that all objects in the folder have."""
    bucket, folder = fs.split_path(path)[:2]
    if not bucket:
        raise ValueError("name a bucket")
    return bucket, folder.strip("/") + "/" if folder.strip("/") else ""


def _s3_pages(fs: Any, path: str) -> Iterator[Page]:
    bucket, prefix = _place(fs, path)
    asked = {"Bucket": bucket, "Prefix": prefix, **getattr(fs, "req_kw", {})}
    while True:
        answer = retried(lambda: fs.call_s3("list_objects_v2", **asked))
        infos = [(one["Key"], {**one, "size": one["Size"]}) for one in answer.get("Contents", [])]
        yield [(key[len(prefix) :], info) for key, info in infos if not key.endswith("/")]
        if not answer.get("IsTruncated"):
            return
        _read_times_faster(fs)
        asked["ContinuationToken"] = answer["NextContinuationToken"]


def _read_times_faster(fs: Any) -> None:
    """Botocore's guess at each time's format is half of what a page costs; S3 writes ISO 8601 in pages."""
    from botocore.utils import parse_timestamp

    def parse(value: Any) -> dt.datetime:
        try:
            return dt.datetime.fromisoformat(value)
        except (TypeError, ValueError):
            found: dt.datetime = parse_timestamp(value)
            return found

    if fs.session is not None:
        fs.session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse)


def _gcs_pages(fs: Any, path: str) -> Iterator[Page]:
    bucket, prefix = _place(fs, path)
    asked = {"maxResults": PAGE_OBJECTS, "prefix": prefix or None}
    while True:
        answer = retried(lambda: fs.call("GET", "b/{}/o", bucket, json_out=True, **asked))
        infos = answer.get("items", [])
        yield [(info["name"][len(prefix) :], info) for info in infos if not info["name"].endswith("/")]
        if not answer.get("nextPageToken"):
            return
        asked["pageToken"] = answer["nextPageToken"]


def _walk(fs: "AbstractFileSystem", path: str, notes: ListingNotes) -> Iterator[Page]:
    top = path.rstrip("/") or path
    waiting, running = deque([top]), deque[tuple[str, Future[Any]]]()
    fs.invalidate_cache()  # what was listed before is not what is there now
    with ThreadPoolExecutor(NUM_REQUESTS) as pool:
        while waiting or running:
            while waiting and len(running) < NUM_REQUESTS:
                folder = waiting.popleft()
                running.append((folder, pool.submit(_ls, fs, folder)))
            folder, listing = running.popleft()
            error = listing.exception()
            if error and folder == top:
                raise error
            if error:
                notes.say(f"{folder}: cannot be listed: {error}")
                continue
            prefix = folder.rstrip("/") + "/"
            below = [info for info in listing.result() if info["name"].startswith(prefix) and len(info["name"]) > len(prefix)]
            waiting += [info["name"].rstrip("/") for info in below if info["type"] == "directory"]
            files = [info for info in below if info["type"] != "directory" and not info["name"].endswith("/")]
            for first in range(0, len(files), PAGE_OBJECTS):
                yield [(info["name"][len(top.rstrip("/")) + 1 :], info) for info in files[first : first + PAGE_OBJECTS]]


def _ls(fs: "AbstractFileSystem", folder: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = retried(lambda: fs.ls(folder, detail=True))
    fs.invalidate_cache(folder)  # the file system would keep every folder until it ends
    return found


def _crawl(fs: "AbstractFileSystem", root: str, notes: ListingNotes) -> Iterator[Page]:
    """Index pages link to their parents too, so each link is held against the folder it was found in."""
    folders, seen = [root + "/"], set[str]()
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
            files = [link for link in below if not link.endswith("/")]
            for first in range(0, len(files), PAGE_OBJECTS):
                asked = [(url, pool.submit(fs.info, url)) for url in files[first : first + PAGE_OBJECTS]]
                yield [(url[len(root) + 1 :], {} if ask.exception() else ask.result()) for url, ask in asked]
