"""Stable Video Diffusion at full size on one GPU: what a denoising step, a training step, encoding, decoding and each memory mode cost.

    python benchmarks/svd_gpu.py [--size 1024x576] [--frames 14] [--only step,vae,modes,train] [--json FILE]

Weights are random, of the published sizes, and made on the GPU (1.52B parameters in the UNet), so nothing is downloaded: time and memory do
not depend on what the numbers say. Forward passes, guidance, loss, LoRA and memory modes are the project's own; needs diffusers,
transformers, peft and pydantic, and no decoder of video. A time is the median of the repeats after two runs that are not counted. Memory
is the peak of the allocator, networks included; MiB lie outside of it (CUDA's context).
"""

import argparse
import functools
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from curate.svd.conditioning import Conditioning, time_ids
from curate.svd.denoiser import Denoiser
from curate.svd.encode import Encoders
from curate.svd.image_to_video import ImageToVideo
from curate.svd.knobs import Knobs
from curate.svd.lora import add_lora, trainable
from curate.svd.loss import P_MEAN_LARGE, P_STD, draw_sigma, loss_per_clip
from curate.svd.sample import guidance, guided

GIB = 2**30
EMBED_DIM, SCALING_FACTOR = 1024, 0.18215
Make = Callable[["Bench"], Iterator["Row"]]


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement; `low` and `high` are the fastest and the slowest repeat."""

    work: str
    seconds: float
    low: float
    high: float
    peak_gib: float


@dataclass(frozen=True, slots=True)
class Bench:
    """The size of what is measured, and how it is timed."""

    width: int
    height: int
    num_frames: int
    repeats: int

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        return self.num_frames, 4, self.height // 8, self.width // 8

    def timed(self, work: str, call: Callable[[], Any], warmups: int = 2, repeats: int | None = None) -> Row:
        """Runs `call` and waits for the GPU each time."""
        taken = []
        for i in range(warmups + (repeats or self.repeats)):
            if i == warmups:
                torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
            start = time.perf_counter()
            call()
            torch.cuda.synchronize()
            if i >= warmups:
                taken.append(time.perf_counter() - start)
        return Row(work, statistics.median(taken), min(taken), max(taken), torch.cuda.max_memory_allocated() / GIB)

    def conditioning(self, count: int, dtype: torch.dtype) -> Conditioning:
        embed = torch.randn(count, 1, EMBED_DIM, device="cuda")
        latents = torch.randn(count, *self.latent_shape[1:], device="cuda")
        return Conditioning(embed, latents, time_ids([7] * count, [127] * count, [0.02] * count)).to("cuda", dtype)


def full_unet(num_frames: int, dtype: torch.dtype) -> Any:
    from diffusers import UNetSpatioTemporalConditionModel

    with torch.device("cuda"):  # diffusers' defaults are SVD's sizes but for the heads of older versions
        unet = UNetSpatioTemporalConditionModel(num_attention_heads=(5, 10, 20, 20), num_frames=num_frames)
    return unet.to("cuda", dtype)  # mix factors are made by a constructor that knows no default device


def full_vae() -> Any:
    from diffusers import AutoencoderKLTemporalDecoder

    with torch.device("cuda"):
        vae = AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            scaling_factor=SCALING_FACTOR,
            force_upcast=True,
        )
    return vae.to("cuda").eval()


def full_image_encoder(dtype: torch.dtype) -> Any:
    """OpenCLIP's ViT-H/14."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=16,
        image_size=224,
        patch_size=14,
        projection_dim=EMBED_DIM,
        hidden_act="gelu",
    )
    with torch.device("cuda"):
        return CLIPVisionModelWithProjection(config).to(dtype).eval()


def step(bench: Bench) -> Iterator[Row]:
    """One step of the sampler, both branches of guidance in one batch of 2, bfloat16."""
    unet = full_unet(bench.num_frames, torch.bfloat16).eval().requires_grad_(False)
    denoiser, cond = Denoiser(unet), bench.conditioning(1, torch.bfloat16)
    strength_T, sigma_B = guidance(bench.num_frames, 1.0, 3.0).cuda(), torch.tensor([20.0], device="cuda")
    noisy = torch.randn(1, *bench.latent_shape, device="cuda") * 20

    @torch.no_grad()
    def one(is_split: bool) -> None:
        guided(denoiser, cond, sigma_B, is_split, noisy, strength_T)

    yield bench.timed("UNet step with guidance, bf16, one batch of 2", lambda: one(False))
    yield bench.timed("UNet step with guidance, bf16, one branch after the other", lambda: one(True))


