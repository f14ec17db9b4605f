"""Listing goes page by page, holds what it takes as columns, and says how far it is."""

import http.server
import io
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import fsspec
import numpy as np
import pytest

from curate.pipelines.progress import ListingProgress
from curate.sources import ListingNotes, Source, SourceTable, list_sources, listing
from curate.sources.pages import pages

NUM_OBJECTS = 12_500


class Many(http.server.BaseHTTPRequestHandler):
    """A bucket of many objects: ListObjectsV2 in pages of 1,000, and nothing else."""

    protocol_version = "HTTP/1.1"
    num_requests = 0

    def do_GET(self) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query))
        assert query["list-type"] == "2" and query["prefix"] == "raw/"
        Many.num_requests += 1
        first = int(query.get("continuation-token", "0"))
        last = min(NUM_OBJECTS, first + 1000)
        entries = "".join(
            f"<Contents><Key>{quote(f'raw/a b/{n:06d}.mp4')}</Key><LastModified>2026-01-02T03:04:{n % 60:02d}.000Z</LastModified>"
            f"<ETag>&quot;{n:032x}&quot;</ETag><Size>{n}</Size></Contents>"
            for n in range(first, last)
        )
        token = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < NUM_OBJECTS else ""
        more = str(last < NUM_OBJECTS).lower()
        head = f"<EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>{token}"
        body = f'<?xml version="1.0"?><ListBucketResult>{head}{entries}</ListBucketResult>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Many)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**names, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}"}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    Many.num_requests = 0
    yield "s3://many/raw"
    server.shutdown()
    server.server_close()
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_bucket_is_read_page_by_page_and_progress_is_told_after_each(many: str) -> None:
    told: list[tuple[int, int, int]] = []
    notes = ListingNotes(watch=lambda now: told.append((now.num_objects, now.num_sources, Many.num_requests)))
    found = listing(many, notes)
    assert [row[:2] for row in told] == [(min(NUM_OBJECTS, n), min(NUM_OBJECTS, n)) for n in range(1000, NUM_OBJECTS + 1000, 1000)]
    assert [row[2] for row in told] == list(range(1, 14))  # said before the next page was asked for
    assert len(found) == NUM_OBJECTS
    assert found[61] == Source("a b/000061.mp4", f"{many}/a b/000061.mp4", 61, f"{61:032x}", 1_767_323_041_000_000_000)


def test_what_a_bucket_says_of_its_objects_is_not_kept(many: str) -> None:
    """fsspec's own `find` keeps a dictionary of 1.3 kB for each, and once more in its cache."""
    listing(many)
    fs, _ = fsspec.core.url_to_fs(many)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    found = listing(many)
    peak, kept = tracemalloc.get_traced_memory()[1] - before, tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert found.table.nbytes < 200 * NUM_OBJECTS
    assert kept < 50 * NUM_OBJECTS and peak < 12_000_000
    assert not fs.dircache


def test_captions_and_skipped_files_do_not_depend_on_how_objects_fall_into_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    names = ["a.mp4", "a.txt", "b.txt", "c/d [1].mkv", "c/d [1].json", "c/e.txt", "c/e.zip", "c/.h.mp4", "z.mp4"]
    for name in names:
        memory.pipe(f"/paged/{name}", b'{"caption": "of d"}' if name.endswith(".json") else b"of a")
    outcomes = []
    for size in (1, 2, 1000):
        monkeypatch.setattr("curate.sources.pages.PAGE_OBJECTS", size)
        notes = ListingNotes()
        found = [(one.key, one.caption) for one in list_sources("memory://paged", notes)]
        outcomes.append((found, dict(notes.skipped), notes.num_hidden, notes.num_objects, notes.num_sources, notes.num_captions))
    memory.rm("/paged", recursive=True)
    expected = [("a.mp4", "of a"), ("c/d [1].mkv", "of d"), ("z.mp4", None)]
    assert outcomes == [(expected, {".txt": 2, ".zip": 1}, 1, 9, 3, 2)] * 3


