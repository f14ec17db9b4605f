"""One scorer's clips on their way through it: collected to batches, its failures kept to the clip that caused them."""

from collections.abc import Callable, Sequence
from typing import Any

from curate.clip import Fault
from curate.errors import ScorerError
from curate.samples import ClipSamples
from curate.scorers import ScorerLike, check_rows


class ScorerBatch:
    """Collects one scorer's clips up to its batch size. A clip that makes the scorer fail gets nulls and a fault; the rest score."""

    def __init__(self, name: str, scorer: ScorerLike, score: Callable[[Sequence[ClipSamples]], list[dict[str, Any]]]) -> None:
        self.columns, self.wants = scorer.columns, scorer.samples
        self._name, self._score = name, score
        self._size = getattr(scorer, "batch_clips", 1)
        self._waiting: list[tuple[str, ClipSamples]] = []
        self._rows: dict[str, dict[str, Any]] = {}

    def add(self, clip_id: str, samples: ClipSamples) -> None:
        self._waiting.append((clip_id, samples))
        if len(self._waiting) >= self._size:
            self._flush()

    def row(self, clip_id: str) -> dict[str, Any]:
        """The row of a clip that was added, now."""
        if clip_id not in self._rows:
            self._flush()
        return self._rows[clip_id]

    def skip(self, clip_id: str, why: Fault) -> None:
        self._rows[clip_id] = self.null_row([why])

    def finish(self) -> dict[str, dict[str, Any]]:
        """Clip id -> row, of every clip that was added."""
        self._flush()
        return self._rows

    def null_row(self, faults: Sequence[Fault] = ()) -> dict[str, Any]:
        """The row of a clip that was not scored."""
        return {**dict.fromkeys(self.columns), "faults": list(faults)}

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            rows = self._try([samples for _, samples in waiting])
            self._rows.update(zip((clip_id for clip_id, _ in waiting), rows, strict=True))

    def _try(self, samples: list[ClipSamples]) -> list[dict[str, Any]]:
        try:
            rows = self._score(samples)
            check_rows(self._name, self.columns, len(samples), rows)
            return [{"faults": [], **row} for row in rows]
        except ScorerError:
            raise
        except Exception as error:  # noqa: BLE001 - a scorer may be the user's own: one clip's failure is recorded, not fatal
            if len(samples) > 1:
                return [row for one in samples for row in self._try([one])]
            return [self.null_row([Fault(self._name, type(error).__name__, str(error))])]
