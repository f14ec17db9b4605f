"""A fine-tune on Ray Train: the job that torchrun would run, on the cluster that curated.

    this process   holds OUT, starts Ray or joins a cluster, shows what rank 0 says, begins again after a death
    each worker    `pipelines.finetune.train_here` in a process group that Ray Train (TorchTrainer) has set up

Of Ray Train its starting, placing and watching of workers is used; checkpoints are our own, which go on to the bit. So when a worker dies,
its group is ended and a new one goes on from OUT. What the user must mend (`CurateError`) is not tried again: it arrives here as it is.
"""

import contextlib
import io
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from curate.config import Config, weights_folders
from curate.errors import ConfigError, CurateError
from curate.manifest import files
from curate.manifest.lock import locked
from curate.pipelines.engine.cluster import connected
from curate.pipelines.finetune import FinetuneResult, check_device, train_here
from curate.svd.settings import Finetune
from curate.svd.state import TrainingError, checkpoints

POLL_S = 0.25
WAIT_S = 30.0  # before a person is told what is waited for
MARK_S = 20.0  # network file systems show another machine's new file after their cache's time, 3 s and more
MARK_PREFIX = f"{files.ASIDE_PREFIX}ray-"
START_ATTEMPTS = 10  # each waits a minute for free resources; a cluster that grows needs several


@dataclass(frozen=True, slots=True)
class _Fault:
    """How training ended in one worker. `error` is set where the user can mend it; `is_bug` where trying again would end the same way."""

    error: CurateError | None
    is_bug: bool
    text: str

    @classmethod
    def of(cls, error: Exception) -> "_Fault":
        own = error if isinstance(error, CurateError) else None
        # torch tells of lost peers, and of broken devices, by RuntimeErrors.
        return cls(own, not isinstance(error, (RuntimeError, OSError)), "".join(traceback.format_exception(error)))


