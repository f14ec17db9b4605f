"""The working area of a shard: what is finished of it, one file a source, until all is there and the shard is committed.

    shards/NNNNN/.work/SSSSS.zip         the source at place S
    shards/NNNNN/.work/SSSSS-PPPPP.zip   part P of it, where it is long and scanned in parts

A file is written whole or not at all. It holds the rows as Arrow streams with a checksum each, what the pass counted, and a mark: what the
rows were made from and with. A run that was killed goes on with the files whose mark is the one that it would write. Readers of the
manifest never look into the folder; it is removed when the shard has been committed.
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.clip import Fault
from curate.errors import ManifestError
from curate.manifest import CLIP_COLUMNS, FRAME_COLUMNS, SOURCE_COLUMNS, Shard, files, fingerprint, schema, scorer_schema, table
from curate.media.decode import Declared, missing_end
from curate.media.packets import PacketAccount, PacketIndex
from curate.pipelines.rows import joined_row
from curate.pipelines.tasks import PartTask, SourceTask
from curate.scan import ScanReport, unaccounted
from curate.scorers import ScorerLike
from curate.sources import Source

FOLDER = ".work"
FORMER_FOLDER = ".parts"  # of earlier versions, whose contents are of no use to this one
SUMMED = ("num_frames", "num_interlaced", "num_uneven", "num_packets", "num_empty", "num_keyframes", "num_clips", "exact_s", "snapped_s")
KEPT = (*SUMMED, "start_ns", "end_ns", "streams_end_s")
SCORER = "scorer "
QUARANTINED = ".quarantined.json"

Counts = dict[str, Any]
"""What a source or a part counted (`KEPT`), its faults, what the container declares, and processor seconds; as JSON holds them."""


def counts_of(report: ScanReport) -> Counts:
    """Return what of a report outlives the scan."""
    counts: Counts = {name: getattr(report, name) for name in KEPT}
    counts["faults"] = [asdict(fault) for fault in report.faults]
    counts["account"] = asdict(report.account) if report.account else None
    counts["declared"] = asdict(Declared.by(report.probe)) if report.probe else None
    return counts


@dataclass(frozen=True, slots=True)
class Tables:
    """What was found out about a source, or about a part of one; rows as in a shard of the ledger, large columns in their places."""

    sources: pa.Table
    clips: pa.Table
    frames: pa.Table
    scorers: Mapping[str, pa.Table]

    def named(self) -> dict[str, pa.Table]:
        """Return every table by a name that tells it from the others."""
        scorers = {f"{SCORER}{name}": one for name, one in self.scorers.items()}
        return {"sources": self.sources, "clips": self.clips, "frames": self.frames, **scorers}

    @classmethod
    def of(cls, named: Mapping[str, pa.Table]) -> "Tables":
        """Return what `named` gave."""
        scorers = {name.removeprefix(SCORER): one for name, one in named.items() if name.startswith(SCORER)}
        return cls(named["sources"], named["clips"], named["frames"], scorers)

    def conformed(self, scorers: Mapping[str, ScorerLike]) -> "Tables":
        """Return the same with the very schemas of the ledger. Raises `ManifestError` where a column is of another type, or not there."""
        schemas = {"sources": schema(SOURCE_COLUMNS), "clips": schema(CLIP_COLUMNS), "frames": schema(FRAME_COLUMNS)}
        schemas |= {f"{SCORER}{name}": scorer_schema(scorers[name].columns) for name in self.scorers}
        found = self.named()
        for name, one in found.items():
            if one.schema != schemas[name]:
                raise ManifestError(f"{name}: columns {one.schema.names} are not {schemas[name].names}, or of other types")
        # As equal as schemas compare, their serialised forms may differ.
        return Tables.of({name: pa.Table.from_arrays(one.columns, schema=schemas[name]) for name, one in found.items()})

    @property
    def source_row(self) -> dict[str, Any]:
        row: dict[str, Any] = self.sources.to_pylist()[0]
        return row


def to_stream(one: pa.Table) -> bytes:
    """Return a table as an Arrow stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, one.schema) as writer:
        writer.write_table(one)
    return sink.getvalue()


def from_stream(data: bytes | memoryview) -> pa.Table:
    """Return the table of an Arrow stream, checked. Raises `pa.ArrowInvalid`."""
    found = pa.ipc.open_stream(pa.py_buffer(data)).read_all()
    found.validate(full=True)
    return found


def concatenated(some: Sequence[Tables]) -> Tables:
    """Rows in the order given; there is at least one."""
    sources, clips, frames = (_rows([getattr(one, name) for one in some]) for name in ("sources", "clips", "frames"))
    return Tables(sources, clips, frames, {name: _rows([one.scorers[name] for one in some]) for name in some[0].scorers})


def _rows(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).combine_chunks()


