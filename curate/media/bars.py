"""Black bars around the picture: letterbox, pillarbox, windowbox, found from the samples of one clip.

Each sample leaves only `POINTS` evenly spaced points of every row and of every column (`BarProfile`). For a clip the points are
joined by their maximum over time, so that a line is bar only where it is bar in every sample, and fades do no harm. Then, for each side:

1. The level and noise of the outermost lines say what "black" is here: up to `MAX_LEVEL`, plus `NOISE_SIGMAS` deviations.
2. Every point says how far from the edge the picture first rises above that. A bar ends in a straight line: most points name the same
   place. A night sky, a skyline, a vignette or a dark scene name many.
3. `straight` is the share of points that agree (of those that are ever lit and do not rise before), `early` the share that rise before.
   A side on its own needs `ALONE_STRAIGHT` and almost nothing early; two sides of the same size need less. Opposite a certain bar, one of
   the same size need only be black, or black beside text (subtitles, a logo) if the straight edge shows past the text.
4. What is left inside must be lit for the most part: white letters on black are a title, not a picture inside bars.

The edge is put where the level passes half way, and one line further, so that no dark line stays in the picture.
The method and its numbers are ours, measured on real clips and composed bars (see the tests); ITU-T H.273 gives the level of black.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

POINTS = 64
MIN_SHARE, MAX_SHARE = 0.01, 0.40  # of the side: thinner is blanking, thicker leaves less than a fifth
MAX_LEVEL = 32.0  # full-range levels of a bar's median: bars at 24, with what codecs do to them
MIN_RISE, NOISE_SIGMAS = 9.0, 5.0  # levels above a bar, or deviations of its noise, from which a point is picture
MAX_RISE = 40.0
ALONE_STRAIGHT, PAIR_STRAIGHT = 0.8, 0.4
CLEAN_EARLY = 0.05
BLACK_SHARE, TEXT_SHARE, TEXT_STRAIGHT = 0.002, 0.3, 0.6  # of a vouched bar that may be bright; of its edge that must be seen beside text
MIN_LIT_POINTS, MIN_LIT_INSIDE = 0.12, 0.4
SAME_SIZE_SHARE = 0.008  # of the side, at least 2 px: two bars this close in size are a pair


@dataclass(frozen=True, slots=True, eq=False)
class BarProfile:
    """Evidence of one sample: `rows` uint8 (H, P) points of every row, `columns` uint8 (P, W) points of every column."""

    shape: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True, slots=True)
class Bars:
    """Thickness of the bars in pixels of the profiled luma.

    `contrast`: by how many levels the picture right inside the bars outshines them at its brightest moment, median over the points
    of a side, least over the sides; None where there are no bars.
    """

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0
    contrast: float | None = None


@dataclass(frozen=True, slots=True)
class _Side:
    """A straight edge seen from one side of the frame: `level` that of the bar, `black` the one from which a point is picture."""

    thickness: int
    straight: float
    early: float
    level: float
    black: float
    contrast: float


def profile(luma: np.ndarray) -> BarProfile:
    """Takes the points of uint8 (H, W) full-range luma; 70 kB for 360p, 190 kB for 1080p."""
    height, width = luma.shape
    return BarProfile((height, width), np.take(luma, _places(width), axis=1), luma[_places(height)])


def find_bars(profiles: Sequence[BarProfile]) -> Bars:
    """Bars of a clip from the profiles of its samples. None are found where samples differ in size or there is no sample."""
    if not profiles or any(p.shape != profiles[0].shape for p in profiles):
        return Bars()
    rows = [p.rows for p in profiles]
    top, bottom = _opposite(rows)
    left, right = _opposite([p.columns.T for p in profiles])
    sides = [side for side in (top, bottom, left, right) if side is not None]
    if not sides:
        return Bars()
    sizes = [0 if side is None else side.thickness for side in (top, bottom, left, right)]
    inside = _joined(rows)[sizes[0] : len(rows[0]) - sizes[1]]
    places = _places(profiles[0].shape[1])
    inside = inside[:, (places >= sizes[2]) & (places < profiles[0].shape[1] - sizes[3])]
    if inside.size == 0 or np.mean(inside > max(side.black for side in sides)) < MIN_LIT_INSIDE:
        return Bars()
    return Bars(sizes[0], sizes[1], sizes[2], sizes[3], min(side.contrast for side in sides))


def _places(size: int) -> np.ndarray:
    return ((np.arange(POINTS) + 0.5) * size / POINTS).astype(np.intp)


def _joined(lines: Sequence[np.ndarray]) -> np.ndarray:
    joined = lines[0].copy()
    for other in lines[1:]:
        np.maximum(joined, other, out=joined)
    return joined


def _side(lines: Sequence[np.ndarray]) -> _Side | None:
    """The edge that most points agree on, seen from line 0 of each sample's (n, P); None where line 0 is not black or nothing agrees."""
    num_lines = len(lines[0])
    least, most = max(2, int(np.ceil(MIN_SHARE * num_lines))), int(MAX_SHARE * num_lines)
    outer = np.concatenate([line[:least] for line in lines])
    level = float(np.median(outer))
    if level > MAX_LEVEL:
        return None
    noise = 1.4826 * float(np.median(np.abs(outer.astype(np.float32) - level)))
    black = level + float(np.clip(NOISE_SIGMAS * noise, MIN_RISE, MAX_RISE))
    joined = _joined(lines)
    above = joined > black
    lit = above.mean(axis=0) > 0.05
    if lit.mean() < MIN_LIT_POINTS:
        return None
    window = max(4, round(0.008 * num_lines))
    near = above[: most + window + 1, lit]
    # Two lines in a row, so that one noisy pixel is not taken for the picture.
    rises = near[:-1] & near[1:]
    first = np.where(rises.any(axis=0), rises.argmax(axis=0), len(rises))
    agreeing = np.convolve(np.bincount(first, minlength=len(rises))[: len(rises)], np.ones(window), "full")[window - 1 :]
    start = int(agreeing.argmax())
    early = first < start
    if start + window <= least or not agreeing.any():
        return None
    chosen = (first >= start) & (first < start + window)
    thickness, contrast = _edge(joined[:, lit][:, chosen], start, window, level)
    if not least <= thickness <= most:
        return None
    return _Side(thickness, float(chosen.sum() / (~early).sum()), float(early.mean()), level, black, contrast)


