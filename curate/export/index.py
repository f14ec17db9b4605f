"""`index/train-00000.parquet` ...: one row a sample, one file a shard, the same columns for every layout.

Columns: `sample_id`, `split`, `shard`, `file` (name inside the export; null where a sample is no file of its own), `member_offset` and
`member_size` (its bytes inside a tar), `num_frames_out`, `width_out`, `height_out`, `duration_out_s`, what the layout adds, then every
published column of the clip. A layout of video files adds the columns of `VIDEO_COLUMNS`; `curate.dataset.CuratedClips` reads those.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from curate.export import Made, ShardName
from curate.kept import KeptClips

SAMPLE_FIELDS = (
    pa.field("sample_id", pa.string()),
    pa.field("split", pa.string()),
    pa.field("shard", pa.string()),
    pa.field("file", pa.string()),
    pa.field("member_offset", pa.int64()),
    pa.field("member_size", pa.int64()),
    pa.field("num_frames_out", pa.int64()),
    pa.field("width_out", pa.int32()),
    pa.field("height_out", pa.int32()),
    pa.field("duration_out_s", pa.float64()),
)
VIDEO_COLUMNS: dict[str, pa.DataType] = {
    "file_times_ns": pa.list_(pa.int64()),
    "file_is_duplicate": pa.list_(pa.bool_()),
    "file_width": pa.int32(),
    "file_height": pa.int32(),
    "file_has_audio": pa.bool_(),
    "file_bytes": pa.int64(),
    "file_sha256": pa.string(),
}


def index_table(shard: ShardName, made: Sequence[Made], packed: Sequence[Mapping[str, Any]], clips: KeptClips) -> pa.Table:
    """The index of one shard. `packed` is what `Maker.pack` returned, `clips` those that the shard was planned from."""
    place = {clip_id: i for i, clip_id in enumerate(clips.table["clip_id"].to_pylist())}
    rows = [{**_sample_row(shard, one), **one.row, **more} for one, more in zip(made, packed, strict=True)]
    fixed = {field.name for field in SAMPLE_FIELDS}
    own = sorted({name for row in rows for name in row} - fixed)
    columns = {field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in SAMPLE_FIELDS}
    columns |= {name: _array(name, [row[name] for row in rows]) for name in own}
    of_clips = clips.table.take(pa.array([place[one.sample.clip.clip_id] for one in made], pa.int64()))
    for name in of_clips.column_names:
        if name not in columns and name not in ("frame_times_ns", "frame_is_duplicate", "keep", "drop_reasons"):
            columns[name] = of_clips[name]
    facts = {field.name: field for field in of_clips.schema}
    arrays = {name: column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column]) for name, column in columns.items()}
    fields = [
        facts[name] if name in facts and facts[name].type == array.type else pa.field(name, array.type) for name, array in arrays.items()
    ]
    return pa.table(list(arrays.values()), schema=pa.schema(fields))


def _sample_row(shard: ShardName, made: Made) -> dict[str, Any]:
    sample = made.sample
    return {
        "sample_id": sample.sample_id,
        "split": shard.split,
        "shard": str(shard),
        "num_frames_out": made.row.get("num_frames_out", sample.num_frames),
        "width_out": sample.width,
        "height_out": sample.height,
        "duration_out_s": made.row.get("duration_out_s", sample.duration_s),
    }


def _array(name: str, values: list[Any]) -> pa.Array:
    return pa.array(values, VIDEO_COLUMNS.get(name))


def hours(table: pa.Table) -> float:
    """Length of what an index lists."""
    return float(sum(table["duration_out_s"].to_pylist())) / 3600
