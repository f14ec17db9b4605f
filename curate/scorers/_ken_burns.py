"""A picture that stands still under a camera that only seems to move: pan, zoom and turn over a photograph (the "Ken Burns effect").

One similarity (shift, turn, zoom) explains everything between any two moments, and moves smoothly. Grid samples are aligned with the first
of their run (`_similarity`), and the run goes on while the aligned picture differs by less than a re-encoded still does: in blocks of
4 x 4 px, the difference that 1 % of them exceed. Blocks that stay where they were (a logo, a caption) are let pass. Anything
that a real camera sees breaks it within a second or two: what is near moves past what is far, leaves and people live.
A run whose steps jump (a hand-held camera before a poster) is not smooth, one that goes nowhere is a still; neither counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from curate.clip import NS_PER_S
from curate.scorers._similarity import IDENTITY, MIN_OVERLAP, Anchor, Warp, compose, corner_shift, inverted, matrix, pyramid
from curate.scorers._still import STILL_BLOCK, blocks

MIN_RUN_NS = 900_000_000
MIN_PATH = 0.012  # short sides that a corner moves in a run
MAX_JERK = 0.5  # of the usual step
NOISE_FLOOR, NOISE_SPREAD = 4.0, 3.5  # levels, ratio
FIXED_CHANGE, MAX_OVERLAY = 4.0, 0.06  # levels; of the picture
USUAL_CONTRAST = 40.0  # levels: standard deviation of a picture
KEPT_OVERLAP = 0.6
NUM_TRIES = 4  # anchors in a row that nothing fits: real footage


@dataclass(frozen=True, slots=True)
class Run:
    """Samples `first` to `last` that one picture under one smooth similarity explains; `path` is in short sides."""

    first: int
    last: int
    path: float


def ken_burns_runs(grid: Sequence[np.ndarray], times_ns: np.ndarray, max_change: float) -> list[Run]:
    """Runs in uint8 (H, W) grid samples; `max_change` bounds the levels that 0.5 % of the blocks of an aligned sample exceed."""
    found: list[Run] = []
    pyramids: dict[int, list[np.ndarray]] = {}
    start, failed = 0, 0
    while start < len(grid) - 1 and failed < NUM_TRIES:
        steps = _steps_from(start, grid, pyramids, max_change)
        run = _run(start, steps, grid[start].shape)
        if run is not None and times_ns[run.last] - times_ns[run.first] >= MIN_RUN_NS:
            found.append(run)
        failed = 0 if steps else failed + 1
        start += max(1, len(steps))
    return found


def _steps_from(start: int, grid: Sequence[np.ndarray], pyramids: dict[int, list[np.ndarray]], max_change: float) -> list[Warp]:
    """What takes each sample of a run to the next, as far as the picture of sample `start` goes."""
    steps: list[Warp] = []
    anchor, anchor_at, placed = Anchor(grid[start]), start, IDENTITY
    at = start + 1
    while at < len(grid):
        guess = compose(placed, steps[-1]) if steps else placed
        if anchor_at < at - 1 and _overlap(guess, grid[at].shape) < KEPT_OVERLAP:
            # The way is long: go on from the sample before, which belongs to the run.
            anchor, anchor_at, placed, guess = Anchor(grid[at - 1]), at - 1, IDENTITY, steps[-1]
        if at not in pyramids:
            pyramids[at] = pyramid(grid[at])
        warp = anchor.align(pyramids[at], guess)
        if warp is None or not is_same(grid[anchor_at], grid[at], warp, max_change):
            break
        steps.append(compose(inverted(placed), warp))
        placed, at = warp, at + 1
    return steps


def _overlap(warp: Warp, shape: tuple[int, ...]) -> float:
    """Share of the first picture that lies inside the second, about."""
    size = shape[1], shape[0]
    return float(_inside(matrix(warp, size), (9, 16), size, (size[0] / 16, size[1] / 9)).mean())


def is_same(first: np.ndarray, second: np.ndarray, warp: Warp, max_change: float) -> bool:
    """Whether two samples differ by no more than a codec does to one picture twice, `second` brought to `first`.

    0.5 % of the blocks may exceed `max_change` at most, less where most of the picture differs by little or has little contrast.
    """
    size = first.shape[1], first.shape[0]
    transform = matrix(warp, size)
    seen = cv2.warpAffine(second, transform, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    here = blocks(first)
    moved, fixed = cv2.absdiff(here, blocks(seen)), cv2.absdiff(here, blocks(second))
    contrast = min(1.0, float(cv2.meanStdDev(here)[1][0, 0]) / USUAL_CONTRAST)
    away = _without_overlay(cv2.min(moved, fixed), moved, fixed, max_change * contrast)
    inside = away[_inside(transform, here.shape, size, (STILL_BLOCK, STILL_BLOCK))]
    if len(inside) < MIN_OVERLAP * away.size:
        return False
    place = len(inside) - 1 - len(inside) // 200
    most, usual = float(np.partition(inside, place)[place]), float(inside.mean())
    return most <= min(max_change * contrast, NOISE_FLOOR + NOISE_SPREAD * usual)


def _without_overlay(away: np.ndarray, moved: np.ndarray, fixed: np.ndarray, max_change: float) -> np.ndarray:
    """`away` with the rim of what does not move with the picture left out, if that is small: a block there shows some of both."""
    overlay = ((moved > max_change) & (fixed <= FIXED_CHANGE)).astype(np.uint8)
    rim = cv2.dilate(overlay, np.ones((3, 3), np.uint8))
    if overlay.any() and cv2.countNonZero(rim) <= MAX_OVERLAY * rim.size:
        away[rim > 0] = 0
    return away


def _inside(transform: np.ndarray, shape: tuple[int, ...], size: tuple[int, int], block: tuple[float, float]) -> np.ndarray:
    """Which of a picture's blocks, (rows, columns) of them, lie inside the other picture."""
    x, y = ((np.arange(num) + 0.5) * side - 0.5 for num, side in zip(shape[::-1], block, strict=True))
    u = transform[0, 0] * x + transform[0, 1] * y[:, None] + transform[0, 2]
    v = transform[1, 0] * x + transform[1, 1] * y[:, None] + transform[1, 2]
    margin = STILL_BLOCK
    return (u >= margin) & (u <= size[0] - 1 - margin) & (v >= margin) & (v <= size[1] - 1 - margin)


def _run(first: int, steps: list[Warp], shape: tuple[int, int]) -> Run | None:
    """None where the picture goes nowhere or jumps."""
    if not steps:
        return None
    aspect = shape[1] / shape[0]
    lengths = np.array([corner_shift(step, aspect) for step in steps])
    if lengths.sum() < MIN_PATH:
        return None
    if len(steps) > 2:
        jerk = np.array([corner_shift(compose(inverted(a), b), aspect) for a, b in pairwise(steps)])
        if np.median(jerk) > MAX_JERK * np.median(lengths):
            return None
    return Run(first, first + len(steps), float(lengths.sum()))


def ken_burns_share(runs: Sequence[Run], times_ns: np.ndarray, span_s: float) -> float:
    """Share of the clip's time inside runs; a run is taken to last half a step longer at either end of the clip's samples."""
    covered_ns = sum(int(times_ns[run.last] - times_ns[run.first]) for run in runs)
    step_ns = int(np.median(np.diff(times_ns))) if len(times_ns) > 1 else 0
    return min(1.0, (covered_ns + step_ns * len(runs)) / NS_PER_S / span_s)
