"""The crop that saves a clip: the largest rectangle of the picture that no burnt-in overlay touches."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from curate.clip import Box
from curate.media.geometry import inward
from curate.media.overlays import find_overlays
from curate.samples import MotionFrames

MARGIN_SHARE = 0.006  # of the picture's side, at least 1 px: what an overlay's box may fall short of its glow and its coding noise


@dataclass(frozen=True, slots=True)
class Saved:
    """A free part as fractions of the picture (left, top, right, bottom), and the kinds of the overlays that lie outside of it, sorted."""

    part: tuple[float, float, float, float]
    kinds: tuple[str, ...]


def without_overlays(motion: MotionFrames, min_area: float) -> Saved | None:
    """The part of a clip's picture to keep; None where nothing is burnt in, or too little would be left."""
    overlays = find_overlays(motion.grid, motion.grid_times_ns.tolist(), motion.pairs)
    if not overlays:
        return None
    height, width = motion.grid[0].shape
    free = saving_crop([overlay.box for overlay in overlays], width, height, min_area)
    if free is None:
        return None
    part = (free.x / width, free.y / height, (free.x + free.width) / width, (free.y + free.height) / height)
    return Saved(part, tuple(sorted({overlay.kind for overlay in overlays})))


def part_of(box: Box, saved: Saved) -> Box:
    """The whole pixels of the box that lie in the part."""
    left, top, right, bottom = saved.part
    rows, cols = inward(top, bottom, box.height), inward(left, right, box.width)
    return Box(box.x + cols.start, box.y + rows.start, cols.stop - cols.start, rows.stop - rows.start)


def saving_crop(overlays: Sequence[Box], width: int, height: int, min_area: float) -> Box | None:
    """The largest part of a width x height picture that is free of all overlays; None where less than `min_area` of it would be left.

    Every largest free rectangle ends at the picture's rim or at an overlay, so that only those places are tried. Of equal ones the first
    from the top left is taken. What keeps `min_area` of the picture keeps its aspect ratio to within a factor of 1 / `min_area`.
    """
    across, down = max(1, round(MARGIN_SHARE * width)), max(1, round(MARGIN_SHARE * height))
    taken = [(box.x - across, box.y - down, box.x + box.width + across, box.y + box.height + down) for box in overlays]
    lefts = sorted({0, *(right for _, _, right, _ in taken if right < width)})
    rights = sorted({width, *(left for left, _, _, _ in taken if left > 0)})
    tops = sorted({0, *(bottom for _, _, _, bottom in taken if bottom < height)})
    bottoms = sorted({height, *(top for _, top, _, _ in taken if top > 0)})
    best: Box | None = None
    for top, left, bottom, right in product(tops, lefts, bottoms, rights):
        area = max(0, right - left) * max(0, bottom - top)
        if area < max(1.0, min_area * width * height) or (best is not None and area <= best.width * best.height):
            continue
        if all(x1 <= left or x0 >= right or y1 <= top or y0 >= bottom for x0, y0, x1, y1 in taken):
            best = Box(left, top, right - left, bottom - top)
    return best
