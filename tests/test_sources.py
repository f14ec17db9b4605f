"""Listing: what counts, what a source is called, and that nothing is lost without a word."""

import functools
import glob
import http.server
import json
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import ConfigError
from curate.sources import ListingNotes, Source, group, list_sources, select


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "replace"))


def keys(location: object, notes: ListingNotes | None = None) -> list[str]:
    return [source.key for source in list_sources(str(location), notes)]


def caption_of(folder: Path, notes: ListingNotes | None = None) -> str | None:
    return next(list_sources(str(folder), notes)).caption


def test_folder_is_listed_recursively_sorted_with_its_size_and_time(tmp_path: Path) -> None:
    put(tmp_path, "b.MP4", "a/z.mkv", "a/deep/er/x.webm", "B.mov")
    found = list(list_sources(str(tmp_path)))
    assert [source.key for source in found] == ["B.mov", "a/deep/er/x.webm", "a/z.mkv", "b.MP4"]
    status = (tmp_path / "a/z.mkv").stat()
    assert found[2] == Source("a/z.mkv", str(tmp_path / "a/z.mkv"), status.st_size, None, status.st_mtime_ns, None)


def test_files_that_are_not_media_are_counted_and_hidden_ones_left_alone(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "readme.md", "x/p.jpg", "x/q.jpg", "noext", "._a.mp4", ".cache/b.mp4", "loose.txt")
    notes = ListingNotes()
    assert keys(tmp_path, notes) == ["a.mp4"]
    assert notes.skipped == {".jpg": 2, ".md": 1, "": 1, ".txt": 1}
    assert notes.num_hidden == 2
    assert notes.summary().startswith("skipped 5 files that are not video (2 .jpg, ")


def test_names_with_spaces_unicode_and_line_ends_are_kept(tmp_path: Path) -> None:
    names = ["a b.mp4", "line\nend.mp4", "é/日本.mov", "tab\t.mp4", "glob[1]*?.mp4", "100%25.mp4"]
    put(tmp_path, *names)
    found = list(list_sources(str(tmp_path)))
    assert [source.key for source in found] == sorted(names)
    assert all(Path(source.url).read_bytes() == source.key.encode() for source in found)


def test_name_that_is_not_utf8_is_reported_and_counted(tmp_path: Path) -> None:
    put(tmp_path, "good.mp4")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system refuses such names")
    notes = ListingNotes()
    assert keys(tmp_path, notes) == ["good.mp4"]
    assert notes.skipped[".mp4"] == 1 and "caf" in notes.messages[0] and "rename" in notes.messages[0]


