"""Stable Video Diffusion at tiny size: real classes of diffusers and transformers, random but fixed weights, a checkpoint's layout.

The VAE makes latents of an eighth of the side, the image encoder 32 numbers an embedding, and the UNet has the temporal and spatial blocks
of the real one. `tiny_model(folder)` is what `diffusers.StableVideoDiffusionPipeline.from_pretrained(folder)` loads.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

EMBED_DIM = 32


def tiny_unet(
    num_frames: int = 4, seed: int = 0, channels: Sequence[int] = (32, 64), heads: Sequence[int] = (2, 4), layers: int = 1
) -> Any:
    """`UNetSpatioTemporalConditionModel`, 1.3M parameters; attention on every level but the last, as SVD's."""
    import torch
    from diffusers import UNetSpatioTemporalConditionModel

    torch.manual_seed(seed)
    attended = len(channels) - 1
    return UNetSpatioTemporalConditionModel(
        down_block_types=("CrossAttnDownBlockSpatioTemporal",) * attended + ("DownBlockSpatioTemporal",),
        up_block_types=("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * attended,
        block_out_channels=tuple(channels),
        num_attention_heads=tuple(heads),
        layers_per_block=layers,
        cross_attention_dim=EMBED_DIM,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        num_frames=num_frames,
    ).eval()


def tiny_vae(seed: int = 1, layers: int = 1) -> Any:
    """`AutoencoderKLTemporalDecoder` of four levels, so that a side shrinks eightfold; the real one has two layers a level."""
    import torch
    from diffusers import AutoencoderKLTemporalDecoder

    torch.manual_seed(seed)
    return AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=(32,) * 4, layers_per_block=layers, latent_channels=4
    ).eval()


def tiny_image_encoder(seed: int = 2, image_size: int = 224) -> Any:
    """`CLIPVisionModelWithProjection` of two layers, with the activation of OpenCLIP's ViT-H/14."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=image_size,
        patch_size=32,
        projection_dim=EMBED_DIM,
        hidden_act="gelu",
    )
    return CLIPVisionModelWithProjection(config).eval()


def scheduler() -> Any:
    """The scheduler that SVD is published with."""
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        interpolation_type="linear",
        use_karras_sigmas=True,
        timestep_spacing="leading",
        timestep_type="continuous",
        sigma_min=0.002,
        sigma_max=700.0,
        steps_offset=1,
    )


def tiny_pipeline(num_frames: int = 4, seed: int = 0) -> Any:
    """`diffusers.StableVideoDiffusionPipeline` around the three."""
    from diffusers import StableVideoDiffusionPipeline
    from transformers import CLIPImageProcessor

    return StableVideoDiffusionPipeline(
        vae=tiny_vae(seed + 1),
        image_encoder=tiny_image_encoder(seed + 2),
        unet=tiny_unet(num_frames, seed),
        scheduler=scheduler(),
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": 224},
            crop_size={"height": 224, "width": 224},
            image_mean=[0.48145466, 0.4578275, 0.40821073],
            image_std=[0.26862954, 0.26130258, 0.27577711],
        ),
    )


def tiny_model(folder: Path, num_frames: int = 4, seed: int = 0) -> Path:
    """Saves all of it in the layout of diffusers and returns the folder."""
    tiny_pipeline(num_frames, seed).save_pretrained(folder)
    return folder
