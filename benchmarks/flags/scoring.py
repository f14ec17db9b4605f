"""Runs scorers over cases and keeps their rows: a scorer is run again only where its code, its parameters or the case has changed.

A row holds the scorer's columns and `active_box`, the picture inside bars that the pass chose. A scorer that does not exist or breaks is
reported, and the others go on.
"""

import ast
import hashlib
import json
import math
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import TypeAdapter

import curate
from curate.clip import NS_PER_S, Span
from curate.config import Clips, Decode, Sampling
from curate.errors import CurateError
from curate.scan import Pass, ScanReport, scan
from curate.scorers import ACROSS, load, names
from curate.shots.params import Shots
from curate.sources import Source
from flags.compose import Case
from flags.flags import Flag
from flags.kinds import FILM_NAMES

Row = dict[str, Any]
BLOCK = 20
PIPELINE_KINDS = ("still", "slideshow", "freeze", "clean")


@dataclass(frozen=True)
class Options:
    """`kept` folder of rows; `redo` scorers; `parameters` JSON by scorer; `same_pass` keeps rows although the pass's code has changed."""

    kept: Path
    redo: Sequence[str] = ()
    parameters: Sequence[tuple[str, str]] = ()
    same_pass: bool = False
    jobs: int = 1


def rows(folder: Path, cases: Sequence[Case], flags: Sequence[Flag], options: Options) -> dict[str, dict[str, Row]]:
    """For each scorer that the flags need: case name -> row. Kept in `options.kept/SCORER.json`, also where it is interrupted."""
    wanted = list(dict.fromkeys(flag.scorer for flag in flags))
    for name in wanted:
        if name not in names():
            print(f"no scorer {name} yet: its flags are left out", file=sys.stderr)
    made = {case.name: (folder / f"{case.name}.json").stat().st_mtime_ns for case in cases}
    kept, marks = _kept([name for name in wanted if name in names()], options)
    todo = {case.name: [name for name in kept if kept[name].get(case.name, {}).get("_made") != made[case.name]] for case in cases}
    todo_cases = [case for case in cases if todo[case.name]]
    begun_s, done = time.process_time(), 0
    try:
        for block in _scored(folder, todo_cases, todo, dict(options.parameters), options.jobs):
            for case_name, by_scorer in block.items():
                for name, row in by_scorer.items():
                    kept[name][case_name] = row | {"_made": made[case_name]}
            done += len(block)
            if done % (10 * BLOCK) < BLOCK:
                print(
                    f"{done} of {len(todo_cases)} cases scanned, {time.process_time() - begun_s:.0f} s of CPU", file=sys.stderr, flush=True
                )
    finally:
        for name, mark in marks.items():
            _write(options.kept / f"{name}.json", {"mark": mark, "rows": kept[name]})
    for name in kept:
        broken = [row["_error"] for case_name, row in kept[name].items() if case_name in made and row.get("_error")]
        if broken:
            print(f"scorer {name} broke on {len(broken)} cases; the first: {broken[0]}", file=sys.stderr)
    return kept


def _kept(scorers: Sequence[str], options: Options) -> tuple[dict[str, dict[str, Row]], dict[str, list[str]]]:
    """The rows that still hold, and each scorer's mark: digest of its code, parameters, digest of the pass."""
    parameters, the_pass = dict(options.parameters), _code_mark("curate.scan")
    kept, marks = {}, {}
    for name in scorers:
        stored = _read(options.kept / f"{name}.json")
        mark, old = [_code_mark(f"curate.scorers.{name}"), parameters.get(name, ""), the_pass], stored.get("mark", ["", "", ""])
        if options.same_pass and old[2]:
            mark[2] = old[2]
        kept[name] = dict(stored.get("rows", {})) if old == mark and name not in options.redo else {}
        marks[name] = mark
    return kept, marks


def _scored(
    folder: Path, cases: Sequence[Case], todo: Mapping[str, list[str]], parameters: Mapping[str, str], jobs: int
) -> Iterable[dict[str, dict[str, Row]]]:
    blocks = [cases[n : n + BLOCK] for n in range(0, len(cases), BLOCK)]
    work = [(folder, block, {case.name: todo[case.name] for case in block}, dict(parameters)) for block in blocks]
    if jobs == 1:
        yield from map(_block, work)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_block, work)


def _block(work: tuple[Path, Sequence[Case], Mapping[str, list[str]], Mapping[str, str]]) -> dict[str, dict[str, Row]]:
    cv2.setNumThreads(1)
    folder, cases, todo, parameters = work
    found: dict[str, dict[str, Row]] = {}
    opened: dict[str, Any] = {}
    broken: dict[str, str] = {}
    for case in cases:
        for name in todo[case.name]:
            if name not in opened and name not in broken:
                try:
                    scorer = _scorer(name, parameters.get(name))
                    opened[name] = (scorer, scorer.open(None))
                except Exception as error:  # noqa: BLE001 - whatever breaks a scorer is reported
                    broken[name] = _said(error)
        found[case.name] = _case_rows(folder, case, {name: opened[name] for name in todo[case.name] if name in opened})
        for name in todo[case.name]:
            found[case.name].setdefault(name, {"_error": broken.get(name, "no row")})
    return found


