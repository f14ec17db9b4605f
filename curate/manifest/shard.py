"""One shard of the ledger, `shards/NNNNN/`: written once as a whole, then joined by scorers that come later.

    sources.parquet clips.parquet    one row a source, one row a clip
    motion.parquet                   one file a scorer, its rows those of clips.parquet in the same order
    aesthetic.large.parquet          a scorer's large columns (embeddings)
    done.json                        written last: the shard is complete if and only if it is there
    done.motion.json                 a scorer that was added or redone later: takes the place of its entry in done.json

A mark (`done*.json`) vouches for files by size and SHA-256, says which fingerprints made them and, for the shard, of which sources.
Before a file that a mark vouches for is overwritten, that mark is removed or, for a scorer in done.json, overruled.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ManifestError
from curate.manifest import files, parquet
from curate.manifest.columns import CLIP_COLUMNS, FAULTS, FRAME_COLUMNS, SOURCE_COLUMNS, is_large, schema
from curate.scorers import Column

SCHEMA_VERSION = 3
READABLE = (2, 3)  # 2 had other fingerprints, no `published.json`, and the same ledger
DONE = "done.json"
_SCORER_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_RESERVED = ("sources", "clips", "frames", "done")

Identity = tuple[str, int | None, str | None, int | None]


@dataclass(frozen=True, slots=True)
class FileMark:
    """Size and SHA-256 of a file when it was written."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Marks:
    """What the marks of a complete shard vouch for now. `identities`: key, size, etag and mtime of each source."""

    pass_fingerprint: str
    scorers: Mapping[str, str]
    identities: tuple[Identity, ...]
    files: Mapping[str, FileMark]


