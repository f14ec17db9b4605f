"""A worker's handle on its child: starts it, gives it one source at a time, answers its questions, and ends it when it must be.

A child is ended that has said nothing for `limits.stall_s`, that takes more than `limits.worker_gb` of memory, or that somebody has
stopped (SIGSTOP). Time in which the worker itself did not run (Ctrl-Z) does not count.
"""

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate import errors
from curate.clip import Span
from curate.errors import CurateError
from curate.media.headers import Headers
from curate.media.seek import Part
from curate.models import Forward, Models, ModelSpec
from curate.pipelines.worker.channel import Channel, ChannelClosed, Message
from curate.pipelines.worker.files import FileServer
from curate.pipelines.working_area import Counts, Tables, from_stream

POLL_S = 0.25
STOPPED_S = 10.0
DIES_S = 2.0  # from the end of its channel to its own
MAX_SAID_BYTES = 1 << 20  # of what a child prints
# What a child may know of the environment: nothing that could be a secret.
VARIABLES = (
    *("PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"),
)
PREFIXES = ("LC_", "OPENBLAS_", "MKL_", "OMP_", "KMP_")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[4]); "
    "from curate.pipelines.worker.child import main; main(*map(int, sys.argv[1:4]))"
)


NO_ANSWER = "the worker process gave an answer that is none"


class ChildDied(Exception):
    """The child died, or had to be ended; the message says why."""


class Stopped(BaseException):
    """The run is being stopped from another thread."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the child made of an order: rows and counts; or the parts of a source that is to be scanned in parts."""

    tables: Tables
    counts: Counts
    parts: tuple[Part, ...]
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Advanced:
    """How far a child is with its source: seconds decoded, clips closed, the share of the whole (0 to 1)."""

    decoded_s: float
    num_clips: int
    share: float


class Decoder:
    """The child, started when the first order comes and again after each death. `setup` is a `child.Setup` or None, pickled."""

    def __init__(self, setup: bytes, models: Models, stall_s: float, worker_gb: float, spool_gb: float) -> None:
        self._setup, self._models = setup, models
        self._stall_s, self._worker_gb, self._spool_gb = stall_s, worker_gb, spool_gb
        self._forwards: dict[ModelSpec, Forward] = {}
        self._child: _Child | None = None
        self._is_stopping = False

    def scan(self, order: Any, url: str, advanced: Callable[[Advanced | None], None]) -> Scanned:
        """Have an order (`child.Order`) done on the source at `url`. `advanced` hears that the child lives, twice a second or less.

        Raises `ChildDied`; `CurateError` where the run cannot go on.
        """
        start_s = time.thread_time()
        message = self._asked("scan", order, url, advanced)
        return _scanned(message, time.thread_time() - start_s)

    def headers(self, url: str, stream: int | None = None) -> Headers | None:
        """Return what the headers of a source say; None where it cannot be opened. Raises `ChildDied`."""
        found = self._asked("headers", (url, stream), url, lambda _: None).head["found"]
        return found and Headers(**found)

    def _asked(self, kind: str, content: Any, url: str, advanced: Callable[[Advanced | None], None]) -> Message:
        child = self._child = self._child or _Child(self._setup, self._spool_gb)
        try:
            child.files.allow(url)
            child.channel.send_object(kind, content)
            message = self._answered(child, advanced)
        except ChannelClosed as error:
            raise ChildDied(self._end_by_itself(error)) from None
        except BaseException:
            self.close()
            raise
        child.files.allow(None)
        if message.kind == "failed":
            self.close()
            raise _raised(message)
        return message

    def stop(self) -> None:
        """Make `scan`, in another thread, raise `Stopped`."""
        self._is_stopping = True

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._end("closed")

    def _end(self, why: str) -> str:
        child, self._child = self._child, None
        assert child is not None
        return child.end(why)

    def _end_by_itself(self, error: ChannelClosed) -> str:
        """End a child whose channel has closed; return how it died, or what it said that is no message."""
        child, self._child = self._child, None
        assert child is not None
        return child.death() or child.end(f"{NO_ANSWER} ({error})")

    def _answered(self, child: "_Child", advanced: Callable[[Advanced | None], None]) -> Message:
        """Answer what the child asks until it is done; watch it meanwhile."""
        silent_s, looked_s = 0.0, time.monotonic()
        while True:
            began_s = time.monotonic()
            message = child.channel.receive(POLL_S)
            if self._is_stopping:
                raise Stopped
            silent_s = 0.0 if message else silent_s + min(time.monotonic() - began_s, 2 * POLL_S)
            if message is None or time.monotonic() - looked_s > POLL_S:
                looked_s = time.monotonic()
                if why := self._why_ended(child, silent_s):
                    raise ChildDied(self._end(why))
                advanced(None)
            if message is None:
                continue
            try:
                match message.kind:
                    case "alive":
                        news = _advanced(message)
                    case "load" | "forward":
                        spec, inputs = self._checked(message.head["spec"]), _inputs(message)
                    case "scanned" | "headers" | "failed":
                        return message
                    case kind:
                        raise ValueError(f"a message of the kind {kind[:40]!r}")
            except (KeyError, ValueError, TypeError, AttributeError, StopIteration, OverflowError) as error:
                raise ChildDied(self._end(f"{NO_ANSWER} ({type(error).__name__}: {error})")) from error
            if message.kind == "alive":
                advanced(news)
            else:
                self._answer(child, message.kind, spec, inputs)

    def _why_ended(self, child: "_Child", silent_s: float) -> str | None:
        if silent_s > self._stall_s:
            return f"it stalled: no frame for {self._stall_s:g} s (limits.stall_s)"
        if silent_s > STOPPED_S and child.is_stopped():
            return "its process was stopped by a signal (SIGSTOP, SIGTTOU or the like) and did not go on"
        used_gb = child.memory_gb()
        if used_gb > self._worker_gb:
            return f"it took {used_gb:.1f} GB of memory, more than limits.worker_gb={self._worker_gb:g}"
        return None

    def _answer(self, child: "_Child", kind: str, spec: ModelSpec, inputs: list[Any]) -> None:
        if spec not in self._forwards:
            self._forwards[spec] = self._models.load(spec)
        if kind == "load":
            child.channel.send_object("value", None)
            return
        try:
            value = self._forwards[spec](inputs)
        except Exception as error:  # noqa: BLE001 - the scorer that asked records it
            child.channel.send_object("raised", _picklable(error))
        else:
            child.channel.send_object("value", value)

    def _checked(self, content: Mapping[str, Any]) -> ModelSpec:
        """Return the spec that a child names. It may name no file but the weights of this run."""
        paths = tuple(str(path) for path in content["paths"])
        known = {str(path) for path in self._models.paths.values()}
        if not known.issuperset(paths):
            raise ValueError(f"it asks for weights that this run does not use: {', '.join(sorted(set(paths) - known))}")
        parameters = tuple((str(name), value) for name, value in content["parameters"])
        return ModelSpec(str(content["kind"]), paths, parameters, str(content["device"]))


