"""Columns of bars: what the pass found around the picture, told as flags with their evidence."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from curate.clip import Box, Span
from curate.samples import ClipSamples, SourceFacts, Surround, Track
from curate.scorers import check_rows
from curate.scorers._bars import BARS_COLUMNS, bars_row

NOTHING = np.zeros(0)
TRACK = Track(NOTHING.astype(np.int64), 1, NOTHING, NOTHING.astype(bool), NOTHING, NOTHING, NOTHING.astype(bool))
WHOLE = ClipSamples(SourceFacts("x", 640, 360), Span(0, 1), Box(0, 0, 640, 360), TRACK)


def row(clip: ClipSamples, soft_px: float = 1.8) -> dict[str, Any]:
    found = bars_row(clip, soft_px)
    check_rows("bars", BARS_COLUMNS, 1, [found])
    return found


@pytest.mark.parametrize(
    ("box", "kind", "share"),
    [
        (Box(0, 45, 640, 270), "letterbox", 0.25),
        (Box(80, 0, 480, 360), "pillarbox", 0.25),
        (Box(160, 90, 320, 180), "windowbox", 0.75),
        (Box(0, 36, 640, 324), "letterbox", 0.1),
    ],
)
@pytest.mark.parametrize("fill", ["black", "coloured", "blurred", "mixed"])
def test_bars_have_a_kind_a_fill_a_share_and_their_contrast(box: Box, kind: str, share: float, fill: Any) -> None:
    found = row(replace(WHOLE, box=box, surround=Surround(box, fill, contrast=120.0, softness=0.7)))
    assert found["synthetic_has_bars"] is True
    assert (found["synthetic_bars"], found["synthetic_bars_fill"], found["synthetic_bars_contrast"]) == (kind, fill, 120.0)
    assert found["synthetic_bars_share"] == pytest.approx(share)
    assert (found["synthetic_bars_soft"], found["synthetic_bars_change"]) == (False, False)


def test_no_bars_are_none_and_not_missing() -> None:
    found = row(WHOLE)
    assert (found["synthetic_has_bars"], found["synthetic_bars"], found["synthetic_bars_share"]) == (False, "none", 0)
    assert (found["synthetic_bars_fill"], found["synthetic_bars_soft"], found["synthetic_bars_change"]) == ("none", False, False)
    assert found["synthetic_bars_contrast"] is None


def test_soft_and_changing_bars_are_flagged_by_their_evidence() -> None:
    box = Box(0, 45, 640, 270)
    found = row(replace(WHOLE, box=box, surround=Surround(box, "black", 90.0, softness=2.4, change=0.25)))
    assert found["synthetic_bars_soft"] and found["synthetic_bars_softness"] == pytest.approx(2.4)
    assert found["synthetic_bars_change"] and found["synthetic_bars_change_share"] == pytest.approx(0.25)
    assert not row(replace(WHOLE, box=box, surround=Surround(box, "black", 90.0, softness=2.4)), soft_px=3.0)["synthetic_bars_soft"]


def test_what_was_cut_off_for_overlays_is_no_bar() -> None:
    cropped = replace(WHOLE, box=Box(0, 0, 640, 290), surround=Surround(WHOLE.box, overlays_cut=("logo", "subtitles")))
    found = row(cropped)
    assert (found["synthetic_has_bars"], found["synthetic_bars_share"], found["synthetic_overlays_cut"]) == (False, 0, "logo+subtitles")
