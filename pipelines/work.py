"""What an engine knows of a job: tasks with names, work that opens in a worker, and which task waits for which."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from curate.models import Models
from curate.pipelines.events import Report

BUNDLE_S = 30.0  # of processor time: tasks that are given to a worker at once, so that small ones cost no round trip each


class Task(Protocol):
    """A unit of work; picklable."""

    @property
    def name(self) -> str:
        """Different for every task of a run; usable as a file's name."""
        ...

    @property
    def size_bytes(self) -> int:
        """What it reads, by which its time is guessed; 0 for one that is not bundled with others."""
        ...

    def without(self, key: str, reason: str) -> Self:
        """Return the same task that leaves one thing alone, and says why."""
        ...


@dataclass(frozen=True, slots=True)
class Split:
    """What a task answers that is too much for one worker: others to do first, in any order and anywhere, then `then`, of its own name."""

    first: "tuple[Any, ...]"
    then: Any


class Worker(Protocol):
    """What runs tasks in one process, or in one thread of it."""

    def run(self, task: Any, report: Report) -> Split | None:
        """Do the task, or say what has to be done before it can be (None: it is done)."""
        ...

    def stop(self) -> None:
        """Make `run`, in another thread, end soon."""
        ...

    def close(self) -> None:
        """End what the worker has started."""
        ...


class Work(Protocol):
    """Everything a worker needs, a picklable dataclass; `open()` loads what is heavy, in the worker."""

    @property
    def models(self) -> Models: ...

    def open(self) -> Worker: ...

    def with_models(self, models: Models) -> Self: ...


@dataclass(slots=True)
class _Waiting:
    """A task that was split, and how many of those before it are not done."""

    task: Task
    num_left: int


class TaskQueue:
    """Tasks that nobody has, and tasks that wait for others. Not for several threads at a time."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._queue: deque[Task] = deque(tasks)
        self._splits: dict[str, _Waiting] = {}  # by the names of the tasks that are waited for
        self._done_bytes, self._done_s = 0, 0.0
        self._queued_bytes = sum(task.size_bytes for task in self._queue)

    def __bool__(self) -> bool:
        return bool(self._queue)

    def learn(self, size_bytes: int, seconds: float) -> None:
        """Note what a source took, for the size of bundles to come."""
        self._done_bytes += size_bytes
        self._done_s += seconds

    def take(self) -> Task:
        """Return the next task."""
        task = self._queue.popleft()
        self._queued_bytes -= task.size_bytes
        return task

    def take_bundle(self, num_workers: int) -> list[Task]:
        """Return tasks of about `BUNDLE_S`, or of a worker's fair share where less is left, so that none is idle in the end."""
        bundle = [self.take()]
        if not bundle[0].size_bytes or not self._done_bytes or not self._done_s:
            return bundle
        seconds_a_byte = self._done_s / self._done_bytes
        has_more = bool(self._queue) and not self._queue[-1].size_bytes  # shards that nobody has looked into
        left_s = (self._queued_bytes + bundle[0].size_bytes) * seconds_a_byte
        limit_s = BUNDLE_S if has_more else min(BUNDLE_S, left_s / (2 * num_workers))
        taken_s = bundle[0].size_bytes * seconds_a_byte
        while self._queue and (size := self._queue[0].size_bytes):
            taken_s += size * seconds_a_byte
            if taken_s > limit_s:
                break
            bundle.append(self.take())
        return bundle

    def put_back(self, tasks: Sequence[Task]) -> None:
        """Take tasks back that were not done, in front of the others."""
        self._queue.extendleft(reversed(tasks))
        self._queued_bytes += sum(task.size_bytes for task in tasks)

    def finish(self, task: Task, split: Split | None) -> None:
        """Note that a task was done, or split."""
        if split is not None:
            if split.first:
                waiting = _Waiting(split.then, len(split.first))
                self._splits |= {one.name: waiting for one in split.first}
            # In front of other shards: a long source must not be what is still running when all else is done.
            self.put_back(split.first or (split.then,))
        elif task.name in self._splits:
            waiting = self._splits.pop(task.name)
            waiting.num_left -= 1
            if not waiting.num_left:
                self.put_back((waiting.task,))


