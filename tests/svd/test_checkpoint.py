"""SVD's weights: round trips to the last bit, every place they are looked for, and errors that name what does not fit."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from svd_builders import tiny_image_encoder, tiny_model, tiny_pipeline, tiny_unet, tiny_vae

from curate.errors import MissingWeightsError
from curate.models import WrongWeightsError

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from curate.svd import keys  # noqa: E402
from curate.svd.checkpoint import PARTS, Model, ModelFiles, find_model, load_model, save_diffusers, save_single_file  # noqa: E402

NO_FILES = ModelFiles(None, {})


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of this machine."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("svd") / "tiny")


@pytest.fixture(scope="module")
def single(folder: Path) -> Path:
    return save_single_file(folder.parent / "tiny.safetensors", load_model(str(folder)))


def config_of(part: str, network: Any) -> dict[str, Any]:
    return network.config.to_dict() if part == "image_encoder" else dict(network.config)


def same_weights(one: Model, other: Model) -> bool:
    pairs = [(getattr(one, part).state_dict(), getattr(other, part).state_dict()) for part in PARTS]
    return all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)


# ---- round trips


def test_the_encoder_without_quant_conv_gives_the_same_moments(single: Path, folder: Path) -> None:
    """ComfyUI encodes with `first_stage_model` alone."""
    vae = load_model(str(folder), parts=("vae",)).vae
    alone = tiny_vae()
    state = load_file(single)
    table, filled = keys.without_cond_vae(keys.entries("vae", alone.state_dict(), dict(alone.config)))
    weights = {name: tensor for entry in table for name, tensor in entry.from_original(state[entry.original]).items()}
    assert filled == ("quant_conv.weight", "quant_conv.bias")
    alone.load_state_dict(weights | {filled[0]: torch.eye(8)[:, :, None, None], filled[1]: torch.zeros(8)})
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        expected, found = (network.encode(pictures).latent_dist for network in (vae, alone))
        unfolded = vae.encoder(pictures)[:, :4]
    torch.testing.assert_close(found.mean, expected.mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.logvar, expected.logvar, atol=1e-6, rtol=1e-5)
    assert (unfolded - expected.mean).abs().max() > 0.01, "quant_conv does something here"


def test_a_single_file_and_back_changes_no_bit(single: Path, folder: Path) -> None:
    before, after = load_model(str(folder)), load_model(str(single))
    assert same_weights(before, after)
    for part in PARTS:
        one, other = (json.loads(json.dumps(config_of(part, getattr(model, part)))) for model in (before, after))
        told = keys.configs({name: tuple(tensor.shape) for name, tensor in load_file(single).items()}, [part])[part]
        assert {name: one[name] for name in told} == {name: other[name] for name in told}, part
    assert (after.num_frames, after.scaling_factor) == (4, 0.18215)


def test_a_single_file_saved_again_is_the_same_file(single: Path, tmp_path: Path) -> None:
    again = save_single_file(tmp_path / "again.safetensors", load_model(str(single)))
    one, other = load_file(single), load_file(again)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert again.read_bytes() == single.read_bytes()


def test_what_is_saved_generates_the_same_video_in_diffusers_own_pipeline(single: Path, folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    saved = save_diffusers(tmp_path / "saved", load_model(str(single)))
    picture = Image.radial_gradient("L").convert("RGB").resize((64, 64))
    videos = []
    for place in (folder, saved):
        pipeline = diffusers.StableVideoDiffusionPipeline.from_pretrained(place)
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(3)
        videos.append(
            pipeline(picture, height=64, width=64, num_frames=4, num_inference_steps=2, generator=generator, output_type="pt").frames
        )
    assert torch.equal(*videos)


def test_a_file_without_the_conditioners_encoder_loads_to_the_same_latents(single: Path, folder: Path, tmp_path: Path) -> None:
    """ComfyUI saves merged models so."""
    state = {name: tensor for name, tensor in load_file(single).items() if not name.startswith(keys.COND_VAE)}
    with safe_open(single, framework="pt") as file:
        save_file(state, tmp_path / "merged.safetensors", metadata=file.metadata())
    merged, whole = load_model(str(tmp_path / "merged.safetensors"), parts=("vae",)), load_model(str(folder), parts=("vae",))
    pictures = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    torch.testing.assert_close(merged.encoders.mean(pictures), whole.encoders.mean(pictures), atol=1e-6, rtol=1e-5)


def test_what_stability_publishes_besides_is_let_by(single: Path, folder: Path, tmp_path: Path) -> None:
    stem = "conditioner.embedders.0.open_clip.model."
    names = ["logit_scale", "positional_embedding", "text_projection", "token_embedding.weight", "ln_final.weight", "ln_final.bias"]
    more = {stem + name: torch.zeros(2) for name in names}
    decoder = "conditioner.embedders.3.encoder.decoder."
    more |= {f"{decoder}mid.attn_1.k.bias": torch.zeros(2), f"{keys.COND_VAE}post_quant_conv.weight": torch.zeros(2)}
    with safe_open(single, framework="pt") as file:
        save_file(load_file(single) | more, tmp_path / "published.safetensors", metadata=file.metadata())
    assert same_weights(load_model(str(tmp_path / "published.safetensors")), load_model(str(folder)))


@pytest.mark.parametrize(
    ("name", "frames"),
    [("svd.safetensors", 14), ("svd_xt.safetensors", 25), ("svd_xt_1_1.safetensors", 25), ("my_context.safetensors", 14)],
)
def test_frames_follow_the_files_name_where_it_does_not_say(single: Path, tmp_path: Path, name: str, frames: int) -> None:
    noted = {"unet": {"num_attention_heads": [2, 4]}}
    save_file(load_file(single), tmp_path / name, metadata={"svd_config": json.dumps(noted)})
    assert load_model(str(tmp_path / name), parts=("unet",)).num_frames == frames


def test_half_precision_files_load_and_the_vae_stays_in_float32(folder: Path, tmp_path: Path) -> None:
    whole = load_model(str(folder))
    pipeline = tiny_pipeline()
    pipeline.unet.half(), pipeline.vae.half(), pipeline.image_encoder.half()
    pipeline.save_pretrained(tmp_path / "half", variant="fp16")
    assert (tmp_path / "half/unet/diffusion_pytorch_model.fp16.safetensors").is_file()
    half = load_model(str(tmp_path / "half"), dtype=torch.bfloat16)
    assert (half.unet.dtype, half.vae.dtype, half.image_encoder.dtype) == (torch.bfloat16, torch.float32, torch.bfloat16)
    expected = whole.unet.conv_in.weight.half().bfloat16()
    assert torch.equal(half.unet.conv_in.weight, expected)
    small = save_single_file(tmp_path / "small.safetensors", whole, dtype=torch.float16)
    assert {tensor.dtype for tensor in load_file(small).values()} == {torch.float16}
    assert load_model(str(small)).vae.dtype == torch.float32


def test_networks_come_frozen_and_in_eval_mode(folder: Path, single: Path) -> None:
    for path in (folder, single):
        model = load_model(str(path))
        for part in PARTS:
            network = getattr(model, part)
            assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())


def test_parts_load_alone(folder: Path, single: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "unet", tmp_path / "half" / "unet")
    model = load_model(str(tmp_path / "half"), parts=("unet",))
    assert model.vae is None and model.image_encoder is None
    state = {name: tensor for name, tensor in load_file(single).items() if name.startswith(keys.UNET)}
    with safe_open(single, framework="pt") as file:
        save_file(state, tmp_path / "unet.safetensors", metadata=file.metadata())
    again = load_model(str(tmp_path / "unet.safetensors"), parts=("unet",))
    assert torch.equal(again.unet.conv_out.weight, model.unet.conv_out.weight)
    saved = save_diffusers(tmp_path / "saved", again)
    assert {entry.name for entry in saved.iterdir()} == {"unet"}


def test_the_digest_follows_the_weights(folder: Path, single: Path, tmp_path: Path) -> None:
    digest = load_model(str(single)).weights_sha256
    assert digest == hashlib.sha256(single.read_bytes()).hexdigest()
    other = tiny_model(tmp_path / "other", seed=50)
    digests = {find_digest(path) for path in (folder, other)}
    assert len(digests) == 2 and find_digest(folder) in digests


def find_digest(path: Path) -> str:
    return load_model(str(path)).weights_sha256


# ---- files that do not fit


def test_missing_weights_are_named_with_where_and_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError) as error:
        load_model("example/svd-of-nobody", search=(tmp_path / "weights",))
    text = str(error.value)
    for part in PARTS:
        assert f"weights/example/svd-of-nobody/{part}/config.json" in text
    assert "agree to the licence at https://huggingface.co/example/svd-of-nobody" in text
    assert "--include 'unet/*'" in text
    with pytest.raises(MissingWeightsError, match=r"(?s)svd_xt.safetensors was not found.*weights/svd_xt.safetensors"):
        load_model("svd_xt.safetensors", search=(tmp_path / "weights",))


def test_a_weights_folder_is_searched_for_ids_and_files(folder: Path, single: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "weights" / "someone" / "tiny-svd")
    shutil.copy(single, tmp_path / "weights" / "mine.safetensors")
    for name in ("someone/tiny-svd", "mine.safetensors"):
        assert same_weights(load_model(name, search=(tmp_path / "weights",)), load_model(str(folder)))


def test_the_hubs_cache_is_searched_for_ids(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = tmp_path / "hub" / "models--someone--tiny-svd"
    shutil.copytree(folder, cached / "snapshots" / "c0ffee")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("c0ffee")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert same_weights(load_model("someone/tiny-svd"), load_model(str(folder)))


def test_a_folder_that_only_has_the_single_file_says_so(single: Path, tmp_path: Path) -> None:
    shutil.copy(single, tmp_path / "svd_xt.safetensors")
    with pytest.raises(MissingWeightsError, match=r"The folder holds svd_xt.safetensors: to load one of these, give its path"):
        find_model(str(tmp_path))


@pytest.mark.parametrize("layout", ["folder", "single"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("lacks", r"lacks \S*(conv_out|out\.2)\.bias \(4,\)"),
        ("has more", r"has tensors that no part takes: \S*surplus\.weight \(3, 3\)"),
        ("other shape", r"has another shape for \S*(conv_out|out\.2)\.bias \(5,\), expected \(4,\)"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name_and_shape(
    folder: Path, single: Path, tmp_path: Path, layout: str, fault: str, message: str
) -> None:
    if layout == "folder":
        shutil.copytree(folder, tmp_path / "bad")
        model, path, prefix, bias = tmp_path / "bad", tmp_path / "bad/unet/diffusion_pytorch_model.safetensors", "", "conv_out.bias"
    else:
        model = path = Path(shutil.copy(single, tmp_path / "bad.safetensors"))
        prefix, bias = keys.UNET, f"{keys.UNET}out.2.bias"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    state = load_file(path)
    if fault == "lacks":
        del state[bias]
    elif fault == "has more":
        state[f"{prefix}surplus.weight"] = torch.zeros(3, 3)
    else:
        state[bias] = torch.zeros(5)
    save_file(state, path, metadata=metadata)
    with pytest.raises(WrongWeightsError, match=message):
        load_model(str(model))


def test_a_tensor_that_the_size_is_read_from_is_named_when_it_is_missing(single: Path, tmp_path: Path) -> None:
    state = load_file(single)
    del state[f"{keys.UNET}label_emb.0.0.weight"]
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(WrongWeightsError, match=r"lacks '\S*label_emb.0.0.weight'"):
        load_model(str(tmp_path / "bad.safetensors"))


def test_other_files_are_told_apart(folder: Path, single: Path, tmp_path: Path) -> None:
    text = tmp_path / "svd.safetensors"
    text.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9559\n")
    with pytest.raises(WrongWeightsError, match=r"no whole .safetensors file \(\d+ bytes\)"):
        load_model(str(text))
    text.write_bytes(single.read_bytes()[:-1000])
    with pytest.raises(WrongWeightsError, match=r"no whole .safetensors file"):
        load_model(str(text))
    with pytest.raises(WrongWeightsError, match=r"has no vae: no tensor's name starts with first_stage_model"):
        load_model(str(folder / "unet/diffusion_pytorch_model.safetensors"), parts=("vae",))
    (tmp_path / "svd.ckpt").write_bytes(b"x")
    with pytest.raises(WrongWeightsError, match=r"is no \.safetensors file"):
        load_model(str(tmp_path / "svd.ckpt"))
    with pytest.raises(ValueError, match=r"parts=\['text_encoder'\]"):
        load_model(str(folder), parts=("text_encoder",))


def test_an_original_file_of_unknown_heads_says_what_does_not_divide(single: Path, tmp_path: Path) -> None:
    """Without its note the tiny file is taken for one of Stability's; 64 channels a head still make a network of the same shapes."""
    save_file(load_file(single), tmp_path / "bare.safetensors")
    assert list(load_model(str(tmp_path / "bare.safetensors"), parts=("unet",)).unet.config.num_attention_heads) == [1, 1]


# ---- saving


def test_saving_leaves_nothing_half_done(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    model = load_model(str(folder))
    target = save_single_file(tmp_path / "model.safetensors", model)
    before = target.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_single_file(target, model)
    assert target.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "home"] == ["model.safetensors"]


def test_a_folder_with_something_in_it_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="is not empty"):
        save_diffusers(tmp_path / "mine", load_model(str(folder), parts=("unet",)))


def test_a_single_file_needs_every_part(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without vae, image_encoder"):
        save_single_file(tmp_path / "model.safetensors", load_model(str(folder), parts=("unet",)))
    own = Model(tiny_unet(), tiny_vae(), tiny_image_encoder(), "own", NO_FILES)
    assert same_weights(load_model(str(save_single_file(tmp_path / "own.safetensors", own))), own)
