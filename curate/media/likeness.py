"""How like the small pictures of a written clip are to those of its source: each at its place, in its colours, in its frame.

Where the limits come from: some 100 good clips of 25 files (web video, film, fixed cameras, screens, generated), 20 to 45 pictures each,
whole or cropped, resized and resampled, by x264 veryfast. Largest figures at CRF 18, 28 and 40: luma 2.9, 4.3 and 9.1 levels; chroma 1.5,
2.5 and 3.9; the best affine map of colours moves them by 0.5, 1.1 and 2.5. Another box explained at most 13 % of the difference in whole
clips of five files, under 25 % in a shrunk screen recording; a box that was off by a pixel explained 30 % and more at CRF 18 and 28 where
the picture had edges, but 7 % at 40. Coders repeat pictures where little moves and lean on neighbours where much does, so a single wrong
picture is found if it is further from its neighbour than the coder's own error. Sums over all pictures are surer: there a mistake in
colours or a shift of the whole clip stands out of the noise.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from curate.media.witness import Small, codes_of, signals_of

NEARER = 0.7  # of the way from the own picture to a neighbour: what lies there shows the neighbour
SHOWN = 0.7  # of the difference to the own picture: less to the neighbour than that leaves no doubt that it is what is shown
MISTAKEN, REFRAMED = 0.08, 0.25  # of the difference, explained by a mistake in colours and by another box
SHIFTED = 0.75  # of the clip's difference: less to the source's pictures one place away means that the clip shows those
MAX_FITTED = 48  # pictures of a clip that colours and framing are found from


Change = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Of Y, Cb, Cr, limited codes of 8 bits, to those that a mistake makes of them; affine."""


def _rematrixed(right: int, wrong: int) -> Change:
    return lambda y, u, v: codes_of(*signals_of(y, u, v, right), wrong)


def _affine(change: Change) -> np.ndarray:
    """float64 (4, 3): (1, Y - 128, Cb - 128, Cr - 128) to the differences that the change makes in Y, Cb and Cr."""
    points = 128 + np.vstack([np.zeros(3), np.eye(3)])
    moved = np.stack(change(*points.T), axis=1) - points
    moved[1:] -= moved[0]
    return moved


