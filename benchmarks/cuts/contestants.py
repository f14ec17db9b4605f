"""The detectors in the table, and how one is run over a film."""

import time
from collections.abc import Callable, Mapping
from typing import get_args

import numpy as np

from curate.shots import ShotDetector, Transition
from curate.shots.params import Shots, open_detector
from cuts.films import Footage

Opener = Callable[[], ShotDetector]


class Stock:
    """A PySceneDetect detector as its users run it: every frame, defaults, its own minimum scene length. Times are ours."""

    size = (64, 36)
    settled_ns = 0

    def __init__(self, name: str) -> None:
        from scenedetect import detectors

        self._detector = getattr(detectors, name)()
        self._times_ns: list[int] = []

    def push(self, time_ns: int, tiny_bgr: np.ndarray) -> list[Transition]:
        from scenedetect import FrameTimecode

        self._times_ns.append(time_ns)
        return self._named(self._detector.process_frame(FrameTimecode(len(self._times_ns) - 1, fps=25.0), tiny_bgr))

    def finish(self, end_ns: int) -> list[Transition]:  # noqa: ARG002 (the detectors' contract)
        from scenedetect import FrameTimecode

        return self._named(self._detector.post_process(FrameTimecode(len(self._times_ns) - 1, fps=25.0)))

    def _named(self, cuts: list) -> list[Transition]:
        return [Transition(self._times_ns[cut.frame_num], self._times_ns[cut.frame_num], "cut") for cut in cuts]


def contestants(variants: Mapping[str, str] | None = None) -> dict[str, Opener]:
    """Ours by the name that `shots.detector` takes, PySceneDetect's, and variants: name -> JSON of the section `shots`."""
    ours: dict[str, Opener] = {name: _opener(Shots(detector=name)) for name in get_args(Shots.model_fields["detector"].annotation)}
    others = {name: _opener(Shots.model_validate_json(text)) for name, text in (variants or {}).items()}
    return {**ours, **others, "ContentDetector": lambda: Stock("ContentDetector"), "AdaptiveDetector": lambda: Stock("AdaptiveDetector")}


def _opener(params: Shots) -> Opener:
    return lambda: open_detector(params)


def detected(opened: Opener, film: Footage) -> tuple[list[Transition], float]:
    """What a fresh detector reports, in order, and its CPU seconds."""
    detector = opened()
    frames = film.tiny[detector.size]
    begun_s = time.process_time()
    found = [one for at, frame in zip(film.times_ns.tolist(), frames, strict=True) for one in detector.push(at, frame)]
    found += detector.finish(film.end_ns)
    return sorted(found), time.process_time() - begun_s
