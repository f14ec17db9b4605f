"""The crop of a container: what it hides is nowhere in a picture."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from containers import (
    Film,
    clean_aperture,
    cropped_mkv,
    with_box,
    write,
)

from curate.clip import Box, Span
from curate.media.access import FrameAccess
from curate.media.color import ColorInfo
from curate.media.cut import Encoding, Take, cut_copy, cut_exact
from curate.media.decode import DecodedFrame, PyAVReader
from curate.media.geometry import Geometry
from curate.media.picture import Picture
from curate.media.side_data import WHOLE, Crop, SideData, side_data

FILM = Film(width=320, height=240)


def frames(path: Path) -> list[DecodedFrame]:
    items = list(PyAVReader(str(path), path.name).frames())
    assert all(isinstance(item, DecodedFrame) for item in items)
    return [item for item in items if isinstance(item, DecodedFrame)]


def side_data_of(path: Path) -> SideData:
    with av.open(str(path)) as container:
        return side_data(container.streams.video[0])


def test_a_film_without_a_crop_is_left_alone(tmp_path: Path) -> None:
    assert side_data_of(write(tmp_path / "a.mkv", FILM)).crop == WHOLE


def test_matroska_s_crop_is_cut_off_wherever_pictures_are_made(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mkv", FILM)
    path = cropped_mkv(whole, tmp_path / "a.mkv", top=30, bottom=20, left=8, right=16)
    reader = PyAVReader(str(path), "a")
    assert reader.probe.geometry == Geometry(296, 190)
    inside = frames(whole)[7].picture
    (shown,) = (one for one in frames(path) if one.time_ns == frames(whole)[7].time_ns)
    for plane, full, factor in zip(shown.picture.planes, inside.planes, (1, 2, 2), strict=True):
        cut = full[30 // factor : 220 // factor, 8 // factor : 304 // factor]
        assert np.array_equal(plane, cut) and plane.size
    accessed = FrameAccess().read(str(path), [shown.time_ns])[0]
    assert accessed.geometry.displayed == (296, 190)
    assert np.array_equal(accessed.planes[0], shown.picture.planes[0])


def test_an_exact_cut_holds_what_is_shown_inside_the_crop(tmp_path: Path) -> None:
    path = cropped_mkv(write(tmp_path / "whole.mkv", FILM), tmp_path / "a.mkv", top=30, bottom=30)
    times = np.array([one.time_ns for one in frames(path)], np.int64)
    take = Take(str(path), times, int(times[-1]) + 40_000_000, Box(0, 0, 320, 180), 320, 180)
    made = cut_exact(take, Encoding(crf=8), tmp_path / "cut.mp4")
    assert (made.width, made.height, made.num_frames) == (320, 180, 25)
    shown, written = frames(path)[9].picture.planes[0], frames(made.path)[9].picture.planes[0]
    assert np.abs(shown.astype(int) - written).mean() < 4


def test_a_copy_keeps_the_crop(tmp_path: Path) -> None:
    path = cropped_mkv(write(tmp_path / "whole.mkv", FILM), tmp_path / "a.mkv", top=30, bottom=30)
    times = np.array([one.time_ns for one in frames(path)], np.int64)
    span = Span(int(times[0]), int(times[-1]) + 40_000_000)
    made = cut_copy(str(path), span, times, tmp_path / "copy.mp4", audio=False)
    assert frames(made.path)[0].picture.geometry.displayed == (320, 180)
    assert (made.width, made.height) == (320, 180)


def test_the_sample_aspect_is_of_the_picture_inside_the_crop(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mkv", FILM)
    sides = {"top": 30, "bottom": 30, "width": 640, "height": 180}
    path = cropped_mkv(whole, tmp_path / "a.mkv", **sides)
    geometry = PyAVReader(str(path), "a").probe.geometry
    assert geometry == Geometry(320, 180, Fraction(2)) and geometry.displayed == (640, 180)


def test_the_clean_aperture_of_mp4_is_a_crop_like_any_other(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mp4", FILM)
    path = with_box(whole, tmp_path / "a.mp4", clean_aperture(300, 200, left_of_middle=4))
    assert side_data_of(path).crop == Crop(20, 20, 8, 12)
    assert PyAVReader(str(path), "a").probe.geometry.displayed == (300, 200)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_odd_edges_move_outward_to_a_whole_chroma_sample(factor: int) -> None:
    luma = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    chroma = luma[::factor, ::factor]
    geometry, color = Geometry(64, 48), ColorInfo("bt709", False)
    picture = Crop(3, 5, 7, 1).of(Picture((luma, chroma, chroma), 10, color, geometry))
    top, left = 3 // factor * factor, 7 // factor * factor
    cut, small, _ = picture.planes
    assert np.array_equal(cut, luma[top:43, left:63]) and np.shares_memory(cut, luma)
    assert np.array_equal(small, cut[::factor, ::factor])
    assert picture.geometry.displayed == (63 - left, 43 - top)


def test_a_grey_picture_is_cropped_at_any_edge_and_an_absurd_crop_is_not_believed() -> None:
    luma = np.zeros((48, 64), np.uint8)
    picture = Picture((luma,), 8, ColorInfo("bt709", False), Geometry(64, 48))
    assert Crop(3, 5, 7, 1).of(picture).planes[0].shape == (40, 56)
    for absurd in (Crop(top=48), Crop(24, 24), Crop(left=60, right=60)):
        assert absurd.of(picture) is picture


def test_a_codec_that_matroska_does_not_hold_has_no_side_data(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", Film("wmv2", 320, 240))
    assert side_data_of(path) == SideData() and len(frames(path)) == 25


def test_a_copy_of_a_turned_film_tells_the_size_that_is_shown(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mp4", FILM)
    data = bytearray(whole.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 240 << 16, 0, 1 << 30)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(data)
    times = np.array([one.time_ns for one in frames(turned)], np.int64)
    assert frames(turned)[0].picture.geometry.displayed == (240, 320)
    span = Span(int(times[0]), int(times[-1]) + 40_000_000)
    made = cut_copy(str(turned), span, times, tmp_path / "copy.mp4", audio=False)
    assert (made.width, made.height) == frames(made.path)[0].picture.geometry.displayed
