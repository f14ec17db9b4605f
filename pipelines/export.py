"""The second job: kept clips in, a data set that a trainer reads out.

    read kept clips -> plan: refused, split, order, shards -> engine: make, verify, pack, commit each shard -> index and card

Started again, the same command does only the shards that are missing. Another layout, other parameters or other clips need another folder.
"""

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate import __version__
from curate.config import Config, weights_folders
from curate.errors import ExportError
from curate.export import Finished, Sample
from curate.export.config import Export
from curate.export.folder import OutFolder, text_of
from curate.export.plan import Plan, make_plan
from curate.extras import BASE, require, store_needs
from curate.kept import read_kept
from curate.manifest import Manifest, files
from curate.manifest.lock import locked
from curate.models import Models, package_needs, resolve
from curate.pipelines.export_shard import STATE, ExportTask, ExportWork, measure, spool_folder
from curate.pipelines.progress import Progress

HEADER = f"{STATE}/export.json"
PASSING = (  # keys that do not change what is written
    *("manifest", "out", "engine", "workers", "ray_address", "max_attempts", "max_failed_fraction", "retry_failed"),
    *("models", "device", "model_actors", "name", "licence"),
)
PASSING = (  # keys that do not change what is written
    *("manifest", "out", "engine", "workers", "ray_address", "max_attempts", "max_failed_fraction", "retry_failed"),
    *("models", "device", "model_actors", "name", "licence"),
)
PILOT_SAMPLES = 6  # samples that a dry run makes, to know how large they are


@dataclass(frozen=True, slots=True)
class ExportResult:
    """How an export ended. `failed` maps clip ids to why they could not be made; `failures` are the reasons for a non-zero exit."""

    plan: Plan
    num_samples: int
    num_bytes: int
    duration_s: float
    failed: dict[str, str]
    failures: tuple[str, ...]
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DryRun:
    """What an export would write. Bytes are extrapolated by frames times pixels from `num_pilot` samples that were made."""

    plan: Plan
    num_bytes: float
    num_pilot: int
    seconds: float
    problems: tuple[str, ...]


def export(settings: Export) -> ExportResult:
    """Runs or continues an export. Raises `CurateError` for what the user can mend before any video is opened."""
    start = time.monotonic()
    common = settings.common
    out = OutFolder(str(Path(common.out).expanduser().absolute()) if "://" not in common.out else common.out)
    weights = _weights(settings)
    plan = _plan(settings)
    with _lock(out):
        _check_header(out, settings, weights.fingerprints(), plan)
        tasks = [task for task in _tasks(plan) if not _is_done(out, task, settings.common.retry_failed)]
        if tasks:
            _run(tasks, out, settings, plan, Models(weights.paths, common.device))
        return _close(out, settings, plan, start)


def dry_run(settings: Export) -> DryRun:
    """Plans, and makes a few samples spread over the export to see how large they are; writes nothing to `out`."""
    start = time.monotonic()
    weights = _weights(settings)
    plan = _plan(settings)
    pilot = _pilot(plan)
    num_bytes, problems = measure(pilot, plan.layout.open(Models(weights.paths, settings.common.device)))
    share = sum(_volume(sample) for sample in pilot)
    total = sum(_volume(sample) for shard in plan.shards for clip in shard.clips for sample in _samples(plan, clip))
    made = share if not problems else share * (1 - len(problems) / len(pilot))
    estimate = num_bytes / made * total if made else float("nan")
    return DryRun(plan, estimate, len(pilot), time.monotonic() - start, tuple(problems))


def _samples(plan: Plan, clip: Any) -> list[Sample]:
    found = plan.layout.plan(clip)
    return [] if isinstance(found, str) else found


def _volume(sample: Sample) -> int:
    return sample.num_frames * sample.width * sample.height


def _pilot(plan: Plan) -> list[Sample]:
    """Samples spread evenly over the shards' clips."""
    count = sum(len(shard.clips) for shard in plan.shards)
    wanted = {round((k + 0.5) * count / PILOT_SAMPLES - 0.5) for k in range(PILOT_SAMPLES)} if count else set()
    found, place = [], 0
    for shard in plan.shards:
        for row in range(len(shard.clips)):
            if place in wanted:
                found += _samples(plan, shard.clips[row])[:1]
            place += 1
    return found


def _weights(settings: Export) -> Any:
    common = settings.common
    engine = [("engine=ray", BASE)] if common.engine == "ray" else []
    require([*package_needs(common.layout, settings.layout, "layout"), *engine, *store_needs(manifest=common.manifest, out=common.out)])
    folders = weights_folders(Config(models=common.models))
    return resolve({common.layout: settings.layout}, folders, allow_download=True, what="layout")


def _plan(settings: Export) -> Plan:
    common = settings.common
    kept = read_kept(Path(common.manifest).expanduser(), common.select)
    if not len(kept):
        why = " that passes `select`" if common.select else ""
        raise ExportError(f"{common.manifest}: no clip was kept{why}; `curate stats {common.manifest}` says why clips were dropped")
    plan = make_plan(kept, settings.layout, common.seed, common.val_fraction, common.shard_clips, common.limit_clips)
    if not plan.shards:
        first = next(iter(plan.refused.values()))[0][1]
        raise ExportError(f"layout {common.layout} can hold none of the {len(kept)} kept clips; for example {first}")
    return plan


def _tasks(plan: Plan) -> Iterator[ExportTask]:
    for shard in plan.shards:
        yield ExportTask(shard.name, shard.clips, shard.digest)


def _is_done(out: OutFolder, task: ExportTask, retry_failed: bool) -> bool:
    mark = out.read_json(f"{STATE}/done/{task.name}.json")
    return mark is not None and mark["clips"] == task.digest and not (retry_failed and mark["failed"])


