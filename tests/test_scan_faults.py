"""A mistake of ours costs a clip some columns, or a frame, and never the source: planted exceptions, and small and sparse sources."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Any

import cv2
import numpy as np
import pytest
from listed_frames import ListedFrames, listed, picture, scan_listed

from curate import scorers
from curate.clip import NS_PER_S
from curate.config import Sampling
from curate.media.crop import without_overlays
from curate.media.held import HeldSamples, active_box
from curate.media.pairs import PairPicker
from curate.media.picture import Picture
from curate.media.track import FrameTrack
from curate.pipelines.clip_rows import ClipRows
from curate.pipelines.rows import source_row
from curate.pipelines.scoring import ScorerBatch
from curate.samples import Wants
from curate.scan import ScannedClip
from curate.shots.content import CascadeDetector
from curate.sources import Source

FRAME = NS_PER_S // 25
SHOT = 60  # frames
WANTS = {
    "flow": Wants(motion=True),
    "grid": Wants(frames="grid", pixels="rgb"),
    "previews": Wants(previews=True),
    "track": Wants(),
}
CPU_SCORERS = ("motion", "quality", "synthetic", "overlay", "damage", "footage", "provenance")


def film(num_shots: int = 4) -> ListedFrames:
    """Shots of `SHOT` frames with cuts between them, a texture that slides in each."""
    pictures = []
    for seed in range(num_shots):
        base = cv2.resize(np.random.default_rng(seed).integers(16, 236, (5, 20), np.uint8), (480, 96), interpolation=cv2.INTER_CUBIC)
        base = np.clip(base // (1 + seed % 2) + 16, 16, 235).astype(np.uint8)
        pictures += [picture(np.ascontiguousarray(base[:, i : i + 160])) for i in range(SHOT)]
    return listed(pictures, [i * FRAME for i in range(len(pictures))], len(pictures) * FRAME)


def content(clip: ScannedClip, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Everything that a clip hands on, as plain values and bytes."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.dtype.str, value.shape, value.tobytes()
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value

    facts = {key: value for key, value in asdict(clip.facts).items() if key not in but}
    samples = {name: plain(asdict(one)) for name, one in clip.samples.items()}
    return {"facts": facts, "samples": samples, "times": plain(clip.times_ns), "repeats": plain(clip.is_duplicate), "lost": clip.lost}


def raises_at(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, when: Callable[..., bool]) -> None:
    """Plants an exception in a method of ours, for those of its calls that `when` picks."""
    real = getattr(owner, name)

    def planted(self: Any, *arguments: Any) -> Any:
        if when(self, *arguments):
            raise IndexError("planted")
        return real(self, *arguments)

    monkeypatch.setattr(owner, name, planted)


HIT = 1  # the shot in which the exceptions are planted
HIT_NS = (HIT * SHOT + 20) * FRAME


def hit_and_rest(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[], None], made: Callable[[], ListedFrames] = film, **changes: Any
) -> ScannedClip:
    """The clip that the exception fell into; every other one must be what it is without the exception, bit for bit."""
    expected, _ = scan_listed(monkeypatch, made(), WANTS, **changes)
    assert len(expected) == 4 and all(clip.samples.keys() == WANTS.keys() for clip in expected)
    plant()
    found, report = scan_listed(monkeypatch, made(), WANTS, **changes)
    assert not report.faults and report.num_frames == 4 * SHOT
    assert [content(clip) for clip in (*found[:HIT], *found[HIT + 1 :])] == [
        content(clip) for clip in (*expected[:HIT], *expected[HIT + 1 :])
    ]
    hit = found[HIT]
    assert hit.times_ns.tolist() == expected[HIT].times_ns.tolist(), "every frame is counted, whatever could not be looked at"
    assert (hit.facts.start_ns, hit.facts.end_ns) == (expected[HIT].facts.start_ns, expected[HIT].facts.end_ns)
    return hit


def test_a_box_that_cannot_be_found_costs_the_clip_its_box_and_scores(monkeypatch):
    def plant() -> None:
        def planted(held: Any, displayed: Any) -> Any:
            if held[0].time_ns >= HIT * SHOT * FRAME and held[0].time_ns < (HIT + 1) * SHOT * FRAME:
                raise IndexError("planted")
            return active_box(held, displayed)

        monkeypatch.setattr("curate.scan.active_box", planted)

    hit = hit_and_rest(monkeypatch, plant)
    assert hit.facts.active_width is None and hit.facts.active_short_side is None and hit.facts.width == 160
    assert [(fault.stage, fault.kind, fault.message) for fault in hit.facts.faults] == [("box", "IndexError", "planted")]
    assert hit.facts.num_frames == SHOT and hit.facts.is_scored and not hit.samples
    assert {name: why.kind for name, why in hit.lost.items()} == dict.fromkeys(WANTS, "IndexError")


def test_a_crop_that_fails_is_a_box_that_is_not_known(monkeypatch):
    def plant() -> None:
        def planted(motion: Any, min_area: float) -> Any:
            if HIT * SHOT * FRAME <= motion.grid_times_ns[0] < (HIT + 1) * SHOT * FRAME:
                raise ZeroDivisionError("planted")
            return without_overlays(motion, min_area)

        monkeypatch.setattr("curate.scan.without_overlays", planted)

    hit = hit_and_rest(monkeypatch, plant, sampling=Sampling(crop="overlays"))
    assert hit.facts.active_x is None and hit.facts.faults[0].stage == "box" and hit.lost.keys() == WANTS.keys()


def test_a_track_that_cannot_be_cut_costs_the_scores_and_nothing_of_the_row(monkeypatch):
    hit = hit_and_rest(
        monkeypatch, lambda: raises_at(monkeypatch, FrameTrack, "cut", lambda self, span, *_: span.start_ns == HIT * SHOT * FRAME)
    )
    assert hit.facts.faults[0].stage == "track" and hit.facts.active_width == 160 and hit.facts.num_frames == SHOT
    assert hit.lost.keys() == WANTS.keys()


@pytest.mark.parametrize(
    ("owner", "method", "lost"),
    [(PairPicker, "cut", {"flow"}), (Picture, "rgb", {"grid"}), (Picture, "rgb_at", {"previews"})],
)
def test_samples_that_cannot_be_made_cost_the_scorers_that_want_them(monkeypatch, owner, method, lost):
    shot = film()
    hit_luma = {id(item.picture.planes[0]) for item in shot.items[HIT * SHOT : (HIT + 1) * SHOT]}

    def when(self: Any, *arguments: Any) -> bool:
        if method == "cut":
            return arguments[0].start_ns == HIT * SHOT * FRAME
        return id(self.planes[0]) in hit_luma

    again = partial(ListedFrames, shot.items, shot.last_end_ns)
    hit = hit_and_rest(monkeypatch, lambda: raises_at(monkeypatch, owner, method, when), again)
    assert hit.lost.keys() == lost and hit.samples.keys() == WANTS.keys() - lost
    assert all(why.stage == name and "planted" in why.message for name, why in hit.lost.items())
    assert not hit.facts.faults


@pytest.mark.parametrize(
    ("owner", "name", "stage"), [(FrameTrack, "push", "track"), (HeldSamples, "push", "samples"), (PairPicker, "_push", "pairs")]
)
def test_what_rides_on_a_frame_loses_that_frame_and_no_more(monkeypatch, owner, name, stage):
    hit = hit_and_rest(monkeypatch, lambda: raises_at(monkeypatch, owner, name, lambda _, time_ns, *__: time_ns == HIT_NS))
    assert [(fault.stage, fault.time_ns) for fault in hit.facts.faults] == [(stage, HIT_NS)]
    assert not hit.lost and hit.samples.keys() == WANTS.keys()
    assert len(hit.samples["track"].track.times_ns) == SHOT - (stage == "track")


def test_a_frame_that_the_detector_cannot_be_shown_is_passed_over(monkeypatch):
    shot = film()
    luma = shot.items[HIT * SHOT + 20].picture.planes[0]
    again = partial(ListedFrames, shot.items, shot.last_end_ns)
    hit = hit_and_rest(monkeypatch, lambda: raises_at(monkeypatch, Picture, "tiny_bgr", lambda self, *_: self.planes[0] is luma), again)
    assert [(fault.stage, fault.time_ns) for fault in hit.facts.faults] == [("shots", HIT_NS)]


def test_a_shot_detector_that_fails_ends_the_shot_and_another_goes_on(monkeypatch):
    expected, _ = scan_listed(monkeypatch, film(), WANTS)
    raises_at(monkeypatch, CascadeDetector, "push", lambda self, time_ns, _: time_ns == HIT_NS and self._track.times_ns != [])
    found, report = scan_listed(monkeypatch, film(), WANTS)
    assert [(fault.stage, fault.kind, fault.time_ns) for fault in report.faults] == [("shots", "IndexError", HIT_NS)]
    assert report.num_frames == 4 * SHOT
    edges = [(clip.facts.start_ns // FRAME, clip.facts.end_kind) for clip in found]
    assert edges == [(0, "cut"), (60, "fault"), (80, "cut"), (120, "cut"), (180, "source")]
    assert found[1].facts.faults[0].stage == "shots", "a cut in it may not have been seen"
    assert content(found[0], ("faults",)) == content(expected[0], ("faults",))
    # The shots are counted on, and begin after a fault: nothing else is different.
    but = ("shot_index", "is_after_fault")
    assert [content(clip, but) for clip in found[3:]] == [content(clip, but) for clip in expected[2:]]
    assert all(clip.facts.is_after_fault for clip in found[2:]) and not found[1].facts.is_after_fault


def test_a_detector_that_always_fails_is_given_up_with_the_reason(monkeypatch):
    raises_at(monkeypatch, CascadeDetector, "push", lambda *_: True)
    _, report = scan_listed(monkeypatch, film(), WANTS)
    assert 1 < len(report.faults) < 40 and {fault.stage for fault in report.faults} == {"shots"}


def test_a_detector_that_cannot_finish_costs_the_last_transitions_only(monkeypatch):
    raises_at(monkeypatch, CascadeDetector, "finish", lambda *_: True)
    found, report = scan_listed(monkeypatch, film(), WANTS)
    assert found[-1].facts.end_ns == 4 * SHOT * FRAME and report.faults[0].stage == "shots"
    assert found[-1].facts.faults[0].stage == "shots"


def test_errors_raised_on_purpose_and_a_lack_of_memory_are_not_caught(monkeypatch):
    def planted(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("curate.scan.active_box", planted)
    with pytest.raises(MemoryError):
        scan_listed(monkeypatch, film(), WANTS)


def test_the_manifest_says_of_each_scorer_why_its_columns_are_null(monkeypatch):
    def planted(*_: Any) -> Any:
        raise IndexError("planted")

    monkeypatch.setattr("curate.scan.active_box", planted)
    scorer = scorers.load("quality")()
    clips, report = scan_listed(monkeypatch, film(), {"quality": scorer.samples})
    rows = ClipRows({"quality": ScorerBatch("quality", scorer, scorer.open(None))})
    rows.take(clips)
    tables = rows.tables(source_row(Source("listed", "/nowhere"), report, is_quarantined=False))
    assert tables.clips["active_width"].null_count == 4 and tables.sources["status"].to_pylist() == ["ok"]
    assert [[one["stage"] for one in faults] for faults in tables.clips["faults"].to_pylist()] == [["box"]] * 4
    (first, *_) = tables.scorers["quality"].to_pylist()
    assert first["quality_luma"] is None and first["faults"][0]["stage"] == "quality" and "planted" in first["faults"][0]["message"]


# Small and sparse sources

SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 16, 31, 32, 33, 48, 60, 64, 83, 100)
DECLARED = {
    *("few_samples", "no_pairs", "few_pairs", "TooFewSamples", "TooFewFrames", "NoSample", "NoDetail", "NoPair"),
    *("SmallPicture", "NoThumbs"),
    "FileNotFoundError",  # by the scorer of what the file says: there is none
}
"""Kinds of fault by which scorers say that there is too little to tell."""


def small(kind: str, width: int, height: int, number: int) -> np.ndarray:
    """uint8 (H, W) luma: nothing, noise, a picture in a thin frame, or (as slides do) another picture than before."""
    rng = np.random.default_rng(number if kind != "framed" else 2)
    if kind == "blank":
        return np.full((height, width), 120, np.uint8)
    if kind == "noise":
        return rng.integers(16, 236, (height, width), np.uint8)
    if kind == "slides":
        kinds = (np.full((height, width), 235), rng.integers(16, 236, (height, width)), np.tile(np.linspace(16, 235, width), (height, 1)))
        return np.ascontiguousarray(kinds[number % 3].astype(np.uint8))
    base = cv2.resize((rng.random((12, 24)) * 120 + 100).astype(np.uint8), (3 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
    left, top, frame = number % (2 * width), number % height, min(3, height // 3)
    luma = np.ascontiguousarray(base[top : top + height, left : left + width])
    luma[:frame], luma[height - frame :] = 30, 30
    return luma


@pytest.mark.parametrize("crop", ["bars", pytest.param("overlays", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["blank", "noise", "framed", "slides"])
@pytest.mark.filterwarnings("error")
def test_pictures_of_any_size_at_any_rate_are_analysed_without_an_exception(monkeypatch, kind, crop):
    loaded = {name: scorers.load(name)() for name in CPU_SCORERS}
    score = {name: scorer.open(None) for name, scorer in loaded.items()}
    wants = {name: scorer.samples for name, scorer in loaded.items()}
    sizes = [*((side, side) for side in SIDES), (40, 1), (1, 40), (64, 7), (100, 33), (33, 100), (468, 60)]
    for (width, height), num, fps in product(sizes, (1, 2, 3, 10), (25.0, 1.0, 0.1)):
        step = round(NS_PER_S / fps)
        reader = listed([picture(small(kind, width, height, i)) for i in range(num)], [i * step for i in range(num)], num * step)
        clips, report = scan_listed(monkeypatch, reader, wants, sampling=Sampling(crop=crop))
        case = f"{kind} {width}x{height}, {num} frames at {fps}/s"
        assert not report.faults and report.num_frames == num, (case, report.faults)
        for clip in clips:
            assert not clip.facts.faults and not clip.lost, (case, clip.facts.faults)
            for name, samples in clip.samples.items():
                (row,) = score[name]([samples])
                scorers.check_rows(name, loaded[name].columns, 1, [row])
                assert {fault.kind for fault in row.get("faults", ())} <= DECLARED, (case, row["faults"])
