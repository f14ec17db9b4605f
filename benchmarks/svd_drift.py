"""How far do long clips drift, and do loops close? Clips of three times the network's frames, by every way there is, beside doing nothing.

    python benchmarks/svd_tiny.py && python benchmarks/svd_drift.py [--model runs/svd_tiny/model] [--data demo/manifest] [--out FILE.json]

The tiny model of configs/svd_tiny.yaml stands in for the real one: this compares the ways with each other, on scenes that it has seen, and
says nothing about Stability's weights. Every picture is the first frame of a real window that lasts as long as the clips made from it.

    at once      the network is asked for all frames in one go, as nothing forbids
    windows      overlapping windows blended at every step of sampling (longer=windows), by a third and by a half of a window
    last frame   each part begins from the last frame of the one before (longer=last_frame)
    loop         windows that wrap (loop=true); the rows above, cut and played again and again, are what it is measured against

    colour       distance (CIE 1976) of the frame's mean colour, in L*a*b*, from the picture's; mean over each third of the clip
    likeness     structural similarity of luma to the picture, last third
    sharpness    mean length of the luma's gradient over the picture's, last third
    change       mean absolute difference of neighbouring frames, in levels of 255
    jump         largest ratio of a change to the mean of the changes before and after it
    seam         change from the last frame to the first over the median one between neighbours

"The picture" is what the decoder makes of it, and real windows go through the VAE as well, so that the VAE's own loss is no drift. Figures
are means over clips of the data, each the mean of its windows and seeds; the interval is a bootstrap over these clips (2,000 draws, 2.5 to
97.5 %). Below the table each way is compared with doing nothing, clip by clip.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.metrics import structural_similarity

from curate.dataset import CuratedClips, Draw
from curate.motion_bucket import MotionBuckets
from curate.svd.checkpoint import Model, load_model
from curate.svd.image_to_video import ImageToVideo
from curate.svd.knobs import Knobs
from curate.svd.sample import decode

PARTS = 3  # how many times the network's frames a clip has
FPS = 6  # the demo's films have 25 frames/s, which windows take every fourth of
DRAWS = 2000
MEASURES = ("colour 1/3", "colour 2/3", "colour 3/3", "likeness", "sharpness", "change", "jump", "seam")
Ways = dict[str, Callable[[int], np.ndarray]]


def read_windows(model: Model, folder: str, data: str, size: int, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Real windows as long as the clips that are made, uint8 (N, T, H, W, 3), and the number of the clip that each is of."""
    clips = CuratedClips(
        data,
        num_frames=PARTS * model.num_frames,
        fps=7.0,
        sizes=((size, size),),
        max_enlarge=4.0,
        motion_buckets=MotionBuckets.load(Path(folder) / "motion_buckets.json"),
        on_error="skip",
    )
    draws = [Draw(item, epoch) for epoch in range(epochs) for item in range(len(clips))]
    frames = np.stack([clips[draw]["frames"].permute(0, 2, 3, 1).numpy() for draw in draws])
    return frames, np.array([draw.item for draw in draws])


def through_vae(model: Model, frames_BTHWC: np.ndarray) -> np.ndarray:
    """What the decoder makes of the frames, in chunks as clips are made."""
    signed = torch.from_numpy(frames_BTHWC).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    return np.concatenate([decode(model.encoders.latents(one), model.vae, model.num_frames) for one in signed.split(4)])


def measure(frames_THWC: np.ndarray, picture_HWC: np.ndarray) -> list[float]:
    """One number for each of MEASURES."""
    thirds = np.array_split(np.arange(len(frames_THWC)), 3)
    colour = np.array([np.linalg.norm(mean_lab(frame) - mean_lab(picture_HWC)) for frame in frames_THWC])
    luma = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    picture = cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2GRAY)
    likeness = [structural_similarity(luma[t], picture) for t in thirds[-1]]
    sharpness = [gradient(luma[t]) / gradient(picture) for t in thirds[-1]]
    levels = frames_THWC.astype(np.float32)
    steps = np.abs(np.diff(levels, axis=0)).mean(axis=(1, 2, 3))
    jump = float((2 * steps[1:-1] / (steps[:-2] + steps[2:])).max())
    usual = float(np.median(steps))
    seam = float(np.abs(levels[0] - levels[-1]).mean())
    parts = [float(colour[third].mean()) for third in thirds]
    return [*parts, float(np.mean(likeness)), float(np.mean(sharpness)), float(steps.mean()), jump, seam / usual]


def mean_lab(frame_HWC: np.ndarray) -> np.ndarray:
    """Of L*a*b* over the frame's pixels."""
    return cv2.cvtColor(frame_HWC.astype(np.float32) / 255, cv2.COLOR_RGB2Lab).mean(axis=(0, 1))


def gradient(luma_HW: np.ndarray) -> float:
    down, right = np.gradient(luma_HW.astype(np.float32))
    return float(np.hypot(down, right).mean())


