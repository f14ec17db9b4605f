"""Where a shot ends. A detector is pushed every frame, tiny, and returns transitions in order, each once."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

TransitionKind = Literal["cut", "dissolve", "fade", "fault"]


@dataclass(frozen=True, slots=True, order=True)
class Transition:
    """Frames with `start_ns <= time < end_ns` belong to no clip. A hard cut is empty: both are the new shot's first time."""

    start_ns: int
    end_ns: int
    kind: TransitionKind = "cut"


class ShotDetector(Protocol):
    """Contract of a detector; one instance serves one source.

    size        (width, height) of the tiny frames it wants
    settled_ns  every transition that starts before this time has been returned; never decreases
    """

    size: tuple[int, int]

    @property
    def settled_ns(self) -> int: ...

    def push(self, time_ns: int, tiny_bgr: np.ndarray) -> list[Transition]:
        """Takes the next frame, uint8 (height, width, 3) BGR in presentation order; returns what is certain by now."""
        ...

    def finish(self, end_ns: int) -> list[Transition]:
        """Takes the end of the last frame (of the source, or before a fault); returns all that is left."""
        ...
