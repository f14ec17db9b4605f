"""Which clips the neural models need not see: those that a rule over a cheap column drops anyway (`skip_models_when`).

A skipped clip has null in every column of the scorers that use models, and a fault of kind `SKIPPED` from each that names the rule. It is
dropped for that rule like any other clip. Values are compared exactly as the decision compares them, in the column's own precision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curate.clip import Fault
from curate.decide.judge import breaks
from curate.decide.quantiles import FrozenRule
from curate.decide.rules import SKIPPED
from curate.decide.tally import condition

if TYPE_CHECKING:
    from curate.config import Config

# Columns of the pass that are settled only when the parts of a long source are joined.
UNSETTLED = ("shot_index", "clip_index", "start_kind", "end_kind", "is_after_fault", "is_scored", "caption", "source_key", "source_url")


@dataclass(frozen=True, slots=True)
class SkipRules:
    """The rules in their order, the types of the columns that they read, and the cheap scorers that compute those. Pickles.

    `models` names the scorers that skipped clips are not given to.
    """

    rules: tuple[FrozenRule, ...]
    types: Mapping[str, pa.DataType]
    scorers: tuple[str, ...]
    models: tuple[str, ...]

    def why(self, values: Mapping[str, Any]) -> str | None:
        """The first rule that the clip breaks, in words; None where the models are to see it. A null breaks no rule."""
        for one in self.rules:
            column = one.rule.column
            value = pa.chunked_array([pa.array([values[column]], self.types[column])])
            if breaks(value, one)[0][0]:
                return f"not given to the models, rule {one.name} drops the clip: {condition(one)}"
        return None

    def fault(self, scorer: str, why: str) -> Fault:
        return Fault(scorer, SKIPPED, why)


def skip_rules(config: "Config") -> SkipRules | None:
    """What a configuration that was checked (`skip_problems`) asks for; None where every clip goes to the models."""
    from curate.manifest.columns import CLIP_COLUMNS

    if not config.skip_models_when:
        return None
    made_by = _cheap_scorers(config)
    columns = {**CLIP_COLUMNS, **{name: column for name, (_, column) in made_by.items()}}
    rules = tuple(FrozenRule(name, rule, rule.min, rule.max, {}) for name, rule in _named(config))
    read = {one.rule.column for one in rules}
    return SkipRules(
        rules,
        {name: columns[name].type for name in sorted(read)},
        tuple(sorted({made_by[name][0] for name in read if name in made_by})),
        tuple(name for name, entry in config.scorers.items() if hasattr(entry.scorer, "weights")),
    )


def skip_problems(config: "Config") -> list[str]:
    """What is wrong with `skip_models_when`, a line each."""
    from curate.manifest.columns import CLIP_COLUMNS

    cheap = {name: column for name, (_, column) in _cheap_scorers(config).items()}
    lines = []
    for name in config.skip_models_when:
        rule = config.rules.get(name)
        where = f"skip_models_when: {name!r}"
        if rule is None:
            lines.append(f"{where} is no rule of `rules`; take it out, or name one of: {', '.join(config.rules) or 'none'}")
        elif rule.percentiles:
            lines.append(f"{where} is a percentile, which is known only when all clips are scored; name a rule with min, max or is")
        elif rule.column in UNSETTLED or rule.column not in {**CLIP_COLUMNS, **cheap}:
            why = (
                "is known too late"
                if rule.column in UNSETTLED
                else "comes from a scorer that uses models itself, is settled when its source ends, or comes from none"
            )
            lines.append(f"{where} reads {rule.column}, which {why}; name a rule over a column of motion, quality, synthetic or the pass")
    return lines


def skip_content(config: "Config", fingerprints: Mapping[str, str]) -> list[Any]:
    """What the bytes of a model's rows depend on besides the model: the rules, and what computed the columns that they read."""
    made_by = _cheap_scorers(config)
    found: list[Any] = []
    for name, rule in _named(config):
        scorer = made_by.get(rule.column, (None, None))[0]
        found.append([name, rule.model_dump(mode="json"), fingerprints[scorer] if scorer else None])
    return found


def _named(config: "Config") -> list[tuple[str, Any]]:
    return [(name, config.rules[name]) for name in config.skip_models_when]


def _cheap_scorers(config: "Config") -> dict[str, tuple[str, Any]]:
    """Column -> (scorer, column), of the scorers that use no models."""
    found: dict[str, tuple[str, Any]] = {}
    for name, entry in config.scorers.items():
        scorer = entry.scorer
        if not hasattr(scorer, "weights"):
            late = getattr(scorer, "settles", ())  # known only when the source has ended
            found |= {column: (name, facts) for column, facts in scorer.columns.items() if not facts.large and column not in late}
    return found
