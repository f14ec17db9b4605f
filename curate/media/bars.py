"""Flat bars around the picture: letterbox, pillarbox, windowbox, black or of any level, found from the samples of one clip.

Each sample leaves only `POINTS` evenly spaced points of every row and of every column (`BarProfile`). Every point is held against the
level of its own sample's outermost lines, and the samples of a clip are joined by the largest difference over time: a line is bar only
where it is bar in every sample, a picture may be darker than its bars, and fades do no harm. Then, for each side:

1. The noise of the outermost lines says how far a point has to leave their level to be picture: `NOISE_SIGMAS` deviations, at least
   `MIN_RISE`.
2. Every point says how far from the edge that first happens. A bar ends in a straight line: most points name the same place. A night
   sky, a skyline, a vignette or a dark scene name many.
3. `straight` is the share of points that agree (of those that are ever lit and do not rise before), `early` the share that rise before.
   A black side on its own needs `ALONE_STRAIGHT` and almost nothing early; two sides of the same size need less. Opposite a certain bar,
   one of the same size need only be flat, or flat beside text (subtitles, a logo) if the straight edge shows past the text.
4. Bars lighter than `MAX_BLACK` come in pairs only, of one size and one level: a sky, a wall or a tool bar is flat and ends straight too.
5. What is left inside must differ from the bars for the most part: white letters on black are a title, not a picture inside bars.

The edge is put where the level passes half way, and one line further, so that no dark line stays in the picture; where it is soft (it
was blurred or scaled up), where nine tenths are reached. The method and its numbers are ours, measured on real clips and composed bars
(see the tests); ITU-T H.273 gives the level of black.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

POINTS = 64
MIN_SHARE, MAX_SHARE = 0.01, 0.42  # of the side: thinner is blanking, thicker leaves less than a sixth
MAX_BLACK = 36.0  # full-range levels of a bar's median: bars at 30, with what codecs do to them
MIN_RISE, NOISE_SIGMAS = 7.0, 5.0  # levels off the bar's, or deviations of its noise, from which a point is picture
MAX_RISE = 40.0
ALONE_STRAIGHT, PAIR_STRAIGHT, LIGHT_STRAIGHT = 0.8, 0.4, 0.7
CLEAN_EARLY, ALONE_EARLY = 0.05, 0.1  # the second for a side that all other points agree on
RINGING_STRAIGHT, RINGING_EARLY = 0.9, 0.3  # hard compression rings over the edge: two edges as straight as this may begin before it
MAX_LIGHT_NOISE, SAME_LEVEL = 3.0, 6.0  # levels: noise of a bar that is not black; between two bars of a pair
MAX_ALONE_NOISE = 2.0  # levels: a dark ledge at the rim of the picture has some
MIN_DETAIL = 6.0  # levels of deviation of what lies inside light bars: a box on a plain ground is a drawing
FLAT_SHARE, TEXT_SHARE, TEXT_STRAIGHT = 0.002, 0.3, 0.6  # of a vouched bar that may differ; of its edge that must be seen beside text
MIN_LIT_POINTS, MIN_LIT_INSIDE = 0.12, 0.4
SAME_SIZE_SHARE = 0.008  # of the side, at least 2 px: two bars this close in size are a pair
SOFT_WINDOW = 0.035  # of the side: how far apart points of one soft edge may rise
SOFT_THICKNESS = 2.4  # least thickness of a soft bar in units of its softness; vignettes have up to 1.8
SOFT_EDGE = 3.0  # px from 20 to 80 % of the height of an edge; drawn and re-encoded ones have up to 2.2


@dataclass(frozen=True, slots=True, eq=False)
class BarProfile:
    """Evidence of one sample: `rows` uint8 (H, P) points of every row, `columns` uint8 (P, W) points of every column."""

    shape: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True, slots=True)
class Bars:
    """Thickness of the bars in pixels of the profiled luma.

    `contrast`: by how many levels the picture right inside the bars differs from them at its most different moment, median over the
    points of a side, least over the sides; None where there are no bars.
    `softness`: pixels in which the softest of their edges goes from 20 to 80 % of its height; None where there are no bars.
    """

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0
    contrast: float | None = None
    softness: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """A straight edge seen from one side of the frame.

    `levels` (T,) of the bar in each sample, `rise` the difference from which a point is picture, `noise` the bar's deviation.
    """

    thickness: int
    straight: float
    early: float
    levels: np.ndarray
    noise: float
    rise: float
    contrast: float
    softness: float

    @property
    def is_black(self) -> bool:
        return float(self.levels.max()) <= MAX_BLACK


def profile(luma: np.ndarray) -> BarProfile:
    """Takes the points of uint8 (H, W) full-range luma; 70 kB for 360p, 190 kB for 1080p."""
    height, width = luma.shape
    return BarProfile((height, width), np.take(luma, places(width), axis=1), luma[places(height)])


def places(size: int) -> np.ndarray:
    """Where the points of a profile lie along a side of `size` pixels."""
    return ((np.arange(POINTS) + 0.5) * size / POINTS).astype(np.intp)


def find_bars(profiles: Sequence[BarProfile]) -> Bars:
    """Bars of a clip from the profiles of its samples. None are found where samples differ in size or there is no sample."""
    if not profiles or any(p.shape != profiles[0].shape for p in profiles):
        return Bars()
    rows = np.stack([p.rows for p in profiles])
    columns = np.stack([p.columns.T for p in profiles])
    top, bottom = _opposite(rows)
    left, right = _opposite(columns)
    sides = [side for side in (top, bottom, left, right) if side is not None]
    if not sides:
        return Bars()
    sizes = [0 if side is None else side.thickness for side in (top, bottom, left, right)]
    width = profiles[0].shape[1]
    across = places(width)
    inside = rows[:, sizes[0] : rows.shape[1] - sizes[1]][:, :, (across >= sizes[2]) & (across < width - sizes[3])]
    if inside.size == 0 or any(np.mean(_off(inside, side.levels).max(axis=0) > side.rise) < MIN_LIT_INSIDE for side in sides):
        return Bars()
    if not all(side.is_black for side in sides) and inside[-1].std() < MIN_DETAIL:
        return Bars()
    top_lines, bottom_lines, left_lines, right_lines = sizes
    contrast, softness = min(side.contrast for side in sides), max(side.softness for side in sides)
    return Bars(top_lines, bottom_lines, left_lines, right_lines, contrast, softness)


def _off(lines: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """How far (T, n, P) points are off the level of their sample, uint8."""
    level = np.round(levels).astype(np.uint8)[:, None, None]
    return np.maximum(lines, level) - np.minimum(lines, level)


def _side(lines: np.ndarray) -> list[_Side]:
    """Edges that most points agree on, seen from line 0 of (T, n, P): the sharp one, then the soft one; none where line 0 is not flat.

    Nor in fewer than five lines.
    """
    num_lines = lines.shape[1]
    least, most = max(2, int(np.ceil(MIN_SHARE * num_lines))), int(MAX_SHARE * num_lines)
    if most < least:
        return []
    outer = lines[:, :least]
    levels = np.median(outer, axis=(1, 2))
    noise = 1.4826 * float(np.median(_off(outer, levels)))
    if noise > MAX_RISE / NOISE_SIGMAS:
        return []
    rise = float(np.clip(NOISE_SIGMAS * noise, MIN_RISE, MAX_RISE))
    reach = min(num_lines, most + max(24, int(2 * SOFT_WINDOW * num_lines)))
    off = _off(lines[:, :reach], levels).max(axis=0)
    above = off > rise
    whole = _off(lines[:, reach:], levels).max(axis=0) > rise
    lit = above.sum(axis=0) + whole.sum(axis=0) > 0.05 * num_lines
    if lit.mean() < MIN_LIT_POINTS:
        return []
    near = above[:, lit]
    # Two lines in a row, so that one noisy pixel is not taken for the picture.
    rises = near[:-1] & near[1:]
    first = np.where(rises.any(axis=0), rises.argmax(axis=0), len(rises))
    found = []
    for window, is_wide in ((max(4, round(0.008 * num_lines)), False), (max(6, round(SOFT_WINDOW * num_lines)), True)):
        agreeing = np.convolve(np.bincount(first, minlength=len(rises))[: len(rises)], np.ones(window), "full")[window - 1 :]
        start = int(agreeing.argmax())
        early = first < start
        chosen = (first >= start) & (first < start + window)
        if start + window <= least or not chosen.any():
            continue
        thickness, contrast, softness = _edge(off[:, lit][:, chosen], start, window)
        # A vignette is soft too, but begins at the rim: a bar has a part that is flat.
        fits = thickness >= SOFT_THICKNESS * softness if softness >= SOFT_EDGE else not is_wide
        if fits and least <= thickness <= most:
            straight = float(chosen.sum() / (~early).sum())
            found.append(_Side(thickness, straight, float(early.mean()), levels, noise, rise, contrast, softness))
    return found


def _edge(off: np.ndarray, start: int, window: int) -> tuple[int, float, float]:
    """(lines to cut away, contrast in levels, softness in px) of an edge of (n, P) that rises in `window` lines from `start` on.

    No lines where only the average of the points is soft.
    """
    low = max(0, start - 6)
    height = off[low : start + window + max(window, 16) + 4].mean(axis=1)
    # Where it stops rising as an edge does: a scene may go on brightening.
    steps = np.diff(height)
    steepest = int(steps[: start - low + window + 2].argmax())
    peak = steepest + 1
    while peak < len(steps) and steps[peak] > 0.25 * steps[steepest]:
        peak += 1
    rise = height[: peak + 1] / max(float(height[peak]), 1e-6)
    at_20, at_50, at_90 = (_crossing(rise, share) for share in (0.2, 0.5, 0.9))
    softness = 2.0 * (at_50 - at_20)
    if softness >= SOFT_EDGE and not _is_soft_everywhere(off[low : low + peak + 1], softness):
        return 0, 0.0, softness
    cut = int(np.ceil(at_90)) + 1 if softness >= SOFT_EDGE else int(np.ceil(at_50)) + 1
    contrast = np.median(off[low + int(np.ceil(at_50)) : low + int(np.ceil(at_50)) + 4].max(axis=0))
    return low + cut, float(contrast), softness


def _is_soft_everywhere(off: np.ndarray, softness: float) -> bool:
    """Whether the points of (n, P) rise as slowly one by one as on average: else their edges are sharp, and out of line."""
    top = off[-1]
    between = ((off > 0.2 * top) & (off < 0.5 * top)).sum(axis=0)
    return 2.0 * float(np.median(between)) >= 0.5 * softness


def _crossing(rise: np.ndarray, share: float) -> float:
    """Where a curve that ends at 1 last comes up through `share`, between lines."""
    below = np.flatnonzero(rise < share)
    if not below.size:
        return 0.0
    i = int(below[-1])
    return i + float((share - rise[i]) / (rise[i + 1] - rise[i])) if i + 1 < len(rise) else float(i)


def _opposite(lines: np.ndarray) -> tuple[_Side | None, _Side | None]:
    """Which of the two opposite edges of (T, n, P) are bars."""
    reverse = lines[:, ::-1]
    ones, others = _side(lines), _side(reverse)
    for one in ones:
        for other in others:
            if _is_pair(one, other, lines.shape[1]):
                return one, other
    return _alone(lines, _certain(lines, ones), _certain(reverse, others))


def _certain(lines: np.ndarray, sides: list[_Side]) -> _Side | None:
    """The one of a side's edges of (T, n, P) that needs no partner."""
    for side in sides:
        clean = ALONE_EARLY if side.straight >= 0.95 else CLEAN_EARLY
        is_sharp = side.straight >= ALONE_STRAIGHT and side.early <= clean and side.softness < SOFT_EDGE
        if is_sharp and side.is_black and side.noise <= MAX_ALONE_NOISE and _outshines(lines, side):
            return side
    return None


