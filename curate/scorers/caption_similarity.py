"""How well a source's caption describes the clip: cosine of CLIP's text and image embeddings, mean over first, middle and last sample.

LVD drops the lower half by it (arXiv 2311.15127). Captions longer than the model's context (77 tokens for OpenAI's, start and end included)
are cut there. A source without a caption has null, which is no fault. The image embeddings are those of `aesthetic` where both use one
model: the forward remembers the pictures it saw last (`curate.models.clip`), so they are computed once.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from curate.clip import Fault
from curate.errors import ConfigError, MissingPackageError
from curate.models import Models, Weight
from curate.models.catalog import open_clip, own_config
from curate.models.clip import Precision, image_spec, model_config, text_spec
from curate.samples import ClipSamples, Wants
from curate.scorers import Column, Score
from curate.scorers.aesthetic import SHORT_SIDE


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Scorer:
    """Similarity of caption and clip by an open_clip model, which must have both towers."""

    model: str = Field("ViT-L-14", description="open_clip model, or local-dir:FOLDER")
    pretrained: str = Field("openai", description="open_clip's tag of the weights")
    precision: Precision = Field(
        "float32",
        description="float32, or int8: the image tower's linear layers in whole numbers, as in aesthetic",
    )

    version: ClassVar[int] = 1
    extras: ClassVar[tuple[str, ...]] = ("clip",)
    batch_clips: ClassVar[int] = 5

    @model_validator(mode="after")
    def _tokenizer_is_here(self) -> "Scorer":
        try:
            tokenizer = model_config(self.model).get("text_cfg", {}).get("hf_tokenizer_name")
        except MissingPackageError:
            return self  # the run says it, with everything else that is missing
        if tokenizer:
            raise ConfigError(
                f"caption_similarity.model {self.model!r} needs the tokenizer {tokenizer} from a hub; take a model with CLIP's own"
            )
        return self

    @property
    def columns(self) -> dict[str, Column]:
        doc = "cosine of the caption's and the samples' CLIP embeddings, mean over the samples; null where the source has no caption"
        return {"caption_similarity": Column(pa.float32(), "cosine", doc, -1, 1)}

    @property
    def samples(self) -> Wants:
        return Wants(frames="first_middle_last", pixels="rgb", short_side=SHORT_SIDE)

    def weights(self) -> tuple[Weight, ...]:
        return open_clip(self.model, self.pretrained, text=True), *own_config(self.model)

    def open(self, models: Models) -> Score:
        path = models.path(self.weights()[0])
        embed = models.load(image_spec(self.model, self.pretrained, path, self.precision))
        read = models.load(text_spec(self.model, self.pretrained, path))

        def score(clips: Sequence[ClipSamples]) -> list[dict[str, Any]]:
            captioned = [clip for clip in clips if clip.source.caption and clip.frames]
            captions = list(dict.fromkeys(clip.source.caption for clip in captioned))
            texts = dict(zip(captions, read(captions), strict=True)) if captions else {}
            pictures = iter(embed([frame for clip in captioned for frame in clip.frames])) if captioned else iter(())
            rows: list[dict[str, Any]] = []
            for clip in clips:
                if clip.source.caption and clip.frames:
                    cosines = [float(np.sum(next(pictures) * texts[clip.source.caption], dtype=np.float64)) for _ in clip.frames]
                    rows.append({"caption_similarity": min(1.0, max(-1.0, float(np.mean(cosines))))})
                elif clip.source.caption:
                    fault = Fault("caption_similarity", "NoSamples", "the clip has no sample to compare with its caption")
                    rows.append({"caption_similarity": None, "faults": [fault]})
                else:
                    rows.append({"caption_similarity": None})
            return rows

        return score
