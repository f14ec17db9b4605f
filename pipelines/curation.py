"""The main job: raw videos in, a Parquet manifest out.

    list sources -> index (fixed shards) -> what is missing -> engine: scan, score, commit shard by shard -> decide -> summary

Started again, it does only what is missing: shards that are not complete, scorers that are new or changed, sources that are new or have
changed. A run that was not finished goes on with the listing it made; once finished, the next one lists anew. A change that needs another
pass over sources that are done waits for a yes (`pipelines.rescan`).
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from curate.config import Config, package_needs, parse_config, weights_folders
from curate.config_text import apply_overrides
from curate.decide.decide import decide, last_config_text
from curate.decide.skip import skip_rules
from curate.errors import ConfigError, ManifestError
from curate.extras import require
from curate.fingerprints import config_fingerprints, known_names
from curate.manifest import Manifest, Run, files, versions
from curate.manifest import listing as listed
from curate.models import Models, ResolvedWeights, resolve
from curate.pipelines.curation_worker import CurationWork
from curate.pipelines.events import SourceDone
from curate.pipelines.progress import ListingProgress, Progress
from curate.pipelines.rescan import Agree, check_pass, refused
from curate.pipelines.tasks import ShardTask
from curate.pipelines.working_area import remove_working_area
from curate.report.summary import Summary
from curate.scan import PASS_VERSION, Pass
from curate.sources import ListingNotes, Source, is_list, listing, select
from curate.sources.lists import local_path
from curate.sources.retry import explained
from curate.sources.storage import identities

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

FORMER_NOTES = ".work"  # where earlier versions left word of what their workers were at
STORAGE_PACKAGES = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google")


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

    def named_as(self, before: Run | None) -> "_Prepared":
        """Takes the names that these fingerprints have in a manifest of schema version 2."""
        names = {} if before is None else known_names(before)
        own = self.fingerprints
        scorers = {name: names.get(one, one) for name, one in own["scorers"].items()}
        return replace(self, fingerprints={**own, "pass": names.get(own["pass"], own["pass"]), "scorers": scorers})

    def header(self, before: Run | None) -> Run:
        """Makes the run.json that takes the place of `before`."""
        published_pass = self.fingerprints["pass"] if before is None else before.published_pass or before.pass_fingerprint
        return Run(
            config=self.config.model_dump(mode="json"),
            pass_fingerprint=self.fingerprints["pass"],
            scorers={name: self.fingerprints["scorers"][name] for name in self.scorers},
            rules_fingerprint=self.fingerprints["rules"],
            versions=versions(PACKAGES),
            weights=self.weights.fingerprints(),
            absent=tuple(sorted(self.weights.absent)),
            names={} if before is None else known_names(before),
            published_pass=published_pass,
        )


def run(config: Config, agree: Agree = refused) -> RunResult:
    """Runs the job that the configuration describes; raises `CurateError` for what the user can mend before any video is opened.

    `agree` is asked before sources that are done are scanned again, because settings of the pass have changed.
    """
    return _run(config, lists=True, agree=agree)


def retry(folder: str, words: Sequence[str] = (), reason: str | None = None, agree: Agree = refused) -> RunResult:
    """Does the shards with failed or quarantined sources again, with the configuration of the last run and `key=value` changes to it.

    With a `reason` only those with sources of that `fault_kind`; raises `ConfigError` that lists the kinds there are when none has it.
    Lists nothing, unless the words change what is listed: the sources that failed are looked up one by one. `agree` is as for `run`.
    """
    manifest = Manifest.open(folder)
    text = last_config_text(manifest)
    before = {key: text.content.get(key) for key in ("input", "limit_sources", "seed")}
    apply_overrides(text, [f"output={folder}", "relist=false", *words])
    config = parse_config(text.content, text.problems, text.place)
    lists = config.relist or any(getattr(config, key) != value for key, value in before.items())
    return _run(config, lists, agree, lambda manifest: _invalidate_failed(manifest, config, reason))


def _invalidate_failed(manifest: Manifest, config: Config, reason: str | None) -> None:
    """Invalidates the shards with failed sources, and looks these up as they are at this moment."""
    failed = _failed(manifest)
    kinds = set().union(*(own.values() for own in failed.values()))
    if reason is not None and reason not in kinds:
        raise ConfigError(f"no source of {manifest.root} failed with {reason!r}; there are: {', '.join(sorted(kinds)) or 'none'}")
    wanted = {shard_id: own for shard_id, own in failed.items() if reason is None or reason in own.values()}
    index = manifest.index()
    sources = [source for shard_id, own in wanted.items() for source in index.sources(shard_id) if source.key in own]
    manifest.update_index(_as_they_are(sources), config.shard_sources)
    for shard_id in wanted:
        manifest.shard(shard_id).invalidate()


def _failed(manifest: Manifest) -> dict[int, dict[str, str]]:
    """Sources of complete shards that failed or are quarantined: shard -> key -> kind of fault."""
    found: dict[int, dict[str, str]] = {}
    for shard_id in manifest.shard_ids():
        shard = manifest.shard(shard_id)
        if shard.done():
            rows = shard.read_sources().select(["source_key", "status", "fault_kind"]).to_pylist()
            own = {row["source_key"]: row["fault_kind"] for row in rows if row["status"] in ("failed", "quarantined")}
            if own:
                found[shard_id] = own
    return found


def _as_they_are(sources: Sequence[Source]) -> list[Source]:
    """The same with size, etag and time of change of this moment, as far as they can be looked up."""
    now = identities([source.url for source in sources])
    found = [one if own is None else Source(one.key, one.url, *own, one.caption) for one, own in zip(sources, now, strict=True)]
    return sorted(found, key=lambda source: source.key)


def _run(config: Config, lists: bool, agree: Agree, first: Callable[[Manifest], None] | None = None) -> RunResult:
    """Goes on with the sources that the index has where not `lists`. `first` is called once the pass
    is agreed on.
    """
    start = time.monotonic()
    if not config.input or not config.output:
        lacking = "input" if not config.input else "output"
        raise ConfigError(f"{lacking} is not set; add {lacking}=... to the command or `{lacking}:` to the configuration")
    location, output = os.path.expanduser(config.input), os.path.expanduser(config.output)
    config = config.model_copy(update={"input": location, "output": output})
    prepared = _prepare(config)
    manifest = Manifest.create_or_open(output)
    with _storage_errors(manifest.root), manifest.lock():
        files.remove_folder(manifest.root / FORMER_NOTES)
        before = manifest.read_run()
        prepared = prepared.named_as(before)
        header = prepared.header(before)
        check_pass(manifest, before, header, PASS_VERSION, agree)
        if first is not None:
            first(manifest)
        said = _reused(manifest, config) if lists else []
        tasks = list(_tasks(manifest, prepared)) if said or not lists else []
        if tasks:
            for line in said:
                ListingProgress().line(line)
        else:  # nothing to reuse, or the run before was as good as finished
            made, said = _list(manifest, config)
            tasks = list(_tasks(manifest, prepared))
            if tasks:
                listed.write(manifest.root, made)
        manifest.write_run(header)
        done = _run_tasks(tasks, manifest, prepared)
        result = _close(manifest, config, len(tasks), start, said, done)
        listed.remove(manifest.root)
        return result


def _prepare(config: Config) -> _Prepared:
    if config.ray_address and config.engine != "ray":
        raise ConfigError(f"ray_address={config.ray_address} is for the ray engine: add engine=ray, or ray_address=null to run here")
    if config.engine == "ray" and config.device == "cuda" and not config.model_actors:
        raise ConfigError("device=cuda on the ray engine needs model_actors=1 or more: one process for each GPU that holds the models")
    require(package_needs(config))
    scorers = {name: entry.scorer for name, entry in config.scorers.items()}
    optional = {name for name, entry in config.scorers.items() if entry.optional}
    weights = resolve(scorers, weights_folders(config), allow_download=True, optional=optional)
    fingerprints = config_fingerprints(config, PASS_VERSION, weights.fingerprints())
    settings = Pass(config.decode, config.sampling, config.shots, config.clips, config.limits)
    present = {name: scorer for name, scorer in scorers.items() if name not in weights.absent}
    return _Prepared(config, settings, present, weights, fingerprints)


def _reused(manifest: Manifest, config: Config) -> list[str]:
    """What to say of the listing that the run before left, where this one can go on with it; nothing where it cannot."""
    left = listed.read(manifest.root)
    if left is None or config.relist or not left.is_of(_listing_of(config, 0)):
        return []
    return [f"listing of {left.time} reused ({left.num_sources:,} sources): the run was not finished; relist=true lists anew"]


def _listing_of(config: Config, num_sources: int) -> listed.Listing:
    location = str(config.input)
    is_url = "://" in location and not location.startswith("file://")
    where = location if is_url else os.path.abspath(local_path(location))
    stamp = identities([where])[0] if is_list(location) else None
    time_ = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return listed.Listing(where, config.limit_sources, config.seed, stamp, time_, num_sources)


def _list(manifest: Manifest, config: Config) -> tuple[listed.Listing, list[str]]:
    """Lists the input, takes what it holds into the index, and says what is worth saying."""
    notes = ListingNotes()
    with ListingProgress() as notes.watch:
        sources = select(listing(str(config.input), notes), config.limit_sources, config.seed)
    made = _listing_of(config, len(sources))
    change = manifest.update_index(sources, config.shard_sources)
    said = [notes.summary(), *notes.messages[:20]]
    counts = (
        (change.num_changed, "sources changed since they were scanned; their shards are done again"),
        (change.num_recaptioned, "sources have another caption; their shards are done again"),
        (0 if config.limit_sources else change.num_vanished, "sources are listed no more; their rows stay"),
    )
    return made, [line for line in said if line] + [f"{count} {text}" for count, text in counts if count]


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
            remove_working_area(manifest.shard(shard_id))
        else:
            quarantined = _quarantined(manifest, shard_id)
            yield ShardTask(shard_id, index.sources(shard_id), only=missing, quarantined=quarantined)


def _quarantined(manifest: Manifest, shard_id: int) -> dict[str, str]:
    rows = manifest.read_sources(shard_id).select(["source_key", "status", "fault_message"]).to_pylist()
    return {row["source_key"]: row["fault_message"] for row in rows if row["status"] == "quarantined"}


def _run_tasks(tasks: list[ShardTask], manifest: Manifest, prepared: _Prepared) -> tuple[SourceDone, ...]:
    if not tasks:
        return ()
    config = prepared.config
    work = CurationWork(
        output=str(manifest.root),
        settings=prepared.settings,
        scorers=prepared.scorers,
        models=Models(prepared.weights.paths, config.device),
        pass_fingerprint=prepared.fingerprints["pass"],
        scorer_fingerprints=prepared.fingerprints["scorers"],
        skip=skip_rules(config),
        max_attempts=config.max_attempts,
    )
    sources = [source for task in tasks for source in task.sources]
    with Progress(len(sources), sum(s.size_bytes or 0 for s in sources)) as progress:
        if config.engine == "local":
            from curate.pipelines.engine import local

            local.run(tasks, work, progress, min(len(sources), config.workers or num_cores()))
        else:
            from curate.pipelines.engine import ray

            settings = ray.RaySettings(
                config.workers, config.max_attempts, config.model_actors, config.ray_address, config.limits.worker_gb
            )
            ray.run(tasks, work, progress, settings)
    return tuple(progress.events)


def num_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _storage_errors(root: Path) -> Iterator[None]:
    """What an object store raises to those who read it is the user's to mend, not a bug."""
    try:
        yield
    except Exception as error:
        if not files.is_remote(root) or not (isinstance(error, OSError) or type(error).__module__.split(".")[0] in STORAGE_PACKAGES):
            raise
        raise ManifestError(f"{root}: {explained(error)}. {files.STAYS}") from error


def _close(manifest: Manifest, config: Config, num_tasks: int, start: float, said: list[str], done: tuple[SourceDone, ...]) -> RunResult:
    summary = decide(manifest, config)
    failures = []
    if summary.num_kept == 0:
        failures.append("no clip was kept")
    failed = summary.num_failed / max(1, summary.num_sources)
    if failed > config.max_failed_fraction:
        failures.append(f"{failed:.0%} of the sources failed, more than max_failed_fraction={config.max_failed_fraction:.0%}")
    return RunResult(summary, num_tasks, time.monotonic() - start, tuple(failures), tuple(said), done)
