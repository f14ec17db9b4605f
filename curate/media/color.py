"""Y'CbCr planes to BT.709 display values, for SDR, PQ and HLG video, on the small arrays that scorers see.

SDR        R'G'B' = M (Y', Cb, Cr) with the luma coefficients of BT.601-7, BT.709-6 or BT.2020-2 and the quantisation of H.273
           (limited: luma 16..235, chroma 16..240, times 2^(depth-8); full: 0..2^depth-1). One fixed-point matrix a pixel.
PQ, HLG    code value -> light (BT.2100-2 tables 4 and 5; HLG with the OOTF of a 1000 cd/m2 display, gamma 1.2), light over the HDR
           reference white of 203 cd/m2 (BT.2408-7 section 2.2), source primaries -> BT.709 primaries, the display curve of BT.1886
           (exponent 1/2.4), then highlights rolled off a channel at a time: code values up to `KNEE` stay as they are, those from
           there to the code value of `PEAK_CD_M2` share what is left up to 1. So SDR content graded into HDR at 203 cd/m2 comes back
           as it was up to level 229 and reaches 242 at its white. The roll-off is Reinhard's extended curve with slope 1 at the
           knee: the Hermite spline of BT.2390-9 section 5.4.1 has to begin at 88 cd/m2 to stay monotone and would darken that
           white to 230.
Wide SDR   (BT.2020 or P3 primaries without a HDR transfer) goes through light in the same way, without the roll-off.

BT.601 primaries are taken as BT.709's, as swscale and most players do. Constant-luminance BT.2020, ICtCp and YCgCo are read as if
they were the matrix that `ColorInfo.from_codes` guesses.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

Matrix = Literal["bt601", "bt709", "bt2020nc"]
Transfer = Literal["sdr", "pq", "hlg"]
Primaries = Literal["bt601", "bt709", "bt2020", "p3"]

REFERENCE_WHITE_CD_M2 = 203.0  # BT.2408-7 section 2.2, both for PQ and for HLG on a 1000 cd/m2 display
PEAK_CD_M2 = 1000.0  # nominal peak of HLG in BT.2100 note 5f, and what PQ is most often mastered for
KNEE = 0.9
GAMMA = 2.4  # BT.1886 annex 1 with a black of 0

_KR_KB = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020nc": (0.2627, 0.0593)}
_MATRIX_CODES: dict[int, Matrix] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt709", 9: "bt2020nc", 10: "bt2020nc"}
_PRIMARIES_CODES: dict[int, Primaries] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt601", 9: "bt2020", 11: "p3", 12: "p3"}
_TRANSFER_CODES: dict[int, Transfer] = {16: "pq", 18: "hlg"}
_CHROMATICITIES = {  # x, y of red, green, blue; white is D65 for all (H.273 table 2; the DCI white of code 11 is adapted away)
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_BAND_PIXELS = 1 << 18  # what goes through light at once: three float32 planes of it stay in the cache of one core


@dataclass(frozen=True, slots=True)
class ColorInfo:
    """How the code values of a picture are meant."""

    matrix: Matrix = "bt709"
    full_range: bool = False
    transfer: Transfer = "sdr"
    primaries: Primaries = "bt709"

    @classmethod
    def from_codes(
        cls, color_range: int, colorspace: int, color_trc: int, color_primaries: int, height: int, width: int = 0, pixel_format: str = ""
    ) -> "ColorInfo":
        """From ffmpeg's integers, which are H.273's code points but for the range (1 limited, 2 full); 0 and 2 mean unspecified.

        What is unspecified: limited range, but full for the `yuvj*` and `gray*` formats; BT.2020 with a PQ or HLG transfer or BT.2020
        primaries, else BT.709 from 720 lines or 1280 columns on, else BT.601.
        """
        transfer = _TRANSFER_CODES.get(int(color_trc), "sdr")
        primaries = _PRIMARIES_CODES.get(int(color_primaries))
        if primaries is None:
            primaries = "bt2020" if transfer != "sdr" or int(colorspace) in (9, 10) else "bt709"
        matrix = _MATRIX_CODES.get(int(colorspace))
        if matrix is None:
            wide = transfer != "sdr" or primaries == "bt2020"
            matrix = "bt2020nc" if wide else "bt709" if height >= 720 or width >= 1280 else "bt601"
        unspecified_is_full = pixel_format.startswith(("yuvj", "gray"))
        full_range = int(color_range) == 2 or (int(color_range) != 1 and unspecified_is_full)
        return cls(matrix, full_range, transfer, primaries)

    @property
    def is_hdr(self) -> bool:
        return self.transfer != "sdr"

    @property
    def needs_light(self) -> bool:
        """Whether colour has to be converted in linear light; otherwise one matrix on code values does."""
        return self.is_hdr or self.primaries in ("bt2020", "p3")


def yuv_to_rgb(y: np.ndarray, u: np.ndarray | None, v: np.ndarray | None, depth: int, color: ColorInfo) -> np.ndarray:
    """uint8 (H, W, 3) RGB, full-range BT.709 display values, of code values of `depth` bits.

    y, u, v are (H, W) of one size, uint8 for depth 8 and uint16 (low bits used) above; u and v are None for a grey picture.
    """
    _check_depth(y, depth)
    if u is None or v is None:
        return cv2.merge([luma8(y, depth, color)] * 3)
    if u.shape != y.shape or v.shape != y.shape:
        raise ValueError(f"chroma {u.shape}, {v.shape} must have the size of luma {y.shape}; resize it first")
    if not color.needs_light:
        matrix = _decode_matrix(color, depth, 255.0)
        rgb = cv2.transform(cv2.merge([y, u, v]), matrix)
        return rgb if rgb.dtype == np.uint8 else np.minimum(rgb, 255).astype(np.uint8)
    rgb = np.empty((*y.shape, 3), np.uint8)
    rows = max(1, _BAND_PIXELS // max(1, y.shape[1]))
    for top in range(0, y.shape[0], rows):
        band = slice(top, top + rows)
        rgb[band] = _rgb_through_light(cv2.merge([y[band], u[band], v[band]]), depth, color)
    return rgb


def luma8(y: np.ndarray, depth: int, color: ColorInfo) -> np.ndarray:
    """uint8 (H, W) full-range luma of code values of `depth` bits; PQ and HLG tone-mapped as a grey of that code value would be.

    May return `y` itself where it is that already. A saturated HDR colour is off by what its chroma would have told: some levels.
    """
    _check_depth(y, depth)
    if depth == 8 and color.full_range and not color.is_hdr:
        return y
    if depth == 8 and not color.is_hdr:
        # What `luma_table` holds, at twice the speed of a table.
        return cv2.addWeighted(y, 255 / 219, y, 0, -16 * 255 / 219)
    table = luma_table(depth, color)
    return cv2.LUT(y, table) if depth == 8 else np.take(table, y, mode="clip")


@lru_cache(maxsize=32)
def luma_table(depth: int, color: ColorInfo) -> np.ndarray:
    """uint8 [2^depth], read-only: full-range luma level of every code value (see `luma8`)."""
    codes = np.arange(1 << depth, dtype=np.float64)
    offset, scale = _luma_quantisation(depth, color.full_range)
    signal = np.clip((codes - offset) / scale, 0.0, 1.0)
    if color.is_hdr:
        light = _signal_to_light(signal, color.transfer)
        if color.transfer == "hlg":
            light = light * _hlg_ootf_gain(light)
        signal = _display_signal(light, roll_off=True)
    table = np.floor(signal * 255.0 + 0.5).astype(np.uint8)
    table.setflags(write=False)
    return table


def _check_depth(y: np.ndarray, depth: int) -> None:
    expected = np.uint8 if depth == 8 else np.uint16
    if not 8 <= depth <= 16 or y.dtype != expected:
        raise ValueError(f"planes of depth {depth} must be uint8 for depth 8 and uint16 for 9 to 16, got {y.dtype}")


def _luma_quantisation(depth: int, full_range: bool) -> tuple[float, float]:
    """Code value of black, and code values from black to white (H.273 equations 20 to 25)."""
    return (0.0, float((1 << depth) - 1)) if full_range else (16.0 * 2 ** (depth - 8), 219.0 * 2 ** (depth - 8))


@lru_cache(maxsize=32)
def _decode_matrix(color: ColorInfo, depth: int, white: float) -> np.ndarray:
    """float64 (3, 4): (Y', Cb, Cr, 1) in code values to R'G'B' with nominal white at `white`."""
    kr, kb = _KR_KB[color.matrix]
    kg = 1.0 - kr - kb
    to_rgb = np.array([[1.0, 0.0, 2 - 2 * kr], [1.0, -(2 - 2 * kb) * kb / kg, -(2 - 2 * kr) * kr / kg], [1.0, 2 - 2 * kb, 0.0]])
    luma_offset, luma_scale = _luma_quantisation(depth, color.full_range)
    chroma_scale = luma_scale if color.full_range else 224.0 * 2 ** (depth - 8)
    scaled = white * to_rgb / np.array([luma_scale, chroma_scale, chroma_scale])
    centre = float(1 << (depth - 1))
    return np.column_stack([scaled, -scaled @ np.array([luma_offset, centre, centre])])


def _rgb_through_light(yuv: np.ndarray, depth: int, color: ColorInfo) -> np.ndarray:
    """The HDR and wide-gamut path on one band: code values (H, W, 3) to uint8 RGB."""
    if yuv.dtype == np.uint8:
        yuv = yuv.astype(np.uint16)
    # Saturation to uint16 clips the signal to 0..1 and makes it an index in one go.
    signal: np.ndarray = cv2.transform(yuv, _decode_matrix(color, depth, 65535.0)).astype(np.uint16, copy=False)
    light = np.take(_light_table(color.transfer), signal)
    if color.transfer == "hlg":
        luminance = cv2.transform(light, np.array([[0.2627, 0.6780, 0.0593]], np.float32))
        light *= _hlg_ootf_gain(luminance)[..., None]
    light = cv2.transform(light, _primaries_to_bt709(color.primaries))
    index = np.sqrt(np.maximum(light, 0.0)) * np.float32(65535.0 / _INDEX_PEAK)
    return np.take(_display_table(color.is_hdr), np.minimum(index, 65535.0).astype(np.uint16))


def _hlg_ootf_gain(luminance: np.ndarray) -> np.ndarray:
    """What scene light (1 = peak) is multiplied by to be display light over reference white: BT.2100-2 table 5, OOTF, gamma 1.2."""
    return np.power(np.maximum(luminance, 0.0), 0.2) * (PEAK_CD_M2 / REFERENCE_WHITE_CD_M2)


def _signal_to_light(signal: np.ndarray, transfer: Transfer) -> np.ndarray:
    """Signal 0..1 to light: over reference white for PQ, over white for SDR; scene light over its peak for HLG."""
    if transfer == "pq":  # BT.2100-2 table 4
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
        root = np.power(signal, 1 / m2)
        return np.power(np.maximum(root - c1, 0.0) / (c2 - c3 * root), 1 / m1) * (10_000.0 / REFERENCE_WHITE_CD_M2)
    if transfer == "hlg":  # BT.2100-2 table 5
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(signal <= 0.5, signal**2 / 3.0, (np.exp((signal - c) / a) + b) / 12.0)
    return np.power(signal, GAMMA)


def _display_signal(light: np.ndarray, roll_off: bool) -> np.ndarray:
    """Light over reference white to the display signal, 0..1."""
    signal = np.power(np.maximum(light, 0.0), 1.0 / GAMMA)
    if roll_off:
        room = 1.0 - KNEE
        peak = ((PEAK_CD_M2 / REFERENCE_WHITE_CD_M2) ** (1.0 / GAMMA) - KNEE) / room
        above = np.maximum(signal - KNEE, 0.0) / room
        signal = np.where(signal <= KNEE, signal, KNEE + room * above * (1.0 + above / peak**2) / (1.0 + above))
    return np.clip(signal, 0.0, 1.0)


_INDEX_PEAK = float(np.sqrt(PEAK_CD_M2 / REFERENCE_WHITE_CD_M2))  # brighter light is clipped to white


@lru_cache(maxsize=4)
def _light_table(transfer: Transfer) -> np.ndarray:
    """float32 [65536]: light of every 16-bit signal."""
    return _signal_to_light(np.arange(65536) / 65535.0, transfer).astype(np.float32)


@lru_cache(maxsize=2)
def _display_table(roll_off: bool) -> np.ndarray:
    """uint8 [65536]: display level of light, indexed by its square root so that dark levels keep their resolution."""
    light = (np.arange(65536) / 65535.0 * _INDEX_PEAK) ** 2
    return np.floor(_display_signal(light, roll_off) * 255.0 + 0.5).astype(np.uint8)


@lru_cache(maxsize=4)
def _primaries_to_bt709(primaries: Primaries) -> np.ndarray:
    """float32 (3, 3): linear RGB of `primaries` to linear RGB of BT.709, through CIE XYZ (SMPTE RP 177)."""
    name = "bt709" if primaries == "bt601" else primaries
    return (np.linalg.inv(_rgb_to_xyz("bt709")) @ _rgb_to_xyz(name)).astype(np.float32)


def _rgb_to_xyz(name: str) -> np.ndarray:
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in _CHROMATICITIES[name]]).T
    white_x, white_y = 0.3127, 0.3290
    white = np.array([white_x / white_y, 1.0, (1 - white_x - white_y) / white_y])
    return columns * np.linalg.solve(columns, white)
