"""One shard: scan its sources, score their clips in batches that never cross a shard, commit.

Model batches are made within a shard, so what a clip scores does not depend on which worker it met or what else was running.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from curate.clip import Fault, Span
from curate.errors import ScorerError
from curate.manifest import CLIP_COLUMNS, FRAME_COLUMNS, SOURCE_COLUMNS, Manifest, schema, scorer_schema, table
from curate.models import Models
from curate.samples import ClipSamples, Wants
from curate.scan import ClipFacts, Pass, ScannedClip, ScanReport, scan
from curate.scorers import ScorerLike, check_rows
from curate.sources import Source
from pipelines.events import Report, ShardDone, SourceDone
from pipelines.rows import source_row
from pipelines.work import Notes


@dataclass(frozen=True, slots=True)
class ShardTask:
    """What to do with one shard. `only` names the scorers to (re)compute on the clips it has; None is the whole pass.

    `quarantined`: source key -> why it is not opened.
    """

    shard_id: int
    sources: tuple[Source, ...]
    only: tuple[str, ...] | None = None
    quarantined: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.shard_id:05d}"

    def without(self, key: str, reason: str) -> "ShardTask":
        return replace(self, quarantined={**self.quarantined, key: reason})


@dataclass(frozen=True, slots=True)
class ShardWork:
    """Everything a worker needs, picklable; `open()` loads what is heavy, in the worker."""

    output: str
    settings: Pass
    scorers: Mapping[str, ScorerLike]
    models: Models
    pass_fingerprint: str
    scorer_fingerprints: Mapping[str, str]

    @property
    def notes(self) -> Notes:
        return Notes(f"{self.output}/.work")

    def with_models(self, models: Models) -> "ShardWork":
        return replace(self, models=models)

    def open(self) -> "ShardWorker":
        return ShardWorker(self)


class ShardWorker:
    """Holds the opened scorers of one process and runs shards with them."""

    def __init__(self, work: ShardWork) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._work = work
        self._manifest = Manifest(Path(work.output))
        self._scores: dict[str, Callable[..., Any]] = {}

    def run(self, task: ShardTask, report: Report) -> None:
        names = tuple(self._work.scorers) if task.only is None else task.only
        batches = {name: self._batch(name) for name in names}
        wants = {name: self._work.scorers[name].samples for name in names}
        spans = None if task.only is None else self._spans(task)
        clips: list[ClipFacts] = []
        frames: list[dict[str, Any]] = []
        sources = []
        for source in task.sources:
            start, scanned = time.perf_counter(), ScanReport()
            for clip in self._clips(task, source, wants, scanned, spans):
                clips.append(clip.facts)
                frames.append({"clip_id": clip.facts.clip_id, "frame_times_ns": clip.times_ns, "frame_is_duplicate": clip.is_duplicate})
                for name, samples in clip.samples.items():
                    batches[name].add(clip.facts.clip_id, samples)
            row = source_row(source, scanned, is_quarantined=source.key in task.quarantined)
            sources.append(row)
            seconds = time.perf_counter() - start
            size_bytes, decoded_s = source.size_bytes or 0, row["decoded_s"] or 0.0
            report(SourceDone(source.key, row["status"], _why(row), size_bytes, decoded_s, scanned.num_clips, seconds))
        self._commit(task, clips, frames, sources, batches)
        self._work.notes.remove(task.name)
        report(ShardDone(task.name))

    def _clips(
        self, task: ShardTask, source: Source, wants: Mapping[str, Wants], scanned: ScanReport, spans: dict[str, list[Span]] | None
    ) -> Iterator[ScannedClip]:
        if source.key in task.quarantined:
            scanned.faults.append(Fault("worker", "Quarantined", task.quarantined[source.key]))
            return
        given = None if spans is None else spans.get(source.key, [])
        if given == []:
            return
        self._work.notes.write(task.name, source.key)
        yield from scan(source, self._work.settings, wants, scanned, given)

    def _batch(self, name: str) -> "ScorerBatch":
        scorer = self._work.scorers[name]
        if name not in self._scores:
            self._scores[name] = scorer.open(self._work.models)
        return ScorerBatch(name, scorer, self._scores[name])

    def _spans(self, task: ShardTask) -> dict[str, list[Span]]:
        """The spans of the shard's clips that were scored, by source."""
        found: dict[str, list[Span]] = {}
        table = self._manifest.shard(task.shard_id).read_keys().select(["source_key", "start_ns", "end_ns", "is_scored"])
        for key, start_ns, end_ns, is_scored in zip(*(table[c].to_pylist() for c in table.column_names), strict=True):
            spans = found.setdefault(key, [])
            if is_scored:
                spans.append(Span(start_ns, end_ns))
        return found

    def _commit(
        self,
        task: ShardTask,
        clips: Sequence[ClipFacts],
        frames: Sequence[dict[str, Any]],
        sources: Sequence[dict[str, Any]],
        batches: Mapping[str, "ScorerBatch"],
    ) -> None:
        rows = {name: batch.finish() for name, batch in batches.items()}
        ids = [clip.clip_id for clip in clips]
        if task.only is not None:
            ids = self._manifest.shard(task.shard_id).read_keys()["clip_id"].to_pylist()
        tables = {}
        for name, batch in batches.items():
            columns = self._work.scorers[name].columns
            complete = [{"clip_id": clip_id, **rows[name].get(clip_id, batch.null_row())} for clip_id in ids]
            tables[name] = table(scorer_schema(columns), complete)
        fingerprints = {name: self._work.scorer_fingerprints[name] for name in batches}
        if task.only is None:
            source_table = table(schema(SOURCE_COLUMNS), sources)
            clip_table = table(schema(CLIP_COLUMNS), [{f.name: getattr(clip, f.name) for f in fields(clip)} for clip in clips])
            frame_table = table(schema(FRAME_COLUMNS), frames)
            self._manifest.write_shard(
                task.shard_id, source_table, clip_table, frame_table, tables, self._work.pass_fingerprint, fingerprints
            )
            return
        for name, one in tables.items():
            self._manifest.write_scorer(task.shard_id, name, one, fingerprints[name])


