"""Snapping to keyframes and dividing long shots, against brute force on random spans."""

import random

import pytest

from curate.clip import Span
from curate.shots.snap import snap


def brute_force(span, keyframes, ends_source):
    """The longest span whose edges are keyframes inside the given one (or its end, where the source ends with it)."""
    inside = [k for k in keyframes if span.start_ns <= k <= span.end_ns]
    ends = [*inside, span.end_ns] if ends_source else inside
    pairs = [(end - start, start, end) for start in inside for end in ends if start < end]
    return Span(*max(pairs)[1:]) if pairs else None


@pytest.mark.parametrize("ends_source", [False, True])
def test_snapping_gives_the_longest_span_between_keyframes_that_crosses_no_cut(ends_source):
    source = random.Random(7)
    outcomes = set()
    for _ in range(3000):
        keyframes = sorted(source.sample(range(-20, 120), source.randrange(0, 12)))
        start = source.randrange(-20, 100)
        span = Span(start, start + source.randrange(0, 60))
        snapped = snap(span, keyframes, ends_source)
        assert snapped == brute_force(span, keyframes, ends_source)
        if snapped is not None:
            assert span.start_ns <= snapped.start_ns < snapped.end_ns <= span.end_ns
            assert snapped.start_ns in keyframes
        outcomes.add(snapped is None)
    assert outcomes == {False, True}


def test_a_start_goes_forward_and_an_end_back():
    assert snap(Span(10, 95), [0, 20, 40, 60, 80, 100]) == Span(20, 80)
    assert snap(Span(20, 80), [0, 20, 40, 60, 80, 100]) == Span(20, 80)
    assert snap(Span(21, 59), [0, 20, 40, 60]) is None
    assert snap(Span(21, 39), [0, 20, 40]) is None
    assert snap(Span(21, 55), [0, 20, 40], ends_source=True) == Span(40, 55)
    assert snap(Span(5, 9), []) is None
