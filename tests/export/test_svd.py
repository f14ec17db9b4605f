"""Layout `svd`: folders of frames that SVD trainers read, with each window's own rate, motion and bucket."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curated import CAPTIONS

from curate.clip import Box
from curate.errors import ConfigError, ExportError, SourceError
from curate.export import Finished
from curate.export.config import parse_export
from curate.export.folder import OutFolder
from curate.export.svd import Layout
from curate.export.windowed import WindowReader, framed, parse_size
from curate.kept import KeptClip, KeptClips, read_kept
from curate.models import Models
from curate.motion_bucket import MotionBuckets, fit_corpus
from curate.pipelines import footage
from curate.pipelines.export import ExportResult, export

SETTINGS = {"layout": "svd", "engine": "local", "num_frames": 5, "fps": 6.25, "sizes": ["128x64"], "windows": "all"}
SOURCE_FPS = {"street.mp4": 25, "meadow.mp4": 24}


def run(manifest: Path, out: Path, **more: object) -> ExportResult:
    return export(parse_export({**SETTINGS, "manifest": str(manifest), "out": str(out), **more}))


@pytest.fixture(scope="module")
def made(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every window of 5 frames, as png. Read only."""
    out = tmp_path_factory.mktemp("svd") / "set"
    result = run(manifest, out, image="png")
    assert result.num_samples >= 4 and not result.failed and not result.failures
    return out


def layout(**more: object) -> Layout:
    return Layout.model_validate({**{k: v for k, v in SETTINGS.items() if k not in ("layout", "engine")}, **more})


def lines(out: Path, split: str = "train") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def index(out: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((out / "index").glob("*.parquet"))])


