"""Typed configuration: YAML file, then `key=value` words, checked as a whole before anything runs.

`load_config` reports every problem at once, by key, unit, range and remedy (`curate.config_problems`). A scorer's parameters are checked
against the scorer's own class, which is imported only when the configuration names it.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, LiteralString

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from curate.decide.rules import TOO_SHORT, Rule
from curate.errors import ConfigError
from curate.shots.params import Shots

if TYPE_CHECKING:
    from curate.scorers import Column, ScorerLike

_RULE_NAME = re.compile(r"[A-Za-z_]\w*")


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Decode(Section):
    """How sources are opened and decoded."""

    decoder: Literal["pyav", "decord"] = Field("pyav", description="library that decodes; pyav reads more formats and keeps exact times")
    threads: int = Field(
        1,
        ge=1,
        le=16,
        description="1: decoding and the rest of the pass take turns; from 2 on, decoding has a thread of its own. Scores are the same",
    )
    part_s: float = Field(
        900.0,
        ge=30,
        le=1_000_000,
        description="pyav: a longer source is scanned in parts of this length, cut at keyframes, by several workers at a time; a shot that "
        "is open at a boundary is divided there",
        json_schema_extra={"unit": "s"},
    )
    stream: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="index of the video stream to read, as ffprobe counts the streams; auto: the film (curate.media.streams)"
    )
    audio_stream: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="index of the sound that exports take along; auto: what belongs to the film"
    )


class Sampling(Section):
    """Which frames the scorers see."""

    grid_ms: int = Field(
        500, ge=100, le=10_000, description="distance of the sample grid on the source's own time", json_schema_extra={"unit": "ms"}
    )
    pair_ms: int = Field(
        250, ge=125, le=5_000, description="distance of flow pairs on the source's own time", json_schema_extra={"unit": "ms"}
    )
    max_held_mb: int = Field(
        128,
        ge=16,
        le=4096,
        description="cap on decoded samples held for the open clip; larger frames are reduced to fit",
        json_schema_extra={"unit": "MB"},
    )
    crop: Literal["bars", "overlays"] = Field(
        "bars", description="what is cut off before anything is scored: bars; or burnt-in subtitles, tickers and logos as well"
    )
    crop_min_area: float = Field(
        0.7,
        gt=0,
        le=1,
        description="crop=overlays: overlays stay where less of the picture's area would be left",
        json_schema_extra={"unit": "fraction"},
    )


class Limits(Section):
    """What a source may cost before it is given up.

    No score depends on them, so they may change between runs; `curate retry` tries again what they ended.
    """

    max_megapixels: float = Field(
        150.0, gt=0, le=2000, description="a picture of more is not decoded; 16384x8192 has 134", json_schema_extra={"unit": "MP"}
    )
    max_hours: float = Field(48.0, gt=0, le=10_000, description="a source is cut off here", json_schema_extra={"unit": "h"})
    max_fps: float = Field(
        2000.0,
        ge=60,
        le=1_000_000,
        description="a source with more frames a second, over ten thousand of them, is cut off",
        json_schema_extra={"unit": "1/s"},
    )
    min_speed: float = Field(
        0.005,
        ge=0,
        le=1,
        description="a source is cut off when scanning it takes stall_s and its duration over this; 0: never",
        json_schema_extra={"unit": "s of video a second"},
    )
    stall_s: float = Field(
        600.0,
        ge=1,
        le=86_400,
        description="a decoding process that gives no frame for so long is ended",
        json_schema_extra={"unit": "s"},
    )
    spool_gb: float = Field(
        50.0,
        gt=0,
        le=100_000,
        description="a source behind a web server without ranges is copied to the folder for temporary files first; a larger one fails",
        json_schema_extra={"unit": "GB"},
    )
    worker_gb: float = Field(
        8.0,
        ge=0.25,
        le=10_000,
        description="a decoding process that takes more memory is ended, and so is a worker of the ray engine, which may hold models",
        json_schema_extra={"unit": "GB"},
    )


class Clips(Section):
    """How shots become clips."""

    min_clip_s: float = Field(
        2.0, ge=0.1, le=600, description="shorter clips are recorded as dropped and not scored", json_schema_extra={"unit": "s"}
    )
    max_clip_s: float = Field(
        12.0,
        ge=0.2,
        le=600,
        description="longer shots are divided between frames; only a single picture that stands longer makes a longer clip",
        json_schema_extra={"unit": "s"},
    )

    @model_validator(mode="after")
    def _ordered(self) -> "Clips":
        if self.max_clip_s <= self.min_clip_s:
            raise ValueError(f"clips.max_clip_s={self.max_clip_s:g} s must be greater than clips.min_clip_s={self.min_clip_s:g} s")
        return self


class ScorerEntry(Section):
    """One scorer of a run: every parameter with its resolved value, as JSON holds it."""

    name: str
    optional: bool = False
    parameters: dict[str, Any] = Field(default_factory=dict)

    @property
    def scorer(self) -> "ScorerLike":
        """A new instance of the scorer's class with these parameters."""
        found: ScorerLike = _adapter(self.name).validate_json(json.dumps(self.parameters), strict=True)
        return found


