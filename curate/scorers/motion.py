"""How much moves, in units that do not depend on frame rate, size or codec.

`motion_lvd` is the score of the Stable Video Diffusion paper as video2dataset computes it (arXiv 2311.15127, appendix C): Farneback flow
at 2 frames a second on frames with a short side of 16 px, its magnitude averaged in space and time.

The others are ours, in per cent of the active picture's diagonal per second. They are read from pairs of distinct frames about 1/7 s apart
(`curate.media.pairs`) and divided by the true distance in time. For each pair, at a short side of 96 px:

    f   dense flow (DIS, Kroeger et al. 2016)
    c   camera: nothing, a translation or an affine field, the simplest of those that explain f about equally well where there is
        texture; then refined on the pixels (Gauss-Newton), because dense flow is a few per cent short on zooms and turns
    s   0..1, how far the pixels prefer f to c: 1 - limit / gain, where gain = E(c) - E(f), E the mean squared brightness error of
        a 9 x 9 window after warping, and limit the gain that noise alone would give
    m = c + s (f - c)

    speed = mean |m|     camera = mean |c|     object = mean |s (f - c)|

Magnitudes are averaged, so a pan does not cancel. Without s, flow wanders over walls and skies: re-encoding one fixed-camera clip at CRF 35
moved its score by 42 %, and its still parts were not 0. Known weakness: flow is 1.2 to 1.3 times as wide as a small thing that moves, and a
busy thing that fills a quarter of a blank picture is taken for the camera's motion.
"""

from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from curate.clip import NS_PER_S, Fault
from curate.samples import ClipSamples, MotionFrames, Wants
from curate.scorers import Column, Score

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
MAX_LONG_SIDE = 400  # px; a strip of a picture is squeezed
WINDOW = 9  # px
GRID_STEP = 4  # px between the points that camera models are fitted to
TEXTURE = 1.0  # squared levels per squared pixel: smaller eigenvalue of the structure tensor at which a point counts half
NOISE_GAIN = 0.5  # squared levels
CAMERA_GAIN = 0.01  # squared levels; less than NOISE_GAIN because it is a mean over the frame
CAMERA_NOISE_SHARE = 0.05
INLIER_PX = 0.2
SIMPLER_BY = 1.03  # a model with more parameters must explain this much more
ANNEALING_PX = (2.0, 1.0, 0.5, 0.25, 0.15)
MAX_SHAKE_GAP_NS = 600_000_000

_SPEED_UNIT = "% of diagonal / s"


@plain_dataclass(frozen=True, slots=True)
class PairMotion:
    """Motion between two frames, in per cent of the diagonal (not yet per second). `shift` is the camera's (x, y) at the centre."""

    total: float
    camera: float
    object: float
    shift: tuple[float, float]


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

    version: ClassVar[int] = 1

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
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

        def score(clips: Sequence[ClipSamples]) -> list[dict[str, Any]]:
            return [self._row(clip.motion, flow) for clip in clips if clip.motion is not None]

        return score

    def _row(self, motion: MotionFrames, flow: cv2.DISOpticalFlow) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(self.columns)
        faults = []
        row["motion_lvd"] = lvd_score(motion.grid_times_ns, motion.grid)
        if row["motion_lvd"] is None:
            faults.append(Fault("motion", "few_samples", f"motion_lvd needs two samples, the clip has {len(motion.grid)}"))
        measured = [pair_motion(pair.luma0, pair.luma1, flow, self.short_side) for pair in motion.pairs]
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
    small = [_resized(frame, _size(frame, LVD_SHORT_SIDE)) for frame in frames]
    means = []
    for i in range(len(small) - 1):
        empty = np.zeros((*small[i].shape, 2), np.float32)
        field = cv2.calcOpticalFlowFarneback(small[i], small[i + 1], empty, **LVD_FARNEBACK)
        step_s = float(times_ns[i + 1] - times_ns[i]) / NS_PER_S
        means.append(_mean_magnitude(np.stack(cv2.split(field))) * LVD_STEP_S / step_s)
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


