"""The motion bucket: a monotone map from a motion score, in per cent of the diagonal per second, to 0..255.

Stable Video Diffusion is conditioned on a `motion_bucket_id`; how scores became buckets was never published (arXiv 2311.15127 names the
conditioning only). So the map is an artefact of its own, with a checksum, that training and inference share. It is 255 scores, the edges
between buckets: a score's bucket is the number of edges that it reaches.

Two kinds are written, and load the same way:

    corpus       the distribution function of the clips that one trains on: bucket = round(255 F(score)); all buckets are about as frequent
    checkpoint   what a given checkpoint does when it is asked for each bucket, measured on what it generated

F is the mid-distribution function (Parzen 2004): the share of clips below a score plus half of those that have it, linear in between. One
clip lies at 0.5, two at 0.25 and 0.75: few clips claim no extremes. Below the slowest clip F falls to 0 at no motion, above the fastest it
reaches 1 at twice its score.

A checkpoint's map inverts its curve of measured motion over asked bucket, made monotone by centred isotonic regression: pool adjacent
violators, put each pool's mean at its mean bucket, draw lines between (Oron and Flournoy 2017, J. Stat. Theory Pract. 11). It does not
reach beyond what was measured: slower or faster scores get the outermost bucket that was, and `measured` says where that begins.
"""

import bisect
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curate.errors import ExportError
from curate.manifest.files import write_file

VERSION = 1
NUM_EDGES = 255
UNREACHED = 1e9  # % of the diagonal/s: an edge that no motion reaches


