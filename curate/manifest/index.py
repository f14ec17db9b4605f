"""The index, `shards/index.parquet`: which source belongs to which shard. Written when a run starts, read when it is resumed.

`shards/index.json` is written first and holds the SHA-256 of the index to come and of the one that is there, so that a run which dies
between the two leaves an index that verifies.

Shards are never regrouped: a new source goes to a new shard at the end, a changed one stays where it is and its shard is done again, one
that has vanished keeps its row.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.errors import ManifestError
from curate.manifest import files, parquet
from curate.manifest.columns import SOURCE_COLUMNS, Column, schema
from curate.manifest.shard import Identity, Problem, to_json
from curate.sources import Source, group

INDEX_COLUMNS: dict[str, Column] = {
    "shard": Column(pa.int32(), "1", "number of the shard, which is its folder's name", 0),
    "key": SOURCE_COLUMNS["source_key"],
    "url": SOURCE_COLUMNS["source_url"],
    "size_bytes": SOURCE_COLUMNS["size_bytes"],
    "etag": SOURCE_COLUMNS["etag"],
    "mtime_ns": SOURCE_COLUMNS["mtime_ns"],
    "caption": SOURCE_COLUMNS["caption"],
}


@dataclass(frozen=True, slots=True)
class IndexChange:
    """What a new listing brought. `redo` are shards with changed sources or captions, `added` the new shards.

    `num_moved` counts known files that are found at another URL, which costs nothing; `num_vanished` those that are listed no more.
    """

    num_new: int = 0
    num_changed: int = 0
    num_recaptioned: int = 0
    num_moved: int = 0
    num_vanished: int = 0
    redo: tuple[int, ...] = ()
    added: tuple[int, ...] = ()


class Index:
    """The index as it was when it was read. Rows are sorted by shard."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def read(cls, path: Path) -> "Index":
        """An empty index where no run has written one yet."""
        if not path.exists():
            return cls(schema(INDEX_COLUMNS).empty_table())
        table = parquet.read(path)
        if table.column_names != list(INDEX_COLUMNS):
            raise ManifestError(f"{path}: its columns are {table.column_names}, not {list(INDEX_COLUMNS)}; use the version that wrote it")
        return cls(table)

    def write(self, path: Path) -> None:
        """Replaces the index on disk."""
        files.make_folder(path.parent)
        data = parquet.encode(self.table)
        digests = [hashlib.sha256(data).hexdigest()] + ([files.sha256(path)] if path.exists() else [])
        files.write_file(path.with_suffix(".json"), to_json({"sha256": digests}))
        files.write_file(path, data)

    @classmethod
    def problem(cls, path: Path) -> Problem | None:
        """What is wrong with the index on disk, if anything is; nothing is where no run has written one yet."""
        if not path.exists() and not path.with_suffix(".json").exists():
            return None
        remedy = "restore it from a copy: it says which source belongs to which shard"
        try:
            known = json.loads(path.with_suffix(".json").read_bytes())["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return Problem(
                path.with_suffix(".json"), "is missing or damaged", "restore it from a copy, or start the run again after a new source came"
            )
        try:
            return None if files.sha256(path) in known else Problem(path, "is damaged: it has another checksum than was written", remedy)
        except OSError as error:
            return Problem(path, f"cannot be read: {error.strerror}", remedy)

    @cached_property
    def shard_ids(self) -> list[int]:
        return [int(shard) for shard in np.unique(self._shards)]

    def rows(self, shard_id: int) -> pa.Table:
        """The rows of one shard, by reference."""
        first, last = np.searchsorted(self._shards, [shard_id, shard_id + 1])
        return self.table.slice(first, last - first)

    def sources(self, shard_id: int) -> tuple[Source, ...]:
        rows = self.rows(shard_id)
        if not len(rows):
            raise ManifestError(f"there is no shard {shard_id}; the index has {len(self.shard_ids)}")
        return tuple(Source(*row) for row in zip(*(rows[name].to_pylist() for name in list(INDEX_COLUMNS)[1:]), strict=True))

    def identities(self) -> dict[int, tuple[Identity, ...]]:
        """Identity of every source by shard, in the order of their rows."""
        rows = list(zip(*(self.table[name].to_pylist() for name in ("key", "size_bytes", "etag", "mtime_ns")), strict=True))
        bounds = np.searchsorted(self._shards, [*self.shard_ids, 2**31]).tolist()
        return {shard: tuple(rows[first:last]) for shard, first, last in zip(self.shard_ids, bounds, bounds[1:], strict=False)}

    def updated(self, sources: Sequence[Source], shard_sources: int, max_shard_bytes: int) -> tuple["Index", IndexChange]:
        """The index after a listing (sorted by key), and what changed."""
        shards: list[int] = self._shards.tolist()
        known = self._known()
        rows = list(known.values())
        place = {key: i for i, key in enumerate(known)}
        new, redo = [], set()
        num_changed = num_recaptioned = num_moved = num_seen = 0
        for source in sources:
            i = place.get(source.key)
            if i is None:
                new.append(source)
                continue
            num_seen += 1
            before = rows[i]
            if not before.is_same_file(source):
                num_changed += 1
            elif before.caption != source.caption:
                num_recaptioned += 1
            elif before.url != source.url:
                num_moved += 1
                rows[i] = Source(source.key, source.url, before.size_bytes, before.etag, before.mtime_ns, before.caption)
                continue
            else:
                continue
            rows[i] = source
            redo.add(shards[i])
        first = shards[-1] + 1 if shards else 0
        groups = group(new, shard_sources, max_shard_bytes)
        for shard, members in enumerate(groups, first):
            rows += members
            shards += [shard] * len(members)
        added = tuple(range(first, first + len(groups)))
        change = IndexChange(len(new), num_changed, num_recaptioned, num_moved, len(known) - num_seen, tuple(sorted(redo)), added)
        return Index(_table(shards, rows)), change

    @cached_property
    def _shards(self) -> np.ndarray:
        return np.asarray(self.table["shard"])

    def _known(self) -> Mapping[str, Source]:
        columns = [self.table[name].to_pylist() for name in list(INDEX_COLUMNS)[1:]]
        return {row[0]: Source(*row) for row in zip(*columns, strict=True)}


def _table(shards: Sequence[int], rows: Sequence[Source]) -> pa.Table:
    arrays = [
        pa.array(shards, pa.int32()),
        pa.array([row.key for row in rows], pa.string()),
        pa.array([row.url for row in rows], pa.string()),
        pa.array([row.size_bytes for row in rows], pa.int64()),
        pa.array([row.etag for row in rows], pa.string()),
        pa.array([row.mtime_ns for row in rows], pa.int64()),
        pa.array([row.caption for row in rows], pa.string()),
    ]
    return pa.Table.from_arrays(arrays, schema=schema(INDEX_COLUMNS))
