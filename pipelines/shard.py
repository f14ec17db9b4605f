"""One shard: scan its sources, score their clips in batches that never cross a shard, commit.

Model batches are made within a shard, so what a clip scores does not depend on which worker it met or what else was running.

A source that is longer than `decode.part_s` is scanned in parts. How long a source is turns out when it is opened to be scanned; so the
shard's other sources are scanned first and set aside, the parts go back to the engine as tasks of their own (`pipelines.parts`), and the
shard, run again, joins what they made. Each part makes its own model batches. A shard without long sources knows nothing of this.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.clip import Fault, Span
from curate.decide.skip import SkipRules
from curate.errors import SourceError
from curate.manifest import CLIP_COLUMNS, FRAME_COLUMNS, SOURCE_COLUMNS, Manifest, files, schema, scorer_schema, table
from curate.media.parts import parts_of
from curate.media.seek import Part
from curate.models import Models
from curate.samples import Wants
from curate.scan import ClipFacts, Pass, ScannedClip, ScanReport, scan, warm_up_s
from curate.scorers import ScorerLike
from curate.sources import Source
from curate.sources.check import changed_since
from pipelines.events import PartDone, Report, ShardDone, SourceDone
from pipelines.parts import Parts, PartTask, Scratch, Tables, concatenated, joined
from pipelines.rows import source_row
from pipelines.scoring import ScorerBatch
from pipelines.work import WORK_FOLDER, Notes, Split


@dataclass(frozen=True, slots=True)
class ShardTask:
    """What to do with one shard. `only` names the scorers to (re)compute on the clips it has; None is the whole pass.

    `quarantined`: source key -> why it is not opened. `joins`: the parts of its long sources have been done.
    """

    shard_id: int
    sources: tuple[Source, ...]
    only: tuple[str, ...] | None = None
    quarantined: Mapping[str, str] = field(default_factory=dict)
    joins: bool = False

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
    skip: SkipRules | None = None

    @property
    def notes(self) -> Notes:
        return Notes(f"{self.output}/{WORK_FOLDER}")

    def with_models(self, models: Models) -> "ShardWork":
        return replace(self, models=models)

    def open(self) -> "ShardWorker":
        return ShardWorker(self)


class ShardWorker:
    """Holds the opened scorers of one process and runs shards, and parts of their sources, with them."""

    def __init__(self, work: ShardWork) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._work = work
        self._manifest = Manifest(files.located(work.output))
        self._scores: dict[str, Callable[..., Any]] = {}

    def run(self, task: ShardTask | PartTask, report: Report) -> Split | None:
        if isinstance(task, PartTask):
            self._run_part(task, report)
            return None
        scratch = self._scratch(task)
        kept = scratch.read_rest(task.sources, task.quarantined)
        if task.joins and kept is not None:
            found = self._join(task, scratch, *kept, report)
        else:
            found, parts = kept or self._scan(task, report)
            if kept is not None:
                self._report_again(task, found, report)
            elif parts:
                scratch.write_rest(task.sources, task.quarantined, parts, found)
            if parts:
                return self._split(task, scratch, parts)
        self._commit(task, found)
        scratch.remove()
        self._work.notes.remove(task.name)
        report(ShardDone(task.name))
        return None

    def _split(self, task: ShardTask, scratch: Scratch, parts: Parts) -> Split:
        for place in parts:
            scratch.forgive(place)
        self._work.notes.remove(task.name)
        lacking = tuple(one for one in _part_tasks(task, parts) if not scratch.has_part(one))
        return Split(lacking, replace(task, joins=True))

    def _report_again(self, task: ShardTask, found: Tables, report: Report) -> None:
        """What a run that was killed had scanned already."""
        sources = {source.key: source for source in task.sources}
        for row in found.sources.to_pylist():
            report(_done(sources[row["source_key"]], row, 0.0))

    def _scan(self, task: ShardTask, report: Report) -> tuple[Tables, dict[int, tuple[Part, ...]]]:
        """The sources of the shard that are scanned in one go, and the parts of the others."""
        rows = self._rows(task)
        spans = None if task.only is None else self._spans(task.shard_id)
        parts: dict[int, tuple[Part, ...]] = {}
        for place, source in enumerate(task.sources):
            start, scanned = time.process_time(), ScanReport()
            reason = task.quarantined.get(source.key)
            given = None if spans is None else spans.get(source.key, [])
            if reason is not None:
                scanned.faults.append(_quarantine(reason))
            elif given != [] and (changed := changed_since(source, "listed")):
                scanned.faults.append(changed)
            elif given != []:
                self._work.notes.write(task.name, source.key)
                rows.take(scan(source, self._work.settings, rows.wants, scanned, given, part=None, alive=self._alive(task)))
                if scanned.may_be_long:
                    found = self._parts(source, scanned)
                    if len(found) > 1:
                        parts[place] = found
                        continue
                    if found:
                        scanned = ScanReport()
                        rows.take(scan(source, self._work.settings, rows.wants, scanned, given, alive=self._alive(task)))
                if changed := changed_since(source, "opened"):
                    rows.drop(source.key)
                    scanned = ScanReport(faults=[changed])
            row = source_row(source, scanned, is_quarantined=reason is not None)
            rows.sources.append(row)
            report(_done(source, row, time.process_time() - start))
        return rows.tables(), parts

    def _parts(self, source: Source, scanned: ScanReport) -> tuple[Part, ...]:
        """None, with a fault in the report, where the source cannot be opened again."""
        settings = self._work.settings
        try:
            return parts_of(source.url, settings.decode, warm_up_s(settings))
        except SourceError as error:
            scanned.faults.append(Fault("open", type(error).__name__, str(error).removeprefix(f"{source.url}: ")))
            return ()

    def _run_part(self, task: PartTask, report: Report) -> None:
        scratch, source = self._scratch(task), task.source
        if source.key in task.quarantined:
            scratch.quarantine(task.place, task.quarantined[source.key])
        if scratch.quarantined(task.place) is not None:
            return
        start, scanned, rows = time.process_time(), ScanReport(), self._rows(task)
        spans = None if task.only is None else self._spans(task.shard_id).get(source.key, [])
        self._work.notes.write(task.name, source.key)
        rows.take(scan(source, self._work.settings, rows.wants, scanned, spans, task.part, self._alive(task)))
        if changed := changed_since(source, "listed"):
            scratch.quarantine(task.place, changed.message)
            return
        row = source_row(source, scanned, is_quarantined=False)
        rows.sources.append(row)
        seconds = time.process_time() - start
        scratch.write_part(task, rows.tables(), scanned, seconds)
        self._work.notes.remove(task.name)
        report(PartDone(source.key, (source.size_bytes or 0) // task.num_parts, row["decoded_s"] or 0.0, scanned.num_clips))

    def _join(self, task: ShardTask, scratch: Scratch, rest: Tables, parts: Parts, report: Report) -> Tables:
        """All sources of the shard in their order."""
        # Whatever kills a worker from here on is put down to a long source.
        self._work.notes.write(task.name, task.sources[min(parts)].key)
        tasks = _part_tasks(task, parts)
        found = []
        for place, source in enumerate(task.sources):
            if place not in parts:
                found.append(rest.of(source.key))
                continue
            reason = scratch.quarantined(place)
            if reason is not None:
                rows = self._rows(task)
                rows.sources.append(source_row(source, ScanReport(faults=[_quarantine(reason)]), is_quarantined=True))
                own, seconds = rows.tables(), 0.0
            else:
                kept = [scratch.read_part(one) for one in tasks if one.place == place]
                own, seconds = joined([tables for tables, _ in kept], [counts for _, counts in kept])
            found.append(own)
            report(_done(source, own.sources.to_pylist()[0], seconds))
        return concatenated(found)

    def _alive(self, task: ShardTask | PartTask) -> Callable[[], None]:
        """Says at most once a second that frames still come."""
        notes, next_s = self._work.notes, time.monotonic() + 1.0

        def alive() -> None:
            nonlocal next_s
            if time.monotonic() >= next_s:
                notes.touch(task.name)
                next_s = time.monotonic() + 1.0

        return alive

    def _scratch(self, task: ShardTask | PartTask) -> Scratch:
        fingerprints = {name: self._work.scorer_fingerprints[name] for name in self._names(task.only)}
        made_with = (self._work.pass_fingerprint, fingerprints, task.only)
        return Scratch(self._manifest.shard(task.shard_id), made_with, fingerprints)

    def _names(self, only: tuple[str, ...] | None) -> tuple[str, ...]:
        return tuple(self._work.scorers) if only is None else only

    def _rows(self, task: ShardTask | PartTask) -> "Rows":
        return Rows({name: self._batch(name) for name in self._names(task.only)}, self._work.skip, self._known(task))

    def _known(self, task: ShardTask | PartTask) -> dict[str, dict[str, Any]]:
        """Clip id -> what the shard holds of the columns that decide which clips the models are given; nothing in a whole pass."""
        skip = self._work.skip
        if skip is None or task.only is None:
            return {}
        kept = {name: self._work.scorer_fingerprints[name] for name in skip.scorers if name not in task.only}
        found = self._manifest.read_clips(task.shard_id, kept)
        columns = ["clip_id", *(name for name in skip.types if name in found.column_names)]
        return {row["clip_id"]: row for row in found.select(columns).to_pylist()}

    def _batch(self, name: str) -> "ScorerBatch":
        scorer = self._work.scorers[name]
        if name not in self._scores:
            self._scores[name] = scorer.open(self._work.models)
        return ScorerBatch(name, scorer, self._scores[name])

    def _spans(self, shard_id: int) -> dict[str, list[Span]]:
        """The spans of the shard's clips that were scored, by source."""
        found: dict[str, list[Span]] = {}
        table = self._manifest.shard(shard_id).read_keys().select(["source_key", "start_ns", "end_ns", "is_scored"])
        for key, start_ns, end_ns, is_scored in zip(*(table[c].to_pylist() for c in table.column_names), strict=True):
            spans = found.setdefault(key, [])
            if is_scored:
                spans.append(Span(start_ns, end_ns))
        return found

    def _commit(self, task: ShardTask, found: Tables) -> None:
        fingerprints = {name: self._work.scorer_fingerprints[name] for name in found.scorers}
        if task.only is None:
            made = found.sources, found.clips, found.frames, found.scorers
            self._manifest.write_shard(task.shard_id, *made, self._work.pass_fingerprint, fingerprints)
            return
        ids = self._manifest.shard(task.shard_id).read_keys()["clip_id"]
        for name, scored in found.scorers.items():
            lacking = sorted(set(ids.to_pylist()) - set(scored["clip_id"].to_pylist()))
            null = self._batch(name).null_row()
            rows = pa.concat_tables([scored, table(scored.schema, [{"clip_id": clip_id, **null} for clip_id in lacking])]).combine_chunks()
            complete = rows.take(pc.index_in(ids, value_set=rows["clip_id"].combine_chunks()))
            self._manifest.write_scorer(task.shard_id, name, complete, fingerprints[name])


