"""Macroblocks put in the wrong place: what a decoder shows for parts of a picture that were lost.

Such blocks meet their neighbours in hard, straight edges on a grid of 16 px. A piece of edge, `PIECE_PX` long, is hard where the mean step
across it is `MIN_STEP` levels or more and `MIN_RATIO` times that across the two pixels to either side. Hard edges of objects lie
anywhere, those of blocks at one place in 16: pieces on the best of 16 phases less those on the second best, over all pieces of that grid,
is the evidence; the smaller of the two directions, since blocks have edges in both. The phase is searched because a crop shifts the
grid. Blind to blocks that were scaled after the loss, and to losses on none of the pictures it is given.
"""

from collections.abc import Sequence

import cv2
import numpy as np

GRID_PX, PIECE_PX = 16, 8
MIN_STEP, MIN_RATIO = 16, 3  # levels; times
MIN_PIECES, MIN_LINES = 6, 3  # fewer are chance, or the outline of one straight thing


def block_share(frames: Sequence[np.ndarray]) -> float:
    """Share of the grid's edges that are hard, in the worst of the uint8 (H, W) frames of native luma."""
    shares = [min(_share(luma), _share(cv2.transpose(luma))) for luma in frames if min(luma.shape) >= 3 * GRID_PX]
    return max(shares, default=0.0)


def _share(luma: np.ndarray) -> float:
    """Across columns."""
    rows = luma.shape[0] // PIECE_PX
    luma = luma[: rows * PIECE_PX]
    steps = cv2.absdiff(luma[:, 1:], luma[:, :-1])
    pieces = steps.reshape(rows, PIECE_PX, -1).sum(axis=1, dtype=np.uint16)
    around = np.maximum(np.maximum(pieces[:, 1:-3], pieces[:, 3:-1]), np.maximum(pieces[:, :-4], pieces[:, 4:]))
    here = pieces[:, 2:-2]
    is_hard = here >= np.maximum(MIN_RATIO * around, MIN_STEP * PIECE_PX)
    counts = np.count_nonzero(is_hard, axis=0)
    folded = np.pad(counts, (0, -len(counts) % GRID_PX)).reshape(-1, GRID_PX)
    phases = folded.sum(axis=0)
    best, second = np.argsort(-phases, kind="stable")[:2]
    excess = int(phases[best] - phases[second])
    if excess < MIN_PIECES or np.count_nonzero(folded[:, best]) < MIN_LINES:
        return 0.0
    return excess / (len(counts) // GRID_PX * rows)
