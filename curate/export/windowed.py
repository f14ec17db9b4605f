"""What the layouts for Stable Video Diffusion share: windows of T pictures, each with its own frame rate, motion and motion bucket.

Pictures. T distinct pictures of a clip (duplicates collapsed) at a whole-number stride, evenly spaced (`curate.windows`); nothing is
blended or repeated. A clip that gives no such window is refused with the reason. Size: of those of `sizes` that do not enlarge the picture
inside bars by more than `max_enlarge`, the one that shows most of it; centred, never stretched.

Conditioning, as the paper's model takes it (arXiv 2311.15127, and `StableVideoDiffusionPipeline` in diffusers):

    fps_id            round(fps) - 1 of the window's own rate; the pipeline subtracts 1 from its argument `fps` before it becomes a time id
    motion_score      `motion_speed` measured on this window's own frames (`curate.window_motion`), % of diagonal / s
    motion_bucket_id  the score through `motion_buckets.json` (`curate.motion_bucket`), which lies beside the windows: training and
                      inference need the same map. Fitted to `motion_speed` of the clips of this export, or the file that is given
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PrivateAttr, field_validator

from curate.clip import Box
from curate.errors import CurateError, ExportError
from curate.export import Finished, Layout, Sample
from curate.export.folder import OutFolder
from curate.framing import Framing, nearest_bucket
from curate.kept import KeptClip, KeptClips
from curate.media.access import FrameAccess
from curate.motion_bucket import MotionBuckets, fit_corpus
from curate.scorers import ScorerLike
from curate.window_motion import WindowMotion, has_pairs
from curate.windows import Windows, WindowSpec, fps_id, window_fps, windows

MULTIPLE = 64  # px: the VAE divides by 8, the UNet by 8 again
BUCKETS_FILE = "motion_buckets.json"
MAX_OPEN = 2  # sources: an export walks through one after the other
FROM_INDEX = {  # key of a line of train.jsonl -> column of the index
    "sample_id": "sample_id",
    "clip_id": "clip_id",
    "source_key": "source_key",
    "caption": "caption",
    "num_frames": "num_frames_out",
    "width": "width_out",
    "height": "height_out",
    "fps": "window_fps",
    "fps_id": "fps_id",
    "motion_score": "motion_score",
    "motion_bucket_id": "motion_bucket_id",
    "stride": "stride",
    "start_ns": "window_start_ns",
    "times_ns": "window_times_ns",
}


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """`times_ns` int64[T] on the source's timeline, `stride` in distinct pictures, the picture at `framing`."""

    times_ns: np.ndarray
    stride: int
    framing: Framing

    @property
    def fps(self) -> float:
        """The window's own rate."""
        return window_fps(self.times_ns)


