"""TransNetV2 (Soucek and Lokoc, arXiv 2008.04838) on every frame, streaming: the accurate and slow detector.

The network reads windows of 100 frames of 48x27 RGB, 50 frames apart, and its middle 50 answers are used; the source is padded
with copies of its first and last frame. The same windows are made here from a ring, so the answers are those of the package's
whole-video prediction but for the precision that `curate.shots.folded` multiplies in. Two heads speak for each frame: one marks the
frame at which the shot changes (for a hard cut the last of the old shot), the other every frame of the transition. A run of frames
marked by either head is a transition if the first head marks one of them: a run of one frame is a hard cut behind it, a longer one
the span of a gradual transition.

It was trained near 25 to 30 frames/s and does not see a dissolve that outlasts its window, so of faster sources it is fed every
second (third, ...) frame, at least `transnet_step_ms` apart, and a hard cut is then placed on the track of every frame.

Of a fade the network marks the ramps at best, and not the black between them, so the contrast track of `curate.shots.fades` runs
beside it.

Cost on one CPU thread: two windows see each frame, 9 ms where the processor multiplies bfloat16, 18 to 20 where it does not.
"""

import functools
from collections import deque
from collections.abc import Iterable

import numpy as np

from curate.extras import require
from curate.shots import Transition
from curate.shots.fades import FadeFinder
from curate.shots.folded import Network, loaded, precision
from curate.shots.params import NEEDS_NETWORK, Shots
from curate.shots.pending import Pending
from curate.shots.track import Track, rms

WINDOW, STRIDE, MARGIN = 100, 50, 25


class TransNetDetector:
    """See `curate.shots.ShotDetector`. Holds 100 frames of 48x27; late by 75 frames or `max_transition_s`, whichever is longer."""

    size = (48, 27)

    def __init__(self, params: Shots) -> None:
        self._model = network()
        self._longest_ns = round(params.max_transition_s * 1e9)
        self._frames: deque[np.ndarray] = deque(maxlen=WINDOW)
        self._times_ns: deque[int] = deque()
        self._num_pushed = self._num_predicted = self._num_padding = 0
        self._step_ns = round(params.transnet_step_ms * 1e6)
        self._fed_ns: int | None = None
        self._track = Track(self._longest_ns + 1_000_000_000, min_frames=2 * WINDOW)
        self._fades = FadeFinder(self._track, params)
        self._pending = Pending(self._longest_ns)
        self._runs = Runs(self._track, params)

    @property
    def settled_ns(self) -> int:
        return self._pending.settled_ns

    def push(self, time_ns: int, tiny_bgr: np.ndarray) -> list[Transition]:
        if not self._track.takes(time_ns):
            return []
        tiny_bgr = np.ascontiguousarray(tiny_bgr)
        if self._fed_ns is None:
            self._pending.start(time_ns)
            self._frames.extend([_rgb(tiny_bgr)] * MARGIN)
        self._track.push(time_ns, tiny_bgr)
        self._add(self._fades.push(tiny_bgr))
        if self._fed_ns is None or time_ns - self._fed_ns >= self._step_ns:
            self._feed(time_ns, tiny_bgr)
        self._track.forget()
        return self._pending.advance(self._track.times_ns, self._fades.open_ns, self._known_ns())

    def _known_ns(self) -> int:
        """The network may still find something from here on."""
        return self._times_ns[0] if self._runs.settled_ns is None else self._runs.settled_ns

    def _feed(self, time_ns: int, tiny_bgr: np.ndarray) -> None:
        self._fed_ns = time_ns
        self._frames.append(_rgb(tiny_bgr))
        self._times_ns.append(time_ns)
        self._num_pushed += 1
        if self._num_pushed == self._num_predicted + STRIDE + MARGIN:
            self._predict(STRIDE)

    def finish(self, end_ns: int) -> list[Transition]:
        while self._num_predicted < self._num_pushed:
            # Copies of the last frame stand behind it, as many as the window of the first missing answer lacks.
            padding = self._num_predicted + STRIDE + MARGIN - self._num_pushed
            self._frames.extend([self._frames[-1]] * (padding - self._num_padding))
            self._num_padding = padding
            self._predict(min(STRIDE, self._num_pushed - self._num_predicted))
        self._add(self._runs.end(end_ns))
        self._add(self._fades.finish(end_ns))
        return self._pending.finish(end_ns)

    def _add(self, found: Iterable[Transition]) -> None:
        for transition in found:
            self._pending.add(transition)

    def _predict(self, count: int) -> None:
        """Runs the window whose middle begins at the first frame without an answer, and takes `count` answers from it."""
        change, member = predicted(self._model, np.stack(self._frames))
        for of_change, of_member in zip(change[:count].tolist(), member[:count].tolist(), strict=True):
            self._add(self._runs.answer(self._times_ns.popleft(), of_change, of_member))
        self._num_predicted += count