class Rows:
    """Collects what scans hand out, and scores it on the way."""

    def __init__(
        self, batches: Mapping[str, "ScorerBatch"], skip: SkipRules | None = None, known: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self._batches, self._skip, self._known = batches, skip, known or {}
        self.wants: dict[str, Wants] = {name: batch.wants for name, batch in batches.items()}
        self.sources: list[dict[str, Any]] = []
        self._clips: list[ClipFacts] = []
        self._frames: list[dict[str, Any]] = []

    def drop(self, key: str) -> None:
        """Forgets the clips of a source."""
        keep = [clip.source_key != key for clip in self._clips]
        self._clips = [clip for clip, is_kept in zip(self._clips, keep, strict=True) if is_kept]
        self._frames = [row for row, is_kept in zip(self._frames, keep, strict=True) if is_kept]

    def take(self, clips: Iterable[ScannedClip]) -> None:
        """The clips of one source, or of one part of it, in the order of time."""
        for clip in clips:
            self._clips.append(clip.facts)
            self._frames.append({"clip_id": clip.facts.clip_id, "frame_times_ns": clip.times_ns, "frame_is_duplicate": clip.is_duplicate})
            self._score(clip)
        for batch in self._batches.values():
            batch.end_source()

    def _score(self, clip: ScannedClip) -> None:
        """Cheap scorers first, since what they find may keep a clip from the models."""
        clip_id, models = clip.facts.clip_id, self._skip.models if self._skip else ()
        for name, samples in clip.samples.items():
            if name not in models:
                self._batches[name].add(clip_id, samples)
        asked = [name for name in clip.samples if name in models]
        why = self._why_skipped(clip.facts) if asked else None
        for name in asked:
            if self._skip and why:
                self._batches[name].skip(clip_id, self._skip.fault(name, why))
            else:
                self._batches[name].add(clip_id, clip.samples[name])

    def _why_skipped(self, clip: ClipFacts) -> str | None:
        if self._skip is None:
            return None
        values = {field.name: getattr(clip, field.name) for field in fields(clip)} | dict(self._known.get(clip.clip_id, {}))
        for name in self._skip.scorers:
            if name in self._batches:
                values |= self._batches[name].row(clip.clip_id)
        return self._skip.why(values)

    def tables(self) -> Tables:
        """Everything that was taken; scores what still waits for a full batch."""
        scorers = {}
        for name, batch in self._batches.items():
            rows, null = batch.finish(), batch.null_row()
            complete = [{"clip_id": clip.clip_id, **rows.get(clip.clip_id, null)} for clip in self._clips]
            scorers[name] = table(scorer_schema(batch.columns), complete)
        return Tables(
            table(schema(SOURCE_COLUMNS), self.sources),
            table(schema(CLIP_COLUMNS), [{f.name: getattr(clip, f.name) for f in fields(clip)} for clip in self._clips]),
            table(schema(FRAME_COLUMNS), self._frames),
            scorers,
        )


def _part_tasks(task: ShardTask, parts: Parts) -> list[PartTask]:
    return [
        PartTask(task.shard_id, place, task.sources[place], number, len(some), part, task.only)
        for place, some in sorted(parts.items())
        for number, part in enumerate(some)
    ]


def _quarantine(reason: str) -> Fault:
    return Fault("worker", "Quarantined", reason)


def _done(source: Source, row: Mapping[str, Any], seconds: float) -> SourceDone:
    size_bytes, decoded_s = source.size_bytes or 0, row["decoded_s"] or 0.0
    return SourceDone(source.key, row["status"], _why(row), size_bytes, decoded_s, row["num_clips"], seconds)


def _why(row: Mapping[str, Any]) -> str | None:
    where = "" if row["fault_ns"] is None else f", at {row['fault_ns'] / 1e9:.2f} s"
    return row["fault_message"] and row["fault_message"] + where