class WindowLayout(Layout):
    """Parameters of every layout of windows."""

    num_frames: int = Field(14, ge=2, le=256, description="frames of a window: 14 for SVD, 25 for SVD-XT")
    fps: float = Field(
        7.0, ge=4.5, le=60, description="wanted rate of the frames; each window states its own", json_schema_extra={"unit": "frames/s"}
    )
    fps_tolerance: float = Field(0.25, ge=0, le=1, description="how far a window's rate may be off, in ratio: 0.25 takes 5.6 to 8.75 for 7")
    sizes: tuple[str, ...] = Field(
        ("576x320",),
        min_length=1,
        description="widths and heights, multiples of 64, such as 1024x576; of those that fit, the one that shows most of a clip is taken",
    )
    windows: Literal["one", "all"] = Field("one", description="one: the window in the middle of each clip; all: as many as share no time")
    max_enlarge: float = Field(1.0, ge=1.0, le=8.0, description="clips that would have to be enlarged by more are refused")
    motion_buckets: str | None = Field(
        None, description="file with the map from motion score to bucket; null fits one to the clips of this export"
    )
    _map: MotionBuckets | None = PrivateAttr(None)
    _scorer: ScorerLike | None = PrivateAttr(None)

    @field_validator("sizes", mode="before")
    @classmethod
    def _one_size(cls, value: Any) -> Any:
        if isinstance(value, str):
            return (value,)
        return tuple(value) if isinstance(value, list) else value

    @field_validator("sizes")
    @classmethod
    def _multiples(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parse_size(text)
        return value

    @property
    def spec(self) -> WindowSpec:
        return WindowSpec(self.num_frames, self.fps, self.fps_tolerance)

    @property
    def map(self) -> MotionBuckets:
        """The map in use, once the layout is prepared."""
        if self._map is None:
            raise ExportError("motion buckets have not been fitted: the layout that `prepare` returns has them")
        return self._map

    @property
    def scorer(self) -> ScorerLike:
        """The scorer that measured the clips, which measures their windows too."""
        assert self._scorer is not None, "the layout is prepared before it is opened"
        return self._scorer

    def prepare(self, clips: KeptClips) -> "WindowLayout":
        """The layout with its motion buckets. Raises `ExportError` where the clips have no motion score, or the file cannot be read."""
        prepared = self.model_copy()
        prepared._scorer = clips.motion_scorer
        if self.motion_buckets is not None:
            prepared._map = MotionBuckets.load(self.motion_buckets)
        elif len(clips):
            prepared._map = _fitted(clips)
        return prepared

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "map": None if self._map is None else self._map.sha256, "scorer": repr(self._scorer)}

    def plan(self, clip: KeptClip) -> list[Sample] | str:
        framing = framed(clip.active, self.sizes, self.max_enlarge)
        if isinstance(framing, str):
            return framing
        found = windows(clip.times_ns, clip.is_duplicate, self.spec)
        if isinstance(found, str):
            return found
        chosen = [_middle(found, clip)] if self.windows == "one" else found.apart().tolist()
        samples = [_sample(clip, number, Window(found.times_ns(k), found.stride, framing)) for number, k in enumerate(chosen)]
        if slow := next((sample.what.fps for sample in samples if not has_pairs(sample.what.fps)), None):
            return f"too slow: motion cannot be measured on frames {1 / slow:.2f} s apart"
        return samples


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A window's pictures, uint8 (T, H, W, 3) RGB, BT.709, full range, and what the index says of it."""

    frames_THWC: np.ndarray
    facts: dict[str, Any]


class WindowReader:
    """Reads windows from their sources, exact to the frame, and measures them; one for each worker."""

    def __init__(self, buckets: MotionBuckets, scorer: ScorerLike) -> None:
        self._buckets = buckets
        self._motion = WindowMotion(buckets.column, scorer)
        self._access = FrameAccess(MAX_OPEN)

    def read(self, sample: Sample) -> Shown:
        """Raises `SourceError` where the source does not hold the frames any more."""
        window: Window = sample.what
        pictures = self._access.read(sample.clip.source_url, window.times_ns.tolist(), sample.clip.video_stream)
        score = self._motion.measure(pictures, window.times_ns, sample.clip.active)
        if score is None:
            raise CurateError(f"{sample.sample_id}: motion of the window cannot be measured")
        framing = window.framing
        frames = np.stack([picture.rgb_at(framing.box, framing.width, framing.height) for picture in pictures])
        facts = {
            "window_fps": window.fps,
            "fps_id": fps_id(window.fps),
            "motion_score": score,
            "motion_bucket_id": self._buckets.bucket(score),
            "stride": window.stride,
            "window_start_ns": int(window.times_ns[0]),
            "window_times_ns": window.times_ns,
        }
        return Shown(frames, facts)


def parse_size(text: str) -> tuple[int, int]:
    """`576x320` as (width, height); raises `ValueError` for sides that are no multiples of 64."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()) or min(int(width), int(height)) < MULTIPLE:
        raise ValueError(f"size {text!r} is not WIDTHxHEIGHT in pixels, such as 576x320")
    if int(width) % MULTIPLE or int(height) % MULTIPLE:
        raise ValueError(f"size {text!r}: both sides must be multiples of {MULTIPLE}, such as 576x320 or 1024x576")
    return int(width), int(height)


def framed(active: Box, sizes: Sequence[str], max_enlarge: float) -> Framing | str:
    """Box and size of a clip's pictures, or why none of the sizes will do."""
    return nearest_bucket(active, [parse_size(size) for size in sizes], max_enlarge)


