"""A shard of the ledger: complete or redone, never half; the same bytes every time; a scorer touches no other."""

import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.clip import Fault
from curate.errors import ManifestError
from curate.manifest import (
    CLIP_COLUMNS,
    FRAME_COLUMNS,
    SOURCE_COLUMNS,
    Manifest,
    Shard,
    parquet,
    schema,
    table,
)
from curate.scorers import Column


def test_what_was_written_is_read_back_and_large_columns_stay_apart(made: Any, manifest: Manifest) -> None:
    clips = manifest.read_clips(0, made.FINGERPRINTS)
    assert clips.column_names == [*CLIP_COLUMNS, "looks", "motion_x"]
    written = made.clip_table(manifest.index().sources(0))
    assert clips.select(written.column_names).equals(written)
    assert clips["motion_x"].equals(made.score_table(written, made.MOTION, 0)["motion_x"])
    assert manifest.shard(0).read_large("looks")["looks_embedding"].equals(made.score_table(written, made.LOOKS, 1)["looks_embedding"])
    assert clips.schema.field("motion_x").metadata == {b"unit": b"px", b"description": b"made up", b"low": b"0.0", b"high": b"1.0"}
    assert manifest.read_sources(1).equals(made.source_table(manifest.index().sources(1)))
    assert manifest.read_clips(0).equals(clips)


def test_sources_of_a_shard_from_before_a_column_read_as_null_beside_newer_ones(made: Any, manifest: Manifest) -> None:
    now = manifest.shard(0).read_sources()
    path = manifest.shard(0).folder / "sources.parquet"
    path.write_bytes(parquet.encode(now.drop_columns(["video_stream", "audio_stream"])))
    old = manifest.shard(0).read_sources()
    assert old.schema.equals(now.schema) and old["video_stream"].null_count == len(old) > 0
    assert len(pa.concat_tables(manifest.iter_sources())) > len(old)


def test_shard_without_clips_is_complete_and_has_every_column(made: Any, manifest: Manifest) -> None:
    made.commit(manifest.shard(0), manifest.index().sources(0), num_clips=0)
    assert manifest.pending_shards("pass1") == []
    assert manifest.read_clips(0, made.FINGERPRINTS).schema.equals(manifest.read_clips(1, made.FINGERPRINTS).schema)


def test_commit_killed_at_any_change_is_complete_or_redone_to_the_same_bytes(made: Any, tmp_path: Path) -> None:
    members = tuple(made.sources("a.mp4", "b.mp4"))
    fresh, reference = Shard(tmp_path / "fresh"), Shard(tmp_path / "reference")
    made.commit(reference, members, seed=5)
    marks = reference.marks()
    num_died = 0
    for _ in made.interruptions(lambda: made.commit(fresh, members, seed=5), lambda: shutil.rmtree(fresh.folder, ignore_errors=True)):
        num_died += 1
        assert fresh.marks() in (None, marks)
        made.commit(fresh, members, seed=5)
        assert made.contents(fresh.folder) == made.contents(reference.folder)
    assert num_died == 2 * len(["done.json removed", "sources", "clips", "frames", "motion", "looks", "looks.large", "done.json"])


def test_redoing_a_complete_shard_killed_at_any_change_never_mixes_old_and_new(made: Any, tmp_path: Path) -> None:
    members = tuple(made.sources("a.mp4", "b.mp4"))
    shard, old, new = (Shard(tmp_path / name) for name in ("shard", "old", "new"))
    made.commit(old, members, seed=1, num_clips=4)
    old.write_scorer("motion", made.score_table(made.clip_table(members, 4), made.MOTION, 9), "m2")
    made.commit(new, members, seed=2, num_clips=3)
    allowed = {None: "absent", "m2": made.contents(old.folder), "m1": made.contents(new.folder)}

    def restore() -> None:
        shutil.rmtree(shard.folder, ignore_errors=True)
        shutil.copytree(old.folder, shard.folder)

    for _ in made.interruptions(lambda: made.commit(shard, members, seed=2, num_clips=3), restore):
        marks = shard.marks()
        if marks is not None:
            expected = allowed[marks.scorers["motion"]]
            assert {name: data for name, data in made.contents(shard.folder).items() if not name.startswith(".")} == expected
        made.commit(shard, members, seed=2, num_clips=3)
        assert made.contents(shard.folder) == made.contents(new.folder)