def contents(out: Path) -> dict[str, bytes]:
    """Every file but the export's own notes."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file() and ".curate" not in str(path.relative_to(out))]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def rgb(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_each_frame_is_the_sources_frame_of_its_time_cropped_and_not_stretched(made: Path, films: Path) -> None:
    boxes = {row["clip_id"]: row for row in index(made).to_pylist()}
    decoded = {key: footage.read_rgb(films / key) for key in SOURCE_FPS}
    for row in lines(made):
        clip, pictures = boxes[row["clip_id"]], decoded[row["source_key"]]
        # The largest 2:1 box in the middle of the active picture.
        width = min(clip["active_width"], 2 * clip["active_height"])
        height = width // 2
        x, y = clip["active_x"] + (clip["active_width"] - width) // 2, clip["active_y"] + (clip["active_height"] - height) // 2
        for name, time_ns in zip(row["frames"], row["times_ns"], strict=True):
            number = round(time_ns * SOURCE_FPS[row["source_key"]] / 1e9)
            found = rgb(made / name).astype(float)
            error = {}
            for i in range(max(0, number - 2), min(len(pictures), number + 3)):
                small = cv2.resize(pictures[i][y : y + height, x : x + width], (128, 64), interpolation=cv2.INTER_AREA)
                error[i] = float(((small - found) ** 2).mean())
            # A picture that is shown twice in the source is as near in both of its frames.
            assert error[number] < min(error.values()) + 0.5, (name, error)
            assert error[number] < 20, "above 35 dB: another conversion to RGB and chroma positions, but not another crop"


def test_frames_are_evenly_spaced_at_the_rate_and_stride_that_are_told(made: Path) -> None:
    for row in lines(made):
        gaps = np.diff(row["times_ns"]) / 1e9
        assert row["fps"] == pytest.approx(1 / gaps.mean()) and row["fps_id"] == round(row["fps"]) - 1
        # The rabbit's film was padded from 24 to 25 frames a second: each repeated picture delays the ones after it by one frame.
        assert np.ptp(gaps) < (1e-6 if row["source_key"] == "street.mp4" else 1 / 24 + 1e-6)
        assert 5 <= row["fps"] <= 6.25 * 1.25
        if row["source_key"] == "street.mp4":
            assert (row["stride"], row["fps"], row["fps_id"]) == (4, 6.25, 5)
        assert row["start_ns"] == row["times_ns"][0] and row["num_frames"] == len(row["frames"]) == 5


def test_windows_of_a_clip_share_no_time(made: Path) -> None:
    spans: dict[str, list[tuple[int, int]]] = {}
    for row in lines(made):
        spans.setdefault(row["clip_id"], []).append((row["times_ns"][0], row["times_ns"][-1]))
    assert max(len(found) for found in spans.values()) > 1
    for found in spans.values():
        ordered = sorted(found)
        assert all(before[1] < after[0] for before, after in pairwise(ordered))


def test_one_window_a_clip_lies_in_its_middle(manifest: Path) -> None:
    for clip in read_kept(manifest):
        one, every = layout(windows="one").plan(clip), layout(windows="all").plan(clip)
        assert not isinstance(one, str) and not isinstance(every, str) and len(one) == 1
        middle = (clip.span.start_ns + clip.span.end_ns) / 2

        def off(sample: Any, middle: float = middle) -> float:
            return abs((sample.what.times_ns[0] + sample.what.times_ns[-1]) / 2 - middle)

        assert off(one[0]) <= min(off(sample) for sample in every)
        # Nothing but uneven windows keeps it from the middle: a window can begin at every picture.
        assert off(one[0]) < 0.2e9 or clip.source_key == "meadow.mp4"


def test_the_reader_of_svd_xtend_finds_folders_of_frames_and_nothing_else(made: Path) -> None:
    from PIL import Image

    torch = pytest.importorskip("torch")

    class BaseFolder(torch.utils.data.Dataset):  # type: ignore[misc, name-defined]
        """As `DummyDataset` of SVD_Xtend: every entry is a clip, every file in it a frame, in the order of the names."""

        def __init__(self, base_folder: Path, sample_frames: int) -> None:
            self.base_folder, self.sample_frames = base_folder, sample_frames
            self.folders = sorted(os.listdir(base_folder))

        def __len__(self) -> int:
            return len(self.folders)

        def __getitem__(self, i: int) -> Any:
            folder = self.base_folder / self.folders[i]
            names = sorted(os.listdir(folder))
            assert len(names) == self.sample_frames, "one more, and a random start would take what is no frame"
            frames = [np.asarray(Image.open(folder / name).resize((128, 64))) for name in names]
            return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2) / 127.5 - 1

    data = BaseFolder(made / "train", 5)
    by_id = {row["sample_id"]: row for row in lines(made)}
    assert set(data.folders) == set(by_id)
    (batch,) = torch.utils.data.DataLoader(data, batch_size=len(data))
    assert batch.shape == (len(data), 5, 3, 64, 128) and -1 <= batch.min() < batch.max() <= 1
    for name, values in zip(data.folders, batch, strict=True):
        expected = np.stack([rgb(made / frame) for frame in by_id[name]["frames"]])
        np.testing.assert_allclose(((values + 1) * 127.5).permute(0, 2, 3, 1).numpy(), expected, atol=1e-3)


def test_datasets_reads_the_lines_with_pictures_and_the_folder_alone(made: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset("json", data_files={"train": str(made / "train.jsonl")}, split="train", cache_dir=str(tmp_path))
    assert rows["motion_bucket_id"] == [row["motion_bucket_id"] for row in lines(made)]
    whole = rows.map(lambda row: {"frames": [str(made / name) for name in row["frames"]], "cond_image": str(made / row["cond_image"])})
    whole = whole.cast_column("frames", datasets.Sequence(datasets.Image())).cast_column("cond_image", datasets.Image())
    for row, line in zip(whole, lines(made), strict=True):
        assert len(row["frames"]) == 5 and row["frames"][0].size == (128, 64)
        assert np.array_equal(np.asarray(row["cond_image"].convert("RGB")), rgb(made / line["frames"][0]))
    pictures = datasets.load_dataset("imagefolder", data_dir=str(made / "train"), split="train", drop_labels=True, cache_dir=str(tmp_path))
    assert len(pictures) == 5 * len(lines(made))


def test_jpg_frames_are_near_and_the_conditioning_image_is_exact(made: Path, manifest: Path, tmp_path: Path) -> None:
    run(manifest, tmp_path / "jpg")
    exact = {row["sample_id"]: row for row in lines(made)}
    for row in lines(tmp_path / "jpg"):
        assert [Path(name).name for name in row["frames"]] == [f"{i:02d}.jpg" for i in range(5)]
        first = rgb(made / exact[row["sample_id"]]["frames"][0])
        assert np.array_equal(rgb(tmp_path / "jpg" / row["cond_image"]), first)
        error = np.abs(rgb(tmp_path / "jpg" / row["frames"][0]).astype(float) - first).mean()
        assert 0 < error < 3


def test_buckets_follow_the_motion_of_the_window_through_the_map_that_lies_beside(made: Path, manifest: Path) -> None:
    buckets = MotionBuckets.load(made / "motion_buckets.json")
    rows = lines(made)
    assert all(row["motion_bucket_id"] == buckets.bucket(row["motion_score"]) for row in rows)
    order = sorted(rows, key=lambda row: row["motion_score"])
    assert [row["motion_bucket_id"] for row in order] == sorted(row["motion_bucket_id"] for row in rows)
    speeds = {clip.clip_id: clip.columns["motion_speed"] for clip in read_kept(manifest)}
    mean = {name: np.mean([row["motion_score"] for row in rows if row["clip_id"] == name]) for name in {row["clip_id"] for row in rows}}
    assert sorted(mean, key=mean.__getitem__) == [name for name in sorted(speeds, key=speeds.__getitem__) if name in mean]
    assert all(mean[name] == pytest.approx(speeds[name], rel=0.5) for name in mean)
    expected = fit_corpus(speeds.values())
    assert buckets.kind == "corpus" and [buckets.bucket(s) for s in (0, 1, 5, 10, 30)] == [expected.bucket(s) for s in (0, 1, 5, 10, 30)]


def test_a_map_that_is_given_is_used_and_one_that_was_edited_is_refused_before_anything_is_written(manifest: Path, tmp_path: Path) -> None:
    given = fit_corpus([100.0, 200.0, 300.0])
    given.save(tmp_path / "map.json")
    run(manifest, tmp_path / "out", motion_buckets=str(tmp_path / "map.json"))
    assert MotionBuckets.load(tmp_path / "out" / "motion_buckets.json").sha256 == given.sha256
    assert max(row["motion_bucket_id"] for row in lines(tmp_path / "out")) < 60
    (tmp_path / "map.json").write_text((tmp_path / "map.json").read_text().replace("300", "400"))
    with pytest.raises(ExportError, match="checksum"):
        run(manifest, tmp_path / "other", motion_buckets=str(tmp_path / "map.json"))
    assert not (tmp_path / "other").exists()


def test_the_index_lists_the_windows_and_leaves_the_clips_own_columns_as_they_are(made: Path, manifest: Path) -> None:
    clips = {clip.clip_id: clip for clip in read_kept(manifest)}
    rows = index(made).to_pylist()
    assert [row["sample_id"] for row in rows] == [row["sample_id"] for row in lines(made)]
    for row in rows:
        clip = clips[row["clip_id"]]
        assert (row["start_ns"], row["fps"]) == (clip.span.start_ns, clip.columns["fps"])
        assert clip.span.start_ns <= row["window_start_ns"] and row["window_times_ns"][-1] < clip.span.end_ns
        assert row["duration_out_s"] == pytest.approx(5 / row["window_fps"])
        assert row["file"] is None and sorted(os.listdir(made / row["frames_folder"])) == [Path(name).name for name in row["frames"]]
        assert row["file_bytes"] == sum((made / name).stat().st_size for name in (*row["frames"], row["cond_image"]))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"num_frames": 200}, "too short: .* of 200 frames"),
        ({"sizes": ("1024x576",)}, "too small: .* would be enlarged"),
        ({"fps": 60.0}, "rate: 2.* distinct pictures/s have no whole-number stride"),
        ({"fps": 4.5, "fps_tolerance": 0.6}, "too slow|$"),
    ],
)
def test_clips_that_give_no_window_are_refused_with_a_reason(manifest: Path, more: dict[str, object], reason: str) -> None:
    import re

    plans = [layout(**more).plan(clip) for clip in read_kept(manifest)]
    assert all(re.match(reason, plan) if isinstance(plan, str) else reason.endswith("$") for plan in plans), plans


def test_of_the_sizes_that_fit_the_one_that_shows_most_is_taken(manifest: Path) -> None:
    wide, tall = Box(0, 0, 1280, 720), Box(10, 20, 720, 1280)
    sizes = ("1024x576", "576x1024", "320x576", "576x320", "512x512")
    assert [(f.width, f.height) for box in (wide, tall) if not isinstance(f := framed(box, sizes, 1.0), str)] == [(1024, 576), (576, 1024)]
    smaller = framed(Box(0, 0, 640, 360), sizes, 1.0)
    assert not isinstance(smaller, str) and (smaller.width, smaller.height) == (576, 320)
    why = "too small: 320x178 px would be enlarged 1.80 times to 576x320, more than max_enlarge=1"
    assert framed(Box(0, 0, 320, 180), sizes, 1.0) == why


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"sizes": ["1000x576"]}, "multiples of 64"),
        ({"sizes": "big"}, "WIDTHxHEIGHT"),
        ({"fps": 2.0}, "fps"),
        ({"num_frames": 1}, "num_frames"),
        ({"image": "bmp"}, "image"),
    ],
)
def test_wrong_parameters_are_named(manifest: Path, tmp_path: Path, words: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(manifest, tmp_path / "out", **words)
    assert parse_size("64x128") == (64, 128)


def test_a_manifest_without_motion_is_refused(manifest: Path) -> None:
    kept = read_kept(manifest)
    without = KeptClips(kept.table.drop_columns(["motion_speed"]))
    with pytest.raises(ExportError, match="add the scorer `motion`"):
        layout().prepare(without)
    with pytest.raises(ExportError, match="not been fitted"):
        layout().open(Models())


def changed(clip: KeptClip, **more: Any) -> KeptClip:
    return replace(clip, **more)


@pytest.mark.parametrize(
    "change",
    [
        lambda clip, folder: changed(clip, source_url=str(folder / "gone.mp4")),
        lambda clip, folder: changed(clip, times_ns=clip.times_ns + 1_000_000),
    ],
)
def test_a_source_that_is_gone_or_has_other_frames_is_an_error_of_that_window(
    manifest: Path, tmp_path: Path, change: Callable[[KeptClip, Path], KeptClip]
) -> None:
    kept = read_kept(manifest)
    ready = layout().prepare(kept)
    samples = ready.plan(change(kept[0], tmp_path))
    assert not isinstance(samples, str)
    with pytest.raises(SourceError):
        ready.open(Models()).make(samples[0], tmp_path)
    assert not list(tmp_path.glob("*.jpg"))


def test_an_interrupted_export_goes_on_and_no_folder_is_left_that_nothing_lists(manifest: Path, tmp_path: Path) -> None:
    for folders in ("flat", "shards"):
        out = tmp_path / folders
        run(manifest, out, shard_clips=1, folders=folders)
        before = contents(out)
        base = out / "train" if folders == "flat" else out / "train" / "00001"
        assert all(len(name.split("/")) == (3 if folders == "flat" else 4) for name in before if name.startswith("train/"))
        (out / ".curate-export" / "done" / "train-00001.json").unlink()
        stray = base / f"{'a' * 16}-000"
        stray.mkdir()
        (stray / "00.jpg").write_bytes(b"half")
        (base / "notes").mkdir()
        run(manifest, out, shard_clips=1, folders=folders)
        assert not stray.exists() and (base / "notes").is_dir(), "what is not ours is left alone"
        assert contents(out) == before


def test_finish_writes_the_same_again_and_holds_any_caption(made: Path, manifest: Path, tmp_path: Path) -> None:
    assert {row["caption"] for row in lines(made)} == set(CAPTIONS.values())
    assert (made / "val.jsonl").read_bytes() == b""
    table = index(made)
    captions = [None, 'a "quoted", one\n\tof two 🎬', "\u2028 separator", *[""] * (len(table) - 3)]
    table = table.set_column(table.column_names.index("caption"), "caption", pa.array(captions, pa.string()))
    table = table.set_column(table.column_names.index("split"), "split", pa.array(["val", *["train"] * (len(table) - 1)]))
    ready = layout(image="png").prepare(read_kept(manifest))
    out = OutFolder(str(tmp_path / "out"))
    ready.finish(out, Finished(table, {}))
    before = contents(tmp_path / "out")
    ready.finish(out, Finished(table, {}))
    assert contents(tmp_path / "out") == before
    text = (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["caption"] for line in text.split("\n")[:-1]] == captions[1:]
    assert [row["caption"] for row in lines(tmp_path / "out", "val")] == [None]


def test_windows_are_planned_once_and_measured_alike_wherever_they_are_read(made: Path, manifest: Path) -> None:
    kept = read_kept(manifest)
    ready = layout(image="png").prepare(kept)
    by_id = {row["sample_id"]: row for row in lines(made)}
    for clip in kept:
        samples = ready.plan(clip)
        assert not isinstance(samples, str)
        for sample in samples[:1]:
            shown = WindowReader(ready.map, ready.scorer).read(sample)
            assert shown.facts["motion_score"] == by_id[sample.sample_id]["motion_score"]
            assert np.array_equal(shown.frames_THWC[-1], rgb(made / by_id[sample.sample_id]["frames"][-1]))
