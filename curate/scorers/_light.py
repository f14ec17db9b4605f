"""What the light does: black, fades, flashes and strobes, from mean and deviation of luma in every frame.

black       a frame is black where mean + 2 deviations of luma lie below `black_level` (by Chebyshev at least 3/4 of its pixels do, in
            practice 98 %: the share that ffmpeg's `blackdetect` asks for).
fade        A fade mixes the picture with black or white: luma goes a * L, or 255 - a * (255 - L), with a along a straight line in time.
            A stretch counts where the deviation of luma does so in step with its mean (or 255 - mean), at a constant ratio, even if it
            is cut off by an end of the clip (a whole one would take under 4 s, and the picture stays the same); and where the mean
            itself runs straight into black or white, which text or a logo that stays on the screen does not spoil. Either has to
            change by `fade_depth` of its greatest value.
flash       mean luma leaves its level by `flash_levels` for at most 170 ms and comes back (70 % of the way or more); 85 % or more of the
            picture goes with it: flashes measured 93 to 100 %, what moves past a lens 51 to 76 %. Where luma is restless (old film) it
            takes six times its usual step, but no more than 48 levels, so that a strobe counts.
strobe      the most flashes inside any one second. More than three are the general flash limit of WCAG 2.3.1 and of ITU-R BT.1702.
"""

from itertools import pairwise

import numpy as np

from curate.clip import NS_PER_S
from curate.samples import Track
from curate.scorers._cadence import duration_s

FLASH_MAX_NS = 170_000_000
MIN_FADE_FRAMES, MIN_FADE_S = 4, 0.12
MAX_FADE_MISFIT = 0.08  # of the run's height: root mean square distance from the straight line
MIN_LIKENESS, MIN_HALF_LIKENESS = 0.7, 0.4  # correlation of two thumbs: of part of a fade, and of half of one
MAX_PARTIAL_FADE_S = 4.0  # what a fade of which only a part is seen would take from end to end
FLAT_DEVIATION = 4.0  # levels: below it a picture has no contrast to fade
NEAR_BLACK, NEAR_WHITE = 12.0, 235.0  # levels
RESTLESS_FACTOR, MAX_RESTLESS_LEVELS, RESTLESS_NS = 6.0, 48.0, 500_000_000
MIN_SAME_WAY = 0.85


def black_share(track: Track, black_level: float) -> float:
    """Share of frames whose luma lies below `black_level`."""
    return float(np.mean(track.luma_mean + 2.0 * track.luma_std < black_level))


def flashes(track: Track, flash_levels: float) -> np.ndarray:
    """int64 times in ns at which flashes begin: mean luma leaves its level by `flash_levels` for at most 170 ms and comes back."""
    mean, times = track.luma_mean.astype(np.float64), track.times_ns
    step = np.abs(np.diff(mean, prepend=mean[0]))
    begun: list[int] = []
    last_end = 0
    for start in np.flatnonzero(step >= flash_levels):
        end = _returns(mean, times, int(start)) if start > last_end else None
        if end is None:
            continue
        low, high = np.searchsorted(times, (times[start] - RESTLESS_NS, times[start] + RESTLESS_NS))
        stands_out = step[start] >= min(RESTLESS_FACTOR * float(np.median(step[low:high])), MAX_RESTLESS_LEVELS)
        if stands_out and _same_way(track, int(start)) >= MIN_SAME_WAY:
            begun.append(int(times[start]))
            last_end = end
    return np.array(begun, np.int64)


def strobe_rate(begun_ns: np.ndarray) -> float:
    """The most flashes that begin inside one second."""
    ends = np.searchsorted(begun_ns, begun_ns + NS_PER_S)
    return float((ends - np.arange(len(begun_ns))).max()) if len(begun_ns) else 0.0


def _same_way(track: Track, frame: int) -> float:
    """Share of the picture that a frame makes brighter, or darker, as its mean becomes; 1 where there are no thumbs to tell."""
    if len(track.thumbs) != len(track.times_ns):
        return 1.0
    before, after = (track.thumbs[i].astype(np.float32) for i in (frame - 1, frame))
    step = float(track.luma_mean[frame]) - float(track.luma_mean[frame - 1])
    goes_along = (after - before) * np.sign(step) > 0.25 * abs(step)
    is_at_end = after > NEAR_WHITE if step > 0 else after < NEAR_BLACK
    return float(np.mean(goes_along | is_at_end))


def _returns(mean: np.ndarray, times_ns: np.ndarray, start: int) -> int | None:
    """The frame at which the mean is back where it was before frame `start`, None where that takes too long."""
    away = abs(mean[start] - mean[start - 1])
    for end in range(start + 1, len(mean)):
        if times_ns[end] - times_ns[start] > FLASH_MAX_NS:
            return None
        if abs(mean[end] - mean[start - 1]) <= 0.3 * away:
            return end
    return None


