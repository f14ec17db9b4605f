"""What people open: read without help, replaced as a whole, nothing of anybody else's removed."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import ManifestError
from curate.manifest import (
    CLIP_COLUMNS,
    DECIDED_COLUMNS,
    SOURCE_COLUMNS,
    Manifest,
    published,
    schema,
)


def test_published_folders_are_read_by_pandas_without_help(made: Any, manifest: Manifest) -> None:
    (manifest.root / "policy.json").touch()
    with_decision = (rows.append_column("keep", pa.array([True] * len(rows))) for rows in manifest.iter_clips(made.FINGERPRINTS))
    manifest.publish(with_decision, manifest.iter_sources())
    clips = pd.read_parquet(manifest.root / "clips")
    assert list(clips.columns) == [*CLIP_COLUMNS, "looks", "motion_x", "keep"]
    assert len(clips) == 12 and clips["source_key"].is_monotonic_increasing
    assert list(pd.read_parquet(manifest.root / "sources")["source_key"]) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert sorted(os.listdir(manifest.root)) == ["clips", "policy.json", "published.json", "shards", "sources"]


def test_parts_have_equal_length_whatever_the_length_of_the_tables(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "PART_ROWS", 10)
    rows = pa.table({"x": list(range(35))})
    found = []
    for length in (1, 4, 10, 23, 100):
        manifest = Manifest.create_or_open(tmp_path / str(length))
        manifest.publish((rows.slice(i, length) for i in range(0, 35, length)), [rows])
        parts = sorted((manifest.root / "clips").iterdir())
        assert [pq.read_metadata(part).num_rows for part in parts] == [10, 10, 10, 5]
        found.append(made.contents(manifest.root))
        assert pd.read_parquet(manifest.root / "clips")["x"].tolist() == list(range(35))
    assert all(one == found[0] for one in found)


def test_publishing_no_rows_gives_one_part_with_every_column(tmp_path: Path) -> None:
    manifest = Manifest.create_or_open(tmp_path)
    columns = CLIP_COLUMNS | DECIDED_COLUMNS
    manifest.publish([schema(columns).empty_table()], [schema(SOURCE_COLUMNS).empty_table()])
    assert list(pd.read_parquet(tmp_path / "clips").columns) == list(columns)
    assert list(pd.read_parquet(tmp_path / "sources").columns) == list(SOURCE_COLUMNS)
    with pytest.raises(ManifestError, match="nothing to publish"):
        manifest.publish([], [])


def test_tables_of_different_columns_are_refused_and_the_old_publication_stays(made: Any, manifest: Manifest) -> None:
    manifest.publish(manifest.iter_clips(), manifest.iter_sources())
    before = made.contents(manifest.root / "clips")
    tables = list(manifest.iter_clips())
    with pytest.raises(ManifestError, match=r"looks \(float and absent\)"):
        manifest.publish([tables[0], tables[1].drop_columns("looks")], manifest.iter_sources())
    assert made.contents(manifest.root / "clips") == before


def as_of_schema_2(root: Path) -> None:
    """The checksums where manifests of schema version 2 have them: in the folders."""
    for name, checksums in json.loads((root / published.CHECKSUMS).read_text()).items():
        (root / name / published.CHECKSUMS_2).write_text(json.dumps(checksums))
    (root / published.CHECKSUMS).unlink()


def test_checksums_of_schema_2_are_verified_and_gone_after_the_next_publication(manifest: Manifest) -> None:
    manifest.publish(manifest.iter_clips(), manifest.iter_sources())
    as_of_schema_2(manifest.root)
    assert list(manifest.verify()) == []
    part = manifest.root / "sources/part-00000.parquet"
    data = part.read_bytes()
    part.write_bytes(data[:-1])
    assert [problem.path for problem in manifest.verify()] == [part]
    manifest.publish(manifest.iter_clips(), manifest.iter_sources())
    assert part.read_bytes() == data and list(manifest.verify()) == []
    assert [os.listdir(manifest.root / name) for name in ("clips", "sources")] == [["part-00000.parquet"]] * 2


@pytest.mark.parametrize("is_old", [False, True])
def test_publication_killed_at_any_change_ends_as_the_old_or_the_new_one_in_both_folders(
    made: Any, tmp_path: Path, is_old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "PART_ROWS", 3)  # the new one has another number of parts

    def both(value: int) -> tuple[list[pa.Table], list[pa.Table]]:
        return [pa.table({"x": [value] * 3 * value})], [pa.table({"y": [value]})]

    manifest = Manifest.create_or_open(tmp_path / "m")

    def restore() -> None:
        shutil.rmtree(manifest.root)
        manifest.root.mkdir()
        manifest.publish(*both(1))
        if is_old:
            as_of_schema_2(manifest.root)
        (manifest.root / "clips/.DS_Store").write_text("browser")

    seen = set()
    for _ in made.interruptions(lambda: manifest.publish(*both(2)), restore):
        assert list(manifest.verify()) == []  # with the publication half way
        with manifest.lock():
            pass
        values = {pd.read_parquet(manifest.root / "clips")["x"].iloc[0], pd.read_parquet(manifest.root / "sources")["y"].iloc[0]}
        assert len(values) == 1
        seen |= values
        assert (manifest.root / "clips/.DS_Store").read_text() == "browser"
        names = sorted(os.listdir(manifest.root))
        assert names == ["clips", *([] if is_old and values == {1} else ["published.json"]), "sources"]
        assert list(manifest.verify()) == []
    assert seen == {1, 2}


def test_publishing_never_removes_a_file_that_is_not_ours(made: Any, manifest: Manifest) -> None:
    manifest.publish(manifest.iter_clips(), manifest.iter_sources())
    (manifest.root / "clips/my notes.txt").write_text("mine")
    before = made.contents(manifest.root)
    with pytest.raises(ManifestError, match=r"my notes\.txt"):
        manifest.publish(manifest.iter_clips(), manifest.iter_sources())
    assert made.contents(manifest.root) == before
