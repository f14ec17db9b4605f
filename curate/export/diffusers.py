"""A data set of diffusers' CogVideoX trainers and of cogvideox-factory: lists of captions and files, and the same as CSV.

    train/prompts.txt        captions, one a line
    train/videos.txt         names of the files, in the same order
    train/metadata.csv       file_name, text
    train/00000/<sample_id>.mp4 ...
    val/...                  the same for the validation split

diffusers, `examples/cogvideo/train_cogvideox_lora.py` (and the image-to-video one): `--instance_data_root train --caption_column
prompts.txt --video_column videos.txt`. cogvideox-factory, `training/dataset.py`: `--data_root train` with the same columns, or
`--dataset_file train/metadata.csv --caption_column text --video_column file_name`. `datasets.load_dataset("videofolder",
data_dir="train")` reads the CSV too.

Both take frames as they come, at whatever rate, and for batches of more than one want the same count of all, so every file here has the
same count and the same size: `--max_num_frames`, `--height` and `--width` of the card change nothing. Both drop empty lines from the
two lists one by one, which would give the videos behind them the wrong captions: a clip without a caption is refused. pandas reads some
words in a CSV, such as `None` and `N/A`, as missing, on which the tokenizer fails: those captions are refused as well.
"""

import io
from dataclasses import replace
from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.csv as pacsv
from pydantic import Field, model_validator

from curate.export import Finished, Sample
from curate.export.card import card
from curate.export.folder import OutFolder
from curate.export.trainer import TrainerLayout, lines, one_line, relative, splits
from curate.export.video import Target
from curate.kept import KeptClip

# pandas.read_csv, parameter na_values: what it takes for missing.
PANDAS_MISSING = {"#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL"}
PANDAS_MISSING |= {"NaN", "None", "n/a", "nan", "null"}


class Layout(TrainerLayout):
    """Parameters of the layout `diffusers`."""

    reader: ClassVar[str] = "diffusers (examples/cogvideo), cogvideox-factory"

    model: Literal["cogvideox", "cogvideox1.5"] = Field("cogvideox", description="model to be trained; its rules are applied to every file")
    captions: Literal["require"] = Field("require", description="clips without a caption are refused: the trainers drop empty lines")
    num_frames: int | None = Field(None, ge=1, description="frames a file, from the middle of the clip; null: 49, or 81 for cogvideox1.5")

    @model_validator(mode="after")
    def _one_shape(self) -> "Layout":
        if len(self.sizes) > 1 or self._own_aspect():
            raise ValueError("the trainers crop every video to one --height and --width; give one size, and no max_pixels or short_side")
        if self.min_frames or self.max_frames or self.frame_step:
            raise ValueError("the trainers batch videos of one length; give num_frames, and no min_frames, max_frames or frame_step")
        return self

    def count(self) -> int:
        """Frames of every file."""
        return self.num_frames or self.rules.min_frames

    def target(self) -> Target:
        return replace(super().target(), min_frames=self.count(), max_frames=self.count())

    def plan(self, clip: KeptClip) -> list[Sample] | str:
        found = super().plan(clip)
        if not isinstance(found, str) and (clip.caption or "").strip() in PANDAS_MISSING:
            return f"caption reads as missing: {clip.caption!r} in a CSV"
        return found

    def finish(self, out: OutFolder, finished: Finished) -> None:
        for split, part in splits(finished):
            captions, names = one_line(part["caption"]), relative(part, f"{split}/")
            out.write_bytes(f"{split}/prompts.txt", lines(captions))
            out.write_bytes(f"{split}/videos.txt", lines(names))
            text = io.BytesIO()
            pacsv.write_csv(pa.table({"file_name": names, "text": captions}), text)
            out.write_bytes(f"{split}/metadata.csv", text.getvalue())
        out.write_text("README.md", card(finished, "diffusers", self._how_to_load()))

    def _how_to_load(self) -> str:
        target, folder = self.target(), self.under_root("train")
        width, height = target.sizes[0]
        same = f"--height {height} --width {width} --fps {float(target.fps or 0):g} --max_num_frames {self.count()}"
        return f"""With diffusers' `examples/cogvideo/train_cogvideox_lora.py`:

```sh
--instance_data_root {folder} --caption_column prompts.txt --video_column videos.txt {same}
```

With cogvideox-factory:

```sh
--data_root {folder} --caption_column prompts.txt --video_column videos.txt --max_num_frames {self.count()} --frame_buckets {self.count()}
--height_buckets {height} --width_buckets {width}
```"""
