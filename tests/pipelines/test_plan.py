"""The pilot's arithmetic, against a population whose totals are known."""

import numpy as np

from pipelines.plan import Pilot, estimate


def population(num: int, seed: int) -> list[Pilot]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1_000_000, 50_000_000, num)
    noise = rng.normal(1, 0.3, num).clip(0.2)
    return [
        Pilot(int(s), s / 1e6 * n, s / 5e5, int(s // 1e6), s / 6e5, int(s // 4e6), s / 2e6, s / 1e3, s / 3)
        for s, n in zip(sizes, noise, strict=True)
    ]


def test_intervals_hold_the_truth_about_nine_times_in_ten():
    everything = population(400, 0)
    total_bytes = sum(p.size_bytes for p in everything)
    truth = sum(p.worker_s for p in everything) / 3600
    hits = 0
    for seed in range(100):
        picked = np.random.default_rng(seed).choice(400, 20, replace=False)
        found = {e.name: e for e in estimate([everything[i] for i in picked], total_bytes, seed)}["computing"]
        assert found.low <= found.value <= found.high
        hits += found.low <= truth <= found.high
    # A 90 % bootstrap interval from 20 sources covers a little less than it claims; 100 trials have a standard error of 3.
    assert 78 <= hits <= 98


def test_a_pilot_of_everything_is_exact():
    everything = population(12, 1)
    for found in estimate(everything, sum(p.size_bytes for p in everything), 0):
        assert found.low == found.value == found.high
    assert {e.name: e.value for e in estimate(everything, sum(p.size_bytes for p in everything), 0)}["clips"] == sum(
        p.num_clips for p in everything
    )
