"""Kinds that put the picture into a frame: bars of every sort, sides filled with a blurred copy, a picture inside the picture."""

import cv2
import numpy as np

from flags.stage import Frames, Made, Stage, even

FORMS = ("letterbox", "letterbox", "pillarbox", "pillarbox", "windowbox")
COLOURS = ((255, 255, 255), (200, 60, 20), (30, 30, 200), (40, 160, 40), (90, 90, 90), (20, 140, 220), (120, 40, 110))


def bars(stage: Stage, thickness: float) -> Made:
    """Black bars of `thickness` per cent of the side, each; black lies between 16 and 30 in limited range."""
    form = FORMS[int(stage.random.integers(len(FORMS)))]
    black = round((int(stage.random.choice([16, 16, 16, 18, 20, 24, 30])) - 16) * 255 / 219)
    made, sides = framed(stage, form, thickness / 100, lambda shape: np.full(shape, black, np.uint8))
    made.note = f"{form} black {black} {sides}"
    return made


def coloured(stage: Stage, thickness: float) -> Made:
    colour = COLOURS[int(stage.random.integers(len(COLOURS)))]
    form = FORMS[int(stage.random.integers(len(FORMS)))]
    made, _ = framed(stage, form, thickness / 100, lambda shape: np.full(shape, colour, np.uint8))
    made.truth["synthetic_bars_fill=coloured"] = True
    made.note = f"{form} {colour}"
    return made


def one_sided(stage: Stage, thickness: float) -> Made:
    side = str(stage.random.choice(["top", "bottom", "left", "right"]))
    made, _ = framed(stage, side, thickness / 100, lambda shape: np.zeros(shape, np.uint8))
    made.note = side
    return made


def soft_edged(stage: Stage, blur: float) -> Made:
    """Black bars of 6 to 15 % whose edge is a ramp of `blur` per mille of the side (standard deviation)."""
    form = FORMS[int(stage.random.integers(4))]
    made, (x, y, width, height) = framed(stage, form, stage.random.uniform(0.06, 0.15), lambda shape: np.zeros(shape, np.uint8))
    mask = np.zeros(made.frames[0].shape[:2], np.float32)
    mask[y : y + height, x : x + width] = 1
    full = cv2.GaussianBlur(mask, (0, 0), max(0.5, blur / 1000 * made.frames[0].shape[0]), borderType=cv2.BORDER_REPLICATE)
    big = [_spread(one, (x, y, width, height)) for one in made.frames]
    made.frames = [(one * full[:, :, None] + 0.5).astype(np.uint8) for one in big]
    made.truth["synthetic_bars_soft"] = True
    return made


