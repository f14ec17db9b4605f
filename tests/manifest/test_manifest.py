"""The folder of a manifest: whose it is, what made it, who may write, what is damaged; and the page that describes it."""

import fcntl
import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate import manifest_docs
from curate.errors import ManifestError
from curate.manifest import (
    CLIP_COLUMNS,
    DECIDED_COLUMNS,
    SOURCE_COLUMNS,
    Manifest,
    Run,
    differences,
    files,
    fingerprint,
    published,
    versions,
)
from curate.manifest.lock import LOCK_NAME


@pytest.mark.parametrize("name", ["film.mp4", "clips/film.mp4", "run.json", "shards/x"])
def test_folder_with_other_files_is_refused_and_left_as_it_is(made: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"some": "thing"}')
    before = made.contents(tmp_path)
    with pytest.raises(ManifestError, match="is not empty and holds no manifest"):
        Manifest.create_or_open(tmp_path)
    assert made.contents(tmp_path) == before
    with pytest.raises(ManifestError, match="holds no manifest"):
        Manifest.open(tmp_path)


def test_new_empty_hidden_only_and_just_begun_folders_are_accepted(made: Any, tmp_path: Path) -> None:
    for name in ("new/deep", "empty", "hidden", "begun"):
        folder = tmp_path / name
        if name != "new/deep":
            folder.mkdir()
        if name == "hidden":
            (folder / ".DS_Store").touch()
        if name == "begun":
            (folder / "shards").mkdir()
        assert Manifest.create_or_open(folder).update_index(made.sources("a.mp4"), 1).num_new == 1
        assert Manifest.open(folder).shard_ids() == [0]


def test_output_that_is_a_file_or_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ManifestError, match="is a file"):
        Manifest.create_or_open(tmp_path / "file")
    manifest = Manifest.create_or_open(tmp_path / "out")
    manifest.write_run(Run({}, "p", {}, schema_version=99))
    with pytest.raises(ManifestError, match="schema version 99, this program reads 2 and 3"):
        Manifest.create_or_open(tmp_path / "out")
    with pytest.raises(ManifestError, match=r"nosuch://bucket/out: "):
        Manifest.create_or_open("nosuch://bucket/out")


def test_header_and_policy_come_back_and_equal_runs_write_equal_bytes(made: Any, tmp_path: Path) -> None:
    manifest = Manifest.create_or_open(tmp_path)
    assert manifest.read_run() is None and manifest.read_policy() is None
    run = Run({"b": 1, "a": [1, 2.5, None]}, "p", {"motion": "m"}, "r", versions(["numpy", "no-such-package"]), {"w": "00"}, ("looks",))
    manifest.write_run(run)
    before = made.contents(tmp_path)
    manifest.write_run(Run({"a": [1, 2.5, None], "b": 1}, "p", {"motion": "m"}, "r", run.versions, {"w": "00"}, ("looks",)))
    assert made.contents(tmp_path) == before
    assert Manifest.open(tmp_path).read_run() == run
    assert set(run.versions) == {"curate", "python", "numpy"}
    assert list(manifest.verify()) == []
    manifest.write_policy({"low_motion": {"min": 0.25}})
    assert manifest.read_policy() == {"low_motion": {"min": 0.25}}


def test_fingerprint_depends_on_values_and_not_on_their_order() -> None:
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint({"b": {"d": 3, "c": 2}, "a": 1})
    assert len({fingerprint({"a": 1}), fingerprint({"a": 2}), fingerprint({"a": 1}, 1), fingerprint({"a": "1"})}) == 4


def test_differences_name_what_changed() -> None:
    before = {"shots": {"threshold": 27, "old": True}, "same": [1]}
    after = {"shots": {"threshold": 30, "new": "x"}, "same": [1]}
    assert differences(before, after, "config") == [
        'config.shots.new: (not set) -> "x"',
        "config.shots.old: true -> (not set)",
        "config.shots.threshold: 27 -> 30",
    ]


