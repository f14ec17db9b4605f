"""Small pictures of decoded frames, in luma and chroma, as a clip should show them. For the verification of exports only.

Nothing here is shared with what makes the clips (`bake`, `planes`, `picture`, `color`): a rule that both took from one place could be
wrong in both. Frames come from a plain decoder. Of each the part inside a box is averaged down to a short side of 96 px or somewhat more
(chroma to half of that), 8-bit and limited range, turned as the display matrix says. A fault of a tenth of a small pixel is still seen,
because it is found over all of them.

Colours are those that the tags of both sides mean. Where source and clip have one matrix, its codes are compared as they are. RGB is
coded with the clip's matrix. PQ, HLG, BT.2020 and P3 are shown in BT.709 light by the curve that `curate.media.color` documents:
reference white 203 cd/m2, peak 1000 cd/m2, display exponent 2.4, highlights above 0.9 rolled off.
"""

import math
import struct
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from curate.clip import Box
from curate.media.side_data import Crop

SHORT_SIDE = 96  # px
MIN_MEAN = 6.0  # source pixels for a small one, from which on a plain mean will do
UNSAID = (0, 2, 3)  # H.273: RGB or reserved, unspecified, reserved
# Weights of red and blue in luma, by H.273 code.
LUMA_WEIGHTS = {
    1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)
}  # fmt: skip
TO_BT709 = {
    9: np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]),  # BT.2087-0
    12: np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]]),  # P3 with D65
}


@dataclass(frozen=True, slots=True)
class Tags:
    """Colours of a frame: H.273 codes, and whether it uses the full range."""

    matrix: int
    primaries: int
    transfer: int
    is_full: bool

    @classmethod
    def of(cls, frame: VideoFrame) -> "Tags":
        """What the frame says; where it is silent, what the documentation promises to take (`ColorInfo.from_codes`)."""
        name, transfer = frame.format.name, int(frame.color_trc)
        primaries, matrix = int(frame.color_primaries), int(frame.colorspace)
        if primaries in UNSAID:
            primaries = 9 if transfer in (16, 18) or matrix in (9, 10) else 1
        if matrix not in LUMA_WEIGHTS:
            is_wide = transfer in (16, 18) or primaries == 9
            matrix = 9 if is_wide else 1 if frame.height >= 720 or frame.width >= 1280 else 6
        said = int(frame.color_range)
        is_full = said == 2 or (said != 1 and name.startswith(("yuvj", "gray")))
        return cls(matrix, primaries, 1 if transfer in UNSAID else transfer, is_full)

    @property
    def is_light(self) -> bool:
        """Whether an exact cut converts them to BT.709."""
        return self.transfer in (16, 18) or self.primaries in (9, 11, 12)


@dataclass(frozen=True, slots=True, eq=False)
class Small:
    """Codes of limited range: luma uint8 (h, w), chroma uint8 (2, h / 2, w / 2)."""

    luma: np.ndarray
    chroma: np.ndarray


