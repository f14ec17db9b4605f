"""Cases that have none of the flags: footage as it is in many guises, and what is easily taken for something that it is not."""

import math

import cv2
import numpy as np
from cuts import negatives

from flags.camera import travelled, trembling, tremor
from flags.drawing import MARKS, emblem, letters, sentence
from flags.kinds_time import grain
from flags.stage import FREEZE_UNSURE, REPEAT_UNSURE, Frames, Made, Stage, covered, tiny

MIN_MOVING = 0.2
"""Least share of a picture's blocks that move by themselves for a camera over it to be certainly no Ken Burns."""
VIEW_UNSURE = ("damage_is_upscaled",)
RIM_UNSURE = ("overlay_has_logo", "overlay_has_watermark", "overlay_has_inset")
"""What is drawn along a rim stands still where the camera below it moves: it is no bar, but laid over the picture."""
FIXED_UNSURE = (
    *VIEW_UNSURE, *REPEAT_UNSURE, *FREEZE_UNSURE, "synthetic_is_still", "synthetic_is_boomerang", "overlay_has_inset",
    "synthetic_bars_soft", "synthetic_bars_fill=blurred",
)  # fmt: skip


def clean(stage: Stage, _: float) -> Made:
    frames, fps = stage.shot(max_s=4.0, max_frames=110)
    return Made(frames, fps)


def grainy(stage: Stage, sigma: float) -> Made:
    frames, fps = stage.shot(max_s=3.5, max_frames=90)
    return Made([grain(stage.random, one, sigma) for one in frames], fps, unsure=VIEW_UNSURE)


def camera_move(stage: Stage, rate: float) -> Made:
    """A smooth pan or zoom of `rate` per cent a second over a picture that moves itself: no Ken Burns."""
    frames, fps = stage.shot(max_s=4.0, max_frames=110)
    duration = len(frames) / fps
    how = str(stage.random.choice(["pan", "zoom"]))
    made = travelled(frames, stage.random, how, rate / 100 * duration)
    return Made(made, fps, unsure=("damage_is_upscaled", *_static_doubt(frames)), note=how)


def _static_doubt(frames: Frames) -> tuple[str, ...]:
    """A pan over a scene in which little moves is a pan over a still in effect."""
    moving = float(np.mean(np.ptp(tiny(frames[::3]), axis=0) >= 12))
    return () if moving >= MIN_MOVING else ("synthetic_is_ken_burns",)


def handheld(stage: Stage, amount: float) -> Made:
    """The camera trembles by `amount` per cent of the width."""
    frames, fps = stage.shot(max_s=4.0, max_frames=100)
    return Made(trembling(frames, fps, stage.random, amount / 100), fps, unsure=VIEW_UNSURE)


def _sign(random: np.random.Generator, width: int) -> tuple[np.ndarray, tuple[int, int, int], tuple[int, int, int]]:
    """A shop sign or poster: coverage of its letters on a board, board colour, letter colour."""
    lines = [str(random.choice(MARKS)).upper()] + ([sentence(random, "en", 12)[:-1]] if random.random() < 0.6 else [])
    ink = letters(lines, 36, int(random.integers(-1, 4)))
    if random.random() < 0.4:
        sign = emblem(random, ink.shape[0])
        ink = np.concatenate([sign, np.zeros((ink.shape[0], 6), np.float32), ink], axis=1)
    ink = np.pad(ink, 10)
    ink = cv2.resize(ink, (width, max(8, round(ink.shape[0] * width / ink.shape[1]))), interpolation=cv2.INTER_AREA)
    pairs = (
        ((40, 60, 150), (220, 230, 235)),
        ((60, 110, 40), (215, 225, 220)),
        ((200, 205, 205), (40, 40, 60)),
        ((50, 45, 45), (60, 190, 220)),
    )
    board, colour = pairs[int(random.integers(len(pairs)))]
    return ink, board, colour


