"""Which weights of SVD's UNet learn, and low-rank adapters (arXiv 2106.09685): added, saved, loaded, stacked, merged.

    y = W x + scale * alpha / rank * B (A x),   A normal-ish (Kaiming), B zero at first

    temporal_attention   query, key, value and out of both attentions of the temporal blocks; 3,319,808 parameters at rank 16
    attention            those of the spatial blocks as well
    patterns             regular expressions, each found somewhere in the name of a linear or convolution layer

A file holds `LAYER.lora_A.weight`, `LAYER.lora_B.weight` in float32 and in its metadata rank, alpha and targets, and a probe of the base:
a few weights, compared to within the rounding of bfloat16, so that the same model is recognised in another dtype or file layout and another
model is not. In the layout `original` the layers have the names of the single file and each an `.alpha`, which is what ComfyUI reads.
"""

import json
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from curate.errors import ConfigError
from curate.models import WrongWeightsError
from curate.svd import keys
from curate.svd.fitting import compare, header, named, opened

Targets = str | Sequence[str]
Mode = Literal["full", "temporal", "lora"]
Layout = Literal["peft", "original"]
_ATTENTION = r"transformer_blocks\.\d+\.attn[12]\.(to_q|to_k|to_v|to_out\.0)$"
PATTERNS = {"temporal_attention": (rf"temporal_{_ATTENTION}",), "attention": (_ATTENTION,)}
# diffusers' names for what SVD adds to the image model: 656,076,838 of 1,524,623,082 parameters.
TEMPORAL = re.compile(r"temporal_transformer_blocks|temporal_res_block|time_pos_embed|time_mixer")
_METADATA = "svd_lora"  # JSON: rank, alpha, targets, base, base_probe
_ORIGINAL = "diffusion_model."  # ComfyUI's name for keys.UNET
PROBE_VALUES = 4  # of each probed tensor
PROBE_TOLERANCE = 2.0**-7  # two roundings to bfloat16's 8 bits


