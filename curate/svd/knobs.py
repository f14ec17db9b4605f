"""The knobs of one generated clip, with the defaults of each published checkpoint and three presets.

Frames, steps and guidance are those of Stability-AI/generative-models (scripts/sampling/configs/svd.yaml, svd_xt.yaml, svd_xt_1_1.yaml
and simple_video_sample.py); its fps_id of 6 is 7 frames/s here, as the network is told fps - 1. `subtle` and `balanced` lie where users'
guides do (motion bucket 60 and the release's 127, noise augmentation 0.01 and 0.02), `lively` (180, 0.04) is ours.
"""

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from curate.config import Section
from curate.errors import ConfigError
from curate.motion_bucket import MotionBuckets

MULTIPLE = 64  # px: the VAE shrinks a side 8 times and the UNet 8 times again
LANDSCAPE, PORTRAIT = "1024x576", "576x1024"
Checkpoint = Literal["svd", "svd_xt", "svd_xt_1_1"]
Preset = Literal["subtle", "balanced", "lively"]

CHECKPOINTS: Mapping[Checkpoint, Mapping[str, Any]] = MappingProxyType(
    {
        "svd": {"num_frames": 14, "steps": 25, "min_guidance": 1.0, "max_guidance": 2.5},
        "svd_xt": {"num_frames": 25, "steps": 30, "min_guidance": 1.5, "max_guidance": 3.0},
        # Tuned with the time ids of fps_id 6 and bucket 127 alone: other values are outside of what it learned last.
        "svd_xt_1_1": {"num_frames": 25, "steps": 30, "min_guidance": 1.5, "max_guidance": 3.0},
    }
)
PRESETS: Mapping[Preset, Mapping[str, Any]] = MappingProxyType(
    {
        "subtle": {"motion_bucket": 60, "noise_aug": 0.01},
        "balanced": {"motion_bucket": 127, "noise_aug": 0.02},
        "lively": {"motion_bucket": 180, "noise_aug": 0.04},
    }
)


