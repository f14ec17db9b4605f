"""Percentiles of a column, fitted once and then frozen as numbers.

The percentile is the linearly interpolated one (numpy's default): rank (n - 1) * percent / 100 among the n sorted values. It is fitted on
valid clips: scored, with a value, and not the duplicate of another clip. Each rule looks at all of them, whatever other rules drop,
as the LVD paper did (arXiv 2311.15127, appendix on filtering: each annotation alone).

`policy.json` keeps the numbers. Clips that come later are judged by them, until a refit is asked for, or the rule's own percentile or
column changes, or the column was scored anew with other parameters.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.decide.rules import Rule
from curate.errors import ManifestError

POLICY_VERSION = 1
TIES_SHARE = 0.02  # share of clips beyond a bound may differ so much from the share asked for before it is said


@dataclass(frozen=True, slots=True)
class Fit:
    """One fitted bound. `value` is None where there was no valid clip; `num_beyond` clips were outside it when it was fitted."""

    percentile: float
    value: float | None
    num_clips: int
    num_beyond: int
    fingerprint: str

    @property
    def share_beyond(self) -> float:
        return self.num_beyond / self.num_clips if self.num_clips else 0.0


@dataclass(frozen=True, slots=True)
class FrozenRule:
    """A rule whose bounds are numbers. `fits` holds, by side (min, max), those that were percentiles."""

    name: str
    rule: Rule
    low: float | None
    high: float | None
    fits: Mapping[str, Fit]

    def to_json(self) -> dict[str, Any]:
        """The rule's entry in `policy.json`."""
        rule, fitted = self.rule, {}
        for side, fit in self.fits.items():
            fitted[side] = {name: getattr(fit, name) for name in ("percentile", "num_clips", "num_beyond", "fingerprint")}
        words = None if rule.in_ is None else list(rule.in_)
        bounds = {"min": self.low, "max": self.high, "is": rule.is_, "in": words}
        return {"name": self.name, "column": rule.column, **bounds, "on_null": rule.on_null, "fitted": fitted}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "FrozenRule":
        """The rule that `to_json` wrote, its percentiles with it."""
        fits = {side: Fit(value=entry[side], **fit) for side, fit in entry["fitted"].items()}
        conditions: dict[str, Any] = {key: entry[key] for key in ("min", "max", "is", "in") if key not in fits}
        conditions |= {f"{side}_percentile": fit.percentile for side, fit in fits.items()}
        return cls(entry["name"], Rule(column=entry["column"], on_null=entry["on_null"], **conditions), entry["min"], entry["max"], fits)


def percentile(values: np.ndarray, percent: float) -> float:
    """The interpolated percentile of a non-empty array without NaN; reorders the array in place rather than copy it."""
    rank = (len(values) - 1) * percent / 100
    below = int(rank)
    above = min(below + 1, len(values) - 1)
    values.partition((below, above))
    low, high = float(values[below]), float(values[above])
    return low + (high - low) * (rank - below)


def valid_values(table: pa.Table, column: str) -> np.ndarray:
    """Values of a column that percentiles are fitted on."""
    valid = pc.and_(table["is_scored"], pc.invert(pc.is_null(table[column], nan_is_null=True)))
    if "duplicate_of" in table.column_names:
        valid = pc.and_(valid, pc.is_null(table["duplicate_of"]))
    return table[column].filter(valid).to_numpy()


def policy_json(frozen: Iterable[FrozenRule]) -> dict[str, Any]:
    """What `policy.json` holds: the rules in their order, as absolute numbers."""
    return {"policy_version": POLICY_VERSION, "rules": [one.to_json() for one in frozen]}


def read_policy(content: Mapping[str, Any] | None) -> dict[str, FrozenRule]:
    """Rules of a `policy.json` by name, in their order; none where there is none. Raises `ManifestError` for another version."""
    if content is None:
        return {}
    if content.get("policy_version") != POLICY_VERSION:
        raise ManifestError(
            f"policy.json has version {content.get('policy_version')}, this one {POLICY_VERSION}; remove the file and decide again"
        )
    return {entry["name"]: FrozenRule.from_json(entry) for entry in content["rules"]}


