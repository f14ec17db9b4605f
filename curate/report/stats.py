"""Distributions of the columns of `clips/`, one line each, over the clips that were scored."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from curate.errors import ConfigError
from curate.manifest import Manifest

PERCENTS = (0, 5, 25, 50, 75, 95, 100)
HEADS = ("min", "5 %", "25 %", "median", "75 %", "95 %", "max")
_SKIPPED = ("start_ns", "end_ns", "snapped_start_ns", "snapped_end_ns")


def format_stats(folder: str | Path, columns: Sequence[str] = ()) -> str:
    """Numbers with their percentiles, booleans with the share that is true, words with their counts; `columns` of none takes all."""
    manifest = Manifest.open(folder)
    run, dataset = manifest.read_run(), manifest.published("clips")
    unknown = [name for name in columns if name not in dataset.schema.names]
    if unknown:
        raise ConfigError(f"{folder} has no column {', '.join(unknown)}; there are: {', '.join(dataset.schema.names)}")
    wanted = [field for field in dataset.schema if (field.name in columns if columns else field.name not in _SKIPPED)]
    table = dataset.to_table(columns=[field.name for field in wanted], filter=ds.field("is_scored"))
    width = max((len(field.name) for field in wanted), default=6)
    note = [f"Note: {run.rescan_note}"] if run and run.rescan_note else []
    lines = [
        *note,
        f"{len(table):,} scored clips",
        f"{'column':<{width}}  {'null':>7}" + "".join(f"{head:>11}" for head in HEADS) + "  unit",
    ]
    lines += [line for field in wanted if (line := _line(field, table[field.name], width))]
    return "\n".join(lines)


def _line(field: pa.Field, column: pa.ChunkedArray, width: int) -> str | None:
    unit = (field.metadata or {}).get(b"unit", b"").decode()
    head = f"{field.name:<{width}}  {column.null_count:>7,}"
    if pa.types.is_boolean(field.type):
        share = pc.mean(column).as_py()
        return head + (f"  {100 * share:.1f} % true" if share is not None else "")
    if pa.types.is_string(field.type):
        counts = pc.value_counts(column.drop_null()).to_pylist()
        if len(counts) > 12:
            return None
        ordered = sorted(counts, key=lambda one: -one["counts"])
        return head + "  " + ", ".join(f"{one['values']} {one['counts']:,}" for one in ordered)
    if not (pa.types.is_floating(field.type) or pa.types.is_integer(field.type)):
        return None
    values = column.drop_null().to_numpy()
    if not len(values):
        return head
    return head + "".join(f"{value:>11.4g}" for value in np.percentile(values, PERCENTS)) + f"  {unit}"
