"""Real weights on real videos: CLIP ViT-B/16 with its LAION head, CRAFT and PP-OCR."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from curate.models import Models, ModelSpec, Weight, catalog, locate
from curate.models.clip import _load, image_forward, image_spec
from curate.scorers.aesthetic import Scorer
from curate.scorers.text import text_area

pytestmark = pytest.mark.shared

GROUPS = {
    "generated": ["ai_cogvideo_1", "ai_cogvideo_2", "ai_cogvideo_3"],
    "web": ["bbb_720p_5s", "cockatoo", "mdn_crystal", "sam2_01_dog"],
    "fixed camera": ["bottle_detection", "car_detection", "one_by_one_person"],
    "screen": ["ui_animation_tween_sequence", "ui_widgets_animated_container", "ui_widgets_rotation_transition"],
}
TITLED = ["psd_testvideo"]


def frame_of(shared_data: Path, name: str, index: int = 24) -> np.ndarray:
    with av.open(str(shared_data / "videos" / f"{name}.mp4")) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i == index:
                return frame.to_ndarray(format="rgb24")
    raise AssertionError(f"{name} has no frame {index}")


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(model="ViT-B-16")


@pytest.fixture(scope="module")
def models(real_weights: Path, scorer: Scorer) -> Models:
    wanted: tuple[Weight, ...] = (*scorer.weights(), catalog.CRAFT, catalog.PPOCR_DET, catalog.PPOCR_REC)
    return Models({weight: locate(weight, (real_weights,)) for weight in wanted})


@pytest.mark.slow
def test_the_aesthetic_score_ranks_kinds_of_video_as_people_do(shared_data: Path, models: Models, scorer: Scorer) -> None:
    tower, head = (models.path(weight) for weight in scorer.weights())
    embed = models.load(image_spec("ViT-B-16", "openai", tower))
    grade = models.load(ModelSpec("laion_head", (str(head),), (("dimension", 512),)))
    means = {group: float(grade(embed([frame_of(shared_data, name) for name in names])).mean()) for group, names in GROUPS.items()}
    assert means["generated"] > means["web"] + 0.3 > means["fixed camera"] + 0.6 > means["screen"] + 0.6, means
    assert 5.5 < means["generated"] < 7 and 4.3 < means["web"] < 5.7 and 2.5 < means["screen"] < 4, means


@pytest.mark.slow
def test_the_real_tower_gives_the_same_bytes_in_every_batch_and_uses_quickgelu(shared_data: Path, models: Models, scorer: Scorer) -> None:
    spec = image_spec("ViT-B-16", "openai", models.path(scorer.weights()[0]))
    pictures = [frame_of(shared_data, "ai_cogvideo_1"), frame_of(shared_data, "cockatoo")]
    assert image_forward(spec)(pictures[1:]).tobytes() == models.load(spec)(pictures)[1].tobytes()
    assert {type(block.mlp.gelu).__name__ for block in _load(spec).visual.transformer.resblocks} == {"QuickGELU"}


@pytest.mark.slow
def test_craft_and_pp_ocr_agree_on_the_area_of_text(shared_data: Path, models: Models) -> None:
    """Within a factor of 1.4: PP-OCR boxes lines with the spaces in them, CRAFT words."""
    ppocr = models.load(
        ModelSpec("ppocr", (str(models.path(catalog.PPOCR_DET)), str(models.path(catalog.PPOCR_REC))), (("short_side", 480),))
    )
    craft = models.load(ModelSpec("craft", (str(models.path(catalog.CRAFT)),), (("short_side", 480),)))
    frames = [frame_of(shared_data, name) for name in TITLED]
    title = Image.fromarray(frame_of(shared_data, "sam2_01_dog"))
    ImageDraw.Draw(title).text(
        (300, 480), "A LONG WAY HOME", font=ImageFont.load_default(60), fill="white", stroke_width=2, stroke_fill="black"
    )
    frames.append(np.asarray(title))
    areas = np.array([
        [text_area(quads, *frame.shape[1::-1]) for frame, quads in zip(frames, detect(frames), strict=True)] for detect in (ppocr, craft)
    ])  # fmt: skip
    ratios = areas[0] / areas[1]
    assert (ratios > 1 / 1.4).all() and (ratios < 1.4).all(), areas
