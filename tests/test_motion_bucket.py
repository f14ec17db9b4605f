"""The motion bucket's map: a distribution function, monotone, with a checksum; held against counting."""

import json

import numpy as np
import pytest

from curate.errors import ExportError
from curate.motion_bucket import MotionBuckets, fit_checkpoint, fit_corpus


@pytest.fixture(scope="module")
def speeds() -> np.ndarray:
    return np.random.default_rng(0).lognormal(1.0, 1.0, 5000)


def test_a_bucket_is_the_share_of_slower_clips_of_255(speeds):
    buckets = fit_corpus(speeds)
    for score in speeds[:500]:
        share = ((speeds < score).sum() + 0.5) / len(speeds)
        assert abs(buckets.bucket(score) - 255 * share) <= 0.5 + 1e-6


def test_every_bucket_is_about_as_frequent(speeds):
    buckets = fit_corpus(speeds)
    counts = np.bincount([buckets.bucket(score) for score in speeds], minlength=256)
    assert set(counts[1:-1]) <= {19, 20}  # 5000 / 255 is 19.6
    assert set(counts[[0, -1]]) <= {9, 10}
    assert buckets.bucket(np.quantile(speeds, 0.5)) in (127, 128)


def test_the_map_is_monotone_and_clamps(speeds):
    buckets = fit_corpus(speeds)
    found = [buckets.bucket(score) for score in np.linspace(-1, speeds.max() * 3, 4000)]
    assert (np.diff(found) >= 0).all()
    assert (found[0], found[-1]) == (0, 255)


def test_clips_of_equal_score_share_the_middle_of_their_buckets():
    scores = [0.0] * 30 + [1.0] * 40 + [5.0] * 30
    buckets = fit_corpus(scores)
    assert [buckets.bucket(score) for score in (0.0, 1.0, 5.0)] == [round(255 * share) for share in (0.15, 0.5, 0.85)]
    assert buckets.bucket(0.01) >= buckets.bucket(0.0)
    assert buckets.bucket(4.99) <= buckets.bucket(5.0) <= buckets.bucket(5.01)


def test_few_clips_claim_no_extremes():
    assert fit_corpus([3.0]).bucket(3.0) == 128
    two = fit_corpus([2.0, 4.0])
    assert (two.bucket(2.0), two.bucket(3.0), two.bucket(4.0)) == (64, 128, 191)
    assert (two.bucket(0.0), two.bucket(1.0), two.bucket(6.0), two.bucket(8.0), two.bucket(100.0)) == (0, 32, 223, 255, 255)


def test_missing_scores_are_left_out_and_the_count_says_so():
    buckets = fit_corpus([None, float("nan"), 2.0, 4.0], made_from={"pass": "abc"})
    assert buckets.edges == fit_corpus([2.0, 4.0]).edges
    assert buckets.made_from == {"pass": "abc", "num_clips": 2}


@pytest.mark.parametrize(
    ("scores", "text"), [([], "no clip has motion_speed"), ([None], "no clip has"), ([0.0, 0.0], "none of 2 clips moves")]
)
def test_what_cannot_be_fitted_says_why(scores, text):
    with pytest.raises(ExportError, match=text):
        fit_corpus(scores)


@pytest.mark.parametrize("bad", [-1.0, float("inf")])
def test_impossible_scores_are_refused(bad):
    with pytest.raises(ExportError, match="finite and at least 0"):
        fit_corpus([1.0, bad])
    with pytest.raises(ValueError, match="finite"):
        fit_corpus([1.0]).bucket(float("nan"))


def test_a_saved_map_loads_as_it_was(tmp_path, speeds):
    buckets = fit_corpus(speeds, made_from={"pass": "p", "scorer": "s"})
    buckets.save(tmp_path / "motion_buckets.json")
    loaded = MotionBuckets.load(tmp_path / "motion_buckets.json")
    assert loaded == buckets
    assert loaded.sha256 == buckets.sha256
    assert [loaded.bucket(s) for s in speeds[:100]] == [buckets.bucket(s) for s in speeds[:100]]


def test_a_map_of_a_checkpoint_loads_the_same_way(tmp_path):
    measured = MotionBuckets("motion_speed", "checkpoint", tuple((np.arange(255) + 0.5).tolist()), {"model": "m"})
    measured.save(tmp_path / "map.json")
    assert MotionBuckets.load(tmp_path / "map.json") == measured
    assert all(measured.bucket(float(b)) == b for b in range(256))


@pytest.mark.parametrize("key", ["edges", "column", "kind", "made_from"])
def test_a_map_that_was_edited_is_refused(tmp_path, key):
    path = tmp_path / "map.json"
    fit_corpus([1.0, 2.0]).save(path)
    content = json.loads(path.read_text())
    content[key] = content[key][:-1] if key != "made_from" else {}
    path.write_text(json.dumps(content))
    with pytest.raises(ExportError, match="checksum"):
        MotionBuckets.load(path)


