"""What stands still in a clip: edges that keep place, direction and strength, and where the picture around them changes.

From samples of luma L_t, t = 1 .. n, with gradient g_t = (dx, dy) in levels per pixel (central differences):

    edges(x)  = |mean g| - CONFIDENCE * sd(g) / sqrt(n)    a lower bound of the gradient that is there all the time
    moving(x) : the standard deviation over time of L_t, less its mean over the picture, exceeds `MOVING_LEVELS` (averaged over 5 x 5)

What moves has a gradient of changing sign and place, so its mean sinks into its own spread; an edge burnt in keeps its mean, opaque or
translucent, whatever passes behind it. The bound is what makes five samples and twenty comparable.

How much the scene itself stands is the share of its strong gradients that are standing edges: in the 2 Hz samples of some 25 real
clips each, at most 0.11 (half of them under 0.01) where the camera moves, 0.13 to 0.9 where it is fixed.
A fixed camera makes the whole scene look burnt in.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from curate.clip import Box

CONFIDENCE = 3.0  # standard errors
NOISE_VARIANCE = 0.5  # levels^2: rounding of 8-bit luma in two differences
MOVING_LEVELS = 4.0  # compression noise of a picture that stands still stays under 2
STRONG_LEVELS = 6.0  # levels per pixel, root mean square over time
FEW_EDGES = 3000.0  # levels: added to the scene's gradients, so that an almost empty scene does not seem to stand for one edge


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """float32 (H, W): `edges` (levels per pixel, 0 where none), mean gradient `dx` and `dy`, `gradient` its root mean square over time.

    `level` is the mean over time of luma less its mean over the picture. `moving` is uint8 (H, W), 1 where the picture changes.
    """

    edges: np.ndarray
    dx: np.ndarray
    dy: np.ndarray
    gradient: np.ndarray
    level: np.ndarray
    moving: np.ndarray

    @property
    def scene_share(self) -> float:
        """Share of the scene's strong gradients that stand still, in [0, 1]."""
        return SceneStands(self).outside(Box(0, 0, 0, 0), 0)


def magnitude(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Lengths of vectors. `cv2.magnitude` rounds its last bit by where the arrays lie in memory, which differs from run to run."""
    length: np.ndarray = np.sqrt(x * x + y * y)
    return length


def standing(lumas: Sequence[np.ndarray]) -> Standing:
    """Of two or more uint8 (H, W) samples of one clip."""
    watch = Watch(lumas[0].shape)
    watch.add(lumas)
    return watch.standing()


class Watch:
    """What stands still in the samples so far."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._count = 0
        self._sums = [np.zeros(shape, np.float32) for _ in range(5)]

    def add(self, lumas: Iterable[np.ndarray]) -> None:
        """Takes uint8 (H, W) samples."""
        dx, dy, squares, level, level_squares = self._sums
        for luma in lumas:
            for axis, total in (((1, 0), dx), ((0, 1), dy)):
                gradient = cv2.Sobel(luma, cv2.CV_32F, *axis, ksize=1, scale=0.5)
                cv2.accumulate(gradient, total)
                cv2.accumulateSquare(gradient, squares)
            # Exposure that changes for the whole picture is no movement.
            even = luma - np.float32(cv2.mean(luma)[0])
            cv2.accumulate(even, level)
            cv2.accumulateSquare(even, level_squares)
            self._count += 1

    def standing(self) -> Standing:
        """Of the two or more samples taken."""
        n = self._count
        dx, dy, squares, level, level_squares = (total / n for total in self._sums)
        variance = np.maximum(squares - dx * dx - dy * dy, 0) * (n / (n - 1)) + NOISE_VARIANCE
        edges = np.maximum(magnitude(dx, dy) - CONFIDENCE * cv2.sqrt(variance / n), 0)
        spread = cv2.sqrt(np.maximum(level_squares - level * level, 0))
        moving = (cv2.blur(spread, (5, 5)) > MOVING_LEVELS).view(np.uint8)
        return Standing(edges, dx, dy, cv2.sqrt(squares), level, moving)


def standing_colours(pictures: Sequence[np.ndarray]) -> tuple[Standing, Standing]:
    """Of two or more uint8 RGB (H, W, 3) samples: their red and their blue difference (BT.601), `moving` as luma says.

    Colour knows no light and shade, so little of a scene stands in it, and a coloured mark does where luma shows none.
    """
    luma, red, blue = zip(*(cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb)) for picture in pictures), strict=True)
    moving = standing(luma).moving
    return replace(standing(red), moving=moving), replace(standing(blue), moving=moving)


class Sums:
    """Sums of one (H, W) array over any rectangle, in constant time; what lies outside the picture counts nothing."""

    def __init__(self, values: np.ndarray) -> None:
        self._table = cv2.integral(values)
        self.height, self.width = values.shape

    def over(self, x0: int, y0: int, x1: int, y1: int) -> float:
        x0, y0, x1, y1 = self.clip(x0, y0, x1, y1)
        return float(self._table[y1, x1] - self._table[y0, x1] - self._table[y1, x0] + self._table[y0, x0])

    def share(self, x0: int, y0: int, x1: int, y1: int) -> float:
        """Mean over the rectangle, 0 where it is empty."""
        return self.over(x0, y0, x1, y1) / max(1, self.area(x0, y0, x1, y1))

    def area(self, x0: int, y0: int, x1: int, y1: int) -> int:
        x0, y0, x1, y1 = self.clip(x0, y0, x1, y1)
        return (x1 - x0) * (y1 - y0)

    def clip(self, x0: int, y0: int, x1: int, y1: int) -> tuple[int, int, int, int]:
        x0, y0 = min(max(0, x0), self.width), min(max(0, y0), self.height)
        return x0, y0, max(x0, min(x1, self.width)), max(y0, min(y1, self.height))


class SceneStands:
    """How much of the scene outside a box stands still."""

    def __init__(self, still: Standing) -> None:
        strong = (still.gradient > STRONG_LEVELS).astype(np.float32)
        self._edges, self._gradient = Sums(still.edges * strong), Sums(still.gradient * strong)

    def outside(self, box: Box, margin: int) -> float:
        """Share in [0, 1] of the strong gradients outside the box, widened by `margin` px, that are standing edges."""
        corners = box.x - margin, box.y - margin, box.x + box.width + margin, box.y + box.height + margin
        whole = 0, 0, self._edges.width, self._edges.height
        edges, gradient = (sums.over(*whole) - sums.over(*corners) for sums in (self._edges, self._gradient))
        return min(1.0, edges / (gradient + FEW_EDGES))
