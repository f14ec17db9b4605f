"""Scores of a generated clip, by the project's own scorers and in the manifest's units, as columns of the table of runs.

Everything is measured on what a decoder would hand out of the clip's file but for the losses of H.264 (`curate.media.write.as_written`), so
that a score can be held against the manifest's: motion by the scorer that measures clips, on pairs of frames as windows have them
(`curate.window_motion`); sharpness and aesthetic score by the functions of those scorers. What compares frames with the picture or with
each other is in `pipelines.clip_fidelity`. A value that cannot be computed (one frame, 3 frames/s, weights that are not there) is None.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from curate.clip import NS_PER_S, Box
from curate.config import Config, weights_folders
from curate.media.picture import Picture
from curate.media.write import as_written
from curate.models import Forward, Models, resolve
from curate.pipelines.clip_fidelity import WARP_SHORT_SIDE, luma_flicker, sharpness_over_time, ssim, warp_error
from curate.scorers import ScorerLike, aesthetic, load
from curate.svd.generate_config import Job
from curate.window_motion import WindowMotion

_SPEED, _SHARPNESS = "% of the diagonal/s", "levels^2"
_MOTION = ("motion_speed", "motion_speed_stderr", "motion_camera", "motion_object")


def _field(name: str, unit: str, doc: str) -> pa.Field:
    return pa.field(name, pa.float64(), metadata={"unit": unit, "doc": doc})


SCORE_FIELDS: tuple[pa.Field, ...] = (
    _field("motion_speed", _SPEED, "measured motion, as the manifest's column of that name"),
    _field("motion_speed_stderr", _SPEED, "its standard error over pairs of frames"),
    _field("motion_camera", _SPEED, "the camera's part, as the manifest's"),
    _field("motion_object", _SPEED, "what the camera does not explain, as the manifest's"),
    _field("fidelity_first", "SSIM", "the first frame against the conditioning picture, luma; 1 is equal"),
    _field("fidelity_clip", "cosine", "CLIP embeddings of the frames against the picture's, mean over frames"),
    _field("flicker_warp", "levels", "mean difference of a frame from the one before, moved along optical flow"),
    _field("flicker_luma", "levels", "root mean square of the second difference of mean luma"),
    _field("sharpness_first", _SHARPNESS, "quality_sharpness of the manifest, mean over the first third of the frames"),
    _field("sharpness_last", _SHARPNESS, "the same over the last third"),
    _field("sharpness_kept", "ratio", "sharpness_last over sharpness_first"),
    _field("aesthetic_mean", "points", "LAION aesthetic score, mean over frames"),
)


@dataclass(frozen=True, slots=True, eq=False)
class ClipScores:
    """Scores clips. `networks` are the aesthetic scorer's image tower and head; without them their columns are None."""

    networks: tuple[Forward, Forward] | None = None
    motion: ScorerLike = field(default_factory=lambda: load("motion")())

    @classmethod
    def open(cls, scorer: aesthetic.Scorer | None = None, models: Models | None = None) -> "ClipScores":
        """Loads the networks of an aesthetic scorer whose weights `models` holds (`curate.models.resolve`)."""
        return cls(scorer.networks(models or Models()) if scorer is not None else None)

    def score_clip(
        self, frames_THWC: np.ndarray, picture_HWC: np.ndarray, fps: float, active: Box | None = None
    ) -> dict[str, float | None]:
        """A value for each of `SCORE_FIELDS`.

        Frames and conditioning picture are uint8 RGB of one size with even sides. `active` is where the picture lies in the frame, where
        the rest is bars. Raises `ValueError` for other arrays.
        """
        if frames_THWC.shape[1:] != picture_HWC.shape:
            raise ValueError(
                f"frames of {frames_THWC.shape[1:]} and a picture of {picture_HWC.shape}: bring the picture to the clip's size"
            )
        box = active or Box(0, 0, picture_HWC.shape[1], picture_HWC.shape[0])
        [picture], frames = as_written(picture_HWC[None]), as_written(frames_THWC)
        lumas = [frame.luma(box) for frame in frames]
        row: dict[str, float | None] = dict.fromkeys(one.name for one in SCORE_FIELDS)
        row |= self._moved(frames, fps, box)
        row["fidelity_first"] = ssim(lumas[0], picture.luma(box))
        row["flicker_warp"] = warp_error([frame.rgb(box, WARP_SHORT_SIDE) for frame in frames])
        row["flicker_luma"] = luma_flicker(lumas)
        row["sharpness_first"], row["sharpness_last"], row["sharpness_kept"] = sharpness_over_time(lumas)
        return row | self._looked_at([picture, *frames], box)

    def _moved(self, frames: Sequence[Picture], fps: float, box: Box) -> dict[str, float | None]:
        times_ns = np.rint(np.arange(len(frames)) * (NS_PER_S / fps)).astype(np.int64)
        found: dict[str, Any] = WindowMotion("motion_speed", self.motion).row(frames, times_ns, box) or {}
        return {name: None if found.get(name) is None else float(found[name]) for name in _MOTION}

    def _looked_at(self, pictures: Sequence[Picture], box: Box) -> dict[str, float | None]:
        """What the networks say of the conditioning picture, which is first, and the frames after it."""
        if self.networks is None:
            return {}
        embed, grade = self.networks
        vectors = embed([one.rgb(box, aesthetic.SHORT_SIDE) for one in pictures])
        cosines = vectors[1:].astype(np.float64) @ vectors[0].astype(np.float64)
        return {"fidelity_clip": float(cosines.mean()), "aesthetic_mean": float(np.mean(grade(vectors[1:])))}


def open_scores(job: Job) -> tuple[ClipScores | None, list[str]]:
    """What scores the clips of a job, None where it wants no scores; and notes on columns that stay empty.

    Weights that the job names are fetched where needed, and missing ones raise `MissingWeightsError`; those it does not name are used
    where they are on this machine.
    """
    if not job.scores:
        return None, []
    if job.aesthetic is None:
        return ClipScores(), []
    is_named = "aesthetic" in job.model_fields_set
    scorer = aesthetic.Scorer(**job.aesthetic.model_dump())
    folders = weights_folders(Config(models=job.models))
    found = resolve({"aesthetic": scorer}, folders, allow_download=is_named, optional=() if is_named else ("aesthetic",), what="score")
    if found.absent:
        remedies = " and ".join(weight.remedy for weight in scorer.weights())
        return ClipScores(), [f"aesthetic_mean and fidelity_clip stay empty without their weights; to get them: {remedies}"]
    return ClipScores.open(scorer, Models(found.paths, job.device if job.memory == "fast" else "cpu")), []
