"""From coded pixels to displayed ones: sample aspect, then the display matrix (one of the eight flips and quarter turns).

Display matrix as in ffmpeg's libavutil/display.h: nine int32, 16.16 fixed point, x' = a x + c y, y' = b x + d y with
a, b, c, d at places 0, 1, 3, 4.
"""

import math
import struct
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from curate.clip import Box


@dataclass(frozen=True, slots=True)
class Orientation:
    """Transpose first, then flips: displayed = flip(coded.T or coded)."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def from_matrix(cls, matrix: bytes) -> "Orientation":
        """Reads the 36 bytes of a display matrix; angles between quarter turns go to the nearest of the eight."""
        values = struct.unpack("<9i", matrix[:36])
        a, b, c, d = values[0], values[1], values[3], values[4]
        if abs(a) >= abs(b):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @classmethod
    def from_turn(cls, degrees_counterclockwise: float) -> "Orientation":
        """The turn to the nearest quarter, without a mirror."""
        quarter = round(degrees_counterclockwise / 90) % 4
        return (cls(), cls(True, False, True), cls(False, True, True), cls(True, True, False))[quarter]

    @property
    def degrees_clockwise(self) -> int:
        """Clockwise rotation of the display, 0 to 270; a mirrored picture reports the rotation that remains after unmirroring in x."""
        if not self.transpose:
            return 180 if self.flip_y else 0
        return 90 if not self.flip_y else 270

    @property
    def is_mirrored(self) -> bool:
        return (self.transpose + self.flip_x + self.flip_y) % 2 == 1

    def apply(self, array: np.ndarray) -> np.ndarray:
        """(H, W, ...) coded -> displayed, contiguous."""
        return np.ascontiguousarray(self.view(array))

    def view(self, array: np.ndarray) -> np.ndarray:
        """(H, W, ...) coded -> displayed, without a copy."""
        if self.transpose:
            array = array.swapaxes(0, 1)
        if self.flip_x:
            array = array[:, ::-1]
        if self.flip_y:
            array = array[::-1]
        return array

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) across the transpose, in either direction."""
        return (height, width) if self.transpose else (width, height)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Coded size (inside the container's crop), sample aspect ratio (width of a sample over its height) and orientation of one stream."""

    coded_width: int
    coded_height: int
    sample_aspect: Fraction = Fraction(1)
    orientation: Orientation = Orientation()

    def cropped(self, width: int, height: int) -> "Geometry":
        """Describes a part of the coded picture of that size."""
        return replace(self, coded_width=width, coded_height=height)

    @property
    def displayed(self) -> tuple[int, int]:
        """(width, height) as shown: width stretched by the sample aspect, then turned."""
        width = max(1, round(self.coded_width * self.sample_aspect))
        return self.orientation.size(width, self.coded_height)

    def fractions(self, box: Box | None) -> tuple[float, float, float, float]:
        """(top, bottom, left, right) of a displayed box as fractions of the coded frame."""
        if box is None:
            return 0.0, 1.0, 0.0, 1.0
        width, height = self.displayed
        top, bottom = box.y / height, (box.y + box.height) / height
        left, right = box.x / width, (box.x + box.width) / width
        if self.orientation.flip_x:
            left, right = 1 - right, 1 - left
        if self.orientation.flip_y:
            top, bottom = 1 - bottom, 1 - top
        return (left, right, top, bottom) if self.orientation.transpose else (top, bottom, left, right)


def inward(low: float, high: float, size: int) -> slice:
    """The whole pixels inside the fractions [low, high] of `size` pixels; at least one."""
    start = min(size - 1, math.ceil(low * size - 1e-6))
    return slice(start, max(start + 1, math.floor(high * size + 1e-6)))
