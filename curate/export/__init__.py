"""Data sets that trainers read, made of the kept clips: one layout a file, named `layout=` after its module.

A layout is a set of parameters (a pydantic section) with three things to say. `plan` tells what it makes of a clip, from the manifest
alone, or why it cannot hold it. `open` loads what is heavy, in the worker, and returns a `Maker`, which makes the files of one clip and
packs those of a shard. `finish` writes what stands beside the shards, once all of them are complete: index files, cards.

    kept clips --plan--> samples, refusals --split, order--> shards --Maker.make, Maker.pack--> files --finish--> index, card

Nothing is listed before it has been verified, and `index/*.parquet` (see `curate.export.index`) lists the same rows for every layout.
"""

import importlib
import importlib.util
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa

from curate.config import Section
from curate.errors import ConfigError
from curate.export.folder import OutFolder
from curate.kept import KeptClip, KeptClips
from curate.models import Models, Weight

Split = Literal["train", "val"]
NO_LAYOUTS = ("card", "config", "folder", "histogram", "index", "model_rules", "plan", "record", "trainer", "video", "windowed")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One thing that an export lists: a clip's file, or one window of a clip.

    `what` is the layout's own plan of it (picklable); `num_frames`, `width`, `height` and `duration_s` are those of what will be written.
    """

    sample_id: str
    clip: KeptClip
    num_frames: int
    width: int
    height: int
    duration_s: float
    what: Any


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """Files of one sample, verified, in the worker's spool folder: role (`mp4`, `json`, `txt`, `safetensors`, ...) -> path.

    `row` is what the index says of it beyond the sample and the clip's columns; every sample of an export has the same keys.
    """

    sample: Sample
    files: Mapping[str, Path]
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShardName:
    """The unit of work, of commit and of resume: split and number; `train-00007` as text."""

    split: Split
    number: int

    def __str__(self) -> str:
        return f"{self.split}-{self.number:05d}"

    @property
    def folder(self) -> str:
        """`train/00007`: where layouts of single files put a shard's files, so that no folder grows beyond a shard."""
        return f"{self.split}/{self.number:05d}"


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """What `finish` may read. `index` has one row a sample in the export's order (columns in `curate.export.index`).

    `facts`: `manifest` (its path), `policy` (policy.json or None), `settings` (the export's parameters), `licence`, `name`, `refused` and
    `failed` (reason -> number of clips).
    """

    index: pa.Table
    facts: Mapping[str, Any]


class Maker(ABC):
    """Makes the files of one worker. Holds what is heavy (networks, open sources); lives as long as its worker."""

    @abstractmethod
    def make(self, sample: Sample, spool: Path) -> Made:
        """Writes the sample's files into `spool`; raises `CurateError` when it cannot be made or does not verify."""

    @abstractmethod
    def pack(self, shard: ShardName, made: Sequence[Made], out: OutFolder) -> list[dict[str, Any]]:
        """Puts a shard's files in place, in order. Returns for each sample what the index adds.

        That is `file`, `member_offset` and `member_size` where they apply, and columns of the layout's own.
        Called again after a crash it writes the same names, so nothing is left over.
        """


class Layout(Section, ABC):
    """Parameters of one layout; a subclass called `Layout` in `curate/export/<name>.py` is found by that name."""

    version: ClassVar[int] = 1
    extras: ClassVar[tuple[str, ...]] = ()  # names of our extras whose packages it imports (`curate.extras`)
    reader: ClassVar[str] = ""  # the trainer or library that reads it, for the card and the documentation

    @abstractmethod
    def plan(self, clip: KeptClip) -> list[Sample] | str:
        """What is made of a clip, from what the manifest says alone; a sentence for a clip that cannot be held.

        The same clip gives the same samples. Reasons that differ only in numbers are told apart by what stands before the colon.
        """

    @abstractmethod
    def open(self, models: Models) -> Maker:
        """Loads what is heavy, in the worker."""

    def weights(self) -> tuple[Weight, ...]:
        """What has to be there before anything starts."""
        return ()

    def prepare(self, clips: KeptClips) -> "Layout":
        """Looks at all planned clips once, before the first is made (a distribution to fit); returns the layout to work with."""
        del clips
        return self

    def identity(self) -> dict[str, Any]:
        """What the files depend on beside the clips: an export is continued only by a layout of the same identity."""
        return {"version": self.version, **self.model_dump(mode="json")}

    @abstractmethod
    def finish(self, out: OutFolder, finished: Finished) -> None:
        """Writes what stands beside the shards. Called again, it writes the same."""


def names() -> list[str]:
    """Layouts that this package brings."""
    return sorted(
        module.name for module in pkgutil.iter_modules(__path__) if module.name not in NO_LAYOUTS and not module.name.startswith("_")
    )


def load(name: str) -> type[Layout]:
    """The layout class of a name, or of a dotted path to a module of the user's own. Raises `ConfigError` for one that is not there."""
    module = name if "." in name else f"curate.export.{name}"
    if ("." not in name and name not in names()) or importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"layout={name}: there is no such layout; there are {', '.join(names())}, or a module of your own by its dotted name"
        )
    found = getattr(importlib.import_module(module), "Layout", None)
    if not (isinstance(found, type) and issubclass(found, Layout)):
        raise ConfigError(f"layout={name}: {module} has no class Layout derived from curate.export.Layout")
    return found
