"""Aesthetic score and CLIP embedding: LAION's linear head on the image embedding of the first, middle and last sample.

score = w . e + b with e the L2-normalised embedding (`curate.models.laion`), about 1 to 10, higher is nicer; LVD takes the mean over
the three frames and drops the lowest quarter (arXiv 2311.15127). A head fits the weights it was trained on and no others of the same
size, so it is chosen by model and tag; for other pairs it must be named.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from curate.clip import Fault
from curate.errors import ConfigError, MissingPackageError
from curate.models import Forward, Models, ModelSpec, Weight
from curate.models.catalog import HEADS, open_clip, own_config
from curate.models.clip import Precision, embed_dim, image_spec
from curate.samples import ClipSamples, Wants
from curate.scorers import Column, Score

# Head taken for OpenAI's weights of a model when none is named; which one LVD took is not published, its tools use the first.
DEFAULT_HEADS = {"ViT-L-14": "sac+logos+ava1-l14-linearMSE", "ViT-B-16": "sa_0_4_vit_b_16_linear"}
ANY_SIZE = -1  # pyarrow's word for a list of any length
SHORT_SIDE = 720  # px; bounds memory. Ten 720p frames averaged down to 448 first moved by up to 0.14 points (0.06 rms), so larger is kept


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Scorer:
    """Aesthetic score and embedding from an open_clip model."""

    model: str = Field("ViT-L-14", description="open_clip model, or local-dir:FOLDER")
    pretrained: str = Field("openai", description="open_clip's tag of the weights")
    head: str | None = Field(
        None, description="LAION head by name, or a path to a .pth file of linear layers; null: the one that fits the model"
    )
    precision: Precision = Field(
        "float32",
        description="float32, or int8: the image tower's linear layers in whole numbers, faster on CPUs with VNNI (1.7 times), "
        "scores within 0.01 points (ViT-B/16)",
    )

    version: ClassVar[int] = 1
    extras: ClassVar[tuple[str, ...]] = ("clip",)
    batch_clips: ClassVar[int] = 5  # 15 pictures: a GPU's batch of 16

    @model_validator(mode="after")
    def _head_fits(self) -> "Scorer":
        name = self.head_name
        if name in HEADS and (dimension := self.dimension) not in (HEADS[name].dimension, ANY_SIZE):
            raise ConfigError(
                f"aesthetic.head {name!r} takes embeddings of {HEADS[name].dimension} numbers ({HEADS[name].model}), "
                f"aesthetic.model {self.model!r} gives {dimension}"
            )
        return self

    @property
    def head_name(self) -> str:
        """The head in use: the one named, else the one that fits. Raises `ConfigError` where neither is there."""
        if self.head is not None:
            if self.head not in HEADS and not self.head.endswith(".pth"):
                raise ConfigError(f"aesthetic.head {self.head!r} is neither a .pth file nor one of: {', '.join(HEADS)}")
            return self.head
        name = DEFAULT_HEADS.get(self.model.removesuffix("-quickgelu")) if self.pretrained == "openai" else None
        if name is None:
            raise ConfigError(
                f"aesthetic: no head is known to fit {self.model!r} with {self.pretrained!r}; "
                f"set head to one of {', '.join(HEADS)} or to a .pth file"
            )
        return name

    @property
    def dimension(self) -> int:
        """Length of an embedding; `ANY_SIZE` where open_clip, which knows it, is not installed and nothing is scored."""
        try:
            return embed_dim(self.model)
        except MissingPackageError:
            return ANY_SIZE

    @property
    def columns(self) -> dict[str, Column]:
        return {
            "aesthetic_score": Column(
                pa.float32(), "points", "LAION aesthetic score, about 1 to 10, mean over first, middle and last sample"
            ),
            "aesthetic_min": Column(pa.float32(), "points", "LAION aesthetic score of the worst sample"),
            "aesthetic_scores": Column(pa.list_(pa.float32()), "points", "LAION aesthetic score of each sample, in time order"),
            "clip_embedding": Column(
                pa.list_(pa.float16(), self.dimension),
                "unit vector",
                f"CLIP image embedding ({self.model}, {self.pretrained}): mean of the samples' unit vectors, scaled to length 1",
                large=True,
            ),
        }

    @property
    def samples(self) -> Wants:
        return Wants(frames="first_middle_last", pixels="rgb", short_side=SHORT_SIDE)

    def weights(self) -> tuple[Weight, ...]:
        return open_clip(self.model, self.pretrained), self._head_weight(), *own_config(self.model)

    def _head_weight(self) -> Weight:
        name = self.head_name
        if name in HEADS:
            return HEADS[name].weight
        return Weight(f"laion/{Path(name).stem}", (str(Path(name).expanduser().absolute()),), "aesthetic head of yours", "yours")

    def networks(self, models: Models) -> tuple[Forward, Forward]:
        """The image tower (`curate.models.clip.image_forward`) and the head (`curate.models.laion.head_forward`)."""
        tower, head, *_ = (models.path(weight) for weight in self.weights())
        embed = models.load(image_spec(self.model, self.pretrained, tower, self.precision))
        return embed, models.load(ModelSpec("laion_head", (str(head),), (("dimension", embed_dim(self.model)),)))

    def open(self, models: Models) -> Score:
        embed, grade = self.networks(models)

        def score(clips: Sequence[ClipSamples]) -> list[dict[str, Any]]:
            embeddings = embed([frame for clip in clips for frame in clip.frames])
            grades = grade(embeddings)
            ends = np.cumsum([len(clip.frames) for clip in clips])[:-1]
            return [self._row(*pair) for pair in zip(np.split(embeddings, ends), np.split(grades, ends), strict=True)]

        return score

    def _row(self, embeddings: np.ndarray, grades: np.ndarray) -> dict[str, Any]:
        if not len(embeddings):
            return dict.fromkeys(self.columns) | {"faults": [Fault("aesthetic", "NoSamples", "the clip has no sample to embed")]}
        mean = embeddings.astype(np.float64).mean(axis=0)
        return {
            "aesthetic_score": float(grades.mean()),
            "aesthetic_min": float(grades.min()),
            "aesthetic_scores": grades.tolist(),
            "clip_embedding": (mean / np.linalg.norm(mean)).astype(np.float16),
        }
