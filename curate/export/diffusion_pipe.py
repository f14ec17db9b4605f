"""A data set of diffusion-pipe: `dataset = "train.toml"` in its configuration, for Wan 2.1 (and 2.2 A14B), HunyuanVideo and LTX-Video.

    train.toml                                  dataset configuration: a [[directory]] for every folder of files
    train/00000/832x480/<sample_id>.mp4, .txt   a clip and its caption; a folder a shard and size
    val.toml, val/...                           the same for the validation split, for `eval_datasets`

How it reads (`examples/dataset.toml`, `utils/dataset.py`, `models/base.py`): every file directly in a [[directory]], its caption beside
it; folders inside are not searched. A video goes to the nearest of `ar_buckets` and to the largest of `frame_buckets` that it fills, is
resampled to the model's rate and resized to the area of `resolutions` at that aspect, with sides to the nearest 16 px (32 for
LTX-Video, and in versions of 2024 for all). A [[directory]] here has files of one size, with that size as its only aspect and
resolution and the counts that there are, so nothing is resampled, resized or cut. `size_buckets` would say the same in one line, but
with several aspects and counts it looks up the wrong ones: its aspects are sorted and its buckets are not.

`fps` is the model's and cannot be another: files are resampled to it by what they say of themselves. Latents are cached in `cache/`
inside each [[directory]]. With many clips take larger shards (`shard_clips`), since every [[directory]] is prepared by itself.

Paths begin with `root`; without it they are relative to the export, which may then be moved, and the trainer is started in it.
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curate.export import Finished, Made, ShardName
from curate.export.card import card
from curate.export.folder import OutFolder
from curate.export.trainer import TrainerLayout, by_size, splits, toml_table
from curate.export.video import VideoMaker
from curate.models import Models


class Layout(TrainerLayout):
    """Parameters of the layout `diffusion_pipe`."""

    reader: ClassVar[str] = "diffusion-pipe"

    model: Literal["wan2.1", "hunyuanvideo", "ltx-video"] = Field(
        "wan2.1", description="model to be trained; its rules are applied to every file"
    )

    @model_validator(mode="after")
    def _the_models_rate(self) -> "Layout":
        if self.fps is not None and self.fps != self.rules.fps:
            rate = f"{float(self.rules.fps):g}"
            raise ValueError(f"fps={self.fps:g}: diffusion-pipe resamples every file to {rate} fps for {self.model}; leave fps out")
        return self

    def open(self, models: Models) -> "PairMaker":
        del models
        return PairMaker(self.encoding())

    def finish(self, out: OutFolder, finished: Finished) -> None:
        for split, part in splits(finished):
            head = f"# {self.model}, for diffusion-pipe: {'dataset' if split == 'train' else 'eval_datasets'}\nenable_ar_bucket = true\n"
            out.write_text(f"{split}.toml", "\n".join([head, *self._directories(part)]))
        out.write_text("README.md", card(finished, "diffusion_pipe", self._how_to_load(finished)))

    def _directories(self, part: pa.Table) -> Iterator[str]:
        for (width, height), files in by_size(part):
            counts = sorted(pc.unique(files["num_frames_out"]).to_pylist())
            for folder in pc.unique(pc.replace_substring_regex(files["file"], "/[^/]*$", "")).to_pylist():
                values: list[tuple[str, Any]] = [("path", self.under_root(folder)), ("num_repeats", 1)]
                values += [("resolutions", [[width, height]]), ("ar_buckets", [[width, height]]), ("frame_buckets", counts)]
                yield toml_table("[directory]", values)

    def _how_to_load(self, finished: Finished) -> str:
        words = [f"dataset = '{self.under_root('train.toml')}'"]
        if pc.any(pc.equal(finished.index["split"], "val")).as_py():
            words.append(f"eval_datasets = [{{name = 'val', config = '{self.under_root('val.toml')}'}}]")
        where = "" if self.root else "\n\nThe paths in them are relative to this folder: start the trainer in it."
        lines = "\n".join(words)
        return f"With diffusion-pipe, for {self.model}, in its configuration:\n\n```toml\n{lines}\n```{where}"


class PairMaker(VideoMaker):
    """Cuts one file a sample and puts it, with its caption beside it, at `<split>/<shard>/<width>x<height>/<sample_id>`."""

    def pack(self, shard: ShardName, made: Sequence[Made], out: OutFolder) -> list[dict[str, Any]]:
        rows = []
        for one in made:
            sample = one.sample
            folder = f"{shard.folder}/{sample.width}x{sample.height}"
            out.write_text(f"{folder}/{sample.sample_id}.txt", (sample.clip.caption or "").strip())
            out.put(one.files["mp4"], f"{folder}/{sample.sample_id}.mp4")
            rows.append({"file": f"{folder}/{sample.sample_id}.mp4"})
        self._remove_others(shard, rows, out)
        return rows

    @staticmethod
    def _remove_others(shard: ShardName, rows: Sequence[dict[str, Any]], out: OutFolder) -> None:
        """The trainer takes whatever lies in a folder, so nothing may stay of an earlier try whose clip cannot be made any more."""
        listed = {row["file"].rpartition(".")[0] for row in rows}
        for size in out.list(shard.folder):
            for name in out.list(f"{shard.folder}/{size}"):
                stem, _, kind = f"{shard.folder}/{size}/{name}".rpartition(".")
                if kind in ("mp4", "txt") and stem not in listed:
                    out.remove(f"{stem}.{kind}")
