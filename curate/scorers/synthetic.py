"""Flags for what is not plain footage, each with its evidence; the parts say how it is told.

still, slideshow                   `_still`; zoom and pan over a photograph in `_ken_burns`
black, fade, flash, strobe         `_light`
duplicates, pulldown, blends, freeze   `_cadence`. `synthetic_effective_fps` counts distinct frames over the whole clip, so a still, a
                                   slideshow or a clip with a long freeze is low: that is what it offers to a model of motion.
loop, boomerang                    `_loops`
bars                               `_bars`, from the active picture that the pass found (`curate.media.active`). An edge that was drawn and
                                   re-encoded takes 0.6 to 1.4 px from 20 to 80 % of its height, one blurred with a deviation of 1.5 px
                                   2.4.
interlaced                         share of frames that the decoder calls interlaced
slow motion                        Only a file that says at what rate the camera captured can tell: pictures of slow things and slow
                                   pictures are the same. Slowing down by repeated or mixed frames shows as duplicates and blends; frames
                                   interpolated along the motion do not show.

Thresholds were chosen on the tuning half of `benchmarks/flags`.
"""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.clip import Fault
from curate.samples import ClipSamples, SourceFacts, Track, Wants
from curate.scorers import Column, Score
from curate.scorers._bars import BARS_COLUMNS, bars_row
from curate.scorers._cadence import blend_share, duration_s, freeze_s, pulldown_share, repeats
from curate.scorers._ken_burns import ken_burns_runs, ken_burns_share
from curate.scorers._light import black_share, fade_share, flashes, strobe_rate
from curate.scorers._loops import repetition_shares
from curate.scorers._still import held_pictures, lumas_between, shown_in_runs, slideshow_share, still_change

if TYPE_CHECKING:
    from curate.models import Models

CAPTURE_FPS_TAG = "com.android.capture.fps"