@dataclass(slots=True)
class _News:
    """What workers have told: who has begun (rank -> host), lines for people, how workers ended, and rank 0's result."""

    begun: dict[int, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    faults: dict[int, _Fault] = field(default_factory=dict)
    result: FinetuneResult | None = None


class _Host:
    """Runs Ray Train, and takes what workers tell; an actor on the driver's machine, whose end ends everything that it started.

    Not a thread of the driver: that would have to be waited for before Ray is left, or Ray crashes the process (2.60).
    """

    def __init__(self) -> None:
        self._lock, self._news = threading.Lock(), _News()

    def fit(self, job: "_Job", num_workers: int) -> str | None:
        """Returns when all workers have ended: how, where that was not well."""
        from ray.train import TrainingFailedError

        with self._lock:
            self._news = _News()
        with tempfile.TemporaryDirectory(prefix="curate-ray-") as scratch:
            try:
                _trainer(replace(job, host=ray.get_runtime_context().current_actor), num_workers, scratch).fit()
            except TrainingFailedError as error:
                return str(error)
        return None

    def begin(self, rank: int, machine: str) -> None:
        with self._lock:
            # Ray itself begins a group again whose machine is taken away; how the group before ended does not matter then.
            self._news.faults.pop(rank, None)
            self._news.begun[rank] = machine

    def say(self, text: str) -> None:
        with self._lock:
            self._news.lines.append(text)

    def fail(self, rank: int, fault: _Fault) -> None:
        with self._lock:
            self._news.faults[rank] = fault

    def finish(self, result: FinetuneResult) -> None:
        with self._lock:
            self._news.result = result

    def take(self) -> _News:
        """All that is known; the lines since the last time."""
        with self._lock:
            taken, self._news = self._news, replace(self._news, lines=[])
        return taken


class _Line(io.TextIOBase):
    """A worker's end of the driver's stream."""

    def __init__(self, host: Any) -> None:
        self._host = host

    def write(self, text: str) -> int:
        ray.get(self._host.say.remote(text))  # waited for, so that lines keep their order
        return len(text)


@dataclass(frozen=True, slots=True)
class _Job:
    """What a worker needs to know; `folder` is where the command was started, and `mark` a file in OUT that every worker must see."""

    settings: Finetune
    folder: str
    mark: str
    host: Any = None


def finetune(settings: Finetune, stream: TextIO | None = None) -> FinetuneResult:
    """`pipelines.finetune.finetune` with `engine: ray`. Raises `CurateError`; a KeyboardInterrupt stops the workers."""
    from torch import distributed

    if distributed.is_torchelastic_launched():
        raise ConfigError("engine=ray starts its own processes: start it once, without torchrun, or set engine=local")
    if ray.is_initialized():
        raise ConfigError("engine=ray: this process is connected to Ray already; call ray.shutdown() first, or use another process")
    start = time.monotonic()
    out = Path(settings.out).expanduser().absolute()
    settings = settings.model_copy(update={"out": str(out)})
    files.make_folder(out)
    with locked(out), _mark(out) as mark, connected(settings.ray_address, max(settings.workers, os.cpu_count() or 1)):
        result = _tried(_Job(settings, str(Path.cwd()), mark), _num_workers(settings), stream or sys.stderr)
    return replace(result, seconds=time.monotonic() - start)


def _tried(job: _Job, num_workers: int, stream: TextIO) -> FinetuneResult:
    """Begins again as often as `max_restarts` allows without a new checkpoint in between."""
    folder, most = Path(job.settings.out) / "checkpoints", job.settings.max_restarts
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(_Host)
    host = actor.options(num_cpus=0, max_concurrency=num_workers + 2, scheduling_strategy=here).remote()
    failures, step = 0, _last_step(folder)
    while True:
        news, error = _attempt(host, job, num_workers, stream)
        if error is None and news.result is not None:
            return news.result
        _raise_unless_worth_another(news, error, num_workers)
        before, step = step, _last_step(folder)
        failures = 1 if step > before else failures + 1
        why = _why(news)
        if failures > most:
            raise TrainingError(
                f"{why}. Tried {failures} times without a new checkpoint in between, as max_restarts={most} allows; checkpoints up to step "
                f"{step:,} stay, and the same command goes on from there"
            )
        stream.write(f"{why}; going on from {f'step {step:,}' if step else 'the beginning'} (restart {failures} of {most})\n")
        stream.flush()


def _attempt(host: Any, job: _Job, num_workers: int, stream: TextIO) -> tuple[_News, str | None]:
    """One group of workers from its start to its end; what they told, and how Ray Train says that it ended."""
    ended, start, is_told = host.fit.remote(job, num_workers), time.monotonic(), False
    while not ray.wait([ended], timeout=POLL_S)[0]:
        news = _shown(host, stream)
        if not news.begun and not is_told and time.monotonic() - start > WAIT_S:
            is_told, free = True, ray.available_resources()
            free_text = f"{free.get('GPU', 0):g} GPUs, {free.get('CPU', 0):g} CPUs"
            stream.write(f"waiting for {_needed(job.settings, num_workers)}; free in Ray: {free_text}\n")
            stream.flush()
    error: str | None = ray.get(ended)
    return _shown(host, stream), error


def _shown(host: Any, stream: TextIO) -> _News:
    news: _News = ray.get(host.take.remote())
    if news.lines:
        stream.write("".join(news.lines))
        stream.flush()
    return news


def _trainer(job: _Job, num_workers: int, scratch: str) -> Any:
    from ray import train
    from ray.train.torch import TorchConfig, TorchTrainer

    of: Any = train  # typed as its first version, which these options are not of

    is_cuda = job.settings.device == "cuda"
    named = weights_folders(Config())  # of CURATE_MODELS, which other machines may not have
    variables = {"CURATE_MODELS": str(named[0].absolute())} if named else {}
    return TorchTrainer(
        _work,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if is_cuda else "gloo"),
        scaling_config=of.ScalingConfig(num_workers=num_workers, use_gpu=is_cuda),
        run_config=of.RunConfig(
            storage_path=scratch,  # nothing is reported to Ray; the default is a folder in the user's home
            failure_config=of.FailureConfig(max_failures=0, controller_failure_limit=START_ATTEMPTS),
            worker_runtime_env={"env_vars": variables},
        ),
    )


