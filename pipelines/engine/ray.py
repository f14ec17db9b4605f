"""Shards on Ray actors: bounded work in flight, and a worker's death costs the source it was at, nothing else.

A segfault in a decoder, `kill -9` and the out-of-memory killer all arrive as the death of the actor. The worker has left a note of the
source it was at; that source is tried `max_attempts` times and then quarantined with the reason, and its shard goes on without it.

A worker that hangs is ended once its note has not been touched for `stall_s`; one that takes more than `worker_gb` ends itself, with
its last words in the note. Both then count as deaths.

A task that answers with a `Split` waits for the others without a worker; they go to the front of the queue.

A cluster that is lost (its head, or the node of the driver) ends the run with an error; what is committed stays, and the next run goes on.
"""

import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from curate.errors import ConfigError, CurateError
from curate.models import Forward, ModelSpec, load_model
from pipelines.engine.memory import guard_memory
from pipelines.events import Event, Report, WorkerDied
from pipelines.work import Split, Task, Work

POLL_S = 0.25
HEAD_POLL_S, HEAD_LOST_S = 5.0, 30.0  # a head that is started again keeps its jobs; Ray itself ends a process after 60 s without one
TORCH_MODELS = (
    "clip_image",
    "clip_text",
    "svd_vae",
    "svd_image_encoder",
)  # worth an actor; text detection runs on the CPU, a LAION head is one dot product
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class RaySettings:
    """`workers` 0: one for each core of the machine or of the cluster at `address`; `model_actors` 0: every worker has its own models.

    `stall_s`, `worker_gb`: see the module; None: not watched.
    """

    workers: int = 0
    max_attempts: int = 2
    model_actors: int = 0
    address: str | None = None
    stall_s: float | None = None
    worker_gb: float | None = None


