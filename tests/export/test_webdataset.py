"""Layout `webdataset`, read with the packages that read it: webdataset, wids, datasets."""

import functools
import hashlib
import io
import json
import math
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import decord
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from exported import assert_same_frames, luma_of, with_captions, write_export
from webdataset.shardlists import expand_urls

from curate.export import Finished, ShardName
from curate.export.config import parse_export
from curate.export.folder import OutFolder
from curate.export.record import RENAMED, record_table
from curate.export.webdataset import Layout, pattern, write_tar
from curate.kept import read_kept
from curate.models import Models
from curate.pipelines.export import export

HARD = 'two "quoted" lines,\nan emoji 🐇 and a, comma | a bar'


@pytest.fixture(scope="module")
def out(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two train shards of one clip each (street), one val shard (meadow)."""
    folder = tmp_path_factory.mktemp("out") / "set"
    settings = {"manifest": str(manifest), "layout": "webdataset", "out": str(folder), "val_fraction": 0.5, "shard_clips": 1}
    result = export(parse_export(settings))
    assert not result.failed and not result.failures
    return folder


@pytest.fixture(scope="module")
def published(manifest: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(manifest / "clips").to_pylist()
    return {row["clip_id"]: row for row in rows}


def read_all(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for split in ("train-{00000..00001}", "val-00000"):
        found += webdataset.WebDataset(str(out / f"{split}.tar"), shardshuffle=False, empty_check=True).decode()
    return found


def test_webdataset_reads_every_clip_and_its_frames_are_the_sources(out: Path, films: Path, published: dict[str, dict[str, Any]]) -> None:
    samples = read_all(out)
    assert sorted(sample["__key__"] for sample in samples) == sorted(published)
    assert [sample["json"]["source_key"] for sample in samples] == ["street.mp4", "street.mp4", "meadow.mp4"]
    for sample in samples:
        row = published[sample["__key__"]]
        written = luma_of(sample["mp4"])
        assert_same_frames(written, row, films)
        reader = decord.VideoReader(io.BytesIO(sample["mp4"]))
        assert len(reader) == len(written) == sample["json"]["num_frames"]
        assert reader[0].asnumpy().shape[:2] == written.shape[1:] == (sample["json"]["height"], sample["json"]["width"])
        assert sample["json"]["fps"] == pytest.approx(reader.get_avg_fps(), rel=0.01)
        assert sample["json"]["size_bytes"] == len(sample["mp4"])
        assert sample["json"]["sha256"] == hashlib.sha256(sample["mp4"]).hexdigest()


def test_json_says_what_the_manifest_says_and_nothing_that_json_cannot_hold(out: Path, published: dict[str, dict[str, Any]]) -> None:
    for sample in read_all(out):
        row = published[sample["__key__"]]
        plain = {name: value for name, value in row.items() if value is None or isinstance(value, bool | int | float | str)}
        for name in set(plain) - {"keep"}:
            assert sample["json"][RENAMED.get(name, name)] == (None if plain[name] != plain[name] else plain[name]), name
        assert len(plain) > 40
        assert sample["txt"] == row["caption"] == sample["json"]["caption"]
        json.dumps(sample["json"], allow_nan=False)


def test_json_and_the_index_agree(out: Path) -> None:
    for sample in read_all(out):
        index = pq.read_table(out / "index", filters=[("sample_id", "=", sample["__key__"])])
        (row,) = record_table(index).to_pylist()
        assert row == sample["json"]


def test_two_loader_workers_share_the_shards_and_read_each_clip_once(out: Path, published: dict[str, dict[str, Any]]) -> None:
    shards = webdataset.WebDataset(str(out / "train-{00000..00001}.tar"), shardshuffle=2, seed=3, empty_check=False).to_tuple(
        "__key__", "json"
    )
    loader = webdataset.WebLoader(shards.shuffle(10), batch_size=None, num_workers=2)
    keys = [key for key, _ in loader]
    assert sorted(keys) == sorted(name for name, row in published.items() if row["source_key"] == "street.mp4")


def test_wids_reads_any_clip_by_its_number(out: Path, films: Path, published: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    wids = pytest.importorskip("wids")
    dataset = wids.ShardListDataset(str(out / "train-shards.json"), cache_dir=str(tmp_path), transformations=[])
    assert len(dataset) == 2
    in_order = [sample["__key__"] for sample in read_all(out)[:2]]
    for number in (1, 0):
        sample = dataset[number]
        assert sample["__key__"] == in_order[number]
        assert_same_frames(luma_of(sample[".mp4"].read()), published[sample["__key__"]], films)


def test_the_index_finds_each_mp4_inside_its_tar(out: Path) -> None:
    index = pd.read_parquet(out / "index")
    for row in index.itertuples():
        with tarfile.open(out / row.file) as tar:
            names = tar.getnames()
            member = b"".join(tar.extractfile(f"{row.sample_id}.mp4") or ())
            assert {(info.mtime, info.uid, info.gid, info.uname) for info in tar.getmembers()} == {(0, 0, 0, "")}
        assert names == [f"{row.sample_id}.{kind}" for kind in ("mp4", "json", "txt")]
        data = (out / row.file).read_bytes()[row.member_offset : row.member_offset + row.member_size]
        assert data == member
        assert hashlib.sha256(data).hexdigest() == row.file_sha256


def test_the_same_files_give_the_same_tar_whenever_and_by_whomever_they_were_written(manifest: Path, tmp_path: Path) -> None:
    layout, clips = Layout(), read_kept(manifest)[:1]
    samples = layout.plan(clips[0])
    assert not isinstance(samples, str)
    made = layout.open(Models({})).make(samples[0], tmp_path)
    tars = []
    for number, mode in enumerate((0o600, 0o755)):
        copy = shutil.copy(made.files["mp4"], tmp_path / f"{number}.mp4")
        os.chmod(copy, mode)
        os.utime(copy, (number * 10**8, number * 10**8))
        write_tar(tmp_path / f"{number}.tar", [replace(made, files={"mp4": Path(copy)})])
        tars.append((tmp_path / f"{number}.tar").read_bytes())
        assert not Path(copy).exists()  # so that no shard is on the disk twice
    assert tars[0] == tars[1]


def test_finishing_again_writes_the_same(out: Path, tmp_path: Path) -> None:
    index = pa.concat_tables([pq.read_table(path) for path in sorted((out / "index").iterdir())])
    facts: dict[str, Any] = {"name": "n", "licence": "unknown", "policy": None, "settings": {}, "refused": {}, "failed": {}}
    written = []
    for _ in range(2):
        Layout().finish(OutFolder(str(tmp_path)), Finished(index, facts))
        written.append({path.name: path.read_bytes() for path in tmp_path.iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"README.md", "train-shards.json", "val-shards.json"}


def test_datasets_reads_it_with_the_types_of_the_card_even_where_the_first_values_are_null(manifest: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    clips = with_captions(read_kept(manifest), [None, HARD, "plain"])
    first, second = ShardName("train", 0), ShardName("train", 2)
    write_export(Layout(), {first: clips[:1], second: clips[1:]}, tmp_path / "set")
    for streaming in (False, True):
        loaded = datasets.load_dataset(str(tmp_path / "set"), streaming=streaming, cache_dir=str(tmp_path / "cache"))
        assert set(loaded) == {"train"}  # no val, and no trouble about it
        rows = list(loaded["train"].cast_column("mp4", datasets.Video(decode=False)))
        assert [row["json"]["caption"] for row in rows] == [None, HARD, "plain"]
        assert [row["txt"] for row in rows] == ["", HARD, "plain"]
        assert [row["__key__"] for row in rows] == [clip.clip_id for clip in clips]
        assert [len(luma_of(row["mp4"]["bytes"])) for row in rows] == [len(clip.times_ns) for clip in clips]
        assert all(row["json"]["motion_speed"] == clip.columns["motion_speed"] for row, clip in zip(rows, clips, strict=True))
    assert not (tmp_path / "set" / "val-shards.json").exists()
    assert "`train-{00000,00002}.tar`" in (tmp_path / "set" / "README.md").read_text()


def test_a_value_that_is_not_finite_is_null_in_json(manifest: Path, tmp_path: Path) -> None:
    clips = read_kept(manifest)[:1]
    place = clips.table.column_names.index("motion_speed")
    clips.table = clips.table.set_column(place, "motion_speed", [np.array([math.nan], np.float32)])
    write_export(Layout(), {ShardName("val", 0): clips}, tmp_path / "set")
    (sample,) = webdataset.WebDataset(str(tmp_path / "set" / "val-00000.tar"), shardshuffle=False)
    assert json.loads(sample["json"], parse_constant=functools.partial(pytest.fail, "not JSON"))["motion_speed"] is None


def test_clips_without_caption_are_refused_where_captions_are_required(manifest: Path) -> None:
    clips = with_captions(read_kept(manifest), [None, "  \n", "a caption"])
    assert [Layout(captions="require").plan(clip) for clip in clips][:2] == ["no caption"] * 2
    assert not isinstance(Layout(captions="require").plan(clips[2]), str)
    assert not any(isinstance(Layout().plan(clip), str) for clip in clips)


@pytest.mark.parametrize("numbers", [[0], [0, 1, 2], [0, 1, 3], [1, 3, 4, 5, 9], [99]])
def test_the_pattern_of_the_card_expands_to_the_tars_that_are_there(numbers: list[int]) -> None:
    names = [f"val-{number:05d}.tar" for number in numbers]
    assert expand_urls(pattern(names)) == names
