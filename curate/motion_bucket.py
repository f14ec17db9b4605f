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
"""

import bisect
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curate.errors import ExportError
from curate.manifest.files import write_file

VERSION = 1
NUM_EDGES = 255


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


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
