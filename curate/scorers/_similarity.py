"""The one shift, rotation and zoom that turns a picture into another: four numbers, found by least squares on the pixels.

Inverse compositional Gauss-Newton (Baker and Matthews, "Lucas-Kanade 20 Years On", IJCV 56, 2004): gradients and the 4 x 4 matrix of the
anchor are made once, each step costs one warp. Coarse to fine, from the warp that is handed in. Differences are clipped at
`CLIP_LEVELS`, so that a logo or a person who walks through pulls little.
"""

from dataclasses import dataclass

import cv2
import numpy as np

SHORT_SIDES = 16, 36, 72  # px of the levels
STEPS = 8, 6, 5
CLIP_LEVELS = 24.0
SOFT_PX = 0.85  # what is shrunk by averaging has stairs along its edges that do not move with them: misfits of 10.6 levels, so 3.4
COARSE, MAX_MISFIT = 1, 5.0  # level after which the search ends early; levels
MAX_CONDITION = 1e5
CONVERGED_PX = 0.02
OUTSIDE = -1000.0
MIN_OVERLAP = 0.5

Warp = np.ndarray
"""float64 (4,): (p, q, x, y) takes the anchor's point u to [[1 + p, -q], [q, 1 + p]] u + (x, y); u from the centre, in short sides."""
IDENTITY = np.zeros(4)


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """One size of the anchor: float32 pixels, and what the descent needs of their gradients."""

    size: tuple[int, int]
    pixels: np.ndarray
    descent: np.ndarray  # (4, pixels): brightness by parameter
    inverse: np.ndarray  # (4, 4)


class Anchor:
    """A picture that others are aligned with. uint8 (H, W) luma."""

    def __init__(self, luma: np.ndarray) -> None:
        self._pixels = pyramid(luma)
        self._levels: list[_Level | None] = []

    def align(self, others: list[np.ndarray], start: Warp) -> Warp | None:
        """The warp from the anchor to the picture of the pyramid `others`, searched for from `start`.

        None where they overlap too little, where the picture has too little texture for four numbers, and where nothing fits.
        """
        warp: Warp = start
        for i, (other, steps) in enumerate(zip(others, STEPS, strict=True)):
            if i == len(self._levels):
                self._levels.append(_level(self._pixels[i]))
            level = self._levels[i]
            found = _descend(level, other, warp, steps) if level is not None else None
            if found is None:
                return None
            warp, misfit = found
            if i == COARSE and misfit > MAX_MISFIT:
                return None
        return warp


def pyramid(luma: np.ndarray) -> list[np.ndarray]:
    """Float32 pictures of the short sides `SHORT_SIDES` (a smaller picture is not enlarged)."""
    found: list[np.ndarray] = []
    for side in reversed(SHORT_SIDES):
        scale = min(1.0, side / min(luma.shape))
        size = max(1, round(luma.shape[1] * scale)), max(1, round(luma.shape[0] * scale))
        luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
        found.append(cv2.GaussianBlur(luma.astype(np.float32), (3, 3), SOFT_PX))
    return found[::-1]


def matrix(warp: Warp, size: tuple[int, int]) -> np.ndarray:
    """float64 (2, 3) from pixels of the anchor to pixels of the other picture, both (width, height)."""
    p, q, x, y = warp
    short, centre = min(size), np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    turn = np.array([[1 + p, -q], [q, 1 + p]])
    return np.hstack([turn, (centre + np.array([x, y]) * short - turn @ centre)[:, None]])


def compose(first: Warp, second: Warp) -> Warp:
    """`first`, then `second`."""
    a, b = complex(1 + first[0], first[1]), complex(1 + second[0], second[1])
    shift = b * complex(first[2], first[3]) + complex(second[2], second[3])
    return np.array([(a * b).real - 1, (a * b).imag, shift.real, shift.imag])


def inverted(warp: Warp) -> Warp:
    turn = 1 / complex(1 + warp[0], warp[1])
    shift = -turn * complex(warp[2], warp[3])
    return np.array([turn.real - 1, turn.imag, shift.real, shift.imag])


def corner_shift(warp: Warp, aspect: float) -> float:
    """The farthest that a corner of a picture of that width / height moves, in short sides."""
    wide, high = (aspect / 2, 0.5) if aspect >= 1 else (0.5, 0.5 / aspect)
    p, q, x, y = warp
    return max(float(np.hypot(p * u - q * v + x, q * u + p * v + y)) for u in (-wide, wide) for v in (-high, high))


def _level(pixels: np.ndarray) -> _Level | None:
    """None where the picture has too little texture for four numbers."""
    height, width = pixels.shape
    short = min(height, width)
    dx = cv2.Sobel(pixels, cv2.CV_32F, 1, 0, scale=short / 8)
    dy = cv2.Sobel(pixels, cv2.CV_32F, 0, 1, scale=short / 8)
    u = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / short
    v = ((np.arange(height, dtype=np.float32) - (height - 1) / 2) / short)[:, None]
    descent = np.stack([dx * u + dy * v, dy * u - dx * v, dx, dy]).reshape(4, -1)
    hessian = (descent @ descent.T).astype(np.float64)
    if np.linalg.cond(hessian) > MAX_CONDITION:
        return None
    return _Level((width, height), pixels, descent, np.linalg.inv(hessian))


def _descend(level: _Level, other: np.ndarray, warp: Warp, steps: int) -> tuple[Warp, float] | None:
    """The warp and the mean absolute difference in levels, each clipped; None where the pictures overlap too little."""
    short, misfit = min(level.size), 0.0
    for _ in range(steps):
        seen = cv2.warpAffine(
            other,
            matrix(warp, level.size),
            level.size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=OUTSIDE,
        )
        inside = seen >= 0
        share = float(np.count_nonzero(inside)) / seen.size
        if share < MIN_OVERLAP:
            return None
        away = np.clip(seen - level.pixels, -CLIP_LEVELS, CLIP_LEVELS)
        away *= inside
        misfit = cv2.norm(away, cv2.NORM_L1) / (share * seen.size)
        step = level.inverse @ (level.descent @ away.ravel()).astype(np.float64) / share
        warp = compose(inverted(step), warp)
        if np.abs(step).max() * short < CONVERGED_PX:
            break
    return warp, misfit
