"""Burnt-in lines of text: rows of bright strokes that stay in place for a while, from samples 0.5 s apart.

1. Strokes: points brighter by `STROKE_LEVELS` than what lies a few pixels to either side (white top-hat with a level bar), and bright.
2. Kept strokes are those that two consecutive samples share, place and level. What moves with the scene does not stay.
3. Of those, the ones that every sample of the clip shows are set apart: before a fixed camera, a sign and a fence stay for ever.
   A subtitle comes and goes. One that stays as long as the clip counts only where the picture above or below it moves.
4. Kept strokes are joined along the row. A group is a line of text by its shape: wide, low, dense, with many stems side by side, near
   the bottom or the top. `worth` is stems times fill, less where a good part of the strokes did not stay: real footage reaches 2,
   half of the subtitles of 4 to 8 % of the height 7 or more, the shortest ("Are you sure?") 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from curate.clip import Box
from curate.media.standing import Standing, Sums

UNIT_SIDE = 180  # px of the short side that lengths below speak of
STROKE_WIDTH = 3  # reach of the bar to either side
STROKE_LEVELS, BRIGHT_LEVELS, SAME_LEVELS = 45, 110, 30
JOIN_X, JOIN_Y = 7, 1
MIN_WIDTH, MIN_HEIGHT, MAX_HEIGHT = 0.09, 0.02, 0.28  # of the picture's width, of its height (two lines may join)
MIN_STEMS, MIN_FILL = 6, 0.1
TOP, BOTTOM = 0.3, 0.62  # of the height: a line's middle lies above the one or below the other
MAX_GAP_NS = 1_250_000_000  # between samples; over more time a line would not stay
KEPT_WELL = 0.7  # share of a line's strokes that stay
MIN_MOVING = 0.6  # of the picture above and below a line that stays as long as the clip


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text in sample `first` and the one after it; `first` is None for one that every sample shows."""

    box: Box
    worth: float
    first: int | None


def find_lines(lumas: Sequence[np.ndarray], times_ns: Sequence[int], still: Standing) -> list[Line]:
    """Lines of burnt-in text in two or more uint8 (H, W) samples, in time order, those that stay last."""
    found = [_strokes(luma) for luma in lumas]
    always = found[0]
    for mask in found[1:]:
        always = cv2.bitwise_and(always, mask)
    passing = cv2.bitwise_not(always)
    lines = []
    for i in range(len(lumas) - 1):
        if times_ns[i + 1] - times_ns[i] > MAX_GAP_NS:
            continue
        kept = cv2.bitwise_and(found[i], found[i + 1])
        kept[cv2.absdiff(lumas[i], lumas[i + 1]) >= SAME_LEVELS] = 0
        lines += [Line(box, worth, i) for box, worth in _lines(cv2.bitwise_and(kept, passing), kept, found[i : i + 2])]
    staying = _lines(always, always, found)
    if staying:
        moving = Sums(still.moving)
        lines += [Line(box, worth, None) for box, worth in staying if _moves_around(moving, box)]
    return lines


def _strokes(luma: np.ndarray) -> np.ndarray:
    """uint8 (H, W), 255 where a bright stroke is."""
    reach = max(2, round(STROKE_WIDTH * min(luma.shape) / UNIT_SIDE))
    raised = cv2.morphologyEx(luma, cv2.MORPH_TOPHAT, np.ones((1, 2 * reach + 1), np.uint8))
    strokes: np.ndarray = ((raised > STROKE_LEVELS) & (luma > BRIGHT_LEVELS)).view(np.uint8) * np.uint8(255)
    return strokes


def _lines(mask: np.ndarray, kept: np.ndarray, samples: Sequence[np.ndarray]) -> list[tuple[Box, float]]:
    """Lines of text in a mask of strokes: (box, worth); `kept` of the strokes in `samples` stayed."""
    height, width = mask.shape
    row_sums = cv2.reduce(mask, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    if np.count_nonzero(row_sums >= MIN_STEMS * 255) < MIN_HEIGHT * height:
        return []
    unit = min(height, width) / UNIT_SIDE
    kernel = np.ones((2 * max(1, round(JOIN_Y * unit)) + 1, 2 * round(JOIN_X * unit) + 1), np.uint8)
    margin = kernel.shape[1] // 2
    closed = cv2.morphologyEx(cv2.copyMakeBorder(mask, margin, margin, margin, margin, cv2.BORDER_CONSTANT), cv2.MORPH_CLOSE, kernel)
    _, _, stats, _ = cv2.connectedComponentsWithStats(closed)
    found = []
    for x, y, w, h, _ in stats[1:].tolist():
        x, y = max(0, x - margin), max(0, y - margin)
        if w < MIN_WIDTH * width or w < 1.5 * h or not MIN_HEIGHT * height <= h <= MAX_HEIGHT * height:
            continue
        if TOP * height <= y + h / 2 <= BOTTOM * height:
            continue
        inside = mask[y : y + h, x : x + w] > 0
        fill = float(inside.mean())
        stems = int((inside[:, 1:] & ~inside[:, :-1]).sum(axis=1).max())
        if stems >= MIN_STEMS and fill >= MIN_FILL:
            stayed = cv2.countNonZero(kept[y : y + h, x : x + w])
            shown = max(cv2.countNonZero(sample[y : y + h, x : x + w]) for sample in samples)
            found.append((Box(x, y, w, h), stems * fill * min(1.0, stayed / max(1, shown) / KEPT_WELL)))
    return found


def _moves_around(moving: Sums, box: Box) -> bool:
    reach = max(4, box.height // 2)
    above = box.x, box.y - reach - 2, box.x + box.width, box.y - 2
    below = box.x, box.y + box.height + 2, box.x + box.width, box.y + box.height + 2 + reach
    seen = [side for side in (above, below) if moving.area(*side) >= 2 * box.width]
    return bool(seen) and all(moving.share(*side) >= MIN_MOVING for side in seen)
