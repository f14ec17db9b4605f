"""A manifest of commit cfd49d6 (schema version 2, `tests/manifest/old`) under the code of today:
nothing of it is decoded again."""

import importlib.util
import json
import shutil
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from curate import scorers
from curate.cli import main
from curate.config import Config, parse_config
from curate.decide.decide import redecide
from curate.errors import ManifestError
from curate.export.config import parse_export
from curate.kept import read_kept
from curate.manifest import Manifest
from curate.pipelines import curation
from curate.pipelines.engine import local
from curate.pipelines.export import export

OLD = Path(__file__).parent / "old"
# Of scorers, when it was made. That of the pass was 7.
VERSIONS = {"motion": 2, "quality": 1, "synthetic": 3}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest as it was written, and in `videos` what it was made of."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(OLD / "manifest.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    maker().videos(folder / "videos")
    return folder


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("old_maker", OLD / "make.py")
    assert spec and spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def old(unpacked: Path, tmp_path: Path) -> Path:
    return shutil.copytree(unpacked / "manifest", tmp_path / "manifest")


@pytest.fixture
def same_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions as they were, so that this goes on to be true when one is raised: that is another
    matter."""
    monkeypatch.setattr(curation, "PASS_VERSION", 7)
    for name, version in VERSIONS.items():
        monkeypatch.setattr(scorers.load(name), "version", version)


def config_of(manifest: Path, videos: Path, **changes: Any) -> Config:
    """What its last run was given, every value written out; without the scorer whose weights would
    be looked for on the network."""
    content = json.loads((manifest / "run.json").read_text())["config"]
    own = {name: one for name, one in content["scorers"].items() if name != "aesthetic"}
    return parse_config(
        {
            **content,
            "input": str(videos),
            "output": str(manifest),
            "models": None,
            "scorers": own,
            **changes,
        }
    )


def ledger(manifest: Path) -> dict[str, bytes]:
    files = sorted(path for path in (manifest / "shards").glob("*/*") if path.is_file())
    return {str(path.relative_to(manifest)): path.read_bytes() for path in files}


def no_engine(*args: object) -> None:
    raise AssertionError("something is computed again")


def test_it_is_read_as_it_is(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = ledger(old)
    assert main(["verify", str(old)]) == 0 and main(["status", str(old)]) == 0 and main(["stats", str(old)]) == 0
    printed = capsys.readouterr().out
    assert "every file is what was written" in printed and "Scanned     3 of 3 shards (100 %)" in printed
    assert "Scorers     motion, quality, synthetic, aesthetic" in printed and "missing)" not in printed
    assert len(read_kept(old)) == 5
    assert ledger(old) == before and (old / "clips/_checksums.json").exists()


def test_deciding_gives_the_same_decisions_and_publishes_it_as_today(old: Path) -> None:
    before, marked = pd.read_parquet(old / "clips"), ledger(old)
    policy = (old / "policy.json").read_bytes()
    redecide(old)
    after = pd.read_parquet(old / "clips")
    pd.testing.assert_frame_equal(after, before)
    assert (old / "policy.json").read_bytes() == policy, "percentiles that were frozen stay"
    assert [path.name for name in ("clips", "sources") for path in (old / name).iterdir()] == ["part-00000.parquet"] * 2
    assert json.loads(pd.read_parquet(old / "sources").set_index("source_key").tags["car.mp4"])["encoder"].startswith("Lavf")
    assert list(Manifest.open(old).verify()) == [] and ledger(old) == marked
    header = json.loads((old / "run.json").read_text())
    assert header["schema_version"] == 3 and header["pass_fingerprint"] in header["names"].values()
    redecide(old, ["rules.dark.min=250"])
    assert not pd.read_parquet(old / "clips").keep.any()


@pytest.mark.parametrize("decides_first", [False, True])
def test_a_run_does_nothing_again_and_its_clips_are_exported(
    old: Path,
    unpacked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    same_versions: None,
    decides_first: bool,
) -> None:
    before = ledger(old)
    config = config_of(old, unpacked / "videos")
    if decides_first:
        redecide(old)
    with monkeypatch.context() as patch:
        patch.setattr(local, "run", no_engine)
        for _ in range(2):  # the second time the header is of today
            result = curation.run(config)
            assert (result.num_shards_done, result.summary.num_kept, result.failures) == (0, 5, ())
    assert ledger(old) == before
    run = Manifest.open(old).read_run()
    assert run is not None and run.schema_version == 3 and run.names
    made = export(parse_export({"manifest": str(old), "layout": "webdataset", "out": str(tmp_path / "out")}))
    assert made.failures == () and made.num_samples == 5


def test_only_what_changed_is_computed_again(old: Path, unpacked: Path, same_versions: None) -> None:
    before, same = ledger(old), config_of(old, unpacked / "videos")
    own = {"motion": {}, "quality": {}, "synthetic": {"black_level": 30.0}}
    result = curation.run(config_of(old, unpacked / "videos", scorers=own))
    after = ledger(old)
    assert result.num_shards_done == 3
    changed = {Path(name).name for name in before if after[name] != before[name]}
    assert changed <= {"synthetic.parquet", "done.synthetic.json"} and "done.synthetic.json" in changed
    assert curation.run(same).num_shards_done == 3, "and back again"
    marks = [json.loads(data)["fingerprint"] for found in (before, ledger(old)) for name, data in found.items() if "done.s" in name]
    assert len(marks) == 6 and len(set(marks)) == 1


def test_new_sources_and_old_ones_are_one_manifest(old: Path, unpacked: Path, tmp_path: Path, same_versions: None) -> None:
    videos = shutil.copytree(unpacked / "videos", tmp_path / "videos")
    shutil.copy2(videos / "car.mp4", videos / "second.mp4")
    before = ledger(old)
    assert curation.run(config_of(old, videos)).num_shards_done == 1
    after = ledger(old)
    assert {name: after[name] for name in before} == before
    marks = [json.loads(after[f"shards/0000{shard}/done.json"])["pass"] for shard in range(4)]
    assert len(set(marks)) == 1
    clips = pd.read_parquet(old / "clips").groupby("source_key").size()
    assert clips["second.mp4"] == clips["car.mp4"]


def test_another_pass_is_not_taken_for_the_same(old: Path, unpacked: Path, same_versions: None) -> None:
    before = ledger(old)
    config = config_of(old, unpacked / "videos", clips={"min_clip_s": 0.6, "max_clip_s": 2.0})
    with pytest.raises(ManifestError, match=r"clips\.min_clip_s: 0\.5 -> 0\.6\nThese"):
        curation.run(config)
    assert ledger(old) == before
