"""Small made-up manifests, and a process that can be made to die between any two changes of the disk."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.clip import Fault, Span, clip_id
from curate.manifest import (
    CLIP_COLUMNS,
    FRAME_COLUMNS,
    SOURCE_COLUMNS,
    Manifest,
    Shard,
    files,
    schema,
    scorer_schema,
    table,
)
from curate.scorers import Column
from curate.sources import Source

MOTION = {"motion_x": Column(pa.float64(), "px", "made up", 0.0, 1.0)}
LOOKS = {"looks": Column(pa.float32(), "1", "made up"), "looks_embedding": Column(pa.list_(pa.float16(), 4), "1", "made up", large=True)}
FINGERPRINTS = {"motion": "m1", "looks": "l1"}


def sources(*names: str, size: int = 10) -> list[Source]:
    return [Source(name, f"/in/{name}", size, None, 7) for name in sorted(names)]


def source_table(members: tuple[Source, ...]) -> pa.Table:
    empty = dict.fromkeys(SOURCE_COLUMNS)
    rows = [
        {**empty, "source_key": s.key, "source_url": s.url, "size_bytes": s.size_bytes, "etag": s.etag, "mtime_ns": s.mtime_ns}
        for s in members
    ]
    return table(schema(SOURCE_COLUMNS), rows)


def clip_table(members: tuple[Source, ...], num_clips: int = 3) -> pa.Table:
    rows = []
    for source in members:
        for i in range(num_clips):
            span = Span(i * 10**9, (i + 1) * 10**9)
            row: dict[str, Any] = dict.fromkeys(CLIP_COLUMNS)
            row |= {"clip_id": clip_id(source.key, span), "source_key": source.key, "source_url": source.url}
            rows.append(row | {"start_ns": span.start_ns, "end_ns": span.end_ns, "faults": []})
    return table(schema(CLIP_COLUMNS), rows)


def score_table(clips: pa.Table, columns: dict[str, Column], seed: int, faults: dict[int, list[Fault]] | None = None) -> pa.Table:
    random = np.random.default_rng(seed)
    rows = []
    for i, name in enumerate(clips["clip_id"].to_pylist()):
        row: dict[str, Any] = {"clip_id": name, "faults": (faults or {}).get(i, [])}
        rows.append(
            row | {key: random.random(4).astype(np.float16) if column.large else random.random() for key, column in columns.items()}
        )
    return table(scorer_schema(columns), rows)


def frame_table(clips: pa.Table) -> pa.Table:
    """Ten frames a clip, spread over its span; the last repeats the one before."""
    spans = zip(*(clips[name].to_pylist() for name in ("clip_id", "start_ns", "end_ns")), strict=True)
    rows = [
        {
            "clip_id": name,
            "frame_times_ns": np.linspace(start, end, 10, endpoint=False).astype(np.int64),
            "frame_is_duplicate": [False] * 9 + [True],
        }
        for name, start, end in spans
    ]
    return table(schema(FRAME_COLUMNS), rows)


def commit(shard: Shard, members: tuple[Source, ...], seed: int = 0, num_clips: int = 3) -> None:
    clips = clip_table(members, num_clips)
    scores = {"motion": score_table(clips, MOTION, seed), "looks": score_table(clips, LOOKS, seed + 1)}
    shard.write(source_table(members), clips, frame_table(clips), scores, "pass1", FINGERPRINTS)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Two shards of two sources, both complete."""
    found = Manifest.create_or_open(tmp_path / "out")
    found.update_index(sources("a.mp4", "b.mp4", "c.mp4", "d.mp4"), 2)
    for shard_id in found.shard_ids():
        commit(found.shard(shard_id), found.index().sources(shard_id), shard_id)
    return found


class Killed(BaseException):
    """Stands for the process ending here: nothing in the code under test may catch it."""


def steps(monkeypatch: pytest.MonkeyPatch, stop_at: int | None, leave_aside: bool = False) -> list[str]:
    """Counts every change to the disk; ends the process before change number `stop_at`, perhaps with its temporary file written."""
    log: list[str] = []

    def stepping(name: str) -> None:
        real = getattr(files, name)

        def step(path: Path, *rest: Any) -> None:
            if len(log) == stop_at:
                if leave_aside and name == "write_file":
                    path.with_name(f"{files.ASIDE_PREFIX}{path.name}-0").write_bytes(b"half")
                raise Killed
            log.append(f"{name} {path.name}")
            real(path, *rest)

        monkeypatch.setattr(files, name, step)

    for name in ("write_file", "remove_file", "rename_folder"):
        stepping(name)
    return log


def interruptions(work: Callable[[], object], restore: Callable[[], None]) -> Iterator[int]:
    """Runs `work` again and again, killed one change later each time; yields after each death."""
    for stop_at in range(1000):
        for leave_aside in (False, True):
            restore()
            with pytest.MonkeyPatch.context() as patch:
                steps(patch, stop_at, leave_aside)
                try:
                    work()
                    return
                except Killed:
                    pass
            yield stop_at


@pytest.fixture
def made() -> ModuleType:
    """The helpers above: test files cannot import each other."""
    return sys.modules[commit.__module__]
