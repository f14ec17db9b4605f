"""What an export wrote, or would write, for people."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from curate.export.plan import Plan, reasons


class Outcome(Protocol):
    """What is told of an export that has ended."""

    @property
    def plan(self) -> Plan: ...
    @property
    def num_samples(self) -> int: ...
    @property
    def num_bytes(self) -> int: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def failed(self) -> Mapping[str, str]: ...
    @property
    def seconds(self) -> float: ...


class Estimate(Protocol):
    """What is told of an export that was only planned."""

    @property
    def plan(self) -> Plan: ...
    @property
    def num_bytes(self) -> float: ...
    @property
    def num_pilot(self) -> int: ...
    @property
    def problems(self) -> Sequence[str]: ...


def format_dry_run(found: Estimate, layout: str) -> str:
    """Clips, hours and gigabytes by split, and what cannot be held."""
    plan = found.plan
    lines = [f"{layout}: {sum(plan.num_clips.values()):,} clips in {len(plan.shards):,} shards would be written"]
    for name, count in plan.num_clips.items():
        if count:
            lines.append(f"  {name:<6} {count:>10,} clips  {plan.num_samples[name]:>10,} samples  {plan.duration_s[name] / 3600:>10,.3g} h")
    lines.append(f"  size   about {found.num_bytes / 1e9:,.3g} GB, from {found.num_pilot} samples that were made and thrown away")
    lines += _refused(plan)
    lines += [f"  could not be made in the trial: {problem}" for problem in found.problems]
    return "\n".join(lines)


def format_export(result: Outcome, layout: str, out: str) -> str:
    """Counts, hours, size and time; then what is not in it and why."""
    plan = result.plan
    splits = ", ".join(f"{count:,} {name}" for name, count in plan.num_clips.items() if count)
    size = f", {result.num_bytes / 1e9:,.3g} GB" if result.num_bytes else ""
    lines = [f"{layout}: {result.num_samples:,} samples, {result.duration_s / 3600:,.3g} h{size} in {out}  ({splits} clips planned)"]
    lines += _refused(plan)
    if result.failed:
        lines.append(f"  failed: {len(result.failed):,} clips; they are in no index:")
        lines += [f"    {clip_id}  {message}" for clip_id, message in sorted(result.failed.items())[:20]]
    if plan.num_refused or result.failed:
        lines.append(f"  all of them by name: {out.rstrip('/')}/left_out.jsonl")
    lines.append(f"  {result.seconds:.1f} s")
    return "\n".join(lines)


def _refused(plan: Plan) -> list[str]:
    if not plan.num_refused:
        return []
    return [f"  the layout cannot hold {plan.num_refused:,} kept clips:", *(f"    {line}" for line in reasons(plan.refused))]
