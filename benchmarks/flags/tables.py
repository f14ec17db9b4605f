"""The benchmark's tables in Markdown and as CSV."""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flags.compose import Case
from flags.flags import Flag
from flags.kinds import KINDS
from flags.measure import Judged, Result, half_recall_level

HEADINGS = (
    "flag", "positives (gated)", "negatives", "originals", "precision", "recall", "gated recall", "false positives %",
    "average precision", "box", "gate",
)  # fmt: skip


def report(results: Sequence[Result], cases: Sequence[Case], num_errors: int) -> Iterator[str]:
    yield f"\n{len(cases)} cases of {len({case.scenes[0] for case in cases})} originals; 95 % intervals over originals\n"
    yield "| " + " | ".join(HEADINGS) + " |"
    yield "|---" * len(HEADINGS) + "|"
    for result in results:
        yield _line(result)
    yield "\nRecall by strength (found / made; * counts for the gate):"
    for result in results:
        yield from _strengths(result)
    for result in results:
        yield from _errors(result, num_errors)


def _line(result: Result) -> str:
    num_originals = len({one.case.scenes[0] for one in result.positives}), len({one.case.scenes[0] for one in result.negatives})
    cells = [
        result.flag.name,
        f"{len(result.positives)} ({len(result.gated)})",
        str(len(result.negatives)),
        f"{num_originals[0]} / {num_originals[1]}",
    ]
    if not result.is_scored:
        return "| " + " | ".join([*cells, *["not scored"] * (len(HEADINGS) - 4)]) + " |"
    cells += [_span(result.precision), _span(result.recall), _span(result.gated_recall) if result.gated else ""]
    cells += [_span(tuple(100 * value for value in result.false_rate), 2), _span(result.average_precision)]
    cells.append(f"{result.mean_overlap:.2f}" if result.mean_overlap is not None else "")
    cells.append("" if not result.flag.is_gated else "met" if result.meets_gate else "MISSED")
    line = "| " + " | ".join(cells) + " |"
    return line + (f" {result.num_null} nulls" if result.num_null else "")


def _span(values: Sequence[float], digits: int = 3) -> str:
    if values[0] != values[0]:
        return ""
    return f"{values[0]:.{digits}f} ({values[1]:.{digits}f} to {values[2]:.{digits}f})"


def _strengths(result: Result) -> Iterator[str]:
    by_name = {kind.name: kind for kind in KINDS}
    for name, levels in sorted(result.by_kind.items()):
        kind = by_name[name]
        if not result.is_scored or kind.flag != result.flag.name:
            continue
        cells = [f"{level:g}{'*' if kind.is_gated(level) else ''}: {hits}/{num}" for level, (hits, num) in levels.items()]
        weak = half_recall_level(levels, kind.gate_to < float("inf"))
        yield (
            f"  {result.flag.name} [{name}, {kind.unit}] "
            + "  ".join(cells)
            + (f"  under one half at {weak:g}" if weak is not None else "")
        )


def _errors(result: Result, num: int) -> Iterator[str]:
    if not result.is_scored or not num:
        return
    false = sorted((one for one in result.negatives if one.is_flagged), key=lambda one: -(one.weight or 0))
    missed = sorted((one for one in result.gated or result.positives if not one.is_flagged), key=lambda one: one.weight or -1e9)
    for title, part in (("false", false), ("missed", missed)):
        if part:
            kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(one.case.kind for one in part).most_common(6))
            yield f"\n{result.flag.name}: {len(part)} {title} ({kinds})"
            yield from (_named(one) for one in part[:num])


def _named(one: Judged) -> str:
    case, weight = one.case, "null" if one.weight is None else f"{abs(one.weight):.4g}"
    null = " said nothing," if one.said is None else ""
    coded = f"{case.encoding}, {case.size[0]}x{case.size[1]}, {case.fps:.4g}/s, {case.num_frames} frames"
    return f"  {case.name} {case.level:g}:{null} evidence {weight}, {coded}; {case.note}"


