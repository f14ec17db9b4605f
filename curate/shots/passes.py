"""The cascade's PySceneDetect detectors, each fed at its own rate on the source's own time.

PySceneDetect's minimum scene length and flash filters are switched off: the filter holds a cut back for as long as motion goes
on, which has no bound, drops the first of two cuts, and still reports a flash as one cut. Flashes are recognised on the
full-rate track instead, by the picture that returns.
"""

import math
from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from curate.shots.params import DetectorPass
from curate.standard_input import detached

with detached():  # its import runs ffmpeg
    from scenedetect import FrameTimecode
    from scenedetect.detector import SceneDetector
    from scenedetect.detectors import AdaptiveDetector, ContentDetector

REPEATED = 0.5
"""Mean absolute difference, 8-bit levels, under which a frame repeats the one before it (coding noise of held frames stays under)."""

REPEATED_NS = 150_000_000
"""Repeats are skipped for this long: 7 drawings a second. Longer would delay the adaptive detector's answer on still pictures."""


@dataclass(frozen=True, slots=True, order=True)
class Proposal:
    """The shot changed after frame `before` and not later than at frame `at` (indices in the source)."""

    at: int
    before: int
    is_exact: bool


class RatedPass:
    """One detector. A frame is a sample if it is the first at or after the next line of the grid k / fps on the source's own time."""

    def __init__(self, settings: DetectorPass) -> None:
        self._settings = settings
        self._detector = _open(settings)
        self._pad = settings.window if settings.detector == "adaptive" else 0
        self._samples: deque[int] = deque(maxlen=2 * self._pad + 3)
        self._num_pushed = 0
        self._next_line = 0
        self._last: np.ndarray | None = None
        self._last_ns = 0

    def push(self, index: int, time_ns: int, tiny_bgr: np.ndarray) -> list[Proposal]:
        if self._last is None:
            # A detector that compares with its surroundings needs some in front of the first frame.
            for _ in range(self._pad):
                self._feed(index, tiny_bgr)
        elif not self._is_due(time_ns, tiny_bgr):
            return []
        if self._settings.fps is not None:
            self._next_line = math.floor(time_ns * self._settings.fps / 1e9 + 1e-6) + 1
        self._last_ns = time_ns
        return self._feed(index, tiny_bgr)

    def finish(self) -> list[Proposal]:
        if self._last is None:
            return []
        return [found for _ in range(self._pad) for found in self._feed(self._samples[-1], self._last)]

    def _is_due(self, time_ns: int, tiny_bgr: np.ndarray) -> bool:
        if self._settings.fps is not None:
            return time_ns * self._settings.fps / 1e9 + 1e-6 >= self._next_line
        assert self._last is not None
        if time_ns - self._last_ns > REPEATED_NS:
            return True
        return cv2.norm(tiny_bgr, self._last, cv2.NORM_L1) >= REPEATED * tiny_bgr.size

    def _feed(self, index: int, tiny_bgr: np.ndarray) -> list[Proposal]:
        self._last = tiny_bgr
        self._samples.append(index)
        self._num_pushed += 1
        # A number serves as the time: the detectors only subtract and compare times, and one of their own costs as much as the detection.
        cuts = self._detector.process_frame(self._num_pushed - 1, tiny_bgr)
        return [found for cut in cuts if (found := self._proposal(int(cut))) is not None]

    def _proposal(self, sample: int) -> Proposal | None:
        position = sample - (self._num_pushed - len(self._samples))
        if position < 1 or self._samples[position] == self._samples[position - 1]:
            return None
        at = self._samples[position]
        is_exact = self._settings.fps is None
        # Between two samples of the full-rate pass lie only repeats of the first.
        return Proposal(at, at - 1 if is_exact else self._samples[position - 1], is_exact)


class _Content(ContentDetector):
    """ContentDetector with its default weights: the same score in a tenth of the time on tiny frames."""

    _hsv: np.ndarray | None = None

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: np.ndarray) -> float:  # noqa: ARG002
        last, self._hsv = self._hsv, cv2.cvtColor(frame_img, cv2.COLOR_BGR2HSV)
        return 0.0 if last is None else cv2.norm(self._hsv, last, cv2.NORM_L1) / self._hsv.size


class _Adaptive(_Content, AdaptiveDetector):
    """AdaptiveDetector on that score."""


def _open(settings: DetectorPass) -> SceneDetector:
    if settings.detector == "adaptive":
        return _Adaptive(
            adaptive_threshold=settings.threshold, min_scene_len=0, window_width=settings.window, min_content_val=settings.min_content
        )
    return _Content(threshold=settings.threshold, min_scene_len=0)