@dataclass(frozen=True, slots=True)
class Problem:
    """One damaged or missing file, and what to do about it."""

    path: Path
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Shard:
    """The folder of one shard. Cheap to make; nothing is read before it is asked for."""

    folder: Path

    def marks(self) -> Marks | None:
        """None when the shard is not complete."""
        done = _read_mark(self.folder / DONE)
        if done is None:
            return None
        clips_sha256 = done["files"]["clips.parquet"]["sha256"]
        scorers, marked = dict(done["scorers"]), dict(done["files"])
        for name, mark in self._later_marks():
            for file in (f"{name}.parquet", f"{name}.large.parquet"):
                marked.pop(file, None)
            scorers.pop(name, None)
            if mark and mark["fingerprint"] is not None and mark["clips_sha256"] == clips_sha256:
                scorers[name] = mark["fingerprint"]
                marked.update(mark["files"])
        identities = tuple((str(key), size, etag, mtime) for key, size, etag, mtime in done["sources"])
        return Marks(done["pass"], scorers, identities, {name: FileMark(**mark) for name, mark in marked.items()})

    def done(self) -> tuple[str, tuple[Identity, ...]] | None:
        """Pass fingerprint and sources of a complete shard: the part of `marks` that takes one file to read."""
        done = _read_mark(self.folder / DONE)
        return None if done is None else (done["pass"], tuple((key, size, etag, mtime) for key, size, etag, mtime in done["sources"]))

    def ended_s(self) -> float:
        """When the shard was committed, in seconds since 1970, by the clock of its storage."""
        return float((self.folder / DONE).stat().st_mtime)

    def write(
        self,
        sources: pa.Table,
        clips: pa.Table,
        frames: pa.Table,
        scorers: Mapping[str, pa.Table],
        pass_fingerprint: str,
        scorer_fingerprints: Mapping[str, str],
    ) -> None:
        """Commits the shard. Whatever was there of it before is invalid from the first moment on, and replaced.

        `frames` has a row for every clip, with the `FRAME_COLUMNS`.
        """
        sources = _conform("sources", sources, SOURCE_COLUMNS)
        clips = _conform("clips", clips, CLIP_COLUMNS)
        frames = _conform("frames", frames, FRAME_COLUMNS)
        if not frames["clip_id"].equals(clips["clip_id"]):
            raise ManifestError(f"frames: its {len(frames)} rows are not the shard's {len(clips)} clips in their order")
        tables = {"sources.parquet": sources, "clips.parquet": clips, "frames.parquet": frames}
        taken = set(CLIP_COLUMNS)
        for name, table in scorers.items():
            if name not in scorer_fingerprints:
                raise ManifestError(f"scorer {name}: its table comes without a fingerprint")
            tables |= _split(name, table, clips["clip_id"], taken)
        files.make_folder(self.folder)
        self.invalidate()
        files.remove_asides(self.folder)
        marked = self._write_tables(tables)
        for path in self.folder.glob("*.parquet"):
            if path.name not in tables:
                files.remove_file(path)
        columns = [sources[name].to_pylist() for name in ("source_key", "size_bytes", "etag", "mtime_ns")]
        mark = {
            "schema_version": SCHEMA_VERSION,
            "pass": pass_fingerprint,
            "scorers": {name: scorer_fingerprints[name] for name in scorers},
            "sources": list(zip(*columns, strict=True)),
            "files": marked,
        }
        files.write_file(self.folder / DONE, to_json(mark))

    def write_scorer(self, name: str, table: pa.Table, fingerprint: str) -> None:
        """Adds or replaces one scorer's columns; touches no byte of the others. Raises `ManifestError` unless the shard is complete."""
        marks = self.marks()
        if marks is None:
            raise ManifestError(f"{self.folder}: scorer {name} cannot be added to a shard that is not complete; run the pass first")
        tables = _split(name, table, self.read_keys()["clip_id"], set(CLIP_COLUMNS))
        mark: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "fingerprint": None,
            "clips_sha256": marks.files["clips.parquet"].sha256,
            "files": {},
        }
        path = self.folder / f"done.{name}.json"
        files.remove_asides(self.folder)
        if name in marks.scorers:
            files.write_file(path, to_json(mark))
        mark["files"] = self._write_tables(tables)
        if f"{name}.large.parquet" not in tables:
            files.remove_file(self.folder / f"{name}.large.parquet")
        mark["fingerprint"] = fingerprint
        files.write_file(path, to_json(mark))

    def invalidate(self) -> None:
        """Makes the shard incomplete, so that the next run does it again. done.json goes first: the other marks say nothing without it."""
        files.remove_file(self.folder / DONE)
        for path in sorted(self.folder.glob("done.*.json")):
            files.remove_file(path)

    def read_sources(self) -> pa.Table:
        """Every column of today; null where the shard was written before there was such a column."""
        found = parquet.read(self.folder / "sources.parquet")
        columns = [found[name] if name in found.column_names else pa.nulls(len(found), one.type) for name, one in SOURCE_COLUMNS.items()]
        return pa.table(columns, schema(SOURCE_COLUMNS))

    def read_keys(self) -> pa.Table:
        """clips.parquet alone, without any scorer."""
        return parquet.read(self.folder / "clips.parquet")

    def read_frames(self) -> pa.Table:
        """`clip_id` and the times of every clip's frames, rows as in clips.parquet."""
        return self._read_scorer("frames.parquet", self.read_keys()["clip_id"])

    def read_clips(self, scorers: Mapping[str, str] | None = None, absent: Mapping[str, Mapping[str, Column]] | None = None) -> pa.Table:
        """One row a clip with the columns of `scorers`, in order of their names, large ones left out.

        `scorers` maps name to fingerprint; None takes every scorer that the shard has. `absent` names optional scorers whose weights were
        not found, with the columns they declare: those are null. `faults` holds those of the pass and of every scorer.
        Raises `ManifestError` when a scorer is missing or of another fingerprint, or when rows do not match.
        """
        marks = self.marks()
        if marks is None:
            raise ManifestError(f"{self.folder}: the shard is not complete; finish the run first")
        clips = self.read_keys()
        fields, arrays, faults = list(clips.schema), list(clips.columns), [clips["faults"]]
        wanted = marks.scorers if scorers is None else scorers
        absent = absent or {}
        for name in sorted({*wanted, *absent}):
            if name in absent:
                columns = [column for column in schema(absent[name]) if not is_large(column)]
                arrays += [pa.chunked_array([pa.nulls(len(clips), column.type)]) for column in columns]
            else:
                self._check_current(marks, name, wanted[name])
                table = self._read_scorer(f"{name}.parquet", clips["clip_id"])
                faults += [table["faults"]] if "faults" in table.column_names else []
                columns = [column for column in table.schema if column.name not in ("clip_id", "faults")]
                arrays += [table[column.name] for column in columns]
            fields += columns
        names = [column.name for column in fields]
        if len(set(names)) != len(names):
            double = sorted({name for name in names if names.count(name) > 1})
            raise ManifestError(
                f"{self.folder}: two scorers have columns of one name ({', '.join(double)}); names must be unique in the manifest"
            )
        arrays[names.index("faults")] = pa.chunked_array([_joined(faults)])
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def read_large(self, name: str) -> pa.Table:
        """`clip_id` and the large columns of one scorer."""
        return self._read_scorer(f"{name}.large.parquet", self.read_keys()["clip_id"])

    def problems(self) -> Iterator[Problem]:
        """Files that are not what the marks say, each with its remedy. A shard that is not complete has none."""
        redo = f"remove {self.folder / DONE} and start the run again; this shard alone is redone"
        if (self.folder / DONE).exists() and _read_mark(self.folder / DONE) is None:
            yield Problem(self.folder / DONE, "is damaged", redo)
        marks = self.marks()
        if marks is None:
            return
        for name, mark in self._later_marks():
            if mark is None:
                yield Problem(self.folder / f"done.{name}.json", "is damaged", f"start the run again; {name} alone is redone in this shard")
        for file, expected in sorted(marks.files.items()):
            path = self.folder / file
            try:
                sha256 = files.sha256(path)
            except FileNotFoundError:
                yield Problem(path, "is missing", redo)
                continue
            except OSError as error:
                yield Problem(path, f"cannot be read: {error.strerror or error}", redo)
                continue
            if sha256 != expected.sha256:
                yield Problem(
                    path, f"is damaged: {path.stat().st_size} bytes with another checksum than the {expected.size_bytes} written", redo
                )

    def _later_marks(self) -> Iterator[tuple[str, dict[str, Any] | None]]:
        for path in sorted(self.folder.glob("done.*.json")):
            yield path.name[len("done.") : -len(".json")], _read_mark(path)

    def _check_current(self, marks: Marks, name: str, fingerprint: str) -> None:
        if marks.scorers.get(name) != fingerprint:
            state = "was scored with other parameters" if name in marks.scorers else "has not been scored"
            raise ManifestError(f"{self.folder}: {name} {state} in this shard; run the same configuration again to score it")

    def _write_tables(self, tables: Mapping[str, pa.Table]) -> dict[str, dict[str, Any]]:
        marked = {}
        for name, table in tables.items():
            data = parquet.encode(table, "lz4")
            files.write_file(self.folder / name, data)
            marked[name] = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        return marked

    def _read_scorer(self, file: str, clip_ids: pa.ChunkedArray) -> pa.Table:
        table = parquet.read(self.folder / file)
        if not table["clip_id"].equals(clip_ids):
            raise ManifestError(f"{self.folder / file}: its rows are not those of clips.parquet; run `curate verify` on the manifest")
        return table


