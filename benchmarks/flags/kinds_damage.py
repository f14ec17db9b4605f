"""Kinds whose picture is broken: lost blocks, green frames, combs, banding, upscaling; and files that say how they were made."""

import io

import av
import cv2
import numpy as np

from flags.stage import Frames, Made, Stage

BLOCK = 16
GREEN = (0, 135, 0)
"""What Y = Cb = Cr = 0 looks like."""
GREEN_UNSURE = (
    "synthetic_is_flash", "synthetic_is_strobe", "synthetic_has_freeze", "synthetic_has_duplicates", "synthetic_has_bars",
    "synthetic_bars_change", "synthetic_bars_fill=coloured", "damage_has_blocks",
)  # fmt: skip
SAID_GENERATED = (
    {"comment": '{"DigitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia", "model": "svd"}'},
    {"software": "Runway Gen-3 Alpha"},
    {"software": "Sora"},
    {"AIGC": '{"Label": "1", "ContentProducer": "video service"}'},
)
SAID_ORDINARY = (
    {"title": "Sora the cat and Veo the dog", "comment": "shot on a phone"},
    {"encoder": "HandBrake 1.7.3", "title": "Holiday"},
    {"software": "Adobe Premiere Pro 24", "artist": "Kling"},
    {"description": "A day at the runway", "make": "Canon"},
)


