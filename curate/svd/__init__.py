"""Stable Video Diffusion on curated clips: conditioning, preconditioned network, loss, training, sampling, checkpoints.

Network classes come from diffusers and transformers, LoRA from peft; what they are told, what they learn and how they are sampled stands
here. Training and sampling share `conditioning` and `denoiser`, so that they cannot disagree.

    from curate.svd import ImageToVideo, Knobs, load_model

    make = ImageToVideo(load_model("stabilityai/stable-video-diffusion-img2vid", device="cuda"), device="cuda")
    frames_BTHWC = make(pictures_BHWC, Knobs(fps=7, motion_bucket=90), seeds=[1])

The names below are imported when they are first asked for, torch with those that need it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.svd.checkpoint import Model, find_model, load_model, save_diffusers, save_single_file
    from curate.svd.conditioning import Conditioning, time_ids
    from curate.svd.denoiser import Denoiser, Preconditioning
    from curate.svd.encode import Encoders
    from curate.svd.generate_config import Generate, load_generate, parse_generate
    from curate.svd.image_to_video import ImageToVideo
    from curate.svd.knobs import Knobs, resolve
    from curate.svd.lora import LoraInfo, add_lora, load_lora, merge_lora, save_lora
    from curate.svd.loss import draw_sigma, loss_per_clip
    from curate.svd.output import read_settings, write_clip, write_frames
    from curate.svd.sample import guidance, karras_sigmas
    from curate.svd.settings import Finetune, load_finetune, parse_finetune
    from curate.svd.state import Ema, TrainingError
    from curate.svd.train import validation_losses

_HOMES = {
    "checkpoint": ("Model", "find_model", "load_model", "save_diffusers", "save_single_file"),
    "conditioning": ("Conditioning", "time_ids"),
    "denoiser": ("Denoiser", "Preconditioning"),
    "encode": ("Encoders",),
    "generate_config": ("Generate", "load_generate", "parse_generate"),
    "image_to_video": ("ImageToVideo",),
    "knobs": ("Knobs", "resolve"),
    "lora": ("LoraInfo", "add_lora", "load_lora", "merge_lora", "save_lora"),
    "loss": ("draw_sigma", "loss_per_clip"),
    "output": ("read_settings", "write_clip", "write_frames"),
    "sample": ("guidance", "karras_sigmas"),
    "settings": ("Finetune", "load_finetune", "parse_finetune"),
    "state": ("Ema", "TrainingError"),
    "train": ("validation_losses",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Conditioning",
    "Denoiser",
    "Ema",
    "Encoders",
    "Finetune",
    "Generate",
    "ImageToVideo",
    "Knobs",
    "LoraInfo",
    "Model",
    "Preconditioning",
    "TrainingError",
    "add_lora",
    "draw_sigma",
    "find_model",
    "guidance",
    "karras_sigmas",
    "load_finetune",
    "load_generate",
    "load_lora",
    "load_model",
    "loss_per_clip",
    "merge_lora",
    "parse_finetune",
    "parse_generate",
    "read_settings",
    "resolve",
    "save_diffusers",
    "save_lora",
    "save_single_file",
    "time_ids",
    "validation_losses",
    "write_clip",
    "write_frames",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
