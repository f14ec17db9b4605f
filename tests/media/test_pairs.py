"""The pair picker: which frames it takes, at what times, and what it holds on to."""

import gc
import weakref
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from curate.clip import NS_PER_S, Span
from curate.media.pairs import PairPicker
from curate.samples import Pair


class Handle:
    """Stands for a decoded frame; its luma is its number."""

    def __init__(self, number: int) -> None:
        self.number, self.num_calls = number, 0

    def analysis_luma(self) -> np.ndarray:
        self.num_calls += 1
        return np.full((2, 2), self.number, np.uint16)


def picked(times_ns: Iterable[int], repeats: Sequence[bool] | None = None) -> tuple[Pair, ...]:
    times_ns = list(times_ns)
    picker = PairPicker(250)
    for i, time_ns in enumerate(times_ns):
        picker.push(time_ns, repeats is not None and repeats[i], Handle(i))
    return picker.cut(Span(times_ns[0], times_ns[-1] + times_ns[-1] - times_ns[-2]))


def steady(fps: float | Fraction, duration_s: float, unit_ns: int = 1) -> list[int]:
    """Times of a steady rate, rounded to a container's unit."""
    return [round(Fraction(i * NS_PER_S) / Fraction(fps) / unit_ns) * unit_ns for i in range(round(duration_s * fps))]


def spacings_ms(pairs: Sequence[Pair]) -> list[float]:
    return [(pair.time1_ns - pair.time0_ns) / 1e6 for pair in pairs]


def frames_of(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    return [(int(pair.luma0[0, 0]), int(pair.luma1[0, 0])) for pair in pairs]


SPACINGS_MS = {
    8: 125,
    12: 166.7,
    12.5: 160,
    15: 133.3,
    Fraction(24000, 1001): 166.8,
    24: 166.7,
    25: 160,
    Fraction(30000, 1001): 133.5,
    30: 133.3,
    48: 145.8,
    50: 140,
    60: 150,
    120: 150,
    240: 150,
}


@pytest.mark.parametrize(("fps", "spacing_ms"), SPACINGS_MS.items())
@pytest.mark.parametrize("unit_ns", [1, 1_000_000], ids=["exact", "milliseconds"])
def test_every_frame_rate_has_one_spacing_near_150_ms(fps: float, spacing_ms: float, unit_ns: int) -> None:
    pairs = picked(steady(fps, 20, unit_ns))
    assert 68 <= len(pairs) <= 80
    tolerance_ms = 1000 / fps if fps > 100 else 1.1
    assert spacings_ms(pairs) == pytest.approx([spacing_ms] * len(pairs), abs=tolerance_ms)


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 60])
def test_dropping_every_second_frame_keeps_the_spacing_within_15_per_cent(fps: int) -> None:
    whole, half = picked(steady(fps, 10)), picked(steady(fps, 10)[::2])
    assert abs(len(whole) - len(half)) <= 1
    assert np.mean(spacings_ms(half)) == pytest.approx(np.mean(spacings_ms(whole)), rel=0.15)


