"""The manifest: complete or redone, never half; the same bytes every time; nothing of anybody else's touched."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import manifest_docs
from curate.clip import Fault, Span, clip_id
from curate.errors import ManifestError
from curate.manifest import (
    CLIP_COLUMNS,
    DECIDED_COLUMNS,
    SOURCE_COLUMNS,
    Manifest,
    Run,
    Shard,
    differences,
    files,
    fingerprint,
    parquet,
    published,
    schema,
    scorer_schema,
    table,
    versions,
)
from curate.scorers import Column
from curate.sources import Source

MOTION = {"motion_x": Column(pa.float64(), "px", "made up", 0.0, 1.0)}
LOOKS = {"looks": Column(pa.float32(), "1", "made up"), "looks_embedding": Column(pa.list_(pa.float16(), 4), "1", "made up", large=True)}
FINGERPRINTS = {"motion": "m1", "looks": "l1"}


def sources(*names: str, size: int = 10) -> list[Source]:
    return [Source(name, f"/in/{name}", size, None, 7) for name in sorted(names)]


def source_table(members: tuple[Source, ...]) -> pa.Table:
    empty = dict.fromkeys(SOURCE_COLUMNS)
    rows = [
        {**empty, "source_key": s.key, "source_url": s.url, "size_bytes": s.size_bytes, "etag": s.etag, "mtime_ns": s.mtime_ns}
        for s in members
    ]
    return table(schema(SOURCE_COLUMNS), rows)


def clip_table(members: tuple[Source, ...], num_clips: int = 3) -> pa.Table:
    rows = []
    for source in members:
        for i in range(num_clips):
            span = Span(i * 10**9, (i + 1) * 10**9)
            row: dict[str, Any] = dict.fromkeys(CLIP_COLUMNS)
            row |= {"clip_id": clip_id(source.key, span), "source_key": source.key, "source_url": source.url}
            rows.append(row | {"start_ns": span.start_ns, "end_ns": span.end_ns, "faults": []})
    return table(schema(CLIP_COLUMNS), rows)


def score_table(clips: pa.Table, columns: dict[str, Column], seed: int, faults: dict[int, list[Fault]] | None = None) -> pa.Table:
    random = np.random.default_rng(seed)
    rows = []
    for i, name in enumerate(clips["clip_id"].to_pylist()):
        row: dict[str, Any] = {"clip_id": name, "faults": (faults or {}).get(i, [])}
        rows.append(
            row | {key: random.random(4).astype(np.float16) if column.large else random.random() for key, column in columns.items()}
        )
    return table(scorer_schema(columns), rows)


def commit(shard: Shard, members: tuple[Source, ...], seed: int = 0, num_clips: int = 3) -> None:
    clips = clip_table(members, num_clips)
    scores = {"motion": score_table(clips, MOTION, seed), "looks": score_table(clips, LOOKS, seed + 1)}
    shard.write(source_table(members), clips, scores, "pass1", FINGERPRINTS)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Two shards of two sources, both complete."""
    found = Manifest.create_or_open(tmp_path / "out")
    found.update_index(sources("a.mp4", "b.mp4", "c.mp4", "d.mp4"), 2)
    for shard_id in found.shard_ids():
        commit(found.shard(shard_id), found.index().sources(shard_id), shard_id)
    return found


class Killed(BaseException):
    """Stands for the process ending here: nothing in the code under test may catch it."""


def steps(monkeypatch: pytest.MonkeyPatch, stop_at: int | None, leave_aside: bool = False) -> list[str]:
    """Counts every change to the disk; ends the process before change number `stop_at`, perhaps with its temporary file written."""
    log: list[str] = []

    def stepping(name: str) -> None:
        real = getattr(files, name)

        def step(path: Path, *rest: Any) -> None:
            if len(log) == stop_at:
                if leave_aside and name == "write_file":
                    path.with_name(f"{files.ASIDE_PREFIX}{path.name}-0").write_bytes(b"half")
                raise Killed
            log.append(f"{name} {path.name}")
            real(path, *rest)

        monkeypatch.setattr(files, name, step)

    for name in ("write_file", "remove_file", "rename_folder"):
        stepping(name)
    return log