def _outshines(lines: np.ndarray, side: _Side) -> bool:
    """Whether the picture beside the edge of (T, n, P) is the brighter of the two, where they differ."""
    beside = lines[:, side.thickness : side.thickness + 4]
    differs = (_off(beside, side.levels) > side.rise).any(axis=(0, 1))
    brighter = (beside > side.levels[:, None, None] + side.rise).any(axis=(0, 1))
    return bool(brighter.sum() > 0.5 * differs.sum())


def _alone(lines: np.ndarray, one: _Side | None, other: _Side | None) -> tuple[_Side | None, _Side | None]:
    """Certain edges of (T, n, P) that are no pair, and the bars that they vouch for on the other side."""
    # The thinner of two may be the foot of a line of text inside a bar as thick as the other.
    if one and (other is None or other.thickness < one.thickness):
        other = _vouched(lines[:, ::-1], one) or other
    elif other:
        one = _vouched(lines, other) or one
    return one, other


def _is_pair(one: _Side, other: _Side, num_lines: int) -> bool:
    straight = min(one.straight, other.straight)
    clean = RINGING_EARLY if straight >= RINGING_STRAIGHT else CLEAN_EARLY
    if abs(one.thickness - other.thickness) > _tolerance(num_lines) or max(one.early, other.early) > clean:
        return False
    is_soft = max(one.softness, other.softness) >= SOFT_EDGE
    if one.is_black and other.is_black and not is_soft:
        return straight >= PAIR_STRAIGHT
    same_level = float(np.abs(one.levels - other.levels).max()) <= SAME_LEVEL
    return straight >= LIGHT_STRAIGHT and same_level and max(one.noise, other.noise) <= MAX_LIGHT_NOISE


