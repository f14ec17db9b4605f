"""Frechet Video Distance between two sets of clips: how far apart the features of a video network are distributed.

    FVD = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))

with mean m and covariance C of the 400 outputs of I3D trained on Kinetics-400 (Unterthiner et al. 2018, "Towards accurate generative models
of video", arXiv 1812.01717; the distance of two Gaussians is Dowson & Landau 1982). The network is the TorchScript file
`i3d_torchscript.pt` that StyleGAN-V (Skorokhodov et al. 2022, arXiv 2112.14683) made from the weights of the original and most papers since
have used. It is called as detector(x, rescale=False, resize=True, return_features=True) with x float32 (B, 3, T, H, W) in -1..1, and
resizes to 224 x 224 itself. 10 frames is the least that its users ask for: three halvings in time have to leave two steps for the last
pooling.

FVD of few clips is far too large: n clips span n - 1 of the 400 directions, and the bias falls with 1 / n. Published figures take 2,048
clips and more. Compare only figures of equal counts, frames and rate; the result says how many there were.

The file is code as well as weights: `torch.jit.load` runs what it holds. Give only a file that you trust; its checksum goes into the
result.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import MissingWeightsError
from curate.models import WrongWeightsError, sha256_file

MIN_FRAMES = 10
USUAL_CLIPS = 2048
TRUST = "TorchScript runs code from the file: give only one that you trust"  # for the descriptions of keys that name it


@dataclass(frozen=True, slots=True, eq=False)
class VideoFeatures:
    """Features of clips, float64 (N, D), the frames that each clip had, and the checksum of the network."""

    features_ND: np.ndarray
    num_frames: int
    network_sha256: str


@dataclass(frozen=True, slots=True)
class FrechetVideo:
    """The distance, what it was measured on, and what to think of it where the clips are few."""

    distance: float
    num_real: int
    num_generated: int
    num_frames: int
    dimension: int
    network_sha256: str
    warning: str | None


class VideoNetwork:
    """The TorchScript network, open. `device` is torch's name of where it runs."""

    def __init__(self, network: Any, sha256: str, device: str) -> None:
        self._network, self.sha256, self._device = network, sha256, device

    @classmethod
    def open(cls, path: str | Path, device: str = "cpu") -> "VideoNetwork":
        """Loads a file that you trust. Raises `MissingWeightsError`, or `WrongWeightsError` for a file that is no TorchScript."""
        import torch

        file = check_network(path)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*torch.jit.* is deprecated", category=FutureWarning)  # the field's file is one
                network = torch.jit.load(str(file), map_location=device).eval()
        except RuntimeError as error:
            raise WrongWeightsError(f"{file} is no TorchScript file: {str(error).splitlines()[0]}") from error
        return cls(network, sha256_file(file), device)

    def features(self, clips: Iterable[np.ndarray]) -> VideoFeatures:
        """Of clips uint8 (T, H, W, 3) RGB, each with the same T of at least 10; sizes may differ. Clips are taken one after the other.

        Raises `ValueError` for other arrays and where there are none, `WrongWeightsError` where the network does not give a row of numbers.
        """
        rows: list[np.ndarray] = []
        num_frames = 0
        for clip in clips:
            if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[3] != 3 or len(clip) < MIN_FRAMES:
                raise ValueError(f"clips must be uint8 (T, H, W, 3) with T at least {MIN_FRAMES}, got {clip.dtype} {clip.shape}")
            if rows and len(clip) != num_frames:
                raise ValueError(f"clips of {num_frames} and of {len(clip)} frames cannot be compared; cut them to one length")
            num_frames = len(clip)
            rows.append(self._row(clip))
        if not rows:
            raise ValueError("FVD needs clips, got none")
        return VideoFeatures(np.stack(rows), num_frames, self.sha256)

    def _row(self, clip_THWC: np.ndarray) -> np.ndarray:
        import torch

        x_BCTHW = torch.from_numpy(np.ascontiguousarray(clip_THWC.transpose(3, 0, 1, 2)))[None].to(self._device).float() / 127.5 - 1
        try:
            with torch.inference_mode():
                found = self._network(x_BCTHW, rescale=False, resize=True, return_features=True)
        except RuntimeError as error:
            raise WrongWeightsError(
                f"the video network does not take clips as StyleGAN-V's I3D does: {str(error).splitlines()[-1]}"
            ) from error
        row = found.double().cpu().numpy() if isinstance(found, torch.Tensor) else np.zeros(0)
        if row.ndim != 2 or len(row) != 1:
            raise WrongWeightsError(f"the video network gave {row.shape} for one clip, expected (1, D); StyleGAN-V's I3D gives (1, 400)")
        return row[0]


def check_network(path: str | Path) -> Path:
    """The file, before any work. Raises `MissingWeightsError` where there is none."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise MissingWeightsError(
            f"FVD: there is no file {file}. It needs i3d_torchscript.pt, to which the metrics of StyleGAN-V "
            f"(github.com/universome/stylegan-v) link; {TRUST}"
        )
    return file


def frechet_video_distance(real: VideoFeatures, generated: VideoFeatures) -> FrechetVideo:
    """FVD of two sets of clips. Raises `ValueError` for features that cannot be compared and for fewer than two clips in a set."""
    if (real.network_sha256, real.num_frames) != (generated.network_sha256, generated.num_frames):
        raise ValueError(
            f"features of {real.num_frames} and {generated.num_frames} frames or of two networks cannot be compared; "
            "take clips of one length and one file"
        )
    distance = frechet_distance(*moments(real.features_ND), *moments(generated.features_ND))
    sizes, dimension = (len(real.features_ND), len(generated.features_ND)), real.features_ND.shape[1]
    return FrechetVideo(distance, *sizes, real.num_frames, dimension, real.network_sha256, _warning(*sizes, dimension))


def _warning(num_real: int, num_generated: int, dimension: int) -> str | None:
    fewest, counts = min(num_real, num_generated), f"{num_real} real and {num_generated} generated clips"
    if fewest <= dimension:
        return f"{counts} do not span the {dimension} features: the figure is far too large, and good only beside one of the same counts"
    if fewest < USUAL_CLIPS:
        return f"{counts}: fewer than the usual {USUAL_CLIPS:,}; the figure is too large, compare it only with one of the same counts"
    return None


def moments(features_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean float64 (D,) and unbiased covariance (D, D). Raises `ValueError` for fewer than two rows or numbers that are not finite."""
    features = np.asarray(features_ND, np.float64)
    if features.ndim != 2 or len(features) < 2 or not np.isfinite(features).all():
        raise ValueError(f"features must be finite (N, D) with N at least 2, got {features.shape}")
    mean = features.mean(axis=0)
    return mean, (features - mean).T @ (features - mean) / (len(features) - 1)


def frechet_distance(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians, in float64, never below 0.

    tr (C1 C2)^(1/2) is the sum of the singular values of C1^(1/2) C2^(1/2), which needs no root of a matrix that is not symmetric and
    works for covariances of less than full rank.
    """
    apart = np.asarray(mean1, np.float64) - np.asarray(mean2, np.float64)
    common = np.linalg.svd(_root(cov1) @ _root(cov2), compute_uv=False).sum()
    return max(0.0, float(apart @ apart + np.trace(cov1) + np.trace(cov2) - 2 * common))


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
