"""Caption similarity against open_clip's own embeddings, and what happens without a caption or a text tower."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from curate.clip import Box, Span
from curate.errors import ConfigError, MissingWeightsError
from curate.models import Models, locate, resolve
from curate.models.catalog import open_clip as open_clip_weight
from curate.samples import ClipSamples, SourceFacts, Track
from curate.scorers import check_rows
from curate.scorers.caption_similarity import Scorer

CONFIG = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 64, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    }
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(12)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def clip_of(frames: list[np.ndarray], caption: str | None) -> ClipSamples:
    none = np.zeros(0, np.float32)
    track = Track(np.zeros(0, np.int64), 0, none, none.astype(bool), none, none, none.astype(bool))
    source = SourceFacts("x.mp4", 96, 64, caption=caption)
    return ClipSamples(source, Span(0, 10**9), Box(0, 0, 96, 64), track, tuple(frames), tuple(range(len(frames))))


def test_similarity_is_the_mean_cosine_and_null_without_a_caption(folder: Path) -> None:
    rng = np.random.default_rng(4)
    pictures = [np.asarray(Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).resize((96, 64))) for _ in range(6)]
    scorer = Scorer(model=f"local-dir:{folder}")
    score = scorer.open(Models(resolve({"caption_similarity": scorer}).paths))
    captions = ["a dog", None, "two cats on a roof", "a dog", ""]
    clips = [
        clip_of(pictures[:3], captions[0]),
        clip_of(pictures[:3], captions[1]),
        clip_of(pictures[3:5], captions[2]),
        clip_of([], captions[3]),
        clip_of(pictures[5:], captions[4]),
    ]
    rows = score(clips)
    check_rows("caption_similarity", scorer.columns, 5, rows)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    transform = open_clip.image_transform(64, is_train=False)
    with torch.no_grad():
        images = model.encode_image(torch.stack([transform(Image.fromarray(picture)) for picture in pictures]), normalize=True)
        texts = model.encode_text(open_clip.tokenize(["a dog", "two cats on a roof"]), normalize=True)
        cosines = images @ texts.T
    assert rows[0]["caption_similarity"] == pytest.approx(float(cosines[:3, 0].mean()), abs=1e-5)
    assert rows[2]["caption_similarity"] == pytest.approx(float(cosines[3:5, 1].mean()), abs=1e-5)
    assert abs(rows[0]["caption_similarity"] - rows[2]["caption_similarity"]) > 1e-3
    assert rows[1] == {"caption_similarity": None} == rows[4]
    assert rows[3]["caption_similarity"] is None and rows[3]["faults"][0].stage == "caption_similarity"


def test_the_image_tower_alone_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "open_clip").mkdir()
    (tmp_path / "open_clip" / "ViT-L-14_openai_visual.safetensors").write_bytes(b"a tower")
    assert locate(open_clip_weight("ViT-L-14", "openai"), (tmp_path,)).name == "ViT-L-14_openai_visual.safetensors"
    with pytest.raises(MissingWeightsError, match=r"scorer caption_similarity: .*ViT-L-14/openai/text"):
        resolve({"caption_similarity": Scorer()}, (tmp_path,))


def test_a_model_whose_tokenizer_lies_on_a_hub_is_refused() -> None:
    with pytest.raises(ConfigError, match="tokenizer"):
        Scorer(model="ViT-B-16-SigLIP")