def _vouched(lines: np.ndarray, opposite: _Side) -> _Side | None:
    """A bar as thick as the certain one opposite: flat throughout, or flat but for text that keeps clear of its edge."""
    slack = _tolerance(lines.shape[1])
    clear = opposite.thickness - slack - 2
    if clear < 1:
        return None
    deep = opposite.thickness + 3 * slack + 4
    off = _off(lines[:, : deep + lines.shape[1] // 8], opposite.levels)
    differs = off[:, :clear] > opposite.rise
    share = differs.mean(axis=(1, 2))
    if share.max() > TEXT_SHARE:
        return None
    # Half of the time is enough for the gap: a line of text may hang over the edge for a while.
    gap_flat = np.median(differs[:, max(0, clear - 2) :].any(axis=1), axis=0) < 0.5
    joined = off.max(axis=0)
    shows_edge = gap_flat & (joined[opposite.thickness : opposite.thickness + slack + 2] > opposite.rise).any(axis=0)
    lit = (joined[opposite.thickness :] > opposite.rise).any(axis=0)
    if share.max() > FLAT_SHARE and shows_edge.sum() < TEXT_STRAIGHT * max(1, lit.sum()):
        return None
    thickness, softness = opposite.thickness, opposite.softness
    if shows_edge.mean() > MIN_LIT_POINTS:
        thickness, _, softness = _edge(joined[:, shows_edge], clear, 2 * slack)
    early = float(share.max())
    return _Side(thickness, 0.0, early, opposite.levels, opposite.noise, opposite.rise, opposite.contrast, softness)


def _tolerance(num_lines: int) -> int:
    return max(2, round(SAME_SIZE_SHARE * num_lines))
