"""Windows of T frames at a whole-number stride over a clip's distinct pictures, evenly spaced in time.

A model that is told "7 frames a second" must see 7. Frames that repeat the picture before them are collapsed first; the effective rate is
that of the distinct pictures, and a stride s is the whole number that brings effective / s nearest to the wanted rate, in ratio. Nothing is
blended and no picture is repeated, so motion does not judder.

A window is even when every gap between its frames lies within 10 % of their median gap (or 1 ms, to which some containers round). Where a
lower rate was padded to a higher one by repeating pictures (24 in 30 by 3:2 pulldown, 24 in 25 by one picture a second), time stamps lag
behind the moments shown by up to one frame interval. Such a clip repeats pictures at regular distances, and its windows are balanced (Morse
and Hedlund 1940): any two runs of k pictures in a row last the same time to within one interval, for every k. A dropped, repeated or missed
picture breaks that, as it breaks the 10 % elsewhere, and windows across it are refused.
"""

import math
from dataclasses import dataclass

import numpy as np

from curate.clip import NS_PER_S

EVEN_SHARE = 0.1  # of the median gap
ROUNDING_NS = 1_000_000
MIN_REPEATS = 3  # that a cadence can be seen in
REGULAR_SHARE = 0.6  # of the distances between repeats are the same; of random ones 0.2 to 0.4
RUN_LENGTH = 24  # pictures over which the rate is measured: whole cycles of every common cadence


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """`num_frames` pictures at about `fps`. A window's own rate may be off by `fps_tolerance`, in ratio: 0.25 takes 5.6 to 8.75 for 7."""

    num_frames: int
    fps: float
    fps_tolerance: float = 0.25

    def __post_init__(self) -> None:
        if self.num_frames < 2:
            raise ValueError(f"num_frames={self.num_frames} must be at least 2: a rate needs two frames")
        if not 0 < self.fps < math.inf:
            raise ValueError(f"fps={self.fps} must be a positive number of frames per second")
        if not 0 <= self.fps_tolerance < math.inf:
            raise ValueError(f"fps_tolerance={self.fps_tolerance} must be a share of fps, such as 0.25")

    def takes(self, fps: float) -> bool:
        """Whether a rate lies within the tolerance."""
        return _ratio(fps, self.fps) <= (1 + self.fps_tolerance) * (1 + 1e-6)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The even windows of one clip, K of them (at least one), overlapping.

    `distinct_ns` int64[D]: times of the distinct pictures; `starts` int64[K]: which of them begin a window; `fps`: effective rate / stride.
    """

    num_frames: int
    stride: int
    fps: float
    starts: np.ndarray
    distinct_ns: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def times_ns(self, k: int) -> np.ndarray:
        """int64[T]: presentation times of the frames of window k."""
        return self.distinct_ns[self.starts[k] + self.stride * np.arange(self.num_frames)]

    def apart(self) -> np.ndarray:
        """int64: a choice of windows k that share no frame and no time, as many as there can be."""
        length = self.stride * (self.num_frames - 1) + 1
        chosen = []
        k = 0
        while k < len(self.starts):
            chosen.append(k)
            k = int(np.searchsorted(self.starts, self.starts[k] + length))
        return np.array(chosen, np.int64)


def windows(times_ns: np.ndarray, is_duplicate: np.ndarray, spec: WindowSpec) -> Windows | str:
    """The even windows of a clip's frames (int64[N] ascending, bool[N]), or why there is none.

    Reasons begin with their kind: `too short`, `rate` or `uneven`, then a colon.
    """
    distinct_ns = distinct(times_ns, is_duplicate)
    if len(distinct_ns) < 2:
        return f"too short: {len(distinct_ns)} of {spec.num_frames} frames"
    effective = effective_fps(distinct_ns)
    stride = stride_for(effective, spec)
    if stride is None:
        return f"rate: {effective:.4g} distinct pictures/s have no whole-number stride near {spec.fps:g} fps"
    have = 1 + (len(distinct_ns) - 1) // stride
    if have < spec.num_frames:
        length_s = float(times_ns[-1] - times_ns[0]) / NS_PER_S
        return f"too short: {length_s:.1f} s hold {have} of {spec.num_frames} frames at {effective / stride:.2f} fps"
    interval_ns = padded_interval_ns(times_ns, is_duplicate, distinct_ns)
    starts = _even_starts(distinct_ns, stride, spec, interval_ns)
    if not len(starts):
        num_tried = len(distinct_ns) - stride * (spec.num_frames - 1)
        return f"uneven: none of {num_tried} windows has evenly spaced frames at {effective / stride:.2f} fps"
    return Windows(spec.num_frames, stride, effective / stride, starts, distinct_ns)


def distinct(times_ns: np.ndarray, is_duplicate: np.ndarray) -> np.ndarray:
    """int64[D]: times of the frames that show another picture than the frame before; the first always does."""
    keep = ~is_duplicate
    keep[:1] = True
    return times_ns[keep]


def stride_for(effective_fps: float, spec: WindowSpec) -> int | None:
    """The whole number s for which effective_fps / s lies nearest to the wanted rate, in ratio; None outside the tolerance."""
    low = max(1, int(effective_fps / spec.fps))
    stride = min((low, low + 1), key=lambda s: _ratio(effective_fps / s, spec.fps))
    return stride if spec.takes(effective_fps / stride) else None


def effective_fps(distinct_ns: np.ndarray) -> float:
    """Distinct pictures a second, the median over runs of 24: a picture held for long or a moment of dropped frames does not change it.

    Needs two pictures.
    """
    length = min(len(distinct_ns) - 1, RUN_LENGTH)
    return length * NS_PER_S / float(np.median(distinct_ns[length:] - distinct_ns[:-length]))


def window_fps(times_ns: np.ndarray) -> float:
    """Frames per second of a window's own frames: T - 1 gaps over the time they take."""
    return (len(times_ns) - 1) * NS_PER_S / float(times_ns[-1] - times_ns[0])


