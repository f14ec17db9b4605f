"""How true a generated clip stays to its picture and to itself, from its frames alone.

SSIM       mean structural similarity of luma (Wang, Bovik, Sheikh & Simoncelli 2004, "Image quality assessment: from error visibility to
           structural similarity", IEEE Trans. Image Processing 13(4)): Gaussian window of 11 x 11 px with sigma 1.5 px, K1 = 0.01,
           K2 = 0.03, L = 255, over the windows that lie inside; at the clip's size, without the later advice to reduce it first.
warping    mean |frame t - frame t-1 brought to it by optical flow| over the points whose motion is followed both ways, after Lai et al.
           2018, "Learning blind video temporal consistency", ECCV, who square where we take levels. A point counts when |F + G|^2 <
           0.01 (|F|^2 + |G|^2) + 0.5 px^2 (Ruder, Dosovitskiy & Brox 2016, "Artistic style transfer for videos", GCPR), F the flow from t
           to t-1 and G the one back, read where F leads. Flow is DIS (Kroeger et al. 2016), as the motion scorer's, at a short side of
           256 px at most. What is left on a clip that moves and does not flicker is the blur of warping.
luma       root mean square of the second difference of the frames' mean luma: a fade at an even pace has none, noise of deviation s has
           sqrt(6) s, two levels in turn that are d apart have 2 d.
sharpness  the quality scorer's, mean over the first and over the last third of the frames.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from curate.scorers.quality import sharpness

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # px
SSIM_C1, SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
WARP_SHORT_SIDE = 256  # px
AGREE_SHARE, AGREE_PX2 = 0.01, 0.5


def ssim(a: np.ndarray, b: np.ndarray) -> float | None:
    """Of two uint8 (H, W) of one size, -1 to 1; None where a side is shorter than the window."""
    if a.shape != b.shape:
        raise ValueError(f"pictures of {a.shape} and {b.shape} cannot be compared; bring them to one size")
    if min(a.shape) < SSIM_WINDOW:
        return None
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x, var_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    return float((luminance * (2 * covariance + SSIM_C2) / (var_x + var_y + SSIM_C2)).mean())


def _windowed(plane: np.ndarray) -> np.ndarray:
    """Gaussian mean of every window that lies inside the plane."""
    edge = SSIM_WINDOW // 2
    return cv2.GaussianBlur(plane, (SSIM_WINDOW, SSIM_WINDOW), SSIM_SIGMA)[edge:-edge, edge:-edge]


def warp_error(frames: Sequence[np.ndarray]) -> float | None:
    """Of uint8 (H, W, 3) RGB, in levels; None for fewer than two frames, or where nothing can be followed from one to the next."""
    if len(frames) < 2:
        return None
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    lumas = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    total, followed = 0.0, 0
    for before, after, luma0, luma1 in zip(frames, frames[1:], lumas, lumas[1:], strict=False):
        # OpenCV's stub asks for an initial flow, which the medium preset does not read.
        back, forth = flow.calc(luma1, luma0, None), flow.calc(luma0, luma1, None)  # type: ignore[call-overload]
        x, y, agrees = _followed(back, forth)
        warped = cv2.remap(before.astype(np.float32), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        apart = np.abs(after.astype(np.float32) - np.clip(warped, 0, 255)).mean(axis=2)
        total += float(apart[agrees].sum(dtype=np.float64))
        followed += int(agrees.sum())
    return total / followed if followed else None


def _followed(back: np.ndarray, forth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each point of a frame lay in the frame before, float32 (H, W) x and y, and bool (H, W) whether both flows say so."""
    height, width = back.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = x + back[..., 0], y + back[..., 1]
    returned = cv2.remap(forth, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    apart, lengths = ((back + returned) ** 2).sum(axis=2), (back**2).sum(axis=2) + (returned**2).sum(axis=2)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return x, y, inside & (apart < AGREE_SHARE * lengths + AGREE_PX2)


def luma_flicker(lumas: Sequence[np.ndarray]) -> float | None:
    """Of uint8 (H, W), in levels; None for fewer than three frames."""
    if len(lumas) < 3:
        return None
    return float(np.sqrt(np.mean(np.diff([float(luma.mean()) for luma in lumas], n=2) ** 2)))


def sharpness_over_time(lumas: Sequence[np.ndarray]) -> tuple[float | None, float | None, float | None]:
    """(first third, last third, last over first) of uint8 (H, W), squared levels and a ratio.

    One frame has no last third; the ratio is None where the first third is flat.
    """
    third = max(1, len(lumas) // 3)
    first = float(np.mean([sharpness(luma) for luma in lumas[:third]]))
    if len(lumas) < 2:
        return first, None, None
    last = float(np.mean([sharpness(luma) for luma in lumas[-third:]]))
    return first, last, last / first if first > 0 else None
