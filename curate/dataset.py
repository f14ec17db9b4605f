"""`CuratedClips`: windows of the kept clips as a torch `Dataset`, read from the sources of a manifest or from an export of video files.

    clips = CuratedClips("manifest", num_frames=14, fps=7, sizes=((1024, 576), (576, 1024)))
    batches = BucketBatches(clips, batch_size=4, seed=1)                          # curate.batches
    loader = DataLoader(clips, batch_sampler=batches, collate_fn=collate, num_workers=4)

An item is a window: T frames at a whole-number stride over the clip's distinct pictures (`curate.windows`), cropped to the aspect of one of
`sizes`, with its own rate and its own motion. Which window of a clip is drawn follows from seed, epoch and clip alone: workers, order and
restarts do not change it.
"""

import bisect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, SupportsIndex

import numpy as np
import torch
from torch.utils.data import Dataset

from curate.clip import Box
from curate.clip_files import ClipFile, member_bytes, read_clip_files
from curate.decide.rules import Rule
from curate.errors import ExportError, SourceError
from curate.framing import Framing, cover, nearest_bucket
from curate.media.access import FrameAccess
from curate.media.picture import Picture
from curate.motion_bucket import MotionBuckets, fit_corpus
from curate.sources.check import SourceCheck
from curate.window_motion import WindowMotion, has_pairs
from curate.windows import Windows, WindowSpec, fps_id, window_fps, windows

Item = dict[str, Any]


class Draw(NamedTuple):
    """What a sampler asks for: an item, the epoch that chooses its window, and the batch of that epoch it belongs to."""

    item: int
    epoch: int
    step: int | None = None


@dataclass(frozen=True, slots=True)
class _Survey:
    """Clips that can be read from, in order: number in `ClipFiles`, size (index in `sizes`), and how many items came before it."""

    clip: np.ndarray
    size: np.ndarray
    first_item: np.ndarray
    refused: dict[str, str]


