"""The summary at the end of a run: plain text, the same on a screen and in a pipe."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 100
_PAD = 12


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many clips have a drop reason: at all, before any other in rule order, and as their only one."""

    name: str
    condition: str
    num_any: int
    num_first: int
    num_alone: int


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """A source that is not ok."""

    key: str
    status: str
    message: str | None


@dataclass(frozen=True, slots=True)
class AbsentScorer:
    """An optional scorer whose package or weights were not found; its columns are null. `remedies` are the commands that get them."""

    name: str
    columns: tuple[str, ...]
    remedies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a manifest holds. `num_failed` counts sources that gave nothing, the quarantined among them.

    exact_s    clips of at least min_clip_s, over all sources
    snapped_s  what is left of those when they are snapped to keyframes
    """

    num_sources: int
    num_damaged: int
    num_failed: int
    num_quarantined: int
    decoded_s: float
    num_shots: int
    num_clips: int
    num_scored: int
    num_kept: int
    num_faulty: int
    clips_s: float
    kept_s: float
    kept_snapped_s: float
    exact_s: float
    snapped_s: float
    reasons: tuple[ReasonCount, ...]
    problems: tuple[SourceProblem, ...] = ()
    absent: tuple[AbsentScorer, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def num_ok(self) -> int:
        return self.num_sources - self.num_damaged - self.num_failed


@dataclass(frozen=True, slots=True)
class Effort:
    """What the run that printed the summary did itself; `num_clips` of 0 means that everything was there already."""

    seconds: float
    num_clips: int
    decoded_s: float


def format_summary(summary: Summary, folder: str, effort: Effort | None = None) -> str:
    """The text, without a line end; says first what has to be mended."""
    blocks = [
        _absent(summary.absent),
        _sources(summary),
        _line("Video", f"{duration(summary.decoded_s)} decoded, {count(summary.num_shots, 'shot')}, {count(summary.num_clips, 'clip')}"),
        _reasons(summary),
        _kept(summary),
        _yield(summary),
        _line("Time", _effort(effort)) if effort else "",
        _block("Note", summary.notes),
        _line("Manifest", folder),
        _line("Open it", f'python -c "import pandas as pd; print(pd.read_parquet({folder + "/clips"!r}))"'),
    ]
    return "\n".join(block for block in blocks if block)


def duration(seconds: float) -> str:
    """`41 s`, `12.3 min` or `5.81 h`."""
    if seconds < 120:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.2f} h"


def count(number: int, noun: str) -> str:
    """`1 clip`, `2,000 clips`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def percent(part: float, whole: float) -> str:
    """`43.1 %`, or `-` of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _line(head: str, text: str) -> str:
    return f"{head:<{_PAD}}{text}"


def _block(head: str, lines: Sequence[str]) -> str:
    return "\n".join(_line(head if i == 0 else "", line) for i, line in enumerate(lines))


def _absent(absent: Sequence[AbsentScorer]) -> str:
    if not absent:
        return ""
    lines = ["!" * WIDTH]
    for one in absent:
        columns = ", ".join(one.columns)
        lines.append(f"!!  NOT SCORED: {one.name}. Its package or weights were not found, so these columns are null: {columns}")
        lines += [f"!!  To get them:  {remedy}" for remedy in one.remedies]
    lines += ["!!  Then start the same run again: only what is missing is scored.", "!" * WIDTH]
    return "\n".join(lines)


def _sources(summary: Summary) -> str:
    states = [
        f"{summary.num_ok:,} ok",
        f"{summary.num_damaged:,} damaged (clips before the fault are there)" if summary.num_damaged else "",
        f"{summary.num_failed:,} failed" if summary.num_failed else "",
        f"of those {summary.num_quarantined:,} quarantined (`curate retry` tries them again)" if summary.num_quarantined else "",
    ]
    lines = [f"{summary.num_sources:,}: {', '.join(state for state in states if state)}"]
    lines += [f"  {one.status:<12}{one.key}: {_first_line(one.message)}" for one in summary.problems]
    unshown = summary.num_damaged + summary.num_failed - len(summary.problems)
    if unshown > 0:
        lines.append(f"  and {unshown:,} more; see column `status` in sources/")
    return _block("Sources", lines)


def _first_line(message: str | None) -> str:
    text = (message or "no reason was recorded").strip().splitlines()[0]
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}..."


def _reasons(summary: Summary) -> str:
    if not summary.reasons:
        return ""
    width = max(len("drop reason"), *(len(one.name) for one in summary.reasons))
    lines = [f"{'drop reason':<{width}}  {'any':>9}  {'first':>9}  {'alone':>9}  drops clips where"]
    lines += [
        f"{one.name:<{width}}  {one.num_any:>9,}  {one.num_first:>9,}  {one.num_alone:>9,}  {one.condition}" for one in summary.reasons
    ]
    return _block("Dropped", lines)


def _kept(summary: Summary) -> str:
    clips = f"{summary.num_kept:,} of {count(summary.num_clips, 'clip')} ({percent(summary.num_kept, summary.num_clips)})"
    time = f"{duration(summary.kept_s)} of {duration(summary.clips_s)} ({percent(summary.kept_s, summary.clips_s)})"
    faulty = f"{count(summary.num_faulty, 'clip')} with values that could not be computed; see column `faults`"
    return _block("Kept", [f"{clips}, {time}", *([faulty] if summary.num_faulty else [])])


def _yield(summary: Summary) -> str:
    spans = (("exact spans", summary.exact_s, summary.kept_s), ("snapped to keyframes", summary.snapped_s, summary.kept_snapped_s))
    lines = []
    for name, clips_s, kept_s in spans:
        share = percent(clips_s, summary.decoded_s)
        lines.append(f"{name:<21} {duration(clips_s):>9} of clips long enough ({share} of the video), {duration(kept_s)} kept")
    return _block("Yield", lines)


def _effort(effort: Effort) -> str:
    if not effort.num_clips:
        return f"{duration(effort.seconds)}; nothing had to be decoded"
    rate = effort.num_clips / effort.seconds if effort.seconds else 0.0
    speed = effort.decoded_s / effort.seconds if effort.seconds else 0.0
    return f"{duration(effort.seconds)}, {rate:.2f} clips/s, {speed:.1f} s of video a second"