def test_loops_of_links_end_and_no_folder_is_listed_twice(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    put(root, "z/real.mp4")
    put(outside, "far.mp4")
    (root / "z/up").symlink_to(root)
    (root / "a").symlink_to(root / "z")
    (root / "self").symlink_to(root / "self")
    (root / "linked").symlink_to(outside)
    (root / "zz").symlink_to(root / "z")
    notes = ListingNotes()
    assert keys(root, notes) == ["linked/far.mp4", "z/real.mp4"]
    assert len(notes.messages) == 3


def test_broken_links_and_broken_files_are_listed_but_pipes_are_not(tmp_path: Path) -> None:
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    notes = ListingNotes()
    assert [(source.key, source.size_bytes) for source in list_sources(str(tmp_path), notes)] == [("empty.mp4", 0), ("gone.mp4", None)]
    assert "pipe.mp4" in notes.messages[0]


def test_folder_that_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.mp4", "locked/b.mp4")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path == str(tmp_path / "locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    notes = ListingNotes()
    assert keys(tmp_path, notes) == ["a.mp4"]
    assert notes.messages == [f"{tmp_path / 'locked'}: cannot be listed: Permission denied"]


@pytest.mark.parametrize("pattern", ["*.mp4", "*/*.mp4", "**/*.mp4", "a?/*.m*", "a*/**/c*.mp4", "[!a]*/*.mkv", "**/d/*.mp4", "a1/c.mp4"])
def test_globs_agree_with_the_standard_library(tmp_path: Path, pattern: str) -> None:
    put(tmp_path, "x.mp4", "a1/c.mp4", "a2/c.mkv", "a2/d/c3.mp4", "b/e.mkv", "b/d/f.mp4", "b/n.txt", "a1/.h.mp4")
    expected = [path for path in glob.glob(str(tmp_path / pattern), recursive=True) if path.endswith((".mp4", ".mkv"))]
    assert [source.url for source in list_sources(str(tmp_path / pattern))] == sorted(expected)


def test_glob_that_matches_folders_takes_what_lies_in_them_and_keys_start_below_the_fixed_part(tmp_path: Path) -> None:
    put(tmp_path, "in/2023/a.mp4", "in/2024/x/b.mp4", "in/2025/c.mp4")
    assert keys(tmp_path / "in/202[45]") == ["2024/x/b.mp4", "2025/c.mp4"]


def test_folder_whose_name_looks_like_a_glob_is_a_folder(tmp_path: Path) -> None:
    put(tmp_path, "[2024] *?/a.mp4")
    assert keys(tmp_path / "[2024] *?") == ["a.mp4"]


def test_single_file_is_a_source_with_its_caption(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "b.mp4", "odd.xyz")
    (tmp_path / "a.txt").write_text("a dog\n")
    (found,) = list_sources(str(tmp_path / "a.mp4"))
    assert (found.key, found.caption) == ("a.mp4", "a dog")
    assert keys(tmp_path / "odd.xyz") == ["odd.xyz"]
    assert keys((tmp_path / "a.mp4").as_uri()) == ["a.mp4"]


def test_text_list_takes_relative_absolute_and_remote_entries(tmp_path: Path) -> None:
    put(tmp_path, "set/v/a b.mp4", "other/c.mp4")
    lines = [
        "v/a b.mp4",
        "",
        str(tmp_path / "other/c.mp4"),
        "memory://list/remote.mp4",
        "../other/gone.mp4",
        (tmp_path / "set/v/u.mp4").as_uri(),
    ]
    listing = tmp_path / "set/list.txt"
    listing.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    notes = ListingNotes()
    found = {source.key: source for source in list_sources(str(listing), notes)}
    assert set(found) == {
        "v/a b.mp4",
        "v/u.mp4",
        str(tmp_path / "other/c.mp4"),
        str(tmp_path / "other/gone.mp4"),
        "memory://list/remote.mp4",
    }
    assert found["v/a b.mp4"].url == str(tmp_path / "set/v/a b.mp4")
    assert found["v/a b.mp4"].size_bytes == len("set/v/a b.mp4")
    assert "3 of 5 entries cannot be looked up" in notes.messages[0]


def test_key_of_a_list_entry_does_not_depend_on_the_other_entries(tmp_path: Path) -> None:
    listing = tmp_path / "l.txt"
    listing.write_text("/data/a/1.mp4\n/data/a/2.mp4\n")
    before = keys(listing)
    listing.write_text("/data/a/1.mp4\n/data/a/2.mp4\n/elsewhere/3.mp4\nhttps://127.0.0.1:9/4.mp4\n")
    assert set(before) <= set(keys(listing))


def test_csv_and_parquet_lists_agree_and_their_caption_wins_over_the_sidecar(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", 'new\nline, "quoted".mp4')
    (tmp_path / "a.txt").write_text("from the sidecar")
    (tmp_path / "l.csv").write_text('caption,url,other\nfrom the list,a.mp4,1\n,"new\nline, ""quoted"".mp4",2\n')
    pq.write_table(pa.table({"url": ["a.mp4", 'new\nline, "quoted".mp4'], "caption": ["from the list", None]}), tmp_path / "l.parquet")
    from_csv, from_parquet = list(list_sources(str(tmp_path / "l.csv"))), list(list_sources(str(tmp_path / "l.parquet")))
    assert from_csv == from_parquet
    assert [source.caption for source in from_csv] == ["from the list", None]
    (tmp_path / "l.csv").write_text("url\na.mp4\n")
    assert next(list_sources(str(tmp_path / "l.csv"))).caption == "from the sidecar"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("l.csv", b"path,caption\na.mp4,x\n", "'url'.*its columns are: path, caption"),
        ("l.csv", b"url,caption\na.mp4,x\n,y\n", "row 2 has no url"),
        ("l.csv", b"", "its columns are: none"),
        ("l.txt", "a.mp4\n".encode("utf-16"), "must be UTF-8"),
        ("l.txt", b"\n\n", "holds no media files"),
        ("l.parquet", b"PAR1 no", "cannot be read as Parquet"),
        ("l.txt", b"a.mp4\nb.mp4\nx/../a.mp4\n", r"entries 1 \('a.mp4'\) and 3 \('x/../a.mp4'\) name the same source 'a.mp4'"),
    ],
)
def test_bad_list_is_refused_with_its_reason(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        list_sources(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "content", "caption"),
    [
        ("x.txt", b"  a dog\n runs \n", "a dog\n runs"),
        ("x.txt", b"\xef\xbb\xbf\xc3\xa9t\xc3\xa9", "été"),
        ("x.txt", b" \n", None),
        ("x.json", json.dumps({"caption": "c", "text": "t"}).encode(), "c"),
        ("x.json", json.dumps({"caption": "", "text": 3, "description": "d"}).encode(), "d"),
        ("x.json", b"[1]", None),
    ],
)
def test_sidecar_gives_the_caption_and_is_no_skipped_file(tmp_path: Path, name: str, content: bytes, caption: str | None) -> None:
    put(tmp_path, "x.mp4")
    (tmp_path / name).write_bytes(content)
    notes = ListingNotes()
    assert caption_of(tmp_path, notes) == caption
    assert not notes.skipped and not notes.messages


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.txt", b"a" * (64 * 1024 + 1)),
        ("x.txt", b"\xff\xfe\x00"),
        ("x.json", b"{"),
        ("x.json", b'{"caption": "\\ud800"}'),
        ("x.json", b"[" * 60_000),
    ],
)
def test_sidecar_that_cannot_be_a_caption_is_ignored_with_a_note(tmp_path: Path, name: str, content: bytes) -> None:
    put(tmp_path, "x.mp4")
    (tmp_path / name).write_bytes(content)
    notes = ListingNotes()
    assert caption_of(tmp_path, notes) is None
    assert len(notes.messages) == 1 and f"{name}: ignored as a caption" in notes.messages[0]


