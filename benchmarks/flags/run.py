"""A labelled benchmark of the flags for synthetic clips.

    python benchmarks/flags/run.py compose --half tuning --work DIR --videos VIDEOS
    python benchmarks/flags/run.py score   --half tuning --work DIR [--only FLAG|SCORER ...] [--redo SCORER ...] [--csv FILE]
    python benchmarks/flags/run.py sheet   --half tuning --work DIR --kind KIND --out PICTURE.png

`compose` makes the cases of a half from real footage, seeded, and keeps them in DIR/HALF: a video and its truth each. What exists is
left alone (`--again KIND ...` makes kinds anew). `score` scans each case as one span over the whole file with every scorer that the
wanted flags need, keeps the rows in DIR/HALF/rows, redoes only scorers whose code or whose cases have changed (`--redo` forces one), and
prints a table: precision, recall, false-positive rate and average precision with intervals over originals, the gates, recall by strength,
and the worst errors by name. `--pipeline` scores with shots as a run finds them: stills, slideshows and freezes by the share of time
that is flagged, and films (`--kind film-logo film-watermark film-clean film-sign --only overlay`) clip by clip, alone and settled across
the source. `sheet` draws contact sheets. Choose on tuning, report on test: the halves share no footage.
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from flags import compose, kinds, measure, scoring, sheets, tables
from flags.flags import wanted
from flags.originals import Library


def _composed(options: argparse.Namespace, share: tuple[int, int] = (0, 1)) -> int:
    """Makes what is missing; `share` (k, n): each n-th block of 40 from the k-th."""
    cv2.setNumThreads(1)
    folder = options.work / options.half
    folder.mkdir(parents=True, exist_ok=True)
    library = Library(options.half, options.videos)
    planned = compose.recipes(options.half, options.seed, library.originals, options.kind)
    todo = [one for one in planned if one.kind.name in options.again or not compose.is_made(one, folder)]
    part = [one for n, one in enumerate(todo) if n // 40 % share[1] == share[0]]
    begun_s = time.process_time()
    for n, recipe in enumerate(part):
        try:
            compose.composed(recipe, library, folder)
        except ValueError as error:
            print(f"left out: {error}", file=sys.stderr, flush=True)
        if n % 50 == 49:
            print(
                f"{options.half}: {n + 1} of {len(part)} cases, {time.process_time() - begun_s:.0f} s of CPU", file=sys.stderr, flush=True
            )
    return len(part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("compose", "score", "sheet"))
    parser.add_argument("--half", choices=compose.HALVES, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps cases and rows")
    parser.add_argument("--videos", type=Path, default=Path("../shared/data/videos"), help="folder of videos")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", nargs="*", default=[], choices=kinds.NAMES, help="only these kinds of cases", metavar="KIND")
    parser.add_argument("--again", nargs="*", default=[], choices=kinds.NAMES, help="kinds to compose anew", metavar="KIND")
    parser.add_argument("--only", nargs="*", default=[], help="only these flags or scorers")
    parser.add_argument("--redo", nargs="*", default=[], help="scorers to run again whatever was kept")
    parser.add_argument("--parameters", nargs=2, action="append", default=[], metavar=("SCORER", "JSON"), help="a scorer's parameters")
    parser.add_argument("--rows", type=Path, help="folder that keeps the rows; default DIR/HALF/rows")
    parser.add_argument("--same-pass", action="store_true", help="keep rows although code that the scorer does not import has changed")
    parser.add_argument(
        "--pipeline", action="store_true", help="also what takes shots as a run finds them: stills, slideshows, freezes, films"
    )
    parser.add_argument("--errors", type=int, default=8, help="errors listed for each flag")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--out", type=Path, default=Path("sheet.png"))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.command == "compose":
        if options.jobs == 1:
            _composed(options)
            return
        with ProcessPoolExecutor(options.jobs) as pool:
            list(pool.map(_composed, [options] * options.jobs, [(k, options.jobs) for k in range(options.jobs)]))
        return
    folder = options.work / options.half
    cases = list(compose.load(folder, options.kind))
    if not cases:
        raise SystemExit(f"{folder} holds no cases: run `compose --half {options.half}` first")
    if options.command == "sheet":
        sheets.drawn(folder, cases, options.out)
        return
    flags = wanted(options.only)
    kept = (options.rows or folder / "rows").resolve()
    settings = scoring.Options(kept, options.redo, [(name, text) for name, text in options.parameters], options.same_pass, options.jobs)
    sources = cases
    cases = [case for case in sources if case.kind not in kinds.FILM_NAMES]
    rows = scoring.rows(folder, cases, flags, settings)
    results = [measure.measured(flag, cases, rows.get(flag.scorer, {})) for flag in flags]
    if cases:
        for line in tables.report(results, cases, options.errors):
            print(line)
    if options.pipeline:
        for line in tables.pipeline(scoring.pipeline(folder, cases, dict(options.parameters))):
            print(line)
        for line in tables.films(scoring.films(folder, sources, dict(options.parameters)), [f for f in flags if f.scorer == "overlay"]):
            print(line)
    if options.csv:
        tables.write_csv(options.csv, results)


if __name__ == "__main__":
    main()
