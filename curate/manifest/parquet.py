"""Parquet with deterministic bytes: fixed compression, no time, no pandas metadata, the same pages however a table was pieced together."""

import io
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import ManifestError

# Index and published parts: readers that want one shard or one column need not read the rest.
ROW_GROUP_ROWS = 100_000
_TIMES = pa.list_(pa.int64())


def encode(table: pa.Table, compression: Literal["zstd", "lz4"] = "zstd") -> memoryview:
    """The whole file. Pages carry checksums, so a reader can tell a damaged one.

    LZ4 is for the many small files of the ledger: they take half the time to read, and at their size no more space.
    """
    # Where chunks end would decide where pages end.
    table = table.replace_schema_metadata(None).combine_chunks()
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression=compression,
        row_group_size=ROW_GROUP_ROWS,
        write_page_checksum=True,
        # Measured numbers hardly repeat: a dictionary of them is made and thrown away.
        use_dictionary=[column.name for column in table.schema if pa.types.is_string(column.type)],
        # Times of frames go up in nearly even steps: one or two bits a frame instead of 64.
        column_encoding={f"{column.name}.list.element": "DELTA_BINARY_PACKED" for column in table.schema if column.type == _TIMES} or None,
    )
    return memoryview(sink.getvalue())


def read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The table; raises `ManifestError` naming the file when it is missing or damaged."""
    try:
        # From memory: a small file is read in one call instead of one for each column and the footer.
        with pq.ParquetFile(io.BytesIO(path.read_bytes()), page_checksum_verification=True) as file:
            return file.read(columns=columns, use_threads=False).replace_schema_metadata(None)
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: is missing") from error
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"{path}: cannot be read: {error}") from error
