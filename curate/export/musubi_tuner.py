"""A data set of musubi-tuner: `--dataset_config train.toml`, for Wan 2.1 (and 2.2 A14B) and HunyuanVideo.

    train.toml                   dataset configuration: a [[datasets]] for every size
    train/832x480.jsonl          video_path and caption of the files of that size
    train/00000/<sample_id>.mp4 ...
    cache/train/832x480/         where the trainer keeps latents and text embeddings, one folder for every [[datasets]]
    val.toml, val/...            the same for the validation split

How it reads (its page `dataset_config.md`, `src/musubi_tuner/dataset/image_video_dataset.py`, `bucket.py`, `datasources.py`): a directory
of videos is not searched below its first level, so files are listed in JSON Lines. Latents are cached at a bucket made of `resolution`,
whatever `enable_bucket` and `bucket_no_upscale` say: all sizes of about its area, in steps of 16. A size is surely one of its own
buckets, and the nearest to itself, but not of another's: hence a [[datasets]] for every size (up to an aspect of 4). `frame_extraction
= "full"` takes all of a file's frames, cut to 4n+1 and `max_frames`, which changes nothing here; without `source_fps` none are skipped,
and the files have the model's rate.

Paths. musubi-tuner takes those in the TOML as they are, from the folder that it is started in, and those in the JSON Lines from there
first. Ours begin with `root`; without it they are relative to the export, which may then be moved, and the trainer is started in it.
"""

from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curate.export import Finished
from curate.export.card import card
from curate.export.folder import OutFolder
from curate.export.trainer import TrainerLayout, by_size, json_lines, splits, toml_table


class Layout(TrainerLayout):
    """Parameters of the layout `musubi_tuner`."""

    reader: ClassVar[str] = "musubi-tuner"

    model: Literal["wan2.1", "hunyuanvideo"] = Field("wan2.1", description="model to be trained; its rules are applied to every file")
    batch_size: int = Field(1, ge=1, le=1024, description="batch_size in the written configuration")

    def finish(self, out: OutFolder, finished: Finished) -> None:
        for split, part in splits(finished):
            text = [f"# {self.model}, for musubi-tuner: --dataset_config {self.under_root(f'{split}.toml')}\n"]
            text.append(toml_table("general", [("batch_size", self.batch_size), ("enable_bucket", True), ("num_repeats", 1)]))
            for (width, height), files in by_size(part):
                name = f"{split}/{width}x{height}"
                paths = pc.binary_join_element_wise(self.under_root(""), files["file"], "")
                captions = pc.utf8_trim_whitespace(pc.fill_null(files["caption"].cast(pa.string()), ""))
                out.write_bytes(f"{name}.jsonl", json_lines(pa.table({"video_path": paths, "caption": captions})))
                values = [
                    ("video_jsonl_file", self.under_root(f"{name}.jsonl")),
                    ("cache_directory", self.under_root(f"cache/{name}")),
                    ("resolution", (width, height)),
                    ("frame_extraction", "full"),
                    ("max_frames", pc.max(files["num_frames_out"]).as_py()),
                ]
                text.append(toml_table("[datasets]", values))
            out.write_text(f"{split}.toml", "\n".join(text))
        out.write_text("README.md", card(finished, "musubi_tuner", self._how_to_load()))

    def _how_to_load(self) -> str:
        where = "" if self.root else " Its paths are relative to this folder: start the scripts in it."
        return (
            f"With musubi-tuner, for {self.model}: `--dataset_config {self.under_root('train.toml')}`, first with the scripts that cache "
            f"latents and text encoder outputs, then with the one that trains.{where}"
        )