class Knobs(Section):
    """What one clip is made with. Values that were not given may be replaced by a checkpoint's or a preset's (`resolve`)."""

    num_frames: int = Field(14, ge=1, le=256, description="frames the network makes at a time; 14 (SVD) or 25 (XT)")
    steps: int = Field(25, ge=1, le=1000, description="denoising steps")
    fps: float = Field(
        7.0,
        ge=1,
        le=120,
        description="frame rate that the network is told (minus 1) and that is played",
        json_schema_extra={"unit": "frames/s"},
    )
    motion_bucket: int = Field(127, ge=0, le=255, description="how much motion, in the scale that the checkpoint was trained with")
    motion: float | None = Field(
        None,
        ge=0,
        description="how much motion, in the manifest's unit; needs motion_buckets",
        json_schema_extra={"unit": "% of the diagonal/s"},
    )
    noise_aug: float = Field(
        0.02,
        ge=0,
        le=1,
        description="noise on the conditioning picture, whose pixels lie in -1 to 1; more of it loosens the clip from the picture",
    )
    min_guidance: float = Field(1.0, ge=0, le=50, description="guidance of the first frame")
    max_guidance: float = Field(2.5, ge=0, le=50, description="guidance of the last frame (triangle: of the middle; constant: of all)")
    guidance_shape: Literal["linear", "triangle", "constant"] = Field(
        "linear", description="how guidance runs over the frames; loops: triangle"
    )
    size: str | None = Field(
        None, description=f"WIDTHxHEIGHT in multiples of {MULTIPLE} px; null: {LANDSCAPE}, or {PORTRAIT} for an upright picture"
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, description="of all noise; the same seed gives the same clip on the same machine")
    decode_chunk: int | None = Field(None, ge=1, le=1024, description="frames decoded at a time; null: as the memory mode has it")
    length: int | None = Field(None, ge=1, le=10_000, description="frames of the clip; null: num_frames, or more as `longer` says")
    longer: Literal["windows", "last_frame"] = Field(
        "windows", description="clips of more than num_frames: overlapping windows sampled together, or each part begun from the last frame"
    )
    overlap: int | None = Field(
        None, ge=0, le=255, description="frames that neighbouring windows share at least; null: a third of num_frames"
    )
    loop: bool = Field(False, description="a clip whose last frame leads into its first, by windows that wrap")

    @field_validator("size", mode="after")
    @classmethod
    def _multiples(cls, value: str | None) -> str | None:
        if value is None:
            return None
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)
        if not found:
            raise ValueError(f"size={value!r} must be WIDTHxHEIGHT in px, e.g. {LANDSCAPE}")
        width, height = (int(side) for side in found.groups())
        if width % MULTIPLE or height % MULTIPLE or not width or not height:
            nearest = "x".join(str(max(1, math.floor(side / MULTIPLE + 0.5)) * MULTIPLE) for side in (width, height))
            raise ValueError(f"size={value}: both sides must be multiples of {MULTIPLE} px; nearest: {nearest}")
        return value

    @model_validator(mode="after")
    def _agree(self) -> "Knobs":
        if self.loop and self.longer == "last_frame":
            raise ValueError("loop=true goes with longer=windows: parts begun from the last frame do not lead back to the first")
        if "motion" in self.model_fields_set and self.motion is not None and "motion_bucket" in self.model_fields_set:
            raise ValueError(f"motion={self.motion:g} and motion_bucket={self.motion_bucket} both say how much motion; give one of them")
        return self

    @property
    def num_total(self) -> int:
        """Frames of the clip."""
        return self.length or self.num_frames

    @property
    def num_overlap(self) -> int:
        """Frames that neighbouring windows share at least. Raises `ConfigError` where that is all of them."""
        overlap = self.num_frames // 3 if self.overlap is None else self.overlap
        if overlap >= self.num_frames:
            raise ConfigError(f"overlap={overlap} must be less than num_frames={self.num_frames}")
        return overlap

    def width_height(self, picture_width: int, picture_height: int) -> tuple[int, int]:
        """The clip's (width, height) for a picture of that size."""
        size = self.size or (PORTRAIT if picture_height > picture_width else LANDSCAPE)
        width, height = size.split("x")
        return int(width), int(height)


def guess_checkpoint(model: str, num_frames: int) -> Checkpoint:
    """Which published checkpoint a model is or comes from, by its name and by how many frames its configuration has."""
    if num_frames < 20:
        return "svd"
    return "svd_xt_1_1" if re.search(r"1[-_.]1(?!\d)", model.rstrip("/").rpartition("/")[2]) else "svd_xt"


def resolve(
    given: Knobs,
    checkpoint: Checkpoint,
    *,
    num_frames: int | None = None,
    preset: Preset | None = None,
    buckets: MotionBuckets | None = None,
) -> Knobs:
    """All knobs with their values: those given, else the preset's, else the checkpoint's (`num_frames`: its configuration's).

    `motion` becomes the bucket that `buckets` gives it. Raises `ConfigError` where there is none.
    """
    own = given.model_dump(exclude_unset=True)
    values = {
        **CHECKPOINTS[checkpoint],
        **({} if num_frames is None else {"num_frames": num_frames}),
        **(PRESETS[preset] if preset else {}),
        **own,
    }
    if own.get("motion") is not None:
        if buckets is None:
            raise ConfigError(
                f"motion={own['motion']:g} needs motion_buckets=FILE, the map from motion to buckets that the checkpoint was trained with"
            )
        values["motion_bucket"] = buckets.bucket(own["motion"])
    if own.get("loop") and "guidance_shape" not in own:
        values["guidance_shape"] = "triangle"
    resolved = Knobs.model_construct(**{name: values.get(name, field.default) for name, field in Knobs.model_fields.items()})
    if resolved.longer == "windows":
        _ = resolved.num_overlap
    return resolved
