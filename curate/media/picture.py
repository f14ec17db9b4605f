"""One decoded frame, held by reference until somebody wants pixels, then converted as late and as small as possible.

Planes are reduced first (area averaging in the coded domain), colours converted at the small size, and the result turned
last: full-resolution RGB of every frame is never made.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from curate.clip import Box
from curate.media.color import ColorInfo, luma8, yuv_to_rgb
from curate.media.geometry import Geometry, inward

ANALYSIS_SHORT_SIDE = 180  # px: enough for flow at 96 px inside a 2.39:1 letterbox, 57 kB a frame
LATTICE_SHORT_SIDE = 90  # points


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
        return self.geometry.orientation.apply(rgb[:, :, ::-1])

    @cached_property
    def _analysis(self) -> np.ndarray:
        width, height = self.geometry.displayed
        factor = max(1, min(width, height) // ANALYSIS_SHORT_SIDE)
        size = self.geometry.orientation.size(max(1, width // factor), max(1, height // factor))
        luma = self.planes[0]
        # A crop to a multiple of the factor keeps OpenCV on its whole-number area path, several times faster.
        if (luma.shape[1] // size[0], luma.shape[0] // size[1]) == (factor, factor):
            luma = luma[: size[1] * factor, : size[0] * factor]
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

    def rgb(self, box: Box | None = None, short_side: int | None = None) -> np.ndarray:
        """uint8 (H, W, 3) displayed RGB, BT.709, inside `box`, its short side at most `short_side`."""
        planes, size = self._cropped(box, short_side)
        return self.geometry.orientation.apply(self._rgb(planes, size, cv2.INTER_AREA))

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


def _ceil_size(plane: np.ndarray, factor: int) -> tuple[int, int]:
    return max(1, -(-plane.shape[1] // factor)), max(1, -(-plane.shape[0] // factor))
