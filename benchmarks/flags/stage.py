"""What a kind of case is made on: a piece in a guise of its own (crop, mirror, grade, offset, rate, size), or photographs.

Every draw comes from the case's own generator, so that a case does not depend on which others are made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from flags.originals import Library, Original, Photo, Piece, fitted

Frames = list[np.ndarray]
"""uint8 (H, W, 3) BGR, one size."""

MAX_FRAMES = 150
MIN_S = 2.2
"""Clips shorter than 2 s are not scored."""
RATES = (10.0, 12.0, 12.5, 15.0, 20.0, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0)
HEIGHTS = (180, 240, 270, 360, 480, 720)
HEIGHT_SHARES = (0.14, 0.3, 0.22, 0.26, 0.05, 0.03)
ASPECTS = (None, 16 / 9, 4 / 3, 1.0, 9 / 16)
ASPECT_SHARES = (0.6, 0.24, 0.08, 0.04, 0.04)
SURE_SHRINK = 0.75
"""A picture reduced by at least this has the resolution that its size says."""

STILL_UNSURE = ("synthetic_is_still",)
CYCLE_UNSURE = ("synthetic_is_loop", "synthetic_is_boomerang", "synthetic_is_slow_motion")
REPEAT_UNSURE = ("synthetic_has_duplicates", "synthetic_has_pulldown", "synthetic_is_slow_motion")
FREEZE_UNSURE = ("synthetic_has_freeze", "synthetic_is_slideshow")
OVERLAY_UNSURE = ("overlay_has_logo", "overlay_has_subtitles", "overlay_has_watermark")


@dataclass
class Made:
    """A case's pictures and what was done to them. `truth` and `unsure` go over what is true of the original.

    boxes   x, y, width, height in pixels: `picture` inside bars, or an overlay's box column
    tags    container metadata
    gated   False where a drawn detail makes the case weaker than its gate asks
    """

    frames: Frames
    fps: float
    truth: dict[str, bool] = field(default_factory=dict)
    unsure: tuple[str, ...] = ()
    boxes: dict[str, list[int]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    note: str = ""
    gated: bool = True


@dataclass
class Stage:
    """Draws a case's material. `used` collects the scenes, `unsure` and `true` what is known of what was drawn."""

    library: Library
    original: Original
    random: np.random.Generator
    used: list[str] = field(default_factory=list)
    true: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    note: str = ""

    def shot(self, min_s: float = 2.5, max_s: float = 5.0, height: int | None = None, max_frames: int = MAX_FRAMES) -> tuple[Frames, float]:
        """Consecutive frames of the stage's piece in a random guise, and their rate."""
        piece = self.library.piece(self.original)
        return self._shown(piece, min_s, max_s, height, max_frames, is_main=True)

    def other_shot(self, num_frames: int, size: tuple[int, int]) -> Frames:
        """Frames of another scene at a size, for insets and second shots; it runs back and forth if it is short."""
        others = [one for one in self.library.originals if one.scene != self.original.scene and one.is_lively]
        other = others[int(self.random.integers(len(others)))]
        piece = self.library.piece(other)
        self.used.append(other.scene)
        window = _window(self.random, piece.size, size[0] / size[1])
        period = 2 * (len(piece.frames) - 1)
        places = [min(k % period, period - k % period) for k in range(num_frames)]
        return [piece.part(k, window, size) for k in places]

    def photo(self, min_size: tuple[int, int] = (320, 180)) -> Photo:
        """A picture of the half at least that large; never the same twice in one case while there are others."""
        fits = [one for one in self.library.photos() if one.bgr.shape[1] >= min_size[0] and one.bgr.shape[0] >= min_size[1]]
        fresh = [one for one in fits if one.scene not in self.used] or fits
        photo = fresh[int(self.random.integers(len(fresh)))]
        self.used.append(photo.scene)
        self.unsure |= photo.unsure
        return photo

    def photo_size(self, share_large: float = 0.2) -> tuple[int, int]:
        """A 16:9 or 4:3 size for cases made of photographs."""
        height = 360 if self.random.random() < share_large else int(self.random.choice([180, 240, 270]))
        return even(height * (16 / 9 if self.random.random() < 0.75 else 4 / 3)), height

    def rate(self) -> float:
        return float(self.random.choice([12.0, 15.0, 23.976, 25.0, 25.0, 29.97, 30.0, 50.0], p=[0.06, 0.06, 0.2, 0.2, 0.1, 0.2, 0.1, 0.08]))

    def _shown(self, piece: Piece, min_s: float, max_s: float, height: int | None, max_frames: int, is_main: bool) -> tuple[Frames, float]:
        one, random = piece.original, self.random
        step, fps = self._pace(piece, min_s)
        most = max(max_frames, math.ceil(MIN_S * fps))
        wanted = min(len(piece.frames) // step, round(random.uniform(min_s, max_s) * fps), most)
        start = int(random.integers(len(piece.frames) - wanted * step + 1))
        aspect = ASPECTS[int(random.choice(len(ASPECTS), p=ASPECT_SHARES))]
        window = _window(random, piece.size, aspect)
        size = self._size(window, height)
        is_mirrored = random.random() < 0.5
        table = _grade(random)
        frames = []
        for k in range(wanted):
            image = piece.part(start + k * step, window, size)
            image = cv2.flip(image, 1) if is_mirrored else image
            frames.append(image if table is None else cv2.LUT(image, table))
        if is_main:
            self.used.insert(0, one.scene)
            self.true |= one.true
            self.unsure |= one.unsure | set(doubts(frames, fps))
            if size[1] > SURE_SHRINK * window[3]:
                self.unsure.add("damage_is_upscaled")
            self.note = f"{one.name}+{start} {fps:.4g}/s x{step} {window}"
        return frames, fps

    def _pace(self, piece: Piece, min_s: float) -> tuple[int, float]:
        """(frames of the piece for one of the case, rate). A short piece is shown at a lower rate, so that it lasts."""
        num, native = len(piece.frames), piece.fps
        draw = self.random.random()
        if num / native < min_s:
            return 1, max([rate for rate in RATES if rate <= num / min(min_s, 2.3)] or [10.0])
        if draw < 0.12 and native >= 24 and num / native >= 2 * min_s:
            return 2, min(RATES, key=lambda rate: abs(rate - native / 2)) if draw < 0.08 else native
        if draw < 0.2 and native >= 24 and num >= 60 * min_s:
            return 1, 50.0 if draw < 0.16 else 60.0
        if draw < 0.3 and 23 < native < 31:
            return 1, float(self.random.choice([24.0, 25.0]))
        return 1, min(RATES, key=lambda rate: abs(rate - native)) if native > 9 else native

    def _size(self, window: tuple[int, int, int, int], height: int | None) -> tuple[int, int]:
        """Never larger than what it is taken from, but for tiny pieces."""
        _, _, wide, high = window
        fits = [one <= high * 1.02 for one in HEIGHTS]
        if height is None:
            shares = np.array(HEIGHT_SHARES) * fits
            height = int(self.random.choice(HEIGHTS, p=shares / shares.sum())) if shares.sum() else 180
        height = min(height, max(180, high // 2 * 2))
        return even(height * wide / high), height


def even(value: float) -> int:
    return max(2, round(value / 2) * 2)


def _window(random: np.random.Generator, size: tuple[int, int], aspect: float | None) -> tuple[int, int, int, int]:
    """A crop of 70 to 100 % with the aspect asked for; x, y, width, height in multiples of four."""
    width, height = size
    aspect = width / height if aspect is None else aspect
    zoom = 1.0 if random.random() < 0.4 else float(random.uniform(0.7, 1.0))
    wide, high = min(width, height * aspect) * zoom, min(height, width / aspect) * zoom
    x, y = random.uniform(0, width - wide), random.uniform(0, height - high)
    return int(x) // 4 * 4, int(y) // 4 * 4, int(wide) // 4 * 4, int(high) // 4 * 4


def covered(bgr: np.ndarray, size: tuple[int, int], x: float = 0.5, y: float = 0.5) -> np.ndarray:
    """Scaled until it covers the size and cropped to it; `x`, `y` in 0..1 say where."""
    width, height = size
    scale = max(width / bgr.shape[1], height / bgr.shape[0])
    wide, high = min(bgr.shape[1], round(width / scale)), min(bgr.shape[0], round(height / scale))
    left, top = round(x * (bgr.shape[1] - wide)), round(y * (bgr.shape[0] - high))
    return fitted(bgr[top : top + high, left : left + wide], size)


def _grade(random: np.random.Generator) -> np.ndarray | None:
    if random.random() < 0.5:
        return None
    gain, gamma, lift = random.uniform(0.75, 1.2), random.uniform(0.8, 1.3), random.uniform(0, 10)
    levels = np.arange(256) / 255
    return np.clip(lift + (255 - lift) * gain * levels**gamma + 0.5, 0, 255).astype(np.uint8)


def tiny(frames: Sequence[np.ndarray], block: int = 8) -> np.ndarray:
    """float32 (N, h, w): luma, averaged over blocks."""
    height, width = frames[0].shape[:2]
    size = (max(4, width // block), max(4, height // block))
    return np.stack([cv2.resize(cv2.cvtColor(one, cv2.COLOR_BGR2GRAY), size, interpolation=cv2.INTER_AREA) for one in frames]).astype(
        np.float32
    )


def doubts(frames: Sequence[np.ndarray], fps: float) -> list[str]:
    """Flags that the pictures leave open before they are encoded: so little moves that a still, a freeze or repeats are there in effect."""
    small = tiny(frames)
    found: list[str] = []
    away = np.abs(small - small[0]).reshape(len(small), -1)
    moved = np.sort(away, axis=1)[:, -4].max()
    if moved < 12:
        found += [*STILL_UNSURE, *CYCLE_UNSURE, *REPEAT_UNSURE, *FREEZE_UNSURE, "synthetic_is_ken_burns", *OVERLAY_UNSURE]
    lag = min(len(small) - 1, max(2, round(0.3 * fps)))
    held = np.abs(small[lag:] - small[:-lag]).reshape(len(small) - lag, -1).max(axis=1)
    if (held < 5).any():
        found += [*FREEZE_UNSURE, *REPEAT_UNSURE]
    steps = np.abs(np.diff(small, axis=0)).reshape(len(small) - 1, -1).max(axis=1)
    if np.mean(steps < 1.5) > 0.03:
        found += REPEAT_UNSURE
    mean, deviation = small.reshape(len(small), -1).mean(axis=1), small.reshape(len(small), -1).std(axis=1)
    if np.mean(mean + 2 * deviation < 50) > 0.2:
        found.append("synthetic_is_black")
    return sorted(set(found))