def interruptions(work: Callable[[], object], restore: Callable[[], None]) -> Iterator[int]:
    """Runs `work` again and again, killed one change later each time; yields after each death."""
    for stop_at in range(1000):
        for leave_aside in (False, True):
            restore()
            with pytest.MonkeyPatch.context() as patch:
                steps(patch, stop_at, leave_aside)
                try:
                    work()
                    return
                except Killed:
                    pass
            yield stop_at


# Folder and header


@pytest.mark.parametrize("name", ["film.mp4", "clips/film.mp4", "run.json", "shards/x"])
def test_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"some": "thing"}')
    before = contents(tmp_path)
    with pytest.raises(ManifestError, match="is not empty and holds no manifest"):
        Manifest.create_or_open(tmp_path)
    assert contents(tmp_path) == before
    with pytest.raises(ManifestError, match="holds no manifest"):
        Manifest.open(tmp_path)


def test_new_empty_hidden_only_and_just_begun_folders_are_accepted(tmp_path: Path) -> None:
    for name in ("new/deep", "empty", "hidden", "begun"):
        folder = tmp_path / name
        if name != "new/deep":
            folder.mkdir()
        if name == "hidden":
            (folder / ".DS_Store").touch()
        if name == "begun":
            (folder / "shards").mkdir()
        assert Manifest.create_or_open(folder).update_index(sources("a.mp4"), 1).num_new == 1
        assert Manifest.open(folder).shard_ids() == [0]


def test_output_that_is_a_file_or_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ManifestError, match="is a file"):
        Manifest.create_or_open(tmp_path / "file")
    manifest = Manifest.create_or_open(tmp_path / "out")
    manifest.write_run(Run({}, "p", {}, schema_version=99))
    with pytest.raises(ManifestError, match="schema version 99, this program writes 1"):
        Manifest.create_or_open(tmp_path / "out")
    with pytest.raises(ManifestError, match="local folder"):
        Manifest.create_or_open("s3://bucket/out")


def test_header_and_policy_come_back_and_equal_runs_write_equal_bytes(tmp_path: Path) -> None:
    manifest = Manifest.create_or_open(tmp_path)
    assert manifest.read_run() is None and manifest.read_policy() is None
    run = Run({"b": 1, "a": [1, 2.5, None]}, "p", {"motion": "m"}, "r", versions(["numpy", "no-such-package"]), {"w": "00"}, ("looks",))
    manifest.write_run(run)
    before = contents(tmp_path)
    manifest.write_run(Run({"a": [1, 2.5, None], "b": 1}, "p", {"motion": "m"}, "r", run.versions, {"w": "00"}, ("looks",)))
    assert contents(tmp_path) == before
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


# Index


def test_index_is_written_once_and_a_listing_without_changes_touches_nothing(manifest: Manifest) -> None:
    path = manifest.root / "shards/index.parquet"
    before = path.stat().st_mtime_ns
    assert [[s.key for s in manifest.index().sources(i)] for i in manifest.shard_ids()] == [["a.mp4", "b.mp4"], ["c.mp4", "d.mp4"]]
    change = manifest.update_index(sources("a.mp4", "b.mp4", "c.mp4", "d.mp4"), 1)
    assert (change.num_new, change.num_changed, change.redo, change.added) == (0, 0, (), ())
    assert path.stat().st_mtime_ns == before