@dataclass(frozen=True, slots=True)
class MotionBuckets:
    """255 edges in the unit of `column`, ascending; `made_from` says what the map was fitted to.

    Raises `ExportError` for edges that are not 255 finite ascending numbers.
    """

    column: str
    kind: Literal["corpus", "checkpoint"]
    edges: tuple[float, ...]
    made_from: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in ("corpus", "checkpoint"):
            raise ExportError(f"motion buckets of kind {self.kind!r}: kinds are corpus and checkpoint")
        if len(self.edges) != NUM_EDGES or not all(math.isfinite(edge) for edge in self.edges):
            raise ExportError(f"motion buckets have {NUM_EDGES} finite edges between them; there are {len(self.edges)}")
        if any(b < a for a, b in pairwise(self.edges)) or self.edges[0] == self.edges[-1]:
            raise ExportError("edges of motion buckets must rise: each at least the one before it, the last above the first")

    def bucket(self, score: float) -> int:
        """0..255. Raises `ValueError` for NaN and infinity."""
        if not math.isfinite(score):
            raise ValueError(f"{self.column}={score} has no motion bucket: the score must be a finite number")
        return bisect.bisect_right(self.edges, score)

    @property
    def measured(self) -> tuple[float, float] | None:
        """Lowest and highest motion that a checkpoint was seen to make; None for a corpus' map, which covers all motion."""
        found = self.made_from.get("measured_motion")
        return None if found is None else (float(found[0]), float(found[1]))

    @property
    def sha256(self) -> str:
        """Checksum of everything that the file says."""
        return _digest(self._content())

    def save(self, path: str | Path) -> None:
        """Writes JSON, whole or not at all. Raises `ManifestError` with the system's reason."""
        text = json.dumps({**self._content(), "sha256": self.sha256}, indent=1)
        write_file(Path(path).absolute(), (text + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> "MotionBuckets":
        """Raises `ExportError` for a file that is missing, damaged, changed by hand or of another version."""
        remedy = "make it again, or leave motion_buckets out to fit one to the clips"
        try:
            content = json.loads(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            raise ExportError(f"{path}: motion buckets cannot be read: {error}; {remedy}") from error
        version = content.get("version") if isinstance(content, dict) else None
        if version != VERSION:
            raise ExportError(f"{path}: motion buckets of version {version}, this program reads {VERSION}; {remedy}")
        written = content.pop("sha256", None)
        if written != _digest(content):
            raise ExportError(f"{path}: motion buckets do not match their checksum: the file is damaged or was edited; {remedy}")
        try:
            return cls(content["column"], content["kind"], tuple(content["edges"]), content["made_from"])
        except (KeyError, TypeError) as error:
            raise ExportError(f"{path}: motion buckets lack {error}; {remedy}") from error

    def _content(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "kind": self.kind,
            "column": self.column,
            "made_from": dict(self.made_from),
            "edges": list(self.edges),
        }


def fit_corpus(scores: Iterable[float | None], column: str = "motion_speed", made_from: Mapping[str, Any] | None = None) -> MotionBuckets:
    """The distribution function of a corpus' scores, at least 0; nulls and NaN are left out, and the number of those used is noted.

    Raises `ExportError` where no clip has a score or none moves.
    """
    known = np.array([score for score in scores if score is not None and not math.isnan(score)], np.float64)
    if known.size and (known.min() < 0 or not np.isfinite(known).all()):
        raise ExportError(f"{column} must be finite and at least 0 for motion buckets; it is {known.min():g} to {known.max():g}")
    if not known.size or known.max() == 0:
        what = f"none of {known.size} clips moves" if known.size else f"no clip has {column}"
        raise ExportError(f"motion buckets cannot be fitted: {what}; run the scorer that makes {column}, or pass a map as motion_buckets")
    values, counts = np.unique(known, return_counts=True)
    share = (np.cumsum(counts) - counts / 2) / known.size
    if values[0] > 0:
        values, share = np.concatenate([[0.0], values]), np.concatenate([[0.0], share])
    values, share = np.append(values, 2 * values[-1]), np.append(share, 1.0)
    edges = np.interp((np.arange(NUM_EDGES) + 0.5) / NUM_EDGES, share, values)
    return MotionBuckets(column, "corpus", tuple(edges.tolist()), {**(made_from or {}), "num_clips": int(known.size)})


def fit_checkpoint(
    buckets: Sequence[int], motions: Sequence[float], column: str = "motion_speed", made_from: Mapping[str, Any] | None = None
) -> MotionBuckets:
    """The inverse of what a checkpoint does: bucket(score) is the bucket that gave this motion. One motion of each clip that was made.

    `made_from` gets the buckets and motions between which the map holds. Raises `ExportError` where motion does not rise with the bucket.
    """
    asked, found = np.asarray(buckets, np.float64), np.asarray(motions, np.float64)
    if asked.shape != found.shape or asked.ndim != 1:
        raise ValueError(f"{len(asked)} buckets and {len(found)} motions; a clip has one of each")
    if not np.isfinite(found).all() or (found < 0).any() or (asked < 0).any() or (asked > NUM_EDGES).any():
        raise ExportError(f"{column} must be finite and at least 0, buckets must lie in 0..{NUM_EDGES}, for a map from one to the other")
    if len(np.unique(asked)) < 2:
        raise ExportError(f"a map needs clips of at least 2 motion buckets; there are {len(np.unique(asked))}")
    at, motion = _isotonic(asked, found)
    if len(at) < 2:
        raise ExportError(f"{column} does not rise with the motion bucket: made monotone, all buckets from {asked.min():g} have the same")
    halves = np.arange(NUM_EDGES) + 0.5
    edges = np.interp(halves, at, motion)
    edges[halves < at[0]], edges[halves > at[-1]] = 0.0, UNREACHED
    between = {"measured_buckets": [float(at[0]), float(at[-1])], "measured_motion": [float(motion[0]), float(motion[-1])]}
    return MotionBuckets(column, "checkpoint", tuple(edges.tolist()), {**(made_from or {}), **between, "num_clips": len(asked)})


def _isotonic(asked: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean bucket, mean motion) of each pool, both rising: adjacent violators pooled, each clip of the same weight."""
    pools: list[tuple[int, float, float]] = []  # clips, sum of buckets, sum of motions
    for bucket in np.unique(asked):
        own = found[asked == bucket]
        pools.append((len(own), float(bucket) * len(own), float(own.sum())))
        while len(pools) > 1 and pools[-2][2] / pools[-2][0] >= pools[-1][2] / pools[-1][0]:
            last = pools.pop()
            before = pools.pop()
            pools.append((before[0] + last[0], before[1] + last[1], before[2] + last[2]))
    return np.array([pool[1] / pool[0] for pool in pools]), np.array([pool[2] / pool[0] for pool in pools])


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
