"""The sampler: Euler's method over Karras' sigmas, with guidance that differs from frame to frame; then latents to pictures.

    sigma_i = (sigma_max^(1/rho) + i/(n-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho, then 0    arXiv 2206.00364, equation 5
    x_0     = noise * sqrt(1 + sigma_0^2)
    x_i+1   = x_i + (sigma_i+1 - sigma_i) (x_i - D(x_i; sigma_i)) / sigma_i                        the same, algorithm 1, first order
    F       = F_uncond + g_t (F_cond - F_uncond),  g_t the guidance of frame t

Guidance runs linearly from the first frame to the last in Stability-AI/generative-models (LinearPredictionGuider) and in diffusers. The
triangle there (TrianglePredictionGuider, for orbits) is lowest at the first and the last frame; here it has the period of the loop:
frames k and T - k get the same. Latents stay in float32 whatever the network's dtype.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from curate.errors import CurateError
from curate.svd.conditioning import Conditioning
from curate.svd.denoiser import Denoiser, denoised
from curate.svd.overlap import Windows

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 700.0, 7.0  # Stability's EDMDiscretization and configs/svd.yaml
GuidanceShape = Literal["linear", "triangle", "constant"]
Callback = Callable[[int, torch.Tensor], None]


class NotFiniteError(CurateError):
    """A network gave infinity or NaN."""


def karras_sigmas(steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = RHO) -> torch.Tensor:
    """float32 [steps + 1], from sigma_max down to sigma_min, then 0."""
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    return torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)]).float()


def guidance(num_frames: int, lowest: float, highest: float, shape: GuidanceShape = "linear") -> torch.Tensor:
    """float32 [num_frames]: linear, or a triangle over the loop (lowest at frame 0, highest half-way), or `highest` everywhere."""
    if shape == "linear":
        return torch.linspace(lowest, highest, num_frames)
    if shape == "constant":
        return torch.full((num_frames,), highest)
    if shape != "triangle":
        raise ValueError(f"guidance shape {shape!r} must be linear, triangle or constant")
    phase = torch.arange(num_frames) / num_frames
    return lowest + (highest - lowest) * (1 - 2 * (phase - 0.5).abs())


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    cond: Conditioning,
    *,
    sigmas: torch.Tensor,
    guidance_T: torch.Tensor,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    latents: torch.Tensor | None = None,
    windows: Windows | None = None,
    is_split: bool = False,
    callback: Callback | None = None,
) -> torch.Tensor:
    """Scaled latents, float32 (B, T, C, H, W), on the device of `cond`; T is the length of `guidance_T`.

    latents   standard normal noise of that shape; None draws it from `generator` (one, or one a clip), on the generator's own device
    windows   the network sees so many frames at a time, and what it says of a frame is blended; None: all T at once
    is_split  the two branches of guidance one after the other: half the activations, the same numbers
    callback  called after every step with its number from 0 and the latents that the network foresees

    Where all guidance is 1 the unconditional branch is not computed. Raises `NotFiniteError`.
    """
    device = cond.cond_latents_BCHW.device
    shape = (len(cond), len(guidance_T), *cond.cond_latents_BCHW.shape[1:])
    noise = _noise(shape, generator) if latents is None else latents
    if tuple(noise.shape) != shape:
        raise ValueError(f"latents of shape {tuple(noise.shape)} do not fit the conditioning and {len(guidance_T)} frames: {shape}")
    sigmas = sigmas.to(device)
    cond = cond.to(device, next(denoiser.unet.parameters()).dtype)
    x = noise.to(device, torch.float32) * torch.sqrt(1 + sigmas[0] ** 2)
    for step, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        denoise = functools.partial(guided, denoiser, cond, sigma.expand(len(cond)), is_split)
        foreseen = denoise(x, guidance_T) if windows is None else windows.blend(denoise, x, guidance_T)
        x = x + (following - sigma) * (x - foreseen) / sigma
        if callback is not None:
            callback(step, foreseen)
    if not torch.isfinite(x).all():
        raise NotFiniteError("the network gave infinity or NaN; use dtype=bfloat16 or dtype=float32, or look at the weights")
    return x


def guided(
    denoiser: Denoiser, cond: Conditioning, sigma_B: torch.Tensor, is_split: bool, noisy_BTCHW: torch.Tensor, guidance_T: torch.Tensor
) -> torch.Tensor:
    """D with guidance, float32 (B, T, C, H, W). The network gets its own dtype, the rest is float32."""
    network_in = noisy_BTCHW.to(next(denoiser.unet.parameters()).dtype)
    if (guidance_T == 1).all():
        return denoised(noisy_BTCHW, sigma_B, denoiser.network(network_in, sigma_B, cond).float())
    branches = (cond.unconditional(), cond)
    if is_split:
        plain, told = (denoiser.network(network_in, sigma_B, branch).float() for branch in branches)
    else:
        both = denoiser.network(torch.cat([network_in] * 2), torch.cat([sigma_B] * 2), Conditioning.cat(branches))
        plain, told = both.float().chunk(2)
    strength = guidance_T.to(plain)[None, :, None, None, None]
    return denoised(noisy_BTCHW, sigma_B, plain + strength * (told - plain))


def _noise(shape: tuple[int, ...], generator: torch.Generator | Sequence[torch.Generator] | None) -> torch.Tensor:
    if generator is None:
        raise ValueError("neither latents nor a generator to draw them from")
    if isinstance(generator, torch.Generator):
        return torch.randn(shape, generator=generator, device=generator.device)
    if len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators for {shape[0]} clips; give one, or one a clip")
    return torch.stack([torch.randn(shape[1:], generator=one, device=one.device) for one in generator])


@torch.no_grad()
def decode(latents_BTCHW: torch.Tensor, vae: Any, chunk: int | None = None, wrap: int = 0) -> np.ndarray:
    """uint8 (B, T, H, W, 3) RGB. The decoder sees `chunk` frames of one clip at a time (None: all), and filters in time inside a chunk.

    `wrap` frames from the other end are decoded at both ends and cut off, so that the ends of a loop know of each other.
    Raises `NotFiniteError`.
    """
    num_frames = latents_BTCHW.shape[1]
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk={chunk} must be at least 1 frame")
    if not 0 <= wrap <= num_frames:
        raise ValueError(f"wrap={wrap} must lie in 0 to the {num_frames} frames there are")
    around = torch.arange(-wrap, num_frames + wrap) % num_frames
    clips = [_decode_one(latents_TCHW[around], vae, chunk or len(around))[wrap : wrap + num_frames] for latents_TCHW in latents_BTCHW]
    return np.stack(clips)


def _decode_one(latents_TCHW: torch.Tensor, vae: Any, chunk: int) -> np.ndarray:
    parts = []
    weight = next(vae.decoder.parameters())
    for part in (latents_TCHW / vae.config.scaling_factor).to(weight.device, weight.dtype).split(chunk):
        pictures = vae.decode(part, num_frames=len(part)).sample.float()
        if not torch.isfinite(pictures).all():
            raise NotFiniteError(f"the decoder gave infinity or NaN in {weight.dtype}; use decode_dtype=float32")
        levels = ((pictures / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        parts.append(levels.permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(parts)
