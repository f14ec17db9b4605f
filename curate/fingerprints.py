"""Fingerprints of a configuration: what the bytes of a manifest depend on. There is one for the
pass, one for each scorer and one for the rules; where the input is or how many workers there are
does not count.

Each covers a version number and the parameters that differ from their neutral values
(`curate.neutral`). Up to schema version 2 they covered whole sections, so that any new parameter
changed them all. Such a manifest keeps the fingerprints it has: `known_names` finds out which of
today's fingerprints mean the same, and they are used under the old name in this manifest. No mark
of any shard has to be written again.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from curate import neutral
from curate.config import Config, ScorerEntry
from curate.decide.skip import skip_content
from curate.manifest.run import Run, fingerprint
from curate.models import needs
from curate.scorers import ScorerLike

PASS_SECTIONS = tuple(neutral.PASS)
_PASS_VERSIONS = range(1, 100)  # those that a manifest of schema version 2 may have: it does not say which


def config_fingerprints(config: Config, pass_version: int, weights: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Computes `{"pass": .., "scorers": {name: ..}, "rules": ..}`.

    They are equal exactly where the same input gives the same bytes.

    `weights` maps names of weights to checksums; each scorer's fingerprint holds those that it
    declares. The order of rules counts, being the order of drop reasons.
    """
    content = config.model_dump(mode="json")
    scorers = {name: _of_scorer(name, entry.scorer, entry.parameters, weights or {}) for name, entry in config.scorers.items()}
    if config.skip_models_when:
        skip = [[rule, differing(content["rules"][rule], neutral.RULE), made_by] for rule, _, made_by in skip_content(config, scorers)]
        for name, entry in config.scorers.items():
            if hasattr(entry.scorer, "weights"):
                scorers[name] = fingerprint(scorers[name], skip)
    rules = [[name, differing(rule, neutral.RULE)] for name, rule in content["rules"].items()]
    return {
        "pass": _of_pass(pass_version, content),
        "scorers": scorers,
        "rules": fingerprint(rules),
    }


def differing(values: Mapping[str, Any], neutral_values: Mapping[str, Any]) -> dict[str, Any]:
    """Picks the values that are not neutral. Of a section within, nothing is left where all are."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        base = neutral_values.get(key, _UNKNOWN)
        if isinstance(value, Mapping) and isinstance(base, Mapping):
            if own := differing(value, base):
                found[key] = own
        elif value != base:
            found[key] = value
    return found


_UNKNOWN = object()


def pass_content(config: Mapping[str, Any]) -> dict[str, Any]:
    """Reduces a configuration, as JSON holds it, to what the pass depends on."""
    content = {name: config[name] for name in PASS_SECTIONS}
    passes = [differing(one, neutral.DETECTOR_PASS) for one in content["shots"]["passes"]]
    return differing({**content, "shots": {**content["shots"], "passes": passes}}, neutral.PASS)


def known_names(run: Run) -> Mapping[str, str]:
    """Maps today's fingerprints to those of a manifest's marks that stand for the same, where these
    are others.
    """
    if run.names is not None:
        return run.names
    found = {**_pass_name(run), **_scorer_names(run)}
    return {now: before for now, before in found.items() if now != before}


def _of_pass(version: int, config: Mapping[str, Any]) -> str:
    return fingerprint("pass", version, pass_content(config))


def _of_scorer(name: str, scorer: ScorerLike, parameters: Mapping[str, Any], weights: Mapping[str, str]) -> str:
    content = differing(parameters, neutral.SCORERS.get(name, {}))
    return fingerprint(name, scorer.version, content, _own_weights(scorer, weights))


def _own_weights(scorer: ScorerLike, weights: Mapping[str, str]) -> dict[str, str]:
    return {weight.name: weights[weight.name] for weight in needs(scorer) if weight.name in weights}


# Fingerprints as schema version 2 had them, of the configuration as run.json holds it.


def _pass_name(run: Run) -> dict[str, str]:
    sections = [run.config.get(name) for name in ("decode", "sampling", "shots", "clips")]
    for version in _PASS_VERSIONS:
        if fingerprint(version, *sections) == run.pass_fingerprint:
            return {_of_pass(version, run.config): run.pass_fingerprint}
    return {}


def _scorer_names(run: Run) -> dict[str, str]:
    """Names those of scorers whose version is the same now. All others are computed again anyway."""
    config = _readable(run)
    before = {}
    for name, entry in config.scorers.items():
        parameters = {key: value for key, value in run.config["scorers"][name].items() if key != "optional"}
        before[name] = fingerprint(name, entry.scorer.version, parameters, _own_weights(entry.scorer, run.weights))
    if config.skip_models_when:
        skip = [[name, run.config["rules"][name], made_by] for name, _, made_by in skip_content(config, before)]
        for name, entry in config.scorers.items():
            if hasattr(entry.scorer, "weights"):
                before[name] = fingerprint(before[name], skip)
    now = config_fingerprints(config, 0, run.weights)["scorers"]
    return {now[name]: found for name, found in before.items() if run.scorers.get(name) == found}


def _readable(run: Run) -> Config:
    """Reads a run's scorers and rules, without scorers that this version does not know or whose
    module has gone.
    """
    scorers: dict[str, ScorerEntry] = {}
    for name, parameters in run.config.get("scorers", {}).items():
        try:
            scorers |= Config.model_validate({"scorers": {name: parameters}}).scorers
        except ValidationError:
            continue
    kept = {key: run.config[key] for key in ("rules", "skip_models_when") if key in run.config}
    return Config.model_validate_json(json.dumps(kept), strict=True).model_copy(update={"scorers": scorers})
