"""What is known of the kinds beside their rows: the times that were written, the pictures before a fault, the scores of a twin."""

import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from faults.kinds import BUILT
from faults.material import FRAMES
from faults.times import EVEN_NS, UNEVEN_MS

from curate import scorers
from curate.clip import Fault
from curate.config import Clips, Decode, Sampling
from curate.media.decode import LONGEST_NS, DecodedFrame, PyAVReader
from curate.scan import Pass, ScanReport, scan
from curate.shots.params import Shots
from curate.sources import Source

KINDS = {kind.name: kind for kind in BUILT}
MS_NS = 1_000_000

# Presentation times in nanoseconds; a stream of 90 kHz or of whole milliseconds says them exactly, others to half a tick.
TIMES: dict[str, list[int]] = {
    "starts_at_10_s.mkv": [10_000_000_000 + t for t in EVEN_NS],
    "starts_at_10_s.mp4": [10_000_000_000 + t for t in EVEN_NS],
    "starts_at_10_h.ts": [36_000_000_000_000 + t for t in EVEN_NS],
    "clock_wraps.ts": [t - 800_000_000 for t in EVEN_NS],
    "clock_wraps_late.ts": [round((2**33 / 90_000 - 100) * 1e9) + t for t in EVEN_NS],
    "joined_recordings.ts": EVEN_NS,
    "clock_goes_back.mkv": [40 * MS_NS + t for t in EVEN_NS[:30]],
    "gap_of_3_s.mkv": [t + 3_000_000_000 * (n >= 20) for n, t in enumerate(EVEN_NS)],
    "gap_of_30_h.mkv": [t + 108_000_000_000_000 * (n >= 20) for n, t in enumerate(EVEN_NS)],
    "uneven.mkv": [ms * MS_NS for ms in UNEVEN_MS],
    "uneven.mp4": [ms * MS_NS for ms in UNEVEN_MS],
    "slide_every_2_s.mp4": [n * 2_000_000_000 for n in range(6)],
    "a_thousand_a_second.mp4": [round(n * 13 / 12_800 * 1e9) for n in range(FRAMES)],
    "edit_starts_later.mp4": EVEN_NS[:30],
    "edit_ends_sooner.mp4": EVEN_NS[:20],
    "edit_inside_a_group.mp4": EVEN_NS[:25],
    "edit_begins_empty.mp4": [2_000_000_000 + t for t in EVEN_NS],
    "edit_of_two_pieces.mp4": EVEN_NS[:20],
    "edit_b_frames.mp4": EVEN_NS[:25],
    "b_frames.mp4": EVEN_NS,
    "b_frames.mkv": EVEN_NS,
    "open_groups.mp4": EVEN_NS,
    "bare_b_frames.h264": EVEN_NS,
    "bare.mjpeg": EVEN_NS,
}
# The undamaged kind, and which of its pictures come.
HURT = [*range(15), *range(20, 40)]
SHOWN: dict[str, tuple[str, list[int]]] = {
    "edit_starts_later.mp4": ("h264.mp4", [*range(10, 40)]),
    "edit_inside_a_group.mp4": ("h264.mp4", [*range(13, 38)]),
    "edit_of_two_pieces.mp4": ("h264.mp4", [*range(10), *range(30, 40)]),
    "edit_plays_twice.mp4": ("h264.mp4", [*range(20), *range(20)]),
    "hurt_h264.mp4": ("h264.mp4", HURT),
    "hurt_hevc.mp4": ("hevc.mp4", HURT),
    "hurt_vp9.webm": ("vp9.webm", HURT),
    "hurt_mpeg4.avi": ("mpeg4.avi", HURT),
    "hurt_mpeg2.mkv": ("mpeg2.mxf", HURT),
    "hurt_first_keyframe.mp4": ("h264.mp4", [*range(10, 40)]),
    "hurt_second_frame.mp4": ("h264.mp4", [0, *range(10, 40)]),
    "hurt_twice.avi": ("mpeg4.avi", [*range(13), *range(20, 28), *range(30, 40)]),
    "open_group_first.ts": ("open_groups.ts", [*range(20, 40)]),
    "begun_inside_a_group.ts": ("h264.ts", [*range(20, 40)]),
    "begun_inside_hevc.ts": ("hevc.ts", [*range(20, 40)]),
    "begun_inside_mpeg4.ts": ("mpeg4.avi", [*range(20, 40)]),
    "begun_inside_mpeg2.mpg": ("mpeg2.mpg", [*range(20, 40)]),
    "lost_packets.ts": ("h264.ts", [*range(20), *range(30, 40)]),
    "half_downloaded.mp4": ("h264.mp4", [*range(20)]),
    "cut_50.mkv": ("h264.mkv", [*range(20)]),
    "cut_90.ts": ("h264.ts", [*range(36)]),
    "clock_goes_back.mkv": ("h264.mkv", [*range(20), *range(30, 40)]),
    "joined_recordings.ts": ("h264.ts", [*range(40)]),
    "times_repeated.mkv": ("h264.mkv", range(40)),
    "negative_times.mkv": ("h264.mp4", [*range(25)]),
}

