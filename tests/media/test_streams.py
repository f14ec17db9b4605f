"""The film and its sound are chosen among the streams of a container, or named by their index."""

import re
import subprocess
import sys
from pathlib import Path

import av
import pytest
from av.stream import Disposition
from containers import PICTURE, SOUND, Film, cropped_mkv, dolby_vision, in_programs, with_box, write
from PIL import Image

from curate.errors import NoDecoder, NoSuchStream
from curate.media.access import FrameAccess
from curate.media.decode import DecodedFrame, PyAVReader, open_video
from curate.media.picks import VideoFile, frames_at
from curate.media.streams import StreamChoice, choose_audio, choose_video, is_animated_webp

DEFAULT = Disposition.default
FILM, PREVIEW = Film(width=320, height=240), Film(width=160, height=90)


def chosen(path: Path, wanted: int | None = None) -> int:
    container, stream = open_video(str(path), path.name, wanted=wanted)
    with container:
        return stream.index


def sound_of(path: Path, wanted: int | None = None, video: int | None = None) -> int | None:
    container, stream = open_video(str(path), path.name, wanted=video)
    with container:
        found = choose_audio(container, stream, path.name, wanted)
        return None if found is None else found.index


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_the_larger_picture_is_the_film_where_no_flag_says_more(tmp_path: Path, container: str) -> None:
    flags = Disposition(0) if container != "mp4" else DEFAULT  # or MP4's writer flags the first
    both = [Film(width=f.width, height=f.height, flags=flags) for f in (PREVIEW, FILM)]
    assert chosen(write(tmp_path / f"a.{container}", *both)) == 1
    assert chosen(write(tmp_path / f"b.{container}", *both[::-1])) == 0


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_the_default_flag_goes_before_the_size(tmp_path: Path, container: str) -> None:
    flagged = Film(width=160, height=90, flags=DEFAULT)
    assert chosen(write(tmp_path / f"a.{container}", FILM, flagged)) == 1


def test_a_disabled_track_is_not_the_film(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Film(width=320, height=240, flags=DEFAULT), Film(flags=DEFAULT))
    assert chosen(path) == 0
    data = bytearray(path.read_bytes())
    data[data.index(b"tkhd") + 7] &= ~1
    path.write_bytes(data)
    assert chosen(path) == 1


def test_one_picture_beside_a_film_is_not_the_film_however_large_and_flagged(tmp_path: Path) -> None:
    still = Film("mjpeg", 1280, 720, 1, DEFAULT, "yuvj420p")
    assert chosen(write(tmp_path / "a.mp4", still, PREVIEW)) == 1
    motion_photo = Film("mjpeg", 1280, 720, 2, DEFAULT, "yuvj420p")
    assert chosen(write(tmp_path / "b.mp4", motion_photo, Film(flags=DEFAULT))) == 1


def test_one_picture_alone_is_read(tmp_path: Path) -> None:
    assert chosen(write(tmp_path / "a.mp4", PICTURE)) == 0


def test_covers_thumbnails_and_still_images_are_left_out_by_their_flags(tmp_path: Path) -> None:
    large = Film("mjpeg", 640, 480, 25, pix_fmt="yuvj420p", flags=Disposition.still_image)
    path = write(tmp_path / "a.nut", large, PREVIEW)
    with av.open(str(path)) as container:
        streams = container.streams.video
        streams[0].disposition = Disposition.timed_thumbnails
        assert choose_video(container, str(path), "a").index == 1
        streams[0].disposition = Disposition.still_image
        assert choose_video(container, str(path), "a").index == 1
        streams[0].disposition = Disposition(0)
        assert choose_video(container, str(path), "a").index == 0


def test_an_alpha_channel_is_not_the_film(tmp_path: Path) -> None:
    alpha = Film("ffv1", 160, 90, pix_fmt="gray")
    assert chosen(write(tmp_path / "a.mkv", alpha, Film("ffv1", 160, 90))) == 1


def test_an_enhancement_layer_is_not_the_film(tmp_path: Path) -> None:
    both = write(tmp_path / "two.mp4", Film(width=320, height=240, flags=DEFAULT), Film(flags=DEFAULT))
    assert chosen(both) == 0
    layers = with_box(both, tmp_path / "dual.mp4", dolby_vision(7, 6, layers=0b110))
    assert chosen(layers) == 1


def test_animated_avif_is_its_sequence_not_its_still_picture(tmp_path: Path) -> None:
    try:
        path = write(tmp_path / "a.avif", Film("libsvtav1", 64, 64, 5))
    except av.error.FFmpegError:
        pytest.skip("this build of PyAV does not encode AV1")
    with av.open(str(path)) as container:
        assert [stream.frames for stream in container.streams.video] == [1, 5]
    items = list(PyAVReader(str(path), "a").frames())
    assert len(items) == 5 and all(isinstance(item, DecodedFrame) for item in items)