class CuratedClips(Dataset[Item]):
    """Random access to windows of clips, exact to the frame.

    path            a manifest's folder, or an export's (local, or an fsspec URL) whose layout holds video files
    num_frames, fps, fps_tolerance
                    T frames of a window at a rate within the tolerance of `fps`, in ratio
    sizes           (width, height) of items; a clip goes to the one that shows most of it, enlarged by `max_enlarge` at most
    select          rules that clips must pass beyond being kept, as in a configuration: {"lively": {"column": "motion_speed", "min": 2}}
    motion_buckets  the map from score to bucket, or the file of one; None fits the distribution of these clips
    split           "train" or "val" of an export; None takes both
    windows         "one": a window of each clip, another each epoch; "all": every window, none sharing a frame with another
    on_error        what becomes of a clip whose source is gone, changed or damaged: "raise" `SourceError`, or "skip" to the next clip of
                    the same size; items say how many were passed over
    check_sources   look once in each process whether a source is the file that was scanned (size, etag or time of modification)

    Clips that give no window are left out; `refused` says why (clip_id -> reason). Raises `ExportError` when none is left.
    An item is a dict:

    frames            uint8 tensor (T, 3, H, W), RGB, BT.709, full range
    fps, fps_id       frames a second of this window; the id is round(fps) - 1
    motion_score      `motion_buckets.column` measured on this window, % of diagonal / s; the clip's own score below four frames a second
    motion_bucket_id  0..255
    clip_id, source_key, caption   caption is None where there is none
    times_ns          int64 tensor (T,), on the source's timeline, or that of the export's file
    size              (width, height)
    epoch, step       those it was drawn for; step is the sampler's, None without one
    num_skipped       clips passed over because they could not be read
    """

    def __init__(
        self,
        path: str | Path,
        *,
        num_frames: int = 14,
        fps: float = 7.0,
        fps_tolerance: float = 0.25,
        sizes: Sequence[tuple[int, int]] = ((576, 320),),
        select: Mapping[str, Rule | Mapping[str, Any]] | None = None,
        motion_buckets: MotionBuckets | str | Path | None = None,
        split: Literal["train", "val"] | None = None,
        windows: Literal["one", "all"] = "one",
        seed: int = 0,
        max_enlarge: float = 1.0,
        check_sources: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
        max_open: int = 8,
    ) -> None:
        _check_words(windows=(windows, ("one", "all")), on_error=(on_error, ("raise", "skip")), split=(split, ("train", "val", None)))
        self.sizes = tuple((int(width), int(height)) for width, height in sizes)
        if not self.sizes or min(min(size) for size in self.sizes) < 1:
            raise ValueError(f"sizes={sizes} must name at least one (width, height) in pixels")
        self.spec = WindowSpec(num_frames, fps, fps_tolerance)
        self.seed, self.max_enlarge, self.on_error, self._takes_all = seed, max_enlarge, on_error, windows == "all"
        given = MotionBuckets.load(motion_buckets) if isinstance(motion_buckets, (str, Path)) else motion_buckets
        column = given.column if given else "motion_speed"
        self._clips = read_clip_files(path, select, split, column)
        self._survey = self._look_over(path)
        self.refused = self._survey.refused
        self.motion_buckets = given or self._fit(column)
        self._motion = WindowMotion(column, self._clips.motion_scorer)
        self._access = FrameAccess(max_open)
        self._check_sources = check_sources
        self._check = SourceCheck()
        # In shared memory, so that workers that live on see `set_epoch`.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return int(self._survey.first_item[-1])

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Which windows are drawn from now on. Workers see it too; set it between epochs. A `Draw` brings an epoch of its own."""
        self._epoch.fill_(epoch)

    @property
    def item_sizes(self) -> np.ndarray:
        """int64[len]: size of each item, as index in `sizes`."""
        return np.repeat(self._survey.size, np.diff(self._survey.first_item))

    def clip_ids(self) -> list[str]:
        """Clips that items are drawn from, in order."""
        ids = self._clips.column("clip_id")
        return [str(ids[i]) for i in self._survey.clip]

    def __getitem__(self, index: SupportsIndex | Draw) -> Item:
        draw = index if isinstance(index, Draw) else Draw(range(len(self))[index], self.epoch)
        if not 0 <= draw.item < len(self):
            raise IndexError(f"item {draw.item} of {len(self)}")
        problem: SourceError | None = None
        for num_skipped, i in enumerate(self._from(draw.item)):
            try:
                return {**self._item(i, draw.epoch), "epoch": draw.epoch, "step": draw.step, "num_skipped": num_skipped}
            except SourceError as error:
                if self.on_error == "raise":
                    raise
                problem = error
        raise SourceError(f"no clip of this size can be read any more; the last: {problem}") from problem

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_checked": {}}

    def _from(self, item: int) -> Iterator[int]:
        """The item, then the first item of each clip of the same size after it, round to where it began."""
        yield item
        place = self._place(item)
        same = np.flatnonzero(self._survey.size == self._survey.size[place])
        at = int(np.searchsorted(same, place))
        for other in np.concatenate([same[at + 1 :], same[:at]]):
            yield int(self._survey.first_item[other])

    def _place(self, item: int) -> int:
        return bisect.bisect_right(self._survey.first_item, item) - 1

    def _item(self, item: int, epoch: int) -> Item:
        place = self._place(item)
        clip = self._clips[int(self._survey.clip[place])]
        times_ns = self._window(clip, item - int(self._survey.first_item[place]), epoch)
        try:
            pictures = self._read(clip, times_ns)
        except SourceError as error:
            raise SourceError(f"clip {clip.clip_id} of {clip.scanned.key}: {error}") from error
        framing = cover(clip.active, *self.sizes[self._survey.size[place]])
        score = self._motion.measure(pictures, times_ns, clip.active)
        if score is None:
            score = clip.score
        assert score is not None, f"clip {clip.clip_id}: windows without a score are refused when the data set is made"
        fps = window_fps(times_ns)
        return {
            "frames": _frames(pictures, framing),
            "fps": fps,
            "fps_id": fps_id(fps),
            "motion_score": score,
            "motion_bucket_id": self.motion_buckets.bucket(score),
            "clip_id": clip.clip_id,
            "source_key": clip.scanned.key,
            "caption": clip.caption,
            "times_ns": torch.from_numpy(times_ns),
            "size": (framing.width, framing.height),
        }

    def _window(self, clip: ClipFile, number: int, epoch: int) -> np.ndarray:
        """int64[T]: times of a clip's window with that number, or of the one that the epoch draws."""
        found = windows(clip.times_ns, clip.is_duplicate, self.spec)
        assert isinstance(found, Windows), f"clip {clip.clip_id} had windows when the data set was made: {found}"
        if self._takes_all:
            return found.times_ns(int(found.apart()[number]))
        rng = np.random.default_rng([self.seed, epoch, int(clip.clip_id, 16)])
        return found.times_ns(int(rng.integers(len(found))))

    def _read(self, clip: ClipFile, times_ns: np.ndarray) -> list[Picture]:
        if self._check_sources and clip.member is None:
            problem = self._check.problem(clip.scanned, self._clips.taken_by)
            if problem is not None:
                raise SourceError(problem)
        times = times_ns.tolist()
        if clip.member is None:
            return self._access.read(clip.url, times, clip.video_stream)
        member = clip.member
        return self._access.read_bytes(f"{clip.url} at byte {member[0]}", lambda: member_bytes(clip.url, member), times)

    def _look_over(self, path: str | Path) -> _Survey:
        """Which clips give windows, of which size and how many."""
        clips = self._clips
        ids, scores = clips.column("clip_id"), clips.column("score")
        boxes = np.stack([clips.column("x"), clips.column("y"), clips.column("width"), clips.column("height")], axis=1).tolist()
        sizes: dict[tuple[int, ...], int | str] = {}
        refused: dict[str, str] = {}
        kept, kept_sizes, counts = [], [], []
        for i, (times_ns, is_duplicate) in enumerate(clips.iter_frames()):
            box = tuple(boxes[i])
            if box not in sizes:
                sizes[box] = self._size(Box(*box))
            size = sizes[box]
            found = windows(times_ns, is_duplicate, self.spec) if isinstance(size, int) else size
            if isinstance(found, Windows) and np.isnan(scores[i]) and not has_pairs(found.fps):
                found = f"no motion: {found.fps:.2f} fps are too few to measure it, and the clip has no score"
            if isinstance(found, str) or isinstance(size, str):
                refused[str(ids[i])] = str(found)
                continue
            kept.append(i)
            kept_sizes.append(size)
            counts.append(len(found.apart()) if self._takes_all else 1)
        if not kept:
            raise ExportError(_nothing_left(path, len(clips), refused))
        first_item = np.concatenate([[0], np.cumsum(counts)])
        return _Survey(np.array(kept), np.array(kept_sizes), first_item, refused)

    def _size(self, active: Box) -> int | str:
        """Which of `sizes` a picture is shown at, or why none."""
        best = nearest_bucket(active, self.sizes, self.max_enlarge)
        return best if isinstance(best, str) else self.sizes.index((best.width, best.height))

    def _fit(self, column: str) -> MotionBuckets:
        return fit_corpus(self._clips.column("score")[self._survey.clip], column, self._clips.made_from)


def _frames(pictures: Sequence[Picture], framing: Framing) -> torch.Tensor:
    frames_TCHW = np.empty((len(pictures), 3, framing.height, framing.width), np.uint8)
    for frame_CHW, picture in zip(frames_TCHW, pictures, strict=True):
        frame_CHW[:] = picture.rgb_at(framing.box, framing.width, framing.height).transpose(2, 0, 1)
    return torch.from_numpy(frames_TCHW)


def _nothing_left(path: str | Path, num_clips: int, refused: Mapping[str, str]) -> str:
    if not num_clips:
        return f"{path}: no clip was kept, or none passes `select`; loosen the rules"
    kinds = Counter(reason.partition(":")[0] for reason in refused.values())
    kind, count = kinds.most_common(1)[0]
    example = next(reason for reason in refused.values() if reason.startswith(kind))
    return f"{path}: none of {num_clips} clips gives a window; {count} are refused as {kind!r}, such as {example!r}"


def _check_words(**words: tuple[object, tuple[object, ...]]) -> None:
    for name, (value, allowed) in words.items():
        if value not in allowed:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}")
