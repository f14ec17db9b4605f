"""The two encoders of Stable Video Diffusion: pictures in, latents or an embedding out, as diffusers' pipeline for it makes them.

    svd_vae             list of (H, W, 3), uint8 0..255 or float32 -1..1   ->  float32 (N, 4, H/8, W/8)
    svd_image_encoder   list of uint8 (H, W, 3)                            ->  float32 (N, D), D = 1024

Latents are the VAE's mean, not a sample, and not multiplied by `scaling_factor` (0.18215): so the conditioning frame enters the model, and
what is denoised is the same number times the factor. H and W are multiples of 8.

The image encoder (OpenCLIP ViT-H/14) sees the clean picture in -1..1, squeezed to its size (224 x 224) whatever its aspect: a Gaussian of
sigma = (factor - 1) / 2 per side against aliasing, then bicubic with aligned corners; then 0..1, CLIP's mean and deviation.

A model is a folder in the layout of diffusers (`vae/`, `image_encoder/`, each with `config.json` and `.safetensors`), or a hub id such as
`stabilityai/stable-video-diffusion-img2vid`, looked for below the weights folders and in the hub's cache. On a GPU the image encoder runs
in float16 and the VAE too, unless its configuration says `force_upcast`, as SVD's does; on the CPU both run in float32 on one thread.
"""

import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.errors import MissingWeightsError
from curate.models import ModelSpec, Weight, WrongWeightsError
from curate.models.clip import one_thread
from curate.models.origins import from_hub

if TYPE_CHECKING:
    import torch

VAE_KIND, IMAGE_KIND = "svd_vae", "svd_image_encoder"
VAE_CHUNK = 4  # pictures at a time: 8 GiB in float32 at 1024x576 on a GPU; 7 take 13 GiB and 7 % less time (H200)
IMAGE_CHUNK = 16
# Names a file may have, the best first.
VAE_FILES = ("vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors")
IMAGE_FILES = ("image_encoder/model.safetensors", "image_encoder/model.fp16.safetensors")
VAE_CONFIG, IMAGE_CONFIG = "vae/config.json", "image_encoder/config.json"
# openai/CLIP, clip/clip.py; the feature extractor that SVD is published with has the same numbers.
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, slots=True)
class HubFolder:
    """Files of a repository of the Hugging Face hub; `files` are tried in order."""

    repository: str
    files: tuple[str, ...]

    @property
    def install(self) -> str:
        """The command that gets both encoders, and what has to be agreed to before."""
        wanted = "--include 'vae/*' --include 'image_encoder/*'"
        return (
            f"hf download {self.repository} {wanted} --local-dir WEIGHTS_FOLDER/{self.repository} "
            f"(where the hub refuses: agree to the licence at https://huggingface.co/{self.repository}, then hf auth login)"
        )

    def describe(self) -> str:
        return f"Hugging Face hub, repository {self.repository}, {self.files[0]}"

    def find(self) -> tuple[Path | None, list[str]]:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.constants import HF_HUB_CACHE

        for file in self.files:
            cached = try_to_load_from_cache(self.repository, file)
            if isinstance(cached, str):
                return Path(cached), []
        return None, [f"Hugging Face cache {HF_HUB_CACHE}, repository {self.repository}, {self.files[0]}"]

    def fetch(self, target: Path) -> Path:
        faults = []
        for file in self.files:
            try:
                return from_hub(self.repository, file, target.with_name(Path(file).name))
            except MissingWeightsError as error:
                faults.append(str(error))
        raise MissingWeightsError("; ".join(faults))


@dataclass(frozen=True, slots=True)
class EncoderWeights:
    """The files of both encoders of one model."""

    vae_config: Weight
    vae: Weight
    image_config: Weight
    image: Weight

    def __iter__(self) -> Iterator[Weight]:
        return iter((self.vae_config, self.vae, self.image_config, self.image))