def _work(config: Mapping[str, Any]) -> None:
    """In each worker, after Ray Train has set up the process group."""
    from ray.train.torch import get_device

    from curate.svd.train import Ranks

    job: _Job = config["job"]
    settings, host, ranks = job.settings, job.host, Ranks.here()
    ray.get(host.begin.remote(ranks.rank, socket.gethostname()))
    try:
        _check_mark(Path(job.mark))
        if Path(job.folder).is_dir():
            os.chdir(job.folder)  # relative paths in the settings begin there
        check_device(settings)
        # Workers of one machine see each other's GPUs; Ray knows which is this one's.
        result = train_here(settings, ranks, get_device(), cast(TextIO, _Line(host)))
    except Exception as error:
        ray.get(host.fail.remote(ranks.rank, _Fault.of(error)))
        raise
    if ranks.rank == 0:
        ray.get(host.finish.remote(result))


def _check_mark(mark: Path, wait_s: float = MARK_S) -> None:
    deadline = time.monotonic() + wait_s
    while not mark.exists():
        if time.monotonic() > deadline:
            raise ConfigError(
                f"out={mark.parent}: the machine {socket.gethostname()} does not see what the one that started the command wrote there; "
                "engine=ray needs a folder that all machines of the cluster share"
            )
        time.sleep(POLL_S)


def _raise_unless_worth_another(news: _News, error: str | None, num_workers: int) -> None:
    """What the user can mend, the lowest rank's first; then what must be a bug; then a group that did not come about at all."""
    for _, fault in sorted(news.faults.items()):
        if fault.error is not None:
            raise fault.error
    bugs = [fault.text for _, fault in sorted(news.faults.items()) if fault.is_bug]
    if bugs:
        raise RuntimeError(f"in a training process:\n{bugs[0]}")
    if not news.begun:
        raise TrainingError(f"Ray could not start {num_workers} training processes: {_last_line(error or 'no reason is known')}")
    if error is None:
        raise RuntimeError("training ended without a result")


def _why(news: _News) -> str:
    silent = sorted(set(news.begun) - set(news.faults))
    if silent:
        named = ", ".join(f"{rank} on {news.begun[rank]}" for rank in silent)
        many = len(silent) > 1
        return f"training process{'es' if many else ''} {named} died (killed, crashed, or out of memory)"
    rank, fault = min(news.faults.items())
    return f"training process {rank} on {news.begun[rank]} failed: {_last_line(fault.text)}"


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1].strip()


def _last_step(folder: Path) -> int:
    written = checkpoints(folder)
    return int(written[-1].name.rpartition("-")[2]) if written else 0


@contextlib.contextmanager
def _mark(out: Path) -> Iterator[str]:
    for stale in out.glob(f"{MARK_PREFIX}*"):
        stale.unlink(missing_ok=True)
    path = out / f"{MARK_PREFIX}{secrets.token_hex(4)}"
    files.write_file(path, b"")
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)


def _num_workers(settings: Finetune) -> int:
    kind, seen = ("GPU" if settings.device == "cuda" else "CPU"), ray.cluster_resources()
    most = int(seen.get(kind, 0))
    count = settings.workers or (most if kind == "GPU" else 1)
    if not 0 < count <= most:
        need = _needed(settings, max(1, count))
        raise ConfigError(f"engine=ray needs {need}, Ray sees {most} {kind}s; set workers=, or another ray_address=")
    return count


def _needed(settings: Finetune, count: int) -> str:
    kind = "GPU" if settings.device == "cuda" else "CPU"
    return f"{count} {kind}{'s' if count > 1 else ''}, one for each training process"
