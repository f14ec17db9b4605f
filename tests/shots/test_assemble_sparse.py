"""Frames further apart than the longest clip: slide shows, and screen recordings that write nothing while nothing changes."""

import pytest

from curate.clip import NS_PER_S, Span
from curate.shots import Transition
from curate.shots.assemble import ShotAssembler, ShotSpan

MAX_S = 2.0


def spans(times_s: list[float], cut_s: float, settles_with_each_frame: bool) -> list[ShotSpan]:
    """A cut at one of the frames, told when it is shown or one frame later."""
    assembler, found = ShotAssembler(MAX_S), []
    for number, time_s in enumerate(times_s):
        assembler.push(round(time_s * NS_PER_S))
        told_s = cut_s if settles_with_each_frame else times_s[min(len(times_s) - 1, times_s.index(cut_s) + 1)]
        transitions = [Transition(round(cut_s * NS_PER_S), round(cut_s * NS_PER_S))] if time_s == told_s else []
        settled_s = time_s if settles_with_each_frame else times_s[max(0, number - 1)]
        found += assembler.advance(transitions, round(settled_s * NS_PER_S))
    return found + list(assembler.finish(round(times_s[-1] * NS_PER_S) + 40_000_000, "source"))


@pytest.mark.parametrize("settles_with_each_frame", [True, False])
def test_a_cut_after_a_frame_longer_than_any_clip_leaves_no_clip_of_no_length(settles_with_each_frame: bool) -> None:
    found = spans([0.0, 0.04, 15.0, 30.0, 30.04], 30.0, settles_with_each_frame)
    edges = [(one.span.start_ns / NS_PER_S, one.span.end_ns / NS_PER_S, one.end_kind) for one in found]
    assert edges == [(0.0, 0.04, "division"), (0.04, 15.0, "division"), (15.0, 30.0, "cut"), (30.0, 30.08, "source")]
    assert all(one.span.end_ns > one.span.start_ns for one in found)
    assert [one.shot_index for one in found] == [0, 0, 0, 1]
    assert found[-1].span == Span(30 * NS_PER_S, 30 * NS_PER_S + 80_000_000)
