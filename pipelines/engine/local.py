"""The local engine: workers that are threads of this process, each with a child that decodes and models of its own.

Whatever another engine writes is compared with what this one writes with one worker.
"""

import contextlib
import threading
from collections.abc import Sequence

from curate.pipelines.events import Event, Report
from curate.pipelines.work import Task, TaskQueue, Work, Worker


def run(tasks: Sequence[Task], work: Work, report: Report, workers: int = 1) -> None:
    """Run every task here. Raises what the work raises, after the workers have ended; with one worker, in the calling thread."""
    crew = _Crew(tasks, work, report)
    if workers == 1:
        crew.work()
        return
    ends = [threading.Event() for _ in range(workers)]
    threads = [threading.Thread(target=_until_end, args=(crew, end), name="worker", daemon=True) for end in ends]
    try:
        for thread in threads:
            thread.start()
        for end in ends:
            end.wait()
    finally:
        crew.stop()
        # A join that Ctrl-C interrupts takes a living thread for ended (Python 3.11), so events are waited for.
        for thread, end in zip(threads, ends, strict=True):
            while thread.ident is not None and not end.is_set():
                with contextlib.suppress(KeyboardInterrupt):
                    end.wait()
    crew.raise_first()


def _until_end(crew: "_Crew", end: threading.Event) -> None:
    try:
        crew.work()
    finally:
        end.set()


class _Crew:
    """What the threads share."""

    def __init__(self, tasks: Sequence[Task], work: Work, report: Report) -> None:
        self._queue, self._work, self._tell = TaskQueue(tasks), work, report
        self._changed, self._telling = threading.Condition(), threading.Lock()
        self._num_busy = 0
        self._workers: list[Worker] = []
        self._is_over = False
        self._error: BaseException | None = None

    def work(self) -> None:
        """Take tasks until none is left that anybody could still bring."""
        worker: Worker | None = None
        try:
            while (task := self._next()) is not None:
                if worker is None:
                    worker = self._work.open()
                    self._workers.append(worker)
                split = worker.run(task, self._report)
                with self._changed:
                    self._queue.finish(task, split)
                    self._num_busy -= 1
                    self._changed.notify_all()
        except BaseException as error:
            self._fail(error)
            if threading.current_thread() is threading.main_thread():
                raise
        finally:
            if worker is not None:
                worker.close()

    def stop(self) -> None:
        """Have every thread end soon."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.stop()

    def raise_first(self) -> None:
        """Raise what ended the work, if anything did."""
        if self._error is not None:
            raise self._error

    def _next(self) -> Task | None:
        with self._changed:
            while not self._queue and self._num_busy and not self._is_over:
                self._changed.wait()
            if self._is_over or not self._queue:
                return None
            self._num_busy += 1
            return self._queue.take()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._num_busy -= 1
        self.stop()

    def _report(self, event: Event) -> None:
        with self._telling:
            self._tell(event)
