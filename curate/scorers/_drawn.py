"""What tells a drawn picture from a filmed one: areas of exactly one tone, and ruled lines.

tones   On every fourth line the pixels inside runs of 16 or more with steps of at most one level are collected in a histogram of levels.
        A drawing fills areas with one value, a camera spreads even a white wall over many: a tone counts where a level and its two
        neighbours hold 0.3 % of the picture and `SPIKE` times what the eight levels around them hold on average. The share of the picture
        in such tones was 0 to 0.20 in 24 real and rendered pieces, and 0.66 to 0.98 in 37 screens, slides, cartoons and test cards (down to
        360 lines at CRF 30). One tone alone is a blank picture; black and white alone may be a silhouette before the sky.
lines   edges of `LINE_PX` px and more along exactly one row or column, beside a calm area. As length over the picture's side, both
        directions added: screens, slides and cards 1.8 to 17, cartoons and turning logos 0.1 to 1.8.
bars    the six colours red, green, blue, cyan, magenta and yellow at the corners of the RGB cube, at 75 or 100 %, as every colour bar has
        (SMPTE RP 219, EBU Tech 3325). The second smallest of their six areas, so that a clock may hide one.
"""

from collections.abc import Sequence
from itertools import product

import cv2
import numpy as np

DRAWN_SHARE = 0.45  # of the picture in drawn tones: what filmed and drawn pieces leave free on either side
LINE_STEP, FLAT_PX = 4, 16
MIN_TONE_SHARE, SPIKE = 0.003, 3.0
BLACK_TO, WHITE_FROM = 3, 252  # levels
LINE_PX, LINE_LEVELS, CALM_LEVELS = 48, 10, 6
BAR_LOW, BAR_HIGHS = 40, ((168, 214), (235, 255))  # levels of a channel that is off, and on at 75 or at 100 %

_RUN = np.ones((1, FLAT_PX), np.uint8)
_RULER = np.ones((LINE_PX // 2, 1), np.uint8)


def tone_share(frames: Sequence[np.ndarray]) -> float:
    """Share of the picture in drawn tones: the median over uint8 (H, W) frames of native luma."""
    return float(np.median([_tones(luma) for luma in frames])) if frames else 0.0


def _tones(luma: np.ndarray) -> float:
    lines = np.ascontiguousarray(luma[::LINE_STEP])
    if lines.shape[1] <= FLAT_PX:
        return 0.0
    is_even = cv2.threshold(cv2.absdiff(lines[:, 1:], lines[:, :-1]), 1, 255, cv2.THRESH_BINARY_INV)[1]
    flat = cv2.dilate(cv2.erode(is_even, _RUN), _RUN)
    counts = np.bincount(lines[:, 1:][flat > 0], minlength=256).astype(np.float64)
    padded = np.pad(counts, 5)
    three = padded[4:-6] + padded[5:-5] + padded[6:-4]
    eight = sum(padded[5 + k : 261 + k] for k in (-5, -4, -3, -2, 2, 3, 4, 5))
    is_spike = (three >= MIN_TONE_SHARE * flat.size) & (three >= SPIKE * eight * 3 / 8)
    found: list[int] = []
    for level in np.argsort(-three, kind="stable"):
        if not is_spike[level]:
            continue
        if all(abs(int(level) - other) > 3 for other in found):
            found.append(int(level))
    if len(found) < 2 or all(level <= BLACK_TO or level >= WHITE_FROM for level in found):
        return 0.0
    return float(min(1.0, three[found].sum() / flat.size))


def line_length(luma: np.ndarray) -> float:
    """Length of ruled lines over the side they run along, columns and rows added, in a uint8 (H, W) picture of native luma."""
    return _ruled(luma) + _ruled(cv2.transpose(luma))


def _ruled(luma: np.ndarray) -> float:
    """Along columns, on every second row."""
    rows = np.ascontiguousarray(luma[::2])
    if rows.shape[0] < _RULER.shape[0] or rows.shape[1] < 16:
        return 0.0
    steps = cv2.absdiff(rows[:, 2:], rows[:, :-2])
    edges = cv2.erode(cv2.threshold(steps, LINE_LEVELS - 1, 255, cv2.THRESH_BINARY)[1], _RULER)
    calm = cv2.threshold(steps, CALM_LEVELS - 1, 255, cv2.THRESH_BINARY_INV)[1]
    beside = cv2.bitwise_or(calm[:, :-8], calm[:, 8:])
    return cv2.countNonZero(cv2.bitwise_and(edges[:, 4:-4], beside)) / rows.shape[0] / 2  # an edge shows in two columns of `steps`


def bar_share(previews: Sequence[np.ndarray]) -> float:
    """Area of the second least of the six colours of colour bars, in the median of uint8 (H, W, 3) RGB pictures."""
    return float(np.median([_bars(picture) for picture in previews])) if previews else 0.0


def _bars(picture: np.ndarray) -> float:
    areas = []
    for which in product((False, True), repeat=3):
        if any(which) and not all(which):
            ranges = [(tuple(low if on else 0 for on in which), tuple(high if on else BAR_LOW for on in which)) for low, high in BAR_HIGHS]
            areas.append(max(cv2.countNonZero(cv2.inRange(picture, np.array(low), np.array(high))) for low, high in ranges))
    return sorted(areas)[1] / (picture.shape[0] * picture.shape[1])
