"""Where the networks lie while a clip is made.

    fast      all three on the device
    balanced  each on the device only while it works; the rest of the time in main memory
    low       as balanced; the UNet's blocks come to the device one at a time, its feed-forward layers take one frame at a time, the two
              branches of guidance follow each other

All three sample the same numbers up to rounding. Frames decoded at a time: all, 8, 2; fewer need less memory, and flicker more where chunks
meet, since the decoder filters in time.
"""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from curate.errors import CurateError

MemoryMode = Literal["fast", "balanced", "low"]
DECODE_CHUNK: dict[MemoryMode, int | None] = {"fast": None, "balanced": 8, "low": 2}
INSTEAD: dict[MemoryMode, str] = {
    "fast": "use memory=balanced",
    "balanced": "use memory=low, or decode_chunk=2 where it was the decoder",
    "low": "use decode_chunk=1, a smaller size or fewer frames",
}


class DeviceMemoryError(CurateError):
    """The device has too little memory for what was asked."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A mode on a device."""

    mode: MemoryMode
    device: torch.device

    @property
    def is_resident(self) -> bool:
        """Whether networks stay on the device."""
        return self.mode == "fast"

    @contextlib.contextmanager
    def holding(self, *networks: Any) -> Iterator[None]:
        """The networks on the device; afterwards they leave it, unless the mode keeps them there."""
        try:
            for network in networks:
                network.to(self.device)
            yield
        finally:
            if not self.is_resident:
                for network in networks:
                    network.to("cpu")
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()

    @contextlib.contextmanager
    def holding_unet(self, unet: Any) -> Iterator[None]:
        """The UNet ready to run on the device in the way of the mode."""
        if self.mode != "low":
            with self.holding(unet):
                yield
            return
        with feed_forward_chunks(unet), streamed(unet, self.device):
            yield

    @contextlib.contextmanager
    def explained(self, what: str) -> Iterator[None]:
        """Turns an allocator's complaint into a `DeviceMemoryError` that says what to do instead."""
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            first = str(error).splitlines()[0] if str(error) else "out of memory"
            raise DeviceMemoryError(
                f"{what}: {self.device} has too little memory for memory={self.mode}: {INSTEAD[self.mode]}. ({first})"
            ) from error


@contextlib.contextmanager
def feed_forward_chunks(unet: Any) -> Iterator[None]:
    """Feed-forward layers take one frame at a time; off again afterwards (diffusers can only turn it on)."""
    chunked = [module for module in unet.modules() if hasattr(module, "set_chunk_feed_forward")]
    try:
        for module in chunked:
            module.set_chunk_feed_forward(1, dim=0)
        yield
    finally:
        for module in chunked:
            module.set_chunk_feed_forward(None, dim=0)


@contextlib.contextmanager
def streamed(unet: Any, device: torch.device) -> Iterator[None]:
    """Each block's weights are on the device only during its own forward pass; what comes there is a copy, for inference only."""
    unet.to("cpu")
    handles, moves = [], []
    try:
        for block in blocks(unet):
            moves.append(_Move(block, device))
            handles += [block.register_forward_pre_hook(moves[-1].come), block.register_forward_hook(moves[-1].leave, always_call=True)]
        yield
    finally:
        for handle in handles:
            handle.remove()
        for move in moves:
            move.leave()


def blocks(unet: Any) -> list[Any]:
    """What `streamed` moves: the parts of the UNet that have weights, its lists of blocks taken apart."""
    parts: list[Any] = []
    for child in unet.children():
        parts += list(child) if isinstance(child, torch.nn.ModuleList) else [child]
    return [part for part in parts if next(itertools.chain(part.parameters(), part.buffers()), None) is not None]


class _Move:
    """Exchanges the weights of a block for copies on a device, and back."""

    def __init__(self, block: Any, device: torch.device) -> None:
        self._device = device
        places = [module._parameters for module in block.modules()] + [module._buffers for module in block.modules()]
        self._homes = [(place, name, tensor) for place in places for name, tensor in place.items() if tensor is not None]
        # Page-locked memory reaches a GPU several times faster.
        self._sources = [tensor.detach().pin_memory() if device.type == "cuda" else tensor.detach() for _, _, tensor in self._homes]

    def come(self, *_: Any) -> None:
        for (place, name, tensor), source in zip(self._homes, self._sources, strict=True):
            copy = source.to(self._device, non_blocking=True)
            place[name] = torch.nn.Parameter(copy, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else copy

    def leave(self, *_: Any) -> None:
        for place, name, tensor in self._homes:
            place[name] = tensor
