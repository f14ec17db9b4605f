"""Parts of long sources on their way to the shard that they belong to.

    shards/NNNNN/.parts/rest/         the shard's other sources, and which parts the long ones have
    shards/NNNNN/.parts/SSSSS-PPPPP/  part P of the shard's source S

Each is a small shard of its own (see `curate.manifest.shard`): written aside, and complete when its mark is there. The mark says what it
was made from and with, so that a run that was killed goes on with the parts that it has. When all are there they are joined, the shard is
committed as any other, and the folder is removed. Readers of the manifest never look into it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.clip import Fault, Span
from curate.errors import ManifestError
from curate.manifest import CLIP_COLUMNS, SOURCE_COLUMNS, Shard, files, fingerprint, parquet, schema, table
from curate.media.decode import Declared, PacketIndex, missing_end
from curate.media.seek import Part
from curate.scan import ScanReport
from curate.sources import Source
from pipelines.rows import joined_row

FOLDER = ".parts"
SUMMED = ("num_frames", "num_interlaced", "num_uneven", "num_packets", "num_keyframes", "num_clips", "exact_s", "snapped_s")
KEPT = (*SUMMED, "start_ns", "end_ns", "streams_end_s")

Parts = Mapping[int, tuple[Part, ...]]
"""Place of a long source in its shard -> its parts."""

Counts = dict[str, Any]
"""What a part counted (`KEPT`), its faults, what the container declares, and the worker's seconds; as JSON holds them."""


@dataclass(frozen=True, slots=True)
class PartTask:
    """One part of the source at `place` of a shard. `only` and `quarantined` as in the shard's task."""

    shard_id: int
    place: int
    source: Source
    number: int
    num_parts: int
    part: Part
    only: tuple[str, ...] | None = None
    quarantined: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.shard_id:05d}-{self.place:05d}-{self.number:05d}"

    def without(self, key: str, reason: str) -> "PartTask":
        return replace(self, quarantined={key: reason})


@dataclass(frozen=True, slots=True)
class Tables:
    """What was found out about some sources, or about a part of one; rows as in a shard of the ledger, large columns in their places."""

    sources: pa.Table
    clips: pa.Table
    frames: pa.Table
    scorers: Mapping[str, pa.Table]

    def of(self, key: str) -> "Tables":
        """The rows of one source."""
        own = pc.equal(self.clips["source_key"], key)
        scorers = {name: one.filter(own) for name, one in self.scorers.items()}
        sources = self.sources.filter(pc.equal(self.sources["source_key"], key))
        return Tables(sources, self.clips.filter(own), self.frames.filter(own), scorers)


def concatenated(some: Sequence[Tables]) -> Tables:
    """Rows in the order given; there is at least one."""
    sources, clips, frames = (_rows([getattr(one, name) for one in some]) for name in ("sources", "clips", "frames"))
    return Tables(sources, clips, frames, {name: _rows([one.scorers[name] for one in some]) for name in some[0].scorers})


def _rows(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).combine_chunks()


class Scratch:
    """The folder `.parts` of one shard. `made_with` is anything that the bytes depend on besides sources and parts."""

    def __init__(self, shard: Shard, made_with: Sequence[object], scorers: Mapping[str, str]) -> None:
        self._folder = shard.folder / FOLDER
        self._made_with, self._scorers = tuple(made_with), dict(scorers)

    def has_part(self, task: PartTask) -> bool:
        done = self._part(task).done()
        return done is not None and done[0] == self._mark(task)

    def write_part(self, task: PartTask, found: Tables, report: ScanReport, seconds: float) -> None:
        counts: Counts = {name: getattr(report, name) for name in KEPT}
        counts["faults"] = [asdict(fault) for fault in report.faults]
        counts["declared"] = asdict(Declared.by(report.probe)) if report.probe else None
        counts["seconds"] = seconds
        self._write(self._part(task), found, self._mark(task), counts)

    def read_part(self, task: PartTask) -> tuple[Tables, Counts]:
        if not self.has_part(task):
            raise ManifestError(f"{self._part(task).folder}: part {task.number} of {task.source.key} is gone; start the same command again")
        return self._read(self._part(task))

    def write_rest(self, sources: Sequence[Source], quarantined: Mapping[str, str], parts: Parts, found: Tables) -> None:
        plan = {str(place): [[one.span.start_ns, one.span.end_ns, one.from_ns] for one in some] for place, some in parts.items()}
        self._write(Shard(self._folder / "rest"), found, self._mark_of_rest(sources, quarantined), {"parts": plan})

    def read_rest(self, sources: Sequence[Source], quarantined: Mapping[str, str]) -> tuple[Tables, Parts] | None:
        """None where it has not been made, or not from these sources."""
        shard = Shard(self._folder / "rest")
        done = shard.done()
        if done is None or done[0] != self._mark_of_rest(sources, quarantined):
            return None
        found, facts = self._read(shard)
        plan = facts["parts"].items()
        return found, {int(place): tuple(Part(Span(start, end), begin) for start, end, begin in some) for place, some in plan}

    def quarantine(self, place: int, reason: str) -> None:
        """A source that killed its workers: no other part of it is tried in this run."""
        files.make_folder(self._folder)
        files.write_file(self._quarantine(place), json.dumps(reason).encode())

    def quarantined(self, place: int) -> str | None:
        path = self._quarantine(place)
        return str(json.loads(path.read_bytes())) if path.exists() else None

    def forgive(self, place: int) -> None:
        """Another run tries again."""
        files.remove_file(self._quarantine(place))

    def remove(self) -> None:
        files.remove_folder(self._folder)

    def _quarantine(self, place: int) -> Path:
        return self._folder / f"{place:05d}.quarantined.json"

    def _part(self, task: PartTask) -> Shard:
        return Shard(self._folder / f"{task.place:05d}-{task.number:05d}")

    def _mark(self, task: PartTask) -> str:
        span = task.part.span
        return fingerprint(*self._made_with, _identity(task.source), span.start_ns, span.end_ns, task.part.from_ns)

    def _mark_of_rest(self, sources: Sequence[Source], quarantined: Mapping[str, str]) -> str:
        return fingerprint(*self._made_with, [_identity(source) for source in sources], dict(quarantined))

    def _write(self, shard: Shard, found: Tables, mark: str, facts: Mapping[str, Any]) -> None:
        files.make_folder(shard.folder)
        shard.invalidate()
        files.write_file(shard.folder / "facts.json", json.dumps(facts).encode())
        shard.write(found.sources, found.clips, found.frames, found.scorers, mark, self._scorers)

    def _read(self, shard: Shard) -> tuple[Tables, dict[str, Any]]:
        scorers = {name: _scorer(shard.folder, name) for name in self._scorers}
        facts: dict[str, Any] = json.loads((shard.folder / "facts.json").read_bytes())
        return Tables(shard.read_sources(), shard.read_keys(), shard.read_frames(), scorers), facts


