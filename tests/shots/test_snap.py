"""Snapping to keyframes and dividing long shots, against brute force on random spans."""

import random

import pytest

from curate.clip import Span
from curate.shots.snap import divide, snap


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


def test_division_tiles_the_shot_with_full_clips_and_one_remainder():
    source = random.Random(3)
    for _ in range(1000):
        start = source.randrange(-(10**12), 10**12)
        span = Span(start, start + source.randrange(0, 10**11))
        max_s = source.uniform(2, 15)
        pieces = divide(span, 1.5, max_s)
        assert [p.start_ns for p in pieces] + [span.end_ns] == [span.start_ns] + [p.end_ns for p in pieces]
        assert all(p.end_ns - p.start_ns == round(max_s * 1e9) for p in pieces[:-1])
        assert all(0 < p.duration_s <= max_s + 1e-9 for p in pieces)


def test_a_remainder_too_short_for_a_clip_is_kept_as_a_span():
    s = 10**9
    assert divide(Span(0, 25 * s), 2.0, 12.0) == [Span(0, 12 * s), Span(12 * s, 24 * s), Span(24 * s, 25 * s)]
    assert divide(Span(0, 24 * s), 2.0, 12.0) == [Span(0, 12 * s), Span(12 * s, 24 * s)]
    assert divide(Span(0, s), 2.0, 12.0) == [Span(0, s)]
    assert divide(Span(5, 5), 2.0, 12.0) == []


def test_division_refuses_lengths_that_make_no_sense():
    with pytest.raises(ValueError, match=r"max_clip_s=2\.0"):
        divide(Span(0, 10), 2.0, 2.0)
