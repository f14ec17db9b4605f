"""What people open: `clips/part-NNNNN.parquet` and `sources/part-NNNNN.parquet`, written aside as a whole and then renamed in
(in an object store: copied, the parts that are left over then removed).

Each folder holds `_checksums.json`, the SHA-256 of its parts (readers of a folder of Parquet skip names that start with `_`). Both are made
in `.curate-publish`; once `.curate-publish/ready` is there, an interrupted publication is finished and not thrown away.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from curate.errors import ManifestError
from curate.manifest import files, parquet
from curate.manifest.shard import Problem, to_json

STAGING = ".curate-publish"
READY = "ready"
CHECKSUMS = "_checksums.json"
TABLES = ("clips", "sources")
PART_ROWS = 100_000
_PART = re.compile(r"part-\d{5,}\.parquet")


def publish(root: Path, clips: Iterable[pa.Table], sources: Iterable[pa.Table]) -> None:
    """Replaces both folders. Tables may be of any length, all of one schema, and there must be one (of no rows, if need be).

    Rows are kept in order; memory is bounded by one part. Raises `ManifestError` when a folder holds files that are not ours.
    """
    for name in TABLES:
        _check_ours(root / name)
    finish(root)
    staging = root / STAGING
    for name, tables in zip(TABLES, (clips, sources), strict=True):
        files.make_folder(staging / name)
        checksums = {}
        for number, part in enumerate(_parts(name, tables)):
            data = parquet.encode(part)
            path = staging / name / f"part-{number:05d}.parquet"
            files.write_file(path, data)
            checksums[path.name] = hashlib.sha256(data).hexdigest()
        files.write_file(staging / name / CHECKSUMS, to_json(checksums))
    files.write_file(staging / READY, b"")
    finish(root)


def finish(root: Path) -> None:
    """Brings an interrupted publication to its end, or removes what was not ready. Does nothing where there is none."""
    staging = root / STAGING
    if not staging.exists():
        return
    if (staging / READY).exists():
        for name in TABLES:
            if not (staging / name).is_dir():
                continue
            if files.is_remote(root):
                _copy(root / name, staging / name)
            else:
                _swap(root / name, staging / name, staging / f"{name}-before")
    files.remove_folder(staging)


def problems(root: Path) -> Iterator[Problem]:
    """Published parts that are not what was written. Nothing has been published where a folder is missing."""
    remedy = f"publish again: curate decide {root}"
    for name in TABLES:
        if not (root / name).is_dir():
            continue
        try:
            checksums = dict(json.loads((root / name / CHECKSUMS).read_bytes()))
        except (OSError, ValueError, TypeError):
            yield Problem(root / name / CHECKSUMS, "is missing or damaged", remedy)
            continue
        for part, sha256 in sorted(checksums.items()):
            try:
                if files.sha256(root / name / part) != sha256:
                    yield Problem(root / name / part, "is damaged: it has another checksum than was written", remedy)
            except OSError as error:
                yield Problem(root / name / part, f"cannot be read: {error.strerror or error}", remedy)


def _swap(target: Path, source: Path, before: Path) -> None:
    if target.exists():
        _check_ours(target)
        for name in files.names(target):
            if name.startswith("."):  # whatever a file browser left there is not ours to delete
                (target / name).replace(source / name)
        files.rename_folder(target, before)
    files.rename_folder(source, target)


def _copy(target: Path, source: Path) -> None:
    """As `_swap` where there are no folders to rename. Cut short and begun again it comes to the same end."""
    made = files.names(source)
    for name in made:
        files.copy_file(source / name, target / name)
    for name in files.names(target):
        if name not in made and _PART.fullmatch(name):
            files.remove_file(target / name)


def _check_ours(folder: Path) -> None:
    if not folder.exists():
        return
    foreign = sorted(name for name in files.names(folder) if not (_PART.fullmatch(name) or name == CHECKSUMS or name.startswith(".")))
    if foreign:
        raise ManifestError(
            f"{folder} holds files that no manifest writes ({', '.join(foreign[:5])}); move them elsewhere and publish again"
        )


def _parts(name: str, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    num_rows = num_parts = 0
    schema: pa.Schema | None = None
    for table in tables:
        schema = schema or table.schema
        if not table.schema.equals(schema, check_metadata=False):
            raise ManifestError(f"{name}: tables of different columns cannot be one table: {_difference(schema, table.schema)}")
        waiting.append(table.replace_schema_metadata(None).cast(schema))
        num_rows += len(table)
        while num_rows >= PART_ROWS:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, PART_ROWS)
            num_parts += 1
            waiting = [joined.slice(PART_ROWS)]
            num_rows -= PART_ROWS
    if schema is None:
        raise ManifestError(f"{name}: nothing to publish, not even a table without rows that says what the columns are")
    if num_rows or not num_parts:
        yield pa.concat_tables(waiting)


def _difference(first: pa.Schema, second: pa.Schema) -> str:
    one, other = ({column.name: str(column.type) for column in columns} for columns in (first, second))
    differing = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    return ", ".join(f"{name} ({one.get(name, 'absent')} and {other.get(name, 'absent')})" for name in differing[:8]) or "another order"
