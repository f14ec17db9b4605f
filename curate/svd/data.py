"""From windows of clips to what the network is trained on, with every draw seeded by what it is for.

    Draw --> Windows[draw]: decoded window, or its latents out of the cache --> Batcher: latents and clean first frames on the device
         --> drawn(): noise augmentation, dropout, sigma and noise of each window by its own generator --> TrainInput

A generator is seeded by seed, epoch, clip and the window's first time: workers, batch size, number of processes and restarts do not
change what a window meets. Numbers are drawn on the CPU, so that they are the same ones on every device.

The cache holds what no augmentation changes: scaled latents of the window and its clean first frame. The noise on the conditioning frame is
drawn anew each time, in pixel space, and that one frame goes through the VAE again: one picture instead of `num_frames` + 1.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from curate.batches import BucketBatches
from curate.dataset import Draw, Item
from curate.errors import CurateError
from curate.manifest.files import make_folder, write_file
from curate.motion_bucket import MotionBuckets
from curate.svd.conditioning import Conditioning, draw_drops, draw_noise_aug
from curate.svd.encode import Encoders
from curate.svd.loss import default_p_mean, draw_sigma
from curate.svd.settings import Noise

DTYPES = {"float16": torch.float16, "float32": torch.float32}
FACTS = ("fps_id", "motion_bucket_id", "motion_score")
_TIMES = "times_ns"


def generator_of(*words: object) -> torch.Generator:
    """A CPU generator that follows from these words alone."""
    digest = hashlib.sha256("\0".join(map(str, words)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@dataclass(frozen=True, slots=True)
class LatentCache:
    """Encoded windows in a folder, one `.safetensors` each, written whole or not at all; several processes may share it.

    `made_of` names everything that decides what a window's latents are (clips, files, sizes, VAE), but for the draw itself.
    """

    folder: Path
    made_of: str
    dtype: torch.dtype = torch.float16

    def path(self, item: int, epoch: int) -> Path:
        name = hashlib.sha256(f"{self.made_of}\0{self.dtype}\0{item}\0{epoch}".encode()).hexdigest()[:32]
        return self.folder / name[:2] / f"{name}.safetensors"

    def read(self, item: int, epoch: int) -> Item | None:
        """The window with `latents` (T, 4, H/8, W/8) and `first` uint8 (3, H, W) instead of frames; None where it is not there whole."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path(item, epoch), "pt") as file:
                facts = file.metadata()
                tensors = {name: file.get_tensor(name) for name in ("latents", "first", _TIMES)}
        except (OSError, SafetensorError):
            return None
        height, width = tensors["first"].shape[1:]
        text = {name: facts[name] for name in ("clip_id", "source_key")}
        numbers = {name: float(facts[name]) if name == "motion_score" else int(facts[name]) for name in FACTS}
        return {**tensors, **text, **numbers, "size": (width, height)}

    def write(self, item: int, epoch: int, window: Item) -> None:
        """Raises `ManifestError` with the system's reason."""
        from safetensors.torch import save

        path = self.path(item, epoch)
        make_folder(path.parent)
        facts = {name: str(window[name]) for name in ("clip_id", "source_key", *FACTS)}
        tensors = {name: window[name].contiguous() for name in ("latents", "first", _TIMES)}
        write_file(path, save(tensors, facts))

    def stored(self, latents: torch.Tensor) -> torch.Tensor:
        """On the CPU, as they will be read: rounded at once, so that the first use of a window is no other than the second.

        Raises `CurateError` for latents that the precision cannot hold.
        """
        rounded = latents.to("cpu", self.dtype)
        if not bool(torch.isfinite(rounded).all()):
            raise CurateError(f"latents are not finite as {self.dtype}; set windows.cache_dtype=float32, or check the VAE's weights")
        return rounded


class WindowSource(Protocol):
    """Windows by `Draw`: `curate.dataset.CuratedClips`, or anything whose items have `latents` and `first` in place of `frames`."""

    motion_buckets: MotionBuckets
    refused: dict[str, str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: Draw, /) -> Item: ...

    def clip_ids(self) -> list[str]: ...


