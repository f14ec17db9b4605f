"""Batches of `CuratedClips`: one size a batch, the same order on every machine, resumed in the middle of an epoch.

The order of an epoch follows from seed and epoch alone. Every process (`rank` of `world_size`) takes every world_size-th batch, and all
take equally many. A batch carries its epoch and step, so that where to go on is read off the last batch that was trained on, whatever
workers have fetched ahead:

    state = batches.state_dict(after=batch)        # goes into the checkpoint
    batches.load_state_dict(state)                 # the next iteration begins with the batch after it
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Sampler

from curate.dataset import Draw, Item
from curate.errors import ExportError


class SizedItems(Protocol):
    """What batches are made of: `curate.dataset.CuratedClips`, or another source of windows; its attributes decide the order."""

    sizes: tuple[tuple[int, int], ...]

    @property
    def spec(self) -> Any:
        """What else the items depend on; its text is compared when batches are resumed."""
        ...

    @property
    def item_sizes(self) -> np.ndarray:
        """int64[len]: size of each item, as index in `sizes`."""
        ...

    def __len__(self) -> int: ...

    def clip_ids(self) -> list[str]: ...


class BucketBatches(Sampler[list[Draw]]):
    """Lists of `Draw`, each of one size, for the `batch_sampler` of a DataLoader.

    drop_last  leaves out what does not fill a batch of its size, and batches that not every rank would get; otherwise batches may be
               smaller, and the first are given twice where ranks would get unequal numbers

    Raises `ExportError` where no rank would get a batch.
    """

    def __init__(
        self,
        clips: SizedItems,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        drop_last: bool = True,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank={rank} must be at least 0 and below world_size={world_size}")
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.shuffle, self.drop_last = shuffle, drop_last
        self._sizes = clips.item_sizes
        self._made_of = _digest([*clips.clip_ids(), str(clips.sizes), str(clips.spec), str(len(clips))])
        self._epoch = 0
        self._start = 0
        counts = np.bincount(self._sizes)
        num_batches = int((counts // batch_size if drop_last else -(-counts // batch_size)).sum())
        self._num_steps = num_batches // world_size if drop_last else -(-num_batches // world_size)
        if not self._num_steps:
            raise ExportError(
                f"{len(clips)} items in {np.count_nonzero(counts)} sizes make {num_batches} full batches of {batch_size}, for {world_size} "
                "processes; lower batch_size, or drop_last=False"
            )

    @property
    def epoch(self) -> int:
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next iteration, from its beginning, unless a state in the middle of that very epoch was loaded."""
        if epoch != self._epoch:
            self._epoch, self._start = epoch, 0

    def __len__(self) -> int:
        """Batches of the next iteration: those of this rank in an epoch, less those that a loaded state has behind it."""
        return self._num_steps - self._start

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, start = self._epoch, self._start
        for step, items in enumerate(self._batches(epoch)):
            if step >= start:
                yield [Draw(int(item), epoch, step) for item in items]
        self._start = 0

    def state_dict(self, after: Mapping[str, Any] | None) -> dict[str, Any]:
        """Where to go on, for every rank: behind `after`, the last batch (or item) trained on; None: at the beginning of this epoch."""
        epoch, done = (self._epoch, 0) if after is None else (int(after["epoch"]), int(after["step"]) + 1)
        return {"epoch": epoch, "num_done": done, **self._order()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken. Raises `ExportError` where the order of batches would be another one."""
        order = self._order()
        changed = [name for name in order if state.get(name) != order[name]]
        if changed:
            listed = ", ".join(f"{name} {state.get(name)} -> {order[name]}" for name in changed)
            raise ExportError(f"batches cannot be resumed: their order would change ({listed}); set it back, or begin a new epoch")
        epoch, done = int(state["epoch"]), int(state["num_done"])
        self._epoch, self._start = (epoch, done) if done < self._num_steps else (epoch + 1, 0)

    def _order(self) -> dict[str, Any]:
        names = ("seed", "batch_size", "world_size", "shuffle", "drop_last")
        return {**{name: getattr(self, name) for name in names}, "clips": self._made_of}

    def _batches(self, epoch: int) -> list[np.ndarray]:
        """This rank's batches of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        batches: list[np.ndarray] = []
        for size in np.unique(self._sizes):
            items = np.flatnonzero(self._sizes == size)
            if self.shuffle:
                rng.shuffle(items)
            end = len(items) // self.batch_size * self.batch_size if self.drop_last else len(items)
            batches += [items[i : i + self.batch_size] for i in range(0, end, self.batch_size)]
        if self.shuffle:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        total = self._num_steps * self.world_size
        while len(batches) < total:
            batches += batches[: total - len(batches)]
        return batches[:total][self.rank :: self.world_size]


def collate(items: Sequence[Item]) -> Item:
    """One batch of items of one size.

    frames uint8 (B, T, 3, H, W); fps, motion_score float32 (B,); fps_id, motion_bucket_id int64 (B,); times_ns int64 (B, T); lists of
    clip_id, source_key and caption; size, epoch and step as in each item; num_skipped summed. Raises `ValueError` for several sizes.
    """
    sizes = {item["size"] for item in items}
    if len(sizes) != 1:
        raise ValueError(f"items of sizes {sorted(sizes)} cannot be one batch; sample them with BucketBatches")
    batch: Item = {name: torch.stack([item[name] for item in items]) for name in ("frames", "times_ns")}
    for name in ("fps", "motion_score"):
        batch[name] = torch.tensor([item[name] for item in items], dtype=torch.float32)
    for name in ("fps_id", "motion_bucket_id"):
        batch[name] = torch.tensor([item[name] for item in items], dtype=torch.int64)
    for name in ("clip_id", "source_key", "caption"):
        batch[name] = [item[name] for item in items]
    batch |= {name: items[0][name] for name in ("size", "epoch", "step")}
    batch["num_skipped"] = sum(item["num_skipped"] for item in items)
    return batch


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
