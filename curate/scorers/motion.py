"""How much moves, in units that do not depend on frame rate, size or codec.

`motion_lvd` is the score of the Stable Video Diffusion paper as video2dataset computes it (arXiv 2311.15127, appendix C): Farneback flow
at 2 frames a second on frames with a short side of 16 px, its magnitude averaged in space and time.

The others are ours, in per cent of the active picture's diagonal per second. They are read from pairs of distinct frames about 1/7 s apart
(`curate.media.pairs`) and divided by the true distance in time. For each pair, at a short side of 96 px:

    f   dense flow (DIS, Kroeger et al. 2016, without variational refinement)
    c   camera: nothing, a translation or an affine field, the simplest of those that explain f about equally well where there is
        texture; then refined on the pixels (Gauss-Newton), because dense flow is a few per cent short on zooms and turns
    s   0..1, how far the pixels prefer f to c: 1 - limit / gain, where gain = E(c) - E(f), E the mean squared brightness error of
        a window of 10 x 10 px after warping, and limit the gain that noise alone would give;
        where the camera moves and neither warp stays in the frame, 0
    m = c + s (f - c)

    speed = mean |m|     camera = mean |c|     object = mean |s (f - c)|

Magnitudes are averaged, so a pan does not cancel. Without s, flow wanders over walls and skies: re-encoding one fixed-camera clip at CRF 35
moved its score by 42 %, and its still parts were not 0. Known weakness: flow is 1.2 to 1.3 times as wide as a small thing that moves, and a
busy thing that fills a quarter of a blank picture is taken for the camera's motion.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from curate.clip import NS_PER_S, Fault
from curate.samples import ClipSamples, MotionFrames, Wants
from curate.scorers import Column, Score
from curate.scorers._pair_motion import PairMotion, mean_magnitude, open_flow, pair_motions, resized, small_size

if TYPE_CHECKING:
    from curate.models import Models

LVD_SHORT_SIDE = 16  # px; with the step and the parameters below, as video2dataset's optical flow subsampler has them
LVD_STEP_S = 0.5
LVD_FARNEBACK: dict[str, Any] = {
    "pyr_scale": 0.5,
    "levels": 3,
    "winsize": 15,
    "iterations": 3,
    "poly_n": 5,
    "poly_sigma": 1.2,
    "flags": 0,
}
MAX_SHAKE_GAP_NS = 600_000_000
PAIRS_AT_ONCE = 16  # 6 MB

_SPEED_UNIT = "% of diagonal / s"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Scorer:
    """Motion of the clip's pairs; see the module's text."""

    short_side: int = Field(
        96, ge=64, le=256, description="short side of the frames that flow is computed on", json_schema_extra={"unit": "px"}
    )
    still_below: float = Field(
        0.25,
        gt=0,
        le=10,
        description="pairs slower than this count as still (the paper's still example, LVD score 0.043, is 0.26)",
        json_schema_extra={"unit": _SPEED_UNIT},
    )

    version: ClassVar[int] = 2

    @property
    def samples(self) -> Wants:
        return Wants(motion=True)

    @property
    def columns(self) -> dict[str, Column]:
        f32 = pa.float32()
        return {
            "motion_lvd": Column(
                f32,
                "px at 16 px short side / 0.5 s",
                "LVD motion score: mean magnitude of Farneback flow between the 2 Hz samples at a short side of 16 px",
                0.0,
            ),
            "motion_speed": Column(f32, _SPEED_UNIT, "mean over pairs of the mean magnitude of all motion in the picture", 0.0),
            "motion_speed_stderr": Column(
                f32, _SPEED_UNIT, "standard error of motion_speed over the pairs, their correlation in time included (Newey-West)", 0.0
            ),
            "motion_pairs": Column(pa.int32(), "pairs", "pairs of frames that were measured", 0),
            "motion_camera": Column(
                f32, _SPEED_UNIT, "mean magnitude of the camera's motion: the affine field that most of the picture follows", 0.0
            ),
            "motion_object": Column(f32, _SPEED_UNIT, "mean magnitude of what the camera's motion does not explain", 0.0),
            "motion_shake": Column(
                f32,
                _SPEED_UNIT,
                "root mean square change of the camera's velocity at the centre from one pair to the next, at most 0.6 s later",
                0.0,
            ),
            "motion_still_share": Column(
                f32, "share", f"share of pairs slower than {self.still_below:g} % of the diagonal per second", 0.0, 1.0
            ),
        }

    def open(self, models: "Models") -> Score:  # noqa: ARG002
        flow = open_flow()

        def score(clips: Sequence[ClipSamples]) -> list[dict[str, Any]]:
            return [self._row(clip.motion, flow) for clip in clips if clip.motion is not None]

        return score

    def _row(self, motion: MotionFrames, flow: cv2.DISOpticalFlow) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(self.columns)
        faults = []
        row["motion_lvd"] = lvd_score(motion.grid_times_ns, motion.grid)
        if row["motion_lvd"] is None:
            faults.append(Fault("motion", "few_samples", f"motion_lvd needs two samples, the clip has {len(motion.grid)}"))
        measured: list[PairMotion] = []
        for start in range(0, len(motion.pairs), PAIRS_AT_ONCE):
            chunk = motion.pairs[start : start + PAIRS_AT_ONCE]
            measured += pair_motions([(pair.luma0, pair.luma1) for pair in chunk], flow, self.short_side)
        row["motion_pairs"] = len(measured)
        if not measured:
            message = "no two distinct frames lie 0.120 to 0.175 s apart; about 12 distinct pictures a second are needed"
            return {**row, "faults": [*faults, Fault("motion", "no_pairs", message)]}
        times_ns = np.array([(pair.time0_ns, pair.time1_ns) for pair in motion.pairs])
        per_s = NS_PER_S / (times_ns[:, 1] - times_ns[:, 0])
        total = np.array([m.total for m in measured]) * per_s
        row["motion_speed"] = float(total.mean())
        row["motion_camera"] = float((np.array([m.camera for m in measured]) * per_s).mean())
        row["motion_object"] = float((np.array([m.object for m in measured]) * per_s).mean())
        row["motion_still_share"] = float((total < self.still_below).mean())
        row["motion_speed_stderr"] = standard_error(total)
        row["motion_shake"] = shake(times_ns[:, 0], np.array([m.shift for m in measured]) * per_s[:, None])
        if row["motion_shake"] is None or row["motion_speed_stderr"] is None:
            message = f"{len(measured)} pairs: motion_speed_stderr needs two, motion_shake three that follow each other"
            faults.append(Fault("motion", "few_pairs", message))
        return {**row, "faults": faults} if faults else row


def lvd_score(times_ns: np.ndarray, frames: Sequence[np.ndarray]) -> float | None:
    """LVD's score of samples on a grid: uint8 (H, W) luma. Steps that are not 0.5 s long are brought to 0.5 s. None for fewer than two."""
    if len(frames) < 2:
        return None
    small = [resized(frame, small_size(frame, LVD_SHORT_SIDE)) for frame in frames]
    means = []
    for i in range(len(small) - 1):
        empty = np.zeros((*small[i].shape, 2), np.float32)
        field = cv2.calcOpticalFlowFarneback(small[i], small[i + 1], empty, **LVD_FARNEBACK)
        step_s = float(times_ns[i + 1] - times_ns[i]) / NS_PER_S
        means.append(mean_magnitude(np.stack(cv2.split(field))) * LVD_STEP_S / step_s)
    return float(np.mean(means))


def standard_error(values: np.ndarray) -> float | None:
    """Standard error of the mean of a series, after Newey and West (1987): Bartlett weights up to lag n^(1/3).

    Never below the error of uncorrelated values; None for fewer than two.
    """
    n = len(values)
    if n < 2:
        return None
    deviation = values - values.mean()
    uncorrelated = float(deviation @ deviation) / (n - 1)
    num_lags = int(n ** (1 / 3))
    covariances = [float(deviation[lag:] @ deviation[:-lag]) / (n - 1) for lag in range(1, num_lags + 1)]
    correlated = uncorrelated + 2 * sum((1 - lag / (num_lags + 1)) * covariance for lag, covariance in enumerate(covariances, start=1))
    return float(np.sqrt(max(correlated, uncorrelated) / n))


def shake(times_ns: np.ndarray, velocities: np.ndarray) -> float | None:
    """Root mean square change of a velocity (n, 2) between successive pairs; None where fewer than two changes are seen."""
    is_next = np.diff(times_ns) <= MAX_SHAKE_GAP_NS
    changes = np.diff(velocities, axis=0)[is_next]
    if len(changes) < 2:
        return None
    return float(np.sqrt((changes**2).sum(axis=1).mean()))
