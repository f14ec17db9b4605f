"""The columns of the manifest: name, Arrow type, unit, range and meaning; and tables that carry them.

`CLIP_COLUMNS` and `SOURCE_COLUMNS` are what one pass finds out, `DECIDED_COLUMNS` what the rules add. The columns of a scorer stand in
the scorer. A value that could not be computed is null; -1, 0 and "" never stand for missing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from curate.scorers import Column

FAULTS = pa.list_(
    pa.struct(
        [pa.field("stage", pa.string()), pa.field("kind", pa.string()), pa.field("message", pa.string()), pa.field("time_ns", pa.int64())]
    )
)
FAULTS_COLUMN = Column(
    FAULTS, "", "why values are null: stage (scorer, decode, box, ...), kind (class of error), message, and where in the source if known"
)
_TAGS = pa.map_(pa.string(), pa.string())


def _text(doc: str) -> Column:
    return Column(pa.string(), "", doc)


def _bool(doc: str) -> Column:
    return Column(pa.bool_(), "", doc)


def _ns(doc: str, low: float | None = None) -> Column:
    return Column(pa.int64(), "ns", doc, low)


def _seconds(doc: str) -> Column:
    return Column(pa.float64(), "s", doc, 0.0)


def _count(doc: str, low: float = 0) -> Column:
    return Column(pa.int64(), "1", doc, low)


def _index(doc: str) -> Column:
    return Column(pa.int32(), "1", doc, 0)


def _pixels(doc: str, low: float = 1) -> Column:
    return Column(pa.int32(), "px", doc, low)


_EDGES = (
    "cut (or another size of the picture), dissolve, fade, division (a long shot divided at max_clip_s), part (a shot divided between "
    "parts of a long source, see decode.part_s), source (the source itself) or fault (a decode fault, or one of the shot detector)"
)

CLIP_COLUMNS: dict[str, Column] = {
    "clip_id": _text("16 hex digits made of source key and span; the same on every machine"),
    "source_key": _text("key of the source: its path below the input root, or its URL"),
    "source_url": _text("where the source was read"),
    "shot_index": _index("which shot of the source, from 0"),
    "clip_index": _index("which clip of the shot, from 0"),
    "start_ns": _ns("first frame's presentation time, on the source's own timeline; may be negative"),
    "end_ns": _ns("end of the last frame; the span is [start_ns, end_ns)"),
    "duration_s": _seconds("end_ns - start_ns"),
    "num_frames": _count("decoded frames in the span", 1),
    "fps": Column(pa.float64(), "frames/s", "num_frames / duration_s: the rate that was decoded, whatever the container declares", 0.0),
    "snapped_start_ns": _ns(
        "start moved forward to the next keyframe, for cutting without re-encoding; null when nothing is left of the clip"
    ),
    "snapped_end_ns": _ns("end moved back to the last keyframe before it, or kept at the end of the source; null when nothing is left"),
    "snapped_duration_s": _seconds("snapped_end_ns - snapped_start_ns; 0 when nothing is left"),
    "start_kind": _text(f"what the clip starts at: {_EDGES}"),
    "end_kind": _text(f"what the clip ends at: {_EDGES}"),
    "width": _pixels("width as displayed: rotation and sample aspect applied"),
    "height": _pixels("height as displayed"),
    "active_x": _pixels("left edge of the active picture inside bars, in displayed pixels; null where a fault of stage box stands", 0),
    "active_y": _pixels("top edge of the active picture inside bars, in displayed pixels", 0),
    "active_width": _pixels("width of the active picture; the whole width where there are no bars"),
    "active_height": _pixels("height of the active picture; the whole height where there are no bars"),
    "active_short_side": _pixels("the smaller of active_width and active_height"),
    "bits_per_pixel": Column(
        pa.float64(), "bit", "compressed video bits of the clip per coded pixel and frame; null where packet sizes are unknown", 0.0
    ),
    "is_after_fault": _bool("the clip begins after a fault of its source; clips before the first fault are as they would be without it"),
    "is_scored": _bool("the clip is at least min_clip_s long; the others have null in every scorer's columns"),
    "caption": _text("caption that came with the source"),
    "faults": FAULTS_COLUMN,
}

FRAME_COLUMNS: dict[str, Column] = {
    "clip_id": CLIP_COLUMNS["clip_id"],
    "frame_times_ns": Column(pa.list_(pa.int64()), "ns", "presentation time of every decoded frame of the clip, in order"),
    "frame_is_duplicate": Column(pa.list_(pa.bool_()), "", "whether each frame repeats the picture before it"),
}

DECIDED_COLUMNS: dict[str, Column] = {
    "keep": _bool("no rule dropped the clip"),
    "drop_reasons": Column(pa.list_(pa.string()), "", "every rule that drops the clip, by its name; empty when it is kept"),
}

SOURCE_COLUMNS: dict[str, Column] = {
    "source_key": CLIP_COLUMNS["source_key"],
    "source_url": CLIP_COLUMNS["source_url"],
    "size_bytes": Column(pa.int64(), "B", "size when it was listed", 0),
    "etag": _text("entity tag that the object store gave, without quotes"),
    "mtime_ns": _ns("time of last modification when it was listed, since 1970-01-01 UTC"),
    "caption": _text("caption from the list or a sidecar file"),
    "status": _text("ok; damaged (some of it decoded); failed (none of it did); quarantined (it killed its worker, so it is not opened)"),
    "fault_stage": _text("where the first fault happened: open, decode, worker, ..."),
    "fault_kind": _text("class of the first fault, see Kinds of fault"),
    "fault_message": _text("what the first fault said"),
    "fault_ns": _ns("presentation time of the first fault"),
    "num_faults": _count("faults in all"),
    "duration_s": _seconds("length that the container declares"),
    "decoded_s": _seconds("length that was decoded"),
    "start_ns": _ns("presentation time of the first frame; may be negative"),
    "container": _text("container format, by ffmpeg's name"),
    "codec": _text("video codec, by ffmpeg's name"),
    "pixel_format": _text("pixel format, by ffmpeg's name"),
    "bit_depth": Column(pa.int32(), "bit", "bits of one component", 1, 32),
    "width": _pixels("width as displayed: rotation and sample aspect applied"),
    "height": _pixels("height as displayed"),
    "coded_width": _pixels("width of the decoded picture before rotation and sample aspect"),
    "coded_height": _pixels("height of the decoded picture before rotation and sample aspect"),
    "rotation": Column(pa.int32(), "deg", "clockwise rotation for display, to the nearest quarter turn: 0, 90, 180 or 270", 0, 270),
    "sample_aspect_ratio": Column(pa.float64(), "1", "width of a coded pixel divided by its height", 0.0),
    "fps": Column(pa.float64(), "frames/s", "frame rate that the container declares", 0.0),
    "is_variable_frame_rate": _bool("frames come at uneven distances"),
    "transfer": _text("transfer characteristic: sdr, pq or hlg"),
    "primaries": _text("colour primaries: bt601, bt709, bt2020 or p3"),
    "matrix": _text("matrix from luma and chroma to RGB: bt601, bt709 or bt2020nc"),
    "is_full_range": _bool("luma uses all code values (0 to 255 at 8 bits) instead of 16 to 235"),
    "is_interlaced": _bool("frames are interlaced"),
    "has_audio": _bool("the container holds an audio stream"),
    "video_stream": _index("index of the video stream that was read, as ffprobe counts; null where none was, and in manifests without it"),
    "audio_stream": _index("index of the sound that belongs to it, which exports take along; null where there is none"),
    "encoder": _text("program that wrote the file, by its own tag"),
    "tags": Column(_TAGS, "", "all tags of container and video stream, as the text of a JSON object (a map in the ledger)"),
    "num_frames": _count("decoded frames"),
    "num_keyframes": _count("frames that the codec can start from"),
    "num_packets": _count("packets with bytes; num_frames - num_repeated_frames + all packets_..., or the source is not ok"),
    "num_repeated_frames": _count("frames of packets that gave a frame before"),
    "packets_outside_edit_list": _count("packets decoded for others to be predicted from, and left out by the edit list"),
    "packets_second_field": _count("packets with the second field of a picture whose first field is another packet"),
    "packets_hidden": _count("packets with a reference picture that is never shown"),
    "packets_not_coded": _count("packets without a picture: the one before is shown on"),
    "packets_before_keyframe": _count("packets that need a picture from before the first usable keyframe"),
    "packets_lost": _count("packets lost to damage: refused by the decoder, or predicted from what was"),
    "packets_misplaced": _count("packets whose picture is left out since its time runs back, or is none"),
    "packets_unexplained": _count("packets that gave no picture, and nothing says why"),
    "num_shots": _count("shots"),
    "num_clips": _count("clips, those that are too short included"),
    "exact_s": _seconds("length of the clips of at least min_clip_s"),
    "snapped_s": _seconds("length of the clips of at least min_clip_s after snapping to keyframes"),
}


def field(name: str, column: Column) -> pa.Field:
    """Arrow field whose metadata carry unit, description, range and whether the column is stored apart for being large."""
    metadata = {"unit": column.unit, "description": column.doc}
    if column.low is not None:
        metadata["low"] = repr(float(column.low))
    if column.high is not None:
        metadata["high"] = repr(float(column.high))
    if column.large:
        metadata["large"] = "true"
    return pa.field(name, column.type, metadata=metadata)


def schema(columns: Mapping[str, Column]) -> pa.Schema:
    """Arrow schema of declared columns, in their order."""
    return pa.schema([field(name, column) for name, column in columns.items()])


def scorer_schema(columns: Mapping[str, Column]) -> pa.Schema:
    """What one scorer's table must look like in the ledger: `clip_id`, the scorer's columns, `faults`."""
    return schema({"clip_id": CLIP_COLUMNS["clip_id"], **columns, "faults": FAULTS_COLUMN})


def is_large(column: pa.Field) -> bool:
    """True for a column that is stored in a file of its own, read from its metadata."""
    return bool(column.metadata) and column.metadata.get(b"large") == b"true"


def table(columns: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table of this schema; a row holds every column. Maps may be dicts (sorted by key), structs objects or dicts.

    Text that no UTF-8 can hold (file names and tags of unknown encoding) gets U+FFFD in its place.
    """
    arrays = [pa.array([_plain(row[column.name], column.type) for row in rows], column.type) for column in columns]
    return pa.Table.from_arrays(arrays, schema=columns)


def _plain(value: Any, kind: pa.DataType) -> Any:
    if value is None or pa.types.is_primitive(kind):
        return value
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if pa.types.is_map(kind):
        return sorted((_plain(key, kind.key_type), _plain(item, kind.item_type)) for key, item in dict(value).items())
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        read = value.get if isinstance(value, dict) else lambda name: getattr(value, name)
        return {name: _plain(read(name), kind.field(name).type) for name in names}
    if pa.types.is_list(kind) and not pa.types.is_primitive(kind.value_type):
        return [_plain(item, kind.value_type) for item in value]
    return value
