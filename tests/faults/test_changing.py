"""Files that change while they are read, or may not be read at all."""

import os
import secrets
from pathlib import Path

import pytest
from faults.material import FRAMES, encoded
from faults.test_faults import curate
from own_scorers import CHANGING, own_scorer

from curate.config import Decode
from curate.errors import SourceError
from curate.media.open import open_reader

APPENDED = "path.open('ab').write(path.read_bytes())"
OVERWRITTEN = """data = bytearray(path.read_bytes())
            data[len(data) * 3 // 4 :][: len(data) // 8] = bytes(len(data) // 8)
            path.open("r+b").write(data)"""
REPLACED = """other = path.with_name("other")
            other.write_bytes(path.read_bytes())
            other.replace(path)"""


@pytest.mark.parametrize(
    ("change", "is_mixed"), [(APPENDED, True), (OVERWRITTEN, True), (REPLACED, True), ("path.unlink()", False), ("pass", False)]
)
def test_a_file_that_changes_while_it_is_read_gives_no_clip_of_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, is_mixed: bool
) -> None:
    folder, name = tmp_path / "in", f"changing{secrets.token_hex(4)}"
    folder.mkdir()
    for file in ("a.ts", "b.ts"):
        (folder / file).write_bytes(encoded("ts"))
    own_scorer(tmp_path, monkeypatch, name, CHANGING.replace("WHEN", "a.ts").replace("CHANGE", change))
    found = curate(folder, tmp_path / "out", {f"own_{name}.{name}": {}})
    assert (tmp_path / f"own_{name}" / "changed").exists()
    assert found.sources["b.ts"]["status"] == "ok"
    if is_mixed:
        assert (found.sources["a.ts"]["status"], found.sources["a.ts"]["fault_kind"]) == ("failed", "SourceChanged")
        assert set(found.clips) == {"b.ts"}
    else:
        assert found.sources["a.ts"]["num_frames"] == FRAMES, "what was open is read to its end"


def test_a_file_that_has_grown_is_done_again_by_the_next_run(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    whole = encoded("ts")
    (folder / "growing.ts").write_bytes(whole[: len(whole) // 2 // 188 * 188])
    (folder / "still.ts").write_bytes(whole)
    before = curate(folder, tmp_path / "out")
    assert before.sources["growing.ts"]["num_frames"] < FRAMES
    (folder / "growing.ts").write_bytes(whole)
    after = curate(folder, tmp_path / "out")
    assert after.sources["growing.ts"]["num_frames"] == FRAMES and after.sources["growing.ts"]["status"] == "ok"
    assert after.sources["still.ts"] == before.sources["still.ts"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_that_may_not_be_read_is_a_failed_source(tmp_path):
    path = tmp_path / "secret.mp4"
    path.write_bytes(encoded("mp4"))
    path.chmod(0)
    with pytest.raises(SourceError, match="Permission denied"):
        open_reader(str(path), Decode())


def test_a_folder_is_no_source(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(SourceError, match="cannot be opened"):
        open_reader(str(tmp_path / "folder.mp4"), Decode())
