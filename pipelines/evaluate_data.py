"""The pictures that an evaluation's clips begin with: files, or first frames of real windows, which are then measured beside the clips.

Of a manifest or an export, `clips` of its clips are drawn by a hash of their names, so that more of them are the same ones and others;
of each the first window of frames at the asked rate that its own seed draws. A first frame is saved at the clip's size, and the clip is
made at the window's own rate.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from curate.dataset import CuratedClips, Draw
from curate.decide.rules import Rule
from curate.errors import ConfigError, SourceError
from curate.export.folder import OutFolder
from curate.export.plan import split
from curate.kept import read_kept
from curate.manifest import files
from curate.pipelines.stills import find_stills, read_still
from curate.svd.evaluate_config import Evaluate

PICTURES = "pictures"
MAX_NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Real frames, uint8 (T, H, W, 3), at `fps`; `told_fps` is the whole-number rate that a network is told of such a window."""

    clip_id: str
    source_key: str
    frames_THWC: np.ndarray
    fps: float
    told_fps: int


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What clips begin with: its file, (width, height) in px, and the real window that it is the first frame of, if any."""

    path: Path
    sha256: str
    size: tuple[int, int]
    window: "Window | None" = None

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The pictures, none twice, and what people should know of where they come from."""

    all: tuple[Picture, ...]
    notes: tuple[str, ...]


def read_pictures(settings: Evaluate, num_frames: int, out: Path) -> Pictures:
    """Raises `CurateError` where there is none; first frames of data are written below `out`."""
    if settings.question.data is None:
        return _files(str(settings.question.image))
    return _windows(settings, num_frames, out)


def _files(image: str) -> Pictures:
    found: dict[str, Picture] = {}
    notes = []
    for path in find_stills(image):
        still = read_still(path)
        if still.sha256 in found:
            notes.append(f"{path.name} is the same picture as {found[still.sha256].name} and is left out")
        else:
            found[still.sha256] = Picture(path, still.sha256, still.size)
    return Pictures(tuple(found.values()), tuple(notes))


def _windows(settings: Evaluate, num_frames: int, out: Path) -> Pictures:
    question = settings.question
    data = str(question.data)
    part, rules, notes = _part(settings)
    clips = CuratedClips(
        data if "://" in data else Path(data).expanduser(),
        num_frames=num_frames,
        fps=settings.knobs.fps,
        fps_tolerance=question.fps_tolerance,
        sizes=settings.sizes,
        select=rules,
        split=part,
        seed=question.clips_seed,
        max_enlarge=question.max_enlarge,
    )
    ids = clips.clip_ids()
    order = sorted(range(len(ids)), key=lambda item: hashlib.sha256(f"{question.clips_seed}\0{ids[item]}".encode()).digest())
    files.make_folder(out / PICTURES)
    found: dict[str, Picture] = {}
    left_out: list[str] = []
    for item in order:
        if len(found) == question.clips:
            break
        try:
            picture = _first_frame(clips[Draw(item, 0)], out)
        except SourceError as error:
            left_out.append(str(error))
            continue
        if picture.sha256 in found:
            left_out.append(f"clip {ids[item]} begins with the same picture as {found[picture.sha256].name}")
        found.setdefault(picture.sha256, picture)
    if not found:
        raise SourceError(f"{data}: none of {len(ids)} clips can be read any more, such as {left_out[0]}")
    if len(found) < question.clips:
        short = f"{len(clips.refused)} clips give no window" if clips.refused else "there are no more"
        notes.append(f"{len(found)} pictures of the {question.clips} asked for: {short}")
    sources = {one.window.source_key for one in found.values() if one.window is not None}
    if len(sources) < len(found):
        notes.append(f"{len(found)} pictures of {len(sources)} sources: pictures of one source are alike, so that intervals are too narrow")
    return Pictures(tuple(found.values()), (*notes, *(f"left out: {problem}" for problem in left_out[:MAX_NAMED])))


def _first_frame(window: Mapping[str, Any], out: Path) -> Picture:
    """Saves the first frame of a window, in the same bytes each time."""
    frames = window["frames"].numpy().transpose(0, 2, 3, 1)
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frames[0])).save(data, format="PNG")
    content = data.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    path = out / PICTURES / f"{window['clip_id']}-{int(window['times_ns'][0]) // 1_000_000}.png"
    if not path.is_file() or files.sha256(path) != digest:
        files.write_file(path.absolute(), content)
    clip_id, source_key, fps = str(window["clip_id"]), str(window["source_key"]), float(window["fps"])
    own = Window(clip_id, source_key, np.ascontiguousarray(frames), fps, int(window["fps_id"]) + 1)
    return Picture(path, digest, window["size"], own)


def _part(settings: Evaluate) -> tuple[Literal["train", "val"] | None, dict[str, Rule], list[str]]:
    """Which split of an export, the rules that clips must pass, and a note where clips may have been trained on."""
    question = settings.question
    splits = _splits(str(question.data))
    rules = dict(question.select)
    if splits is None:
        if question.split != "auto":
            raise ConfigError(f"split={question.split}: {question.data} is a manifest and has no splits; held_out=0.05 takes some sources")
        if question.held_out is None:
            return None, rules, ["pictures are drawn from all kept clips, also from those that a model was fine-tuned on (held_out)"]
        return None, {**rules, "held-out sources": _held_out(settings)}, []
    if question.held_out is not None:
        raise ConfigError(f"held_out={question.held_out:g} divides the sources of a manifest; {question.data} is an export: use split")
    if question.split != "auto":
        if question.split not in splits:
            raise ConfigError(f"split={question.split}: {question.data} has no clip in it; it has {', '.join(sorted(splits))}")
        return question.split, rules, []
    if "val" in splits:
        return "val", rules, []
    return None, rules, ["pictures are drawn from all clips of the export, which has no split val: also from those that were trained on"]


def _splits(data: str) -> set[str] | None:
    """Splits of an export that have clips; None for a manifest."""
    folder = OutFolder(data)
    names = [name for name in folder.list("index") if name.endswith(".parquet") and not name.startswith(".")]
    if not names:
        return None
    found: set[str] = set()
    for name in names:
        table = pq.read_table(pa.BufferReader(folder.read_bytes(f"index/{name}")))
        if "split" in table.column_names:
            found |= set(pc.unique(table["split"]).to_pylist())
    return found - {None}


def _held_out(settings: Evaluate) -> Rule:
    """The sources that `curate svd finetune` holds out of this manifest with the same share, seed and `select`."""
    question = settings.question
    rows = read_kept(Path(str(question.data)).expanduser(), question.select).table
    is_val = split(rows, question.held_out_seed, question.held_out or 0.0)
    if not is_val.any():
        raise ConfigError(f"held_out={question.held_out:g} holds out none of {len(rows)} clips; raise it, or leave it out for all clips")
    keys = np.array(rows["source_key"].to_pylist(), object)
    return Rule.model_validate({"column": "source_key", "in": tuple(sorted(set(keys[is_val])))})
