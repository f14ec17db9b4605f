"""Parameters of shot detection, and the door to the detectors."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from curate.shots import ShotDetector


class DetectorPass(BaseModel):
    """One PySceneDetect detector of the cascade, fed on a grid of the source's own time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: Literal["content", "adaptive"] = Field(
        description="content: HSV difference of neighbouring samples over a threshold; adaptive: over a multiple of its rolling mean"
    )
    fps: float | None = Field(
        None,
        ge=0.25,
        le=60,
        description="samples a second; null: every frame, repeated ones skipped",
        json_schema_extra={"unit": "1/s"},
    )
    threshold: float = Field(
        gt=0,
        le=255,
        description="content: mean HSV difference; adaptive: ratio to the rolling mean",
        json_schema_extra={"unit": "8-bit levels, or ratio"},
    )
    min_content: float = Field(
        15.0,
        ge=0,
        le=255,
        description="adaptive only: least mean HSV difference of a cut",
        json_schema_extra={"unit": "8-bit levels"},
    )
    window: int = Field(
        2,
        ge=1,
        le=10,
        description="adaptive only: samples on each side in the rolling mean",
        json_schema_extra={"unit": "samples"},
    )


CASCADE = (
    DetectorPass(detector="adaptive", fps=None, threshold=3.0, min_content=15.0),
    DetectorPass(detector="content", fps=4.0, threshold=18.0),
    DetectorPass(detector="content", fps=2.0, threshold=12.0),
)
"""LVD's rates and thresholds are not published; these were chosen on seeded films made from single shots.

What each pass is for: at full rate all hard cuts and the fades, but half of the gradual transitions; with 2 fps / 12 as well 0.94 of
them, and 4 fps / 18 adds short dissolves between moving shots, 0.99 (of 317, in 78 films and 29 files). The fixed threshold of
ContentDetector at full rate takes fast motion for cuts (F1 0.59 against 0.96 on real files), so the pass there is adaptive. Lower
thresholds cost precision; 1 fps in place of 2 costs recall.
"""


class Shots(BaseModel):
    """How a source is cut into shots."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: Literal["cascade", "verify", "transnetv2"] = Field(
        "cascade",
        description="cascade: PySceneDetect at several rates, fast; transnetv2: a network on every frame, accurate and slow; "
        "verify: the network where a cascade set for recall is in doubt",
    )
    passes: tuple[DetectorPass, ...] = Field(CASCADE, min_length=1, max_length=8, description="the cascade's detectors")
    max_transition_s: float = Field(
        4.0,
        ge=1,
        le=10,
        description="longest ramp that is looked for; bounds how late a cut is known",
        json_schema_extra={"unit": "s"},
    )
    blend_residual: float = Field(
        0.3,
        gt=0,
        le=2,
        description="cascade: what a dissolve's frames may hold besides a mix of both shots, per share of the picture that changes; "
        "less rejects more motion",
        json_schema_extra={"unit": "share"},
    )
    min_change: float = Field(
        8.0,
        ge=0,
        le=255,
        description="cascade: least rms difference between the pictures on both sides of a dissolve",
        json_schema_extra={"unit": "8-bit levels"},
    )
    flat_contrast: float = Field(
        2.5,
        ge=0,
        le=64,
        description="fades: a frame with less spatial deviation holds no picture",
        json_schema_extra={"unit": "8-bit levels"},
    )
    flat_share: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="fades: nor does a nearly black or white one with less than this share of the contrast before it",
        json_schema_extra={"unit": "share"},
    )
    flash_s: float = Field(
        0.12,
        ge=0,
        le=1,
        description="a picture that returns within this time was hidden by a flash, not by a cut",
        json_schema_extra={"unit": "s"},
    )
    transnet_threshold: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="transnetv2: probability from which a frame is part of a transition",
        json_schema_extra={"unit": "probability"},
    )
    transnet_step_ms: float = Field(
        30.0,
        ge=0,
        le=1000,
        description="transnetv2: least time between frames it is fed, so that 60 frames/s become 30; 0: every frame",
        json_schema_extra={"unit": "ms"},
    )

    @model_validator(mode="after")
    def _full_rate(self) -> "Shots":
        if not any(one.fps is None for one in self.passes):
            raise ValueError("shots.passes needs one pass with fps: null (every frame); cuts of slower passes are placed on its track")
        return self


NEEDS_NETWORK = "shots.detector=verify or transnetv2 (cascade does without)"


def package_needs(params: Shots) -> list[tuple[str, str]]:
    """Lists the extra that the detector needs, as `curate.extras.require` takes it."""
    return [] if params.detector == "cascade" else [(NEEDS_NETWORK, "transnetv2")]


def open_detector(params: Shots) -> ShotDetector:
    """A fresh detector for one source. Raises `MissingPackageError` where TransNetV2 is asked for and not installed."""
    if params.detector == "transnetv2":
        from curate.shots.transnet import TransNetDetector

        return TransNetDetector(params)
    if params.detector == "verify":
        from curate.shots.verify import VerifyDetector

        return VerifyDetector(params)
    from curate.shots.content import CascadeDetector

    return CascadeDetector(params)
