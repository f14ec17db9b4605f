"""Tasks on Ray actors: bounded work in flight, and a worker's death costs the source it was at, nothing else.

A worker decodes in a child (`pipelines.worker`), which may crash without the worker. A worker may still die (the out-of-memory killer, a
model that crashes, a node that is gone): it has told the driver's mailbox what it was about to touch, and that source is tried
`max_attempts` times and then quarantined with the reason. Of a bundle of tasks only those that were not done are given to others.

A worker beats every few seconds. One that is silent is looked at on its own machine, named with the state of its process (stopped, or
hanging), ended, and counts as dead. Tasks are given to workers that have started, so one that waits for a free core holds nothing up.

A cluster that is lost (its head, or the node of the driver) ends the run with an error; what is done stays, and the next run goes on.
"""

import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from curate.errors import ConfigError, CurateError
from curate.models import Forward, ModelSpec, load_model
from curate.pipelines.engine.cluster import connected
from curate.pipelines.engine.memory import guard_memory
from curate.pipelines.events import Begun, Event, Notice, Report, SourceDone, WorkerDied
from curate.pipelines.work import Split, Task, TaskQueue, Work
from curate.pipelines.worker.decoder import ONE_THREAD
from curate.standard_input import detach

POLL_S = 0.25
HEAD_POLL_S, HEAD_LOST_S = 5.0, 30.0  # a head that is started again keeps its jobs; Ray itself ends a process after 60 s without one
BEAT_S, SILENT_S = 5.0, 60.0
START_S = 120.0  # for the first worker: its imports, on a busy machine
LOOK_S = 30.0  # for a look at another machine
TORCH_MODELS = (
    "clip_image",
    "clip_text",
    "svd_vae",
    "svd_image_encoder",
)  # worth an actor; text detection runs on the CPU, a LAION head is one dot product


@dataclass(frozen=True, slots=True)
class RaySettings:
    """`workers` 0: one for each core of the machine or of the cluster at `address`; `model_actors` 0: every worker has its own models.

    `worker_gb`: memory of a worker, its child not counted; None: not watched.
    """

    workers: int = 0
    max_attempts: int = 2
    model_actors: int = 0
    address: str | None = None
    worker_gb: float | None = None


@dataclass(frozen=True, slots=True)
class _TaskDone:
    """A task of a bundle has been done, or split."""

    name: str
    split: Split | None


