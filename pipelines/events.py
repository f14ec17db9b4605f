"""What a running job says while it runs. Small, picklable, the same from every engine."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Begun:
    """A task is about to touch something that may end its worker: a source by its key, a clip by its id."""

    task: str
    key: str


@dataclass(frozen=True, slots=True)
class SourceDone:
    """One source has been scanned. `status` is ok, damaged, failed or quarantined; `message` says why it is not ok.

    `seconds` is processor time spent on it, the forward passes of models that ran in the worker included. `is_earlier`: another run,
    which was stopped, had done it.
    """

    key: str
    status: str
    message: str | None
    size_bytes: int
    decoded_s: float
    num_clips: int
    seconds: float
    is_earlier: bool = False


@dataclass(frozen=True, slots=True)
class Advanced:
    """How far a source is, or one part of it (`part`, from 0), that is not done: what has passed of its bytes, seconds and clips."""

    key: str
    part: int
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
    """A process died on a source; `attempt` of `max_attempts` (both counted from one)."""

    key: str
    reason: str
    attempt: int
    max_attempts: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A line for people: why the run waits."""

    text: str


Event = Begun | SourceDone | Advanced | ClipDone | ShardDone | WorkerDied | Notice
Report = Callable[[Event], None]
