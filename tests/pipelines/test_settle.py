"""Rows settled across a source's clips are the same bytes whatever the engine, the order of scorers, or the parts it came in."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from curate.config import parse_config
from curate.pipelines import footage
from curate.pipelines.curation import RunResult, run

PHOTOGRAPHS = ("coffee.png", "astronaut.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png")
WIDTH, HEIGHT, FPS = 320, 180, 12


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two films of five scenes that stand still but for a sensor's noise: a faint logo over all of `marked`, none over `plain`."""
    folder = tmp_path_factory.mktemp("videos")
    ink = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.putText(ink, "TV9", (262, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 1, cv2.LINE_AA)
    cover = ink[:, :, None].astype(np.float32) / 255
    for name, opacity in (("marked", 0.35), ("plain", 0.0)):
        random, frames = np.random.default_rng(0), []
        for photograph in PHOTOGRAPHS:
            with Image.open(footage.package_file("skimage", "data", photograph)) as image:
                scene = footage.cover([np.asarray(image.convert("RGB"))], WIDTH, HEIGHT)[0]
            still = scene * (1 - cover * opacity) + 255 * cover * opacity
            frames += [np.clip(still + random.normal(0, 2, still.shape), 0, 255).astype(np.uint8) for _ in range(29)]
        footage.write_video(folder / f"{name}.mp4", frames, FPS, options=footage.X264 | {"crf": "20"})
    return folder


Job = Callable[..., RunResult]


@pytest.fixture(scope="module")
def job(videos: Path) -> Job:
    def start(output: Path, scorers: tuple[str, ...] = ("overlay", "quality"), **changes: object) -> RunResult:
        settings = {"input": str(videos), "output": str(output), "shard_sources": 2, "rules": {}, "scorers": {n: {} for n in scorers}}
        return run(parse_config({**settings, **changes}))

    return start


@pytest.fixture(scope="module")
def whole(job: Job, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    job(output / "out")
    return output / "out"


def ledger(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted((output / "shards").rglob("*.parquet"))}


def test_a_logo_that_no_clip_can_tell_by_itself_is_found_across_the_source_and_only_there(whole):
    clips = pd.read_parquet(whole / "clips").set_index("source_key")
    assert clips["is_scored"].all() and "across" not in clips.columns
    marked, plain = clips.loc["marked.mp4"], clips.loc["plain.mp4"]
    assert len(marked) == len(plain) == 5
    assert marked["overlay_has_logo"].all() and (marked["overlay_logo_scenes"] == 5).all()
    assert not plain["overlay_has_logo"].any() and plain["overlay_logo_scenes"].isna().all()


def test_a_scorer_that_settles_writes_the_same_bytes_when_it_comes_later(job, whole, tmp_path):
    job(tmp_path / "out", scorers=("quality",))
    job(tmp_path / "out")
    assert ledger(tmp_path / "out") == ledger(whole)


@pytest.mark.slow
def test_engines_agree_on_what_is_settled(job, whole, tmp_path):
    job(tmp_path / "out", engine="ray", workers=2, shard_sources=1)
    job(tmp_path / "local", shard_sources=1)
    assert ledger(tmp_path / "out") == ledger(tmp_path / "local")
