"""What it costs to list a bucket of many objects, or a folder of many files, and to take the listing into the index.

    python benchmarks/listing.py [--objects 1000000] [--files 200000] [--sidecars 0.0] [--rounds 1]

A server on this machine answers S3's ListObjectsV2 in pages of 1,000 keys and nothing else; a part of the videos may have a caption beside
them, which is fetched too. Each row is a process of its own: its CPU time (the server's does not count, and the clock is not shown, since a
real bucket's pages take as long as its network), and how far its memory rose above that of an idle one with everything imported.
"""

import argparse
import http.server
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER_FILES = 1000
BUCKET = "many"
ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
    "<ETag>&quot;{etag:032x}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


def key_of(number: int, sidecars: float) -> str:
    """Keys in their order: films in folders, and after some of them their caption."""
    period = 1 + sidecars
    film = int(number / period)
    is_caption = int((number + 1) / period) == film and sidecars > 0
    return f"raw/{film // FOLDER_FILES:06d}/film {film:09d}.{'txt' if is_caption else 'mp4'}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Pages of ListObjectsV2; any single object is a caption."""

    protocol_version = "HTTP/1.1"
    num_objects, sidecars = 0, 0.0

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if query.get("list-type") != "2":
            self._answer(b"somebody does something", "text/plain")
            return
        first = int(query.get("continuation-token", "0"))
        last = min(self.num_objects, first + 1000)
        keys = [urllib.parse.quote(key_of(number, self.sidecars)) for number in range(first, last)]
        body = "".join(ENTRY.format(key=key, etag=number, size=10**6 + number) for number, key in enumerate(keys, first))
        more = last < self.num_objects
        token = f"<NextContinuationToken>{last}</NextContinuationToken>" if more else ""
        head = f"<Name>{BUCKET}</Name><KeyCount>{last - first}</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType>"
        text = f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>{head}<IsTruncated>{str(more).lower()}</IsTruncated>{token}{body}'
        self._answer((text + "</ListBucketResult>").encode(), "application/xml")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def serve(num_objects: int, sidecars: float, port: Any) -> None:
    Handler.num_objects, Handler.sidecars = num_objects, sidecars
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.send(server.server_address[1])
    server.serve_forever()


def plain_find(location: str, _: Path) -> int:
    """What fsspec gives: one dictionary of every object."""
    import fsspec

    fs, path = fsspec.core.url_to_fs(location)
    return len(fs.find(path, detail=True))


def list_sources(location: str, _: Path) -> int:
    from curate.sources import ListingNotes, listing

    return len(listing(location, ListingNotes()))


def first_run(location: str, folder: Path) -> int:
    """Lists, and writes the index of a new manifest."""
    from curate.manifest import Manifest
    from curate.sources import ListingNotes, listing

    return Manifest.create_or_open(folder / "manifest").update_index(listing(location, ListingNotes()), 16).num_new


def same_again(location: str, folder: Path) -> int:
    """Lists, and holds the listing against the index of the run before."""
    from curate.manifest import Manifest
    from curate.sources import ListingNotes, listing

    change = Manifest.open(folder / "manifest").update_index(listing(location, ListingNotes()), 16)
    return len(change.added) + len(change.redo)


def resumed(_: str, folder: Path) -> int:
    """Reads the index and asks what is missing, as a run does that reuses the listing of the one before."""
    from curate.manifest import Manifest

    index = Manifest.open(folder / "manifest").index()
    return sum(len(sources) for sources in index.identities().values())


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(work: Callable[[str, Path], int], location: str, folder: Path, result: Any) -> None:
    import pyarrow.parquet  # noqa: F401  what everything needs is imported before it is measured
    import s3fs  # noqa: F401

    import curate.manifest  # noqa: F401

    before, begun = peak_mb(), time.process_time()
    found = work(location, folder)
    result.send((found, time.process_time() - begun, peak_mb() - before))


def in_process(work: Callable[[str, Path], int], location: str, folder: Path) -> tuple[int, float, float]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=measured, args=(work, location, folder, theirs))
    process.start()
    theirs.close()
    found: tuple[int, float, float] = ours.recv()
    process.join()
    return found


def table(title: str, location: str, rounds: int, rows: dict[str, Callable[[str, Path], int]]) -> None:
    print(f"{title}\n\n| work | found | CPU, s | memory, MB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, work in rows.items():
            found = []
            for number in range(rounds):
                if work is first_run:
                    Path(folder, "manifest").rename(Path(folder, f"manifest-{number}")) if Path(folder, "manifest").exists() else None
                found.append(in_process(work, location, Path(folder)))
            cpu_s, mb = (statistics.median(column) for column in list(zip(*found, strict=True))[1:])
            print(f"| {name} | {found[0][0]:,} | {cpu_s:.1f} | {mb:,.0f} |", flush=True)
    print()


def make_tree(root: Path, num_files: int) -> None:
    for number in range(num_files):
        path = root / f"{number // FOLDER_FILES:06d}" / f"film {number:09d}.mp4"
        if number % FOLDER_FILES == 0:
            path.parent.mkdir(parents=True)
        path.touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_000_000, help="in the bucket; 0 leaves it out")
    parser.add_argument("--files", type=int, default=200_000, help="in the local folder; 0 leaves it out")
    parser.add_argument("--sidecars", type=float, default=0.0, help="share of the videos in the bucket that have a caption, 0 to 1")
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    rows = {"listing": list_sources, "first run: and the index": first_run, "next run: nothing new": same_again, "resumed": resumed}
    if args.objects:
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.Process(target=serve, args=(args.objects, args.sidecars, theirs), daemon=True)
        server.start()
        os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{ours.recv()}"
        title = f"A bucket of {args.objects:,} objects"
        table(title, f"s3://{BUCKET}/raw", args.rounds, {"fsspec's `find`, for comparison": plain_find, **rows})
        server.terminate()
    if args.files:
        with tempfile.TemporaryDirectory() as folder:
            make_tree(Path(folder), args.files)
            table(f"A local folder of {args.files:,} files", folder, args.rounds, rows)


if __name__ == "__main__":
    main()