def to_json(content: object) -> bytes:
    """The one way JSON is written: sorted keys, UTF-8, a line end."""
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _read_mark(path: Path) -> dict[str, Any] | None:
    """None for a mark that is missing or damaged: what it vouched for is done again."""
    try:
        mark = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    if not isinstance(mark, dict):
        return None
    check_version(path, mark)
    return mark


def check_version(path: Path, content: Mapping[str, Any]) -> None:
    """Raises `ManifestError` for a header or mark of a version that this program does not read."""
    version = content.get("schema_version")
    if version not in READABLE:
        readable = " and ".join(map(str, READABLE))
        raise ManifestError(f"{path}: schema version {version}, this program reads {readable}; use the version that wrote it")


def _conform(what: str, table: pa.Table, columns: Mapping[str, Column]) -> pa.Table:
    if set(table.column_names) != set(columns) or len(table.column_names) != len(columns):
        extra, lacking = sorted(set(table.column_names) - set(columns)), sorted(set(columns) - set(table.column_names))
        raise ManifestError(f"{what}: undeclared columns {extra}, missing columns {lacking}")
    return table.select(list(columns)).cast(schema(columns))


def _split(name: str, table: pa.Table, clip_ids: pa.ChunkedArray, taken: set[str]) -> dict[str, pa.Table]:
    """A scorer's files. Adds the names of its columns to `taken`."""
    if not _SCORER_NAME.fullmatch(name) or name in _RESERVED or name.endswith(".large"):
        raise ManifestError(f"scorer {name!r}: the name cannot be a file's; use a Python module name other than {', '.join(_RESERVED)}")
    if "clip_id" not in table.column_names or not table["clip_id"].equals(clip_ids):
        raise ManifestError(f"scorer {name}: its {len(table)} rows are not the shard's {len(clip_ids)} clips in their order")
    own = [column for column in table.schema if column.name not in ("clip_id", "faults")]
    double = sorted(taken & {column.name for column in own})
    if double or len({column.name for column in own}) != len(own):
        raise ManifestError(f"scorer {name}: columns {double} are there already; column names must be unique in the manifest")
    taken |= {column.name for column in own}
    large = [column.name for column in own if is_large(column)]
    tables = {f"{name}.parquet": table.drop_columns(large) if large else table}
    if large:
        tables[f"{name}.large.parquet"] = table.select(["clip_id", *large])
    return tables


def _joined(columns: Sequence[pa.ChunkedArray]) -> pa.Array:
    """Lists of the same row, one after the other; null counts as empty."""
    arrays = [column.combine_chunks() for column in columns]
    arrays = [pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array for array in arrays]
    parents = np.concatenate([np.asarray(pc.list_parent_indices(array)) for array in arrays])
    counts = np.bincount(parents, minlength=len(arrays[0]))
    values = pa.concat_arrays([array.flatten() for array in arrays])
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values.take(pa.array(np.argsort(parents, kind="stable"))), type=FAULTS)
