"""Layout `svd`: a folder of frames for each window, for trainers of Stable Video Diffusion that read folders of pictures.

Read by pixeli99/SVD_Xtend (`train_svd.py`, commit bc48e99, `--base_folder OUT/train --num_frames 14 --width 576 --height 320`): every
entry of the base folder is a clip, every file in it a frame, in the order of their names. So nothing but frames lies in a window's folder,
and nothing but such folders under `train/`; the conditioning images have a tree of their own. That trainer conditions every clip on fps 7
and bucket 127; what belongs there, each window's own numbers, is in `train.jsonl` and in `index/*.parquet`.

    train/<sample>/00.jpg ... 13.jpg    frames in order: one base folder for the trainer (`folders=flat`)
    cond/train/<sample>.png             the first frame, lossless: the clean conditioning image
    val/..., cond/val/...               the validation split, if there is one
    train.jsonl, val.jsonl              a line a window: frames, cond_image, fps, fps_id, motion_bucket_id, motion_score, stride, times_ns
    motion_buckets.json                 the map from motion score to bucket, needed again at inference
    index/*.parquet                     the same numbers and every column of the clip

With `folders=shards` a level `<shard>/` lies under each split, so that no folder holds more than one shard's windows; each shard is then a
base folder.

Which windows, which sizes and what the numbers mean: `curate.export.windowed`. Captions are not needed and may be null. `fps_id` is
round(fps) - 1, what the model was conditioned on (Stability's generative-models); a trainer that feeds `fps` itself is off by one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from curate.errors import ExportError
from curate.export import Finished, Made, Maker, Sample, ShardName
from curate.export.folder import OutFolder
from curate.export.windowed import WindowLayout, WindowReader, check_buckets, prune, write_buckets, write_lines
from curate.models import Models

# Mean error of an 8-bit value beyond which a written picture is another picture. JPEG at quality 50 stays below 6 even on noise-free
# edges; channels in the wrong order are 20 and more off on anything in colour.
MAX_ERROR = 12.0


class Layout(WindowLayout):
    """Frames in folders and an index, for SVD trainers."""

    version: ClassVar[int] = 1
    reader: ClassVar[str] = "SVD_Xtend and other trainers of Stable Video Diffusion that read folders of frames"

    image: Literal["jpg", "png"] = Field("jpg", description="format of the frames; the conditioning image is always png")
    jpg_quality: int = Field(95, ge=50, le=100, description="quality of jpg frames; colour is kept at full resolution")
    folders: Literal["flat", "shards"] = Field(
        "flat", description="flat: all windows of a split in one folder; shards: a folder a shard, for very many windows"
    )

    def open(self, models: Models) -> "FrameFolders":
        del models
        return FrameFolders(self)

    def finish(self, out: OutFolder, finished: Finished) -> None:
        check_buckets(finished.index, self.map)
        for folder in self._folders(finished):
            prune(out, folder, finished.index["sample_id"])
        write_buckets(out, self.map)
        write_lines(out, finished, {"frames_folder": "frames_folder", "frames": "frames", "cond_image": "cond_image"})

    def _folders(self, finished: Finished) -> list[str]:
        """Every folder whose entries are windows."""
        shards = finished.index["shard"].unique().to_pylist()
        names = sorted({self.folder(ShardName(shard.rpartition("-")[0], int(shard.rpartition("-")[2]))) for shard in shards})
        return [*names, *(f"cond/{name}" for name in names)]

    def folder(self, shard: ShardName) -> str:
        """Where a shard's windows go."""
        return shard.folder if self.folders == "shards" else shard.split


class FrameFolders(Maker):
    """Writes and puts in place the frames of windows."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._reader = WindowReader(layout.map, layout.scorer)

    def make(self, sample: Sample, spool: Path) -> Made:
        shown = self._reader.read(sample)
        options = [cv2.IMWRITE_JPEG_QUALITY, self._layout.jpg_quality]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        width = max(2, len(str(len(shown.frames_THWC) - 1)))
        files = {"cond": _write(shown.frames_THWC[0], spool / f"{sample.sample_id}-cond.png", [], 0)}
        for i, frame in enumerate(shown.frames_THWC):
            name = f"{i:0{width}d}.{self._layout.image}"
            is_jpg = self._layout.image == "jpg"
            files[name] = _write(frame, spool / f"{sample.sample_id}-{name}", options if is_jpg else [], MAX_ERROR if is_jpg else 0)
        return Made(sample, files, {**shown.facts, "file_bytes": sum(path.stat().st_size for path in files.values())})

    def pack(self, shard: ShardName, made: Sequence[Made], out: OutFolder) -> list[dict[str, Any]]:
        return [self._put(one.sample.sample_id, one.files, self._layout.folder(shard), out) for one in made]

    def _put(self, sample_id: str, files: Mapping[str, Path], folder: str, out: OutFolder) -> dict[str, Any]:
        frames_folder, cond = f"{folder}/{sample_id}", f"cond/{folder}/{sample_id}.png"
        out.put(files["cond"], cond)
        names = sorted(name for name in files if name != "cond")
        for name in names:
            out.put(files[name], f"{frames_folder}/{name}")
        return {"file": None, "frames_folder": frames_folder, "frames": [f"{frames_folder}/{name}" for name in names], "cond_image": cond}


def _write(rgb_HWC: np.ndarray, path: Path, options: list[int], max_error: float) -> Path:
    """Writes a picture and reads it back. Raises `ExportError` where what is there is not the picture."""
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(rgb_HWC[:, :, ::-1]), options)
    if not done:
        raise ExportError(f"{path.name}: cannot be encoded")
    try:
        path.write_bytes(data.tobytes())
        back = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from error
    if back is None or back.shape != rgb_HWC.shape or cv2.norm(back, rgb_HWC[:, :, ::-1], cv2.NORM_L1) > max_error * rgb_HWC.size:
        raise ExportError(f"{path.name}: what was written is not the picture")
    return path
