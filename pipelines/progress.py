"""Progress on the terminal: a bar with rate and time left where there is a screen, a line now and then where there is none."""

import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TextIO

from curate.pipelines.events import Advanced, Begun, ClipDone, Event, Notice, ShardDone, SourceDone, WorkerDied
from curate.sources import ListingNotes

QUIET_S = 15.0  # between lines when the output is not a terminal
LISTING_QUIET_S = 10.0
LISTING_REDRAW_S = 0.2


class Progress:
    """Receives the engine's events. Failures appear in a line each as they happen.

    Progress is weighted by the bytes of the sources; by the count of clips, where `num_clips` is given and sources are not what is done.
    """

    def __init__(self, num_sources: int = 0, num_bytes: int = 0, stream: TextIO | None = None, num_clips: int = 0) -> None:
        self._stream = stream or sys.stderr
        self._num_sources, self._all_clips = num_sources, num_clips
        self._total = num_clips or num_bytes
        self._done_sources = self._done = self._num_clips = 0
        self._decoded_s = self._earlier_s = 0.0
        self._earlier = self._earlier_clips = 0  # of what a run before had done: bytes, clips
        self._start = self._last_line = time.monotonic()
        self._bar: _Bar | None = None
        self._passed: dict[str, dict[int, tuple[int, int, float]]] = {}  # by source and part: bytes, clips, seconds
        self._seen: set[str] = set()
        self.events: list[SourceDone] = []

    def __enter__(self) -> "Progress":
        if self._stream.isatty():
            self._bar = _Bar(self._total or 1, self._stream)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.close()

    def __call__(self, event: Event) -> None:
        match event:
            case SourceDone():
                if event.key in self._seen:  # told again by a worker that took over
                    return
                self._seen.add(event.key)
                self.events.append(event)
                self._done_sources += 1
                message = None if event.status == "ok" else f"{event.status:<12}  {event.key}: {event.message}"
                passed = _sum(self._passed.pop(event.key, {}).values())
                if event.is_earlier:  # done, and no work of this run's
                    self._earlier, self._earlier_clips = self._earlier + event.size_bytes, self._earlier_clips + event.num_clips
                    self._earlier_s += event.decoded_s
                self._step(event.size_bytes - passed[0], event.num_clips - passed[1], event.decoded_s - passed[2], message)
            case Advanced():
                parts = self._passed.setdefault(event.key, {})
                before = parts.get(event.part, (0, 0, 0.0))
                parts[event.part] = event.size_bytes, event.num_clips, event.decoded_s
                self._step(event.size_bytes - before[0], event.num_clips - before[1], event.decoded_s - before[2], None)
            case ClipDone():
                message = None if event.message is None else f"failed        {event.key}: {event.message}"
                self._step(1, 1, event.duration_s, message)
            case WorkerDied():
                self._line(f"worker died   {event.key}: {event.reason} (attempt {event.attempt} of {event.max_attempts})")
            case Notice():
                self._line(event.text)
            case ShardDone() | Begun():
                pass

    def _step(self, done: int, num_clips: int, decoded_s: float, message: str | None) -> None:
        self._done += done
        self._num_clips += num_clips
        self._decoded_s += decoded_s
        if message:
            self._line(message)
        if self._bar:
            self._bar.update(self._done, self._text() + self._left())
        elif time.monotonic() - self._last_line > QUIET_S:
            self._last_line = time.monotonic()
            self._line(self._text() + self._left())

    def _text(self) -> str:
        elapsed = max(time.monotonic() - self._start, 1e-3)
        done = f"{self._done_sources}/{self._num_sources} sources  {self._num_clips} clips"
        if self._all_clips:
            done = f"{self._num_clips}/{self._all_clips} clips"
        clips, decoded_s = self._num_clips - self._earlier_clips, self._decoded_s - self._earlier_s
        return f"{done}  {clips / elapsed:.1f} clips/s  {decoded_s / elapsed:.1f} s of video/s"

    def _left(self) -> str:
        own = self._done - self._earlier
        if own <= 0:
            return ""
        left_s = max(0.0, (time.monotonic() - self._start) * (self._total - self._done) / own)
        return f"  about {left_s:.0f} s left" if left_s < 120 else f"  about {left_s / 60:.0f} min left"

    def _line(self, text: str) -> None:
        if self._bar:
            self._bar.line(text)
        else:
            print(text, file=self._stream, flush=True)


def _sum(some: Iterable[tuple[int, int, float]]) -> tuple[int, int, float]:
    found = list(some)
    return sum(one[0] for one in found), sum(one[1] for one in found), sum(one[2] for one in found)


class ListingProgress:
    """Says how far listing is: a line that changes on a screen, a line now and then elsewhere. Given to `ListingNotes.watch`."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_screen = self._stream.isatty()
        self._last = time.monotonic()
        self._width = 0

    def __enter__(self) -> "ListingProgress":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._width:
            self._stream.write(f"\r{' ' * self._width}\r")
            self._stream.flush()

    def __call__(self, notes: ListingNotes) -> None:
        if time.monotonic() - self._last < (LISTING_REDRAW_S if self._is_screen else LISTING_QUIET_S):
            return
        self._last = time.monotonic()
        text = f"listing: {notes.num_objects:,} objects, {notes.num_sources:,} videos"
        text += f", {notes.num_captions:,} captions read" if notes.num_captions else ""
        if self._is_screen:
            self._stream.write(f"\r{text:<{self._width}}")
            self._stream.flush()
            self._width = len(text)
        else:
            self.line(text)

    def line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class _Bar:
    """rich's progress bar over bytes."""

    def __init__(self, total: int, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as RichProgress

        columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
        self._rich = RichProgress(*columns, console=Console(file=stream), transient=True)
        self._task = self._rich.add_task("starting", total=total)
        self._rich.start()

    def update(self, done: int, text: str) -> None:
        self._rich.update(self._task, completed=done, description=text)

    def line(self, text: str) -> None:
        self._rich.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._rich.stop()
