"""Plans the cases of a half from a seed, and makes them: a video and its truth as JSON.

A case's plan (kind, strength, piece, encoding) and every draw in it depend on the half, the seed and the case's name only. Cases
are made in rounds, so that an interrupted run leaves some of every kind; in a round those of one piece follow each other.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from flags import encoding, kinds
from flags.encoding import Encoding
from flags.flags import NAMES
from flags.kinds import Kind
from flags.originals import Library, Original
from flags.stage import Made, Stage, doubts

HALVES = ("tuning", "test")
MIN_CLIP_S = 2.0
"""Shorter clips are not scored."""
ROUND = 12
"""Cases of one kind that are made before the next kind's turn."""


@dataclass(frozen=True)
class Recipe:
    """One case as planned."""

    name: str
    half: str
    seed: int
    kind: Kind
    level: float
    original: Original
    encoding: Encoding

    def random(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(f"{self.half} {self.name}".encode())])


@dataclass(frozen=True)
class Case:
    """One case as made. `truth` lacks what is not judged; `scenes` are the originals in it, the first one counts in intervals."""

    name: str
    half: str
    kind: str
    flag: str
    level: float
    unit: str
    is_gated: bool
    scenes: tuple[str, ...]
    file: str
    size: tuple[int, int]
    fps: float
    num_frames: int
    encoding: str
    truth: dict[str, bool]
    boxes: dict[str, list[int]]
    note: str


def recipes(half: str, seed: int, originals: Sequence[Original], only: Sequence[str] = ()) -> list[Recipe]:
    """The cases of a half in the order in which they are made."""
    planned = []
    for kind in kinds.KINDS:
        if only and kind.name not in only:
            continue
        fits = _fitting(kind, originals)
        random = np.random.default_rng([seed, zlib.crc32(f"{half} {kind.name}".encode())])
        order = _spread(random, fits, kind.count)
        for n in range(kind.count):
            level = kind.levels[n % len(kind.levels)]
            name = f"{kind.name}-{n:03d}"
            coded = encoding.drawn(np.random.default_rng([seed, zlib.crc32(f"{half} {name} coded".encode())]), kind.codec)
            planned.append((n // ROUND, order[n].name, Recipe(name, half, seed, kind, float(level), order[n], coded)))
    return [recipe for _, _, recipe in sorted(planned, key=lambda one: (one[0], one[1], one[2].name))]


def _fitting(kind: Kind, originals: Sequence[Original]) -> list[Original]:
    lively = [one for one in originals if one.is_lively or kind.footage != "lively"]
    return [one for one in lively if one.num_frames >= kind.min_frames] or lively


def _spread(random: np.random.Generator, originals: Sequence[Original], count: int) -> list[Original]:
    """`count` pieces: scenes in turn, a scene's pieces in turn, each round in a new order."""
    scenes = sorted({one.scene for one in originals})
    found: list[Original] = []
    turn = 0
    while len(found) < count:
        for scene in random.permutation(scenes).tolist():
            pieces = [one for one in originals if one.scene == scene]
            found.append(pieces[turn % len(pieces)])
        turn += 1
    return found[:count]


def composed(recipe: Recipe, library: Library, folder: Path) -> Case:
    """Makes a case and writes `NAME.mp4` (or another suffix) and, last, `NAME.json`.

    Raises `ValueError` where it would be too short to be scored.
    """
    stage = Stage(library, recipe.original, recipe.random())
    made = recipe.kind.make(stage, recipe.level)
    if len(made.frames) < MIN_CLIP_S * made.fps:
        raise ValueError(
            f"{recipe.name} of {recipe.original.name}: {len(made.frames)} frames at {made.fps:g}/s last less than {MIN_CLIP_S} s"
        )
    if not recipe.kind.flag:
        stage.unsure |= set(doubts(made.frames, made.fps))  # what was done may have left less that moves
    path = folder / f"{recipe.name}{recipe.encoding.suffix}"
    encoding.write(path, made.frames, made.fps, recipe.encoding, made.tags)
    height, width = (side // 2 * 2 for side in made.frames[0].shape[:2])
    case = Case(
        name=recipe.name,
        half=recipe.half,
        kind=recipe.kind.name,
        flag=recipe.kind.flag,
        level=recipe.level,
        unit=recipe.kind.unit,
        is_gated=recipe.kind.is_gated(recipe.level) and made.gated,
        scenes=tuple(dict.fromkeys(stage.used)),
        file=path.name,
        size=(width, height),
        fps=round(made.fps, 4),
        num_frames=len(made.frames),
        encoding=recipe.encoding.name,
        truth=_truth(stage, made),
        boxes=made.boxes,
        note=" | ".join(note for note in (stage.note, made.note) if note),
    )
    aside = folder / f"{recipe.name}.part"
    aside.write_text(json.dumps(asdict(case), ensure_ascii=False))
    aside.rename(folder / f"{recipe.name}.json")
    return case


def _truth(stage: Stage, made: Made) -> dict[str, bool]:
    """What is true of the original, then what was done to it; what either leaves open is not judged."""
    truth = dict.fromkeys(NAMES, False) | dict.fromkeys(stage.true, True)
    for name in (stage.unsure | set(made.unsure)) - set(made.truth):
        truth.pop(name, None)
    return truth | made.truth


def load(folder: Path, only: Sequence[str] = ()) -> Iterator[Case]:
    """The cases that a folder holds, by name."""
    for path in sorted(folder.glob("*.json")):
        row = json.loads(path.read_text())
        if not only or row["kind"] in only:
            yield Case(**{**row, "scenes": tuple(row["scenes"]), "size": tuple(row["size"])})


def is_made(recipe: Recipe, folder: Path) -> bool:
    return (folder / f"{recipe.name}.json").is_file() and (folder / f"{recipe.name}{recipe.encoding.suffix}").is_file()