@dataclass(frozen=True)
class Scorer:
    """Thresholds that turn evidence into flags. A rule may read the evidence instead."""

    still_change: float = Field(
        6.0, ge=0, le=255, description="a clip whose picture changes by less is still", json_schema_extra={"unit": "levels"}
    )
    slideshow_share: float = Field(0.5, gt=0, le=1, description="a clip is a slideshow from this share of its time in stills on")
    ken_burns_change: float = Field(
        2.4,
        ge=0,
        le=255,
        description="most that a picture, moved back, may differ from itself, in what a codec does to it",
        json_schema_extra={"unit": "times"},
    )
    ken_burns_share: float = Field(0.6, gt=0, le=1, description="a clip is a moved photograph from this share of its time on")
    black_level: float = Field(
        28.0, ge=0, le=128, description="a frame is black when mean + 2 deviations of luma lie below", json_schema_extra={"unit": "levels"}
    )
    black_share: float = Field(0.5, gt=0, le=1, description="a clip is black from this share of black frames on")
    fade_depth: float = Field(0.35, gt=0, le=1, description="least change in a fade, as a share of its greatest value")
    fade_share: float = Field(0.03, gt=0, le=1, description="a clip has a fade from this share of its time on")
    flash_levels: float = Field(
        20.0, gt=0, le=255, description="least excursion of mean luma that is a flash", json_schema_extra={"unit": "levels"}
    )
    flashes_per_s: float = Field(0.2, gt=0, le=60, description="a clip has flashes from this rate on", json_schema_extra={"unit": "1/s"})
    strobe_rate: float = Field(
        4.0, gt=0, le=60, description="a clip has a strobe from as many flashes inside one second on", json_schema_extra={"unit": "1/s"}
    )
    duplicate_share: float = Field(0.13, gt=0, le=1, description="a clip has duplicates from this share of repeated frames on")
    pulldown_share: float = Field(0.5, gt=0, le=1, description="a clip has pulldown from this share of frames in its pattern on")
    blend_share: float = Field(0.2, gt=0, le=1, description="a clip has blended frames from this share of them on")
    freeze_s: float = Field(0.35, gt=0, le=600, description="a picture held for as long is a freeze", json_schema_extra={"unit": "s"})
    loop_share: float = Field(0.5, gt=0, le=1, description="a clip is a loop from this share of frames that are shown again on")
    reverse_share: float = Field(0.4, gt=0, le=1, description="a clip is a boomerang from this share of frames that run forth and back on")
    slow_motion: float = Field(
        1.5, gt=1, le=1000, description="a clip is slow motion from this factor on", json_schema_extra={"unit": "times"}
    )
    bars_soft_px: float = Field(
        1.8, ge=0, le=1000, description="bars whose edge takes as many pixels from 20 to 80 % are soft", json_schema_extra={"unit": "px"}
    )

    version: ClassVar[int] = 3

    @property
    def columns(self) -> dict[str, Column]:
        return _COLUMNS

    @property
    def samples(self) -> Wants:
        return Wants(motion=True)

    def open(self, models: "Models") -> Score:  # noqa: ARG002
        return lambda clips: [self._row(clip) for clip in clips]

    def _row(self, clip: ClipSamples) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(_COLUMNS)
        faults: list[Fault] = []
        num_frames = len(clip.track.times_ns)
        row |= bars_row(clip, self.bars_soft_px) | self._slow_motion_row(clip.source)
        if clip.motion is not None and len(clip.motion.grid) >= 2:
            row |= self._picture_row(clip)
        else:
            num = len(clip.motion.grid) if clip.motion else 0
            faults.append(Fault("synthetic", "TooFewSamples", f"the clip holds {num} samples of the grid; a still takes two to tell"))
        if num_frames < 2:
            faults.append(Fault("synthetic", "TooFewFrames", f"the clip holds {num_frames} frames"))
        else:
            row |= self._light_row(clip.track) | self._cadence_row(clip.track)
        if num_frames < 2 or len(clip.track.thumbs) != num_frames:
            faults.append(Fault("synthetic", "NoThumbs", f"{len(clip.track.thumbs)} thumbs for {num_frames} frames"))
        else:
            row |= self._repetition_row(clip.track)
        return row | ({"faults": faults} if faults else {})

    def _picture_row(self, clip: ClipSamples) -> dict[str, Any]:
        assert clip.motion is not None
        grid, times_ns = clip.motion.grid, clip.motion.grid_times_ns
        change = still_change(grid)
        if change < self.still_change:
            # A loop of half a second shows the same picture at every sample of the grid, and another one in between; a hand may too.
            lumas = lumas_between(clip.motion, clip.span.start_ns, clip.span.end_ns)
            change = max(change, still_change(lumas)) if len(lumas) > len(grid) else change
        runs = ken_burns_runs(grid, times_ns, self.ken_burns_change) if change >= self.still_change else []
        row = {
            "synthetic_is_still": change < self.still_change,
            "synthetic_still_change": change,
            "synthetic_ken_burns_share": (moved := ken_burns_share(runs, times_ns, duration_s(clip.track))),
            "synthetic_is_ken_burns": moved >= self.ken_burns_share,
        }
        if len(clip.track.thumbs) != len(clip.track.times_ns):
            return row
        shown = held_pictures(clip.track, clip.motion) if change >= self.still_change else []
        spans = [(int(times_ns[run.first]), int(times_ns[run.last])) for run in runs]
        in_turn = slideshow_share(clip.track, [*shown, *shown_in_runs(clip.track, spans)])
        return row | {"synthetic_slideshow_share": in_turn, "synthetic_is_slideshow": in_turn >= self.slideshow_share}

    def _light_row(self, track: Track) -> dict[str, Any]:
        black = black_share(track, self.black_level)
        fade = fade_share(track, self.fade_depth)
        begun_ns = flashes(track, self.flash_levels)
        flash, strobe = len(begun_ns) / duration_s(track), strobe_rate(begun_ns)
        return {
            "synthetic_is_black": black >= self.black_share,
            "synthetic_black_share": black,
            "synthetic_is_fade": fade >= self.fade_share,
            "synthetic_fade_share": fade,
            "synthetic_is_flash": flash >= self.flashes_per_s,
            "synthetic_flash_rate": flash,
            "synthetic_is_strobe": strobe >= self.strobe_rate,
            "synthetic_strobe_rate": strobe,
            "synthetic_interlaced_share": float(np.mean(track.is_interlaced)),
        }

    def _cadence_row(self, track: Track) -> dict[str, Any]:
        duplicate, frozen, fps = repeats(track)
        pulldown = pulldown_share(track.is_duplicate)
        row = {
            "synthetic_has_duplicates": duplicate >= self.duplicate_share,
            "synthetic_duplicate_share": duplicate,
            "synthetic_frozen_share": frozen,
            "synthetic_effective_fps": fps,
            "synthetic_has_pulldown": pulldown >= self.pulldown_share,
            "synthetic_pulldown_share": pulldown,
        }
        if len(track.energy) != len(track.times_ns):
            return row
        blend, freeze = blend_share(track), freeze_s(track)
        return row | {
            "synthetic_has_blends": blend >= self.blend_share,
            "synthetic_blend_share": blend,
            "synthetic_has_freeze": freeze >= self.freeze_s,
            "synthetic_freeze_s": freeze,
        }

    def _repetition_row(self, track: Track) -> dict[str, Any]:
        loop, reverse = repetition_shares(track)
        return {
            "synthetic_is_loop": loop >= self.loop_share,
            "synthetic_loop_share": loop,
            "synthetic_is_boomerang": reverse >= self.reverse_share,
            "synthetic_reverse_share": reverse,
        }

    def _slow_motion_row(self, source: SourceFacts) -> dict[str, Any]:
        try:
            captured = float(source.tags.get(CAPTURE_FPS_TAG, ""))
        except ValueError:
            return {}
        if not source.fps or not 0 < captured < 1e6:
            return {}
        slower = captured / source.fps
        return {"synthetic_slow_motion": slower, "synthetic_is_slow_motion": slower >= self.slow_motion}


