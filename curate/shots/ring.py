"""Some seconds of a source at 64x36, as the network is fed: what `curate.shots.verify` looks back on."""

from collections import deque

import cv2
import numpy as np

WIDTH, HEIGHT = 48, 27


class Ring:
    """Frames are named by their number among those fed; `first` is the oldest one still held.

    step_ns  least time between frames; those in between are passed over

    A frame is held as it came and made 48x27 (area) when it is asked for, which few are.
    """

    def __init__(self, step_ns: int) -> None:
        self._step_ns = step_ns
        self._frames: deque[np.ndarray] = deque()
        self.times_ns: deque[int] = deque()
        self.first = 0

    @property
    def next(self) -> int:
        return self.first + len(self.times_ns)

    def push(self, time_ns: int, tiny_bgr: np.ndarray) -> None:
        if not self.times_ns or time_ns - self.times_ns[-1] >= self._step_ns:
            self.times_ns.append(time_ns)
            self._frames.append(tiny_bgr)

    def forget(self, before: int) -> None:
        """Drops frames before this one; the newest stays."""
        while self.first < before and len(self.times_ns) > 1:
            self.times_ns.popleft()
            self._frames.popleft()
            self.first += 1

    def time_ns(self, index: int) -> int:
        return self.times_ns[index - self.first]

    def at_or_after(self, time_ns: int) -> int:
        """The first held frame at or after a time; the next one's number where there is none."""
        # From the new end: what is looked for is near it, and a deque is slow in its middle.
        index = self.next
        for held_ns in reversed(self.times_ns):
            if held_ns < time_ns:
                break
            index -= 1
        return index

    def frame(self, index: int) -> np.ndarray:
        """uint8 (36, 64, 3) BGR, as it came."""
        return self._frames[index - self.first]

    def rgb(self, start: int, stop: int, stride: int = 1) -> np.ndarray:
        """uint8 (N, 27, 48, 3), every `stride`-th frame of `start <= index < stop`; those that are not held are copies of the nearest."""
        held = [min(max(index, self.first), self.next - 1) for index in range(start, stop, stride)]
        made: dict[int, np.ndarray] = {}
        for index in held:
            if index not in made:
                made[index] = cv2.resize(self._frames[index - self.first], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)[:, :, ::-1]
        return np.stack([made[index] for index in held])
