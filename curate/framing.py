"""Which part of the displayed picture is shown at which size: centred crops inside the active picture, aspect buckets, multiples.

A picture is never stretched: the box has the aspect ratio of the size it is shown at, to within one pixel of rounding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from curate.clip import Box


@dataclass(frozen=True, slots=True)
class Framing:
    """`box` (displayed pixels of the source) shown at `width` x `height` pixels."""

    box: Box
    width: int
    height: int

    @property
    def scale(self) -> float:
        """Written pixels for one of the source's; above 1 the picture is enlarged."""
        return max(self.width / self.box.width, self.height / self.box.height)


def cover(active: Box, width: int, height: int) -> Framing:
    """The largest centred box of the aspect width : height inside the active picture."""
    if active.width * height > active.height * width:
        box_width, box_height = max(1, round(active.height * width / height)), active.height
    else:
        box_width, box_height = active.width, max(1, round(active.width * height / width))
    box_width, box_height = min(box_width, active.width), min(box_height, active.height)
    x, y = active.x + (active.width - box_width) // 2, active.y + (active.height - box_height) // 2
    return Framing(Box(x, y, box_width, box_height), width, height)


def nearest_bucket(active: Box, buckets: Sequence[tuple[int, int]], max_enlarge: float = math.inf) -> Framing | str:
    """Of the buckets (width, height) that enlarge the picture by no more, the one that shows most of it; or why there is none.

    Of equals the one with most pixels, then the first named.
    """

    def shown(size: tuple[int, int]) -> tuple[float, int]:
        box = cover(active, *size).box
        return round(box.width * box.height / (active.width * active.height), 3), size[0] * size[1]

    fitting = [size for size in buckets if cover(active, *size).scale <= max_enlarge]
    if not fitting:
        least = min((cover(active, *size) for size in buckets), key=lambda framing: framing.scale)
        return too_small(least, max_enlarge)
    return cover(active, *max(fitting, key=shown))


def too_small(framing: Framing, max_enlarge: float) -> str:
    """The reason why a picture is not shown so."""
    box = framing.box
    shown = f"{box.width}x{box.height} px would be enlarged {framing.scale:.2f} times to {framing.width}x{framing.height}"
    return f"too small: {shown}, more than max_enlarge={max_enlarge:g}"


def fit(active: Box, max_pixels: int | None = None, short_side: int | None = None, multiple: int = 2) -> Framing:
    """The active picture at its own aspect ratio and at most so large, never enlarged, sides cut to multiples of `multiple`.

    A picture smaller than `multiple` in one direction gets a side of `multiple`, which enlarges it (see `Framing.scale`).
    """
    scale = 1.0
    if max_pixels is not None:
        scale = min(scale, (max_pixels / (active.width * active.height)) ** 0.5)
    if short_side is not None:
        scale = min(scale, short_side / min(active.width, active.height))
    width, height = (max(multiple, int(side * scale + 1e-6) // multiple * multiple) for side in (active.width, active.height))
    return cover(active, width, height)
