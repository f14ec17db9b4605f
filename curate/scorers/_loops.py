"""Clips that play a part again: loops, and boomerangs (forward, then backward).

A frame is known by its thumb (18 x 32 mean luma values); D(s, t) is the mean squared difference of two thumbs. A part that is played
again P frames later leaves D(t, t + P) at what the codec adds, for every t of the part; a boomerang that turns at c does so for
D(c - k, c + k).

What merely recurs (a juggler, a fountain, a pendulum) comes back nearly and never exactly, and what stands still is the same at every
lag. Both fail one test: an exact repetition gets worse by w frames of motion when it is compared w frames off the match, something that
recurs does not get noticeably worse. So the evidence is the ratio of D at the match to D beside it, each summed over at least
80 % of a period. Beside the match there are two comparisons, one frame of the two moved, both towards a shorter lag, so that footage that
drifts away never has a valley; the lesser of them counts, so that a flash is none. A machine that runs evenly before a fixed camera does
repeat itself, and is called a loop.
"""

import numpy as np

from curate.samples import Track

BESIDE_NS = 70_000_000
MIN_PERIOD_NS = 300_000_000
MIN_HALF_NS = 400_000_000  # of a boomerang: what is seen before its turning point, and again after it
PERIOD_SHARE = 0.8
MAX_VALLEY, MAX_EACH = 0.4, 0.6
MAX_STRAYS = 0.05  # of the frames
MAX_GAIN = 4.0
MIN_ENERGY = 0.6  # squared levels: D beside the match; rounding alone is 0.17


def distances(thumbs: np.ndarray) -> np.ndarray:
    """float32 (N, N): mean squared difference of every two of uint8 (N, h, w) thumbs, brought to one mean and one contrast.

    So a flash or a fade, which comes and goes the same way, is no repetition. Pictures without contrast stay as flat as they are.
    """
    flat = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    contrast = flat.std(axis=1, keepdims=True)
    usual = float(np.median(contrast))
    flat *= usual / np.maximum(contrast, max(usual / MAX_GAIN, 1.0))
    flat -= flat.mean(axis=0)
    squared = np.einsum("ij,ij->i", flat, flat)
    return np.maximum(squared[:, None] + squared[None, :] - 2.0 * (flat @ flat.T), 0.0) / flat.shape[1]


def repetition_shares(track: Track) -> tuple[float, float]:
    """(share of the frames inside loops, share inside boomerangs): parts that are shown twice or more, or forward and backward."""
    frames_per_ns = (len(track.times_ns) - 1) / max(1, int(track.times_ns[-1] - track.times_ns[0]))
    apart = distances(track.thumbs)
    beside = max(1, round(BESIDE_NS * frames_per_ns))
    loop = _loop_frames(apart, beside, max(beside + 1, round(MIN_PERIOD_NS * frames_per_ns)))
    back = _boomerang_frames(apart, beside, max(beside + 1, round(MIN_HALF_NS * frames_per_ns)))
    return loop / len(apart), back / len(apart)


def _loop_frames(apart: np.ndarray, beside: int, min_period: int) -> int:
    """The most frames that any one period explains."""
    num, best = len(apart), 0
    for period in range(min_period, int(num / (1 + PERIOD_SHARE)) + 1):
        length = max(1, int(PERIOD_SHARE * period))
        here, off = np.diagonal(apart, period), np.diagonal(apart, period - beside)
        near = np.minimum(off[: num - period], off[beside:])
        match, aside = _window_sums(here, length), _window_sums(near, length)
        fits = (match < MAX_VALLEY * aside) & (aside >= MIN_ENERGY * length)
        if not fits.any():
            continue
        # What recurs is near itself for a while and then is not; the codec is about as far off all of the time.
        strays = _window_sums(here > float(near.mean()), length)
        covered = np.zeros(num, bool)
        for start in np.flatnonzero(fits & (strays <= MAX_STRAYS * length)):
            covered[start : start + length] = covered[start + period : start + period + length] = True
        best = max(best, int(covered.sum()))
    return best


def _boomerang_frames(apart: np.ndarray, beside: int, min_half: int) -> int:
    """The frames of the longest stretch that runs back the way it came."""
    num, best, turned = len(apart), 0, apart[:, ::-1]

    def outward(total: int, first: int, last: int) -> np.ndarray:
        """D(s, total - s) for s from `last` down to `first`."""
        line = np.diagonal(turned, num - 1 - total)
        shift = max(0, total - num + 1)  # the s of the line's first entry
        return line[first - shift : last - shift + 1][::-1]

    for total in _turning_points(apart, beside, min_half):
        first = max(0, total - num + 1)
        last = (total - 2 * beside - 1) // 2  # frames nearer to each other than this say nothing
        if last - first + 1 < min_half:
            continue
        here = outward(total, first, last)
        match = np.cumsum(here)
        near = np.minimum(outward(total - beside, first, last), outward(total + beside, first + beside, last + beside))
        aside, counts = np.cumsum(near), np.arange(1, len(match) + 1)
        # Most frames have to say so: any flash is the same forward and backward.
        agree = np.cumsum(here < MAX_EACH * near)
        fits = np.flatnonzero((match < MAX_VALLEY * aside) & (aside >= MIN_ENERGY * counts) & (counts >= min_half) & (2 * agree >= counts))
        if len(fits):
            best = max(best, total - 2 * (last - int(fits[-1])) + 1)
    return min(best, num)


def _turning_points(apart: np.ndarray, beside: int, min_half: int) -> list[int]:
    """Sums s + t of the places about which a few pairs of frames (s, t) lie in a valley; to try all places costs ten times as much."""
    found: set[int] = set()
    for share in (0.4, 0.7, 1.0, 1.3, 1.6):
        for gap in (round(share * min_half), round(share * min_half) + 1):
            if not beside < gap < len(apart):
                continue
            near = np.diagonal(apart, gap - beside)
            agrees = np.diagonal(apart, gap) < MAX_EACH * np.minimum(near[: len(apart) - gap], near[beside:])
            found |= set((2 * np.flatnonzero(agrees) + gap).tolist())
    return sorted(total for total in found if 2 * min_half <= total <= 2 * (len(apart) - 1 - min_half))


def _window_sums(values: np.ndarray, length: int) -> np.ndarray:
    total = np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))
    return total[length:] - total[:-length]