@contextlib.contextmanager
def _lock(out: OutFolder) -> Iterator[None]:
    """A local folder has one writer at a time; an object store cannot tell."""
    if not out.is_local:
        yield
        return
    folder = Path(out.url)
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"out={folder} is a file; name a folder")
    files.make_folder(folder)
    with locked(folder):
        yield


def _check_header(out: OutFolder, settings: Export, weights: dict[str, str], plan: Plan) -> None:
    """Refuses a folder that holds anything else than this very export, begun before."""
    before = out.read_json(HEADER)
    shards = {str(shard.name): shard.digest for shard in plan.shards}
    now: dict[str, Any] = {
        "curate": __version__,
        "fingerprint": settings.fingerprint(weights, plan.layout),
        "settings": settings.settings(),
        "shards": shards,
    }
    if before is None:
        foreign = [name for name in out.list() if not name.startswith(".")]
        if foreign:
            shown = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
            raise ExportError(f"out={out.url} is not empty and holds no export ({shown}); name a new or an empty folder")
        out.write_json(HEADER, now)
        return
    if before["fingerprint"] != now["fingerprint"]:
        changed = _changed(before["settings"], now["settings"])
        raise ExportError(f"out={out.url} holds an export with other settings ({changed}); name another out=, or set them back")
    if before["shards"] != shards:
        raise ExportError(
            f"out={out.url} holds an export of other clips: the manifest has been run or decided again since; name another out=, "
            "or bring the manifest back to what it was"
        )


def _changed(before: dict[str, Any], now: dict[str, Any]) -> str:
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name) and name not in PASSING]
    return ", ".join(f"{name}: {before.get(name)} -> {now.get(name)}" for name in names) or "other weights or another version of the layout"


def _run(tasks: list[ExportTask], out: OutFolder, settings: Export, plan: Plan, models: Models) -> None:
    common = settings.common
    spool = spool_folder(out)
    try:
        work = ExportWork(out, plan.layout, models, str(spool))
        with Progress(num_clips=sum(len(task.clips) for task in tasks)) as progress:
            if common.engine == "local":
                from curate.pipelines.engine import local

                local.run(tasks, work, progress)
            else:
                from curate.pipelines.engine import ray

                ray.run(
                    tasks, work, progress, ray.RaySettings(common.workers, common.max_attempts, common.model_actors, common.ray_address)
                )
    finally:
        shutil.rmtree(spool, ignore_errors=True)


def _close(out: OutFolder, settings: Export, plan: Plan, start: float) -> ExportResult:
    failed: dict[str, dict[str, str]] = {}
    for shard in plan.shards:
        mark = out.read_json(f"{STATE}/done/{shard.name}.json")
        assert mark is not None, f"shard {shard.name} came back without its mark"
        failed |= mark["failed"]
    index = _read_index(out, plan)
    _write_left_out(out, plan, failed)
    notes, num_bytes = [], 0
    if index is not None:
        plan.layout.finish(out, Finished(index, _facts(settings, plan, failed)))
        num_bytes = sum(index["file_bytes"].to_pylist()) if "file_bytes" in index.column_names else 0
    if settings.common.val_fraction and not plan.num_clips.get("val"):
        notes.append("the validation split is empty: every group of connected sources is larger than val_fraction allows")
    num_clips = sum(plan.num_clips.values())
    failures = []
    if index is None:
        failures.append("no clip could be exported")
    elif len(failed) > settings.common.max_failed_fraction * num_clips:
        share, limit = len(failed) / num_clips, settings.common.max_failed_fraction
        failures.append(f"{share:.0%} of the clips failed, more than max_failed_fraction={limit:.0%}")
    messages = {clip_id: one["message"] for clip_id, one in failed.items()}
    duration_s = 0.0 if index is None else float(sum(index["duration_out_s"].to_pylist()))
    num_samples = 0 if index is None else len(index)
    return ExportResult(plan, num_samples, num_bytes, duration_s, messages, tuple(failures), time.monotonic() - start, tuple(notes))


def _read_index(out: OutFolder, plan: Plan) -> pa.Table | None:
    tables = []
    for shard in plan.shards:
        data = out.read_bytes(f"index/{shard.name}.parquet")
        if data is not None:
            tables.append(pq.read_table(pa.BufferReader(data)))
    return pa.concat_tables(tables, promote_options="default") if tables else None


def _write_left_out(out: OutFolder, plan: Plan, failed: dict[str, dict[str, str]]) -> None:
    """`left_out.jsonl`: every kept clip that the export does not list, and why."""
    rows: list[dict[str, Any]] = [
        {"clip_id": clip_id, "reason": "refused", "message": message} for clips in plan.refused.values() for clip_id, message in clips
    ]
    rows += [{"clip_id": clip_id, "reason": "failed", **failed[clip_id]} for clip_id in sorted(failed)]
    out.write_text("left_out.jsonl", text_of(rows))


def _facts(settings: Export, plan: Plan, failed: dict[str, dict[str, str]]) -> dict[str, Any]:
    common = settings.common
    manifest = Manifest.open(Path(common.manifest).expanduser())
    return {
        "manifest": common.manifest,
        "name": common.name or Path(common.out.rstrip("/")).name,
        "licence": common.licence,
        "layout": common.layout,
        "settings": settings.settings(),
        "policy": manifest.read_policy(),
        "refused": {reason: len(clips) for reason, clips in plan.refused.items()},
        "failed": dict(Counter(one["message"].rpartition(": ")[2] for one in failed.values())),
        "num_kept": sum(plan.num_clips.values()) + plan.num_refused,
    }
