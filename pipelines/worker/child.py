"""The child of a worker: decodes, scans and computes CPU scorers, one source after the other, until its worker is gone.

It is given a `Setup` once (None: no source is scanned) and an `Order` for each source, and answers with rows. On the way it asks for the
source's bytes (`files.py`), and for the forward passes of models, which the worker computes or sends on.
"""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from curate.clip import NS_PER_S, Fault, Span
from curate.decide.skip import SkipRules
from curate.errors import CurateError, SourceError
from curate.media.headers import read_headers
from curate.media.parts import WHOLE, parts_of
from curate.media.seek import Part
from curate.models import Forward, Models, ModelSpec, Weight
from curate.pipelines.clip_rows import ClipRows
from curate.pipelines.rows import source_row
from curate.pipelines.scoring import ScorerBatch
from curate.pipelines.worker.channel import Channel, ChannelClosed, Message
from curate.pipelines.worker.files import FileClient
from curate.pipelines.working_area import counts_of, to_stream
from curate.scan import Pass, ScanReport, scan, warm_up_s
from curate.scorers import ScorerLike
from curate.sources import Source

ALIVE_S = 1.0  # between two signs of life while frames come
PARENT_POLL_S = 5.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Setup:
    """What all sources have in common; picklable."""

    settings: Pass
    scorers: Mapping[str, ScorerLike]
    weights: Mapping[Weight, Path]
    device: str
    skip: SkipRules | None


@dataclass(frozen=True, slots=True)
class Order:
    """One source to scan, or one part of it.

    part   None: all of it, unless it is so long that it has parts, which are then the answer
    spans  those of an earlier pass, to sample again; None: look for shots
    names  scorers to compute
    known  clip id -> what is known of the columns that decide which clips the models are given
    stream  index of the video stream that an earlier pass read; None: as the settings say
    """

    source: Source
    part: Part | None
    spans: Sequence[Span] | None
    names: tuple[str, ...]
    known: Mapping[str, Mapping[str, Any]]
    stream: int | None = None

    def settings(self, settings: Pass) -> Pass:
        """Returns the settings to scan with, those of an earlier pass reading its stream again."""
        if self.stream is None:
            return settings
        return replace(settings, decode=settings.decode.model_copy(update={"stream": self.stream}))


class Scanner:
    """Does orders. Scorers are opened once each, when the first order names them."""

    def __init__(self, setup: Setup, channel: Channel, opener: FileClient) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._setup, self._channel, self._opener = setup, channel, opener
        self._models = Models(setup.weights, setup.device, loader=_AskedModels(channel))
        self._scores: dict[str, Callable[..., Any]] = {}

    def run(self, order: Order) -> None:
        """Scan and answer with `scanned`: tables as Arrow streams by name, counts, parts where there are any, processor seconds."""
        start_s, report = time.process_time(), ScanReport()
        rows = self._scan(order, order.part, report)
        parts = self._parts(order, report)
        if len(parts) == 1:
            report = ScanReport()
            rows = self._scan(order, WHOLE, report)
        named = rows.tables(source_row(order.source, report, is_quarantined=False)).named()
        self._channel.send(
            "scanned",
            [to_stream(one) for one in named.values()],
            names=list(named),
            counts=counts_of(report),
            parts=[[part.span.start_ns, part.span.end_ns, part.from_ns] for part in parts] if len(parts) > 1 else [],
            cpu_s=time.process_time() - start_s,
        )

    def _scan(self, order: Order, part: Part | None, report: ScanReport) -> ClipRows:
        rows = ClipRows({name: self._batch(name) for name in order.names}, self._setup.skip, order.known)
        alive = _Alive(self._channel, report, part)
        rows.take(scan(order.source, order.settings(self._setup.settings), rows.wants, report, order.spans, part, alive, self._opener))
        return rows

    def _parts(self, order: Order, report: ScanReport) -> tuple[Part, ...]:
        """Return the parts of a source that may have any; none, with a fault in the report, where it cannot be opened again."""
        if not report.may_be_long:
            return ()
        settings, url = order.settings(self._setup.settings), order.source.url
        try:
            return parts_of(url, settings.decode, warm_up_s(settings), self._opener)
        except SourceError as error:
            report.faults.append(Fault("open", type(error).__name__, str(error).removeprefix(f"{url}: ")))
            return ()

    def _batch(self, name: str) -> ScorerBatch:
        scorer = self._setup.scorers[name]
        if name not in self._scores:
            self._scores[name] = scorer.open(self._models)
        return ScorerBatch(name, scorer, self._scores[name])