def test_text_sidecar_is_read_before_the_json_one(tmp_path: Path) -> None:
    put(tmp_path, "x.mp4")
    (tmp_path / "x.txt").write_text("t")
    (tmp_path / "x.json").write_text('{"caption": "j"}')
    assert caption_of(tmp_path) == "t"


def test_input_without_media_says_what_was_there(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(ConfigError, match=r"holds no media files; skipped 2 files that are not video \(2 .jpg\).*\.mp4"):
        list_sources(str(tmp_path))
    with pytest.raises(ConfigError, match="does not exist"):
        list_sources(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="does not exist"):
        list_sources(str(tmp_path / "nothing/*.mp4"))


def test_object_store_gives_the_keys_and_captions_that_the_same_folder_gives(tmp_path: Path) -> None:
    import fsspec

    put(tmp_path, "b.mp4", "a/c d.mkv", "a/n.zip", ".h/x.mp4", "x.mp4", "q.mp4")
    (tmp_path / "b.txt").write_text("a boat")
    (tmp_path / "x.json").write_text('{"text": "an x"}')
    (tmp_path / "q.txt").write_bytes(b"a" * 70_000)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path), "/bucket/set", recursive=True)
    local_notes, remote_notes = ListingNotes(), ListingNotes()
    local = list(list_sources(str(tmp_path), local_notes))
    remote = list(list_sources("memory://bucket/set", remote_notes))
    assert [(s.key, s.size_bytes, s.caption) for s in remote] == [(s.key, s.size_bytes, s.caption) for s in local]
    assert [s.caption for s in local] == [None, "a boat", None, "an x"]
    assert local_notes.skipped == remote_notes.skipped == {".zip": 1}
    assert len(local_notes.messages) == len(remote_notes.messages) == 1
    assert all(s.mtime_ns for s in remote)
    assert all(fsspec.open(s.url).open().read() == (tmp_path / s.key).read_bytes() for s in remote)
    assert keys("memory://bucket/set/**/*.mkv") == ["a/c d.mkv"]
    assert keys("memory://bucket/set/b.mp4") == ["b.mp4"]
    memory.pipe("/bucket/set/l.txt", b"a/c d.mkv\nmemory://elsewhere/y.mp4\n")
    assert keys("memory://bucket/set/l.txt") == ["a/c d.mkv", "memory://elsewhere/y.mp4"]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

    put(tmp_path, "set/a.mp4", "set/sub/c.mkv", "set/sub/n.zip", "set/.h.mp4", "other.mp4")
    (tmp_path / "set/sub/c.txt").write_text("a cat")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_web_folder_is_listed_through_its_index_page(web: str, tmp_path: Path) -> None:
    found = list(list_sources(f"{web}/set/"))
    assert [(s.key, s.url, s.caption) for s in found] == [
        ("a.mp4", f"{web}/set/a.mp4", None),
        ("sub/c.mkv", f"{web}/set/sub/c.mkv", "a cat"),
    ]
    status = (tmp_path / "set/a.mp4").stat()
    assert (found[0].size_bytes, found[0].mtime_ns) == (status.st_size, int(status.st_mtime) * 10**9)
    (tmp_path / "set/index.html").write_text(
        '<a href="../">up</a> <a href="/">top</a> <a href="/other.mp4">o</a> <a href="a.mp4">a</a> <a href="sub/">s</a>'
    )
    assert keys(f"{web}/set") == ["a.mp4", "sub/c.mkv"]
    assert keys(f"{web}/set/a.mp4?token=1*") == ["a.mp4?token=1*"]
    with pytest.raises(ConfigError, match="it does not exist"):
        list_sources(f"{web}/nothing/")