def fps_id(fps: float) -> int:
    """What Stable Video Diffusion is conditioned on: the rate minus one, a whole number (generative-models, `fps_id`)."""
    return max(0, round(fps) - 1)


def padded_interval_ns(times_ns: np.ndarray, is_duplicate: np.ndarray, distinct_ns: np.ndarray) -> float | None:
    """Frame interval of a clip whose rate was padded by an uneven cadence, such as 3:2; None for others.

    On twos and on threes pictures come evenly as they are.
    """
    if np.count_nonzero(is_duplicate) < MIN_REPEATS:
        return None
    interval = float(np.median(np.diff(times_ns)))
    shown = np.rint(np.diff(distinct_ns) / interval)
    apart = np.diff(np.flatnonzero(shown != np.median(shown)))
    is_regular = len(apart) >= MIN_REPEATS - 1 and np.mean(np.abs(apart - np.median(apart)) <= 1) >= REGULAR_SHARE
    return interval if is_regular else None


def _even_starts(distinct_ns: np.ndarray, stride: int, spec: WindowSpec, interval_ns: float | None) -> np.ndarray:
    num_gaps = spec.num_frames - 1
    span = stride * num_gaps
    num_windows = len(distinct_ns) - span
    gaps = distinct_ns[stride:] - distinct_ns[:-stride]
    shortest, longest = float(gaps.min()), float(gaps.max())
    if longest - shortest <= max(EVEN_SHARE * shortest, ROUNDING_NS) and spec.takes(NS_PER_S / shortest) and spec.takes(NS_PER_S / longest):
        return np.arange(num_windows)
    own = np.lib.stride_tricks.sliding_window_view(gaps, span - stride + 1)[:, ::stride]
    median = np.median(own, axis=1)
    even = np.abs(own - median[:, None]).max(axis=1) <= np.maximum(EVEN_SHARE * median, ROUNDING_NS)
    if interval_ns is not None:
        even |= _balanced(distinct_ns, stride, span, interval_ns)
    took_ns = distinct_ns[span:] - distinct_ns[:num_windows]
    slowest, fastest = (num_gaps * NS_PER_S / (spec.fps * share) for share in (1 / (1 + spec.fps_tolerance), 1 + spec.fps_tolerance))
    even &= (took_ns <= slowest * (1 + 1e-6)) & (took_ns >= fastest * (1 - 1e-6))
    return np.flatnonzero(even)


def _balanced(distinct_ns: np.ndarray, stride: int, span: int, interval_ns: float) -> np.ndarray:
    """bool, one for each window of `span` gaps: runs of equal length last the same time, to within one interval.

    Lengths are the stride and the powers of two. One interval or two is the question, so the line is drawn between.
    """
    balanced = np.ones(len(distinct_ns) - span, bool)
    lengths = {stride} | {1 << i for i in range(span.bit_length()) if 1 << i < span}
    for length in sorted(lengths):
        lasts = distinct_ns[length:] - distinct_ns[:-length]
        inside = np.lib.stride_tricks.sliding_window_view(lasts, span - length + 1)
        balanced &= inside.max(axis=1) - inside.min(axis=1) < 1.5 * interval_ns
    return balanced


def _ratio(a: float, b: float) -> float:
    return max(a / b, b / a)