SAME_STREAM = [
    "h264.mov",
    "h264.mkv",
    "h264.ts",
    "h264.m2ts",
    "h264.flv",
    "h264.3gp",
    "h264.mxf",
    "h264_fragments.mp4",
    "two_videos.mp4",
    "two_videos.mkv",
    "two_videos.ts",
    "with_sound.mp4",
    "with_text.mp4",
    "with_text_and_font.mkv",
    "matrix_of_zeros.mp4",
]
NEAR = [
    "ffv1.mkv",
    "raw.avi",
    "raw.nut",
    "raw.y4m",
    "huffyuv.avi",
    "utvideo.avi",
    "qtrle.mov",
    "png.mov",
    "apng.gif",
    "v210.mov",
    "magicyuv.avi",
    "zmbv.avi",
    "prores.mov",
    "prores.mxf",
    "cineform.mov",
    "jpeg2000.mov",
    "mjpeg.avi",
    "mpeg4.mp4",
    "mpeg4.avi",
    "mpeg2.mxf",
    "vp8.webm",
    "vp9.webm",
    "vp9.mp4",
    "av1.mp4",
    "av1.webm",
    "hevc.mp4",
    "wmv2.wmv",
    "flv1.flv",
    "svq1.mov",
    "yuv422.mp4",
    "yuv444.mp4",
    "yuv411.mkv",
    "yuv440.mkv",
    "yuv410.mkv",
    "h264_10_bit.mp4",
    "hevc_10_bit.mp4",
    "hevc_12_bit.mp4",
    "yuv420_16_bit.mkv",
    "rgb.mkv",
    "rgb_16_bit.mkv",
    "gbr_10_bit.mkv",
    "rgb_h264.mp4",
    "gray.mkv",
    "gray_10_bit.mkv",
    "gray_16_bit.mkv",
    "full_range.mp4",
    "alpha.mov",
    "alpha.mkv",
    "alpha_rgb.mov",
    "alpha_gray.mov",
    "alpha.webm",
    "wide_samples.mp4",
    "odd_size.mkv",
    "b_frames.mp4",
    "open_groups.mp4",
    "bare.h264",
]
TURNED = ["rotated_90.mp4", "rotated_180.mp4", "rotated_270.mp4", "mirrored.mp4", "upside_down.mp4"]


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    level = av.logging.get_level()
    av.logging.set_level(None)
    yield
    av.logging.set_level(level)


