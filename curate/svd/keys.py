"""Names and shapes of Stable Video Diffusion's tensors in its original single file, and in diffusers and transformers.

    model.diffusion_model.                            UNet      input_blocks, middle_block, output_blocks, `time_stack` for what is temporal
    conditioner.embedders.3.encoder.                  VAE       encoder and quant_conv, which see the conditioning frame
    first_stage_model.                                VAE       decoder; and an encoder without quant_conv (`folded_encoder`)
    conditioner.embedders.0.open_clip.model.visual.   CLIP      open_clip's vision tower: query, key and value in one, projection transposed

Blocks are counted straight through in the original: layer j of level i, with L layers a level, is input_blocks 1 + i (L + 1) + j, and
downsampling the last of a level; the decoder of the VAE counts its levels from the output. Nothing here depends on the size: names follow
from the state dict and the configuration, the configuration from names and shapes. Sources: Stability-AI/generative-models (video_model.py,
temporal_ae.py, video_attention.py), mlfoundations/open_clip (transformer.py), and the keys that ComfyUI lists as left over from SVD's file.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from curate.svd.fitting import Shape

UNET, FIRST_STAGE, COND_VAE = "model.diffusion_model.", "first_stage_model.", "conditioner.embedders.3.encoder."
CLIP = "conditioner.embedders.0.open_clip.model.visual."
PREFIXES = {"unet": (UNET,), "vae": (FIRST_STAGE, COND_VAE), "image_encoder": (CLIP,)}
# What Stability's files hold besides and nothing at work reads: the rest of open_clip without its transformer, and the conditioning VAE's
# own decoder of pictures.
UNUSED = re.compile(
    r"conditioner\.embedders\.0\.open_clip\.model\.(logit_scale|positional_embedding|text_projection|token_embedding\.weight|ln_final\.\w+)"
    r"|conditioner\.embedders\.3\.encoder\.(decoder\..+|post_quant_conv\.\w+)"
)
_CONV1X1 = re.compile(r"mid\.attn_1\.(q|k|v|proj_out)\.weight$")
How = Literal["same", "transposed", "stacked", "conv1x1"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the original file, and the tensor or tensors that it is in diffusers.

    same: equal; transposed: (a, b) is (b, a); stacked: several on top of each other; conv1x1: (a, b) is (a, b, 1, 1).
    """

    original: str
    names: tuple[str, ...]
    how: How = "same"

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Of the original, from the shapes of the others."""
        first = shapes[self.names[0]]
        if self.how == "transposed":
            return first[::-1]
        if self.how == "conv1x1":
            return (*first, 1, 1)
        return (sum(shapes[name][0] for name in self.names), *first[1:])

    def to_original(self, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
        first = state[self.names[0]]
        if self.how == "transposed":
            return first.T.contiguous()
        if self.how == "conv1x1":
            return first[:, :, None, None]
        return torch.cat([state[name] for name in self.names]) if self.how == "stacked" else first

    def from_original(self, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        """Inverse of `to_original`; stacked parts are of equal height."""
        if self.how == "stacked":
            return {name: part.clone() for name, part in zip(self.names, tensor.chunk(len(self.names)), strict=True)}
        if self.how == "transposed":
            return {self.names[0]: tensor.T.contiguous()}
        return {self.names[0]: tensor[:, :, 0, 0].contiguous() if self.how == "conv1x1" else tensor}


def entries(part: str, names: Iterable[str], config: Mapping[str, Any]) -> list[Entry]:
    """Where each tensor of a part goes; `names` are its state dict's, `config` its configuration in diffusers. Raises `ValueError`."""
    if part == "image_encoder":
        return _clip_entries(list(names))
    translate: Callable[[str], str | None] = _unet_names(config) if part == "unet" else _vae_names(config)
    found = []
    for name in names:
        original = translate(name)
        if original is None:
            raise ValueError(f"{part} has a tensor {name!r}, for which the original naming has no place")
        found.append(Entry(original, (name,), "conv1x1" if _CONV1X1.search(original) else "same"))
    return found


