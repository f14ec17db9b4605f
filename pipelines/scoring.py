"""One scorer's clips on their way through it: collected to batches, its failures kept to the clip that caused them.

A scorer that settles what it found across the clips of a source (`curate.scorers`) does so when the source ends, or when the evidence of
`2 * SETTLED_TOGETHER` clips waits: of its first half then. So the memory is bounded, and which clips are settled together depends on the
source's clips alone, not on the other sources of the shard.
"""

import pickle
from collections.abc import Callable, Sequence
from typing import Any

from curate.clip import Fault
from curate.errors import ScorerError
from curate.samples import ClipSamples
from curate.scorers import ACROSS, MAX_ACROSS_BYTES, SETTLED_TOGETHER, ScorerLike, check_rows


class ScorerBatch:
    """Collects one scorer's clips up to its batch size. A clip that makes the scorer fail gets nulls and a fault; the rest score."""

    def __init__(self, name: str, scorer: ScorerLike, score: Callable[[Sequence[ClipSamples]], list[dict[str, Any]]]) -> None:
        self.columns, self.wants = scorer.columns, scorer.samples
        self._name, self._score = name, score
        self._size = getattr(scorer, "batch_clips", 1)
        self._waiting: list[tuple[str, ClipSamples]] = []
        self._rows: dict[str, dict[str, Any]] = {}
        self._settle: Callable[[list[dict[str, Any]]], None] | None = getattr(scorer, "settle", None)
        self._settles: tuple[str, ...] = tuple(getattr(scorer, "settles", ()))
        self._unsettled: list[str] = []

    def add(self, clip_id: str, samples: ClipSamples) -> None:
        self._waiting.append((clip_id, samples))
        if len(self._waiting) >= self._size:
            self._flush()
        self._awaits(clip_id)

    def row(self, clip_id: str) -> dict[str, Any]:
        """The row of a clip that was added, now."""
        if clip_id not in self._rows:
            self._flush()
        return self._rows[clip_id]

    def skip(self, clip_id: str, why: Fault) -> None:
        self._rows[clip_id] = self.null_row([why])
        self._awaits(clip_id)

    def end_source(self) -> None:
        """The clips since the last call were those of one source, or of one part of it, in the order of time."""
        self._settle_first(len(self._unsettled))

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

    def _awaits(self, clip_id: str) -> None:
        if self._settle is not None:
            self._unsettled.append(clip_id)
            if len(self._unsettled) >= 2 * SETTLED_TOGETHER:
                self._settle_first(SETTLED_TOGETHER)

    def _settle_first(self, num: int) -> None:
        clip_ids, self._unsettled = self._unsettled[:num], self._unsettled[num:]
        if self._settle is None or not clip_ids:
            return
        self._flush()
        rows = [dict(self._rows[clip_id]) for clip_id in clip_ids]
        try:
            self._settle(rows)
            for row in rows:
                row.pop(ACROSS, None)
            check_rows(self._name, self.columns, len(clip_ids), rows)
            self._check_settled(clip_ids, rows)
        except ScorerError:
            raise
        except Exception as error:  # noqa: BLE001 - a scorer may be the user's own: what it could not settle is null and says why
            why = Fault(self._name, type(error).__name__, f"settling the clips of the source: {error}")
            nulls = dict.fromkeys(self._settles)
            rows = [{**self._rows[clip_id], **nulls, "faults": [*self._rows[clip_id]["faults"], why]} for clip_id in clip_ids]
            for row in rows:
                row.pop(ACROSS, None)
        self._rows.update(zip(clip_ids, rows, strict=True))

    def _check_settled(self, clip_ids: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
        for clip_id, row in zip(clip_ids, rows, strict=True):
            before = self._rows[clip_id]
            changed = [name for name in self.columns if name not in self._settles and row[name] is not before[name]]
            if changed:
                raise ScorerError(f"scorer {self._name}: settle changed {changed[0]}, which is not in its `settles`; declare it there")

    def _check_across(self, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            if ACROSS not in row:
                continue
            if self._settle is None:
                raise ScorerError(f"scorer {self._name}: a row holds {ACROSS!r}, and there is no `settle` to read it")
            size = len(pickle.dumps(row[ACROSS], protocol=5))
            if size > MAX_ACROSS_BYTES:
                raise ScorerError(f"scorer {self._name}: {ACROSS} pickles to {size} bytes; at most {MAX_ACROSS_BYTES} are kept for a clip")

    def _try(self, samples: list[ClipSamples]) -> list[dict[str, Any]]:
        try:
            rows = self._score(samples)
            check_rows(self._name, self.columns, len(samples), rows)
            self._check_across(rows)
            return [{"faults": [], **row} for row in rows]
        except ScorerError:
            raise
        except Exception as error:  # noqa: BLE001 - a scorer may be the user's own: one clip's failure is recorded, not fatal
            if len(samples) > 1:
                return [row for one in samples for row in self._try([one])]
            return [self.null_row([Fault(self._name, type(error).__name__, str(error))])]