def test_new_sources_get_new_shards_and_old_ones_are_never_regrouped(manifest: Manifest) -> None:
    ledger = contents(manifest.root / "shards/00000") | contents(manifest.root / "shards/00001")
    change = manifest.update_index(sources("a.mp4", "aa.mp4", "b.mp4", "c.mp4", "d.mp4", "0.mp4", "z.mp4"), 2)
    assert (change.num_new, change.added, change.num_vanished) == (3, (2, 3), 0)
    index = manifest.index()
    assert [[s.key for s in index.sources(i)] for i in index.shard_ids] == [
        ["a.mp4", "b.mp4"],
        ["c.mp4", "d.mp4"],
        ["0.mp4", "aa.mp4"],
        ["z.mp4"],
    ]
    assert manifest.pending_shards("pass1") == [2, 3]
    assert contents(manifest.root / "shards/00000") | contents(manifest.root / "shards/00001") == ledger


def test_changed_source_invalidates_its_shard_alone_and_the_index_follows(manifest: Manifest) -> None:
    change = manifest.update_index(sources("a.mp4", "b.mp4", "d.mp4") + sources("c.mp4", size=11), 2)
    assert (change.num_changed, change.redo, change.num_vanished) == (1, (1,), 0)
    assert manifest.pending_shards("pass1") == [1]
    assert manifest.index().sources(1)[0].size_bytes == 11


def test_changed_shard_is_invalid_before_the_index_says_so(manifest: Manifest) -> None:
    backup = manifest.root.with_name("backup")
    shutil.copytree(manifest.root, backup)

    def restore() -> None:
        shutil.rmtree(manifest.root)
        shutil.copytree(backup, manifest.root)

    listing = sources("a.mp4", "b.mp4", "d.mp4") + sources("c.mp4", size=11)
    died = 0
    for _ in interruptions(lambda: manifest.update_index(listing, 2), restore):
        died += 1
        manifest.update_index(listing, 2)
        assert manifest.pending_shards("pass1") == [1] and manifest.index().sources(1)[0].size_bytes == 11
    assert died >= 4


def test_vanished_sources_keep_their_rows_and_a_new_caption_redoes_its_shard(manifest: Manifest) -> None:
    change = manifest.update_index([Source("a.mp4", "/in/a.mp4", 10, None, 7, "a dog")], 2)
    assert (change.num_vanished, change.num_recaptioned, change.redo) == (3, 1, (0,))
    assert manifest.index().sources(0)[0].caption == "a dog"
    assert manifest.pending_shards("pass1") == [0]
    assert len(manifest.index().sources(1)) == 2


def test_moved_folder_changes_urls_and_redoes_nothing(manifest: Manifest) -> None:
    moved = [Source(s.key, s.url.replace("/in/", "/mnt/new/"), s.size_bytes, None, 7) for s in sources("a.mp4", "b.mp4", "c.mp4", "d.mp4")]
    change = manifest.update_index(moved, 2)
    assert (change.num_moved, change.redo) == (4, ())
    assert manifest.pending_shards("pass1") == []
    for rows in (*manifest.iter_clips(), *manifest.iter_sources()):
        assert rows["source_url"].to_pylist() == [f"/mnt/new/{key}" for key in rows["source_key"].to_pylist()]


def test_shard_is_pending_for_another_pass_and_for_other_files_than_the_index_has(manifest: Manifest) -> None:
    assert manifest.pending_shards("pass1") == []
    assert manifest.pending_shards("pass2") == [0, 1]
    commit(manifest.shard(1), (Source("c.mp4", "/in/c.mp4", 10, None, 8), Source("d.mp4", "/in/d.mp4", 10, None, 7)))
    assert manifest.pending_shards("pass1") == [1]


# Ledger


def test_what_was_written_is_read_back_and_large_columns_stay_apart(manifest: Manifest) -> None:
    clips = manifest.read_clips(0, FINGERPRINTS)
    assert clips.column_names == [*CLIP_COLUMNS, "looks", "motion_x"]
    written = clip_table(manifest.index().sources(0))
    assert clips.select(written.column_names).equals(written)
    assert clips["motion_x"].equals(score_table(written, MOTION, 0)["motion_x"])
    assert manifest.shard(0).read_large("looks")["looks_embedding"].equals(score_table(written, LOOKS, 1)["looks_embedding"])
    assert clips.schema.field("motion_x").metadata == {b"unit": b"px", b"description": b"made up", b"low": b"0.0", b"high": b"1.0"}
    assert manifest.read_sources(1).equals(source_table(manifest.index().sources(1)))
    assert manifest.read_clips(0).equals(clips)