def encoder_weights(model: str) -> EncoderWeights:
    """What `model`, a folder in the layout of diffusers or a hub id, needs to encode; nothing is looked up yet."""
    folder = Path(model).expanduser()
    is_folder = folder.is_dir() or not _HUB_ID.fullmatch(model)
    name = folder.absolute().name if is_folder else model

    def weight(files: Sequence[str], what: str) -> Weight:
        if is_folder:
            places, origin = tuple(str(folder.absolute() / file) for file in files), None
        else:
            places, origin = tuple(f"{model}/{file}" for file in files), HubFolder(model, tuple(files))
        return Weight(
            f"svd/{name}/{files[0].rpartition('.')[0]}", places, what, "yours" if is_folder else "see its model card", origin=origin
        )

    return EncoderWeights(
        weight((VAE_CONFIG,), "configuration of SVD's VAE"),
        weight(VAE_FILES, "SVD's VAE"),
        weight((IMAGE_CONFIG,), "configuration of SVD's image encoder"),
        weight(IMAGE_FILES, "SVD's image encoder"),
    )


def vae_spec(config: Path, weights: Path, chunk: int = VAE_CHUNK) -> ModelSpec:
    """The spec of a VAE encoder that takes `chunk` pictures at a time."""
    return ModelSpec(VAE_KIND, (str(config), str(weights)), (("chunk", chunk),))


def image_spec(config: Path, weights: Path) -> ModelSpec:
    """The spec of an image encoder."""
    return ModelSpec(IMAGE_KIND, (str(config), str(weights)))


def scaling_factor(config: Path) -> float:
    """What latents are multiplied by before they are noised, from the VAE's configuration. Raises `WrongWeightsError`."""
    content = _config(config)
    if not isinstance(content.get("scaling_factor"), (int, float)):
        raise WrongWeightsError(f"{config} is no configuration of a VAE: it has no scaling_factor")
    return float(content["scaling_factor"])


def _config(path: str | Path) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise WrongWeightsError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise WrongWeightsError(f"{path} is no configuration of a model")
    return content


def vae_forward(spec: ModelSpec) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """Builds the VAE's encoder; see the module's text for what goes in and out."""
    import torch

    needs_float32 = spec.device == "cpu" or _config(spec.paths[0]).get("force_upcast", True)
    vae = load_vae(spec.paths, torch.float32 if needs_float32 else torch.float16)
    vae.decoder = torch.nn.Identity()  # two thirds of the weights, never used here
    vae = vae.to(spec.device).eval()
    chunk = spec["chunk"]

    def forward(pictures: Sequence[np.ndarray]) -> np.ndarray:
        parts = [pictures[start : start + chunk] for start in range(0, len(pictures), chunk)]
        with torch.inference_mode(), one_thread():
            means = [vae.encode(_signed(part).to(vae.device, vae.dtype)).latent_dist.mode().float().cpu().numpy() for part in parts]
        return np.ascontiguousarray(np.concatenate(means)) if means else np.empty((0, vae.config.latent_channels, 0, 0), np.float32)

    return forward


def image_forward(spec: ModelSpec) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """Builds the image encoder; see the module's text for what goes in and out."""
    import torch

    dtype = torch.float32 if spec.device == "cpu" else torch.float16
    encoder = load_image_encoder(spec.paths, dtype).to(spec.device).eval()
    side, width = encoder.config.image_size, encoder.config.projection_dim

    def forward(pictures: Sequence[np.ndarray]) -> np.ndarray:
        rows = []
        with torch.inference_mode(), one_thread():
            for start in range(0, len(pictures), IMAGE_CHUNK):
                inputs = torch.cat([clip_input(_signed([picture]), side) for picture in pictures[start : start + IMAGE_CHUNK]])
                rows.append(encoder(inputs.to(encoder.device, encoder.dtype)).image_embeds.float().cpu().numpy())
        return np.concatenate(rows) if rows else np.empty((0, width), np.float32)

    return forward


