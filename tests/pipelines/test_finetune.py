"""The whole job on tiny real models: from a manifest or an export to weights that load, in stages, and on from where it stopped."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from svd_builders import tiny_model
from svd_training import DEFAULTS, films_manifest

from curate.dataset import CuratedClips, Draw
from curate.errors import ConfigError, ExportError, MissingWeightsError
from curate.export.config import parse_export
from curate.motion_bucket import MotionBuckets
from curate.pipelines.export import export
from curate.pipelines.finetune import FinetuneResult, finetune
from curate.pipelines.finetune_data import read_data
from curate.svd.checkpoint import load_model
from curate.svd.data import encode
from curate.svd.log import read_rows
from curate.svd.lora import load_lora
from curate.svd.settings import Finetune, parse_finetune
from curate.svd.state import checkpoints

VALIDATION = {"fraction": 0.4, "every": 2, "max_clips": 2, "sigmas": 2}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return films_manifest(tmp_path_factory)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def settings(model: Path, manifest: Path, out: Path, **more: Any) -> Finetune:
    content = {**DEFAULTS, "model": str(model), "data": str(manifest), "out": str(out), "batch_size": 1, "validation": VALIDATION}
    for key, value in more.items():
        content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
    return parse_finetune(content)


@pytest.fixture(scope="module")
def trained(model: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finetune, FinetuneResult]:
    """A full fine-tune of four steps."""
    given = settings(model, manifest, tmp_path_factory.mktemp("trained") / "out", samples={"every": 4, "count": 1, "steps": 2})
    return given, finetune(given)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_model(str(folder), parts=("unet",)).unet.state_dict()
    return state


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_finetune_leaves_weights_that_load_and_differ(trained: tuple[Finetune, FinetuneResult], model: Path) -> None:
    given, result = trained
    out = Path(given.out)
    assert result.weights == out / "model" and result.steps == 4
    averaged, last, base = weights_of(out / "model"), weights_of(out / "model_last"), weights_of(model)
    assert not same(averaged, base) and not same(averaged, last)
    moved = [sum(float((a[name] - base[name]).abs().sum()) for name in base) for a in (averaged, last)]
    assert 0 < moved[0] < moved[1], "an average of the way lies between the beginning and the end"
    assert MotionBuckets.load(out / "model" / "motion_buckets.json").sha256 == MotionBuckets.load(out / "motion_buckets.json").sha256
    assert [row["step"] for row in read_rows(out / "train.csv")] == ["1", "2", "3", "4"]
    assert [row["step"] for row in read_rows(out / "validation.csv")] == ["0", "2", "4"]
    assert result.first_validation != result.last_validation
    assert [path.name for path in checkpoints(out / "checkpoints")] == ["step-00000004"]
    assert len(list((out / "samples" / "step-00000004").glob("*.mp4"))) == 1


def test_the_whole_output_folder_loads_in_diffusers(trained: tuple[Finetune, FinetuneResult]) -> None:
    from diffusers import StableVideoDiffusionPipeline

    pipeline = StableVideoDiffusionPipeline.from_pretrained(trained[1].weights)
    assert same(pipeline.unet.state_dict(), weights_of(trained[1].weights))


def test_a_finished_finetune_is_left_as_it_is_and_a_longer_one_goes_on(trained: tuple[Finetune, FinetuneResult]) -> None:
    given, result = trained
    before, stamp = weights_of(result.weights), (result.weights / "unet" / "config.json").stat().st_mtime_ns
    assert finetune(given).last_validation == result.last_validation
    assert (result.weights / "unet" / "config.json").stat().st_mtime_ns == stamp
    finetune(given.model_copy(update={"steps": 5}))
    assert [row["step"] for row in read_rows(Path(given.out) / "train.csv")] == ["1", "2", "3", "4", "5"]
    assert not same(weights_of(result.weights), before)
    assert not [path for path in Path(given.out).iterdir() if path.name.startswith(".curate-aside")]
    with pytest.raises(ConfigError, match="steps=3, but 5 are done"):
        finetune(given.model_copy(update={"steps": 3}))


def test_a_run_goes_on_only_with_the_same_settings_and_the_same_files(trained: tuple[Finetune, FinetuneResult], tmp_path: Path) -> None:
    given = trained[0]
    with pytest.raises(ConfigError, match=r"other settings \(batch_size: 1 -> 2; optimizer.lr: 0.001 -> 0.01\)"):
        finetune(given.model_copy(update={"batch_size": 2, "optimizer": given.optimizer.model_copy(update={"lr": 0.01})}))
    header = json.loads((Path(given.out) / "finetune.json").read_bytes())
    (tmp_path / "finetune.json").write_text(json.dumps({**header, "data": "0"}))
    with pytest.raises(ConfigError, match="other clips or files in data"):
        finetune(given.model_copy(update={"out": str(tmp_path)}))
    (tmp_path / "finetune.json").rename(tmp_path / "notes.txt")
    with pytest.raises(ConfigError, match=r"not empty and holds no fine-tune \(notes.txt\)"):
        finetune(given.model_copy(update={"out": str(tmp_path)}))


def test_a_lora_is_trained_saved_and_changes_the_model_that_loads_it(model: Path, manifest: Path, tmp_path: Path) -> None:
    # bf16 as on a GPU: adapters and their gradients in float32 beside a base in bfloat16.
    given = settings(
        model, manifest, tmp_path / "out", mode="lora", precision="bf16", gradient_checkpointing=True, steps=2, lora={"rank": 2}
    )
    result = finetune(given)
    assert result.weights.name == "lora.safetensors" and result.weights.stat().st_size < 1e6
    assert [float(row["grad_norm"]) > 0 for row in read_rows(tmp_path / "out" / "train.csv")] == [True, True]
    unet = load_model(str(model), parts=("unet",)).unet
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(1, 4, 8, 8, 8, generator=generator), torch.tensor([0.3]), torch.randn(1, 1, 32, generator=generator)]
    with torch.no_grad():
        before = unet(*inputs, added_time_ids=torch.tensor([[6.0, 127.0, 0.02]]))[0]
        info = load_lora(unet, result.weights)
        after = unet(*inputs, added_time_ids=torch.tensor([[6.0, 127.0, 0.02]]))[0]
    assert info.rank == 2 and not torch.equal(before, after)


def test_stages_chain_by_weights_and_motion_buckets(
    trained: tuple[Finetune, FinetuneResult], model: Path, manifest: Path, tmp_path: Path
) -> None:
    first = Path(trained[0].out)
    rule = {"column": "source_key", "in": ["street.mp4"]}
    more = {"validation": {"fraction": 0}, "windows": {"sizes": ["128x64"], "select": {"best": rule}}, "steps": 1}
    optimizer = {"lr": 1e-12, "ema": None, "weight_decay": 0}
    finetune(settings(model, manifest, tmp_path / "next", init=str(first), optimizer=optimizer, **more))
    earlier, now, base = weights_of(first / "model"), weights_of(tmp_path / "next" / "model"), weights_of(model)
    gap = max(float((earlier[name] - now[name]).abs().max()) for name in now)
    assert gap < 1e-9 < 1e-5 < max(float((base[name] - now[name]).abs().max()) for name in now), "it began with the earlier weights"
    buckets = [MotionBuckets.load(folder / "motion_buckets.json").sha256 for folder in (first, tmp_path / "next")]
    assert buckets[0] == buckets[1]
    assert not (tmp_path / "next" / "model_last").exists()
    with pytest.raises(ConfigError, match="is no output of `curate svd finetune`"):
        finetune(settings(model, manifest, tmp_path / "other", init=str(tmp_path), **more))


def test_sources_that_are_held_out_are_not_trained_on(model: Path, manifest: Path, tmp_path: Path) -> None:
    data = read_data(settings(model, manifest, tmp_path), None, "vae")
    assert data.validation is not None
    assert {data.train.clips[i]["source_key"] for i in range(len(data.train))} == {"street.mp4"}
    assert {data.validation.clips[i]["source_key"] for i in range(len(data.validation))} == {"meadow.mp4"}
    assert data.train.clips.motion_buckets == data.validation.clips.motion_buckets, "one map, fitted to the training clips"


def test_what_cannot_work_is_said_before_weights_are_loaded(model: Path, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="nowhere"):
        finetune(settings(tmp_path / "nowhere", manifest, tmp_path / "out"))
    with pytest.raises(ConfigError, match=r"validation.fraction=0.1 holds out no clip: .* 1 of 3 clips"):
        finetune(settings(model, manifest, tmp_path / "out", validation={"fraction": 0.1}))
    with pytest.raises(ExportError, match=r"none of \d clips gives a window.*too short"):
        finetune(settings(model, manifest, tmp_path / "out", windows={"num_frames": 100}))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="there is no CUDA device here; set device=cpu"):
            finetune(settings(model, manifest, tmp_path / "out", device="cuda"))


@pytest.fixture(scope="module")
def encoded(model: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of layout latents with a validation split."""
    out = tmp_path_factory.mktemp("encoded") / "latents"
    content = {
        "manifest": str(manifest),
        "layout": "latents",
        "out": str(out),
        "model": str(model),
        "sizes": ["64x64"],
        "num_frames": 4,
        "windows": "all",
    }
    result = export(parse_export({**content, "noise_levels": 1, "val_fraction": 0.4}))
    assert not result.failures
    return out


