"""What judges a doubt: the trees as they are shipped, what they read, and which of two doubts about one place wins."""

import hashlib
import tomllib
from importlib import resources
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest

from curate.shots import Transition
from curate.shots.doubts import SURE_BAR, Doubts
from curate.shots.evidence import NAMES, Doubt, evidence
from curate.shots.judge import WEIGHTS, probability, trees
from curate.shots.moves import left_by_shift
from curate.shots.pending import Pending
from curate.shots.ring import Ring
from curate.shots.track import Track

S = 1_000_000_000
SHA256 = "b41f8667d0433d31f2665df76533840bc479af29923a407d8c24b9ebc449f5f9"
STEP_NS = 40_000_000


def test_the_weights_are_those_that_were_trained_and_travel_with_the_package():
    file = resources.files("curate.shots").joinpath(WEIGHTS)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == SHA256
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
        assert {name: arrays[name].shape for name in arrays} == {
            f"{kind}_{part}": shape
            for kind in ("cut", "span")
            for part, shape in (("feature", (300, 7)), ("threshold", (300, 7)), ("leaf", (300, 8)), ("prior", ()))
        }
        assert max(arrays["cut_feature"].max(), arrays["span_feature"].max()) < len(NAMES)
        assert all(np.isfinite(arrays[name]).all() for name in arrays if not name.endswith("threshold"))
    project = Path(__file__).parents[2] / "pyproject.toml"
    shipped = tomllib.loads(project.read_text())["tool"]["setuptools"]["package-data"]["curate"]
    assert any(PurePosixPath(f"shots/{WEIGHTS}").match(pattern) for pattern in shipped)


def test_all_trees_at_once_say_what_walking_each_from_its_root_says():
    def walked(some, known):
        total = some.prior
        for feature, threshold, leaf in zip(some.feature.tolist(), some.threshold.tolist(), some.leaf.tolist(), strict=True):
            place = 0
            while place < len(feature):
                place = 2 * place + (2 if known[feature[place]] > threshold[place] else 1)
            total += leaf[place - len(feature)]
        return 1 / (1 + np.exp(-total))

    random = np.random.default_rng(0)
    for some in trees():
        for known in random.uniform(-1, 3, (20, len(NAMES))).astype(np.float32):
            assert some.probability(known) == pytest.approx(walked(some, known), abs=1e-6)


def seen(frames):
    """A track, a ring and a source's frames in them, 25 a second."""
    track, ring = Track(60 * S), Ring(0)
    for n, frame in enumerate(frames):
        track.push(n * STEP_NS, frame)
        ring.push(n * STEP_NS, frame)
    return track, ring


@pytest.fixture
def two_shots(footage):
    """50 frames of one shot and 50 of another, with a cut between."""
    return [*footage("bigbuckbunny")[1][:50], *footage("carphone")[1][:50]]


def test_a_plain_cut_is_probable_and_the_same_evidence_inside_a_shot_is_not(two_shots):
    track, ring = seen(two_shots)
    at, inside = (evidence(Doubt(n, n, "plain"), track, ring, {}, {}) for n in (50, 25))
    assert at.shape == inside.shape == (len(NAMES),) and at.dtype == np.float32
    assert probability(Doubt(50, 50, "plain"), at) > 0.9 and probability(Doubt(25, 25, "plain"), inside) < SURE_BAR


def test_evidence_knows_that_a_picture_comes_back(two_shots, footage):
    track, ring = seen([*two_shots[:75], *footage("bigbuckbunny")[1][50:75]])
    known = dict(zip(NAMES, evidence(Doubt(50, 75, "faint"), track, ring, {}, {}).tolist(), strict=True))
    gone = dict(zip(NAMES, evidence(Doubt(50, 50, "faint"), *seen(two_shots), {}, {}).tolist(), strict=True))
    # 0.4 s before the last frame of the old shot and behind the first of the new one.
    luma = [track.feature(n).reshape(-1, 3).mean(axis=1) for n in (39, 85)]
    assert known["alike_beside"] == pytest.approx(np.corrcoef(*luma)[0, 1], abs=1e-3)
    assert known["alike_beside"] > 0.9 > 0.7 > gone["alike_beside"]
    assert gone["back"] > 0.7 and gone["change"] > 30 and gone["step"] > 0.99


