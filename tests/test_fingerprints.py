"""Fingerprints cover what differs from neutral values; those of schema version 2 are known by what
they stand for."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic.dataclasses import dataclass

from curate import neutral, scorers
from curate.config import Config, Decode, parse_config
from curate.decide.rules import Rule
from curate.decide.skip import skip_content
from curate.fingerprints import config_fingerprints, differing, known_names
from curate.manifest import Run, fingerprint
from curate.models import needs
from curate.scorers import motion
from curate.shots.params import CASCADE, DetectorPass, Shots

CHANGED_DEFAULTS: dict[str, tuple[Any, Any]] = {}
"""Parameter -> (its neutral value, its default now), as `shots.flash_s` or `motion.short_side`. The
neutral value stays what it was: then manifests of the old default and of the new one have other
fingerprints."""

PASS_VERSION = 7
SKIPPING: dict[str, Any] = {
    "clips": {"min_clip_s": 1.5},
    "scorers": {
        "quality": {},
        "motion": {"still_below": 0.5},
        "text": {},
        "aesthetic": {"optional": True},
    },
    "rules": {
        "dark": {"column": "quality_luma", "min": 12},
        "slow": {"column": "motion_lvd", "min_percentile": 25},
    },
    "skip_models_when": ["dark"],
}


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, Mapping) and value else {f"{above}{key}": value}
    return found


def defaults() -> dict[str, Any]:
    config = parse_config({"scorers": {name: {} for name in scorers.names()}}).model_dump(mode="json")
    own = {name: {key: one for key, one in config["scorers"][name].items() if key != "optional"} for name in scorers.names()}
    passes = [differing(one, neutral.DETECTOR_PASS) for one in config["shots"]["passes"]]
    sections = {name: config[name] for name in neutral.PASS}
    return flat({**sections, "shots": {**sections["shots"], "passes": passes}, **own})


def test_every_parameter_has_a_neutral_value_and_a_changed_default_is_listed() -> None:
    now, known = defaults(), flat({**neutral.PASS, **neutral.SCORERS})
    assert set(now) - set(known) == set(), "add them to curate/neutral.py, with the value at which everything is as without them"
    changed = {name: (known[name], value) for name, value in now.items() if known[name] != value}
    assert changed == CHANGED_DEFAULTS, "curate/neutral.py stays as it is; list the change in CHANGED_DEFAULTS"
    element = {name: field.default for name, field in DetectorPass.model_fields.items() if not field.is_required()}
    assert element == neutral.DETECTOR_PASS
    written = Rule(column="fps", min=1).model_dump(mode="json")
    assert differing(written, neutral.RULE) == {"column": "fps", "min": 1}


class LaterDecode(Decode):
    new: int = 1


class LaterPass(DetectorPass):
    new: int = 1


class LaterShots(Shots):
    passes: tuple[LaterPass, ...] = tuple(LaterPass(**dict(one)) for one in CASCADE)


class LaterConfig(Config):
    """The configuration of a later version, with one parameter more in every kind of place. It is
    neutral at 1."""

    decode: LaterDecode = LaterDecode()
    shots: LaterShots = LaterShots()


@dataclass(frozen=True)
class LaterMotion(motion.Scorer):
    new: int = 1


def test_a_new_parameter_at_its_neutral_value_changes_no_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = config_fingerprints(parse_config(SKIPPING), PASS_VERSION)
    for values in (neutral.PASS["decode"], neutral.DETECTOR_PASS, neutral.SCORERS["motion"]):
        monkeypatch.setitem(values, "new", 1)
    monkeypatch.setattr(motion, "Scorer", LaterMotion)

    def later(**changes: Any) -> dict[str, Any]:
        return config_fingerprints(LaterConfig.model_validate_json(json.dumps({**SKIPPING, **changes})), PASS_VERSION)

    assert later() == before
    passes = [{**dict(one), "new": 2} for one in CASCADE]
    for changed in (later(decode={"new": 2}), later(shots={"passes": passes})):
        assert changed["pass"] != before["pass"] and changed["scorers"] == before["scorers"]
    changed = later(scorers={**SKIPPING["scorers"], "motion": {"still_below": 0.5, "new": 2}})
    assert {name for name, one in changed["scorers"].items() if one != before["scorers"][name]} == {"motion"}


def test_a_changed_default_counts_though_its_version_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    before = config_fingerprints(parse_config({"scorers": {"motion": {}}}), PASS_VERSION)
    written_out = config_fingerprints(
        parse_config({"clips": {"min_clip_s": 2.0}, "scorers": {"motion": {"short_side": 96}}}),
        PASS_VERSION,
    )
    assert written_out == before
    monkeypatch.setitem(neutral.PASS["clips"], "min_clip_s", 1.0)  # as if the default had been 1 s when the table was made
    monkeypatch.setitem(neutral.SCORERS["motion"], "short_side", 64)
    after = config_fingerprints(parse_config({"scorers": {"motion": {}}}), PASS_VERSION)
    assert after["pass"] != before["pass"] and after["scorers"]["motion"] != before["scorers"]["motion"]


def as_in_schema_2(config: Config, weights: Mapping[str, str]) -> Run:
    """A header with the fingerprints that commit cfd49d6 made: of whole sections."""
    content = config.model_dump(mode="json")
    found = {}
    for name, entry in config.scorers.items():
        own = {weight.name: weights[weight.name] for weight in needs(entry.scorer) if weight.name in weights}
        found[name] = fingerprint(name, entry.scorer.version, entry.parameters, own)
    if config.skip_models_when:
        skip = skip_content(config, found)
        for name, entry in config.scorers.items():
            if hasattr(entry.scorer, "weights"):
                found[name] = fingerprint(found[name], skip)
    of_pass = fingerprint(PASS_VERSION, *(content[key] for key in ("decode", "sampling", "shots", "clips")))
    return Run(content, of_pass, found, weights=weights, names=None)


@pytest.mark.parametrize("changes", [{}, {"skip_models_when": []}])
def test_fingerprints_of_schema_2_are_known_by_what_they_stand_for(changes: dict[str, Any]) -> None:
    config = parse_config({**SKIPPING, **changes})
    weights = {weight.name: "aa" for entry in config.scorers.values() for weight in needs(entry.scorer)}
    run = as_in_schema_2(config, weights)
    names, now = known_names(run), config_fingerprints(config, PASS_VERSION, weights)
    assert names[now["pass"]] == run.pass_fingerprint
    assert {name: names.get(one, one) for name, one in now["scorers"].items()} == run.scorers
    for other in (
        config_fingerprints(config, PASS_VERSION + 1, weights),
        config_fingerprints(
            parse_config({**SKIPPING, **changes, "clips": {"min_clip_s": 1.6}}),
            PASS_VERSION,
            weights,
        ),
    ):
        assert other["pass"] not in names
    other = config_fingerprints(config, PASS_VERSION, dict.fromkeys(weights, "bb"))
    assert {other["scorers"]["text"], other["scorers"]["aesthetic"]}.isdisjoint(names)


def test_a_header_that_does_not_say_what_its_fingerprints_are_of_gives_no_names() -> None:
    run = as_in_schema_2(parse_config(SKIPPING), {})
    run.config["clips"]["max_clip_s"] = 11.0  # type: ignore[index]
    run.config["scorers"]["motion"]["short_side"] = 128  # type: ignore[index]
    names = known_names(run)
    assert run.pass_fingerprint not in names.values() and run.scorers["motion"] not in names.values()
    assert run.scorers["text"] in names.values() and set(names.values()) < set(run.scorers.values())


def test_a_scorer_that_is_gone_does_not_cost_the_others_their_names() -> None:
    run = as_in_schema_2(parse_config(SKIPPING), {})
    run.config["scorers"]["gone.scorer"] = {"optional": False, "size": 3}  # type: ignore[index]
    assert run.scorers["motion"] in known_names(run).values()