def _adapter(name: str) -> "TypeAdapter[Any]":
    from curate import scorers

    return TypeAdapter(scorers.load(name))


def _entries(value: Any) -> dict[str, ScorerEntry]:
    """Parses `scorers:`; raises one `ValidationError` with the problems of every scorer, each under its own path."""
    if not isinstance(value, Mapping):
        raise PydanticCustomError("mapping", "must be a mapping of scorer names to parameters, e.g. {{motion: {{}}}}")
    entries: dict[str, ScorerEntry] = {}
    errors: list[InitErrorDetails] = []
    for name, parameters in value.items():
        if isinstance(parameters, ScorerEntry):
            entries[name] = parameters
        elif parameters is not None:
            try:
                entries[name] = _entry(name, parameters)
            except ValidationError as error:
                errors += _nested(error, name)
    if errors:
        raise ValidationError.from_exception_data("scorers", errors)
    return entries


def _entry(name: str, parameters: Any) -> ScorerEntry:
    try:
        adapter = _adapter(name)
    except ConfigError as error:
        raise ValidationError.from_exception_data(name, [_detail("unknown_scorer", str(error), (), parameters)]) from error
    if not isinstance(parameters, Mapping):
        text = "must be a mapping of parameters, {} for the defaults"
        raise ValidationError.from_exception_data(name, [_detail("mapping", text, (), parameters)])
    own = dict(parameters)
    errors = []
    optional = own.pop("optional", False)
    if not isinstance(optional, bool):
        errors.append(_detail("bool_type", "must be true or false", ("optional",), optional))
    known = scorer_schema(name)["properties"]
    unknown = [key for key in own if key not in known]
    errors += [_detail("extra_forbidden", "unknown key", (key,), own.pop(key)) for key in unknown]
    try:
        scorer = adapter.validate_json(json.dumps(own), strict=True)
    except ValidationError as error:
        errors += _nested(error)
    except ConfigError as error:
        errors.append(_detail("value_error", str(error), (), None))
    if errors:
        raise ValidationError.from_exception_data(name, errors)
    return ScorerEntry(name=name, optional=optional, parameters=adapter.dump_python(scorer, mode="json"))


def _nested(error: ValidationError, *above: str) -> list[InitErrorDetails]:
    """The same errors for use inside another `ValidationError`, their paths below `above`."""
    return [_detail(found["type"], found["msg"], (*above, *found["loc"]), found["input"]) for found in error.errors(include_url=False)]


def _detail(kind: LiteralString, text: str, loc: tuple[int | str, ...], value: Any) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(kind, "{text}", {"text": text}), loc=loc, input=value)


class Config(Section):
    """Everything a run is made from."""

    input: str | None = Field(None, description="folder, glob, list file (txt, csv, parquet) or media file; local path or URL")
    output: str | None = Field(None, description="folder of the manifest")
    engine: Literal["local", "ray"] = Field(
        "local", description="local: workers of this machine, in this process; ray: processes of this machine or of a cluster"
    )
    workers: int = Field(0, ge=0, le=100_000, description="workers, each with a child that decodes; 0 is one a core")
    model_actors: int = Field(
        0,
        ge=0,
        le=1024,
        description="ray engine: processes that hold the models, one GPU each on cuda; 0 gives every worker its own models",
    )
    ray_address: str | None = Field(
        None, description="ray engine: address of a running Ray cluster; null starts Ray on this machine"
    )
    shard_sources: int = Field(16, ge=1, le=100_000, description="sources in a shard, the unit of commit")
    limit_sources: int | None = Field(None, ge=1, description="only so many sources, chosen by seed; null takes all")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="chooses the sources of limit_sources and of `curate plan`")
    relist: bool = Field(False, description="list the input anew also where an unfinished run left its listing; a finished run leaves none")
    max_attempts: int = Field(2, ge=1, le=100, description="times a source may kill the process that decodes it before it is quarantined")
    max_failed_fraction: float = Field(
        0.1, ge=0, le=1, description="a run where more of the sources fail exits with an error", json_schema_extra={"unit": "fraction"}
    )
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="where the networks of scorers run; scores agree across devices to a tolerance"
    )
    models: str | None = Field(None, description="folder searched for weights after the one that CURATE_MODELS names")
    decode: Decode = Field(default_factory=Decode, description="how sources are opened and decoded")
    limits: Limits = Field(default_factory=Limits, description="what a source may cost before it is given up")
    sampling: Sampling = Field(default_factory=Sampling, description="which frames the scorers see")
    shots: Shots = Field(default_factory=Shots, description="how shots are found")
    clips: Clips = Field(default_factory=Clips, description="how shots become clips")
    scorers: Annotated[dict[str, ScorerEntry], PlainValidator(_entries), WithJsonSchema({"type": "object"})] = Field(
        default_factory=dict, description="name -> parameters; `optional: true` scores null where weights are missing; null leaves it out"
    )
    rules: dict[str, Rule] = Field(default_factory=dict, description="name -> rule; every rule that a clip breaks is a drop reason")

    skip_models_when: tuple[str, ...] = Field(
        (),
        description="names of rules over cheap columns (no percentiles); clips that break one are not given to scorers with models, whose "
        "columns are then null. Percentiles of those columns are fitted without such clips",
    )

    @field_validator("rules", mode="after")
    @classmethod
    def _named(cls, value: dict[str, Rule]) -> dict[str, Rule]:
        for name in value:
            if not _RULE_NAME.fullmatch(name) or name == TOO_SHORT:
                raise ValueError(f"rule name {name!r}: use letters, digits and underscores, and not {TOO_SHORT!r} (built in)")
        return value

    @field_serializer("scorers")
    def _flat(self, value: dict[str, ScorerEntry]) -> dict[str, dict[str, Any]]:
        """As it is written in YAML, so that what is dumped can be loaded."""
        return {name: {"optional": entry.optional, **entry.parameters} for name, entry in value.items()}

    def columns(self) -> "dict[str, Column]":
        """Columns that rules may read: those of the pass and of every scorer named here (large ones, embeddings, are not judged)."""
        from curate.manifest.columns import CLIP_COLUMNS

        found = dict(CLIP_COLUMNS)
        for entry in self.scorers.values():
            found |= {name: column for name, column in entry.scorer.columns.items() if not column.large}
        return found