@pytest.mark.parametrize(("text", "what"), [("", "cannot be read"), ("[]", "version None"), ('{"version": 9}', "version 9")])
def test_what_is_no_map_says_so(tmp_path, text, what):
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(ExportError, match=what):
        MotionBuckets.load(tmp_path / "map.json")
    with pytest.raises(ExportError, match="cannot be read"):
        MotionBuckets.load(tmp_path / "absent.json")


@pytest.mark.parametrize("edges", [tuple(range(254)), (*range(254), float("nan")), (1.0,) * 255, (*range(254), 3.0)])
def test_edges_that_do_not_rise_are_refused(edges):
    with pytest.raises(ExportError, match="motion buckets"):
        MotionBuckets("motion_speed", "corpus", tuple(float(edge) for edge in edges))


# ---- of a checkpoint


def speed_of(bucket: float) -> float:
    return 0.4 + 0.02 * bucket + 5e-5 * bucket**2


def test_a_checkpoints_map_gives_back_the_bucket_that_made_a_motion():
    asked = list(range(0, 256, 5))
    buckets = fit_checkpoint(asked, [speed_of(bucket) for bucket in asked])
    assert buckets.kind == "checkpoint" and all(abs(buckets.bucket(speed_of(bucket)) - bucket) <= 1 for bucket in range(256))
    assert fit_checkpoint([0, 255], [0.0, 255.0]).edges == tuple(index + 0.5 for index in range(255)), "a straight line is itself"


def test_noise_in_what_was_measured_is_smoothed_to_a_rising_map():
    rng = np.random.default_rng(0)
    asked = np.repeat(np.arange(10, 251, 20), 40)
    motions = np.array([speed_of(bucket) for bucket in asked]) * rng.lognormal(0, 0.3, len(asked))
    buckets = fit_checkpoint(asked.tolist(), motions.tolist())
    found = [buckets.bucket(score) for score in np.linspace(0, 10, 500)]
    assert (np.diff(found) >= 0).all()
    assert max(abs(buckets.bucket(speed_of(bucket) * np.exp(0.3**2 / 2)) - bucket) for bucket in range(20, 241, 10)) <= 15


def test_violators_are_pooled_as_scipy_pools_them():
    scipy_optimize = pytest.importorskip("scipy.optimize")
    asked, motions = np.arange(0, 250, 10), np.random.default_rng(3).normal(np.linspace(1, 3, 25), 0.5).clip(0)
    expected = scipy_optimize.isotonic_regression(motions)
    centres = [asked[expected.blocks[i] : expected.blocks[i + 1]].mean() for i in range(len(expected.blocks) - 1)]
    buckets = fit_checkpoint(asked.tolist(), motions.tolist())
    assert buckets.made_from["measured_buckets"] == [centres[0], centres[-1]]
    assert buckets.measured == pytest.approx((expected.x[0], expected.x[-1]))
    inside = [k for k in range(255) if centres[0] <= k + 0.5 <= centres[-1]]
    levels = expected.x[expected.blocks[:-1]]
    assert [buckets.edges[k] for k in inside] == pytest.approx(np.interp([k + 0.5 for k in inside], centres, levels))


def test_beyond_what_was_measured_the_outermost_measured_bucket_is_given(tmp_path):
    buckets = fit_checkpoint([50, 100, 200], [1.0, 2.0, 6.0], made_from={"model": "m"})
    assert [buckets.bucket(score) for score in (0.0, 0.99, 1.0, 6.0, 6.1, 1e6)] == [50, 50, 50, 200, 200, 200]
    assert buckets.measured == (1.0, 6.0) and buckets.made_from["num_clips"] == 3 and buckets.made_from["model"] == "m"
    buckets.save(tmp_path / "map.json")
    assert MotionBuckets.load(tmp_path / "map.json").measured == (1.0, 6.0)
    assert fit_corpus([1.0, 2.0]).measured is None


@pytest.mark.parametrize(
    ("asked", "motions", "text"),
    [
        ([10, 100, 200], [3.0, 2.0, 1.0], "does not rise"),
        ([10, 200], [2.0, 2.0], "does not rise"),
        ([10, 10], [1.0, 2.0], "at least 2 motion buckets"),
        ([10, 200], [1.0, float("nan")], "finite and at least 0"),
        ([10, 300], [1.0, 2.0], "0..255"),
    ],
)
def test_a_checkpoint_without_a_rising_curve_has_no_map(asked, motions, text):
    with pytest.raises(ExportError, match=text):
        fit_checkpoint(asked, motions)
    with pytest.raises(ValueError, match="a clip has one of each"):
        fit_checkpoint(asked, motions[:1])
