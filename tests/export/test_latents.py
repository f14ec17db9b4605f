"""Layout `latents`: what a trainer reads is what the encoders give for the very frames, and never anything else."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.errors import CurateError, MissingWeightsError
from curate.export import Finished
from curate.export.config import parse_export
from curate.export.folder import OutFolder
from curate.export.latents import Layout, encoded, noised
from curate.models import load_model, locate
from curate.models.svd import encoder_weights, image_spec, vae_spec
from curate.pipelines.export import ExportResult, export

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors")

SETTINGS = {"layout": "latents", "engine": "local", "num_frames": 5, "fps": 6.25, "sizes": ["128x64"], "windows": "all", "noise_levels": 3}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both encoders with random but fixed weights, in the layout of diffusers."""
    folder = tmp_path_factory.mktemp("tiny_svd")
    torch.manual_seed(2)
    diffusers.AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=(32,) * 4, layers_per_block=1, latent_channels=4
    ).save_pretrained(folder / "vae")
    config = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, image_size=224, patch_size=32, projection_dim=32
    )
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
    return folder


def run(manifest: Path, model: Path, out: Path, **more: object) -> ExportResult:
    return export(parse_export({**SETTINGS, "manifest": str(manifest), "model": str(model), "out": str(out), **more}))


@pytest.fixture(scope="module")
def made(manifest: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of every window. Read only."""
    out = tmp_path_factory.mktemp("latents") / "set"
    result = run(manifest, model, out)
    assert result.num_samples >= 3 and not result.failed
    return out


def lines(out: Path, split: str = "train") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / f"{split}.jsonl").read_text().splitlines()]


def opened(out: Path, row: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    with safetensors.safe_open(out / row["file"], "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def hashes(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "export.json" not in path.name
    }


def test_a_plain_dataset_reads_latents_embedding_and_conditioning(made: Path) -> None:
    class Windows(torch.utils.data.Dataset):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.rows = lines(made)

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, i: int) -> dict[str, Any]:
            tensors, metadata = opened(made, self.rows[i])
            return {**tensors, "time_ids": torch.tensor([float(metadata["fps_id"]), float(metadata["motion_bucket_id"])])}

    batch = next(iter(torch.utils.data.DataLoader(Windows(), batch_size=3)))
    assert batch["latents"].shape == (3, 5, 4, 8, 16) and batch["latents"].dtype == torch.float16
    assert batch["cond_latents"].shape == (3, 3, 4, 8, 16) and batch["noise_aug_strength"].shape == (3, 3)
    assert batch["clip_embedding"].shape == (3, 1, 32) and batch["cond_image"].shape == (3, 3, 64, 128)


def test_latents_are_those_of_the_real_vae_for_the_frames_of_the_source(made: Path, model: Path, manifest: Path) -> None:
    from curate.export.svd import Layout as Frames
    from curate.export.windowed import WindowReader
    from curate.kept import read_kept

    kept = read_kept(manifest)
    layout = Frames.model_validate({"num_frames": 5, "fps": 6.25, "sizes": ("128x64",), "windows": "all"}).prepare(kept)
    plans = [layout.plan(clip) for clip in kept]
    samples = {sample.sample_id: sample for plan in plans if not isinstance(plan, str) for sample in plan}
    vae = diffusers.AutoencoderKLTemporalDecoder.from_pretrained(model / "vae").eval()
    for row in lines(made)[:3]:
        frames = WindowReader(layout.map, layout.scorer).read(samples[row["sample_id"]]).frames_THWC
        tensors, metadata = opened(made, row)
        with torch.no_grad():
            expected = vae.encode(torch.from_numpy(frames.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)).latent_dist.mode()
        # Half precision keeps 11 bits.
        torch.testing.assert_close(tensors["latents"].float(), expected, atol=1e-4, rtol=1e-3)
        assert np.array_equal(tensors["cond_image"].numpy(), frames[0].transpose(2, 0, 1))
        assert float(metadata["scaling_factor"]) == vae.config.scaling_factor


def test_conditioning_latents_are_of_the_first_frame_noised_in_pixel_space(made: Path, model: Path) -> None:
    wanted = [locate(weight) for weight in encoder_weights(str(model))]
    vae, image = load_model(vae_spec(wanted[0], wanted[1])), load_model(image_spec(wanted[2], wanted[3]))
    for row in lines(made)[:2]:
        tensors, _ = opened(made, row)
        first = tensors["cond_image"].numpy().transpose(1, 2, 0)
        strengths, pictures = noised(first, 3, 0, row["sample_id"])
        assert np.array_equal(strengths, tensors["noise_aug_strength"].numpy()) and row["noise_aug_strength"] == strengths.tolist()
        np.testing.assert_allclose(tensors["cond_latents"].float(), vae(list(pictures)), atol=1e-4, rtol=1e-3)
        np.testing.assert_allclose(tensors["clip_embedding"], image([first]), atol=1e-6)
        for k, strength in enumerate(strengths):
            residual = pictures[k] - (first.astype(np.float32) / 255 * 2 - 1)
            # 24,576 draws: their deviation is within 2 % with near certainty.
            assert residual.std() == pytest.approx(strength, rel=0.02)
            assert abs(residual.mean()) < 0.05 * strength


def test_strengths_follow_the_papers_distribution_and_each_sample_has_its_own() -> None:
    black = np.zeros((2, 2, 3), np.uint8)
    drawn = np.log([noised(black, 4, 0, f"{i:016x}-000")[0] for i in range(500)])
    # 2000 draws: standard errors 0.011 and 0.008.
    assert drawn.mean() == pytest.approx(-3.0, abs=0.05) and drawn.std() == pytest.approx(0.5, abs=0.04)
    one, again, other = (noised(black, 4, seed, "a-000")[1] for seed in (0, 0, 1))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert not np.array_equal(one, noised(black, 4, 0, "b-000")[1])


def test_metadata_index_and_lines_say_the_same(made: Path) -> None:
    import pyarrow.parquet as pq

    index = {row["sample_id"]: row for name in sorted((made / "index").glob("*.parquet")) for row in pq.read_table(name).to_pylist()}
    buckets = json.loads((made / "motion_buckets.json").read_text())
    assert len(lines(made)) == len(index)
    for row in lines(made):
        metadata, listed = opened(made, row)[1], index[row["sample_id"]]
        for name in ("fps_id", "motion_bucket_id", "stride", "start_ns", "width", "height"):
            assert int(metadata[name]) == row[name], name
        assert float(metadata["fps"]) == row["fps"] == listed["window_fps"]
        assert float(metadata["motion_score"]) == row["motion_score"] == listed["motion_score"]
        assert metadata["motion_buckets_sha256"] == buckets["sha256"]
        assert listed["file_bytes"] == (made / row["file"]).stat().st_size
        assert row["fps_id"] == round(row["fps"]) - 1


def test_an_export_again_elsewhere_gives_the_same_bytes(made: Path, manifest: Path, model: Path, tmp_path: Path) -> None:
    run(manifest, model, tmp_path / "again")
    first, second = hashes(made), hashes(tmp_path / "again")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_metadata_is_sorted_in_every_process() -> None:
    code = (
        "import torch, hashlib; from curate.export.latents import encoded\n"
        "print(hashlib.sha256(encoded({'a': torch.ones(3)}, {k: k for k in 'qwertyuiop'})).hexdigest())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert elsewhere == hashlib.sha256(encoded({"a": torch.ones(3)}, {k: k for k in "qwertyuiop"})).hexdigest()
    from safetensors.torch import load

    for size in range(8):
        assert (8 + int.from_bytes(encoded({"a": torch.ones(3)}, {"k": "x" * size})[:8], "little")) % 8 == 0, "tensors are not aligned"
    data = encoded({"a": torch.ones(3), "b": torch.zeros(2, dtype=torch.bfloat16)}, {"z": "caf\u00e9 \u2603", "a": 'qu"ote'})
    assert torch.equal(load(data)["a"], torch.ones(3)) and load(data)["b"].dtype == torch.bfloat16


def test_an_export_that_was_interrupted_goes_on_and_drops_what_nothing_lists(
    made: Path, manifest: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    run(manifest, model, out, shard_clips=1)
    before = hashes(out)
    marks = sorted((out / ".curate-export" / "done").iterdir())
    assert len(marks) > 1
    marks[0].unlink()
    shard = out / "train" / marks[0].stem.rpartition("-")[2]
    stray = shard / f"{'0' * 16}-000.safetensors"
    stray.write_bytes(b"left by a worker that died")
    (shard / "mine.txt").write_text("a user's own note")
    run(manifest, model, out, shard_clips=1)
    after = hashes(out)
    assert after.pop(f"train/{shard.name}/mine.txt") == b"a user's own note"
    assert after == before


def test_missing_weights_stop_the_export_before_anything_is_written(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"vae/config\.json"):
        run(manifest, tmp_path / "nothing-here", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_latents_beyond_the_range_of_the_stored_precision_are_refused(manifest: Path, model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    loud = tmp_path / "loud"
    shutil.copytree(model, loud)
    path = loud / "vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state["quant_conv.bias"] += 1e6
    save_file(state, path, metadata={"format": "pt"})
    result = run(manifest, loud, tmp_path / "half")
    assert result.num_samples == 0 and result.failed
    assert all("not finite as float16; use dtype=float32" in message for message in result.failed.values())
    assert run(manifest, loud, tmp_path / "full", dtype="float32").num_samples >= 3


def test_rows_made_with_another_map_are_not_listed(made: Path, manifest: Path, model: Path) -> None:
    import pyarrow.parquet as pq

    from curate.kept import read_kept

    index = pa.concat_tables([pq.read_table(path) for path in sorted((made / "index").glob("*.parquet"))])
    layout = Layout.model_validate({"model": str(model)}).prepare(read_kept(manifest)[:1])
    with pytest.raises(CurateError, match="other motion buckets"):
        layout.finish(OutFolder(str(made)), Finished(index, {}))