def remove_scratch(shard: Shard) -> None:
    """Removes what a run left that died between a shard's commit and the removal of its parts."""
    files.remove_folder(shard.folder / FOLDER)


def _scorer(folder: Path, name: str) -> pa.Table:
    found, large = parquet.read(folder / f"{name}.parquet"), folder / f"{name}.large.parquet"
    if large.exists():
        more = parquet.read(large)
        for column in list(more.schema)[1:]:
            found = found.append_column(column, more[column.name])
    return found


def _identity(source: Source) -> list[object]:
    return [source.key, source.url, source.size_bytes, source.etag, source.mtime_ns, source.caption]


def joined(parts: Sequence[Tables], counted: Sequence[Counts]) -> tuple[Tables, float]:
    """One source from its parts in order, and the seconds that workers spent on it."""
    report = ScanReport()
    for name in SUMMED:
        setattr(report, name, sum(counts[name] for counts in counted))
    report.streams_end_s = max(counts["streams_end_s"] for counts in counted)
    report.faults = [Fault(**fault) for counts in counted for fault in counts["faults"]]
    report.start_ns = next((counts["start_ns"] for counts in counted if counts["start_ns"] is not None), None)
    report.end_ns = next((counts["end_ns"] for counts in reversed(counted) if counts["end_ns"] is not None), None)
    found = concatenated(parts)
    clips = found.clips.to_pylist()
    if missing := _missing_end(report, counted):
        report.faults.append(missing)
        if clips and clips[-1]["end_kind"] == "source":
            clips[-1]["end_kind"] = "fault"
    _number(clips)
    for clip in clips:
        clip["is_after_fault"] = any(f.time_ns is not None and f.time_ns <= clip["start_ns"] for f in report.faults)
    report.num_shots = clips[-1]["shot_index"] + 1 if clips else 0
    rows = found.sources.to_pylist()
    row = joined_row(next((row for row in rows if row["container"] is not None), rows[0]), report)
    own = replace(found, sources=table(schema(SOURCE_COLUMNS), [row]), clips=table(schema(CLIP_COLUMNS), clips))
    return own, sum(counts["seconds"] for counts in counted)


def _number(clips: list[dict[str, Any]]) -> None:
    """Numbers shots and clips through the whole source; a shot that is divided between two parts stays one."""
    before: dict[str, Any] = {"shot_index": -1, "clip_index": 0, "end_kind": None, "end_ns": None}
    for clip in clips:
        is_divided = before["end_kind"] == clip["start_kind"] == "part" and before["end_ns"] == clip["start_ns"]
        is_same = is_divided or clip["clip_index"] > 0
        clip["shot_index"] = before["shot_index"] + (not is_same)
        clip["clip_index"] = before["clip_index"] + 1 if is_same else 0
        before = clip


def _missing_end(report: ScanReport, counted: Sequence[Counts]) -> Fault | None:
    declared = next((counts["declared"] for counts in counted if counts["declared"] is not None), None)
    packets = PacketIndex(num_packets=report.num_packets, streams_end_s=report.streams_end_s)
    return missing_end(Declared(**declared), packets, report.end_ns) if declared else None