def test_the_sound_is_of_the_film_s_program(tmp_path: Path) -> None:
    small, large = Film("mpeg2video", 160, 128), Film("mpeg2video", 320, 240)
    source = write(tmp_path / "a.ts", small, large, SOUND, SOUND)
    # FFmpeg counts streams as the programs list them.
    two = in_programs(source, tmp_path / "two.ts", (0, 2), (1, 3))
    assert chosen(two) == 2 and sound_of(two) == 3
    assert sound_of(two, video=0) == 1
    without = in_programs(source, tmp_path / "without.ts", (0, 2, 3), (1,))
    assert chosen(without) == 3 and sound_of(without) is None


def test_commentary_and_audio_description_are_not_the_sound(tmp_path: Path) -> None:
    for flags in (Disposition.comment, Disposition.visual_impaired, Disposition.hearing_impaired):
        aside = Film("aac", flags=flags | DEFAULT)
        assert sound_of(write(tmp_path / f"{int(flags)}.mkv", FILM, aside, SOUND)) == 2


def test_of_equal_sounds_the_flagged_then_the_nearest_is_taken(tmp_path: Path) -> None:
    assert sound_of(write(tmp_path / "a.mkv", FILM, SOUND, Film("aac", flags=DEFAULT))) == 2
    assert sound_of(write(tmp_path / "b.mkv", FILM, SOUND, SOUND)) == 1
    flagged = Film(width=320, height=240, flags=DEFAULT)
    assert sound_of(write(tmp_path / "c.mkv", PREVIEW, SOUND, flagged, PREVIEW, SOUND)) == 1
    assert sound_of(write(tmp_path / "d.mkv", FILM)) is None


def test_a_named_stream_is_read_everywhere_and_told_of(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", FILM, PREVIEW, SOUND, SOUND)
    reader = PyAVReader(str(path), "a", streams=StreamChoice(1, 3))
    assert (reader.probe.video_stream, reader.probe.audio_stream) == (1, 3)
    times = [item.time_ns for item in reader.frames() if isinstance(item, DecodedFrame)]
    assert reader.probe.geometry.displayed == (160, 90)
    with VideoFile(str(path), streams=StreamChoice(1, 3)) as video:
        assert video.audio is not None and (video.stream.index, video.audio.index) == (1, 3)
        _, frame = next(frames_at(video, times[5:6]))
        assert (frame.width, frame.height) == (160, 90)
        video.reopen()
        assert video.stream.index == 1
    access = FrameAccess()
    sizes = [access.read(str(path), times[3:4], one)[0].geometry.displayed for one in (1, None, 0)]
    assert sizes == [(160, 90), (320, 240), (320, 240)]


def test_a_wrong_index_is_an_error_that_lists_the_streams(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", FILM, SOUND)
    listed = r"0 video \(h264 320x240\), 1 audio \(aac\)"
    for wanted in (1, 2):
        with pytest.raises(NoSuchStream, match=rf"decode.stream={wanted} is no video .*{listed}"):
            open_video(str(path), "a", wanted=wanted)
    with pytest.raises(NoSuchStream, match=rf"decode.audio_stream=0 is no audio .*{listed}"):
        PyAVReader(str(path), "a", streams=StreamChoice(None, 0))


def test_animated_webp_is_refused_by_name_and_still_webp_is_not(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (64, 48), (40 * k, 90, 120)) for k in range(5)]
    pictures[0].save(tmp_path / "still.webp")
    times_ms = [80, 40, 200, 120, 80]
    rest = {"append_images": pictures[1:], "duration": times_ms}
    pictures[0].save(tmp_path / "film.webp", save_all=True, **rest)
    assert not is_animated_webp(str(tmp_path / "still.webp"))
    assert chosen(tmp_path / "still.webp") == 0
    for opened in (PyAVReader, lambda path, name: VideoFile(path)):
        with pytest.raises(NoDecoder, match=r"animated WebP is not decoded .*film\.apng") as error:
            opened(str(tmp_path / "film.webp"), "film.webp")
    with (tmp_path / "film.webp").open("rb") as file:
        file.seek(3)
        assert is_animated_webp(file) and file.tell() == 3
    script = re.search(r'python -c "(.*?)" film.webp film.apng', str(error.value))
    assert script is not None
    names = ["film.webp", "film.apng"]
    subprocess.run([sys.executable, "-c", script[1], *names], cwd=tmp_path, check=True)
    reader = PyAVReader(str(tmp_path / "film.apng"), "film")
    shown = [item for item in reader.frames() if isinstance(item, DecodedFrame)]
    assert [one.time_ns // 10**6 for one in shown] == [0, 80, 120, 320, 440]


def test_the_crop_does_not_change_the_choice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", Film(width=320, height=240), Film(width=320, height=200))
    assert chosen(cropped_mkv(path, tmp_path / "b.mkv", top=60, bottom=60)) == 0
