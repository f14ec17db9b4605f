"""What cases are made of: pieces of real single-shot footage and photographs, each with what is true of it beforehand.

The pieces and their halves are those of `benchmarks/cuts/footage.tsv`. `footage_truth.tsv` says what each already has (`true`), what
nobody can say of it (`unsure`), which of its frames (`use`) and columns (`inner`) to take where that is not all, and whether much of it
moves. It was written with the sheets of all pieces in sight. Photographs are those of scikit-image's wheel and stills of the same
half's footage.
"""

import csv
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

import av
import cv2
import numpy as np
from cuts import footage
from cuts.footage import Listed

MAX_WIDTH, MAX_HEIGHT = 1280, 720
MAX_PIECES_HELD = 6
GLANCE_WIDTH, GLANCE_HEIGHT, GLANCE_FRAMES = 480, 270, 100
PHOTOGRAPHS = {
    "tuning": ("astronaut.png", "coffee.png", "motorcycle_left.png", "camera.png", "ihc.png", "coins.png"),
    "test": ("chelsea.png", "rocket.jpg", "hubble_deep_field.jpg", "moon.png", "retina.jpg", "gravel.png"),
}
SOFT_STILLS = ("damage_is_upscaled", "damage_has_combs", "damage_has_banding", "footage_is_animation")


@dataclass(frozen=True)
class Original:
    """One piece as listed. `name` is unique; cases of one `scene` count as one in intervals."""

    listed: Listed
    name: str
    first: int
    last: int
    inner: slice
    is_lively: bool
    true: frozenset[str]
    unsure: frozenset[str]

    @property
    def scene(self) -> str:
        return self.listed.scene

    @property
    def num_frames(self) -> int:
        return self.last - self.first + 1


@dataclass(eq=False)
class Piece:
    """An original's frames, planar 4:2:0: native (at most MAX_WIDTH x MAX_HEIGHT) and half as large. `fps` is that of its source."""

    original: Original
    fps: float
    frames: list[np.ndarray]
    halves: list[np.ndarray]

    @property
    def size(self) -> tuple[int, int]:
        rows, width = self.frames[0].shape
        return width, rows * 2 // 3

    def bgr(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3)."""
        return cv2.cvtColor(self.frames[index], cv2.COLOR_YUV2BGR_I420)

    def part(self, index: int, window: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
        """The window x, y, width, height (even numbers) of a frame at a size."""
        is_half = window[3] >= 2 * size[1] and window[2] >= 2 * size[0]
        x, y, width, height = (side // 2 for side in window) if is_half else window
        whole = cv2.cvtColor((self.halves if is_half else self.frames)[index], cv2.COLOR_YUV2BGR_I420)
        return fitted(whole[y : y + height, x : x + width], size)


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture, uint8 (H, W, 3) BGR; `scene` as of an original, `unsure` what cannot be said of it."""

    name: str
    scene: str
    bgr: np.ndarray
    unsure: frozenset[str]


@dataclass
class Library:
    """The originals of a half; decodes a piece when it is asked for and holds the last few."""

    half: str
    videos: Path
    originals: list[Original] = field(init=False)
    _held: OrderedDict[str, Piece] = field(default_factory=OrderedDict)
    _photos: list[Photo] = field(default_factory=list)
    _glances: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.originals = listed(self.half)

    def piece(self, original: Original) -> Piece:
        if original.name not in self._held:
            self._held[original.name] = _read(original, footage.located(original.listed.file, self.videos))
            while len(self._held) > MAX_PIECES_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(original.name)
        return self._held[original.name]

    def glance(self, original: Original) -> list[np.ndarray]:
        """The first frames of a piece, planar 4:2:0, covering 480 x 270; all pieces of a half take some 0.5 GB and are held."""
        if original.name not in self._glances:
            one = replace(original, last=min(original.last, original.first + GLANCE_FRAMES - 1))
            frames = _read(one, footage.located(original.listed.file, self.videos)).frames
            self._glances[original.name] = [_glanced(planar) for planar in frames]
        return self._glances[original.name]

    def photos(self) -> list[Photo]:
        """Photographs of the wheel and one still of each piece that is camera footage or a rendered film, in fixed order."""
        if not self._photos:
            folder = Path(str(metadata.distribution("scikit-image").locate_file("skimage/data")))
            for name in PHOTOGRAPHS[self.half]:
                if (folder / name).is_file():
                    bgr = cv2.imread(str(folder / name), cv2.IMREAD_COLOR)
                    self._photos.append(Photo(name, name, bgr, frozenset(SOFT_STILLS)))
            self._photos += [self._still(one) for one in self.originals if not _is_drawn(one) and one.listed.scene != "nasa-dark"]
        return self._photos

    def _still(self, original: Original) -> Photo:
        with av.open(f"file:{footage.located(original.listed.file, self.videos)}") as container:
            wanted = original.first + original.num_frames // 3
            for index, frame in enumerate(container.decode(video=0)):
                if index == wanted:
                    part = _picture(frame, original)
                    return Photo(f"still-{original.name}", original.scene, part, frozenset(SOFT_STILLS))
        raise ValueError(f"{original.listed.file}: no frame {wanted}")


