"""Layouts whose samples are video files: which frames of a clip at which size and rate, cut and verified (`curate.media.cut`).

Frames. Without `fps` a clip keeps its frames and their own times. With `fps` the distinct pictures (duplicates collapsed) are taken: all
of them where their rate is within 2.5 % of it (23.976 for 24), else the picture nearest to each multiple of 1/fps, as trainers' own
loaders do. A clip of a lower rate is refused: pictures would have to be repeated. A count that a model asks for is taken from the middle.

Size. The active picture inside bars, never stretched: one of `sizes` (the one that shows most of it), or its own aspect at most
`short_side`, sides cut to multiples. What would be enlarged by more than `max_enlarge` is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from curate.clip import NS_PER_S, Box, Span
from curate.export import Layout, Made, Maker, Sample, ShardName
from curate.export.folder import OutFolder
from curate.framing import Framing, fit, nearest_bucket, too_small
from curate.kept import KeptClip, KeptClips
from curate.media.cut import CutFile, Encoding, Take, cut_copy, cut_exact

CONFORM = 0.025  # a rate this near to the wanted one is relabelled: 23.976 for 24, 29.97 for 30


@dataclass(frozen=True, slots=True)
class Copy:
    """A stream copy of the frames in `span` (snapped to keyframes)."""

    span: Span
    times_ns: np.ndarray


@dataclass(frozen=True, slots=True)
class Target:
    """What a trainer asks of a file. Counts of frames are `frame_offset + frame_step * n`, at least `min_frames`, at most `max_frames`."""

    fps: Fraction | None = None
    frame_step: int = 1
    frame_offset: int = 0
    min_frames: int = 1
    max_frames: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    short_side: int | None = None
    max_pixels: int | None = None
    multiple: int = 2

    def num_frames(self, available: int) -> int | None:
        """The largest count that is allowed and there; None where there is none."""
        most = available if self.max_frames is None else min(available, self.max_frames)
        count = self.frame_offset + (most - self.frame_offset) // self.frame_step * self.frame_step
        return count if count >= max(1, self.min_frames) else None


class VideoLayout(Layout):
    """Parameters that every layout of video files has."""

    cut: Literal["exact", "copy"] = Field(
        "exact", description="exact: re-encoded, frame-exact; copy: the stream between keyframes, as it is"
    )
    codec: Literal["h264", "hevc", "av1"] = Field("h264", description="codec of exact cuts")
    hardware: bool = Field(False, description="encode on the GPU (NVENC)")
    crf: int | None = Field(None, ge=0, le=63, description="quality, lower is better; null: 18 for h264, 20 for hevc, 26 for av1")
    preset: str | None = Field(None, description="the encoder's preset; null: veryfast, or 8 for av1")
    audio: bool = Field(False, description="keep the sound")
    crop: bool | None = Field(None, description="cut bars off; null: yes for exact cuts, copies cannot")
    sizes: tuple[str, ...] = Field(
        (), description="widths and heights such as 576x320; the one that shows most of a clip is taken; none: own aspect"
    )
    short_side: int | None = Field(None, ge=16, description="without sizes: shorter side at most so long", json_schema_extra={"unit": "px"})
    multiple: int = Field(
        2, ge=2, le=128, description="without sizes: sides are cut to multiples of this", json_schema_extra={"unit": "px"}
    )
    max_enlarge: float = Field(1.0, ge=1.0, le=8.0, description="clips that would have to be enlarged by more are refused")
    fps: float | None = Field(None, gt=0, le=240, description="frame rate of the files; null: each clip's own times")
    num_frames: int | None = Field(None, ge=1, description="frames a file, from the middle of the clip; null: all")

    @field_validator("sizes", mode="before")
    @classmethod
    def _one_size(cls, value: Any) -> Any:
        if isinstance(value, str):
            return (value,)
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _consistent(self) -> "VideoLayout":
        for size in self.sizes:
            parse_size(size)
        if self.cut == "copy":
            changed = [name for name in ("sizes", "short_side", "fps", "num_frames", "crf", "preset", "hardware") if getattr(self, name)]
            changed += ["crop"] if self.crop else []
            if changed:
                raise ValueError(f"cut=copy leaves the stream as it is, so {', '.join(changed)} cannot be set; use cut=exact")
        self.encoding()
        return self

    def prepare(self, clips: KeptClips) -> "VideoLayout":
        """Finds out whether the encoder works here before a clip is cut."""
        del clips
        if self.cut == "exact":
            self.encoding().open_check()
        return self

    def encoding(self) -> Encoding:
        return Encoding(self.codec, self.hardware, self.crf, self.preset, self.audio)

    def target(self) -> Target:
        """What the files must be like; layouts for one model answer with that model's rules."""
        fps = None if self.fps is None else Fraction(self.fps).limit_denominator(1001)
        sizes = tuple(parse_size(size) for size in self.sizes)
        least = most = self.num_frames
        return Target(fps, min_frames=least or 1, max_frames=most, sizes=sizes, short_side=self.short_side, multiple=self.multiple)

    def plan(self, clip: KeptClip) -> list[Sample] | str:
        what = plan_copy(clip) if self.cut == "copy" else plan_take(clip, self.target(), self.crop is not False, self.max_enlarge)
        if isinstance(what, str):
            return what
        times_ns = what.times_ns if isinstance(what, Copy) else what.picks_ns
        end_ns = what.span.end_ns if isinstance(what, Copy) else what.end_ns
        duration_s = len(times_ns) / float(what.fps) if isinstance(what, Take) and what.fps else (end_ns - int(times_ns[0])) / NS_PER_S
        width, height = (clip.columns["width"], clip.columns["height"]) if isinstance(what, Copy) else (what.width, what.height)
        return [Sample(clip.clip_id, clip, len(times_ns), width, height, duration_s, what)]