def freeze(
    rules: Mapping[str, Rule],
    before: Mapping[str, FrozenRule],
    tables: Iterable[pa.Table],
    fingerprints: Mapping[str, str],
    refit: bool = False,
) -> tuple[tuple[FrozenRule, ...], tuple[str, ...]]:
    """Rules with numbers for percentiles, and notes on what was fitted anew and why. Reads `tables` only if something has to be fitted.

    `before` is what the last policy froze; `fingerprints` says for each rule what its column's values were made by.
    """
    fits: dict[tuple[str, str], Fit] = {}
    missing: dict[tuple[str, str], float] = {}
    notes = []
    for name, rule in rules.items():
        for side, percent in rule.percentiles.items():
            old = before.get(name)
            why = "as asked" if refit and old else _why_anew(old, side, rule, percent, fingerprints[name])
            if old and not why:
                fits[name, side] = old.fits[side]
                continue
            missing[name, side] = percent
            if why:
                notes.append(f"rule {name}: {side} fitted anew, {why}")
    fits |= _fit(rules, missing, tables, fingerprints)
    notes += [note for (name, side), fit in fits.items() if (name, side) in missing for note in _fit_notes(name, side, fit)]
    frozen = []
    for name, rule in rules.items():
        own = {side: fits[name, side] for side in rule.percentiles}
        low, high = (own[side].value if side in own else getattr(rule, side) for side in ("min", "max"))
        frozen.append(FrozenRule(name, rule, low, high, own))
    return tuple(frozen), tuple(notes)


def _why_anew(old: FrozenRule | None, side: str, rule: Rule, percent: float, fingerprint: str) -> str:
    """Why a frozen number cannot be used; "" where it can, or where there is none."""
    if old is None:
        return ""
    if old.rule.column != rule.column:
        return f"because its column changed from {old.rule.column} to {rule.column}"
    fit = old.fits.get(side)
    if fit is None:
        return "because it was no percentile before"
    if fit.percentile != percent:
        return f"because its percentile changed from {fit.percentile:g} to {percent:g}"
    if fit.value is None:
        return "because there was no valid clip before"
    return f"because {rule.column} was computed anew with other settings" if fit.fingerprint != fingerprint else ""


def _fit(
    rules: Mapping[str, Rule], missing: Mapping[tuple[str, str], float], tables: Iterable[pa.Table], fingerprints: Mapping[str, str]
) -> dict[tuple[str, str], Fit]:
    if not missing:
        return {}
    parts: dict[str, list[np.ndarray]] = {rules[name].column: [] for name, _ in missing}
    for table in tables:
        for column, found in parts.items():
            found.append(valid_values(table, column))
    pools = {column: np.concatenate(found) if found else np.empty(0) for column, found in parts.items()}
    fits = {}
    for (name, side), percent in missing.items():
        pool = pools[rules[name].column]
        value = percentile(pool, percent) if len(pool) else None
        beyond = 0 if value is None else int(np.count_nonzero(pool < value if side == "min" else pool > value))
        fits[name, side] = Fit(percent, value, len(pool), beyond, fingerprints[name])
    return fits


def _fit_notes(name: str, side: str, fit: Fit) -> list[str]:
    asked = fit.percentile / 100 if side == "min" else 1 - fit.percentile / 100
    if not fit.num_clips:
        return [f"rule {name}: there is no valid clip to fit {side}_percentile={fit.percentile:g} on, so it drops nothing but nulls"]
    if abs(fit.share_beyond - asked) > TIES_SHARE + 1 / fit.num_clips:
        ties = f"{side}_percentile={fit.percentile:g} is {fit.value:g}, a value that many clips share"
        return [f"rule {name}: {ties}; {fit.share_beyond:.0%} of the clips lie beyond it, not {asked:.0%}"]
    return []
