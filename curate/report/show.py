"""Everything that a manifest knows of one clip or one source, as text."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from curate.errors import ConfigError
from curate.manifest import Manifest

MAX_MATCHES = 10


def format_clip_or_source(folder: str | Path, key: str) -> str:
    """The row of a clip (by `clip_id` or its beginning), or of a source (by `source_key`) with its clips.

    Raises `ConfigError` where nothing, or more than one clip, is meant.
    """
    manifest = Manifest.open(folder)
    run, clips = manifest.read_run(), manifest.published("clips")
    note = [f"Note: {run.rescan_note}", ""] if run and run.rescan_note else []
    sources = manifest.published("sources").to_table(filter=ds.field("source_key") == key)
    if len(sources):
        return "\n".join([*note, *_row(sources), "", *_clips(clips.to_table(filter=ds.field("source_key") == key))])
    found = clips.to_table(filter=pc.starts_with(ds.field("clip_id"), key))
    if len(found) == 1:
        return "\n".join([*note, *_row(found)])
    if len(found):
        ids = ", ".join(found["clip_id"].slice(0, MAX_MATCHES).to_pylist())
        raise ConfigError(f"{len(found)} clips begin with {key!r}: {ids}; give more of it")
    raise ConfigError(f"{folder} has no clip_id that begins with {key!r} and no source_key {key!r}")


def _row(table: pa.Table) -> list[str]:
    width = max(len(name) for name in table.column_names)
    values = table.to_pylist()[0]
    lines = []
    for field in table.schema:
        unit = (field.metadata or {}).get(b"unit", b"").decode()
        text = _text(values[field.name])
        lines.append(f"{field.name:<{width}}  {text}{' ' + unit if unit not in ('', '1') and text != 'null' else ''}")
    return lines


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _clips(table: pa.Table) -> list[str]:
    lines = [f"{'clip_id':<16}  {'start':>9}  {'end':>9}  decision"]
    for row in table.select(["clip_id", "start_ns", "end_ns", "keep", "drop_reasons"]).to_pylist():
        decision = "keep" if row["keep"] else f"drop: {', '.join(row['drop_reasons'])}"
        lines.append(f"{row['clip_id']}  {row['start_ns'] / 1e9:>9.3f}  {row['end_ns'] / 1e9:>9.3f}  {decision}")
    return lines