def _spread(bgr: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The inner picture continued into the bars by mirroring, so that a soft edge has something to fade."""
    x, y, width, height = box
    inner = bgr[y : y + height, x : x + width]
    right, below = bgr.shape[1] - x - width, bgr.shape[0] - y - height
    return cv2.copyMakeBorder(inner, y, below, x, right, cv2.BORDER_REFLECT_101)


def changing(stage: Stage, thickness: float) -> Made:
    """Black bars that are there in one half of the clip only."""
    frames, fps = stage.shot()
    made, _ = framed(stage, FORMS[int(stage.random.integers(4))], thickness / 100, lambda shape: np.zeros(shape, np.uint8), (frames, fps))
    cut = int(len(frames) * stage.random.uniform(0.35, 0.65))
    plain = [cv2.resize(one, (made.frames[0].shape[1], made.frames[0].shape[0])) for one in frames]
    made.frames = plain[:cut] + made.frames[cut:] if stage.random.random() < 0.6 else made.frames[:cut] + plain[cut:]
    made.truth["synthetic_bars_change"] = True
    return made


def framed(stage: Stage, form: str, share: float, fill, base: tuple[Frames, float] | None = None) -> tuple[Made, tuple[int, int, int, int]]:
    """The shot inside bars of `share` of the frame's side each, and the inner box; the frame is as large as the shot or somewhat larger."""
    frames, fps = base or stage.shot()
    height, width = frames[0].shape[:2]
    left = share if form in ("pillarbox", "windowbox", "left") else 0.0
    right = share if form in ("pillarbox", "windowbox", "right") else 0.0
    top = share if form in ("letterbox", "windowbox", "top") else 0.0
    bottom = share if form in ("letterbox", "windowbox", "bottom") else 0.0
    # The shot keeps its shape; one side is cut so that the frame keeps its own.
    x, y = round(left * width), round(top * height)
    inner = max(16, width - x - round(right * width)), max(16, height - y - round(bottom * height))
    box = (x, y, *inner)
    scale = max(inner[0] / width, inner[1] / height)
    wide, high = min(width, round(inner[0] / scale)), min(height, round(inner[1] / scale))
    at_x, at_y = (width - wide) // 2, (height - high) // 2
    canvas = fill(frames[0].shape)
    made = []
    for one in frames:
        frame = canvas.copy()
        frame[y : y + inner[1], x : x + inner[0]] = cv2.resize(
            one[at_y : at_y + high, at_x : at_x + wide], inner, interpolation=cv2.INTER_AREA
        )
        made.append(frame)
    return Made(made, fps, {"synthetic_has_bars": True}, boxes={"picture": list(box)}), box


def blurred_sides(stage: Stage, sigma: float) -> Made:
    """A vertical (or square) picture in a wide frame, the sides filled with an enlarged copy blurred by `sigma` per cent of its height."""
    frames, fps = stage.shot(height=360)
    random = stage.random
    height = frames[0].shape[0]
    width = even(height * 16 / 9)
    wide = even(height * float(random.choice([9 / 16, 9 / 16, 3 / 4, 1.0])))
    at = (frames[0].shape[1] - wide) // 2
    dim = float(random.choice([1.0, 0.8, 0.6]))
    x = (width - wide) // 2
    made = []
    for one in frames:
        inner = cv2.resize(one, (wide, height)) if at < 0 else one[:, at : at + wide]
        scale = width / wide
        part = round(height / scale)
        back = inner[(height - part) // 2 : (height - part) // 2 + part]
        small = cv2.resize(back, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        back = cv2.resize(
            cv2.GaussianBlur(small, (0, 0), max(0.3, sigma / 100 * height / 4)), (width, height), interpolation=cv2.INTER_CUBIC
        )
        frame = cv2.convertScaleAbs(back, alpha=dim)
        frame[:, x : x + wide] = inner
        made.append(frame)
    truth = {"synthetic_has_bars": True, "synthetic_bars_fill=blurred": True}
    return Made(made, fps, truth, ("damage_is_upscaled", "overlay_has_inset"), {"picture": [x, 0, wide, height]}, note=f"dim {dim}")


def inset(stage: Stage, share: float) -> Made:
    """Another shot in a box of `share` per cent of the width, near a corner, at times with a border."""
    frames, fps = stage.shot()
    random = stage.random
    height, width = frames[0].shape[:2]
    wide = even(width * share / 100)
    high = even(wide * float(random.choice([9 / 16, 3 / 4, 1.0])))
    high = min(high, even(height * 0.6))
    inner = stage.other_shot(len(frames), (wide, high))
    gap_x, gap_y = round(width * random.uniform(0.02, 0.06)), round(height * random.uniform(0.03, 0.08))
    x = gap_x if random.random() < 0.5 else width - wide - gap_x
    y = gap_y if random.random() < 0.5 else height - high - gap_y
    border = int(random.choice([0, 0, 1, 2]))
    made = []
    for one, small in zip(frames, inner, strict=True):
        frame = one.copy()
        if border:
            cv2.rectangle(frame, (x - border, y - border), (x + wide + border - 1, y + high + border - 1), (240, 240, 240), -1)
        frame[y : y + high, x : x + wide] = small
        made.append(frame)
    unsure = ("overlay_has_logo", "overlay_has_watermark", "overlay_has_subtitles")
    return Made(made, fps, {"overlay_has_inset": True}, unsure, {"overlay_inset_box": [x, y, wide, high]}, note=f"border {border}")
