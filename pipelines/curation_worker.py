"""What a worker does for a run: has its child scan sources, keeps what is finished in the working area, and commits shards.

Nothing that a source holds is touched here: its bytes go to the child, and rows come back. A child that dies is started again; a source
that kills `max_attempts` of them is quarantined with the reason. Model batches are made within a source, so what a clip scores does
not depend on which worker it met or what else was running.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.clip import Fault, Span
from curate.decide.skip import SkipRules
from curate.errors import ManifestError
from curate.manifest import Manifest, files, table
from curate.models import Models
from curate.pipelines import events
from curate.pipelines.clip_rows import without_clips
from curate.pipelines.events import Begun, Report, ShardDone, SourceDone, WorkerDied
from curate.pipelines.rows import source_row
from curate.pipelines.tasks import PartTask, ShardTask, SourceTask, Task
from curate.pipelines.work import Split
from curate.pipelines.worker.child import Order, Setup
from curate.pipelines.worker.decoder import NO_ANSWER, Advanced, ChildDied, Decoder, Scanned
from curate.pipelines.working_area import Counts, Tables, WorkingArea, concatenated, counts_of, joined
from curate.scan import Pass, ScanReport
from curate.scorers import ScorerLike
from curate.sources import Source
from curate.sources.check import changed_since


@dataclass(frozen=True, slots=True)
class CurationWork:
    """Everything a worker needs, picklable; `open()` loads what is heavy, in the worker."""

    output: str
    settings: Pass
    scorers: Mapping[str, ScorerLike]
    models: Models
    pass_fingerprint: str
    scorer_fingerprints: Mapping[str, str]
    skip: SkipRules | None = None
    max_attempts: int = 2

    def with_models(self, models: Models) -> "CurationWork":
        return replace(self, models=models)

    def open(self) -> "CurationWorker":
        return CurationWorker(self)


@dataclass(frozen=True, slots=True)
class _Known:
    """What a complete shard knows of its clips, for scorers that are added: spans and stream by source, what `skip` reads by clip."""

    shard_id: int
    spans: Mapping[str, list[Span]]
    streams: Mapping[str, int | None]
    columns: Mapping[str, Mapping[str, Any]]


class CurationWorker:
    """Runs shards, sources and parts of sources, one at a time, with one child."""

    def __init__(self, work: CurationWork) -> None:
        self._work = work
        self._manifest = Manifest(files.located(work.output))
        settings, limits = work.settings, work.settings.limits
        setup = Setup(settings, work.scorers, work.models.paths, work.models.device, work.skip)
        models = work.models.for_one_worker()
        self._decoder = Decoder(pickle.dumps(setup, protocol=5), models, limits.stall_s, limits.worker_gb, limits.spool_gb)
        self._last: _Known | None = None

    def run(self, task: Task, report: Report) -> Split | None:
        match task:
            case ShardTask():
                if not task.commits:
                    return self._split(task, report)
                self._commit(task, report)
            case SourceTask():
                return self._run_source(task, report)
            case PartTask():
                self._run_part(task, report)
        return None

    def stop(self) -> None:
        self._decoder.stop()

    def close(self) -> None:
        self._decoder.close()

    # Shards

    def _split(self, task: ShardTask, report: Report) -> Split:
        """The sources that are lacking; of the others, which a run that was stopped had done, it is told again."""
        area = self._area(task)
        area.begin()
        tasks = task.source_tasks()
        lacking = area.lacking(tasks)
        for one in tasks:
            if one not in lacking:
                found, _ = area.read(one)
                report(replace(_done(one.source, found, 0.0), is_earlier=True))
        return Split(lacking, replace(task, commits=True))

    def _commit(self, task: ShardTask, report: Report) -> None:
        area = self._area(task)
        if self._is_committed(task):  # by a worker that died while it cleaned up
            area.remove()
            report(ShardDone(task.name))
            return
        found = concatenated([area.read(one)[0] for one in task.source_tasks()]).conformed(self._work.scorers)
        if task.only is None:
            fingerprints = {name: self._work.scorer_fingerprints[name] for name in found.scorers}
            made = found.sources, found.clips, found.frames, found.scorers
            self._manifest.write_shard(task.shard_id, *made, self._work.pass_fingerprint, fingerprints)
        else:
            self._add_scorers(task, found)
        area.remove()
        report(ShardDone(task.name))

    def _is_committed(self, task: ShardTask) -> bool:
        marks = self._manifest.shard(task.shard_id).marks()
        if marks is None or marks.pass_fingerprint != self._work.pass_fingerprint:
            return False
        identities = tuple((one.key, one.size_bytes, one.etag, one.mtime_ns) for one in task.sources)
        wanted = {name: self._work.scorer_fingerprints[name] for name in self._names(task)}
        return marks.identities == identities and wanted.items() <= marks.scorers.items()

    def _add_scorers(self, task: ShardTask, found: Tables) -> None:
        ids = self._manifest.shard(task.shard_id).read_keys()["clip_id"]
        for name, scored in found.scorers.items():
            null: dict[str, Any] = {**dict.fromkeys(self._work.scorers[name].columns), "faults": []}
            lacking = sorted(set(ids.to_pylist()) - set(scored["clip_id"].to_pylist()))
            rows = pa.concat_tables([scored, table(scored.schema, [{"clip_id": clip_id, **null} for clip_id in lacking])]).combine_chunks()
            complete = rows.take(pc.index_in(ids, value_set=rows["clip_id"].combine_chunks()))
            self._manifest.write_scorer(task.shard_id, name, complete, self._work.scorer_fingerprints[name])

    # Sources

    def _run_source(self, task: SourceTask, report: Report) -> Split | None:
        area = self._area(task)
        if area.has(task):  # a worker that died had done it
            return None
        found = self._joined(task, area, report) if task.parts else self._scanned(task, report)
        if isinstance(found, Scanned):
            parts = task.part_tasks(found.parts)
            return Split(area.lacking(parts), replace(task, parts=found.parts))
        tables, counts = found
        area.write(task, tables, counts)
        report(_done(task.source, tables, counts["seconds"]))
        return None

    def _scanned(self, task: SourceTask, report: Report) -> tuple[Tables, Counts] | Scanned:
        """The rows of a source; where it is to be scanned in parts, what the child says of them."""
        if task.quarantined is not None:
            return self._without_clips(task, _quarantine(task.quarantined), is_quarantined=True)
        spans = self._spans(task)
        if spans == []:
            return self._without_clips(task)
        if changed := changed_since(task.source, "listed"):
            return self._without_clips(task, changed)
        try:
            found = self._attempted(task, spans, report)
        except ChildDied as error:
            return self._without_clips(task, _quarantine(str(error)), is_quarantined=True)
        if found.parts:
            return found
        if changed := changed_since(task.source, "opened"):
            return self._without_clips(task, changed)
        return found.tables, {**found.counts, "seconds": found.cpu_s}

    def _joined(self, task: SourceTask, area: WorkingArea, report: Report) -> tuple[Tables, Counts]:
        reason = task.quarantined or area.quarantined(task.place)
        if reason is not None:
            return self._without_clips(task, _quarantine(reason), is_quarantined=True)
        report(Begun(task.name, task.source.key))  # whatever kills a worker here is put down to the source
        kept = [area.read(one) for one in task.part_tasks(task.parts)]
        return joined([tables for tables, _ in kept], [counts for _, counts in kept])

    def _run_part(self, task: PartTask, report: Report) -> None:
        area = self._area(task)
        if task.quarantined is not None:
            area.quarantine(task.place, task.quarantined)
        if area.quarantined(task.place) is not None or area.has(task):
            return
        try:
            found = self._attempted(task, self._spans(task), report)
        except ChildDied as error:
            area.quarantine(task.place, str(error))
            return
        if changed := changed_since(task.source, "listed"):
            area.quarantine(task.place, changed.message)
            return
        area.write(task, found.tables, {**found.counts, "seconds": found.cpu_s})
        num_clips, decoded_s = found.counts["num_clips"], found.tables.source_row["decoded_s"] or 0.0
        report(events.Advanced(task.source.key, task.number, task.size_bytes, decoded_s, num_clips))

    def _attempted(self, task: SourceTask | PartTask, spans: list[Span] | None, report: Report) -> Scanned:
        """Have the child scan; raises the `ChildDied` of the last of `max_attempts`."""
        source, part = task.source, task.part if isinstance(task, PartTask) else None
        stream = None if task.only is None else self._known(task).streams.get(source.key)
        order = Order(source, part, spans, self._names(task), self._columns(task), stream)
        number = task.number if isinstance(task, PartTask) else 0

        def advanced(news: Advanced | None) -> None:
            if news is not None:
                passed = round(task.size_bytes * news.share)
                report(events.Advanced(source.key, number, passed, news.decoded_s, news.num_clips))

        report(Begun(task.name, source.key))
        attempt = 1
        while True:
            try:
                found = self._decoder.scan(order, source.url, advanced)
                return replace(found, tables=self._checked(found.tables, source))
            except ChildDied as error:
                report(WorkerDied(source.key, str(error), attempt, self._work.max_attempts))
                if attempt >= self._work.max_attempts:
                    raise
                attempt += 1

    def _checked(self, found: Tables, source: Source) -> Tables:
        """Return what a child made if it is what it should be: rows of this source, with the columns of the ledger."""
        try:
            conformed = found.conformed(self._work.scorers)
        except ManifestError as error:
            raise ChildDied(f"{NO_ANSWER} ({error})") from error
        keys = {*conformed.sources["source_key"].to_pylist(), *conformed.clips["source_key"].to_pylist()}
        if keys != {source.key} or len(conformed.sources) != 1:
            raise ChildDied(f"the worker process gave rows of other sources ({', '.join(sorted(map(str, keys)))})")
        return conformed

    def _without_clips(self, task: SourceTask, fault: Fault | None = None, is_quarantined: bool = False) -> tuple[Tables, Counts]:
        report = ScanReport(faults=[fault] if fault else [])
        scorers = {name: self._work.scorers[name] for name in self._names(task)}
        tables = without_clips(scorers, source_row(task.source, report, is_quarantined))
        return tables, {**counts_of(report), "seconds": 0.0}

    # What is known

    def _area(self, task: Task) -> WorkingArea:
        fingerprints = {name: self._work.scorer_fingerprints[name] for name in self._names(task)}
        return WorkingArea(self._manifest.shard(task.shard_id), (self._work.pass_fingerprint, fingerprints, task.only))

    def _names(self, task: Task) -> tuple[str, ...]:
        return tuple(self._work.scorers) if task.only is None else task.only

    def _spans(self, task: SourceTask | PartTask) -> list[Span] | None:
        """The spans of the source's clips that were scored; None in a whole pass."""
        return None if task.only is None else self._known(task).spans.get(task.source.key, [])

    def _columns(self, task: SourceTask | PartTask) -> Mapping[str, Mapping[str, Any]]:
        return {} if task.only is None or self._work.skip is None else self._known(task).columns

    def _known(self, task: SourceTask | PartTask) -> _Known:
        if self._last is None or self._last.shard_id != task.shard_id:
            self._last = _Known(task.shard_id, self._scored_spans(task.shard_id), self._streams(task.shard_id), self._skip_columns(task))
        return self._last

    def _scored_spans(self, shard_id: int) -> dict[str, list[Span]]:
        found: dict[str, list[Span]] = {}
        rows = self._manifest.shard(shard_id).read_keys().select(["source_key", "start_ns", "end_ns", "is_scored"])
        for key, start_ns, end_ns, is_scored in zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True):
            spans = found.setdefault(key, [])
            if is_scored:
                spans.append(Span(start_ns, end_ns))
        return found

    def _streams(self, shard_id: int) -> dict[str, int | None]:
        rows = self._manifest.shard(shard_id).read_sources()
        return dict(zip(rows["source_key"].to_pylist(), rows["video_stream"].to_pylist(), strict=True))

    def _skip_columns(self, task: SourceTask | PartTask) -> dict[str, dict[str, Any]]:
        skip = self._work.skip
        if skip is None:
            return {}
        kept = {name: self._work.scorer_fingerprints[name] for name in skip.scorers if name not in (task.only or ())}
        found = self._manifest.read_clips(task.shard_id, kept)
        columns = ["clip_id", *(name for name in skip.types if name in found.column_names)]
        return {row["clip_id"]: row for row in found.select(columns).to_pylist()}


def _quarantine(reason: str) -> Fault:
    return Fault("worker", "Quarantined", reason)


def _done(source: Source, found: Tables, seconds: float) -> SourceDone:
    row = found.source_row
    size_bytes, decoded_s = source.size_bytes or 0, row["decoded_s"] or 0.0
    return SourceDone(source.key, row["status"], _why(row), size_bytes, decoded_s, row["num_clips"], seconds)


def _why(row: Mapping[str, Any]) -> str | None:
    where = "" if row["fault_ns"] is None else f", at {row['fault_ns'] / 1e9:.2f} s"
    return row["fault_message"] and row["fault_message"] + where