def test_select_depends_on_seed_and_keys_only_and_smaller_limits_nest() -> None:
    sources = [Source(f"{i}.mp4", f"/{i}.mp4") for i in range(200)]
    shuffled = random.Random(1).sample(sources, len(sources))
    assert list(select(sources, 20, seed=3)) == list(select(shuffled, 20, seed=3))
    assert set(select(sources, 5, seed=3)) < set(select(sources, 20, seed=3))
    assert list(select(sources, 20, seed=3)) != list(select(sources, 20, seed=4))
    assert list(select(shuffled, None)) == list(select(shuffled, 1000)) == sorted(sources, key=lambda s: s.key)
    with pytest.raises(ConfigError, match="limit_sources=0"):
        select(sources, 0)


def test_shards_are_cut_in_order_within_count_and_bytes_and_a_large_source_is_alone() -> None:
    sizes = [5, 5, 5, 100, 1, None, 9, 2, 2]
    sources = [Source(f"{i}", f"/{i}", size) for i, size in enumerate(sizes)]
    shards = group(sources, shard_sources=3, max_shard_bytes=10)
    assert [source for shard in shards for source in shard] == sources
    assert [[source.key for source in shard] for shard in shards] == [["0", "1"], ["2"], ["3"], ["4", "5", "6"], ["7", "8"]]
    assert group([], 3) == []
    with pytest.raises(ConfigError, match="shard_sources=0"):
        group(sources, 0)


@pytest.mark.parametrize(
    ("now", "is_same"),
    [
        (Source("k", "/moved", 10, "e", 7), True),
        (Source("k", "u", 11, "e", 7), False),
        (Source("k", "u", 10, "other", 7), False),
        (Source("k", "u", 10, "e", 8), True),
        (Source("k", "u", 10, None, 8), False),
        (Source("k", "u", None, None, None), True),
    ],
)
def test_size_then_etag_then_mtime_tell_a_changed_file(now: Source, is_same: bool) -> None:
    assert Source("k", "u", 10, "e", 7).is_same_file(now) is is_same
