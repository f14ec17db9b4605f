"""The last few seconds of a source at 16x9 pixels, every frame: what the cascade looks back on to place a transition.

A frame costs 1.7 kB here, so four seconds at 60 frames/s hold 0.4 MB; frames older than the horizon are forgotten.
"""

import bisect

import cv2
import numpy as np

WIDTH, HEIGHT = 16, 9
MIN_STEP_NS = 1_000_000
"""Frames closer to the one before are passed over: broken time stamps, which would make the track grow without bound."""

FORGET_EVERY = 64


def rms(vectors: np.ndarray) -> np.ndarray:
    """Root mean square over the last axis."""
    return np.sqrt(np.mean(np.square(vectors), axis=-1))


class Track:
    """Frames are named by their index in the source; `first` is the oldest one still held.

    horizon_ns  how far back frames are held; `min_frames` of them whatever their rate
    """

    def __init__(self, horizon_ns: int, min_frames: int = 8) -> None:
        self._horizon_ns, self._min_frames = horizon_ns, min_frames
        self.first = 0
        self.times_ns: list[int] = []
        self.features: list[np.ndarray] = []

    @property
    def next(self) -> int:
        """Index that the next frame will get."""
        return self.first + len(self.times_ns)

    def takes(self, time_ns: int) -> bool:
        return not self.times_ns or time_ns - self.times_ns[-1] >= MIN_STEP_NS

    def push(self, time_ns: int, tiny_bgr: np.ndarray) -> None:
        self.times_ns.append(time_ns)
        self.features.append(cv2.resize(tiny_bgr, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32).ravel())

    def forget(self) -> None:
        """Drops what is older than the horizon, but for one frame, which may be the last before a long gap."""
        # In batches: deleting from the front of a list costs its length.
        if len(self.times_ns) % FORGET_EVERY == 0:
            stale = bisect.bisect_left(self.times_ns, self.times_ns[-1] - self._horizon_ns) - 1
            stale = max(0, min(stale, len(self.times_ns) - self._min_frames))
            del self.times_ns[:stale], self.features[:stale]
            self.first += stale

    def time_ns(self, index: int) -> int:
        return self.times_ns[index - self.first]

    def feature(self, index: int) -> np.ndarray:
        """float32 (432,), 8-bit levels."""
        return self.features[index - self.first]

    def window(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Times in seconds (N,) float64 from the first, and features (N, 432), of the frames `start <= index < stop`."""
        part = slice(start - self.first, stop - self.first)
        times_ns = np.asarray(self.times_ns[part], np.int64)
        return (times_ns - times_ns[0]) / 1e9, np.stack(self.features[part])

    def at_or_after(self, time_ns: int) -> int:
        """Index of the first held frame at or after a time; the next index where there is none."""
        return self.first + bisect.bisect_left(self.times_ns, time_ns)
