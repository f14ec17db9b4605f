"""The preconditioned network of EDM (arXiv 2206.00364) with sigma_data = 1, as SVD uses it; training and sampling both call it.

    D(x; sigma) = c_skip x + c_out F(c_in x, c_noise)
    c_skip = 1 / (sigma^2 + 1)   c_out = -sigma / sqrt(sigma^2 + 1)   c_in = 1 / sqrt(sigma^2 + 1)   c_noise = ln(sigma) / 4

Only the noisy half of the network's input is scaled by c_in; the conditioning latents are put beside it on channels, the same for every
frame.
"""

from dataclasses import dataclass
from typing import Any

import torch

from curate.svd.conditioning import Conditioning


@dataclass(frozen=True, slots=True)
class Preconditioning:
    """The four factors for a sigma, each of sigma's shape."""

    c_skip: torch.Tensor
    c_out: torch.Tensor
    c_in: torch.Tensor
    c_noise: torch.Tensor

    @classmethod
    def of(cls, sigma: torch.Tensor) -> "Preconditioning":
        spread = torch.sqrt(sigma**2 + 1)
        return cls(1 / spread**2, -sigma / spread, 1 / spread, torch.log(sigma) / 4)


class Denoiser:
    """A UNet (`diffusers.UNetSpatioTemporalConditionModel`, wrapped for several processes or not) with its preconditioning."""

    def __init__(self, unet: Any) -> None:
        self.unet = unet

    def network(self, noisy_BTCHW: torch.Tensor, sigma_B: torch.Tensor, cond: Conditioning) -> torch.Tensor:
        """F, the raw output (B, T, C, H, W): the prediction of v = (noise - sigma x0) / sqrt(1 + sigma^2), in the network's dtype."""
        factors = Preconditioning.of(sigma_B.float())
        num_frames = noisy_BTCHW.shape[1]
        # In float32: c_in rounded to bfloat16 would scale everything by up to 0.2 % too much or too little.
        scaled = (noisy_BTCHW.float() * factors.c_in[:, None, None, None, None]).to(noisy_BTCHW.dtype)
        beside = cond.cond_latents_BCHW[:, None].expand(-1, num_frames, -1, -1, -1).to(scaled.dtype)
        output: torch.Tensor = self.unet(
            torch.cat([scaled, beside], dim=2),
            factors.c_noise,
            encoder_hidden_states=cond.image_embed_B1D.to(scaled.dtype),
            added_time_ids=cond.time_ids_B3,
            return_dict=False,
        )[0]
        return output

    def __call__(self, noisy_BTCHW: torch.Tensor, sigma_B: torch.Tensor, cond: Conditioning) -> torch.Tensor:
        """D, the denoised latents, float32 (B, T, C, H, W)."""
        return denoised(noisy_BTCHW.float(), sigma_B, self.network(noisy_BTCHW, sigma_B, cond).float())


def denoised(noisy_BTCHW: torch.Tensor, sigma_B: torch.Tensor, output_BTCHW: torch.Tensor) -> torch.Tensor:
    """c_skip x + c_out F."""
    factors = Preconditioning.of(sigma_B.float())
    c_skip, c_out = (factor[:, None, None, None, None] for factor in (factors.c_skip, factors.c_out))
    return c_skip * noisy_BTCHW + c_out * output_BTCHW