class WorkingArea:
    """The folder `.work` of one shard. `made_with` is anything that the bytes depend on besides sources and parts."""

    def __init__(self, shard: Shard, made_with: Sequence[object]) -> None:
        self._folder, self._made_with = shard.folder / FOLDER, tuple(made_with)

    def has(self, task: SourceTask | PartTask) -> bool:
        """Tell whether the task is done, from this very source and with these settings."""
        return self._contents(task) is not None

    def write(self, task: SourceTask | PartTask, found: Tables, counts: Counts) -> None:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as archive:
            archive.writestr("mark", self._mark(task))
            archive.writestr("counts.json", json.dumps(counts))
            for name, one in found.named().items():
                archive.writestr(f"{name}.arrow", to_stream(one))
        files.make_folder(self._folder)
        files.write_file(self._path(task), sink.getbuffer())

    def read(self, task: SourceTask | PartTask) -> tuple[Tables, Counts]:
        """Return what `write` was given. Raises `ManifestError` where it is gone."""
        named = self._contents(task)
        if named is None:
            raise ManifestError(f"{self._path(task)}: what was done of {task.source.key} is gone; start the same command again")
        tables = {name.removesuffix(".arrow"): from_stream(data) for name, data in named.items() if name.endswith(".arrow")}
        return Tables.of(tables), json.loads(named["counts.json"])

    def quarantine(self, place: int, reason: str) -> None:
        """Note a source that killed its workers: no other part of it is tried in this run."""
        files.make_folder(self._folder)
        files.write_file(self._quarantine(place), json.dumps(reason).encode())

    def quarantined(self, place: int) -> str | None:
        """Return why no part of the source is tried, None where they are."""
        path = self._quarantine(place)
        return str(json.loads(path.read_bytes())) if path.exists() else None

    def begin(self) -> None:
        """Remove what writes that were cut short left, and forgive the sources that killed their workers in another run."""
        for name in files.names(self._folder):
            if name.endswith(QUARANTINED):
                files.remove_file(self._folder / name)
        if self._folder.is_dir():
            files.remove_asides(self._folder)

    def lacking(self, tasks: Sequence[SourceTask] | Sequence[PartTask]) -> tuple[SourceTask | PartTask, ...]:
        """Return the tasks that are not done."""
        names = set(files.names(self._folder))
        return tuple(task for task in tasks if self._path(task).name not in names or not self.has(task))

    def remove(self) -> None:
        files.remove_folder(self._folder)
        files.remove_folder(self._folder.with_name(FORMER_FOLDER))

    def _contents(self, task: SourceTask | PartTask) -> dict[str, bytes] | None:
        """Return what the file holds, each entry checked as it is read; None where it is not that of this very task."""
        try:
            with zipfile.ZipFile(io.BytesIO(self._path(task).read_bytes())) as archive:
                named = {name: archive.read(name) for name in archive.namelist()}
        except (FileNotFoundError, NotADirectoryError, zipfile.BadZipFile):
            return None
        return named if named.get("mark") == self._mark(task).encode() else None

    def _quarantine(self, place: int) -> Path:
        return self._folder / f"{place:05d}{QUARANTINED}"

    def _path(self, task: SourceTask | PartTask) -> Path:
        number = f"-{task.number:05d}" if isinstance(task, PartTask) else ""
        return self._folder / f"{task.place:05d}{number}.zip"

    def _mark(self, task: SourceTask | PartTask) -> str:
        part = task.part if isinstance(task, PartTask) else None
        span = [part.span.start_ns, part.span.end_ns, part.from_ns] if part else None
        return fingerprint(*self._made_with, _identity(task.source), span)


def remove_working_area(shard: Shard) -> None:
    """Remove what a run left that died between a shard's commit and the removal of its working area."""
    WorkingArea(shard, ()).remove()


def _identity(source: Source) -> list[object]:
    return [source.key, source.url, source.size_bytes, source.etag, source.mtime_ns, source.caption]


def joined(parts: Sequence[Tables], counted: Sequence[Counts]) -> tuple[Tables, Counts]:
    """Return one source from its parts in order, and what they counted together."""
    report = ScanReport()
    for name in SUMMED:
        setattr(report, name, sum(counts[name] for counts in counted))
    report.streams_end_s = max(counts["streams_end_s"] for counts in counted)
    report.faults = [Fault(**fault) for counts in counted for fault in counts["faults"]]
    report.start_ns = next((counts["start_ns"] for counts in counted if counts["start_ns"] is not None), None)
    report.end_ns = next((counts["end_ns"] for counts in reversed(counted) if counts["end_ns"] is not None), None)
    accounts = [counts["account"] for counts in counted]
    if None not in accounts:
        report.account = PacketAccount()
        for account in accounts:
            report.account.add(account)
    found = concatenated(parts)
    clips = found.clips.to_pylist()
    if missing := _missing_end(report, counted):
        report.faults.append(missing)
        if clips and clips[-1]["end_kind"] == "source":
            clips[-1]["end_kind"] = "fault"
    if fault := unaccounted(report):
        report.faults.append(fault)
    _number(clips)
    for clip in clips:
        clip["is_after_fault"] = any(f.time_ns is not None and f.time_ns <= clip["start_ns"] for f in report.faults)
    report.num_shots = clips[-1]["shot_index"] + 1 if clips else 0
    rows = found.sources.to_pylist()
    row = joined_row(next((row for row in rows if row["container"] is not None), rows[0]), report)
    own = replace(found, sources=table(schema(SOURCE_COLUMNS), [row]), clips=table(schema(CLIP_COLUMNS), clips))
    return own, {**counts_of(report), "seconds": sum(counts["seconds"] for counts in counted)}


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
    packets = PacketIndex(num_packets=report.num_packets, num_empty=report.num_empty, streams_end_s=report.streams_end_s)
    return missing_end(Declared(**declared), packets, report.end_ns) if declared else None
