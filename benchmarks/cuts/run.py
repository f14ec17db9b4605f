"""A labelled benchmark of shot boundaries: films composed from real single-shot footage, and the detectors in one table.

    python benchmarks/cuts/run.py compose --half tuning --work DIR --videos VIDEOS
    python benchmarks/cuts/run.py score   --half tuning --work DIR --videos VIDEOS [--only NAME ...] [--reuse NAME ...]

`compose` makes the films of a half (30 for tuning, 40 for testing; 5 to 7 minutes of CPU) and keeps them in DIR: videos, truth as JSON,
and the tiny frames that detectors see. `score` makes what is missing and prints the tables: the films, all and at each density, and the
files of VIDEOS/CUTS.json as they are, which have hand-checked cuts: {"file": {"hard": [first frame of each new shot], "gradual": [a frame
inside each]}}. TransNetV2 takes 10 ms a frame; `--reuse` takes a detector's answers from its last run in DIR. `--variant NAME JSON` adds
our detector with other parameters: the section `shots` of a configuration. Seeds give the same films anywhere; the halves share no
footage: choose on tuning, report on test. CPU time, one thread.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from curate.shots import Transition
from cuts import films, footage, tables
from cuts.compose import Truth
from cuts.contestants import Opener, contestants, detected
from cuts.films import Footage
from cuts.score import Tally, scored

GRADUAL_REACH = 12
"""CUTS.json names one frame of a gradual transition; its span is taken to reach this far on each side."""


def composed(half: str, options: argparse.Namespace) -> list[Footage]:
    options.work.mkdir(parents=True, exist_ok=True)
    recipes = films.recipes(half, options.seed)
    if not all(films.is_made(one, options.work) for one in recipes):
        pieces = footage.load(half, options.videos)
        for one in recipes:
            films.compose(one, pieces, options.work)
            print(
                f"{one.name}: {one.codec} {one.size[0]}x{one.size[1]}, {float(one.fps):.4g}/s, every {one.density}",
                file=sys.stderr,
                flush=True,
            )
    return films.load(options.work, recipes)


def real(videos: Path) -> list[Footage]:
    """The files of CUTS.json as they are."""
    marks = json.loads((videos / "CUTS.json").read_text())
    found = []
    for name, marked in sorted(marks.items()):
        if name.startswith("_"):
            continue
        film = films.decoded(videos / name)
        truth = [Truth(at, at, "cut", at, at) for at in marked["hard"]]
        truth += [_around(at, len(film.times_ns)) for at in marked["gradual"]]
        film.truth = sorted(truth, key=lambda one: one.first)
        found.append(film)
    return found


def _around(at: int, num_frames: int) -> Truth:
    first, clean = max(1, at - GRADUAL_REACH), min(num_frames - 1, at + GRADUAL_REACH)
    return Truth(first, clean, "gradual", first, clean)


def judged(opened: Opener, footage_: Sequence[Footage], kept: Path, may_reuse: bool) -> list[Tally]:
    """One tally a film; what was found is kept in a file after each, and taken from there if that is allowed and the films are no newer."""
    notes = [kept.parents[1] / f"{film.name}.json" for film in footage_]
    made_s = max((note.stat().st_mtime for note in notes if note.exists()), default=0.0)
    said = json.loads(kept.read_text()) if may_reuse and kept.exists() and kept.stat().st_mtime > made_s else {}
    kept.parent.mkdir(parents=True, exist_ok=True)
    opened()  # what a process loads once is no part of a film's time
    for film in footage_:
        if film.name not in said:
            found, cpu_s = detected(opened, film)
            said[film.name] = {"found": [[one.start_ns, one.end_ns, one.kind] for one in found], "cpu_s": cpu_s}
            kept.write_text(json.dumps(said))
    tallies = []
    for film in footage_:
        answer = said[film.name]
        tally = scored(film.truth, film.negatives, [Transition(*one) for one in answer["found"]], film.times_ns, film.end_ns)
        tallies.append(replace(tally, cpu_s=answer["cpu_s"], decode_cpu_s=film.decode_cpu_s))
    return tallies


def report(half: str, options: argparse.Namespace) -> Iterator[str]:
    known = contestants(dict(options.variant))
    sets = {half: composed(half, options)}
    if not options.films_only:
        sets["CUTS.json"] = real(options.videos)
    for title, footage_ in sets.items():
        yield f"\n## {title}: {len(footage_)} films\n"
        results = {}
        for name in options.only or known:
            results[name] = judged(known[name], footage_, options.work / "found" / f"{title}_{name}.json", name in options.reuse)
        yield from _section("all", footage_, results, lambda _: True)
        for density in sorted({film.density for film in footage_ if film.density}):
            yield from _section(f"a transition about every {density} frames", footage_, results, lambda film, d=density: film.density == d)


def _section(title: str, footage_: Sequence[Footage], results: dict[str, list[Tally]], wanted: Callable[[Footage], bool]) -> Iterator[str]:
    index = [n for n, film in enumerate(footage_) if wanted(film)]
    part = {name: [tallies[n] for n in index] for name, tallies in results.items()}
    lengths = [one.clean - one.first for n in index for one in footage_[n].truth]
    num_cuts = sum(length <= 5 for length in lengths)
    yield f"\n### {title}: {sum(len(footage_[n].times_ns) for n in index)} frames, {num_cuts} cuts, {len(lengths) - num_cuts} gradual\n"
    for table in (tables.accuracy, tables.cost, tables.recall, tables.alarms):
        yield from table(part)
        yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("compose", "score"))
    parser.add_argument("--half", choices=tuple(films.HALVES), required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the films")
    parser.add_argument("--videos", type=Path, default=Path("../shared/data/videos"), help="folder of videos with CUTS.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help=f"some of: {', '.join(contestants())}")
    parser.add_argument("--reuse", nargs="*", default=[], help="detectors whose last answers are taken")
    parser.add_argument(
        "--variant", nargs=2, action="append", default=[], metavar=("NAME", "JSON"), help="our detector with other parameters"
    )
    parser.add_argument("--films-only", action="store_true", help="without the files of CUTS.json")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.command == "compose":
        composed(options.half, options)
        return
    for line in report(options.half, options):
        print(line, flush=True)


if __name__ == "__main__":
    main()
