"""Source frames to the pictures that exact cuts encode: displayed pixels, cropped and resized, 8-bit 4:2:0, limited range.

Planes stay planes: what is SDR keeps its own matrix, primaries and transfer (written down as H.273 codes), and only depth and range are
changed, by one affine map that rounds ties to even: limited 10-bit codes are a quarter of themselves, full-range luma y becomes
16 + 219 y / 255, chroma c becomes 128 + 224 (c - 128) / 255. PQ, HLG, BT.2020 and P3 are converted in light to BT.709
(`curate.media.color`).

Resizing is swscale's Lanczos, widened when it shrinks. Only pixels inside the box are read, so that bars do not bleed into the picture.
Chroma is sampled where it lies: with x = a + s x' from written to coded luma (edges at whole numbers), the written chroma sample k lies at
x' = 2k + o' and the coded one i at x = f i + o, f the subsampling and o = 1/2 (left, as H.264, HEVC and MPEG-2 have it) horizontally and 1
(between the lines) vertically; mirrored and turned pictures exchange them. What is not a whole number of coded samples is resampled:
a shift by a cubic of four taps (Catmull-Rom), an odd width by Pillow's Lanczos, which takes fractions of a pixel.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from PIL import Image

from curate.clip import Box
from curate.media.color import ColorInfo
from curate.media.geometry import inward
from curate.media.picture import Picture
from curate.media.planes import PlaneReader

LEFT, BETWEEN = 0.5, 1.0  # luma pixels from the edge of a block of two to its chroma sample
MIN_SHIFT = 1 / 64  # px; less is not worth a filter
BT709 = 1
MATRIX_CODES = {"bt601": 6, "bt709": BT709, "bt2020nc": 9}
PRIMARIES_CODES = {"bt601": 6, "bt709": BT709, "bt2020": 9, "p3": 12}


@dataclass(frozen=True, slots=True)
class ColorTags:
    """H.273 code points of what is written; the range is always limited."""

    matrix: int = BT709
    primaries: int = BT709
    transfer: int = BT709


class Baker:
    """Makes the pictures of one clip, all from frames of one source. The box is cut at the edges of the displayed picture."""

    def __init__(self, box: Box, width: int, height: int) -> None:
        self._box, self._size = box, (width, height)
        self._reader = PlaneReader()
        self._luma, self._chroma, self._from_rgb = VideoReformatter(), VideoReformatter(), VideoReformatter()

    def bake(self, frame: VideoFrame, stream: VideoStream) -> tuple[VideoFrame, ColorTags]:
        """A new yuv420p frame of the wanted size without a time, and the colours it is in."""
        picture = self._reader.picture(frame, stream)
        written = VideoFrame(*self._size, "yuv420p")
        if picture.color.needs_light:
            rgb = VideoFrame.from_ndarray(picture.rgb_at(self._box, *self._size), format="rgb24")
            matrix, levels = Colorspace.ITU709, ColorRange.MPEG
            return self._from_rgb.reformat(rgb, format="yuv420p", dst_colorspace=matrix, dst_color_range=levels, threads=1), ColorTags()
        for target, plane in zip(writable(written), self._planes(picture), strict=True):
            if plane is None:
                target[:] = 128
            else:
                np.copyto(target, plane)
        return written, _tags(frame, picture.color)

    def _planes(self, picture: Picture) -> list[np.ndarray | None]:
        """Y, U, V as displayed, uint8 limited range, at the written size; None for the chroma of a grey picture."""
        turn = picture.geometry.orientation
        width, height = turn.size(*self._size)
        top, bottom, left, right = picture.geometry.fractions(self._box)
        luma, *chroma = picture.planes
        rows, cols = inward(top, min(bottom, 1.0), luma.shape[0]), inward(left, min(right, 1.0), luma.shape[1])
        y = _limited(luma[rows, cols], picture.depth, picture.color.full_range, is_chroma=False)
        planes: list[np.ndarray | None] = [turn.apply(self._scaled(self._luma, y, width, height))]
        # Where the written chroma lies on each axis of the coded picture, in written luma pixels.
        along_x, along_y = (LEFT, turn.flip_x), (BETWEEN, turn.flip_y)
        if turn.transpose:
            along_x, along_y = along_y, along_x
        for plane in chroma:
            part_x = _chroma_part(cols, width, _factor(luma.shape[1], plane.shape[1]), LEFT, *along_x)
            part_y = _chroma_part(rows, height, _factor(luma.shape[0], plane.shape[0]), BETWEEN, *along_y)
            inside = plane[part_y.inside, part_x.inside]
            c = _limited(inside, picture.depth, picture.color.full_range, is_chroma=True)
            planes.append(turn.apply(self._sampled(c, part_x, part_y, width // 2, height // 2)))
        return planes if chroma else [planes[0], None, None]

    def _sampled(self, plane: np.ndarray, x: "_Part", y: "_Part", width: int, height: int) -> np.ndarray:
        """The plane between fractional edges, at the given size; beyond the plane its edge pixels are repeated."""
        if all(abs(part.high - part.low - round(part.high - part.low)) < 1e-6 for part in (x, y)):
            whole = _whole(plane, x, y)
            return self._scaled(self._chroma, whole, width, height)
        x, y, plane = _padded(plane, x, y)
        image = Image.fromarray(np.ascontiguousarray(plane))
        return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box=(x.low, y.low, x.high, y.high)))

    @staticmethod
    def _scaled(reformatter: VideoReformatter, plane: np.ndarray, width: int, height: int) -> np.ndarray:
        if plane.shape == (height, width):
            return plane
        source = VideoFrame(plane.shape[1], plane.shape[0], "gray")
        np.copyto(writable(source)[0], plane)
        return writable(reformatter.reformat(source, width, height, interpolation=Interpolation.LANCZOS, threads=1))[0]


@dataclass(frozen=True, slots=True)
class _Part:
    """Which samples of a chroma plane lie inside the box, and between which edges (counted from the first of them) it is read."""

    inside: slice
    low: float
    high: float


def _chroma_part(luma: slice, written: int, factor: int, offset: float, wanted_offset: float, is_mirrored: bool) -> _Part:
    """`luma` coded luma pixels are written as `written` ones; see the module's docstring for the offsets (f i + o)."""
    size = luma.stop - luma.start
    scale = size / written
    if is_mirrored:
        wanted_offset = 2 - wanted_offset
    coded_offset = 0.5 if factor == 1 or offset == LEFT else factor / 2
    low = (luma.start + scale * wanted_offset - coded_offset) / factor + 0.5 - scale / factor
    first, end = -(-luma.start // factor), luma.stop // factor
    if first >= end:  # no block of luma lies inside as a whole
        first, end = luma.start // factor, luma.start // factor + 1
    inside = slice(first, end)
    return _Part(inside, low - inside.start, low - inside.start + size / factor)


def _factor(luma: int, chroma: int) -> int:
    return max(1, round(luma / chroma))


def _padded(plane: np.ndarray, x: _Part, y: _Part, margin: int = 0) -> tuple[_Part, _Part, np.ndarray]:
    """The plane with its edges repeated until it holds both parts and `margin` more on each side, and the parts moved with it."""
    height, width = plane.shape
    left, top = (max(0, math.ceil(-part.low) + margin) for part in (x, y))
    right, bottom = (max(0, math.ceil(part.high - size) + margin) for part, size in ((x, width), (y, height)))
    if left or right or top or bottom:
        plane = cv2.copyMakeBorder(plane, top, bottom, left, right, cv2.BORDER_REPLICATE)
    moved = [_Part(part.inside, part.low + by, part.high + by) for part, by in ((x, left), (y, top))]
    return moved[0], moved[1], plane


def _whole(plane: np.ndarray, x: _Part, y: _Part) -> np.ndarray:
    """A part as many pixels wide and high as it says, shifted by a fraction of a pixel where it has to be."""
    x, y, plane = _padded(plane, x, y, margin=1)
    starts = [math.floor(part.low + MIN_SHIFT) for part in (x, y)]
    shifts = [max(0.0, part.low - start) for part, start in zip((x, y), starts, strict=True)]
    if max(shifts) >= MIN_SHIFT:
        plane = cv2.sepFilter2D(plane, -1, _cubic(shifts[0]), _cubic(shifts[1]), anchor=(1, 1), borderType=cv2.BORDER_REPLICATE)
    width, height = round(x.high - x.low), round(y.high - y.low)
    return plane[starts[1] : starts[1] + height, starts[0] : starts[0] + width]


def _cubic(t: float) -> np.ndarray:
    """Catmull-Rom weights of the pixels at -1, 0, 1, 2 for a sample at `t` in [0, 1)."""
    if t < MIN_SHIFT:
        return np.array([0.0, 1.0, 0.0, 0.0])
    return np.array([-(t**3) + 2 * t**2 - t, 3 * t**3 - 5 * t**2 + 2, -3 * t**3 + 4 * t**2 + t, t**3 - t**2]) / 2


def _limited(plane: np.ndarray, depth: int, full_range: bool, is_chroma: bool) -> np.ndarray:
    """Code values of `depth` bits as 8-bit limited-range ones, rounded, ties to even."""
    if depth == 8 and not full_range:
        return plane
    if not full_range:
        return cv2.convertScaleAbs(plane, alpha=2.0 ** (8 - depth))
    top = float((1 << depth) - 1)
    if not is_chroma:
        return cv2.convertScaleAbs(plane, alpha=219.0 / top, beta=16.0)
    alpha = 224.0 / top
    return cv2.convertScaleAbs(plane, alpha=alpha, beta=128.0 - alpha * (1 << (depth - 1)))


def _tags(frame: VideoFrame, color: ColorInfo) -> ColorTags:
    """What the source says, where it says something that the planes still are; else what was guessed."""
    matrix, primaries, transfer = int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc)
    is_planar = frame.format.name.startswith(("yuv", "nv12", "p010le"))
    return ColorTags(
        matrix if is_planar and matrix not in (0, 2, 3) else MATRIX_CODES[color.matrix],
        primaries if primaries not in (0, 2, 3) else PRIMARIES_CODES[color.primaries],
        transfer if transfer not in (0, 2, 3) and not color.is_hdr else BT709,
    )


def writable(frame: VideoFrame) -> list[np.ndarray]:
    """uint8 (H, W) views of the planes of an 8-bit planar frame."""
    views = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8)[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)  # type: ignore[call-overload]
        views.append(rows[:, : plane.width])
    return views
