"""Kinds that no camera took: screen recordings, presentations, a game's display over footage, flat animation, test cards."""

import math

import cv2
import numpy as np

from flags.drawing import MARKS, emblem, laid, letters, sentence
from flags.kinds_time import STATIC_UNSURE
from flags.stage import Frames, Made, Stage, covered, even

DRAWN_UNSURE = (
    *STATIC_UNSURE, "synthetic_is_still", "synthetic_is_ken_burns", "overlay_has_logo", "overlay_has_subtitles",
    "overlay_has_watermark", "overlay_has_inset", "overlay_has_ticker", "footage_has_hud", "damage_has_banding", "damage_is_upscaled",
    "synthetic_bars_fill=coloured", "synthetic_has_bars",
)  # fmt: skip
ACCENTS = ((180, 90, 30), (60, 140, 60), (60, 60, 190), (140, 60, 130), (30, 150, 200), (110, 110, 40))


def _blank(stage: Stage, colour: tuple[int, int, int]) -> tuple[np.ndarray, float, int]:
    """An empty picture, a rate and a number of frames; the drawing is an original of its own."""
    height = int(stage.random.choice([270, 360, 360, 480]))
    fps = float(stage.random.choice([15.0, 25.0, 30.0]))
    stage.used.append(f"drawn-{stage.random.integers(10**6):06d}")
    return np.full((height, even(height * 16 / 9), 3), colour, np.uint8), fps, round(stage.random.uniform(2.8, 4.5) * fps)


def _text(bgr: np.ndarray, text: str, x: int, y: int, size: int, colour: tuple[int, int, int], font: int = -1) -> None:
    if text.strip():
        laid(bgr, letters([text], size, font, is_centred=False), colour, x, y)


