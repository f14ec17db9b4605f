"""What a flag is worth: precision, recall, false-positive rate and average precision, with intervals over originals.

A case counts for a flag if its truth says true or false. A missing answer (null, a scorer that broke) counts as "not flagged" and is told
apart in `num_null`. The gate's recall is over positives from the gate's strength on, its false-positive rate over all negatives.
Intervals: 2.5 and 97.5 % of a bootstrap that draws originals (scenes) with all of their cases, seeded.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flags.compose import Case
from flags.flags import MAX_FALSE_RATE, MIN_RECALL, Flag

ROUNDS = 1000


@dataclass(frozen=True)
class Judged:
    """One case for one flag; `weight` is the signed evidence, None where there is none."""

    case: Case
    is_true: bool
    said: bool | None
    weight: float | None
    box_overlap: float | None

    @property
    def is_flagged(self) -> bool:
        return bool(self.said)


@dataclass(frozen=True)
class Result:
    """A flag's figures, each as (value, low, high); `by_kind`: kind -> strength -> (found, made)."""

    flag: Flag
    judged: tuple[Judged, ...]
    precision: tuple[float, float, float]
    recall: tuple[float, float, float]
    gated_recall: tuple[float, float, float]
    false_rate: tuple[float, float, float]
    average_precision: tuple[float, float, float]
    by_kind: Mapping[str, Mapping[float, tuple[int, int]]] = field(default_factory=dict)

    @property
    def positives(self) -> list[Judged]:
        return [one for one in self.judged if one.is_true]

    @property
    def gated(self) -> list[Judged]:
        return [one for one in self.positives if is_gated(one, self.flag)]

    @property
    def negatives(self) -> list[Judged]:
        return [one for one in self.judged if not one.is_true]

    @property
    def num_null(self) -> int:
        return sum(one.said is None for one in self.judged)

    @property
    def is_scored(self) -> bool:
        return any(one.said is not None for one in self.judged)

    @property
    def meets_gate(self) -> bool:
        return self.gated_recall[0] >= MIN_RECALL and self.false_rate[0] <= MAX_FALSE_RATE

    @property
    def mean_overlap(self) -> float | None:
        """Mean intersection over union of the box, over positives that were flagged."""
        found = [one.box_overlap for one in self.positives if one.box_overlap is not None]
        return float(np.mean(found)) if found else None


def is_gated(one: Judged, flag: Flag) -> bool:
    """Whether a positive counts for the gate: those made for this flag from its strength on (other true cases have no strength here)."""
    return one.case.flag == flag.name and one.case.is_gated


def measured(flag: Flag, cases: Sequence[Case], rows: Mapping[str, Mapping[str, Any]]) -> Result:
    judged = []
    for case in cases:
        if flag.name in case.truth:
            row = rows.get(case.name, {})
            judged.append(Judged(case, case.truth[flag.name], flag.said(row), flag.weight(row), _overlap(flag, case, row)))
    figures = (
        lambda part: _share(part, lambda one: one.is_flagged, lambda one: one.is_true),
        lambda part: _share(part, lambda one: one.is_true, lambda one: one.is_flagged),
        lambda part: _share(part, lambda one: one.is_true and is_gated(one, flag), lambda one: one.is_flagged),
        lambda part: _share(part, lambda one: not one.is_true, lambda one: one.is_flagged),
        average_precision,
    )
    intervals = _intervals(judged, figures)
    by_kind: dict[str, dict[float, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for one in judged:
        if one.is_true and one.case.flag:
            counts = by_kind[one.case.kind][one.case.level]
            counts[0] += one.is_flagged
            counts[1] += 1
    plain = {kind: {level: (hits, num) for level, (hits, num) in sorted(levels.items())} for kind, levels in by_kind.items()}
    return Result(flag, tuple(judged), *intervals, by_kind=plain)


def _share(part: Sequence[Judged], counts: Callable[[Judged], bool], hits: Callable[[Judged], bool]) -> float:
    of = [one for one in part if counts(one)]
    return sum(hits(one) for one in of) / len(of) if of else float("nan")


def average_precision(part: Sequence[Judged]) -> float:
    """Mean precision at each positive, by falling evidence; ties count as their mean, cases without evidence come last."""
    known = [one for one in part if one.weight is not None]
    num_positives = sum(one.is_true for one in part)
    if not known or not num_positives:
        return float("nan")
    weights, truths = np.array([one.weight for one in known]), np.array([one.is_true for one in known])
    order = np.argsort(-weights, kind="stable")
    weights, truths = weights[order], truths[order]
    ends = np.append(np.flatnonzero(np.diff(weights)), len(weights) - 1)
    hits = np.cumsum(truths)[ends]
    return float(np.sum(np.diff(hits, prepend=0) * hits / (ends + 1)) / num_positives)


def _intervals(judged: Sequence[Judged], figures: Sequence[Callable[[Sequence[Judged]], float]]) -> list[tuple[float, float, float]]:
    groups: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        groups[one.case.scenes[0] if one.case.scenes else one.case.name].append(one)
    keys = sorted(groups)
    random = np.random.default_rng(0)
    drawn: list[list[float]] = [[] for _ in figures]
    for pick in random.integers(len(keys), size=(ROUNDS // 5, len(keys))) if keys else []:
        part = [one for k in pick.tolist() for one in groups[keys[k]]]
        for values, figure in zip(drawn, figures, strict=True):
            values.append(figure(part))
    found = []
    for values, figure in zip(drawn, figures, strict=True):
        good = [value for value in values if value == value]
        low, high = np.quantile(good, [0.025, 0.975]) if good else (float("nan"), float("nan"))
        found.append((figure(judged), float(low), float(high)))
    return found


def half_recall_level(levels: Mapping[float, tuple[int, int]], gate_is_upper: bool) -> float | None:
    """The strength nearest to the gate at which recall is under one half; None where it is not at any."""
    weak = [level for level, (hits, num) in levels.items() if hits < num / 2]
    if not weak:
        return None
    return min(weak) if gate_is_upper else max(weak)


def _overlap(flag: Flag, case: Case, row: Mapping[str, Any]) -> float | None:
    wanted = case.boxes.get(flag.box) if flag.box else None
    found = row.get("active_box" if flag.box == "picture" else flag.box)
    if wanted is None or not found or not flag.said(row):
        return None
    return overlap(wanted, found)


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes x, y, width, height."""
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(0.0, wide) * max(0.0, high)
    return common / (one[2] * one[3] + other[2] * other[3] - common)
