"""The reference engine: this process, one task after the other. Whatever another engine writes is held against what this one writes."""

from collections.abc import Sequence

from pipelines.events import Report
from pipelines.work import Task, Work


def run(tasks: Sequence[Task], work: Work, report: Report) -> None:
    """Runs every task here. A crash of a decoder is a crash of this process: use the ray engine for input that is not trusted."""
    worker = work.open()
    waiting = list(reversed(tasks))
    while waiting:
        split = worker.run(waiting.pop(), report)
        if split is not None:
            waiting += [split.then, *reversed(split.first)]