def vae(bench: Bench) -> Iterator[Row]:
    """Encoding a window for training (float32, chunks of 4) and decoding a clip (float16)."""
    network = full_vae()
    encoders = Encoders(network, None)
    frames = torch.rand(1, bench.num_frames, 3, bench.height, bench.width, device="cuda") * 2 - 1
    yield bench.timed(f"VAE encode, {bench.num_frames} frames, fp32, 4 at a time", lambda: encoders.latents(frames), 1)
    network.decoder.to(torch.float16)
    latents = torch.randn(1, *bench.latent_shape, device="cuda") * SCALING_FACTOR
    for chunk in (bench.num_frames, 8, 2):
        try:
            call = functools.partial(_decode_blindly, latents, network, chunk)
            yield bench.timed(f"VAE decode, {bench.num_frames} frames, fp16, {chunk} at a time", call, 1)
        except torch.cuda.OutOfMemoryError:
            print(f"decode in chunks of {chunk}: out of memory", flush=True)


@torch.no_grad()
def _decode_blindly(latents: torch.Tensor, network: Any, chunk: int) -> None:
    """The network alone: random weights may overflow float16, which `decode` refuses."""
    for part in (latents[0] / SCALING_FACTOR).half().split(chunk):
        network.decode(part, num_frames=len(part)).sample.float().cpu()


def modes(bench: Bench) -> Iterator[Row]:
    """A whole clip, picture to frames, of 3 steps in each memory mode."""
    networks = SimpleNamespace(
        unet=full_unet(bench.num_frames, torch.bfloat16).eval().requires_grad_(False),
        vae=full_vae().requires_grad_(False),
        image_encoder=full_image_encoder(torch.bfloat16).requires_grad_(False),
    )
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (1, bench.height, bench.width, 3), np.uint8)
    knobs = Knobs(num_frames=bench.num_frames, steps=3, size=f"{bench.width}x{bench.height}")
    for mode in ("fast", "balanced", "low"):
        if mode != "fast":
            for network in vars(networks).values():
                network.to("cpu")
            _clear()
        # float32 in the decoder would double its memory; bfloat16 takes float16's and cannot overflow on random weights.
        maker = ImageToVideo(networks, device="cuda", memory=mode, decode_dtype=torch.bfloat16)  # type: ignore[arg-type]
        yield bench.timed(f"clip of {bench.num_frames} frames, 3 steps, memory={mode}", functools.partial(maker, pictures, knobs), 1, 2)


def train(bench: Bench) -> Iterator[Row]:
    """Forward and backward of one window, then AdamW's step: float32 master weights under bfloat16 autocast."""
    for mode, checkpointed in (("full", True), ("temporal", True), ("lora", True), ("lora", False), ("full", False)):
        unet = full_unet(bench.num_frames, torch.float32).train()
        if mode == "lora":
            add_lora(unet, rank=16)
            unet.to("cuda")
        if checkpointed:
            unet.enable_gradient_checkpointing()
        parameters = [parameter for _, parameter in trainable(unet, mode)]  # type: ignore[arg-type]
        optimizer = torch.optim.AdamW(parameters, lr=1e-5)
        yield from _training(bench, f"{mode}, {'checkpointing' if checkpointed else 'no checkpointing'}", unet, parameters, optimizer)
        del unet, parameters, optimizer
        _clear()


def _training(bench: Bench, name: str, unet: Any, parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> Iterator[Row]:
    denoiser, cond = Denoiser(unet), bench.conditioning(1, torch.float32)
    generator = torch.Generator("cuda").manual_seed(0)
    clean = torch.randn(1, *bench.latent_shape, device="cuda")
    noise = torch.randn(1, *bench.latent_shape, device="cuda")

    def backward() -> None:
        sigma_B = draw_sigma(1, P_MEAN_LARGE, P_STD, generator)
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_per_clip(denoiser, clean, noise, sigma_B, cond).mean()
        loss.backward()

    def whole() -> None:
        backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    try:
        yield bench.timed(f"train {name}: forward and backward", backward)
        optimizer.zero_grad(set_to_none=True)
        yield bench.timed(f"train {name}: whole step with AdamW", whole)
    except torch.cuda.OutOfMemoryError:
        print(f"train {name}: out of memory", flush=True)
        optimizer.zero_grad(set_to_none=True)


def _clear() -> None:
    gc.collect()
    torch.cuda.empty_cache()


WORKS: dict[str, Make] = {"step": step, "vae": vae, "train": train, "modes": modes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1024x576", help="WIDTHxHEIGHT")
    parser.add_argument("--frames", type=int, default=14)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default=",".join(WORKS), help=f"of {', '.join(WORKS)}")
    parser.add_argument("--json", type=Path, help="file for the rows as well")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("no CUDA device: this measures a GPU")
    width, height = (int(side) for side in args.size.split("x"))
    bench = Bench(width, height, args.frames, args.repeats)
    torch.manual_seed(0)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {args.frames} frames of {args.size}, eager, random weights\n")
    print("| work | s, median | fastest to slowest | peak GiB |\n|---|---|---|---|", flush=True)
    rows = []
    for name in args.only.split(","):
        for row in WORKS[name](bench):
            print(f"| {row.work} | {row.seconds:.3f} | {row.low:.3f} to {row.high:.3f} | {row.peak_gib:.1f} |", flush=True)
            rows.append(row)
        _clear()
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
