"""Numbers of an evaluation, held against functions that the test chose, against scipy, and against counting."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from curate.motion_bucket import MotionBuckets
from curate.pipelines.evaluate import fitted_map
from curate.pipelines.evaluate_fvd import jackknife
from curate.pipelines.evaluate_stats import (
    MIN_PICTURES,
    MOTION,
    SCORES,
    Bootstrap,
    Cube,
    Estimate,
    compared,
    control,
    map_points,
    mean_of,
    rank_correlation,
    ranks,
    student,
    summed_up,
    verdict,
)

BUCKETS = (10, 50, 90, 130, 170, 210, 250)
COLUMNS = [score.column for score in SCORES]
BOOTSTRAP = Bootstrap(resamples=500)


def speed(bucket: float) -> float:
    """% of the diagonal/s that the made-up checkpoint gives when it is asked for a bucket."""
    return 0.5 + 0.015 * bucket + 4e-5 * bucket**2


def cube_of(motion, num_pictures: int = 12, seeds: tuple[int, ...] = (0, 1), buckets: tuple[int, ...] = BUCKETS, **scores) -> Cube:
    """Rows as the table of runs has them; `motion` and each score is a function of (picture's number, seed, bucket)."""
    functions = {MOTION: motion, **scores}
    rows = {
        (f"picture {p}", s, b): {name: function(p, s, b) for name, function in functions.items()}
        for p in range(num_pictures)
        for s in seeds
        for b in buckets
    }
    return Cube.of(rows, COLUMNS)


def noise(seed: int, size: float):
    rng = np.random.default_rng(seed)
    return lambda *_: float(rng.normal(0, size))


# ---- is motion what was asked for


def test_motion_that_follows_the_bucket_is_found_and_its_map_gives_every_bucket_back():
    wobble = noise(1, 0.02)
    cube = cube_of(lambda p, s, b: speed(b) + 0.1 * p + wobble())
    found = control(cube, BOOTSTRAP)
    assert found.correlation.value == pytest.approx(1, abs=0.01) and found.monotone.value > 0.9
    assert [bucket for bucket, _ in found.curve] == list(BUCKETS)
    assert all(abs(one.value - speed(bucket) - 0.55) < 0.05 for bucket, one in found.curve), "mean of the pictures' own offsets is 0.55"
    buckets = fitted_map(cube, found, {"model": "m"})
    assert isinstance(buckets, MotionBuckets) and (buckets.kind, buckets.column) == ("checkpoint", MOTION)
    assert all(abs(buckets.bucket(speed(b) + 0.55) - b) <= 1 for b in BUCKETS), "within the noise"
    assert buckets.made_from["model"] == "m" and buckets.made_from["measured_buckets"] == [10, 250]


@pytest.mark.parametrize(
    ("motion", "value"),
    [(lambda p, s, b: 5 - b / 100, -1.0), (lambda p, s, b: 2.0, 0.0), (lambda p, s, b: 3 - abs(b - 130) / 100, 0.0)],
    ids=["falls", "stays", "rises and falls"],
)
def test_motion_that_does_not_rise_gets_no_map_but_the_reason(motion, value):
    found = control(cube_of(motion), BOOTSTRAP)
    assert found.correlation.value == pytest.approx(value, abs=1e-9) and found.monotone.value == 0
    said = fitted_map(cube_of(motion), found, {})
    assert isinstance(said, str) and "motion does not clearly rise with the bucket: rank correlation" in said


def test_motion_without_regard_to_the_bucket_is_no_control():
    found = control(cube_of(noise(3, 1.0), num_pictures=20), BOOTSTRAP)
    assert found.correlation.low < 0 < found.correlation.high
    assert "does not clearly rise" in fitted_map(cube_of(noise(3, 1.0), num_pictures=20), found, {})


def test_few_pictures_have_neither_interval_nor_map_nor_verdict():
    cube = cube_of(lambda p, s, b: speed(b), num_pictures=MIN_PICTURES - 1)
    found = control(cube, BOOTSTRAP)
    assert found.correlation == Estimate(1.0, None, None, MIN_PICTURES - 1)
    assert "4 pictures are too few" in fitted_map(cube, found, {})
    assert verdict(found.correlation) == "too few pictures to say"


def test_a_model_whose_motion_cannot_be_measured_says_so():
    cube = cube_of(lambda p, s, b: None)
    found = control(cube, BOOTSTRAP)
    assert (found.correlation, found.num_clips, found.num_measured) == (None, 168, 0)
    assert "no motion could be measured in 168 clips" in fitted_map(cube, found, {})


def test_a_picture_measured_at_some_buckets_only_does_not_bend_the_map():
    def motion(p: int, s: int, b: int) -> float | None:
        return None if p == 0 and b > 100 else speed(b) + (50 if p == 0 else 0)

    cube = cube_of(motion)
    asked, motions = map_points(cube)
    assert len(asked) == 11 * 2 * len(BUCKETS) and max(motions) == pytest.approx(speed(250))
    buckets = fitted_map(cube, control(cube, BOOTSTRAP), {})
    assert [buckets.bucket(speed(b)) for b in BUCKETS] == list(BUCKETS)


def test_correlations_are_of_one_picture_and_seed_at_a_time():
    """Pictures differ far more than buckets do: pooled, the correlation would be near 0."""
    cube = cube_of(lambda p, s, b: 100.0 * ((7 * p + 3 * s) % 5) + b / 100)
    assert control(cube, BOOTSTRAP).correlation.value == pytest.approx(1)
    pooled = scipy.stats.spearmanr(np.tile(BUCKETS, 24), cube.scores[MOTION].ravel()).statistic
    assert pooled < 0.3


# ---- before and after


def test_the_sign_of_paired_differences_decides_in_the_scores_own_direction():
    """Pictures differ by 10, models by 0.5: only pairing sees it."""
    own = [float(value) for value in np.random.default_rng(4).normal(0, 10, 12)]

    def model(gain: float, seed: int):
        wobble = noise(seed, 0.1)
        flat = lambda p, s, b: own[p] + gain + wobble()  # noqa: E731
        return cube_of(
            lambda p, s, b: speed(b),
            fidelity_first=flat,
            flicker_warp=flat,
            fidelity_clip=noise(seed + 100, 1.0),
            sharpness_kept=lambda p, s, b: 0.5 if gain else 0.9,
        )

    found = compared(model(0.5, 1), model(0.0, 2), Bootstrap(resamples=500))
    assert found["fidelity_first"].verdict == "better" and found["flicker_warp"].verdict == "worse"
    assert found["fidelity_first"].change.value == pytest.approx(0.5, abs=0.05)
    assert found["flicker_warp"].toward_better.value == pytest.approx(-0.5, abs=0.05)
    assert found["fidelity_clip"].verdict == "no clear difference"
    assert found["sharpness_kept"].verdict == "worse", "0.5 is farther from 1 than 0.9"
    assert found["motion_control"].verdict == "no clear difference", "both follow"
    assert found[MOTION].verdict is None and found["aesthetic_mean"].change is None
    assert found["fidelity_first"].num_pairs == 12 * 2 * len(BUCKETS)


@pytest.mark.parametrize(("before", "after", "says"), [(0.5, 0.8, "better"), (1.0, 1.5, "worse"), (2.0, 0.5, "no clear difference")])
def test_sharpness_is_best_where_it_stays(before, after, says):
    cubes = [cube_of(lambda p, s, b: 1.0, sharpness_kept=lambda p, s, b, kept=kept: kept) for kept in (after, before)]
    assert compared(*cubes, BOOTSTRAP)["sharpness_kept"].verdict == says


def test_better_control_is_seen():
    worse = noise(5, 2.0)
    good, bad = cube_of(lambda p, s, b: speed(b)), cube_of(lambda p, s, b: speed(b) + 10 + worse())
    assert compared(good, bad, BOOTSTRAP)["motion_control"].verdict == "better"
    assert compared(bad, good, BOOTSTRAP)["motion_control"].verdict == "worse"


def test_a_clip_without_a_score_leaves_its_pair_out():
    old = cube_of(lambda p, s, b: 1.0, flicker_luma=lambda p, s, b: 1.0)
    new = cube_of(lambda p, s, b: 1.0, flicker_luma=lambda p, s, b: None if p == 0 or b == 10 else 2.0)
    found = compared(new, old, BOOTSTRAP)["flicker_luma"]
    assert found.change.value == 1.0 and found.num_pairs == 11 * 2 * 6 and found.change.num_pictures == 11


def test_models_on_other_pictures_are_not_compared():
    with pytest.raises(ValueError, match="same pictures"):
        compared(cube_of(lambda p, s, b: 1.0), cube_of(lambda p, s, b: 1.0, num_pictures=3), BOOTSTRAP)


def test_equal_models_differ_by_nothing():
    cube = cube_of(lambda p, s, b: speed(b), fidelity_first=lambda p, s, b: p / 10)
    found = compared(cube, dataclasses.replace(cube), BOOTSTRAP)
    assert found["fidelity_first"].change == Estimate(0.0, 0.0, 0.0, 12)
    assert {one.verdict for one in found.values()} <= {None, "no clear difference"}


# ---- the arithmetic


@pytest.mark.parametrize("num_pictures", [6, 12, 40])
def test_intervals_cover_the_truth_about_as_often_as_they_say(num_pictures):
    rng = np.random.default_rng(num_pictures)
    drawn = rng.normal(3.0, 1.0, (400, num_pictures))
    hits = [one.low <= 3.0 <= one.high for one in (Bootstrap(0.9, 400, seed).mean(values) for seed, values in enumerate(drawn))]
    assert 0.85 <= np.mean(hits) <= 0.95, "0.9 +- 3 deviations of 400 draws and what the bootstrap itself is off by"


def test_an_interval_follows_from_the_seed_and_widens_with_the_confidence():
    values = np.random.default_rng(0).normal(size=20)
    one, same, wide = Bootstrap(0.8, 500, 1).mean(values), Bootstrap(0.8, 500, 1).mean(values), Bootstrap(0.99, 500, 1).mean(values)
    assert one == same and wide.low < one.low < one.value < one.high < wide.high


def test_means_are_over_pictures_whatever_is_missing():
    cube = cube_of(lambda p, s, b: 1.0, num_pictures=6, aesthetic_mean=lambda p, s, b: None if p and b > 10 else float(p))
    found = summed_up(cube, BOOTSTRAP)
    assert found["aesthetic_mean"].value == pytest.approx(2.5), "each picture weighs the same"
    assert found["flicker_warp"] is None
    assert np.isnan(mean_of(np.full((2, 3), np.nan), 1)).all()


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_is_scipys(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 6, 15), rng.integers(0, 6, 15) + 0.5
    assert rank_correlation(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
    assert np.array_equal(ranks(y), scipy.stats.rankdata(y))


@pytest.mark.parametrize("freedom", [4, 7, 19, 100])
def test_quantiles_of_students_t_are_scipys(freedom):
    for probability in (0.9, 0.975, 0.995):
        assert student(probability, freedom) == pytest.approx(scipy.stats.t.ppf(probability, freedom), rel=0.01)


def test_the_jackknife_of_a_mean_is_its_t_interval():
    values = np.random.default_rng(2).normal(5, 2, 15)
    without = np.array([np.delete(values, place).mean() for place in range(15)])
    found = jackknife(float(values.mean()), without, 0.95, 15)
    low, high = scipy.stats.t.interval(0.95, 14, values.mean(), scipy.stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))
    assert jackknife(1.0, without[:4], 0.95, 4).low is None