def decoded(name: str) -> tuple[list[DecodedFrame], list[Fault]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(KINDS[name].build())
        items = list(PyAVReader(str(path), name).frames())
    return [i for i in items if isinstance(i, DecodedFrame)], [i for i in items if isinstance(i, Fault)]


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Columns of the only clip of a kind."""
    folder = tmp_path_factory.mktemp("truth")
    settings = Pass(decode=Decode(), sampling=Sampling(), shots=Shots(), clips=Clips(min_clip_s=0.3))
    found = {name: scorers.load(name)() for name in ("motion", "quality", "synthetic")}
    score = {name: scorer.open(None) for name, scorer in found.items()}
    known: dict[str, dict[str, Any]] = {}

    def of(name: str) -> dict[str, Any]:
        if name not in known:
            (folder / name).write_bytes(KINDS[name].build())
            wants = {n: s.samples for n, s in found.items()}
            (clip,) = scan(Source(name, str(folder / name)), settings, wants, ScanReport())
            known[name] = {}
            for n, samples in clip.samples.items():
                known[name] |= score[n]([samples])[0]
        return known[name]

    return of


@pytest.mark.parametrize("name", TIMES)
def test_frames_are_shown_when_the_file_says(name):
    frames, _ = decoded(name)
    assert len(frames) == len(TIMES[name])
    assert max(abs(f.time_ns - t) for f, t in zip(frames, TIMES[name], strict=True)) <= 5_600  # half a tick of 90 kHz


@pytest.mark.parametrize("name", SHOWN)
def test_frames_that_come_are_those_of_the_undamaged_file_bit_by_bit(name):
    twin, indices = SHOWN[name]
    whole, frames = decoded(twin)[0], decoded(name)[0]
    shown = [frame.picture.planes for frame in frames]
    expected = [whole[index].picture.planes for index in indices]
    assert len(shown) == len(expected)
    same = [all(np.array_equal(a, b) for a, b in zip(*both, strict=True)) for both in zip(shown, expected, strict=True)]
    assert all(same), f"{name}: pictures {[index for index, is_same in zip(indices, same, strict=True) if not is_same]} differ"


@pytest.mark.parametrize("name", SAME_STREAM)
def test_the_same_stream_scores_the_same_in_every_container(scores, name):
    assert scores(name) == scores("h264.mp4")


@pytest.mark.parametrize("name", NEAR)
def test_the_same_pictures_score_alike_in_every_coding(scores, name):
    """Motion on the coarse map within 3 %; on the fine one, where 1.6 s give five pairs, within 15 %, a third of its standard error."""
    same_as_upright(scores(name), scores("h264.mp4"), lvd=0.03, speed=0.15, luma=2.0)


@pytest.mark.parametrize("name", TURNED)
def test_a_turned_copy_scores_as_its_upright_twin(scores, name):
    twin, upright = scores(name), scores("h264.mp4")
    same_as_upright(twin, upright, lvd=0.005, speed=0.15, luma=0.05)
    assert twin["quality_sharpness"] == pytest.approx(upright["quality_sharpness"], rel=0.01)


def same_as_upright(twin: dict[str, Any], upright: dict[str, Any], lvd: float, speed: float, luma: float) -> None:
    assert twin["motion_lvd"] == pytest.approx(upright["motion_lvd"], rel=lvd)
    assert twin["motion_speed"] == pytest.approx(upright["motion_speed"], rel=speed)
    assert twin["quality_luma"] == pytest.approx(upright["quality_luma"], abs=luma)
    assert twin["quality_contrast"] == pytest.approx(upright["quality_contrast"], abs=luma)
    flags = [name for name, value in upright.items() if isinstance(value, bool)]
    assert {name: twin[name] for name in flags} == {name: upright[name] for name in flags}


def test_high_dynamic_range_is_shown_and_not_taken_for_standard(scores):
    """The same code values mean far brighter pictures in PQ; what is shown of them must differ, and move as much."""
    upright = scores("h264.mp4")
    for name in ("hdr10.mp4", "hlg.mp4"):
        assert abs(scores(name)["quality_luma"] - upright["quality_luma"]) > 3, name
        assert scores(name)["motion_lvd"] == pytest.approx(upright["motion_lvd"], rel=0.06), name


def test_interlaced_sources_are_marked():
    for name in ("top_field_first.mp4", "bottom_field_first.mp4", "fields.mpg"):
        frames, _ = decoded(name)
        assert all(frame.is_interlaced for frame in frames), name
    assert not any(frame.is_interlaced for frame in decoded("h264.mp4")[0])


@pytest.mark.parametrize(
    ("name", "turn"),
    [
        ("rotated_90.mp4", lambda a: np.rot90(a, -1)),
        ("rotated_180.mp4", lambda a: np.rot90(a, 2)),
        ("rotated_270.mp4", lambda a: np.rot90(a, 1)),
        ("mirrored.mp4", lambda a: a[:, ::-1]),
        ("upside_down.mp4", lambda a: a[::-1]),
    ],
)
def test_a_turned_copy_is_shown_turned(name, turn):
    upright, turned = decoded("h264.mp4")[0], decoded(name)[0]
    assert all(np.array_equal(a.picture.luma(), turn(b.picture.luma())) for a, b in zip(turned, upright, strict=True))


def test_a_frame_without_end_is_shown_for_an_hour_at_most():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.mp4")
        path.write_bytes(KINDS["last_frame_for_a_day.mp4"].build())
        reader = PyAVReader(str(path), "a.mp4")
        frames = list(reader.frames())
    assert reader.end_ns == frames[-1].time_ns + LONGEST_NS == EVEN_NS[-1] + 3_600_000_000_000
