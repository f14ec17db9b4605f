"""No file makes the process read another file or open a connection: canaries beside it, and a canary server."""

import os
from contextlib import suppress
from pathlib import Path

import av
import pytest
from faults import hostile
from faults.material import FRAMES, HEIGHT, WIDTH, encoded

from curate.config import Decode
from curate.errors import SourceError
from curate.media.decode import DecodedFrame, PyAVReader
from curate.media.open import open_reader

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="watches files with Linux's inotify")


@pytest.fixture(scope="module")
def web():
    with hostile.server() as (url, seen):
        yield url, seen


@pytest.fixture(scope="module")
def trap(tmp_path_factory, web) -> tuple[Path, list[Path], dict[str, bytes]]:
    """A folder of hostile files beside their canaries."""
    folder = tmp_path_factory.mktemp("trap")
    contents = hostile.files(folder, web[0])
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder, hostile.put_canaries(folder), contents


def sizes(reader) -> list[tuple[int, int]]:
    try:
        return [item.picture.geometry.displayed for item in reader.frames() if isinstance(item, DecodedFrame)]
    finally:
        reader.close()


def opened_by(way: str, path: Path) -> list[tuple[int, int]]:
    if way == "file object":
        with path.open("rb") as file:
            return sizes(PyAVReader(file, path.name))
    return sizes(open_reader(str(path), Decode(decoder=way)))  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["pyav", "file object", "decord"])
def test_nothing_leads_to_another_file_or_to_the_network(trap, web, way):
    if way == "decord":
        pytest.importorskip("decord")
    folder, canaries, contents = trap
    wrong = {}
    for name in contents:
        web[1].clear()
        with hostile.watched(canaries) as opened:
            try:
                seen = opened_by(way, folder / name)
            except SourceError as error:
                seen, refusal = [], str(error)
            else:
                refusal = ""
        # What holds video of its own is read for that; decord is given less.
        own = [(WIDTH, HEIGHT)] * FRAMES if name.startswith("own_") and not (way == "decord" and refusal) else []
        if opened or web[1] or seen != own:
            wrong[name] = f"{len(opened)} openings, requests {web[1]}, {len(seen)} pictures {set(seen)}"
    assert wrong == {}
    assert len(contents) >= 40


@pytest.mark.parametrize("way", ["pyav", "decord"])
def test_a_name_that_reads_like_a_pattern_or_a_protocol_is_a_name(tmp_path, monkeypatch, way):
    if way == "decord":
        pytest.importorskip("decord")
    canaries = hostile.put_canaries(tmp_path)
    monkeypatch.chdir(tmp_path)
    protocols = ("concat:canary.mp4", "subfile,,start,0,end,0,,:canary.mp4", "http:canary.mp4", "data:video.mp4", "async:canary.mp4")
    for name in ("frame%03d.gif", *protocols):
        # decord would be given no GIF at all.
        content = encoded("gif", "gif", "rgb8", ()) if name.endswith("gif") and way == "pyav" else encoded("mp4")
        Path(name).write_bytes(content)
        with hostile.watched(canaries) as opened:
            try:
                seen = sizes(open_reader(name, Decode(decoder=way)))  # type: ignore[arg-type]
            except SourceError:
                seen = []
        is_refused = way == "decord" and "%" in name
        assert not opened and set(seen) == (set() if is_refused else {(WIDTH, HEIGHT)}), name


def test_the_traps_work_on_a_reader_that_takes_no_care(trap, web):
    """What is refused above must be able to do harm: each kind of trap, opened without whitelists, springs."""
    folder, canaries, _ = trap
    for name, options in (("hls.m3u8", {}), ("list.ffconcat", {"safe": "0"}), ("alias.mp4", {"enable_drefs": "1"})):
        # The alias leads to a file with other bytes at the places its own table names.
        with hostile.watched(canaries) as opened, suppress(av.error.InvalidDataError):
            hostile.sizes(f"file:{folder / name}", **options)
        assert opened, name
    web[1].clear()
    (folder / "http.m3u8").write_text(hostile.HLS.format(f"{web[0]}/a.ts"))
    hostile.sizes(f"file:{folder / 'http.m3u8'}", protocol_whitelist="file,http,tcp")
    assert web[1] == ["/a.ts"]


def test_external_data_of_a_quicktime_file_are_left_alone(trap):
    """`enable_drefs` and `use_absolute_path` of the demuxer are off unless asked for, and nothing here asks."""
    folder, canaries, _ = trap
    with hostile.watched(canaries) as opened, pytest.raises(SourceError, match="no frame could be decoded"):
        open_reader(str(folder / "alias.mp4"), Decode())
    assert not opened


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
@pytest.mark.parametrize("way", ["pyav", "decord"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, way):
    if way == "decord":
        pytest.importorskip("decord")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SourceError, match="no regular file"):
        open_reader(str(tmp_path / "pipe.mp4"), Decode(decoder=way))  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="no regular file"):
        open_reader("/dev/zero", Decode(decoder=way))  # type: ignore[arg-type]
