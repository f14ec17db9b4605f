"""False contours: where a smooth area was given too few levels it breaks into flat bands with steps between them.

Every fourth line of the picture, in both directions, is searched for a run of `FLAT_PX` pixels of one and the same value, a gap of
`GAP_PX`, and another such run that differs by `MIN_STEP` to `MAX_STEP` levels. A gradient in 8 bits has such runs with steps of one
level, seldom two; the steps of real objects lie between pixels that vary.
"""

from collections.abc import Sequence

import cv2
import numpy as np

LINE_STEP = 4
FLAT_PX, GAP_PX = 8, 4
MIN_STEP, MAX_STEP = 3, 12  # levels

_RUN = np.ones((1, FLAT_PX), np.uint8)


def contour_share(frames: Sequence[np.ndarray]) -> float:
    """Share of places with a false contour, mean over the uint8 (H, W) frames of native luma and over both directions."""
    return float(np.mean([_share(luma) for luma in frames])) if frames else 0.0


def _share(luma: np.ndarray) -> float:
    height, width = luma.shape
    columns = cv2.resize(luma, (max(1, width // LINE_STEP), height), interpolation=cv2.INTER_NEAREST)
    found = total = 0
    for lines in (np.ascontiguousarray(luma[::LINE_STEP]), cv2.transpose(columns)):
        length = lines.shape[1] - 2 * FLAT_PX - GAP_PX
        if length <= 0:
            continue
        is_flat = cv2.compare(lines[:, 1:], lines[:, :-1], cv2.CMP_EQ)
        starts = cv2.erode(is_flat, _RUN, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        step = cv2.absdiff(lines[:, FLAT_PX : FLAT_PX + length], lines[:, FLAT_PX + GAP_PX : FLAT_PX + GAP_PX + length])
        both = cv2.bitwise_and(starts[:, :length], starts[:, FLAT_PX + GAP_PX : FLAT_PX + GAP_PX + length])
        is_contour = cv2.bitwise_and(cv2.inRange(step, np.array(MIN_STEP), np.array(MAX_STEP)), both)
        found, total = found + cv2.countNonZero(is_contour), total + is_contour.size
    return found / total if total else 0.0
