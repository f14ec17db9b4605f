"""What is no camera footage: screen recordings, presentations, flat animation, test cards, and game or broadcast graphics at the rim.

drawn         `footage_drawn_share`, the share of the picture in areas of exactly one tone (`curate.scorers._drawn`): up to 0.18 in real and
              rendered film, 0.66 and more in drawings. From `drawn_share` on a clip is one of
test card       if it holds all the colours of colour bars (`footage_bar_share`);
presentation    if it stands for `standing_share` of the time. Between changes of slide nothing moves, not even a pointer. A single still
                graphic counts, too: as the pipeline runs, every slide is a shot of its own;
screen          if it has ruled lines, windows and tables, of `line_length` times the picture's side or more;
animation       otherwise: flat drawn shapes that move.
hud           `footage_hud_cells`, parts of the rim with graphics that stand while the picture moves (`curate.scorers._hud`): broadcast
              graphics above and below count as well.

Painted or rendered animation has the tones of film and is not told from it: there is no flag for rendered pictures, since no cheap
measure was found to separate them (rendered film: tones 0 to 0.12, noise like that of denoised phone video). A screen recording of a
full-screen video is that video.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.clip import Fault
from curate.samples import ClipSamples, Pair, Wants
from curate.scorers import Column, Score
from curate.scorers._drawn import DRAWN_SHARE, bar_share, line_length, tone_share
from curate.scorers._hud import MIN_SAMPLES, MIN_SIDE, hud_cells

if TYPE_CHECKING:
    from curate.models import Models

STAND_BLOCK, STAND_LEVELS = 6, 6.0  # px of the reduced luma; levels by which the mean of a block may change


@dataclass(frozen=True)
class Scorer:
    """Thresholds that turn evidence into flags. A rule may read the evidence instead."""

    drawn_share: float = Field(DRAWN_SHARE, gt=0, le=1, description="a clip is drawn from this share of the picture in exact tones on")
    bar_share: float = Field(0.004, gt=0, le=1, description="a clip is a test card from this area of each colour of colour bars on")
    standing_share: float = Field(0.45, gt=0, le=1, description="a drawn clip is a presentation from this share of time without motion on")
    line_length: float = Field(
        1.6, gt=0, description="a drawn clip that moves is a screen recording from this length of ruled lines on, in sides of the picture"
    )
    hud_cells: int = Field(3, ge=1, le=12, description="a clip has a HUD from this number of 12 rim cells with standing graphics on")

    version: ClassVar[int] = 1

    @property
    def columns(self) -> dict[str, Column]:
        return _COLUMNS

    @property
    def samples(self) -> Wants:
        return Wants(frames="first_middle_last", pixels="luma", short_side=None, motion=True, previews=True)

    def open(self, models: "Models") -> Score:  # noqa: ARG002
        return lambda clips: [self._row(clip) for clip in clips]

    def _row(self, clip: ClipSamples) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(_COLUMNS)
        if not clip.frames:
            return row | {"faults": [Fault("footage", "NoSample", "the clip holds no sample of the grid")]}
        faults: list[Fault] = []
        row["footage_drawn_share"] = drawn = tone_share(clip.frames)
        is_drawn = drawn >= self.drawn_share
        row["footage_bar_share"] = bars = bar_share(_first_middle_last(clip.previews))
        row["footage_line_length"] = lines = line_length(clip.frames[len(clip.frames) // 2])
        row["footage_is_test_card"] = is_card = bars >= self.bar_share
        pairs = clip.motion.pairs if clip.motion else ()
        row["footage_standing_share"] = stands = standing_share(pairs)
        if is_card or not is_drawn:
            row |= dict.fromkeys(("footage_is_presentation", "footage_is_screen", "footage_is_animation"), False)
        elif stands is None:
            text = "the clip holds no pair of frames 120 to 175 ms apart, so what moves in the drawing is not known"
            faults.append(Fault("footage", "NoPair", text))
        else:
            row["footage_is_presentation"] = stands >= self.standing_share
            row["footage_is_screen"] = stands < self.standing_share and lines >= self.line_length
            row["footage_is_animation"] = stands < self.standing_share and lines < self.line_length
        row["footage_hud_cells"] = cells = hud_cells(clip.motion.grid if clip.motion else ())
        if cells is None and clip.motion and len(clip.motion.grid) >= MIN_SAMPLES:
            faults.append(Fault("footage", "SmallPicture", f"graphics at the rim take a picture of {MIN_SIDE} px a side to tell"))
        elif cells is None:
            faults.append(Fault("footage", "TooFewSamples", "graphics that stand while the picture moves take three samples to tell"))
        else:
            row["footage_has_hud"] = cells >= self.hud_cells and not is_drawn
        return row | ({"faults": faults} if faults else {})


def _first_middle_last(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [pictures[i] for i in sorted({0, len(pictures) // 2, len(pictures) - 1})] if pictures else []


def standing_share(pairs: Sequence[Pair]) -> float | None:
    """Share of pairs in which nothing moves, not even a pointer; None without pairs."""
    return float(np.mean([_stands(pair) for pair in pairs])) if pairs else None


def _stands(pair: Pair) -> bool:
    away = cv2.absdiff(pair.luma0, pair.luma1)
    return bool(cv2.blur(away, (STAND_BLOCK, STAND_BLOCK)).max() < STAND_LEVELS)


def _share(doc: str) -> Column:
    return Column(pa.float32(), "share", doc, 0, 1)


def _flag(doc: str) -> Column:
    return Column(pa.bool_(), "", doc)


_COLUMNS = {
    "footage_is_screen": _flag("screen recording: drawn, moving, footage_line_length reaches line_length"),
    "footage_is_presentation": _flag("slides or a still graphic: drawn, footage_standing_share reaches standing_share"),
    "footage_is_animation": _flag("flat animation or motion graphics: drawn, moving, without ruled lines"),
    "footage_is_test_card": _flag("test card: footage_bar_share reaches bar_share"),
    "footage_has_hud": _flag("graphics at the rim of a moving picture that is not drawn: footage_hud_cells reaches hud_cells"),
    "footage_drawn_share": _share("picture in areas of exactly one tone; a clip is drawn where it reaches drawn_share"),
    "footage_line_length": Column(
        pa.float32(), "sides", "length of ruled lines in the middle sample over the side they run along, both directions added", 0
    ),
    "footage_standing_share": _share("pairs of frames between which nothing moves"),
    "footage_bar_share": _share("area of the second least of red, green, blue, cyan, magenta and yellow as in colour bars"),
    "footage_hud_cells": Column(pa.int32(), "cells", "of the 12 rim cells of a 4 x 4 grid, those with graphics that stand", 0, 12),
}
