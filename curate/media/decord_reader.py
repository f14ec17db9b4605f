"""The decord decoder, for comparison and for those who have it built with NVDEC. PyAV is the default: `benchmarks/` says why.

decord hands out full-size 8-bit RGB and hides the stream: no HDR, no packet sizes (bits per pixel is null), no sample aspect, and BT.709
video converted with the BT.601 matrix. It applies rotation itself. Times are its float seconds, good to a microsecond.
"""

import os
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np

from curate.clip import Fault
from curate.errors import SourceError
from curate.media.color import ColorInfo
from curate.media.decode import DecodedFrame, PyAVReader
from curate.media.geometry import Geometry
from curate.media.packets import PacketIndex
from curate.media.picture import Picture
from curate.media.probe import Probe

# decord's own ffmpeg opens playlists and patterns, and what they name, and cannot be told not to: only files that begin as media do
# reach it. What a file holds further on does not matter, since ffmpeg takes a text for a playlist by its first line.
SIGNATURES = (
    (4, b"ftyp moov mdat free skip wide pnot".split()),
    (
        0,
        [
            b"\x1a\x45\xdf\xa3",
            b"RIFF",
            b"FLV\x01",
            b"OggS",
            b"\x30\x26\xb2\x75",
            b"\0\0\x01\xba",
            b"\0\0\x01\xb3",
            b"DKIF",
            b"\x06\x0e\x2b\x34",
        ],
    ),
    (0, [b"\x47\x40", b"\0\0\x01", b"\0\0\0\x01"]),
    (4, [b"\x47\x40"]),  # transport streams with a time code before each packet
)


def _not_for_decord(path: str) -> str | None:
    """Why decord must not see the file: it would take it for a list of others, or its name for a pattern of names."""
    if "%" in path:
        return "decord takes a % in a name for a pattern of names"
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        return None  # PyAV says what is wrong
    with open(path, "rb") as file:
        head = file.read(16)
    if not head or any(head.startswith(start, at) for at, starts in SIGNATURES for start in starts):
        return None
    return "decord is given only files that begin as an MP4, Matroska, AVI, MPEG, FLV, Ogg, ASF, MXF or IVF does"


class DecordReader:
    """Reads one local file with decord; the probe facts come from opening it with PyAV first. Raises `SourceError`."""

    def __init__(self, path: str, threads: int = 1) -> None:
        import decord

        if problem := _not_for_decord(path):
            raise SourceError(f"{path}: {problem}; use decode.decoder=pyav")
        with_probe = PyAVReader(path, path, threads)
        probe = with_probe.probe
        with_probe.close()
        try:
            self._video = decord.VideoReader(path, num_threads=threads)
            self._times_s = self._video.get_frame_timestamp(range(len(self._video)))
            height, width, num_channels = self._video[0].shape
        except (decord.DECORDError, RuntimeError) as error:
            raise SourceError(f"{path}: decord cannot decode it ({str(error).splitlines()[0]}); use decode.decoder=pyav") from error
        if num_channels != 3:
            raise SourceError(f"{path}: decord's pictures of {width}x{height} have {num_channels} channels; use decode.decoder=pyav")
        self._geometry = Geometry(width, height)
        color = ColorInfo("bt601", False)
        self.probe: Probe = replace(probe, geometry=self._geometry, color=color, video_stream=None, audio_stream=None)
        self._color = color
        self.packets = PacketIndex()
        for index in self._video.get_key_indices():
            self.packets.keyframes_ns.append(self._start_ns(index))
        self.packets.num_keyframes = len(self.packets.keyframes_ns)
        self.end_ns: int | None = None

    def _start_ns(self, index: int) -> int:
        return round(float(self._times_s[index, 0]) * 1e9)

    def frames(self) -> Iterator[DecodedFrame | Fault]:
        import decord

        self._video.seek(0)
        for index in range(len(self._times_s)):
            try:
                rgb = self._video.next().asnumpy()
            except (StopIteration, decord.DECORDError) as error:
                yield Fault(
                    "decode",
                    type(error).__name__,
                    f"decord stopped at frame {index} of {len(self._times_s)}; use decode.decoder=pyav",
                    self.end_ns,
                )
                return
            time_ns = self._start_ns(index)
            if self.end_ns is not None and index and time_ns <= self._start_ns(index - 1):
                continue
            self.end_ns = round(float(self._times_s[index, 1]) * 1e9)
            yield DecodedFrame(time_ns, Picture(_planes(rgb), 8, self._color, self._geometry), False)

    def account(self) -> None:
        """None: decord shows no packets."""

    def close(self) -> None:
        del self._video


def _planes(rgb: np.ndarray) -> tuple[np.ndarray, ...]:
    """RGB as 4:2:0 planes, the form every other decoder gives; an odd last row or column keeps its luma."""
    height, width = rgb.shape[:2]
    even = cv2.copyMakeBorder(rgb, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    rows, cols = even.shape[:2]
    packed = cv2.cvtColor(even, cv2.COLOR_RGB2YUV_I420).reshape(-1)
    luma, quarter = rows * cols, rows * cols // 4
    y = packed[:luma].reshape(rows, cols)[:height, :width]
    u = packed[luma : luma + quarter].reshape(rows // 2, cols // 2)
    v = packed[luma + quarter :].reshape(rows // 2, cols // 2)
    return y, u, v
