"""From pictures to what the network works on: scaled latents of a clip, and the conditioning of its first frame.

Pictures are float in [-1, 1], RGB. Latents are the VAE's mean; those of the clip are multiplied by its `scaling_factor`, the
conditioning's are not (see `conditioning`). The VAE runs in float32 where its configuration says `force_upcast`, as SVD's does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from curate.models.svd import clip_input
from curate.svd.conditioning import Conditioning, time_ids


@dataclass(frozen=True, slots=True, eq=False)
class Encoders:
    """`vae`: diffusers' AutoencoderKLTemporalDecoder; `image_encoder`: transformers' CLIPVisionModelWithProjection. Both frozen.

    `chunk` pictures go through the VAE at a time.
    """

    vae: Any
    image_encoder: Any
    chunk: int = 4

    @property
    def scaling_factor(self) -> float:
        return float(self.vae.config.scaling_factor)

    @torch.no_grad()
    def mean(self, pictures_NCHW: torch.Tensor) -> torch.Tensor:
        """float32 (N, 4, H/8, W/8): the VAE's mean, not scaled."""
        parts = pictures_NCHW.to(self.vae.device, self.vae.dtype).split(self.chunk)
        return torch.cat([self.vae.encode(part).latent_dist.mode().float() for part in parts])

    @torch.no_grad()
    def latents(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """float32 (B, T, 4, H/8, W/8): what is noised and learned."""
        return self.mean(frames_BTCHW.flatten(0, 1)).unflatten(0, frames_BTCHW.shape[:2]) * self.scaling_factor

    @torch.no_grad()
    def image_embed(self, pictures_BCHW: torch.Tensor) -> torch.Tensor:
        """float32 (B, 1, D) of clean pictures."""
        encoder = self.image_encoder
        inputs = clip_input(pictures_BCHW.float().cpu(), encoder.config.image_size)
        embeds: torch.Tensor = encoder(inputs.to(encoder.device, encoder.dtype)).image_embeds
        return embeds.float()[:, None]

    @torch.no_grad()
    def conditioning(
        self,
        first_BCHW: torch.Tensor,
        fps_B: Sequence[float],
        motion_bucket_B: Sequence[float],
        noise_aug_B: torch.Tensor,
        noise_BCHW: torch.Tensor,
    ) -> Conditioning:
        """Of clean first frames, each with its own strength of augmentation and its own noise (standard normal, the pictures' shape)."""
        strength = noise_aug_B.to(first_BCHW)[:, None, None, None]
        noised = self.mean(first_BCHW + strength * noise_BCHW.to(first_BCHW))
        ids = time_ids(fps_B, motion_bucket_B, noise_aug_B.tolist()).to(noised.device)
        return Conditioning(self.image_embed(first_BCHW).to(noised.device), noised, ids)
