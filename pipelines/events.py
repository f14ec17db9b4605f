"""What a running job says while it runs. Small, picklable, the same from every engine."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceDone:
    """One source has been scanned. `status` is ok, damaged, failed or quarantined; `message` says why it is not ok.

    `seconds` is the worker's time on it, model batches that it filled included.
    """

    key: str
    status: str
    message: str | None
    size_bytes: int
    decoded_s: float
    num_clips: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PartDone:
    """One part of a long source has been scanned; `size_bytes` is its share. `SourceDone` follows when all have been joined."""

    key: str
    size_bytes: int
    decoded_s: float
    num_clips: int


@dataclass(frozen=True, slots=True)
class ClipDone:
    """One clip of an export has been made and verified, or could not be (`message` says why). `duration_s` is the clip's own."""

    key: str
    message: str | None
    duration_s: float


@dataclass(frozen=True, slots=True)
class ShardDone:
    """One shard has been committed."""

    name: str


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """A worker process died on a source; `attempt` of `max_attempts` (both counted from one)."""

    key: str
    reason: str
    attempt: int
    max_attempts: int


Event = SourceDone | PartDone | ClipDone | ShardDone | WorkerDied
Report = Callable[[Event], None]
