"""Whether a file's tensors fit a network of Stable Video Diffusion: names and shapes compared before a number is read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from curate.models import WrongWeightsError

Shape = tuple[int, ...]
MAX_NAMED = 8  # tensors an error names of each kind


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in a `config.json`. Raises `WrongWeightsError`."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise WrongWeightsError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise WrongWeightsError(f"{path} is no configuration of a model")
    return content


def network_class(part: str) -> Any:
    """The class in diffusers or transformers of `unet`, `vae` or `image_encoder`."""
    if part == "image_encoder":
        from transformers import CLIPVisionModelWithProjection

        return CLIPVisionModelWithProjection
    import diffusers

    return diffusers.UNetSpatioTemporalConditionModel if part == "unet" else diffusers.AutoencoderKLTemporalDecoder


def empty_network(part: str, config: Mapping[str, Any], where: Path) -> Any:
    """The network without memory for its weights (device `meta`). Raises `WrongWeightsError` naming `where` the configuration lies."""
    try:
        with torch.device("meta"):
            if part == "image_encoder":
                from transformers import CLIPVisionConfig

                return network_class(part)(CLIPVisionConfig.from_dict(dict(config)))
            return network_class(part).from_config(dict(config))
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise WrongWeightsError(f"{where} makes no {part}: {str(error).splitlines()[0]}") from error


def opened(path: Path) -> Any:
    """Safetensors' reader of a file, a context manager. Raises `WrongWeightsError` where it is cut short or something else."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise WrongWeightsError(f"{path} is no whole .safetensors file ({path.stat().st_size} bytes): {error}") from error


def header(file: Any) -> dict[str, Shape]:
    """Name -> shape of an opened file; reads no weight."""
    return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def shapes_of(network: Any) -> dict[str, Shape]:
    """Name -> shape of a network's state dict."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def compare(found: Mapping[str, Shape], expected: Mapping[str, Shape], where: str) -> None:
    """Raises `WrongWeightsError` naming what is missing, left over, or of another shape."""
    faults = []
    if missing := [f"{name} {shape}" for name, shape in expected.items() if name not in found]:
        faults.append(f"lacks {named(missing)}")
    if other := [f"{name} {found[name]}, expected {shape}" for name, shape in expected.items() if found.get(name, shape) != shape]:
        faults.append(f"has another shape for {named(other)}")
    if extra := [f"{name} {shape}" for name, shape in found.items() if name not in expected]:
        faults.append(f"has tensors that no part takes: {named(extra)}")
    if faults:
        raise WrongWeightsError(f"{where} does not fit: it " + "\n  and it ".join(faults))


def named(names: Sequence[str], limit: int = MAX_NAMED) -> str:
    """The first few of a list, for messages."""
    return "; ".join(names[:limit]) + (f"; and {len(names) - limit} more" if len(names) > limit else "")


def dtype_of(part: str, config: Mapping[str, Any], dtype: torch.dtype) -> torch.dtype:
    """`dtype`, but float32 for a VAE whose configuration says `force_upcast`."""
    return torch.float32 if part == "vae" and config.get("force_upcast", True) else dtype
