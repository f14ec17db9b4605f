"""What an export will hold, decided before a video is opened: which clips the layout can hold, train or validation, order, shards.

Split. Clips that share a source, or a group of near-duplicates where the manifest has the column `duplicate_group`, are connected; whatever
is connected lies in one split. Groups are drawn in the order of a seeded hash until the validation split has its share; a group that would
overfill it is passed over.

Order. By a seeded hash of the clip's id: well mixed, the same on every machine, and hardly changed when clips are added or lost.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from curate.export import Layout, ShardName, Split
from curate.kept import KeptClips

DUPLICATE_GROUP = "duplicate_group"
MAX_NAMED = 20  # refused clips that are kept by name


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """One shard: its name and its clips in order."""

    name: ShardName
    clips: KeptClips

    @property
    def digest(self) -> str:
        """Names the shard's clips and their order."""
        return hashlib.sha256("\n".join(self.clips.table["clip_id"].to_pylist()).encode()).hexdigest()[:16]


@dataclass(slots=True)
class Plan:
    """What will be written. `refused` maps a reason to the clips that the layout cannot hold; `layout` is the one to work with."""

    layout: Layout
    shards: list[Shard] = field(default_factory=list)
    refused: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    num_clips: dict[Split, int] = field(default_factory=dict)
    num_samples: dict[Split, int] = field(default_factory=dict)
    duration_s: dict[Split, float] = field(default_factory=dict)
    num_frames: int = 0

    @property
    def num_refused(self) -> int:
        return sum(len(clips) for clips in self.refused.values())


def make_plan(kept: KeptClips, layout: Layout, seed: int, val_fraction: float, shard_clips: int, limit_clips: int | None = None) -> Plan:
    """Plans every kept clip once. Holds no more than counts of them."""
    order = shuffled(kept.table["clip_id"].to_pylist(), seed)
    plan = Plan(layout)
    can, lengths = [], []
    for row in order:
        clip = kept[int(row)]
        samples = layout.plan(clip)
        if isinstance(samples, str):
            plan.refused.setdefault(samples.partition(":")[0], []).append((clip.clip_id, samples))
            continue
        can.append(int(row))
        lengths.append((len(samples), sum(sample.duration_s for sample in samples), sum(sample.num_frames for sample in samples)))
        if limit_clips is not None and len(can) == limit_clips:
            break
    held = kept.taken(pa.array(can, pa.int64()))
    plan.layout = layout.prepare(held)
    is_val = split(held.table, seed, val_fraction)
    for name in ("train", "val"):
        rows = np.flatnonzero(is_val == (name == "val"))
        plan.num_clips[name] = len(rows)
        plan.num_samples[name] = sum(lengths[i][0] for i in rows)
        plan.duration_s[name] = sum(lengths[i][1] for i in rows)
        for number, first in enumerate(range(0, len(rows), shard_clips)):
            part = pa.array(rows[first : first + shard_clips])
            plan.shards.append(Shard(ShardName(name, number), held.taken(part)))
    plan.num_frames = sum(length[2] for length in lengths)
    return plan


def shuffled(ids: Sequence[str], seed: int) -> np.ndarray:
    """int64: places of the ids in the order of their seeded hashes."""
    return np.array(sorted(range(len(ids)), key=lambda i: _hash(seed, "order", ids[i])), np.int64)


def split(clips: pa.Table, seed: int, val_fraction: float) -> np.ndarray:
    """bool[N]: which clips are for validation. At most `val_fraction` of them, in whole connected groups."""
    groups = connected(clips)
    sizes, first = Counter(groups), dict[int, str]()
    keys = clips["source_key"].to_pylist()
    for group, key in zip(groups, keys, strict=True):
        first[group] = min(first.get(group, key), key)
    chosen, room = set(), int(len(keys) * val_fraction)
    for group in sorted(sizes, key=lambda group: _hash(seed, "split", first[group])):
        if sizes[group] <= room:
            chosen.add(group)
            room -= sizes[group]
    return np.array([group in chosen for group in groups], bool)


def connected(clips: pa.Table) -> list[int]:
    """A number for each clip; equal where clips hang together through sources or groups of duplicates."""
    parent: dict[tuple[str, object], tuple[str, object]] = {}

    def root(node: tuple[str, object]) -> tuple[str, object]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    nodes = [("source", key) for key in clips["source_key"].to_pylist()]
    if DUPLICATE_GROUP in clips.column_names:
        for node, group in zip(nodes, clips[DUPLICATE_GROUP].to_pylist(), strict=True):
            if group is not None:
                parent[root(node)] = root(("duplicates", group))
    numbers: dict[tuple[str, object], int] = {}
    return [numbers.setdefault(root(node), len(numbers)) for node in nodes]


def reasons(refused: dict[str, list[tuple[str, str]]]) -> Iterator[str]:
    """A line for each reason, the most frequent first, with some of the clips."""
    for reason, clips in sorted(refused.items(), key=lambda item: (-len(item[1]), item[0])):
        named = ", ".join(clip_id for clip_id, _ in clips[:3]) + (", ..." if len(clips) > 3 else "")
        example = clips[0][1]
        yield f"{len(clips):,} clips  {example if len(clips) == 1 else reason}  ({named})"


def _hash(seed: int, what: str, text: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{what}\0{text}".encode()).digest()
