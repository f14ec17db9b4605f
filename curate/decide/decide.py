"""From the ledger and the rules to what people open: `clips/` and `sources/` with `keep` and `drop_reasons`.

No pixel is read, so another threshold costs seconds. The same ledger, rules and frozen numbers give the same bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from curate.config import Config, parse_config
from curate.config_text import ConfigText, apply_overrides, read_yaml
from curate.decide.judge import judge
from curate.decide.quantiles import FrozenRule, freeze, policy_json, read_policy
from curate.decide.tally import ClipTally, SourceTally, summary
from curate.errors import ConfigError, ManifestError
from curate.extras import install_command, missing
from curate.fingerprints import config_fingerprints, known_names
from curate.manifest import CLIP_COLUMNS, SCHEMA_VERSION, SOURCE_COLUMNS, Manifest, Run, schema
from curate.models import needs, package_needs
from curate.report.summary import AbsentScorer, Summary
from curate.scorers import Column

BATCH_ROWS = 50_000
OUTGROWN = 2.0  # times as many valid clips as a percentile was fitted on, from which a refit is suggested


def decide(manifest: Manifest, config: Config, refit: bool = False) -> Summary:
    """Judges every clip of the complete shards and publishes; percentiles that `policy.json` holds stay unless `refit`.

    Raises `ManifestError` when a shard lacks a scorer of the last run. The caller holds the manifest's lock.
    """
    run = _header(manifest)
    absent = {name: dict(config.scorers[name].scorer.columns) for name in run.absent if name in config.scorers}
    empty = _empty(config, run)

    def tables() -> Iterator[pa.Table]:
        return _batches(manifest.iter_clips(run.scorers, absent, run.pass_fingerprint), empty)

    made_by = _made_by(config, run)
    fingerprints = {name: made_by[rule.column] for name, rule in config.rules.items()}
    frozen, notes = freeze(config.rules, read_policy(manifest.read_policy()), tables(), fingerprints, refit)
    clips, sources = ClipTally(frozen), SourceTally()
    # The numbers go first: a crash between the two leaves what the next decision repeats, not other numbers.
    manifest.write_policy(policy_json(frozen))
    manifest.publish(_judged(tables(), frozen, clips), _counted(manifest.iter_sources(run.pass_fingerprint), sources))
    if run.published_pass != run.pass_fingerprint:
        manifest.write_run(replace(run, published_pass=run.pass_fingerprint, schema_version=SCHEMA_VERSION))
    said = [*notes, *_outgrown(frozen, clips), *_skipped(clips), *_incomplete(manifest, run)]
    return summary(clips, sources, config.clips.min_clip_s, absent_scorers(config, run), said)


def redecide(folder: str | Path, words: Sequence[str] = (), rules_file: str | Path | None = None, refit: bool = False) -> Summary:
    """Decides again with the last run's configuration, its rules changed by `rules.x.min=...` words or taken from another file.

    The header then names the rules that made `clips/`. Raises `ConfigError` for words that would need a run.
    """
    manifest = Manifest.open(folder)
    with manifest.lock():
        names = known_names(_header(manifest))  # of the header as it is: it may say no more when it is rewritten
        config = _with_rules(manifest, words, rules_file)
        found = decide(manifest, config, refit)
        content, rules = config.model_dump(mode="json"), config_fingerprints(config, 0)["rules"]
        manifest.write_run(replace(_header(manifest), config=content, rules_fingerprint=rules, names=names))
    return found


def published_summary(folder: str | Path) -> Summary:
    """The summary of what was decided last, without deciding anything."""
    manifest = Manifest.open(folder)
    run, policy = _header(manifest), manifest.read_policy()
    if policy is None:
        raise ManifestError(f"{folder}: nothing has been decided yet; run `curate decide {folder}`")
    config = _with_rules(manifest, (), None)
    clips, sources = ClipTally(tuple(read_policy(policy).values())), SourceTally()
    for batch in manifest.published("clips").to_batches():
        clips.add(pa.Table.from_batches([batch]))
    for batch in manifest.published("sources").to_batches():
        sources.add(pa.Table.from_batches([batch]))
    said = [*_skipped(clips), *_incomplete(manifest, run), *([run.rescan_note] if run.rescan_note else [])]
    return summary(clips, sources, config.clips.min_clip_s, absent_scorers(config, run), said)


def absent_scorers(config: Config, run: Run) -> tuple[AbsentScorer, ...]:
    """Optional scorers that the last run left null, with the commands that get what they lack."""
    found = []
    for name in run.absent:
        if name in config.scorers:
            scorer = config.scorers[name].scorer
            install = [install_command(extra) for _, extra in package_needs(name, scorer) if missing(extra)]
            remedies = (*install, *(weight.remedy for weight in needs(scorer) if weight.name not in run.weights))
            found.append(AbsentScorer(name, tuple(scorer.columns), remedies))
    return tuple(found)


def last_config_text(manifest: Manifest) -> ConfigText:
    """The last run's configuration, to be changed by words and parsed; its rules in the order in which they were decided.

    run.json sorts its keys; policy.json keeps the order of the rules, which is the order of drop reasons.
    """
    run, policy = _header(manifest), manifest.read_policy()
    order = [entry["name"] for entry in policy["rules"]] if policy else []
    rules = run.config.get("rules", {})
    names = sorted(rules, key=lambda name: order.index(name) if name in order else len(order))
    return ConfigText({**run.config, "rules": {name: dict(rules[name]) for name in names}}, "run.json")


def _header(manifest: Manifest) -> Run:
    run = manifest.read_run()
    if run is None:
        raise ManifestError(f"{manifest.root}: run.json is missing; start the run again to write it")
    return run


def _with_rules(manifest: Manifest, words: Sequence[str], rules_file: str | Path | None) -> Config:
    text = last_config_text(manifest)
    if rules_file is not None:
        other = read_yaml(rules_file)
        text = ConfigText({**text.content, "rules": other.content.get("rules") or {}}, other.origin, other.lines, {}, other.problems)
    foreign = [word for word in words if not word.startswith("rules.")]
    if foreign:
        raise ConfigError(f"`curate decide` changes rules only, not {', '.join(foreign)}; `curate run` takes other keys")
    apply_overrides(text, words)
    return parse_config(text.content, text.problems, text.place)


def _made_by(config: Config, run: Run) -> dict[str, str]:
    """Column -> fingerprint of the pass or scorer that computes it."""
    found = dict.fromkeys(CLIP_COLUMNS, run.pass_fingerprint)
    for name, entry in config.scorers.items():
        found |= dict.fromkeys(entry.scorer.columns, run.scorers.get(name, ""))
    return found


def _empty(config: Config, run: Run) -> pa.Table:
    """No clips, with all columns: what is published where no source gave any."""
    columns: dict[str, Column] = dict(CLIP_COLUMNS)
    for name in sorted({*run.scorers, *run.absent} & set(config.scorers)):
        columns |= {key: column for key, column in config.scorers[name].scorer.columns.items() if not column.large}
    return schema(columns).empty_table()


def _batches(tables: Iterable[pa.Table], empty: pa.Table) -> Iterator[pa.Table]:
    """Small shards joined, for speed; one table without rows where there is none."""
    waiting: list[pa.Table] = []
    is_first = True
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= BATCH_ROWS:
            yield pa.concat_tables(waiting)
            waiting, is_first = [], False
    if waiting:
        yield pa.concat_tables(waiting)
    elif is_first:
        yield empty


def _judged(tables: Iterable[pa.Table], frozen: Sequence[FrozenRule], tally: ClipTally) -> Iterator[pa.Table]:
    for table in tables:
        decided = judge(table, frozen)
        tally.add(decided)
        yield decided


def _counted(tables: Iterable[pa.Table], tally: SourceTally) -> Iterator[pa.Table]:
    for table in _batches(tables, schema(SOURCE_COLUMNS).empty_table()):
        tally.add(table)
        yield table


def _outgrown(frozen: Sequence[FrozenRule], clips: ClipTally) -> list[str]:
    """Percentiles that were frozen on a small part of what there is now, such as a pilot."""
    notes = []
    for one in frozen:
        fitted_on = min((fit.num_clips for fit in one.fits.values()), default=0)
        now = clips.valid.get(one.name, 0)
        if fitted_on and now >= OUTGROWN * fitted_on:
            notes.append(
                f"rule {one.name}: its percentile was frozen on {fitted_on:,} clips and there are {now:,} now; --refit fits it anew"
            )
    return notes


def _skipped(clips: ClipTally) -> list[str]:
    text = f"{clips.num_skipped:,} clips were not given to the models (skip_models_when); percentiles of models' scores leave them out"
    return [text] if clips.num_skipped else []


def _incomplete(manifest: Manifest, run: Run) -> list[str]:
    shard_ids = manifest.shard_ids()
    done = [manifest.shard(shard_id).done() for shard_id in shard_ids]
    other = sum(one is not None and one[0] != run.pass_fingerprint for one in done)
    states = {"are not complete": done.count(None), "were scanned with other settings of the pass": other}
    after = "their clips are not in this manifest yet. Start the run again"
    return [f"{number:,} of {len(done):,} shards {state}; {after}" for state, number in states.items() if number]