def parse_size(text: str) -> tuple[int, int]:
    """`576x320` as (width, height); raises `ValueError` for anything else and for odd sides, which 4:2:0 video cannot have."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()) or min(int(width), int(height)) < 16 or int(width) % 2 or int(height) % 2:
        raise ValueError(f"size {text!r} is not WIDTHxHEIGHT with even sides of at least 16, such as 576x320")
    return int(width), int(height)


def plan_copy(clip: KeptClip) -> Copy | str:
    """The clip between its keyframes, or why there is nothing of it."""
    if clip.snapped is None:
        return "nothing is left between keyframes; use cut=exact"
    times_ns = clip.times_ns[(clip.times_ns >= clip.snapped.start_ns) & (clip.times_ns < clip.snapped.end_ns)]
    return Copy(clip.snapped, times_ns) if len(times_ns) else "nothing is left between keyframes; use cut=exact"


def plan_take(clip: KeptClip, target: Target, crop: bool, max_enlarge: float) -> Take | str:
    """Frames, box and size of one file, or why the clip cannot give one."""
    framing = framed(clip, target, crop, max_enlarge)
    if isinstance(framing, str):
        return framing
    found = picks(clip, target.fps)
    if isinstance(found, str):
        return found
    count = target.num_frames(len(found))
    if count is None:
        at = f" at {float(target.fps):g} fps" if target.fps else ""
        return f"too short: {len(found)} frames{at}, {max(target.min_frames, target.frame_offset)} are needed"
    first = (len(found) - count) // 2
    chosen = found[first : first + count]
    after = clip.times_ns[clip.times_ns > chosen[-1]]
    end_ns = int(after[0]) if len(after) else clip.span.end_ns
    return Take(
        url=clip.source_url,
        picks_ns=chosen,
        end_ns=end_ns,
        box=framing.box,
        width=framing.width,
        height=framing.height,
        fps=target.fps,
        streams=clip.streams,
    )


def framed(clip: KeptClip, target: Target, crop: bool, max_enlarge: float) -> Framing | str:
    """Box and size of a clip's pictures for a target, or why they are too small for it."""
    picture = clip.active if crop else Box(0, 0, clip.columns["width"], clip.columns["height"])
    if target.sizes:
        return nearest_bucket(picture, target.sizes, max_enlarge)
    framing = fit(picture, target.max_pixels, target.short_side, target.multiple)
    return framing if framing.scale <= max_enlarge else too_small(framing, max_enlarge)


def picks(clip: KeptClip, fps: Fraction | None) -> np.ndarray | str:
    """int64[N]: times of the clip's frames to take for a rate, or why it has too few."""
    if fps is None:
        return clip.times_ns
    times_ns, rate = clip.distinct_ns, clip.effective_fps
    if abs(rate / float(fps) - 1) <= CONFORM:
        return times_ns
    if rate < fps:
        return f"rate too low: {rate:.2f} distinct pictures/s, {float(fps):g} are wanted"
    wanted = clip.span.start_ns + (np.arange(int((clip.span.end_ns - clip.span.start_ns) * fps / NS_PER_S)) * NS_PER_S / float(fps)).astype(
        np.int64
    )
    # Where little moves, some frames count as repeats of others: then all frames are there to choose from.
    for candidates in (times_ns, clip.times_ns):
        found = nearest(candidates, wanted)
        if len(np.unique(found)) == len(found):
            return found
    return f"rate uneven: frames would be repeated at {float(fps):g} fps"


def nearest(times_ns: np.ndarray, wanted_ns: np.ndarray) -> np.ndarray:
    """int64, of `wanted_ns`' length: the time nearest to each; of two the earlier."""
    right = np.minimum(np.searchsorted(times_ns, wanted_ns), len(times_ns) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(wanted_ns - times_ns[left]) <= np.abs(times_ns[right] - wanted_ns), times_ns[left], times_ns[right])


class VideoMaker(Maker):
    """Cuts one file a sample and puts it at `<split>/<shard>/<sample_id>.mp4`."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding

    def make(self, sample: Sample, spool: Path) -> Made:
        path = spool / f"{sample.sample_id}.mp4"
        what = sample.what
        if isinstance(what, Copy):
            clip, audio = sample.clip, self._encoding.audio
            cut = cut_copy(clip.source_url, what.span, what.times_ns, path, audio=audio, streams=clip.streams)
        else:
            cut = cut_exact(what, self._encoding, path)
        return Made(sample, {"mp4": path}, _row(cut, sample))

    def pack(self, shard: ShardName, made: Sequence[Made], out: OutFolder) -> list[dict[str, Any]]:
        rows = []
        for one in made:
            name = f"{shard.folder}/{one.sample.sample_id}.mp4"
            out.put(one.files["mp4"], name)
            rows.append({"file": name})
        return rows


def _row(cut: CutFile, sample: Sample) -> dict[str, Any]:
    what, clip = sample.what, sample.clip
    source_ns = what.times_ns if isinstance(what, Copy) else what.picks_ns
    # A copy may end some frames before the span does (open groups of pictures): what is in the file counts.
    repeats = clip.is_duplicate[np.isin(clip.times_ns, source_ns[: cut.num_frames])].copy()
    repeats[:1] = False
    return {
        "num_frames_out": cut.num_frames,
        "duration_out_s": cut.duration_s,
        "file_times_ns": cut.times_ns,
        "file_is_duplicate": repeats,
        "file_width": cut.width,
        "file_height": cut.height,
        "file_has_audio": cut.has_audio,
        "file_bytes": cut.size_bytes,
        "file_sha256": cut.sha256,
    }
