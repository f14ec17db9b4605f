"""What an engine knows of a job: tasks with names, work that opens in a worker, and notes that name the culprit when a worker dies."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from curate.models import Models
from pipelines.events import Report


class Task(Protocol):
    """A unit of work and of commit; picklable."""

    @property
    def name(self) -> str:
        """Different for every task of a run; usable as a file's name."""
        ...

    def without(self, key: str, reason: str) -> Self:
        """The same task that leaves one thing alone, and says why."""
        ...


@dataclass(frozen=True, slots=True)
class Split:
    """What a task answers that is too much for one worker: others to do first, in any order and anywhere, then `then`, of its own name."""

    first: "tuple[Task, ...]"
    then: "Task"


class Worker(Protocol):
    """What runs tasks in one process."""

    def run(self, task: Any, report: Report) -> Split | None:
        """Does the task, or says what has to be done before it can be (None: it is done)."""
        ...


class Work(Protocol):
    """Everything a worker needs, a picklable dataclass; `open()` loads what is heavy, in the worker."""

    @property
    def models(self) -> Models: ...

    @property
    def notes(self) -> "Notes": ...

    def open(self) -> Worker: ...

    def with_models(self, models: Models) -> Self: ...


@dataclass(frozen=True, slots=True)
class Notes:
    """A folder that every worker and the driver see, where each task's worker leaves word of what it is about to touch."""

    folder: str

    def write(self, task: str, key: str) -> None:
        path = self._path(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"key": key}))

    def remove(self, task: str) -> None:
        self._path(task).unlink(missing_ok=True)

    def read(self, task: str) -> str | None:
        """What the worker on this task was at when it last spoke."""
        path = self._path(task)
        return str(json.loads(path.read_text())["key"]) if path.exists() else None

    def _path(self, task: str) -> Path:
        return Path(self.folder) / f"{task}.json"