def write_csv(path: Path, results: Sequence[Result]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = ("precision", "recall", "gated_recall", "false_rate", "average_precision")
        bounds = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
        writer.writerow(
            ["flag", "gated", "positives", "gated_positives", "negatives", "originals", *bounds, "mean_box_overlap", "nulls", "meets_gate"]
        )
        for result in results:
            counts = [len(result.positives), len(result.gated), len(result.negatives), len({one.case.scenes[0] for one in result.judged})]
            values = [f"{value:.5f}" if value == value else "" for name in names for value in getattr(result, name)]
            gate = result.meets_gate if result.flag.is_gated and result.is_scored else ""
            writer.writerow([result.flag.name, result.flag.is_gated, *counts, *values, result.mean_overlap, result.num_null, gate])


def pipeline(found: Sequence[tuple[Case, list[Mapping[str, Any]]]]) -> Iterator[str]:
    """With shots as a run finds them: the share of time in clips that carry a flag that fits, and of clean time that carries any."""
    wanted = {
        "still": ("synthetic_is_still",),
        "slideshow": ("synthetic_is_slideshow", "synthetic_is_still", "synthetic_is_ken_burns"),
        "freeze": ("synthetic_has_freeze", "synthetic_is_still"),
        "clean": ("synthetic_is_still", "synthetic_is_slideshow", "synthetic_is_ken_burns", "synthetic_has_freeze"),
    }
    yield "\nWith shots found as in a run (clips of 2 s and more):"
    for kind, names in wanted.items():
        part = [(case, rows) for case, rows in found if case.kind == kind]
        seconds = sum(row["duration_s"] for _, rows in part for row in rows)
        flagged = sum(row["duration_s"] for _, rows in part for row in rows if any(row.get(name) for name in names))
        lost = sum(not rows for _, rows in part)
        if part:
            share = 100 * flagged / seconds if seconds else float("nan")
            counts = f"{len(part)} cases, {lost} without a clip of 2 s"
            yield f"  {kind}: {counts}; {share:.1f} % of {seconds:.0f} s of clips carry {' or '.join(names)}"


def films(found: Sequence[tuple[Case, list[Mapping[str, Any]], list[Mapping[str, Any]]]], flags: Sequence[Flag]) -> Iterator[str]:
    """Recall and false positives over the clips of whole sources, each clip by itself and settled across its source's clips."""
    if not found:
        return
    yield "\nClips of films, shots found as in a run (found / clips; recall over films that count for the gate):\n"
    yield "| flag | films with / without | recall alone | recall across | false alone | false across |"
    yield "|---" * 6 + "|"
    for flag in flags:
        judged = [(case.truth[flag.name], alone, across, case) for case, alone, across in found if flag.name in case.truth]
        having = [one for one in judged if one[0] and one[3].is_gated and one[3].flag == flag.name]
        lacking = [one for one in judged if not one[0]]
        if having and lacking:
            cells = [_said(part, side, flag) for part in (having, lacking) for side in (1, 2)]
            yield f"| {flag.name} | {len(having)} / {len(lacking)} | " + " | ".join(cells) + " |"
    for kind in dict.fromkeys(case.kind for case, _, _ in found):
        for flag in flags:
            part = [
                (case.truth[flag.name], alone, across, case)
                for case, alone, across in found
                if case.kind == kind and flag.name in case.truth
            ]
            levels = sorted({one[3].level for one in part})
            if part and part[0][0]:
                by_level = ((level, [one for one in part if one[3].level == level]) for level in levels)
                yield f"  {flag.name} [{kind}] " + "  ".join(
                    f"{level:g}: {_said(p, 1, flag)} > {_said(p, 2, flag)}" for level, p in by_level
                )
            elif part and any(flag.said(row) for one in part for side in (1, 2) for row in one[side]):
                yield f"  {flag.name} [{kind}] false {_said(part, 1, flag)} > {_said(part, 2, flag)}"


def _said(part: Sequence[tuple[Any, ...]], side: int, flag: Flag) -> str:
    said = [bool(flag.said(row)) for one in part for row in one[side]]
    return f"{sum(said) / max(1, len(said)):.3f} ({sum(said)}/{len(said)})"