@dataclass(frozen=True, slots=True)
class Turn:
    """The display matrix of libavutil/display.h: x' = a x + c y, y' = b x + d y; sideways where a is smaller than b."""

    is_sideways: bool = False
    mirrors_x: bool = False
    mirrors_y: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> "Turn":
        try:
            matrix = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV 18 has no name for a part of the frame's side data, and lists none of it
            return cls.by(frame.rotation)
        if matrix is None:
            return cls()
        a, b, _, c, d = struct.unpack("<5i", bytes(matrix)[:20])  # type: ignore[call-overload]
        return cls(True, c < 0, b < 0) if abs(a) < abs(b) else cls(False, a < 0, d < 0)

    @classmethod
    def by(cls, degrees: float) -> "Turn":
        """Counterclockwise, to the nearest quarter."""
        return (cls(), cls(True, False, True), cls(False, True, True), cls(True, True, False))[round(degrees / 90) % 4]

    def shown(self, coded: tuple[int, int], aspect: Fraction) -> tuple[int, int]:
        """(width, height) of a picture as it is shown: its width stretched, then turned. An aspect beyond 5 is not believed."""
        aspect = aspect if Fraction(1, 5) <= aspect <= 5 else Fraction(1)
        width, height = max(1, round(coded[0] * aspect)), coded[1]
        return (height, width) if self.is_sideways else (width, height)

    def of_plane(self, plane: np.ndarray) -> np.ndarray:
        plane = plane.T if self.is_sideways else plane
        return np.ascontiguousarray(plane[:: -1 if self.mirrors_y else 1, :: -1 if self.mirrors_x else 1])


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the coded picture that is shown, as fractions of its sides."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0

    @classmethod
    def of(cls, box: Box, used: tuple[float, float], turn: Turn, aspect: Fraction, coded: tuple[int, int]) -> "Window":
        """`box` counts displayed pixels: coded ones stretched by their aspect, then turned.

        `used`: how much of its width and height is looked at, from the top left.
        """
        width, height = turn.shown(coded, aspect)
        x, y = (box.x / width, (box.x + box.width) / width), (box.y / height, (box.y + box.height) / height)
        sides = [(x, used[0], turn.mirrors_x), (y, used[1], turn.mirrors_y)]
        if turn.is_sideways:
            sides.reverse()
        x, y = (_inside(*side, size) for side, size in zip(sides, coded, strict=True))
        return cls(x[0], y[0], x[1], y[1])

    def within(self, edges: tuple[int, int, int, int], coded: tuple[int, int]) -> "Window":
        """The window of a cropped picture as one of the whole: `edges` left, top, right and bottom, of `coded` pixels."""
        left, top, right, bottom = edges
        width, height = coded[0] - left - right, coded[1] - top - bottom
        return Window(
            (left + self.left * width) / coded[0],
            (top + self.top * height) / coded[1],
            (left + self.right * width) / coded[0],
            (top + self.bottom * height) / coded[1],
        )


def _inside(shown: tuple[float, float], used: float, is_mirrored: bool, size: int) -> tuple[float, float]:
    """The same of one coded side of `size` pixels: a clip shows only pixels that lie inside its box as a whole."""
    low, high = (1 - shown[1], 1 - shown[0]) if is_mirrored else shown
    low, high = math.ceil(low * size - 1e-6) / size, min(size, math.floor(high * size + 1e-6)) / size
    high = max(high, low + 1 / size)
    part = (high - low) * used
    return (high - part, high) if is_mirrored else (low, low + part)


