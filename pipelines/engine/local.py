"""The reference engine: this process, one shard after the other. Whatever another engine writes is held against what this one writes."""

from collections.abc import Sequence

from pipelines.events import Report
from pipelines.shard import ShardTask, ShardWork


def run(tasks: Sequence[ShardTask], work: ShardWork, report: Report) -> None:
    """Runs every task here. A crash of a decoder is a crash of this process: use the ray engine for input that is not trusted."""
    worker = work.open()
    for task in tasks:
        worker.run(task, report)