def fade_share(track: Track, fade_depth: float) -> float:
    """Share of the clip's time inside fades from or to black or white."""
    seconds = (track.times_ns - track.times_ns[0]) / NS_PER_S
    deviation, mean = track.luma_std.astype(np.float64), track.luma_mean.astype(np.float64)
    is_fading = np.zeros(len(seconds), bool)  # between a frame and the next
    for signal, levels in ((deviation, (mean, 255.0 - mean)), (mean, ()), (255.0 - mean, ())):
        for start, end in pairwise(_turning_points(signal)):
            run = _steady_part(signal, seconds, start, end)
            if not _is_straight(signal[run], seconds[run], fade_depth):
                continue
            if levels:
                # A camera that tilts away from the sky does the same, but slowly.
                depth = 1.0 - float(signal[run].min() / signal[run].max())
                is_whole = depth > 0.9 or _is_cut_off_fade(track, signal, seconds, run, depth)
                fades = is_whole and any(_misfit(level[run], signal[run], offset=False) <= MAX_FADE_MISFIT for level in levels)
            else:
                low, high = run.start + int(signal[run].argmin()), run.start + int(signal[run].argmax())
                fades = signal[low] < NEAR_BLACK and deviation[low] <= max(deviation[high], FLAT_DEVIATION)
                middle = run.start + int(np.abs(signal[run] - signal[high] / 2).argmin())
                fades = fades and _likeness(track, middle, high) >= MIN_HALF_LIKENESS
            if fades:
                is_fading[run.start : run.stop - 1] = True
    lasts_s = np.diff(seconds, append=seconds[-1])
    return min(1.0, float(lasts_s[is_fading].sum()) / duration_s(track))


def _is_cut_off_fade(track: Track, signal: np.ndarray, seconds: np.ndarray, run: slice, depth: float) -> bool:
    """Whether a run that stops half way may be a fade of which an end of the clip leaves only a part: quick, at that end, of one picture.

    Elsewhere it is the exposure. A camera that tilts away from the sky shows another picture at either end.
    """
    first, last = run.start, run.stop - 1
    if seconds[last] - seconds[first] > depth * MAX_PARTIAL_FADE_S:
        return False
    if (first > 1) if signal[last] > signal[first] else (last < len(signal) - 2):
        return False
    return _likeness(track, first, last) >= MIN_LIKENESS


def _likeness(track: Track, first: int, second: int) -> float:
    """Correlation of two frames' thumbs; 1 where there is nothing to correlate."""
    if len(track.thumbs) != len(track.times_ns):
        return 1.0
    a, b = (track.thumbs[i].astype(np.float64).ravel() for i in (first, second))
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread > a.size else 1.0


def _turning_points(values: np.ndarray) -> list[int]:
    """Indices between which the values go one way, but for reversals of less than a twentieth of their maximum."""
    slack = 0.05 * float(values.max())
    points, extreme, direction = [0], 0, 0
    for i in range(1, len(values)):
        falls, rises = values[i] < values[extreme] - slack, values[i] > values[extreme] + slack
        if (direction >= 0 and falls) or (direction <= 0 and rises):
            if extreme > points[-1]:
                points.append(extreme)
            direction = 1 if values[i] > values[extreme] else -1
            extreme = i
        elif direction == 0 or (values[i] - values[extreme]) * direction > 0:
            extreme = i if direction else extreme
    return [*points, len(values) - 1] if points[-1] < len(values) - 1 else points


def _steady_part(values: np.ndarray, seconds: np.ndarray, start: int, end: int) -> slice:
    """The longest stretch of a run that changes at 30 % of the run's usual speed or more; slow heads and tails are not the fade."""
    part = values[start : end + 1]
    if len(part) < MIN_FADE_FRAMES:
        return slice(start, end + 1)
    # Over four frames, so that repeated frames do not read as a halt.
    reach = min(2, (len(part) - 1) // 2)
    after = np.minimum(np.arange(len(part)) + reach, len(part) - 1)
    before = np.maximum(np.arange(len(part)) - reach, 0)
    speed = np.abs(part[after] - part[before]) / (seconds[start : end + 1][after] - seconds[start : end + 1][before])
    moving = np.flatnonzero(speed >= 0.3 * np.quantile(speed, 0.9))
    stretches = np.split(moving, np.flatnonzero(np.diff(moving) > 1) + 1)
    longest = max(stretches, key=len)
    return slice(start + int(longest[0]), start + int(longest[-1]) + 1)


def _is_straight(values: np.ndarray, seconds: np.ndarray, fade_depth: float) -> bool:
    """Whether the values run along a line in time, far enough and for long enough."""
    if len(values) < MIN_FADE_FRAMES or seconds[-1] - seconds[0] < MIN_FADE_S:
        return False
    height = float(values.max() - values.min())
    return height >= max(FLAT_DEVIATION, fade_depth * float(values.max())) and _misfit(values, seconds, offset=True) <= MAX_FADE_MISFIT


def _misfit(values: np.ndarray, over: np.ndarray, offset: bool) -> float:
    """Root mean square distance of the values from their best line over `over`, as a share of their height."""
    terms = np.stack([over, np.ones_like(over)] if offset else [over], axis=1)
    line = terms @ np.linalg.lstsq(terms, values, rcond=None)[0]
    return float(np.sqrt(np.mean((values - line) ** 2)) / max(float(values.max() - values.min()), 1e-6))
