"""What a layout of video files says of one sample: facts of the file under plain names, then every plain column of the clip.

`num_frames`, `fps`, `duration_s`, `width` and `height` are those of the written file, as a reader of the file expects. The manifest's
columns of the same names, measured on the clip in its source, come after them as `clip_num_frames` and so on. Lists and structs (times
of frames, faults) are left out, and so is what tells whether a source has changed: `index/*.parquet` and the manifest hold them.
"""

import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.export import Made
from curate.kept import IDENTITY
from curate.manifest.columns import CLIP_COLUMNS
from curate.scorers import Column

FROM_INDEX = {
    "num_frames": "num_frames_out",
    "duration_s": "duration_out_s",
    "width": "width_out",
    "height": "height_out",
    "has_audio": "file_has_audio",
    "size_bytes": "file_bytes",
    "sha256": "file_sha256",
}
FILE_COLUMNS: dict[str, Column] = {
    "sample_id": Column(pa.string(), "", "name of the sample, and of its file"),
    "caption": CLIP_COLUMNS["caption"],
    "num_frames": Column(pa.int64(), "1", "frames of the file"),
    "fps": Column(pa.float64(), "frames/s", "num_frames / duration_s; a file may keep uneven times (see its layout's `fps`)"),
    "duration_s": Column(pa.float64(), "s", "length of the file"),
    "width": Column(pa.int32(), "px", "width of the file's pictures"),
    "height": Column(pa.int32(), "px", "height of the file's pictures"),
    "has_audio": Column(pa.bool_(), "", "the file has sound"),
    "size_bytes": Column(pa.int64(), "B", "size of the file"),
    "sha256": Column(pa.string(), "", "SHA-256 of the file"),
}
RENAMED = {name: f"clip_{name}" for name in ("num_frames", "fps", "duration_s", "width", "height")}
_INTERNAL = (
    *(*FROM_INDEX.values(), *IDENTITY, "video_stream", "audio_stream", "split", "shard", "file"),
    *("member_offset", "member_size", "file_width", "file_height", "keep"),
)


def no_caption(caption: str | None) -> bool:
    """A caption that is absent, or nothing but white space."""
    return caption is None or not caption.strip()


def record(made: Made) -> dict[str, Any]:
    """The record of one sample, as JSON can hold it: NaN and infinity, which JSON has no words for, become null."""
    sample, row = made.sample, made.row
    # A copy may hold fewer frames than were planned.
    num_frames, duration_s = row.get("num_frames_out", sample.num_frames), row.get("duration_out_s", sample.duration_s)
    known = {
        "sample_id": sample.sample_id,
        "caption": sample.clip.caption,
        "num_frames": num_frames,
        "fps": num_frames / duration_s if duration_s else None,
        "duration_s": duration_s,
        "width": sample.width,
        "height": sample.height,
    }
    known |= {name: row[source] for name, source in FROM_INDEX.items() if source in row}
    values = {name: known[name] for name in FILE_COLUMNS if name in known}
    for name, value in {**sample.clip.columns, **row}.items():
        if name not in _INTERNAL:
            values.setdefault(RENAMED.get(name, name), value)
    return {name: _finite(value) for name, value in values.items() if value is None or isinstance(value, bool | int | float | str)}


def record_table(index: pa.Table) -> pa.Table:
    """The records of an index, one row a sample, in its order. Fields carry unit and description: the index's, or those that we know."""
    columns: dict[str, pa.ChunkedArray] = {}
    docs = {name: metadata(column) for name, column in FILE_COLUMNS.items()}
    for name in FILE_COLUMNS:
        source = FROM_INDEX.get(name, name)
        if name == "fps":
            columns[name] = pc.divide(pc.cast(index["num_frames_out"], pa.float64()), index["duration_out_s"])
        elif source in index.column_names:
            columns[name] = index[source]
    for field in plain_fields(index.schema):
        name = RENAMED.get(field.name, field.name)
        if field.name not in _INTERNAL and name not in columns:
            columns[name] = index[field.name]
            docs[name] = dict(field.metadata)
            if name != field.name:
                docs[name][b"description"] = b"of the clip in its source: " + docs[name][b"description"]
    fields = [pa.field(name, column.type, metadata=docs[name]) for name, column in columns.items()]
    return pa.table(list(columns.values()), pa.schema(fields))


def plain_fields(schema: pa.Schema) -> list[pa.Field]:
    """The fields that hold numbers, truth values or text, with unit and description, empty ones where neither they nor we have any."""
    found = []
    for field in schema:
        known = CLIP_COLUMNS.get(field.name)
        facts = {b"unit": b"", b"description": b"", **(metadata(known) if known else {}), **(field.metadata or {})}
        if is_plain(field.type):
            found.append(field.with_metadata(facts))
    return found


def metadata(column: Column) -> dict[bytes, bytes]:
    """Unit and description as the manifest's fields carry them."""
    return {b"unit": column.unit.encode(), b"description": column.doc.encode()}


def is_plain(kind: pa.DataType) -> bool:
    """Numbers, truth values and text: what JSON and every reader can hold."""
    return bool(
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
    )


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
