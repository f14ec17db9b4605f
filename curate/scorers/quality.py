"""Technical quality of the picture: luma, contrast, sharpness, blockiness. Means over the first, middle and last sample.

luma        mean full-range luma.
contrast    RMS contrast: standard deviation of luma in levels (Peli 1990, "Contrast in complex images", J. Opt. Soc. Am. A 7(10)).
sharpness   variance of the Laplacian (Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy", ICPR; kernel
            (0 1 0; 1 -4 1; 0 1 0)) of the picture brought to a short side of 360 px (area average down, bicubic up) and smoothed by a
            Gaussian of 1 px (Marr & Hildreth 1980). Without the smoothing the same frame stored at 432 instead of 720 lines
            scored 0.44 to 0.70 of itself, with it 0.81 to 0.89; noise of 5 levels raised it by up to 400 %, now by up to 10 %.
blockiness  how much the steps between neighbouring pixels stand out on the grid of 8 x 8 blocks. Steps are cut at 24 levels (those of
            coding are small, those of objects large) and averaged over each column (row); that over the mean of the three on either side
            is its prominence; the median of every eighth gives eight phases; the greatest phase over the mean of the other seven is the
            measure, the greater of the two directions. 1 for a clean picture (real video reduced to 0.5 or 0.72 of its size: 1.00 to
            1.14); the same coded as MPEG-4: median 1.5 at quantiser 4, 4 at quantiser 31. The phase is searched because a crop may shift
            the grid; the medians keep a straight line in the scene from counting. Of the family of Wang, Sheikh & Bovik 2002,
            "No-reference perceptual quality assessment of JPEG compressed images", ICIP; the form is ours. Blind to a grid that
            was rescaled after coding.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
from pydantic.dataclasses import dataclass

from curate.clip import Fault
from curate.samples import ClipSamples, Wants
from curate.scorers import Column, Score

if TYPE_CHECKING:
    from curate.models import Models

SHARPNESS_SHORT_SIDE = 360
SHARPNESS_SIGMA = 1.0  # px of the reduced picture
BLOCK = 8
MAX_STEP = 24  # levels
STEP_FLOOR = 0.1  # levels: keeps flat pictures at a ratio of 1
MIN_BLOCKS = 6  # a side shorter than 48 px says nothing of the grid
MAX_LINES = 1920  # of pixels read across each direction; a larger picture is read at every second or third


@dataclass(frozen=True)
class Scorer:
    """Luma, contrast, sharpness and blockiness of the active picture. No parameters."""

    version: ClassVar[int] = 1

    @property
    def columns(self) -> dict[str, Column]:
        return {
            "quality_luma": Column(pa.float32(), "levels", "mean full-range luma", 0, 255),
            "quality_contrast": Column(pa.float32(), "levels", "RMS contrast: standard deviation of luma over the picture", 0, 128),
            "quality_sharpness": Column(
                pa.float32(), "levels^2", "variance of the smoothed Laplacian at a short side of 360 px; low is blurred", 0, 1_040_400
            ),
            "quality_blockiness": Column(
                pa.float32(),
                "ratio",
                "prominence of the 8x8 coding grid at native resolution, 1 for none; null where the picture is under 48 px or was "
                "reduced to fit sampling.max_held_mb",
                1,
            ),
        }

    @property
    def samples(self) -> Wants:
        return Wants(frames="first_middle_last", pixels="luma", short_side=None)

    def open(self, models: "Models") -> Score:  # noqa: ARG002
        return lambda clips: [_row(clip) for clip in clips]


def _row(clip: ClipSamples) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("quality_luma", "quality_contrast", "quality_sharpness", "quality_blockiness"))
    if not clip.frames:
        return row | {"faults": [Fault("quality", "NoSample", "the clip holds no sample of the grid")]}
    moments = [cv2.meanStdDev(frame) for frame in clip.frames]
    row["quality_luma"] = float(np.mean([mean[0, 0] for mean, _ in moments]))
    row["quality_contrast"] = float(np.mean([std[0, 0] for _, std in moments]))
    row["quality_sharpness"] = float(np.mean([sharpness(frame) for frame in clip.frames]))
    height, width = clip.frames[0].shape
    if height < 0.9 * clip.box.height or width < 0.9 * clip.box.width:
        text = f"samples held at {width}x{height} of {clip.box.width}x{clip.box.height} hide the coding grid; raise sampling.max_held_mb"
        row["faults"] = [Fault("quality", "ReducedPicture", text)]
    elif min(height, width) < MIN_BLOCKS * BLOCK:
        row["faults"] = [Fault("quality", "SmallPicture", f"{width}x{height} is under {MIN_BLOCKS} blocks of {BLOCK} px")]
    else:
        row["quality_blockiness"] = blockiness(clip.frames)
    return row


def sharpness(luma: np.ndarray) -> float:
    """Variance of the Laplacian of uint8 (H, W), smoothed, at a short side of 360 px, in squared levels."""
    height, width = luma.shape
    scale = SHARPNESS_SHORT_SIDE / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size != (width, height):
        luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    smooth = cv2.GaussianBlur(luma.astype(np.float32), (0, 0), SHARPNESS_SIGMA)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(smooth, cv2.CV_32F, ksize=1))
    return float(deviation[0, 0] ** 2)


def blockiness(frames: Sequence[np.ndarray]) -> float:
    """Prominence of an 8-px grid over uint8 (H, W) frames of one size, each side at least 48 px; 1 or more."""
    return max(_grid_prominence(np.mean([_steps(frame, axis) for frame in frames], axis=0)) for axis in (0, 1))


def _grid_prominence(steps: np.ndarray) -> float:
    steps = steps + STEP_FLOOR
    around = (np.convolve(steps, np.ones(7), "valid") - steps[3:-3]) / 6.0
    prominence = steps[3:-3] / around
    whole = len(prominence) // BLOCK * BLOCK
    phases = np.median(prominence[:whole].reshape(-1, BLOCK), axis=0)
    greatest = float(phases.max())
    return max(1.0, greatest * (BLOCK - 1) / float(phases.sum() - greatest))


def _steps(luma: np.ndarray, axis: int) -> np.ndarray:
    """float32, one shorter than the axis: mean step from each row (axis 0) or column (1) to the next, every step cut at `MAX_STEP`."""
    stride = -(-luma.shape[1 - axis] // MAX_LINES)
    if axis == 0:
        luma = luma[:, ::stride]
        steps = cv2.absdiff(luma[1:], luma[:-1])
    else:
        luma = luma[::stride]
        steps = cv2.absdiff(luma[:, 1:], luma[:, :-1])
    cv2.threshold(steps, MAX_STEP, 0, cv2.THRESH_TRUNC, dst=steps)
    total = cv2.reduce(steps, 1 - axis, cv2.REDUCE_SUM, dtype=cv2.CV_32F)
    return total.ravel() / luma.shape[1 - axis]