def _middle(found: Windows, clip: KeptClip) -> int:
    """The window whose middle lies nearest to that of the clip; the earlier of two."""
    length = found.stride * (found.num_frames - 1)
    middles = (found.distinct_ns[found.starts] + found.distinct_ns[found.starts + length]) // 2
    return int(np.abs(middles - (clip.span.start_ns + clip.span.end_ns) // 2).argmin())


def _sample(clip: KeptClip, number: int, window: Window) -> Sample:
    num_frames, framing = len(window.times_ns), window.framing
    return Sample(f"{clip.clip_id}-{number:03d}", clip, num_frames, framing.width, framing.height, num_frames / window.fps, window)


def _fitted(clips: Sequence[KeptClip]) -> MotionBuckets:
    """The distribution function of the clips' own scores; `made_from` names clips and scores by a checksum."""
    column = "motion_speed"
    table = getattr(clips, "table", None)
    if table is None:
        table = pa.table({"clip_id": [c.clip_id for c in clips], column: [c.columns.get(column) for c in clips]})
    if column not in table.column_names:
        raise ExportError(
            f"the manifest has no {column}, so windows would have no motion bucket: "
            "add the scorer `motion` to its configuration and run it again"
        )
    scores = table[column].cast(pa.float64()).to_numpy()
    digest = hashlib.sha256("\n".join(table["clip_id"].to_pylist()).encode() + scores.tobytes()).hexdigest()
    return fit_corpus(scores, column, {"clips_sha256": digest})


def check_buckets(index: pa.Table, buckets: MotionBuckets) -> None:
    """Raises `ExportError` where rows were made with another map than the one that will lie beside them."""
    scores, made = (index[name].to_numpy() for name in ("motion_score", "motion_bucket_id"))
    wrong = sum(buckets.bucket(score) != bucket for score, bucket in zip(scores, made, strict=True))
    if wrong:
        raise ExportError(
            f"{wrong} of {len(made)} windows were made with other motion buckets: the clips' motion scores or the file motion_buckets have "
            "changed since this export was begun; export into a new folder"
        )


def write_buckets(out: OutFolder, buckets: MotionBuckets) -> None:
    """Puts the map beside the windows that were made with it."""
    with tempfile.TemporaryDirectory(prefix="curate-export-") as folder:
        buckets.save(Path(folder) / BUCKETS_FILE)
        out.put(Path(folder) / BUCKETS_FILE, BUCKETS_FILE)


def write_lines(out: OutFolder, finished: Finished, more: Mapping[str, str]) -> None:
    """`train.jsonl` and `val.jsonl`, one line a window in the export's order, a batch in memory at a time.

    `more`: further keys and their columns.
    """
    columns = FROM_INDEX | dict(more)
    for split in ("train", "val"):
        with tempfile.TemporaryDirectory(prefix="curate-export-") as folder:
            path = Path(folder) / f"{split}.jsonl"
            with path.open("w", encoding="utf-8") as file:
                rows = finished.index.filter(pc.equal(finished.index["split"], split))
                for batch in rows.select(list(dict.fromkeys(columns.values()))).to_batches(max_chunksize=4096):
                    values = {name: batch.column(name).to_pylist() for name in batch.schema.names}
                    file.writelines(
                        json.dumps({key: values[name][i] for key, name in columns.items()}, ensure_ascii=False) + "\n"
                        for i in range(len(batch))
                    )
            out.put(path, path.name)


def prune(out: OutFolder, folder: str, listed: pa.ChunkedArray) -> None:
    """Removes windows that an interrupted run left in a folder and that no index lists: readers of folders would take them."""
    names = [name for name in out.list(folder) if _is_window(name)]
    there = pa.array([_stem(name) for name in names], pa.string())
    is_listed = pc.is_in(there, value_set=listed.combine_chunks()).to_pylist()
    for name in (name for name, known in zip(names, is_listed, strict=True) if not known):
        out.remove(f"{folder}/{name}")


def _is_window(name: str) -> bool:
    """`<16 hex digits>-<number>`, with a suffix or without: names that this layout gives, and no others."""
    clip_id, _, number = _stem(name).partition("-")
    return len(clip_id) == 16 and set(clip_id) <= set("0123456789abcdef") and number.isdecimal()


def _stem(name: str) -> str:
    return name.partition(".")[0]