def ways(model: Model, pictures: np.ndarray, steps: int, bucket: int, max_guidance: float) -> Ways:
    """Name -> clips, uint8 (B, T, H, W, 3), for a seed; picture i has the same noise in each seed, whatever the way."""
    maker, own = ImageToVideo(model), model.num_frames
    long = PARTS * own

    def make(num_frames: int = own, **more: object) -> Callable[[int], np.ndarray]:
        told = {"num_frames": num_frames, "steps": steps, "fps": FPS, "motion_bucket": bucket, "max_guidance": max_guidance}
        knobs = Knobs.model_validate({**told, "decode_chunk": own, **more})

        def clips(seed: int) -> np.ndarray:
            seeds = [1_000 * seed + i for i in range(len(pictures))]
            batches = range(0, len(pictures), 8)
            return np.concatenate([maker(pictures[i : i + 8], knobs, seeds=seeds[i : i + 8]) for i in batches])

        return clips

    loop = {"loop": True, "guidance_shape": "triangle"}
    return {
        f"{long} frames at once": make(long),
        f"{long}, windows, overlap {own // 3}": make(length=long),
        f"{long}, windows, overlap {own // 2}": make(length=long, overlap=own // 2),
        f"{long}, last frame": make(length=long, longer="last_frame"),
        f"{long}, loop": make(length=long, **loop),
        f"{own}, the network's own": make(),
        f"{own}, loop": make(**loop),
    }


def by_clip(values: np.ndarray, clip_of: np.ndarray) -> np.ndarray:
    """(clips, measures) from (seeds x windows, measures)."""
    clip_of = np.tile(clip_of, len(values) // len(clip_of))
    return np.stack([values[clip_of == clip].mean(axis=0) for clip in np.unique(clip_of)])


def with_intervals(of_clip: np.ndarray) -> dict[str, list[float]]:
    """Measure -> mean over clips and the interval's ends."""
    drawn = of_clip[np.random.default_rng(0).integers(0, len(of_clip), (DRAWS, len(of_clip)))].mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return {key: [float(x) for x in cell] for key, *cell in zip(MEASURES, of_clip.mean(axis=0), low, high, strict=True)}


def compared(found: dict[str, np.ndarray], nothing: str, others: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Prints and returns how much more each way has than doing nothing, where the interval excludes 0."""
    facts = {name: with_intervals(found[name] - found[nothing]) for name in others}
    for name, row in facts.items():
        clear = [f"{key} {mean:+.2f} ({low:+.2f} to {high:+.2f})" for key, (mean, low, high) in row.items() if low > 0 or high < 0]
        print(f"{name}, less {nothing}: {'; '.join(clear) or 'no difference whose interval excludes 0'}")
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/svd_tiny/model", help="folder that `curate svd finetune` wrote")
    parser.add_argument("--data", default="demo/manifest")
    parser.add_argument("--size", type=int, default=64, help="side of the clips in px")
    parser.add_argument("--epochs", type=int, default=2, help="windows of each clip")
    parser.add_argument("--seeds", type=int, default=1, help="clips of each picture")
    parser.add_argument("--steps", type=int, default=15, help="of the sampler")
    parser.add_argument("--guidance", type=float, default=1.0, help="of the last frame; above 1 takes twice the time")
    parser.add_argument("--bucket", type=int, default=160, help="motion bucket that is asked for")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON with the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    start = time.process_time()
    model = load_model(args.model)
    real, clip_of = read_windows(model, args.model, args.data, args.size, args.epochs)
    decoded = through_vae(model, real)
    print(f"{len(real)} pictures from {len(np.unique(clip_of))} clips, seeds: {args.seeds}, steps: {args.steps}, bucket {args.bucket}\n")
    print(f"| clips | {' | '.join(MEASURES)} |\n|{'---|' * (len(MEASURES) + 1)}")
    found: dict[str, np.ndarray] = {}
    rows = {}

    def add(name: str, values: list[list[float]]) -> None:
        found[name] = by_clip(np.array(values), clip_of)
        rows[name] = with_intervals(found[name])
        print(f"| {name} | {' | '.join(f'{mean:.2f} ({low:.2f} to {high:.2f})' for mean, low, high in rows[name].values())} |", flush=True)

    add("real, through the VAE", [measure(clip, clip[0]) for clip in decoded])
    for name, make in ways(model, real[:, 0], args.steps, args.bucket, args.guidance).items():
        add(name, [measure(clip, first[0]) for seed in range(args.seeds) for clip, first in zip(make(seed), decoded, strict=True)])
    print()
    names = list(found)[1:]
    differences = compared(found, names[0], names[1:5]) | compared(found, names[5], names[6:])
    print(f"\n{time.process_time() - start:.0f} s of CPU time")
    if args.out is not None:
        args.out.write_text(json.dumps({**vars(args), "out": str(args.out), "rows": rows, "differences": differences}, indent=1))


if __name__ == "__main__":
    main()
