"""A Stable Video Diffusion of a few layers, for trying the whole way on a CPU: real classes, files and keys; small pictures, short clips.

    network         how it begins
    UNet            random, 5.2M parameters; `curate svd finetune configs/svd_tiny.yaml` trains it
    image encoder   random and never trained: its embedding is still a function of the picture, and of nothing else
    VAE             random weights make no pictures, so it is trained here as an autoencoder on the clips' own frames

    loss of the VAE = |y - x| + (y - x)^2 + 4 (mean_8x8(y) - mean_8x8(x))^2 + 1e-6 KL

The third term is there because the decoder ends in a GroupNorm of 32 groups on 32 channels, which takes out each channel's mean: colours
of whole areas are what it learns last. Frames are seen one at a time and the taps of temporal filters that look at neighbours begin at
zero, which is then where they stay: what the decoder makes of a frame depends on the others through the norms of its temporal layers
alone. The scaling factor makes the latents' deviation 1.

Nothing is made up in silence: these weights exist because somebody asked for them, and training clips have been seen by the VAE.
"""

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from pydantic import Field, ValidationError, field_validator
from torch.nn import functional

from curate.config import Section
from curate.config_problems import Checker, inlined
from curate.config_text import apply_overrides, read_yaml
from curate.dataset import CuratedClips, Draw
from curate.errors import ConfigError
from curate.svd.checkpoint import Model, ModelFiles, save_diffusers
from curate.svd.data import generator_of

SIZE_STEP = 64  # px
MAX_PICTURES, MAX_PICTURE_BYTES = 2048, 512 << 20  # that the VAE is trained on, whichever is fewer: 25 MB at 64x64
EMBED_DIM = 32  # of the image embedding
UNET_CHANNELS, UNET_HEADS = (64, 128), (2, 4)
TIME_EMBED_DIM = 64  # of each of the three time ids
VAE_CHANNELS = (32, 32, 64, 128)  # four levels: a side shrinks eightfold. GroupNorm wants multiples of 32
LATENT_CHANNELS = 4
VAE_BATCH, VAE_LR, VAE_WARMUP = 4, 2e-3, 20
COARSE, COARSE_WEIGHT, KL_WEIGHT = 8, 4.0, 1e-6

OnStep = Callable[[int, float], None]


class Tiny(Section):
    """What a tiny model is made from."""

    out: str = Field(min_length=1, description="folder that is written, in the layout of diffusers; must not exist or be empty")
    data: str = Field(min_length=1, description="folder of a manifest or of an export, whose frames the VAE learns")
    width: int = Field(
        64, ge=SIZE_STEP, multiple_of=SIZE_STEP, description="of the VAE's training pictures", json_schema_extra={"unit": "px"}
    )
    height: int = Field(64, ge=SIZE_STEP, multiple_of=SIZE_STEP, description="of the same", json_schema_extra={"unit": "px"})
    num_frames: int = Field(8, ge=2, le=64, description="frames of a clip that the UNet is made for")
    fps: float = Field(
        7.0, gt=0, le=120, description="rate of the windows that frames are taken from", json_schema_extra={"unit": "frames/s"}
    )
    vae_steps: int = Field(600, ge=1, le=1_000_000, description=f"training steps of the VAE, {VAE_BATCH} pictures each")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of all random weights, and of the VAE's training")

    @field_validator("out", "data", mode="after")
    @classmethod
    def _home(cls, value: str) -> str:
        return value if "://" in value else str(Path(value).expanduser())


def load_tiny(out: str, words: Sequence[str] = ()) -> Tiny:
    """From a folder and `key=value` words. Raises one `ConfigError` with all problems."""
    text = read_yaml(None)
    apply_overrides(text, words)
    text.content["out"] = out
    if not text.content.get("data"):
        raise ConfigError("tiny: data must be given, e.g. data=demo/manifest: the VAE is trained on its clips' frames")
    found = list(text.problems)
    try:
        settings = Tiny.model_validate_json(json.dumps(text.content), strict=True)
    except ValidationError as error:
        found += Checker(text.content, text.place, inlined(Tiny.model_json_schema())).explain(error)
    if found:
        raise ConfigError("tiny: " + "\n  ".join(found))
    return settings


