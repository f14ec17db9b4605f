"""What people open: `clips/part-NNNNN.parquet` and `sources/part-NNNNN.parquet`, and nothing else in
these two folders: many readers take every file of a folder for a part. They are written aside as a
whole and then renamed in (in an object store: copied, the parts that are left over then removed).

`published.json` holds the SHA-256 of the parts. All is made in `.curate-publish`. Once
`.curate-publish/ready` is there, an interrupted publication is finished and not thrown away, and until
it is, the checksums of both count. Manifests of schema version 2 have a `_checksums.json` in each folder
instead, which the next publication removes.

Columns that hold a map are published as text of JSON: few readers know the type.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.errors import ManifestError
from curate.manifest import files, parquet
from curate.manifest.shard import Problem, to_json

STAGING = ".curate-publish"
READY = "ready"
CHECKSUMS = "published.json"
CHECKSUMS_2 = "_checksums.json"
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
    checksums: dict[str, dict[str, str]] = {}
    for name, tables in zip(TABLES, (clips, sources), strict=True):
        files.make_folder(staging / name)
        checksums[name] = {}
        for number, part in enumerate(_parts(name, tables)):
            data = parquet.encode(part)
            path = staging / name / f"part-{number:05d}.parquet"
            files.write_file(path, data)
            checksums[name][path.name] = hashlib.sha256(data).hexdigest()
    files.write_file(staging / CHECKSUMS, to_json(checksums))
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
        if (staging / CHECKSUMS).exists():
            files.write_file(root / CHECKSUMS, (staging / CHECKSUMS).read_bytes())
        # First, or a removal that is cut short would look like a publication with fewer parts.
        files.remove_file(staging / READY)
    files.remove_folder(staging)


def problems(root: Path) -> Iterator[Problem]:
    """Yields published parts that are not what was written; none of a folder that is not there yet."""
    remedy = f"publish again: curate decide {root}"
    for name in TABLES:
        if not (root / name).is_dir():
            continue
        noted = _noted(root, name)
        if not noted:
            yield Problem(root / CHECKSUMS, "is missing or damaged", remedy)
            return
        for part in sorted({part for one in noted for part in one}):
            known = [one.get(part) for one in noted]
            path = root / name / part
            try:
                if files.sha256(path) not in known:
                    yield Problem(path, "is damaged: it has another checksum than was written", remedy)
            except FileNotFoundError:
                if None not in known:  # else the publication that is under way adds or removes it
                    yield Problem(path, "is missing", remedy)
            except OSError as error:
                yield Problem(path, f"cannot be read: {error.strerror or error}", remedy)


def _noted(root: Path, name: str) -> list[Mapping[str, str]]:
    """Reads the checksums of a table: of what is published and, while a publication is under way, of
    what comes. Those that cannot be read are left out.
    """
    found = [_read(root / CHECKSUMS, name) if (root / CHECKSUMS).exists() else _read(root / name / CHECKSUMS_2)]
    if (root / STAGING / READY).exists():
        found.append(_read(root / STAGING / CHECKSUMS, name))
    return [one for one in found if one is not None]


def _read(path: Path, name: str | None = None) -> dict[str, str] | None:
    """Reads part -> SHA-256 from a file, below `name` if that is given; None where it cannot."""
    try:
        content = json.loads(path.read_bytes())
        return dict(content if name is None else content[name])
    except (OSError, ValueError, TypeError, KeyError):
        return None


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
        if name not in made and (_PART.fullmatch(name) or name == CHECKSUMS_2):
            files.remove_file(target / name)


def _check_ours(folder: Path) -> None:
    if not folder.exists():
        return
    foreign = sorted(name for name in files.names(folder) if not (_PART.fullmatch(name) or name == CHECKSUMS_2 or name.startswith(".")))
    if foreign:
        raise ManifestError(
            f"{folder} holds files that no manifest writes ({', '.join(foreign[:5])}); move them elsewhere and publish again"
        )


def _parts(name: str, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    num_rows = num_parts = 0
    schema: pa.Schema | None = None
    for table in tables:
        table = _openable(table)
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


def _openable(table: pa.Table) -> pa.Table:
    """Puts text of JSON in place of columns that hold a map."""
    for place, field in enumerate(table.schema):
        if _holds_map(field.type):
            texts = [None if value is None else _json(value, field.type) for value in table[field.name].to_pylist()]
            table = table.set_column(place, field.with_type(pa.string()), pa.array(texts, pa.string()))
    return table


def _holds_map(kind: pa.DataType) -> bool:
    return pa.types.is_map(kind) or any(_holds_map(kind.field(i).type) for i in range(kind.num_fields))


def _json(value: Any, kind: pa.DataType) -> str:
    return json.dumps(_plain(value, kind), ensure_ascii=False, default=str)


def _plain(value: Any, kind: pa.DataType) -> Any:
    """Makes objects of what Arrow gives as pairs."""
    if value is None or not _holds_map(kind):
        return value
    if pa.types.is_map(kind):
        return {str(key): _plain(item, kind.item_type) for key, item in value}
    if pa.types.is_struct(kind):
        return {name: _plain(item, kind.field(name).type) for name, item in value.items()}
    return [_plain(item, kind.value_type) for item in value]


def _difference(first: pa.Schema, second: pa.Schema) -> str:
    one, other = ({column.name: str(column.type) for column in columns} for columns in (first, second))
    differing = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    return ", ".join(f"{name} ({one.get(name, 'absent')} and {other.get(name, 'absent')})" for name in differing[:8]) or "another order"
