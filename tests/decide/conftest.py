"""A ledger without video: clips whose scores the test chooses, written by the manifest's own writers."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.config import Config, parse_config
from curate.fingerprints import config_fingerprints
from curate.manifest import CLIP_COLUMNS, FRAME_COLUMNS, SOURCE_COLUMNS, Manifest, Run, schema, scorer_schema
from curate.sources import Source

TOY = """
from dataclasses import field
from typing import ClassVar
import pyarrow as pa
from pydantic import Field
from pydantic.dataclasses import dataclass
from curate.models import Weight
from curate.samples import Wants
from curate.scorers import Column

@dataclass(frozen=True)
class Scorer:
    version: ClassVar[int] = 1
    radius: int = Field(3, ge=1, le=9, description="of the disc", json_schema_extra={"unit": "px"})
    needs_weights: bool = Field(False, description="asks for weights that nobody has")
    columns = {
        "toy_speed": Column(pa.float32(), "% of diagonal/s", "made up", 0.0),
        "toy_area": Column(pa.float32(), "fraction", "made up", 0.0, 1.0),
        "toy_is_dark": Column(pa.bool_(), "", "made up"),
        "toy_vector": Column(pa.list_(pa.float16(), 2), "", "made up", large=True),
    }
    samples = Wants()

    def weights(self):
        return (Weight("toy/net", ("toy/net.pth",), "the toy", "none"),) if self.needs_weights else ()
"""


@pytest.fixture
def toy_scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Dotted name of a user's own scorer with columns toy_speed, toy_area, toy_is_dark and a large one."""
    package = tmp_path / "modules" / "toys"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "toy.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    for name in ("toys", "toys.toy"):
        sys.modules.pop(name, None)
    return "toys.toy"


WriteLedger = Callable[..., tuple[Manifest, Config]]


@pytest.fixture
def write_ledger(tmp_path: Path, toy_scorer: str) -> WriteLedger:
    """Call with rules and one dict of column arrays a shard; what is not given has harmless values."""

    def write(
        rules: Mapping[str, Any], shards: Sequence[Mapping[str, Any]], name: str = "out", absent: bool = False
    ) -> tuple[Manifest, Config]:
        parameters = {"needs_weights": True, "optional": True} if absent else {}
        config = parse_config({"output": str(tmp_path / name), "scorers": {toy_scorer: parameters}, "rules": rules})
        manifest = Manifest.create_or_open(tmp_path / name)
        fingerprints = config_fingerprints(config, 1)
        scored = {} if absent else dict(fingerprints["scorers"])
        sources = [Source(key=f"{i:04d}.mp4", url=f"/in/{i:04d}.mp4", size_bytes=1) for i in range(len(shards))]
        with manifest.lock():
            manifest.update_index(sources, shard_sources=1)
            for shard_id, given in enumerate(shards):
                clips = clip_table(sources[shard_id], given)
                tables = {} if absent else {toy_scorer: toy_table(config.scorers[toy_scorer].scorer.columns, clips, given)}
                frames = {"clip_id": clips["clip_id"], "frame_times_ns": [[]] * len(clips), "frame_is_duplicate": [[]] * len(clips)}
                frame_table = pa.table(frames, schema=schema(FRAME_COLUMNS))
                rows = source_table(sources[shard_id], clips, given)
                manifest.write_shard(shard_id, rows, clips, frame_table, tables, fingerprints["pass"], scored)
            manifest.write_run(
                Run(
                    config=config.model_dump(mode="json"),
                    pass_fingerprint=fingerprints["pass"],
                    scorers=scored,
                    rules_fingerprint=fingerprints["rules"],
                    absent=(toy_scorer,) if absent else (),
                )
            )
        return manifest, config

    return write


def clip_table(source: Source, given: Mapping[str, Any]) -> pa.Table:
    num = next((len(column) for name, column in given.items() if name not in ("status", "fault_message")), 0)
    start_ns = np.arange(num, dtype=np.int64) * 5_000_000_000
    values: dict[str, Any] = {
        "clip_id": [f"{source.key[:4]}{i:012d}" for i in range(num)],
        "source_key": [source.key] * num,
        "source_url": [source.url] * num,
        "start_ns": start_ns,
        "end_ns": start_ns + 5_000_000_000,
        "duration_s": np.full(num, 5.0),
        "snapped_duration_s": np.full(num, 4.0),
        "start_kind": ["cut"] * num,
        "end_kind": ["cut"] * num,
        "is_scored": np.ones(num, dtype=bool),
        "faults": [[]] * num,
    }
    values |= {name: column for name, column in given.items() if name in CLIP_COLUMNS}
    wanted = schema(CLIP_COLUMNS)
    return pa.table([pa.array(values[f.name], f.type) if f.name in values else _filler(f, num) for f in wanted], schema=wanted)


def _filler(wanted: pa.Field, num: int) -> pa.Array:
    if pa.types.is_boolean(wanted.type):
        return pa.array(np.zeros(num, dtype=bool))
    if wanted.name in ("bits_per_pixel", "caption") or not pa.types.is_primitive(wanted.type):
        return pa.nulls(num, wanted.type)
    return pa.array(np.full(num, 100), wanted.type)


def toy_table(columns: Mapping[str, Any], clips: pa.Table, given: Mapping[str, Any]) -> pa.Table:
    wanted = scorer_schema(columns)
    own = {name: pa.array(given[name], columns[name].type) for name in columns if name in given}
    faults = pa.array([[]] * len(clips), wanted.field("faults").type)
    filled = {name: own.get(name, pa.nulls(len(clips), column.type)) for name, column in columns.items()}
    return pa.table({"clip_id": clips["clip_id"], **filled, "faults": faults}, schema=wanted)


def source_table(source: Source, clips: pa.Table, given: Mapping[str, Any]) -> pa.Table:
    values: dict[str, Any] = {
        "source_key": source.key,
        "source_url": source.url,
        "size_bytes": source.size_bytes,
        "status": given.get("status", "ok"),
        "fault_message": given.get("fault_message"),
        "decoded_s": 10.0,
        "num_shots": 2,
        "num_clips": len(clips),
        "num_faults": 0,
        "exact_s": 8.0,
        "snapped_s": 6.0,
    }
    wanted = schema(SOURCE_COLUMNS)
    return pa.table([pa.array([values.get(f.name)], f.type) for f in wanted], schema=wanted)
