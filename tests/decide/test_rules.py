"""Every clip gets all its drop reasons, in rule order, held against a loop over rows written the plain way."""

import numpy as np
import pyarrow as pa
import pytest

from curate.decide.judge import judge
from curate.decide.quantiles import Fit, FrozenRule
from curate.decide.rules import Rule
from curate.decide.tally import ClipTally, condition, ordinal
from curate.manifest.columns import FAULTS


def frozen(name: str, **rule) -> FrozenRule:
    parsed = Rule(**rule)
    return FrozenRule(name, parsed, parsed.min, parsed.max, {})


def clips(**columns) -> pa.Table:
    num = len(next(iter(columns.values())))
    base = {"is_scored": pa.array(np.ones(num, bool)), "duration_s": np.full(num, 2.0), "snapped_duration_s": np.ones(num)}
    return pa.table({**base, "faults": pa.array([[]] * num, FAULTS), **columns})


def reasons(table: pa.Table, *rules: FrozenRule) -> list[list[str]]:
    decided = judge(table, rules)
    found = decided["drop_reasons"].to_pylist()
    assert decided["keep"].to_pylist() == [not row for row in found]
    return found


def test_a_bound_itself_is_kept_and_what_lies_beyond_is_dropped():
    table = clips(speed=pa.array([0.9, 1.0, 1.5, 2.0, 2.1]))
    assert reasons(table, frozen("r", column="speed", min=1.0, max=2.0)) == [["r"], [], [], [], ["r"]]


def test_a_bound_is_compared_in_the_precision_of_its_column():
    table = clips(area=pa.array([0.07], pa.float32()))
    assert float(np.float32(0.07)) > 0.07
    assert reasons(table, frozen("r", column="area", max=0.07)) == [[]]


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_null_drops_with_its_own_reason_unless_it_is_to_be_kept(missing):
    table = clips(speed=pa.array([missing, 5.0]))
    assert reasons(table, frozen("r", column="speed", min=1.0)) == [["r:null"], []]
    assert reasons(table, frozen("r", column="speed", min=1.0, on_null="keep")) == [[], []]


def test_truth_values_and_words_are_kept_as_the_rule_says():
    table = clips(dark=pa.array([True, False, None]), kind=pa.array(["cut", "fade", None]))
    assert reasons(table, frozen("dark", column="dark", **{"is": False})) == [["dark"], [], ["dark:null"]]
    assert reasons(table, frozen("lit", column="dark", **{"is": True})) == [[], ["lit"], ["lit:null"]]
    assert reasons(table, frozen("kind", column="kind", **{"in": ["cut", "source"]})) == [[], ["kind"], ["kind:null"]]


def test_integers_with_nulls_are_compared_as_integers():
    table = clips(size=pa.array([575, 576, None], pa.int32()))
    assert reasons(table, frozen("small", column="size", min=576)) == [["small"], [], ["small:null"]]


def test_a_clip_that_was_not_scored_is_too_short_and_nothing_else():
    table = clips(speed=pa.array([None, 0.0]), is_scored=pa.array([False, True]))
    assert reasons(table, frozen("r", column="speed", min=1.0)) == [["too_short"], ["r"]]


def test_no_rules_and_no_rows_are_fine():
    assert reasons(clips(speed=pa.array([1.0, None]))) == [[], []]
    assert judge(clips(speed=pa.array([1.0])).slice(0, 0), [frozen("r", column="speed", min=1.0)]).num_rows == 0


def random_clips(num: int, seed: int) -> tuple[pa.Table, list[FrozenRule]]:
    rng = np.random.default_rng(seed)

    def holes(values):
        return pa.array(values, mask=rng.random(num) < 0.1)

    table = clips(
        is_scored=pa.array(rng.random(num) < 0.9),
        speed=holes(rng.random(num, dtype=np.float32)),
        area=holes(rng.random(num)),
        dark=holes(rng.random(num) < 0.3),
        kind=holes(rng.choice(["cut", "fade", "source"], num)),
    )
    rules = [
        frozen("area", column="area", max=0.8),
        frozen("dark", column="dark", on_null="keep", **{"is": False}),
        frozen("slow", column="speed", min=0.2, max=0.9),
        frozen("kind", column="kind", **{"in": ["cut", "source"]}),
    ]
    return table, rules


def by_hand(row: dict, rules: list[FrozenRule]) -> list[str]:
    if not row["is_scored"]:
        return ["too_short"]
    found = []
    for one in rules:
        value, rule = row[one.rule.column], one.rule
        if value is None:
            found += [f"{one.name}:null"] if rule.on_null == "drop" else []
        elif rule.is_ is not None:
            found += [one.name] if value != rule.is_ else []
        elif rule.in_ is not None:
            found += [one.name] if value not in rule.in_ else []
        elif (one.low is not None and value < one.low) or (one.high is not None and value > one.high):
            found.append(one.name)
    return found


def test_all_reasons_of_random_clips_are_those_of_a_plain_loop_over_rows():
    table, rules = random_clips(3000, seed=1)
    expected = [by_hand(row, rules) for row in table.to_pylist()]
    assert reasons(table, *rules) == expected
    assert max(map(len, expected)) >= 3


def test_counts_of_reasons_are_those_of_a_plain_loop_over_rows():
    table, rules = random_clips(2000, seed=2)
    tally = ClipTally(rules)
    decided = judge(table, rules)
    tally.add(decided.slice(0, 700))
    tally.add(decided.slice(700))
    rows = [by_hand(row, rules) for row in table.to_pylist()]
    for counted in tally.reasons(min_clip_s=2):
        assert counted.num_any == sum(counted.name in row for row in rows), counted.name
        assert counted.num_first == sum(row[:1] == [counted.name] for row in rows), counted.name
        assert counted.num_alone == sum(row == [counted.name] for row in rows), counted.name
    assert {one.name for one in tally.reasons(2)} == {reason for row in rows for reason in row}
    assert tally.num_kept == sum(not row for row in rows)


def test_conditions_are_written_in_words():
    fit = Fit(25, 0.5, 61, 15, "")
    assert condition(FrozenRule("r", Rule(column="speed", min_percentile=25, max=9), 0.5, 9, {"min": fit})) == (
        "speed below 0.5 (25th percentile of 61 clips) or above 9"
    )
    assert condition(frozen("r", column="dark", **{"is": False})) == "dark is true"
    assert condition(frozen("r", column="kind", **{"in": ["cut", "fade"]})) == "kind is none of cut, fade"
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 21, 12.5, 25)] == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "21st",
        "12.5th",
        "25th",
    ]
