"""Flags for what is burnt in over the picture: static logo, watermark, subtitles, ticker, picture in picture; each with evidence and box.

logo        edges that keep place and strength while the picture moves, in a small group by themselves (`curate.media.logos`), opaque or
            translucent, in luma or in colour. `overlay_logo_strength` is the group's mean standing gradient in levels per pixel, reduced
            for what speaks against a logo. A scene before a fixed camera keeps its edges as a logo does (`overlay_standing_share`): there
            only a mark with thin strokes, or of a colour that the scene lacks, in the usual place near a corner is told.
            Tuning half of benchmarks/flags, at 2.1 levels per pixel: 3 of 987 cases without a logo are flagged, and 63 of 78 logos of
            30 % opacity and more that lie over a picture which moves: 8 of 14 at 30 %, 39 of 48 at 45 to 80 %, all 16 opaque ones.
            Missed are faint ones, letters two pixels high in the samples, and marks that are not near a corner.
watermark   standing edges that repeat over the whole picture (`curate.media.tiles`), clearest where the camera moves.
subtitles   rows of bright strokes near the bottom or the top that stay for 0.5 s or more and then change, or stay while the picture around
            them moves (`curate.media.captions`). Tuning half: at a share of 0.15, 2 of 1413 cases without (both tickers), 94 % of those
            with subtitles in half of the time or more; missed where the scene itself is full of small bright strokes.
across      clips of one source: what stands in shots of different scenes is burnt in (`curate.media.recurring`). A logo or a watermark
            found so raises the strength in every clip that shows it, also before a fixed camera; what looked like a logo before a fixed
            camera and is absent from the other scenes has strength 0. `overlay_logo_scenes` counts the scenes that show the mark. It takes
            four different scenes, or one mark seen in three, in one source (in one part of a long one).
ticker      a band of text that runs sideways at a constant speed (`curate.media.tickers`).
inset       a rectangle whose sides stand still while its picture moves (`curate.scorers._inset`).

Null with a fault where the clip holds fewer than three samples of the grid; the ticker is null where it holds no pair of frames.
"""

from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from curate.clip import Box, Fault
from curate.media.logos import Group
from curate.media.overlays import (
    LINE_WORTH,
    LOGO_STRENGTH,
    MIN_SAMPLES,
    SUBTITLES_SHARE,
    TICKER_SHARE,
    WATERMARK_STRENGTH,
    examine,
)
from curate.media.recurring import Verdict, trace, verdicts
from curate.samples import ClipSamples, Wants
from curate.scorers import ACROSS, Column, Score
from curate.scorers._inset import INSET_COLUMNS, INSET_STRENGTH, inset_row

