"""Counts over decided clips and sources: what `Summary` holds. Works on the ledger while it is decided and on what was published."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.decide.judge import failed, reason_names, skipped
from curate.decide.quantiles import FrozenRule
from curate.decide.rules import TOO_SHORT, null_reason
from curate.report.summary import AbsentScorer, ReasonCount, SourceProblem, Summary

MAX_PROBLEMS = 20


@dataclass(slots=True)
class ClipTally:
    """Sums over decided clips, table by table."""

    rules: Sequence[FrozenRule]
    num_clips: int = 0
    num_scored: int = 0
    num_kept: int = 0
    num_faulty: int = 0
    num_skipped: int = 0
    clips_s: float = 0.0
    kept_s: float = 0.0
    kept_snapped_s: float = 0.0
    valid: dict[str, int] = field(default_factory=dict)
    _counts: np.ndarray | None = None

    def add(self, table: pa.Table) -> None:
        keep = table["keep"]
        self.num_clips += len(table)
        self.num_scored += _sum(table["is_scored"])
        self.num_kept += _sum(keep)
        self.num_faulty += int(failed(table).sum())
        self.num_skipped += int(skipped(table).sum())
        self.clips_s += _sum(table["duration_s"])
        self.kept_s += _sum(table["duration_s"].filter(keep))
        self.kept_snapped_s += _sum(table["snapped_duration_s"].filter(keep))
        for one in self.rules:
            if one.fits:
                has_value = pc.and_(table["is_scored"], pc.invert(pc.is_null(table[one.rule.column], nan_is_null=True)))
                self.valid[one.name] = self.valid.get(one.name, 0) + _sum(has_value)
        counts = _reason_counts(table["drop_reasons"], reason_names(self.rules))
        self._counts = counts if self._counts is None else self._counts + counts

    def reasons(self, min_clip_s: float) -> tuple[ReasonCount, ...]:
        """Every reason in rule order; those of null values only where there are any."""
        names = reason_names(self.rules)
        counts = np.zeros((3, len(names)), dtype=np.int64) if self._counts is None else self._counts
        said = {TOO_SHORT: f"shorter than {min_clip_s:g} s, not scored"}
        for one in self.rules:
            said[one.name] = condition(one)
            said[null_reason(one.name)] = f"{one.rule.column} could not be computed"
        found = [ReasonCount(name, said[name], *(int(n) for n in counts[:, i])) for i, name in enumerate(names)]
        return tuple(reason for reason in found if reason.num_any or not reason.name.endswith(":null"))


@dataclass(slots=True)
class SourceTally:
    """Sums over sources, table by table."""

    statuses: dict[str, int] = field(default_factory=dict)
    decoded_s: float = 0.0
    num_shots: int = 0
    exact_s: float = 0.0
    snapped_s: float = 0.0
    problems: list[SourceProblem] = field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        for entry in pc.value_counts(table["status"]).to_pylist():
            self.statuses[entry["values"]] = self.statuses.get(entry["values"], 0) + entry["counts"]
        self.decoded_s += _sum(table["decoded_s"])
        self.num_shots += _sum(table["num_shots"])
        self.exact_s += _sum(table["exact_s"])
        self.snapped_s += _sum(table["snapped_s"])
        wrong = table.filter(pc.not_equal(table["status"], "ok")).slice(0, MAX_PROBLEMS - len(self.problems))
        columns = ("source_key", "status", "fault_message")
        self.problems += [SourceProblem(*row) for row in zip(*(wrong[name].to_pylist() for name in columns), strict=True)]


def condition(one: FrozenRule) -> str:
    """What a rule drops, in words: `motion_lvd below 0.031 (25th percentile of 61 clips)`."""
    rule = one.rule
    if rule.is_ is not None:
        return f"{rule.column} is {str(not rule.is_).lower()}"
    if rule.in_ is not None:
        return f"{rule.column} is none of {', '.join(rule.in_)}"
    parts = []
    for side, bound, word in (("min", one.low, "below"), ("max", one.high, "above")):
        fit = one.fits.get(side)
        fitted = f" ({ordinal(fit.percentile)} percentile of {fit.num_clips} clips)" if fit else ""
        if bound is not None or fit:
            parts.append(f"{word} {bound:.4g}{fitted}" if bound is not None else f"{word} a percentile that could not be fitted")
    return f"{rule.column} {' or '.join(parts)}"


def ordinal(number: float) -> str:
    """25 -> 25th, 1 -> 1st, 12.5 -> 12.5th."""
    if number != int(number) or 10 <= number % 100 <= 20:
        return f"{number:g}th"
    return f"{number:g}" + {1: "st", 2: "nd", 3: "rd"}.get(int(number) % 10, "th")


def summary(clips: ClipTally, sources: SourceTally, min_clip_s: float, absent: Sequence[AbsentScorer], notes: Sequence[str]) -> Summary:
    """Both tallies as one `Summary`."""
    statuses = sources.statuses
    num_quarantined = statuses.get("quarantined", 0)
    return Summary(
        num_sources=sum(statuses.values()),
        num_damaged=statuses.get("damaged", 0),
        num_failed=statuses.get("failed", 0) + num_quarantined,
        num_quarantined=num_quarantined,
        decoded_s=sources.decoded_s,
        num_shots=sources.num_shots,
        num_clips=clips.num_clips,
        num_scored=clips.num_scored,
        num_kept=clips.num_kept,
        num_faulty=clips.num_faulty,
        clips_s=clips.clips_s,
        kept_s=clips.kept_s,
        kept_snapped_s=clips.kept_snapped_s,
        exact_s=sources.exact_s,
        snapped_s=sources.snapped_s,
        reasons=clips.reasons(min_clip_s),
        problems=tuple(sources.problems),
        absent=tuple(absent),
        notes=tuple(notes),
    )


def _sum(values: pa.ChunkedArray) -> Any:
    """An int for integers and booleans, else a float; 0 where every value is null."""
    return pc.sum(values, min_count=0).as_py()


def _reason_counts(lists: pa.ChunkedArray, names: Sequence[str]) -> np.ndarray:
    """int64 (3, len(names)): clips with the reason, with the reason first, with no other reason."""
    lengths = pc.list_value_length(lists).to_numpy()
    codes = pc.index_in(pc.list_flatten(lists), value_set=pa.array(names, pa.string())).to_numpy()
    starts = np.cumsum(lengths) - lengths
    picks = (codes, codes[starts[lengths > 0]], codes[starts[lengths == 1]])
    return np.stack([np.bincount(pick, minlength=len(names)) for pick in picks])
