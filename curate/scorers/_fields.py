"""Combs: lines of two fields, taken at different moments, woven into one picture.

A pixel is a peak by as much as it outshines both the pixel above and the one below (a valley by as much as it falls short of both). In
a comb even lines are peaks and odd lines valleys, or the other way round, over many lines: the least height over `COMB_LINES` lines
in a row is what counts, which no single line or edge of the scene has.
"""

from collections.abc import Sequence

import cv2
import numpy as np

COMB_LINES = 9  # lines in a row that alternate
COMB_LEVELS = 6  # least height of each
COLUMN_STEP = 3  # every third column is read

_STRAIGHT = np.ones((COMB_LINES, 1), np.uint8)


def comb_share(frames: Sequence[np.ndarray]) -> float:
    """Share of the picture inside combs, in the most combed of the uint8 (H, W) frames of native luma."""
    return max((_share(luma) for luma in frames), default=0.0)


def _share(luma: np.ndarray) -> float:
    if luma.shape[0] < 2 * COMB_LINES:
        return 0.0
    thin = cv2.resize(luma, (-(-luma.shape[1] // COLUMN_STEP), luma.shape[0]), interpolation=cv2.INTER_NEAREST)
    above, here, below = thin[:-2], thin[1:-1], thin[2:]
    peaks = cv2.min(cv2.subtract(here, above), cv2.subtract(here, below))
    valleys = cv2.min(cv2.subtract(above, here), cv2.subtract(below, here))
    one, other = peaks.copy(), valleys.copy()
    one[1::2], other[1::2] = valleys[1::2], peaks[1::2]
    combs = cv2.max(cv2.erode(one, _STRAIGHT), cv2.erode(other, _STRAIGHT))
    return float(cv2.countNonZero(cv2.threshold(combs, COMB_LEVELS - 1, 255, cv2.THRESH_BINARY)[1]) / combs.size)
