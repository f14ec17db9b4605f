"""The main job: raw videos in, a Parquet manifest out.

    list sources -> index (fixed shards) -> what is missing -> engine: scan, score, commit shard by shard -> decide -> summary

Started again, it does only what is missing: shards that are not complete, scorers that are new or changed, sources that are new or have
changed. A change that would need another pass is refused with what to do.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.config import Config, config_fingerprints, parse_config, weights_folders
from curate.config_text import apply_overrides
from curate.decide.decide import decide, last_config_text
from curate.decide.skip import skip_rules
from curate.errors import ConfigError, ManifestError
from curate.manifest import Manifest, Run, differences, files, versions
from curate.models import Models, ResolvedWeights, resolve
from curate.report.summary import Summary
from curate.scan import PASS_VERSION, Pass
from curate.shots.params import check_detector
from curate.sources import ListingNotes, Source, list_sources, select
from pipelines.events import SourceDone
from pipelines.parts import remove_scratch
from pipelines.progress import Progress
from pipelines.shard import ShardTask, ShardWork
from pipelines.work import WORK_FOLDER

PACKAGES = (
    "av",
    "numpy",
    "opencv-python-headless",
    "scenedetect-headless",
    "pyarrow",
    "onnxruntime",
    "rapidocr",
    "easyocr",
    "torch",
    "open-clip-torch",
    "ray",
    "decord",
)


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: the summary of the whole manifest, what this run did, and the reasons for a non-zero exit (none: success)."""

    summary: Summary
    num_shards_done: int
    seconds: float
    failures: tuple[str, ...]
    notes: tuple[str, ...] = ()
    sources: tuple[SourceDone, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Everything that is known before the first video is opened."""

    config: Config
    settings: Pass
    scorers: Mapping[str, Any]
    weights: ResolvedWeights
    fingerprints: Mapping[str, Any]

    @property
    def header(self) -> Run:
        return Run(
            config=self.config.model_dump(mode="json"),
            pass_fingerprint=self.fingerprints["pass"],
            scorers={name: self.fingerprints["scorers"][name] for name in self.scorers},
            rules_fingerprint=self.fingerprints["rules"],
            versions=versions(PACKAGES),
            weights=self.weights.fingerprints(),
            absent=tuple(sorted(self.weights.absent)),
        )


def run(config: Config) -> RunResult:
    """Runs the job that the configuration describes; raises `CurateError` for what the user can mend before any video is opened."""
    start = time.monotonic()
    if not config.input or not config.output:
        lacking = "input" if not config.input else "output"
        raise ConfigError(f"{lacking} is not set; add {lacking}=... to the command or `{lacking}:` to the configuration")
    location, output = os.path.expanduser(config.input), os.path.expanduser(config.output)
    config = config.model_copy(update={"input": location, "output": output})
    prepared = _prepare(config)
    notes = ListingNotes()
    manifest = Manifest.create_or_open(output)
    with manifest.lock():
        _check_header(manifest, prepared)
        sources = select(list_sources(location, notes), config.limit_sources, config.seed)
        said = _take_listing(manifest, sources, config, notes)
        manifest.write_run(prepared.header)
        tasks = list(_tasks(manifest, prepared))
        done = _run_tasks(tasks, manifest, prepared)
        return _close(manifest, config, len(tasks), start, said, done)


def retry(folder: str, words: Sequence[str] = (), reason: str | None = None) -> RunResult:
    """Does the shards with failed or quarantined sources again, with the configuration of the last run and `key=value` changes to it.

    With a `reason` only those with sources of that `fault_kind`; raises `ConfigError` that lists the kinds there are when none has it.
    """
    manifest = Manifest.open(folder)
    text = last_config_text(manifest)
    apply_overrides(text, [f"output={folder}", *words])
    config = parse_config(text.content, text.problems, text.place)
    with manifest.lock():
        found: dict[int, set[str]] = {}
        for shard_id in manifest.shard_ids():
            shard = manifest.shard(shard_id)
            if shard.done():
                rows = shard.read_sources().select(["status", "fault_kind"]).to_pylist()
                found[shard_id] = {row["fault_kind"] for row in rows if row["status"] in ("failed", "quarantined")}
        kinds = set().union(*found.values())
        if reason is not None and reason not in kinds:
            raise ConfigError(f"no source of {folder} failed with {reason!r}; there are: {', '.join(sorted(kinds)) or 'none'}")
        for shard_id, own in found.items():
            if own & ({reason} if reason else kinds):
                manifest.shard(shard_id).invalidate()
    return run(config)


def _prepare(config: Config) -> _Prepared:
    if config.engine == "ray" and config.device == "cuda" and not config.model_actors:
        raise ConfigError("device=cuda on the ray engine needs model_actors=1 or more: one process for each GPU that holds the models")
    check_detector(config.shots)
    scorers = {name: entry.scorer for name, entry in config.scorers.items()}
    optional = {name for name, entry in config.scorers.items() if entry.optional}
    weights = resolve(scorers, weights_folders(config), allow_download=True, optional=optional)
    fingerprints = config_fingerprints(config, PASS_VERSION, weights.fingerprints())
    settings = Pass(config.decode, config.sampling, config.shots, config.clips, config.limits)
    present = {name: scorer for name, scorer in scorers.items() if name not in weights.absent}
    return _Prepared(config, settings, present, weights, fingerprints)


def _check_header(manifest: Manifest, prepared: _Prepared) -> None:
    """Refuses to mix two passes in one manifest; names what changed."""
    before = manifest.read_run()
    if before is None or before.pass_fingerprint == prepared.fingerprints["pass"]:
        return
    now = prepared.header
    keys = ("decode", "sampling", "shots", "clips")
    changed = differences({k: before.config.get(k) for k in keys}, {k: now.config.get(k) for k in keys})
    listed = "\n  ".join(changed or [f"the pass of curate {before.versions.get('curate')} -> {now.versions['curate']}"])
    raise ManifestError(
        f"{manifest.root} was written with other settings of the pass:\n  {listed}\n"
        "These decide which clips there are, so every source would have to be scanned again. Set them back, or name a new output=."
    )


def _take_listing(manifest: Manifest, sources: list[Source], config: Config, notes: ListingNotes) -> list[str]:
    change = manifest.update_index(sources, config.shard_sources)
    said = [notes.summary(), *notes.messages[:20]]
    counts = (
        (change.num_changed, "sources changed since they were scanned; their shards are done again"),
        (change.num_recaptioned, "sources have another caption; their shards are done again"),
        (0 if config.limit_sources else change.num_vanished, "sources are listed no more; their rows stay"),
    )
    return [line for line in said if line] + [f"{count} {text}" for count, text in counts if count]


def _tasks(manifest: Manifest, prepared: _Prepared) -> Iterator[ShardTask]:
    """Whole shards that are pending, then the scorers that complete shards lack."""
    index = manifest.index()
    pending = set(manifest.pending_shards(prepared.fingerprints["pass"], index))
    wanted = {name: prepared.fingerprints["scorers"][name] for name in prepared.scorers}
    for shard_id in index.shard_ids:
        if shard_id in pending:
            yield ShardTask(shard_id, index.sources(shard_id))
            continue
        missing = manifest.scorers_missing(shard_id, wanted)
        if not missing:
            remove_scratch(manifest.shard(shard_id))
        else:
            quarantined = _quarantined(manifest, shard_id)
            yield ShardTask(shard_id, index.sources(shard_id), only=missing, quarantined=quarantined)


def _quarantined(manifest: Manifest, shard_id: int) -> dict[str, str]:
    rows = manifest.read_sources(shard_id).select(["source_key", "status", "fault_message"]).to_pylist()
    return {row["source_key"]: row["fault_message"] for row in rows if row["status"] == "quarantined"}


def _run_tasks(tasks: list[ShardTask], manifest: Manifest, prepared: _Prepared) -> tuple[SourceDone, ...]:
    if not tasks:
        files.remove_folder(manifest.root / WORK_FOLDER)
        return ()
    config = prepared.config
    work = ShardWork(
        output=str(manifest.root),
        settings=prepared.settings,
        scorers=prepared.scorers,
        models=Models(prepared.weights.paths, config.device),
        pass_fingerprint=prepared.fingerprints["pass"],
        scorer_fingerprints=prepared.fingerprints["scorers"],
        skip=skip_rules(config),
    )
    sources = [source for task in tasks for source in task.sources]
    with Progress(len(sources), sum(s.size_bytes or 0 for s in sources)) as progress, _work_folder(manifest.root):
        if config.engine == "local":
            from pipelines.engine import local

            local.run(tasks, work, progress)
        else:
            from pipelines.engine import ray

            limits, actors = config.limits, config.model_actors
            settings = ray.RaySettings(config.workers, config.max_attempts, actors, config.ray_address, limits.stall_s, limits.worker_gb)
            ray.run(tasks, work, progress, settings)
    return tuple(progress.events)


@contextmanager
def _work_folder(root: Path) -> Iterator[None]:
    """Workers leave their notes here; nothing in it outlives the run."""
    folder = root / WORK_FOLDER
    files.remove_folder(folder)
    files.make_folder(folder)
    try:
        yield
    finally:
        files.remove_folder(folder)


def _close(manifest: Manifest, config: Config, num_tasks: int, start: float, said: list[str], done: tuple[SourceDone, ...]) -> RunResult:
    summary = decide(manifest, config)
    failures = []
    if summary.num_kept == 0:
        failures.append("no clip was kept")
    failed = summary.num_failed / max(1, summary.num_sources)
    if failed > config.max_failed_fraction:
        failures.append(f"{failed:.0%} of the sources failed, more than max_failed_fraction={config.max_failed_fraction:.0%}")
    return RunResult(summary, num_tasks, time.monotonic() - start, tuple(failures), tuple(said), done)