@dataclass(frozen=True, slots=True)
class _LastWords:
    """Why a worker is about to end itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Beat:
    """A worker lives."""


_Letter = Event | _TaskDone | _LastWords | _Beat


class _Inbox:
    """Collects what the workers say, each by its number; the driver empties it."""

    def __init__(self) -> None:
        self._letters: list[tuple[int, _Letter]] = []

    def put(self, number: int, letter: _Letter) -> None:
        self._letters.append((number, letter))

    def take(self) -> list[tuple[int, _Letter]]:
        letters, self._letters = self._letters, []
        return letters


class _Worker:
    """One process that holds models and has a child that decodes."""

    def __init__(self, work: Work, inbox: Any, number: int, worker_gb: float | None) -> None:
        detach()  # a cluster that was started by hand may have a terminal
        self._inbox, self._number = inbox, number
        if worker_gb is not None:
            guard_memory(worker_gb, lambda reason: self._tell(_LastWords(reason)))
        threading.Thread(target=self._beat, name="beat", daemon=True).start()
        self._worker = work.open()

    def where(self) -> tuple[str, int]:
        """Node and process; answered once the worker has started."""
        return ray.get_runtime_context().get_node_id(), os.getpid()

    def run(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            split = self._worker.run(task, self._report)
            self._tell(_TaskDone(task.name, split))

    def _report(self, event: Event) -> None:
        if isinstance(event, Begun):
            self._tell(event)
        else:
            self._inbox.put.remote(self._number, event)

    def _tell(self, letter: _Letter) -> None:
        """Say what must have arrived, whatever happens next."""
        ray.get(self._inbox.put.remote(self._number, letter))

    def _beat(self) -> None:
        while True:
            self._inbox.put.remote(self._number, _Beat())
            time.sleep(BEAT_S)


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
    """Run every task on Ray actors. Raises what the work raises (`CurateError`), after stopping the workers."""
    workers = settings.workers
    # One thread a process: parallelism is across sources, and thread counts must not change results.
    with connected(settings.address, workers or os.cpu_count() or 1, {"env_vars": ONE_THREAD}):
        if settings.model_actors:
            work = work.with_models(replace(work.models, loader=_HostedModels(_hosts(settings.model_actors, work.models.device))))
        _Run(work, report, workers or int(ray.cluster_resources().get("CPU", 1)), settings).run(tasks)


def _hosts(count: int, device: str) -> tuple[Any, ...]:
    needs_gpu = device == "cuda"
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if needs_gpu and gpus < count:
        raise ConfigError(f"model_actors={count} on device=cuda needs {count} GPUs, Ray sees {gpus}; use device=cpu or fewer model_actors")
    actor: Any = ray.remote(num_cpus=0, num_gpus=1 if needs_gpu else 0)(_ModelHost)
    return tuple(actor.remote() for _ in range(count))


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


@dataclass(slots=True, eq=False)
class _Hand:
    """A worker as the driver knows it: its process, what it has to do, and what it was at when it last spoke."""

    actor: Any
    node: str = ""
    pid: int = 0
    tasks: list[Task] = field(default_factory=list)
    at: Begun | None = None
    last_words: str | None = None
    heard_s: float = field(default_factory=time.monotonic)


class _Run:
    """The driver's side: who works on what, who died, and what is left."""

    def __init__(self, work: Work, report: Report, workers: int, settings: RaySettings) -> None:
        self._work, self._report, self._num_workers, self._settings = work, report, workers, settings
        here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._inbox: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(_Inbox).remote()
        self._head = _Head()
        self._deaths: Counter[tuple[str, str]] = Counter()  # by task and the source that the worker was at
        self._num_stillborn = 0
        self._queue = TaskQueue(())
        self._hands: list[_Hand] = []
        self._starting: dict[Any, int] = {}  # calls of `where` -> number of the worker
        self._running: dict[Any, int] = {}  # calls of `run` -> number of the worker
        self._idle: list[int] = []
        self._begun_s = self._looked_s = time.monotonic()

    def run(self, tasks: Sequence[Task]) -> None:
        self._queue.put_back(tasks)
        self._give()
        while self._queue or self._running:
            done, _ = ray.wait([*self._starting, *self._running], timeout=POLL_S)
            self._drain()
            for ref in done:
                if ref in self._starting:
                    self._start(ref)
                else:
                    self._settle(ref)
            self._watch()
            self._head.check()
            self._give()
        self._drain()

    def _give(self) -> None:
        """Give tasks to those that have none, and start workers as long as there is more to do than they can take."""
        while self._queue and self._idle:
            number = self._idle.pop()
            hand = self._hands[number]
            hand.tasks, hand.at, hand.heard_s = self._queue.take_bundle(self._num_workers), None, time.monotonic()
            self._running[hand.actor.run.remote(list(hand.tasks))] = number
        if self._queue and len(self._running) + len(self._starting) < self._num_workers:
            number = len(self._hands)
            actor: Any = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Worker)
            hand = _Hand(actor.remote(self._work, self._inbox, number, self._settings.worker_gb))
            self._hands.append(hand)
            self._starting[hand.actor.where.remote()] = number
            self._give()

    def _start(self, ref: Any) -> None:
        number = self._starting.pop(ref)
        try:
            self._hands[number].node, self._hands[number].pid = ray.get(ref)
        except RayTaskError as error:
            raise _cause(error) from None
        except RayActorError as error:
            cause = getattr(error, "cause", None)  # of an exception in its constructor
            if isinstance(cause, CurateError):
                raise cause from None
            self._num_stillborn += 1
            if self._num_stillborn >= self._settings.max_attempts and not self._running:
                raise CurateError(f"{self._num_stillborn} workers died before they began on anything: {_first_line(error)}") from error
            return
        self._idle.append(number)

    def _settle(self, ref: Any) -> None:
        number = self._running.pop(ref)
        hand = self._hands[number]
        try:
            ray.get(ref)
        except RayTaskError as error:
            raise _cause(error) from None
        except (RayActorError, OutOfMemoryError) as error:
            self._bury(hand, error)
        else:
            self._idle.append(number)

    def _bury(self, hand: _Hand, error: Exception) -> None:
        """Put what a dead worker had not done back, without the source it died on once that one has had its attempts."""
        tasks, at = list(hand.tasks), hand.at
        out_of_memory = "out of memory" if isinstance(error, OutOfMemoryError) else None
        reason = hand.last_words or out_of_memory or "the worker process died (killed, or a crash in a decoder or a model)"
        if at is None:
            self._deaths[tasks[0].name, ""] += 1
            if self._deaths[tasks[0].name, ""] >= self._settings.max_attempts:
                times = self._settings.max_attempts
                raise CurateError(f"{times} workers died before they began on anything of {tasks[0].name}: {_first_line(error)}")
            self._queue.put_back(tasks)
            return
        self._deaths[at.task, at.key] += 1
        attempt, attempts = self._deaths[at.task, at.key], self._settings.max_attempts
        self._report(WorkerDied(at.key, reason, attempt, attempts))
        if attempt >= attempts:
            tasks = [task.without(at.key, reason) if task.name == at.task else task for task in tasks]
        self._queue.put_back(tasks)

    def _drain(self) -> None:
        try:
            letters = ray.get(self._inbox.take.remote(), timeout=SILENT_S)
        except RayActorError as error:
            raise _lost("its processes on this machine are gone") from error
        except GetTimeoutError as error:
            raise _lost(f"its mailbox on this machine has not answered for {SILENT_S:.0f} s (is a process of Ray stopped?)") from error
        for number, letter in letters:
            hand = self._hands[number]
            hand.heard_s = time.monotonic()
            match letter:
                case _Beat():
                    pass
                case _LastWords():
                    hand.last_words = letter.reason
                case _TaskDone():
                    done = next(task for task in hand.tasks if task.name == letter.name)
                    hand.tasks.remove(done)
                    hand.at = None
                    self._queue.finish(done, letter.split)
                case Begun():
                    hand.at = letter
                case _:
                    if isinstance(letter, SourceDone):
                        self._queue.learn(letter.size_bytes, letter.seconds)
                    self._report(letter)

    def _watch(self) -> None:
        """End workers that are silent, and say why the first does not come. Time in which this process did not run does not count."""
        now = time.monotonic()
        if now - self._looked_s > 4 * POLL_S + BEAT_S:
            for hand in self._hands:
                hand.heard_s = max(hand.heard_s, now - BEAT_S)
            self._begun_s += now - self._looked_s
        self._looked_s = now
        for number in self._running.values():
            hand = self._hands[number]
            if now - hand.heard_s > SILENT_S and hand.last_words is None:
                hand.last_words = _end_process(hand)
        if self._starting and not any(hand.pid for hand in self._hands) and now - self._begun_s > START_S:
            self._begun_s = now
            self._explain_start()


    def _explain_start(self) -> None:
        """Say why no worker has started; raises where waiting is of no use."""
        none = f"no worker has started in {START_S:.0f} s"
        if stopped := [line for node in ray.nodes() if node["Alive"] for line in _stopped_on(node["NodeID"])]:
            raise CurateError(f"{none}: a signal has stopped {', '.join(stopped)}; end these processes, then start the command again")
        if self._settings.address is None:
            raise CurateError(f"{none}: Ray cannot start processes here (see its session_latest/logs); engine=local needs none")
        free = ray.available_resources().get("CPU", 0)
        self._report(Notice(f"{none}; {free:g} of the cluster's CPUs are free"))