class _Alive:
    """Says at most once a second that frames still come, and how far they are."""

    def __init__(self, channel: Channel, report: ScanReport, part: Part | None) -> None:
        self._channel, self._report, self._part = channel, report, part
        self._next_s = time.monotonic() + ALIVE_S

    def __call__(self, end_ns: int | None) -> None:
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + ALIVE_S
        report = self._report
        decoded_s = (report.end_ns - report.start_ns) / NS_PER_S if report.start_ns is not None and report.end_ns is not None else 0.0
        self._channel.send("alive", decoded_s=decoded_s, num_clips=report.num_clips, share=self._share(end_ns))

    def _share(self, end_ns: int | None) -> float:
        """Return how much of the source, or of the part, has passed: 0 to 1; 0 where nothing declares its length."""
        probe, part = self._report.probe, self._part
        duration_s = probe and (probe.duration_s or probe.container_duration_s)
        if probe is None or not duration_s or end_ns is None:
            return 0.0
        first = probe.start_ns or 0
        last = first + duration_s * NS_PER_S
        if part is not None:
            first, last = max(first, part.span.start_ns), min(last, part.span.end_ns)
        return min(1.0, max(0.0, (end_ns - first) / max(1.0, last - first)))


class _AskedModels:
    """A loader of models that the worker holds: arrays or strings go there, and what comes back is the forward's own."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __call__(self, spec: ModelSpec) -> Forward:
        named = {"kind": spec.kind, "paths": spec.paths, "parameters": spec.parameters, "device": spec.device}
        self._channel.send("load", spec=named)
        self._value()

        def forward(inputs: Sequence[Any]) -> Any:
            arrays = [np.ascontiguousarray(one) for one in inputs if not isinstance(one, str)]
            kinds = [one if isinstance(one, str) else [one.dtype.str, list(one.shape)] for one in inputs]
            self._channel.send("forward", [one.data for one in arrays], inputs=kinds, spec=named)
            return self._value()

        return forward

    def _value(self) -> Any:
        message = self._channel.receive()
        assert message is not None
        content = message.unpickled()
        if message.kind == "raised":
            raise content
        return content


def main(channel_fd: int, files_fd: int, parent_pid: int) -> None:
    """Serve the worker at the other end of both sockets; returns when it is gone."""
    _die_with(parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which ends this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    channel = Channel(socket.socket(fileno=channel_fd))
    with contextlib.suppress(ChannelClosed):  # the run is over
        _serve(channel, FileClient(socket.socket(fileno=files_fd)))


def _serve(channel: Channel, opener: FileClient) -> None:
    scanner: Scanner | None = None
    while True:
        message = channel.receive()
        assert isinstance(message, Message)
        try:
            if message.kind == "setup":
                setup = message.unpickled()
                scanner = setup and Scanner(setup, channel, opener)
            elif message.kind == "headers":
                url, stream = message.unpickled()
                headers = read_headers(url, opener, stream)
                channel.send("headers", found=headers and asdict(headers))
            else:
                assert scanner is not None
                scanner.run(message.unpickled())
        except CurateError as error:
            channel.send("failed", error=type(error).__name__, message=str(error))
        except MemoryError:
            os._exit(137)  # as the out-of-memory killer would have it
        except ChannelClosed:
            raise
        except Exception:  # noqa: BLE001 - a bug of ours: the worker raises it
            import traceback

            channel.send("failed", error="", message=traceback.format_exc())


def _die_with(parent_pid: int) -> None:
    """End this process when the one that started it ends, also while it computes."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        import threading

        def watch() -> None:
            while os.getppid() == parent_pid:
                time.sleep(PARENT_POLL_S)
            os._exit(1)

        threading.Thread(target=watch, name="parent watch", daemon=True).start()
    if os.getppid() != parent_pid:
        os._exit(1)
