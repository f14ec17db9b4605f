"""A watermark repeated over the whole picture: standing edges whose pattern comes again at a fixed distance.

The pattern is the mean gradient at standing edges (`curate.media.standing`), cut at `EDGE_LEVELS` so that no strong edge decides alone. Its
autocorrelation, over the part where the pattern and its shifted copy overlap, is 1 for a perfect repetition. It is taken for upright and
for level edges by themselves, and the less of the two counts: a fence or a window repeats in one direction, letters in both.

Where the camera moves, real scenes reach 0.3 and marks of 20 % opacity and more 0.3 to 0.9. Before a fixed camera the scene's own edges
stand too: they hide a faint mark, and rows of bottles or tiles reach 0.6, so that repetition is worth `FIXED_WORTH` there.
One large mark across the middle does not repeat and is not found.
"""

import cv2
import numpy as np

from curate.media.standing import Standing, magnitude

EDGE_LEVELS = 20.0
MIN_EDGE = 2.0  # levels per pixel
NUM_CELLS, MIN_CELLS, CELL_SHARE = 6, 0.4, 0.01  # of a lattice of 6 x 6 cells, these hold standing edges over this share of their area
MIN_SHIFT, MAX_SHIFT = 0.15, 0.6  # of the picture's side
MIN_OVERLAP = 0.25  # of the pattern's energy
FIXED_WORTH, MOVING_CAMERA, FIXED_CAMERA = 0.6, 0.1, 0.25  # share of the scene that stands
REDUCED = 3  # px that are one in the autocorrelation: letters of a mark are larger
MIN_SIDE = 2 * REDUCED  # px: a smaller picture has no shift to try


def repetition(still: Standing) -> float:
    """How well the standing edges repeat, in [0, 1], less before a fixed camera; 0 where they are not spread over the picture."""
    if min(still.edges.shape) < MIN_SIDE or spread(still) < MIN_CELLS:
        return 0.0
    standing = (still.edges > MIN_EDGE).astype(np.float32)
    scale = standing * np.minimum(1.0, EDGE_LEVELS / np.maximum(magnitude(still.dx, still.dy), 1e-3))
    height, width = standing.shape[0] // REDUCED, standing.shape[1] // REDUCED
    upright, level = (cv2.resize(part * scale, (width, height), interpolation=cv2.INTER_AREA) for part in (still.dx, still.dy))
    least = np.minimum(_autocorrelation(upright), _autocorrelation(level))
    # Rows of shifts down 0 .. height - 1, then -height .. -1; columns in the same order.
    down = np.fft.fftfreq(2 * height)[:, None] * 2
    across = np.fft.fftfreq(2 * width)[None, :] * 2
    allowed = (np.hypot(across, down) > MIN_SHIFT) & (np.abs(across) < MAX_SHIFT) & (np.abs(down) < MAX_SHIFT)
    is_fixed = min(1.0, max(0.0, (still.scene_share - MOVING_CAMERA) / (FIXED_CAMERA - MOVING_CAMERA)))
    return float(np.clip(least[allowed].max(), 0, 1)) * (1 - (1 - FIXED_WORTH) * is_fixed)


def spread(still: Standing) -> float:
    """Share of the picture's cells that hold standing edges, in [0, 1]."""
    standing = (still.edges > MIN_EDGE).astype(np.float32)
    return float(np.mean(cv2.resize(standing, (NUM_CELLS, NUM_CELLS), interpolation=cv2.INTER_AREA) > CELL_SHARE))


def _autocorrelation(part: np.ndarray) -> np.ndarray:
    """Normalised by the energy of what overlaps; (2 H, 2 W), entry [i, j] is for a shift by i down and j across, modulo the size."""
    size = 2 * part.shape[0], 2 * part.shape[1]
    energy = part * part
    product = np.fft.irfft2(np.abs(np.fft.rfft2(part, size)) ** 2, size)
    within = np.fft.irfft2(np.fft.rfft2(energy, size) * np.conj(np.fft.rfft2(np.ones_like(part), size)), size)
    opposite = np.roll(within[::-1, ::-1], (1, 1), (0, 1))
    overlap = np.sqrt(np.maximum(within, 0) * np.maximum(opposite, 0))
    return product / np.maximum(overlap, max(1e-3, MIN_OVERLAP * float(energy.sum())))
