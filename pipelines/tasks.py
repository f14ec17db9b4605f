"""The tasks of a run: a source, a part of a long one, and the shard that is committed when its sources are done.

    ShardTask --splits--> SourceTask of each source that the working area lacks --then--> ShardTask: commit
    SourceTask --splits where it is long--> PartTask of each part that is lacking --then--> SourceTask: join

Names differ within a run and say where a task belongs: `00007`, `00007-00002`, `00007-00002-00011`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from curate.media.seek import Part
from curate.sources import Source


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard: which of its sources are missing, and its commit when none is (`commits`).

    `only` names the scorers to (re)compute on the clips that it has; None is the whole pass. `quarantined`: source key -> why it is
    not opened.
    """

    shard_id: int
    sources: tuple[Source, ...]
    only: tuple[str, ...] | None = None
    quarantined: Mapping[str, str] = field(default_factory=dict)
    commits: bool = False

    @property
    def name(self) -> str:
        return f"{self.shard_id:05d}"

    @property
    def size_bytes(self) -> int:
        return 0

    def without(self, key: str, reason: str) -> "ShardTask":
        return replace(self, quarantined={**self.quarantined, key: reason})

    def source_tasks(self) -> tuple["SourceTask", ...]:
        return tuple(
            SourceTask(self.shard_id, place, source, self.only, self.quarantined.get(source.key))
            for place, source in enumerate(self.sources)
        )


@dataclass(frozen=True, slots=True)
class SourceTask:
    """The source at `place` of a shard. `quarantined`: why it is not opened. `parts`: those that have been done, if it was cut."""

    shard_id: int
    place: int
    source: Source
    only: tuple[str, ...] | None = None
    quarantined: str | None = None
    parts: tuple[Part, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.shard_id:05d}-{self.place:05d}"

    @property
    def size_bytes(self) -> int:
        return self.source.size_bytes or 0

    def without(self, key: str, reason: str) -> "SourceTask":
        assert key == self.source.key
        return replace(self, quarantined=reason)

    def part_tasks(self, parts: tuple[Part, ...]) -> tuple["PartTask", ...]:
        return tuple(
            PartTask(self.shard_id, self.place, self.source, number, len(parts), part, self.only) for number, part in enumerate(parts)
        )


@dataclass(frozen=True, slots=True)
class PartTask:
    """One part of a long source; the rest as in `SourceTask`."""

    shard_id: int
    place: int
    source: Source
    number: int
    num_parts: int
    part: Part
    only: tuple[str, ...] | None = None
    quarantined: str | None = None

    @property
    def name(self) -> str:
        return f"{self.shard_id:05d}-{self.place:05d}-{self.number:05d}"

    @property
    def size_bytes(self) -> int:
        return (self.source.size_bytes or 0) // self.num_parts

    def without(self, key: str, reason: str) -> "PartTask":
        assert key == self.source.key
        return replace(self, quarantined=reason)


Task = ShardTask | SourceTask | PartTask