def _edge(joined: np.ndarray, start: int, window: int, level: float) -> tuple[int, float]:
    """(lines to cut away, contrast in levels) of an edge that lies in `window` lines from `start` on."""
    low, high = max(0, start - 4), start + window + 4
    band = joined[low:high]
    rise = np.maximum(band.mean(axis=1) - level, 0.0)
    half_way = low + int((rise >= 0.5 * rise.max()).argmax())
    contrast = np.median(joined[half_way : half_way + 4].max(axis=0)) - level
    return half_way + 1, float(np.clip(contrast, 0.0, 255.0))


def _opposite(lines: Sequence[np.ndarray]) -> tuple[_Side | None, _Side | None]:
    """Which of the two opposite edges of each sample's (n, P) are bars."""
    reverse = [line[::-1] for line in lines]
    one, other = _side(lines), _side(reverse)
    same_size = one and other and abs(one.thickness - other.thickness) <= _tolerance(len(lines[0]))
    if one and other and same_size and min(one.straight, other.straight) >= PAIR_STRAIGHT and max(one.early, other.early) <= CLEAN_EARLY:
        return one, other
    one, other = (s if s and s.straight >= ALONE_STRAIGHT and s.early <= CLEAN_EARLY else None for s in (one, other))
    # The thinner of two may be the foot of a line of text inside a bar as thick as the other.
    if one and (other is None or other.thickness < one.thickness):
        other = _vouched(reverse, one) or other
    elif other:
        one = _vouched(lines, other) or one
    return one, other


def _vouched(lines: Sequence[np.ndarray], opposite: _Side) -> _Side | None:
    """A bar as thick as the certain one opposite: black throughout, or black but for text that keeps clear of its edge."""
    slack = _tolerance(len(lines[0]))
    clear = opposite.thickness - slack - 2
    bright = np.stack([line[:clear] > opposite.black for line in lines])
    share = bright.mean(axis=(1, 2))
    if clear < 1 or share.max() > TEXT_SHARE:
        return None
    # Half of the time is enough for the gap: a line of text may hang over the edge for a while.
    gap_dark = np.median(bright[:, max(0, clear - 2) :].any(axis=1), axis=0) < 0.5
    joined = _joined(lines)
    shows_edge = gap_dark & (joined[opposite.thickness : opposite.thickness + slack + 2] > opposite.black).any(axis=0)
    if share.max() > BLACK_SHARE and shows_edge.mean() < TEXT_STRAIGHT:
        return None
    thickness = opposite.thickness
    if shows_edge.mean() > MIN_LIT_POINTS:
        thickness, _ = _edge(joined[:, shows_edge], clear, 2 * slack, opposite.level)
    return _Side(thickness, 0.0, float(share.max()), opposite.level, opposite.black, opposite.contrast)


def _tolerance(num_lines: int) -> int:
    return max(2, round(SAME_SIZE_SHARE * num_lines))
