"""Windows of frames: strides over distinct pictures, and which windows are even. Times are made here, so the truth is known."""

from fractions import Fraction

import numpy as np
import pytest

from curate.windows import WindowSpec, distinct, effective_fps, fps_id, padded_interval_ns, stride_for, window_fps, windows

SVD = WindowSpec(14, 7.0)


def times(num_frames: int, fps: Fraction | int, start_ns: int = 0, rounded_to_ns: int = 1) -> np.ndarray:
    exact = [start_ns + k * 10**9 / Fraction(fps) for k in range(num_frames)]
    return np.array([round(t / rounded_to_ns) * rounded_to_ns for t in exact], np.int64)


def shown(content_fps: Fraction | int, rate: Fraction | int, num_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames at `rate` that show pictures of a lower rate: times, which repeat, and which picture each shows."""
    picture = np.array([int(k * Fraction(content_fps) / Fraction(rate)) for k in range(num_frames)])
    return times(num_frames, rate), np.concatenate([[False], picture[1:] == picture[:-1]]), picture


def none_repeat(times_ns: np.ndarray) -> np.ndarray:
    return np.zeros(len(times_ns), bool)


@pytest.mark.parametrize(
    ("fps", "stride"), [(24, 3), (23.976, 3), (25, 4), (29.97, 4), (30, 4), (50, 7), (60, 9), (12, 2), (15, 2), (8, 1), (7, 1), (6, 1)]
)
def test_the_stride_brings_the_rate_nearest_to_the_wanted_one_in_ratio(fps, stride):
    every = {s: abs(np.log(fps / s / 7)) for s in range(1, 40)}
    assert stride == min(every, key=every.get)
    assert stride_for(fps, SVD) == stride


@pytest.mark.parametrize("fps", [10, 5, 3, 9, 11])
def test_a_rate_without_a_whole_number_near_is_refused(fps):
    assert stride_for(fps, SVD) is None
    reason = windows(times(100, fps), np.zeros(100, bool), SVD)
    assert reason == f"rate: {fps} distinct pictures/s have no whole-number stride near 7 fps"


def test_every_rate_from_eleven_and_a_fifth_on_has_a_stride():
    assert all(stride_for(fps, SVD) for fps in np.arange(11.21, 240, 0.01))


def test_a_plain_clip_gives_every_window_there_is():
    times_ns = times(90, 30, start_ns=-5_000_000_000)
    found = windows(times_ns, none_repeat(times_ns), SVD)
    assert (found.stride, found.fps) == (4, pytest.approx(7.5))
    assert found.starts.tolist() == list(range(90 - 4 * 13))
    assert found.times_ns(5).tolist() == times_ns[5 : 5 + 4 * 13 + 1 : 4].tolist()
    assert window_fps(found.times_ns(5)) == pytest.approx(7.5)
    assert fps_id(found.fps) == 7  # 7.5 rounds to the even 8


@pytest.mark.parametrize(("fps", "conditioned_on"), [(7.0, 6), (6.25, 5), (8.33, 7), (24.0, 23), (0.4, 0)])
def test_the_id_is_the_rate_minus_one(fps, conditioned_on):
    assert fps_id(fps) == conditioned_on


def test_one_frame_too_few_is_too_short_and_one_window_is_enough():
    enough = times(13 * 4 + 1, 25)
    assert windows(enough, none_repeat(enough), SVD).starts.tolist() == [0]
    short = enough[:-1]
    assert windows(short, none_repeat(short), SVD) == "too short: 2.0 s hold 13 of 14 frames at 6.25 fps"
    assert windows(short[:1], none_repeat(short[:1]), SVD).startswith("too short")
    assert windows(short[:0], none_repeat(short[:0]), SVD).startswith("too short")


@pytest.mark.parametrize(
    ("content_fps", "rate"),
    [(24, 30), (Fraction(24000, 1001), Fraction(30000, 1001)), (24, 60), (24, 25), (25, 30), (25, 60), (20, 24), (16, 24)],
)
def test_a_padded_rate_gives_every_window_and_the_rate_of_its_pictures(content_fps, rate):
    times_ns, repeats, picture = shown(content_fps, rate, 240)
    found = windows(times_ns, repeats, SVD)
    assert found.stride == stride_for(float(content_fps), SVD)
    assert found.fps == pytest.approx(float(content_fps) / found.stride, rel=0.01)
    assert len(found) == len(np.unique(picture)) - 13 * found.stride
    for k in range(len(found)):
        seen = picture[np.searchsorted(times_ns, found.times_ns(k))]
        assert (np.diff(seen) == found.stride).all(), "pictures come evenly"
        assert window_fps(found.times_ns(k)) == pytest.approx(found.fps, rel=0.03)


@pytest.mark.parametrize("times_shown", [2, 3])
def test_on_twos_and_threes_the_stride_counts_distinct_pictures(times_shown):
    times_ns, repeats, picture = shown(Fraction(24, times_shown), 24, 480)
    found = windows(times_ns, repeats, SVD)
    assert found.stride == {2: 2, 3: 1}[times_shown]
    assert len(found) == 480 // times_shown - 13 * found.stride
    assert (np.diff(picture[np.searchsorted(times_ns, found.times_ns(7))]) == found.stride).all()


def across(found, times_ns: np.ndarray, index: int) -> list[bool]:
    """For each window whether the moment of a frame lies inside it."""
    return [found.times_ns(k)[0] < times_ns[index] <= found.times_ns(k)[-1] for k in range(len(found))]


def test_windows_across_a_dropped_frame_are_refused_and_no_others():
    times_ns = np.delete(times(300, 30), 150)
    found = windows(times_ns, none_repeat(times_ns), SVD)
    assert found.starts.tolist() == [s for s in range(299 - 52) if not s < 150 <= s + 52]
    assert not any(across(found, times_ns, 150))


def test_windows_across_a_repeated_frame_are_refused_and_no_others():
    times_ns, repeats = times(300, 30), np.zeros(300, bool)
    repeats[150] = True
    found = windows(times_ns, repeats, SVD)
    assert found.starts.tolist() == [s for s in range(299 - 52) if not s < 150 <= s + 52]


def test_a_picture_held_for_a_second_refuses_its_windows_and_leaves_the_rate():
    times_ns, repeats = times(400, 30), np.zeros(400, bool)
    repeats[200:230] = True
    found = windows(times_ns, repeats, SVD)
    assert (found.stride, found.fps) == (4, pytest.approx(7.5))
    assert not any(across(found, times_ns, 215))
    assert len(found) == 370 - 52 - 52


def test_a_hiccup_on_twos_is_refused_though_repeats_are_ordinary_there():
    picture = np.repeat(np.arange(120), 2)
    picture = np.insert(picture, 100, picture[100])  # picture 50 is shown three times
    times_ns = times(len(picture), 24)
    found = windows(times_ns, np.concatenate([[False], np.diff(picture) == 0]), WindowSpec(14, 6.0))
    assert found.starts.tolist() == [s for s in range(120 - 26) if not s <= 50 < s + 26]


def test_a_missed_picture_in_a_padded_clip_refuses_its_windows():
    times_ns, repeats, _ = shown(24, 30, 300)
    at = int(np.flatnonzero(~repeats)[100])
    repeats = repeats.copy()
    repeats[at] = True
    found = windows(times_ns, repeats, SVD)
    assert 0 < len(found) < 239 - 39 - 30
    assert not any(across(found, times_ns, at))


def test_frames_repeated_at_random_are_no_cadence():
    rng = np.random.default_rng(3)
    for share in (0.05, 0.1):
        times_ns, repeats = times(600, 30), rng.random(600) < share
        assert padded_interval_ns(times_ns, repeats, distinct(times_ns, repeats)) is None
        found = windows(times_ns, repeats, SVD)
        kept = [] if isinstance(found, str) else found.starts
        assert len(kept) == sum(not repeats[s : s + 53].any() for s in range(600 - 52))


def test_repeats_that_are_dense_but_unbalanced_give_no_window():
    shown_for = np.random.default_rng(4).choice([1, 2], 400)  # distances between repeats are short, so nearly all alike
    repeats = np.concatenate([[False] + [True] * (n - 1) for n in shown_for])
    times_ns = times(len(repeats), 30)
    assert padded_interval_ns(times_ns, repeats, distinct(times_ns, repeats)) is not None
    assert str(windows(times_ns, repeats, SVD)).startswith("uneven")


def test_jitter_of_a_phone_is_even_and_the_rate_is_the_windows_own():
    rng = np.random.default_rng(0)
    times_ns = times(300, Fraction(2987, 100)) + rng.integers(-4_000_000, 4_000_001, 300)
    found = windows(times_ns, none_repeat(times_ns), SVD)
    assert len(found) == 300 - 52
    rates = [window_fps(found.times_ns(k)) for k in range(len(found))]
    assert max(abs(rate / (29.87 / 4) - 1) for rate in rates) < 0.006
    assert len(set(rates)) > 100


def test_a_phone_that_slows_down_in_the_dark_gives_windows_on_both_sides():
    times_ns = np.concatenate([times(150, 30), 5_000_000_000 + times(120, 24)])
    found = windows(times_ns, none_repeat(times_ns), SVD)
    rates = np.array([window_fps(found.times_ns(k)) for k in range(len(found))])
    assert (np.isclose(rates, 7.5, rtol=1e-6) | np.isclose(rates, 6.0, rtol=1e-6)).mean() > 0.6
    assert {round(rate, 3) for rate in (rates[0], rates[-1])} == {7.5, 6.0}
    for k in range(len(found)):
        gaps = np.diff(found.times_ns(k))
        assert np.abs(gaps / np.median(gaps) - 1).max() <= 0.1 + 1e-9


def test_windows_whose_own_rate_leaves_the_tolerance_are_refused():
    times_ns = np.concatenate([times(200, 30), 20 * 333_333_333 + times(60, 15)])
    found = windows(times_ns, none_repeat(times_ns), SVD)
    assert all(SVD.takes(window_fps(found.times_ns(k))) for k in range(len(found)))
    assert found.times_ns(len(found) - 1)[-1] < times_ns[202]


@pytest.mark.parametrize("fps", [24, 25, Fraction(30000, 1001), 60, Fraction(60000, 1001)])
def test_time_stamps_rounded_to_milliseconds_are_even(fps):
    times_ns = times(240, fps, rounded_to_ns=1_000_000)
    assert len(windows(times_ns, none_repeat(times_ns), SVD)) == 240 - 13 * stride_for(float(fps), SVD)
    native = WindowSpec(14, float(fps))
    assert len(windows(times_ns, none_repeat(times_ns), native)) == 240 - 13


def test_windows_apart_share_nothing_and_leave_no_room_for_another():
    times_ns = np.delete(times(400, 30), 210)
    found = windows(times_ns, none_repeat(times_ns), SVD)
    chosen = found.apart()
    starts = found.starts[chosen]
    assert starts[0] == found.starts[0]
    assert (np.diff(starts) >= 53).all()
    for gap_start, gap_end in zip(starts[:-1] + 53, starts[1:], strict=True):
        assert not [s for s in found.starts if gap_start <= s and s + 53 <= gap_end], "a whole window would fit"
    assert not any(starts[-1] + 53 <= found.starts)


def test_the_effective_rate_is_not_moved_by_one_long_hold():
    assert effective_fps(times(100, 25)) == pytest.approx(25)
    held = times(100, 25)
    held[50:] += 3_000_000_000
    assert effective_fps(held) == pytest.approx(25)


@pytest.mark.parametrize(
    ("values", "text"),
    [((1, 7.0), "num_frames=1"), ((14, 0.0), "fps=0"), ((14, float("nan")), "fps=nan"), ((14, 7.0, -0.1), "fps_tolerance")],
)
def test_a_specification_that_cannot_be_met_is_refused(values, text):
    with pytest.raises(ValueError, match=text):
        WindowSpec(*values)
