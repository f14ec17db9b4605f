"""The manifest: the folder that a run writes, resumes and publishes from. `docs/manifest.md` describes every file and column.

    run.json               what made it: configuration, fingerprints, versions
    policy.json            the rules as absolute numbers
    clips/, sources/       what people open, made from the ledger by deciding
    shards/index.parquet   which source belongs to which shard
    shards/NNNNN/          the ledger, one folder a shard (see `curate.manifest.shard`)

A name that starts with a dot is temporary or the lock. Nothing that the manifest did not write is ever overwritten or removed.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ManifestError
from curate.manifest import files, published
from curate.manifest.columns import CLIP_COLUMNS, DECIDED_COLUMNS, FRAME_COLUMNS, SOURCE_COLUMNS, schema, scorer_schema, table
from curate.manifest.index import INDEX_COLUMNS, Index, IndexChange
from curate.manifest.lock import locked
from curate.manifest.run import Run, differences, fingerprint, versions
from curate.manifest.shard import SCHEMA_VERSION, Problem, Shard, check_version, to_json
from curate.scorers import Column
from curate.sources import MAX_SHARD_BYTES, Source

if TYPE_CHECKING:
    import pyarrow.dataset as ds

__all__ = [
    "CLIP_COLUMNS",
    "DECIDED_COLUMNS",
    "FRAME_COLUMNS",
    "INDEX_COLUMNS",
    "SCHEMA_VERSION",
    "SOURCE_COLUMNS",
    "Index",
    "IndexChange",
    "Manifest",
    "Problem",
    "Run",
    "Shard",
    "differences",
    "fingerprint",
    "schema",
    "scorer_schema",
    "table",
    "versions",
]

RUN = "run.json"
POLICY = "policy.json"
SHARDS = "shards"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest's folder. Holds no state but its path: cheap to make and to send to a worker.

    Writers take `create_or_open` and `lock()`, readers `open`.
    """

    root: Path

    @classmethod
    def create_or_open(cls, path: str | Path) -> "Manifest":
        """Raises `ManifestError` for a folder that holds anything but a manifest of this schema version."""
        root = files.located(path)
        files.check_reachable(root)
        if root.exists() and not root.is_dir():
            raise ManifestError(f"output {root} is a file; name a folder")
        files.make_folder(root)
        visible = [name for name in files.names(root) if not name.startswith(".")]
        if visible and not _is_manifest(root) and not _is_just_begun(root, visible):
            shown = ", ".join(visible[:5]) + (", ..." if len(visible) > 5 else "")
            raise ManifestError(f"output {root} is not empty and holds no manifest ({shown}); name a new or an empty folder")
        _check_version(root)
        return cls(root)

    @classmethod
    def open(cls, path: str | Path) -> "Manifest":
        """Raises `ManifestError` where there is no manifest."""
        root = files.located(path)
        files.check_reachable(root)
        if not _is_manifest(root):
            raise ManifestError(f"{root} holds no manifest: there is neither {RUN} nor {SHARDS}/index.parquet; `curate run` writes one")
        _check_version(root)
        return cls(root)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held while writing; one writer at a time. Finishes what an interrupted publication left. Raises `ManifestError` when taken."""
        with locked(self.root):
            files.remove_asides(self.root)
            if (self.root / SHARDS).is_dir():
                files.remove_asides(self.root / SHARDS)
            published.finish(self.root)
            yield

    # The header

    def write_run(self, run: Run) -> None:
        files.write_file(self.root / RUN, to_json(run.to_dict()))

    def read_run(self) -> Run | None:
        """None before the first run has written it."""
        content = _read_json(self.root / RUN)
        return None if content is None else Run.from_dict(content)

    def write_policy(self, policy: Mapping[str, Any]) -> None:
        files.write_file(self.root / POLICY, to_json(policy))

    def read_policy(self) -> dict[str, Any] | None:
        return _read_json(self.root / POLICY)

    # The index

    def index(self) -> Index:
        """Reads the index; keep it, rather than ask again, for work on many shards."""
        return Index.read(self.root / SHARDS / "index.parquet")

    def update_index(self, sources: Sequence[Source], shard_sources: int, max_shard_bytes: int = MAX_SHARD_BYTES) -> IndexChange:
        """Takes a listing (sorted by key) into the index: new sources into new shards; shards with changed ones are invalidated first."""
        index = self.index()
        updated, change = index.updated(sources, shard_sources, max_shard_bytes)
        for shard_id in change.redo:
            self.shard(shard_id).invalidate()
        if change.redo or change.added or change.num_moved:
            updated.write(self.root / SHARDS / "index.parquet")
        return change

    def shard_ids(self) -> list[int]:
        return self.index().shard_ids

    def pending_shards(self, pass_fingerprint: str, index: Index | None = None) -> list[int]:
        """Shards that are not complete, or complete for another pass or for other files than the index has now."""
        identities = (index or self.index()).identities()
        return [shard_id for shard_id, sources in identities.items() if self.shard(shard_id).done() != (pass_fingerprint, sources)]

    # The ledger

    def shard(self, shard_id: int) -> Shard:
        return Shard(self.root / SHARDS / f"{shard_id:05d}")

    def write_shard(
        self,
        shard_id: int,
        sources: pa.Table,
        clips: pa.Table,
        frames: pa.Table,
        scorers: Mapping[str, pa.Table],
        pass_fingerprint: str,
        scorer_fingerprints: Mapping[str, str],
    ) -> None:
        """Commits a whole shard; see `Shard.write`."""
        self.shard(shard_id).write(sources, clips, frames, scorers, pass_fingerprint, scorer_fingerprints)

    def write_scorer(self, shard_id: int, name: str, table: pa.Table, fingerprint: str) -> None:
        """Adds or replaces one scorer of a complete shard; see `Shard.write_scorer`."""
        self.shard(shard_id).write_scorer(name, table, fingerprint)

    def scorers_missing(self, shard_id: int, fingerprints: Mapping[str, str]) -> tuple[str, ...]:
        """Scorers (name -> fingerprint) that a shard lacks or has with another fingerprint; all of them when it is not complete."""
        marks = self.shard(shard_id).marks()
        return tuple(name for name in fingerprints if marks is None or marks.scorers.get(name) != fingerprints[name])

    def read_clips(
        self, shard_id: int, scorers: Mapping[str, str] | None = None, absent: Mapping[str, Mapping[str, Column]] | None = None
    ) -> pa.Table:
        """Clips of one shard with their scores; see `Shard.read_clips`."""
        return self.shard(shard_id).read_clips(scorers, absent)

    def read_sources(self, shard_id: int) -> pa.Table:
        return self.shard(shard_id).read_sources()

    def iter_clips(
        self,
        scorers: Mapping[str, str] | None = None,
        absent: Mapping[str, Mapping[str, Column]] | None = None,
        pass_fingerprint: str | None = None,
    ) -> Iterator[pa.Table]:
        """`read_clips` of every complete shard (of this pass) in order; `source_url` is where the source was listed last."""
        index = self.index()
        for shard_id, shard in self._complete(index, pass_fingerprint):
            yield _with_urls(shard.read_clips(scorers, absent), index.rows(shard_id))

    def iter_sources(self, pass_fingerprint: str | None = None) -> Iterator[pa.Table]:
        """`read_sources` of every complete shard (of this pass) in order; `source_url` is where the source was listed last."""
        index = self.index()
        for shard_id, shard in self._complete(index, pass_fingerprint):
            yield _with_urls(shard.read_sources(), index.rows(shard_id))

    def _complete(self, index: Index, pass_fingerprint: str | None) -> Iterator[tuple[int, Shard]]:
        for shard_id in index.shard_ids:
            shard = self.shard(shard_id)
            done = shard.done()
            if done is not None and pass_fingerprint in (None, done[0]):
                yield shard_id, shard

    # What people open

    def published(self, name: Literal["clips", "sources"]) -> "ds.Dataset":
        """One of the tables that people open. Raises `ManifestError` where nothing has been decided."""
        if not (self.root / name).is_dir():
            raise ManifestError(f"{self.root}: nothing has been decided yet; run `curate decide {self.root}`")
        return files.dataset(self.root / name)

    def publish(self, clips: Iterable[pa.Table], sources: Iterable[pa.Table]) -> None:
        """Replaces `clips/` and `sources/`; see `curate.manifest.published`."""
        published.publish(self.root, clips, sources)

    def verify(self) -> Iterator[Problem]:
        """Hashes every file against what was noted when it was written; yields each that is damaged or missing, with its remedy."""
        for name in (RUN, POLICY):
            try:
                _read_json(self.root / name)
            except ManifestError as error:
                yield Problem(self.root / name, str(error), "start the run again with the same configuration, then `curate decide`")
        yield from published.problems(self.root)
        problem = Index.problem(self.root / SHARDS / "index.parquet")
        if problem is not None:
            yield problem
        try:
            shard_ids = self.shard_ids()
        except ManifestError:  # just reported
            return
        for shard_id in shard_ids:
            yield from self.shard(shard_id).problems()


def _is_manifest(root: Path) -> bool:
    if (root / SHARDS / "index.parquet").is_file():
        return True
    try:
        content = _read_json(root / RUN)
    except ManifestError:
        return False
    return content is not None and "schema_version" in content and "pass_fingerprint" in content


def _is_just_begun(root: Path, visible: Sequence[str]) -> bool:
    """A run that died before it had written the index leaves a folder for the shards with its checksum at most."""
    begun = {name for name in files.names(root / SHARDS) if not name.startswith(".")}
    return list(visible) == [SHARDS] and begun <= {"index.json"}


def _check_version(root: Path) -> None:
    try:
        content = _read_json(root / RUN)
    except ManifestError:  # `verify` has a remedy for a damaged header
        return
    if content is not None:
        check_version(root / RUN, content)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ManifestError(f"{path}: is not what a manifest writes")
    return content


def _with_urls(rows: pa.Table, index: pa.Table) -> pa.Table:
    """A folder that was moved or is mounted elsewhere keeps its keys; where its files lie now stands in the index."""
    place = rows.schema.get_field_index("source_url")
    found = pc.index_in(rows["source_key"], value_set=index["key"].combine_chunks())
    return rows.set_column(place, rows.schema.field(place), pc.take(index["url"], found))