def test_shard_without_clips_is_complete_and_has_every_column(manifest: Manifest) -> None:
    commit(manifest.shard(0), manifest.index().sources(0), num_clips=0)
    assert manifest.pending_shards("pass1") == []
    assert manifest.read_clips(0, FINGERPRINTS).schema.equals(manifest.read_clips(1, FINGERPRINTS).schema)


def test_commit_killed_at_any_change_is_complete_or_redone_to_the_same_bytes(tmp_path: Path) -> None:
    members = tuple(sources("a.mp4", "b.mp4"))
    fresh, reference = Shard(tmp_path / "fresh"), Shard(tmp_path / "reference")
    commit(reference, members, seed=5)
    marks = reference.marks()
    num_died = 0
    for _ in interruptions(lambda: commit(fresh, members, seed=5), lambda: shutil.rmtree(fresh.folder, ignore_errors=True)):
        num_died += 1
        assert fresh.marks() in (None, marks)
        commit(fresh, members, seed=5)
        assert contents(fresh.folder) == contents(reference.folder)
    assert num_died == 2 * len(["done.json removed", "sources", "clips", "motion", "looks", "looks.large", "done.json"])


def test_redoing_a_complete_shard_killed_at_any_change_never_mixes_old_and_new(tmp_path: Path) -> None:
    members = tuple(sources("a.mp4", "b.mp4"))
    shard, old, new = (Shard(tmp_path / name) for name in ("shard", "old", "new"))
    commit(old, members, seed=1, num_clips=4)
    old.write_scorer("motion", score_table(clip_table(members, 4), MOTION, 9), "m2")
    commit(new, members, seed=2, num_clips=3)
    allowed = {None: "absent", "m2": contents(old.folder), "m1": contents(new.folder)}

    def restore() -> None:
        shutil.rmtree(shard.folder, ignore_errors=True)
        shutil.copytree(old.folder, shard.folder)

    for _ in interruptions(lambda: commit(shard, members, seed=2, num_clips=3), restore):
        marks = shard.marks()
        if marks is not None:
            expected = allowed[marks.scorers["motion"]]
            assert {name: data for name, data in contents(shard.folder).items() if not name.startswith(".")} == expected
        commit(shard, members, seed=2, num_clips=3)
        assert contents(shard.folder) == contents(new.folder)