def _scorer(name: str, parameters: str | None) -> Any:
    return TypeAdapter(load(name)).validate_json(parameters, strict=True) if parameters else load(name)()


def _case_rows(folder: Path, case: Case, opened: Mapping[str, Any]) -> dict[str, Row]:
    """The row of each scorer over the whole file as one span."""
    settings = Pass(Decode(threads=1), Sampling(), Shots(), Clips())
    found: dict[str, Row] = {}
    try:
        clips = list(_clips(folder, case, settings, {name: one[0].samples for name, one in opened.items()}, [_whole(case)]))
    except (CurateError, ValueError, cv2.error) as error:
        return {name: {"_error": _said(error)} for name in opened}
    if not clips[0].facts.is_scored:
        return {name: {"_error": f"{case.name}: too short to be scored"} for name in opened}
    for name, (scorer, score) in opened.items():
        try:
            row = dict(score([clips[0].samples[name]])[0])
            if hasattr(scorer, "settle"):
                scorer.settle([row])
            row.pop(ACROSS, None)
            facts = clips[0].facts
            row["active_box"] = [facts.active_x, facts.active_y, facts.active_width, facts.active_height]
            found[name] = _plain(row)
        except Exception as error:  # noqa: BLE001 - whatever breaks a scorer is reported
            found[name] = {"_error": _said(error)}
    return found


def _clips(folder: Path, case: Case, settings: Pass, wants: Mapping[str, Any], spans: Sequence[Span] | None) -> Iterable[Any]:
    source = Source(key=case.file, url=str(folder / case.file), size_bytes=0, etag=None, mtime_ns=0, caption=None)
    clips = list(scan(source, settings, wants, ScanReport(), spans))
    if not clips:
        raise ValueError(f"{case.name}: the pass gave no clip")
    return clips


def _whole(case: Case) -> Span:
    """The whole file as one span."""
    return Span(0, math.ceil(case.num_frames * NS_PER_S / Fraction(case.fps).limit_denominator(1001)))


def _said(error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {error} ({Path(where[-1].filename).name}:{where[-1].lineno})" if where else repr(error)


def _plain(row: Mapping[str, Any]) -> Row:
    """What JSON holds: faults become their messages, numbers of NumPy plain ones."""
    plain: Row = {}
    for key, value in row.items():
        if key == "faults":
            plain[key] = [f"{fault.kind}: {fault.message}" for fault in value]
        elif isinstance(value, np.generic):
            plain[key] = value.item()
        elif isinstance(value, (np.ndarray, list, tuple)):
            plain[key] = np.asarray(value).tolist()
        else:
            plain[key] = value
    return plain


def _code_mark(module: str) -> str:
    """A digest of a module of `curate` and of all that it imports from there."""
    digest = hashlib.sha256()
    for file in sorted(_imported(module, set())):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _imported(module: str, seen: set[Path]) -> set[Path]:
    root = Path(curate.__file__).parent.parent
    stem = root.joinpath(*module.split("."))
    file = stem.with_suffix(".py") if stem.with_suffix(".py").is_file() else stem / "__init__.py"
    if not file.is_file() or file in seen:
        return seen
    seen.add(file)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("curate"):
            _imported(str(node.module), seen)
            for name in node.names:
                _imported(f"{node.module}.{name.name}", seen)
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.startswith("curate"):
                    _imported(name.name, seen)
    return seen


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(content))
    aside.replace(path)


def pipeline(folder: Path, cases: Sequence[Case], parameters: Mapping[str, str]) -> list[tuple[Case, list[Row]]]:
    """Stills, slideshows, freezes and clean cases with shots found as a run finds them: each scored clip's row of `synthetic`."""
    scorer = _scorer("synthetic", parameters.get("synthetic"))
    score, settings = scorer.open(None), Pass(Decode(threads=1), Sampling(), Shots(), Clips())
    found = []
    for case in cases:
        if case.kind in PIPELINE_KINDS:
            clips = _clips(folder, case, settings, {"synthetic": scorer.samples}, None)
            lasting = [(clip.facts.duration_s, clip.samples["synthetic"]) for clip in clips if "synthetic" in clip.samples]
            found.append((case, [_plain(score([samples])[0]) | {"duration_s": seconds} for seconds, samples in lasting]))
    return found


def films(folder: Path, cases: Sequence[Case], parameters: Mapping[str, str]) -> list[tuple[Case, list[Row], list[Row]]]:
    """Whole sources with shots as a run finds them: the rows of `overlay` of their scored clips, alone and settled across the source."""
    scorer = _scorer("overlay", parameters.get("overlay"))
    score, settings = scorer.open(None), Pass(Decode(threads=1), Sampling(), Shots(), Clips())
    found = []
    for case in cases:
        if case.kind in FILM_NAMES:
            clips = _clips(folder, case, settings, {"overlay": scorer.samples}, None)
            alone = [score([clip.samples["overlay"]])[0] for clip in clips if "overlay" in clip.samples]
            settled = [dict(row) for row in alone]
            scorer.settle(settled)
            found.append((case, *([{k: row[k] for k in scorer.columns} for row in rows] for rows in (alone, settled))))
    return found
