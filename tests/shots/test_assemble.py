"""Clip spans from transitions: nothing lost, nothing twice, divisions on frame times."""

import numpy as np
import pytest

from curate.shots import Transition
from curate.shots.assemble import ShotAssembler

FRAME = 40_000_000


def assemble(num_frames, transitions, max_clip_s=12.0, latency=10):
    """Feeds frames at 25 fps; each transition is told `latency` frames after it ends."""
    assembler = ShotAssembler(max_clip_s)
    found, waiting = [], sorted(transitions)
    for index in range(num_frames):
        assembler.push(index * FRAME)
        settled = (index - latency) * FRAME
        told = [t for t in waiting if t.end_ns <= settled]
        waiting = [t for t in waiting if t.end_ns > settled]
        found += assembler.advance(told, max(0, settled))
    end = num_frames * FRAME
    found += assembler.advance(waiting, end)
    found += assembler.finish(end, "source")
    return found, assembler


def test_clips_and_transitions_tile_the_source():
    transitions = [Transition(50 * FRAME, 50 * FRAME), Transition(100 * FRAME, 112 * FRAME, "dissolve")]
    found, assembler = assemble(200, transitions)
    assert [(s.span.start_ns // FRAME, s.span.end_ns // FRAME) for s in found] == [(0, 50), (50, 100), (112, 200)]
    assert [(s.start_kind, s.end_kind) for s in found] == [("source", "cut"), ("cut", "dissolve"), ("dissolve", "source")]
    assert [s.shot_index for s in found] == [0, 1, 2]
    assert assembler.num_shots == 3


def test_long_shots_are_divided_greedily_and_the_short_rest_is_kept_as_a_clip():
    found, _ = assemble(26 * 25, [], max_clip_s=12.0)
    assert [s.span.duration_s for s in found] == [12.0, 12.0, 2.0]
    assert [s.clip_index for s in found] == [0, 1, 2]
    assert {s.shot_index for s in found} == {0}
    assert [s.end_kind for s in found] == ["division", "division", "source"]


@pytest.mark.parametrize("latency", [0, 3, 40, 10_000])
def test_the_detectors_latency_changes_nothing(latency):
    transitions = [Transition(70 * FRAME, 70 * FRAME), Transition(420 * FRAME, 430 * FRAME, "fade"), Transition(431 * FRAME, 431 * FRAME)]
    assert assemble(1000, transitions, 5.0, latency)[0] == assemble(1000, transitions, 5.0, 10)[0]


def test_no_clip_is_longer_than_the_limit_on_uneven_frame_times():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.integers(1_000_000, 400_000_000, 500)).tolist()
    assembler, found = ShotAssembler(3.0), []
    for time_ns in times:
        assembler.push(time_ns)
        found += assembler.advance([], time_ns)
    found += assembler.finish(times[-1] + 1, "source")
    assert all(s.span.duration_s <= 3.0 for s in found)
    assert [s.span.end_ns for s in found[:-1]] == [s.span.start_ns for s in found[1:]]
    assert {s.span.start_ns for s in found} <= set(times)


def test_a_transition_at_either_end_leaves_no_empty_clip():
    found, _ = assemble(100, [Transition(0, 20 * FRAME, "fade"), Transition(80 * FRAME, 100 * FRAME, "fade")])
    assert [(s.span.start_ns // FRAME, s.span.end_ns // FRAME) for s in found] == [(20, 80)]


def test_a_long_black_stretch_told_in_touching_pieces_is_one_gap():
    pieces = [Transition(a * FRAME, b * FRAME, "fade") for a, b in ((50, 150), (150, 250), (250, 300))]
    found, assembler = assemble(400, pieces)
    assert [(s.span.start_ns // FRAME, s.span.end_ns // FRAME) for s in found] == [(0, 50), (300, 400)]
    assert assembler.num_shots == 2
