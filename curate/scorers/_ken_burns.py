"""A picture that stands still under a camera that only seems to move: pan, zoom and turn over a photograph (the "Ken Burns effect").

One similarity (shift, turn, zoom) explains everything between any two moments, and moves smoothly. Grid samples are aligned with the first
of their run (`_similarity`), and the run goes on while the aligned picture differs by less than a re-encoded still does. What a codec and
a resampler change in a block of 4 x 4 px grows with the root of the slope around it: 99.5 % of the blocks of moved photographs lie below
1.3 (1 + sqrt(levels per px)) over slopes from 0 to 40, so differences are taken in that unit (`_Here.usual`). Bounded are
the most different 0.5 % of the blocks, absolutely and against their mean (a codec changes a little everywhere, life much in one place),
and the mean of the worst patch. What stays where it was (a logo, a caption) is let pass. Anything that a real camera
sees breaks it within a second or two: what is near moves past what is far, leaves and people live.
A run is none where its steps jump (a hand-held camera before a poster) or lead nowhere (a still), or where the similarity explains little
of what changes (something moves before a fixed camera). Steps of whole pixels, as some editors make, are no jumps if they lead on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import cv2
import numpy as np

from curate.clip import NS_PER_S
from curate.media.standing import magnitude
from curate.scorers._similarity import IDENTITY, MIN_OVERLAP, Anchor, Warp, compose, corner_shift, inverted, matrix, pyramid
from curate.scorers._still import STILL_BLOCK, blocks

MIN_RUN_NS = 900_000_000
MIN_PATH = 0.014  # short sides that a corner moves in a run
MAX_JERK, MAX_JERK_PX, MIN_STRAIGHT = 0.5, 2.0, 0.6  # of the usual step; px of the grid; of the path that leads on
MAX_SPREAD, LEAST_MEAN = 5.0, 0.1  # most different blocks against the mean; times the usual
PATCH, PATCH_WEIGHT = (7, 7), 1.9  # blocks; a patch may differ by half as much as single blocks
MAX_LEFT = 0.4  # of what changes: left when the picture is moved back
FIXED_CHANGE, MAX_OVERLAY = 1.0, 0.06  # times the usual; of the picture
AROUND = np.ones((3, 3), np.uint8)
KEPT_OVERLAP = 0.6
NUM_TRIES = 4  # anchors in a row that nothing fits: real footage


@dataclass(frozen=True, slots=True)
class _Step:
    """What takes a sample of a run to the next; `left` is the share of what has changed since the anchor that the warp does not explain."""

    warp: Warp
    left: float


@dataclass(frozen=True, slots=True)
class Run:
    """Samples `first` to `last` that one picture under one smooth similarity explains; `path` is in short sides."""

    first: int
    last: int
    path: float


def ken_burns_runs(grid: Sequence[np.ndarray], times_ns: np.ndarray, max_change: float) -> list[Run]:
    """Runs in uint8 (H, W) grid samples; `max_change` bounds what 0.5 % of the blocks of an aligned sample exceed, times the usual."""
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


def _steps_from(start: int, grid: Sequence[np.ndarray], pyramids: dict[int, list[np.ndarray]], max_change: float) -> list[_Step]:
    """What takes each sample of a run to the next, as far as the picture of sample `start` goes."""
    steps: list[_Step] = []
    anchor, here, anchor_at, placed = Anchor(grid[start]), _Here(grid[start]), start, IDENTITY
    at = start + 1
    while at < len(grid):
        guess = compose(placed, steps[-1].warp) if steps else placed
        if anchor_at < at - 1 and _overlap(guess, grid[at].shape) < KEPT_OVERLAP:
            # The way is long: go on from the sample before, which belongs to the run.
            anchor, here, anchor_at, placed, guess = Anchor(grid[at - 1]), _Here(grid[at - 1]), at - 1, IDENTITY, steps[-1].warp
        if at not in pyramids:
            pyramids[at] = pyramid(grid[at])
        warp = anchor.align(pyramids[at], guess)
        left = None if warp is None else here.left_of(grid[at], warp, max_change)
        if warp is None or left is None:
            break
        steps.append(_Step(compose(inverted(placed), warp), left))
        placed, at = warp, at + 1
    return steps


def _overlap(warp: Warp, shape: tuple[int, ...]) -> float:
    """Share of the first picture that lies inside the second, about."""
    size = shape[1], shape[0]
    return float(_inside(matrix(warp, size), (9, 16), size, (size[0] / 16, size[1] / 9)).mean())


class _Here:
    """A sample as others are held against it: uint8 (H, W) luma, its blocks, and the levels that a codec may change in each."""

    def __init__(self, luma: np.ndarray) -> None:
        self.size = luma.shape[1], luma.shape[0]
        self.blocks = blocks(luma.astype(np.float32))
        slope = magnitude(*(cv2.Sobel(luma, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1))))
        self.usual = 1 + np.sqrt(cv2.dilate(blocks(slope), AROUND))

    def left_of(self, other: np.ndarray, warp: Warp, max_change: float) -> float | None:
        """What is left of the change when the warp brings another sample here, as a share; None where a codec alone would leave less."""
        transform = matrix(warp, self.size)
        seen = cv2.warpAffine(other, transform, self.size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        moved, fixed = (cv2.absdiff(self.blocks, blocks(luma.astype(np.float32))) / self.usual for luma in (seen, other))
        is_inside = _inside(transform, moved.shape, self.size, (STILL_BLOCK, STILL_BLOCK))
        overlay = (moved > max_change) & (fixed <= FIXED_CHANGE) & is_inside
        away = _without_overlay(np.minimum(moved, fixed) * is_inside, overlay, transform)
        inside = away[is_inside]
        if len(inside) < MIN_OVERLAP * away.size:
            return None
        place = len(inside) - 1 - len(inside) // 200
        most, mean = float(np.partition(inside, place)[place]), float(inside.mean())
        if most > min(max_change, MAX_SPREAD * (mean + LEAST_MEAN)):
            return None
        if PATCH_WEIGHT * float(cv2.blur(away, PATCH)[is_inside].max()) > max_change:
            return None
        return float(moved[is_inside].mean()) / max(float(fixed[is_inside].mean()), 1e-6)


def _without_overlay(away: np.ndarray, overlay: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Differences by block, but 0 where something does not move with the picture, if it is small, and where the warp brings it.

    Its rim counts as well: a block there shows some of both.
    """
    rim = cv2.dilate(overlay.astype(np.uint8), AROUND)
    if overlay.any() and cv2.countNonZero(rim) <= MAX_OVERLAY * rim.size:
        turn, middle = transform[:, :2], np.full(2, (STILL_BLOCK - 1) / 2)
        by_block = np.hstack([turn, ((turn @ middle + transform[:, 2] - middle) / STILL_BLOCK)[:, None]])
        brought = cv2.warpAffine(rim, by_block, rim.shape[::-1], flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
        away[(rim > 0) | (brought > 0)] = 0
    return away


def _inside(transform: np.ndarray, shape: tuple[int, ...], size: tuple[int, int], block: tuple[float, float]) -> np.ndarray:
    """Which of a picture's blocks, (rows, columns) of them, lie inside the other picture."""
    x, y = ((np.arange(num) + 0.5) * side - 0.5 for num, side in zip(shape[::-1], block, strict=True))
    u = transform[0, 0] * x + transform[0, 1] * y[:, None] + transform[0, 2]
    v = transform[1, 0] * x + transform[1, 1] * y[:, None] + transform[1, 2]
    margin = STILL_BLOCK
    return (u >= margin) & (u <= size[0] - 1 - margin) & (v >= margin) & (v <= size[1] - 1 - margin)


def _run(first: int, steps: list[_Step], shape: tuple[int, int]) -> Run | None:
    """None where the picture goes nowhere or jumps, and where something else moves more than it does."""
    if not steps:
        return None
    aspect = shape[1] / shape[0]
    lengths = np.array([corner_shift(step.warp, aspect) for step in steps])
    path = float(lengths.sum())
    if path < MIN_PATH or min(step.left for step in steps) > MAX_LEFT:
        return None
    whole = reduce(compose, [step.warp for step in steps])
    if corner_shift(whole, aspect) < MIN_STRAIGHT * path:
        return None
    if len(steps) > 2:
        jerk = np.array([corner_shift(compose(inverted(a.warp), b.warp), aspect) for a, b in pairwise(steps)])
        if np.median(jerk) > max(MAX_JERK * np.median(lengths), MAX_JERK_PX / min(shape)):
            return None
    return Run(first, first + len(steps), path)


def ken_burns_share(runs: Sequence[Run], times_ns: np.ndarray, span_s: float) -> float:
    """Share of the clip's time inside runs; a run is taken to last half a step longer at either end of the clip's samples."""
    covered_ns = sum(int(times_ns[run.last] - times_ns[run.first]) for run in runs)
    step_ns = int(np.median(np.diff(times_ns))) if len(times_ns) > 1 else 0
    return min(1.0, (covered_ns + step_ns * len(runs)) / NS_PER_S / span_s)
