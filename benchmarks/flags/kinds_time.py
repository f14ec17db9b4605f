"""Kinds whose pictures are right and whose time is not: stills, slideshows, Ken Burns, repeats, blends, freezes, loops, light."""

import math
from itertools import pairwise

import cv2
import numpy as np

from flags.stage import MAX_FRAMES, Frames, Made, Stage, covered

STATIC_UNSURE = (
    "synthetic_has_freeze", "synthetic_has_duplicates", "synthetic_has_pulldown", "synthetic_is_loop", "synthetic_is_boomerang",
    "synthetic_is_slow_motion", "synthetic_is_slideshow", "synthetic_has_blends",
)  # fmt: skip
BLACK_UNSURE = (
    *STATIC_UNSURE, "synthetic_is_still", "synthetic_is_ken_burns", "synthetic_has_bars", "synthetic_is_fade",
    "footage_is_screen", "footage_is_animation", "footage_is_test_card", "footage_is_presentation", "damage_is_upscaled",
    "damage_has_banding",
)  # fmt: skip


def grain(random: np.random.Generator, bgr: np.ndarray, sigma: float) -> np.ndarray:
    """Film grain: noise of `sigma` levels, somewhat soft, the same in all channels."""
    if sigma <= 0:
        return bgr
    noise = cv2.GaussianBlur(random.normal(0, 1, bgr.shape[:2]).astype(np.float32), (0, 0), 0.6)
    return np.clip(bgr + (sigma / float(noise.std()) * noise)[:, :, None] + 0.5, 0, 255).astype(np.uint8)


def still(stage: Stage, sigma: float) -> Made:
    size, fps, random = stage.photo_size(), stage.rate(), stage.random
    image = covered(stage.photo(size).bgr, size, random.random(), random.random())
    frames = [grain(random, image, sigma) for _ in range(min(150, round(random.uniform(2.5, 5) * fps)))]
    return Made(frames, fps, {"synthetic_is_still": True}, STATIC_UNSURE)


def slideshow(stage: Stage, seconds: float) -> Made:
    """Two to five stills, joined by cuts or by dissolves of 0.3 to 1 s."""
    random, size = stage.random, stage.photo_size()
    fps = min(stage.rate(), 30.0)
    is_soft, num = random.random() < 0.45, int(np.clip(round(random.uniform(3.5, 6.5) / seconds), 2, 5))
    stills = [covered(stage.photo(size).bgr, size, random.random(), random.random()) for _ in range(num)]
    frames: Frames = []
    for n, image in enumerate(stills):
        if n and is_soft:
            count = max(3, round(random.uniform(0.3, min(1.0, 0.8 * seconds)) * fps))
            frames += [cv2.addWeighted(stills[n - 1], 1 - w, image, w, 0) for w in (np.arange(count) + 1) / (count + 1)]
        frames += [image] * max(2, round(seconds * random.uniform(0.8, 1.2) * fps))
    unsure = tuple(name for name in STATIC_UNSURE if name != "synthetic_is_slideshow")
    return Made(frames[:170], fps, {"synthetic_is_slideshow": True}, unsure, note="dissolves" if is_soft else "cuts")


def ken_burns(stage: Stage, rate: float) -> Made:
    """A still under a moving view: `rate` per cent of the width a second, as zoom, pan, both, or both with a turn."""
    random, size = stage.random, stage.photo_size(0.15)
    fps = max(15.0, stage.rate())
    photo = stage.photo((size[0], size[1]))
    how = str(random.choice(["zoom", "pan", "pan", "both", "turn"]))
    is_eased = random.random() < 0.35
    num = min(150, round(random.uniform(2.5, 5) * fps))
    frames = moved_over(random, photo.bgr, size, fps, num, rate / 100, how, is_eased)
    travelled = rate * num / fps
    unsure = ["synthetic_is_slow_motion", "synthetic_is_boomerang"]
    if rate < 2 or is_eased:
        unsure += ["synthetic_has_duplicates", "synthetic_has_freeze", "synthetic_has_pulldown"]
    if travelled < 4:
        unsure.append("synthetic_is_still")
    return Made(frames, fps, {"synthetic_is_ken_burns": True}, tuple(unsure), note=f"{how}{' eased' if is_eased else ''}")


