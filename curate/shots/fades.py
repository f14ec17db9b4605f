"""Fades through black, white or any one colour, found on a track of contrast.

A frame is *flat* when it holds no picture: its spatial standard deviation is near zero, or it is nearly black (white) and
has lost most of the contrast the source had before (so a small watermark does not hide the black). From a flat run the
amplitude c(t) = rms(frame(t) - flat frame) is followed outwards, both ways, until it stops growing: the span of a fade
covers the ramp down, the flat run and the ramp up.

PySceneDetect's ThresholdDetector is not used: it knows one threshold of mean brightness, so it places a point somewhere on
the ramp and no span, misses fades that a watermark keeps above the floor, takes dark scenes for fades, and says nothing
until the picture is back.
"""

import cv2
import numpy as np

from curate.shots import Transition
from curate.shots.params import Shots
from curate.shots.track import Track, rms

DARK, BRIGHT = 24.0, 232.0
"""8-bit mean levels beyond which a frame may be the end of a fade: black as encoders lift it, white as they dim it."""

STILL_GROWING = 1.02
PLATEAU_S = 0.25
"""A ramp has ended when its amplitude has not grown by 2 % for this long; a linear fade of 4 s grows by 6 % in it."""

HARD = 0.5
"""First amplitude beside the flat run, as a share of the plateau, from which the side may be a hard cut and no ramp."""

RETURNED = 0.35
"""A picture has returned after a flash if it differs from the one before by less than this share of the flash's jump."""

PEAK_FALL_PER_S = 0.9
"""How fast the remembered contrast of the source decays."""


def contrast_and_level(tiny_bgr: np.ndarray) -> tuple[float, float]:
    """Spatial standard deviation (mean over channels) and mean level of a tiny frame, both in 8-bit levels."""
    # Without numpy's own means, which cost more than OpenCV's whole pass.
    mean, deviation = (values.ravel().tolist() for values in cv2.meanStdDev(tiny_bgr))
    return sum(deviation) / 3, sum(mean) / 3


def inside_dark_bars(tiny_bgr: np.ndarray) -> np.ndarray:
    """The frame without dark rows and columns at its edges, and without the blended line between bar and picture."""
    bright = tiny_bgr.max(axis=2) > DARK
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    if len(rows) < 6 or len(columns) < 6:
        return tiny_bgr
    top, bottom = rows[0] + (rows[0] > 0), rows[-1] + 1 - (rows[-1] + 1 < bright.shape[0])
    left, right = columns[0] + (columns[0] > 0), columns[-1] + 1 - (columns[-1] + 1 < bright.shape[1])
    return np.ascontiguousarray(tiny_bgr[top:bottom, left:right])


def ramp_frames(amplitude: np.ndarray, times_s: np.ndarray) -> int:
    """How many frames, counted outwards from a flat run, belong to the ramp; 0 for a hard cut.

    amplitude, times_s  (N,), outwards, of the frames beside the flat run. The end of the ramp is read off twice, where 95 % of
    the plateau is reached and by extending the line through 50 and 90 %, and the later one counts: eased ramps creep at the end.
    """
    plateau = float(amplitude.max(initial=0.0))
    if plateau <= 0 or amplitude[0] >= 0.9 * plateau:
        return 0
    growth = np.diff(amplitude, prepend=0.0)
    if amplitude[0] > HARD * plateau and amplitude[0] > 3 * growth[1:].max(initial=0.0):
        return 0
    at_50, at_90, at_95 = (int(np.argmax(amplitude >= share * plateau)) for share in (0.5, 0.9, 0.95))
    extended_s = times_s[at_90] + (times_s[at_90] - times_s[at_50]) * (0.1 / 0.4)
    return max(at_95, int(np.searchsorted(times_s, extended_s - 1e-6)))


def has_plateaued(amplitude: np.ndarray, times_s: np.ndarray, longest_s: float) -> bool:
    """Whether the ramp, followed outwards this far, has ended."""
    if times_s[-1] - times_s[0] >= longest_s:
        return True
    before = times_s <= times_s[-1] - PLATEAU_S
    if np.count_nonzero(before) == 0 or np.count_nonzero(~before) < 2:
        return False
    return bool(amplitude[~before].max() <= STILL_GROWING * amplitude[before].max())


