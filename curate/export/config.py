"""What `curate export` is told: keys that every layout has, and those of the layout that `layout=` names, side by side.

Every problem is reported at once, with key, value, unit, range and remedy, as for a run's configuration.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from curate import export
from curate.config import Section
from curate.config_problems import Checker, inlined
from curate.config_text import apply_overrides, read_yaml
from curate.decide.rules import Rule
from curate.errors import ConfigError
from curate.manifest import fingerprint


class Common(Section):
    """Keys that every layout has."""

    manifest: str = Field(description="folder of the manifest whose kept clips are exported")
    layout: str = Field(description="which layout, or a module of your own by its dotted name")
    out: str = Field(description="folder that is written: a local path or a URL such as s3://bucket/folder")
    engine: Literal["local", "ray"] = Field(
        "local", description="local: this process; ray: parallel workers that survive a crashing decoder"
    )
    workers: int = Field(0, ge=0, le=100_000, description="worker processes of the ray engine; 0 is one a core")
    ray_address: str | None = Field(None, description="address of a running Ray cluster; null starts Ray on this machine")
    max_attempts: int = Field(2, ge=1, le=100, description="times a clip may kill its worker before it is left out")
    max_failed_fraction: float = Field(
        0.1, ge=0, le=1, description="an export where more of the clips fail exits with an error", json_schema_extra={"unit": "fraction"}
    )
    retry_failed: bool = Field(False, description="of an export that is there: do shards with failed clips again")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="order of the clips and choice of the validation split")
    val_fraction: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="share of the clips for validation; no source is in both splits",
        json_schema_extra={"unit": "fraction"},
    )
    shard_clips: int = Field(128, ge=1, le=100_000, description="clips in a shard: a tar or a folder, the unit of commit and resume")
    limit_clips: int | None = Field(None, ge=1, description="only so many clips, the first in the export's order; null takes all")
    select: dict[str, Rule] = Field(default_factory=dict, description="name -> rule that kept clips must pass as well")
    model_actors: int = Field(
        0, ge=0, le=1024, description="ray engine: processes that hold the networks, one GPU each on cuda; 0 gives every worker its own"
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="where networks run, in layouts that have some")
    models: str | None = Field(None, description="folder searched for weights after the one that CURATE_MODELS names")
    name: str | None = Field(None, description="name of the data set for its card; null: the name of the folder")
    licence: str = Field("unknown", description="licence of the material for the card, by its SPDX identifier; we cannot know it")


@dataclass(frozen=True, slots=True)
class Export:
    """A checked `curate export`: the common keys and the layout with its own."""

    common: Common
    layout: export.Layout

    def settings(self) -> dict[str, Any]:
        """Every key with its value, as JSON holds it."""
        return {**self.common.model_dump(mode="json"), **self.layout.model_dump(mode="json")}

    def fingerprint(self, weights: Mapping[str, str], prepared: export.Layout) -> str:
        """Equal exactly where the same clips give the same files. `weights` maps names of weights to checksums."""
        kept = self.common.model_dump(mode="json", include={"layout", "seed", "val_fraction", "shard_clips", "limit_clips", "select"})
        return fingerprint(kept, prepared.identity(), dict(weights))


def load_export(folder: str, words: Sequence[str], file: str | Path | None = None) -> Export:
    """From a YAML file (or none) and `key=value` words. Raises one `ConfigError` with all problems."""
    text = read_yaml(file)
    apply_overrides(text, words)
    return parse_export({**text.content, "manifest": folder}, text.problems, text.place)


def parse_export(content: Mapping[str, Any], problems: Sequence[str] = (), place: Any = None) -> Export:
    """Checks what was written. `problems` were found before; `place(path)` says where a key stands."""
    lacking = [key for key in ("manifest", "layout", "out") if not content.get(key)]
    if lacking:
        hint = f"; layouts: {', '.join(export.names())}" if "layout" in lacking else ""
        raise ConfigError(f"export: {' and '.join(lacking)} must be given, e.g. {' '.join(f'{key}=...' for key in lacking)}{hint}")
    kind = export.load(str(content["layout"]))
    schema = layout_schema(kind)
    checker = Checker(content, place, schema)
    common: Common | None = None
    layout: export.Layout | None = None
    found = list(problems)
    own = {key: value for key, value in content.items() if key not in Common.model_fields}
    try:
        common = Common.model_validate_json(json.dumps({key: value for key, value in content.items() if key not in own}), strict=True)
    except ValidationError as error:
        found += checker.explain(error)
    try:
        layout = kind.model_validate_json(json.dumps(own), strict=True)
    except ValidationError as error:
        found += checker.explain(error)
    if found or common is None or layout is None:
        count = f"{len(found)} problems" if len(found) > 1 else "1 problem"
        raise ConfigError(f"export: {count}\n" + "\n".join(f"  {line}" for line in found))
    if common.engine == "ray" and common.device == "cuda" and not common.model_actors:
        raise ConfigError("device=cuda on the ray engine needs model_actors=1 or more: one process for each GPU that holds the networks")
    return Export(common, layout)


def layout_schema(kind: type[export.Layout]) -> dict[str, Any]:
    """JSON schema of all keys of an export with this layout."""
    schema, own = inlined(Common.model_json_schema()), inlined(kind.model_json_schema())
    schema["properties"] |= own.get("properties", {})
    return schema
