"""The aesthetic scorer and caption similarity's shared parts, with a tiny CLIP and a head whose answer is known."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from curate.clip import Box, Span
from curate.errors import ConfigError, MissingWeightsError
from curate.models import Models, resolve
from curate.models.catalog import HEADS
from curate.samples import ClipSamples, SourceFacts, Track
from curate.scorers import Score, check_rows
from curate.scorers.aesthetic import Scorer

CONFIG = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    }
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one's own in open_clip's layout, and a linear head beside it."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(11)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    torch.save({"weight": torch.randn(1, 32), "bias": torch.tensor([5.0])}, folder / "head.pth")
    return folder


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    return Scorer(model=f"local-dir:{folder}", head=str(folder / "head.pth"))


@pytest.fixture(scope="module")
def score(scorer: Scorer) -> Score:
    return scorer.open(Models(resolve({"aesthetic": scorer}).paths))


def clip_of(frames: list[np.ndarray]) -> ClipSamples:
    none = np.zeros(0, np.float32)
    track = Track(np.zeros(0, np.int64), 0, none, none.astype(bool), none, none, none.astype(bool))
    return ClipSamples(SourceFacts("x.mp4", 96, 64), Span(0, 10**9), Box(0, 0, 96, 64), track, tuple(frames), tuple(range(len(frames))))


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [np.asarray(Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).resize((96, 64))) for _ in range(7)]


def test_scores_and_embedding_are_those_of_the_model_and_head(
    folder: Path, scorer: Scorer, score: Score, pictures: list[np.ndarray]
) -> None:
    rows = score([clip_of(pictures[:3])])
    check_rows("aesthetic", scorer.columns, 1, rows)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    transform = open_clip.image_transform(64, is_train=False)
    with torch.no_grad():
        vectors = model.encode_image(torch.stack([transform(Image.fromarray(picture)) for picture in pictures[:3]]), normalize=True)
        head = torch.load(folder / "head.pth", weights_only=True)
        grades = torch.nn.functional.linear(vectors, head["weight"], head["bias"])[:, 0]
        mean = torch.nn.functional.normalize(vectors.mean(dim=0), dim=0).numpy()
    [row] = rows
    assert row["aesthetic_scores"] == pytest.approx(grades.tolist(), abs=1e-5)  # float32 against float64 sums
    assert row["aesthetic_score"] == pytest.approx(float(grades.mean()), abs=1e-5)
    assert row["aesthetic_min"] == min(row["aesthetic_scores"])
    np.testing.assert_allclose(row["clip_embedding"], mean, atol=1e-3)  # float16 holds 11 bits


def test_a_clips_row_does_not_depend_on_the_batch(scorer: Scorer, pictures: list[np.ndarray]) -> None:
    models = Models(resolve({"aesthetic": scorer}).paths)
    clips = [clip_of(pictures[:3]), clip_of(pictures[3:4]), clip_of(pictures[4:7])]
    together = scorer.open(models)(clips)
    for clip, row in zip(clips[::-1], together[::-1], strict=True):
        [alone] = scorer.open(models)([clip])
        assert alone["aesthetic_scores"] == row["aesthetic_scores"]
        assert alone["clip_embedding"].tobytes() == row["clip_embedding"].tobytes()


def test_the_embedding_goes_into_a_fixed_size_column_of_half_floats(scorer: Scorer, score: Score, pictures: list[np.ndarray]) -> None:
    column = scorer.columns["clip_embedding"]
    assert column.large and column.type == pa.list_(pa.float16(), 32)
    rows = score([clip_of(pictures[:3])])
    array = pa.array([row["clip_embedding"] for row in rows], column.type)
    assert np.linalg.norm(np.array(array.to_pylist()[0], np.float64)) == pytest.approx(1, abs=2e-3)


def test_a_forward_from_elsewhere_serves_and_the_mean_of_embeddings_has_length_one(scorer: Scorer, pictures: list[np.ndarray]) -> None:
    """An engine's loader decides where the model runs; here it answers with axes of space, whose mean is shorter than 1."""
    forwards = {
        "clip_image": lambda frames: np.eye(32, dtype=np.float32)[: len(frames)],
        "laion_head": lambda rows: np.arange(len(rows)) + 4.0,
    }
    models = Models(resolve({"aesthetic": scorer}).paths, loader=lambda spec: forwards[spec.kind])
    [row] = scorer.open(models)([clip_of(pictures[:2])])
    np.testing.assert_array_equal(row["clip_embedding"][:3], np.array([0.5**0.5, 0.5**0.5, 0], np.float16))
    assert row["aesthetic_score"] == 4.5 and row["aesthetic_min"] == 4.0


def test_a_clip_without_samples_has_nulls_and_a_reason_and_harms_no_other(scorer: Scorer, score: Score, pictures: list[np.ndarray]) -> None:
    rows = score([clip_of(pictures[:2]), clip_of([]), clip_of(pictures[2:3])])
    check_rows("aesthetic", scorer.columns, 3, rows)
    assert rows[1]["aesthetic_score"] is None and rows[1]["faults"][0].stage == "aesthetic"
    assert len(rows[0]["aesthetic_scores"]) == 2 and len(rows[2]["aesthetic_scores"]) == 1


def test_the_head_is_the_one_trained_on_the_model() -> None:
    assert Scorer().head_name == "sac+logos+ava1-l14-linearMSE"
    assert Scorer(model="ViT-B-16").head_name == "sa_0_4_vit_b_16_linear"
    assert Scorer(model="ViT-B-16-quickgelu").columns["clip_embedding"].type == pa.list_(pa.float16(), 512)
    assert Scorer(head="sa_0_4_vit_l_14_linear").weights()[1] is HEADS["sa_0_4_vit_l_14_linear"].weight


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"model": "ViT-B-16", "head": "sac+logos+ava1-l14-linearMSE"}, "768.*512"),
        ({"pretrained": "laion2b_s32b_b82k"}, "no head is known to fit"),
        ({"model": "ViT-L-15"}, "no head is known"),
        ({"model": "ViT-L-15", "head": "sa_0_4_vit_l_14_linear"}, "open_clip has no model"),
        ({"head": "sac+logos"}, "neither a .pth file nor one of"),
    ],
)
def test_a_head_that_does_not_fit_is_a_config_error(parameters: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Scorer(**parameters)


def test_missing_weights_stop_the_run_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "open_clip").mkdir()
    (tmp_path / "open_clip" / "ViT-B-16_openai.safetensors").write_bytes(b"there")
    with pytest.raises(MissingWeightsError, match=r"scorer aesthetic(.|\n)*curate models pull laion/sa_0_4_vit_b_16_linear"):
        resolve({"aesthetic": Scorer(model="ViT-B-16")}, (tmp_path,))
    assert "aesthetic" in resolve({"aesthetic": Scorer(model="ViT-B-16")}, (tmp_path,), optional={"aesthetic"}).absent