def moved_over(
    random: np.random.Generator, photo: np.ndarray, size: tuple[int, int], fps: float, num: int, rate: float, how: str, is_eased: bool
) -> Frames:
    """Views of one picture; `rate` in widths a second."""
    duration = num / fps
    zoom = math.exp(rate * duration) if how != "pan" else 1.0
    path = rate * duration * size[0] if how != "zoom" else 0.0
    angle = random.uniform(0, 2 * math.pi) if random.random() < 0.5 else float(random.choice([0, math.pi / 2, math.pi]))
    dx, dy = path * math.cos(angle), path * math.sin(angle)
    turn = math.radians(random.uniform(1.0, 2.5)) * duration * (rate / 0.03 if rate < 0.03 else 1) if how == "turn" else 0.0
    reach = abs(math.sin(turn)) * max(size)
    # The picture is scaled so that the whole journey lies inside it.
    need_wide, need_high = size[0] * zoom + abs(dx) + reach + 4, size[1] * zoom + abs(dy) + reach + 4
    scale = max(need_wide / photo.shape[1], need_high / photo.shape[0])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas = cv2.resize(photo, (math.ceil(photo.shape[1] * scale), math.ceil(photo.shape[0] * scale)), interpolation=method)
    if zoom > 1.6:
        canvas = cv2.GaussianBlur(canvas, (0, 0), 0.5)
    shares = np.arange(num) / max(1, num - 1)
    shares = shares * shares * (3 - 2 * shares) if is_eased else shares
    if random.random() < 0.5:
        shares = shares[::-1]
    slack_x, slack_y = canvas.shape[1] - need_wide, canvas.shape[0] - need_high
    cx = (need_wide - abs(dx)) / 2 + max(0.0, -dx) + random.uniform(0, max(slack_x, 0))
    cy = (need_high - abs(dy)) / 2 + max(0.0, -dy) + random.uniform(0, max(slack_y, 0))
    frames = []
    for share in shares.tolist():
        step, phi = zoom**share, turn * share
        a, b = step * math.cos(phi), step * math.sin(phi)
        x, y = cx + dx * share, cy + dy * share
        half = ((size[0] - 1) / 2, (size[1] - 1) / 2)
        matrix = np.float64([[a, -b, x - a * half[0] + b * half[1]], [b, a, y - b * half[0] - a * half[1]]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        frames.append(cv2.warpAffine(canvas, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101))
    return frames


def duplicates(stage: Stage, share: float) -> Made:
    """`share` of the frames repeat the one before: evenly (2x, 3:2, on twos, 10 in 30 ...) or at random moments."""
    frames, fps = stage.shot()
    num = len(frames)
    is_even = stage.random.random() < 0.65
    if is_even:
        places = [math.floor(math.floor(k * (1 - share) + 1e-9) / (1 - share) + 1e-9) for k in range(num)]
    else:
        repeats = stage.random.random(num) < share
        repeats[0] = False
        places = np.maximum.accumulate(np.where(repeats, 0, np.arange(num))).tolist()
    unsure = ("synthetic_has_pulldown", "synthetic_is_slow_motion", "synthetic_has_freeze")
    return Made([frames[k] for k in places], fps, {"synthetic_has_duplicates": True}, unsure, note="even" if is_even else "random")


def pulldown(stage: Stage, fps: float) -> Made:
    """2:3 pulldown: 24 frames a second shown at 59.94 (2:3 repeats), or at 29.97 (one in five repeated)."""
    num, share = (72, 0.4) if fps > 40 else (110, 0.8)
    frames = stage.shot(max_frames=num)[0][:num]
    phase = int(stage.random.integers(5))
    places = [math.floor((k + phase) * share + 1e-6) - math.floor(phase * share + 1e-6) for k in range(int(len(frames) / share) - 6)]
    truth = {"synthetic_has_duplicates": True, "synthetic_has_pulldown": True}
    return Made([frames[k] for k in places], fps, truth, ("synthetic_is_slow_motion",))


def blends(stage: Stage, ratio: float) -> Made:
    """Rate raised by `ratio` by mixing neighbours. 2: each second frame is half and half; 1.25 (24 to 30): four of five are mixtures."""
    frames, fps = stage.shot(max_frames=90)
    frames = frames[: math.ceil(MAX_FRAMES / ratio) + 1]
    made = []
    for k in range(int((len(frames) - 1) * ratio)):
        low, part = int(k / ratio + 1e-6), k / ratio - int(k / ratio + 1e-6)
        made.append(frames[low] if part < 0.01 else cv2.addWeighted(frames[low], 1 - part, frames[low + 1], part, 0))
    return Made(made, min(60.0, fps * ratio), {"synthetic_has_blends": True}, ("synthetic_is_slow_motion",))


def slow_motion(stage: Stage, factor: float) -> Made:
    """Slowed down by repeating frames (`factor` > 0) or by mixing them (`factor` < 0)."""
    count = round(abs(factor))
    frames, fps = stage.shot(max_frames=150 // count)
    frames = frames[: 150 // count]
    if factor > 0:
        slow = [one for one in frames for _ in range(count)]
        return Made(
            slow,
            max(fps, 24.0),
            {"synthetic_is_slow_motion": True, "synthetic_has_duplicates": True},
            ("synthetic_has_freeze", "synthetic_has_pulldown"),
        )
    weights = np.arange(count) / count
    slow = [cv2.addWeighted(a, 1 - w, b, w, 0) for a, b in pairwise(frames) for w in weights]
    return Made(slow, max(fps, 24.0), {"synthetic_is_slow_motion": True, "synthetic_has_blends": True})


def freeze(stage: Stage, seconds: float) -> Made:
    """One picture held for `seconds` inside moving footage; then on from there, or as if time had gone on."""
    frames, fps = stage.shot(min_s=2.8, max_s=4.5)
    held = max(2, round(seconds * fps))
    where = str(stage.random.choice(["start", "middle", "middle", "end"]))
    at = {"start": 0, "end": len(frames) - 1}.get(where, int(len(frames) * stage.random.uniform(0.2, 0.7)))
    jumps = where == "middle" and stage.random.random() < 0.5
    rest = frames[min(at + held, len(frames)) :] if jumps else frames[at + 1 :]
    made = (frames[:at] + [frames[at]] * held + rest)[: max(150, held + 60)]
    left = sum(1 for one in made if one is frames[at])
    still_open = ("synthetic_is_still", "synthetic_is_slideshow") if left > 0.6 * len(made) else ("synthetic_is_slideshow",)
    return Made(
        made, fps, {"synthetic_has_freeze": True}, (*still_open, "synthetic_has_duplicates", "synthetic_is_slow_motion"), note=where
    )


def loop(stage: Stage, period_s: float) -> Made:
    """The same `period_s` of footage two times and more, joined hard or by a dissolve of 0.2 s."""
    frames, fps = stage.shot(min_s=max(2.0, period_s * 1.2), max_s=max(2.5, period_s * 1.4))
    count = min(max(4, round(period_s * fps)), len(frames) - max(2, round(0.2 * fps)))
    mixed = round(0.2 * fps) if stage.random.random() < 0.4 else 0
    base = frames[:count]
    if mixed:
        tail = frames[count : count + mixed]
        base = [
            cv2.addWeighted(t, 1 - w, b, w, 0) for t, b, w in zip(tail, base, (np.arange(len(tail)) + 1) / (len(tail) + 1), strict=False)
        ] + base[len(tail) :]
    times = max(2.0, min(stage.random.uniform(2.5, 5.5) * fps, 150) / count)
    total = min(round(times * count), max(150, 2 * count))
    unsure = ("synthetic_is_boomerang", "synthetic_is_slow_motion", "synthetic_has_blends", "synthetic_is_strobe")
    return Made([base[k % count] for k in range(total)], fps, {"synthetic_is_loop": True}, unsure, note="dissolved" if mixed else "hard")


def boomerang(stage: Stage, period_s: float) -> Made:
    """`period_s` forwards, then backwards; at times again."""
    frames, fps = stage.shot(min_s=max(2.0, period_s), max_s=max(2.2, period_s * 1.1))
    base = frames[: max(6, round(period_s * fps))]
    cycle = base + base[-2:0:-1]
    times = 1 if len(cycle) >= 2.5 * fps else math.ceil(2.5 * fps / len(cycle))
    return Made(
        (cycle * times)[:160], fps, {"synthetic_is_boomerang": True}, ("synthetic_is_loop", "synthetic_is_slow_motion"), note=f"{times}x"
    )


def black(stage: Stage, level: float) -> Made:
    """Black of `level` 8-bit levels with a little noise: all of the clip, or at least six tenths of it beside a picture."""
    random = stage.random
    whole = random.random() < 0.6
    frames, fps = stage.shot(max_frames=100)
    shape = frames[0].shape
    sigma = float(random.choice([0.0, 0.5, 1.5]))
    num = len(frames)
    from_, to = (0, num) if whole else sorted((0, round(num * random.uniform(0.62, 0.9))))
    dark = [grain(random, np.full(shape, round(level), np.uint8), sigma) for _ in range(to - from_)]
    made = dark + frames[to:] if random.random() < 0.5 else frames[to:] + dark
    return Made(made, fps, {"synthetic_is_black": True}, BLACK_UNSURE, note="whole" if whole else "most")


def fade(stage: Stage, seconds: float) -> Made:
    """In, out or both, from or to black (four of five) or white, linear or eased, with at most a few frames held."""
    frames, fps = stage.shot(min_s=2.8)
    random = stage.random
    level = 0 if random.random() < 0.8 else 255
    where = str(random.choice(["in", "out", "both"]))
    is_eased, count, hold = random.random() < 0.3, max(4, round(seconds * fps)), int(random.integers(0, 6))
    count = min(count, len(frames) // 2)
    shares = (np.arange(count) + 1) / (count + 1)
    shares = np.concatenate([np.zeros(hold), shares * shares * (3 - 2 * shares) if is_eased else shares])[: len(frames) // 2]
    made = list(frames)
    for k, share in enumerate(shares.tolist()):
        for place in ([k] if where != "out" else []) + ([len(frames) - 1 - k] if where != "in" else []):
            made[place] = cv2.convertScaleAbs(frames[place], alpha=share, beta=(1 - share) * level)
    return Made(made, fps, {"synthetic_is_fade": True}, ("synthetic_is_black", "synthetic_has_freeze"), note=f"{where} {level}")


def flash(stage: Stage, levels: float) -> Made:
    """One to three flashes of one to three frames (at most 150 ms) that raise the mean by about `levels`."""
    frames, fps = stage.shot(min_s=2.6, max_s=4.5)
    random, made = stage.random, list(frames)
    number = int(random.integers(1, 4))
    places = np.sort(random.choice(np.arange(3, len(frames) - 6), number, replace=False))
    gaps = np.diff(places, prepend=-len(frames)) >= max(6, 0.7 * fps)
    is_white = levels >= 120
    risen = []
    for at in places[gaps].tolist():
        for k in range(max(1, min(int(random.integers(1, 4)), int(0.15 * fps)))):
            power = levels * (1.0 if k == 0 else random.uniform(0.7, 1.0))
            lit = (
                np.full_like(frames[at + k], 250)
                if is_white
                else cv2.convertScaleAbs(frames[at + k], alpha=1 + power / 220, beta=power * 0.55)
            )
            risen.append(float(lit.mean()) - float(frames[at + k].mean()))
            made[at + k] = lit
    truth = {"synthetic_is_flash": True}
    return Made(made, fps, truth, ("synthetic_has_blends",), note=f"{int(gaps.sum())}x +{np.mean(risen):.0f}", gated=min(risen) >= 20)


def strobe(stage: Stage, hertz: float) -> Made:
    """The light goes on and off `hertz` times a second, at most every second frame, for one second and more."""
    frames, fps = stage.shot(min_s=2.6, max_s=4.0)
    hertz = min(hertz, fps / 2)
    random, made = stage.random, list(frames)
    first = int(random.integers(0, max(1, len(frames) - round(1.2 * fps))))
    last = min(len(frames), first + round(random.uniform(1.0, 2.5) * fps))
    for k in range(first, last):
        if (k - first) * hertz / fps % 1 < 0.5:
            made[k] = cv2.convertScaleAbs(frames[k], alpha=1.5, beta=70)
    return Made(
        made,
        fps,
        {"synthetic_is_strobe": True},
        ("synthetic_is_flash", "synthetic_is_loop", "synthetic_is_boomerang", "synthetic_has_blends"),
    )
