"""Kinds that are whole sources: films of several shots with hard cuts, scored with shots as a run finds them, each clip against the truth.

What is laid over a film is laid over all of its shots; a sign stands in one of them. Shots are of different scenes as far as there are
enough, in crops of their own, with the camera as it was: many stand still, and there a logo is told from a sign only by the other shots.
"""

import cv2

from flags.drawing import laid
from flags.kinds_overlay import LOGO_UNSURE, MIN_CONTRAST, Logo, drawn_logo, drawn_watermark, lettered_sign
from flags.originals import Original
from flags.stage import Frames, Made, Stage, covered

WIDTH, HEIGHT = 480, 270
MIN_FRAMES = 58
SHOT_S = (2.3, 3.4)
UNJUDGED = frozenset(("overlay_has_logo", "overlay_has_watermark"))
"""A piece for whose picture one of these is true or left open is in no film."""


def film_clean(stage: Stage, num_shots: float) -> Made:
    """`num_shots` shots with nothing laid over them."""
    return Made(*_film(stage, round(num_shots))[:2])


def film_logo(stage: Stage, opacity: float) -> Made:
    """A static logo over four to seven shots, as kind `logo` draws it."""
    frames, fps, _ = _film(stage, int(stage.random.integers(4, 8)))
    one: Logo = drawn_logo(stage.random, frames)
    made = [one.over(picture, opacity) for picture in frames]
    return Made(
        made,
        fps,
        {"overlay_has_logo": True},
        LOGO_UNSURE,
        {"overlay_logo_box": one.box},
        note=one.note,
        gated=one.is_large and one.contrast(frames) * opacity >= MIN_CONTRAST,
    )


def film_watermark(stage: Stage, opacity: float) -> Made:
    """A mark tiled or across the picture over four to seven shots, as kind `watermark` draws it."""
    frames, fps, _ = _film(stage, int(stage.random.integers(4, 8)))
    height, width = frames[0].shape[:2]
    sheet, note = drawn_watermark(stage.random, width, height)
    made = [picture.copy() for picture in frames]
    for picture in made:
        laid(picture, sheet, (250, 250, 250), 0, 0, opacity)
    return Made(made, fps, {"overlay_has_watermark": True}, ("overlay_has_logo", "overlay_has_subtitles"), note=note)


def film_sign(stage: Stage, num_shots: float) -> Made:
    """A board with lettering that stands near a corner in one shot, before a camera that stands still, as a part of that scene."""
    fixed = [one for one in _fitting(stage) if not one.is_lively]
    stage.original = fixed[int(stage.random.integers(len(fixed)))]
    frames, fps, starts = _film(stage, round(num_shots))
    height, width = frames[0].shape[:2]
    random = stage.random
    sign = lettered_sign(random, round(width * random.uniform(0.06, 0.16)))
    sign = cv2.GaussianBlur(sign, (0, 0), float(random.uniform(0.4, 1.1)))  # as a lens would show it
    gap_x, gap_y = round(width * random.uniform(0.02, 0.07)), round(height * random.uniform(0.03, 0.09))
    x = gap_x if random.random() < 0.5 else width - sign.shape[1] - gap_x
    y = gap_y if random.random() < 0.6 else height - sign.shape[0] - gap_y
    for k in range(starts[1]):
        frames[k] = frames[k].copy()
        frames[k][y : y + sign.shape[0], x : x + sign.shape[1]] = sign
    return Made(frames, fps, note=f"sign in the first shot at {x},{y}")


def _film(stage: Stage, num_shots: int) -> tuple[Frames, float, list[int]]:
    """Pictures, rate, and where each shot starts. The stage's piece is the first."""
    random = stage.random
    fps = float(random.choice([24.0, 25.0]))
    frames: Frames = []
    starts: list[int] = []
    for original in _cast(stage, num_shots):
        starts.append(len(frames))
        frames += _shot(stage, original, round(random.uniform(*SHOT_S) * fps))
        stage.used.append(original.scene)
    stage.note = f"{num_shots} shots"
    return frames, fps, starts


def _cast(stage: Stage, num_shots: int) -> list[Original]:
    """Pieces of different scenes, no scene twice before all were there, none right after itself."""
    fits = _fitting(stage)
    chosen = [stage.original] if stage.original in fits else []
    while len(chosen) < num_shots:
        for k in stage.random.permutation(len(fits)).tolist():
            seen = {one.scene for one in chosen[-(len({one.scene for one in fits}) - 1) :]}
            if len(chosen) < num_shots and fits[k].scene not in seen:
                chosen.append(fits[k])
    return chosen


def _fitting(stage: Stage) -> list[Original]:
    return [one for one in stage.library.originals if one.num_frames >= MIN_FRAMES and not (one.true | one.unsure) & UNJUDGED]


def _shot(stage: Stage, original: Original, num_frames: int) -> Frames:
    pictures = stage.library.glance(original)
    random = stage.random
    num = min(num_frames, len(pictures))
    start = int(random.integers(len(pictures) - num + 1))
    zoom, x, y = random.uniform(0.75, 1.0), random.random(), random.random()
    is_mirrored = random.random() < 0.5
    found = []
    for planar in pictures[start : start + num]:
        whole = cv2.cvtColor(planar, cv2.COLOR_YUV2BGR_I420)
        height, width = whole.shape[:2]
        high, wide = round(height * zoom), round(width * zoom)
        top, left = round(y * (height - high)), round(x * (width - wide))
        part = covered(whole[top : top + high, left : left + wide], (WIDTH, HEIGHT))
        found.append(cv2.flip(part, 1) if is_mirrored else part)
    return found
