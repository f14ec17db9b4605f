"""The training loss: noise drawn per clip, and the plain mean square error of the network's output on the velocity.

    ln sigma ~ N(P_mean, P_std^2)      arXiv 2311.15127: 0.7, 1.6 for image-to-video at 320x576 and 1.0, 1.6 at 576x1024
    x = x0 + sigma n,   v = (n - sigma x0) / sqrt(1 + sigma^2)

EDM weighs |D - x0|^2 by (1 + sigma^2) / sigma^2 = 1 / c_out^2. With D = c_skip x + c_out F that is |F - (x0 - c_skip x) / c_out|^2 =
|F - v|^2, so weight and division cancel and nothing is divided by a small sigma.
"""

import torch

from curate.svd.conditioning import Conditioning
from curate.svd.denoiser import Denoiser

P_MEAN_SMALL, P_MEAN_LARGE, P_STD = 0.7, 1.0, 1.6


def default_p_mean(width: int, height: int) -> float:
    """The paper's P_mean for a size: 1.0 from 576x1024 on, 0.7 below."""
    return P_MEAN_LARGE if width * height >= 576 * 1024 else P_MEAN_SMALL


def draw_sigma(count: int, p_mean: float, p_std: float, generator: torch.Generator) -> torch.Tensor:
    """float32 [count]."""
    return torch.exp(p_mean + p_std * torch.randn(count, generator=generator, device=generator.device))


def velocity(clean: torch.Tensor, noise: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
    """The target of the network, in the shape of `clean` (B, T, C, H, W)."""
    sigma = sigma_B[:, None, None, None, None]
    return (noise - sigma * clean) / torch.sqrt(1 + sigma**2)


def loss_per_clip(
    denoiser: Denoiser, clean_BTCHW: torch.Tensor, noise_BTCHW: torch.Tensor, sigma_B: torch.Tensor, cond: Conditioning
) -> torch.Tensor:
    """float32 [B]: mean over frames, channels and places. `clean` is scaled (VAE mean times scaling factor); noise is standard normal."""
    noisy = clean_BTCHW + sigma_B[:, None, None, None, None] * noise_BTCHW
    output = denoiser.network(noisy, sigma_B, cond).float()
    return ((output - velocity(clean_BTCHW, noise_BTCHW, sigma_B)) ** 2).flatten(1).mean(1)