@dataclass(frozen=True, slots=True)
class LoraInfo:
    """What a file says of itself; `base` is a name for people, `probe` what is compared (None in files of other tools)."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    base: str
    probe: Mapping[str, list[float]] | None


def trainable(unet: nn.Module, mode: Mode) -> list[tuple[str, nn.Parameter]]:
    """Sets `requires_grad` on what learns and off on the rest; (name, parameter) of what learns.

    Raises `ConfigError` where there is nothing of the kind, as no LoRA before `add_lora`.
    """
    if mode not in ("full", "temporal", "lora"):
        raise ConfigError(f"mode={mode!r} is unknown; it is full, temporal or lora")
    learning = []
    for name, parameter in unet.named_parameters():
        is_lora = ".lora_" in name
        learns = is_lora if mode == "lora" else not is_lora and (mode == "full" or TEMPORAL.search(name) is not None)
        parameter.requires_grad_(learns)
        if learns:
            learning.append((name, parameter))
    if not learning:
        raise ConfigError(f"mode={mode!r}: the UNet has no such parameters" + ("; add_lora comes first" if mode == "lora" else ""))
    return learning


def target_layers(unet: nn.Module, targets: Targets) -> list[str]:
    """Names of the layers that the targets mean. Raises `ConfigError` for a pattern that finds none."""
    patterns = PATTERNS.get(targets, (targets,)) if isinstance(targets, str) else tuple(targets)
    layers = [name.replace(".base_layer", "") for name, module in unet.named_modules() if _takes_lora(name, module)]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        try:
            found = [name for name in layers if re.search(pattern, name)]
        except re.error as error:
            raise ConfigError(f"lora targets: {pattern!r} is no regular expression: {error}") from error
        if not found:
            raise ConfigError(f"lora targets: {pattern!r} finds no layer; {', '.join(PATTERNS)}, or a part of names such as {layers[0]}")
        chosen.update(dict.fromkeys(found))
    return [name for name in layers if name in chosen]


def _takes_lora(name: str, module: nn.Module) -> bool:
    return ".lora_" not in name and isinstance(module, (nn.Linear, nn.Conv2d, nn.Conv3d))


def add_lora(
    unet: nn.Module,
    rank: int = 16,
    alpha: float | None = None,
    targets: Targets = "temporal_attention",
    generator: torch.Generator | None = None,
    adapter: str = "default",
) -> list[str]:
    """Puts adapters of float32 that change nothing yet into the UNet, freezes the rest, and returns the layers' names.

    `alpha` None is the rank, so that the factor is 1. A is drawn from `generator` (None: seed 0). Raises `ConfigError`.
    """
    if rank < 1:
        raise ConfigError(f"lora rank={rank} must be at least 1")
    if adapter in adapters(unet):
        raise ConfigError(f"the UNet has a LoRA {adapter!r} already")
    layers = target_layers(unet, targets)
    _inject(unet, layers, rank, float(rank if alpha is None else alpha), adapter)
    generator = generator or torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in layers:
            down, up = _pair(unet.get_submodule(name), adapter)
            if not down.weight.is_meta:
                drawn = nn.init.kaiming_uniform_(torch.empty(down.weight.shape, device=generator.device), a=5**0.5, generator=generator)
                down.weight.copy_(drawn)
                up.weight.zero_()
    trainable(unet, "lora")
    return layers


def _inject(unet: nn.Module, layers: Sequence[str], rank: int, alpha: float, adapter: str) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(layers), lora_dropout=0.0, bias="none")  # type: ignore[arg-type]
    # peft draws its own start from the global generator, and warns about a second adapter, which is meant.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        inject_adapter_in_model(config, unet, adapter_name=adapter)
    for name in layers:
        for layer in _pair(unet.get_submodule(name), adapter):
            layer.float()


def _pair(layer: Any, adapter: str) -> tuple[Any, Any]:
    return layer.lora_A[adapter], layer.lora_B[adapter]


def _lora_layers(unet: nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    yield from ((name, module) for name, module in unet.named_modules() if isinstance(module, LoraLayer))


def adapters(unet: nn.Module) -> list[str]:
    """Names of the adapters in the UNet, sorted."""
    return sorted({adapter for _, layer in _lora_layers(unet) for adapter in layer.lora_A})


def lora_state(unet: nn.Module, adapter: str = "default") -> dict[str, torch.Tensor]:
    """`LAYER.lora_A.weight` and `LAYER.lora_B.weight` -> float32 on the CPU, copied. Raises `ValueError` where there is no such adapter."""
    state = {}
    for name, layer in _lora_layers(unet):
        if adapter in layer.lora_A:
            for letter, part in zip("AB", _pair(layer, adapter), strict=True):
                state[f"{name}.lora_{letter}.weight"] = part.weight.detach().float().cpu().clone()
    if not state:
        raise ValueError(f"the UNet has no LoRA {adapter!r}; it has {adapters(unet) or 'none'}")
    return state


def save_lora(
    path: Path,
    unet: nn.Module,
    *,
    base: str = "",
    targets: Targets = (),
    adapter: str = "default",
    layout: Layout = "peft",
    state: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """Writes an adapter, whole or not at all, over what was there.

    `base` and `targets` are noted for people. `state`, in the form of `lora_state`, is written in place of the UNet's own.
    """
    from safetensors.torch import save_file

    tensors = dict(state) if state is not None else lora_state(unet, adapter)
    rank, alpha = _rank_alpha(unet, adapter)
    said = {
        "rank": rank,
        "alpha": alpha,
        "targets": [targets] if isinstance(targets, str) else list(targets),
        "base": base,
        "base_probe": base_probe(unet),
    }
    if layout == "original":
        names = _original_names(unet)
        tensors = {_renamed(name, names): tensor for name, tensor in tensors.items()}
        tensors |= {name.replace(".lora_A.weight", ".alpha"): torch.tensor(alpha) for name in list(tensors) if ".lora_A." in name}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
        part = Path(folder) / "part"
        save_file(tensors, part, metadata={_METADATA: json.dumps(said)})  # one entry: safetensors writes several in any order
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    return path


def _rank_alpha(unet: nn.Module, adapter: str) -> tuple[int, float]:
    found = {(layer.r[adapter], float(layer.lora_alpha[adapter])) for _, layer in _lora_layers(unet) if adapter in layer.r}
    if len(found) != 1:
        raise ValueError(f"LoRA {adapter!r} has ranks and alphas {sorted(found)}; one file holds one of each")
    return found.pop()


def _original_names(unet: Any) -> dict[str, str]:
    """Layer -> layer in ComfyUI's form of the original naming."""
    weights = [name for name in _base_state(unet) if name.endswith(".weight")]
    return {
        entry.names[0].removesuffix(".weight"): _ORIGINAL + entry.original.removeprefix(keys.UNET).removesuffix(".weight")
        for entry in keys.entries("unet", weights, dict(unet.config))
    }


def _renamed(name: str, names: Mapping[str, str]) -> str:
    layer, _, rest = name.partition(".lora_")
    return f"{names[layer]}.lora_{rest}"


