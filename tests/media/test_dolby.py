"""Dolby Vision by its configuration record: read where its base layer has colours, refused by name where only its metadata
give them."""

from pathlib import Path

import av
import pytest
from containers import Film, copied, dolby_vision, dolby_vision_record, in_programs, with_box, write

from curate.errors import DolbyVisionOnly
from curate.media.decode import DecodedFrame, PyAVReader, open_video
from curate.media.picks import VideoFile
from curate.media.side_data import DolbyVision, side_data

FILM = Film(width=320, height=240)


def found(path: Path) -> DolbyVision | None:
    with av.open(str(path)) as container:
        return side_data(container.streams.video[0]).dolby_vision


@pytest.mark.parametrize(
    ("profile", "compatibility", "is_ipt"),
    [
        *((5, 0, True), (10, 0, True), (10, 1, False), (10, 4, False)),
        *((4, 2, False), (7, 6, False), (8, 1, False), (8, 2, False), (8, 4, False), (9, 2, False)),
    ],
)
def test_only_profiles_whose_base_layer_is_ipt_are_refused(
    tmp_path: Path, profile: int, compatibility: int, is_ipt: bool
) -> None:
    film = write(tmp_path / "film.mp4", FILM)
    path = with_box(film, tmp_path / "a.mp4", dolby_vision(profile, compatibility))
    assert found(path) == DolbyVision(profile, True, False, compatibility)
    if is_ipt:
        for opened in (open_video, PyAVReader, lambda path, name: VideoFile(path)):
            with pytest.raises(DolbyVisionOnly, match=f"Dolby Vision profile {profile}: .*IPT"):
                opened(str(path), "a")
    else:
        items = list(PyAVReader(str(path), "a").frames())
        assert len(items) == 25 and all(isinstance(item, DecodedFrame) for item in items)


def test_the_record_is_found_in_matroska_and_in_transport_streams(tmp_path: Path) -> None:
    film = write(tmp_path / "film.mp4", FILM)
    boxed = with_box(film, tmp_path / "a.mp4", dolby_vision(5, 0))
    wanted = DolbyVision(5, True, False, 0)
    assert found(copied(boxed, tmp_path / "a.mkv")) == wanted
    recorded = write(tmp_path / "a.ts", Film("mpeg2video", 320, 240))
    record = dolby_vision_record(5, 0)
    descriptor = bytes([0xB0, len(record)]) + record
    described = in_programs(recorded, tmp_path / "b.ts", (0,), descriptor=descriptor)
    assert found(described) == wanted and found(recorded) is None
    with pytest.raises(DolbyVisionOnly):
        open_video(str(described), "b")
