"""What `curate svd generate` is told: a job, its knobs, and which of them are swept.

A knob with several values (`motion_bucket=60,75,90`, or a list in YAML) is swept; with several such knobs every combination is made. Every
problem of every combination is reported at once, before a model is opened.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from curate.config import Section
from curate.config_problems import Checker, Schema, inlined
from curate.config_text import ConfigText, apply_overrides, located, read_yaml
from curate.errors import ConfigError
from curate.svd.knobs import Checkpoint, Knobs, Preset

_Part = TypeVar("_Part", bound=Section)
MAX_CLIPS = 10_000
EXAMPLE = "curate svd generate photo.jpg model=stabilityai/stable-video-diffusion-img2vid-xt"


class Subject(Section):
    """What a clip is made of and with; these can be swept too."""

    model: str = Field(description="folder in the layout of diffusers, hub id, or one .safetensors file with the original names")
    image: str = Field(description="the picture that the clip begins with: a file, or a folder for every picture in it")
    lora: str | None = Field(None, description="file of a low-rank adapter that is merged into the model")
    lora_scale: float = Field(1.0, ge=-10, le=10, description="how strongly the adapter acts; 0 is the model without it")
    preset: Preset | None = Field(None, description="amount of motion and noise augmentation; a knob that is given goes before it")

    @property
    def network(self) -> tuple[str, str | None, float]:
        """What has to be loaded for it: equal for clips that can be made one after the other."""
        return self.model, self.lora, self.lora_scale


class Aesthetic(Section):
    """CLIP and head, as the configuration of the aesthetic scorer names them."""

    model: str = Field("ViT-L-14", description="open_clip model whose embeddings are compared, or local-dir:FOLDER")
    pretrained: str = Field("openai", description="open_clip's tag of the weights")
    head: str | None = Field(None, description="LAION head by name, or a path to a .pth file; null: the one that fits the model")


class Job(Section):
    """Keys that hold for all clips of a command."""

    out: str = Field("generated", description="folder of clips, contact sheets and the table of runs; earlier runs in it stay")
    format: Literal["mp4", "png", "both"] = Field("mp4", description="H.264 video, a folder of PNG frames, or both")
    fit: Literal["crop", "letterbox"] = Field("crop", description="crop: the largest centred part; letterbox: all of it, with black bars")
    checkpoint: Literal["auto"] | Checkpoint = Field("auto", description="whose defaults are taken; auto: by the model's frames and name")
    motion_buckets: str | None = Field(
        None, description="map from motion in the manifest's unit to buckets, for `motion`; null: motion_buckets.json in the model's folder"
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="where the networks run")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="of the networks; null: float16 on cuda, float32 on cpu"
    )
    decode_dtype: Literal["float32", "float16"] | None = Field(None, description="of the decoder; null: float16 unless dtype is float32")
    memory: Literal["fast", "balanced", "low"] = Field(
        "fast", description="fast: networks stay on the device; balanced: each only while it works; low: the UNet block by block as well"
    )
    crf: int = Field(16, ge=0, le=51, description="quality of the video, lower is better")
    scores: bool = Field(
        True, description="measure each clip: motion, fidelity to the picture, flicker, sharpness, as columns of the table"
    )
    aesthetic: Aesthetic | None = Field(
        default_factory=Aesthetic,
        description="networks of aesthetic_mean and fidelity_clip; with memory=fast they run on `device` and count in peak_device_bytes, "
        "else on the CPU. null: none; not given: used where they are on this machine; given: fetched where needed, missing is an error",
    )
    models: str | None = Field(None, description="folder searched for weights after the one that CURATE_MODELS names")


SWEEPABLE = (*Subject.model_fields, *Knobs.model_fields)
PATHS = ("model", "image", "lora")
LOADED = ("model", "lora", "lora_scale")


@dataclass(frozen=True, slots=True)
class Asked:
    """One clip as it was asked for. `swept` are the values that tell it from the others; `knobs` has those given set, no others."""

    subject: Subject
    knobs: Knobs
    swept: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Generate:
    """A checked `curate svd generate`: the job and its clips, those of one model next to each other."""

    job: Job
    clips: tuple[Asked, ...]

    def settings(self) -> dict[str, Any]:
        """Every key of the job, and of each clip what was given, as JSON holds it."""
        return {
            **self.job.model_dump(mode="json"),
            "clips": [{**one.subject.model_dump(mode="json"), **given(one.knobs)} for one in self.clips],
        }


def given(knobs: Knobs) -> dict[str, Any]:
    """The knobs that were given, as JSON holds them."""
    return knobs.model_dump(mode="json", exclude_unset=True)


def load_generate(argument: str | Path | None, words: Sequence[str] = ()) -> Generate:
    """From a picture, a folder of pictures or a YAML file (or none of them), and `key=value` words.

    Raises one `ConfigError` with all problems.
    """
    is_config = argument is not None and located(argument).suffix in (".yaml", ".yml")
    text = read_yaml(argument if is_config else None)
    if argument is not None and not is_config:
        text.content["image"] = str(argument)
    apply_overrides(text, [_as_list(word) for word in words])
    return parse_generate(text)


def parse_generate(text: ConfigText) -> Generate:
    """Checks what was written."""
    content = {**text.content}
    values = {key: _values(key, content.pop(key)) for key in tuple(content) if key in SWEEPABLE}
    if lacking := [key for key in ("model", "image") if not any(values.get(key, ()))]:
        raise ConfigError(f"svd generate: {' and '.join(lacking)} must be given, e.g. {EXAMPLE}")
    if empty := [key for key, many in values.items() if not many]:
        raise ConfigError(f"svd generate: {', '.join(empty)}: a list to sweep over needs at least one value")
    swept = [key for key, many in values.items() if len(many) > 1]
    number = 1
    for many in values.values():
        number *= len(many)
    if number > MAX_CLIPS:
        raise ConfigError(
            f"svd generate: the sweep over {', '.join(swept)} makes {number:,} clips, more than {MAX_CLIPS:,}; sweep fewer values"
        )
    checker, problems = Checker(text.content, text.place, generate_schema()), list(text.problems)
    job = _checked(Job, content, checker, problems)
    # What is loaded turns slowest, so that each network is loaded once.
    names = sorted(values, key=lambda key: key not in LOADED)
    clips = []
    for combination in itertools.product(*(values[name] for name in names)):
        one = dict(zip(names, combination, strict=True))
        subject = _checked(Subject, {key: value for key, value in one.items() if key in Subject.model_fields}, checker, problems)
        knobs = _checked(Knobs, {key: value for key, value in one.items() if key in Knobs.model_fields}, checker, problems)
        if subject is not None and knobs is not None:
            clips.append(Asked(subject, knobs, {key: one[key] for key in swept}))
    if problems or job is None:
        problems = list(dict.fromkeys(problems))
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        raise ConfigError(f"svd generate: {count}\n" + "\n".join(f"  {line}" for line in problems))
    return Generate(job, tuple(clips))


def generate_schema() -> Schema:
    """JSON schema of all keys."""
    schema = inlined(Job.model_json_schema())
    for part in (Subject, Knobs):
        own = inlined(part.model_json_schema())
        schema["properties"] |= own["properties"]
    schema["required"] = ["model", "image"]
    return schema


def _checked(kind: type[_Part], content: Mapping[str, Any], checker: Checker, problems: list[str]) -> _Part | None:
    try:
        return kind.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        problems += checker.explain(error)
        return None


def _as_list(word: str) -> str:
    """`seed=1,2` as YAML writes it, `seed=[1,2]`; paths are taken apart later, since they may hold brackets and commas."""
    key, _, raw = word.partition("=")
    return f"{key}=[{raw}]" if key in SWEEPABLE and key not in PATHS and "," in raw and not raw.startswith("[") else word


def _values(key: str, written: Any) -> list[Any]:
    """The values of a key that can be swept, in order, each once."""
    if key in PATHS and isinstance(written, str) and "," in written and not Path(written).exists():
        written = [part.strip() for part in written.split(",") if part.strip()]
    many = written if isinstance(written, list) else [written]
    return [value for index, value in enumerate(many) if value not in many[:index]]
