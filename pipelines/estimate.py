"""Totals of many sources from a pilot on a few: which to take, and what their numbers say of all.

Sources differ by orders of magnitude, so a pilot is drawn with unequal chances: proportional to the
square root of the cost that headers predict. That is the standard deviation over the root of the
cost of looking, both proportional to the prediction: the least variance for a given cost of the
pilot (Cochran 1977, 5.5). Sources that are large enough are in every pilot, and count as they are.
For the rest, each quantity is estimated as a ratio to its prediction, whose total is known.

A pilot of 16 seldom meets the rare source that is quite different, and its own spread says nothing
of it. So each end of an interval is computed as if one more source had been in the pilot: one that
gave nothing for the lower end, and one that gave the most it can for the upper (as Agresti and
Coull 1998 do for proportions). Ends are those of Student's t on the logarithm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Student's t, 97.5th percentile, 1 to 30 degrees of freedom.
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
MAX_FACTOR = 1e6  # by which an end may differ from the estimate


@dataclass(frozen=True, slots=True)
class Range:
    """An estimate and the ends of its interval."""

    value: float
    low: float
    high: float

    def times(self, factor: float, spread: float = 0.0) -> "Range":
        """The range of a multiple; `spread` is the standard error of the factor's logarithm."""
        return Range(
            self.value * factor,
            self.value * factor * math.exp(-_joined(self.value, self.low, spread)),
            self.value * factor * math.exp(_joined(self.high, self.value, spread))
            if self.value
            else self.high * factor,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """A pilot: the places of its sources in the list, ascending, and the chance each had."""

    places: np.ndarray
    chances: np.ndarray


def draw(costs: Sequence[float], num: int, seed: int) -> Draw:
    """Draws `num` sources, or all if there are fewer, systematically in random order."""
    rng = np.random.default_rng(seed)
    chances = _chances(np.sqrt(np.asarray(costs, dtype=np.float64)), num)
    order = rng.permutation(len(chances))
    sums = np.cumsum(chances[order]) - rng.random() + 1e-9
    hits = np.floor(sums) > np.floor(np.concatenate([[-1e-9], sums[:-1]]))
    places = np.sort(order[hits | (chances[order] >= 1)])
    return Draw(places, chances[places])


def total(
    values: np.ndarray,
    sizes: np.ndarray,
    chances: np.ndarray,
    all_sizes: float,
    most: np.ndarray | None = None,
) -> Range:
    """Estimates the sum of a quantity over all sources.

    `values` and `sizes` (its prediction) are those of the pilot, `all_sizes` the sum over all
    sources, and `most` what the quantity can at most be; None: twice what is seen.
    """
    is_sure = chances >= 1
    known = float(values.sum())
    rest, chances = ~is_sure, chances[~is_sure]
    left = all_sizes - float(sizes[is_sure].sum())
    expanded = float((sizes[rest] / chances).sum())
    if not rest.any() or expanded <= 0 or left <= 1e-9 * all_sizes:
        return Range(known, known, known)
    scale = left / expanded
    shares, sums = sizes[rest] / chances * scale, values[rest] / chances * scale
    top = 2 * sums.sum() if most is None else max(sums.sum(), (most[rest] / chances).sum() * scale)
    value = float(sums.sum())
    low = _end(sums, shares, chances, 0.0, -1)
    high = _end(sums, shares, chances, top / left, 1)
    sure = float(values[is_sure].sum())
    return Range(sure + value, max(known, sure + min(low, value)), sure + max(high, value))


def scaled(sizes: np.ndarray, weights: np.ndarray, all_weights: float) -> tuple[float, float]:
    """Extends the sum of `sizes` over an even sample to all, by a known `all_weights`.

    Returns the factor, and the standard error of its logarithm.
    """
    if weights.sum() <= 0 or sizes.sum() <= 0:
        return 1.0, 0.0
    factor = all_weights / float(weights.sum())
    errors = sizes - sizes.sum() / weights.sum() * weights
    is_part = 1 - 1 / factor
    variance = len(sizes) / max(1, len(sizes) - 1) * is_part * float((errors**2).sum())
    return factor, math.sqrt(max(0.0, variance)) / float(sizes.sum())


def _chances(sizes: np.ndarray, num: int) -> np.ndarray:
    """Chances proportional to size that sum to `num`; those that would be 1 or more are 1."""
    chances = np.ones(len(sizes))
    rest = np.ones(len(sizes), dtype=bool)
    while num < len(sizes):
        wanted = num - (~rest).sum()
        chances[rest] = wanted * sizes[rest] / sizes[rest].sum()
        too_large = rest & (chances >= 1 - 1e-9)
        if not too_large.any():
            break
        chances[too_large] = 1.0
        rest &= ~too_large
    return chances


def _end(
    sums: np.ndarray, shares: np.ndarray, chances: np.ndarray, other: float, sign: int
) -> float:
    """An end of the interval, with one more source in the pilot that has the ratio `other`.

    It is as large as the sources of the pilot are in the mean weighted by size: a pilot in which
    few sources speak for most of the whole is worth fewer sources.
    """
    num, whole = len(sums), float(shares.sum())
    share = float((shares**2).sum()) / whole
    weight = whole / (whole + share)
    value = (float(sums.sum()) + other * share) * weight
    if value <= 0:
        return 0.0
    ratio = value / whole
    errors = (1 - chances) * (sums - ratio * shares) ** 2
    variance = float(errors.sum() + (1 - chances).mean() * ((other - ratio) * share) ** 2)
    error = math.sqrt(variance * (num + 1) / num) * weight
    exponent = min(math.log(MAX_FACTOR), _student(num - 1) * error / value)
    return value * math.exp(sign * exponent)


def _student(freedom: int) -> float:
    return STUDENT[max(0, freedom - 1)] if freedom <= len(STUDENT) else 1.96 + 2.4 / freedom


def _joined(high: float, low: float, spread: float) -> float:
    """The logarithm of a range's end and another relative error as one."""
    own = (
        math.log(high / low) if high > 0 and low > 0 else 0.0 if high <= 0 else math.log(MAX_FACTOR)
    )
    return math.hypot(own, 1.96 * spread)
