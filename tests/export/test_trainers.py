"""Layouts finetrainers, diffusers, musubi_tuner and diffusion_pipe: every file obeys its model and arrives with its caption.

musubi-tuner, diffusion-pipe and diffusers' example are not on the package index: what they do with a data set is written down here a second
time, from their documents and sources, which each test names. finetrainers' own code is run in `test_finetrainers.py`.
"""

import json
import math
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import datasets
import decord
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from exported import luma_of, with_captions, write_export
from trainer_exports import LAYOUTS, index_of, listed, plain, run

from curate.errors import ExportError
from curate.export import ShardName, load
from curate.export.config import parse_export
from curate.export.folder import OutFolder
from curate.export.trainer import json_lines, one_line, toml_value
from curate.kept import read_kept
from curate.models import Models
from curate.pipelines.export import export

FILM_FPS = {"street.mp4": 25, "meadow.mp4": 24}
HARD = ['two "quoted" lines,\r\nan emoji 🐇 and a, comma', "\x1c a\x0btab\tand\u2028line \x85 ends\u3000", "back\\slash 'b'\n\n"]
RULES = {"finetrainers": (16, 4, 16), "musubi_tuner": (16, 4, 16), "diffusion_pipe": (16, 4, 16), "diffusers": (8, 8, 16)}


