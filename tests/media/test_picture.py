"""Cheap ways to small pictures against the plain ones."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from curate.media.bars import profile
from curate.media.color import ColorInfo, luma8, luma_table
from curate.media.geometry import Geometry, Orientation
from curate.media.held import HeldSamples
from curate.media.picture import Picture
from curate.media.probe import to_ns


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080), (1281, 723), (854, 480), (3840, 2160), (640, 360)])
@pytest.mark.parametrize("depth", [8, 10])
def test_analysis_luma_is_the_area_average_to_half_a_level_a_step(size, depth):
    rng, (width, height) = np.random.default_rng(0), size
    luma = cv2.GaussianBlur(rng.integers(0, 1 << depth, (height, width)).astype(np.float32), (0, 0), 3)
    luma = luma.astype(np.uint8 if depth == 8 else np.uint16)
    color = ColorInfo(full_range=True)
    small = Picture((luma,), depth, color, Geometry(width, height)).analysis_luma()
    factor = min(size) // 180
    rows, cols = small.shape
    mean = luma[: rows * factor, : cols * factor].reshape(rows, factor, cols, factor).mean(axis=(1, 3)) / (1 << (depth - 8))
    assert (cols, rows) == (width // factor, height // factor)
    assert np.abs(small - mean).max() <= 1.5
    assert abs((small - mean).mean()) <= 0.6


def test_luma_of_limited_range_is_the_tables():
    codes = np.tile(np.arange(256, dtype=np.uint8), (7, 3))
    assert np.array_equal(luma8(codes, 8, ColorInfo()), luma_table(8, ColorInfo())[codes])


@pytest.mark.parametrize("orientation", [Orientation(), Orientation(True, True, False), Orientation(False, False, True)])
@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(4, 3)])
@pytest.mark.parametrize("depth", [8, 10])
def test_bars_are_looked_for_in_the_luma_that_scorers_see(orientation, aspect, depth):
    luma = np.random.default_rng(0).integers(0, 1 << depth, (90, 160)).astype(np.uint8 if depth == 8 else np.uint16)
    picture = Picture((luma,), depth, ColorInfo(), Geometry(160, 90, aspect, orientation))
    held = HeldSamples(500, 40.0, 512, with_analysis=False)
    held.push(0, picture)
    found, expected = held._held[0].bars, profile(picture.luma())
    assert found.shape == expected.shape
    assert np.array_equal(found.rows, expected.rows) and np.array_equal(found.columns, expected.columns)


def test_ticks_are_rounded_to_nanoseconds_as_fractions_are():
    rng = np.random.default_rng(0)
    bases = [Fraction(1, 90_000), Fraction(1001, 30_000), Fraction(1, 2_000_000_000), Fraction(3, 4_000_000_000), Fraction(1, 12_800)]
    for base in bases:
        for ticks in (*rng.integers(-(10**9), 10**9, 200).tolist(), 0, 1, -1, 2, 3):
            assert to_ns(ticks, base) == round(Fraction(ticks * 10**9) * base)
