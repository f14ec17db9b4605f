"""What a person sees of a fine-tune while it runs: a line now and then, and clips made on the way."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from curate import __version__

if TYPE_CHECKING:
    from curate.svd.data import Windows
    from curate.svd.train import Run

QUIET_S = 15.0  # between lines
SAMPLE_NOISE_AUG, SAMPLE_GUIDANCE = 0.02, (1.0, 2.5)  # inference defaults of SVD (Stability-AI/generative-models, configs/svd.yaml)


class Lines:
    """A line now and then: step, loss averaged since the last one, rate, time left."""

    def __init__(self, stream: TextIO | None, num_steps: int) -> None:
        self._stream, self._num_steps = stream or sys.stderr, num_steps
        self._losses: list[float] = []
        self._seconds: list[float] = []
        self._last = time.monotonic()

    def line(self, row: Mapping[str, Any]) -> None:
        self._losses.append(row["loss"])
        self._seconds.append(row["seconds"])
        now, is_end = time.monotonic(), row["step"] == self._num_steps
        if now - self._last < QUIET_S and not is_end:
            return
        left_min = (self._num_steps - row["step"]) * sum(self._seconds) / len(self._seconds) / 60
        loss = sum(self._losses) / len(self._losses)
        text = f"step {row['step']:,} of {self._num_steps:,}  loss {loss:.4f}  lr {row['lr']:.2e}  {row['windows_per_s']:.2f} windows/s"
        self._stream.write(f"{text}  {left_min:,.0f} min left\n")
        self._stream.flush()
        self._losses, self._seconds, self._last = [], [], now


def write_samples(run: "Run", vae: Any, train: "Windows", folder: Path) -> None:
    """Clips from the first frames of held-out windows (of training windows where none are held out), with their own rate and bucket."""
    import torch

    from curate.svd.data import fixed_examples, generator_of
    from curate.svd.denoiser import Denoiser
    from curate.svd.output import write_clip
    from curate.svd.sample import decode, guidance, karras_sigmas, sample
    from curate.svd.train import autocast

    settings, given = run.settings, run.settings.samples
    chosen = run.validation[: given.count] or fixed_examples(train, run.encoders, given.count, settings.seed)
    for example in chosen:
        one = example.to(run.device)
        generator = generator_of("sample", settings.seed, one.clip_ids[0])
        noise = torch.randn(one.first_BCHW.shape, generator=generator)
        strength_B = torch.full((1,), SAMPLE_NOISE_AUG)
        cond = run.encoders.conditioning(one.first_BCHW, one.fps_B, one.motion_bucket_B, strength_B, noise).to(run.device)
        with autocast(run.device, settings.precision):
            latents = sample(
                Denoiser(run.unet),
                cond,
                sigmas=karras_sigmas(given.steps),
                guidance_T=guidance(settings.windows.num_frames, *SAMPLE_GUIDANCE),
                generator=generator,
            )
        frames_THWC = decode(latents, vae, chunk=2)[0]
        facts = {"step": run.state.step, "clip_id": one.clip_ids[0], "fps": one.fps_B[0], "motion_bucket": one.motion_bucket_B[0]}
        folder.mkdir(parents=True, exist_ok=True)
        write_clip(folder / f"{one.clip_ids[0]}.mp4", frames_THWC, one.fps_B[0], facts, f"curate {__version__}")