class Runs:
    """Makes transitions of the network's answers, which come frame by frame, in order; gaps between them end a run."""

    def __init__(self, track: Track, params: Shots) -> None:
        self._track = track
        self._threshold = params.transnet_threshold
        self._longest_ns = round(params.max_transition_s * 1e9)
        self._answered_ns: int | None = None
        self._start_ns: int | None = None
        self._num_frames = 0
        self._is_change = False

    @property
    def is_open(self) -> bool:
        return self._start_ns is not None

    @property
    def settled_ns(self) -> int | None:
        """Nothing that is still found starts before this time; None before the first answer."""
        return self._answered_ns if self._start_ns is None else self._start_ns

    def answer(self, time_ns: int, change: float, member: float) -> list[Transition]:
        """Takes both heads' probabilities for the next frame; returns the transition that ended before it, if any."""
        is_change = change > self._threshold
        is_marked = is_change or member > self._threshold
        found = []
        # Marked for longer than any transition: cut into pieces, so that the wait stays bounded.
        if not is_marked or (self._start_ns is not None and time_ns - self._start_ns > self._longest_ns):
            found = self.end(time_ns)
        if is_marked:
            if self._start_ns is None:
                # Frames that were not fed before the first marked one may hold a mix already.
                after_ns = time_ns if self._answered_ns is None else self._answered_ns + 1
                self._start_ns = self._track.time_ns(self._track.at_or_after(after_ns))
                self._num_frames, self._is_change = 0, False
            self._num_frames += 1
            self._is_change |= is_change
        self._answered_ns = time_ns
        return found

    def end(self, time_ns: int) -> list[Transition]:
        """The run of marked frames is over, if there is one; `time_ns` is the first frame that is not marked, or the end."""
        start_ns, self._start_ns = self._start_ns, None
        if start_ns is None or not self._is_change:
            return []
        if self._num_frames > 1:
            return [Transition(start_ns, time_ns, "dissolve")]
        assert self._answered_ns is not None
        track = self._track
        after = range(max(track.at_or_after(self._answered_ns + 1), track.first + 1), min(track.at_or_after(time_ns) + 1, track.next))
        if not after:
            return []
        cut_ns = track.time_ns(max(after, key=lambda n: float(rms(track.feature(n) - track.feature(n - 1)))))
        return [Transition(cut_ns, cut_ns, "cut")]

    def skip_to(self, time_ns: int) -> None:
        """Frames without an answer lie between the last one and this, the next that gets one."""
        self._answered_ns = time_ns - 1


def _rgb(tiny_bgr: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(tiny_bgr[:, :, ::-1])


def predicted(model: Network, frames_rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N - 50,) of both heads, the shot changes here and part of a transition, inside the margins of uint8 (N, 27, 48, 3)."""
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        change, member = model.predicted(frames_rgb)
    finally:
        torch.set_num_threads(num_threads)
    middle = slice(MARGIN, len(frames_rgb) - MARGIN)
    return change[middle], member[middle]


@functools.lru_cache(maxsize=1)
def network() -> Network:
    """The network with the weights in its package, once in a process: 2 s of CPU time with torch. Raises `MissingPackageError`."""
    require([(NEEDS_NETWORK, "transnetv2")])
    return loaded(precision())
