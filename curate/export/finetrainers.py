"""A data set of finetrainers (version 0.2.0): `--dataset_config training.json`, `--validation_dataset_file validation.json`.

    training.json            dataset configuration: data_root, every (frames, height, width) there is as a bucket
    validation.json          some captions of the validation split, with size, count of frames and rate, from which videos are generated
    train/prompts.txt        captions, one a line                  (listing=lists)
    train/videos.txt         names of the files, in the same order
    train/metadata.jsonl     file_name and caption                 (listing=metadata, instead of the two)
    train/00000/<sample_id>.mp4 ...
    val/...                  the same for the validation split

How it reads (`finetrainers/data/dataset.py`): two lists of lines split by `str.splitlines`, so captions become one line each; a
metadata file goes to `datasets`' VideoFolder. A folder with a Parquet file anywhere inside is taken for a WebDataset: `data_root` is a
split's folder and not the export, which has `index/`. A `data_root` that could be the name of a repository is looked for on the hub
first: ours begins with `./` unless it is absolute. Each video goes to the bucket with the largest count that it has and the nearest
aspect, and is stretched to it; every file here is in a bucket of its own measures, so nothing is changed. Two sizes of one aspect would
both go to the larger: they are refused. Validation: the keys are those that a model specification's `validation` takes, and
`export_fps`.

0.2.0 needs `datasets` before 3.4 (videos as decord readers) and a `torchvision` that has `torchvision.io.video_reader`.
"""

from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curate.export import Finished
from curate.export.card import card
from curate.export.folder import OutFolder
from curate.export.trainer import TrainerLayout, json_lines, lines, one_line, relative, shapes, splits


class Layout(TrainerLayout):
    """Parameters of the layout `finetrainers`."""

    reader: ClassVar[str] = "finetrainers"
    same_aspects: ClassVar[bool] = False

    model: Literal["wan2.1", "hunyuanvideo", "cogvideox", "cogvideox1.5", "ltx-video"] = Field(
        "wan2.1", description="model to be trained; its rules are applied to every file"
    )
    listing: Literal["lists", "metadata"] = Field("lists", description="lists: prompts.txt and videos.txt; metadata: metadata.jsonl")
    validation_prompts: int = Field(4, ge=0, le=10_000, description="captions of the validation split in validation.json")

    def finish(self, out: OutFolder, finished: Finished) -> None:
        for split, part in splits(finished):
            captions, names = one_line(part["caption"]), relative(part, f"{split}/")
            if self.listing == "lists":
                out.write_bytes(f"{split}/prompts.txt", lines(captions))
                out.write_bytes(f"{split}/videos.txt", lines(names))
            else:
                out.write_bytes(f"{split}/metadata.jsonl", json_lines(pa.table({"file_name": names, "caption": captions})))
            if split == "train":
                buckets = [list(shape) for shape in shapes(part)]
                config = {"data_root": self._data_root(split), "dataset_type": "video", "video_resolution_buckets": buckets}
                out.write_json("training.json", {"datasets": [{**config, "reshape_mode": "bicubic"}]})
            elif self.validation_prompts:
                out.write_json("validation.json", {"data": self._validation(part, captions)})
        out.write_text("README.md", card(finished, "finetrainers", self._how_to_load(finished)))

    def _data_root(self, split: str) -> str:
        name = self.under_root(split)
        return name if name.startswith(("/", "./", "../")) else f"./{name}"

    def _validation(self, part: pa.Table, captions: pa.ChunkedArray) -> list[dict[str, object]]:
        fps = float(self.target().fps or 0)
        rate = {"frame_rate": int(fps) if fps.is_integer() else fps, "export_fps": round(fps)}
        rows = part.select(["num_frames_out", "height_out", "width_out"]).slice(0, self.validation_prompts).to_pylist()
        return [
            {"caption": caption, "num_frames": row["num_frames_out"], "height": row["height_out"], "width": row["width_out"], **rate}
            for caption, row in zip(captions.to_pylist()[: len(rows)], rows, strict=True)
        ]

    def _how_to_load(self, finished: Finished) -> str:
        words = [f"--dataset_config {self.under_root('training.json')}"]
        if self.validation_prompts and pc.any(pc.equal(finished.index["split"], "val")).as_py():
            words.append(f"--validation_dataset_file {self.under_root('validation.json')}")
        where = "" if self.root else " The paths in them are relative to this folder: start the trainer in it."
        return f"With finetrainers 0.2.0, for {self.model}: `{' '.join(words)}`.{where}"
