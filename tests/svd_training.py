"""For tests of training: a small real manifest, and a run of the loop on a tiny model of the real classes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from curated import curate_films, write_films
from svd_builders import tiny_image_encoder, tiny_unet, tiny_vae

from curate.batches import BucketBatches
from curate.dataset import CuratedClips
from curate.svd.data import Batches, LatentCache, Windows
from curate.svd.encode import Encoders
from curate.svd.settings import Finetune, parse_finetune
from curate.svd.train import Ranks, Run, make_state

torch.set_num_threads(1)

NUM_FRAMES = 4
DEFAULTS: dict[str, Any] = {
    "model": "tiny",
    "data": "none",
    "out": "none",
    "mode": "full",
    "device": "cpu",
    "precision": "fp32",
    "steps": 4,
    "batch_size": 2,
    "seed": 3,
    "gradient_checkpointing": False,
    "windows": {"num_frames": NUM_FRAMES, "sizes": ["64x64"], "workers": 0},
    "optimizer": {"lr": 1e-3, "warmup_steps": 0},
}


def films_manifest(factory: pytest.TempPathFactory) -> Path:
    """The manifest of two films with three clips, made once a session; to be read only."""
    folder = factory.getbasetemp() / "films-to-train-on"
    return folder / "set" if folder.exists() else curate_films(write_films(folder / "films"), folder / "set")


def settings_of(**more: Any) -> Finetune:
    """The defaults above with sections merged key by key."""
    content = {key: dict(value) if isinstance(value, dict) else value for key, value in DEFAULTS.items()}
    for key, value in more.items():
        content[key] = {**content.get(key, {}), **value} if isinstance(value, Mapping) else value
    return parse_finetune(content)


def encoders() -> Encoders:
    return Encoders(tiny_vae().requires_grad_(False), tiny_image_encoder(image_size=64).requires_grad_(False))


def clips_of(manifest: Path, settings: Finetune, **more: Any) -> CuratedClips:
    windows = settings.windows
    return CuratedClips(
        manifest,
        num_frames=windows.num_frames,
        fps=windows.fps,
        sizes=windows.pixels,
        windows=windows.take,
        seed=settings.seed,
        select=dict(windows.select),
        **more,
    )


def run_of(clips: CuratedClips, settings: Finetune, unet: Any = None, cache: LatentCache | None = None, **more: Any) -> Run:
    """Everything that `pipelines.finetune` puts together, without files: one process, all weights trained."""
    unet = tiny_unet(NUM_FRAMES) if unet is None else unet
    ranks = more.pop("ranks", Ranks())
    windows = Windows(clips, takes_all=settings.windows.take == "all", repeat_epochs=settings.windows.epochs, cache=cache)
    order = BucketBatches(
        clips, settings.batch_size, seed=settings.seed, rank=ranks.rank, world_size=ranks.world_size, shuffle=more.pop("shuffle", True)
    )
    both = more.pop("encoders", None) or encoders()
    batches = more.pop("batches", None) or Batches(windows, order, both, "cpu", settings.windows.workers)
    state = make_state(dict(unet.named_parameters()), settings.optimizer)
    return Run(settings, unet, more.pop("network", unet), state, batches, both, torch.device("cpu"), ranks, **more)
