"""Picture in picture: an upright rectangle whose four sides stand still as straight edges while what they divide moves.

From the 2 Hz grid luma L (short side 180 to 359 px), with G the mean over time of |L[x + 1] - L[x - 1]| across a possible edge:

1. A point lies on an edge where G exceeds both G three pixels to either side by `RIDGE_RATIO` and `RIDGE_LEVELS`: what moves smears its
   gradients over its path, an edge that stays where it is leaves a ridge one or two pixels wide.
2. The lines with most such points, in each direction, are combined to rectangles. The likeliest is the one whose least seen side shows
   most, within a pixel to either side. Sides that run on past the corners are a lattice (a window, a shelf), not an inset.
3. Something has to move along the sides, inside or outside: a picture frame before a camera that stands still is a thing in the scene.

`overlay_inset_strength` is the share of edge points of its least seen side on one line exactly: a drawn edge keeps to its column, what a
scene lines up by chance does not. 0 where there is no rectangle. Cannot be told from an inset: a view through a real
window that fills a rectangle. Not found: round insets, insets at the picture's rim (a split screen), and insets where nothing moves.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from curate.clip import Box, Fault
from curate.samples import ClipSamples
from curate.scorers import Column

MIN_SAMPLES = 4
INSET_STRENGTH = 0.6  # on real clips without an inset up to 0.51
REACH = 3  # px
RIDGE_RATIO, RIDGE_LEVELS = 2.0, 5.0
MIN_SIDE, MAX_SIDE = 0.12, 0.8  # of the picture's side
NUM_LINES = 14
MIN_DENSITY = 0.6  # of a stretch of a line as long as the shortest side
MAX_OVERSHOOT = 0.5  # share of edge points on a side's continuation past its corners
NEAR = 4  # px
MOVING_LEVELS, MIN_MOVING = 4.0, 0.4  # mean change from sample to sample; share of the outline along which something moves

INSET_COLUMNS = {
    "overlay_has_inset": Column(pa.bool_(), "", "picture in picture: overlay_inset_strength reaches inset_strength"),
    "overlay_inset_strength": Column(
        pa.float32(), "share", "of the least seen side of the likeliest inset's outline that is an edge which stands still", 0, 1
    ),
    "overlay_inset_box": Column(
        pa.list_(pa.int32()), "px", "inset as x, y, width, height in displayed pixels of the source; null where there is none"
    ),
}


def inset_row(clip: ClipSamples, inset_strength: float = INSET_STRENGTH) -> dict[str, Any]:
    """The columns of `INSET_COLUMNS`; null with a fault in `faults` where the clip holds fewer than four samples of the grid."""
    grid = clip.motion.grid if clip.motion else ()
    if len(grid) < MIN_SAMPLES:
        message = f"the clip holds {len(grid)} samples of the grid; an inset takes {MIN_SAMPLES} to tell"
        return {**dict.fromkeys(INSET_COLUMNS), "faults": [Fault("overlay", "TooFewSamples", message)]}
    strength, box = find_inset(grid)
    found = box is not None and strength >= inset_strength
    return {
        "overlay_has_inset": found,
        "overlay_inset_strength": strength,
        "overlay_inset_box": _displayed(box, grid[0].shape, clip.box) if found and box else None,
    }


def find_inset(grid: Sequence[np.ndarray]) -> tuple[float, Box | None]:
    """(strength in [0, 1], rectangle in pixels of the samples) of the likeliest inset of uint8 (H, W) samples; (0, None) without one."""
    height, width = grid[0].shape
    if min(height, width) < 8 * REACH:
        return 0.0, None
    upright, level, change = _gradients(grid)
    ridges_x, ridges_y = _ridges(upright), _ridges(level.T)
    edges_x, edges_y = _thick(ridges_x), _thick(ridges_y).T
    # A grid that stands still in the scene has more and longer lines than any inset.
    alive = cv2.dilate(change, np.ones((2 * NEAR + 1, 2 * NEAR + 1), np.uint8)) >= MOVING_LEVELS
    xs, ys = _lines(edges_x & alive, MIN_SIDE * height), _lines((edges_y & alive).T, MIN_SIDE * width)
    if len(xs) < 2 or len(ys) < 2:
        return 0.0, None
    worth, corners = _rectangles(edges_x, edges_y, xs, ys)
    for i in np.argsort(-worth, kind="stable")[:8]:
        x0, x1, y0, y1 = (int(c) for c in corners[i])
        if worth[i] > 0 and _moves(change, x0, x1, y0, y1):
            straight = (_straight(ridges_x, x0, y0, y1), _straight(ridges_x, x1, y0, y1), _straight(ridges_y, y0, x0, x1))
            return min(*straight, _straight(ridges_y, y1, x0, x1)), Box(x0, y0, x1 - x0, y1 - y0)
    return 0.0, None


def _gradients(grid: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float32 (H, W) means over time: |change| across upright edges, across level ones, and from sample to sample."""
    height, width = grid[0].shape
    upright, level, change = (np.zeros((height, width), np.float32) for _ in range(3))
    before = None
    for luma in grid:
        cv2.accumulate(cv2.absdiff(luma[:, 2:], luma[:, :-2]), upright[:, 1:-1])
        cv2.accumulate(cv2.absdiff(luma[2:], luma[:-2]), level[1:-1])
        if before is not None:
            cv2.accumulate(cv2.absdiff(luma, before), change)
        before = luma
    return upright / len(grid), level / len(grid), change / (len(grid) - 1)


