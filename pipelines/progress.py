"""Progress on the terminal: a bar with rate and time left where there is a screen, a line now and then where there is none."""

import sys
import time
from types import TracebackType
from typing import TextIO

from pipelines.events import Event, ShardDone, SourceDone, WorkerDied

QUIET_S = 15.0  # between lines when the output is not a terminal


class Progress:
    """Receives the engine's events. Failures appear in a line each as they happen; progress is weighted by the bytes of the sources."""

    def __init__(self, num_sources: int, num_bytes: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._num_sources, self._num_bytes = num_sources, num_bytes
        self._done_sources = self._done_bytes = self._num_clips = 0
        self._decoded_s = 0.0
        self._start = self._last_line = time.monotonic()
        self._bar: _Bar | None = None
        self.events: list[SourceDone] = []

    def __enter__(self) -> "Progress":
        if self._stream.isatty():
            self._bar = _Bar(self._num_bytes or 1, self._stream)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.close()

    def __call__(self, event: Event) -> None:
        match event:
            case SourceDone():
                self._count(event)
            case WorkerDied():
                self._line(f"worker died   {event.key}: {event.reason} (attempt {event.attempt} of {event.max_attempts})")
            case ShardDone():
                pass

    def _count(self, event: SourceDone) -> None:
        self.events.append(event)
        self._done_sources += 1
        self._done_bytes += event.size_bytes
        self._num_clips += event.num_clips
        self._decoded_s += event.decoded_s
        if event.status != "ok":
            self._line(f"{event.status:<12}  {event.key}: {event.message}")
        if self._bar:
            self._bar.update(self._done_bytes, self._text())
        elif time.monotonic() - self._last_line > QUIET_S:
            self._last_line = time.monotonic()
            self._line(self._text() + self._left())

    def _text(self) -> str:
        elapsed = max(time.monotonic() - self._start, 1e-3)
        return (
            f"{self._done_sources}/{self._num_sources} sources  {self._num_clips} clips  "
            f"{self._num_clips / elapsed:.1f} clips/s  {self._decoded_s / elapsed:.1f} s of video/s"
        )

    def _left(self) -> str:
        if not self._done_bytes:
            return ""
        left_s = (time.monotonic() - self._start) * (self._num_bytes / self._done_bytes - 1)
        return f"  about {max(0.0, left_s):.0f} s left"

    def _line(self, text: str) -> None:
        if self._bar:
            self._bar.line(text)
        else:
            print(text, file=self._stream, flush=True)


class _Bar:
    """rich's progress bar over bytes."""

    def __init__(self, total: int, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self._rich = RichProgress(*columns, console=Console(file=stream), transient=True)
        self._task = self._rich.add_task("starting", total=total)
        self._rich.start()

    def update(self, done: int, text: str) -> None:
        self._rich.update(self._task, completed=done, description=text)

    def line(self, text: str) -> None:
        self._rich.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._rich.stop()
