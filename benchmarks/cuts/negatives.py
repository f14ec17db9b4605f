"""What looks like a transition and is none: effects put into a single shot.

A `Negative` begins at frame `first` of its shot and lasts `length` frames. Those of the camera (whip pan, fast zoom, the shake of an
explosion) move the view: `moved` gives the view at any moment, so that a frame is exposed over a span of time and smears as film
does. Those of light and those before the lens change the picture: `painted`. After a whip pan, a zoom and an exposure change the
shot goes on as they left it.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

KINDS = ("flash", "local flash", "lightning", "strobe", "whip pan", "zoom", "passer-by", "explosion", "title", "exposure")
CAMERA = ("whip pan", "zoom", "explosion")
SHUTTER = 0.6
"""Share of the time between two frames that the shutter is open while the camera moves fast."""


@dataclass(frozen=True)
class View:
    """Centre and width of what is seen, in pixels of the source."""

    x: float
    y: float
    width: float


@dataclass(frozen=True, eq=False)
class Negative:
    """`strength` in 0..1, `values` random numbers in 0..1 (64 of them) that its details are read from."""

    kind: str
    first: int
    length: int
    strength: float
    values: np.ndarray
    fps: float

    @property
    def end(self) -> int:
        return self.first + self.length


def drawn(random: np.random.Generator, kind: str, fps: float) -> Negative:
    """A negative of a kind at frame 0; times in seconds become frames of the film."""
    low, high = {
        "flash": (1, 2),
        "local flash": (1, 2),
        "lightning": (round(0.4 * fps), round(0.6 * fps)),
        "strobe": (round(fps), round(fps)),
        "whip pan": (6, 15),
        "zoom": (6, 14),
        "passer-by": (max(6, round(0.35 * fps)), max(8, round(1.1 * fps))),
        "explosion": (max(12, round(0.8 * fps)), max(16, round(1.4 * fps))),
        "title": (round(1.0 * fps), round(2.5 * fps)),
        "exposure": (max(2, round(0.1 * fps)), max(4, round(0.7 * fps))),
    }[kind]
    return Negative(kind, 0, int(random.integers(low, high + 1)), float(random.random()), random.random(64), fps)


def moved(one: Negative, view: View, at: float) -> View:
    """The view at a moment, in frames since the negative began; also after its end."""
    if at <= 0 or one.kind not in CAMERA:
        return view
    share = min(at / one.length, 1.0)
    eased = share * share * (3 - 2 * share)
    sign = 1 if one.values[0] < 0.5 else -1
    if one.kind == "whip pan":
        # 0.8 to 2.2 widths of the picture; beyond its edges the source is mirrored.
        return replace(view, x=view.x + sign * (0.8 + 1.4 * one.strength) * view.width * eased)
    if one.kind == "zoom":
        factor = 1.5 + 0.9 * one.strength
        return replace(view, width=view.width * (factor ** (-eased)))
    if share == 1.0:
        return view
    shake = 0.035 * view.width * math.exp(-3.5 * share) * (0.5 + one.strength)
    phase = 2 * math.pi * at / one.fps
    return replace(view, x=view.x + shake * math.sin(9 * phase + 6 * one.values[1]), y=view.y + shake * math.sin(12 * phase))


def painted(one: Negative, bgr: np.ndarray, n: int) -> np.ndarray:
    """The picture with frame `n` of the negative in it; `n` may lie past its end."""
    if n < 0 or (n >= one.length and one.kind != "exposure"):
        return bgr
    return _PAINTERS.get(one.kind, _unchanged)(one, bgr, n)


def _unchanged(one: Negative, bgr: np.ndarray, n: int) -> np.ndarray:  # noqa: ARG001
    return bgr


def _lit(bgr: np.ndarray, gain: float, add: float) -> np.ndarray:
    return cv2.convertScaleAbs(bgr, alpha=gain, beta=add)


def _flash(one: Negative, bgr: np.ndarray, n: int) -> np.ndarray:
    power = (0.5 + 0.5 * one.strength) * (0.6 if n else 1.0)
    return _lit(bgr, 1 + 1.2 * power, 110 * power)


def _local_flash(one: Negative, bgr: np.ndarray, n: int) -> np.ndarray:
    power = (0.6 + 0.4 * one.strength) * (0.6 if n else 1.0)
    glow = _glow(bgr.shape, (one.values[0], one.values[1]), 0.2 + 0.25 * one.values[2])
    return _added(bgr, glow * (255 * power), (1.0, 1.0, 1.0))


def _lightning(one: Negative, bgr: np.ndarray, n: int) -> np.ndarray:
    """Three to six strokes, each one frame bright and decaying by half a frame at 24 frames/s."""
    num = 3 + int(one.strength * 3.99)
    strokes = np.sort(np.floor(one.values[:num] * one.length))
    strokes[0] = 0
    past = strokes[strokes <= n]
    age_s = (n - past[-1]) / one.fps
    power = (0.5 + 0.5 * one.values[20 + len(past)]) * math.exp(-age_s / 0.03)
    if power < 0.02:
        return bgr
    lit = _lit(bgr, 1 + 1.3 * power, 90 * power)
    return np.clip(lit.astype(np.float32) * np.float32([1 + 0.15 * power, 1, 1 - 0.1 * power]), 0, 255).astype(np.uint8)


def _strobe(one: Negative, bgr: np.ndarray, n: int) -> np.ndarray:
    """6 to 12 Hz between bright and, every other film, dark or unlit."""
    rate_hz = min(6 + 6 * one.strength, one.fps / 2)
    is_on = (n / one.fps * rate_hz) % 1.0 < 0.5
    if is_on:
        return _lit(bgr, 1.5, 60)
    return _lit(bgr, 0.25, 0) if one.values[0] < 0.5 else bgr


def _exposure(one: Negative, bgr: np.ndarray, n: int) -> np.ndarray:
    share = min((n + 1) / one.length, 1.0)
    target = 0.45 + 0.25 * one.strength if one.values[0] < 0.5 else 1.4 + 0.5 * one.strength
    return _lit(bgr, target**share, 0)


def _passer_by(one: Negative, bgr: np.ndarray, n: int) -> np.ndarray:
    """A dark, blurred figure as high as the picture and 0.4 to 1.1 of its width crosses it."""
    height, width = bgr.shape[:2]
    rows, columns = 36, 64
    half = (0.2 + 0.35 * one.strength) * columns
    share = (n + 1) / (one.length + 1)
    share = share if one.values[0] < 0.5 else 1 - share
    centre = -half + share * (columns + 2 * half)
    mask = np.zeros((rows, columns), np.float32)
    # A body, and a head above it or out of the picture.
    cv2.rectangle(mask, (round(centre - half), round(rows * 0.25 * one.values[1])), (round(centre + half), rows), 1.0, -1)
    cv2.circle(mask, (round(centre), round(rows * 0.2 * one.values[1])), round(half * 0.6), 1.0, -1)
    smear = max(1, round((columns + 2 * half) / one.length * SHUTTER)) | 1
    mask = cv2.blur(cv2.GaussianBlur(mask, (0, 0), 1.5), (smear, 1))
    mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)[:, :, None]
    colour = 12 + 45 * one.values[2:5].astype(np.float32)
    shade = colour * (0.7 + 0.6 * np.linspace(0, 1, height, dtype=np.float32)[:, None, None])
    return (bgr * (1 - mask) + shade * mask + 0.5).astype(np.uint8)


def _explosion(one: Negative, bgr: np.ndarray, n: int) -> np.ndarray:
    """A ball of fire grows within 0.2 s to most of the picture and dies down."""
    age_s, whole_s = n / one.fps, one.length / one.fps
    size = 0.1 + (0.35 + 0.4 * one.strength) * min((age_s + 0.03) / 0.2, 1.0)
    power = min(1.0, (age_s + 0.03) / 0.1) * max(0.0, 1 - age_s / whole_s) ** 1.5
    glow = _glow(bgr.shape, (0.25 + 0.5 * one.values[0], 0.35 + 0.4 * one.values[1]), size)
    lit = _lit(bgr, 1 + 0.5 * power, 25 * power)
    return _added(lit, np.minimum(glow * 1.8, 1.2) * (230 * power), (0.35, 0.75, 1.0))


def _glow(shape: tuple[int, ...], centre: tuple[float, float], size: float) -> np.ndarray:
    """float32 (H, W) in 0..1: a round spot; centre and size as shares of the width."""
    rows, columns = 36, 64
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    squared = ((x / columns - centre[0]) ** 2 + (y / columns - centre[1] * rows / columns) ** 2) / size**2
    return cv2.resize(np.exp(-squared).astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def _added(bgr: np.ndarray, light: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    return np.clip(bgr + light[:, :, None] * np.float32(colour), 0, 255).astype(np.uint8)


def _title(one: Negative, bgr: np.ndarray, n: int) -> np.ndarray:
    """Large lines in the middle, or a caption on a box below; they stand at once or come within a quarter of a second."""
    height, width = bgr.shape[:2]
    ramp = 1 if one.values[0] < 0.5 else max(1, round(0.25 * one.fps))
    alpha = min(1.0, (n + 1) / ramp, (one.length - n) / ramp)
    layer = bgr.copy()
    words = ("CHAPTER TWO", "The next morning", "ANNA MEIER", "reporter", "LIVE", "To be continued", "1969", "BREAKING NEWS")
    picked = [words[int(v * 7.99)] for v in one.values[1:4]]
    if one.values[4] < 0.5:
        cv2.rectangle(layer, (0, round(0.72 * height)), (width, round(0.95 * height)), (120, 60, 20), -1)
        places = [(0.05, 0.82, 1.0), (0.05, 0.92, 0.8)]
    else:
        if one.values[5] < 0.5:
            layer = _lit(layer, 0.55, 0)
        places = [(0.1, 0.4, 2.0), (0.1, 0.62, 2.0)]
    for word, (x, y, scale) in zip(picked, places, strict=False):
        scale *= height / 300
        cv2.putText(
            layer,
            word,
            (round(x * width), round(y * height)),
            cv2.FONT_HERSHEY_DUPLEX,
            scale,
            (245, 245, 245),
            max(1, round(2 * scale)),
            cv2.LINE_AA,
        )
    return layer if alpha == 1 else cv2.addWeighted(layer, alpha, bgr, 1 - alpha, 0)


_PAINTERS = {
    "flash": _flash,
    "local flash": _local_flash,
    "lightning": _lightning,
    "strobe": _strobe,
    "passer-by": _passer_by,
    "explosion": _explosion,
    "title": _title,
    "exposure": _exposure,
}
