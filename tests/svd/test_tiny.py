"""The tiny model is whole, seeded and decodable: what `curate svd tiny` writes is what loaders and diffusers' pipeline read."""

import contextlib
import io
from pathlib import Path

import pytest
import torch
from svd_training import films_manifest

from curate.cli import main
from curate.errors import ConfigError
from curate.svd.checkpoint import load_model
from curate.svd.settings import load_finetune
from curate.svd.tiny import Tiny, fit_vae, load_tiny, make_tiny, means, psnr, read_pictures, signed, tiny_unet, tiny_vae

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "svd_tiny.yaml"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return films_manifest(tmp_path_factory)


@pytest.fixture(scope="module")
def pictures(manifest: Path) -> torch.Tensor:
    return read_pictures(Tiny(out="unused", data=str(manifest), num_frames=4))


@pytest.fixture(scope="module")
def made(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes."""
    out = tmp_path_factory.mktemp("tiny") / "model"
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        assert main(["svd", "tiny", str(out), f"data={manifest}", "num_frames=4", "vae_steps=8"]) == 0
    assert printed.getvalue().strip() == str(out)
    assert "VAE step 8 of 8" in said.getvalue()
    return out


def test_it_loads_as_any_checkpoint_does(made: Path) -> None:
    from diffusers import StableVideoDiffusionPipeline

    model = load_model(str(made))
    assert model.num_frames == 4
    pipeline = StableVideoDiffusionPipeline.from_pretrained(made)
    assert pipeline.vae_scale_factor == 8
    theirs = pipeline.unet.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.unet.state_dict().items())


def test_scaled_latents_of_the_clips_have_unit_deviation(made: Path, pictures: torch.Tensor) -> None:
    model = load_model(str(made), parts=("vae",))
    assert float(means(model.vae, pictures).std()) * model.scaling_factor == pytest.approx(1.0, rel=1e-4)


def test_frames_are_those_of_the_clips(pictures: torch.Tensor) -> None:
    assert pictures.dtype == torch.uint8
    assert pictures.shape[1:] == (3, 64, 64)
    assert float(pictures.float().std(dim=0).mean()) > 10  # many pictures, not one


@pytest.mark.slow
def test_the_vae_learns_to_give_pictures_back(pictures: torch.Tensor) -> None:
    small = pictures[:16, :, ::2, ::2]
    vae = tiny_vae(0)
    before = psnr(vae, small)
    losses: list[float] = []
    fit_vae(vae, small, 60, 0, lambda _, loss: losses.append(loss))
    assert len(losses) == 60
    assert psnr(vae, small) > before + 1.5
    # A grey picture is as near as a decoder gets that has learned nothing.
    grey = -10 * torch.log10(((signed(small) - signed(small).mean()) ** 2).mean() / 4)
    assert psnr(vae, small) > float(grey)


def test_the_decoder_works_frame_by_frame_after_training() -> None:
    pictures = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    vae = tiny_vae(0)
    fit_vae(vae, pictures, 3, 0)
    latents = means(vae, pictures)
    with torch.no_grad():
        together = vae.decode(latents, num_frames=4).sample
        alone = torch.cat([vae.decode(one[None], num_frames=1).sample for one in latents])
    # Group norms of temporal layers span the frames of a clip, the filters do not: so alike, not equal.
    assert float((together - alone).abs().mean()) < 0.05 * float(together.abs().mean())


def test_the_same_seed_makes_the_same_networks_and_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = (tiny_unet(4, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv_in.weight"], other["conv_in.weight"])


def test_a_folder_with_something_in_it_is_left_alone(made: Path, manifest: Path) -> None:
    with pytest.raises(ConfigError, match="is there already"):
        make_tiny(load_tiny(str(made), [f"data={manifest}", "vae_steps=1"]))


def test_a_missing_or_wrong_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="data must be given"):
        load_tiny("model")
    with pytest.raises(ConfigError, match="width"):
        load_tiny("model", ["data=manifest", "width=100"])


def test_the_configuration_trains_what_is_made_by_default() -> None:
    settings, tiny = load_finetune(CONFIG), load_tiny("model", ["data=demo/manifest"])
    assert settings.windows.num_frames == tiny.num_frames
    assert settings.windows.pixels == ((tiny.width, tiny.height),)
    assert settings.data == tiny.data
    assert (settings.mode, settings.device, settings.precision) == ("full", "cpu", "fp32")
