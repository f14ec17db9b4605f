"""The active picture of a clip: what is left inside flat bars, bars that come or go, and blurred margins.

Bars that stand from the first sample to the last are `find_bars` of all. Bars that change are looked for at both ends of the clip: those of
its first and of its last samples that the whole clip does not have. They count where they hold, flat, from that end up to some sample
and break at the next, along most of their length: an aspect ratio changes from one frame to another, while doors, shadows and night
do not. The box then is the picture that is never covered: the intersection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from curate.media.bars import SOFT_EDGE, BarProfile, Bars, find_bars, places
from curate.media.fill import find_fill

MIN_END_SAMPLES = 2
END_SHARE = 0.25  # of the samples, to look for bars that do not stand throughout
MIN_COME = 0.02  # of the side: bars that change by less do not
BREAK_SHARE, HOLD_SHARE = 0.5, 0.02  # of a bar's points off its level: once it has gone; while it stands
OFF_LEVELS = 12.0


@dataclass(frozen=True, slots=True)
class Margins:
    """What surrounds the picture, in pixels of the profiled luma.

    fill      "none", "flat" (bars of one level), "blurred" (margins that show the picture enlarged), "mixed" (both)
    contrast  see `Bars`, None without flat bars; softness as well
    change    share of the frame that is bars for a part of the clip only
    likeness  see `Fill`, None without blurred margins
    """

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0
    fill: Literal["none", "flat", "blurred", "mixed"] = "none"
    contrast: float | None = None
    softness: float | None = None
    change: float = 0.0
    likeness: float | None = None


def find_margins(profiles: Sequence[BarProfile]) -> Margins:
    """Margins of a clip from the profiles of its samples; none where samples differ in size or there is no sample."""
    steady = find_bars(profiles)
    bars = _with_changes(profiles, steady)
    fill = find_fill([_cropped(p, bars) for p in profiles])
    flat, blurred = bars.contrast is not None, fill.likeness is not None
    kind: Literal["none", "flat", "blurred", "mixed"] = "none"
    if flat or blurred:
        kind = "mixed" if flat and blurred else "flat" if flat else "blurred"
    sizes = (bars.top + fill.top, bars.bottom + fill.bottom, bars.left + fill.left, bars.right + fill.right)
    change = _area(profiles, bars) - _area(profiles, steady)
    return Margins(*sizes, kind, bars.contrast, bars.softness, change, fill.likeness)


def _with_changes(profiles: Sequence[BarProfile], steady: Bars) -> Bars:
    """The steady bars and those that stand only at one end of the clip."""
    num_end = max(MIN_END_SAMPLES, int(END_SHARE * len(profiles)))
    if len(profiles) < 2 * MIN_END_SAMPLES or any(p.shape != profiles[0].shape for p in profiles):
        return steady
    found = steady
    for ordered in (profiles, profiles[::-1]):
        early = find_bars(ordered[:num_end])
        if early.softness is not None and early.softness < SOFT_EDGE and _comes_or_goes(ordered, early, steady):
            found = _joined(found, early)
    return found


def _comes_or_goes(ordered: Sequence[BarProfile], early: Bars, steady: Bars) -> bool:
    """Whether pairs of bars stand in the first samples, longer than the steady ones, and break all at once."""
    height, width = ordered[0].shape
    paired = False
    for ahead, behind, ahead_always, behind_always, size in (
        (early.top, early.bottom, steady.top, steady.bottom, height),
        (early.left, early.right, steady.left, steady.right, width),
    ):
        grows = (ahead - ahead_always >= MIN_COME * size, behind - behind_always >= MIN_COME * size)
        if any(grows) and not all(grows):
            return False
        paired |= all(grows)
    if not paired:
        return False
    covered = [_covered(p, early, steady) for p in ordered]
    num_end = max(MIN_END_SAMPLES, int(END_SHARE * len(ordered)))
    levels = [float(np.median(np.concatenate([sides[i].ravel() for sides in covered[:num_end]]))) for i in range(len(covered[0]))]
    offs = [
        min(float(np.mean(np.abs(side.astype(np.float32) - level) > OFF_LEVELS)) for side, level in zip(sides, levels, strict=True))
        for sides in covered
    ]
    breaks = next((i for i, share in enumerate(offs) if share > HOLD_SHARE), len(offs))
    # The sample at the change may be a dissolve of both.
    return any(share >= BREAK_SHARE for share in offs[breaks : breaks + 2])


def _covered(profile: BarProfile, bars: Bars, steady: Bars) -> list[np.ndarray]:
    """Points that `bars` cover and `steady` do not, one array a side, two lines short of the edge."""
    height, width = profile.shape
    sides = [
        profile.rows[steady.top : max(0, bars.top - 2)],
        profile.rows[height - max(0, bars.bottom - 2) : height - steady.bottom],
        profile.columns[:, steady.left : max(0, bars.left - 2)],
        profile.columns[:, width - max(0, bars.right - 2) : width - steady.right],
    ]
    return [side for side in sides if side.size]


def _joined(one: Bars, other: Bars) -> Bars:
    contrast = min(value for value in (one.contrast, other.contrast) if value is not None)
    softness = max(value for value in (one.softness, other.softness) if value is not None)
    top, bottom = max(one.top, other.top), max(one.bottom, other.bottom)
    return Bars(top, bottom, max(one.left, other.left), max(one.right, other.right), contrast, softness)


def _area(profiles: Sequence[BarProfile], bars: Bars) -> float:
    """Share of the frame that the bars cover."""
    if not profiles:
        return 0.0
    height, width = profiles[0].shape
    return 1.0 - max(0, height - bars.top - bars.bottom) * max(0, width - bars.left - bars.right) / (height * width)


def _cropped(profile: BarProfile, bars: Bars) -> BarProfile:
    """What of the points lies inside the bars, as the profile of a smaller picture."""
    if bars.contrast is None:
        return profile
    height, width = profile.shape
    inner = (height - bars.top - bars.bottom, width - bars.left - bars.right)
    down, across = _inside(height, bars.top, bars.bottom), _inside(width, bars.left, bars.right)
    rows = profile.rows[bars.top : height - bars.bottom][:, across]
    return BarProfile(inner, rows, profile.columns[down][:, bars.left : width - bars.right])


def _inside(size: int, before: int, after: int) -> np.ndarray:
    where = places(size)
    return (where >= before) & (where < size - after)
