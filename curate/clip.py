"""Spans of time, clips, and the names they go by.

Time is int64 nanoseconds on the source's own presentation timeline; a span is half-open, `[start_ns, end_ns)`.
"""

import hashlib
from dataclasses import dataclass

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Half-open interval of presentation time, in nanoseconds."""

    start_ns: int
    end_ns: int

    def __post_init__(self) -> None:
        if self.end_ns < self.start_ns:
            raise ValueError(f"Span end_ns={self.end_ns} lies before start_ns={self.start_ns}")

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.start_ns) / NS_PER_S

    def __contains__(self, time_ns: int) -> bool:
        return self.start_ns <= time_ns < self.end_ns


@dataclass(frozen=True, slots=True)
class Box:
    """Rectangle of displayed pixels (rotation and sample aspect applied); x to the right, y down."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a value is null or a source ended early. `time_ns` is where in the source, when that is known."""

    stage: str
    kind: str
    message: str
    time_ns: int | None = None


def clip_id(source_key: str, span: Span) -> str:
    """16 hex digits that name the clip: the same source key and span give the same id on every machine."""
    text = f"{source_key}\0{span.start_ns}\0{span.end_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
