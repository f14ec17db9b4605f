"""A picture that changes its size, and one that stands for minutes, through the whole pass."""

from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np
import pytest
from listed_frames import listed, picture, scan_listed

from curate.clip import NS_PER_S, Box
from curate.config import Clips, Sampling
from curate.media.picture import Picture
from curate.samples import Wants

FRAME = NS_PER_S // 25
WANTS = {"all": Wants(frames="grid", pixels="rgb", motion=True, previews=True)}


def texture(width: int, height: int, number: int, bars: int = 0) -> Picture:
    base = cv2.resize(np.random.default_rng(0).integers(60, 236, (5, 12), np.uint8), (2 * width, height), interpolation=cv2.INTER_CUBIC)
    luma = np.ascontiguousarray(np.clip(base, 16, 235)[:, number : number + width])
    if bars:
        luma[:bars] = luma[height - bars :] = 16
    return picture(luma)


@pytest.mark.parametrize("crop", ["bars", "overlays"])
def test_each_clip_is_of_one_size_and_says_which(monkeypatch, crop):
    """320x240, then 640x360 with bars of 40 lines, then 320x240 again: the same scene, scaled, as an adaptive stream has it."""
    sizes = [(320, 240, 0), (640, 360, 40), (320, 240, 0)]
    pictures = [texture(width, height, i, bars) for width, height, bars in sizes for i in range(50)]
    reader = listed(pictures, [i * FRAME for i in range(150)], 150 * FRAME)
    clips, report = scan_listed(monkeypatch, reader, WANTS, sampling=Sampling(crop=crop))
    assert not report.faults and report.num_frames == 150 and report.num_shots == 3
    assert [(c.facts.start_ns // FRAME, c.facts.end_ns // FRAME, c.facts.start_kind, c.facts.end_kind) for c in clips] == [
        (0, 50, "source", "cut"),
        (50, 100, "cut", "cut"),
        (100, 150, "cut", "source"),
    ]
    assert [(c.facts.width, c.facts.height) for c in clips] == [(320, 240), (640, 360), (320, 240)]
    assert report.probe is not None and report.probe.geometry.displayed == (320, 240)
    wide = clips[1]
    assert (wide.facts.active_width, wide.facts.active_x) == (640, 0) and 276 <= wide.facts.active_height <= 280
    for clip in clips:
        samples, facts = clip.samples["all"], clip.facts
        assert (samples.source.width, samples.source.height) == (facts.width, facts.height)
        assert samples.box == Box(facts.active_x, facts.active_y, facts.active_width, facts.active_height)
        assert {frame.shape[:2] for frame in samples.frames} == {(facts.active_height, facts.active_width)}
        assert samples.motion is not None and len({luma.shape for luma in samples.motion.grid}) == 1
        assert {pair.luma0.shape for pair in samples.motion.pairs} | {pair.luma1.shape for pair in samples.motion.pairs} == {
            samples.motion.grid[0].shape
        }
        assert facts.bits_per_pixel == pytest.approx(8 * 1000 / (facts.width * facts.height))
        assert not facts.faults and not clip.lost


def test_another_sample_aspect_is_another_size(monkeypatch):
    lumas = [texture(320, 240, i).planes[0] for i in range(60)]
    pictures = [picture(luma, Fraction(1) if i < 30 else Fraction(4, 3)) for i, luma in enumerate(lumas)]
    clips, _ = scan_listed(monkeypatch, listed(pictures, [i * FRAME for i in range(60)], 60 * FRAME), WANTS)
    assert [(c.facts.start_ns // FRAME, c.facts.width) for c in clips] == [(0, 320), (30, 427)]


def test_a_size_that_changes_with_every_frame_gives_a_clip_of_each(monkeypatch):
    pictures = [texture(64 + 2 * i, 48, i) for i in range(12)]
    clips, report = scan_listed(monkeypatch, listed(pictures, [i * NS_PER_S for i in range(12)], 12 * NS_PER_S), WANTS)
    assert not report.faults and [c.facts.width for c in clips] == [64 + 2 * i for i in range(12)]


@pytest.mark.parametrize("max_clip_s", [20.0, 30.0, 600.0])
def test_a_picture_that_stands_for_minutes_is_one_clip_or_a_part_of_one(monkeypatch, max_clip_s):
    """A second of motion, 90 s in which nothing is written, two seconds of motion: no time is lost, and no clip is without a frame."""
    times_ns = [*(i * FRAME for i in range(25)), *(90 * NS_PER_S + i * FRAME for i in range(25, 75))]
    pictures = [texture(320, 240, i) for i in range(75)]
    end_ns = times_ns[-1] + FRAME
    clips, report = scan_listed(monkeypatch, listed(pictures, times_ns, end_ns), WANTS, clips=Clips(min_clip_s=0.5, max_clip_s=max_clip_s))
    assert not report.faults
    assert (clips[0].facts.start_ns, clips[-1].facts.end_ns) == (0, end_ns)
    assert all(one.facts.end_ns == other.facts.start_ns for one, other in pairwise(clips))
    assert all(c.facts.num_frames >= 1 and c.samples["all"].frames and not c.facts.faults for c in clips)
    assert all(c.facts.duration_s <= max_clip_s or c.facts.num_frames == 1 for c in clips), "only a single picture lasts longer"
    assert sum(c.facts.num_frames for c in clips) == 75
