"""What two frames of the track (16x9 blocks, BGR, 8-bit levels) have in common, each measure blind to something else."""

import numpy as np

GAINS = 0.5, 0.6, 0.75, 0.9, 1.0, 1.15, 1.35, 1.6
"""Changes of light that are tried."""
KEPT_LEVELS = 8.0
"""A block is the same if every channel differs by less."""
LEAST_CONTRAST = 6.0
"""Spatial deviation, 8-bit levels, under which blocks agree by chance."""


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of the luma of two frames (432,), -1 to 1: blind to brightness and contrast."""
    one, other = (frame.reshape(-1, 3).mean(axis=1) for frame in (one, other))
    one, other = one - one.mean(), other - other.mean()
    return float(one @ other / (np.sqrt((one @ one) * (other @ other)) + 1e-3))


def spread_of(change: np.ndarray) -> float:
    """Share of the picture that changes: participation ratio of the squared change (432,) over the blocks, 0 to 1."""
    blocks = np.square(change).reshape(-1, 3).sum(axis=1)
    return float(blocks.sum() ** 2 / (len(blocks) * np.square(blocks).sum() + 1e-6))


def kept_share(old: np.ndarray, new: np.ndarray) -> float:
    """Largest share of the blocks that are the same in both frames (432,) but for one gain and offset, 0 to 1.

    A title, a caption or a darkened background leaves many; pictures of different shots agree in few.
    """
    before, after = old.reshape(-1, 3), new.reshape(-1, 3)
    best = 0.0
    for gain in GAINS:
        rest = after - gain * before
        same = np.abs(rest - np.median(rest, axis=0)).max(axis=1) < KEPT_LEVELS
        if np.count_nonzero(same) > 2 and before[same].mean(axis=1).std() > LEAST_CONTRAST:
            best = max(best, float(same.mean()))
    return best