@pytest.mark.parametrize("fps", [24, 25, 30, 60])
@pytest.mark.parametrize("copies", [2, 3])
def test_repeating_frames_changes_no_pair(fps: int, copies: int) -> None:
    once = picked(steady(fps, 10))
    times_ns = steady(fps * copies, 10)
    repeated = picked(times_ns, [i % copies > 0 for i in range(len(times_ns))])
    first_of = [(a // copies, b // copies) for a, b in frames_of(repeated)]
    assert first_of == frames_of(once)
    times = [np.array([(pair.time0_ns, pair.time1_ns) for pair in pairs]) for pairs in (once, repeated)]
    np.testing.assert_allclose(*times, rtol=0, atol=2)
    assert all(a % copies == 0 and b % copies == 0 for a, b in frames_of(repeated))


@pytest.mark.parametrize("fps", [10, 9, 5, 4, 1])
def test_there_are_no_pairs_where_no_frames_lie_that_far_apart(fps: int) -> None:
    assert picked(steady(fps, 10)) == ()


def test_ten_pictures_a_second_repeated_to_thirty_are_still_ten() -> None:
    """Shown for 100 ms, they are neither held nor 120 to 175 ms apart."""
    times_ns = steady(30, 10)
    assert picked(times_ns, [i % 3 > 0 for i in range(len(times_ns))]) == ()


def test_uneven_times_give_pairs_of_true_distance_between_120_and_175_ms() -> None:
    rng = np.random.default_rng(0)
    times_ns = np.cumsum(rng.integers(5_000_000, 70_000_000, 600)).tolist()
    pairs = picked(times_ns)
    assert len(pairs) >= 60
    for pair, (a, b) in zip(pairs, frames_of(pairs), strict=True):
        assert (pair.time0_ns, pair.time1_ns) == (times_ns[a], times_ns[b])
        miss_ns = [abs(t - times_ns[a] - 148_000_000) for t in times_ns]
        assert miss_ns[b] == min(miss_ns)
        assert 120_000_000 <= pair.time1_ns - pair.time0_ns <= 175_000_000


def test_a_held_picture_gives_pairs_of_its_own_frames() -> None:
    times_ns = steady(30, 4)
    repeats = [30 < i < 90 for i in range(120)]  # one picture from 1 s to 3 s
    pairs = picked(times_ns, repeats)
    held = [(a, b) for a, b in frames_of(pairs) if 30 < a < 90 and 30 < b < 90]
    assert len(held) >= 6
    assert all(a < b for a, b in held)
    gaps_ms = np.diff([pair.time0_ns / 1e6 for pair in pairs])
    assert gaps_ms.max() < 2 * 250


@pytest.mark.parametrize("num_frames", [11, 12, 15, 18, 30])
def test_held_pictures_move_as_fast_on_average_as_they_do(num_frames: int) -> None:
    """A staircase of 1 unit every 183 to 500 ms: pairs inside a step see 0, pairs across see 1, the mean speed is that of the stairs."""
    times_ns = steady(60, 300)
    steps = [i // num_frames for i in range(len(times_ns))]
    pairs = picked(times_ns, [a == b for a, b in pairwise([-1, *steps])])
    moved = np.array([steps[b] - steps[a] for a, b in frames_of(pairs)])
    speeds = moved / np.array([pair.time1_ns - pair.time0_ns for pair in pairs]) * num_frames / 60 * 1e9
    assert len(pairs) >= 1000
    assert np.mean(speeds) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("period_ms", [200, 250, 500, 1000])
def test_anchors_do_not_fall_in_step_with_a_cadence(period_ms: int) -> None:
    phases = np.array([pair.time0_ns / 1e6 % period_ms / period_ms for pair in picked(steady(60, 120))])
    counts = np.histogram(phases, bins=4, range=(0, 1))[0]
    assert counts.min() >= 0.75 * counts.mean()


def test_pairs_lie_inside_the_span_and_nothing_after_it_has_a_say() -> None:
    rng = np.random.default_rng(3)
    times_ns = np.cumsum(rng.choice([16_000_000, 33_000_000, 50_000_000], 1500)).tolist()
    repeats = np.repeat(rng.uniform(size=300) < 0.6, 5).tolist()
    bounds = sorted(rng.choice(times_ns, 40, replace=False).tolist())
    spans = [Span(a, b) for a, b in pairwise(bounds)]
    at_once, late, num_pairs = PairPicker(250), PairPicker(250), 0
    for i, time_ns in enumerate(times_ns):
        late.push(time_ns, repeats[i], Handle(i))
    waiting = list(spans)
    for i, time_ns in enumerate(times_ns):
        while waiting and waiting[0].end_ns <= time_ns:
            span = waiting.pop(0)
            first, second = at_once.cut(span), late.cut(span)
            assert frames_of(first) == frames_of(second)
            assert all(pair.time0_ns in span and pair.time1_ns in span for pair in first)
            at_once.forget_before(span.end_ns)
            num_pairs += len(first)
        at_once.push(time_ns, repeats[i], Handle(i))
    assert num_pairs > 50


def test_forgetting_what_lies_before_a_span_changes_nothing_in_it() -> None:
    times_ns, span = steady(30, 8), Span(3_010_000_000, 7_000_000_000)
    kept, forgetful = PairPicker(250), PairPicker(250)
    for i, time_ns in enumerate(times_ns):
        for picker in (kept, forgetful):
            picker.push(time_ns, False, Handle(i))
        forgetful.forget_before(min(time_ns, span.start_ns))
    assert frames_of(kept.cut(span)) == frames_of(forgetful.cut(span))
    forgetful.forget_before(span.end_ns)
    assert forgetful.cut(Span(0, span.end_ns)) == ()


@pytest.mark.parametrize("fps", [24, 60, 240])
def test_only_chosen_frames_are_converted_and_each_once(fps: int) -> None:
    picker, handles = PairPicker(250), [Handle(i) for i in range(fps * 10)]
    for time_ns, handle in zip(steady(fps, 10), handles, strict=True):
        picker.push(time_ns, False, handle)
    pairs = picker.cut(Span(0, 10 * NS_PER_S))
    converted = {handle.number for handle in handles if handle.num_calls}
    assert {handle.num_calls for handle in handles} == {0, 1}
    # The pair that is open at the end of the source may have been converted as well.
    assert len(converted - {n for pair in frames_of(pairs) for n in pair}) <= 2


@pytest.mark.parametrize("copies", [1, 2, 40])
def test_frames_are_let_go_within_a_third_of_a_second(copies: int) -> None:
    picker, alive = PairPicker(250), []
    gc.freeze()  # what other tests have loaded need not be searched twenty times
    try:
        for i, time_ns in enumerate(steady(60, 10)):
            handle = Handle(i)
            alive.append((time_ns, weakref.ref(handle)))
            picker.push(time_ns, i % copies > 0, handle)
            del handle
            if i % 30 == 0:
                gc.collect()
                held = [t for t, ref in alive if ref() is not None]
                assert len(held) <= 9
                assert not held or time_ns - min(held) <= 350_000_000
    finally:
        gc.unfreeze()


def test_cuts_between_pushes_are_not_crossed() -> None:
    times_ns = steady(25, 4)
    picker = PairPicker(250)
    for i, time_ns in enumerate(times_ns):
        picker.push(time_ns, False, Handle(i))
    cut_ns = 2_000_000_000
    before, after = picker.cut(Span(0, cut_ns)), picker.cut(Span(cut_ns, 4 * NS_PER_S))
    assert before and after
    assert all(b < 50 for _, b in frames_of(before))
    assert all(a >= 50 for a, _ in frames_of(after))