class _Child:
    """One process and the two sockets to it."""

    def __init__(self, setup: bytes, spool_gb: float) -> None:
        ours, theirs = socket.socketpair()
        files, their_files = socket.socketpair()
        self._said = tempfile.TemporaryFile("a+b")  # noqa: SIM115  closed in `end`
        passed = (theirs.fileno(), their_files.fileno())
        path = json.dumps([str(Path(entry).absolute()) for entry in sys.path])
        command = [sys.executable, "-c", BOOT, *map(str, passed), str(os.getpid()), path]
        try:
            # A session of its own: no terminal can stop it, and Ctrl-C reaches its worker alone.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                env=environment(os.environ),
                pass_fds=passed,
                start_new_session=True,
            )
        finally:
            theirs.close()
            their_files.close()
        self.channel, self.files = Channel(ours), FileServer(files, spool_gb)
        self.channel.send("setup", [setup])

    def is_stopped(self) -> bool:
        """Tell whether a signal holds the process; False where the system does not say."""
        try:
            return Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
        except (OSError, IndexError):
            return False

    def memory_gb(self) -> float:
        """Return resident memory; 0 where the system does not say."""
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return 0.0
        if os.fstat(self._said.fileno()).st_size > MAX_SAID_BYTES:
            os.ftruncate(self._said.fileno(), 0)
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e9

    def death(self) -> str | None:
        """Return how the process died by itself; None where it lives."""
        try:
            code = self._process.wait(DIES_S)
        except subprocess.TimeoutExpired:
            return None
        self._said.seek(0)
        last = self._said.read(MAX_SAID_BYTES).decode(errors="replace").strip().splitlines()[-1:]
        return self.end(_death(code, last[0] if last else ""))

    def end(self, why: str) -> str:
        """Kill the process, and return `why`."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what it started goes with it
        self.channel.close()
        self._process.wait()
        self.files.close()
        self._said.close()
        return why


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return what a child sees of the environment."""
    kept = {name: value for name, value in given.items() if name in VARIABLES or name.startswith(PREFIXES)}
    for name in kept.keys() & {"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"}:
        # An empty entry is the current folder, where strangers' files may lie.
        kept[name] = os.pathsep.join(filter(None, kept[name].split(os.pathsep)))
    return kept | ONE_THREAD


def _advanced(message: Message) -> Advanced:
    head = message.head
    return Advanced(float(head["decoded_s"]), int(head["num_clips"]), min(1.0, max(0.0, float(head["share"]))))


def _death(code: int, last_line: str) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        what = "killed from outside, perhaps for want of memory" if name == "SIGKILL" else "crash in a decoder"
        return f"the worker process died ({name}: {what})"
    if code == 137:
        return "the worker process died (out of memory)"
    return f"the worker process died (exit code {code}{': ' + last_line[:200] if last_line else ''})"


def _inputs(message: Message) -> list[Any]:
    buffers = iter(message.buffers)
    inputs: list[Any] = []
    for one in message.head.get("inputs", ()):
        if isinstance(one, str):
            inputs.append(one)
        else:
            dtype = np.dtype(one[0])
            if dtype.hasobject:
                raise ValueError("an array of objects")
            inputs.append(np.frombuffer(next(buffers), dtype).reshape(one[1]))
    return inputs


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - any class may fail in its own way
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _raised(message: Message) -> Exception:
    """Return the error that a child met, as far as it is one that we know."""
    kind = getattr(errors, str(message.head["error"]), None)
    text = str(message.head["message"])
    if isinstance(kind, type) and issubclass(kind, CurateError):
        return kind(text)
    return RuntimeError(f"in the process that decodes:\n{text}") if not message.head["error"] else CurateError(text)


def _scanned(message: Message, cpu_s: float) -> Scanned:
    head = message.head
    try:
        named = {str(name): from_stream(data) for name, data in zip(head["names"], message.buffers, strict=True)}
        parts = tuple(Part(Span(int(start), int(end)), begin) for start, end, begin in head["parts"])
        return Scanned(Tables.of(named), dict(head["counts"]), parts, float(head["cpu_s"]) + cpu_s)
    except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise ChildDied(f"{NO_ANSWER} ({error})") from error
