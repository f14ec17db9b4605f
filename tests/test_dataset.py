"""Reading back: every frame by its burnt number, motion by known speeds, batches by what a resumed run must see."""

import copy
import os
import pickle
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from curated import curate_films
from torch.utils.data import DataLoader

from curate.batches import BucketBatches, collate
from curate.dataset import CuratedClips, Draw
from curate.errors import ConfigError, ExportError, SourceError
from curate.export.config import parse_export
from curate.motion_bucket import MotionBuckets, fit_corpus
from curate.pipelines import footage
from curate.pipelines.export import export
from curate.window_motion import window_pairs

torch.set_num_threads(1)

SIZES = ((256, 144), (144, 256))
NUM_BITS, BLOCK = 10, 16  # px
SPEEDS = {"slow": 2, "mid": 3, "fast": 5}  # px a frame
WIDTH, HEIGHT = 320, 180
DIAGONAL = float(np.hypot(WIDTH, HEIGHT))


def texture(width: int, height: int) -> np.ndarray:
    """Coloured noise of several sizes, so that flow has something to hold on to at every speed."""
    rng = np.random.default_rng(5)
    total = np.zeros((height, width, 3), np.float32)
    for size in (6, 18, 54):
        noise = rng.uniform(-1, 1, (height // size + 2, width // size + 2, 3)).astype(np.float32)
        total += cv2.resize(noise, None, fx=size, fy=size, interpolation=cv2.INTER_CUBIC)[:height, :width]
    return np.clip(128 + 40 * total, 20, 235).astype(np.uint8)


def film(codes: list[int], width: int = WIDTH, height: int = HEIGHT, speed: int = 2, burn: bool = True) -> list[np.ndarray]:
    """A texture that moves to the left by `speed` px a code; the code as a row of blocks in the middle, most significant first."""
    wide = texture(width + speed * (max(codes) + 1), height)
    pictures = []
    for code in codes:
        picture = wide[:, speed * code : speed * code + width].copy()
        if burn:
            left, top = (width - NUM_BITS * BLOCK) // 2, (height - BLOCK) // 2
            for bit in range(NUM_BITS):
                value = 235 if code >> (NUM_BITS - 1 - bit) & 1 else 16
                picture[top : top + BLOCK, left + bit * BLOCK : left + (bit + 1) * BLOCK] = value
        pictures.append(picture)
    return pictures


def codes_of(frames: torch.Tensor) -> list[int]:
    """Burnt numbers of (T, 3, H, W) frames that show a film of 320x180 or 180x320 whole."""
    scale = frames.shape[-1] / (WIDTH if frames.shape[-1] > frames.shape[-2] else HEIGHT)
    middle = frames.float().mean(1)[:, frames.shape[-2] // 2]
    centres = frames.shape[-1] / 2 + (np.arange(NUM_BITS) - NUM_BITS / 2 + 0.5) * BLOCK * scale
    bits = (middle[:, centres.astype(int)] > 128).long().tolist()
    return [int("".join(map(str, row)), 2) for row in bits]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    options = {**footage.X264, "g": "40", "bf": "3"}
    footage.write_video(folder / "codes.mp4", film(list(range(110))), 30, options=options)
    footage.write_video(folder / "twos.mp4", film([k // 2 for k in range(96)], speed=4), 24, options=options)
    footage.write_video(folder / "tall.mp4", film(list(range(90)), HEIGHT, WIDTH), 30, options=options)
    footage.write_video(folder / "brief.mp4", film(list(range(36))), 30, options=options)
    footage.write_video(folder / "tiny.mp4", film(list(range(90)), 160, 90, burn=False), 30, options=options)
    for name, speed in SPEEDS.items():
        footage.write_video(folder / f"{name}.mp4", film(list(range(75)), speed=speed, burn=False), 25, options=options)
    (folder / "codes.txt").write_text("a wall that moves")
    return folder


@pytest.fixture(scope="module")
def manifest(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return curate_films(films, tmp_path_factory.mktemp("manifest") / "set")


@pytest.fixture(scope="module")
def clips(manifest: Path) -> CuratedClips:
    return CuratedClips(manifest, sizes=SIZES, seed=3)


def by_source(clips: CuratedClips) -> dict[str, dict]:
    return {item["source_key"]: item for item in (clips[i] for i in range(len(clips)))}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a)


def test_every_frame_is_the_one_whose_time_is_given(clips: CuratedClips) -> None:
    for epoch in range(4):
        clips.set_epoch(epoch)
        items = by_source(clips)
        for key, fps in (("codes.mp4", 30), ("tall.mp4", 30)):
            expected = [round(t * fps / 1e9) for t in items[key]["times_ns"].tolist()]
            assert codes_of(items[key]["frames"]) == expected
            assert np.diff(expected).tolist() == [4] * 13
    clips.set_epoch(0)


def test_an_item_says_what_it_is(clips: CuratedClips) -> None:
    item = by_source(clips)["codes.mp4"]
    assert item["frames"].dtype == torch.uint8
    assert item["frames"].shape == (14, 3, 144, 256)
    assert item["frames"].is_contiguous()
    assert item["fps"] == pytest.approx(7.5)
    assert item["fps_id"] == 7
    assert item["caption"] == "a wall that moves"
    assert by_source(clips)["tall.mp4"]["caption"] is None
    assert (item["size"], item["epoch"], item["step"], item["num_skipped"]) == ((256, 144), 0, None, 0)
    assert by_source(clips)["tall.mp4"]["frames"].shape == (14, 3, 256, 144)


def test_colours_are_those_of_the_film(clips: CuratedClips) -> None:
    item = by_source(clips)["slow.mp4"]
    shown = film(list(range(75)), speed=2, burn=False)[round(int(item["times_ns"][0]) * 25 / 1e9)]
    wanted = cv2.resize(shown, (256, 144), interpolation=cv2.INTER_AREA).astype(int)
    error = np.abs(item["frames"][0].permute(1, 2, 0).numpy().astype(int) - wanted)
    assert error.mean() < 6  # 4:2:0 chroma of a noisy texture and x264 at crf 20; red and blue exchanged give 40
    swapped = np.abs(item["frames"][0].flip(0).permute(1, 2, 0).numpy().astype(int) - wanted)
    assert swapped.mean() > 3 * error.mean()


def test_on_twos_the_stride_counts_distinct_pictures(clips: CuratedClips) -> None:
    item = by_source(clips)["twos.mp4"]
    found = codes_of(item["frames"])
    assert np.diff(found).tolist() == [2] * 13, "12 pictures a second at stride 2"
    assert item["fps"] == pytest.approx(6.0)
    assert item["fps_id"] == 5


def test_the_first_and_the_last_window_are_drawn_and_epochs_differ(clips: CuratedClips) -> None:
    i = clips.clip_ids().index(by_source(clips)["codes.mp4"]["clip_id"])
    clip = clips._clips[int(clips._survey.clip[i])]
    starts = Counter(round(int(clips._window(clip, 0, epoch)[0]) * 30 / 1e9) for epoch in range(600))
    assert min(starts) == 0
    assert max(starts) == 110 - 53
    assert len(starts) == 110 - 52


def test_clips_that_give_no_window_are_refused_with_their_reason(clips: CuratedClips, manifest: Path) -> None:
    rows = pq.read_table(manifest / "clips").to_pylist()
    source_of = {row["clip_id"]: row["source_key"] for row in rows if row["keep"]}
    assert {source_of[clip]: reason.partition(":")[0] for clip, reason in clips.refused.items()} == {
        "brief.mp4": "too short",
        "tiny.mp4": "too small",
    }
    assert set(clips.refused) | set(clips.clip_ids()) == set(source_of)


def test_nothing_left_names_the_most_common_reason(manifest: Path) -> None:
    with pytest.raises(ExportError, match=r"none of 8 clips gives a window; .* 'too short', such as 'too short: "):
        CuratedClips(manifest, num_frames=60, sizes=SIZES)
    with pytest.raises(ExportError, match="'too small'"):
        CuratedClips(manifest, sizes=((1024, 576),))
    with pytest.raises(ExportError, match="no clip was kept, or none passes `select`"):
        CuratedClips(manifest, select={"fast": {"column": "motion_speed", "min": 1e6}})


def test_enlarging_is_allowed_when_asked_for(manifest: Path) -> None:
    assert "tiny.mp4" in by_source(CuratedClips(manifest, sizes=SIZES, max_enlarge=1.7))


def test_select_takes_rules_of_the_manifests_columns(manifest: Path) -> None:
    lively = CuratedClips(manifest, sizes=SIZES, select={"lively": {"column": "motion_speed", "min_percentile": 70}})
    assert "fast.mp4" in by_source(lively)
    assert "slow.mp4" not in by_source(lively)
    with pytest.raises(ConfigError, match="select"):
        CuratedClips(manifest, select={"lively": {"column": "motion_sped", "min": 1}})


def test_windows_move_as_fast_as_they_were_made_to(clips: CuratedClips, manifest: Path) -> None:
    items = by_source(clips)
    of_clips = {row["source_key"]: row["motion_speed"] for row in pq.read_table(manifest / "clips").to_pylist()}
    for name, speed in SPEEDS.items():
        known = 100 * speed * 25 / DIAGONAL
        assert items[f"{name}.mp4"]["motion_score"] == pytest.approx(known, rel=0.05)
        assert items[f"{name}.mp4"]["motion_score"] == pytest.approx(of_clips[f"{name}.mp4"], rel=0.05)
    buckets = [items[f"{name}.mp4"]["motion_bucket_id"] for name in SPEEDS]
    assert buckets == sorted(set(buckets))
    assert buckets[-1] > 200


@pytest.mark.parametrize("fps", [4.5, 12.0, 25.0])
def test_the_score_does_not_depend_on_the_rate_of_the_window(manifest: Path, fps: float) -> None:
    items = by_source(CuratedClips(manifest, num_frames=8, fps=fps, sizes=SIZES))
    for name in ("slow", "mid"):
        assert items[f"{name}.mp4"]["motion_score"] == pytest.approx(100 * SPEEDS[name] * 25 / DIAGONAL, rel=0.08)


@pytest.mark.parametrize(
    ("fps", "apart", "num_pairs"),
    [(30, 4, 2), (24, 4, 2), (12.5, 2, 4), (8, 1, 7), (7, 1, 7), (6.25, 1, 7), (5, 1, 13), (4.2, 1, 13), (3.9, 0, 0)],
)
def test_pairs_lie_nearest_to_148_ms_and_up_to_250_where_the_rate_has_none(fps: float, apart: int, num_pairs: int) -> None:
    pairs = window_pairs(np.round(np.arange(14) * 1e9 / fps).astype(np.int64))
    assert {b - a for a, b in pairs} == ({apart} if apart else set())
    assert len(pairs) == num_pairs


def test_below_four_frames_a_second_the_clips_own_score_stands_in(manifest: Path) -> None:
    of_clips = {row["source_key"]: row["motion_speed"] for row in pq.read_table(manifest / "clips").to_pylist()}
    item = by_source(CuratedClips(manifest, num_frames=4, fps=2.5, sizes=SIZES))["mid.mp4"]
    assert item["motion_score"] == of_clips["mid.mp4"]


def test_a_given_map_is_used_and_a_fitted_one_says_what_it_was_fitted_to(clips: CuratedClips, manifest: Path, tmp_path: Path) -> None:
    given = MotionBuckets("motion_object", "checkpoint", tuple(np.linspace(0, 1, 255).tolist()))
    given.save(tmp_path / "map.json")
    read = CuratedClips(manifest, sizes=SIZES, motion_buckets=tmp_path / "map.json")
    item = by_source(read)["fast.mp4"]
    assert item["motion_score"] < 5, "a pan has no object motion"
    assert item["motion_bucket_id"] == given.bucket(item["motion_score"])
    fitted = clips.motion_buckets
    rows = pq.read_table(manifest / "clips").to_pylist()
    used = [row["motion_speed"] for row in rows if row["clip_id"] in set(clips.clip_ids())]
    assert fitted.edges == fit_corpus(used).edges
    assert fitted.made_from.keys() == {"pass", "scorer", "num_clips"}
    assert all(fitted.made_from.values())


def test_all_windows_share_no_frame_and_do_not_change_with_the_epoch(manifest: Path) -> None:
    every = CuratedClips(manifest, num_frames=6, sizes=SIZES, windows="all")
    items = [every[i] for i in range(len(every))]
    own = [item for item in items if item["source_key"] == "codes.mp4"]
    times = [t for item in own for t in item["times_ns"].tolist()]
    assert len(own) == 110 // 21
    assert times == sorted(set(times))
    every.set_epoch(5)
    assert all(torch.equal(every[i]["frames"], items[i]["frames"]) for i in range(len(every)))


def test_numbers_outside_the_set_are_index_errors(clips: CuratedClips) -> None:
    assert same(clips[-1], clips[len(clips) - 1])
    for wrong in (len(clips), -len(clips) - 1, Draw(-1, 0), Draw(len(clips), 0)):
        with pytest.raises(IndexError):
            clips[wrong]


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_workers_give_the_same_items_and_follow_the_epoch(clips: CuratedClips, way: str) -> None:
    workers = {"fork": 2, "spawn": 1}[way]  # a spawned worker imports torch anew, seconds each
    loader = DataLoader(clips, batch_size=None, num_workers=workers, collate_fn=dict, persistent_workers=True, multiprocessing_context=way)
    for epoch in (0, 1):
        clips.set_epoch(epoch)
        assert all(same(a, clips[i]) for i, a in enumerate(loader))
    clips.set_epoch(0)


def test_batches_bring_their_epoch_to_workers_that_live_on(clips: CuratedClips) -> None:
    batches = BucketBatches(clips, 2, seed=1)
    loader = DataLoader(clips, batch_sampler=batches, collate_fn=collate, num_workers=2, persistent_workers=True)
    seen = []
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        for batch, draws in zip(loader, list(batches), strict=True):
            assert batch["epoch"] == epoch
            assert same(batch, collate([clips[draw] for draw in draws]))
            seen.append(batch["times_ns"])
    assert len(seen) == 2 * len(batches)


def draws(batches: BucketBatches) -> list[list[tuple[int, int, int | None]]]:
    return [[tuple(draw) for draw in batch] for batch in batches]


def test_a_batch_has_one_size_and_an_epoch_gives_every_item_once(clips: CuratedClips) -> None:
    batches = BucketBatches(clips, 2, drop_last=False)
    found = draws(batches)
    assert sorted(item for batch in found for item, _, _ in batch) == list(range(len(clips)))
    sizes = clips.item_sizes
    assert all(len({sizes[item] for item, _, _ in batch}) == 1 for batch in found)
    assert [batch[0][2] for batch in found] == list(range(len(batches)))
    assert Counter(map(len, draws(BucketBatches(clips, 2)))) == {2: len(BucketBatches(clips, 2))}


def test_the_order_follows_from_seed_and_epoch(clips: CuratedClips) -> None:
    batches = BucketBatches(clips, 1, seed=7)
    orders = []
    for epoch in range(4):
        batches.set_epoch(epoch)
        orders.append([batch[0].item for batch in batches])
    assert len({tuple(order) for order in orders}) > 1
    again = BucketBatches(clips, 1, seed=7)
    again.set_epoch(2)
    assert [batch[0].item for batch in again] == orders[2]
    assert [batch[0].item for batch in BucketBatches(clips, 1, shuffle=False)] == sorted(
        range(len(clips)), key=lambda i: clips.item_sizes[i]
    )


@pytest.mark.parametrize("drop_last", [True, False])
def test_ranks_get_equal_numbers_and_nothing_twice_but_what_fills_up(clips: CuratedClips, drop_last: bool) -> None:
    ranks = [BucketBatches(clips, 1, rank=rank, world_size=4, drop_last=drop_last) for rank in range(4)]
    found = [[batch[0].item for batch in rank] for rank in ranks]
    assert len({len(own) for own in found}) == 1
    counts = Counter(item for own in found for item in own)
    assert len(counts) == (len(clips) // 4 * 4 if drop_last else len(clips))
    assert max(counts.values()) == (1 if drop_last else 2)


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0)])
def test_an_epoch_resumes_behind_the_last_batch_whatever_workers_fetched(clips: CuratedClips, before: int, after: int) -> None:
    def loader(batches: BucketBatches, workers: int) -> DataLoader:
        return DataLoader(clips, batch_sampler=batches, collate_fn=collate, num_workers=workers)

    def fresh() -> BucketBatches:
        batches = BucketBatches(clips, 1, seed=2)
        batches.set_epoch(3)
        return batches

    whole = list(loader(fresh(), 0))
    batches = fresh()
    for taken, batch in enumerate(loader(batches, before)):
        if taken == 1:
            state = pickle.loads(pickle.dumps(batches.state_dict(after=batch)))
            break
    resumed = BucketBatches(clips, 1, seed=2)
    resumed.load_state_dict(state)
    resumed.set_epoch(resumed.epoch)  # as a training loop does at the head of every epoch
    assert len(resumed) == len(whole) - 2
    rest = list(loader(resumed, after))
    assert len(rest) == len(whole) - 2
    assert all(same(a, b) for a, b in zip(rest, whole[2:], strict=True))
    assert len(resumed) == len(whole), "the epoch after is whole again"


def test_a_finished_epoch_resumes_with_the_next_and_another_order_is_refused(clips: CuratedClips, manifest: Path) -> None:
    batches = BucketBatches(clips, 1)
    state = batches.state_dict(after={"epoch": 0, "step": len(batches) - 1})
    batches.load_state_dict(state)
    assert (batches.epoch, len(batches)) == (1, BucketBatches(clips, 1)._num_steps)
    assert batches.state_dict(after=None)["num_done"] == 0
    fewer = CuratedClips(manifest, sizes=SIZES, select={"lively": {"column": "motion_speed", "min": 30}})
    for other, name in (
        (BucketBatches(clips, 2), "batch_size 1 -> 2"),
        (BucketBatches(clips, 1, seed=9), "seed"),
        (BucketBatches(fewer, 1), "clips"),
    ):
        with pytest.raises(ExportError, match=name):
            other.load_state_dict(state)


def test_too_few_items_for_a_batch_is_an_error(clips: CuratedClips) -> None:
    with pytest.raises(ExportError, match="lower batch_size"):
        BucketBatches(clips, 64)
    with pytest.raises(ValueError, match="rank=2"):
        BucketBatches(clips, 1, rank=2, world_size=2)


def test_items_of_two_sizes_cannot_be_collated(clips: CuratedClips) -> None:
    items = by_source(clips)
    with pytest.raises(ValueError, match="BucketBatches"):
        collate([items["codes.mp4"], items["tall.mp4"]])
    batch = collate([items["codes.mp4"], items["twos.mp4"]])
    assert batch["frames"].shape == (2, 14, 3, 144, 256)
    assert batch["fps_id"].tolist() == [7, 5]
    assert batch["caption"] == ["a wall that moves", None]


@pytest.fixture
def own_copy(films: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Films and manifest that a test may damage."""
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("codes.mp4", "slow.mp4", "mid.mp4"):
        shutil.copy2(films / name, folder / name)
    return folder, curate_films(folder, tmp_path / "set")


def test_a_source_that_is_gone_or_changed_is_named_and_can_be_passed_over(own_copy: tuple[Path, Path]) -> None:
    films, manifest = own_copy
    order = [item["source_key"] for item in by_source(CuratedClips(manifest, sizes=SIZES)).values()]
    (films / "codes.mp4").unlink()
    shutil.copyfile(films / "slow.mp4", films / "mid.mp4")
    strict = CuratedClips(manifest, sizes=SIZES)
    ids = strict.clip_ids()
    for key, what in (("codes.mp4", "is gone"), ("mid.mp4", "has changed since it was scanned")):
        i = order.index(key)
        with pytest.raises(SourceError, match=f"clip {ids[i]} of {key}: .*{what}"):
            strict[i]
    lenient = CuratedClips(manifest, sizes=SIZES, on_error="skip")
    items = [lenient[i] for i in range(3)]
    assert {item["source_key"] for item in items} == {"slow.mp4"}
    assert sorted(item["num_skipped"] for item in items) == [0, 1, 2]
    assert collate(items)["num_skipped"] == 3
    (films / "slow.mp4").unlink()
    with pytest.raises(SourceError, match="no clip of this size can be read any more"):
        CuratedClips(manifest, sizes=SIZES, on_error="skip")[0]


def test_a_changed_source_whose_frames_are_still_there_is_read_when_checks_are_off(own_copy: tuple[Path, Path]) -> None:
    films, manifest = own_copy
    os.utime(films / "codes.mp4", (1, 1))
    assert "codes.mp4" in by_source(CuratedClips(manifest, sizes=SIZES, check_sources=False))


def test_the_set_survives_pickling_and_copying(clips: CuratedClips) -> None:
    expected = clips[0]
    assert same(pickle.loads(pickle.dumps(clips))[0], expected)
    assert same(copy.deepcopy(clips)[0], expected)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [({"windows": "some"}, "windows='some'"), ({"on_error": "ignore"}, "on_error"), ({"sizes": ()}, "sizes"), ({"fps": 0}, "fps=0")],
)
def test_wrong_words_are_refused(manifest: Path, wrong: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        CuratedClips(manifest, **wrong)


def test_a_manifest_has_no_splits(manifest: Path) -> None:
    with pytest.raises(ConfigError, match="no splits"):
        CuratedClips(manifest, split="train")


@pytest.fixture(scope="module")
def exports(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The manifest's clips cut to files: in tar shards, as single files, as copies of the stream, and tar shards in an object store."""
    folder = tmp_path_factory.mktemp("exports")
    wanted = {
        "tar": {"layout": "webdataset", "out": str(folder / "tar"), "val_fraction": 0.3},
        "files": {"layout": "huggingface", "out": str(folder / "files")},
        "copies": {"layout": "huggingface", "out": str(folder / "copies"), "cut": "copy"},
        "store": {"layout": "webdataset", "out": f"memory://{folder.name}/tar"},
    }
    for settings in wanted.values():
        result = export(parse_export({"manifest": str(manifest), **settings}))
        assert not result.failures
    return {name: str(settings["out"]) for name, settings in wanted.items()}


@pytest.mark.parametrize("kind", ["tar", "files", "copies", "store"])
def test_an_export_gives_the_same_windows_as_the_sources(exports: dict[str, str], clips: CuratedClips, kind: str) -> None:
    exported = CuratedClips(exports[kind], sizes=SIZES, seed=3)
    assert sorted(exported.clip_ids()) == sorted(clips.clip_ids())
    assert exported.refused == clips.refused
    ours, theirs = by_source(clips), by_source(exported)
    for key in ("codes.mp4", "tall.mp4", "twos.mp4"):
        assert codes_of(theirs[key]["frames"]) == codes_of(ours[key]["frames"])
    for key, item in theirs.items():
        assert item["fps"] == pytest.approx(ours[key]["fps"], rel=1e-6)
        assert item["motion_score"] == pytest.approx(ours[key]["motion_score"], rel=0.03, abs=0.02)
        assert (item["frames"].float() - ours[key]["frames"].float()).abs().mean() < 3
    assert exported.motion_buckets.edges == clips.motion_buckets.edges


def test_splits_of_an_export_are_read_apart(exports: dict[str, str]) -> None:
    every = CuratedClips(exports["tar"], sizes=SIZES)
    parts = [CuratedClips(exports["tar"], sizes=SIZES, split=split).clip_ids() for split in ("train", "val")]
    assert all(parts)
    assert sorted(parts[0] + parts[1]) == sorted(every.clip_ids())
    fast = CuratedClips(exports["tar"], sizes=SIZES, select={"fast": {"column": "motion_speed", "min": 30}})
    assert list(by_source(fast)) == ["fast.mp4"]


def test_exports_travel_to_workers(exports: dict[str, str]) -> None:
    exported = CuratedClips(exports["tar"], sizes=SIZES)
    loader = DataLoader(exported, batch_size=None, num_workers=1, collate_fn=dict)
    assert all(same(a, exported[i]) for i, a in enumerate(loader))


def test_a_damaged_export_names_file_and_clip(exports: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(exports["tar"], tmp_path / "tar")
    shutil.copytree(exports["files"], tmp_path / "files")
    for tar in (tmp_path / "tar").glob("*.tar"):
        os.truncate(tar, 4096)
    with pytest.raises(SourceError, match=r"clip [0-9a-f]{16} of \w+.mp4: .*\.tar: ends \d+ bytes before"):
        CuratedClips(tmp_path / "tar", sizes=SIZES)[0]
    for file in (tmp_path / "files").rglob("*.mp4"):
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(SourceError, match="has changed since it was exported; export again"):
        CuratedClips(tmp_path / "files", sizes=SIZES)[0]


def test_an_export_of_pictures_is_refused_with_what_to_read_instead(manifest: Path, tmp_path: Path) -> None:
    export(parse_export({"manifest": str(manifest), "layout": "svd", "out": str(tmp_path / "svd"), "sizes": "128x64", "max_enlarge": 2}))
    with pytest.raises(ExportError, match=r"does not hold one video file a clip .* read the manifest itself"):
        CuratedClips(tmp_path / "svd", sizes=SIZES)
