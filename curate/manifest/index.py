"""The index, `shards/index.parquet`: which source belongs to which shard. Written when a run starts, read when it is resumed.

`shards/index.json` is written first and holds the SHA-256 of the index to come and of the one that is there, so that a run which dies
between the two leaves an index that verifies.

Shards are never regrouped: a new source goes to a new shard at the end, a changed one stays where it is and its shard is done again, one
that has vanished keeps its row.
"""

import bisect
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ManifestError
from curate.manifest import files, parquet
from curate.manifest.columns import SOURCE_COLUMNS, Column, schema
from curate.manifest.shard import Identity, Problem, to_json
from curate.sources import Source, SourceTable, shard_sizes

INDEX_COLUMNS: dict[str, Column] = {
    "shard": Column(pa.int32(), "1", "number of the shard, which is its folder's name", 0),
    "key": SOURCE_COLUMNS["source_key"],
    "url": SOURCE_COLUMNS["source_url"],
    "size_bytes": SOURCE_COLUMNS["size_bytes"],
    "etag": SOURCE_COLUMNS["etag"],
    "mtime_ns": SOURCE_COLUMNS["mtime_ns"],
    "caption": SOURCE_COLUMNS["caption"],
}
_SHARDS_AT_ONCE = 1024
_NAMES = list(INDEX_COLUMNS)[1:]  # those of a `SourceTable`


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
        if not path.exists() and (not path.with_suffix(".json").exists() or not any(path.parent.glob("[0-9]*"))):
            return None  # shards come after it
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
            return Problem(path, f"cannot be read: {error.strerror or error}", remedy)

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
        return tuple(Source(*row) for row in zip(*(rows[name].to_pylist() for name in _NAMES), strict=True))

    def identities(self) -> Mapping[int, tuple[Identity, ...]]:
        """Identity of every source by shard, in the order of their rows; each shard's are made when they are asked for."""
        return _Identities(self)

    def updated(self, sources: Sequence[Source], shard_sources: int, max_shard_bytes: int) -> tuple["Index", IndexChange]:
        """The index after a listing (sorted by key), and what changed."""
        listed, known = SourceTable.of(sources).table, self.table.select(_NAMES)
        place = pc.index_in(listed["key"], value_set=known["key"].combine_chunks())
        is_new = pc.is_null(place)
        seen, at = listed.filter(pc.invert(is_new)), np.asarray(place.drop_null(), dtype=np.int64)
        differs = np.flatnonzero(_differs(seen, known.take(pa.array(at))))
        counts, changed, redo = {"changed": 0, "recaptioned": 0, "moved": 0}, dict[int, Source](), set[int]()
        listed_now, listed_before = SourceTable(seen.take(differs)), SourceTable(known.take(at[differs]))
        for row, now, before in zip(at[differs].tolist(), listed_now, listed_before, strict=True):
            what, source = _change(before, now)
            if source is not None:
                counts[what] += 1
                changed[row] = source
                if what != "moved":
                    redo.add(int(self._shards[row]))
        new = listed.filter(is_new)
        first = int(self._shards[-1]) + 1 if len(self._shards) else 0
        sizes = shard_sizes(new["size_bytes"].to_pylist(), shard_sources, max_shard_bytes)
        added = tuple(range(first, first + len(sizes)))
        shards = pa.concat_arrays([pa.array(self._shards, pa.int32()), pa.array(np.repeat(added, sizes), pa.int32())])
        table = pa.concat_tables([_replaced(known, changed), new]).add_column(0, "shard", shards)
        change = IndexChange(
            num_new=len(new),
            num_changed=counts["changed"],
            num_recaptioned=counts["recaptioned"],
            num_moved=counts["moved"],
            num_vanished=len(known) - len(seen),
            redo=tuple(sorted(redo)),
            added=added,
        )
        return Index(table.cast(schema(INDEX_COLUMNS))), change

    @cached_property
    def _shards(self) -> np.ndarray:
        return np.asarray(self.table["shard"])


class _Identities(Mapping[int, tuple[Identity, ...]]):
    """Made for some shards at a time, since they are asked for in turn: one by one takes ten times as long."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._bounds = np.searchsorted(index._shards, [*index.shard_ids, 2**31])
        self._block, self._rows = -1, list[Identity]()

    def __getitem__(self, shard_id: int) -> tuple[Identity, ...]:
        shard_ids = self._index.shard_ids
        place = bisect.bisect_left(shard_ids, shard_id)
        if place == len(shard_ids) or shard_ids[place] != shard_id:
            raise KeyError(shard_id)
        start = place - place % _SHARDS_AT_ONCE
        base, end = self._bounds[start], self._bounds[min(start + _SHARDS_AT_ONCE, len(shard_ids))]
        if self._block != start:
            rows = self._index.table.slice(base, end - base)
            columns = (rows[name].to_pylist() for name in ("key", "size_bytes", "etag", "mtime_ns"))
            self._block, self._rows = start, list(zip(*columns, strict=True))
        return tuple(self._rows[self._bounds[place] - base : self._bounds[place + 1] - base])

    def __iter__(self) -> Iterator[int]:
        return iter(self._index.shard_ids)

    def __len__(self) -> int:
        return len(self._index.shard_ids)


def _change(before: Source, now: Source) -> tuple[str, Source | None]:
    """What happened to a known source, and its row from now on; None where that stays as it is."""
    if not before.is_same_file(now):
        return "changed", now
    if before.caption != now.caption:
        return "recaptioned", now
    if before.url != now.url:
        return "moved", Source(now.key, now.url, before.size_bytes, before.etag, before.mtime_ns, before.caption)
    return "", None


def _differs(one: pa.Table, other: pa.Table) -> np.ndarray:
    """Rows with another value in any column; null is a value like others."""
    found = np.zeros(len(one), dtype=bool)
    for name in _NAMES:
        same = pc.fill_null(pc.equal(one[name], other[name]), pa.scalar(False))
        both_null = pc.and_(pc.is_null(one[name]), pc.is_null(other[name]))
        found |= ~np.asarray(pc.or_(same, both_null))
    return found


def _replaced(known: pa.Table, changed: Mapping[int, Source]) -> pa.Table:
    if not changed:
        return known
    order = np.arange(len(known))
    order[list(changed)] = len(known) + np.arange(len(changed))
    replacements = SourceTable.of(changed.values()).table
    return pa.concat_tables([known, replacements.cast(known.schema)]).take(pa.array(order))
