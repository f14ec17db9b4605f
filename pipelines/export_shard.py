"""One shard of an export: make each sample's files, pack them, then write the shard's index and its mark, last.

A clip that cannot be made or does not verify is reported and listed nowhere; the rest of the shard goes on.
"""

import errno
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from curate.errors import CurateError, ExportError, SourceError
from curate.export import Layout, Made, Maker, Sample, ShardName
from curate.export.folder import OutFolder
from curate.export.index import index_table
from curate.kept import KeptClip, KeptClips
from curate.manifest import parquet
from curate.models import Models
from curate.pipelines.events import Begun, ClipDone, Report, ShardDone
from curate.sources import Source
from curate.sources.check import SourceCheck

STATE = ".curate-export"


@dataclass(frozen=True, slots=True, eq=False)
class ExportTask:
    """One shard. `quarantined`: clip id -> why it is not tried again."""

    shard: ShardName
    clips: KeptClips
    digest: str
    quarantined: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.shard)

    @property
    def size_bytes(self) -> int:
        return 0

    def without(self, key: str, reason: str) -> "ExportTask":
        return replace(self, quarantined={**self.quarantined, key: reason})


@dataclass(frozen=True, slots=True)
class ExportWork:
    """Everything a worker needs, picklable."""

    out: OutFolder
    layout: Layout
    models: Models
    spool: str

    def with_models(self, models: Models) -> "ExportWork":
        return replace(self, models=models)

    def open(self) -> "ExportWorker":
        return ExportWorker(self)


class ExportWorker:
    """Holds the opened layout of one process and makes shards with it."""

    def __init__(self, work: ExportWork) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._work = work
        self._maker: Maker = work.layout.open(work.models)
        self._check = SourceCheck()

    def stop(self) -> None:
        """Nothing: exports run in the calling thread, or in a process that is ended."""

    def close(self) -> None:
        """Nothing is kept open between tasks."""

    def run(self, task: ExportTask, report: Report) -> None:
        work = self._work
        with tempfile.TemporaryDirectory(prefix=f"{task.name}-", dir=work.spool) as folder:
            made, failed = self._make(task, Path(folder), report)
            packed = self._maker.pack(task.shard, made, work.out) if made else []
        index = f"index/{task.name}.parquet"
        if made:
            work.out.write_bytes(index, parquet.encode(index_table(task.shard, made, packed, task.clips)))
        else:
            work.out.remove(index)
        mark = {"clips": task.digest, "num_clips": len(task.clips), "num_samples": len(made), "failed": failed}
        work.out.write_json(f"{STATE}/done/{task.name}.json", mark)
        report(ShardDone(task.name))

    def _make(self, task: ExportTask, spool: Path, report: Report) -> tuple[list[Made], dict[str, dict[str, str]]]:
        """In order of source and time, so that an open source is used again; returned in the shard's order."""
        keys = zip(*(task.clips.table[name].to_pylist() for name in ("source_key", "start_ns")), range(len(task.clips)), strict=True)
        places = [place for *_, place in sorted(keys)]
        made: dict[int, list[Made]] = {}
        failed: dict[str, dict[str, str]] = {}
        for place in places:
            clip, message = task.clips[place], None
            try:
                made[place] = self._make_clip(task, clip, spool, report)
            except (CurateError, OSError) as error:
                if is_disk_full(error):
                    raise ExportError(f"no space is left for clips ({error}); make room, then start the same command again") from error
                message = str(error)
                failed[clip.clip_id] = {"source_key": clip.source_key, "message": message}
            report(ClipDone(clip.clip_id, message, clip.span.duration_s))
        return [one for place in sorted(made) for one in made[place]], failed

    def _make_clip(self, task: ExportTask, clip: KeptClip, spool: Path, report: Report) -> list[Made]:
        if clip.clip_id in task.quarantined:
            raise SourceError(task.quarantined[clip.clip_id])
        report(Begun(task.name, clip.clip_id))
        if problem := self._check.problem(Source(clip.source_key, clip.source_url, clip.size_bytes, clip.etag, clip.mtime_ns)):
            raise SourceError(problem)
        samples = self._work.layout.plan(clip)
        if isinstance(samples, str):
            raise CurateError(samples)
        return [self._maker.make(sample, spool) for sample in samples]


def is_disk_full(error: BaseException | None) -> bool:
    """Whether there is no space behind an error: that is no fault of the clip, and others would fail as well."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        error = error.__cause__
    return False


def spool_folder(out: OutFolder) -> Path:
    """Where half-made files lie: on the disk of a local export, so that a finished one is renamed and not copied."""
    folder = Path(out.path(f"{STATE}/spool")) if out.is_local else Path(tempfile.mkdtemp(prefix="curate-export-"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def measure(samples: Sequence[Sample], maker: Maker) -> tuple[int, list[str]]:
    """Bytes of these samples' files, made for the purpose and thrown away, and why some could not be made."""
    num_bytes, failed = 0, []
    for sample in samples:
        with tempfile.TemporaryDirectory(prefix="curate-export-") as folder:
            try:
                num_bytes += sum(path.stat().st_size for path in maker.make(sample, Path(folder)).files.values())
            except CurateError as error:
                failed.append(f"{sample.sample_id}: {error}")
    return num_bytes, failed
