"""Decoded samples of the open clip, one in each cell of the sample grid, held by reference within a cap on bytes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from curate.clip import Box, Span
from curate.media.active import find_margins
from curate.media.bars import MAX_BLACK, BarProfile, profile
from curate.media.picture import Picture
from curate.samples import Surround

HORIZON_S = 8.0  # how long after its end a clip may still be open, because a detector speaks late (cascade 4.3 s, TransNetV2 to 7.5)
COLOUR_SHORT_SIDE = 4  # px: the colour of a bar
CHROMA_SLACK = 12.0  # levels by which a channel of black may exceed its luma: chroma is coded in coarse steps


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """One sample: pixels, evidence for bars, and the low-resolution luma for flow (None where no scorer reads it)."""

    time_ns: int
    picture: Picture
    bars: BarProfile
    analysis: np.ndarray | None


class HeldSamples:
    """The first frame of every cell of `grid_ms` on the source's own time, and each that is still shown a whole cell later.

    A frame that is larger than its share of `max_held_mb` is area-averaged by the smallest whole factor that fits, always, so that
    what a scorer sees does not depend on how full the buffer is.
    """

    def __init__(self, grid_ms: int, max_clip_s: float, max_held_mb: int, with_analysis: bool) -> None:
        self._cell_ns = grid_ms * 1_000_000
        num_samples = (max_clip_s + HORIZON_S) * 1000 / grid_ms
        self._budget_bytes = max_held_mb * 1_000_000 / num_samples
        self._with_analysis = with_analysis
        self._last_cell: int | None = None
        self._latest: tuple[int, Picture] | None = None  # if it is no sample
        self._held: list[Held] = []

    def push(self, time_ns: int, picture: Picture) -> None:
        cell = time_ns // self._cell_ns
        self._hold_latest(time_ns)
        if cell == self._last_cell:
            self._latest = time_ns, picture
            return
        self._latest = None
        self._held.append(self._sample(time_ns, picture))
        self._last_cell = cell  # the next frame serves where this one could not be converted

    def _hold_latest(self, now_ns: int) -> None:
        """Makes the frame before a time a sample if it has been shown for a whole cell after its own: nobody else shows what there was."""
        if self._latest is not None and now_ns // self._cell_ns > self._latest[0] // self._cell_ns + 1:
            latest, self._latest = self._latest, None
            self._held.append(self._sample(*latest))

    def _sample(self, time_ns: int, picture: Picture) -> Held:
        analysis = picture.analysis_luma() if self._with_analysis else None
        factor = 1
        while picture.num_bytes / factor**2 > self._budget_bytes:
            factor += 1
        kept = picture.reduced(factor) if factor > 1 else picture
        return Held(time_ns, kept, _bar_profile(kept), analysis)

    def cut(self, span: Span) -> list[Held]:
        if self._latest is not None and self._latest[0] in span:
            self._hold_latest(span.end_ns)
        return [held for held in self._held if held.time_ns in span]

    def forget_before(self, time_ns: int) -> None:
        self._held = [held for held in self._held if held.time_ns >= time_ns]


def _bar_profile(picture: Picture) -> BarProfile:
    codes = picture.luma_codes()
    if codes is None:
        return profile(picture.luma())
    # The points are chosen first: a full picture of levels would cost ten times as much.
    points = profile(codes)
    return BarProfile(points.shape, picture.levels(points.rows), picture.levels(points.columns))


def active_box(held: list[Held], displayed: tuple[int, int]) -> tuple[Box, Surround]:
    """The active picture of a clip in displayed pixels, and what lies around it. The whole frame where no sample is held."""
    width, height = displayed
    if not held:
        return Box(0, 0, width, height), Surround()
    margins = find_margins([h.bars for h in held])
    if margins.fill == "none":
        return Box(0, 0, width, height), Surround()
    rows, cols = held[0].bars.shape
    left, right = (-(-side * width // cols) for side in (margins.left, margins.right))
    top, bottom = (-(-side * height // rows) for side in (margins.top, margins.bottom))
    box = Box(left, top, width - left - right, height - top - bottom)
    softness = margins.softness * height / rows if margins.softness is not None else None
    fill = _colour(held, box, displayed) if margins.fill == "flat" else margins.fill
    return box, Surround(box, fill, margins.contrast, softness, margins.change, margins.likeness)


def _colour(held: list[Held], box: Box, displayed: tuple[int, int]) -> Literal["black", "coloured"]:
    """Whether the outer half of the thickest bar shows black, at the end of the clip where it is the flatter."""
    width, height = displayed
    right, bottom = width - box.x - box.width, height - box.y - box.height
    strips = [
        Box(0, 0, width, (box.y + 1) // 2),
        Box(0, height - (bottom + 1) // 2, width, (bottom + 1) // 2),
        Box(0, 0, (box.x + 1) // 2, height),
        Box(width - (right + 1) // 2, 0, (right + 1) // 2, height),
    ]
    strip = max(strips, key=lambda s: s.width * s.height)
    shown = [sample.picture.rgb(strip, COLOUR_SHORT_SIDE).reshape(-1, 3) for sample in (held[0], held[-1])]
    flattest = min(shown, key=lambda rgb: float(rgb.std(axis=0).max()))
    return "black" if float(np.median(flattest, axis=0).max()) <= MAX_BLACK + CHROMA_SLACK else "coloured"