def load_vae(paths: Sequence[str], dtype: "torch.dtype") -> Any:
    """`diffusers.AutoencoderKLTemporalDecoder` from (config, weights). Raises `WrongWeightsError` where keys do not fit."""
    from diffusers import AutoencoderKLTemporalDecoder

    return loaded(AutoencoderKLTemporalDecoder, paths, dtype)


def load_image_encoder(paths: Sequence[str], dtype: "torch.dtype") -> Any:
    """`transformers.CLIPVisionModelWithProjection` from (config, weights). Raises `WrongWeightsError` as `load_vae` does."""
    from transformers import CLIPVisionModelWithProjection

    return loaded(CLIPVisionModelWithProjection, paths, dtype)


def loaded(kind: Any, paths: Sequence[str], dtype: "torch.dtype") -> Any:
    """What a file lacks `from_pretrained` fills with random numbers and only warns, so its report is looked at."""
    config, weights = (Path(path) for path in paths)
    if config.parent != weights.parent:
        raise WrongWeightsError(f"{config} and {weights} lie in two folders; a model's configuration belongs beside its weights")
    try:
        model, report = kind.from_pretrained(
            str(weights.parent),
            torch_dtype=dtype,
            variant="fp16" if ".fp16." in weights.name else None,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise WrongWeightsError(f"{weights} does not fit {kind.__name__} of {config}: {str(error).strip().splitlines()[0]}") from error
    # Files written by transformers before 4.31 hold a table of positions, which is no weight.
    extra = [key for key in report["unexpected_keys"] if not key.endswith("position_ids")]
    for what, keys in (("lacks", report["missing_keys"]), ("has too much", extra), ("has another shape for", report["mismatched_keys"])):
        if keys:
            raise WrongWeightsError(f"{weights} does not fit {kind.__name__} of {config}: it {what} {_some(keys)}")
    return model


def _some(keys: Any) -> str:
    names = sorted(str(key) for key in keys)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def clip_input(image_NCHW: "torch.Tensor", side: int) -> "torch.Tensor":
    """What the image encoder sees of pictures in -1..1: float32 (N, 3, side, side), normalised with CLIP's mean and deviation."""
    import torch

    small = (_resize(image_NCHW, side) + 1) / 2
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (small - mean) / std


def _resize(image_NCHW: "torch.Tensor", side: int) -> "torch.Tensor":
    """To (side, side): blurred against aliasing along each axis, then bicubic with aligned corners."""
    import torch
    from torch.nn import functional

    for axis in (3, 2):
        taps = _gaussian(image_NCHW.shape[axis] / side)
        half, channels = len(taps) // 2, image_NCHW.shape[1]
        pad = (half, half, 0, 0) if axis == 3 else (0, 0, half, half)
        shape = (1, 1, 1, -1) if axis == 3 else (1, 1, -1, 1)
        kernel = torch.from_numpy(taps).view(shape).expand(channels, -1, -1, -1)
        image_NCHW = functional.conv2d(functional.pad(image_NCHW, pad, mode="reflect"), kernel, groups=channels)
    return functional.interpolate(image_NCHW, size=(side, side), mode="bicubic", align_corners=True)


@functools.lru_cache(maxsize=16)
def _gaussian(factor: float) -> np.ndarray:
    """float32: an odd number of taps, about four sigma, to shrink by `factor`; sigma (factor - 1) / 2 is scikit-image's."""
    sigma = max((factor - 1) / 2, 0.001)
    half = int(max(4 * sigma, 3)) // 2
    taps = np.exp(-(np.arange(-half, half + 1, dtype=np.float64) ** 2) / (2 * sigma**2))
    return (taps / taps.sum()).astype(np.float32)


def _signed(pictures: Sequence[np.ndarray]) -> "torch.Tensor":
    """float32 (N, 3, H, W) in -1..1; float pictures are there already."""
    import torch

    stack_NHWC = np.stack([picture.astype(np.float32) / 255 * 2 - 1 if picture.dtype == np.uint8 else picture for picture in pictures])
    return torch.from_numpy(np.ascontiguousarray(stack_NHWC.transpose(0, 3, 1, 2), np.float32))
