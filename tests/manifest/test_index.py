"""The index: sources keep their shards, and what changed is done again."""

import shutil
from typing import Any

from curate.manifest import (
    Manifest,
)
from curate.sources import Source


def test_index_is_written_once_and_a_listing_without_changes_touches_nothing(made: Any, manifest: Manifest) -> None:
    path = manifest.root / "shards/index.parquet"
    before = path.stat().st_mtime_ns
    assert [[s.key for s in manifest.index().sources(i)] for i in manifest.shard_ids()] == [["a.mp4", "b.mp4"], ["c.mp4", "d.mp4"]]
    change = manifest.update_index(made.sources("a.mp4", "b.mp4", "c.mp4", "d.mp4"), 1)
    assert (change.num_new, change.num_changed, change.redo, change.added) == (0, 0, (), ())
    assert path.stat().st_mtime_ns == before


def test_new_sources_get_new_shards_and_old_ones_are_never_regrouped(made: Any, manifest: Manifest) -> None:
    ledger = made.contents(manifest.root / "shards/00000") | made.contents(manifest.root / "shards/00001")
    change = manifest.update_index(made.sources("a.mp4", "aa.mp4", "b.mp4", "c.mp4", "d.mp4", "0.mp4", "z.mp4"), 2)
    assert (change.num_new, change.added, change.num_vanished) == (3, (2, 3), 0)
    index = manifest.index()
    assert [[s.key for s in index.sources(i)] for i in index.shard_ids] == [
        ["a.mp4", "b.mp4"],
        ["c.mp4", "d.mp4"],
        ["0.mp4", "aa.mp4"],
        ["z.mp4"],
    ]
    assert manifest.pending_shards("pass1") == [2, 3]
    assert made.contents(manifest.root / "shards/00000") | made.contents(manifest.root / "shards/00001") == ledger


def test_changed_source_invalidates_its_shard_alone_and_the_index_follows(made: Any, manifest: Manifest) -> None:
    change = manifest.update_index(made.sources("a.mp4", "b.mp4", "d.mp4") + made.sources("c.mp4", size=11), 2)
    assert (change.num_changed, change.redo, change.num_vanished) == (1, (1,), 0)
    assert manifest.pending_shards("pass1") == [1]
    assert manifest.index().sources(1)[0].size_bytes == 11


def test_changed_shard_is_invalid_before_the_index_says_so(made: Any, manifest: Manifest) -> None:
    backup = manifest.root.with_name("backup")
    shutil.copytree(manifest.root, backup)

    def restore() -> None:
        shutil.rmtree(manifest.root)
        shutil.copytree(backup, manifest.root)

    listing = made.sources("a.mp4", "b.mp4", "d.mp4") + made.sources("c.mp4", size=11)
    died = 0
    for _ in made.interruptions(lambda: manifest.update_index(listing, 2), restore):
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


def test_moved_folder_changes_urls_and_redoes_nothing(made: Any, manifest: Manifest) -> None:
    names = ("a.mp4", "b.mp4", "c.mp4", "d.mp4")
    moved = [Source(s.key, s.url.replace("/in/", "/mnt/new/"), s.size_bytes, None, 7) for s in made.sources(*names)]
    change = manifest.update_index(moved, 2)
    assert (change.num_moved, change.redo) == (4, ())
    assert manifest.pending_shards("pass1") == []
    for rows in (*manifest.iter_clips(), *manifest.iter_sources()):
        assert rows["source_url"].to_pylist() == [f"/mnt/new/{key}" for key in rows["source_key"].to_pylist()]


def test_shard_is_pending_for_another_pass_and_for_other_files_than_the_index_has(made: Any, manifest: Manifest) -> None:
    assert manifest.pending_shards("pass1") == []
    assert manifest.pending_shards("pass2") == [0, 1]
    made.commit(manifest.shard(1), (Source("c.mp4", "/in/c.mp4", 10, None, 8), Source("d.mp4", "/in/d.mp4", 10, None, 7)))
    assert manifest.pending_shards("pass1") == [1]
