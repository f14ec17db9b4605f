"""A camera over pictures that are there already: it travels slowly, or trembles in the hand."""

import math

import cv2
import numpy as np

from flags.stage import Frames


def travelled(frames: Frames, random: np.random.Generator, how: str, share: float) -> Frames:
    """A window of part of the picture that travels by `share` of its width, or shrinks by it."""
    height, width = frames[0].shape[:2]
    share = min(share, 0.35)
    is_back = random.random() < 0.5
    y_part = random.uniform(0, 1)
    made = []
    for k, one in enumerate(frames):
        at = k / (len(frames) - 1)
        at = 1 - at if is_back else at
        if how == "pan":
            zoom = 1 / (1 + share)
            x, y = at * (1 - zoom) * width, y_part * (1 - zoom) * height
        else:
            zoom = 1 - share * at
            x, y = (1 - zoom) / 2 * width, (1 - zoom) / 2 * height
        matrix = np.float64([[zoom, 0, x], [0, zoom, y]])
        made.append(
            cv2.warpAffine(one, matrix, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101)
        )
    return made


def trembling(frames: Frames, fps: float, random: np.random.Generator, amount: float) -> Frames:
    return [
        shifted(one, dx, dy) for one, (dx, dy) in zip(frames, tremor(len(frames), fps, random, amount * frames[0].shape[1]), strict=True)
    ]


def tremor(num: int, fps: float, random: np.random.Generator, size: float) -> np.ndarray:
    """(num, 2) pixels: three slow sines a side."""
    seconds = np.arange(num)[:, None, None] / fps
    hertz, phase = random.uniform(0.3, 4.0, (2, 3)), random.uniform(0, 2 * math.pi, (2, 3))
    return (np.sin(2 * math.pi * hertz * seconds + phase) / (1 + hertz)).sum(axis=2) * size


def shifted(bgr: np.ndarray, dx: float, dy: float) -> np.ndarray:
    height, width = bgr.shape[:2]
    grow = 1.04
    matrix = np.float64([[1 / grow, 0, (1 - 1 / grow) * width / 2 + dx], [0, 1 / grow, (1 - 1 / grow) * height / 2 + dy]])
    return cv2.warpAffine(bgr, matrix, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101)