def test_commit_ended_by_sigkill_leaves_a_shard_that_verifies_or_is_not_there(made: Any, tmp_path: Path) -> None:
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
            [sys.executable, "-c", script, made.__file__, str(shard.folder)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert child.stdout and child.stdout.readline()
        time.sleep(delay_s)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if shard.marks() is not None:
            assert list(shard.problems()) == []
            assert shard.read_clips(made.FINGERPRINTS).num_columns == len(CLIP_COLUMNS) + 2


def test_added_scorer_leaves_every_other_byte_and_time_as_it_was(made: Any, manifest: Manifest) -> None:
    folder = manifest.shard(0).folder
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}
    extra = {"text_area": Column(pa.float32(), "1", "made up", 0, 1)}
    wanted = made.FINGERPRINTS | {"text": "t1"}
    assert manifest.scorers_missing(0, wanted) == ("text",)
    written = made.score_table(manifest.shard(0).read_keys(), extra, 3)
    manifest.write_scorer(0, "text", written, "t1")
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir() if path in before}
    assert after == before
    assert {path.name for path in folder.iterdir()} - {path.name for path in before} == {"text.parquet", "done.text.json"}
    assert manifest.scorers_missing(0, wanted) == ()
    assert manifest.read_clips(0, wanted)["text_area"].equals(written["text_area"])
    assert manifest.scorers_missing(1, wanted) == ("text",)


def test_changed_scorer_killed_at_any_change_never_passes_old_values_for_new_ones(made: Any, manifest: Manifest) -> None:
    shard = manifest.shard(0)
    old, new = shard.read_clips()["looks"], made.score_table(shard.read_keys(), made.LOOKS, 77)
    backup = manifest.root.with_name("backup")
    shutil.copytree(shard.folder, backup)
    others = {name: data for name, data in made.contents(backup).items() if "looks" not in name}

    def restore() -> None:
        shutil.rmtree(shard.folder)
        shutil.copytree(backup, shard.folder)

    num_died = 0
    for _ in made.interruptions(lambda: shard.write_scorer("looks", new, "l2"), restore):
        num_died += 1
        marks = shard.marks()
        assert marks is not None
        now = marks.scorers.get("looks")
        if now == "l1":
            assert shard.read_clips()["looks"].equals(old) and list(shard.problems()) == []
        else:
            assert now is None and "looks" not in shard.read_clips().column_names
            assert manifest.scorers_missing(0, made.FINGERPRINTS) == ("looks",)
        shard.write_scorer("looks", new, "l2")
        assert shard.read_clips({"looks": "l2"})["looks"].equals(new["looks"])
        assert {name: data for name, data in made.contents(shard.folder).items() if "looks" not in name} == others
        assert list(shard.problems()) == []
    assert num_died == 2 * len(["overruled", "looks", "looks.large", "done.looks"])


def test_redone_shard_forgets_scorers_that_were_added_to_the_old_one(made: Any, manifest: Manifest) -> None:
    shard = manifest.shard(0)
    shard.write_scorer("text", made.score_table(shard.read_keys(), {"text_area": Column(pa.float32(), "1", "made up")}, 3), "t1")
    made.commit(shard, manifest.index().sources(0))
    assert manifest.scorers_missing(0, made.FINGERPRINTS | {"text": "t1"}) == ("text",)
    assert not (shard.folder / "text.parquet").exists()


