"""Graphics that stand at the rim while the picture moves: scores, maps and bars of a video game, or of a broadcast.

On the 2 Hz luma (short side 180 to 359 px) an edge stands where the step to a neighbour is `EDGE_LEVELS` or more in every sample and the
pixel keeps its level within `STAND_LEVELS`. The picture is divided into 4 x 4 cells, of which 12 lie at the rim. Standing edges in a
cell are graphics only if the camera moves: at least `MIN_CLEAN` of the other rim cells and the middle four must hold next to none,
which a locked-off camera never gives, and in the cell itself the picture must move around them, which a window frame or a
dashboard does not let it. What counts is the number of rim cells with graphics, if both the upper and the lower row have one: a
line of subtitles or a ticker has one row.
"""

from collections.abc import Sequence

import cv2
import numpy as np

EDGE_LEVELS, STAND_LEVELS = 28, 16
MIN_GRAPHICS, MAX_CLEAN = 0.012, 0.004  # shares of a cell's pixels that are standing edges
MIN_MOVING = 0.25  # share of a cell with graphics that moves behind them: the dashboard of a car does not
MIN_CLEAN = 5  # cells
MAX_MIDDLE = 0.02  # share of the edges in the middle that stand
MIN_SAMPLES = 3
MIN_SIDE = 5  # px: a step in each of four cells


def hud_cells(grid: Sequence[np.ndarray]) -> int | None:
    """Number of rim cells with standing graphics over uint8 (H, W) samples; None for too few of them, or too small ones, to tell."""
    if len(grid) < MIN_SAMPLES or min(grid[0].shape) < MIN_SIDE:
        return None
    standing, present, moving = (_cells(one) for one in _standing(grid))
    middle, rim = standing[1:3, 1:3].sum() / max(1e-9, present[1:3, 1:3].sum()), np.ones((4, 4), bool)
    rim[1:3, 1:3] = False
    graphics = rim & (standing >= MIN_GRAPHICS) & (moving >= MIN_MOVING)
    num_clean = np.count_nonzero(rim & (standing <= MAX_CLEAN))
    if middle > MAX_MIDDLE or num_clean < MIN_CLEAN or not (graphics[0].any() and graphics[3].any()):
        return 0
    return int(np.count_nonzero(graphics))


def _standing(grid: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(where edges stand, 0 or 1; how often there is one, 0 to 1; where the level changes, 0 or 1), float32 (H - 1, W - 1)."""
    least = _steps(grid[0])
    often = np.zeros(least.shape, np.float32)
    low, high = grid[0].copy(), grid[0].copy()
    for luma in grid:
        steps = _steps(luma)
        cv2.min(least, steps, dst=least)
        cv2.min(low, luma, dst=low)
        cv2.max(high, luma, dst=high)
        often += steps >= EDGE_LEVELS
    change = cv2.subtract(high, low)[:-1, :-1]
    stands = (least >= EDGE_LEVELS) & (change <= STAND_LEVELS)
    return stands.astype(np.float32), often / len(grid), (change > STAND_LEVELS).astype(np.float32)


def _steps(luma: np.ndarray) -> np.ndarray:
    """uint8 (H - 1, W - 1): the larger of the steps to the right and down."""
    here = luma[:-1, :-1]
    return np.asarray(cv2.max(cv2.absdiff(here, luma[:-1, 1:]), cv2.absdiff(here, luma[1:, :-1])))


def _cells(values: np.ndarray) -> np.ndarray:
    """Means over 4 x 4 cells."""
    height, width = (side // 4 for side in values.shape)
    return np.asarray(values[: 4 * height, : 4 * width].reshape(4, height, 4, width).mean(axis=(1, 3)))
