"""Side data of a stream, which FFmpeg's demuxers find and PyAV does not show: the container's crop
and the configuration of Dolby Vision.

FFmpeg writes both down itself. A stream's parameters are copied to a Matroska file in memory, of
which only the header is made (0.2 ms), and two elements of that header are read. So the crop of
Matroska (PixelCrop*) and of MP4 (`clap`), and the record of MP4 (`dvcC`, `dvvC`), Matroska
(BlockAdditionMapping) and transport streams (descriptor 0xB0) are read in one way, at any place
in a file of any size, with no byte of it read again and all checks that the demuxers make.

What Matroska cannot hold (a few dozen codecs, such as DNxHD, CineForm and WMV) has no side data
here. None of these carries Dolby Vision; a `clap` beside them is not applied.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import av
from av.stream import Stream

if TYPE_CHECKING:
    from curate.media.picture import Picture

# Elements, by their identifiers in RFC 9559.
SEGMENT, TRACKS, TRACK, VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
CROP_TOP, CROP_BOTTOM, CROP_LEFT, CROP_RIGHT = 0x54BB, 0x54AA, 0x54CC, 0x54DD
MAPPING, MAPPING_TYPE, MAPPING_DATA = 0x41E4, 0x41E7, 0x41ED
PARENTS = frozenset({SEGMENT, TRACKS, TRACK, VIDEO, MAPPING})
DOLBY_VISION = frozenset({b"dvcC", b"dvvC", b"dvwC"})


@dataclass(frozen=True, slots=True)
class Crop:
    """Rows and columns of the coded picture, at its edges, that the container says not to show."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def of(self, picture: "Picture") -> "Picture":
        """Cuts the picture out of a whole one, as views.

        Where chroma is subsampled, the top and left edges move outward to a whole chroma sample.
        A crop that leaves nothing of the picture is not believed.
        """
        if self == WHOLE:
            return picture
        luma, *chroma = picture.planes
        height, width = luma.shape
        coarse = chroma[0].shape if chroma else luma.shape
        factor_y, factor_x = max(1, round(height / coarse[0])), max(1, round(width / coarse[1]))
        top, left = self.top // factor_y * factor_y, self.left // factor_x * factor_x
        bottom, right = height - self.bottom, width - self.right
        if top >= bottom or left >= right:
            return picture
        small = [
            plane[top // factor_y : -(-bottom // factor_y), left // factor_x : -(-right // factor_x)]
            for plane in chroma
        ]
        planes = (luma[top:bottom, left:right], *small)
        geometry = picture.geometry.cropped(right - left, bottom - top)
        return replace(picture, planes=planes, geometry=geometry)


WHOLE = Crop()


@dataclass(frozen=True, slots=True)
class DolbyVision:
    """The configuration record (Dolby Vision Streams Within the ISO Base Media File Format, 3.2)."""

    profile: int
    has_base_layer: bool
    has_enhancement_layer: bool
    compatibility: int

    @classmethod
    def from_record(cls, record: bytes) -> "DolbyVision | None":
        if len(record) < 5:
            return None
        flags = record[3]
        return cls(record[2] >> 1, bool(flags & 1), bool(flags & 2), record[4] >> 4)

    @property
    def is_ipt(self) -> bool:
        """Tells whether the base layer's colours are IPT-PQ-c2, which no player without Dolby
        Vision shows right: profile 5, and profile 10 (AV1) that is compatible with nothing. Others
        have a base layer in SDR, PQ or HLG, as the stream itself says. FFmpeg's muxer leaves out
        the record of profile 20 (MV-HEVC).
        """
        return self.profile == 5 or (self.profile == 10 and self.compatibility == 0)


@dataclass(frozen=True, slots=True)
class SideData:
    """What is known of one video stream beside its codec's parameters."""

    crop: Crop = WHOLE
    dolby_vision: DolbyVision | None = None


def side_data(stream: Stream) -> SideData:
    """Reads a video stream's side data; nothing is known where Matroska cannot hold its codec."""
    return _parsed(_matroska_header(stream))


def _matroska_header(stream: Stream) -> bytes:
    header = io.BytesIO()
    if getattr(stream, "codec_context", None) is None:
        return b""
    try:
        with av.open(header, "w", format="matroska") as container:
            container.add_stream_from_template(stream, opaque=True)
            container.start_encoding()
            return header.getvalue()
    # ValueError: the codec has no place in Matroska. The others: its parameters are damaged.
    except (av.error.FFmpegError, ValueError):
        return b""


def _parsed(header: bytes) -> SideData:
    crops: dict[int, int] = {}
    dolby_vision = kind = None
    for element, content in _elements(memoryview(header)):
        if element in (CROP_TOP, CROP_BOTTOM, CROP_LEFT, CROP_RIGHT):
            crops[element] = int.from_bytes(content, "big")
        elif element == MAPPING_TYPE:
            kind = bytes(content)
        elif element == MAPPING_DATA and kind in DOLBY_VISION:
            dolby_vision = DolbyVision.from_record(bytes(content))
    crop = Crop(*(crops.get(e, 0) for e in (CROP_TOP, CROP_BOTTOM, CROP_LEFT, CROP_RIGHT)))
    return SideData(crop, dolby_vision)


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Elements of EBML in their order, those within `PARENTS` too. One of unknown or too large
    size ends where what holds it does.
    """
    at = 0
    while at < len(data):
        element, start = _vint(data, at, keeps_marker=True)
        size, start = _vint(data, start, keeps_marker=False)
        if start > len(data):
            return
        end = min(start + size, len(data))
        if element in PARENTS:
            yield from _elements(data[start:end])
        else:
            yield element, data[start:end]
        at = end


def _vint(data: memoryview, at: int, keeps_marker: bool) -> tuple[int, int]:
    """A number of variable length (RFC 8794, 4) and where it ends, beyond the data for none."""
    if at >= len(data) or data[at] == 0:
        return 0, len(data) + 1
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big")
    return value if keeps_marker else value & ((1 << 7 * length) - 1), at + length
