"""What Stable Video Diffusion is told about the clip: the first frame twice, and three numbers. Training and sampling both build it here.

    image_embed_B1D   CLIP image embedding of the clean first frame
    cond_latents_BCHW VAE *mean* of the first frame in [-1, 1] plus `noise_aug_strength` * noise in pixel space; *not* scaled
    time_ids_B3       fps - 1, motion bucket, noise_aug_strength, as raw numbers, in this order

The unconditional branch has zeros for the embedding and for the concatenated latents, and keeps the time ids. Order, mean, missing
factor and fps - 1 are those of Stability-AI/generative-models' svd.yaml and simple_video_sample.py, and of diffusers'
StableVideoDiffusionPipeline.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

NOISE_AUG_MEAN, NOISE_AUG_STD = -3.0, 0.5  # of ln(noise_aug_strength) in training; arXiv 2311.15127, appendix D


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """B clips' conditions; see the module's text for what each tensor holds."""

    image_embed_B1D: torch.Tensor
    cond_latents_BCHW: torch.Tensor
    time_ids_B3: torch.Tensor

    def __post_init__(self) -> None:
        sizes = {len(self.image_embed_B1D), len(self.cond_latents_BCHW), len(self.time_ids_B3)}
        if len(sizes) != 1 or self.image_embed_B1D.ndim != 3 or self.cond_latents_BCHW.ndim != 4 or self.time_ids_B3.shape[1:] != (3,):
            shapes = [tuple(t.shape) for t in (self.image_embed_B1D, self.cond_latents_BCHW, self.time_ids_B3)]
            raise ValueError(f"conditioning of one batch needs shapes (B, 1, D), (B, C, H, W) and (B, 3), got {shapes}")

    def __len__(self) -> int:
        return len(self.time_ids_B3)

    def unconditional(self) -> "Conditioning":
        """The branch that guidance subtracts: no embedding, no first frame; the three numbers stay."""
        return replace(
            self, image_embed_B1D=torch.zeros_like(self.image_embed_B1D), cond_latents_BCHW=torch.zeros_like(self.cond_latents_BCHW)
        )

    def dropped(self, drop_embed_B: torch.Tensor, drop_latents_B: torch.Tensor) -> "Conditioning":
        """Zeros in place of the embedding, the latents, or both, clip by clip (bool[B] each)."""
        keep_embed, keep_latents = (~drop.to(self.time_ids_B3.device) for drop in (drop_embed_B, drop_latents_B))
        return replace(
            self,
            image_embed_B1D=self.image_embed_B1D * keep_embed[:, None, None],
            cond_latents_BCHW=self.cond_latents_BCHW * keep_latents[:, None, None, None],
        )

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Conditioning":
        """Moved, floats cast; the time ids stay float32: bfloat16 cannot hold 127 and 126 and 0.02 apart."""
        embed, latents = (t.to(device, dtype) for t in (self.image_embed_B1D, self.cond_latents_BCHW))
        return Conditioning(embed, latents, self.time_ids_B3.to(device, torch.float32))

    @classmethod
    def cat(cls, parts: Sequence["Conditioning"]) -> "Conditioning":
        """Batches one after the other."""
        names = ("image_embed_B1D", "cond_latents_BCHW", "time_ids_B3")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def time_ids(fps_B: Sequence[float], motion_bucket_B: Sequence[float], noise_aug_B: Sequence[float]) -> torch.Tensor:
    """float32 (B, 3) from frame rates (not yet minus 1), motion buckets and noise augmentation strengths."""
    rows = [(fps - 1, bucket, noise) for fps, bucket, noise in zip(fps_B, motion_bucket_B, noise_aug_B, strict=True)]
    return torch.tensor(rows, dtype=torch.float32)


def draw_noise_aug(count: int, generator: torch.Generator) -> torch.Tensor:
    """float32 [count]: each clip's own strength, ln ~ N(-3, 0.5^2)."""
    return torch.exp(NOISE_AUG_MEAN + NOISE_AUG_STD * torch.randn(count, generator=generator, device=generator.device))


def draw_drops(
    count: int, p_embed: float, p_latents: float, is_joint: bool, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """bool[count] twice: which clips lose the embedding, and which the latents.

    Sampling's unconditional branch lacks both at once. Joint dropout (p_embed for both) trains exactly that branch; independent dropout
    trains it with probability p_embed * p_latents, and two branches that sampling never asks for.
    """
    drawn = torch.rand(2, count, generator=generator, device=generator.device)
    if is_joint:
        return drawn[0] < p_embed, drawn[0] < p_embed
    return drawn[0] < p_embed, drawn[1] < p_latents