class FadeFinder:
    """Follows the contrast of every frame; `open_ns` is the start of a fade that is still going on, or None."""

    def __init__(self, track: Track, params: Shots) -> None:
        self._track = track
        self._flat_contrast, self._flat_share = params.flat_contrast, params.flat_share
        self._longest_s, self._flash_ns = params.max_transition_s, round(params.flash_s * 1e9)
        self._peak = 0.0
        self._last_ns = 0
        self._run_start: int | None = None
        self._run_end: int | None = None
        self._ramp_start = 0
        self.open_ns: int | None = None

    def push(self, tiny_bgr: np.ndarray) -> list[Transition]:
        """Takes the frame that the track holds last; returns the fade that is complete by now, if any."""
        index = self._track.next - 1
        is_flat = self._is_flat(tiny_bgr)
        if self._run_start is None:
            if is_flat:
                self._open(index)
            return []
        if is_flat:
            # A ramp that falls back to flat was part of a longer fade.
            self._run_end = None
            return []
        if self._run_end is None:
            self._run_end = index
            if self._was_flash():
                self._run_start = self._run_end = self.open_ns = None
                return []
        amplitude, times_s = self._outwards(self._run_end, index + 1, self._run_end - 1)
        if not has_plateaued(amplitude, times_s, self._longest_s):
            return []
        # A ramp that still quickens when the search ends goes on beyond it.
        return self._close(min(self._run_end + ramp_frames(amplitude, times_s), index))

    def finish(self, end_ns: int) -> list[Transition]:
        """The source ends inside a fade, or has none open."""
        if self.open_ns is None:
            return []
        if self._run_end is None:
            return [Transition(self.open_ns, end_ns, "fade")]
        amplitude, times_s = self._outwards(self._run_end, self._track.next, self._run_end - 1)
        end = self._run_end + ramp_frames(amplitude, times_s)
        if end < self._track.next - 1:
            return self._close(end)
        return [Transition(self.open_ns, end_ns, "fade")]

    def _is_flat(self, tiny_bgr: np.ndarray) -> bool:
        contrast, level = contrast_and_level(tiny_bgr)
        now_ns = self._track.times_ns[-1]
        if self._run_start is None:
            self._peak = max(contrast, self._peak * PEAK_FALL_PER_S ** ((now_ns - self._last_ns) / 1e9))
        self._last_ns = now_ns
        if contrast <= self._flat_contrast:
            return True
        if not DARK < level < BRIGHT and contrast <= self._flat_share * self._peak:
            return True
        height, width = tiny_bgr.shape[:2]
        middle = tiny_bgr[height // 3 : height - height // 3, width // 3 : width - width // 3]
        if contrast_and_level(middle)[0] > self._flat_contrast:
            return False
        return contrast_and_level(inside_dark_bars(tiny_bgr))[0] <= self._flat_contrast

    def _open(self, index: int) -> None:
        """The first flat frame: looks back for where the ramp down began."""
        self._run_start, self._run_end, self._ramp_start = index, None, index
        earliest = max(self._track.first, self._track.at_or_after(self._track.time_ns(index) - round(self._longest_s * 1e9)))
        if earliest < index:
            amplitude, times_s = self._outwards(index - 1, earliest - 1, index)
            stop = next((n for n in range(2, len(amplitude)) if has_plateaued(amplitude[:n], times_s[:n], self._longest_s)), len(amplitude))
            self._ramp_start = index - ramp_frames(amplitude[:stop], times_s[:stop])
        self.open_ns = self._track.time_ns(self._ramp_start)

    def _outwards(self, start: int, stop: int, flat: int) -> tuple[np.ndarray, np.ndarray]:
        """Amplitude over a flat frame, and distance in time from the first, of frames `start` to `stop` (either way)."""
        step = 1 if stop > start else -1
        indices = range(start, stop, step)
        amplitude = rms(np.stack([self._track.feature(n) for n in indices]) - self._track.feature(flat))
        times_s = np.abs(np.asarray([self._track.time_ns(n) for n in indices], np.int64) - self._track.time_ns(start)) / 1e9
        return amplitude, times_s

    def _close(self, end: int) -> list[Transition]:
        assert self._run_start is not None and self._run_end is not None and self.open_ns is not None
        found = Transition(self.open_ns, self._track.time_ns(end), "fade")
        self._run_start = self._run_end = self.open_ns = None
        return [found]

    def _was_flash(self) -> bool:
        """Whether the flat run was short, without a ramp down, and the picture after it is the one before."""
        assert self._run_start is not None and self._run_end is not None
        if self._ramp_start < self._run_start or self._run_start - 1 < self._track.first:
            return False
        if self._track.time_ns(self._run_end) - self._track.time_ns(self._run_start) > self._flash_ns:
            return False
        before, flat, after = (self._track.feature(n) for n in (self._run_start - 1, self._run_start, self._run_end))
        return bool(rms(after - before) < RETURNED * rms(flat - before))