def _end_process(hand: _Hand) -> str:
    """Kill a silent worker where it runs; return why, with the state of its process."""
    state = _on_node(hand.node, _kill, hand.pid)
    ray.kill(hand.actor, no_restart=True)
    how = {"T": "it was stopped by a signal (SIGSTOP, SIGTTOU or the like)", "": "its machine does not answer"}.get(state, "it hung")
    return f"the worker (process {hand.pid}) was silent for {SILENT_S:.0f} s: {how}"


def _stopped_on(node: str) -> list[str]:
    host, pids = _on_node(node, _stopped) or ("", [])
    return [f"process {pid} on {host}" for pid in pids]


def _on_node(node: str, function: Callable[..., Any], *words: Any) -> Any:
    """Call a function on another machine; an empty string where it does not answer."""
    there: Any = NodeAffinitySchedulingStrategy(node, soft=False)
    try:
        return ray.get(ray.remote(num_cpus=0, scheduling_strategy=there, max_retries=0)(function).remote(*words), timeout=LOOK_S)
    except (GetTimeoutError, RayTaskError, ray.exceptions.RaySystemError, ray.exceptions.TaskUnschedulableError):
        return ""


def _kill(pid: int) -> str:
    """Kill a process that Ray started on this machine; return the state that it was in."""
    state, parent = _state(pid)
    if parent == os.getppid():  # both are children of the node's raylet
        os.kill(pid, signal.SIGKILL)
    return state


def _stopped() -> tuple[str, list[int]]:
    """Name this machine and the processes of its raylet that are stopped."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return socket.gethostname(), [pid for pid in pids if _state(pid) == ("T", os.getppid())]


def _state(pid: int) -> tuple[str, int]:
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (OSError, ValueError):
        return "", 0
    return state, int(parent)


def _cause(error: RayTaskError) -> Exception:
    cause = error.cause
    return cause if isinstance(cause, CurateError) else error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
