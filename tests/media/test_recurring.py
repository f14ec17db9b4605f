"""Marks that come again in shots of different scenes, drawn over photographs before a fixed camera, against what belongs to one scene."""

import cv2
import numpy as np
from PIL import Image

from curate.clip import Box
from curate.media.overlays import LOGO_STRENGTH, WATERMARK_STRENGTH, examine
from curate.media.recurring import MAX_PIXELS, Trace, Verdict, scenes, trace, verdicts
from curate.pipelines import footage

WIDTH, HEIGHT = 320, 180
ACTIVE = Box(0, 60, 1280, 720)
PHOTOGRAPHS = ("coffee.png", "astronaut.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg", "ihc.png")


def photograph(name: str) -> np.ndarray:
    """float32 luma (H, W)."""
    with Image.open(footage.package_file("skimage", "data", name)) as image:
        return np.float32(cv2.resize(np.asarray(image.convert("L")), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))


SCENES = {name: photograph(name) for name in PHOTOGRAPHS}


def lettering(text: str, x: int, y: int, scale: float) -> np.ndarray:
    ink = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.putText(ink, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 1, cv2.LINE_AA)
    return ink.astype(np.float32) / 255


LOGO = lettering("TV9", 262, 30, 0.7)
TILES = sum(lettering("stock", x, y, 0.5) for x in range(6, 320, 62) for y in range(20, 180, 40)).clip(0, 1)


def clip(name: str, mark: np.ndarray | None = None, opacity: float = 0.6, seed: int = 0, active: Box = ACTIVE) -> Trace:
    """Five samples of a scene that stands still, with a sensor's noise, and a white mark over it."""
    random = np.random.default_rng(seed)
    cover = np.zeros((HEIGHT, WIDTH), np.float32) if mark is None else mark * opacity
    still = SCENES[name] * (1 - cover) + 255 * cover
    lumas = [np.clip(still + random.normal(0, 2, still.shape), 0, 255).astype(np.uint8) for _ in range(5)]
    found = examine(lumas, [500_000_000 * k for k in range(5)], ())
    return trace(found.still, found.standing, found.logos, active)


def shown(verdict: Verdict) -> bool:
    return verdict.logo_strength is not None and verdict.logo_strength >= LOGO_STRENGTH


def test_a_faint_logo_is_certain_where_different_scenes_show_it_and_the_clip_without_it_stays_as_it_is():
    clips = [clip(name, LOGO, 0.25) for name in PHOTOGRAPHS[:-1]]
    assert not any(group[1] >= LOGO_STRENGTH for one in clips for group in one.groups)  # by itself none of them is
    found = verdicts([*clips, clip(PHOTOGRAPHS[-1])])
    assert [shown(verdict) for verdict in found] == [True] * 6 + [False]
    assert {verdict.num_scenes for verdict in found[:-1]} == {6}
    rows, columns = np.flatnonzero(LOGO.any(axis=1)), np.flatnonzero(LOGO.any(axis=0))
    wanted = 4 * columns[0], 60 + 4 * rows[0], 4 * (columns[-1] - columns[0] + 1), 4 * (rows[-1] - rows[0] + 1)
    assert np.abs(np.subtract(found[0].logo_box, wanted)).max() <= 12


def test_scenes_without_a_mark_have_nothing_in_common():
    for verdict in verdicts([clip(name) for name in PHOTOGRAPHS]):
        assert not shown(verdict) and (verdict.watermark or 0) < WATERMARK_STRENGTH


def test_clips_of_one_scene_prove_nothing_however_many():
    clips = [clip("coffee.png", LOGO, 0.6, seed) for seed in range(8)]
    assert scenes([one.picture for one in clips]) == [0] * 8
    assert verdicts(clips) == [Verdict()] * 8


def test_what_only_one_fixed_scene_shows_belongs_to_it():
    sign = clip("coffee.png", LOGO, 1.0)
    assert sign.groups and sign.groups[0][1] >= LOGO_STRENGTH
    others = [clip(name) for name in PHOTOGRAPHS[1:]]
    assert verdicts([sign, *others])[0].logo_strength == 0
    assert verdicts([sign, *others[:3]])[0].logo_strength != 0  # three others are too few to say so


def test_a_faint_tiled_mark_is_found_by_its_repetition_in_what_the_scenes_have_in_common():
    clips = [clip(name, TILES, 0.25) for name in PHOTOGRAPHS]
    assert all((verdict.watermark or 0) >= WATERMARK_STRENGTH for verdict in verdicts(clips))


def test_clips_without_a_trace_or_of_another_active_picture_are_left_alone_and_keep_their_places():
    clips: list[Trace | None] = [clip(name, LOGO) for name in PHOTOGRAPHS[:5]]
    other = clip(PHOTOGRAPHS[5], LOGO, active=Box(0, 0, 1280, 720))
    found = verdicts([clips[0], None, *clips[1:3], other, *clips[3:]])
    assert [shown(verdict) for verdict in found] == [True, False, True, True, False, True, True]
    assert found[1] == found[4] == Verdict()


def test_evidence_is_small_whatever_the_size_of_the_samples():
    lumas = [np.kron(SCENES["coffee.png"].astype(np.uint8), np.ones((2, 3), np.uint8))] * 3
    found = examine(lumas, [0, 500_000_000, 1_000_000_000], ())
    one = trace(found.still, found.standing, found.logos, ACTIVE)
    assert one.picture.size <= MAX_PIXELS and one.picture.dtype == np.uint8
    assert one.displayed(Box(0, 0, one.picture.shape[1], one.picture.shape[0])) == [0, 60, 1280, 720]
