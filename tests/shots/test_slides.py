"""Slides that are one frame each are shots, as they are where every frame is written; sparse video of one scene is not cut."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from curate.clip import NS_PER_S
from curate.shots import Transition
from curate.shots.params import Shots, open_detector

SLIDES = 8


def slide(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.resize((rng.random((24, 32, 3)) * 255).astype(np.uint8), (64, 36), interpolation=cv2.INTER_AREA)


def detected(detector: str, frames: Sequence[np.ndarray], times_s: Sequence[float], end_s: float) -> list[Transition]:
    one = open_detector(Shots(detector=detector))
    found = [transition for frame, at_s in zip(frames, times_s, strict=True) for transition in one.push(round(at_s * NS_PER_S), frame)]
    return found + one.finish(round(end_s * NS_PER_S))


def cuts_s(found: Sequence[Transition]) -> list[float]:
    assert {one.kind for one in found} <= {"cut"}
    return [one.start_ns / NS_PER_S for one in found]


@pytest.mark.parametrize("detector", ["cascade", "verify"])
@pytest.mark.parametrize(("each_s", "copies"), [(0.5, 1), (1.0, 1), (1.0, 2), (2.0, 4), (5.0, 1), (90.0, 1)])
def test_each_slide_is_a_shot_however_few_frames_it_has(detector, each_s, copies):
    frames = [slide(seed) for seed in range(SLIDES) for _ in range(copies)]
    times_s = [i * each_s / copies for i in range(len(frames))]
    assert cuts_s(detected(detector, frames, times_s, SLIDES * each_s)) == [i * each_s for i in range(1, SLIDES)]


def test_slides_are_cut_as_they_are_where_every_frame_is_written():
    dense = [slide(seed) for seed in range(SLIDES) for _ in range(25)]
    sparse = [slide(seed) for seed in range(SLIDES)]
    times_s = [i / 25 for i in range(len(dense))]
    assert detected("cascade", dense, times_s, SLIDES) == detected("cascade", sparse, list(range(SLIDES)), SLIDES)


def test_a_blank_slide_is_a_fade_in_either(detect):
    """Its neighbours keep their whole time; where the fade begins at the frame of an interval, nothing is left to look for."""
    slides = [slide(0), slide(1), slide(2), np.full((36, 64, 3), 255, np.uint8), slide(3), slide(4)]
    expected = [(2, 2, "cut"), (4, 4, "cut"), (6, 8, "fade"), (10, 10, "cut")]
    for copies in (50, 1):
        frames, times_s = [one for one in slides for _ in range(copies)], [2 * i / copies for i in range(6 * copies)]
        found = detect(open_detector(Shots()), [round(t * NS_PER_S) for t in times_s], frames, 12 * NS_PER_S)
        assert [(one.start_ns / NS_PER_S, one.end_ns / NS_PER_S, one.kind) for one in found] == expected


def test_slides_between_videos_are_shots(footage):
    _, moving = footage("carphone")
    num = len(moving)
    frames = [*moving, *(slide(seed) for seed in range(4)), *moving]
    begin_s = num / 25
    times_s = [*(i / 25 for i in range(num)), *(begin_s + i for i in range(4)), *(begin_s + 4 + i / 25 for i in range(num))]
    assert cuts_s(detected("cascade", frames, times_s, times_s[-1] + 0.04)) == pytest.approx([begin_s + i for i in range(5)])


@pytest.mark.parametrize("fps", [0.2, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("name", ["carphone", "bigbuckbunny", "bikes0", "bikes1", "bikes2", "bikes3", "bikes4", "bikes5"])
def test_one_real_shot_seen_a_few_times_a_second_is_not_cut(footage, name, fps):
    _, frames = footage(name)
    every = frames[:: max(1, round(25 / max(fps, 1.0)))]
    times_s = [i / fps for i in range(len(every))]
    assert detected("cascade", every, times_s, len(every) / fps) == []


def test_a_thing_that_moves_over_a_plain_ground_is_no_other_picture():
    frames = []
    for i in range(10):
        frame = np.full((36, 64, 3), 250, np.uint8)
        cv2.circle(frame, (6 + 5 * i, 30 - 2 * i), 4, (0, 0, 255), -1)
        frames.append(frame)
    assert detected("cascade", frames, list(range(10)), 10) == []
