"""Blurred sides: a picture of another shape set over an enlarged, blurred copy of itself that fills the frame.

Found from the same points as flat bars (`curate.media.bars`), for the sides and for top and bottom. With x(t, y, p) the luma of point p
on line y of sample t, counted across the possible edges, and S(y, p) the mean over time of |x(y + 1) - x(y - 1)|:

1. The two edges lie as far from either rim, and stand still: S is a ridge there along most of their points (`straight`).
2. Outside of them S is a small share of what it is inside, at every depth: a blurred copy has no fine detail anywhere.
3. What lies outside looks like the inside enlarged to the whole frame, cropped or stretched (`likeness`, a correlation over points,
   depth and time). A shallow depth of field has soft sides, but neither straight edges nor this.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from curate.media.bars import BarProfile

MIN_SHARE, MAX_SHARE = 0.06, 0.42  # of the side: a fill thinner than that hides nothing
MAX_SAMPLES = 8
REACH = 3  # px
MIN_LINES = REACH + 3  # of a margin: thinner, no line of it lies clear of both the rim and the seam
RIDGE_RATIO, RIDGE_LEVELS = 1.5, 2.0
MIN_STRAIGHT = 0.5
MAX_DETAIL = 0.5  # detail of the sides over that of the middle
MIN_LIKENESS = 0.55  # composed fills had 0.67 and more, other things 0.2 and less
CERTAIN_STRAIGHT, CERTAIN_LIKENESS = 0.8, 0.75  # with both, the sides need not be softer than the middle
MAX_STEP = 0.3  # then: the greatest step between lines of the sides over that at the seam
MIN_VARIATION = 5.0  # levels: deviation of the sides over time and depth
NUM_BINS = 32  # of depth, for the likeness


@dataclass(frozen=True, slots=True)
class Fill:
    """Blurred margins, in pixels of the profiled luma, and the correlation of what they show with the middle enlarged."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0
    likeness: float | None = None


def find_fill(profiles: Sequence[BarProfile]) -> Fill:
    """Blurred margins of a clip from the profiles of its samples, at the sides or else above and below."""
    if not profiles or any(p.shape != profiles[0].shape for p in profiles):
        return Fill()
    chosen = [profiles[i] for i in np.unique(np.linspace(0, len(profiles) - 1, MAX_SAMPLES).astype(int))]
    columns = np.stack([p.columns.T for p in chosen])
    if found := _margins(columns):
        return Fill(left=found[0], right=found[1], likeness=found[2])
    rows = np.stack([p.rows for p in chosen])
    if found := _margins(rows):
        return Fill(top=found[0], bottom=found[1], likeness=found[2])
    return Fill()


def _margins(lines: np.ndarray) -> tuple[int, int, float] | None:
    """(lines before, lines after, likeness) of the margins of (T, n, P)."""
    num_lines = lines.shape[1]
    if num_lines < 32:
        return None
    detail = _detail(lines)
    seam = _seam(detail)
    if seam is None:
        return None
    before, after, straight = seam
    # Of a small picture the two edges may lie at the rim, or next to each other.
    if min(before, after) < MIN_LINES or num_lines - before - after <= 2 * REACH:
        return None
    outside = np.concatenate([detail[2 : before - REACH], detail[num_lines - after + REACH : -2]]).mean(axis=1)
    inside = detail[before + REACH : num_lines - after - REACH].mean(axis=1)
    is_softer = float(np.quantile(outside, 0.9)) <= MAX_DETAIL * float(np.median(inside))
    # The middle itself may be out of focus.
    step = float(detail[before - REACH : before + 1].mean(axis=1).max())
    is_certain = straight >= CERTAIN_STRAIGHT and float(outside.max()) <= MAX_STEP * step
    if not (is_softer or is_certain):
        return None
    likeness = _likeness(lines, before, after)
    return (before, after, likeness) if likeness >= (MIN_LIKENESS if is_softer else CERTAIN_LIKENESS) else None


