"""SVD's encoders: the same numbers as diffusers' pipeline with its own classes, and weights that are found, or named when they are not."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.errors import MissingWeightsError
from curate.models import Models, WrongWeightsError, load_model, locate, resolve
from curate.models.svd import clip_input, encoder_weights, image_spec, scaling_factor, vae_spec

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

RNG = np.random.default_rng(5)
PICTURES = [RNG.integers(0, 256, (64, 128, 3), dtype=np.uint8) for _ in range(3)]


def save_tiny_svd(folder: Path) -> Path:
    """Both encoders with random but fixed weights, in the layout of diffusers: an eighth of the side, 32 numbers an embedding."""
    torch.manual_seed(11)
    vae = diffusers.AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=(32,) * 4, layers_per_block=1, latent_channels=4
    )
    config = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, image_size=224, patch_size=32, projection_dim=32
    )
    vae.save_pretrained(folder / "vae")
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
    return folder


@pytest.fixture(scope="module")
def tiny_svd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_svd(tmp_path_factory.mktemp("tiny_svd"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of this machine."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def pipeline(tiny_svd: Path) -> Any:
    """The real pipeline around the two encoders; its UNet and scheduler are never asked."""
    return diffusers.StableVideoDiffusionPipeline(
        vae=diffusers.AutoencoderKLTemporalDecoder.from_pretrained(tiny_svd / "vae").eval(),
        image_encoder=transformers.CLIPVisionModelWithProjection.from_pretrained(tiny_svd / "image_encoder").eval(),
        unet=None,
        scheduler=diffusers.EulerDiscreteScheduler(),
        feature_extractor=transformers.CLIPImageProcessor(),
    )


def forwards(folder: Path, chunk: int = 7) -> tuple[Any, Any]:
    wanted = encoder_weights(str(folder))
    vae_config, vae, image_config, image = (locate(weight) for weight in wanted)
    return load_model(vae_spec(vae_config, vae, chunk)), load_model(image_spec(image_config, image))


def pil(picture: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(picture)


@pytest.mark.parametrize(("height", "width"), [(320, 576), (576, 320), (128, 192), (224, 224), (576, 1024)])
def test_the_image_encoder_sees_what_the_pipeline_shows_it(pipeline: Any, tiny_svd: Path, height: int, width: int) -> None:
    picture = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = pipeline._encode_image(pil(picture), "cpu", 1, do_classifier_free_guidance=False)
    found = forwards(tiny_svd)[1]([picture])
    # Float32 sums in another order; the embeddings are of the order of 1.
    np.testing.assert_allclose(found, expected[:, 0].numpy(), atol=2e-5)


def test_latents_are_the_mean_that_the_pipeline_conditions_on_and_are_not_scaled(pipeline: Any, tiny_svd: Path) -> None:
    noise = RNG.standard_normal((64, 128, 3), np.float32)
    image = pipeline.video_processor.preprocess(pil(PICTURES[0]), height=64, width=128)
    with torch.no_grad():
        clean = pipeline._encode_vae_image(image, "cpu", 1, do_classifier_free_guidance=False)
        noisy = pipeline._encode_vae_image(
            image + 0.05 * torch.from_numpy(noise.transpose(2, 0, 1)), "cpu", 1, do_classifier_free_guidance=False
        )
    vae, _ = forwards(tiny_svd)
    signed = PICTURES[0].astype(np.float32) / 255 * 2 - 1 + 0.05 * noise
    np.testing.assert_allclose(vae([PICTURES[0]]), clean.numpy(), atol=1e-5)
    np.testing.assert_allclose(vae([signed]), noisy.numpy(), atol=1e-5)
    assert vae(PICTURES).shape == (3, 4, 8, 16)
    assert np.abs(clean.numpy() - noisy.numpy()).max() > 1e-3


def test_the_size_of_chunks_changes_no_latent_beyond_rounding(tiny_svd: Path) -> None:
    one, many = forwards(tiny_svd, 1)[0](PICTURES), forwards(tiny_svd, 7)[0](PICTURES)
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_a_constant_picture_stays_constant_up_to_clips_normalisation() -> None:
    picture = torch.full((1, 3, 100, 333), 0.2)
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    found = clip_input(picture, 224).numpy()[0]
    np.testing.assert_allclose(found, np.broadcast_to(((0.6 - mean) / std)[:, None, None], found.shape), atol=1e-5)


def test_a_model_is_found_below_a_weights_folder_by_its_hub_id(tiny_svd: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_svd, tmp_path / "weights" / "someone" / "tiny-svd")
    wanted = encoder_weights("someone/tiny-svd")
    found = [locate(weight, (tmp_path / "weights",)) for weight in wanted]
    names = ("vae/config.json", "vae/diffusion_pytorch_model.safetensors", "image_encoder/config.json", "image_encoder/model.safetensors")
    assert found == [tmp_path / "weights" / "someone" / "tiny-svd" / name for name in names]
    assert scaling_factor(found[0]) == pytest.approx(0.18215)


def test_a_model_is_found_in_the_hubs_cache(tiny_svd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--tiny-svd"
    shutil.copytree(tiny_svd, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    paths = [weight.origin.find()[0] for weight in encoder_weights("someone/tiny-svd") if weight.origin is not None]
    assert len(paths) == 4 and all(path is not None and "abc" in path.parts for path in paths)


def test_files_in_half_precision_are_taken_and_give_nearly_the_same(tiny_svd: Path, tmp_path: Path) -> None:
    for name, kind in (("vae", diffusers.AutoencoderKLTemporalDecoder), ("image_encoder", transformers.CLIPVisionModelWithProjection)):
        kind.from_pretrained(tiny_svd / name).half().save_pretrained(tmp_path / name, variant="fp16")
    assert [locate(weight).suffixes for weight in encoder_weights(str(tmp_path))] == [[".json"], [".fp16", ".safetensors"]] * 2
    for half, full in zip(forwards(tmp_path), forwards(tiny_svd), strict=True):
        np.testing.assert_allclose(half(PICTURES), full(PICTURES), atol=5e-3)


def test_missing_weights_are_named_with_places_and_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    class Wants:
        def weights(self) -> tuple[Any, ...]:
            return tuple(encoder_weights("someone/tiny-svd"))

    with pytest.raises(MissingWeightsError) as caught:
        resolve({"latents": Wants()}, (tmp_path / "models",))
    message = str(caught.value)
    for part in (str(tmp_path / "models" / "someone/tiny-svd/vae/config.json"), "hf download someone/tiny-svd", "agree to the licence"):
        assert part in message
    with pytest.raises(MissingWeightsError, match="no/such/folder/vae"):
        locate(encoder_weights("/no/such/folder").vae)
    with pytest.raises(MissingWeightsError, match="not resolved"):
        Models().path(encoder_weights("someone/tiny-svd").vae)


def test_weights_that_do_not_fit_are_refused_and_never_filled_with_random_numbers(tiny_svd: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "short"
    shutil.copytree(tiny_svd, folder)
    for name, file, key in (
        ("vae", "diffusion_pytorch_model.safetensors", "encoder.conv_in.weight"),
        ("image_encoder", "model.safetensors", "visual_projection.weight"),
    ):
        path = folder / name / file
        state = load_file(path)
        taken = state.pop(key)
        save_file(state, path, metadata={"format": "pt"})
        with pytest.raises(WrongWeightsError, match=key):
            forwards(folder)
        save_file({**state, key: taken[:1].clone()}, path, metadata={"format": "pt"})
        with pytest.raises(WrongWeightsError, match="does not fit"):
            forwards(folder)
        save_file({**state, key: taken, "stray.weight": taken.clone()}, path, metadata={"format": "pt"})
        with pytest.raises(WrongWeightsError, match=r"stray\.weight"):
            forwards(folder)
        save_file({**state, key: taken, "vision_model.embeddings.position_ids": torch.arange(50)}, path, metadata={"format": "pt"})
        if name == "image_encoder":
            forwards(folder)
        shutil.copy(tiny_svd / name / file, path)
    (folder / "vae" / "config.json").write_text("{}")
    with pytest.raises(WrongWeightsError, match="no configuration of a VAE"):
        scaling_factor(folder / "vae" / "config.json")
    assert json.loads((tiny_svd / "vae" / "config.json").read_text())["force_upcast"] is True
