"""Layout `huggingface`, read with `datasets`, and its card with `huggingface_hub`."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exported import assert_same_frames, luma_of, with_captions, write_export

from curate.export import Finished, ShardName
from curate.export.config import parse_export
from curate.export.folder import OutFolder
from curate.export.huggingface import Layout, metadata_table
from curate.export.record import RENAMED
from curate.kept import read_kept
from curate.pipelines.export import export

datasets = pytest.importorskip("datasets")

HARD = 'two "quoted" lines,\nan emoji 🐇 and a, comma | a bar'


@pytest.fixture(scope="module")
def out(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two train shards of one clip each (street), one val shard (meadow)."""
    folder = tmp_path_factory.mktemp("out") / "set"
    settings = {"manifest": str(manifest), "layout": "huggingface", "out": str(folder), "val_fraction": 0.5, "shard_clips": 1}
    result = export(parse_export(settings))
    assert not result.failed and not result.failures
    return folder


def load(folder: Path, cache: Path, streaming: bool) -> Any:
    return datasets.load_dataset(str(folder), streaming=streaming, cache_dir=str(cache))


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_reads_both_splits_with_every_column_of_the_manifest(out: Path, manifest: Path, tmp_path: Path, streaming: bool) -> None:
    published = {row["clip_id"]: row for row in pq.read_table(manifest / "clips").to_pylist()}
    loaded = load(out, tmp_path, streaming)
    assert set(loaded) == {"train", "validation"}
    rows = {split: list(part.cast_column("video", datasets.Video(decode=False))) for split, part in loaded.items()}
    assert [row["source_key"] for row in rows["train"]] == ["street.mp4"] * 2
    assert [row["source_key"] for row in rows["validation"]] == ["meadow.mp4"]
    for row in rows["train"] + rows["validation"]:
        truth = published[row["sample_id"]]
        plain = {name: value for name, value in truth.items() if value is None or isinstance(value, bool | int | float | str)}
        assert all(row[RENAMED.get(name, name)] == value for name, value in plain.items() if name != "keep")
        assert len(plain) > 40 and row["caption"]


def test_the_videos_that_datasets_hands_out_show_the_sources_frames(out: Path, films: Path, tmp_path: Path) -> None:
    for part in load(out, tmp_path, streaming=False).values():
        for row in part.cast_column("video", datasets.Video(decode=False)):
            truth = {**row, "width": row["clip_width"], "height": row["clip_height"]}
            assert_same_frames(luma_of(row["video"]["path"]), truth, films)
            assert luma_of(row["video"]["path"]).shape == (row["num_frames"], row["height"], row["width"])


def test_torchcodec_decodes_what_datasets_hands_out(out: Path, tmp_path: Path) -> None:
    try:
        import torchcodec  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchcodec cannot be loaded (it needs ffmpeg's shared libraries): {error}")
    (row,) = load(out, tmp_path, streaming=False)["validation"]
    (path,) = (out / "data/val").glob("*/*.mp4")
    with av.open(f"file:{path}") as container:
        references = [frame.to_ndarray(format="rgb24").astype(np.int16) for frame in container.decode(video=0)]
    assert len(row["video"]) == len(references) == row["num_frames"]
    for number in (0, 40, len(references) - 1):
        frame = np.asarray(row["video"][number], np.int16).transpose(1, 2, 0)
        assert np.abs(frame - references[number]).mean() < 1.5  # two ways of rounding YUV to RGB


def test_order_is_the_exports(out: Path, tmp_path: Path) -> None:
    index = [row for path in sorted((out / "index").iterdir()) for row in pq.read_table(path, columns=["sample_id", "split"]).to_pylist()]
    loaded = load(out, tmp_path, streaming=True).remove_columns("video")
    for split, name in (("train", "train"), ("val", "validation")):
        assert [row["sample_id"] for row in loaded[name]] == [row["sample_id"] for row in index if row["split"] == split]


@pytest.mark.parametrize("split", ["train", "val"])
def test_captions_survive_whatever_they_hold_and_an_empty_split_is_no_trouble(manifest: Path, tmp_path: Path, split: Any) -> None:
    clips = with_captions(read_kept(manifest), [None, HARD, "plain"])
    write_export(Layout(), {ShardName(split, 0): clips[:2], ShardName(split, 1): clips[2:]}, tmp_path / "set")
    loaded = load(tmp_path / "set", tmp_path / "cache", streaming=False).remove_columns("video")
    assert {name: part["caption"][:] for name, part in loaded.items()} == {
        {"train": "train", "val": "validation"}[split]: [None, HARD, "plain"]
    }


def test_without_the_card_the_folder_loads_the_same(out: Path, tmp_path: Path) -> None:
    with_card = load(out, tmp_path / "one", streaming=True).remove_columns("video")
    bare = datasets.load_dataset(str(out / "data"), streaming=True, cache_dir=str(tmp_path / "two")).remove_columns("video")
    assert {name: list(part) for name, part in bare.items()} == {name: list(part) for name, part in with_card.items()}


def test_finishing_again_writes_the_same(out: Path, tmp_path: Path) -> None:
    index = pa.concat_tables([pq.read_table(path) for path in sorted((out / "index").iterdir())])
    facts: dict[str, Any] = {"name": "n", "licence": "unknown", "policy": None, "settings": {}, "refused": {}, "failed": {}}
    written = []
    for _ in range(2):
        Layout().finish(OutFolder(str(tmp_path)), Finished(index, facts))
        written.append({str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()})
    assert written[0] == written[1]
    assert set(written[0]) == {"README.md", "data/train/metadata.parquet", "data/val/metadata.parquet"}


def test_a_column_whose_name_means_another_video_is_renamed(manifest: Path, tmp_path: Path) -> None:
    clips = read_kept(manifest)[:1]
    clips.table = clips.table.append_column("poster_file_name", [["nowhere.mp4"]])
    index = write_export(Layout(), {ShardName("train", 0): clips}, tmp_path / "set")
    assert "poster_file_name_" in metadata_table(index, "data/train/").column_names
    (row,) = load(tmp_path / "set", tmp_path / "cache", streaming=True)["train"]
    assert row["poster_file_name_"] == "nowhere.mp4"


def test_clips_without_caption_are_refused_where_captions_are_required(manifest: Path) -> None:
    clips = with_captions(read_kept(manifest), [None, " ", "a caption"])
    assert [isinstance(Layout(captions="require").plan(clip), str) for clip in clips] == [True, True, False]
