"""Wipes: an edge sweeps over the picture, and each block turns from the old shot to the new one when it passes.

Between a frame A of the old shot and a frame B of the new one every block b is projected on its own way, as `curate.shots.blend` does
with the whole frame: s_b(t) = clamp(<x_b(t) - A_b, B_b - A_b> / |B_b - A_b|^2, 0, 1). The time at which it turns is the integral

    tau_b = sum over t of (1 - s_b(t))

which noise and motion on both sides hardly move. In a wipe tau_b is a straight function of the block's place (any direction) or of
its distance from the middle (iris), weighted by how much the block changes: R^2 tells a wipe from a camera's move, whose blocks turn
in no order. The same line read at both ends of the picture is the span, also where the window does not hold all of it. TransNetV2 was
not trained on wipes and does not see them.
"""

import math
from dataclasses import dataclass

import numpy as np

from curate.shots.likeness import alike
from curate.shots.track import HEIGHT, WIDTH, rms

NOISE = 300.0
"""Squared change of a block (three channels, 8-bit levels) that counts for nothing."""
LEAST = 100.0
"""Least mean squared change of a block beyond noise."""
HEAVIEST = 2.0
"""No block weighs more than this many times the median one."""

MIN_ORDER, MAX_STRAY, MAX_EDGE, MAX_DETOUR, MIN_SPREAD = 0.75, 0.12, 0.4, 1.8, 0.4
LOOSE_ORDER, LOOSE_STRAY, LOOSE_EDGE, LOOSE_DETOUR, LOOSE_SPREAD = 0.55, 0.3, 0.6, 3.0, 0.25
"""Of a wipe that is plain, and of one that may be."""
MIN_CHANGE, MAX_ALIKE = 12.0, 0.85
"""Least rms change (8-bit levels) and most correlation of the pictures on both sides."""
ROUGH_ORDERS = 0.2, 0.4
"""Least order of the first two looks; each puts the window of the next around what it saw."""


@dataclass(frozen=True, slots=True)
class Wipe:
    """Where the edge enters and leaves the picture, in frames of the window, and how well that describes what happened.

    order   R^2 of the blocks' times as a function of their places
    stray   mean squared distance of blocks from their way, per squared change
    detour  length of the way, 1 for blocks that turn once
    edge    share of the wipe that a block is in the edge for; 2/3 in a dissolve, whose blocks turn together
    spread  share of the picture that changes
    """

    start: float
    end: float
    order: float
    stray: float
    detour: float
    edge: float
    spread: float

    @property
    def is_plain(self) -> bool:
        """Whether it is one, whatever follows."""
        return (
            self.order >= MIN_ORDER
            and self.stray <= MAX_STRAY
            and self.edge <= MAX_EDGE
            and self.detour <= MAX_DETOUR
            and self.spread >= MIN_SPREAD
            and self.end - self.start >= 3
        )

    @property
    def is_possible(self) -> bool:
        """Whether it may be one."""
        return (
            self.order >= LOOSE_ORDER
            and self.stray <= LOOSE_STRAY
            and self.edge <= LOOSE_EDGE
            and self.detour <= LOOSE_DETOUR
            and self.spread >= LOOSE_SPREAD
            and self.end - self.start >= 3
        )


def _places() -> np.ndarray:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    x, y = (x.ravel() + 0.5) / WIDTH - 0.5, (y.ravel() + 0.5) / HEIGHT - 0.5
    circle, ellipse = np.hypot(x * WIDTH, y * HEIGHT), np.hypot(x, y)
    return np.stack([np.ones(x.size), x, y, circle / circle.max(), ellipse / ellipse.max()])


PLACES = _places()
"""float64 (5, 144): one, x and y from -1/2 to 1/2, distance from the middle 0 to 1 for a round iris and for one of the picture's shape."""


def found_wipe(features: np.ndarray, start: int, stop: int) -> tuple[int, int, Wipe] | None:
    """What may be a wipe of at least three frames near frames `start <= n < stop` of a longer stretch (N, 432).

    Returns the window that shows it best, start and stop, and the wipe in frames from the window's start.
    """
    for rough in (*ROUGH_ORDERS, None):
        if stop - start < 6:
            return None
        old, new = features[start], features[stop - 1]
        if rms(new - old) < MIN_CHANGE or alike(old, new) > MAX_ALIKE:
            return None
        wipe = swept(features[start:stop])
        if wipe is None:
            return None
        if rough is None:
            return (start, stop, wipe) if wipe.is_possible else None
        if wipe.order < rough or wipe.end - wipe.start < 3:
            return None
        beside = max(2.0, 0.15 * (wipe.end - wipe.start))
        start, stop = max(0, math.floor(start + wipe.start - beside)), min(len(features), math.ceil(start + wipe.end + beside) + 1)
    return None


def swept(features: np.ndarray) -> Wipe | None:
    """The wipe that explains frames (N, 432) best, N >= 4; None where nothing changes."""
    blocks = features.reshape(len(features), -1, 3)
    old, new = blocks[:2].mean(axis=0), blocks[-2:].mean(axis=0)
    chord = new - old
    length2 = np.square(chord).sum(axis=1)
    weight = np.maximum(length2 - NOISE, 0.0)
    if weight.mean() < LEAST:
        return None
    way = ((blocks - old) * chord).sum(axis=2) / (length2 + 30.0)
    share = np.clip(way, 0.0, 1.0)
    rest = blocks - old - share[:, :, None] * chord
    part = weight / weight.sum()
    fitted = _fitted((1.0 - share).sum(axis=0), weight)
    if fitted is None:
        return None
    start, end, order = fitted
    return Wipe(
        start,
        end,
        order,
        stray=float(np.square(rest).sum(axis=(1, 2)).mean() / length2.sum()),
        detour=float((np.abs(np.diff(share, axis=0)).sum(axis=0) * part).sum()),
        edge=float(((4 * share * (1 - share)).sum(axis=0) * part).sum() / max(end - start, 1e-6)),
        spread=float(np.count_nonzero(part > 0.2 / len(part)) / len(part)),
    )


def _fitted(tau: np.ndarray, weight: np.ndarray) -> tuple[float, float, float] | None:
    """Start, end and R^2 of the best of a straight edge and the irises."""
    weight = np.minimum(weight, HEAVIEST * np.median(weight[weight > 0]))
    root = np.sqrt(weight / weight.sum())
    mean = float((root**2 * tau).sum())
    variance = float(np.square(root * (tau - mean)).sum())
    best = None
    for rows in ((0, 1, 2), (0, 3), (0, 4)):
        design = PLACES[list(rows)]
        solved, *_ = np.linalg.lstsq((design * root).T, tau * root, rcond=None)
        line = solved @ design
        order = 1.0 - float(np.square(root * (tau - line)).sum()) / (variance + 1e-9)
        if best is None or order > best[2]:
            best = float(line.min()), float(line.max()), order
    return best