class ScorerBatch:
    """Collects one scorer's clips up to its batch size. A clip that makes the scorer fail gets nulls and a fault; the rest score."""

    def __init__(self, name: str, scorer: ScorerLike, score: Callable[[Sequence[ClipSamples]], list[dict[str, Any]]]) -> None:
        self._name, self._columns, self._score = name, scorer.columns, score
        self._size = getattr(scorer, "batch_clips", 1)
        self._waiting: list[tuple[str, ClipSamples]] = []
        self._rows: dict[str, dict[str, Any]] = {}

    def add(self, clip_id: str, samples: ClipSamples) -> None:
        self._waiting.append((clip_id, samples))
        if len(self._waiting) >= self._size:
            self._flush()

    def finish(self) -> dict[str, dict[str, Any]]:
        """Clip id -> row, of every clip that was added."""
        self._flush()
        return self._rows

    def null_row(self, faults: Sequence[Fault] = ()) -> dict[str, Any]:
        """The row of a clip that was not scored."""
        return {**dict.fromkeys(self._columns), "faults": list(faults)}

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            rows = self._try([samples for _, samples in waiting])
            self._rows.update(zip((clip_id for clip_id, _ in waiting), rows, strict=True))

    def _try(self, samples: list[ClipSamples]) -> list[dict[str, Any]]:
        try:
            rows = self._score(samples)
            check_rows(self._name, self._columns, len(samples), rows)
            return [{"faults": [], **row} for row in rows]
        except ScorerError:
            raise
        except Exception as error:  # noqa: BLE001 - a scorer may be the user's own: one clip's failure is recorded, not fatal
            if len(samples) > 1:
                return [row for one in samples for row in self._try([one])]
            return [self.null_row([Fault(self._name, type(error).__name__, str(error))])]


def _why(row: Mapping[str, Any]) -> str | None:
    where = "" if row["fault_ns"] is None else f", at {row['fault_ns'] / 1e9:.2f} s"
    return row["fault_message"] and row["fault_message"] + where
