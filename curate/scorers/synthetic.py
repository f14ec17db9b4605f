"""Flags for what is not plain footage: still, black, fade, flash, bars, repeated frames, interlacing, each with its evidence.

still       Grid luma averaged over blocks of 4 x 4 (each 1/45 to 1/90 of the short side), every sample held against the median of all over
            time. `synthetic_still_change` is the difference that 1 % of the blocks exceed, in the most different sample (one in ten is
            forgiven). Averaging removes noise, the percentile keeps small movers: stills re-encoded with noise up to CRF 35 measured
            up to 7.5 levels, the least living of 35 real videos 14.
black       a frame is black where mean + 2 deviations of luma lie below `black_level` (by Chebyshev at least 3/4 of its pixels do, in
            practice 98 %: the share that ffmpeg's `blackdetect` asks for).
fade        A fade mixes the picture with black or white: luma goes a * L, or 255 - a * (255 - L), with a along a straight line in time.
            A stretch counts where the deviation of luma does so in step with its mean (or 255 - mean), at a constant ratio, even if
            it is cut off half way (a whole one would take under 4 s); and where the mean itself runs straight into black or white,
            which text or a logo that stays on the screen does not spoil. Either has to change by `fade_depth` of its greatest value.
flash       mean luma leaves its level by `flash_levels` for at most 170 ms and comes back (70 % of the way or more); where luma is restless
            (stop motion) by four times its usual step, but no more than 48 levels, so that a strobe counts.
bars        from the active picture that the pass found (`curate.media.bars`).
duplicates  frames that show the picture before them (`curate.media.track`). Repeats that hold a picture for less than 250 ms pad a
            frame rate: `synthetic_duplicate_share`. Longer ones are a picture that stands still: `synthetic_frozen_share`, in time.
            `synthetic_effective_fps` counts distinct frames over the whole clip, so a still, a slideshow or a clip with a long freeze is
            low: that is what it offers to a model of motion.
interlaced  share of frames that the decoder calls interlaced.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.clip import NS_PER_S, Fault
from curate.samples import ClipSamples, Track, Wants
from curate.scorers import Column, Score

if TYPE_CHECKING:
    from curate.models import Models

STILL_BLOCK = 4  # px of the grid luma
FLASH_MAX_NS = 170_000_000
FREEZE_NS = 250_000_000  # as in `curate.samples.Pair`
MIN_FADE_FRAMES, MIN_FADE_S = 4, 0.12
MAX_FADE_MISFIT = 0.08  # of the run's height: root mean square distance from the straight line
MAX_PARTIAL_FADE_S = 4.0  # what a fade of which only a part is seen would take from end to end
FLAT_DEVIATION = 4.0  # levels: below it a picture has no contrast to fade
NEAR_BLACK = 12.0  # levels
RESTLESS_FACTOR, MAX_RESTLESS_LEVELS, RESTLESS_NS = 4.0, 48.0, 500_000_000


@dataclass(frozen=True)
class Scorer:
    """Thresholds that turn evidence into flags. A rule may read the evidence instead."""

    still_change: float = Field(
        10.0, ge=0, le=255, description="a clip whose picture changes by less is still", json_schema_extra={"unit": "levels"}
    )
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
    duplicate_share: float = Field(0.1, gt=0, le=1, description="a clip has duplicates from this share of repeated frames on")

    version: ClassVar[int] = 1

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
        row |= _bars(clip)
        grid = clip.motion.grid if clip.motion else ()
        if len(grid) >= 2:
            row["synthetic_still_change"] = change = still_change(grid)
            row["synthetic_is_still"] = change < self.still_change
        else:
            faults.append(Fault("synthetic", "TooFewSamples", f"the clip holds {len(grid)} samples of the grid; a still takes two to tell"))
        if len(clip.track.times_ns) < 2:
            faults.append(Fault("synthetic", "TooFewFrames", f"the clip holds {len(clip.track.times_ns)} frames"))
        else:
            row |= self._track_row(clip.track)
        return row | ({"faults": faults} if faults else {})

    def _track_row(self, track: Track) -> dict[str, Any]:
        black = black_share(track, self.black_level)
        fade = fade_share(track, self.fade_depth)
        flash = flash_rate(track, self.flash_levels)
        duplicate, frozen, fps = repeats(track)
        return {
            "synthetic_is_black": black >= self.black_share,
            "synthetic_black_share": black,
            "synthetic_is_fade": fade >= self.fade_share,
            "synthetic_fade_share": fade,
            "synthetic_is_flash": flash >= self.flashes_per_s,
            "synthetic_flash_rate": flash,
            "synthetic_has_duplicates": duplicate >= self.duplicate_share,
            "synthetic_duplicate_share": duplicate,
            "synthetic_frozen_share": frozen,
            "synthetic_effective_fps": fps,
            "synthetic_interlaced_share": float(np.mean(track.is_interlaced)),
        }


def _share(doc: str) -> Column:
    return Column(pa.float32(), "share", doc, 0, 1)


def _flag(doc: str) -> Column:
    return Column(pa.bool_(), "", doc)


_COLUMNS = {
    "synthetic_is_still": _flag("still image: synthetic_still_change is below still_change"),
    "synthetic_still_change": Column(pa.float32(), "levels", "change of the picture over the clip that 1 % of its blocks exceed", 0, 255),
    "synthetic_is_black": _flag("black: synthetic_black_share reaches black_share"),
    "synthetic_black_share": _share("frames that are black"),
    "synthetic_is_fade": _flag("fade: synthetic_fade_share reaches fade_share"),
    "synthetic_fade_share": _share("time inside fades from or to black or white"),
    "synthetic_is_flash": _flag("flashes or strobe: synthetic_flash_rate reaches flashes_per_s"),
    "synthetic_flash_rate": Column(pa.float32(), "1/s", "brightness excursions of at most 170 ms that return", 0, 1000),
    "synthetic_has_bars": _flag("black bars were found around the picture"),
    "synthetic_bars": Column(pa.string(), "", "none, letterbox (above, below), pillarbox (at the sides) or windowbox (both)"),
    "synthetic_bars_share": _share("area of the frame that is bars"),
    "synthetic_bars_contrast": Column(pa.float32(), "levels", "how far the picture outshines its bars at their edge; null without", 0, 255),
    "synthetic_has_duplicates": _flag("padded frame rate: synthetic_duplicate_share reaches duplicate_share"),
    "synthetic_duplicate_share": _share("frames that repeat the one before, in holds under 250 ms"),
    "synthetic_frozen_share": _share("time in which one picture is held for 250 ms or more"),
    "synthetic_effective_fps": Column(pa.float32(), "1/s", "distinct frames per second; low for stills too", 0, 1000),
    "synthetic_interlaced_share": _share("frames that are interlaced"),
}


def still_change(grid: Sequence[np.ndarray]) -> float:
    """Levels by which 1 % of the blocks of uint8 (H, W) samples leave their median over time; one sample in ten is left out."""
    blocks = np.stack([_blocks(luma) for luma in grid]).reshape(len(grid), -1)
    middle = np.partition(blocks, len(blocks) // 2, axis=0)[len(blocks) // 2]
    away = np.stack([cv2.absdiff(sample, middle).ravel() for sample in blocks])
    place = away.shape[1] - 1 - away.shape[1] // 100
    change = np.sort(np.partition(away, place, axis=1)[:, place])
    return float(change[-1 - len(change) // 10])


def _blocks(luma: np.ndarray) -> np.ndarray:
    height, width = (max(1, side // STILL_BLOCK) for side in luma.shape)
    whole = luma[: height * STILL_BLOCK, : width * STILL_BLOCK]
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)


def black_share(track: Track, black_level: float) -> float:
    """Share of frames whose luma lies below `black_level`."""
    return float(np.mean(track.luma_mean + 2.0 * track.luma_std < black_level))


def flash_rate(track: Track, flash_levels: float) -> float:
    """Flashes a second: mean luma leaves its level by `flash_levels` for at most 170 ms and comes back."""
    mean, times = track.luma_mean.astype(np.float64), track.times_ns
    step = np.abs(np.diff(mean, prepend=mean[0]))
    num_flashes, last_end = 0, 0
    for start in np.flatnonzero(step >= flash_levels):
        end = _returns(mean, times, int(start)) if start >= last_end else None
        if end is None:
            continue
        low, high = np.searchsorted(times, (times[start] - RESTLESS_NS, times[start] + RESTLESS_NS))
        if step[start] >= min(RESTLESS_FACTOR * float(np.median(step[low:high])), MAX_RESTLESS_LEVELS):
            num_flashes, last_end = num_flashes + 1, end
    return num_flashes / _duration_s(track)


def _returns(mean: np.ndarray, times_ns: np.ndarray, start: int) -> int | None:
    """The frame at which the mean is back where it was before frame `start`, None where that takes too long."""
    away = abs(mean[start] - mean[start - 1])
    for end in range(start + 1, len(mean)):
        if times_ns[end] - times_ns[start] > FLASH_MAX_NS:
            return None
        if abs(mean[end] - mean[start - 1]) <= 0.3 * away:
            return end
    return None


def fade_share(track: Track, fade_depth: float) -> float:
    """Share of the clip's time inside fades from or to black or white."""
    seconds = (track.times_ns - track.times_ns[0]) / NS_PER_S
    deviation, mean = track.luma_std.astype(np.float64), track.luma_mean.astype(np.float64)
    is_fading = np.zeros(len(seconds), bool)  # between a frame and the next
    for signal, levels in ((deviation, (mean, 255.0 - mean)), (mean, ()), (255.0 - mean, ())):
        for start, end in pairwise(_turning_points(signal)):
            run = _steady_part(signal, seconds, start, end)
            if not _is_straight(signal[run], seconds[run], fade_depth):
                continue
            if levels:
                # A camera that tilts away from the sky does the same, but slowly.
                depth = 1.0 - float(signal[run].min() / signal[run].max())
                is_quick = depth > 0.9 or seconds[run.stop - 1] - seconds[run.start] <= depth * MAX_PARTIAL_FADE_S
                fades = is_quick and any(_misfit(level[run], signal[run], offset=False) <= MAX_FADE_MISFIT for level in levels)
            else:
                low, high = run.start + int(signal[run].argmin()), run.start + int(signal[run].argmax())
                fades = signal[low] < NEAR_BLACK and deviation[low] <= max(deviation[high], FLAT_DEVIATION)
            if fades:
                is_fading[run.start : run.stop - 1] = True
    lasts_s = np.diff(seconds, append=seconds[-1])
    return min(1.0, float(lasts_s[is_fading].sum()) / _duration_s(track))