class _Inbox:
    """Collects events from the workers; the driver empties it."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def put(self, event: Event) -> None:
        self._events.append(event)

    def take(self) -> list[Event]:
        events, self._events = self._events, []
        return events


class _Worker:
    """One process that decodes. Opens its scorers once, then takes shards."""

    def __init__(self, work: Work, inbox: Any, worker_gb: float | None) -> None:
        self._notes, self._task = work.notes, ""
        if worker_gb is not None:
            guard_memory(worker_gb, self._say_why)
        self._worker = work.open()
        self._inbox = inbox

    def _say_why(self, reason: str) -> None:
        self._notes.explain(self._task, reason)

    def run(self, task: Task) -> Split | None:
        self._task = task.name
        return self._worker.run(task, lambda event: self._inbox.put.remote(event) and None)


class _ModelHost:
    """One process that holds models, on a GPU where there is one; each worker has one call in flight."""

    def forward(self, spec: ModelSpec, inputs: Sequence[Any]) -> Any:
        return load_model(spec)(inputs)


@dataclass(frozen=True, slots=True)
class _HostedModels:
    """A model loader for workers: the same forwards, behind the hosts. A scorer cannot tell."""

    hosts: tuple[Any, ...]

    def __call__(self, spec: ModelSpec) -> Forward:
        if spec.kind not in TORCH_MODELS:
            return load_model(replace(spec, device="cpu"))
        host = self.hosts[os.getpid() % len(self.hosts)]
        forward: Callable[[Sequence[Any]], Any] = lambda inputs: ray.get(host.forward.remote(spec, inputs))  # noqa: E731
        return forward


def run(tasks: Sequence[Task], work: Work, report: Report, settings: RaySettings) -> None:
    """Runs every task on Ray actors. Raises what the work raises (`CurateError`), after stopping the workers."""
    workers = settings.workers
    _start(workers, settings.address)
    try:
        if settings.model_actors:
            work = work.with_models(replace(work.models, loader=_HostedModels(_hosts(settings.model_actors, work.models.device))))
        _Run(work, report, workers or int(ray.cluster_resources().get("CPU", 1)), settings).run(tasks)
    finally:
        ray.shutdown()


def _hosts(count: int, device: str) -> tuple[Any, ...]:
    needs_gpu = device == "cuda"
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if needs_gpu and gpus < count:
        raise ConfigError(f"model_actors={count} on device=cuda needs {count} GPUs, Ray sees {gpus}; use device=cpu or fewer model_actors")
    actor: Any = ray.remote(num_cpus=0, num_gpus=1 if needs_gpu else 0)(_ModelHost)
    return tuple(actor.remote() for _ in range(count))


def _start(workers: int, address: str | None) -> None:
    # One thread a process: parallelism is across sources, and thread counts must not change results.
    variables = dict.fromkeys(THREAD_VARIABLES, "1")
    if address:
        ray.init(address=address, runtime_env={"env_vars": variables}, log_to_driver=False, logging_level=logging.ERROR)
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # "local": without it Ray joins whatever cluster runs on this machine.
    ray.init(
        "local",
        num_cpus=workers or os.cpu_count(),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": variables},
    )


@dataclass(slots=True)
class _Waiting:
    """A task that was split, and how many of those before it are not done."""

    task: Task
    num_left: int


class _Head:
    """The head of the cluster, which must answer now and then: Ray says nothing for a minute and then ends the process."""

    def __init__(self) -> None:
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._address = (host, int(port))
        self._asked = self._heard = time.monotonic()

    def check(self) -> None:
        """Raises `CurateError` once the head has not answered for `HEAD_LOST_S`."""
        now = time.monotonic()
        if now - self._asked < HEAD_POLL_S:
            return
        self._asked = now
        try:
            socket.create_connection(self._address, timeout=1.0).close()
            self._heard = now
        except OSError as error:
            if now - self._heard >= HEAD_LOST_S:
                raise _lost(f"its head at {self._address[0]}:{self._address[1]} does not answer ({error})") from error


def _lost(what: str) -> CurateError:
    return CurateError(f"the Ray cluster was lost: {what}. What is done is kept: start the same command again to go on")


class _Run:
    """The driver's side: who works on what, who died, and what is left."""

    def __init__(self, work: Work, report: Report, workers: int, settings: RaySettings) -> None:
        self._work, self._report, self._workers, self._max_attempts = work, report, workers, settings.max_attempts
        self._stall_s, self._worker_gb = settings.stall_s, settings.worker_gb
        here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._inbox: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(_Inbox).remote()
        self._head = _Head()
        self._deaths: Counter[tuple[str, str | None]] = Counter()  # by task and the source that the worker was at, None before the first
        self._queue: deque[Task] = deque()
        self._running: dict[Any, tuple[Any, Task]] = {}
        self._idle: list[Any] = []
        self._heard: dict[Any, tuple[int | None, float]] = {}  # of each running call: its note's stamp, and since when
        self._ended: dict[Any, str] = {}  # calls whose worker was ended from here, and why
        self._splits: dict[str, _Waiting] = {}  # by the names of the tasks that are waited for

    def run(self, tasks: Sequence[Task]) -> None:
        self._queue.extend(tasks)
        self._give()
        while self._running:
            done, _ = ray.wait(list(self._running), timeout=POLL_S)
            self._drain()
            for ref in done:
                self._settle(ref)
            self._end_stalled()
            self._head.check()
            self._give()
        self._drain()

    def _new_worker(self) -> Any:
        actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Worker)
        return actor.remote(self._work, self._inbox, self._worker_gb)

    def _give(self) -> None:
        """Work for every worker that has none; a split may bring more when some were idle already."""
        while self._queue and len(self._running) < self._workers:
            worker = self._idle.pop() if self._idle else self._new_worker()
            task = self._queue.popleft()
            self._running[worker.run.remote(task)] = (worker, task)

    def _settle(self, ref: Any) -> None:
        worker, task = self._running.pop(ref)
        self._heard.pop(ref, None)
        ended = self._ended.pop(ref, None)
        try:
            split: Split | None = ray.get(ref)
        except RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, CurateError) else error from None
        except (RayActorError, OutOfMemoryError) as error:
            self._bury(task, error, ended)
            return
        self._idle.append(worker)
        if split is not None:
            waiting = _Waiting(split.then, len(split.first))
            self._splits |= {one.name: waiting for one in split.first}
            # In front of other shards: a long source must not be what is still running when all else is done.
            self._queue.extendleft(reversed(split.first or (split.then,)))
        elif task.name in self._splits:
            waiting = self._splits.pop(task.name)
            waiting.num_left -= 1
            if not waiting.num_left:
                self._queue.appendleft(waiting.task)

    def _end_stalled(self) -> None:
        """Ends workers that have not touched their note for too long. Only differences of stamps count, so clocks need not agree."""
        if self._stall_s is None:
            return
        now = time.monotonic()
        for ref, (worker, task) in self._running.items():
            stamp = self._work.notes.stamp(task.name)
            before, since = self._heard.get(ref, (None, now))
            if stamp is None or stamp != before:
                self._heard[ref] = (stamp, now)
            elif now - since > self._stall_s and ref not in self._ended:
                self._ended[ref] = f"it stalled: no frame for {self._stall_s:g} s (limits.stall_s)"
                ray.kill(worker, no_restart=True)

    def _bury(self, task: Task, error: Exception, ended: str | None) -> None:
        """Puts the dead worker's shard back, without the source it died on once that one has had its attempts."""
        notes = self._work.notes
        key, last_words = notes.read(task.name), notes.reason(task.name)
        notes.remove(task.name)  # the next worker may die before it leaves its own
        self._deaths[task.name, key] += 1
        attempt = self._deaths[task.name, key]
        died = "out of memory" if isinstance(error, OutOfMemoryError) else "the worker process died (crash in a decoder, or killed)"
        reason = ended or last_words or died
        self._queue.appendleft(task)
        if key is None:
            if attempt >= self._max_attempts:
                raise CurateError(f"{attempt} workers died before they began on anything of shard {task.name}: {_first_line(error)}")
            return
        self._report(WorkerDied(key, reason, attempt, self._max_attempts))
        if attempt >= self._max_attempts:
            self._queue[0] = task.without(key, reason)

    def _drain(self) -> None:
        try:
            events = ray.get(self._inbox.take.remote())
        except RayActorError as error:
            raise _lost("its processes on this machine are gone") from error
        for event in events:
            self._report(event)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
