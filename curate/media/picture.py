"""One decoded frame, held by reference until somebody wants pixels, then converted as late and as small as possible.

Planes are reduced first (area averaging in the coded domain), colours converted at the small size, and the result turned
last: full-resolution RGB of every frame is never made.
"""

import threading
from dataclasses import dataclass
from functools import cached_property, lru_cache

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from curate.clip import Box
from curate.media.color import ColorInfo, luma8, yuv_to_rgb
from curate.media.geometry import Geometry, inward

ANALYSIS_SHORT_SIDE = 180  # px: enough for flow at 96 px inside a 2.39:1 letterbox, 57 kB a frame
LATTICE_SHORT_SIDE = 90  # points
SWSCALE_MIN_SIDE, SWSCALE_MAX_RATIO = 16, 16.0  # px; beyond them its filters get too long or its vectors too short


@dataclass(eq=False)
class Picture:
    """Planes of one frame: (Y,) or (Y, U, V), uint8 or uint16 views (H, W) that keep the decoder's buffer alive.

    `depth` is the bits used of each value. Planes may have been reduced; `geometry` always speaks of the coded frame.
    """

    planes: tuple[np.ndarray, ...]
    depth: int
    color: ColorInfo
    geometry: Geometry

    @property
    def num_bytes(self) -> int:
        return sum(plane.size * plane.itemsize for plane in self.planes)

    def reduced(self, factor: int) -> "Picture":
        """The same picture with every plane area-averaged by a whole factor, in memory of its own."""
        planes = tuple(_resize(plane, _ceil_size(plane, factor), cv2.INTER_AREA) for plane in self.planes)
        return Picture(planes, self.depth, self.color, self.geometry)

    def lattice(self) -> np.ndarray:
        """uint8 (h, w): single luma points about 1/90 of the short side apart, in coded orientation. Not for reduced pictures."""
        luma, step = self.planes[0], _lattice_step(self.geometry)
        return luma8(np.ascontiguousarray(luma[::step, ::step]), self.depth, self.color)

    def tiny_bgr(self, width: int, height: int) -> np.ndarray:
        """uint8 (height, width, 3) BGR for shot detectors: bilinear from the planes, aspect not kept."""
        size = self.geometry.orientation.size(width, height)
        rgb = self._rgb(self.planes, size, cv2.INTER_LINEAR)
        return self.geometry.orientation.apply(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))

    @cached_property
    def _analysis(self) -> np.ndarray:
        width, height = self.geometry.displayed
        factor = max(1, min(width, height) // ANALYSIS_SHORT_SIDE)
        size = self.geometry.orientation.size(max(1, width // factor), max(1, height // factor))
        luma = self.planes[0]
        if (luma.shape[1] // size[0], luma.shape[0] // size[1]) == (factor, factor):
            small = _whole_reduced(luma[: size[1] * factor, : size[0] * factor], factor)
        else:
            small = _resize(luma, size, cv2.INTER_AREA)
        return self.geometry.orientation.apply(luma8(small, self.depth, self.color))

    def analysis_luma(self) -> np.ndarray:
        """uint8 (H, W) displayed luma of the whole frame, reduced by a whole factor to a short side of 180 to 359 px."""
        return self._analysis

    def luma(self, box: Box | None = None, short_side: int | None = None) -> np.ndarray:
        """uint8 (H, W) full-range displayed luma inside `box`, its short side at most `short_side`."""
        (luma, *_), size = self._cropped(box, short_side)
        small = _resize(luma, size, cv2.INTER_AREA)
        return self.geometry.orientation.apply(luma8(small, self.depth, self.color))

    def luma_codes(self) -> np.ndarray | None:
        """(H, W) displayed code values of luma at the size held, a view where nothing is turned; None if `luma` has to stretch them."""
        if self.geometry.sample_aspect != 1:
            return None
        return self.geometry.orientation.view(self.planes[0])

    def levels(self, codes: np.ndarray) -> np.ndarray:
        """uint8 full-range luma of any 2-D choice of code values of luma."""
        return luma8(np.ascontiguousarray(codes), self.depth, self.color)

    def rgb(self, box: Box | None = None, short_side: int | None = None) -> np.ndarray:
        """uint8 (H, W, 3) displayed RGB, BT.709, inside `box`, its short side at most `short_side`."""
        planes, size = self._cropped(box, short_side)
        return self.geometry.orientation.apply(self._rgb(planes, size, cv2.INTER_AREA))

    def rgb_at(self, box: Box | None, width: int, height: int) -> np.ndarray:
        """uint8 (height, width, 3) displayed RGB, BT.709, of what lies inside `box` (None: all of it), at exactly that size.

        Each side is area-averaged where it shrinks and cubic where it grows; the aspect is whatever box and size make of it.
        """
        (top, bottom, left, right), size = self.geometry.fractions(box), self.geometry.orientation.size(width, height)
        y, *chroma = (_fit(p[inward(top, bottom, p.shape[0]), inward(left, right, p.shape[1])], size) for p in self.planes)
        u, v = chroma[:2] if chroma else (None, None)
        return self.geometry.orientation.apply(yuv_to_rgb(y, u, v, self.depth, self.color))

    def _rgb(self, planes: tuple[np.ndarray, ...], size: tuple[int, int], interpolation: int) -> np.ndarray:
        y = _resize(planes[0], size, interpolation)
        if len(planes) == 1:
            return yuv_to_rgb(y, None, None, self.depth, self.color)
        u, v = (_resize(p, size, interpolation if p.shape[1] >= size[0] else cv2.INTER_LINEAR) for p in planes[1:])
        return yuv_to_rgb(y, u, v, self.depth, self.color)

    def _cropped(self, box: Box | None, short_side: int | None) -> tuple[tuple[np.ndarray, ...], tuple[int, int]]:
        """Planes inside the box, and the (width, height) to give them, both in coded orientation."""
        top, bottom, left, right = self.geometry.fractions(box)
        planes = tuple(p[inward(top, bottom, p.shape[0]), inward(left, right, p.shape[1])] for p in self.planes)
        height, width = planes[0].shape
        width *= float(self.geometry.sample_aspect)
        scale = min(1.0, short_side / min(width, height)) if short_side else 1.0
        return planes, (max(1, round(width * scale)), max(1, round(height * scale)))


def lattice_slices(geometry: Geometry, box: Box | None) -> tuple[slice, slice]:
    """(rows, columns) of `Picture.lattice` inside a displayed box."""
    step = _lattice_step(geometry)
    top, bottom, left, right = geometry.fractions(box)
    return inward(top, bottom, -(-geometry.coded_height // step)), inward(left, right, -(-geometry.coded_width // step))


def _lattice_step(geometry: Geometry) -> int:
    return max(1, min(geometry.coded_width, geometry.coded_height) // LATTICE_SHORT_SIDE)


def _resize(plane: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    if plane.shape[::-1] == size:
        return np.ascontiguousarray(plane)
    if interpolation == cv2.INTER_AREA and (size[0] > plane.shape[1] or size[1] > plane.shape[0]):
        interpolation = cv2.INTER_LINEAR
    return cv2.resize(plane, size, interpolation=interpolation)


def _whole_reduced(plane: np.ndarray, factor: int) -> np.ndarray:
    """Area average by a whole factor that divides both sides; by twos and threes first, for which OpenCV is up to nine times as fast.

    Each such step rounds to a whole level.
    """
    while factor % 2 == 0 and factor > 1:
        plane, factor = cv2.resize(plane, (plane.shape[1] // 2, plane.shape[0] // 2), interpolation=cv2.INTER_AREA), factor // 2
    while factor % 3 == 0:
        plane, factor = cv2.blur(plane, (3, 3))[1::3, 1::3], factor // 3
    return _resize(plane, (plane.shape[1] // factor, plane.shape[0] // factor), cv2.INTER_AREA)


def _fit(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The plane at (width, height): first the sides that shrink, by area, then those that grow, cubic."""
    shrunk = min(size[0], plane.shape[1]), min(size[1], plane.shape[0])
    if shrunk != plane.shape[::-1]:
        plane = _area(plane, shrunk)
    return np.ascontiguousarray(plane) if shrunk == size else cv2.resize(plane, size, interpolation=cv2.INTER_CUBIC)


def _area(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Area average at (width, height), neither larger than the plane's.

    By swscale where the ratio suits it: 0.2 ms from 1280x711 to 576x320 where OpenCV takes 1.5, and as close to the exact average
    (59 dB for 8 bits, no value off by a whole level: rounding).
    """
    if min(size) < SWSCALE_MIN_SIDE or max(plane.shape[1] / size[0], plane.shape[0] / size[1]) > SWSCALE_MAX_RATIO:
        return cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    name = "gray" if plane.dtype == np.uint8 else "gray16le"
    scaler = _scaler(threading.get_ident(), plane.shape[::-1], size, name)
    frame = av.VideoFrame.from_numpy_buffer(plane, format=name)
    small = scaler.reformat(frame, width=size[0], height=size[1], format=name, interpolation=Interpolation.AREA, threads=1).planes[0]
    line = small.line_size // plane.itemsize
    return np.frombuffer(small, plane.dtype)[: size[1] * line].reshape(size[1], line)[:, : size[0]]  # type: ignore[call-overload]


@lru_cache(maxsize=32)
def _scaler(_thread: int, _size: tuple[int, int], _target: tuple[int, int], _format: str) -> VideoReformatter:
    """One for each thread, size and format: it keeps its filter tables from call to call, a third of the time."""
    return VideoReformatter()


def _ceil_size(plane: np.ndarray, factor: int) -> tuple[int, int]:
    return max(1, -(-plane.shape[1] // factor)), max(1, -(-plane.shape[0] // factor))
