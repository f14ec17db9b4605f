"""SIGKILL at an enumerated write: which writes a process makes, in order, and how to end it, its driver or everything at one of them.

Python announces every change that it makes to a disk before it makes it (audit events, PEP 578). The hook here counts those below one
folder and lets the one of a given number not happen. Processes that Ray starts are told by an environment variable.
"""

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from process_tree import descendants

from curate.pipelines.curation_worker import CurationWork, CurationWorker

PLAN = "CURATE_TEST_KILLS"
ASIDE = re.compile(r"\.curate-aside-(.*)-[0-9a-f]{8}$")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Plan:
    """What is to happen in one run.

    root    the folder whose writes count
    log     each counted write is a line of this file: role, number, name
    role    whose writes lead to the end: `driver`, or `worker` (any process of the engine that takes shards)
    point   at which of its writes, from 1; 0: none; -1: every such process at its first write at which none before it has died
    ends    what is ended: `itself`, `driver` (the process at the write goes on), or `group`: the driver and all that descends from it
    """

    root: str
    log: str
    role: str = "driver"
    point: int = 0
    ends: str = "itself"
    driver: int = 0

    def publish(self) -> None:
        """For this process, which is the driver, and those that it starts."""
        os.environ[PLAN] = json.dumps({**self.__dict__, "driver": os.getpid()})
        arm(Plan.published(), "driver")

    @staticmethod
    def published() -> "Plan":
        return Plan(**json.loads(os.environ[PLAN]))


@dataclass(frozen=True, slots=True)
class KillableWork(CurationWork):
    """The same work in a process that follows the plan."""

    def open(self) -> CurationWorker:
        arm(Plan.published(), "worker")
        return CurationWorker(self)


def arm(plan: Plan, role: str) -> None:
    """Counts the writes of this process from now on."""
    point, deaths = plan.point if role == plan.role else 0, Path(plan.log + ".deaths")
    died = deaths.read_text().splitlines() if point < 0 and deaths.exists() else []
    count, log = 0, os.open(plan.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        name = written(event, args, plan.root) if event in TARGETS else None
        if name is None:
            return
        count += 1
        os.write(log, f"{role}\t{count}\t{name}\n".encode())
        if point < 0 and name not in died:
            died.append(name)
            deaths.write_text("\n".join(died))
            end(plan)
        if count == point:
            end(plan)

    sys.addaudithook(hook)


def end(plan: Plan) -> None:
    targets = {"itself": [], "driver": [plan.driver], "group": [plan.driver, *descendants(plan.driver)]}[plan.ends]
    for pid in targets:
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if plan.ends != "driver" or plan.role == "driver":
        os.kill(os.getpid(), signal.SIGKILL)


def written(event: str, args: tuple[Any, ...], root: str) -> str | None:
    """What of the folder is about to change, as `event path`, parts that differ from run to run left out; None for anything else."""
    path, folder = TARGETS[event](args)
    if path is None:
        return None
    if isinstance(path, int):
        path = os.readlink(f"/proc/self/fd/{path}")
    path = os.fsdecode(path)
    if isinstance(folder, int) and folder >= 0:
        path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    path = os.path.abspath(path)
    if not path.startswith(root + "/"):
        return None
    return f"{event.removeprefix('os.')} " + ASIDE.sub(r"aside of \1", os.path.relpath(path, root))


def _opened(args: tuple[Any, ...]) -> tuple[Any, Any]:
    path, _, flags = args
    return (path if isinstance(flags, int) and flags & WRITES and not isinstance(path, int) else None), None


TARGETS: dict[str, Callable[[tuple[Any, ...]], tuple[Any, Any]]] = {
    "open": _opened,
    "os.rename": lambda args: (args[1], args[3]),
    "os.remove": lambda args: (args[0], args[1]),
    "os.mkdir": lambda args: (args[0], args[2]),
    "os.rmdir": lambda args: (args[0], args[1]),
    "os.truncate": lambda args: (args[0], None),
}
"""Audit event -> the path that changes (a descriptor for some) and the descriptor of the folder that it is relative to."""