if TYPE_CHECKING:
    from curate.models import Models


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Scorer:
    """Thresholds that turn evidence into flags. A rule may read the evidence instead."""

    logo_strength: float = Field(
        LOGO_STRENGTH, gt=0, le=255, description="a clip has a logo from this strength on", json_schema_extra={"unit": "levels/px"}
    )
    watermark_strength: float = Field(WATERMARK_STRENGTH, gt=0, le=1, description="a clip has a watermark from this strength on")
    line_worth: float = Field(
        LINE_WORTH, gt=0, description="a row of strokes is a line of text from here on", json_schema_extra={"unit": "stems times fill"}
    )
    subtitles_share: float = Field(SUBTITLES_SHARE, gt=0, le=1, description="a clip has subtitles from this share of its samples on")
    ticker_share: float = Field(TICKER_SHARE, gt=0, le=1, description="a clip has a ticker from this share of its pairs of frames on")
    inset_strength: float = Field(INSET_STRENGTH, gt=0, le=1, description="a clip has a picture in picture from this strength on")

    version: ClassVar[int] = 2
    settles: ClassVar[tuple[str, ...]] = (
        "overlay_has_logo",
        "overlay_logo_strength",
        "overlay_logo_box",
        "overlay_logo_scenes",
        "overlay_has_watermark",
        "overlay_watermark_strength",
    )

    @property
    def columns(self) -> dict[str, Column]:
        return _COLUMNS

    @property
    def samples(self) -> Wants:
        return Wants(motion=True, previews=True)

    def open(self, models: "Models") -> Score:  # noqa: ARG002
        return lambda clips: [self._row(clip) for clip in clips]

    def _row(self, clip: ClipSamples) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(_COLUMNS)
        motion = clip.motion
        if motion is None or len(motion.grid) < MIN_SAMPLES:
            held = len(motion.grid) if motion else 0
            fault = Fault("overlay", "TooFewSamples", f"the clip holds {held} samples of the grid; overlays take {MIN_SAMPLES} to tell")
            return row | {"faults": [fault]}
        row |= inset_row(clip, self.inset_strength)
        found = examine(motion.grid, motion.grid_times_ns.tolist(), motion.pairs, self.line_worth, clip.previews)
        shape = motion.grid[0].shape
        logo = found.logos[0] if found.logos else None
        has_logo = logo is not None and logo.worth >= self.logo_strength
        has_subtitles = found.subtitles_share >= self.subtitles_share
        return row | {
            "overlay_has_logo": has_logo,
            "overlay_logo_strength": _worth(logo),
            "overlay_logo_box": _displayed(logo.box, shape, clip.box) if logo is not None and has_logo else None,
            "overlay_has_watermark": found.watermark >= self.watermark_strength,
            "overlay_watermark_strength": found.watermark,
            "overlay_has_subtitles": has_subtitles,
            "overlay_subtitles_share": found.subtitles_share,
            "overlay_subtitles_box": _displayed(found.subtitles_box, shape, clip.box) if has_subtitles else None,
            "overlay_has_ticker": None if found.ticker_share is None else found.ticker_share >= self.ticker_share,
            "overlay_ticker_share": found.ticker_share,
            "overlay_standing_share": found.standing,
            ACROSS: trace(found.still, found.standing, found.logos, clip.box),
        }

    def settle(self, rows: list[dict[str, Any]]) -> None:
        """Logos and watermarks by what the clips of one source have in common."""
        for row, verdict in zip(rows, verdicts([row.get(ACROSS) for row in rows]), strict=True):
            self.follow(row, verdict)

    def follow(self, row: dict[str, Any], verdict: Verdict) -> None:
        """Changes the row of a scored clip to what the others say of it."""
        if verdict.num_scenes:
            row["overlay_logo_scenes"] = verdict.num_scenes
        logo = verdict.logo_strength
        if logo is not None and (logo == 0 or logo > row["overlay_logo_strength"]):
            self._set_logo(row, logo, verdict.logo_box)
        if verdict.watermark is not None and verdict.watermark > row["overlay_watermark_strength"]:
            row["overlay_watermark_strength"] = verdict.watermark
            row["overlay_has_watermark"] = verdict.watermark >= self.watermark_strength

    def _set_logo(self, row: dict[str, Any], strength: float, box: list[int] | None) -> None:
        has_logo = strength >= self.logo_strength
        row |= {"overlay_has_logo": has_logo, "overlay_logo_strength": strength, "overlay_logo_box": box if has_logo else None}


def _worth(logo: Group | None) -> float:
    return logo.worth if logo is not None else 0.0


def _displayed(box: Box | None, shape: tuple[int, ...], active: Box) -> list[int] | None:
    """The place of (H, W) samples of the active picture in displayed pixels of the source."""
    if box is None:
        return None
    across, down = active.width / shape[1], active.height / shape[0]
    return [active.x + round(box.x * across), active.y + round(box.y * down), round(box.width * across), round(box.height * down)]


def _flag(doc: str) -> Column:
    return Column(pa.bool_(), "", doc)


def _share(doc: str) -> Column:
    return Column(pa.float32(), "share", doc, 0, 1)


def _box(doc: str) -> Column:
    return Column(pa.list_(pa.int32()), "px", f"{doc} as x, y, width, height in displayed pixels of the source; null where there is none")


_COLUMNS = {
    "overlay_has_logo": _flag("static logo: overlay_logo_strength reaches logo_strength"),
    "overlay_logo_strength": Column(
        pa.float32(), "levels/px", "gradient of the likeliest logo, standing while the picture moves or the scene changes", 0, 255
    ),
    "overlay_logo_box": _box("likeliest logo"),
    "overlay_logo_scenes": Column(
        pa.int32(), "scenes", "different scenes of the source that show it; null where other clips say nothing", 1
    ),
    "overlay_has_watermark": _flag("mark over the whole picture: overlay_watermark_strength reaches watermark_strength"),
    "overlay_watermark_strength": _share("how well standing edges repeat over the picture: correlation, less before a fixed camera"),
    "overlay_has_subtitles": _flag("burnt-in subtitles: overlay_subtitles_share reaches subtitles_share"),
    "overlay_subtitles_share": _share("samples that show a burnt-in line of text near the bottom or the top"),
    "overlay_subtitles_box": _box("all lines together"),
    "overlay_has_ticker": _flag("text that runs through the picture: overlay_ticker_share reaches ticker_share"),
    "overlay_ticker_share": _share("pairs of frames in which a band of text runs sideways at the clip's median speed"),
    "overlay_standing_share": _share("strong gradients that stand still; above 0.16 the camera is fixed, and few logos can be told"),
    **INSET_COLUMNS,
}
