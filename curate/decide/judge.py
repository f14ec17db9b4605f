"""Rules over a table of clips: `keep` and `drop_reasons` for every row at once, no loop over rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.decide.quantiles import FrozenRule
from curate.decide.rules import SKIPPED, TOO_SHORT, null_reason
from curate.manifest.columns import DECIDED_COLUMNS, field


def reason_names(rules: Sequence[FrozenRule]) -> list[str]:
    """Every drop reason there can be, in the order in which a clip's reasons are listed."""
    return [TOO_SHORT, *(reason for one in rules for reason in (one.name, null_reason(one.name)))]


def judge(table: pa.Table, rules: Sequence[FrozenRule]) -> pa.Table:
    """The table with `keep` and `drop_reasons` as its last columns: all reasons of a clip, in rule order.

    A clip that the models were not given lists nulls as reasons only where nothing else drops it.
    """
    scored = table["is_scored"].to_numpy()
    broken = np.zeros((len(table), 1 + 2 * len(rules)), dtype=bool)
    broken[:, 0] = ~scored
    for i, one in enumerate(rules):
        beyond, null = breaks(table[one.rule.column], one)
        broken[:, 1 + 2 * i] = beyond & scored
        if one.rule.on_null == "drop":
            broken[:, 2 + 2 * i] = null & scored
    broken[:, 2::2] &= ~(skipped(table) & broken[:, 1::2].any(axis=1))[:, None]
    rows, reasons = np.nonzero(broken)
    offsets = np.zeros(len(table) + 1, dtype=np.int32)
    np.cumsum(np.bincount(rows, minlength=len(table)), out=offsets[1:])
    words = pa.array(reason_names(rules), pa.string()).take(pa.array(reasons))
    lists = pa.ListArray.from_arrays(pa.array(offsets), words)
    keep = pa.array(offsets[1:] == offsets[:-1])
    decided = {"keep": keep, "drop_reasons": lists}
    for name, values in decided.items():
        table = table.append_column(field(name, DECIDED_COLUMNS[name]), values)
    return table


def skipped(table: pa.Table) -> np.ndarray:
    """bool[N]: clips that the models were not given (`skip_models_when`)."""
    return _with_fault(table, is_skip=True)


def failed(table: pa.Table) -> np.ndarray:
    """bool[N]: clips with a value that could not be computed."""
    return _with_fault(table, is_skip=False)


def _with_fault(table: pa.Table, is_skip: bool) -> np.ndarray:
    found, faults = np.zeros(len(table), dtype=bool), table["faults"]
    rows, kinds = pc.list_parent_indices(faults), pc.struct_field(pc.list_flatten(faults), "kind")
    if len(kinds):
        chosen = pc.equal(kinds, SKIPPED) if is_skip else pc.not_equal(kinds, SKIPPED)
        found[rows.filter(chosen).to_numpy()] = True
    return found


def breaks(column: pa.ChunkedArray, one: FrozenRule) -> tuple[np.ndarray, np.ndarray]:
    """(the value breaks the rule, the value is null), one bool a row; NaN counts as null. A bound compares in the column's precision."""
    null = pc.is_null(column, nan_is_null=True).to_numpy()
    rule = one.rule
    if rule.is_ is not None:
        return (pc.fill_null(column, rule.is_).to_numpy() != rule.is_), null
    if rule.in_ is not None:
        known = pc.is_in(column, value_set=pa.array(rule.in_, column.type)).to_numpy()
        return ~known & ~null, null
    values = pc.fill_null(column, 0).to_numpy()
    beyond = np.zeros(len(values), dtype=bool)
    if one.low is not None:
        beyond |= values < one.low
    if one.high is not None:
        beyond |= values > one.high
    return beyond & ~null, null
