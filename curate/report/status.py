"""How far a manifest is: shards, scorers, decisions."""

from collections import Counter
from pathlib import Path

from curate.manifest import Manifest, Run
from curate.report.summary import count


def format_status(folder: str | Path) -> str:
    """Text for `curate status`; reads marks and the index only, so it may be asked while a run is writing."""
    manifest = Manifest.open(folder)
    run, index = manifest.read_run(), manifest.index()
    num_shards = len(index.shard_ids)
    done = [shard_id for shard_id in index.shard_ids if manifest.shard(shard_id).done() is not None]
    stale = set(manifest.pending_shards(run.pass_fingerprint, index)) & set(done) if run else set()
    lines = [
        f"Manifest    {folder}",
        f"Sources     {count(len(index.table), 'source')} listed, in {count(num_shards, 'shard')}",
        f"Scanned     {len(done) - len(stale):,} of {count(num_shards, 'shard')}{_percent(len(done) - len(stale), num_shards)}",
    ]
    if stale:
        lines.append(f"            {count(len(stale), 'shard')} made by other settings or of files that have changed since")
    if run:
        lines += _scorer_lines(manifest, run, done)
    else:
        lines.append("Run         run.json is missing; start the run again to write it")
    decided = (manifest.root / "clips").is_dir()
    lines.append(f"Decided     {'yes, see clips/ and sources/' if decided else 'not yet'}")
    if run and len(done) - len(stale) < num_shards:
        lines.append("Next        start the same run again; it goes on from here")
    return "\n".join(lines)


def _percent(part: int, whole: int) -> str:
    return f" ({100 * part / whole:.0f} %)" if whole else ""


def _scorer_lines(manifest: Manifest, run: Run, done: list[int]) -> list[str]:
    missing: Counter[str] = Counter()
    for shard_id in done:
        missing.update(manifest.scorers_missing(shard_id, run.scorers))
    states = [f"{name} ({count(missing[name], 'shard')} missing)" if missing[name] else name for name in sorted(run.scorers)]
    states += [f"{name} (null: its weights were not found)" for name in run.absent]
    return [f"Scorers     {', '.join(states) or 'none'}"]