def screen(stage: Stage, busy: float) -> Made:
    """A desktop with an editor, a terminal or a web page: text is typed or scrolled, a pointer moves. `busy` 1: little changes, 3: much."""
    random = stage.random
    is_dark = random.random() < 0.5
    desk, fps, num = _blank(stage, (90, 60, 30) if random.random() < 0.5 else (70, 70, 70))
    height, width = desk.shape[:2]
    paper, ink = ((34, 30, 28), (215, 215, 210)) if is_dark else ((252, 252, 252), (40, 40, 40))
    x, y = round(width * random.uniform(0, 0.12)), round(height * random.uniform(0, 0.1))
    wide, high = width - x - round(width * random.uniform(0, 0.1)), height - y - round(height * random.uniform(0.03, 0.12))
    bar, size = max(12, height // 18), max(8, height // 36)
    page = np.full((height * 4, wide, 3), paper, np.uint8)
    for row in range(page.shape[0] // (size * 2)):
        colour = ink if random.random() < 0.7 else ACCENTS[int(random.integers(len(ACCENTS)))]
        indent = int(random.choice([0, 0, 2, 4])) * size
        if random.random() < 0.88:
            _text(page, sentence(random, "en", int(random.integers(8, 48))), 10 + indent, row * size * 2, size, colour)
    frames: Frames = []
    offset, pointer = 0.0, np.array([random.uniform(0.2, 0.8) * width, random.uniform(0.2, 0.8) * height])
    goal = pointer.copy()
    for k in range(num):
        if k % max(2, round(fps * 1.2 / busy)) == 0:
            goal = np.array([random.uniform(0.1, 0.9) * width, random.uniform(0.1, 0.9) * height])
        pointer += (goal - pointer) * 0.2
        if busy >= 2 and k % round(fps * 1.5) < fps * 0.4 * (busy - 1):
            offset += height / 90 * busy
        frame = desk.copy()
        cv2.rectangle(frame, (0, height - bar), (width, height), (50, 45, 45), -1)
        top = int(offset) % (page.shape[0] - high)
        frame[y + bar : y + high, x : x + wide] = page[top : top + high - bar]
        cv2.rectangle(frame, (x, y), (x + wide, y + bar), (200, 195, 190) if not is_dark else (60, 55, 52), -1)
        for n, light in enumerate(((80, 80, 230), (60, 190, 230), (80, 200, 90))):
            cv2.circle(frame, (x + bar * (n + 1), y + bar // 2), bar // 4, light, -1, cv2.LINE_AA)
        if k // max(1, round(fps / 2)) % 2:
            cv2.rectangle(frame, (x + 60, y + bar + 40), (x + 62, y + bar + 40 + size), ink, -1)
        _pointer(frame, pointer)
        frames.append(frame)
    return Made(frames, fps, {"footage_is_screen": True}, (*DRAWN_UNSURE, "footage_is_animation", "footage_is_presentation"))


def _pointer(bgr: np.ndarray, at: np.ndarray) -> None:
    arrow = np.array([[0, 0], [0, 14], [4, 11], [7, 16], [9, 15], [6, 10], [10, 10]]) + at
    cv2.fillPoly(bgr, [arrow.astype(np.int32)], (255, 255, 255), cv2.LINE_AA)
    cv2.polylines(bgr, [arrow.astype(np.int32)], True, (0, 0, 0), 1, cv2.LINE_AA)


def presentation(stage: Stage, seconds: float) -> Made:
    """Slides with a title, points and at times a picture or a chart, `seconds` each; joined by cuts or short dissolves."""
    random = stage.random
    back = ((255, 255, 255), (245, 240, 235), (70, 40, 20), (40, 40, 40))[int(random.integers(4))]
    blank, fps, num = _blank(stage, back)
    accent = ACCENTS[int(random.integers(len(ACCENTS)))]
    slides = [_slide(stage, blank, back, accent) for _ in range(math.ceil(num / fps / seconds) + 1)]
    mixed = round(0.3 * fps) if random.random() < 0.4 else 0
    frames: Frames = []
    for n, slide in enumerate(slides):
        if n and mixed:
            frames += [cv2.addWeighted(slides[n - 1], 1 - w, slide, w, 0) for w in (np.arange(mixed) + 1) / (mixed + 1)]
        frames += [slide] * max(2, round(seconds * fps) - mixed)
    unsure = (*DRAWN_UNSURE, "footage_is_screen", "footage_is_animation")
    return Made(frames[:num], fps, {"footage_is_presentation": True}, unsure)


def _slide(stage: Stage, blank: np.ndarray, back: tuple[int, int, int], accent: tuple[int, int, int]) -> np.ndarray:
    random, slide = stage.random, blank.copy()
    height, width = slide.shape[:2]
    ink = (40, 40, 40) if sum(back) > 380 else (235, 235, 235)
    cv2.rectangle(slide, (0, 0), (width, round(height * 0.04)), accent, -1)
    _text(slide, sentence(random, "en", 18)[:-1].title(), round(width * 0.07), round(height * 0.1), round(height * 0.075), accent)
    for n in range(int(random.integers(2, 5))):
        y = round(height * (0.3 + 0.13 * n))
        cv2.circle(slide, (round(width * 0.085), y + round(height * 0.03)), max(2, height // 90), accent, -1, cv2.LINE_AA)
        _text(slide, sentence(random, "en", int(random.integers(14, 30))), round(width * 0.11), y, round(height * 0.045), ink)
    kind = str(random.choice(["none", "chart", "photo"]))
    box = (round(width * 0.64), round(height * 0.32), round(width * 0.3), round(height * 0.45))
    if kind == "chart":
        for n in range(5):
            tall = round(box[3] * random.uniform(0.2, 1))
            left = box[0] + n * box[2] // 5
            cv2.rectangle(slide, (left, box[1] + box[3] - tall), (left + box[2] // 7, box[1] + box[3]), ACCENTS[n], -1)
    elif kind == "photo":
        photos = stage.library.photos()
        picture = covered(photos[int(random.integers(len(photos)))].bgr, (box[2], box[3]))
        slide[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = picture
    return slide


def game_display(stage: Stage, amount: float) -> Made:
    """A game's display over moving footage: `amount` of its parts: bars, map, counters, cross-hair, icons."""
    frames, fps = stage.shot(min_s=2.8)
    random = stage.random
    height, width = frames[0].shape[:2]
    parts = random.permutation(["bars", "map", "count", "cross", "icons"]).tolist()[: int(amount)]
    if not set(parts) & {"bars", "map", "icons"}:
        parts[0] = "bars"
    accent = ACCENTS[int(random.integers(len(ACCENTS)))]
    health, steps = 0.9, random.normal(0, 0.01, len(frames))
    icons = [emblem(random, max(10, height // 16)) for _ in range(4)]
    made = []
    for k, one in enumerate(frames):
        frame = one.copy()
        health = float(np.clip(health + steps[k], 0.1, 1))
        if "bars" in parts:
            for n, (level, colour) in enumerate(((health, (60, 60, 220)), (0.7, accent))):
                y = height - round(height * (0.06 + 0.05 * n))
                cv2.rectangle(frame, (round(0.03 * width), y), (round(0.27 * width), y + height // 36), (30, 30, 30), -1)
                cv2.rectangle(frame, (round(0.03 * width), y), (round((0.03 + 0.24 * level) * width), y + height // 36), colour, -1)
        if "map" in parts:
            centre, radius = (width - round(0.11 * height) - 8, round(0.13 * height) + 4), round(0.11 * height)
            cv2.circle(frame, centre, radius, (50, 60, 40), -1, cv2.LINE_AA)
            cv2.circle(frame, centre, radius, (220, 220, 220), 2, cv2.LINE_AA)
            turn = k / fps
            tip = (round(centre[0] + radius * 0.6 * math.cos(turn)), round(centre[1] + radius * 0.6 * math.sin(turn)))
            cv2.line(frame, centre, tip, (80, 230, 80), 2, cv2.LINE_AA)
        if "count" in parts:
            text = f"{max(0, 30 - k // 6)}/120"
            cv2.putText(
                frame,
                text,
                (round(0.78 * width), round(0.95 * height)),
                cv2.FONT_HERSHEY_DUPLEX,
                height / 420,
                (240, 240, 240),
                1,
                cv2.LINE_AA,
            )
            cv2.putText(
                frame,
                f"SCORE {100 * (k // 8):06d}",
                (round(0.03 * width), round(0.08 * height)),
                cv2.FONT_HERSHEY_DUPLEX,
                height / 480,
                (240, 240, 240),
                1,
                cv2.LINE_AA,
            )
        if "cross" in parts:
            for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                a = (width // 2 + dx * height // 80, height // 2 + dy * height // 80)
                cv2.line(frame, a, (width // 2 + dx * height // 28, height // 2 + dy * height // 28), (230, 255, 230), 1)
        if "icons" in parts:
            for n, sign in enumerate(icons):
                left, top = round((0.36 + 0.075 * n) * width), round(0.9 * height)
                cv2.rectangle(frame, (left - 3, top - 3), (left + sign.shape[1] + 3, top + sign.shape[0] + 3), (40, 40, 40), -1)
                laid(frame, sign, ACCENTS[n], left, top)
        made.append(frame)
    unsure = (
        "overlay_has_logo",
        "overlay_has_watermark",
        "overlay_has_subtitles",
        "overlay_has_inset",
        "footage_is_screen",
        "footage_is_animation",
    )
    return Made(made, fps, {"footage_has_hud": True}, unsure, note=" ".join(parts))


def animation(stage: Stage, num_shapes: float) -> Made:
    """Flat shapes that move over a flat or shaded ground, with outlines and at times words: motion graphics, simple cartoons."""
    random = stage.random
    ground = tuple(int(value) for value in random.integers(60, 256, 3))
    blank, fps, num = _blank(stage, ground)
    height, width = blank.shape[:2]
    if random.random() < 0.3:
        other = random.integers(60, 256, 3)
        share = np.linspace(0, 1, height)[:, None, None]
        blank = (np.float32(ground) * (1 - share) + other * share + np.zeros((1, width, 1))).astype(np.uint8)
    count = int(num_shapes)
    shapes = random.choice(["disc", "box", "star"], count)
    colours = random.integers(20, 256, (count, 3)).tolist()
    centre, reach = random.uniform(0.15, 0.85, (count, 2)), random.uniform(0.05, 0.3, (count, 2))
    speed, phase, radius = random.uniform(1, 4, (count, 2)), random.uniform(0, 6.3, (count, 2)), random.uniform(0.05, 0.16, count) * height
    has_outline = random.random() < 0.5
    word = str(random.choice(MARKS)) if random.random() < 0.4 else ""
    frames = []
    for k in range(num):
        frame = blank.copy()
        places = (centre + reach * np.sin(speed * k / fps + phase)) * [width, height]
        for n in range(count):
            corners = {"disc": 40, "box": 4, "star": 10}[str(shapes[n])]
            angles = np.arange(corners) * 2 * np.pi / corners + k / fps * (speed[n, 0] - 2) / 2
            far = np.where(np.arange(corners) % 2, 0.5, 1.0) if shapes[n] == "star" else np.ones(corners)
            points = (np.stack([np.cos(angles), np.sin(angles)], 1) * (far * radius[n])[:, None] + places[n]) * 16
            cv2.fillPoly(frame, [points.astype(np.int32)], colours[n], cv2.LINE_AA, shift=4)
            if has_outline:
                cv2.polylines(frame, [points.astype(np.int32)], True, (25, 25, 25), 2, cv2.LINE_AA, shift=4)
        if word:
            _text(
                frame,
                word,
                round(width * 0.3),
                round(height * 0.08 + 0.04 * height * math.sin(k / fps * 2)),
                round(height * 0.12),
                (30, 30, 30),
            )
        frames.append(frame)
    return Made(frames, fps, {"footage_is_animation": True}, (*DRAWN_UNSURE, "footage_is_screen", "footage_is_presentation"))


def test_card(stage: Stage, kind: float) -> Made:
    """1: SMPTE bars, 2: EBU bars, 3: grid and circle over bars, 4: the same with a clock that runs."""
    random = stage.random
    card, fps, num = _blank(stage, (120, 120, 120))
    height, width = card.shape[:2]
    level = 191 if random.random() < 0.7 else 255
    order = [(1, 1, 1), (0, 1, 1), (1, 1, 0), (0, 1, 0), (1, 0, 1), (0, 0, 1), (1, 0, 0), (0, 0, 0)]
    columns = order[:7] if kind == 1 else order
    for n, colour in enumerate(columns):
        card[:, n * width // len(columns) : (n + 1) * width // len(columns)] = np.array(colour) * level
    if kind == 1:
        card[round(height * 0.67) : round(height * 0.75)] = cv2.resize(card[:1, ::-1], (width, round(height * 0.75) - round(height * 0.67)))
        foot = card[round(height * 0.75) :]
        foot[:] = 16
        for n, colour in enumerate(((100, 60, 0), (255, 255, 255), (110, 0, 60))):
            foot[:, n * width // 6 : (n + 1) * width // 6] = colour
    if kind >= 3:
        card[round(height * 0.35) : round(height * 0.75)] = 110
        for x in range(0, width, width // 16):
            cv2.line(card, (x, 0), (x, height), (235, 235, 235), 1)
        for y in range(0, height, width // 16):
            cv2.line(card, (0, y), (width, y), (235, 235, 235), 1)
        cv2.circle(card, (width // 2, height // 2), round(height * 0.45), (245, 245, 245), 2, cv2.LINE_AA)
    frames = []
    for k in range(num):
        frame = card.copy()
        if kind == 4:
            cv2.rectangle(frame, (round(width * 0.34), round(height * 0.45)), (round(width * 0.66), round(height * 0.57)), (0, 0, 0), -1)
            text = f"00:{k // int(fps) // 60:02d}:{k // int(fps) % 60:02d}:{k % int(fps):02d}"
            cv2.putText(
                frame,
                text,
                (round(width * 0.36), round(height * 0.54)),
                cv2.FONT_HERSHEY_DUPLEX,
                height / 330,
                (255, 255, 255),
                1,
                cv2.LINE_AA,
            )
        frames.append(frame)
    return Made(
        frames, fps, {"footage_is_test_card": True}, (*DRAWN_UNSURE, "footage_is_screen", "footage_is_presentation", "footage_is_animation")
    )
