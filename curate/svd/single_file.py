"""Reading and writing Stable Video Diffusion as one `.safetensors` file under its original names (`keys`).

A single file says neither its frames nor its attention heads. Ours note both in the metadata; Stability's have 64 channels a head (80 in
CLIP), and 25 frames where the file's name has "xt" for a word, else 14.
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from curate.models import WrongWeightsError
from curate.svd import keys
from curate.svd.fitting import Shape, compare, dtype_of, empty_network, header, named, opened, shapes_of

_METADATA = "svd_config"  # part -> what shapes do not tell, as JSON
_NOTED = {
    "unet": ("num_frames", "num_attention_heads"),
    "vae": ("scaling_factor", "force_upcast"),
    "image_encoder": ("num_attention_heads", "hidden_act"),
}


def read(path: Path, parts: Sequence[str], dtype: torch.dtype, device: torch.device | str) -> dict[str, Any]:
    """Part -> network on the device. Raises `WrongWeightsError`, before weights are read, where tensors do not fit."""
    with opened(path) as file:
        found, metadata = header(file), file.metadata() or {}
        plans = {}
        for part, config in _configs(path, found, metadata, parts).items():
            network = empty_network(part, config, path)
            table = keys.entries(part, network.state_dict(), config)
            filled: tuple[str, ...] = ()
            if part == "vae" and not keys.has_cond_vae(found):
                table, filled = keys.without_cond_vae(table)
            plans[part] = (network, table, filled)
        _check_single(path, found, plans)
        for part, (network, table, filled) in plans.items():
            wanted = dtype_of(part, dict(network.config) if part == "vae" else {}, dtype)
            _fill(network, file.get_tensor, table, filled, wanted, device)
    return {part: network for part, (network, _, _) in plans.items()}


def num_frames(path: Path) -> int:
    """Frames that the file's UNet was trained on; reads its header alone. Raises `WrongWeightsError`."""
    with opened(path) as file:
        return int(_configs(path, header(file), file.metadata() or {}, ["unet"])["unet"]["num_frames"])


def _configs(path: Path, found: Mapping[str, Shape], metadata: Mapping[str, str], parts: Sequence[str]) -> dict[str, dict[str, Any]]:
    for part in parts:
        if not any(name.startswith(keys.PREFIXES[part]) for name in found):
            raise WrongWeightsError(
                f"{path} has no {part.replace('_', ' ')}: no tensor's name starts with {' or '.join(keys.PREFIXES[part])}, as in the "
                f"original naming of Stable Video Diffusion; it has {named(sorted(found), 3)}"
            )
    try:
        configs = keys.configs(found, parts)
        noted = json.loads(metadata.get(_METADATA, "{}"))
    except (KeyError, IndexError, ValueError) as error:
        raise WrongWeightsError(f"{path} is no Stable Video Diffusion in the original naming: it lacks {error}") from error
    if "unet" in configs:
        configs["unet"]["num_frames"] = 25 if "xt" in re.split(r"[^a-z0-9]+", path.stem.lower()) else 14
    for part, config in configs.items():
        config.update(noted.get(part, {}))
    return configs


def _check_single(path: Path, found: Mapping[str, Shape], plans: Mapping[str, tuple[Any, list[keys.Entry], tuple[str, ...]]]) -> None:
    expected: dict[str, Shape] = {}
    for network, table, _ in plans.values():
        shapes = shapes_of(network)
        expected.update({entry.original: entry.shape(shapes) for entry in table})
    prefixes = tuple(prefix for part in keys.PREFIXES if part not in plans for prefix in keys.PREFIXES[part])
    spare = keys.FIRST_STAGE + "encoder."  # the same encoder as the conditioner's, its quant_conv folded in
    ours = {
        name: shape
        for name, shape in found.items()
        if name in expected or not (keys.UNUSED.fullmatch(name) or name.startswith(prefixes) or name.startswith(spare))
    }
    compare(ours, expected, str(path))


def _fill(
    network: Any,
    tensor_of: Callable[[str], torch.Tensor],
    table: Sequence[keys.Entry],
    filled: Sequence[str],
    dtype: torch.dtype,
    device: torch.device | str,
) -> None:
    """Puts the tensors into a network that `empty_network` made; `filled` are quant_conv's, which get the identity."""
    shapes = shapes_of(network)
    state = {}
    for entry in table:
        state.update({name: tensor.to(device, dtype) for name, tensor in entry.from_original(tensor_of(entry.original)).items()})
    for name in filled:
        channels = shapes[name][0]
        identity = torch.eye(channels)[:, :, None, None] if name.endswith("weight") else torch.zeros(channels)
        state[name] = identity.to(device, dtype)
    network.load_state_dict(state, strict=True, assign=True)
    if hasattr(network, "vision_model"):  # a table of positions, no weight: the only buffer of the three networks
        embeddings = network.vision_model.embeddings
        embeddings.register_buffer("position_ids", torch.arange(embeddings.num_positions).expand((1, -1)), persistent=False)
    assert not any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))


def tensors_of(networks: Mapping[str, Any], dtype: torch.dtype | None) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """(name -> tensor on the CPU, metadata) of a file with these parts. `dtype` None keeps each tensor's."""
    state, noted = {}, {}
    for part, network in networks.items():
        config = network.config.to_dict() if part == "image_encoder" else dict(network.config)
        tensors = network.state_dict()
        state.update({entry.original: entry.to_original(tensors) for entry in keys.entries(part, tensors, config)})
        noted[part] = {key: config[key] for key in _NOTED[part]}
        if part == "vae":
            state.update(keys.folded_encoder(tensors, config))
    state = {name: tensor.detach().to("cpu", dtype or tensor.dtype).contiguous() for name, tensor in state.items()}
    return state, {_METADATA: json.dumps(noted)}  # one entry: safetensors writes several in any order


def write(path: Path, networks: Mapping[str, Any], dtype: torch.dtype | None) -> None:
    """Writes the file and has the disk hold it; not atomic by itself."""
    from safetensors.torch import save_file

    state, metadata = tensors_of(networks, dtype)
    save_file(state, path, metadata=metadata)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