def test_s3_pages_agree_with_find(bucket: str) -> None:
    fs, root = fsspec.core.url_to_fs(bucket)
    for name in ("x/1.mp4", "x/y/2 é%20+.mp4", "x/y/", "xy.mp4", "x/.h"):
        fs.pipe_file(f"{root}/{name}", name.encode())
    found = {key: info["size"] for page in pages(fs, f"{root}/x", ListingNotes()) for key, info in page}
    infos = fs.find(f"{root}/x", detail=True)
    assert found == {name[len(f"{root}/x/") :]: info["size"] for name, info in infos.items() if not name.endswith("/")}
    assert set(found) == {"1.mp4", "y/2 é%20+.mp4", ".h"}


def test_gcs_pages_follow_their_tokens() -> None:
    """The emulator in `test_gs.py` answers everything in one page."""
    asked: list[dict[str, object]] = []
    names = ["in/a.mp4", "in/b/", "in/b/c.mp4"]

    class Storage:
        protocol = ("gs", "gcs")

        def split_path(self, path: str) -> tuple[str, str, None]:
            bucket, _, key = path.partition("/")
            return bucket, key, None

        def call(self, method: str, path: str, bucket: str, json_out: bool, **query: object) -> dict[str, object]:
            asked.append({"request": (method, path.format(bucket)), **query})
            first = int(str(query.get("pageToken", "0")))
            more = {"nextPageToken": str(first + 1)} if first + 1 < len(names) else {}
            return {"items": [{"name": names[first], "size": "7"}], **more}

    found = list(pages(Storage(), "bucket/in", ListingNotes()))  # type: ignore[arg-type]
    assert [[key for key, _ in page] for page in found] == [["a.mp4"], [], ["b/c.mp4"]]
    assert [one.get("pageToken") for one in asked] == [None, "1", "2"]
    assert all(one["request"] == ("GET", "b/bucket/o") and one["prefix"] == "in/" and one["maxResults"] == 1000 for one in asked)


def test_a_local_folder_tells_its_progress_too(tmp_path: Path) -> None:
    for number in range(2500):
        (tmp_path / f"{number}.mp4").touch()
    told: list[int] = []
    listing(str(tmp_path), ListingNotes(watch=lambda now: told.append(now.num_objects)))
    assert len(told) >= 3 and told[-1] == 2500 and max(np.diff(told)) <= 1000


def test_progress_is_a_line_now_and_then_where_there_is_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("curate.pipelines.progress.time.monotonic", lambda: now[0])
    out = io.StringIO()
    with ListingProgress(out) as progress:
        notes = ListingNotes(watch=progress)
        for _ in range(25):
            now[0] += 1
            notes.saw(16_480, 15_000)
    assert out.getvalue() == "listing: 164,800 objects, 150,000 videos\nlisting: 329,600 objects, 300,000 videos\n"


def test_on_a_screen_the_line_is_redrawn_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    monkeypatch.setattr("curate.pipelines.progress.LISTING_REDRAW_S", 0.0)
    with ListingProgress(out) as progress:
        notes = ListingNotes(watch=progress)
        notes.saw(1000, 990)
        notes.saw(1000, 990, 5)
    text = "listing: 2,000 objects, 1,980 videos, 5 captions read"
    assert out.getvalue() == f"\rlisting: 1,000 objects, 990 videos\r{text}\r{' ' * len(text)}\r"


def test_a_table_is_the_sequence_it_was_made_of() -> None:
    sources = [
        Source(f"{n * 7919 % 25_000:05d}é", f"/u{n}", n or None, "e" if n % 2 else None, None, "c" if n % 3 else None)
        for n in range(25_000)
    ]
    table = SourceTable.of(sources)
    assert list(table) == sources and len(table) == 25_000
    assert table[24_999] == table[-1] == sources[-1] and list(table[9_999:10_002]) == sources[9_999:10_002]
    assert list(table.take([3, 20_000, 0])) == [sources[3], sources[20_000], sources[0]]
    assert list(table.by_key()) == sorted(sources, key=lambda one: one.key)
    with pytest.raises(IndexError):
        table[25_000]
