"""The published folders in the libraries that people open them with: every column, type and null is
read as it was written."""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from curate import manifest_docs
from curate.manifest import (
    CLIP_COLUMNS,
    DECIDED_COLUMNS,
    SOURCE_COLUMNS,
    Manifest,
    published,
    schema,
    table,
)
from curate.scorers import Column

NUM_ROWS = 9
TAGS = {"encoder": "Lavf60", "title": 'é "quoted"\n', "": "no name"}
FAULT = {"stage": "decode", "kind": "Invalid", "message": 'bad, "very" bad', "time_ns": None}
Rows = list[dict[str, Any]]


def clip_columns() -> dict[str, Column]:
    """All that `clips/` may hold: those of every bundled scorer, but for what is large."""
    columns = {**CLIP_COLUMNS, **DECIDED_COLUMNS}
    for _, own in manifest_docs.bundled_scorers().values():
        columns |= {name: column for name, column in own.items() if not column.large}
    return columns


def value(kind: pa.DataType, row: int) -> Any:
    if pa.types.is_boolean(kind):
        return row % 2 == 0
    if pa.types.is_integer(kind):
        return row - 3
    if pa.types.is_floating(kind):
        return row / 8
    if pa.types.is_map(kind):
        return TAGS if row % 2 else {}
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        return [FAULT] * (row % 3)
    if pa.types.is_list(kind):
        return [value(kind.value_type, i) for i in range(row % 3)]
    return f"word {row}, é"


def rows_of(columns: Mapping[str, Column]) -> Rows:
    """Every third value is null but in the first columns, in those that are never null, and in the
    last: that is null throughout."""
    whole = (*list(columns)[:8], "keep", "drop_reasons", "is_scored", "is_after_fault")
    last = list(columns)[-1]
    return [
        {
            name: None if name == last or (row % 3 == 0 and name not in whole) else value(column.type, row)
            for name, column in columns.items()
        }
        for row in range(NUM_ROWS)
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Rows]]:
    """A published manifest in parts of four rows, and what it holds; tags as they are published."""
    root = tmp_path_factory.mktemp("readers") / "out"
    columns = {"clips": clip_columns(), "sources": dict(SOURCE_COLUMNS)}
    rows = {name: rows_of(own) for name, own in columns.items()}
    tables = [table(schema(columns[name]), rows[name]) for name in ("clips", "sources")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "PART_ROWS", 4)
        Manifest.create_or_open(root).publish([tables[0]], [tables[1]])
    for row in rows["sources"]:
        row["tags"] = None if row["tags"] is None else json.dumps(dict(sorted(row["tags"].items())), ensure_ascii=False)
    return root, rows


def pandas_rows(folder: Path) -> Rows:
    return [{name: plain(item) for name, item in row.items()} for row in pd.read_parquet(folder).to_dict("records")]


def plain(item: Any) -> Any:
    if isinstance(item, np.ndarray):
        return [plain(one) for one in item]
    return None if isinstance(item, float) and math.isnan(item) else item


def pyarrow_rows(folder: Path) -> Rows:
    return ds.dataset(folder).to_table().to_pylist()


def polars_rows(folder: Path) -> Rows:
    polars = pytest.importorskip("polars")
    assert polars.scan_parquet(f"{folder}/").collect().equals(polars.read_parquet(folder))
    return polars.read_parquet(str(folder)).to_dicts()


def duckdb_rows(folder: Path) -> Rows:
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.connect(config={"autoinstall_known_extensions": False}).sql(f"FROM read_parquet('{folder}/*.parquet')")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def daft_rows(folder: Path) -> Rows:
    daft = pytest.importorskip("daft")
    found = daft.read_parquet(str(folder))
    return found.sort(found.column_names[0]).to_pylist()  # files come in any order


def datasets_rows(folder: Path) -> Rows:
    datasets = pytest.importorskip("datasets")
    # Beside the manifest: nothing of a test goes into the user's cache.
    found = datasets.load_dataset(
        "parquet",
        data_dir=str(folder),
        cache_dir=str(folder.parent.parent / "cache"),
        split="train",
    )
    return list(found)


@pytest.fixture(autouse=True)
def nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DO_NOT_TRACK", "SCARF_NO_ANALYTICS", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("DAFT_ANALYTICS_ENABLED", "0")


@pytest.mark.parametrize("name", ["clips", "sources"])
@pytest.mark.parametrize("read", [pandas_rows, pyarrow_rows, polars_rows, duckdb_rows, daft_rows, datasets_rows])
def test_every_value_is_read_as_it_was_written(written: tuple[Path, dict[str, Rows]], read: Callable[[Path], Rows], name: str) -> None:
    root, rows = written
    assert [len(os.listdir(root / one)) for one in ("clips", "sources")] == [3, 3]
    found = read(root / name)
    assert len(found) == NUM_ROWS and [list(row) for row in found] == [list(row) for row in rows[name]]
    for there, expected in zip(found, rows[name], strict=True):
        assert there == expected


def test_pandas_has_plain_booleans_where_nothing_is_null(
    written: tuple[Path, dict[str, Rows]],
) -> None:
    root, rows = written
    clips = pd.read_parquet(root / "clips")
    booleans = [name for name, column in clip_columns().items() if column.type == pa.bool_()]
    whole = [name for name in booleans if all(row[name] is not None for row in rows["clips"])]
    assert {"keep", "is_scored"} <= set(whole) < set(booleans)
    assert [str(clips[name].dtype) for name in whole] == ["bool"] * len(whole)
    assert len(clips[~clips.keep]) == NUM_ROWS // 2
    arrow = pd.read_parquet(root / "clips", dtype_backend="pyarrow")
    assert {str(arrow[name].dtype) for name in booleans} == {"bool[pyarrow]"}


def test_tags_are_asked_for_by_name(written: tuple[Path, dict[str, Rows]]) -> None:
    root, _ = written
    polars, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    tags = pd.read_parquet(root / "sources")["tags"].dropna().map(json.loads)
    assert TAGS in tags.tolist() and {} in tags.tolist()
    found = polars.read_parquet(root / "sources").select(polars.col("tags").str.json_path_match("$.encoder")).to_series().to_list()
    asked = f"SELECT tags->>'encoder' FROM read_parquet('{root}/sources/*.parquet')"
    wanted = [None if row % 3 == 0 or row % 2 == 0 else "Lavf60" for row in range(NUM_ROWS)]
    assert found == wanted
    assert [one for (one,) in duckdb.connect(config={"autoinstall_known_extensions": False}).sql(asked).fetchall()] == wanted


def test_maps_of_a_users_own_scorer_are_published_as_text(tmp_path: Path) -> None:
    kind = pa.list_(pa.struct([("seen", pa.map_(pa.string(), pa.float64()))]))
    clips = pa.table({"objects": pa.array([[{"seen": [("dog", 0.5)]}], [], None], kind), "x": [1, 2, 3]})
    Manifest.create_or_open(tmp_path).publish([clips], [pa.table({"y": [1]})])
    found = pd.read_parquet(tmp_path / "clips")
    assert found["objects"].dropna().map(json.loads).tolist() == [
        [{"seen": {"dog": 0.5}}],
        [],
    ] and found["x"].tolist() == [1, 2, 3]
