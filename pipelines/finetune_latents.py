"""An export of layout `latents` as a source of windows: nothing is decoded, and the VAE encodes the noised first frame alone.

The noise on that frame is drawn anew each time, so of what the export holds only the window's latents and the clean first frame are used.
"""

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset

from curate.dataset import Draw, Item
from curate.errors import ConfigError, ExportError, SourceError
from curate.export.folder import OutFolder
from curate.motion_bucket import MotionBuckets
from curate.svd.encode import Encoders

FORMAT = "curate-svd-latents-1"
MAX_DIFFERENCE = 0.05  # of the norm; float16 rounds to 0.0005, and another VAE's latents have nothing to do with these


class LatentExport(Dataset[Item]):
    """Windows by number, as `CuratedClips` has them, but with `latents` and `first` in place of frames.

    `rows` are rows of the export's index. Its motion scores are put on the scale of `motion_buckets`. Raises `ConfigError` where windows
    are not of the `num_frames` that are asked for.
    """

    def __init__(self, folder: OutFolder, rows: pa.Table, num_frames: int, motion_buckets: MotionBuckets) -> None:
        self._folder, self.motion_buckets = folder, motion_buckets
        names = ("sample_id", "file", "num_frames_out", "width_out", "height_out")
        self._rows = {name: rows[name].to_pylist() for name in names}
        if not len(rows):
            raise ExportError(f"{folder.url}: no window of this split passes `select`; loosen the rules")
        lengths = set(self._rows["num_frames_out"])
        if lengths != {num_frames}:
            raise ConfigError(
                f"windows.num_frames={num_frames}, but {folder.url} holds windows of {sorted(lengths)} frames; set it to that"
            )
        pairs = list(zip(self._rows["width_out"], self._rows["height_out"], strict=True))
        self.sizes = tuple(sorted(set(pairs)))
        self.item_sizes = np.array([self.sizes.index(pair) for pair in pairs], np.int64)
        self.spec, self.refused = "latents", dict[str, str]()

    def __len__(self) -> int:
        return len(self.item_sizes)

    def clip_ids(self) -> list[str]:
        """Names of the windows: a clip may have several."""
        return list(self._rows["sample_id"])

    def __getitem__(self, draw: Draw) -> Item:
        """Raises `SourceError` for a file that is gone or damaged."""
        name = self._rows["file"][draw.item]
        tensors, facts = self._read(name)
        score = float(facts["motion_score"])
        return {
            "latents": tensors["latents"].float() * float(facts["scaling_factor"]),
            "first": tensors["cond_image"],
            "times_ns": torch.tensor([int(facts["start_ns"])]),
            "clip_id": facts["clip_id"],
            "fps_id": int(facts["fps_id"]),
            "motion_score": score,
            "motion_bucket_id": self.motion_buckets.bucket(score),
            "size": (int(facts["width"]), int(facts["height"])),
            "num_skipped": 0,
        }

    def _read(self, name: str) -> tuple[dict[str, torch.Tensor], Mapping[str, str]]:
        from safetensors import SafetensorError
        from safetensors.torch import load

        data = self._folder.read_bytes(name)
        if data is None:
            raise SourceError(f"{self._folder.path(name)} is gone; run the same `curate export` again")
        try:
            tensors = load(data)
            facts = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        except (SafetensorError, ValueError, KeyError) as error:
            raise SourceError(f"{self._folder.path(name)} is damaged: {error}; export again") from error
        if facts.get("format") != FORMAT:
            raise SourceError(
                f"{self._folder.path(name)} is of format {facts.get('format')!r}, this program reads {FORMAT!r}; export again"
            )
        return tensors, facts


def is_latent_export(rows: pa.Table) -> bool:
    """Whether rows of an index list encoded windows."""
    return "file" in rows.column_names and len(rows) > 0 and str(rows["file"][0].as_py()).endswith(".safetensors")


def check_same_vae(windows: LatentExport, encoders: Encoders) -> None:
    """Raises `ConfigError` where the latents were made by another VAE than that of the model that is trained."""
    item = windows[Draw(0, 0)]
    stored = item["latents"][0]
    ours = encoders.mean(item["first"][None].float() / 255 * 2 - 1)[0].cpu() * encoders.scaling_factor
    if ours.shape != stored.shape or float((ours - stored).norm() / ours.norm()) > MAX_DIFFERENCE:
        raise ConfigError("data holds latents of another VAE than that of model; export with layout=latents model= of this one")