def _base_state(unet: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict as it is without adapters."""
    return {name.replace(".base_layer.", "."): tensor for name, tensor in unet.state_dict().items() if ".lora_" not in name}


def base_probe(unet: nn.Module) -> dict[str, list[float]]:
    """Weight -> a few evenly spread values of it, for some of each kind of layer; adapters are not seen."""
    probe = {}
    for name, tensor in _base_state(unet).items():
        if tensor.ndim >= 2 and re.search(r"(attn[12]\.to_q|ff\.net\.2|conv1)\.weight$", name):
            flat = tensor.detach().flatten()
            places = torch.linspace(0, flat.numel() - 1, PROBE_VALUES + 2, device=flat.device).long()[1:-1]
            probe[name] = [float(value) for value in flat[places].float().cpu()]
    return probe


def _check_base(unet: nn.Module, info: LoraInfo, path: Path) -> None:
    if info.probe is None:
        return
    here = base_probe(unet)
    if set(here) != set(info.probe):
        odd = sorted(set(here) ^ set(info.probe))
        raise WrongWeightsError(f"{path} is a LoRA for another network (its base: {info.base or 'unnamed'}): they differ in {named(odd)}")
    mine, theirs = (np.array([values[name] for name in sorted(here)]) for values in (here, info.probe))
    off = np.abs(mine - theirs) > PROBE_TOLERANCE * np.abs(theirs) + 1e-7
    if off.any():
        raise WrongWeightsError(
            f"{path} was trained on other weights (its base: {info.base or 'unnamed'}): {off.mean():.0%} of the values compared differ. "
            "Load that base, or pass any_base=True to apply it all the same"
        )


def read_lora(path: Path) -> tuple[dict[str, torch.Tensor], LoraInfo]:
    """(tensors under the names in the file, what it says of itself). Raises `WrongWeightsError`."""
    if not path.is_file():
        raise WrongWeightsError(f"there is no LoRA {path}")
    with opened(path) as file:
        said = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
        tensors = {name: file.get_tensor(name) for name in header(file)}
    alphas = [float(tensors.pop(name)) for name in list(tensors) if name.endswith(".alpha")]
    strange = [name for name in tensors if not re.fullmatch(r".+\.lora_[AB]\.weight", name)]
    if strange or not tensors:
        held = named(sorted(strange)) or "nothing"
        raise WrongWeightsError(f"{path} is no LoRA of LAYER.lora_A.weight and LAYER.lora_B.weight: it has {held}")
    ranks = {tensor.shape[0] for name, tensor in tensors.items() if name.endswith(".lora_A.weight")}
    values = set(alphas)
    if len(ranks) != 1 or len(values) > 1:
        raise WrongWeightsError(f"{path} mixes ranks {sorted(ranks)} or alphas {sorted(values)}; one of each is read")
    rank = ranks.pop()
    alpha = float(said.get("alpha", values.pop() if values else rank))
    return tensors, LoraInfo(rank, alpha, tuple(said.get("targets", ())), said.get("base", ""), said.get("base_probe"))


def load_lora(unet: nn.Module, path: Path, scale: float = 1.0, *, adapter: str | None = None, any_base: bool = False) -> LoraInfo:
    """Adds a saved adapter, frozen, to those that are there; all of them act, each with its own scale.

    `adapter` None takes a free name. Both layouts are read, and names that begin with `unet.`; a file without alpha has alpha = rank.
    Raises `WrongWeightsError` where the layers, their shapes, or (unless `any_base`) the base do not fit; the UNet is then unchanged.
    """
    tensors, info = read_lora(path)
    back = {original: layer for layer, original in _original_names(unet).items()} if any(n.startswith(_ORIGINAL) for n in tensors) else {}
    state = {_layer_name(name, back): tensor for name, tensor in tensors.items()}
    layers = list(dict.fromkeys(name.partition(".lora_")[0] for name in state))
    _check_shapes(unet, layers, state, info.rank, path)
    if not any_base:
        _check_base(unet, info, path)
    there = adapters(unet)
    name = adapter or next(name for name in ("default", *(f"lora_{n}" for n in range(1, len(there) + 2))) if name not in there)
    if name in there:
        raise ValueError(f"the UNet has a LoRA {name!r} already; give another name, or merge_lora first")
    _inject(unet, layers, info.rank, info.alpha, name)
    with torch.no_grad():
        for layer in layers:
            module: Any = unet.get_submodule(layer)
            for letter, part in zip("AB", _pair(module, name), strict=True):
                part.weight.copy_(state[f"{layer}.lora_{letter}.weight"])
            module.set_scale(name, scale)
    for _, module in _lora_layers(unet):
        module.set_adapter(list(module.lora_A))
    unet.requires_grad_(False)
    return info


def _layer_name(name: str, back: Mapping[str, str]) -> str:
    layer, _, rest = name.partition(".lora_")
    layer = layer.removeprefix("base_model.model.").removeprefix("unet.")
    return f"{back.get(layer, layer)}.lora_{rest}"


def _check_shapes(unet: nn.Module, layers: Sequence[str], state: Mapping[str, torch.Tensor], rank: int, path: Path) -> None:
    expected = {}
    known = {name.replace(".base_layer", ""): module for name, module in unet.named_modules() if _takes_lora(name, module)}
    for layer in layers:
        if layer in known:
            weight: Any = known[layer].weight
            is_conv = weight.ndim > 2
            expected[f"{layer}.lora_A.weight"] = (rank, *weight.shape[1:])
            expected[f"{layer}.lora_B.weight"] = (weight.shape[0], rank, *([1] * (weight.ndim - 2) if is_conv else []))
    compare({name: tuple(tensor.shape) for name, tensor in state.items()}, expected, f"LoRA {path}")


def merge_lora(unet: nn.Module) -> nn.Module:
    """Adds the active adapters to the weights and takes them out; the UNet is plain again. Raises `ValueError` where there are none."""
    found = list(_lora_layers(unet))
    if not found:
        raise ValueError("the UNet has no LoRA to merge")
    for name, layer in found:
        layer.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(unet.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(unet, "peft_config"):
        del unet.peft_config
    return unet