def test_evidence_is_finite_at_both_ends_of_a_source_and_on_still_pictures(two_shots):
    still = [two_shots[0]] * 30
    for frames in (two_shots, still):
        track, ring = seen(frames)
        last = len(frames) - 1
        for start, stop in ((1, 1), (1, last), (last, last), (last - 1, last), (10, 20)):
            for source in ("plain", "net", "faint", "ramp", "wipe", "fade"):
                assert np.isfinite(evidence(Doubt(start, stop, source), track, ring, {3: (0.5, 0.5)}, {})).all()


def settled(frames, doubts, judge, now_ns=None, asked_ns=None):
    track, ring = seen(frames)
    pending = Pending(4 * S)
    held = Doubts(track, ring, pending, {}, {}, judge)
    for one in doubts:
        held.add(*one)
    held.settle(now_ns, asked_ns)
    return pending.finish(len(frames) * STEP_NS), held


def says(of_cuts, of_spans):
    return lambda doubt, _: of_cuts if doubt.is_cut else of_spans


CUT = Transition(50 * STEP_NS, 50 * STEP_NS, "cut")


def test_a_span_that_would_run_into_a_more_probable_cut_is_not_reported(two_shots):
    """Both ways round: what begins behind a cut and what ends before one, though neither holds it."""
    for start, stop in ((52, 70), (30, 48)):
        assert settled(two_shots, [(50, 50, "net"), (start, stop, "wipe")], says(0.8, 0.7))[0] == [CUT]
        (found,), _ = settled(two_shots, [(50, 50, "net"), (start, stop, "wipe")], says(0.7, 0.8))
        assert found.kind == "dissolve" and found.start_ns <= CUT.start_ns <= found.end_ns
    assert len(settled(two_shots, [(50, 50, "net"), (65, 80, "wipe")], says(0.8, 0.7))[0]) == 2


def test_a_plain_cut_is_surer_than_anything_beside_it(two_shots):
    assert settled(two_shots, [(50, 50, "plain"), (52, 70, "wipe")], says(0.3, 0.99))[0] == [CUT]


def test_a_span_waits_until_the_cuts_that_it_could_run_into_are_decided(two_shots):
    ends_ns = 48 * STEP_NS
    found, held = settled(two_shots, [(30, 48, "wipe")], says(1, 1), now_ns=ends_ns + 1_200_000_000)
    assert found == [] and held.first_ns == 29 * STEP_NS
    found, held = settled(two_shots, [(30, 48, "wipe")], says(1, 1), now_ns=ends_ns + 1_500_000_000)
    assert len(found) == 1 and held.first_ns is None
    assert settled(two_shots, [(30, 48, "wipe")], says(1, 1), now_ns=ends_ns + 1_500_000_000, asked_ns=49 * STEP_NS)[0] == []


def test_a_short_span_around_a_cut_is_that_cut_where_the_judge_says_so(two_shots):
    assert settled(two_shots, [(48, 53, "net")], says(0.9, 0.6))[0] == [CUT]
    (found,), _ = settled(two_shots, [(48, 53, "net")], says(0.2, 0.6))
    assert found.kind == "dissolve"


def test_a_faint_run_does_not_lengthen_a_span_as_one_of_its_own_would(two_shots):
    (known,), _ = settled(two_shots, [(20, 40, "ramp")], says(0, 1))
    (both,), _ = settled(two_shots, [(20, 40, "ramp"), (22, 42, "faint")], says(0, 1))
    (alone,), _ = settled(two_shots, [(22, 42, "faint")], says(0, 1))
    assert both == known and alone.end_ns > known.end_ns


def test_a_shift_of_the_picture_explains_a_scrolled_page_and_neither_a_cut_nor_a_dissolve(footage):
    (_, old), (_, new) = footage("bigbuckbunny"), footage("carphone")
    wide = cv2.resize(old[0], (192, 108), interpolation=cv2.INTER_CUBIC)
    scrolled = [np.ascontiguousarray(wide[3 * n : 3 * n + 36, 2 * n : 2 * n + 64]) for n in range(8)]
    mixed = [cv2.addWeighted(old[0], 1 - n / 7, new[0], n / 7, 0) for n in range(8)]
    assert left_by_shift(scrolled) < 0.1
    assert left_by_shift([old[0], new[0]]) > 0.6 and left_by_shift(mixed) > 0.6
    assert left_by_shift(scrolled[:1]) == left_by_shift([old[0], old[0]]) == 1
