"""Text, marks and how they are laid over a picture. Letters come from the font inside Pillow and from OpenCV's Hershey fonts."""

import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERSHEY = (cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)
WORDS = {
    "en": "the street was never quiet not even on a sunday somebody had left bicycle beside old wall we waited for rain and it did "
    "not come tell me what you saw there before they find us I never said that he would be back in time",
    "de": "die straße war nie still auch nicht am sonntag jemand hatte ein fahrrad an der alten mauer vergessen wir warteten auf "
    "regen über nacht kam er nicht früher hätte ich das größer gefunden",
    "fr": "la rue n'était jamais calme même pas le dimanche quelqu'un avait laissé un vélo près du vieux mur nous attendions la "
    "pluie qui n'est pas venue où êtes-vous déjà allés cet été",
    "es": "la calle nunca estaba tranquila ni siquiera el domingo alguien dejó una bicicleta junto al muro viejo esperamos la "
    "lluvia y no llegó mañana será otro día dijo el señor",
}
MARKS = (
    "NEWS",
    "LIVE 24",
    "Vista",
    "TV8",
    "stockpix",
    "ORBIT",
    "Kanal 3",
    "@trailrunner",
    "CINEMAX",
    "demo.tv",
    "Q",
    "BBN",
    "Sample",
    "PREVIEW",
)


def sentence(random: np.random.Generator, language: str, num_letters: int) -> str:
    words = WORDS[language].split()
    chosen: list[str] = []
    while len(" ".join(chosen)) < num_letters:
        chosen.append(words[int(random.integers(len(words)))])
    text = " ".join(chosen)
    return text[0].upper() + text[1:] + str(random.choice([".", ".", "?", ",", "!"]))


def letters(lines: Sequence[str], height: int, font: int, is_centred: bool = True) -> np.ndarray:
    """float32 (h, w) in 0..1: coverage of the lines' ink with a margin. `font` -1 is Pillow's own, else an index of HERSHEY."""
    gap = round(height * 1.35)
    images = [_line(text, height, font) for text in lines]
    wide = max(one.shape[1] for one in images)
    sheet = np.zeros((gap * (len(lines) - 1) + images[0].shape[0], wide), np.float32)
    for n, one in enumerate(images):
        x = (wide - one.shape[1]) // 2 if is_centred else 0
        part = sheet[n * gap : n * gap + one.shape[0], x : x + one.shape[1]]
        np.maximum(part, one[: part.shape[0]], out=part)
    rows, columns = np.flatnonzero(sheet.max(axis=1) > 0.1), np.flatnonzero(sheet.max(axis=0) > 0.1)
    return np.pad(sheet[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 4)


def _line(text: str, height: int, font: int) -> np.ndarray:
    """One line; `height` is about that of a capital letter with what hangs below. Neither sort of font has accents, so they are dropped."""
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode()
    if font < 0:
        face = ImageFont.load_default(max(6, height * 1.25))
        left, _, right, _ = face.getbbox(plain)
        image = Image.new("L", (int(right - left) + 6, round(height * 1.7)))
        ImageDraw.Draw(image).text((3 - left, 2), plain, fill=255, font=face)
        return np.asarray(image, np.float32) / 255
    thick = max(1, round(height / 11))
    scale = cv2.getFontScaleFromHeight(HERSHEY[font], max(5, round(height * 0.8)), thick)
    (wide, high), base = cv2.getTextSize(plain, HERSHEY[font], scale, thick)
    sheet = np.zeros((round(height * 1.7) + 4, wide + 8), np.uint8)
    cv2.putText(sheet, plain, (3, min(sheet.shape[0] - base - 1, high + 4)), HERSHEY[font], scale, 255, thick, cv2.LINE_AA)
    return sheet.astype(np.float32) / 255


def outlined(ink: np.ndarray, reach: float) -> np.ndarray:
    """The ink grown by `reach` pixels."""
    size = 2 * max(1, round(reach)) + 1
    return cv2.dilate(ink, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))


def laid(bgr: np.ndarray, cover: np.ndarray, colour: Sequence[float], x: int, y: int, opacity: float = 1.0) -> None:
    """Lays a colour over the picture in place where `cover` (h, w) in 0..1 says; what lies outside the frame is cut off."""
    height, width = bgr.shape[:2]
    left, top, right, bottom = max(0, x), max(0, y), min(width, x + cover.shape[1]), min(height, y + cover.shape[0])
    if left >= right or top >= bottom:
        return
    part = bgr[top:bottom, left:right]
    alpha = (cover[top - y : bottom - y, left - x : right - x] * opacity)[:, :, None]
    part[:] = (part * (1 - alpha) + np.float32(colour) * alpha + 0.5).astype(np.uint8)


def emblem(random: np.random.Generator, size: int) -> np.ndarray:
    """A drawn sign, float32 (size, size) in 0..1: ring, disc with a hole, bars, star, triangle or shield."""
    large = np.zeros((size * 4, size * 4), np.uint8)
    middle, radius = size * 2, round(size * 1.9)
    kind = str(random.choice(["ring", "disc", "bars", "star", "triangle", "shield"]))
    if kind == "ring":
        cv2.circle(large, (middle, middle), round(radius * 0.85), 255, round(radius * 0.25))
        cv2.line(large, (middle, middle - radius // 2), (middle, middle + radius // 2), 255, round(radius * 0.2))
    elif kind == "disc":
        cv2.circle(large, (middle, middle), radius, 255, -1)
        cv2.rectangle(large, (middle - radius // 2, middle - radius // 5), (middle + radius // 2, middle + radius // 5), 0, -1)
    elif kind == "bars":
        for n in range(3):
            left = middle - radius + n * radius * 2 // 3
            cv2.rectangle(large, (left, middle + radius - radius * (n + 2) // 2), (left + radius // 2, middle + radius), 255, -1)
    elif kind == "shield":
        points = np.array([[-0.8, -0.9], [0.8, -0.9], [0.8, 0.1], [0, 1], [-0.8, 0.1]]) * radius + middle
        cv2.fillPoly(large, [points.astype(np.int32)], 255)
        cv2.circle(large, (middle, middle - radius // 4), radius // 3, 0, -1)
    else:
        corners = 3 if kind == "triangle" else 10
        angles = np.arange(corners) * 2 * np.pi / corners - np.pi / 2
        reach = np.where(np.arange(corners) % 2, 0.42, 1.0) if kind == "star" else np.ones(corners)
        points = np.stack([np.cos(angles), np.sin(angles)], 1) * (reach * radius)[:, None] + middle
        cv2.fillPoly(large, [points.astype(np.int32)], 255)
        if kind == "triangle":
            cv2.circle(large, (middle, middle + radius // 8), radius // 4, 0, -1)
    return cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def tight(cover: np.ndarray, x: int, y: int, width: int, height: int) -> list[int]:
    """The box of the ink, inside the frame: x, y, width, height."""
    rows, columns = np.flatnonzero(cover.max(axis=1) > 0.3), np.flatnonzero(cover.max(axis=0) > 0.3)
    left, top = max(0, x + int(columns[0])), max(0, y + int(rows[0]))
    return [left, top, min(width, x + int(columns[-1]) + 1) - left, min(height, y + int(rows[-1]) + 1) - top]
