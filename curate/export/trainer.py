"""What the layouts of one trainer share: a model's rules for every file, captions, and the text files that trainers read.

Every file is an exact cut at the model's rate, with a count of frames and a size that the model takes (`curate.export.model_rules`), so
that the trainer has nothing left to resample, crop or cut. A clip that is longer than the model's largest count gives its middle part.
A text-to-video trainer needs captions: a clip without one is refused unless `captions=allow_empty`, which gives it an empty one.

Text is made of Arrow columns, a piece at a time: an export may have a million rows.
"""

import io
import json
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curate.export import Finished, Sample
from curate.export.model_rules import MODELS, ModelRules, named
from curate.export.record import no_caption
from curate.export.video import Target, VideoLayout, VideoMaker, parse_size
from curate.kept import KeptClip
from curate.models import Models

SPLITS = ("train", "val")
CHUNK_ROWS = 65_536
# What str.splitlines and str.strip take for line ends and space: trainers read line by line with them. RE2's \s is ASCII only.
_SPACE = r"[\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+"


class TrainerLayout(VideoLayout):
    """Parameters that every layout of a trainer has. A subclass narrows `model` to those that its trainer knows."""

    same_aspects: ClassVar[bool] = True  # False: the trainer tells sizes apart by their aspect alone

    model: str = Field(description="model to be trained; its rules are applied to every file")
    captions: Literal["require", "allow_empty"] = Field(
        "require", description="require: clips without a caption are refused; allow_empty: theirs is empty"
    )
    sizes: tuple[str, ...] = Field(
        (), description="widths and heights such as 832x480; the one that shows most of a clip is taken; none: the model's"
    )
    fps: float | None = Field(None, gt=0, le=240, description="frame rate of the files; null: the model's")
    num_frames: int | None = Field(None, ge=1, description="frames a file, from the middle of the clip; null: as many as the model takes")
    min_frames: int | None = Field(None, ge=2, description="fewest frames a file; null: what the model needs, or one second")
    max_frames: int | None = Field(None, ge=2, description="most frames a file; null: the model's largest count")
    frame_step: int | None = Field(
        None, ge=2, description="counts of frames are n times this, plus 1: larger steps give fewer buckets; null: the model's"
    )
    max_pixels: int | None = Field(
        None, ge=256, description="own aspect at most so large, instead of sizes (as short_side)", json_schema_extra={"unit": "px"}
    )
    root: str = Field(
        "",
        description="what paths in written configurations begin with, e.g. /data/set; empty: the trainer is started in the export's folder",
    )

    @property
    def rules(self) -> ModelRules:
        return MODELS[self.model]

    @model_validator(mode="after")
    def _obeys_the_model(self) -> "TrainerLayout":
        problems = [*self._count_problems(), *self._size_problems()]
        if self.cut == "copy":
            problems.append(f"cut=copy: {self.model} takes {self.rules.counts} at {float(self.rules.fps):g} fps; use cut=exact")
        if self.crop is False and not self._own_aspect():
            problems.append("crop=false: bars are cut off to fill a size; leave it out, or set max_pixels for the clip's own aspect")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _count_problems(self) -> Iterator[str]:
        rules = self.rules
        for key in ("num_frames", "min_frames", "max_frames"):
            value = getattr(self, key)
            if value is not None and (problem := rules.count_problem(key, value)):
                yield problem
        if self.frame_step is not None and self.frame_step % rules.frame_step:
            yield f"frame_step={self.frame_step}: must be a multiple of {rules.frame_step}, which {rules.name} counts by"
        if self.num_frames is not None and (self.min_frames or self.max_frames or self.frame_step):
            yield "num_frames is one count for all files, so min_frames, max_frames and frame_step cannot be set beside it"
        if self.min_frames and self.max_frames and self.min_frames > self.max_frames:
            yield f"min_frames={self.min_frames} is more than max_frames={self.max_frames}"

    def _size_problems(self) -> Iterator[str]:
        sizes = [parse_size(size) for size in self.sizes]
        yield from (problem for size in sizes if (problem := self.rules.size_problem(*size)))
        if self._own_aspect():
            if sizes:
                yield "sizes are exact, so max_pixels and short_side cannot be set beside them"
            if self.rules.only_these:
                yield f"max_pixels, short_side: {self.model} takes {named(self.rules.sizes)} and no other size; leave them out"
        if not self.same_aspects:
            aspects = [Fraction(*size) for size in sizes]
            twice = [text for text, aspect in zip(self.sizes, aspects, strict=True) if aspects.count(aspect) > 1]
            if twice:
                yield f"sizes={', '.join(twice)}: have the same aspect, by which alone the trainer tells sizes apart; keep one of them"

    def _own_aspect(self) -> bool:
        return self.max_pixels is not None or self.short_side is not None

    def target(self) -> Target:
        rules = self.rules
        most = self.num_frames or self.max_frames or rules.max_frames
        least = self.num_frames or self.min_frames or min(rules.min_frames, most)
        sizes = () if self._own_aspect() else tuple(parse_size(size) for size in self.sizes) or rules.sizes
        return Target(
            fps=rules.fps if self.fps is None else Fraction(self.fps).limit_denominator(1001),
            frame_step=self.frame_step or rules.frame_step,
            frame_offset=1,
            min_frames=least,
            max_frames=most,
            sizes=sizes,
            short_side=self.short_side,
            max_pixels=self.max_pixels,
            multiple=math.lcm(self.multiple, rules.multiple),
        )

    def plan(self, clip: KeptClip) -> list[Sample] | str:
        if self.captions == "require" and no_caption(clip.caption):
            return "no caption"
        return super().plan(clip)

    def open(self, models: Models) -> VideoMaker:
        del models
        return VideoMaker(self.encoding())

    def under_root(self, name: str) -> str:
        """A name in the export's folder as configurations have it."""
        return f"{self.root.rstrip('/')}/{name}" if self.root else name