def pair_motion(luma0: np.ndarray, luma1: np.ndarray, flow: cv2.DISOpticalFlow, short_side: int = 96) -> PairMotion:
    """Motion from one uint8 (H, W) luma to another of the same size."""
    height, width = luma0.shape
    size = _size(luma0, short_side)
    small0, small1 = _resized(luma0, size), _resized(luma1, size)
    if np.array_equal(small0, small1):
        return PairMotion(0.0, 0.0, 0.0, (0.0, 0.0))
    # OpenCV's stub asks for an initial flow, which the medium preset does not read.
    field = np.stack(cv2.split(flow.calc(small0, small1, None)))  # type: ignore[call-overload]
    pair = _SmallPair(small0, small1)
    weights = pair.texture_weights()
    model = pair.refined(_camera_model(field, weights, pair.basis), field, weights)
    camera = pair.supported(pair.field(model), weights)
    independent = (field - camera) * pair.preference(field, camera)
    to_percent = np.array([width / size[0], height / size[1]], np.float32).reshape(2, 1, 1) * np.float32(100 / np.hypot(width, height))
    center = (camera * to_percent)[:, size[1] // 2, size[0] // 2]
    return PairMotion(
        total=_mean_magnitude((camera + independent) * to_percent),
        camera=_mean_magnitude(camera * to_percent),
        object=_mean_magnitude(independent * to_percent),
        shift=(float(center[0]), float(center[1])),
    )


class _SmallPair:
    """Two small frames and what is derived from them.

    Fields are float32 (2, h, w), x then y, in pixels; affine models float64 (2, 3), times `basis` (3, h, w), whose rows are 1, u and v:
    distance from the centre in heights.
    """

    def __init__(self, small0: np.ndarray, small1: np.ndarray) -> None:
        self.a, self.b = small0.astype(np.float32), small1.astype(np.float32)
        self.smooth_a, self.smooth_b = (cv2.GaussianBlur(plane, (0, 0), 1) for plane in (self.a, self.b))
        height, width = self.a.shape
        self.x, self.y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        self.basis = np.stack([np.ones_like(self.x), (self.x - (width - 1) / 2) / height, (self.y - (height - 1) / 2) / height])

    def texture_weights(self) -> np.ndarray:
        """float32 (h, w): where flow can be trusted, evened out so that a small busy region does not outvote a large quiet one."""
        gx, gy = (cv2.Sobel(self.a, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
        xx, yy, xy = _window_mean(gx * gx), _window_mean(gy * gy), _window_mean(gx * gy)
        smaller = np.maximum((xx + yy) / 2 - _magnitude((xx - yy) / 2, xy), 0)
        weights = smaller / (smaller + TEXTURE)
        neighbourhood = self.a.shape[0] // 3 | 1
        return weights / (cv2.blur(weights, (neighbourhood, neighbourhood)) + 0.1)

    def field(self, model: np.ndarray) -> np.ndarray:
        return np.tensordot(model.astype(np.float32), self.basis, axes=1)

    def refined(self, model: np.ndarray, field: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Two Gauss-Newton steps on brightness for the points whose flow follows the model; a model of no motion stays."""
        if not model.any():
            return model
        # Blurred, or central differences and linear interpolation overstate shifts below a fifth of a pixel by up to 20 %.
        slope = np.array([[-0.5, 0, 0.5]], np.float32)
        gradient = np.stack([cv2.filter2D(self.smooth_a, cv2.CV_32F, kernel) for kernel in (slope, slope.T)])
        every = (..., slice(GRID_STEP // 4, None, GRID_STEP // 2), slice(GRID_STEP // 4, None, GRID_STEP // 2))
        x, y, a, near = (plane[every] for plane in (self.x, self.y, self.smooth_a, weights))
        flow, basis = field[every], self.basis[every]
        jacobian = (gradient[every][:, None] * basis).reshape(6, -1).astype(np.float64)
        for _ in range(2):
            dx, dy = shift = np.tensordot(model.astype(np.float32), basis, axes=1)
            error = cv2.remap(self.smooth_b, x + dx, y + dy, cv2.INTER_LINEAR) - a
            misfit = ((flow - shift) ** 2).sum(axis=0)
            k = self._inside(x + dx, y + dy) * near / (1 + misfit / 0.25) ** 2 / (1 + error**2 / 64)
            error = error - (k * error).sum() / (k.sum() + 1e-3)
            weighted = jacobian * k.ravel()
            step = np.linalg.solve(weighted @ jacobian.T + 1e-3 * x.size * np.eye(6), weighted @ error.ravel())
            model = model - np.clip(step, -1, 1).reshape(2, 3)
        return model

    def supported(self, camera: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The camera's field, shrunk to nothing where warping by it brings the frames no closer than warping by its opposite.

        Its opposite, not rest: interpolation smooths noise, so that any warp by a fraction of a pixel beats rest.
        """
        error, inside = self._error(camera, smooth=True)
        opposite, opposite_inside = self._error(-camera, smooth=True)
        k = weights * inside * opposite_inside
        total = float(k.sum()) + 0.01 * k.size
        gain, noise = float((k * (opposite - error)).sum()) / total / 4, float((k * error).sum()) / total
        limit = CAMERA_GAIN + CAMERA_NOISE_SHARE * noise
        return camera * np.float32(1 - (limit / gain) ** 2 if gain > limit else 0.0)

    def preference(self, field: np.ndarray, camera: np.ndarray) -> np.ndarray:
        """float32 (h, w), 0..1: how far the pixels prefer the flow to the camera's field. Where either leaves the frame, 1."""
        camera_error, camera_inside = self._error(camera)
        field_error, field_inside = self._error(field)
        inside = camera_inside * field_inside
        known = _window_mean(inside)
        gain = _window_mean((camera_error - field_error) * inside) / (known + 1e-3)
        noise = np.float32(np.quantile(_window_mean(field_error)[::GRID_STEP, ::GRID_STEP], 0.25))
        preference = np.maximum(gain - (NOISE_GAIN + noise), 0) / np.maximum(gain, 1e-6)
        preference[known < 0.2] = 1
        return preference

    def _error(self, field: np.ndarray, smooth: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Squared brightness error after warping, and 1 where the warp stays inside the frame, else 0."""
        a, b = (self.smooth_a, self.smooth_b) if smooth else (self.a, self.b)
        x, y = self.x + field[0], self.y + field[1]
        error = cv2.remap(b, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) - a
        return error * error, self._inside(x, y)

    def _inside(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        height, width = self.a.shape
        return ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).astype(np.float32)


def _camera_model(field: np.ndarray, weights: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Affine model (2, 3) of the motion that most of the textured picture follows, or no motion.

    Iteratively reweighted least squares with a scale that shrinks, from rest and from the median flow.
    """
    every = (..., slice(GRID_STEP // 2, None, GRID_STEP), slice(GRID_STEP // 2, None, GRID_STEP))
    flow, terms = field[every].reshape(2, -1).astype(np.float64), basis[every].reshape(3, -1).astype(np.float64)
    w = weights[every].ravel().astype(np.float64)
    ridge = 1e-3 * len(w) * np.diag([0.01, 1.0, 1.0])

    def misfit(model: np.ndarray) -> np.ndarray:
        return ((flow - model @ terms) ** 2).sum(axis=0)

    def support(model: np.ndarray) -> float:
        return float((w / (1 + misfit(model) / INLIER_PX**2)).sum())

    def fitted(start: np.ndarray, num_terms: int) -> np.ndarray:
        model, used = start.copy(), terms[:num_terms]
        for sigma in ANNEALING_PX:
            weighted = used * (w / (1 + misfit(model) / sigma**2) ** 2)
            model[:, :num_terms] = np.linalg.solve(weighted @ used.T + ridge[:num_terms, :num_terms], weighted @ flow.T).T
        return model

    rest, median = np.zeros((2, 3)), np.zeros((2, 3))
    median[:, 0] = np.median(flow[:, w >= np.median(w)], axis=1)
    best = rest
    for num_terms in (1, 3):
        candidate = max((fitted(start, num_terms) for start in (rest, median)), key=support)
        if support(candidate) > SIMPLER_BY * support(best):
            best = candidate
    return best


def _window_mean(plane: np.ndarray) -> np.ndarray:
    return cv2.blur(plane, (WINDOW, WINDOW))


def _mean_magnitude(field: np.ndarray) -> float:
    return float(_magnitude(field[0], field[1]).mean())


def _magnitude(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # cv2.magnitude rounds its last bit by where the array lies in memory.
    return np.sqrt(x * x + y * y)


def _size(luma: np.ndarray, short_side: int) -> tuple[int, int]:
    """(width, height) with the given short side."""
    height, width = luma.shape
    scale = short_side / min(height, width)
    longest = max(MAX_LONG_SIDE, short_side)
    return min(longest, round(width * scale)), min(longest, round(height * scale))


def _resized(luma: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if luma.shape[::-1] == size:
        return np.ascontiguousarray(luma)
    is_smaller = size[0] <= luma.shape[1] and size[1] <= luma.shape[0]
    return cv2.resize(luma, size, interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR)