@dataclass(frozen=True, slots=True)
class Scale:
    """How written pixels are averaged: `factor` by `factor` of them are a small one, `size` (width, height) is that of the small luma.

    Both sides of it are even; `used` is the share of the written width and height that it shows.
    """

    factor: int
    size: tuple[int, int]
    used: tuple[float, float]

    @classmethod
    def of(cls, written: tuple[int, int], box: Box | None) -> "Scale":
        """A whole factor, for which averaging is cheap; where the clip was enlarged, one that makes nothing larger than the source was."""
        enlarged = max(written[0] / box.width, written[1] / box.height) if box else 1.0
        factor = max(1, min(written) // SHORT_SIDE, math.ceil(enlarged - 1e-6))
        size = max(2, written[0] // factor // 2 * 2), max(2, written[1] // factor // 2 * 2)
        return cls(factor, size, (min(1.0, size[0] * factor / written[0]), min(1.0, size[1] * factor / written[1])))


def cropped_edges(crop: Crop, frame: VideoFrame) -> tuple[int, int, int, int]:
    """Left, top, right and bottom rows and columns that are not shown: the first two end at a whole chroma sample."""
    has_chroma = len(frame.format.components) > 2 and not frame.format.is_rgb
    wide = 8 // max(1, frame.format.chroma_width(8)) if has_chroma else 1
    high = 8 // max(1, frame.format.chroma_height(8)) if has_chroma else 1
    edges = (crop.left // wide * wide, crop.top // high * high, crop.right, crop.bottom)
    is_nothing = edges[0] + edges[2] >= frame.width or edges[1] + edges[3] >= frame.height
    return (0, 0, 0, 0) if is_nothing else edges


class Shrinker:
    """Makes small pictures of frames of one stream. `wanted` are the tags of the clip; None: the frame's own (nothing is converted)."""

    def __init__(self, scale: Scale, window: Window, turn: Turn, wanted: Tags | None) -> None:
        self._window, self._turn, self._wanted, self._factor = window, turn, wanted, scale.factor
        self._size = scale.size[::-1] if turn.is_sideways else scale.size
        self._half = (max(1, self._size[0] // 2), max(1, self._size[1] // 2))

    def small(self, frame: VideoFrame) -> Small:
        tags = Tags.of(frame)
        if frame.format.is_rgb or frame.format.name in ("pal8", "monow", "monob"):
            rgb = np.asarray(frame.reformat(format="rgb24", threads=1).to_ndarray(), np.uint8)
            red, green, blue = (self._shrunk(rgb[..., c], self._size).astype(np.float32) / 255 for c in range(3))
            return self._packed(*codes_of(red, green, blue, (self._wanted or tags).matrix))
        if self._wanted is not None and tags.is_light:
            return self._packed(*self._in_light(frame, tags))
        y, u, v = (
            self._shrunk(plane, self._half if k else self._size) if plane is not None else np.full(self._half[::-1], 128, np.uint8)
            for k, plane in enumerate(_planes(frame))
        )
        y, u, v = _limited(y, u, v) if tags.is_full else (y, u, v)
        if self._wanted is not None and LUMA_WEIGHTS[self._wanted.matrix] != LUMA_WEIGHTS[tags.matrix]:
            wide_u, wide_v = (np.asarray(cv2.resize(c, self._size)) for c in (u, v))
            return self._packed(*codes_of(*signals_of(y, wide_u, wide_v, tags.matrix), self._wanted.matrix))
        return self._packed(y, u, v)

    def _shrunk(self, plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The part inside the window, averaged to (width, height).

        What is hardly larger than it gets is resized to the written size first, by the filter that clips are made with: a plain mean
        would move edges by a fraction of a pixel. OpenCV is faster, but only Pillow takes edges between pixels.
        """
        height, width = plane.shape
        window = self._window
        edges = np.array([window.left * width, window.top * height, window.right * width, window.bottom * height])
        whole = edges.round().astype(int)
        part = plane[whole[1] : whole[3], whole[0] : whole[2]]
        is_whole = bool(np.abs(edges - whole).max() < 1e-3)
        if is_whole and part.shape[1] % size[0] == 0 and part.shape[0] % size[1] == 0:
            return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
        box, ratio = (float(edges[0]), float(edges[1]), float(edges[2]), float(edges[3])), (edges[2] - edges[0]) / size[0]
        if ratio < MIN_MEAN:
            between = (size[0] * self._factor, size[1] * self._factor)
            resized = Image.fromarray(np.ascontiguousarray(plane)).resize(between, Image.Resampling.LANCZOS, box=box)
            return np.asarray(cv2.resize(np.asarray(resized), size, interpolation=cv2.INTER_AREA), np.uint8)
        if is_whole:
            return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
        return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BOX, box=box), np.uint8)

    def _in_light(self, frame: VideoFrame, tags: Tags) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Y, Cb, Cr of BT.709. Computed at twice the small size, since a mean of codes is not quite the code of the mean."""
        double = (2 * self._size[0], 2 * self._size[1])
        planes = [np.full(double[::-1], 128, np.uint8) if p is None else self._shrunk(p, double) for p in _planes(frame)]
        y, u, v = _limited(*planes) if tags.is_full else (planes[0], planes[1], planes[2])
        rgb = shown_in_bt709(np.stack(signals_of(y, u, v, tags.matrix), axis=-1), tags)
        rgb = cv2.resize(rgb.astype(np.float32), self._size, interpolation=cv2.INTER_AREA)
        return codes_of(rgb[..., 0], rgb[..., 1], rgb[..., 2], 1)

    def _packed(self, y: np.ndarray, u: np.ndarray, v: np.ndarray) -> Small:
        halves = [c if c.shape[::-1] == self._half else cv2.resize(c, self._half, interpolation=cv2.INTER_AREA) for c in (u, v)]
        whole = [np.clip(np.rint(p), 0, 255).astype(np.uint8) if p.dtype != np.uint8 else p for p in (y, *halves)]
        luma, *chroma = (self._turn.of_plane(p) for p in whole)
        return Small(luma, np.stack(chroma))


def _planes(frame: VideoFrame) -> list[np.ndarray | None]:
    """Y, U, V as uint8 (H, W), rounded from deeper codes; None for the chroma of a grey frame."""
    depth = max(8, frame.format.components[0].bits)
    name = frame.format.name
    if not name.startswith(("yuv4", "yuvj4", "yuva4", "gray")) or name.endswith("be") or any(p.line_size < 0 for p in frame.planes):
        frame = frame.reformat(format="yuv444p" if depth == 8 else "yuv444p16le", threads=1)
        depth = max(8, frame.format.components[0].bits)
    planes: list[np.ndarray | None] = []
    for plane in frame.planes[: 1 if frame.format.name.startswith("gray") else 3]:
        dtype = np.dtype(np.uint8 if depth == 8 else "<u2")
        view = np.ndarray((plane.height, plane.width), dtype, plane, 0, (plane.line_size, dtype.itemsize))  # type: ignore[arg-type]
        planes.append(view if depth == 8 else cv2.convertScaleAbs(view, alpha=2.0 ** (8 - depth)))
    return planes if len(planes) == 3 else [planes[0], None, None]


def _limited(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Full-range codes as limited ones (H.273, equations 20 to 25)."""
    chroma = [128 + (c.astype(np.float32) - 128) * 224 / 255 for c in (u, v)]
    return 16 + y.astype(np.float32) * 219 / 255, chroma[0], chroma[1]


def signals_of(y: np.ndarray, u: np.ndarray, v: np.ndarray, matrix: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R', G', B' in 0..1 of limited codes of one size."""
    kr, kb = LUMA_WEIGHTS[matrix]
    luma = (y.astype(np.float64) - 16) / 219
    pb, pr = ((c.astype(np.float64) - 128) / 224 for c in (u, v))
    red, blue = luma + 2 * (1 - kr) * pr, luma + 2 * (1 - kb) * pb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return red.clip(0, 1), green.clip(0, 1), blue.clip(0, 1)


def codes_of(red: np.ndarray, green: np.ndarray, blue: np.ndarray, matrix: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Limited codes of R', G', B' in 0..1."""
    kr, kb = LUMA_WEIGHTS[matrix]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    return 16 + 219 * luma, 128 + 224 * (blue - luma) / (2 - 2 * kb), 128 + 224 * (red - luma) / (2 - 2 * kr)


def shown_in_bt709(signal: np.ndarray, tags: Tags) -> np.ndarray:
    """R'G'B' (H, W, 3) in 0..1 of a BT.709 display for the source's R'G'B'."""
    if tags.transfer == 16:  # SMPTE ST 2084, in units of 203 cd/m2
        root = signal ** (32 / 2523)
        light = (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305) * 10_000 / 203
    elif tags.transfer == 18:  # ARIB STD-B67, on a display of 1000 cd/m2
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        light = scene * (scene @ np.array([0.2627, 0.6780, 0.0593]))[..., None] ** 0.2 * 1000 / 203
    else:
        light = signal**2.4
    light = light @ TO_BT709.get(12 if tags.primaries == 11 else tags.primaries, np.eye(3)).T
    shown = light.clip(0, 1000 / 203) ** (1 / 2.4)
    if tags.transfer in (16, 18):
        over, peak = np.maximum(shown - 0.9, 0) / 0.1, ((1000 / 203) ** (1 / 2.4) - 0.9) / 0.1
        shown = np.minimum(shown, 0.9) + 0.1 * over * (1 + over / peak**2) / (1 + over)
    return shown.clip(0, 1)