def splits(finished: Finished) -> Iterator[tuple[str, pa.Table]]:
    """The splits that have samples, with their rows in the export's order."""
    for split in SPLITS:
        part = finished.index.filter(pc.equal(finished.index["split"], split))
        if len(part):
            yield split, part


def shapes(part: pa.Table) -> list[tuple[int, int, int]]:
    """Every (num_frames, height, width) that there is, sorted."""
    found = part.group_by(["num_frames_out", "height_out", "width_out"]).aggregate([]).to_pylist()
    return sorted((row["num_frames_out"], row["height_out"], row["width_out"]) for row in found)


def by_size(part: pa.Table) -> Iterator[tuple[tuple[int, int], pa.Table]]:
    """The sizes (width, height) of a split, sorted, each with its rows."""
    for width, height in sorted({(width, height) for _, height, width in shapes(part)}):
        yield (width, height), part.filter(pc.and_(pc.equal(part["width_out"], width), pc.equal(part["height_out"], height)))


def one_line(captions: pa.ChunkedArray) -> pa.ChunkedArray:
    """Captions without line ends: white space of any kind and length becomes one space; null becomes empty."""
    spaced = pc.replace_substring_regex(pc.fill_null(captions.cast(pa.string()), ""), _SPACE, " ")
    return pc.utf8_trim(spaced, " ")


def relative(part: pa.Table, folder: str) -> pa.ChunkedArray:
    """Names of the files within `folder`, which ends with a slash."""
    return pc.utf8_slice_codeunits(part["file"], len(folder))


def lines(column: pa.ChunkedArray) -> bytes:
    """One line a value."""
    text = io.BytesIO()
    for first in range(0, len(column), CHUNK_ROWS):
        text.writelines(f"{value}\n".encode() for value in column.slice(first, CHUNK_ROWS).to_pylist())
    return text.getvalue()


def json_lines(table: pa.Table) -> bytes:
    """JSON Lines of a table."""
    text = io.BytesIO()
    for batch in table.to_batches(max_chunksize=CHUNK_ROWS):
        text.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in batch.to_pylist())
    return text.getvalue()


def toml_value(value: Any) -> str:
    """A value as TOML has it: strings, truth values, whole numbers, lists of them."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(one) for one in value) + "]"
    if isinstance(value, int):
        return str(value)
    raise TypeError(f"{value!r} is no string, truth value, whole number or list of them")


def toml_table(head: str, values: Sequence[tuple[str, Any]]) -> str:
    """`[head]` and its keys; a head of `[name]` is one of a list."""
    return "\n".join([f"[{head}]", *(f"{key} = {toml_value(value)}" for key, value in values)]) + "\n"