def _detail(lines: np.ndarray) -> np.ndarray:
    """Mean over time of |x(y + 1) - x(y - 1)|, float32 (n, P)."""
    total = np.zeros(lines.shape[1:], np.float32)
    for sample in lines:
        cv2.accumulate(cv2.absdiff(np.ascontiguousarray(sample[2:]), np.ascontiguousarray(sample[:-2])), total[1:-1])
    return total / len(lines)


def _seam(detail: np.ndarray) -> tuple[int, int, float] | None:
    """Lines before and after the picture, where two edges stand as far from either rim, and how straight they are."""
    num_lines = len(detail)
    ridge = np.zeros(detail.shape, np.float32)
    beside = np.maximum(detail[: -2 * REACH], detail[2 * REACH :])
    ridge[REACH:-REACH] = detail[REACH:-REACH] > RIDGE_RATIO * beside + RIDGE_LEVELS
    thick = np.maximum(ridge, np.maximum(np.roll(ridge, 1, axis=0), np.roll(ridge, -1, axis=0))).mean(axis=1)
    low, high = int(np.ceil(MIN_SHARE * num_lines)), int(MAX_SHARE * num_lines)
    ahead, behind = thick[:high], thick[::-1][:high]
    # The two may be two lines apart in size.
    partner = np.max([np.roll(behind, shift) for shift in (-2, -1, 0, 1, 2)], axis=0)
    worth = np.minimum(ahead, partner)
    worth[:low] = 0
    place = int(worth.argmax())
    if worth[place] < MIN_STRAIGHT:
        return None
    return _sharpest(detail, place), _sharpest(detail[::-1], place), float(worth[place])


def _sharpest(detail: np.ndarray, place: int) -> int:
    """Lines to cut away so that nothing of the margin is left: the steepest line near `place`, and one more."""
    near = detail[place - 2 : place + 3].mean(axis=1)
    return place - 2 + int(near.argmax()) + 2


def _likeness(lines: np.ndarray, before: int, after: int) -> float:
    """Correlation of the margins of (T, n, P) with the middle enlarged, cropped or stretched, whichever is more."""
    num_lines, num_points = lines.shape[1:]
    inner = num_lines - before - after
    crop = np.clip(np.round((np.arange(num_points) - num_points / 2 + 0.5) * inner / num_lines + num_points / 2 - 0.5), 0, num_points - 1)
    bins = np.arange(NUM_BINS)
    sides = (bins + 1 <= before / num_lines * NUM_BINS, bins >= NUM_BINS - after / num_lines * NUM_BINS)
    shown, enlarged = [], []
    for sample in lines:
        shown.append(cv2.resize(sample, (num_points, NUM_BINS), interpolation=cv2.INTER_AREA))
        middle = np.ascontiguousarray(sample[before : num_lines - after])
        enlarged.append(cv2.blur(cv2.resize(middle, (num_points, NUM_BINS), interpolation=cv2.INTER_AREA), (5, 3)))
    seen, whole = np.stack(shown).astype(np.float32), np.stack(enlarged).astype(np.float32)
    cropped = whole[:, :, crop.astype(int)]
    # Each point about its mean over time and depth: the stripes of a test card, or a sky over land, are like nothing.
    return max(_correlation([(seen[:, side], other[:, side]) for side in sides if side.any()]) for other in (cropped, whole))


def _correlation(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Of all pairs of (T, bins, P) arrays together, each point about its own mean; 0 where the first are flat."""
    products = np.zeros(3)
    for one, other in pairs:
        a, b = ((x - x.mean(axis=(0, 1))).ravel().astype(np.float64) for x in (one, other))
        products += (a @ b, a @ a, b @ b)
    if products[1] < MIN_VARIATION**2 * sum(one.size for one, _ in pairs) or products[2] <= 0:
        return 0.0
    return float(products[0] / np.sqrt(products[1] * products[2]))
