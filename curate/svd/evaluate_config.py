"""What `curate svd evaluate` is told: one or two models, the pictures, and the knobs that all clips share.

Keys of the job and of a clip are those of `curate svd generate`, but for `motion_bucket` and `seed`, which are lists here: every picture is
made with every bucket and every seed, by both models.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from curate.config import Rule, Section
from curate.config_problems import Checker, Schema, inlined
from curate.config_text import ConfigText, apply_overrides, read_yaml
from curate.errors import ConfigError
from curate.svd.generate_config import MAX_CLIPS, Job
from curate.svd.knobs import LANDSCAPE, PORTRAIT, Knobs

_Part = TypeVar("_Part", bound=Section)
EXAMPLE = "curate svd evaluate configs/svd_evaluate.yaml model=runs/svd/model data=MANIFEST_OR_EXPORT"
LISTS = ("motion_bucket", "seed")
NOT_OURS = {"Job": ("motion_buckets", "scores"), "Knobs": ("motion_bucket", "motion", "seed")}  # keys that only `generate` has
REFUSED = {
    "motion_buckets": "`evaluate` writes such a map; the buckets to ask for are motion_bucket=10,50,90",
    "motion": "`evaluate` asks for motion_bucket=10,50,90 and measures the motion",
    "scores": "`evaluate` scores every clip",
}
DEFAULTS = {"out": "evaluation"}


class Network(Section):
    """A model with or without an adapter."""

    model: str
    lora: str | None = None
    lora_scale: float = 1.0

    @property
    def name(self) -> str:
        """What it is called in file names and tables: `svd-lora+style` for an adapter `style` on `svd-lora`."""
        path = Path(self.model.rstrip("/"))
        name = path.stem if path.suffix == ".safetensors" else path.expanduser().absolute().name
        return name if self.lora is None else f"{name}+{Path(self.lora).stem}"


class Question(Section):
    """What is compared, and from which pictures."""

    model: str = Field(description="what is measured: folder in the layout of diffusers, hub id, or one .safetensors file")
    lora: str | None = Field(None, description="file of a low-rank adapter that is merged into the model")
    lora_scale: float = Field(1.0, ge=-10, le=10, description="how strongly the adapter acts")
    before: str | None = Field(None, description="model that it is compared with, from the same noise; null: none")
    before_lora: str | None = Field(None, description="adapter of `before`")
    before_lora_scale: float = Field(1.0, ge=-10, le=10, description="how strongly that adapter acts")
    image: str | None = Field(None, description="pictures that clips begin with: a file, or a folder of them; or give data")
    data: str | None = Field(
        None, description="manifest or export: clips begin with first frames of its clips, whose own windows are scored too; or give image"
    )
    split: Literal["auto", "train", "val"] = Field("auto", description="of an export; auto: val where there is one, else all clips")
    held_out: float | None = Field(
        None,
        gt=0,
        le=0.5,
        description="only clips of the sources that a fine-tune with this validation.fraction holds out; null: all",
    )
    held_out_seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of that fine-tune")
    select: dict[str, Rule] = Field(default_factory=dict, description="name -> rule that kept clips must pass as well")
    clips: int = Field(16, ge=1, le=4096, description="windows of data that are taken, each of another clip")
    clips_seed: int = Field(0, ge=0, le=2**32 - 1, description="draws which ones")
    fps_tolerance: float = Field(
        0.25, ge=0, le=1, description="how far a window's own rate may lie from fps", json_schema_extra={"unit": "ratio"}
    )
    max_enlarge: float = Field(1.0, ge=0.1, le=16, description="clips that would have to be enlarged by more are left out")
    motion_bucket: tuple[int, ...] = Field(
        (10, 50, 90, 130, 170, 210, 250), description="motion buckets that are asked for, 0 to 255; at least two"
    )
    seed: tuple[int, ...] = Field((0,), description="seeds of all noise; the same for both models")
    fvd: str | None = Field(
        None,
        description="TorchScript file of the I3D network that the Fréchet video distance is measured with; needs data. Loading such a file "
        "runs code that is in it: take only one that you trust. null: not measured",
    )
    confidence: float = Field(0.95, ge=0.5, lt=1, description="of all intervals")
    resamples: int = Field(2000, ge=100, le=1_000_000, description="of the bootstrap over pictures")

    @field_validator("motion_bucket", "seed", mode="after")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(value))

    @field_validator("motion_bucket", mode="after")
    @classmethod
    def _buckets(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if beyond := [bucket for bucket in value if not 0 <= bucket <= 255]:
            raise ValueError(f"motion_bucket holds {beyond[0]}: buckets lie in 0 to 255")
        if len(value) < 2:
            raise ValueError(
                f"motion_bucket={','.join(map(str, value)) or '[]'}: whether motion follows it shows with two or more, such as 30,130,230"
            )
        return tuple(sorted(value))

    @field_validator("seed", mode="after")
    @classmethod
    def _seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value:
            raise ValueError("seed=[]: every clip needs a seed, such as 0")
        if beyond := [seed for seed in value if not 0 <= seed < 2**63]:
            raise ValueError(f"seed holds {beyond[0]}: seeds lie in 0 to 2^63 - 1")
        return value

    @model_validator(mode="after")
    def _agree(self) -> "Question":
        if (self.image is None) == (self.data is None):
            what = "neither is given" if self.image is None else "both are given"
            raise ValueError(f"clips begin with pictures of image=FILE_OR_FOLDER or of data=MANIFEST_OR_EXPORT; {what}, give one of them")
        if self.fvd is not None and self.data is None:
            raise ValueError("fvd compares with real windows, which come from data=MANIFEST_OR_EXPORT; leave fvd out, or give data")
        if self.held_out is not None and self.data is None:
            raise ValueError("held_out is a share of data's clips; leave it out, or give data")
        if self.networks[1:] == self.networks[:1]:
            raise ValueError(f"model and before are the same: {self.model}; the difference would be none")
        if self.before is None and self.before_lora is not None:
            raise ValueError("before_lora needs before, the model that the adapter is for")
        return self

    @property
    def networks(self) -> tuple[Network, ...]:
        """The measured one, then the one before where there is one."""
        measured = Network(model=self.model, lora=self.lora, lora_scale=self.lora_scale)
        if self.before is None:
            return (measured,)
        return measured, Network(model=self.before, lora=self.before_lora, lora_scale=self.before_lora_scale)


@dataclass(frozen=True, slots=True)
class Evaluate:
    """A checked `curate svd evaluate`. `knobs` has those that were given set, no others."""

    question: Question
    job: Job
    knobs: Knobs

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) that windows of data may have, in px."""
        texts = [self.knobs.size] if self.knobs.size else [LANDSCAPE, PORTRAIT]
        pairs = (text.split("x") for text in texts)
        return tuple((int(width), int(height)) for width, height in pairs)

    def settings(self) -> dict[str, Any]:
        """Every key of question and job, and the knobs that were given, as JSON holds them."""
        job = self.job.model_dump(mode="json", exclude=set(NOT_OURS["Job"]))
        return {**self.question.model_dump(mode="json"), **job, **self.knobs.model_dump(mode="json", exclude_unset=True)}


