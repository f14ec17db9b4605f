"""Kinds that lay something over moving footage: logo, watermark, subtitles, ticker."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from flags.camera import travelled, trembling
from flags.drawing import HERSHEY, MARKS, WORDS, emblem, laid, letters, outlined, sentence, tight
from flags.stage import Frames, Made, Stage, tiny

COLOURS = ((250, 250, 250), (250, 250, 250), (235, 235, 235), (30, 200, 250), (60, 60, 230), (230, 160, 40), (90, 200, 90))
LOGO_UNSURE = ("overlay_has_watermark", "overlay_has_inset", "footage_has_hud")
MIN_LOGO_SHARE, MIN_LETTER_SHARE = 0.04, 0.045
MIN_CONTRAST, MIN_MOVING = 12, 0.3
"""A logo counts for the gate if it is 4 % of the width, differs from what lies under it, and the picture under and around it moves."""


def _seen_by_a_camera(stage: Stage) -> tuple[Frames, float]:
    """The shot; in four cases of ten the camera travels or trembles besides, since many pieces are locked off."""
    frames, fps = stage.shot(min_s=2.8)
    draw = stage.random.random()
    if draw < 0.4:
        stage.unsure |= {"synthetic_is_ken_burns", "damage_is_upscaled"}
    if draw < 0.2:
        share = stage.random.uniform(0.015, 0.06) * len(frames) / fps
        frames = travelled(frames, stage.random, "pan" if draw < 0.13 else "zoom", share)
    elif draw < 0.4:
        frames = trembling(frames, fps, stage.random, stage.random.uniform(0.003, 0.015))
    return frames, fps


def mark(random: np.random.Generator, width: int) -> np.ndarray:
    """Coverage of a logo `width` pixels wide: text, a drawn sign, or both."""
    kind = str(random.choice(["text", "sign", "both"]))
    sign = emblem(random, max(12, width if kind == "sign" else round(width * 0.3)))
    if kind == "sign":
        return np.pad(sign, 3)
    text = str(random.choice(MARKS))
    ink = letters([text], 40, int(random.integers(-1, len(HERSHEY))))
    share = 0.66 if kind == "both" else 1.0
    scale = width * share / ink.shape[1]
    ink = cv2.resize(ink, (max(4, round(width * share)), max(4, round(ink.shape[0] * scale))), interpolation=cv2.INTER_AREA)
    if kind == "text":
        return ink
    high = max(ink.shape[0], sign.shape[0])
    both = np.zeros((high, sign.shape[1] + 3 + ink.shape[1]), np.float32)
    for part, x in ((sign, 0), (ink, sign.shape[1] + 3)):
        y = (high - part.shape[0]) // 2
        both[y : y + part.shape[0], x : x + part.shape[1]] = part
    return np.pad(both, 2)


@dataclass(frozen=True, eq=False)
class Logo:
    """Where a logo lies and how it looks; `box` is its ink in x, y, width, height."""

    cover: np.ndarray
    edge: np.ndarray | None
    colour: tuple[int, int, int]
    x: int
    y: int
    share: float
    is_corner: bool
    box: list[int]

    @property
    def is_large(self) -> bool:
        return self.share >= MIN_LOGO_SHARE

    @property
    def note(self) -> str:
        return f"{100 * self.share:.1f} % {'corner' if self.is_corner else 'inside'}{' outlined' if self.edge is not None else ''}"

    def over(self, picture: np.ndarray, opacity: float) -> np.ndarray:
        made = picture.copy()
        if self.edge is not None:
            laid(made, self.edge, (15, 15, 15), self.x, self.y, opacity)
        laid(made, self.cover, self.colour, self.x, self.y, opacity)
        return made

    def contrast(self, frames: Sequence[np.ndarray]) -> float:
        """Levels of luma between it and what lies under it, were it opaque."""
        return _contrast(frames, self.cover, self.x, self.y, self.colour, self.edge is not None)


def drawn_logo(random: np.random.Generator, frames: Sequence[np.ndarray]) -> Logo:
    """3 to 15 % of the width, mostly in a corner; light or coloured, at times with a dark outline."""
    height, width = frames[0].shape[:2]
    share = float(np.exp(random.uniform(np.log(0.035), np.log(0.15))))
    cover = mark(random, max(16, round(share * width)))
    cover = cover[: height // 2]
    gap_x, gap_y = round(width * random.uniform(0.02, 0.07)), round(height * random.uniform(0.03, 0.09))
    is_corner = random.random() < 0.85
    x = (gap_x if random.random() < 0.4 else width - cover.shape[1] - gap_x) if is_corner else round(random.uniform(0.1, 0.8) * width)
    y = (gap_y if random.random() < 0.6 else height - cover.shape[0] - gap_y) if is_corner else round(random.uniform(0.1, 0.85) * height)
    x, y = min(x, width - cover.shape[1]), min(y, height - cover.shape[0])
    colour, has_outline = COLOURS[int(random.integers(len(COLOURS)))], random.random() < 0.35
    edge = outlined(cover, 1) if has_outline else None
    return Logo(cover, edge, colour, x, y, share, is_corner, tight(cover, x, y, width, height))


def logo(stage: Stage, opacity: float) -> Made:
    """A static logo at `opacity`, as `drawn_logo` makes it."""
    frames, fps = _seen_by_a_camera(stage)
    one = drawn_logo(stage.random, frames)
    made = [one.over(picture, opacity) for picture in frames]
    contrast, moving = one.contrast(frames) * opacity, moving_share(frames, one.box)
    return Made(
        made,
        fps,
        {"overlay_has_logo": True},
        LOGO_UNSURE,
        {"overlay_logo_box": one.box},
        note=f"{one.note} contrast {contrast:.0f} moving {moving:.2f}",
        gated=one.is_large and contrast >= MIN_CONTRAST and moving >= MIN_MOVING,
    )


def moving_share(frames: Sequence[np.ndarray], box: Sequence[int]) -> float:
    """Share of the 8x8 blocks in and around a box (half its size on each side) whose luma changes by 12 levels and more."""
    height, width = frames[0].shape[:2]
    x, y, wide, high = box
    left, top = max(0, x - wide // 2 - 8), max(0, y - high // 2 - 8)
    right, bottom = min(width, x + wide + wide // 2 + 8), min(height, y + high + high // 2 + 8)
    small = tiny([one[top:bottom, left:right] for one in frames[:: max(1, len(frames) // 12)]])
    return float(np.mean(np.ptp(small, axis=0) >= 12))


def _contrast(frames: Sequence[np.ndarray], cover: np.ndarray, x: int, y: int, colour: Sequence[float], has_outline: bool) -> float:
    """Mean distance in luma between the logo's colour and what lies under it; an outline sees to 60 by itself."""
    under = [
        cv2.cvtColor(one[y : y + cover.shape[0], x : x + cover.shape[1]], cv2.COLOR_BGR2GRAY).mean()
        for one in frames[:: max(1, len(frames) // 8)]
    ]
    luma = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2]
    return max(float(np.abs(np.array(under) - luma).mean()), 60.0 if has_outline else 0.0)


def drawn_watermark(random: np.random.Generator, width: int, height: int) -> tuple[np.ndarray, str]:
    """Coverage of a mark repeated over the whole picture, or of one large mark across its middle; straight or at an angle."""
    is_tiled = random.random() < 0.65
    cover = mark(random, round(width * (random.uniform(0.12, 0.2) if is_tiled else random.uniform(0.45, 0.7))))
    side = round(1.5 * float(np.hypot(width, height)))
    sheet = np.zeros((side, side), np.float32)
    if is_tiled:
        step_x, step_y = round(cover.shape[1] * random.uniform(1.4, 1.9)), round(cover.shape[0] * random.uniform(2.0, 3.5) + 12)
        for row, y in enumerate(range(0, side - cover.shape[0], step_y)):
            for x in range((row % 2) * step_x // 2, side - cover.shape[1], step_x):
                sheet[y : y + cover.shape[0], x : x + cover.shape[1]] = cover
    else:
        y, x = (side - cover.shape[0]) // 2, (side - cover.shape[1]) // 2
        sheet[y : y + cover.shape[0], x : x + cover.shape[1]] = cover[:side]
    angle = float(random.choice([0.0, -30.0, -20.0, 25.0]))
    sheet = cv2.warpAffine(sheet, cv2.getRotationMatrix2D((side / 2, side / 2), angle, 1), (side, side))
    top, left = (side - height) // 2, (side - width) // 2
    return sheet[top : top + height, left : left + width], "tiled" if is_tiled else "one large"


def watermark(stage: Stage, opacity: float) -> Made:
    """A mark over the whole picture, as `drawn_watermark` makes it."""
    frames, fps = _seen_by_a_camera(stage)
    height, width = frames[0].shape[:2]
    sheet, note = drawn_watermark(stage.random, width, height)
    made = [one.copy() for one in frames]
    for one in made:
        laid(one, sheet, (250, 250, 250), 0, 0, opacity)
    return Made(made, fps, {"overlay_has_watermark": True}, ("overlay_has_logo", "overlay_has_subtitles"), note=note)


def lettered_sign(random: np.random.Generator, width: int) -> np.ndarray:
    """uint8 (H, W, 3) BGR: a board with a word on it."""
    ink = mark(random, round(width * 0.8))
    pad_x, pad_y = max(3, (width - ink.shape[1]) // 2), max(2, round(ink.shape[0] * random.uniform(0.2, 0.5)))
    cover = np.pad(ink, ((pad_y, pad_y), (pad_x, pad_x)))
    dark, light = ((30, 30, 150), (245, 245, 245)) if random.random() < 0.5 else ((225, 230, 230), (20, 20, 20))
    board = np.full((*cover.shape, 3), dark, np.uint8)
    laid(board, cover, light, 0, 0)
    return board


def subtitles(stage: Stage, present: float) -> Made:
    """One or two lines that change every 1 to 3 s, there for `present` per cent of the time: outlined, in a box, or with a shadow."""
    frames, fps = stage.shot(min_s=3.0, max_s=5.5)
    random = stage.random
    height, width = frames[0].shape[:2]
    share = float(random.uniform(0.042, 0.085))
    size = max(9, round(share * height))
    font, language = int(random.choice([-1, -1, 0, 1, 2])), str(random.choice(list(WORDS)))
    style = str(random.choice(["outline", "outline", "box", "shadow"]))
    colour = (250, 250, 250) if random.random() < 0.8 else (40, 230, 245)
    is_top = random.random() < 0.08
    made, boxes = [one.copy() for one in frames], []
    for first, last in _times(random, len(frames), fps, present / 100):
        num_letters = round(min(38, 0.82 * width / (0.52 * size)) * random.uniform(0.5, 0.95))
        lines = [sentence(random, language, num_letters) for _ in range(1 if random.random() < 0.5 else 2)]
        ink = letters(lines, size, font)
        if ink.shape[1] > 0.94 * width:
            ink = cv2.resize(ink, (round(0.94 * width), round(ink.shape[0] * 0.94 * width / ink.shape[1])), interpolation=cv2.INTER_AREA)
        x, y = (width - ink.shape[1]) // 2, round(0.06 * height) if is_top else round(0.95 * height) - ink.shape[0]
        boxes.append(tight(ink, x, y, width, height))
        for one in made[first:last]:
            _subtitle(one, ink, x, y, style, colour, size)
    box = _union(boxes)
    truth, note = {"overlay_has_subtitles": True}, f"{style} {language} font {font} {100 * share:.1f} % {'top' if is_top else ''}"
    unsure = ("overlay_has_logo", "overlay_has_watermark", "footage_has_hud", "overlay_has_ticker", "overlay_has_inset")
    return Made(made, fps, truth, unsure, {"overlay_subtitles_box": box}, note=note, gated=share >= MIN_LETTER_SHARE)


def _times(random: np.random.Generator, num: int, fps: float, present: float) -> list[tuple[int, int]]:
    """Spans of frames that hold a line; `present` of the time in all."""
    spans, at = [], 0
    while at < num:
        lasts = round(random.uniform(1.0, 3.0) * fps)
        pause = round(lasts * (1 / max(present, 0.05) - 1))
        shift = int(random.integers(0, pause + 1)) if not spans else pause
        spans.append((at + shift, min(num, at + shift + lasts)))
        at += shift + lasts
    held = [(a, b) for a, b in spans if b - a >= 0.4 * fps]
    return held or [(0, min(num, round(present * num)))]


def _subtitle(bgr: np.ndarray, ink: np.ndarray, x: int, y: int, style: str, colour: Sequence[float], size: int) -> None:
    reach = max(1.0, size / 12)
    if style == "box":
        pad = np.ones((ink.shape[0] + 6, ink.shape[1] + 14), np.float32)
        laid(bgr, pad, (10, 10, 10), x - 7, y - 3, 0.75)
    elif style == "outline":
        laid(bgr, outlined(ink, reach), (10, 10, 10), x, y)
    else:
        laid(bgr, ink, (10, 10, 10), x + round(reach), y + round(reach), 0.9)
    laid(bgr, ink, colour, x, y)


def _union(boxes: Sequence[Sequence[int]]) -> list[int]:
    left, top = min(b[0] for b in boxes), min(b[1] for b in boxes)
    return [left, top, max(b[0] + b[2] for b in boxes) - left, max(b[1] + b[3] for b in boxes) - top]


def ticker(stage: Stage, speed: float) -> Made:
    """A line of text that runs to the left through a band at the bottom or top, `speed` per cent of the width a second."""
    frames, fps = stage.shot(min_s=2.8)
    random = stage.random
    height, width = frames[0].shape[:2]
    size = max(8, round(height * random.uniform(0.045, 0.07)))
    ink = letters([" +++ ".join(sentence(random, "en", 40) for _ in range(6))], size, int(random.choice([-1, 0])))
    band = round(size * 1.9)
    y = height - band - round(height * random.uniform(0, 0.06)) if random.random() < 0.8 else round(height * random.uniform(0, 0.06))
    back = [(120, 30, 20), (20, 20, 20), (30, 30, 160), (235, 235, 235), None][int(random.integers(5))]
    colour = (20, 20, 20) if back == (235, 235, 235) else (250, 250, 250)
    start, made = random.uniform(0, width), [one.copy() for one in frames]
    for k, one in enumerate(made):
        if back is not None:
            one[y : y + band] = back
        at = start + k * speed / 100 * width / fps
        part = np.roll(ink, -int(at) % ink.shape[1], axis=1)[:, :width] if ink.shape[1] > width else ink
        if back is None:
            laid(one, outlined(part, 1), (10, 10, 10), 0, y + (band - ink.shape[0]) // 2)
        laid(one, part, colour, 0, y + (band - ink.shape[0]) // 2)
    unsure = (
        "overlay_has_logo",
        "overlay_has_watermark",
        "overlay_has_inset",
        "synthetic_has_bars",
        "synthetic_bars_fill=coloured",
        "footage_has_hud",
    )
    return Made(made, fps, {"overlay_has_ticker": True}, unsure, note="band" if back else "outlined")
