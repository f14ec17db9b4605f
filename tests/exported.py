"""For tests of layouts: makes an export of given clips without the pipeline, and compares its files with the sources they come from."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa

from curate.export import Finished, Layout, ShardName
from curate.export.folder import OutFolder
from curate.export.index import index_table
from curate.kept import KeptClips
from curate.models import Models

FACTS: dict[str, Any] = {"name": "a set", "licence": "unknown", "policy": None, "settings": {}, "refused": {}, "failed": {}}


def with_captions(clips: KeptClips, captions: Sequence[str | None]) -> KeptClips:
    """The same clips with other captions."""
    place = clips.table.column_names.index("caption")
    return KeptClips(clips.table.set_column(place, "caption", pa.array(captions, pa.string())))


def write_export(layout: Layout, shards: Mapping[ShardName, KeptClips], folder: Path, **facts: Any) -> pa.Table:
    """What the pipeline does with shards, in this process; returns the index."""
    out, maker, tables = OutFolder(str(folder)), layout.open(Models({})), []
    spool = folder / ".spool"
    spool.mkdir(parents=True)
    for shard, clips in shards.items():
        made = []
        for clip in clips:
            samples = layout.plan(clip)
            assert not isinstance(samples, str), samples
            made += [maker.make(sample, spool) for sample in samples]
        tables.append(index_table(shard, made, maker.pack(shard, made, out), clips))
    index = pa.concat_tables(tables)
    layout.finish(out, Finished(index, {**FACTS, **facts}))
    return index


def luma_of(file: str | Path | bytes, start_ns: int | None = None, end_ns: int | None = None) -> np.ndarray:
    """uint8 (T, H, W): the decoded luma of a file or of its bytes, of the frames in [start_ns, end_ns)."""
    frames = []
    with av.open(io.BytesIO(file) if isinstance(file, bytes) else f"file:{file}", mode="r") as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None and frame.time_base is not None
            time_ns = round(frame.pts * frame.time_base * 10**9)
            if start_ns is None or end_ns is None or start_ns <= time_ns < end_ns:
                plane = frame.planes[0]
                frames.append(np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].copy())
    return np.stack(frames)


def assert_same_frames(written: np.ndarray, row: Mapping[str, Any], films: Path) -> None:
    """The written luma is that of the clip's frames in its source inside the bars: each frame its own, and not that of a neighbour.

    `row` holds the manifest's columns. Frames written with x264 at crf 18 differ from their source by about one level; neighbours that
    are as alike as that cannot be told apart, and do not count.
    """
    source = luma_of(films / row["source_key"], row["start_ns"], row["end_ns"])
    x, y = (row["active_x"] + 1) // 2 * 2, (row["active_y"] + 1) // 2 * 2
    height, width = written.shape[1:]
    assert len(written) == len(source) > 20
    assert abs(height - row["active_height"]) < 8 and abs(width - row["active_width"]) < 8
    shown = source[:, y : y + height, x : x + width].astype(np.int16)[:, 8:-8, 8:-8]
    ours = written.astype(np.int16)[:, 8:-8, 8:-8]
    assert max(np.abs(one - own).mean() for one, own in zip(ours, shown, strict=True)) < 2.5
    num_told = 0
    for i in range(len(ours) - 1):
        if np.abs(shown[i] - shown[i + 1]).mean() > 3:
            own, other = (np.abs(ours[i] - shown[j]).mean() for j in (i, i + 1))
            own_after, other_after = (np.abs(ours[i + 1] - shown[j]).mean() for j in (i + 1, i))
            assert own < other and own_after < other_after
            num_told += 1
    assert num_told > 5
