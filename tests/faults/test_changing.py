"""Files that change while they are read, or may not be read at all."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.material import FRAMES, encoded
from faults.test_faults import curate

from curate.config import Decode
from curate.errors import SourceError
from curate.media.decode import PyAVReader
from curate.media.open import open_reader


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(encoded("ts", pictures=(64, 48, 20)))


def overwritten(path: Path) -> None:
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(len(data) * 3 // 4)
        file.write(bytes(len(data) // 8))


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def touched_never(path: Path) -> None:
    assert path.exists()


@pytest.mark.parametrize(
    ("change", "is_mixed"), [(appended, True), (overwritten, True), (replaced, True), (Path.unlink, False), (touched_never, False)]
)
def test_a_file_that_changes_while_it_is_read_gives_no_clip_of_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], is_mixed: bool
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.ts", "b.ts"):
        (folder / name).write_bytes(encoded("ts"))

    def changing(reader: PyAVReader) -> Iterator[object]:
        for count, item in enumerate(frames(reader)):
            yield item
            if count == 5 and Path(opened[-1]).name == "a.ts":
                change(folder / "a.ts")

    frames, opened = PyAVReader.frames, []
    start = PyAVReader.__init__

    def opening(self: PyAVReader, file: object, name: str, *more: object) -> None:
        opened.append(name)
        start(self, file, name, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(PyAVReader, "__init__", opening)
    monkeypatch.setattr(PyAVReader, "frames", changing)
    found = curate(folder, tmp_path / "out")
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