def test_an_export_of_latents_trains_as_the_clips_themselves_do(model: Path, manifest: Path, encoded: Path, tmp_path: Path) -> None:
    result = finetune(settings(model, encoded, tmp_path / "out", steps=2))
    assert "held out" in result.notes[0] and len(read_rows(tmp_path / "out" / "train.csv")) == 2
    data = read_data(settings(model, encoded, tmp_path / "other"), None, "vae")
    both, source = load_model(str(model)).encoders, data.train.clips
    stored = encode([data.train[Draw(i, 0, 0)] for i in range(len(data.train))], both, None, "cpu")
    clips = CuratedClips(manifest, num_frames=4, sizes=((64, 64),), windows="all", motion_buckets=source.motion_buckets)
    films = {(item["clip_id"], int(item["times_ns"][0])): item for item in (clips[i] for i in range(len(clips)))}
    for i, key in enumerate(zip(stored.clip_ids, stored.start_ns_B, strict=True)):
        direct = encode([films[key]], both, None, "cpu")
        torch.testing.assert_close(stored.latents_BTCHW[i], direct.latents_BTCHW[0], rtol=2e-3, atol=1e-4)  # float16 keeps 3 digits
        assert torch.equal(stored.first_BCHW[i], direct.first_BCHW[0])
        assert (stored.fps_B[i], stored.motion_bucket_B[i]) == (direct.fps_B[0], direct.motion_bucket_B[0])


def test_latents_of_another_vae_are_refused(encoded: Path, tmp_path: Path) -> None:
    other = tiny_model(tmp_path / "other", seed=5)
    with pytest.raises(ConfigError, match="latents of another VAE"):
        finetune(settings(other, encoded, tmp_path / "out"))
    with pytest.raises(ConfigError, match=r"holds windows of \[4\] frames"):
        finetune(settings(other, encoded, tmp_path / "out2", windows={"num_frames": 5}))
