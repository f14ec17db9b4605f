"""A scorer that settles its rows across the clips of a source: what it is given, what it may change, and what becomes of its evidence."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from curate.clip import Box, Span
from curate.errors import ScorerError
from curate.models import Models
from curate.pipelines.scoring import ScorerBatch
from curate.samples import ClipSamples, SourceFacts, Track, Wants
from curate.scorers import ACROSS, MAX_ACROSS_BYTES, SETTLED_TOGETHER, Column, Score


@dataclass(frozen=True)
class Scorer:
    """Says when a clip starts, and after settling how many clips its source has; `calls` keeps what each settling was given."""

    evidence_bytes: int = 8
    breaks: bool = False
    oversteps: bool = False
    batch_clips: int = 3
    calls: list[list[int | None]] = field(default_factory=list)

    version: ClassVar[int] = 1
    settles: ClassVar[tuple[str, ...]] = ("num_clips",)

    @property
    def columns(self) -> dict[str, Column]:
        return {
            "begins_ns": Column(pa.int64(), "ns", "when the clip starts"),
            "num_clips": Column(pa.int32(), "", "of its source", 0, 9999),
        }

    @property
    def samples(self) -> Wants:
        return Wants()

    def open(self, models: Models) -> Score:
        return lambda clips: [self._row(clip.span.start_ns) for clip in clips]

    def _row(self, start_ns: int) -> dict[str, Any]:
        if start_ns == 13:
            raise ValueError("a clip that cannot be scored")
        return {"begins_ns": start_ns, "num_clips": None, ACROSS: (start_ns, b"." * self.evidence_bytes)}

    def settle(self, rows: list[dict[str, Any]]) -> None:
        self.calls.append([row[ACROSS][0] if ACROSS in row else None for row in rows])
        for row in rows:
            row["num_clips"] = len(rows)
            if self.oversteps:
                row["begins_ns"] = 0
        if self.breaks:
            raise ZeroDivisionError("by nothing")


def samples(start_ns: int) -> ClipSamples:
    nothing = np.zeros(0)
    track = Track(nothing, start_ns + 1, nothing, nothing, nothing, nothing, nothing)
    return ClipSamples(SourceFacts("a", 2, 2), Span(start_ns, start_ns + 1), Box(0, 0, 2, 2), track)


def scored(scorer: Scorer, *sources: Sequence[int]) -> dict[str, dict[str, Any]]:
    batch = ScorerBatch("own", scorer, scorer.open(Models()))
    for number, starts in enumerate(sources):
        for start_ns in starts:
            batch.add(f"{number}-{start_ns}", samples(start_ns))
        batch.end_source()
    return batch.finish()


def test_each_source_is_settled_by_itself_in_the_order_of_time_and_nothing_else_is_kept():
    scorer = Scorer()
    rows = scored(scorer, [1, 5, 9, 11], [2, 3], [])
    assert scorer.calls == [[1, 5, 9, 11], [2, 3]]
    assert [row["num_clips"] for row in rows.values()] == [4, 4, 4, 4, 2, 2]
    assert all(set(row) == {"begins_ns", "num_clips", "faults"} for row in rows.values())


def test_a_clip_that_could_not_be_scored_is_handed_on_without_evidence_and_keeps_its_fault():
    scorer = Scorer()
    rows = scored(scorer, [1, 13, 20])
    assert scorer.calls == [[1, None, 20]]
    assert rows["0-13"]["begins_ns"] is None and [fault.kind for fault in rows["0-13"]["faults"]] == ["ValueError"]
    assert rows["0-20"]["faults"] == []


def test_very_many_clips_are_settled_a_stretch_at_a_time_and_no_stretch_is_short():
    scorer = Scorer()
    num = 2 * SETTLED_TOGETHER + 88
    rows = scored(scorer, range(100, 100 + num))
    assert [len(call) for call in scorer.calls] == [SETTLED_TOGETHER, SETTLED_TOGETHER + 88]
    assert [start for call in scorer.calls for start in call] == list(range(100, 100 + num))
    assert len(rows) == num


def test_what_could_not_be_settled_is_null_with_a_fault_and_the_rest_stays():
    rows = scored(Scorer(breaks=True), [1, 13])
    assert rows["0-1"]["begins_ns"] == 1 and rows["0-1"]["num_clips"] is None and ACROSS not in rows["0-1"]
    (fault,) = rows["0-1"]["faults"]
    assert fault.kind == "ZeroDivisionError" and fault.message == "settling the clips of the source: by nothing"
    assert [fault.kind for fault in rows["0-13"]["faults"]] == ["ValueError", "ZeroDivisionError"]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"oversteps": True}, "settle changed begins_ns, which is not in its `settles`"),
        ({"evidence_bytes": MAX_ACROSS_BYTES}, f"at most {MAX_ACROSS_BYTES} are kept for a clip"),
    ],
)
def test_a_scorer_that_breaks_its_word_is_stopped(parameters, says):
    with pytest.raises(ScorerError, match=says):
        scored(Scorer(**parameters), [1, 2, 3])


def test_evidence_of_a_scorer_that_never_settles_is_refused():
    class Forgetful(Scorer):
        settle = None  # type: ignore[assignment]

    with pytest.raises(ScorerError, match="a row holds 'across', and there is no `settle` to read it"):
        scored(Forgetful(), [1, 2, 3])