def folded_encoder(vae: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The encoder of `first_stage_model`, from a VAE's state dict in diffusers.

    It has no quant_conv, so that 1x1 convolution is multiplied into the 3x3 one before it (in float64); its moments are the same.
    """
    encoder = [entry for entry in entries("vae", vae, config) if entry.original.startswith(COND_VAE + "encoder.")]
    state = {FIRST_STAGE + entry.original.removeprefix(COND_VAE): entry.to_original(vae).clone() for entry in encoder}
    mix, offset = vae["quant_conv.weight"][:, :, 0, 0].double(), vae["quant_conv.bias"].double()
    weight, bias = vae["encoder.conv_out.weight"], vae["encoder.conv_out.bias"]
    state[FIRST_STAGE + "encoder.conv_out.weight"] = torch.einsum("ab,bchw->achw", mix, weight.double()).to(weight.dtype)
    state[FIRST_STAGE + "encoder.conv_out.bias"] = (mix @ bias.double() + offset).to(bias.dtype)
    return state


def has_cond_vae(names: Collection[str]) -> bool:
    """Whether a file has the encoder that sees the conditioning frame."""
    return COND_VAE + "encoder.conv_in.weight" in names


def without_cond_vae(found: list[Entry]) -> tuple[list[Entry], tuple[str, ...]]:
    """The VAE's entries for a file that has no VAE among its conditioners (ComfyUI saves such), and the names left to fill.

    The encoder of `first_stage_model` serves, and quant_conv, already inside it, becomes the identity.
    """
    quant = tuple(name for entry in found for name in entry.names if name.startswith("quant_conv."))
    kept = [entry for entry in found if entry.names[0] not in quant]
    return [Entry(entry.original.replace(COND_VAE, FIRST_STAGE), entry.names, entry.how) for entry in kept], quant


# ---- UNet

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
}
_UNET_RESNET = {f"spatial_res_block.{new}": old for new, old in (_RESNET | {"conv_shortcut": "skip_connection"}).items()} | {
    f"temporal_res_block.{new}": f"time_stack.{old}" for new, old in _RESNET.items()
}
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_ATTENTION = {"time_pos_embed.linear_1": "time_pos_embed.0", "time_pos_embed.linear_2": "time_pos_embed.2"}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MID = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def _unet_names(config: Mapping[str, Any]) -> Callable[[str], str | None]:
    levels = len(config["block_out_channels"])
    per_level = config["layers_per_block"]
    layers = [per_level] * levels if isinstance(per_level, int) else list(per_level)
    attended_up = [kind.startswith("CrossAttn") for kind in config["up_block_types"]]
    down_start = [1 + sum(count + 1 for count in layers[:level]) for level in range(levels)]
    up_start = [sum(count + 1 for count in layers[::-1][:level]) for level in range(levels)]

    def inside(kind: str, rest: str) -> str | None:
        if kind == "resnets":
            return rest if rest == "time_mixer.mix_factor" else _swapped(rest, _UNET_RESNET)
        return _swapped(rest, _ATTENTION) or rest.replace("temporal_transformer_blocks.", "time_stack.")

    def translate(name: str) -> str | None:
        place: str | None
        if match := _BLOCK.fullmatch(name):
            side, level, kind, index, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
            if kind == "downsamplers":
                return f"{UNET}input_blocks.{down_start[level] + layers[level]}.0.op.{rest.removeprefix('conv.')}"
            if kind == "upsamplers":
                return f"{UNET}output_blocks.{up_start[level] + layers[::-1][level]}.{2 if attended_up[level] else 1}.{rest}"
            number = (down_start if side == "down" else up_start)[level] + index
            place = f"{'input' if side == 'down' else 'output'}_blocks.{number}.{0 if kind == 'resnets' else 1}"
        elif match := _MID.fullmatch(name):
            kind, rest = match[1], match[3]
            place = f"middle_block.{1 if kind == 'attentions' else 2 * int(match[2])}"
        else:
            end = _swapped(name, _UNET_ENDS)
            return None if end is None else UNET + end
        new = inside(kind, rest)
        return None if new is None else f"{UNET}{place}.{new}"

    return translate


def _swapped(name: str, table: Mapping[str, str]) -> str | None:
    """The name with what stands before its last word (`weight`, `bias`) looked up; None where the table has no such."""
    stem, _, last = name.rpartition(".")
    return f"{table[stem]}.{last}" if stem in table else None


# ---- VAE

_VAE_RESNET = {name: name for name in ("norm1", "conv1", "norm2", "conv2")} | {"conv_shortcut": "nin_shortcut"}
_VAE_TEMPORAL = {f"spatial_res_block.{new}": old for new, old in _VAE_RESNET.items()} | {
    f"temporal_res_block.{new}": f"time_stack.{_RESNET[new]}" for new in ("norm1", "conv1", "norm2", "conv2")
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_VAE_ENDS = {"conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out", "time_conv_out": "conv_out.time_mix_conv"}


def _vae_names(config: Mapping[str, Any]) -> Callable[[str], str | None]:
    levels = len(config["block_out_channels"])

    def inside(kind: str, rest: str, is_decoder: bool) -> str | None:
        if kind == "attentions":
            return _swapped(rest, _VAE_ATTENTION)
        if rest == "time_mixer.mix_factor":
            return "mix_factor"
        return _swapped(rest, _VAE_TEMPORAL if is_decoder else _VAE_RESNET)

    def translate(name: str) -> str | None:
        if name.startswith("quant_conv."):
            return COND_VAE + name
        side, _, inner = name.partition(".")
        is_decoder = side == "decoder"
        prefix = f"{FIRST_STAGE if is_decoder else COND_VAE}{side}."
        if match := _BLOCK.fullmatch(inner):
            level, kind, rest = int(match[2]), match[3], match[5]
            place = f"up.{levels - 1 - level}" if is_decoder else f"down.{level}"
            if kind in ("downsamplers", "upsamplers"):
                return f"{prefix}{place}.{kind.removesuffix('rs')[:-1]}e.{rest}"
            new = inside(kind, rest, is_decoder)
            return None if new is None else f"{prefix}{place}.block.{match[4]}.{new}"
        if match := _MID.fullmatch(inner):
            kind, index = match[1], int(match[2])
            new = inside(kind, match[3], is_decoder)
            place = "attn_1" if kind == "attentions" else f"block_{index + 1}"
            return None if new is None else f"{prefix}mid.{place}.{new}"
        end = _swapped(inner, _VAE_ENDS)
        return None if end is None else prefix + end

    return translate


# ---- image encoder

_CLIP_ENDS = {
    "vision_model.embeddings.class_embedding": "class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.pre_layrnorm.weight": "ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "ln_pre.bias",
    "vision_model.post_layernorm.weight": "ln_post.weight",
    "vision_model.post_layernorm.bias": "ln_post.bias",
}
_CLIP_LAYER = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_CLIP_BLOCK = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.(.+)")


def _clip_entries(names: list[str]) -> list[Entry]:
    found = []
    for name in names:
        if name == "visual_projection.weight":
            found.append(Entry(CLIP + "proj", (name,), "transposed"))
        elif name in _CLIP_ENDS:
            found.append(Entry(CLIP + _CLIP_ENDS[name], (name,)))
        elif (match := _CLIP_BLOCK.fullmatch(name)) and (new := _swapped(match[2], _CLIP_LAYER)):
            found.append(Entry(f"{CLIP}transformer.resblocks.{match[1]}.{new}", (name,)))
        elif match and (kind := re.fullmatch(r"self_attn\.q_proj\.(weight|bias)", match[2])):
            stem = f"vision_model.encoder.layers.{match[1]}.self_attn"
            whole = tuple(f"{stem}.{letter}_proj.{kind[1]}" for letter in "qkv")
            found.append(Entry(f"{CLIP}transformer.resblocks.{match[1]}.attn.in_proj_{kind[1]}", whole, "stacked"))
        elif not (match and re.fullmatch(r"self_attn\.[kv]_proj\.(weight|bias)", match[2])):
            raise ValueError(f"the image encoder has a tensor {name!r}, for which the original naming has no place")
    return found


# ---- configurations, from the shapes that an original file has

UNET_HEAD_WIDTH, CLIP_HEAD_WIDTHS, CLIP_HEAD_WIDTH = 64, {1280: 80}, 64  # svd.yaml; open_clip's ViT-H-14, and its default


def configs(shapes: Mapping[str, Shape], parts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Part -> what diffusers' (transformers') configuration says, as far as names and shapes tell; the rest as Stability publishes it.

    Shapes do not tell how many heads attention has (64 channels a head, 80 in CLIP of 1280), the number of frames, and the scaling factor.
    Raises `KeyError` with the name of a tensor that is not there.
    """
    readers = {"unet": _unet_config, "vae": _vae_config, "image_encoder": _clip_config}
    return {part: readers[part](shapes) for part in parts}


def _unet_config(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    channels, counts, attended, depths = [0], [0], [False], [1]
    for block in range(1, _count(shapes, UNET + "input_blocks.{}.")):
        stem = f"{UNET}input_blocks.{block}"
        if f"{stem}.0.op.weight" in shapes:
            channels, counts, attended, depths = [*channels, 0], [*counts, 0], [*attended, False], [*depths, 1]
            continue
        channels[-1], counts[-1] = shapes[f"{stem}.0.out_layers.3.weight"][0], counts[-1] + 1
        if f"{stem}.1.norm.weight" in shapes:
            attended[-1], depths[-1] = True, _count(shapes, stem + ".1.transformer_blocks.{}.")
    depths[-1] = _count(shapes, UNET + "middle_block.1.transformer_blocks.{}.")  # the middle is as deep as the last level, in diffusers
    label = shapes[UNET + "label_emb.0.0.weight"][1]
    return {
        "in_channels": shapes[UNET + "input_blocks.0.0.weight"][1],
        "out_channels": shapes[UNET + "out.2.weight"][0],
        "down_block_types": tuple("CrossAttnDownBlockSpatioTemporal" if is_ else "DownBlockSpatioTemporal" for is_ in attended),
        "up_block_types": tuple("CrossAttnUpBlockSpatioTemporal" if is_ else "UpBlockSpatioTemporal" for is_ in attended[::-1]),
        "block_out_channels": tuple(channels),
        "layers_per_block": _one(counts),
        "transformer_layers_per_block": _one(depths),
        "cross_attention_dim": shapes[UNET + "middle_block.1.transformer_blocks.0.attn2.to_k.weight"][1],
        "addition_time_embed_dim": label // 3,
        "projection_class_embeddings_input_dim": label,
        "num_attention_heads": tuple(max(1, count // UNET_HEAD_WIDTH) for count in channels),
        "num_frames": 14,
    }


def _vae_config(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    side = COND_VAE if has_cond_vae(shapes) else FIRST_STAGE
    levels = _count(shapes, side + "encoder.down.{}.")
    return {
        "in_channels": shapes[side + "encoder.conv_in.weight"][1],
        "out_channels": shapes[FIRST_STAGE + "decoder.conv_out.weight"][0],
        "latent_channels": shapes[FIRST_STAGE + "decoder.conv_in.weight"][1],
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "block_out_channels": tuple(shapes[f"{side}encoder.down.{level}.block.0.conv2.weight"][0] for level in range(levels)),
        "layers_per_block": _count(shapes, side + "encoder.down.0.block.{}."),
        "scaling_factor": 0.18215,
        "force_upcast": True,
    }


def _clip_config(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    width, _, patch, _ = shapes[CLIP + "conv1.weight"]
    return {
        "hidden_size": width,
        "intermediate_size": shapes[CLIP + "transformer.resblocks.0.mlp.c_fc.weight"][0],
        "num_hidden_layers": _count(shapes, CLIP + "transformer.resblocks.{}."),
        "num_attention_heads": max(1, width // CLIP_HEAD_WIDTHS.get(width, CLIP_HEAD_WIDTH)),
        "patch_size": patch,
        "image_size": patch * math.isqrt(shapes[CLIP + "positional_embedding"][0] - 1),
        "projection_dim": shapes[CLIP + "proj"][1],
        "hidden_act": "gelu",
    }


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    """How many numbers, from 0 on, give the start of a name."""
    number = 0
    while any(name.startswith(pattern.format(number)) for name in shapes):
        number += 1
    return number


def _one(values: list[int]) -> int | tuple[int, ...]:
    return values[0] if len(set(values)) == 1 else tuple(values)