def shifted_blocks(stage: Stage, share: float) -> Made:
    """For 0.3 to 1.5 s runs of 16x16 blocks over `share` per cent of the picture show another place, time or grey; up to three times."""
    frames, fps = stage.shot(min_s=2.6)
    random, made = stage.random, [one.copy() for one in frames]
    height, width = frames[0].shape[:2]
    rows, columns = height // BLOCK, width // BLOCK
    for _ in range(int(random.integers(1, 4))):
        first = int(random.integers(1, len(frames) - 5))
        last = min(len(frames), first + max(3, round(random.uniform(0.3, 1.5) * fps)))
        left = max(1, round(share / 100 * rows * columns))
        while left > 0:
            run = min(left, columns, int(random.integers(2, max(3, columns // 2))))
            row, column = int(random.integers(rows)), int(random.integers(max(1, columns - run + 1)))
            how = str(random.choice(["elsewhere", "elsewhere", "grey", "past"]))
            y, x = row * BLOCK, column * BLOCK
            dx, dy = int(random.integers(-6, 7)) * 8 + 8, int(random.integers(-3, 4)) * 8
            for k in range(first, last):
                source = frames[first - 1] if how == "past" else frames[k]
                from_y, from_x = int(np.clip(y + dy, 0, height - BLOCK)), int(np.clip(x + dx, 0, max(0, width - run * BLOCK)))
                part = source[from_y : from_y + BLOCK, from_x : from_x + run * BLOCK]
                made[k][y : y + BLOCK, x : x + run * BLOCK] = 128 if how == "grey" else part
            left -= run
    return Made(made, fps, {"damage_has_blocks": True}, ("damage_has_green", "synthetic_has_freeze", "overlay_has_inset"))


def lost_packets(stage: Stage, share: float) -> Made:
    """`share` per cent of the packets of an MPEG-4 stream are damaged; what the decoder makes of them is the case."""
    frames, fps = stage.shot(min_s=2.6)
    clean, broken = _passed_on(frames, 0.0, stage.random), _passed_on(frames, share / 100, stage.random)
    num = min(len(clean), len(broken))
    if num < 0.8 * len(frames):
        return Made(frames, fps, unsure=("damage_has_blocks",), note="decoder gave up")
    worst = max(_damaged(a, b) for a, b in zip(clean[:num], broken[:num], strict=True))
    if worst < 0.02:
        return Made(broken, fps, unsure=("damage_has_blocks",), note=f"at most {100 * worst:.1f} % damaged")
    unsure = (
        "damage_has_green",
        "synthetic_has_freeze",
        "synthetic_has_duplicates",
        "overlay_has_inset",
        "synthetic_is_flash",
        "synthetic_is_strobe",
    )
    return Made(broken, fps, {"damage_has_blocks": True}, unsure, note=f"at most {100 * worst:.0f} % damaged")


def _damaged(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.mean(np.abs(one.astype(np.int16) - other).max(axis=2) > 24))


def _passed_on(frames: Frames, share: float, random: np.random.Generator) -> Frames:
    """Through MPEG-4 with some packets' bytes changed."""
    buffer = io.BytesIO()
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with av.open(buffer, "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"qmin": "4", "qmax": "4", "g": "30", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        packets = [packet for one in [*frames, None] for packet in stream.encode(None if one is None else _frame(one[:height, :width]))]
        for n, packet in enumerate(packets):
            if n and share and random.random() < share:
                content = bytearray(bytes(packet))
                for place in random.integers(min(60, len(content) // 2), len(content), 6).tolist():
                    content[place] = int(random.integers(256))
                changed = av.Packet(bytes(content))
                changed.pts, changed.dts, changed.time_base, changed.stream = packet.pts, packet.dts, packet.time_base, stream
                changed.is_keyframe = packet.is_keyframe
                packet = changed
            container.mux(packet)
    buffer.seek(0)
    found: Frames = []
    with av.open(buffer) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for packet in container.demux(video=0):
            try:
                found += [frame.to_ndarray(format="bgr24") for frame in packet.decode()]
            except av.error.FFmpegError:
                continue
    return found


def _frame(bgr: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(bgr), format="bgr24").reformat(format="yuv420p", threads=1)


def green(stage: Stage, share: float) -> Made:
    """`share` per cent of the time the picture, or its lower part, is the green of missing data; magenta at times."""
    frames, fps = stage.shot(min_s=2.6)
    random, made = stage.random, [one.copy() for one in frames]
    height = frames[0].shape[0]
    colour = GREEN if random.random() < 0.8 else (255, 0, 255)
    count = max(1, round(share / 100 * len(frames)))
    first = int(random.integers(0, len(frames) - count + 1))
    top = 0 if random.random() < 0.5 else round(height * random.uniform(0.2, 0.75)) // BLOCK * BLOCK
    for k in range(first, first + count):
        made[k][top:] = colour
    return Made(made, fps, {"damage_has_green": True}, GREEN_UNSURE, note="whole" if top == 0 else "lower part")


def combs(stage: Stage, gap: float) -> Made:
    """Two moments, `gap` frames apart, woven line by line; all frames, or two in five as in undone pulldown."""
    frames, fps = stage.shot(min_s=3.0, max_s=5.0)
    step = int(gap)
    all_of_them = stage.random.random() < 0.7
    made = []
    for k in range(len(frames) - step):
        frame = frames[k].copy()
        if all_of_them or k % 5 in (2, 3):
            frame[1::2] = frames[k + step][1::2]
        made.append(frame)
    moved = np.mean([np.mean(np.abs(a.astype(np.int16) - b) > 16) for a, b in zip(frames[::5], frames[step::5], strict=False)])
    truth = {"damage_has_combs": True} if moved > 0.02 else {}
    return Made(made, fps, truth, ("damage_has_combs", "synthetic_has_blends"), note="all" if all_of_them else "two in five")


def banding(stage: Stage, step: float) -> Made:
    """Luma in steps of `step` levels, without dither; a soft light over the picture gives it slopes to band."""
    frames, fps = stage.shot(max_s=4.0, max_frames=90)
    height, width = frames[0].shape[:2]
    slope = np.linspace(0.75, 1.1, height)[:, None] * np.linspace(1.05, 0.9, width)[None, :]
    made = []
    for one in frames:
        planes = cv2.cvtColor(one, cv2.COLOR_BGR2YCrCb)
        smooth = cv2.bilateralFilter(planes[:, :, 0], 7, 18, 5)
        luma = np.clip(smooth * slope, 0, 255)
        planes[:, :, 0] = (np.floor(luma / step + 0.5) * step).clip(0, 255)
        made.append(cv2.cvtColor(planes, cv2.COLOR_YCrCb2BGR))
    return Made(made, fps, {"damage_has_banding": True}, ("footage_is_animation", "damage_is_upscaled", "synthetic_has_duplicates"))


def upscaled(stage: Stage, factor: float) -> Made:
    """Reduced by `factor` and enlarged again."""
    frames, fps = stage.shot(max_s=4.0, max_frames=90)
    height, width = frames[0].shape[:2]
    method = cv2.INTER_CUBIC if stage.random.random() < 0.6 else cv2.INTER_LANCZOS4
    small = [cv2.resize(one, (round(width / factor), round(height / factor)), interpolation=cv2.INTER_AREA) for one in frames]
    return Made([cv2.resize(one, (width, height), interpolation=method) for one in small], fps, {"damage_is_upscaled": True})


def said_generated(stage: Stage, variant: float) -> Made:
    """Tags that name a generator or a digital source type."""
    frames, fps = stage.shot(max_s=2.6, max_frames=60)
    return Made(frames, fps, {"provenance_is_generated": True}, tags=SAID_GENERATED[int(variant)])


def said_ordinary(stage: Stage, variant: float) -> Made:
    """Tags that hold such names where they mean something else, or name ordinary software."""
    frames, fps = stage.shot(max_s=2.6, max_frames=60)
    return Made(frames, fps, tags=SAID_ORDINARY[int(variant)])
