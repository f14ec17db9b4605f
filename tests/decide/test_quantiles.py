"""Percentiles agree with numpy's, look at valid clips only, and stay frozen until there is a reason to fit anew."""

import numpy as np
import pyarrow as pa
import pytest

from curate.decide.quantiles import freeze, percentile, policy_json, read_policy, valid_values
from curate.decide.rules import Rule
from curate.errors import ManifestError


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("num", [1, 2, 3, 10, 1001])
@pytest.mark.parametrize("percent", [0, 12.5, 25, 50, 99.9, 100])
def test_percentiles_are_numpys(dtype, num, percent):
    values = (np.random.default_rng(num).random(num) * 1000).astype(dtype)
    expected = np.percentile(values.astype(np.float64), percent)
    # Both interpolate in double precision, in another order of operations.
    assert percentile(values.copy(), percent) == pytest.approx(expected, rel=1e-12)


def table(speed, **more) -> pa.Table:
    return pa.table({"is_scored": [True] * len(speed), "speed": pa.array(speed, pa.float32()), **more})


def test_values_are_valid_when_scored_there_and_no_duplicate():
    clips = table(
        [1, 2, None, float("nan"), 5, 6],
        is_scored=pa.array([True, False, True, True, True, True]),
        duplicate_of=pa.array([None, None, None, None, "0123456789abcdef", None]),
    )
    assert sorted(valid_values(clips, "speed")) == [1, 6]
    assert sorted(valid_values(clips.drop_columns("duplicate_of"), "speed")) == [1, 5, 6]


SLOW = {"slow": Rule(column="speed", min_percentile=25)}
PRINTS = {"slow": "a"}


def fit(rules, before, tables, prints=PRINTS, **options):
    return freeze(rules, read_policy(before), tables, prints, **options)


def test_a_percentile_is_fitted_over_all_shards_together():
    values = np.random.default_rng(0).random(500, dtype=np.float32)
    (rule,), notes = fit(SLOW, None, [table(values[:100]), table(values[100:101]), table(values[101:])])
    assert rule.low == pytest.approx(np.percentile(values.astype(np.float64), 25), rel=1e-12)
    assert (rule.high, rule.fits["min"].num_clips, rule.fits["min"].num_beyond) == (None, 500, 125)
    assert notes == ()


def test_frozen_numbers_stay_when_other_clips_come():
    first, _ = fit(SLOW, None, [table([1, 2, 3, 4, 5])])
    policy = policy_json(first)

    def never():
        raise AssertionError("nothing has to be read")
        yield

    again, notes = fit(SLOW, policy, never())
    assert again == first
    assert again[0].low == 2
    assert notes == ()


@pytest.mark.parametrize(
    ("rule", "prints", "options", "expected"),
    [
        (Rule(column="speed", min_percentile=25), PRINTS, {"refit": True}, (20, "as asked")),
        (Rule(column="speed", min_percentile=50), PRINTS, {}, (30, "percentile changed from 25 to 50")),
        (Rule(column="speed", min_percentile=25), {"slow": "b"}, {}, (20, "computed anew with other settings")),
        (Rule(column="width", min_percentile=25), PRINTS, {}, (7, "column changed from speed to width")),
    ],
)
def test_a_reason_to_fit_anew_fits_anew_and_says_so(rule, prints, options, expected):
    before = policy_json(fit(SLOW, None, [table([1, 2, 3, 4, 5])])[0])
    clips = table([10, 20, 30, 40, 50], width=[7] * 5)
    (found,), notes = fit({"slow": rule}, before, [clips], prints, **options)
    assert found.low == expected[0]
    assert any(expected[1] in note for note in notes)


def test_only_the_changed_rule_is_fitted_anew():
    rules = SLOW | {"fast": Rule(column="speed", max_percentile=75)}
    prints = {"slow": "a", "fast": "a"}
    before = policy_json(fit(rules, None, [table([1, 2, 3, 4, 5])], prints)[0])
    changed = rules | {"fast": Rule(column="speed", max_percentile=50)}
    found, notes = fit(changed, before, [table([10, 20, 30, 40, 50])], prints)
    assert [(one.low, one.high) for one in found] == [(2, None), (None, 30)]
    assert len(notes) == 1


def test_other_bounds_of_a_rule_change_without_a_new_fit():
    before = policy_json(fit(SLOW, None, [table([1, 2, 3, 4, 5])])[0])
    changed = {"slow": Rule(column="speed", min_percentile=25, max=9, on_null="keep")}
    (found,), notes = fit(changed, before, [])
    assert (found.low, found.high, found.rule.on_null) == (2, 9, "keep")
    assert notes == ()


def test_no_valid_clip_drops_nothing_says_so_and_is_never_frozen():
    first, notes = fit(SLOW, None, [table([None, None])])
    assert first[0].low is None
    assert "no valid clip" in notes[0]
    second, _ = fit(SLOW, policy_json(first), [table([1, 2, 3, 4, 5])])
    assert second[0].low == 2


def test_ties_at_the_bound_are_reported_with_the_share_that_lies_beyond():
    (found,), notes = fit(SLOW, None, [table([0.0] * 60 + [1.0] * 40)])
    assert found.low == 0
    assert "0% of the clips lie beyond it, not 25%" in notes[0]


def test_a_policy_reads_back_as_it_was_written():
    rules = {
        "a": Rule(column="speed", min_percentile=10, max=3),
        "b": Rule(column="dark", **{"is": False}),
        "c": Rule(column="kind", on_null="keep", **{"in": ["cut", "fade"]}),
    }
    frozen, _ = fit(rules, None, [table([1, 2, 3])], dict.fromkeys(rules, "a"))
    assert tuple(read_policy(policy_json(frozen)).values()) == frozen
    with pytest.raises(ManifestError, match="version 99"):
        read_policy({"policy_version": 99, "rules": []})
