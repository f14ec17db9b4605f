"""For tests of the layouts of trainers: small exports of the two films, and what their index lists."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curate.export.config import parse_export
from curate.pipelines.export import ExportResult, export

LAYOUTS: dict[str, dict[str, Any]] = {
    "finetrainers": {"sizes": ["320x176", "192x192"]},
    "musubi_tuner": {"max_pixels": 57_000},
    "diffusion_pipe": {"sizes": ["304x128", "320x176"]},
    "diffusers": {"num_frames": 17, "max_enlarge": 3.0},
}


def run(manifest: Path, layout: str, out: Path, **more: Any) -> ExportResult:
    settings = {"manifest": str(manifest), "layout": layout, "out": str(out), "preset": "ultrafast", "shard_clips": 3, "val_fraction": 0.5}
    result = export(parse_export({**settings, **LAYOUTS[layout], **more}))
    assert not result.failed and not result.failures
    return result


def index_of(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(out / "index").to_pylist()
    return rows


def listed(out: Path, split: str) -> dict[str, dict[str, Any]]:
    """Name of each file of a split in the export -> its row in the index."""
    return {row["file"]: row for row in index_of(out) if row["split"] == split}


def plain(text: str) -> str:
    return " ".join(text.split())
