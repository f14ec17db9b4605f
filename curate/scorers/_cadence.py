"""Which pictures of a clip are new: padded frame rates, pulldown, blended frames, and pictures that freeze.

Everything is read from the frame track: `is_duplicate` says that a frame shows the picture before it, `energy` and `energy2` the mean
squared difference of luma to the frame before and to the one before that (see `curate.media.track`).

padding     Repeats that hold a picture for less than 250 ms, or for up to three frames, pad a frame rate.
pulldown    24 pictures a second shown in 30 (one frame in five repeats) or in 60 (runs of 2, 3, 2, 3): the pattern of repeats comes back
            after five frames and holds one repeat, or three that do not all touch.
blends      With E1, E2 and E12 the squared distances of a frame from the one before, from the one after and between those two, the
            frame lies h^2 = E1 - ((E1 + E12 - E2) / 2)^2 / E12 off the straight line through its neighbours. A mix of the two lies on
            it: h^2 / E12 is near 0, while an edge that moves makes a right angle (1/4). Pictures that move slowly or are blurred lie
            near the line all of the time; mixed frames take turns with new pictures, which do not. A rate raised to less than twice
            leaves no frame between two mixes of the same pictures: it does not show, nor do frames interpolated along the motion.
            Encoders mix slow pictures themselves at low quality: the limits are set so that few of those count.
freeze      A picture held for a while between frames that move: the motion stops at once, not slowly, and its energy falls to next to
            nothing. A codec's new start (one frame that differs, from the same picture) does not end it.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from curate.clip import NS_PER_S
from curate.samples import Track

FREEZE_NS = 250_000_000  # as in `curate.samples.Pair`
MAX_PADDED = 3  # frames: however slow they come, as few show one picture to fill a rate
PULLDOWN_PERIOD = 5  # frames
PULLDOWN_CYCLES = 3
EDGE_FRAMES = 4
EDGE_ENERGY, EDGE_RATIO = 3.0, 8.0  # squared levels: least motion beside a freeze; of what the held picture changes
MAX_HELD_ENERGY, MAX_HELD_RATIO = 3.0, 100.0  # squared levels; fast pictures leave more to refine
QUIET_BEFORE, QUIET_AFTER = 6, 4  # steps around the one by which a codec starts anew
MIN_ABRUPT = 0.4  # motion in the last two steps, as a share of the steps before
SAME_PICTURE = 1.5  # levels: mean difference of two thumbs
PAD_CONTRAST, PAD_ENERGY = 3.0, 1.0  # of the repeat's own energy; squared levels


def duration_s(track: Track) -> float:
    return max(1, int(track.end_ns) - int(track.times_ns[0])) / NS_PER_S


def repeats(track: Track) -> tuple[float, float, float]:
    """(share of frames that pad the frame rate, share of time that is frozen, distinct frames per second)."""
    is_new = ~track.is_duplicate
    is_new[0] = True
    starts = np.flatnonzero(is_new)
    lengths = np.diff(starts, append=len(is_new))
    held_ns = np.diff(track.times_ns[starts], append=track.end_ns)
    frozen = (held_ns >= FREEZE_NS) & (lengths > MAX_PADDED)
    padding = int(np.sum((lengths - 1)[~frozen & _stands_out(track, starts, lengths)]))
    seconds = duration_s(track)
    return padding / len(is_new), min(1.0, float(held_ns[frozen].sum()) / NS_PER_S / seconds), len(starts) / seconds


def structure_energy(track: Track) -> np.ndarray:
    """`energy` less what a change of light alone makes of it; 0 for the first frame.

    Where luma goes a * L + b the mean squared difference is (change of mean)^2 + (change of deviation)^2, exactly.
    """
    mean, deviation = (np.asarray(values, np.float64) for values in (track.luma_mean, track.luma_std))
    light = np.diff(mean, prepend=mean[0]) ** 2 + np.diff(deviation, prepend=deviation[0]) ** 2
    energy = np.maximum(np.nan_to_num(track.energy.astype(np.float64)) - light, 0.0)
    energy[0] = 0.0
    return energy


def _stands_out(track: Track, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Which runs of one picture lie between steps that are greater by far than those inside: where all is slow, nothing is padded."""
    if len(track.energy) != len(track.times_ns):
        return np.ones(len(starts), bool)
    energy = np.append(structure_energy(track), np.inf)
    energy[0] = np.inf
    found = np.zeros(len(starts), bool)
    for i in np.flatnonzero(lengths > 1):
        first, end = int(starts[i]), int(starts[i] + lengths[i])
        beside = min(energy[first], energy[end])
        found[i] = beside >= max(PAD_ENERGY, PAD_CONTRAST * float(np.median(energy[first + 1 : end])))
    return found


def pulldown_share(is_duplicate: np.ndarray) -> float:
    """Share of frames inside stretches of three cycles or more that repeat frames as 24 in 30 or 24 in 60 pictures a second does."""
    num, period = len(is_duplicate), PULLDOWN_PERIOD
    length = period * PULLDOWN_CYCLES
    if num < length:
        return 0.0
    windows = np.lib.stride_tricks.sliding_window_view(is_duplicate.astype(np.int8), length)
    cycles = windows.reshape(len(windows), PULLDOWN_CYCLES, period)
    per_place = cycles.sum(axis=1)
    # Neither can a run of four pass for pulldown, nor two single repeats.
    regular = ((per_place == 0) | (per_place == PULLDOWN_CYCLES)).all(axis=1)
    pattern = cycles[:, 0]
    neighbours = (pattern * np.roll(pattern, 1, axis=1)).sum(axis=1)
    count = pattern.sum(axis=1)
    fits = regular & ((count == 1) | ((count == 3) & (neighbours == 1)))
    covered = np.zeros(num, bool)
    for start in np.flatnonzero(fits):
        covered[start : start + length] = True
    return float(covered.mean())