def test_verify_names_exactly_the_damaged_or_missing_file(made: Any, manifest: Manifest) -> None:
    manifest.publish(manifest.iter_clips(), manifest.iter_sources())
    manifest.write_scorer(0, "text", made.score_table(manifest.shard(0).read_keys(), {"text_area": made.MOTION["motion_x"]}, 3), "t1")
    manifest.write_run(Run({}, "pass1", made.FINGERPRINTS))
    assert list(manifest.verify()) == []
    for path in [path for path in manifest.root.rglob("*") if path.is_file() and path.name != published.CHECKSUMS]:
        data = path.read_bytes()
        if path.name != "run.json":
            damaged = bytearray(data)
            damaged[len(data) // 3] ^= 0x80
            path.write_bytes(damaged)
            assert [problem.path for problem in manifest.verify()] == [path], path
        path.write_bytes(data[: len(data) // 2])
        (problem,) = manifest.verify()
        assert problem.path == path and problem.remedy
        path.write_bytes(data)
    (manifest.shard(1).folder / "motion.parquet").unlink()
    (problem,) = manifest.verify()
    assert problem.what == "is missing" and str(manifest.shard(1).folder / "done.json") in problem.remedy


def holder(root: Path) -> subprocess.Popen[bytes]:
    script = textwrap.dedent("""
        import sys, time
        from curate.manifest import Manifest
        with Manifest.create_or_open(sys.argv[1]).lock():
            print("ready", flush=True)
            time.sleep(60)
    """)
    child = subprocess.Popen([sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert child.stdout and child.stdout.readline()
    child.stdout.close()
    return child


def test_second_writer_is_refused_by_name_and_a_killed_one_is_taken_over(tmp_path: Path) -> None:
    child = holder(tmp_path)
    manifest = Manifest.create_or_open(tmp_path)
    try:
        with (
            pytest.raises(ManifestError, match=f"another run is writing here .process {child.pid} on {socket.gethostname()}"),
            manifest.lock(),
        ):
            pass
    finally:
        child.kill()
        child.wait()
    assert (tmp_path / LOCK_NAME).exists()
    with manifest.lock():
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert os.listdir(tmp_path) == []


def test_lock_left_on_another_host_is_believed(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text(json.dumps({"host": "elsewhere", "pid": 4}))
    with (
        pytest.raises(ManifestError, match=r"host elsewhere \(process 4\).*remove .*curate-lock"),
        Manifest.create_or_open(tmp_path).lock(),
    ):
        pass
    (tmp_path / LOCK_NAME).write_text("")
    with Manifest.create_or_open(tmp_path).lock():
        pass


def test_lock_on_a_file_that_its_last_holder_has_just_removed_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flock, num_locks = tmp_path / LOCK_NAME, fcntl.flock, 0

    def remove_first(descriptor: int, operation: int) -> None:
        nonlocal num_locks
        flock(descriptor, operation)
        num_locks += 1
        if num_locks == 1:
            path.unlink()

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with Manifest.create_or_open(tmp_path).lock():
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert num_locks == 2


def test_failed_write_says_why_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(ManifestError, match="cannot be written"):
        files.write_file(tmp_path / "taken", b"x")
    with pytest.raises(ManifestError, match="No such file"):
        files.write_file(tmp_path / "no/such", b"x")
    assert os.listdir(tmp_path) == ["taken"]


def test_looking_for_work_reads_the_index_once_and_one_file_a_shard(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest.create_or_open(tmp_path)
    manifest.update_index(made.sources(*(f"{i:05d}.mp4" for i in range(3000))), 3)
    opened: list[str] = []
    read = Path.read_bytes

    def noting(path: Path) -> bytes:
        opened.append(path.name)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", noting)
    assert len(manifest.pending_shards("p")) == 1000
    assert opened.count("index.parquet") == 1 and opened.count("done.json") == 1000 and len(opened) == 1001


def test_page_on_the_manifest_is_what_the_code_says() -> None:
    page = Path(__file__).parents[2] / "docs/manifest.md"
    assert page.read_text(encoding="utf-8") == manifest_docs.render(manifest_docs.bundled_scorers()), (
        "run: python -m curate.manifest_docs docs/manifest.md"
    )


def test_every_column_states_its_meaning_and_every_number_its_unit() -> None:
    scorers = [columns for _, columns in manifest_docs.bundled_scorers().values()]
    for columns in (CLIP_COLUMNS, DECIDED_COLUMNS, SOURCE_COLUMNS, *scorers):
        for name, column in columns.items():
            assert len(column.doc) > 3, name
            if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
                assert column.unit, name
