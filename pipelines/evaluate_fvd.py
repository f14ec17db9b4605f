"""Fréchet video distance of each model's clips to the data's own windows, of the same pictures.

All buckets and seeds of a model go into one set; `by_bucket` has each bucket alone, since a model may move as the data does only there.
Intervals are those of the jackknife that leaves out groups of pictures (at most `GROUPS`), with Student's t: a bootstrap would draw some
pictures twice, and the distance grows with every clip that is there twice.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import ConfigError
from curate.pipelines.evaluate_clips import read_clip
from curate.pipelines.evaluate_data import Picture
from curate.pipelines.evaluate_stats import MIN_PICTURES, Bootstrap, Difference, Estimate, student, verdict
from curate.pipelines.frechet import MIN_FRAMES, FrechetVideo, VideoFeatures, VideoNetwork, check_network, frechet_video_distance
from curate.svd.evaluate_config import Evaluate

GROUPS = 20
Rows = Mapping[tuple[str, int, int], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class FvdOfModel:
    """FVD of all clips of a model, its interval, and of the clips of each bucket alone."""

    name: str
    all: FrechetVideo
    estimate: Estimate
    by_bucket: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class FvdResult:
    """FVD of each model and, of two, the difference."""

    models: tuple[FvdOfModel, ...]
    difference: Difference | None

    def numbers(self) -> dict[str, Any]:
        return asdict(self)


def check_fvd(settings: Evaluate, num_frames: int) -> None:
    """Before any work. Raises `ConfigError` and `MissingWeightsError`."""
    question = settings.question
    if question.fvd is None:
        return
    check_network(question.fvd)
    if num_frames < MIN_FRAMES:
        raise ConfigError(f"fvd needs clips of at least {MIN_FRAMES} frames, these have {num_frames}; leave fvd out")
    if question.clips < 2:
        raise ConfigError("fvd compares sets of clips; clips=1 is one real window, take as many as there is time for")


def measure_fvd(
    settings: Evaluate, out: Path, pictures: Sequence[Picture], models: Sequence[tuple[str, Rows]], num_frames: int, bootstrap: Bootstrap
) -> FvdResult | None:
    """None where no network was given. Raises `ConfigError` where only one window was found."""
    if settings.question.fvd is None:
        return None
    windows = {one.sha256: one.window.frames_THWC for one in pictures if one.window is not None}
    if len(windows) < 2:
        raise ConfigError("fvd compares sets of clips, and the data gave one real window; leave fvd out")
    network = VideoNetwork.open(settings.question.fvd, settings.job.device)
    real = network.features(windows.values())
    sets = []
    for _, rows in models:
        clips: Iterable[np.ndarray] = (read_clip(out / row["file"])[:num_frames] for row in rows.values())
        sets.append(_Set(real, network.features(clips), list(windows), list(rows)))
    found = tuple(one.measured(name, bootstrap.confidence) for one, (name, _) in zip(sets, models, strict=True))
    return FvdResult(found, _difference(sets, bootstrap.confidence) if len(sets) == 2 else None)


@dataclass(frozen=True, slots=True, eq=False)
class _Set:
    """Features of real windows and of a model's clips, and which picture each belongs to."""

    real: VideoFeatures
    generated: VideoFeatures
    pictures: list[str]
    keys: list[tuple[str, int, int]]

    @property
    def num_groups(self) -> int:
        return min(GROUPS, len(self.pictures))

    def distance(self, left_out: int | None = None, bucket: int | None = None) -> FrechetVideo:
        """Of all clips, without a group of pictures, or of one bucket alone."""
        group = {picture: place % self.num_groups for place, picture in enumerate(self.pictures)}
        real = np.array([group[picture] != left_out for picture in self.pictures])
        own = np.array([group[picture] != left_out and bucket in (None, asked) for picture, _, asked in self.keys])
        return frechet_video_distance(_some(self.real, real), _some(self.generated, own))

    def without(self) -> np.ndarray:
        """float64 (groups,): the distance without each group; empty where there are too few."""
        if self.num_groups < MIN_PICTURES:
            return np.zeros(0)
        return np.array([self.distance(left_out=group).distance for group in range(self.num_groups)])

    def measured(self, name: str, confidence: float) -> FvdOfModel:
        whole = self.distance()
        buckets = sorted({bucket for _, _, bucket in self.keys})
        by_bucket = {bucket: self.distance(bucket=bucket).distance for bucket in buckets}
        return FvdOfModel(name, whole, jackknife(whole.distance, self.without(), confidence, len(self.pictures)), by_bucket)


def _difference(sets: Sequence[_Set], confidence: float) -> Difference:
    new, old = sets
    change = jackknife(new.distance().distance - old.distance().distance, new.without() - old.without(), confidence, len(new.pictures))
    flipped = [None if bound is None else -bound for bound in (change.high, change.low)]
    gain = Estimate(-change.value, flipped[0], flipped[1], change.num_pictures)
    return Difference("Fréchet video distance", "1", change, gain, verdict(gain), len(new.keys))


def jackknife(value: float, without: np.ndarray, confidence: float, num_pictures: int) -> Estimate:
    """The value with value +- t s, s^2 = (G - 1) / G sum (without_g - mean)^2 (Efron and Tibshirani 1993, chapter 11)."""
    groups = len(without)
    if groups < MIN_PICTURES:
        return Estimate(value, None, None, num_pictures)
    deviation = math.sqrt((groups - 1) / groups * float(((without - without.mean()) ** 2).sum()))
    wide = student((1 + confidence) / 2, groups - 1) * deviation
    return Estimate(value, value - wide, value + wide, num_pictures)


def _some(features: VideoFeatures, which: np.ndarray) -> VideoFeatures:
    return VideoFeatures(features.features_ND[which], features.num_frames, features.network_sha256)
