"""What an engine knows of a job: tasks with names, work that opens in a worker, and notes that name the culprit when a worker dies."""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from curate.manifest import files
from curate.models import Models
from pipelines.events import Report

WORK_FOLDER = ".work"  # in a manifest: what a run needs while it runs


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
        self._put(task, {"key": key})

    def touch(self, task: str) -> None:
        """Says that the task goes on."""
        path = self._path(task)
        if files.is_remote(path):
            self._put(task, json.loads(path.read_text()))
        else:
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)

    def explain(self, task: str, reason: str) -> None:
        """Last words of a worker that ends itself."""
        key = self.read(task)
        if key is not None:
            self._put(task, {"key": key, "reason": reason})

    def reason(self, task: str) -> str | None:
        """The last words, if there were any."""
        path = self._path(task)
        return json.loads(path.read_text()).get("reason") if path.exists() else None

    def stamp(self, task: str) -> int | None:
        """Changes whenever the task's worker writes or touches its note; None where there is none."""
        try:
            path = self._path(task)
            return int(path.stat().st_mtime) if files.is_remote(path) else path.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def remove(self, task: str) -> None:
        files.remove_file(self._path(task))

    def read(self, task: str) -> str | None:
        """What the worker on this task was at when it last spoke."""
        path = self._path(task)
        return str(json.loads(path.read_text())["key"]) if path.exists() else None

    def _put(self, task: str, content: dict[str, str]) -> None:
        """The driver may read at any moment, and sees the old note or the new one."""
        path = self._path(task)
        files.make_folder(path.parent)
        data = json.dumps(content).encode()
        if files.is_remote(path):
            files.write_file(path, data)
            return
        aside = path.with_suffix(".aside")  # nobody needs it after a power cut, so nothing is synced
        aside.write_bytes(data)
        aside.replace(path)

    def _path(self, task: str) -> Path:
        return files.located(self.folder) / f"{task}.json"
