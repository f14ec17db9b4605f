"""The planes of decoded frames as they lie in the decoder's memory, with what they mean: depth, colour, geometry."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from curate.media.color import ColorInfo
from curate.media.geometry import Geometry, Orientation
from curate.media.picture import Picture
from curate.media.side_data import Crop, side_data

MAX_ASPECT = 5  # of a sample; half-width broadcasts have 2.9. A header that says more, or less than its inverse, is not believed
_UINT8, _UINT16 = np.dtype(np.uint8), np.dtype("<u2")


@dataclass(frozen=True, slots=True)
class _Layout:
    """What frames of one format, size and colour have in common."""

    color: ColorInfo
    geometry: Geometry
    depth: int
    is_scaled: bool  # goes through swscale first
    is_split: bool  # planar: planes are read as they lie


class PlaneReader:
    """Turns decoded frames into `Picture`s; formats without 8 to 16 bit planar luma go through swscale once."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._orientation: Orientation | None = None
        self._crop: Crop | None = None
        self._key: tuple[object, ...] = ()
        self._layout: _Layout | None = None

    def picture(self, frame: VideoFrame, stream: VideoStream) -> Picture:
        """The frame inside the crop of its container."""
        if self._crop is None:
            self._crop = side_data(stream).crop
        return self._crop.of(self._whole(frame, stream))

    def _whole(self, frame: VideoFrame, stream: VideoStream) -> Picture:
        # Asked of the first frame only: side data and its frame hold each other, so every frame asked stays until the cycle collector runs.
        if self._orientation is None:
            self._orientation = _orientation(frame)
        codes = (frame.color_range, frame.colorspace, frame.color_trc, frame.color_primaries)
        key = (frame.format.name, frame.width, frame.height, stream.sample_aspect_ratio, *codes)
        if self._layout is None or key != self._key:
            self._key, self._layout = key, _layout(frame, _aspect(stream), self._orientation)
        layout, planes = self._layout, frame.planes
        if layout.is_scaled or any(plane.line_size < 0 for plane in planes):
            return self._scaled(frame, layout)
        if layout.is_split:
            return Picture(tuple([_view(plane, layout.depth) for plane in planes[:3]]), layout.depth, layout.color, layout.geometry)
        return Picture(_planes(frame), layout.depth, layout.color, layout.geometry)

    def _scaled(self, frame: VideoFrame, layout: _Layout) -> Picture:
        target = "yuv444p" if frame.format.is_rgb or frame.format.name == "pal8" else "yuv420p"
        bt601, color = layout.color.matrix == "bt601", layout.color
        matrix = Colorspace.ITU601 if bt601 else Colorspace.ITU709
        frame = self._reformatter.reformat(frame, format=target, dst_colorspace=matrix, dst_color_range=ColorRange.MPEG)
        color = ColorInfo("bt601" if bt601 else "bt709", False, color.transfer, color.primaries)
        return Picture(_planes(frame), max(8, frame.format.components[0].bits), color, layout.geometry)


def _aspect(stream: VideoStream) -> Fraction:
    aspect = stream.sample_aspect_ratio or Fraction(1)
    return aspect if Fraction(1, MAX_ASPECT) <= aspect <= MAX_ASPECT else Fraction(1)


def _layout(frame: VideoFrame, aspect: Fraction, orientation: Orientation) -> _Layout:
    name = frame.format.name
    codes = (frame.color_range, frame.colorspace, frame.color_trc, frame.color_primaries)
    color = ColorInfo.from_codes(*codes, frame.height, frame.width, name)
    is_scaled = not name.startswith(("yuv4", "yuvj4", "yuva4", "gray", "nv12", "p010le")) or name.endswith("be")
    is_split = name.startswith(("yuv4", "yuvj4", "yuva4"))
    depth = max(8, frame.format.components[0].bits)
    return _Layout(color, Geometry(frame.width, frame.height, aspect, orientation), depth, is_scaled, is_split)


def _view(plane: VideoPlane, depth: int) -> np.ndarray:
    """(H, W) of the plane's own memory, which it keeps alive."""
    dtype = _UINT8 if depth == 8 else _UINT16
    return np.ndarray((plane.height, plane.width), dtype, plane, 0, (plane.line_size, dtype.itemsize))  # type: ignore[arg-type]


def _planes(frame: VideoFrame) -> tuple[np.ndarray, ...]:
    name, depth = frame.format.name, max(8, frame.format.components[0].bits)
    if name not in ("nv12", "p010le"):
        return tuple(_view(plane, depth) for plane in frame.planes[: 1 if name.startswith("gray") else 3])
    arrays = []
    for plane in frame.planes:
        array = np.frombuffer(plane, _UINT8 if depth == 8 else _UINT16)  # type: ignore[call-overload]
        arrays.append(array[: plane.height * (plane.line_size // array.itemsize)].reshape(plane.height, -1))
    shift = 6 if name == "p010le" else 0
    width, half = frame.width, (frame.width + 1) // 2
    luma, chroma = arrays[0][:, :width] >> shift, arrays[1][:, : 2 * half] >> shift
    return luma, np.ascontiguousarray(chroma[:, 0::2]), np.ascontiguousarray(chroma[:, 1::2])


def _orientation(frame: VideoFrame) -> Orientation:
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 18 cannot list side data of which one has a type that it has no name for (PyAV-Org/PyAV#2392). It knows the turn, no mirror.
        return Orientation.from_turn(frame.rotation)
    return Orientation() if matrix is None else Orientation.from_matrix(bytes(matrix))  # type: ignore[call-overload]
