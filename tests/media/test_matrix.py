"""Every picture carries its number, and the number comes out at its time, wherever pictures are read."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from media import matrix
from media.matrix import Cell

from curate.clip import Box, Fault
from curate.media.access import FrameAccess
from curate.media.clock import DECODE_TIMES
from curate.media.cut import Encoding, Take, cut_exact
from curate.media.decode import DecodedFrame, PyAVReader

EVERY = list(matrix.cells())
EVERYDAY = {
    *("h264_b-plain.avi", "h264_b-plain.asf", "h264_b-plain.mxf", "mpeg2_b-plain.asf", "h264_b-plain.mpg", "mpeg4_b-plain.avi"),
    *("h264_open-damaged.mkv", "h264_open-damaged.avi", "h264_b-damaged.mp4", "h264_b-edited.mp4", "hevc_open-plain.ts"),
    *("vp8-plain.webm", "vp9-variable.mkv", "mpeg2_fields-plain.ts", "h264_fields-late.ts", "gif-plain.gif", "mjpeg-damaged.avi"),
}
CELLS = [pytest.param(cell, id=cell.name, marks=() if cell.name in EVERYDAY else pytest.mark.slow) for cell in EVERY]


@pytest.fixture(params=CELLS)
def cell(request: pytest.FixtureRequest) -> Cell:
    return request.param


@pytest.fixture
def film(cell: Cell, tmp_path: Path) -> Path:
    return matrix.write(cell, tmp_path / cell.name)


def read(path: Path) -> tuple[dict[int, int], list[Fault], PyAVReader]:
    """Number of the picture at each time in ns, and the faults."""
    reader = PyAVReader(str(path), path.name)
    found, faults = {}, []
    for item in reader.frames():
        if isinstance(item, DecodedFrame):
            found[item.time_ns] = matrix.shown(item.picture)
        else:
            faults.append(item)
    reader.close()
    return found, faults, reader


def test_the_everyday_part_is_in_the_matrix() -> None:
    assert {cell.name for cell in EVERY} >= EVERYDAY


def test_every_number_is_read_and_exported_at_its_time(cell: Cell, film: Path, tmp_path: Path) -> None:
    found, faults, reader = read(film)
    account = reader.account()
    assert account is not None and account.remainder == account.unexplained == 0
    assert reader.packets.num_packets == account.num_packets
    numbers, times = list(found.values()), list(found)
    if cell.trait == "damaged":
        assert len(faults) == 1 and account.lost and max(account.lost, 1) <= matrix.GROUP + 3
        assert len(numbers) + account.lost == matrix.NUM_FRAMES
    else:
        assert not faults and numbers == list(range(cell.first, matrix.NUM_FRAMES))
    # Containers that keep decoding times, or none, move all pictures by the same.
    offset = times[0] - cell.times_ms[numbers[0]] * 1_000_000
    moves = cell.container not in matrix.KEEPS_TIMES or cell.trait == "plain"
    assert moves or abs(offset) <= (1_500_000_000 if cell.container in ("ts", "nut", "flv") else 1_000_000)
    truth = [cell.times_ms[number] * 1_000_000 + offset for number in numbers]
    assert np.abs(np.array(times) - truth).max() <= 1_000_000
    # ffprobe 5 shows a frame of AV1 that the edit list leaves out.
    if cell.trait != "damaged" and (cell.codec, cell.trait) != ("av1", "edited"):
        check_against_ffprobe(cell, film, times)
    check_random_access(film, found)
    check_cut(film, found, reader.end_ns or 0, tmp_path)


def check_against_ffprobe(cell: Cell, film: Path, times: list[int]) -> None:
    """Another program's times of the same frames, where that program is there."""
    if shutil.which("ffprobe") is None:
        return
    command = ["ffprobe", "-v", "quiet", "-select_streams", "v", "-show_entries", "frame=best_effort_timestamp_time", "-of", "csv=p=0"]
    done = subprocess.run([*command, str(film)], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    best = [line.strip().split(",")[0] for line in done.stdout.splitlines() if line.strip()]
    assert len(best) == len(times)
    known = [(float(text), time_ns / 1e9) for text, time_ns in zip(best, times, strict=True) if text and text != "N/A"]
    if cell.container in DECODE_TIMES:
        known = known[1:-2]  # until the order is wrong for the first time, and when no packet pushes any more, it takes the packet's own
    wrong = [(n, pair) for n, pair in enumerate(known) if abs(pair[0] - pair[1]) >= 0.0011]
    assert not wrong, f"number, theirs and ours: {wrong[:5]}"


def check_random_access(film: Path, found: dict[int, int]) -> None:
    times = list(found)
    access = FrameAccess()
    for picks in (slice(20, 34, 2), slice(3, 9), slice(40, 60, 5), slice(0, 1), slice(-3, None)):
        wanted = times[picks]
        assert [matrix.shown(picture) for picture in access.read(str(film), wanted)] == [found[t] for t in wanted]
    access.close()


def check_cut(film: Path, found: dict[int, int], end_ns: int, folder: Path) -> None:
    times = [*found, end_ns]
    picks = np.array(times[14:26], np.int64)
    take = Take(str(film), picks, times[26], Box(0, 0, matrix.WIDTH, matrix.HEIGHT), matrix.WIDTH, matrix.HEIGHT)
    cut_exact(take, Encoding(), folder / "cut.mp4")
    assert matrix.cut_numbers(folder / "cut.mp4") == [found[t] for t in times[14:26]]
