"""Whether a doubt is a transition: boosted trees (Friedman, Annals of Statistics 29(5), 2001) over `curate.shots.evidence`.

Two sets of 300 trees, three questions deep, one for cuts and one for spans: a doubt's logit is the sum of what its leaves say. They were
trained by `benchmarks/cuts/train.py` on 360 films composed of the tuning half's footage and of photographs; nothing of the test half was
in them. The numbers that they read say how frames relate to each other and not what they show, so they carry over to other footage:
with a third of the scenes left out in turn, F1 on films of those was .904, and .85 with thresholds set by hand.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import numpy as np

from curate.shots.evidence import Doubt

WEIGHTS = "judge.npz"
DEPTH = 3


@dataclass(frozen=True, slots=True)
class Trees:
    """Questions `evidence[feature] > threshold`, (T, 7) from the root down, left child 2n + 1; leaves (T, 8) and the prior are logits."""

    feature: np.ndarray
    threshold: np.ndarray
    leaf: np.ndarray
    prior: float

    def probability(self, evidence: np.ndarray) -> float:
        tree, node = np.arange(len(self.feature)), np.zeros(len(self.feature), np.int64)
        for _ in range(DEPTH):
            node = 2 * node + 1 + (evidence[self.feature[tree, node]] > self.threshold[tree, node])
        return float(1 / (1 + np.exp(-(self.prior + self.leaf[tree, node - self.feature.shape[1]].sum(dtype=np.float64)))))


@functools.lru_cache(maxsize=1)
def trees() -> tuple[Trees, Trees]:
    """For cuts and for spans."""
    with resources.files("curate.shots").joinpath(WEIGHTS).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return _of(arrays, "cut"), _of(arrays, "span")


def _of(arrays: Mapping[str, np.ndarray], name: str) -> Trees:
    return Trees(arrays[f"{name}_feature"], arrays[f"{name}_threshold"], arrays[f"{name}_leaf"], float(arrays[f"{name}_prior"]))


def probability(doubt: Doubt, known: np.ndarray) -> float:
    """That a doubt with this evidence is a transition."""
    of_cuts, of_spans = trees()
    return (of_cuts if doubt.is_cut else of_spans).probability(known)
