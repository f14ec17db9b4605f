"""How far a manifest is: shards, scorers, decisions."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from curate.manifest import Index, Manifest, Run
from curate.manifest.lock import holder_of
from curate.report.summary import count, duration

MAX_REASONS = 12
RECENT_S = 3600.0


def format_status(folder: str | Path) -> str:
    """Text for `curate status`; reads marks, the index and what is known of sources, so it may be asked while a run is writing."""
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
    lines += _source_lines(manifest, done)
    lines += _rate_lines(manifest, index, [shard_id for shard_id in done if shard_id not in stale])
    if run:
        lines += _scorer_lines(manifest, run, done)
    else:
        lines.append("Run         run.json is missing; start the run again to write it")
    decided = (manifest.root / "clips").is_dir()
    lines.append(f"Decided     {'yes, see clips/ and sources/' if decided else 'not yet'}")
    if run and run.rescan_note:
        lines.append(f"            {run.rescan_note}")
    holder = holder_of(manifest.root)
    if holder:
        lines.append(f"Running     {holder} is writing here")
    elif run and len(done) - len(stale) < num_shards:
        lines.append("Next        start the same run again; it goes on from here")
    return "\n".join(lines)


def _source_lines(manifest: Manifest, done: Sequence[int]) -> list[str]:
    """What became of the sources of complete shards: how many of each status, why the others failed, how much they gave."""
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    decoded_s = exact_s = 0.0
    num_clips = 0
    for shard_id in done:
        rows = manifest.read_sources(shard_id).select(["status", "fault_kind", "decoded_s", "exact_s", "num_clips"])
        for status, kind, decoded, exact, clips in zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True):
            statuses[status] += 1
            if status != "ok":
                reasons[f"{status}: {kind}"] += 1
            decoded_s, exact_s, num_clips = decoded_s + (decoded or 0), exact_s + (exact or 0), num_clips + (clips or 0)
    if not statuses:
        return []
    lines = ["            " + ", ".join(f"{number:,} {status}" for status, number in statuses.most_common())]
    lines += [f"              {number:>7,}  {reason}" for reason, number in reasons.most_common(MAX_REASONS)]
    if len(reasons) > MAX_REASONS:
        lines.append(f"              {sum(n for _, n in reasons.most_common()[MAX_REASONS:]):>7,}  other reasons")
    if {"failed", "quarantined"} & set(statuses):
        lines.append("              try them again: curate retry DIR [--reason KIND]")
    share = f" ({100 * exact_s / decoded_s:.1f} % of the video)" if decoded_s else ""
    return [*lines, f"Yield       {count(num_clips, 'clip')}, {duration(exact_s)} of clips long enough{share}"]


def _rate_lines(manifest: Manifest, index: Index, done: Sequence[int]) -> list[str]:
    """How fast shards came lately and how long the rest will take, by the bytes of their sources; nothing before the second shard."""
    sizes = dict.fromkeys(index.shard_ids, 0)
    for shard_id, size in zip(index.table["shard"].to_pylist(), index.table["size_bytes"].to_pylist(), strict=True):
        sizes[shard_id] += size or 0
    ended = sorted((manifest.shard(shard_id).ended_s(), shard_id) for shard_id in done)
    recent = [(at, shard_id) for at, shard_id in ended if at > ended[-1][0] - RECENT_S]
    if len(recent) < 2 or recent[-1][0] <= recent[0][0] or len(done) == len(index.shard_ids):
        return []
    rate = sum(sizes[shard_id] for _, shard_id in recent[1:]) / (recent[-1][0] - recent[0][0])
    left = sum(sizes.values()) - sum(sizes[shard_id] for shard_id in done)
    if not rate:
        return []
    return [
        f"Rate        {rate / 1e6:.1f} MB of sources a second lately, {duration(left / rate)} for the {left / 1e9:.2f} GB left at that rate"
    ]


def _percent(part: int, whole: int) -> str:
    return f" ({100 * part / whole:.0f} %)" if whole else ""


def _scorer_lines(manifest: Manifest, run: Run, done: list[int]) -> list[str]:
    missing: Counter[str] = Counter()
    for shard_id in done:
        missing.update(manifest.scorers_missing(shard_id, run.scorers))
    states = [f"{name} ({count(missing[name], 'shard')} missing)" if missing[name] else name for name in sorted(run.scorers)]
    states += [f"{name} (null: its package or weights were not found)" for name in run.absent]
    return [f"Scorers     {', '.join(states) or 'none'}"]
