"""One line of policy over one column. Rules decide, scorers do not.

    low_motion:  {column: motion_lvd, min_percentile: 25}           drops what lies below the 25th percentile
    much_text:   {column: text_area_max, max: 0.07}                 drops what lies above 0.07
    black:       {column: synthetic_is_black, is: false}            drops what is not false
    codec_edges: {column: start_kind, in: [cut, source]}            drops what is none of these

A bound itself is kept. A null is dropped for the reason `<rule>:null`, unless `on_null: keep`. Every rule looks at every scored clip,
whatever the others say; a clip that is too short to be scored is dropped for that reason alone.
"""

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

if TYPE_CHECKING:
    from curate.scorers import Column

TOO_SHORT = "too_short"
SKIPPED = "Skipped"  # kind of the fault of a clip that the models were not given (`curate.decide.skip`)
NUMERIC = ("min", "max", "min_percentile", "max_percentile")


class Rule(BaseModel):
    """Which values of a column are kept: numbers between bounds, one truth value, or some of a column's words."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    column: str = Field(description="column of clips/ that the rule reads")
    min: float | None = Field(None, description="drops what lies below, in the column's unit")
    max: float | None = Field(None, description="drops what lies above, in the column's unit")
    min_percentile: float | None = Field(
        None, ge=0, le=100, description="drops what lies below this percentile of the valid clips", json_schema_extra={"unit": "%"}
    )
    max_percentile: float | None = Field(
        None, ge=0, le=100, description="drops what lies above this percentile of the valid clips", json_schema_extra={"unit": "%"}
    )
    is_: bool | None = Field(None, alias="is", description="the truth value that is kept")
    in_: tuple[str, ...] | None = Field(None, alias="in", min_length=1, description="the words that are kept")
    on_null: Literal["drop", "keep"] = Field("drop", description="what becomes of clips whose value could not be computed")

    @model_validator(mode="after")
    def _one_kind(self) -> "Rule":
        kinds = [self.is_numeric, self.is_ is not None, self.in_ is not None]
        if sum(kinds) != 1:
            raise ValueError("a rule needs a condition of one kind: bounds (min, max, min_percentile, max_percentile), or `is`, or `in`")
        for side in ("min", "max"):
            if getattr(self, side) is not None and getattr(self, f"{side}_percentile") is not None:
                raise ValueError(f"give {side} or {side}_percentile, not both; set the other one to null")
        for low, high in (("min", "max"), ("min_percentile", "max_percentile")):
            bottom, top = getattr(self, low), getattr(self, high)
            if bottom is not None and top is not None and bottom > top:
                raise ValueError(f"{low}={bottom:g} lies above {high}={top:g}, so nothing could be kept")
        return self

    @model_serializer
    def _compact(self) -> dict[str, Any]:
        values: dict[str, Any] = {"column": self.column, **{name: getattr(self, name) for name in NUMERIC}}
        values |= {"is": self.is_, "in": None if self.in_ is None else list(self.in_)}
        return {**{name: value for name, value in values.items() if value is not None}, "on_null": self.on_null}

    @property
    def is_numeric(self) -> bool:
        return any(getattr(self, name) is not None for name in NUMERIC)

    @property
    def percentiles(self) -> dict[str, float]:
        """Side (min, max) -> percentile, of those that have to be fitted."""
        found = {"min": self.min_percentile, "max": self.max_percentile}
        return {side: percent for side, percent in found.items() if percent is not None}


def null_reason(name: str) -> str:
    """The drop reason of a clip whose value is null."""
    return f"{name}:null"


def rule_problem(name: str, rule: Rule, columns: "Mapping[str, Column]") -> tuple[str, str] | None:
    """The key at fault and why it cannot be applied to these columns, with the remedy; None where the rule can be."""
    column = columns.get(rule.column)
    if column is None:
        return "column", f"rules.{name}.column = {rule.column!r}: there is no such column. {_nearest(rule.column, columns)}"
    kind = _kind(column)
    wanted = "number" if rule.is_numeric else "boolean" if rule.is_ is not None else "string"
    facts = described(rule.column, column)
    if kind != wanted:
        means = {"number": "min, max, min_percentile or max_percentile", "boolean": "is: true or is: false", "string": "in: [...]"}
        use = f"use {means[kind]}" if kind in means else "rules read numbers, booleans and strings only"
        return "column", f"rules.{name}: {facts} is a {kind} column; {use}"
    for side in ("min", "max"):
        bound = getattr(rule, side)
        if bound is not None and not _inside(bound, column):
            return side, f"rules.{name}.{side} = {bound:g} lies outside what {facts} can be. {_percent_hint(bound, column)}"
    return None


def described(name: str, column: "Column") -> str:
    """`text_area_max (fraction, 0 to 1)`."""
    span = _span(column)
    facts = ", ".join(fact for fact in (column.unit if column.unit != "1" else "", span) if fact)
    return f"{name} ({facts})" if facts else name


def _nearest(name: str, columns: "Mapping[str, Column]") -> str:
    usable = {other: column for other, column in columns.items() if _kind(column) != "list"}
    near = difflib.get_close_matches(name, usable, n=1, cutoff=0.5)
    if near:
        return f"Nearest: {described(near[0], usable[near[0]])}"
    return f"There are: {', '.join(sorted(usable))}"


def _kind(column: "Column") -> str:
    text = str(column.type)
    if text == "bool":
        return "boolean"
    if text in ("string", "large_string"):
        return "string"
    return "number" if text.startswith(("int", "uint", "float", "double", "halffloat")) else "list"


def _inside(bound: float, column: "Column") -> bool:
    return (column.low is None or bound >= column.low) and (column.high is None or bound <= column.high)


def _span(column: "Column") -> str:
    if column.low is None and column.high is None:
        return ""
    if column.high is None:
        return f"{column.low:g} or more"
    return f"{column.high:g} or less" if column.low is None else f"{column.low:g} to {column.high:g}"


def _percent_hint(bound: float, column: "Column") -> str:
    if column.high == 1 and 1 < bound <= 100:
        return f"For {bound:g} % write {bound / 100:g}"
    return "Choose a value inside, or remove the rule by setting it to null"