@dataclass(frozen=True, slots=True)
class BlendLimits:
    """`off_line` bounds h^2 / E12 of a mixed frame, `new` is the least of new pictures, `energy` the least E12 in squared levels."""

    off_line: float = 0.02
    new: float = 0.13
    energy: float = 10.0
    least_weight: float = 0.12


BLEND = BlendLimits()


def off_line(track: Track) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(h^2 / E12, place on the line in 0..1, E12) of the frames 1 to N - 2, each by its two neighbours."""
    e1, e2, e12 = (np.asarray(e, np.float64) for e in (track.energy[1:-1], track.energy[2:], track.energy2[2:]))
    e12 = np.maximum(np.nan_to_num(e12), 1e-6)
    along = (np.nan_to_num(e1) + e12 - np.nan_to_num(e2)) / 2
    return np.maximum(np.nan_to_num(e1) - along**2 / e12, 0.0) / e12, along / e12, e12


def blend_share(track: Track) -> float:
    """Share of the frames that are mixes of their neighbours."""
    if len(track.energy) < 6:
        return 0.0
    off, place, e12 = off_line(track)
    moves = e12 >= BLEND.energy
    mixed = moves & (off < BLEND.off_line) & (place > BLEND.least_weight) & (place < 1 - BLEND.least_weight)
    if not mixed.any():
        return 0.0
    # The farthest of the frames nearby: a new picture comes at least once in five frames, or this is a dissolve.
    padded = np.pad(np.where(moves, off, 0.0), 4)
    nearby = np.lib.stride_tricks.sliding_window_view(padded, 9).max(axis=1)
    mixed &= nearby >= BLEND.new
    return float(mixed.sum()) / len(track.energy)


def freeze_s(track: Track) -> float:
    """Seconds of the longest picture that is held between frames that move; 0 where there is none."""
    if len(track.energy) < 2 * EDGE_FRAMES:
        return 0.0
    steps = structure_energy(track)[1:]  # from frame i to i + 1
    times = np.append(track.times_ns, track.end_ns)
    held_ns = max(_longest_hold_ns(steps, track.thumbs, times), _longest_hold_ns(steps[::-1], track.thumbs[::-1], times[-1] - times[::-1]))
    return held_ns / NS_PER_S


def _longest_hold_ns(steps: np.ndarray, thumbs: np.ndarray, times_ns: np.ndarray) -> int:
    """The longest hold that begins after motion; read backwards, the longest that ends in it. With motion on both sides it needs both."""
    longest_ns, free = 0, EDGE_FRAMES
    quiet = np.flatnonzero(steps <= max(MAX_HELD_ENERGY, float(steps.max()) / MAX_HELD_RATIO))
    for at in quiet.tolist():
        if at < free:
            continue
        limit = _held_limit(steps[max(0, at - 2 * EDGE_FRAMES) : at])
        end = _hold_end(steps, thumbs, at, limit) if limit else at
        free = max(end, at + 1)
        held_ns = int(times_ns[end + 1] - times_ns[at])
        if end > at and held_ns > max(longest_ns, FREEZE_NS):
            inside, outside = float(np.median(steps[at:end])), np.concatenate((steps[:at], steps[end:]))
            # Where most of the clip is as quiet, somebody only passed by.
            stands_out = float(np.quantile(outside, 0.75)) >= EDGE_RATIO * inside
            after = steps[end : end + 2 * EDGE_FRAMES][::-1]
            if stands_out and (len(after) < EDGE_FRAMES or _held_limit(after) >= inside):
                longest_ns = held_ns
    return longest_ns


def _held_limit(before: np.ndarray) -> float:
    """The energy below which a picture stands still after these steps; 0 where they do not move, or come to rest by themselves."""
    motion = sorted(before[-EDGE_FRAMES:].tolist())[-2]  # a cut alone is no motion
    if motion < EDGE_ENERGY or (len(before) > 2 and before[-2:].max() < MIN_ABRUPT * float(np.median(before[:-2]))):
        return 0.0
    return min(motion / EDGE_RATIO, max(MAX_HELD_ENERGY, motion / MAX_HELD_RATIO))


def _hold_end(steps: np.ndarray, thumbs: np.ndarray, at: int, limit: float) -> int:
    """The first step from `at` on that changes the picture; a codec that starts anew changes it once, for long, and not for good."""
    end, begun = at, at
    while end < len(steps):
        if steps[end] > limit:
            after = steps[end + 1 : end + 1 + QUIET_AFTER]
            goes_on = end - begun >= QUIET_BEFORE and len(after) > 0 and bool((after <= limit).all())
            if not goes_on or cv2.norm(thumbs[end], thumbs[end + 2], cv2.NORM_L1) > SAME_PICTURE * thumbs[0].size:
                break
            begun = end
        end += 1
    return end
