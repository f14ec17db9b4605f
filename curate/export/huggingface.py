"""A folder for `datasets.load_dataset(folder)`, ready to be uploaded. Read by `datasets` 5 (its VideoFolder) and the hub's data viewer.

    data/train/metadata.parquet             the records of a split's clips (`curate.export.record`), with `file_name`
    data/train/00000/<sample_id>.mp4 ...    the clips, a folder a shard
    data/val/...
    README.md                               data set card: licence, splits, policy, histograms, columns

`file_name` becomes the column `video`. One metadata file a split: VideoFolder reads several in no fixed order, and spreads neither them nor
the videos over loader workers; to stream with several workers take the layout `webdataset`. Parquet and not JSON Lines, in which a
column that begins with nulls would be taken to have no type. The hub wants fewer than 10,000 files in a folder: keep `shard_clips`
below that. Its name for the split `val` is `validation`. A split without clips is left out: `datasets` refuses an empty one.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curate.export import Finished, Made, Sample, ShardName
from curate.export.card import HUB_SPLITS, card
from curate.export.folder import OutFolder
from curate.export.record import no_caption, record_table
from curate.export.video import VideoLayout, VideoMaker
from curate.kept import KeptClip
from curate.manifest import parquet
from curate.models import Models


class Layout(VideoLayout):
    """Parameters of the layout `huggingface`."""

    reader: ClassVar[str] = "datasets (VideoFolder)"

    captions: Literal["allow_empty", "require"] = Field(
        "allow_empty", description="require: clips without a caption are refused; allow_empty: theirs is null"
    )

    def plan(self, clip: KeptClip) -> list[Sample] | str:
        if self.captions == "require" and no_caption(clip.caption):
            return "no caption"
        return super().plan(clip)

    def open(self, models: Models) -> "FolderMaker":
        del models
        return FolderMaker(self.encoding())

    def finish(self, out: OutFolder, finished: Finished) -> None:
        data_files = {"train": "data/train/**", "val": "data/val/**"}
        present = [split for split in data_files if pc.any(pc.equal(finished.index["split"], split)).as_py()]
        for split in present:
            part = finished.index.filter(pc.equal(finished.index["split"], split))
            out.write_bytes(f"data/{split}/metadata.parquet", parquet.encode(metadata_table(part, f"data/{split}/")))
        out.write_text("README.md", card(finished, "huggingface", _HOW_TO_LOAD.format(split=HUB_SPLITS[present[0]]), data_files))


class FolderMaker(VideoMaker):
    """Cuts one file a sample and puts it at `data/<split>/<shard>/<sample_id>.mp4`."""

    def pack(self, shard: ShardName, made: Sequence[Made], out: OutFolder) -> list[dict[str, Any]]:
        rows = []
        for one in made:
            name = f"data/{shard.folder}/{one.sample.sample_id}.mp4"
            out.put(one.files["mp4"], name)
            rows.append({"file": name})
        return rows


def metadata_table(part: pa.Table, folder: str) -> pa.Table:
    """The records of a split with `file_name`, relative to `folder`, before them.

    A column whose name `datasets` would take for that of another video gets an underscore.
    """
    table = record_table(part)
    names = [f"{name}_" if name == "video" or name.endswith(("file_name", "file_names")) else name for name in table.column_names]
    return table.rename_columns(names).add_column(0, "file_name", pc.utf8_slice_codeunits(part["file"], len(folder)))


_HOW_TO_LOAD = """```python
import datasets  # pip install datasets torchcodec

clips = datasets.load_dataset(FOLDER, split="{split}")  # or the name of the repository on the hub; streaming=True reads as it goes
clip = clips[0]
clip["video"], clip["caption"], clip["fps"]  # a torchcodec decoder, and the columns below

paths = clips.cast_column("video", datasets.Video(decode=False))  # {{"path": ..., "bytes": ...}} and no torchcodec
```"""
