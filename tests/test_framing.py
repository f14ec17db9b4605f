"""Boxes and sizes: inside the active picture, centred, never stretched by more than a pixel of rounding."""

import itertools

import numpy as np
import pytest

from curate.clip import Box
from curate.framing import Framing, cover, fit, nearest_bucket

ACTIVE = [Box(0, 0, 1920, 1080), Box(0, 140, 1920, 800), Box(656, 0, 608, 1080), Box(3, 5, 641, 273), Box(0, 0, 176, 144)]
SIZES = [(576, 320), (1024, 576), (320, 576), (512, 512), (64, 640)]


@pytest.mark.parametrize(("active", "size"), list(itertools.product(ACTIVE, SIZES)))
def test_cover_is_the_largest_centred_box_of_the_aspect(active: Box, size: tuple[int, int]) -> None:
    found = cover(active, *size)
    box = found.box
    assert (found.width, found.height) == size
    assert active.x <= box.x and box.x + box.width <= active.x + active.width
    assert active.y <= box.y and box.y + box.height <= active.y + active.height
    assert box.width == active.width or box.height == active.height
    assert abs(box.width - box.height * size[0] / size[1]) <= max(0.5, 0.5 * size[0] / size[1]) + 1e-9
    left, right = box.x - active.x, active.x + active.width - box.x - box.width
    top, bottom = box.y - active.y, active.y + active.height - box.y - box.height
    assert 0 <= right - left <= 1 and 0 <= bottom - top <= 1
    assert found.scale == pytest.approx(max(size[0] / box.width, size[1] / box.height))


def test_the_bucket_that_shows_most_is_taken_and_of_equals_the_larger() -> None:
    buckets = [(576, 320), (1024, 576), (320, 576), (512, 512)]
    for active, width in ((Box(0, 0, 1920, 1080), 1024), (Box(0, 0, 1080, 1920), 320), (Box(0, 0, 800, 790), 512)):
        assert width_of(nearest_bucket(active, buckets)) == width
    assert width_of(nearest_bucket(Box(0, 0, 1920, 1080), [(512, 288), (1024, 576)])) == 1024
    assert width_of(nearest_bucket(Box(0, 0, 640, 360), buckets, max_enlarge=1.0)) == 576
    assert (
        nearest_bucket(Box(0, 0, 320, 180), buckets, 1.5)
        == "too small: 320x178 px would be enlarged 1.80 times to 576x320, more than max_enlarge=1.5"
    )


def width_of(found: object) -> int:
    assert isinstance(found, Framing), found
    return found.width


def test_fit_keeps_the_aspect_stays_within_its_bounds_and_on_the_multiple() -> None:
    random = np.random.default_rng(0)
    for _ in range(500):
        active = Box(0, 0, *(int(side) for side in random.integers(64, 4000, 2)))
        multiple, short_side, max_pixels = (
            int(random.choice([2, 8, 16, 32])),
            int(random.integers(64, 900)),
            int(random.integers(10_000, 2_000_000)),
        )
        found = fit(active, max_pixels, short_side, multiple)
        assert found.width % multiple == found.height % multiple == 0
        grows = multiple in (found.width, found.height)
        assert min(found.width, found.height) <= max(short_side, multiple)
        assert found.width * found.height <= max_pixels or grows
        assert found.scale <= 1 + 1e-9 or grows
        assert found.box.width > active.width - max(2, active.width * multiple / found.width) and found.box.height <= active.height


def test_a_picture_of_odd_sides_loses_one_row_and_column_at_most() -> None:
    found = fit(Box(0, 0, 641, 271))
    assert (found.width, found.height) == (640, 270)
    assert found.box.width >= 640 and found.box.height >= 270 and found.scale <= 1