def scorer_schema(name: str) -> dict[str, Any]:
    """JSON schema of a scorer's parameters, `optional` included."""
    from curate.config_problems import inlined

    schema = inlined(_adapter(name).json_schema())
    own = schema.get("properties", {})
    if "optional" in own:
        raise ConfigError(f"scorer {name!r} has a parameter `optional`, a word that the configuration uses itself; rename it")
    optional = {"type": "boolean", "default": False, "description": "go on with null columns where the scorer's weights are missing"}
    return {**schema, "properties": {**own, "optional": optional}, "additionalProperties": False}


def config_schema(names: Sequence[str]) -> dict[str, Any]:
    """JSON schema of the configuration with the parameters of these scorers; every number with its unit and range."""
    from curate.config_problems import inlined

    schema = inlined(Config.model_json_schema())
    schema["properties"]["scorers"] |= {
        "properties": {name: {"anyOf": [scorer_schema(name), {"type": "null"}]} for name in names},
        "additionalProperties": {"type": "object", "description": "a scorer of your own, by the dotted path of its module"},
    }
    return schema


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file (None: nothing but the overrides) and applies `key=value` words. Raises one `ConfigError` with all problems."""
    from curate.config_text import apply_overrides, read_yaml

    text = read_yaml(path)
    apply_overrides(text, overrides)
    return parse_config(text.content, text.problems, text.place)


def parse_config(content: Mapping[str, Any], problems: Sequence[str] = (), place: Any = None) -> Config:
    """Checks what a file or a manifest's header holds. `problems` were found before; `place(path)` says where a key stands."""
    from curate.config_problems import Checker

    rules = content.get("rules")
    if isinstance(rules, Mapping):
        content = {**content, "rules": {name: rule for name, rule in rules.items() if rule is not None}}
    checker = Checker(content, place)
    found = list(problems)
    config: Config | None = None
    try:
        config = Config.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        found += checker.explain(error)
    if config is not None:
        found += checker.rule_problems(config)
    if found or config is None:
        count = f"{len(found)} problems" if len(found) > 1 else "1 problem"
        raise ConfigError(f"configuration: {count}\n" + "\n".join(f"  {line}" for line in found))
    return config


def package_needs(config: Config) -> list[tuple[str, str]]:
    """Lists what the run needs beyond a fresh install, for `curate.extras.require`; optional scorers do without."""
    from curate.extras import BASE, store_needs
    from curate.models import package_needs as scorer_needs
    from curate.shots.params import package_needs as detector_needs

    needed = store_needs(input=config.input, output=config.output) + detector_needs(config.shots)
    if config.engine == "ray":
        needed.append(("engine=ray", BASE))
    if config.decode.decoder == "decord":
        needed.append(("decode.decoder=decord", "decord"))
    for name, entry in config.scorers.items():
        needed += [] if entry.optional else scorer_needs(name, entry.scorer)
    return needed


def weights_folders(config: Config) -> list[Path]:
    """Folders searched for weights, in order: the one that CURATE_MODELS names, then `models`."""
    named = (os.environ.get("CURATE_MODELS"), config.models)
    return [Path(folder).expanduser() for folder in named if folder]