@pytest.fixture(scope="module")
def made(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The export of a layout, made once: a film in each split, or both in one shard."""
    folder = tmp_path_factory.mktemp("trainers")

    def of(layout: str, val_fraction: float = 0.5) -> Path:
        out = folder / f"{layout}-{val_fraction}"
        if not out.exists():
            run(manifest, layout, out, val_fraction=val_fraction)
        return out

    return of


def contents(out: Path) -> dict[str, bytes]:
    """Every file that is made by `finish`."""
    names = [
        path for path in sorted(out.rglob("*")) if path.is_file() and ".curate-export" not in path.parts and path.parent.name != "index"
    ]
    return {str(path.relative_to(out)): path.read_bytes() for path in names if path.suffix != ".mp4" and path.name != ".lock"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_file_obeys_its_model_for_every_decoder(layout: str, made: Callable[..., Path]) -> None:
    fps, step, multiple = RULES[layout]
    rows = index_of(made(layout))
    assert {row["split"] for row in rows} == {"train", "val"}
    for row in rows:
        path = made(layout) / row["file"]
        with av.open(f"file:{path}", mode="r") as container:
            (stream,) = container.streams
            frames = [frame.pts * frame.time_base for frame in container.decode(video=0)]
            size = stream.width, stream.height
            assert stream.average_rate == fps, "diffusion-pipe resamples to the model's rate by this"
        assert [round(time * fps, 3) for time in frames] == list(range(len(frames)))
        reader = decord.VideoReader(str(path))
        assert len(reader) == len(frames) == row["num_frames_out"] and reader[0].shape[1::-1] == size
        assert len(frames) % step == 1 and len(frames) > 1
        assert size == (row["width_out"], row["height_out"]) and size[0] % multiple == size[1] % multiple == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_frame_k_is_the_picture_nearest_to_its_time_from_the_middle_of_the_clip(
    layout: str, made: Callable[..., Path], films: Path
) -> None:
    fps, step, _ = RULES[layout]
    told = 0
    for row in index_of(made(layout)):
        film_fps = FILM_FPS[row["source_key"]]
        source = luma_of(films / row["source_key"], row["start_ns"], row["end_ns"])
        taken = len(source) if fps == film_fps else int(len(source) / film_fps * fps)
        count = row["num_frames_out"]
        assert count == (17 if layout == "diffusers" else (taken - 1) // step * step + 1)
        first = (taken - count) // 2
        nearest = [min(range(len(source)), key=lambda i, k=k: (abs(i / film_fps - k / fps), i)) for k in range(first, first + count)]  # type: ignore[misc]
        written = luma_of(made(layout) / row["file"])
        shown = [cover(frame, row, written.shape[2], written.shape[1]) for frame in source]
        for k, expected in enumerate(nearest):
            if not 0 < expected < len(source) - 1:
                continue
            far = [np.abs(written[k].astype(np.int16) - shown[expected + step]).mean() for step in (-1, 0, 1)]
            if min(np.abs(shown[expected].astype(np.int16) - shown[expected + step]).mean() for step in (-1, 1)) > 4:
                assert far[1] == min(far), f"frame {k} of {row['file']}: {far}"
                told += 1
    assert told > 15


def cover(frame: np.ndarray, row: dict[str, Any], width: int, height: int) -> np.ndarray:
    """The middle of the picture inside the bars that has the aspect of a size, at that size."""
    x, y, w, h = (row[f"active_{name}"] for name in ("x", "y", "width", "height"))
    scale = min(w / width, h / height)
    x, y, w, h = x + (w - width * scale) / 2, y + (h - height * scale) / 2, width * scale, height * scale
    part = frame[round(y) : round(y + h), round(x) : round(x + w)]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC)


def test_diffusers_trainer_reads_every_video_unchanged_with_its_caption(made: Callable[..., Path]) -> None:
    """As VideoDataset of diffusers' examples/cogvideo/train_cogvideox_lora.py and of cogvideox-factory's training/dataset.py do."""
    out = made("diffusers")
    for split in ("train", "val"):
        rows = listed(out, split)
        with open(out / split / "prompts.txt", encoding="utf-8") as file:
            prompts = [line.strip() for line in file.readlines() if len(line.strip()) > 0]
        with open(out / split / "videos.txt", encoding="utf-8") as file:
            videos = [out / split / line.strip() for line in file.readlines() if len(line.strip()) > 0]
        assert videos == [out / name for name in rows] and all(path.is_file() for path in videos)
        assert prompts == [plain(row["caption"]) for row in rows.values()]
        table = pd.read_csv(out / split / "metadata.csv")
        assert table["text"].tolist() == prompts and [out / split / name for name in table["file_name"]] == videos
        folder = datasets.load_dataset("videofolder", data_dir=str(out / split), split="train").cast_column(
            "video", datasets.Video(decode=False)
        )
        assert {sample["video"]["path"]: sample["text"] for sample in folder} == dict(zip(map(str, videos), prompts, strict=True))
        for path, row in zip(videos, rows.values(), strict=True):
            count, most = len(decord.VideoReader(str(path))), 17
            assert list(range(0, count, count // most))[:most] == list(range(row["num_frames_out"]))
            assert (row["width_out"], row["height_out"]) == (720, 480)


MUSUBI_GENERAL = {"resolution", "caption_extension", "batch_size", "num_repeats", "enable_bucket", "bucket_no_upscale"}
MUSUBI_VIDEO = {"video_jsonl_file", "cache_directory", "target_frames", "frame_extraction", "max_frames", "source_fps", *MUSUBI_GENERAL}


def musubi_bucket(resolution: list[int], size: tuple[int, int]) -> tuple[int, int]:
    """BucketSelector of src/musubi_tuner/dataset/bucket.py with 16 px steps, made for caching from the resolution alone."""
    area = resolution[0] * resolution[1]
    side = int(math.sqrt(area))
    least = side // 2 // 16 * 16
    buckets = {(w, area // w // 16 * 16) for w in range(least, side + 16, 16)}
    buckets |= {(h, w) for w, h in buckets}
    return min(sorted(buckets), key=lambda bucket: abs(bucket[0] / bucket[1] - size[0] / size[1]))


@pytest.mark.parametrize("val_fraction", [0.5, 0.0])
def test_musubi_tuner_caches_every_video_unchanged_with_its_caption(
    val_fraction: float, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/dataset_config.md and VideoDataset of src/musubi_tuner/dataset/image_video_dataset.py say, started in the export."""
    out = made("musubi_tuner", val_fraction)
    monkeypatch.chdir(out)
    caches = []
    for split in ("train", "val") if val_fraction else ("train",):
        config = tomllib.loads((out / f"{split}.toml").read_text())
        assert set(config) == {"general", "datasets"} and set(config["general"]) <= MUSUBI_GENERAL
        found = {}
        for dataset in config["datasets"]:
            assert set(dataset) <= MUSUBI_VIDEO and dataset["frame_extraction"] == "full"
            caches.append(dataset["cache_directory"])
            for line in Path(dataset["video_jsonl_file"]).read_text(encoding="utf-8").splitlines():
                item = json.loads(line)
                found[item["video_path"]] = item["caption"]
                row = listed(out, split)[item["video_path"]]
                size = row["width_out"], row["height_out"]
                assert musubi_bucket(dataset["resolution"], size) == size
                assert (min(row["num_frames_out"], dataset["max_frames"]) - 1) // 4 * 4 + 1 == row["num_frames_out"]
                assert Path(item["video_path"]).is_file()
        assert found == {name: row["caption"].strip() for name, row in listed(out, split).items()}
    assert len(set(caches)) == len(caches) == 2, "two sizes, in one split or in two"


@pytest.mark.parametrize(
    "size", [(832, 480), (480, 832), (1280, 720), (960, 544), (624, 832), (720, 720), (320, 176), (1024, 256), (368, 144)]
)
def test_musubi_tuner_has_a_bucket_for_every_size_at_its_own_resolution(size: tuple[int, int]) -> None:
    assert musubi_bucket(list(size), size) == size


def nearest_multiple(value: float, multiple: int) -> int:
    return round(value / multiple) * multiple


@pytest.mark.parametrize("val_fraction", [0.5, 0.0])
def test_diffusion_pipe_takes_every_video_unchanged_with_its_caption(
    val_fraction: float, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As DirectoryDataset of utils/dataset.py and PreprocessMediaFile of models/base.py do, started in the export."""
    out = made("diffusion_pipe", val_fraction)
    monkeypatch.chdir(out)
    sizes = set()
    for split in ("train", "val") if val_fraction else ("train",):
        config = tomllib.loads((out / f"{split}.toml").read_text())
        assert config["enable_ar_bucket"] is True and set(config) == {"enable_ar_bucket", "directory"}
        found = {}
        for directory in config["directory"]:
            ars = sorted({round(w / h, 3) for w, h in directory["ar_buckets"]})
            (resolution,) = {round(math.sqrt(w * h), 3) for w, h in directory["resolutions"]}
            frame_buckets = sorted({1, *directory["frame_buckets"]})
            media = [path for path in sorted(Path(directory["path"]).glob("*")) if path.suffix not in (".txt", ".json")]
            assert media and all(path.suffix == ".mp4" for path in media)
            for path in media:
                found[str(path)] = path.with_suffix(".txt").read_text().strip()
                row = listed(out, split)[str(path)]
                width, height, count = row["width_out"], row["height_out"], row["num_frames_out"]
                sizes.add((width, height))
                ar = min(ars, key=lambda ar: abs(math.log(width / height) - math.log(ar)))
                for multiple in (16, *([32] if width % 32 == height % 32 == 0 else [])):
                    across = math.sqrt(resolution**2 * ar)
                    assert (nearest_multiple(across, multiple), nearest_multiple(resolution**2 / across, multiple)) == (width, height)
                assert max(bucket for bucket in frame_buckets if bucket <= count) == count > 1
                with av.open(f"file:{path}", mode="r") as container:
                    rate = float(container.streams.video[0].average_rate or 0)
                assert int(count * 16 / rate) == count
        assert found == {name: row["caption"].strip() for name, row in listed(out, split).items()}
    assert sizes == {(304, 128), (320, 176)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_command_again_leaves_the_same_bytes(layout: str, made: Callable[..., Path], manifest: Path) -> None:
    before = contents(made(layout))
    assert len(before) > 4
    run(manifest, layout, made(layout))
    assert contents(made(layout)) == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_validation_split_leaves_no_files(layout: str, manifest: Path, tmp_path: Path) -> None:
    run(manifest, layout, tmp_path / "set", val_fraction=0.0, limit_clips=1)
    assert not [name for name in contents(tmp_path / "set") if name.startswith(("val", "cache"))]
    assert "val" not in (tmp_path / "set" / "README.md").read_text().partition("## What is in it")[0].partition("## Load it")[2]


@pytest.mark.parametrize("layout", ["finetrainers", "musubi_tuner", "diffusion_pipe", "diffusers"])
def test_hard_captions_arrive_each_with_its_video(layout: str, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters: dict[str, Any] = {"sizes": ["64x64"], "num_frames": 5, "preset": "ultrafast"}
    if layout == "diffusers":
        parameters |= {"model": "cogvideox1.5", "num_frames": 17}
    clips = with_captions(read_kept(manifest), HARD)
    maker = parse_export({"manifest": "m", "layout": layout, "out": "o", **parameters}).layout
    write_export(maker, {ShardName("train", 0): clips}, tmp_path / "set")
    monkeypatch.chdir(tmp_path / "set")
    by_id = dict(zip([clip.clip_id for clip in clips], HARD, strict=True))
    if layout in ("finetrainers", "diffusers"):
        listed_names = Path("train/videos.txt").read_text().splitlines()
        prompts = Path("train/prompts.txt").read_text().splitlines()
        assert prompts == [plain(by_id[Path(name).stem]) for name in listed_names]
    if layout == "diffusers":
        table = pd.read_csv("train/metadata.csv")
        assert table["text"].tolist() == [plain(by_id[Path(name).stem]) for name in table["file_name"]]
    if layout == "musubi_tuner":
        items = [json.loads(line) for line in Path("train/64x64.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
        assert [item["caption"] for item in items] == [by_id[Path(item["video_path"]).stem].strip() for item in items]
    if layout == "diffusion_pipe":
        texts = {path.stem: path.read_text(encoding="utf-8") for path in Path("train").rglob("*.txt")}
        assert {name: plain(text) for name, text in texts.items()} == {name: plain(text) for name, text in by_id.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_clip_without_a_caption_is_refused_and_reported(layout: str, manifest: Path, tmp_path: Path) -> None:
    made_by = load(layout)()
    for caption in (None, "", " \n"):
        (clip, *_) = with_captions(read_kept(manifest), [caption] * 3)
        assert made_by.plan(clip) == "no caption"


def test_an_empty_caption_stays_a_line_of_its_own(manifest: Path, tmp_path: Path) -> None:
    clips = with_captions(read_kept(manifest), ["first", None, "third"])
    for layout in ("finetrainers", "musubi_tuner", "diffusion_pipe"):
        words = {"sizes": ["64x64"], "num_frames": 5, "captions": "allow_empty", "preset": "ultrafast"}
        maker = parse_export({"manifest": "m", "layout": layout, "out": "o", **words}).layout
        write_export(maker, {ShardName("train", 0): clips}, tmp_path / layout)
    assert (tmp_path / "finetrainers/train/prompts.txt").read_text().splitlines() == ["first", "", "third"]
    lines = (tmp_path / "musubi_tuner/train/64x64.jsonl").read_text().splitlines()
    assert [json.loads(line)["caption"] for line in lines] == ["first", "", "third"]
    (empty,) = (path for path in (tmp_path / "diffusion_pipe/train").rglob("*.txt") if not path.read_bytes())
    assert empty.stem == clips[1].clip_id


def test_captions_that_pandas_reads_as_missing_are_refused_for_csv(manifest: Path) -> None:
    layout = parse_export({"manifest": "m", "layout": "diffusers", "out": "o", "num_frames": 9, "max_enlarge": 4}).layout
    for caption in ("None", "n/a", "NaN "):
        (clip, *_) = with_captions(read_kept(manifest), [caption] * 3)
        assert layout.plan(clip) == f"caption reads as missing: {caption!r} in a CSV"
    (clip, *_) = with_captions(read_kept(manifest), ["None of them moves"] * 3)
    assert not isinstance(layout.plan(clip), str)


def test_clips_too_short_for_a_model_are_refused_with_the_reason(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"can hold none of the 3 kept clips.* too short: \d+ frames at 8 fps, 49 are needed"):
        export(parse_export({"manifest": str(manifest), "layout": "diffusers", "out": str(tmp_path / "a"), "max_enlarge": 3.0}))
    result = run(manifest, "diffusers", tmp_path / "b")
    (left,) = [json.loads(line) for line in (tmp_path / "b" / "left_out.jsonl").read_text().splitlines()]
    assert left["reason"] == "refused" and left["message"] == "too short: 14 frames at 8 fps, 17 are needed"
    assert result.num_samples == 2 and list(result.plan.refused) == ["too short"]


def test_diffusion_pipe_keeps_nothing_of_an_earlier_try_in_its_folders(manifest: Path, tmp_path: Path) -> None:
    clips = read_kept(manifest)
    layout = parse_export({"manifest": "m", "layout": "diffusion_pipe", "out": "o", "sizes": ["64x64"], "num_frames": 5}).layout
    folder = tmp_path / "set/train/00000/64x64"
    folder.mkdir(parents=True)
    for name in ("gone.mp4", "gone.txt", "notes.md"):
        (folder / name).write_text("x")
    (folder / "cache").mkdir()
    shard, out = ShardName("train", 0), OutFolder(str(tmp_path / "set"))
    maker = layout.open(Models({}))
    made = [maker.make(sample, tmp_path) for clip in clips for sample in layout.plan(clip)]
    maker.pack(shard, made, out)
    expected = {f"{clip.clip_id}.{kind}" for clip in clips for kind in ("mp4", "txt")} | {"notes.md", "cache"}
    assert {path.name for path in folder.iterdir()} == expected


def test_any_caption_becomes_one_line_for_everything_that_splits_lines() -> None:
    ends = [chr(code) for code in range(0x3001) if len(f"a{chr(code)}b".splitlines()) > 1 or chr(code).isspace()]
    assert len(ends) > 20
    texts = [*(f"a{end}b{end}" for end in ends), *HARD, "", None, " a ", "é\u0301 中文 🐇"]
    assert one_line(pa.chunked_array([texts])).to_pylist() == [plain(text or "") for text in texts]


def test_toml_and_json_lines_are_read_back_as_written() -> None:
    value = ['a"b\\c\n\x01\x7f🐇', 3, True, [[832, 480]]]
    assert tomllib.loads("\n".join(f"k{i} = {toml_value(one)}" for i, one in enumerate(value))) == {
        f"k{i}": one for i, one in enumerate(value)
    }
    rows = [{"caption": text} for text in (*HARD, None)]
    assert [json.loads(line) for line in json_lines(pa.Table.from_pylist(rows)).split(b"\n")[:-1]] == rows


def test_nothing_written_names_this_machine(made: Callable[..., Path], manifest: Path) -> None:
    for layout in LAYOUTS:
        for name, data in contents(made(layout)).items():
            assert str(manifest.parent).encode() not in data and not re.search(rb"/(tmp|root|home)/", data), name