def test_mark_that_was_made_for_other_clips_says_nothing(made: Any, manifest: Manifest) -> None:
    shard = manifest.shard(0)
    shard.write_scorer("text", made.score_table(shard.read_keys(), {"text_area": Column(pa.float32(), "1", "made up")}, 3), "t1")
    stale = made.contents(shard.folder)
    made.commit(shard, manifest.index().sources(0), num_clips=2)
    for name in ("text.parquet", "done.text.json"):
        (shard.folder / name).write_bytes(stale[name])
    assert manifest.scorers_missing(0, made.FINGERPRINTS | {"text": "t1"}) == ("text",)


def test_scorer_of_another_fingerprint_or_none_is_refused_by_name(made: Any, manifest: Manifest) -> None:
    with pytest.raises(ManifestError, match="motion was scored with other parameters"):
        manifest.read_clips(0, {"motion": "m2"})
    with pytest.raises(ManifestError, match="text has not been scored"):
        manifest.read_clips(0, {"text": "t1"})
    manifest.shard(0).invalidate()
    with pytest.raises(ManifestError, match="not complete"):
        manifest.read_clips(0, made.FINGERPRINTS)


def test_absent_optional_scorer_reads_as_null_of_its_declared_type(made: Any, manifest: Manifest) -> None:
    clips = manifest.read_clips(0, {"motion": "m1"}, absent={"looks": made.LOOKS})
    assert clips.schema.equals(manifest.read_clips(0, made.FINGERPRINTS).schema, check_metadata=True)
    assert clips["looks"].null_count == len(clips)


def test_rows_that_are_not_the_shards_clips_are_refused(made: Any, manifest: Manifest) -> None:
    shard = manifest.shard(0)
    scores = made.score_table(shard.read_keys(), made.MOTION, 0)
    for wrong in (scores.slice(1), scores.take(list(range(len(scores)))[::-1]), scores.drop_columns("clip_id")):
        with pytest.raises(ManifestError, match="are not the shard's 6 clips in their order"):
            shard.write_scorer("motion", wrong, "m2")
    pq.write_table(scores.slice(1), shard.folder / "motion.parquet")
    with pytest.raises(ManifestError, match=r"rows are not those of clips\.parquet"):
        shard.read_clips()


@pytest.mark.parametrize("name", ["clips", "sources", "done", "a/b", "../x", "", "looks.large", "a b"])
def test_scorer_whose_name_cannot_be_a_file_is_refused(made: Any, manifest: Manifest, name: str) -> None:
    with pytest.raises(ManifestError, match="cannot be a file's"):
        manifest.write_scorer(0, name, made.score_table(manifest.shard(0).read_keys(), {"x": made.MOTION["motion_x"]}, 0), "f")


def test_two_columns_of_one_name_are_refused(made: Any, manifest: Manifest) -> None:
    shard = manifest.shard(0)
    with pytest.raises(ManifestError, match="width"):
        shard.write_scorer("other", made.score_table(shard.read_keys(), {"width": made.MOTION["motion_x"]}, 0), "f")
    shard.write_scorer("other", made.score_table(shard.read_keys(), made.MOTION, 0), "f")
    with pytest.raises(ManifestError, match="motion_x"):
        shard.read_clips()


def test_undeclared_and_missing_columns_are_refused_by_name(made: Any, tmp_path: Path) -> None:
    members = tuple(made.sources("a.mp4"))
    clips = made.clip_table(members)
    wrong = clips.drop_columns("fps").append_column("extra", clips["width"])
    with pytest.raises(ManifestError, match=r"clips: undeclared columns \['extra'\], missing columns \['fps'\]"):
        Shard(tmp_path / "s").write(made.source_table(members), wrong, made.frame_table(clips), {}, "p", {})
    assert not (tmp_path / "s").exists()