def _turning_points(values: np.ndarray) -> list[int]:
    """Indices between which the values go one way, but for reversals of less than a twentieth of their maximum."""
    slack = 0.05 * float(values.max())
    points, extreme, direction = [0], 0, 0
    for i in range(1, len(values)):
        falls, rises = values[i] < values[extreme] - slack, values[i] > values[extreme] + slack
        if (direction >= 0 and falls) or (direction <= 0 and rises):
            if extreme > points[-1]:
                points.append(extreme)
            direction = 1 if values[i] > values[extreme] else -1
            extreme = i
        elif direction == 0 or (values[i] - values[extreme]) * direction > 0:
            extreme = i if direction else extreme
    return [*points, len(values) - 1] if points[-1] < len(values) - 1 else points


def _steady_part(values: np.ndarray, seconds: np.ndarray, start: int, end: int) -> slice:
    """The longest stretch of a run that changes at 30 % of the run's usual speed or more; slow heads and tails are not the fade."""
    part = values[start : end + 1]
    if len(part) < MIN_FADE_FRAMES:
        return slice(start, end + 1)
    # Over four frames, so that repeated frames do not read as a halt.
    reach = min(2, (len(part) - 1) // 2)
    after = np.minimum(np.arange(len(part)) + reach, len(part) - 1)
    before = np.maximum(np.arange(len(part)) - reach, 0)
    speed = np.abs(part[after] - part[before]) / (seconds[start : end + 1][after] - seconds[start : end + 1][before])
    moving = np.flatnonzero(speed >= 0.3 * np.quantile(speed, 0.9))
    stretches = np.split(moving, np.flatnonzero(np.diff(moving) > 1) + 1)
    longest = max(stretches, key=len)
    return slice(start + int(longest[0]), start + int(longest[-1]) + 1)


def _is_straight(values: np.ndarray, seconds: np.ndarray, fade_depth: float) -> bool:
    """Whether the values run along a line in time, far enough and for long enough."""
    if len(values) < MIN_FADE_FRAMES or seconds[-1] - seconds[0] < MIN_FADE_S:
        return False
    height = float(values.max() - values.min())
    return height >= max(FLAT_DEVIATION, fade_depth * float(values.max())) and _misfit(values, seconds, offset=True) <= MAX_FADE_MISFIT


def _misfit(values: np.ndarray, over: np.ndarray, offset: bool) -> float:
    """Root mean square distance of the values from their best line over `over`, as a share of their height."""
    terms = np.stack([over, np.ones_like(over)] if offset else [over], axis=1)
    line = terms @ np.linalg.lstsq(terms, values, rcond=None)[0]
    return float(np.sqrt(np.mean((values - line) ** 2)) / max(float(values.max() - values.min()), 1e-6))


def repeats(track: Track) -> tuple[float, float, float]:
    """(share of frames that pad the frame rate, share of time that is frozen, distinct frames per second)."""
    is_new = ~track.is_duplicate
    is_new[0] = True
    starts = np.flatnonzero(is_new)
    lengths = np.diff(starts, append=len(is_new))
    held_ns = np.diff(track.times_ns[starts], append=track.end_ns)
    # A frame that lasts long by itself (low frame rate, variable frame rate) repeats nothing.
    frozen = (held_ns >= FREEZE_NS) & (lengths > 1)
    padding = int(np.sum((lengths - 1)[~frozen]))
    duration_s = _duration_s(track)
    return padding / len(is_new), min(1.0, float(held_ns[frozen].sum()) / NS_PER_S / duration_s), len(starts) / duration_s


def _bars(clip: ClipSamples) -> dict[str, Any]:
    across, above = clip.box.width < clip.source.width, clip.box.height < clip.source.height
    found = clip.bars_contrast is not None and (across or above)
    kind = "none" if not found else "windowbox" if across and above else "letterbox" if above else "pillarbox"
    area = clip.box.width * clip.box.height / (clip.source.width * clip.source.height)
    return {
        "synthetic_has_bars": found,
        "synthetic_bars": kind,
        "synthetic_bars_share": min(1.0, max(0.0, 1.0 - area)) if found else 0.0,
        "synthetic_bars_contrast": clip.bars_contrast if found else None,
    }


def _duration_s(track: Track) -> float:
    return max(1, int(track.end_ns) - int(track.times_ns[0])) / NS_PER_S
