"""WebDataset shards: one tar of clips a shard. Read by `webdataset` 1.0, `wids` 0.1 (random access), `datasets` 5, and what builds on them.

    train-00000.tar, train-00001.tar, ..., val-00000.tar ...
        <sample_id>.mp4      the clip
        <sample_id>.json     its record (`curate.export.record`): facts of the file, every plain column of the manifest; null where unknown
        <sample_id>.txt      its caption; empty where there is none, since readers expect the same members in every sample
    train-shards.json, val-shards.json      shards and how many samples each has, as `wids.ShardListDataset` reads it
    README.md                               data set card, with the columns' types for `datasets.load_dataset(folder)`

The tars lie side by side, so that `train-{00000..00041}.tar` names them all; a shard of which no clip could be made has no tar, and
the card has the pattern that names those that are there. Samples come in the export's order, which is shuffled already. Members are
plain ustar without time and owner: the same clips give the same bytes. `index/*.parquet` says where in which tar each mp4 lies.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from curate.export import Finished, Made, Sample, ShardName
from curate.export.card import card, hub_dtype
from curate.export.folder import OutFolder
from curate.export.record import no_caption, record, record_table
from curate.export.video import VideoLayout, VideoMaker
from curate.kept import KeptClip
from curate.models import Models


class Layout(VideoLayout):
    """Parameters of the layout `webdataset`."""

    reader: ClassVar[str] = "webdataset, wids, datasets"

    captions: Literal["allow_empty", "require"] = Field(
        "allow_empty", description="require: clips without a caption are refused; allow_empty: theirs is null and their .txt empty"
    )

    def plan(self, clip: KeptClip) -> list[Sample] | str:
        if self.captions == "require" and no_caption(clip.caption):
            return "no caption"
        return super().plan(clip)

    def open(self, models: Models) -> "TarMaker":
        del models
        return TarMaker(self.encoding())

    def finish(self, out: OutFolder, finished: Finished) -> None:
        shards = list(tars(finished.index))
        for split in ("train", "val"):
            listed = [{"url": name, "nsamples": count} for part, name, count in shards if part == split]
            if listed:
                kind = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": f"{finished.facts['name']}-{split}"}
                out.write_json(f"{split}-shards.json", {**kind, "shardlist": listed})
        data_files = {"train": "train-*.tar", "val": "val-*.tar"}
        out.write_text("README.md", card(finished, "webdataset", _how_to_load(shards), data_files, _features(finished.index)))


class TarMaker(VideoMaker):
    """Cuts one file a sample and puts those of a shard into one tar."""

    def pack(self, shard: ShardName, made: Sequence[Made], out: OutFolder) -> list[dict[str, Any]]:
        if not made:
            return []
        name = f"{shard}.tar"
        path = made[0].files["mp4"].parent / name
        offsets = write_tar(path, made)
        out.put(path, name)
        return [{"file": name, "member_offset": offset, "member_size": size} for offset, size in offsets]


def write_tar(path: Path, made: Sequence[Made]) -> list[tuple[int, int]]:
    """Writes a shard; returns offset and size in bytes of each sample's mp4 in it. Cut files are removed as soon as they are inside."""
    places = []
    with open(path, "wb") as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for one in made:
            sample_id, video = one.sample.sample_id, one.files["mp4"]
            size = os.path.getsize(video)
            places.append((stream.tell() + tarfile.BLOCKSIZE, size))
            with open(video, "rb") as file:
                tar.addfile(_member(f"{sample_id}.mp4", size), file)
            text = json.dumps(record(one), ensure_ascii=False, allow_nan=False).encode()
            tar.addfile(_member(f"{sample_id}.json", len(text)), io.BytesIO(text))
            caption = (one.sample.clip.caption or "").encode()
            tar.addfile(_member(f"{sample_id}.txt", len(caption)), io.BytesIO(caption))
            video.unlink()
    return places


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def tars(index: pa.Table) -> Iterator[tuple[str, str, int]]:
    """Split, file name and number of samples of every tar that an index lists, in its order."""
    counted = index.group_by(["split", "file"], use_threads=False).aggregate([([], "count_all")])
    yield from zip(*(counted[name].to_pylist() for name in ("split", "file", "count_all")), strict=True)


def pattern(names: Sequence[str]) -> str:
    """The brace pattern that expands to these tars of one split, in order: `train-{00000..00041}.tar`."""
    numbers = [int(name.removesuffix(".tar").rpartition("-")[2]) for name in names]
    head = names[0].removesuffix(".tar").rpartition("-")[0]
    runs = []
    for _, run in groupby(enumerate(numbers), key=lambda item: item[1] - item[0]):
        ends = [number for _, number in run]
        runs.append(f"{{{ends[0]:05d}..{ends[-1]:05d}}}" if len(ends) > 1 else f"{ends[0]:05d}")
    return f"{head}-{runs[0]}.tar" if len(runs) == 1 else f"{head}-{{{','.join(runs)}}}.tar"


def _features(index: pa.Table) -> list[dict[str, Any]]:
    """Types of the members as `datasets` writes them in a card. Left to itself it guesses them from five samples, and nulls mislead it."""
    of_json = [{"name": field.name, "dtype": hub_dtype(field.type)} for field in record_table(index.slice(0, 0)).schema]
    plain = [{"name": name, "dtype": "string"} for name in ("txt", "__key__", "__url__")]
    return [{"name": "mp4", "dtype": "video"}, {"name": "json", "struct": of_json}, *plain]


def _how_to_load(shards: Sequence[tuple[str, str, int]]) -> str:
    split = shards[0][0]
    names = [name for part, name, _ in shards if part == split]
    patterns = [f"`{pattern(list(group))}`" for group in _by_split(shards)]
    return f"""Shards: {", ".join(patterns)}.

```python
import webdataset  # pip install webdataset

shards = "{pattern(names)}"
for sample in webdataset.WebDataset(shards, shardshuffle=False).decode():
    sample["mp4"], sample["json"], sample["txt"]  # bytes of the file, its record, its caption
```

Random access, with the package `wids`: `wids.ShardListDataset("{split}-shards.json")`. With `datasets`:
`datasets.load_dataset(FOLDER, streaming=True)`. Bytes of one clip: `index/*.parquet` has `file`, `member_offset` and `member_size`."""


def _by_split(shards: Sequence[tuple[str, str, int]]) -> Iterator[Iterator[str]]:
    for _, group in groupby(shards, key=lambda shard: shard[0]):
        yield (name for _, name, _ in group)
