"""Layout `latents`: windows encoded by the VAE and the image encoder of Stable Video Diffusion, one `.safetensors` file a window.

Read by this project's own SVD trainer, and by any loop that takes `safetensors`. Encoding is done once instead of every epoch, and the
trainer need not hold the encoders' 0.7 billion weights.

    train/<shard>/<sample>.safetensors
        latents             float16 (T, 4, H/8, W/8)    the VAE's mean, NOT scaled: times `scaling_factor` gives what is noised and learned
        cond_latents        float16 (K, 4, H/8, W/8)    the VAE's mean of the first frame plus noise, never scaled: concatenated as it is
        noise_aug_strength  float32 (K,)                how strong that noise was: the third time id
        clip_embedding      float32 (1, 1024)           of the clean first frame
        cond_image          uint8   (3, H, W)           the clean first frame, RGB
        metadata (text)     fps, fps_id, motion_score, motion_bucket_id, stride, start_ns, width, height, scaling_factor, model ...
    train.jsonl, val.jsonl  the same numbers and the caption, a line a window
    motion_buckets.json, index/*.parquet    as in layout `svd`

The noise on the conditioning frame is added to its pixels, before the VAE, so latents of one strength cannot be turned into those of
another. Chosen here: K strengths a window (`noise_levels`), drawn from the paper's ln N(-3, 0.5^2), each with noise of its own, seeded by
the sample's name. A trainer draws one of the K each time and needs no encoder at all; with 4 and 14 frames that is 29 % more to encode.
What it gives up is fresh noise: over many epochs a model sees the same K draws. A trainer that minds keeps the VAE's encoder, adds its
own noise to `cond_image`, which is there for that, and encodes that single frame, 1/14 of the work.

The mean, not a sample, because inference conditions on the mean. Unscaled, because only the noisy half of the model's input is scaled.

Which windows, which sizes and what the numbers mean: `curate.export.windowed`; what the encoders do: `curate.models.svd`.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from curate.errors import CurateError, ExportError
from curate.export import Finished, Made, Maker, Sample, ShardName
from curate.export.folder import OutFolder
from curate.export.windowed import WindowLayout, WindowReader, check_buckets, prune, write_buckets, write_lines
from curate.models import Models, Weight
from curate.models.svd import VAE_CHUNK, encoder_weights, image_spec, scaling_factor, vae_spec

if TYPE_CHECKING:
    import torch

NOISE_LOG_MEAN, NOISE_LOG_STD = -3.0, 0.5  # arXiv 2311.15127


class Layout(WindowLayout):
    """Encoded windows for SVD training without encoders."""

    version: ClassVar[int] = 1
    extras: ClassVar[tuple[str, ...]] = ("svd",)
    reader: ClassVar[str] = "SVD trainers that read latents from safetensors, such as this project's own"

    model: str = Field(
        "stabilityai/stable-video-diffusion-img2vid",
        min_length=1,
        description="SVD model whose encoders are used: a folder in the layout of diffusers, or a hub id",
    )
    noise_levels: int = Field(4, ge=1, le=64, description="noised versions of the conditioning frame stored for each window")
    noise_seed: int = Field(0, ge=0, le=2**32 - 1, description="another seed gives other noise on the conditioning frames")
    dtype: Literal["float16", "bfloat16", "float32"] = Field("float16", description="precision in which latents are stored")
    chunk: int = Field(VAE_CHUNK, ge=1, le=256, description="frames that the VAE encodes at a time; 4 at 1024x576 take 8 GiB of a GPU")

    def weights(self) -> tuple[Weight, ...]:
        return tuple(encoder_weights(self.model))

    def open(self, models: Models) -> "Encoder":
        return Encoder(self, models)

    def finish(self, out: OutFolder, finished: Finished) -> None:
        check_buckets(finished.index, self.map)
        for shard in finished.index["shard"].unique().to_pylist():
            split, _, number = shard.rpartition("-")
            prune(out, f"{split}/{number}", finished.index["sample_id"])
        write_buckets(out, self.map)
        write_lines(out, finished, {"file": "file", "noise_aug_strength": "noise_aug_strength"})


class Encoder(Maker):
    """Encodes windows, one file each."""

    def __init__(self, layout: Layout, models: Models) -> None:
        self._layout = layout
        self._reader = WindowReader(layout.map, layout.scorer)
        wanted = encoder_weights(layout.model)
        vae_config = models.path(wanted.vae_config)
        self._vae = models.load(vae_spec(vae_config, models.path(wanted.vae), layout.chunk))
        self._image = models.load(image_spec(models.path(wanted.image_config), models.path(wanted.image)))
        self._scaling_factor = scaling_factor(vae_config)

    def make(self, sample: Sample, spool: Path) -> Made:
        shown = self._reader.read(sample)
        tensors = self._tensors(sample.sample_id, shown.frames_THWC)
        path = spool / f"{sample.sample_id}.safetensors"
        data = encoded(tensors, self._metadata(sample, shown.facts))
        try:
            path.write_bytes(data)
        except OSError as error:
            raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from error
        _verify(path, tensors)
        facts = {"noise_aug_strength": tensors["noise_aug_strength"].numpy(), "file_bytes": len(data)}
        return Made(sample, {"safetensors": path}, {**shown.facts, **facts, "file_sha256": hashlib.sha256(data).hexdigest()})

    def pack(self, shard: ShardName, made: Sequence[Made], out: OutFolder) -> list[dict[str, Any]]:
        rows = []
        for one in made:
            name = f"{shard.folder}/{one.sample.sample_id}.safetensors"
            out.put(one.files["safetensors"], name)
            rows.append({"file": name})
        return rows

    def _tensors(self, sample_id: str, frames_THWC: np.ndarray) -> dict[str, "torch.Tensor"]:
        """Raises `CurateError` for latents that are not finite in the precision they are stored in."""
        import torch

        first_HWC = frames_THWC[0]
        strengths, noised_KHWC = noised(first_HWC, self._layout.noise_levels, self._layout.noise_seed, sample_id)
        stored = getattr(torch, self._layout.dtype)
        tensors = {
            "latents": torch.from_numpy(self._vae(list(frames_THWC))).to(stored),
            "cond_latents": torch.from_numpy(self._vae(list(noised_KHWC))).to(stored),
            "noise_aug_strength": torch.from_numpy(strengths),
            "clip_embedding": torch.from_numpy(self._image([first_HWC])),
            "cond_image": torch.from_numpy(np.ascontiguousarray(first_HWC.transpose(2, 0, 1))),
        }
        if bad := [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]:
            raise CurateError(
                f"{sample_id}: {' and '.join(bad)} not finite as {self._layout.dtype}; use dtype=float32, or check the weights"
            )
        return tensors

    def _metadata(self, sample: Sample, facts: Mapping[str, Any]) -> dict[str, str]:
        values = {
            "format": "curate-svd-latents-1",
            "sample_id": sample.sample_id,
            "clip_id": sample.clip.clip_id,
            "model": self._layout.model,
            "scaling_factor": self._scaling_factor,
            "latents": "mean of the VAE, not multiplied by scaling_factor",
            "motion_buckets_sha256": self._layout.map.sha256,
            "width": sample.width,
            "height": sample.height,
            "fps": facts["window_fps"],
            "start_ns": facts["window_start_ns"],
        }
        values |= {name: facts[name] for name in ("fps_id", "motion_score", "motion_bucket_id", "stride")}
        return {name: str(value) for name, value in sorted(values.items())}


def noised(first_HWC: np.ndarray, levels: int, seed: int, sample_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Strengths, float32 (K,), and a uint8 picture brought to -1..1 plus noise of each, float32 (K, H, W, 3); not clipped."""
    name = int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:8])
    generator = np.random.default_rng([seed, name])
    strengths = np.exp(generator.normal(NOISE_LOG_MEAN, NOISE_LOG_STD, levels)).astype(np.float32)
    noise_KHWC = generator.standard_normal((levels, *first_HWC.shape), np.float32)
    return strengths, first_HWC.astype(np.float32) / 255 * 2 - 1 + strengths[:, None, None, None] * noise_KHWC


def encoded(tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file; the library writes its metadata in another order each time, so the header is written again, sorted."""
    from safetensors.torch import save

    data = save(dict(tensors), dict(metadata))
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def _verify(path: Path, tensors: Mapping[str, "torch.Tensor"]) -> None:
    """Raises `ExportError` where the file does not hold these very tensors."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        back = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{path.name}: cannot be read back: {error}") from error
    if back.keys() != tensors.keys() or not all(torch.equal(back[name], tensors[name]) for name in tensors):
        raise ExportError(f"{path.name}: what was written is not what was encoded")