def _is_drawn(one: Original) -> bool:
    return bool(one.true & {"footage_is_screen", "footage_is_test_card", "footage_is_animation"})


def listed(half: str) -> list[Original]:
    """The originals of a half. Raises `ValueError` where a piece has no row in `footage_truth.tsv`."""
    with Path(__file__).with_name("footage_truth.tsv").open(encoding="utf-8") as lines:
        rows = {(row["file"], int(row["first"])): row for row in csv.DictReader(lines, delimiter="\t")}
    found, counts = [], {}
    for one in footage.listed(half):
        row = rows.get((one.file, one.first))
        if row is None:
            raise ValueError(f"footage_truth.tsv has no row for {one.file} from frame {one.first}")
        counts[one.scene] = counts.get(one.scene, 0) + 1
        low, _, high = (row["use"] or f"{one.first}:{one.last}").partition(":")
        true, unsure = (frozenset(name for name in row[key].split(",") if name) for key in ("true", "unsure"))
        name = f"{one.scene}-{counts[one.scene]}"
        left, _, right = row["inner"].partition(":")
        inner = slice(int(left), int(right)) if right else slice(None)
        found.append(Original(one, name, int(low), int(high), inner, row["motion"] != "low", true, unsure))
    return found


def _read(original: Original, path: Path) -> Piece:
    one = replace(original.listed, first=original.first, last=original.last)
    frames, halves = [], []
    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"
        fps = float(stream.average_rate)
        for index, frame in enumerate(container.decode(stream)):
            if index > one.last:
                break
            if index >= one.first:
                picture = _picture(frame, original)
                frames.append(_planar(picture, 1))
                halves.append(_planar(picture, 2))
    if len(frames) != original.num_frames:
        raise ValueError(f"{path}: frames {one.first} to {one.last} are listed, the file has fewer")
    return Piece(original, fps, frames, halves)


def _picture(frame: av.VideoFrame, original: Original) -> np.ndarray:
    whole = frame.to_ndarray(format="bgr24")
    columns = original.listed.columns
    return np.ascontiguousarray((whole if columns is None else whole[:, slice(*columns)])[:, original.inner])


def _planar(bgr: np.ndarray, factor: int) -> np.ndarray:
    height, width = bgr.shape[:2]
    scale = min(MAX_WIDTH / width, MAX_HEIGHT / height, 1.0)
    size = (round(width * scale / 4) * 4 // factor, round(height * scale / 4) * 4 // factor)
    return cv2.cvtColor(fitted(bgr, size), cv2.COLOR_BGR2YUV_I420)


def _glanced(planar: np.ndarray) -> np.ndarray:
    height, width = planar.shape[0] * 2 // 3, planar.shape[1]
    scale = max(GLANCE_WIDTH / width, GLANCE_HEIGHT / height)
    if scale >= 1:
        return planar
    size = -(-round(width * scale) // 4) * 4, -(-round(height * scale) // 4) * 4
    return cv2.cvtColor(fitted(cv2.cvtColor(planar, cv2.COLOR_YUV2BGR_I420), size), cv2.COLOR_BGR2YUV_I420)


def fitted(bgr: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scaled to width and height: averaged over areas where it shrinks, else bicubic."""
    if (bgr.shape[1], bgr.shape[0]) == size:
        return np.ascontiguousarray(bgr)
    return cv2.resize(bgr, size, interpolation=cv2.INTER_AREA if bgr.shape[0] >= size[1] else cv2.INTER_CUBIC)
