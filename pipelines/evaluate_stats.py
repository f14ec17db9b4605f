"""What an evaluation's numbers say. Clips are a cube [picture, seed, bucket] of each score; pictures are what is drawn from a population.

    mean over seeds and buckets of each picture -> mean over pictures, with the interval of a bootstrap over pictures

Intervals are percentile intervals of the bootstrap, widened for few pictures: the quantiles alpha/2 are replaced by
Phi(-sqrt(n / (n - 1)) t[1 - alpha/2, n - 1]) (Hesterberg 2015, The American Statistician 69, "expanded percentile interval"). Below
`MIN_PICTURES` there is none: of 4 values even the whole range misses the middle of what they were drawn from 1 time in 8, of 5 1 in 16.

Rank correlation is Spearman's, of asked bucket and measured motion along the buckets of one picture and one seed, ties sharing their rank.
A curve without any change of motion has no correlation by the formula; it counts as 0, since it does not follow the bucket.

Verdict of a comparison: the interval of the paired differences (same picture, bucket and seed) lies on one side of 0, or there is "no clear
difference". Nothing else makes one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

MIN_PICTURES = 5
MOTION = "motion_speed"
Verdict = Literal["better", "worse", "no clear difference", "too few pictures to say"]


@dataclass(frozen=True, slots=True)
class Score:
    """A column of the table of runs that is summed up. `better` is its good direction; None where there is none."""

    column: str
    name: str
    unit: str
    better: Literal["higher", "lower", "nearer 1"] | None

    def badness(self, values: np.ndarray) -> np.ndarray:
        """Lower is better; of `nearer 1`, how many doublings away from it."""
        if self.better == "nearer 1":
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.abs(np.log2(values))
        return -values if self.better == "higher" else values


SCORES = (
    Score(MOTION, "motion", "% of the diagonal/s", None),
    Score("motion_camera", "motion of the camera", "% of the diagonal/s", None),
    Score("motion_object", "motion of objects", "% of the diagonal/s", None),
    Score("fidelity_first", "first frame like the picture (SSIM)", "1", "higher"),
    Score("fidelity_clip", "frames like the picture (CLIP)", "cosine", "higher"),
    Score("flicker_warp", "flicker against the flow", "levels of 255", "lower"),
    Score("flicker_luma", "flicker of brightness", "levels of 255", "lower"),
    Score("sharpness_kept", "sharpness kept to the end (best: 1)", "ratio", "nearer 1"),
    Score("aesthetic_mean", "aesthetic score", "points", "higher"),
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over pictures and its interval, None where there are too few pictures for one."""

    value: float
    low: float | None
    high: float | None
    num_pictures: int

    @property
    def sign(self) -> int:
        """Of the whole interval: 1, -1, or 0 where it holds 0 or there is none."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


@dataclass(frozen=True, slots=True, eq=False)
class Bootstrap:
    """Intervals over pictures. Equal numbers of pictures are resampled alike each time, by the seed."""

    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0

    def mean(self, values_P: np.ndarray) -> Estimate | None:
        """Of the values that are there; None where there are none."""
        known = values_P[np.isfinite(values_P)]
        if not known.size:
            return None
        if known.size < MIN_PICTURES:
            return Estimate(float(known.mean()), None, None, known.size)
        picks = np.random.default_rng([self.seed, known.size]).integers(known.size, size=(self.resamples, known.size))
        low, high = np.quantile(known[picks].mean(axis=1), self._tails(known.size))
        return Estimate(float(known.mean()), float(low), float(high), known.size)

    def _tails(self, count: int) -> tuple[float, float]:
        wide = math.sqrt(count / (count - 1)) * student((1 + self.confidence) / 2, count - 1)
        tail = NormalDist().cdf(-wide)
        return tail, 1 - tail


def student(probability: float, freedom: int) -> float:
    """Quantile of Student's t for a probability above 1/2: expansion in 1 / freedom (Abramowitz and Stegun 26.7.5); from 4 on to 1 %."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Cube:
    """Scores of one model's clips: column -> float64 [pictures, seeds, buckets], NaN where a score could not be computed."""

    pictures: tuple[str, ...]
    seeds: tuple[int, ...]
    buckets: tuple[int, ...]
    scores: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, rows: Mapping[tuple[str, int, int], Mapping[str, Any]], columns: Sequence[str]) -> "Cube":
        """From a row of the table for each (picture, seed, bucket)."""
        pictures, seeds = tuple(dict.fromkeys(key[0] for key in rows)), tuple(dict.fromkeys(key[1] for key in rows))
        buckets = tuple(sorted({key[2] for key in rows}))
        scores = {column: np.full((len(pictures), len(seeds), len(buckets)), np.nan) for column in columns}
        for (picture, seed, bucket), row in rows.items():
            place = pictures.index(picture), seeds.index(seed), buckets.index(bucket)
            for column, values in scores.items():
                value = row.get(column)
                values[place] = np.nan if value is None else value
        return cls(pictures, seeds, buckets, scores)