class Windows(Dataset[Item]):
    """A source's windows, out of the cache where that has them; `repeat_epochs` lets windows come again (None: never)."""

    def __init__(self, clips: WindowSource, *, takes_all: bool, repeat_epochs: int | None = None, cache: LatentCache | None = None) -> None:
        self.clips, self.cache = clips, cache
        self._takes_all, self._repeat = takes_all, repeat_epochs

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, draw: Draw) -> Item:
        epoch = self.drawn_epoch(draw.epoch)
        found = None if self.cache is None else self.cache.read(draw.item, epoch)
        window = self.clips[Draw(draw.item, epoch, draw.step)] if found is None else found
        is_own = found is not None or not window["num_skipped"]
        return {**window, "epoch": draw.epoch, "step": draw.step, "key": (draw.item, epoch) if is_own else None}

    def drawn_epoch(self, epoch: int) -> int:
        """The epoch whose windows this one has."""
        if self._takes_all:
            return 0
        return epoch if self._repeat is None else epoch % self._repeat


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """B windows of one size on the device: scaled latents (B, T, 4, H/8, W/8), float32, and clean first frames (B, 3, H, W) in [-1, 1].

    `fps_B` is the whole-number rate that the model is told, one more than its time id.
    """

    latents_BTCHW: torch.Tensor
    first_BCHW: torch.Tensor
    fps_B: tuple[int, ...]
    motion_bucket_B: tuple[int, ...]
    clip_ids: tuple[str, ...]
    start_ns_B: tuple[int, ...]
    epoch: int
    step: int | None

    def __len__(self) -> int:
        return len(self.clip_ids)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return int(self.first_BCHW.shape[-1]), int(self.first_BCHW.shape[-2])

    def to(self, device: torch.device | str) -> "Examples":
        return replace(self, latents_BTCHW=self.latents_BTCHW.to(device), first_BCHW=self.first_BCHW.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class TrainInput:
    """What `loss_per_clip` takes, and the numbers that were drawn for it."""

    clean_BTCHW: torch.Tensor
    noise_BTCHW: torch.Tensor
    sigma_B: torch.Tensor
    cond: Conditioning
    noise_aug_B: torch.Tensor
    clip_ids: tuple[str, ...]


def encode(items: Sequence[Item], encoders: Encoders, cache: LatentCache | None, device: torch.device | str) -> Examples:
    """One batch of `Windows`' items; what has no latents yet is encoded, each window by itself, so that its batch does not matter."""
    latents, firsts = [], []
    for item in items:
        window = item
        if "latents" not in item:
            encoded = encoders.latents(_signed(item["frames"])[None])[0]
            window = {**item, "latents": encoded, "first": item["frames"][0]}
            if cache is not None:
                window["latents"] = cache.stored(encoded)
                if item["key"] is not None:
                    cache.write(item["key"][0], item["key"][1], window)
        latents.append(window["latents"].to(device, torch.float32))
        firsts.append(_signed(window["first"].to(device)))
    return Examples(
        torch.stack(latents),
        torch.stack(firsts),
        tuple(int(item["fps_id"]) + 1 for item in items),
        tuple(int(item["motion_bucket_id"]) for item in items),
        tuple(str(item["clip_id"]) for item in items),
        tuple(int(item[_TIMES][0]) for item in items),
        int(items[0]["epoch"]),
        items[0]["step"],
    )


def drawn(examples: Examples, encoders: Encoders, noise: Noise, seed: int) -> TrainInput:
    """Draws for each window, by its own generator: strength of augmentation, drops, sigma, noise on the first frame and on the latents."""
    p_mean = default_p_mean(*examples.size) if noise.p_mean is None else noise.p_mean
    p_latents = noise.drop_embed if noise.drop == "joint" else noise.drop_latents
    columns: list[tuple[torch.Tensor, ...]] = []
    for clip_id, start_ns, first, latents in zip(
        examples.clip_ids, examples.start_ns_B, examples.first_BCHW, examples.latents_BTCHW, strict=True
    ):
        generator = generator_of("train", seed, examples.epoch, clip_id, start_ns)
        strength = draw_noise_aug(1, generator)
        drop_embed, drop_latents = draw_drops(1, noise.drop_embed, p_latents, noise.drop == "joint", generator)
        sigma = draw_sigma(1, p_mean, noise.p_std, generator)
        pixel_noise = torch.randn(1, *first.shape, generator=generator)
        latent_noise = torch.randn(1, *latents.shape, generator=generator)
        columns.append((strength, drop_embed, drop_latents, sigma, pixel_noise, latent_noise))
    strength_B, drop_embed_B, drop_latents_B, sigma_B, pixel_noise_BCHW, noise_BTCHW = (
        torch.cat(parts) for parts in zip(*columns, strict=True)
    )
    cond = encoders.conditioning(examples.first_BCHW, examples.fps_B, examples.motion_bucket_B, strength_B, pixel_noise_BCHW)
    device = examples.latents_BTCHW.device
    return TrainInput(
        examples.latents_BTCHW,
        noise_BTCHW.to(device),
        sigma_B.to(device),
        cond.to(device).dropped(drop_embed_B, drop_latents_B),
        strength_B,
        examples.clip_ids,
    )


class Batches:
    """Endless batches of a rank, epoch after epoch, and the position to go on from."""

    def __init__(
        self, windows: Windows, batches: BucketBatches, encoders: Encoders, device: torch.device | str, num_workers: int = 0
    ) -> None:
        self._windows, self._batches, self._encoders, self._device = windows, batches, encoders, device
        self._loader: DataLoader[Item] = DataLoader(
            windows,
            batch_sampler=batches,
            collate_fn=list,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            multiprocessing_context="spawn" if num_workers else None,  # a fork would take the GPU's and the threads' state with it
        )

    def __iter__(self) -> Iterator[Examples]:
        while True:
            for items in self._loader:
                yield encode(items, self._encoders, self._windows.cache, self._device)
            self._batches.set_epoch(self._batches.epoch + 1)

    def state_dict(self, after: Examples | None) -> dict[str, Any]:
        return self._batches.state_dict(None if after is None else {"epoch": after.epoch, "step": after.step})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises `ExportError` where the order of batches would be another one."""
        self._batches.load_state_dict(state)


def fixed_examples(windows: Windows, encoders: Encoders, max_clips: int, seed: int) -> list[Examples]:
    """One window each of at most `max_clips` clips, chosen and drawn by the seed, on the CPU; for validation and samples."""
    order = torch.randperm(len(windows), generator=generator_of("validation", seed))[:max_clips]
    return [encode([windows[Draw(item, 0, None)]], encoders, windows.cache, "cpu") for item in sorted(order.tolist())]


def _signed(frames: torch.Tensor) -> torch.Tensor:
    """float32 in [-1, 1] from uint8."""
    return frames.float() / 255 * 2 - 1