def test_commit_ended_by_sigkill_leaves_a_shard_that_verifies_or_is_not_there(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import importlib.util, itertools, pathlib, sys
        spec = importlib.util.spec_from_file_location("written", sys.argv[1])
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        members = tuple(module.sources("a.mp4", "b.mp4"))
        print("ready", flush=True)
        for seed in itertools.count():
            module.commit(module.Shard(pathlib.Path(sys.argv[2])), members, seed, num_clips=seed % 5)
    """)
    shard = Shard(tmp_path / "shard")
    for delay_s in (0.02, 0.05, 0.09):
        child = subprocess.Popen(
            [sys.executable, "-c", script, __file__, str(shard.folder)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
        )
        assert child.stdout and child.stdout.readline()
        time.sleep(delay_s)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if shard.marks() is not None:
            assert list(shard.problems()) == []
            assert shard.read_clips(FINGERPRINTS).num_columns == len(CLIP_COLUMNS) + 2


def test_added_scorer_leaves_every_other_byte_and_time_as_it_was(manifest: Manifest) -> None:
    folder = manifest.shard(0).folder
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}
    extra = {"text_area": Column(pa.float32(), "1", "made up", 0, 1)}
    wanted = FINGERPRINTS | {"text": "t1"}
    assert manifest.scorers_missing(0, wanted) == ("text",)
    written = score_table(manifest.shard(0).read_keys(), extra, 3)
    manifest.write_scorer(0, "text", written, "t1")
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir() if path in before}
    assert after == before
    assert {path.name for path in folder.iterdir()} - {path.name for path in before} == {"text.parquet", "done.text.json"}
    assert manifest.scorers_missing(0, wanted) == ()
    assert manifest.read_clips(0, wanted)["text_area"].equals(written["text_area"])
    assert manifest.scorers_missing(1, wanted) == ("text",)


def test_changed_scorer_killed_at_any_change_never_passes_old_values_for_new_ones(manifest: Manifest) -> None:
    shard = manifest.shard(0)
    old, new = shard.read_clips()["looks"], score_table(shard.read_keys(), LOOKS, 77)
    backup = manifest.root.with_name("backup")
    shutil.copytree(shard.folder, backup)
    others = {name: data for name, data in contents(backup).items() if "looks" not in name}

    def restore() -> None:
        shutil.rmtree(shard.folder)
        shutil.copytree(backup, shard.folder)

    num_died = 0
    for _ in interruptions(lambda: shard.write_scorer("looks", new, "l2"), restore):
        num_died += 1
        marks = shard.marks()
        assert marks is not None
        now = marks.scorers.get("looks")
        if now == "l1":
            assert shard.read_clips()["looks"].equals(old) and list(shard.problems()) == []
        else:
            assert now is None and "looks" not in shard.read_clips().column_names
            assert manifest.scorers_missing(0, FINGERPRINTS) == ("looks",)
        shard.write_scorer("looks", new, "l2")
        assert shard.read_clips({"looks": "l2"})["looks"].equals(new["looks"])
        assert {name: data for name, data in contents(shard.folder).items() if "looks" not in name} == others
        assert list(shard.problems()) == []
    assert num_died == 2 * len(["overruled", "looks", "looks.large", "done.looks"])


def test_redone_shard_forgets_scorers_that_were_added_to_the_old_one(manifest: Manifest) -> None:
    shard = manifest.shard(0)
    shard.write_scorer("text", score_table(shard.read_keys(), {"text_area": Column(pa.float32(), "1", "made up")}, 3), "t1")
    commit(shard, manifest.index().sources(0))
    assert manifest.scorers_missing(0, FINGERPRINTS | {"text": "t1"}) == ("text",)
    assert not (shard.folder / "text.parquet").exists()


def test_mark_that_was_made_for_other_clips_says_nothing(manifest: Manifest) -> None:
    shard = manifest.shard(0)
    shard.write_scorer("text", score_table(shard.read_keys(), {"text_area": Column(pa.float32(), "1", "made up")}, 3), "t1")
    stale = contents(shard.folder)
    commit(shard, manifest.index().sources(0), num_clips=2)
    for name in ("text.parquet", "done.text.json"):
        (shard.folder / name).write_bytes(stale[name])
    assert manifest.scorers_missing(0, FINGERPRINTS | {"text": "t1"}) == ("text",)


def test_scorer_of_another_fingerprint_or_none_is_refused_by_name(manifest: Manifest) -> None:
    with pytest.raises(ManifestError, match="motion was scored with other parameters"):
        manifest.read_clips(0, {"motion": "m2"})
    with pytest.raises(ManifestError, match="text has not been scored"):
        manifest.read_clips(0, {"text": "t1"})
    manifest.shard(0).invalidate()
    with pytest.raises(ManifestError, match="not complete"):
        manifest.read_clips(0, FINGERPRINTS)


def test_absent_optional_scorer_reads_as_null_of_its_declared_type(manifest: Manifest) -> None:
    clips = manifest.read_clips(0, {"motion": "m1"}, absent={"looks": LOOKS})
    assert clips.schema.equals(manifest.read_clips(0, FINGERPRINTS).schema, check_metadata=True)
    assert clips["looks"].null_count == len(clips)


def test_rows_that_are_not_the_shards_clips_are_refused(manifest: Manifest) -> None:
    shard = manifest.shard(0)
    scores = score_table(shard.read_keys(), MOTION, 0)
    for wrong in (scores.slice(1), scores.take(list(range(len(scores)))[::-1]), scores.drop_columns("clip_id")):
        with pytest.raises(ManifestError, match="are not the shard's 6 clips in their order"):
            shard.write_scorer("motion", wrong, "m2")
    pq.write_table(scores.slice(1), shard.folder / "motion.parquet")
    with pytest.raises(ManifestError, match=r"rows are not those of clips\.parquet"):
        shard.read_clips()


@pytest.mark.parametrize("name", ["clips", "sources", "done", "a/b", "../x", "", "looks.large", "a b"])
def test_scorer_whose_name_cannot_be_a_file_is_refused(manifest: Manifest, name: str) -> None:
    with pytest.raises(ManifestError, match="cannot be a file's"):
        manifest.write_scorer(0, name, score_table(manifest.shard(0).read_keys(), {"x": MOTION["motion_x"]}, 0), "f")


def test_two_columns_of_one_name_are_refused(manifest: Manifest) -> None:
    shard = manifest.shard(0)
    with pytest.raises(ManifestError, match="width"):
        shard.write_scorer("other", score_table(shard.read_keys(), {"width": MOTION["motion_x"]}, 0), "f")
    shard.write_scorer("other", score_table(shard.read_keys(), MOTION, 0), "f")
    with pytest.raises(ManifestError, match="motion_x"):
        shard.read_clips()


def test_undeclared_and_missing_columns_are_refused_by_name(tmp_path: Path) -> None:
    members = tuple(sources("a.mp4"))
    clips = clip_table(members)
    wrong = clips.drop_columns("fps").append_column("extra", clips["width"])
    with pytest.raises(ManifestError, match=r"clips: undeclared columns \['extra'\], missing columns \['fps'\]"):
        Shard(tmp_path / "s").write(source_table(members), wrong, {}, "p", {})
    assert not (tmp_path / "s").exists()


def test_faults_of_pass_and_scorers_are_joined_row_by_row(tmp_path: Path) -> None:
    members = tuple(sources("a.mp4", "b.mp4"))
    clips = clip_table(members)
    random = np.random.default_rng(4)

    def some(stage: str) -> dict[int, list[Fault]]:
        return {i: [Fault(stage, "E", f"{i}.{k}", k or None) for k in range(random.integers(0, 3))] for i in range(len(clips))}

    of_pass, of_looks, of_motion = some("decode"), some("looks"), some("motion")
    place = clips.schema.get_field_index("faults")
    clips = clips.set_column(
        place, clips.schema.field(place), table(pa.schema([clips.schema.field(place)]), [{"faults": of_pass[i]} for i in of_pass])[0]
    )
    scores = {"motion": score_table(clips, MOTION, 0, of_motion), "looks": score_table(clips, LOOKS, 0, of_looks)}
    Shard(tmp_path / "s").write(source_table(members), clips, scores, "p", FINGERPRINTS)
    read = Shard(tmp_path / "s").read_clips(FINGERPRINTS)["faults"].to_pylist()
    assert [[Fault(**fault) for fault in row] for row in read] == [of_pass[i] + of_looks[i] + of_motion[i] for i in range(len(clips))]


def test_bytes_do_not_depend_on_chunks_or_on_who_made_the_table() -> None:
    whole = pa.table({"x": np.random.default_rng(0).random(90_000), "name": [f"{i:040d}" for i in range(90_000)]})
    pieces = pa.concat_tables([whole.slice(i, 37) for i in range(0, len(whole), 37)])
    assert bytes(parquet.encode(pieces)) == bytes(parquet.encode(whole))
    from_pandas = pa.Table.from_pandas(whole.to_pandas()).cast(whole.schema)
    assert bytes(parquet.encode(from_pandas.replace_schema_metadata({"pandas": "{}"}))) == bytes(parquet.encode(whole))


def test_shard_does_not_depend_on_how_its_tables_were_pieced_together(tmp_path: Path) -> None:
    members = tuple(sources(*(f"{i}.mp4" for i in range(40))))
    clips = clip_table(members, 50)
    pieces = pa.concat_tables([clips.slice(i, 37) for i in range(0, len(clips), 37)])
    for name, one in (("whole", clips), ("pieces", pieces.replace_schema_metadata({"pandas": "{}"}))):
        Shard(tmp_path / name).write(source_table(members), one, {"motion": score_table(clips, MOTION, 0)}, "p", FINGERPRINTS)
    assert contents(tmp_path / "whole") == contents(tmp_path / "pieces")


def test_table_sorts_tags_takes_fault_objects_and_mends_text_that_is_not_unicode() -> None:
    row = dict.fromkeys(SOURCE_COLUMNS) | {"tags": {"b": "\udce9", "a": "é"}, "source_key": "k"}
    assert table(schema(SOURCE_COLUMNS), [row])["tags"].to_pylist()[0] == [("a", "é"), ("b", "\ufffd\ufffd\ufffd")]


# Verify


def test_verify_names_exactly_the_damaged_or_missing_file(manifest: Manifest) -> None:
    manifest.publish(manifest.iter_clips(), manifest.iter_sources())
    manifest.write_scorer(0, "text", score_table(manifest.shard(0).read_keys(), {"text_area": MOTION["motion_x"]}, 3), "t1")
    manifest.write_run(Run({}, "pass1", FINGERPRINTS))
    assert list(manifest.verify()) == []
    for path in [path for path in manifest.root.rglob("*") if path.is_file() and path.name != "_checksums.json"]:
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


# What people open


def test_published_folders_are_read_by_pandas_without_help(manifest: Manifest) -> None:
    (manifest.root / "policy.json").touch()
    with_decision = (rows.append_column("keep", pa.array([True] * len(rows))) for rows in manifest.iter_clips(FINGERPRINTS))
    manifest.publish(with_decision, manifest.iter_sources())
    clips = pd.read_parquet(manifest.root / "clips")
    assert list(clips.columns) == [*CLIP_COLUMNS, "looks", "motion_x", "keep"]
    assert len(clips) == 12 and clips["source_key"].is_monotonic_increasing
    assert list(pd.read_parquet(manifest.root / "sources")["source_key"]) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert sorted(os.listdir(manifest.root)) == ["clips", "policy.json", "shards", "sources"]


def test_parts_have_equal_length_whatever_the_length_of_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "PART_ROWS", 10)
    rows = pa.table({"x": list(range(35))})
    found = []
    for length in (1, 4, 10, 23, 100):
        manifest = Manifest.create_or_open(tmp_path / str(length))
        manifest.publish((rows.slice(i, length) for i in range(0, 35, length)), [rows])
        parts = sorted((manifest.root / "clips").iterdir())
        assert [pq.read_metadata(part).num_rows for part in parts if part.suffix == ".parquet"] == [10, 10, 10, 5]
        found.append(contents(manifest.root))
        assert pd.read_parquet(manifest.root / "clips")["x"].tolist() == list(range(35))
    assert all(one == found[0] for one in found)


def test_publishing_no_rows_gives_one_part_with_every_column(tmp_path: Path) -> None:
    manifest = Manifest.create_or_open(tmp_path)
    columns = CLIP_COLUMNS | DECIDED_COLUMNS
    manifest.publish([schema(columns).empty_table()], [schema(SOURCE_COLUMNS).empty_table()])
    assert list(pd.read_parquet(tmp_path / "clips").columns) == list(columns)
    assert list(pd.read_parquet(tmp_path / "sources").columns) == list(SOURCE_COLUMNS)
    with pytest.raises(ManifestError, match="nothing to publish"):
        manifest.publish([], [])


def test_tables_of_different_columns_are_refused_and_the_old_publication_stays(manifest: Manifest) -> None:
    manifest.publish(manifest.iter_clips(), manifest.iter_sources())
    before = contents(manifest.root / "clips")
    tables = list(manifest.iter_clips())
    with pytest.raises(ManifestError, match=r"looks \(float and absent\)"):
        manifest.publish([tables[0], tables[1].drop_columns("looks")], manifest.iter_sources())
    assert contents(manifest.root / "clips") == before


def test_publication_killed_at_any_change_ends_as_the_old_or_the_new_one_in_both_folders(tmp_path: Path) -> None:
    def both(value: int) -> tuple[list[pa.Table], list[pa.Table]]:
        return [pa.table({"x": [value] * 3})], [pa.table({"y": [value]})]

    manifest = Manifest.create_or_open(tmp_path / "m")

    def restore() -> None:
        shutil.rmtree(manifest.root)
        manifest.root.mkdir()
        manifest.publish(*both(1))
        (manifest.root / "clips/.DS_Store").write_text("browser")

    seen = set()
    for _ in interruptions(lambda: manifest.publish(*both(2)), restore):
        with manifest.lock():
            pass
        values = {pd.read_parquet(manifest.root / "clips")["x"].iloc[0], pd.read_parquet(manifest.root / "sources")["y"].iloc[0]}
        assert len(values) == 1
        seen |= values
        assert (manifest.root / "clips/.DS_Store").read_text() == "browser"
        assert sorted(os.listdir(manifest.root)) == ["clips", "sources"]
    assert seen == {1, 2}


def test_publishing_never_removes_a_file_that_is_not_ours(manifest: Manifest) -> None:
    manifest.publish(manifest.iter_clips(), manifest.iter_sources())
    (manifest.root / "clips/my notes.txt").write_text("mine")
    before = contents(manifest.root)
    with pytest.raises(ManifestError, match=r"my notes\.txt"):
        manifest.publish(manifest.iter_clips(), manifest.iter_sources())
    assert contents(manifest.root) == before


# Lock and scale


def holder(root: Path) -> subprocess.Popen[bytes]:
    script = textwrap.dedent("""
        import sys, time
        from curate.manifest import Manifest
        with Manifest.create_or_open(sys.argv[1]).lock():
            print("ready", flush=True)
            time.sleep(60)
    """)
    child = subprocess.Popen([sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
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
    assert (tmp_path / files.LOCK_NAME).exists()
    with manifest.lock():
        assert json.loads((tmp_path / files.LOCK_NAME).read_text())["pid"] == os.getpid()
    assert os.listdir(tmp_path) == []


def test_lock_left_on_another_host_is_believed(tmp_path: Path) -> None:
    (tmp_path / files.LOCK_NAME).write_text(json.dumps({"host": "elsewhere", "pid": 4}))
    with (
        pytest.raises(ManifestError, match=r"host elsewhere \(process 4\).*remove .*curate-lock"),
        Manifest.create_or_open(tmp_path).lock(),
    ):
        pass
    (tmp_path / files.LOCK_NAME).write_text("")
    with Manifest.create_or_open(tmp_path).lock():
        pass


def test_lock_on_a_file_that_its_last_holder_has_just_removed_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flock, num_locks = tmp_path / files.LOCK_NAME, fcntl.flock, 0

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


def test_looking_for_work_reads_the_index_once_and_one_file_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest.create_or_open(tmp_path)
    manifest.update_index(sources(*(f"{i:05d}.mp4" for i in range(3000))), 3)
    opened: list[str] = []
    read = Path.read_bytes

    def noting(path: Path) -> bytes:
        opened.append(path.name)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", noting)
    assert len(manifest.pending_shards("p")) == 1000
    assert opened.count("index.parquet") == 1 and opened.count("done.json") == 1000 and len(opened) == 1001


# The page


def test_page_on_the_manifest_is_what_the_code_says() -> None:
    page = Path(__file__).parents[1] / "docs/manifest.md"
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