MATRICES = {"BT.601": 6, "BT.709": 1, "BT.2020": 9}
MISTAKES = {
    **{
        f"made with the matrix of {wrong}, not of {right}": _affine(_rematrixed(MATRICES[right], MATRICES[wrong]))
        for right, wrong in itertools.permutations(MATRICES, 2)
    },
    "in full range": _affine(lambda y, u, v: ((y - 16) * 255 / 219, 128 + (u - 128) * 255 / 224, 128 + (v - 128) * 255 / 224)),
    "squeezed into limited range twice": _affine(
        lambda y, u, v: (16 + y * 219 / 255, 128 + (u - 128) * 224 / 255, 128 + (v - 128) * 224 / 255)
    ),
    "with Cb and Cr exchanged": _affine(lambda y, u, v: (y, v, u)),
    "grey": _affine(lambda y, u, v: (y, 0 * u + 128, 0 * v + 128)),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Most that a good clip has of each figure of `Findings`, in levels and small pixels.

    alike     neighbours that are no further apart may stand for each other: coders repeat pictures where little moves
    mistaken  what moves the colours by less is not told from the coder's doing
    framing   both the places of the corners and the levels have to be beyond their limit: what has no edges has no place
    """

    luma: float
    chroma: float
    peak: float
    alike: float
    colour: float
    mistaken: float
    moved: float
    moved_levels: float

    @classmethod
    def of(cls, coarseness: float | None, factor: int) -> "Limits":
        """Of a CRF; of copies, which decode to what the source decodes to, where that is None. `factor`: see `Scale`."""
        if coarseness is None:
            return cls(luma=0.25, chroma=0.25, peak=4.0, alike=0.05, colour=0.25, mistaken=0.1, moved=0.02, moved_levels=0.1)
        # What a coder changes doubles about every ten steps of its scale.
        growth = 2 ** (max(0.0, coarseness - 18) / 10)
        # In pictures that are too small to be averaged all that the coder changes is seen.
        rough = growth * (2.5 if factor == 1 else 1.0)
        return cls(
            luma=4.0 * rough,
            chroma=6.0 * rough,
            peak=50 * rough,
            alike=0.3 * growth,
            colour=2.5 * growth,
            mistaken=0.3 * growth,
            moved=0.08 * growth,
            moved_levels=0.2 * growth,
        )


@dataclass(slots=True, eq=False)
class Findings:
    """Figures of one clip, in 8-bit levels. Arrays have one value a picture.

    luma, chroma    mean differences to the own picture
    peak            largest difference of averaged luma
    nearest         (N, 3) the neighbour that the written picture is nearest to: how far it is from the own picture, where the written
                    picture lies between the two (0: the own, 1: the neighbour), and its difference to the neighbour over that to the own
    colour          (3,) how far the best affine map of colours moves the clip's colours, rms, in Y, Cb, Cr
    mistakes        for each of `MISTAKES`: how far it would move the clip's colours, rms, where the written ones lie on that way, and which
                    share of the difference (squared) it explains
    framing         how far the best shift and stretch moves the corners, in small pixels, how many levels that means, and which share of
                    the difference (squared) it explains: a coder's blur explains little
    earlier, later  mean differences to the source's pictures one place before and behind, over that to the own
    """

    luma: np.ndarray
    chroma: np.ndarray
    peak: np.ndarray
    nearest: np.ndarray
    sides: list[str]
    colour: np.ndarray
    mistakes: dict[str, tuple[float, float, float]]
    framing: tuple[float, float, float]
    earlier: float
    later: float


def fault(findings: Findings, limits: Limits, times_s: Sequence[float]) -> str | None:
    """What is wrong with a clip whose pictures have these times, the gravest first; None where nothing is."""
    size, along, ratio = findings.nearest.T
    swapped = np.flatnonzero((size > limits.alike) & (along > NEARER) & (ratio < SHOWN))
    for side, part in (("earlier", findings.earlier), ("later", findings.later)):
        if part < SHIFTED and findings.luma.mean() > limits.alike:
            return f"the written pictures are those of the source one frame {side} than their times ({part:.2f} of the difference)"
    if len(swapped):
        k = swapped[0]
        return f"at {times_s[k]:.6f} s the written picture shows the source's frame {findings.sides[k]}, not its own"
    for what, figures, limit in (
        ("luma differs by", findings.luma, limits.luma),
        ("chroma differs by", findings.chroma, limits.chroma),
        ("a spot differs by", findings.peak, limits.peak),
    ):
        k = int(figures.argmax())
        if figures[k] > limit:
            return f"at {times_s[k]:.6f} s the written picture is not the source's: {what} {figures[k]:.2f} levels, {limit:.2f} allowed"
    for mistake, (moved, way, share) in findings.mistakes.items():
        if moved > limits.mistaken and way > NEARER and share > MISTAKEN:
            return f"the clip's colours are not the source's: they are {mistake} ({moved:.2f} levels)"
    if findings.colour.max() > limits.colour:
        moves = ", ".join(f"{name} by {levels:.2f}" for name, levels in zip(("Y", "Cb", "Cr"), findings.colour, strict=True))
        return f"the clip's colours are not the source's: they move {moves} levels, {limits.colour:.2f} allowed"
    moved, levels, share = findings.framing
    if moved > limits.moved and levels > limits.moved_levels and share > REFRAMED:
        return f"the clip does not show the box it should: it is off by {moved:.2f} small pixels, {limits.moved:.2f} allowed"
    return None


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference in levels; infinite where the sizes differ."""
    return cv2.norm(a, b, cv2.NORM_L1) / a.size if a.shape == b.shape else float("inf")


def compare(written: Sequence[Small], source: Sequence[Small], places: np.ndarray) -> Findings:
    """Picture k of `written` with `source[places[k]]`, and with those beside it in the source and in the clip."""
    luma, chroma, peak, nearest, sides = [], [], [], [], []
    fitted = set(np.unique(np.linspace(0, len(written) - 1, MAX_FITTED).round().astype(int)).tolist())
    fit = _Fit()
    apart = np.zeros(3)
    for k, picture in enumerate(written):
        own = source[places[k]]
        target = own.luma.astype(np.float32)
        error = picture.luma.astype(np.float32) - target
        luma.append(float(np.abs(error).mean()))
        chroma.append(difference(picture.chroma, own.chroma))
        peak.append(float(np.abs(error).max()))
        beside = {"before": places[k] - 1, "after": places[k] + 1}
        beside |= {"earlier in the clip": places[k - 1]} if k else {}
        beside |= {"later in the clip": places[k + 1]} if k + 1 < len(places) else {}
        worst, side = (0.0, -1.0, 1.0), ""
        for name, place in beside.items():
            if not 0 <= place < len(source):
                continue
            step = source[place].luma.astype(np.float32) - target
            power = float(np.vdot(step, step))
            size = float(np.abs(step).mean())
            if power == 0:
                continue
            along = float(np.vdot(error, step)) / power
            if along > worst[1]:
                apart_there = float(np.abs(error - step).mean())
                worst, side = (size, along, apart_there / luma[-1] if luma[-1] else 1.0), name
        nearest.append(worst)
        sides.append(side)
        if 0 < places[k] < len(source) - 1:
            apart += [luma[-1], *(difference(picture.luma, source[places[k] + by].luma) for by in (-1, 1))]
        if k in fitted:
            fit.add(picture, own)
    earlier, later = (float(shifted / apart[0]) if apart[0] > 0 else 1.0 for shifted in apart[1:])
    return Findings(
        np.array(luma),
        np.array(chroma),
        np.array(peak),
        np.array(nearest),
        sides,
        fit.colour(),
        fit.mistakes(),
        fit.framing(),
        earlier,
        later,
    )


@dataclass(slots=True, eq=False)
class _Fit:
    """Normal equations of the two fits, summed over pictures.

    Colours: difference = A (1, Y, Cb, Cr). Framing: difference = a + b gx + c gx x + d gy + e gy y, with the picture's slopes gx, gy and
    places x, y in -1 to 1.
    """

    colour_power: np.ndarray = field(default_factory=lambda: np.zeros((4, 4)))
    colour_moment: np.ndarray = field(default_factory=lambda: np.zeros((4, 3)))
    frame_power: np.ndarray = field(default_factory=lambda: np.zeros((5, 5)))
    frame_moment: np.ndarray = field(default_factory=lambda: np.zeros(5))
    colour_error: float = 0.0
    frame_error: float = 0.0
    num_small: int = 0
    num_large: int = 0

    def add(self, picture: Small, own: Small) -> None:
        size = own.chroma.shape[:0:-1]
        channels = [np.stack([cv2.resize(s.luma, size, interpolation=cv2.INTER_AREA), *s.chroma]).reshape(3, -1) for s in (picture, own)]
        codes = np.vstack([np.ones(channels[1].shape[1]), channels[1].astype(np.float64) - 128])
        self.colour_power += codes @ codes.T
        error = channels[0].astype(np.float64) - channels[1]
        self.colour_moment += codes @ error.T
        self.colour_error += float(np.vdot(error, error))
        self.num_small += codes.shape[1]
        target = own.luma.astype(np.float32)
        if min(target.shape) < 3:
            return
        slope_y, slope_x = (np.asarray(np.gradient(target, axis=axis)) for axis in (0, 1))
        y, x = np.mgrid[-1 : 1 : target.shape[0] * 1j, -1 : 1 : target.shape[1] * 1j].astype(np.float32)
        inner = (slice(1, -1), slice(1, -1))
        terms = np.stack([t[inner].ravel() for t in (np.ones_like(x), slope_x, slope_x * x, slope_y, slope_y * y)])
        self.frame_power += (terms @ terms.T).astype(np.float64)
        luma_error = (picture.luma.astype(np.float32) - target)[inner].ravel()
        self.frame_moment += terms @ luma_error
        self.frame_error += float(luma_error.var()) * luma_error.size
        self.num_large += terms.shape[1]

    def colour(self) -> np.ndarray:
        damped = self.colour_power + np.eye(4) * self.num_small * 0.25  # quarter of a level of noise: what does not vary is not stretched
        weights = np.linalg.solve(damped, self.colour_moment)
        return np.sqrt(np.maximum(np.einsum("ic,ij,jc->c", weights, self.colour_power, weights), 0) / max(1, self.num_small))

    def mistakes(self) -> dict[str, tuple[float, float, float]]:
        found = {}
        for name, change in MISTAKES.items():
            power = float(np.trace(change.T @ self.colour_power @ change))
            along = float(np.trace(change.T @ self.colour_moment)) / power if power > 0 else 0.0
            share = along**2 * power / self.colour_error if self.colour_error > 0 else 0.0
            found[name] = (float(np.sqrt(power / max(1, self.num_small))), along, share)
        return found

    def framing(self) -> tuple[float, float, float]:
        damped = self.frame_power + np.eye(5) * self.num_large * 0.25
        weights = np.linalg.solve(damped, self.frame_moment) if self.num_large else np.zeros(5)
        moved = max(abs(weights[1]) + abs(weights[2]), abs(weights[3]) + abs(weights[4]))
        slopes = np.where(np.arange(5) > 0, weights, 0)
        power = max(0.0, float(slopes @ self.frame_power @ slopes))
        return float(moved), (power / max(1, self.num_large)) ** 0.5, power / self.frame_error if self.frame_error > 0 else 0.0
