"""CLIP towers against open_clip itself, on a tiny model of the real layout."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from curate.errors import ConfigError
from curate.models import WrongWeightsError
from curate.models.clip import embed_dim, image_forward, image_spec, tag_settings, text_forward, text_spec

CAPTION = "a dog runs over a wet beach"


def tiny(folder: Path) -> tuple[str, Path]:
    return f"local-dir:{folder}", folder / "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Smooth random pictures of several sizes and shapes, uint8 RGB."""
    rng = np.random.default_rng(5)
    sizes = [(64, 64), (90, 160), (161, 97), (120, 120), (64, 300), (33, 47)]
    return [
        np.asarray(Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC))
        for height, width in sizes
    ]


def reference(folder: Path) -> torch.nn.Module:
    return open_clip.create_model(f"local-dir:{folder}").eval()


def prepared(picture: np.ndarray, size: int = 64) -> torch.Tensor:
    """The published CLIP preprocessing written out: short side to `size` by bicubic with antialias, centre crop, mean and deviation."""
    height, width = picture.shape[:2]
    scale = size / min(height, width)
    wide, high = (size, int(height * scale)) if width <= height else (int(width * scale), size)
    resized = np.asarray(Image.fromarray(picture).resize((wide, high), Image.Resampling.BICUBIC))
    top, left = round((high - size) / 2), round((wide - size) / 2)
    crop = resized[top : top + size, left : left + size].astype(np.float32) / 255
    crop = (crop - np.array([0.48145466, 0.4578275, 0.40821073], np.float32)) / np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
    return torch.from_numpy(crop.transpose(2, 0, 1))


def test_image_embeddings_are_open_clips_on_pictures_prepared_by_hand(tiny_clip: Path, pictures: list[np.ndarray]) -> None:
    forward = image_forward(image_spec(tiny(tiny_clip)[0], "", tiny(tiny_clip)[1]))
    with torch.no_grad():
        expected = reference(tiny_clip).encode_image(torch.stack([prepared(picture) for picture in pictures]), normalize=True).numpy()
    found = forward(pictures)
    assert found.dtype == np.float32 and found.shape == (len(pictures), 32)
    np.testing.assert_allclose(found, expected, atol=2e-6)  # float32 sums in another order
    assert forward([]).shape == (0, 32)


def test_a_pictures_embedding_is_the_same_bytes_in_every_batch_and_place(tiny_clip: Path, pictures: list[np.ndarray]) -> None:
    model, path = tiny(tiny_clip)
    alone = np.concatenate([image_forward(image_spec(model, "", path))([picture]) for picture in pictures])
    order = [4, 0, 5, 2, 1, 3]
    shuffled = image_forward(image_spec(model, "", path))([pictures[i] for i in order] * 4)
    for place, i in enumerate(order * 4):
        assert shuffled[place].tobytes() == alone[i].tobytes()


def test_pictures_of_equal_bytes_and_other_shape_are_not_confused(tiny_clip: Path) -> None:
    model, path = tiny(tiny_clip)
    ramp = np.arange(40 * 80 * 3, dtype=np.uint32).astype(np.uint8)
    wide, high = ramp.reshape(40, 80, 3), ramp.reshape(80, 40, 3)
    forward = image_forward(image_spec(model, "", path))
    assert not np.array_equal(*forward([wide, high]))


def test_caption_embeddings_are_open_clips(tiny_clip: Path) -> None:
    model, path = tiny(tiny_clip)
    forward = text_forward(text_spec(model, "", path))
    with torch.no_grad():
        expected = reference(tiny_clip).encode_text(open_clip.tokenize([CAPTION, "snow"]), normalize=True).numpy()
    found = forward([CAPTION, "snow"])
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert forward(["snow"]).tobytes() == found[1].tobytes()


def test_captions_are_cut_at_77_tokens(tiny_clip: Path) -> None:
    forward = text_forward(text_spec(*[tiny(tiny_clip)[0], "", tiny(tiny_clip)[1]]))
    long = " ".join(["dog"] * 75)  # with start and end 77 tokens
    cut, same, shorter = forward([long + " and a cat", long, long[:-4]])
    np.testing.assert_array_equal(cut, same)
    assert not np.array_equal(cut, shorter)


def test_a_file_of_the_image_tower_alone_gives_the_same_embeddings(tiny_clip: Path, tmp_path: Path, pictures: list[np.ndarray]) -> None:
    model, path = tiny(tiny_clip)
    state = load_file(path)
    tower = tmp_path / "tiny_visual.safetensors"
    save_file({name.removeprefix("visual."): value for name, value in state.items() if name.startswith("visual.")}, tower)
    whole, alone = (image_forward(image_spec(model, "", file))(pictures[:2]) for file in (path, tower))
    np.testing.assert_array_equal(whole, alone)
    save_file({"proj": state["visual.proj"]}, tower)
    with pytest.raises(WrongWeightsError, match="does not fit"):
        image_forward(image_spec(model, "", tower))


def test_openais_torchscript_archives_load(tiny_clip: Path, tmp_path: Path, pictures: list[np.ndarray]) -> None:
    """OpenAI's .pt files are TorchScript with three numbers more in the state."""
    model, path = tiny(tiny_clip)

    class Archive(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    archive = Archive()
    for name, value in {**load_file(path), "input_resolution": torch.tensor(64), "context_length": torch.tensor(77)}.items():
        at = archive
        *parents, leaf = name.split(".")
        for parent in parents:
            if not hasattr(at, parent):
                at.add_module(parent, Archive())
            at = getattr(at, parent)
        at.register_buffer(leaf, value)
    torch.jit.save(torch.jit.script(archive), tmp_path / "tiny.pt")
    whole, scripted = (image_forward(image_spec(model, "", file))(pictures[:1]) for file in (path, tmp_path / "tiny.pt"))
    np.testing.assert_array_equal(whole, scripted)


@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_a_checkpoint_that_does_not_fit_is_refused(tiny_clip: Path, tmp_path: Path, fault: str) -> None:
    model, path = tiny(tiny_clip)
    state = load_file(path)
    if fault == "missing":
        del state["visual.proj"]
    elif fault == "extra":
        state["visual.more"] = torch.zeros(3)
    else:
        state["visual.proj"] = torch.zeros(64, 16)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(WrongWeightsError, match="does not fit"):
        image_forward(image_spec(model, "", tmp_path / "other.safetensors"))


def test_activation_and_preprocessing_are_those_the_weights_were_trained_with() -> None:
    assert tag_settings("ViT-L-14", "openai")[0], "open_clip's ViT-L-14 has plain GELU, OpenAI's weights want QuickGELU"
    quick_gelu, preprocess = tag_settings("ViT-L-14", "laion2b_s32b_b82k")
    assert not quick_gelu and tuple(preprocess["mean"]) == (0.5, 0.5, 0.5)
    assert tag_settings("local-dir:/somewhere", "openai") == (False, {})


def test_dimensions_come_without_torch_and_unknown_models_name_the_known(tiny_clip: Path) -> None:
    assert embed_dim("ViT-L-14") == 768 and embed_dim("ViT-B-16") == 512 and embed_dim(f"local-dir:{tiny_clip}") == 32
    with pytest.raises(ConfigError, match="ViT-L-14"):
        embed_dim("ViT-L/15")
    with pytest.raises(ConfigError, match=r"open_clip_config\.json"):
        embed_dim("local-dir:/no/such/folder")
