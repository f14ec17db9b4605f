"""From a ledger to `clips/` and `sources/`: reasons with truth, frozen numbers, equal bytes, seconds for many clips."""

import hashlib
import json
import time

import numpy as np
import pandas as pd
import pytest

from curate.decide.decide import decide, published_summary, redecide
from curate.errors import ConfigError, ManifestError
from curate.report.summary import Effort, format_summary

RULES = {
    "slow": {"column": "toy_speed", "min_percentile": 25},
    "dark": {"column": "toy_is_dark", "is": False},
    "busy": {"column": "toy_area", "max": 0.07},
}


def judged(manifest, config, **options):
    with manifest.lock():
        return decide(manifest, config, **options)


def published(manifest) -> pd.DataFrame:
    return pd.read_parquet(manifest.root / "clips")


def digests(manifest) -> dict[str, str]:
    return {
        str(path.relative_to(manifest.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(manifest.root.rglob("*"))
        if path.is_file()
    }


def test_every_clip_is_published_with_all_its_reasons_in_rule_order(write_ledger):
    manifest, config = write_ledger(
        RULES,
        [
            {"toy_speed": [1, 2, 3, 4], "toy_is_dark": [True, False, False, None], "toy_area": [0.5, 0.01, 0.07, 0.2]},
            {"toy_speed": [5, None], "toy_is_dark": [False, False], "toy_area": [0.0, 0.0], "is_scored": [True, False]},
        ],
    )
    summary = judged(manifest, config)
    found = published(manifest)
    assert [list(row) for row in found.drop_reasons] == [["slow", "dark", "busy"], [], [], ["dark:null", "busy"], [], ["too_short"]]
    assert list(found.keep) == [False, True, True, False, True, False]
    assert "toy_vector" not in found, "large columns stay out of what people open"
    assert (summary.num_clips, summary.num_scored, summary.num_kept, summary.num_sources) == (6, 5, 3, 2)
    assert (summary.kept_s, summary.kept_snapped_s, summary.exact_s, summary.snapped_s) == (15.0, 12.0, 16.0, 12.0)
    counts = {one.name: (one.num_any, one.num_first, one.num_alone) for one in summary.reasons}
    assert counts == {"too_short": (1, 1, 1), "slow": (1, 1, 0), "dark": (1, 0, 0), "dark:null": (1, 1, 0), "busy": (2, 0, 0)}


def test_the_policy_holds_absolute_numbers(write_ledger):
    manifest, config = write_ledger(RULES, [{"toy_speed": [1, 2, 3, 4, 5], "toy_is_dark": [False] * 5, "toy_area": [0] * 5}])
    judged(manifest, config)
    entries = {entry["name"]: entry for entry in json.loads((manifest.root / "policy.json").read_text())["rules"]}
    assert list(entries) == ["slow", "dark", "busy"], "in the order of the rules"
    assert entries["slow"]["min"] == 2
    assert entries["slow"]["fitted"]["min"]["percentile"] == 25
    assert entries["slow"]["fitted"]["min"]["num_clips"] == 5
    assert entries["busy"]["max"] == 0.07


def test_deciding_twice_writes_the_same_bytes(write_ledger):
    manifest, config = write_ledger(RULES, [{"toy_speed": np.arange(50), "toy_is_dark": [False] * 50, "toy_area": np.zeros(50)}] * 3)
    judged(manifest, config)
    before = digests(manifest)
    judged(manifest, config)
    assert digests(manifest) == before


def test_clips_that_come_later_are_judged_by_the_frozen_numbers(write_ledger):
    shard = {"toy_is_dark": [False] * 4, "toy_area": [0] * 4}
    manifest, config = write_ledger(RULES, [{"toy_speed": [1, 2, 3, 4], **shard}])
    judged(manifest, config)
    manifest, config = write_ledger(RULES, [{"toy_speed": [1, 2, 3, 4], **shard}, {"toy_speed": [100, 200, 300, 400], **shard}])
    summary = judged(manifest, config)
    assert published(manifest).query("not keep").toy_speed.tolist() == [1]
    assert any("frozen on 4 clips and there are 8 now" in note for note in summary.notes)
    judged(manifest, config, refit=True)
    assert published(manifest).query("not keep").toy_speed.tolist() == [1, 2]


def test_redeciding_changes_rules_by_words_and_records_them(write_ledger):
    manifest, config = write_ledger(RULES, [{"toy_speed": [1, 2, 3, 4], "toy_is_dark": [True] + [False] * 3, "toy_area": [0, 0, 0, 0.5]}])
    judged(manifest, config)
    before = manifest.read_run()
    redecide(manifest.root, ["rules.slow.min=2.5", "rules.busy=null", "rules.late.column=duration_s", "rules.late.min=1"])
    found = published(manifest)
    assert [list(row) for row in found.drop_reasons] == [["slow", "dark"], ["slow"], [], []]
    after = manifest.read_run()
    assert after.config["rules"].keys() == {"slow", "dark", "late"}
    assert after.config["rules"]["slow"] == {"column": "toy_speed", "min": 2.5, "on_null": "drop"}
    assert after.rules_fingerprint != before.rules_fingerprint
    assert after.pass_fingerprint == before.pass_fingerprint


def test_redeciding_keeps_the_order_of_reasons_though_the_header_sorts_its_keys(write_ledger):
    manifest, config = write_ledger(RULES, [{"toy_speed": [1, 2], "toy_is_dark": [True, True], "toy_area": [0.5, 0.5]}])
    judged(manifest, config)
    before = digests(manifest)
    redecide(manifest.root)
    assert digests(manifest) == before
    assert list(published(manifest).drop_reasons[0]) == ["slow", "dark", "busy"]


def test_redeciding_takes_rules_from_another_file(write_ledger, tmp_path):
    manifest, config = write_ledger(RULES, [{"toy_speed": [1, 2, 3, 4], "toy_is_dark": [True] * 4, "toy_area": [0, 0, 0, 0.5]}])
    judged(manifest, config)
    other = tmp_path / "other.yaml"
    other.write_text("scorers: {quality: {}}\nrules: {strict: {column: toy_speed, min: 4}}\n")
    redecide(manifest.root, (), other)
    assert published(manifest).keep.tolist() == [False, False, False, True]
    other.write_text("rules: {strict: {column: toy_sped, min: 4}}\n")
    with pytest.raises(ConfigError, match=r"Nearest: toy_speed \(% of diagonal/s, 0 or more\).*other\.yaml line 1"):
        redecide(manifest.root, (), other)


def test_redeciding_refuses_what_needs_a_run(write_ledger):
    manifest, config = write_ledger(RULES, [{"toy_speed": [1], "toy_is_dark": [True], "toy_area": [0]}])
    judged(manifest, config)
    with pytest.raises(ConfigError, match=r"changes rules only, not clips\.min_clip_s=3"):
        redecide(manifest.root, ["clips.min_clip_s=3"])


def test_an_absent_optional_scorer_is_null_and_loud(write_ledger):
    rules = {"slow": {"column": "toy_speed", "min_percentile": 25, "on_null": "keep"}}
    manifest, config = write_ledger(rules, [{"duration_s": [5.0, 6.0]}], absent=True)
    summary = judged(manifest, config)
    found = published(manifest)
    assert found.toy_speed.isna().all()
    assert found.keep.all()
    text = format_summary(summary, "out")
    assert "NOT SCORED: toys.toy" in text.splitlines()[1]
    assert "toy_speed" in text.splitlines()[1]
    assert "put the file at toy/net.pth in your weights folder" in text


def test_a_ledger_without_clips_publishes_tables_without_rows(write_ledger):
    manifest, config = write_ledger(RULES, [{}])
    summary = judged(manifest, config)
    assert (summary.num_clips, summary.num_kept) == (0, 0)
    found = published(manifest)
    assert len(found) == 0
    assert {"clip_id", "toy_speed", "keep", "drop_reasons"} <= set(found.columns)
    manifest, config = write_ledger(RULES, [], name="nothing")
    judged(manifest, config)
    assert {"clip_id", "toy_speed", "keep", "drop_reasons"} <= set(published(manifest).columns)


def test_shards_that_are_not_complete_are_left_out_and_said(write_ledger):
    shard = {"toy_speed": [1, 2], "toy_is_dark": [False] * 2, "toy_area": [0] * 2}
    manifest, config = write_ledger(RULES, [shard, shard])
    manifest.shard(1).invalidate()
    summary = judged(manifest, config)
    assert summary.num_clips == 2
    assert any("1 of 2 shards are not complete" in note for note in summary.notes)


def test_what_was_published_gives_the_same_summary_again(write_ledger):
    rng = np.random.default_rng(0)
    shard = {"toy_speed": rng.random(200), "toy_is_dark": rng.random(200) < 0.2, "toy_area": rng.random(200) * 0.1}
    manifest, config = write_ledger(RULES, [shard, {**shard, "status": "damaged", "fault_message": "cut off"}])
    summary = judged(manifest, config)
    assert published_summary(manifest.root) == summary
    assert (summary.num_ok, summary.num_damaged) == (1, 1)


def test_nothing_published_yet_is_an_error_with_the_command(write_ledger):
    manifest, _ = write_ledger(RULES, [{}])
    with pytest.raises(ManifestError, match="curate decide"):
        published_summary(manifest.root)


def test_the_summary_names_failures_rules_yield_and_how_to_open_it(write_ledger):
    shard = {"toy_speed": np.arange(8), "toy_is_dark": [False] * 8, "toy_area": [0] * 8}
    manifest, config = write_ledger(
        RULES, [shard, {"status": "failed", "fault_message": "no video stream\nmore"}, {"status": "quarantined"}]
    )
    text = format_summary(judged(manifest, config), "/manifests/one", Effort(10.0, 8, 30.0))
    assert "3: 1 ok, 2 failed, of those 1 quarantined (`curate retry` tries them again)" in text
    assert "failed      0001.mp4: no video stream\n" in text
    assert "slow                 2          2          2  toy_speed below 1.75 (25th percentile of 8 clips)" in text
    assert "6 of 8 clips (75.0 %), 30 s of 40 s (75.0 %)" in text
    assert "10 s, 0.80 clips/s, 3.0 s of video a second" in text
    assert "pd.read_parquet('/manifests/one/clips')" in text
    assert max(map(len, text.splitlines())) <= 140


def test_a_hundred_thousand_clips_are_decided_in_seconds(write_ledger):
    rng = np.random.default_rng(0)
    num = 10_000
    shards = [{"toy_speed": rng.random(num), "toy_is_dark": rng.random(num) < 0.1, "toy_area": rng.random(num) * 0.1} for _ in range(10)]
    manifest, config = write_ledger(RULES, shards)
    start = time.process_time()
    summary = judged(manifest, config)
    # 0.6 s of processor time on the slow machine this was written on; a loop over rows takes more than ten times that.
    assert time.process_time() - start < 5
    assert summary.num_clips == 100_000
    assert next(one for one in summary.reasons if one.name == "slow").num_any == 25_000