def mean_of(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Mean of what is not NaN; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis)
    total = np.where(known, values, 0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 on; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's; 0 where either does not change at all."""
    a, b = ranks(x) - (len(x) + 1) / 2, ranks(y) - (len(y) + 1) / 2
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Control:
    """Whether motion is what was asked for.

    correlation, monotone   rank correlation of bucket and motion, and the share of curves that rise at every step, over pictures
    curve                   motion of each bucket, over pictures
    num_clips, num_measured of the model, and those whose motion could be measured
    """

    correlation: Estimate | None
    monotone: Estimate | None
    curve: tuple[tuple[int, Estimate | None], ...]
    num_clips: int
    num_measured: int
    correlation_P: np.ndarray


def control(cube: Cube, bootstrap: Bootstrap) -> Control:
    """Of one model."""
    motion_PSB = cube.scores[MOTION]
    buckets_B = np.array(cube.buckets, np.float64)
    correlation_PS, rises_PS = (np.full(motion_PSB.shape[:2], np.nan) for _ in range(2))
    for place in np.ndindex(*motion_PSB.shape[:2]):
        known = np.isfinite(motion_PSB[place])
        if known.sum() < 2:
            continue
        correlation_PS[place] = rank_correlation(buckets_B[known], motion_PSB[place][known])
        rises_PS[place] = (np.diff(motion_PSB[place][known]) > 0).all()
    per_picture = mean_of(motion_PSB, 1)
    curve = tuple((bucket, bootstrap.mean(per_picture[:, place])) for place, bucket in enumerate(cube.buckets))
    correlation_P = mean_of(correlation_PS, 1)
    return Control(
        bootstrap.mean(correlation_P),
        bootstrap.mean(mean_of(rises_PS, 1)),
        curve,
        motion_PSB.size,
        int(np.isfinite(motion_PSB).sum()),
        correlation_P,
    )


def summed_up(cube: Cube, bootstrap: Bootstrap) -> dict[str, Estimate | None]:
    """Column -> mean over pictures of the means over seeds and buckets."""
    return {score.column: bootstrap.mean(mean_of(cube.scores[score.column], (1, 2))) for score in SCORES}


@dataclass(frozen=True, slots=True)
class Difference:
    """`model` minus `before` in one score, paired. `toward_better` is the same as a gain: above 0 is better; None where no way is."""

    name: str
    unit: str
    change: Estimate | None
    toward_better: Estimate | None
    verdict: Verdict | None
    num_pairs: int


def compared(model: Cube, before: Cube, bootstrap: Bootstrap) -> dict[str, Difference]:
    """Column -> difference; `motion_control` is that of the rank correlations of each picture."""
    if (model.pictures, model.seeds, model.buckets) != (before.pictures, before.seeds, before.buckets):
        raise ValueError("two models are compared on the same pictures, seeds and buckets")
    found = {}
    for score in SCORES:
        new, old = model.scores[score.column], before.scores[score.column]
        change = bootstrap.mean(mean_of(new - old, (1, 2)))
        gain = None if score.better is None else bootstrap.mean(mean_of(score.badness(old) - score.badness(new), (1, 2)))
        pairs = int(np.isfinite(new - old).sum())
        found[score.column] = Difference(score.name, score.unit, change, gain, None if score.better is None else verdict(gain), pairs)
    pairs_P = control(model, bootstrap).correlation_P - control(before, bootstrap).correlation_P
    change, count = bootstrap.mean(pairs_P), int(np.isfinite(pairs_P).sum())
    found["motion_control"] = Difference("motion follows the bucket", "rank correlation", change, change, verdict(change), count)
    return found


def verdict(gain: Estimate | None) -> Verdict | None:
    """By the interval alone; None where nothing was measured."""
    if gain is None:
        return None
    if gain.low is None:
        return "too few pictures to say"
    return "better" if gain.sign > 0 else "worse" if gain.sign < 0 else "no clear difference"


def map_points(cube: Cube) -> tuple[list[int], list[float]]:
    """(bucket, motion) of each clip of the pictures and seeds whose whole curve was measured, so that every bucket has the same ones."""
    motion_PSB = cube.scores[MOTION]
    whole = motion_PSB[np.isfinite(motion_PSB).all(axis=2)]
    return list(cube.buckets) * len(whole), [float(value) for value in whole.ravel()]