def _ridges(across: np.ndarray) -> np.ndarray:
    """Which points of (H, W) lie on a narrow ridge along axis 0."""
    ridge = np.zeros(across.shape, bool)
    middle = across[:, REACH:-REACH]
    beside = np.maximum(across[:, : -2 * REACH], across[:, 2 * REACH :])
    ridge[:, REACH:-REACH] = middle > RIDGE_RATIO * beside + RIDGE_LEVELS
    return ridge


def _thick(ridge: np.ndarray) -> np.ndarray:
    """The ridge of (H, W) with its neighbours along axis 1."""
    thick = ridge.copy()
    thick[:, 1:] |= ridge[:, :-1]
    thick[:, :-1] |= ridge[:, 1:]
    return thick


def _straight(ridge: np.ndarray, line: int, low: int, high: int) -> float:
    """Share of points `low` to `high` along axis 0 that lie on one and the same column, within a pixel of `line`."""
    return float(ridge[low:high, max(0, line - 1) : line + 2].mean(axis=0).max())


def _lines(edges: np.ndarray, least: float) -> np.ndarray:
    """Columns of bool (n, m) that hold most points of unbroken stretches at least `least` long, no two within `REACH`; ascending."""
    length = max(REACH, round(least))
    dense = cv2.blur(edges.astype(np.float32), (1, length), borderType=cv2.BORDER_CONSTANT) >= MIN_DENSITY
    left = np.convolve(dense.sum(axis=0), np.ones(3), "same")
    chosen: list[int] = []
    while len(chosen) < NUM_LINES and left.max() >= 1:
        chosen.append(best := int(left.argmax()))
        left[max(0, best - REACH) : best + REACH + 1] = 0
    return np.array(sorted(chosen), np.intp)


def _rectangles(edges_x: np.ndarray, edges_y: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Worth (R,) and corners (R, 4) as x0, x1, y0, y1 of every rectangle of the lines."""
    height, width = edges_x.shape
    i, j = np.triu_indices(len(xs), 1)
    k, m = np.triu_indices(len(ys), 1)
    x0, x1, y0, y1 = (side.ravel() for side in (*np.broadcast_arrays(xs[i][:, None], xs[j][:, None], ys[k], ys[m]),))
    fits = (x1 - x0 >= MIN_SIDE * width) & (x1 - x0 <= MAX_SIDE * width) & (y1 - y0 >= MIN_SIDE * height) & (y1 - y0 <= MAX_SIDE * height)
    x0, x1, y0, y1 = x0[fits], x1[fits], y0[fits], y1[fits]
    down = np.pad(np.cumsum(edges_x, axis=0, dtype=np.int32), ((1, 0), (0, 0)))
    right = np.pad(np.cumsum(edges_y, axis=1, dtype=np.int32), ((0, 0), (1, 0)))

    def along(sums: np.ndarray, line: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return (sums[high, line] - sums[low, line]) / np.maximum(high - low, 1)

    sides, beyond = [], []
    for sums, size, lines, low, high in ((down, height, (x0, x1), y0, y1), (right.T, width, (y0, y1), x0, x1)):
        run = (high - low) // 4
        ends = [(np.maximum(low - 2 - run, 0), np.maximum(low - 2, 0)), (np.minimum(high + 3, size), np.minimum(high + 3 + run, size))]
        for line in lines:
            sides.append(along(sums, line, low, high))
            beyond += [np.where(end - start >= REACH, along(sums, line, start, end), 0.0) for start, end in ends]
    worth = np.where(np.mean(beyond, axis=0) <= MAX_OVERSHOOT / 2, np.min(sides, axis=0), 0.0)
    return worth, np.stack([x0, x1, y0, y1], axis=1)


def _moves(change: np.ndarray, x0: int, x1: int, y0: int, y1: int) -> bool:
    """Whether something moves along the outline, inside or outside of it."""
    height, width = change.shape
    moving = []
    for line, low, high in ((x0, y0, y1), (x1, y0, y1)):
        near, far = change[low:high, max(0, line - 5) : max(1, line - 1)], change[low:high, min(width - 1, line + 2) : line + 6]
        moving.append(np.maximum(near.mean(axis=1), far.mean(axis=1)) >= MOVING_LEVELS)
    for line, low, high in ((y0, x0, x1), (y1, x0, x1)):
        near, far = change[max(0, line - 5) : max(1, line - 1), low:high], change[min(height - 1, line + 2) : line + 6, low:high]
        moving.append(np.maximum(near.mean(axis=0), far.mean(axis=0)) >= MOVING_LEVELS)
    return bool(np.mean([side.mean() for side in moving]) >= MIN_MOVING)


def _displayed(box: Box, shape: tuple[int, int], active: Box) -> list[int]:
    """The rectangle of (H, W) samples in displayed pixels of the source, whose active picture the samples show."""
    across, down = active.width / shape[1], active.height / shape[0]
    return [active.x + round(box.x * across), active.y + round(box.y * down), round(box.width * across), round(box.height * down)]