def scene_text(stage: Stage, rate: float, lowest: float = 0.9) -> Made:
    """A sign of the scene: at an angle, shaded, as sharp as the rest; the camera pans (`rate` % a second) or trembles (0).

    Its foot lies above `lowest` of the height.
    """
    frames, fps = stage.shot(max_s=4.5, max_frames=110)
    random = stage.random
    height, width = frames[0].shape[:2]
    ink, board, colour = _sign(random, round(width * random.uniform(0.2, 0.45)))
    high, wide = ink.shape
    picture = np.full((high, wide, 3), board, np.float32) * (1 - ink[:, :, None]) + np.float32(colour) * ink[:, :, None]
    shade = np.linspace(random.uniform(0.6, 0.9), random.uniform(0.75, 1.05), wide)[None, :, None]
    picture = np.clip(picture * shade, 0, 255).astype(np.uint8)
    x, y = random.uniform(0.1, 0.9) * (width - wide), random.uniform(0.1, 1) * max(0.0, lowest * height - high)
    skew = random.uniform(-0.12, 0.12, (4, 2)) * [wide, high]
    corners = np.float32([[0, 0], [wide, 0], [wide, high], [0, high]])
    warp = cv2.getPerspectiveTransform(corners, (corners + skew + [x, y]).astype(np.float32))
    mask = cv2.warpPerspective(np.full((high, wide), 255, np.uint8), warp, (width, height), flags=cv2.INTER_AREA)
    placed = cv2.GaussianBlur(cv2.warpPerspective(picture, warp, (width, height), flags=cv2.INTER_AREA), (0, 0), 0.6)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.6).astype(np.float32)[:, :, None] / 255
    made = [(one * (1 - mask) + placed * mask + 0.5).astype(np.uint8) for one in frames]
    if rate > 0:
        made = travelled(made, random, "pan", rate / 100 * len(made) / fps)
    else:
        made = trembling(made, fps, random, random.uniform(0.003, 0.02))
    made = [grain(random, one, 1.0) for one in made]
    return Made(made, fps, unsure=(*VIEW_UNSURE, *_static_doubt(frames)), note="pan" if rate else "hand-held")


