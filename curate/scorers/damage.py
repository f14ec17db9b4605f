"""Broken pictures: lost blocks, green or magenta areas, combs, banding, and less true resolution than the frame size claims.

blocks     hard edges on a grid of 16 px (`curate.scorers._lost_blocks`). 60 clean pieces measured up to 0.009 (0.014 at CRF 45), pieces
           with 15 % of their macroblocks displaced 0.011 to 0.07, with 5 % 0 to 0.035. Slides and screens have such edges of their own
           (up to 0.024): no drawn picture (`curate.scorers._drawn`) is flagged.
green      area whose colour lies outside what a camera gives: red and blue at nothing while green is not, or both full and green at
           nothing. That is what chroma of 0 or 255 gives, whatever the luma: planes that were lost. Share in the worst sample, so that a
           green frame between samples goes unseen. Colour bars have 0.05 to 0.2 of it, a picture whose lower third is lost 0.28 and more.
combs      lines that alternate (`curate.scorers._fields`), in whatever the stream calls itself. Clean pieces up to 0.0001, sharply reduced
           ones up to 0.0007; woven fields of moving pictures 0.001 to 0.7, less where hardly anything moves.
banding    flat bands with steps of 3 to 12 levels (`curate.scorers._contours`). Clean pieces up to 0.0012 (0.0022 at CRF 45); with luma cut
           down to 64 or 32 levels 0.002 to 0.021 where there are smooth areas to show it. MPEG-4 at a quantiser of 8 bands as much
           (0.004 to 0.013): the default asks for the heavy cases only, and misses posterised pictures without large smooth areas.
upscaled   `damage_true_height`: lines that would hold the detail there is (`curate.scorers._detail`). Clean pieces use 0.51 to 1 of
           their lines; enlarged from one half 0.34 to 0.64, from 0.375 0.34 to 0.44, from a third or a quarter 0.27 to 0.38. It is the
           detail that is measured: a soft picture that was coded coarsely has as little (down to 0.33).

Blocks, combs, banding and detail are read from the first, middle and last sample at native resolution: a loss between them goes unseen.
Shake is `motion_shake`, interlaced streams are `synthetic_interlaced_share`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.clip import Fault
from curate.samples import ClipSamples, Wants
from curate.scorers import Column, Score
from curate.scorers._contours import contour_share
from curate.scorers._detail import true_share
from curate.scorers._drawn import DRAWN_SHARE, tone_share
from curate.scorers._fields import comb_share
from curate.scorers._lost_blocks import block_share

if TYPE_CHECKING:
    from curate.models import Models

NOTHING, SOMETHING, FULL = 6, 30, 249  # levels of red, green or blue
MAX_SCREEN_GREEN = 200  # levels: a drawn pure green (0, 255, 0) is none of ours


@dataclass(frozen=True)
class Scorer:
    """Thresholds that turn evidence into flags. A rule may read the evidence instead."""

    block_share: float = Field(0.01, gt=0, le=1, description="a clip has lost blocks from this share of hard edges on their grid on")
    green_share: float = Field(
        0.22, gt=0, le=1, description="a clip is green or magenta from this share of such area on, in its worst sample"
    )
    comb_share: float = Field(0.001, gt=0, le=1, description="a clip has combs from this share of combed area on")
    banding_share: float = Field(0.008, gt=0, le=1, description="a clip has banding from this share of false contours on")
    upscaled_share: float = Field(
        0.375, gt=0, le=1, description="a clip is upscaled when its detail needs less than this share of its lines"
    )

    version: ClassVar[int] = 1

    @property
    def columns(self) -> dict[str, Column]:
        return _COLUMNS

    @property
    def samples(self) -> Wants:
        return Wants(frames="first_middle_last", pixels="luma", short_side=None, previews=True)

    def open(self, models: "Models") -> Score:  # noqa: ARG002
        return lambda clips: [self._row(clip) for clip in clips]

    def _row(self, clip: ClipSamples) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(_COLUMNS)
        if not clip.frames or not clip.previews:
            return row | {"faults": [Fault("damage", "NoSample", "the clip holds no sample of the grid")]}
        row["damage_green_share"] = green = green_share(clip.previews)
        row["damage_has_green"] = green >= self.green_share
        height, width = clip.frames[0].shape
        if height < 0.9 * clip.box.height or width < 0.9 * clip.box.width:
            text = f"samples held at {width}x{height} of {clip.box.width}x{clip.box.height} hide it; raise sampling.max_held_mb"
            return row | {"faults": [Fault("damage", "ReducedPicture", text)]}
        row["damage_block_share"] = blocks = block_share(clip.frames)
        row["damage_comb_share"] = combs = comb_share(clip.frames)
        row["damage_banding_share"] = banding = contour_share(clip.frames)
        row["damage_has_blocks"] = blocks >= self.block_share and tone_share(clip.frames) < DRAWN_SHARE
        row["damage_has_combs"] = combs >= self.comb_share
        row["damage_has_banding"] = banding >= self.banding_share
        share = true_share(clip.frames)
        if share is None:
            return row | {"faults": [Fault("damage", "NoDetail", "the picture is too small or too flat to tell its true resolution")]}
        row["damage_true_height_share"] = share
        row["damage_true_height"] = round(share * height)
        row["damage_is_upscaled"] = share < self.upscaled_share
        return row


def green_share(previews: Sequence[np.ndarray]) -> float:
    """Share of impossible green or magenta in the worst of the uint8 (H, W, 3) RGB pictures."""
    worst = 0
    for picture in previews:
        green = cv2.countNonZero(cv2.inRange(picture, (0, SOMETHING, 0), (NOTHING, MAX_SCREEN_GREEN, NOTHING)))
        magenta = cv2.countNonZero(cv2.inRange(picture, (FULL, 0, FULL), (255, NOTHING, 255)))
        worst = max(worst, green, magenta)
    return worst / (previews[0].shape[0] * previews[0].shape[1])


def _share(doc: str) -> Column:
    return Column(pa.float32(), "share", doc, 0, 1)


def _flag(doc: str) -> Column:
    return Column(pa.bool_(), "", doc)


_COLUMNS = {
    "damage_has_blocks": _flag("lost blocks: damage_block_share reaches block_share in a picture that is not drawn"),
    "damage_block_share": _share("edges of a 16-px grid that are hard, beyond what chance gives; worst of three samples"),
    "damage_has_green": _flag("lost colour: damage_green_share reaches green_share"),
    "damage_green_share": _share("area in a green or magenta that only lost chroma gives; worst sample"),
    "damage_has_combs": _flag("combs of two fields: damage_comb_share reaches comb_share"),
    "damage_comb_share": _share("area in which lines alternate; worst of three samples"),
    "damage_has_banding": _flag("banding: damage_banding_share reaches banding_share"),
    "damage_banding_share": _share("places with a false contour, a step of 3 to 12 levels between flat bands"),
    "damage_is_upscaled": _flag("true resolution below nominal: damage_true_height_share is under upscaled_share"),
    "damage_true_height_share": _share("damage_true_height over the lines of the active picture"),
    "damage_true_height": Column(pa.int32(), "px", "lines that would hold the picture's detail; at most those of the active picture", 0),
}
