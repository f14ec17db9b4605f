"""Whether frames follow each other by a shift of the picture: a scrolled page, a pan, a whip pan. No mix of two shots does.

Each frame is laid over the next by the shift that phase correlation finds (both ways, or along one axis), or by the least-squares
one of the gradients, which sees smooth pictures move a little. What is left is compared with what was there without:
sum of least |x_next - shifted x|^2 over sum of |x_next - x|^2, luma.
"""

from collections.abc import Sequence

import cv2
import numpy as np

MOST_PAIRS = 24
NOISE = 4.0
"""Mean squared difference, 8-bit levels, of frames that are the same."""
LEAST_OVERLAP = 0.5


def left_by_shift(frames_bgr: Sequence[np.ndarray]) -> float:
    """Share of the change between neighbours that no shift explains, 0 to 1, of uint8 (H, W, 3) frames; 1 for fewer than two."""
    luma = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).astype(np.float32) for frame in frames_bgr]
    pairs = [(luma[n], luma[n + 1]) for n in range(0, len(luma) - 1, max(1, -(-(len(luma) - 1) // MOST_PAIRS)))]
    without, left = 0.0, 0.0
    for one, other in pairs:
        change = float(np.square(other - one).mean())
        without += change
        left += change if change < NOISE else min(change, _least(one, other))
    return left / without if without else 1.0


def _least(one: np.ndarray, other: np.ndarray) -> float:
    height, width = one.shape
    # Copies: OpenCV 5 puts the window on its arguments in place.
    (x, y), _ = cv2.phaseCorrelate(one.copy(), other.copy(), cv2.createHanningWindow((width, height), cv2.CV_32F))
    found = np.inf
    for right, down in ((x, y), (0.0, y), (x, 0.0), _small(one, other)):
        matrix = np.array([[1, 0, right], [0, 1, down]], np.float32)
        inside = cv2.warpAffine(np.ones_like(one), matrix, (width, height)) > 0.99
        if inside.mean() > LEAST_OVERLAP:
            found = min(found, float(np.square(other - cv2.warpAffine(one, matrix, (width, height)))[inside].mean()))
    return found


def _small(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The shift, right and down, that explains the change best where it is small beside the picture's detail (Lucas and Kanade)."""
    down, right = np.gradient((one + other) / 2)
    change = one - other
    matrix = np.array([[np.vdot(right, right), np.vdot(right, down)], [np.vdot(right, down), np.vdot(down, down)]])
    x, y = np.linalg.solve(matrix + np.eye(2), [np.vdot(right, change), np.vdot(down, change)])
    return float(x), float(y)