def _share(doc: str) -> Column:
    return Column(pa.float32(), "share", doc, 0, 1)


def _flag(doc: str) -> Column:
    return Column(pa.bool_(), "", doc)


_COLUMNS = {
    "synthetic_is_still": _flag("still image: synthetic_still_change is below still_change"),
    "synthetic_still_change": Column(pa.float32(), "levels", "change over the clip of the fourth most different patch", 0, 255),
    "synthetic_is_slideshow": _flag("slideshow: synthetic_slideshow_share reaches slideshow_share"),
    "synthetic_slideshow_share": _share("time in still or moved photographs that take turns"),
    "synthetic_is_ken_burns": _flag("zoom or pan over a photograph: synthetic_ken_burns_share reaches ken_burns_share"),
    "synthetic_ken_burns_share": _share("time in which one smooth similarity of one picture explains everything"),
    "synthetic_is_black": _flag("black: synthetic_black_share reaches black_share"),
    "synthetic_black_share": _share("frames that are black"),
    "synthetic_is_fade": _flag("fade: synthetic_fade_share reaches fade_share"),
    "synthetic_fade_share": _share("time inside fades from or to black or white"),
    "synthetic_is_flash": _flag("flashes or strobe: synthetic_flash_rate reaches flashes_per_s"),
    "synthetic_flash_rate": Column(pa.float32(), "1/s", "brightness excursions of at most 170 ms that return", 0, 1000),
    "synthetic_is_strobe": _flag("strobe: synthetic_strobe_rate reaches strobe_rate"),
    "synthetic_strobe_rate": Column(pa.float32(), "1/s", "most flashes inside one second", 0, 1000),
    **BARS_COLUMNS,
    "synthetic_has_duplicates": _flag("padded frame rate: synthetic_duplicate_share reaches duplicate_share"),
    "synthetic_duplicate_share": _share("frames that repeat the one before, in holds under 250 ms"),
    "synthetic_has_pulldown": _flag("24 in 30 or 24 in 60 pictures a second: synthetic_pulldown_share reaches pulldown_share"),
    "synthetic_pulldown_share": _share("frames in stretches that repeat in the pattern of a pulldown"),
    "synthetic_has_blends": _flag("mixed frames: synthetic_blend_share reaches blend_share"),
    "synthetic_blend_share": _share("frames that are a mix of the one before and the one after"),
    "synthetic_has_freeze": _flag("freeze: synthetic_freeze_s reaches freeze_s"),
    "synthetic_freeze_s": Column(pa.float32(), "s", "longest picture held between frames that move; 0 without one", 0),
    "synthetic_frozen_share": _share("time in which one picture is held for 250 ms or more"),
    "synthetic_effective_fps": Column(pa.float32(), "1/s", "distinct frames per second; low for stills too", 0, 1000),
    "synthetic_is_loop": _flag("a part is shown again and again: synthetic_loop_share reaches loop_share"),
    "synthetic_loop_share": _share("frames that are shown again one period later, or were one earlier"),
    "synthetic_is_boomerang": _flag("forward, then backward: synthetic_reverse_share reaches reverse_share"),
    "synthetic_reverse_share": _share("frames of the longest stretch that runs back the way it came"),
    "synthetic_is_slow_motion": _flag("synthetic_slow_motion reaches slow_motion; null where the file does not say"),
    "synthetic_slow_motion": Column(pa.float32(), "times", "slower than captured, by the file's tag of the capture rate; null without", 0),
    "synthetic_interlaced_share": _share("frames that are interlaced"),
}