def make_tiny(settings: Tiny, stream: TextIO | None = None) -> Path:
    """Makes and saves the model; a line now and then goes to `stream` (None: standard error). A minute or two, nearly all of it the VAE's.

    Raises `ConfigError` where the folder holds something, `ExportError` where the data gives no window.
    """
    out = Path(settings.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"out={out} is there already; name a folder that does not exist")
    said = stream or sys.stderr
    pictures = read_pictures(settings)
    said.write(f"training the VAE on {len(pictures):,} frames of {settings.width}x{settings.height}, {settings.vae_steps:,} steps\n")
    every = max(1, settings.vae_steps // 8)

    def on_step(step: int, loss: float) -> None:
        if step % every == 0 or step == settings.vae_steps:
            said.write(f"VAE step {step:,} of {settings.vae_steps:,}  loss {loss:.4f}\n")
            said.flush()

    vae = tiny_vae(settings.seed, settings.width)
    fit_vae(vae, pictures, settings.vae_steps, settings.seed, on_step)
    said.write(f"the VAE gives frames back at {psnr(vae, pictures[:: max(1, len(pictures) // 64)]):.1f} dB\n")
    model = Model(tiny_unet(settings.num_frames, settings.seed), vae, tiny_image_encoder(settings.seed), out.name, ModelFiles(None, {}))
    return save_diffusers(out, model)


def read_pictures(settings: Tiny) -> torch.Tensor:
    """uint8 (N, 3, H, W): all frames of windows drawn anew each epoch, as many as `MAX_PICTURES` and `MAX_PICTURE_BYTES` allow."""
    clips = CuratedClips(
        settings.data,
        num_frames=settings.num_frames,
        fps=settings.fps,
        sizes=((settings.width, settings.height),),
        max_enlarge=4.0,
        seed=settings.seed,
        on_error="skip",
    )
    most = min(MAX_PICTURES, MAX_PICTURE_BYTES // (3 * settings.width * settings.height))
    wanted = max(1, most // settings.num_frames)
    rounds = math.ceil(wanted / len(clips))
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(settings.seed)).tolist()
    draws = [Draw(item, epoch) for epoch in range(min(rounds, 16)) for item in order][:wanted]
    return torch.cat([clips[draw]["frames"] for draw in draws])


# ---- the networks


def tiny_unet(num_frames: int, seed: int) -> Any:
    """Random `UNetSpatioTemporalConditionModel` of two levels; attention on the first, as SVD has it on all but the last."""
    from diffusers import UNetSpatioTemporalConditionModel

    with _seeded(seed, "unet"):
        unet: Any = UNetSpatioTemporalConditionModel(
            sample_size=None,
            in_channels=2 * LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            block_out_channels=UNET_CHANNELS,
            num_attention_heads=UNET_HEADS,
            layers_per_block=1,
            cross_attention_dim=EMBED_DIM,
            addition_time_embed_dim=TIME_EMBED_DIM,
            projection_class_embeddings_input_dim=3 * TIME_EMBED_DIM,
            num_frames=num_frames,
        )
    return unet.eval()


def tiny_image_encoder(seed: int) -> Any:
    """Random `CLIPVisionModelWithProjection` of two layers on 32x32 px."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=EMBED_DIM,
        hidden_act="gelu",
    )
    with _seeded(seed, "image encoder"):
        return CLIPVisionModelWithProjection(config).eval()


def tiny_vae(seed: int, sample_size: int = SIZE_STEP) -> Any:
    """Random `AutoencoderKLTemporalDecoder`: residual branches begin at zero, temporal filters with their middle tap alone."""
    from diffusers import AutoencoderKLTemporalDecoder

    with _seeded(seed, "vae"):
        vae: Any = AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * len(VAE_CHANNELS),
            block_out_channels=VAE_CHANNELS,
            layers_per_block=1,
            latent_channels=LATENT_CHANNELS,
            sample_size=sample_size,
            scaling_factor=1.0,
            force_upcast=True,
        )
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if ".conv2." in name or ".to_out.0." in name:
                parameter.zero_()
            if parameter.ndim == 5 and parameter.shape[2] == 3:
                parameter[:, :, 0].zero_()
                parameter[:, :, 2].zero_()
    return vae.eval()


@contextlib.contextmanager
def _seeded(seed: int, network: str) -> Iterator[None]:
    """Constructors draw from torch's global generator; it is what it was afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_of("tiny", network, seed).initial_seed())
        yield


# ---- training the VAE


def fit_vae(vae: Any, pictures_NCHW: torch.Tensor, steps: int, seed: int, on_step: OnStep | None = None) -> None:
    """Trains it in place on uint8 pictures, each a clip of one frame, and sets its scaling factor. The same seed gives the same weights."""
    generator = generator_of("tiny", "vae training", seed)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=VAE_LR, betas=(0.9, 0.99), weight_decay=0.0)
    vae.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = VAE_LR * min(1.0, (step + 1) / VAE_WARMUP) * (1 + math.cos(math.pi * step / steps)) / 2
        chosen = torch.randint(len(pictures_NCHW), (VAE_BATCH,), generator=generator)
        loss = vae_loss(vae, signed(pictures_NCHW[chosen]), generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if on_step is not None:
            on_step(step + 1, float(loss.detach()))
    vae.eval().requires_grad_(False)
    vae.register_to_config(scaling_factor=1 / float(means(vae, pictures_NCHW).std()))


def vae_loss(vae: Any, pictures_NCHW: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Scalar; the module's text has the formula. Pictures in [-1, 1]."""
    posterior = vae.encode(pictures_NCHW).latent_dist
    latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
    error = vae.decode(latents, num_frames=1).sample - pictures_NCHW
    coarse = functional.avg_pool2d(error, COARSE)
    total: torch.Tensor = error.abs().mean() + (error**2).mean() + COARSE_WEIGHT * (coarse**2).mean() + KL_WEIGHT * posterior.kl().mean()
    return total


@torch.no_grad()
def means(vae: Any, pictures_NCHW: torch.Tensor, most: int = 256) -> torch.Tensor:
    """float32 (N, C, H/8, W/8), not scaled, of `most` of the pictures (uint8) at even distances."""
    chosen = pictures_NCHW[:: max(1, len(pictures_NCHW) // most)]
    return torch.cat([vae.encode(signed(part)).latent_dist.mode() for part in chosen.split(16)])


@torch.no_grad()
def psnr(vae: Any, pictures_NCHW: torch.Tensor) -> float:
    """Peak signal to noise of uint8 pictures that went through the VAE, in dB; the peak is 255."""
    errors = [(vae.decode(means(vae, part), num_frames=1).sample - signed(part)) ** 2 for part in pictures_NCHW.split(16)]
    return -10 * math.log10(float(torch.cat(errors).mean()) / 4)


def signed(pictures: torch.Tensor) -> torch.Tensor:
    """float32 in [-1, 1] from uint8."""
    return pictures.float() / 127.5 - 1