def fixed_sign(stage: Stage, tremor: float) -> Made:
    """A sign in a locked-off scene in whose foreground something moves. `tremor` per mille of the width, as on a mast in the wind."""
    made = scene_text(stage, 5.0, lowest=0.42)
    stage.note += " (sign fixed)"
    first = made.frames[0]
    moving, fps = stage.other_shot(len(made.frames), (first.shape[1] // 2, first.shape[0] // 2)), made.fps
    # What moves passes behind a soft edge in the lower half, as a road or a pavement would.
    mask = np.zeros(first.shape[:2], np.float32)
    mask[int(first.shape[0] * 0.55) :] = 1
    mask = cv2.GaussianBlur(mask, (0, 0), first.shape[0] / 14)[:, :, None]
    frames = []
    for small in moving:
        road = covered(small, (first.shape[1], first.shape[0]))
        frames.append((first * (1 - mask) + road * mask + 0.5).astype(np.uint8))
    if tremor:
        frames = trembling(frames, fps, stage.random, tremor / 1000)
    frames = [grain(stage.random, one, 1.5) for one in frames]
    return Made(frames, fps, unsure=FIXED_UNSURE)


def sky(stage: Stage, share: float) -> Made:
    """An even bright sky (or snow at the foot) over `share` per cent of the height, above a horizon that is not straight."""
    frames, fps = stage.shot(max_s=4.0, max_frames=100)
    random = stage.random
    height, width = frames[0].shape[:2]
    level = int(random.choice([255, 248, 235, 225]))
    mask = _horizon(random, width, height, share / 100, 0.35)
    is_foot = random.random() < 0.25
    mask = mask[::-1] if is_foot else mask
    shifts = tremor(len(frames), fps, random, 0.004 * width)
    made = []
    for one, (dx, dy) in zip(frames, shifts, strict=True):
        moved = cv2.warpAffine(mask, np.float64([[1, 0, dx], [0, 1, dy]]), (width, height), borderMode=cv2.BORDER_REPLICATE)[:, :, None]
        made.append((one * (1 - moved) + level * moved + 0.5).astype(np.uint8))
    return Made(
        [grain(random, one, 0.8) for one in made],
        fps,
        unsure=(*VIEW_UNSURE, *RIM_UNSURE, "damage_has_banding"),
        note="snow" if is_foot else "sky",
    )


def _horizon(random: np.random.Generator, width: int, height: int, share: float, rough: float) -> np.ndarray:
    """float32 (H, W): 1 above an uneven line at `share` of the height that rises and falls by `rough` of that."""
    at = np.linspace(0, 2 * math.pi, width)
    line = sum(np.sin(at * n * random.uniform(0.5, 1.5) + random.uniform(0, 6.3)) / n for n in range(1, 6))
    teeth = np.repeat(random.normal(0, 1, width // 4 + 1), 4)[:width] * 0.25
    edge = height * share * (1 + rough * (line / 2.3 + teeth))
    return np.clip(edge[None, :] - np.arange(height)[:, None], 0, 1).astype(np.float32)


def hard_edge(stage: Stage, share: float) -> Made:
    """A beam or wall along a rim of the picture over `share` per cent: dark but lit unevenly, grained, not quite level."""
    frames, fps = stage.shot(max_s=4.0, max_frames=100)
    random = stage.random
    height, width = frames[0].shape[:2]
    tilt = math.tan(math.radians(random.uniform(0.4, 1.5))) * (1 if random.random() < 0.5 else -1)
    edge = height * share / 100 + tilt * (np.arange(width) - width / 2)
    mask = np.clip(edge[None, :] - np.arange(height)[:, None], 0, 1).astype(np.float32)
    rough = cv2.GaussianBlur(random.normal(0, 22, (height, width)).astype(np.float32), (0, 0), 1.2)
    light = np.linspace(random.uniform(25, 50), random.uniform(50, 90), width)[None, :] + rough
    sides = [mask]
    if random.random() < 0.5:
        sides.append(mask[::-1])
    shifts = tremor(len(frames), fps, random, random.choice([0.0, 0.002, 0.006]) * width)
    made = []
    for one, (dx, dy) in zip(frames, shifts, strict=True):
        image = one.astype(np.float32)
        for side in sides:
            matrix = np.float64([[1, 0, dx], [0, 1, dy]])
            moved = cv2.warpAffine(np.ascontiguousarray(side), matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)[:, :, None]
            wall = cv2.warpAffine(light.astype(np.float32), matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)[:, :, None]
            image = image * (1 - moved) + wall * moved
        made.append(np.clip(image + 0.5, 0, 255).astype(np.uint8))
    unsure = (*VIEW_UNSURE, *RIM_UNSURE, "synthetic_bars_soft", "synthetic_bars_change")
    return Made([grain(random, one, 1.5) for one in made], fps, unsure=unsure)


def vignette(stage: Stage, depth: float) -> Made:
    """Corners darkened to `depth` per cent."""
    frames, fps = stage.shot(max_s=4.0, max_frames=100)
    height, width = frames[0].shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = np.hypot((x / width - 0.5) * 2, (y / height - 0.5) * 2) / math.sqrt(2)
    gain = 1 - (1 - depth / 100) * np.clip((radius - 0.35) / 0.65, 0, 1) ** 1.5
    return Made([(one * gain[:, :, None] + 0.5).astype(np.uint8) for one in frames], fps)


def dark(stage: Stage, gain: float) -> Made:
    """A scene at `gain` per cent of its light with the noise of a night picture; half of them with lamps."""
    frames, fps = stage.shot(max_s=4.0, max_frames=100)
    random = stage.random
    height, width = frames[0].shape[:2]
    lamps = np.zeros((height, width), np.float32)
    for _ in range(int(random.integers(2, 7)) if random.random() < 0.5 else 0):
        cv2.circle(
            lamps, (int(random.uniform(0.05, 0.95) * width), int(random.uniform(0.05, 0.8) * height)), int(random.integers(2, 5)), 1.0, -1
        )
    glow = np.clip(lamps + 3 * cv2.GaussianBlur(lamps, (0, 0), height / 30), 0, 1)[:, :, None] * np.float32([150, 215, 250])
    shifts = tremor(len(frames), fps, random, random.choice([0.0, 0.004]) * width)
    made = []
    for one, (dx, dy) in zip(frames, shifts, strict=True):
        moved = cv2.warpAffine(glow, np.float64([[1, 0, dx], [0, 1, dy]]), (width, height))
        made.append(grain(random, np.clip(one * (gain / 100) + moved + 3, 0, 255).astype(np.uint8), 1.5))
    bright = np.mean([one.mean() + 2 * one.std() for one in made[:: max(1, len(made) // 6)]])
    unsure = (*VIEW_UNSURE, *REPEAT_UNSURE, "damage_has_banding", "synthetic_is_still", "synthetic_has_freeze")
    unsure += ("synthetic_is_black",) if bright < 45 else ()
    return Made(made, fps, unsure=unsure, note=f"lamps {bool(lamps.any())}, mean + 2 deviations {bright:.0f}")


def old_film(stage: Stage, flicker: float) -> Made:
    """Black and white, unsteady light (`flicker` per cent, one deviation), weave, grain, dust and scratches."""
    frames, fps = stage.shot(max_s=4.0, max_frames=90)
    random = stage.random
    height, width = frames[0].shape[:2]
    made = []
    for one in frames:
        grey = cv2.cvtColor(cv2.cvtColor(one, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        grey = cv2.convertScaleAbs(grey, alpha=float(np.clip(1 + random.normal(0, flicker / 100), 0.8, 1.2)))
        grey = np.roll(grey, int(random.integers(-1, 2)), axis=0)
        for _ in range(int(random.integers(0, 4))):
            spot = (int(random.integers(width)), int(random.integers(height)))
            cv2.circle(grey, spot, int(random.integers(1, 3)), (20, 20, 20) if random.random() < 0.5 else (230, 230, 230), -1)
        if random.random() < 0.3:
            x = int(random.integers(width))
            cv2.line(grey, (x, 0), (x + int(random.integers(-3, 4)), height), (215, 215, 215), 1)
        made.append(grain(random, grey, 5.0))
    return Made(made, fps, unsure=VIEW_UNSURE)


def exposure(stage: Stage, gain: float) -> Made:
    """The exposure changes by `gain` per cent within 0.2 to 0.8 s and stays."""
    frames, fps = stage.shot(max_s=4.5, max_frames=110)
    random = stage.random
    first, lasts = random.uniform(0.2, 0.6) * len(frames), random.uniform(0.2, 0.8) * fps
    top = 1 + gain / 100
    top = 1 / top if random.random() < 0.5 else top
    made = []
    for k, one in enumerate(frames):
        share = float(np.clip((k - first) / lasts, 0, 1))
        made.append(cv2.convertScaleAbs(one, alpha=top ** (share * share * (3 - 2 * share))))
    return Made(made, fps)


def passing(stage: Stage, _: float) -> Made:
    """A whip pan, a fast zoom, or somebody who walks past close to the lens."""
    frames, fps = stage.shot(max_s=4.0, max_frames=110)
    kind = str(stage.random.choice(["whip pan", "zoom", "passer-by", "passer-by"]))
    one = negatives.drawn(stage.random, kind, fps)
    at = int(stage.random.uniform(0.2, 0.5) * len(frames))
    height, width = frames[0].shape[:2]
    made = []
    for k, bgr in enumerate(frames):
        image = bgr
        if kind in negatives.CAMERA:
            view = negatives.moved(one, negatives.View(width / 2, height / 2, width), k - at)
            scale = view.width / width
            matrix = np.float64([[scale, 0, view.x - scale * width / 2], [0, scale, view.y - scale * height / 2]])
            image = cv2.warpAffine(
                bgr, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101
            )
            image = cv2.blur(image, (15, 1)) if kind == "whip pan" and at < k < at + one.length else image
        made.append(negatives.painted(one, image, k - at))
    return Made(made, fps, unsure=VIEW_UNSURE, note=kind)


def time_lapse(stage: Stage, step: float) -> Made:
    """Every `step`-th frame of a long piece."""
    frames, _ = stage.shot(min_s=3.0, max_s=12.0, max_frames=330, height=240)
    kept = frames[:: max(1, min(int(step), len(frames) // 30))]
    return Made(kept, max(12.0, min(25.0, len(kept) / 2.3)), unsure=("synthetic_is_strobe",))


def low_rate(stage: Stage, fps: float) -> Made:
    """A camera that takes few pictures a second and says so."""
    frames, native = stage.shot(min_s=2.5, max_s=5.0)
    kept = frames[:: max(1, round(native / fps))]
    return Made(kept, max(8.0, min(native, len(kept) / 2.2) if len(kept) < 2.2 * fps else fps))
