"""Motion of one window of frames, by the scorer that measured its clip and in the same unit.

Pairs are made of the window's own frames, nothing else is decoded: the frames nearest to 148 ms apart, 120 to 175 ms as in the pass
(`curate.media.pairs`), about four pairs a second. A window whose rate has no such pair uses the nearest up to 250 ms. The scorer divides
by the true distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curate.clip import NS_PER_S, Box, Span
from curate.media.geometry import inward
from curate.media.pairs import MAX_NS, MIN_NS, TARGET_NS
from curate.media.picture import Picture
from curate.models import Models
from curate.samples import ClipSamples, MotionFrames, Pair, SourceFacts, Track
from curate.scorers import Score, ScorerLike

FAR_NS = 250_000_000
PAIR_NS = 250_000_000  # between the first frames of pairs, as `sampling.pair_ms` has it


@dataclass(eq=False)
class WindowMotion:
    """Measures windows with one scorer and its parameters. Pickled, it carries those alone."""

    column: str
    scorer: ScorerLike
    _score: Score | None = field(default=None, init=False, repr=False)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_score": None}

    def measure(self, pictures: Sequence[Picture], times_ns: np.ndarray, active: Box) -> float | None:
        """The scorer's column for T displayed pictures at int64[T] times; None where no two frames lie within 250 ms."""
        row = self.row(pictures, times_ns, active)
        return None if row is None or row[self.column] is None else float(row[self.column])

    def row(self, pictures: Sequence[Picture], times_ns: np.ndarray, active: Box) -> dict[str, Any] | None:
        """All columns of the scorer, as `measure` has one. What the scorer reads from the 2 Hz grid is None."""
        pairs = window_pairs(times_ns)
        if not pairs:
            return None
        luma = {i: _cropped(pictures[i], active) for i in sorted({i for pair in pairs for i in pair})}
        empty = np.zeros(0)
        track = Track(times_ns, int(times_ns[-1]) + 1, empty, empty, empty, empty, empty)
        width, height = pictures[0].geometry.displayed
        clip = ClipSamples(
            source=SourceFacts("", width, height),
            span=Span(int(times_ns[0]), int(times_ns[-1]) + 1),
            box=active,
            track=track,
            motion=MotionFrames(
                np.zeros(0, np.int64), (), tuple(Pair(int(times_ns[i]), int(times_ns[j]), luma[i], luma[j]) for i, j in pairs)
            ),
        )
        if self._score is None:
            self._score = self.scorer.open(Models())
        return self._score([clip])[0]


def window_pairs(times_ns: np.ndarray) -> list[tuple[int, int]]:
    """Which frames of a window are compared: (first, second), in order."""
    apart = times_ns[None, :] - times_ns[:, None]
    for least, most in ((MIN_NS, MAX_NS), (1, FAR_NS)):
        far = np.where((apart >= least) & (apart <= most), np.abs(apart - TARGET_NS), np.iinfo(np.int64).max)
        second = far.argmin(axis=1)
        has = far[np.arange(len(second)), second] < np.iinfo(np.int64).max
        if has.any():
            return _spread(times_ns, np.flatnonzero(has), second)
    return []


def _spread(times_ns: np.ndarray, first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """Pairs whose first frames lie as near to 250 ms apart as the frames allow."""
    gap_ns = (int(times_ns[-1]) - int(times_ns[0])) / (len(times_ns) - 1)
    step = max(1, round(PAIR_NS / gap_ns))
    return [(int(i), int(second[i])) for i in first[::step]]


def _cropped(picture: Picture, box: Box) -> np.ndarray:
    """uint8 (H, W) analysis luma inside the active picture, as the pass crops it."""
    luma, (width, height) = picture.analysis_luma(), picture.geometry.displayed
    rows = inward(box.y / height, (box.y + box.height) / height, luma.shape[0])
    columns = inward(box.x / width, (box.x + box.width) / width, luma.shape[1])
    return np.ascontiguousarray(luma[rows, columns])


def has_pairs(fps: float) -> bool:
    """Whether windows of this rate can be measured; a margin covers their unevenness."""
    return NS_PER_S / fps <= FAR_NS / 1.1