def load_evaluate(config: str | Path | None, words: Sequence[str] = ()) -> Evaluate:
    """From a YAML file (or none) and `key=value` words. Raises one `ConfigError` with all problems."""
    text = read_yaml(config)
    apply_overrides(text, [_as_list(word) for word in words])
    return parse_evaluate(text)


def parse_evaluate(text: ConfigText) -> Evaluate:
    """Checks what was written."""
    content = {**DEFAULTS, **text.content}
    if not content.get("model"):
        raise ConfigError(f"svd evaluate: model must be given, e.g. {EXAMPLE}")
    for key in LISTS:
        if key in content and not isinstance(content[key], list):
            content[key] = [content[key]]
    schema = evaluate_schema()
    checker, problems = Checker(content, text.place, schema), list(text.problems)
    parts: dict[str, dict[str, Any]] = {"Question": {}, "Knobs": {}, "Job": {}}
    for key, value in content.items():
        parts[_part_of(key)][key] = value
    question = _checked(Question, parts["Question"], checker, problems)
    knobs = _checked(Knobs, parts["Knobs"], checker, problems)
    job = _checked(Job, parts["Job"], checker, problems)
    if question is not None:
        problems += _too_many(question)
    if problems or question is None or knobs is None or job is None:
        problems = list(dict.fromkeys(problems))
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        raise ConfigError(f"svd evaluate: {count}\n" + "\n".join(f"  {line}" for line in problems))
    return Evaluate(question, job, knobs)


def evaluate_schema() -> Schema:
    """JSON schema of all keys."""
    schema = inlined(Question.model_json_schema())
    for part in (Job, Knobs):
        own = inlined(part.model_json_schema())["properties"]
        schema["properties"] |= {key: node for key, node in own.items() if key not in NOT_OURS[part.__name__]}
    schema["properties"]["out"] = {**schema["properties"]["out"], "default": DEFAULTS["out"]}
    schema["properties"]["fps"] = {
        **schema["properties"]["fps"],
        "description": "frame rate that the network is told (minus 1) and that is played; with data, each window's own near this",
    }
    return schema


def _part_of(key: str) -> str:
    if key in Question.model_fields:
        return "Question"
    return "Knobs" if key in Knobs.model_fields and key not in NOT_OURS["Knobs"] else "Job"


def _too_many(question: Question) -> list[str]:
    pictures = question.clips if question.data else 1
    number = math.prod([pictures, len(question.motion_bucket), len(question.seed), len(question.networks)])
    if number <= MAX_CLIPS:
        return []
    what = f"{pictures} pictures x {len(question.motion_bucket)} buckets x {len(question.seed)} seeds x {len(question.networks)} models"
    return [f"{what} are {number:,} clips, more than {MAX_CLIPS:,}; take fewer"]


def _checked(kind: type[_Part], content: Mapping[str, Any], checker: Checker, problems: list[str]) -> _Part | None:
    if kind is Job:
        problems += [f"{key}: {why}" for key, why in REFUSED.items() if key in content]
        content = {key: value for key, value in content.items() if key not in REFUSED}
    try:
        return kind.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        problems += [line.removeprefix(": ") for line in checker.explain(error)]  # what is wrong with several keys names them itself
        return None


def _as_list(word: str) -> str:
    """`seed=1,2` as YAML writes it, `seed=[1,2]`."""
    key, _, raw = word.partition("=")
    return f"{key}=[{raw}]" if key in LISTS and "," in raw and not raw.startswith("[") else word
