"""A line of text that runs through a band near the bottom or the top at a constant speed, from pairs of frames about 148 ms apart.

1. Rows with many strokes side by side (bright or dark) in most samples make a band.
2. The band's shift between the two frames of each pair is the peak of its phase correlation along the row, taken for its left and its right
   half; both have to agree. A pair counts where the shift, over the time between, is the clip's median speed to `SAME_SPEED`.
3. Neither the strip beside the band nor the middle of the picture may run along with it, or else the camera pans over a sign.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from curate.clip import NS_PER_S, Box
from curate.samples import Pair

UNIT_SIDE = 180  # px of the short side that lengths below speak of
STROKE_WIDTH, STROKE_LEVELS = 3, 45
MIN_STEMS = 8  # side by side in one row
MIN_HEIGHT, MAX_HEIGHT = 0.015, 0.12  # of the picture's height
TOP, BOTTOM = 0.3, 0.65  # of the height: a band lies above the one or below the other
MAX_PAIRS = 8
MIN_PEAK = 0.12  # of phase correlation, which is 1 for a pure shift
MIN_SPEED = 0.02  # widths per second
SAME_SPEED = 0.12


def find_ticker(pairs: Sequence[Pair]) -> tuple[float, Box | None]:
    """(share of the pairs in which the likeliest band runs, its place in pixels of the pairs' frames); (0, None) without a band."""
    if not pairs:
        return 0.0, None
    chosen = [pairs[i] for i in np.linspace(0, len(pairs) - 1, min(len(pairs), MAX_PAIRS)).round().astype(int)]
    best: tuple[float, Box | None] = (0.0, None)
    for top, bottom in _bands([pair.luma0 for pair in chosen[::2]]):
        share = _running_share(chosen, top, bottom)
        if share > best[0]:
            best = share, Box(0, top, chosen[0].luma0.shape[1], bottom - top)
    return best


def _bands(lumas: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Rows (top, bottom) that hold text in at least half of the samples."""
    height, width = lumas[0].shape
    reach = max(2, round(STROKE_WIDTH * min(height, width) / UNIT_SIDE))
    bar = np.ones((1, 2 * reach + 1), np.uint8)
    stems = np.zeros((len(lumas), height), np.int32)
    outside = np.r_[0 : round(TOP * height), round(BOTTOM * height) : height]
    for i, luma in enumerate(lumas):
        rows = luma[outside]
        counts = []
        for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
            strokes = cv2.morphologyEx(rows, operation, bar) > STROKE_LEVELS
            counts.append(np.count_nonzero(strokes[:, 1:] & ~strokes[:, :-1], axis=1))
        stems[i, outside] = np.minimum(*counts)
    is_text = np.median(stems, axis=0) >= MIN_STEMS
    # Gaps of a row or two lie inside letters.
    is_text = cv2.morphologyEx(is_text.astype(np.uint8)[:, None], cv2.MORPH_CLOSE, np.ones((5, 1), np.uint8))[:, 0] > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_text.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if MIN_HEIGHT * height <= b - a <= MAX_HEIGHT * height]


def _running_share(pairs: Sequence[Pair], top: int, bottom: int) -> float:
    height, width = pairs[0].luma0.shape
    thick = bottom - top
    beside = (top - thick - 3, top - 3) if top > height / 2 else (bottom + 3, bottom + 3 + thick)
    others = (beside, (round(0.35 * height), round(0.6 * height)))
    speeds, around = [], []
    for pair in pairs:
        seconds = (pair.time1_ns - pair.time0_ns) / NS_PER_S
        halves = [_shift(pair, top, bottom, part) for part in (slice(0, width // 2), slice(width // 2, width))]
        agree = all(peak >= MIN_PEAK for _, peak in halves) and abs(halves[0][0] - halves[1][0]) <= 1
        speeds.append(sum(shift for shift, _ in halves) / 2 / seconds / width if agree else 0.0)
        found = [_shift(pair, max(0, first), min(height, last), slice(0, width)) for first, last in others]
        around.append([shift / seconds / width if peak >= MIN_PEAK else 0.0 for shift, peak in found])
    running = np.array(speeds)
    told = running[np.abs(running) >= MIN_SPEED]
    if len(told) < max(2, len(pairs) / 2):
        return 0.0
    speed = float(np.median(told))
    steady = np.abs(running - speed) <= SAME_SPEED * abs(speed)
    along = (np.abs(np.array(around) - speed) <= 2 * SAME_SPEED * abs(speed)).any(axis=1)
    return float(np.mean(steady & ~along))


def _shift(pair: Pair, top: int, bottom: int, columns: slice) -> tuple[int, float]:
    """(shift to the right in px, height of the peak) of a part of the rows, by phase correlation along them."""
    here, there = (np.fft.rfft(_edges(luma[top:bottom, columns]), axis=1) for luma in (pair.luma0, pair.luma1))
    cross = (there * np.conj(here)).sum(axis=0)
    width = columns.stop - columns.start
    correlation = np.fft.irfft(cross / np.maximum(np.abs(cross), 1e-6), width)
    place = int(correlation.argmax())
    return place if place <= width // 2 else place - width, float(correlation[place])


def _edges(rows: np.ndarray) -> np.ndarray:
    """float32: change along the row, faded out at both ends, so that the ends do not correlate."""
    change = np.diff(rows.astype(np.float32), axis=1, prepend=rows[:, :1])
    return change * np.hanning(rows.shape[1]).astype(np.float32)
