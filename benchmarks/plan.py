"""How often the intervals of `curate plan` hold the truth, and how wide they are.

    python benchmarks/plan.py measure CONFIG FOLDER NAME [--sets FILE]     every source of a folder, once
    python benchmarks/plan.py judge [--sets FILE] [--seeds 400] [--pilot 16]

`measure` runs the pilot on all sources, which is the truth, and writes their numbers and headers
to a file. `judge` draws pilots from those numbers, as `curate plan` would, and prints for each set
and quantity in how many of the first ten seeds and in which share of all the interval holds the
measured total, and the median width of the interval over that total. The default file holds the
sets of `docs/decisions.md`; it names no source.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from curate.config import Limits, load_config
from curate.media.headers import Headers
from curate.pipelines.estimate import Range, draw
from curate.pipelines.plan import QUANTITIES, Pilot, all_headers, estimate, predicted, run_pilot
from curate.sources import Source, list_sources

SETS = Path(__file__).with_name("plan_sets.json")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    for name in ("config", "folder", "name"):
        one.add_argument(name)
    two = commands.add_parser("judge")
    two.add_argument("--seeds", type=int, default=400)
    two.add_argument("--pilot", type=int, default=16, help="sources")
    for command in (one, two):
        command.add_argument("--sets", type=Path, default=SETS)
    args = parser.parse_args()
    sets = json.loads(args.sets.read_text()) if args.sets.exists() else {}
    if args.command == "measure":
        sets[args.name] = measure(args.config, args.folder)
        args.sets.write_text(json.dumps(sets, separators=(",", ":")))
        return
    print("| set | sources | quantity | of 10 | of all | median width |\n|---|---|---|---|---|---|")
    for name, content in sets.items():
        for quantity, (first, share, width) in judge(content, args.seeds, args.pilot).items():
            num = len(content["pilot"])
            print(f"| {name} | {num} | {quantity} | {first} | {share:.2f} | {width:.2f} |")


def measure(config: str, folder: str) -> dict[str, Any]:
    """Numbers and headers of every source, to four digits."""
    sources = list(list_sources(folder))
    settings = load_config(config, [f"input={folder}", "max_failed_fraction=1"])
    headers = all_headers([source.url for source in sources], Limits())
    with tempfile.TemporaryDirectory() as place:
        pilots, _ = run_pilot(settings, sources, Path(place))
    return {
        "pilot": [_rounded(astuple(pilot)) for pilot in pilots],
        "headers": [None if one is None else _rounded(astuple(one)) for one in headers],
    }


def judge(content: dict[str, Any], seeds: int, num: int) -> dict[str, tuple[int, float, float]]:
    """Quantity -> how many of the first ten intervals hold the truth, which share of all, width."""
    pilots = [Pilot(*row) for row in content["pilot"]]
    headers = [None if row is None else Headers(*row) for row in content["headers"]]
    sources = [Source("", "", pilot.size_bytes) for pilot in pilots]
    predictions = predicted(sources, headers)
    costs = [one.cost_s for one in predictions]
    found: dict[str, list[Range]] = {quantity.name: [] for quantity in QUANTITIES}
    for seed in range(seeds):
        drawn = draw(costs, num, seed)
        some = [pilots[place] for place in drawn.places]
        for name, one in estimate(some, predictions, drawn.places, drawn.chances).items():
            found[name].append(one)
    verdicts = {}
    for quantity in QUANTITIES:
        truth = float(sum(getattr(pilot, quantity.column) for pilot in pilots))
        ranges = found[quantity.name]
        slack = 1e-6 * truth
        held = [one.low - slack <= truth <= one.high + slack for one in ranges]
        width = float(np.median([one.high - one.low for one in ranges])) / truth if truth else 0.0
        verdicts[quantity.name] = (sum(held[:10]), sum(held) / seeds, width)
    return verdicts


def _rounded(values: Sequence[object]) -> list[object]:
    return [float(f"{v:.4g}") if isinstance(v, float) else v for v in values]


if __name__ == "__main__":
    main()