def test_faults_of_pass_and_scorers_are_joined_row_by_row(made: Any, tmp_path: Path) -> None:
    members = tuple(made.sources("a.mp4", "b.mp4"))
    clips = made.clip_table(members)
    random = np.random.default_rng(4)

    def some(stage: str) -> dict[int, list[Fault]]:
        return {i: [Fault(stage, "E", f"{i}.{k}", k or None) for k in range(random.integers(0, 3))] for i in range(len(clips))}

    of_pass, of_looks, of_motion = some("decode"), some("looks"), some("motion")
    place = clips.schema.get_field_index("faults")
    clips = clips.set_column(
        place, clips.schema.field(place), table(pa.schema([clips.schema.field(place)]), [{"faults": of_pass[i]} for i in of_pass])[0]
    )
    scores = {"motion": made.score_table(clips, made.MOTION, 0, of_motion), "looks": made.score_table(clips, made.LOOKS, 0, of_looks)}
    Shard(tmp_path / "s").write(made.source_table(members), clips, made.frame_table(clips), scores, "p", made.FINGERPRINTS)
    read = Shard(tmp_path / "s").read_clips(made.FINGERPRINTS)["faults"].to_pylist()
    assert [[Fault(**fault) for fault in row] for row in read] == [of_pass[i] + of_looks[i] + of_motion[i] for i in range(len(clips))]


def test_bytes_do_not_depend_on_chunks_or_on_who_made_the_table() -> None:
    whole = pa.table({"x": np.random.default_rng(0).random(90_000), "name": [f"{i:040d}" for i in range(90_000)]})
    pieces = pa.concat_tables([whole.slice(i, 37) for i in range(0, len(whole), 37)])
    assert bytes(parquet.encode(pieces)) == bytes(parquet.encode(whole))
    from_pandas = pa.Table.from_pandas(whole.to_pandas()).cast(whole.schema)
    assert bytes(parquet.encode(from_pandas.replace_schema_metadata({"pandas": "{}"}))) == bytes(parquet.encode(whole))


def test_shard_does_not_depend_on_how_its_tables_were_pieced_together(made: Any, tmp_path: Path) -> None:
    members = tuple(made.sources(*(f"{i}.mp4" for i in range(40))))
    clips = made.clip_table(members, 50)
    pieces = pa.concat_tables([clips.slice(i, 37) for i in range(0, len(clips), 37)])
    scores = {"motion": made.score_table(clips, made.MOTION, 0)}
    for name, one in (("whole", clips), ("pieces", pieces.replace_schema_metadata({"pandas": "{}"}))):
        Shard(tmp_path / name).write(made.source_table(members), one, made.frame_table(clips), scores, "p", made.FINGERPRINTS)
    assert made.contents(tmp_path / "whole") == made.contents(tmp_path / "pieces")


def test_table_sorts_tags_takes_fault_objects_and_mends_text_that_is_not_unicode() -> None:
    row = dict.fromkeys(SOURCE_COLUMNS) | {"tags": {"b": "\udce9", "a": "é"}, "source_key": "k"}
    assert table(schema(SOURCE_COLUMNS), [row])["tags"].to_pylist()[0] == [("a", "é"), ("b", "\ufffd\ufffd\ufffd")]


def test_times_of_frames_come_back_and_cost_a_few_bits_each(made: Any, tmp_path: Path) -> None:
    members = tuple(made.sources("a.mp4"))
    clips = made.clip_table(members, 50)
    times_ns = [[round((1000 * i + k) * 1e9 * 1001 / 24_000) for k in range(288)] for i in range(len(clips))]
    rows = {"clip_id": clips["clip_id"], "frame_times_ns": times_ns, "frame_is_duplicate": [[k % 5 == 4 for k in range(288)]] * len(clips)}
    frames = pa.table(rows, schema=schema(FRAME_COLUMNS))
    shard = Shard(tmp_path / "s")
    shard.write(made.source_table(members), clips, frames, {}, "p", {})
    assert shard.read_frames().equals(frames)
    assert (tmp_path / "s" / "frames.parquet").stat().st_size < len(clips) * 288  # a byte a frame; plain int64 takes eight
    with pytest.raises(ManifestError, match="frames: its 49 rows are not the shard's 50 clips"):
        shard.write(made.source_table(members), clips, frames.slice(1), {}, "p", {})
