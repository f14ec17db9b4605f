"""Still pictures: how much a clip changes at all, and slideshows.

still       Luma averaged over patches of 12 x 12 px, one every 4 px, every sample held against the median of all over time; the change is
            what the fourth most different patch differs by, at any time. What grain, sensor and codec change cancels out inside a
            patch (at most 4.8 levels with grain of up to 3 levels at CRF 35, 5.7 in a title that is coded anew), a small mover
            does not (10 levels where a hand rests before a fixed camera, 7 in a lively patch of 0.4 % of a 720p picture).
slideshow   Pictures that are held (thumbs do not move, and 1 % of the blocks of grid and pairs leave their median over time by less than
            `HELD_CHANGE`; one sample in ten is left out, for the transitions) or that a similarity explains (`_ken_burns`),
            one after the other, each unlike the one before, with a cut or a transition of at most 2.5 s between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from curate.samples import MotionFrames, Track

STILL_BLOCK = 4  # px of the grid luma
PATCH = 3, 3  # blocks
HELD_CHANGE = 10.0  # levels
REACH_NS = 160_000_000
MOVES = 1.2  # levels: mean change of a thumb within the reach; a dissolve of 2 s between pictures 15 levels apart
MIN_HELD_NS = 390_000_000
MAX_TRANSITION_NS = 2_500_000_000
OTHER_PICTURE, MAX_LIKENESS = 8.0, 0.8  # levels: mean difference of two thumbs; and their correlation


def still_change(lumas: Sequence[np.ndarray]) -> float:
    """Levels by which the fourth most different patch of uint8 (H, W) samples leaves its median over time, in the worst of them."""
    stack = np.stack([blocks(luma.astype(np.float32)) for luma in lumas])
    middle = np.partition(stack, len(stack) // 2, axis=0)[len(stack) // 2]
    return max(_fourth(np.abs(cv2.blur(sample - middle, PATCH))) for sample in stack)


def _fourth(away: np.ndarray) -> float:
    place = max(0, away.size - 4)
    return float(np.partition(away.ravel(), place)[place])


def held_change(lumas: Sequence[np.ndarray]) -> float:
    """Levels by which 1 % of the blocks of uint8 (H, W) samples leave their median over time; one sample in ten is left out."""
    stack = np.stack([blocks(luma) for luma in lumas]).reshape(len(lumas), -1)
    middle = np.partition(stack, len(stack) // 2, axis=0)[len(stack) // 2]
    away = np.stack([cv2.absdiff(sample, middle).ravel() for sample in stack])
    place = away.shape[1] - 1 - away.shape[1] // 100
    change = np.sort(np.partition(away, place, axis=1)[:, place])
    return float(change[-1 - len(change) // 10])


def blocks(luma: np.ndarray) -> np.ndarray:
    """Means of blocks of `STILL_BLOCK` squared, in the type of the luma; what is left over at the right and below is left out."""
    height, width = (max(1, side // STILL_BLOCK) for side in luma.shape)
    whole = luma[: height * STILL_BLOCK, : width * STILL_BLOCK]
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture that is shown for a while: frames `first` to `last` of the track, both inside."""

    first: int
    last: int


def held_pictures(track: Track, motion: MotionFrames) -> list[Shown]:
    """Stretches of 0.4 s and more in which nothing moves: not in the thumbs from frame to frame, nor in 1 % of the blocks."""
    times = track.times_ns
    if len(track.thumbs) < 3:
        return []
    thumbs = track.thumbs.reshape(len(times), -1).astype(np.int16)
    after = np.minimum(np.searchsorted(times, times + REACH_NS), len(times) - 1)
    moves = np.abs(thumbs[after] - thumbs).mean(axis=1) > MOVES
    stops = np.flatnonzero(np.diff(np.concatenate(([True], moves, [True])).astype(np.int8)))
    found = []
    for first, end in zip(stops[::2], stops[1::2], strict=True):
        last = int(after[end - 1])
        lasts_ns = (int(times[last + 1]) if last + 1 < len(times) else track.end_ns) - int(times[first])
        if lasts_ns < MIN_HELD_NS or np.abs(thumbs[last] - thumbs[first]).mean() > 2 * MOVES:
            continue
        lumas = lumas_between(motion, int(times[first]), int(times[last]))
        if len(lumas) >= 2 and held_change(lumas) < HELD_CHANGE:
            found.append(Shown(int(first), last))
    return found


def lumas_between(motion: MotionFrames, first_ns: int, last_ns: int) -> list[np.ndarray]:
    """Every low-resolution picture there is from the one time to the other."""
    seen = {int(time_ns): luma for time_ns, luma in zip(motion.grid_times_ns, motion.grid, strict=True)}
    for pair in motion.pairs:
        seen |= {pair.time0_ns: pair.luma0, pair.time1_ns: pair.luma1}
    return [seen[time_ns] for time_ns in sorted(seen) if first_ns <= time_ns <= last_ns]


def shown_in_runs(track: Track, spans_ns: Sequence[tuple[int, int]]) -> list[Shown]:
    """Frames of stretches given by their first and last time."""
    found = []
    for first_ns, last_ns in spans_ns:
        first, end = (int(i) for i in np.searchsorted(track.times_ns, (first_ns, last_ns + 1)))
        if end > first:
            found.append(Shown(first, end - 1))
    return found


def slideshow_share(track: Track, shown: Sequence[Shown]) -> float:
    """Share of the time in which one of several pictures is shown that take turns."""
    times = np.append(track.times_ns, track.end_ns)
    shown = sorted(shown, key=lambda one: (one.first, one.last))
    in_turn = set()
    for before, after in pairwise(shown):
        gap_ns = int(times[after.first]) - int(times[before.last + 1])
        if gap_ns <= MAX_TRANSITION_NS and _is_other(track.thumbs[before.last], track.thumbs[after.first]):
            in_turn |= {before, after}
    is_shown = np.zeros(len(track.times_ns), bool)
    for one in in_turn:
        is_shown[one.first : one.last + 1] = True
    return min(1.0, float(np.diff(times)[is_shown].sum()) / max(1, int(times[-1] - times[0])))


def _is_other(old: np.ndarray, new: np.ndarray) -> bool:
    """Whether two thumbs show two pictures, and not one that has moved or changed its brightness."""
    a, b = (thumb.astype(np.float32).ravel() for thumb in (old, new))
    if np.abs(a - b).mean() < OTHER_PICTURE:
        return False
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b) < MAX_LIKENESS * float(np.sqrt((a @ a) * (b @ b)))
