"""Films whose every picture carries its number, in every container and codec that an encoder here
makes, with every trait that has cost pictures.

The truth is what was written: picture n at its time. A container that keeps decoding times only
moves all of them by the delay of reordering, as FFmpeg does.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from curate.media.picture import Picture

NUM_FRAMES, STEP_MS, GROUP = 60, 40, 12
WIDTH, HEIGHT, BLOCK, BITS = 192, 96, 24, 7
DAMAGED = 29  # the packet, in decoding order: inside the third group
IRREGULAR_MS = [int(t) for t in np.cumsum(np.random.default_rng(3).choice([20, 40, 60, 200], NUM_FRAMES))]

X264 = {"preset": "veryfast", "g": str(GROUP), "sc_threshold": "0"}
X265 = {"preset": "superfast"}
X265_PARAMS = f"pools=none:frame-threads=1:log-level=none:keyint={GROUP}:min-keyint={GROUP}:scenecut=0"
VPX = {"g": str(GROUP), "deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "1"}
CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "yuv420p", {**X264, "bf": "0"}),
    "h264_b": ("libx264", "yuv420p", {**X264, "bf": "3", "x264-params": "b-pyramid=normal:b-adapt=0"}),
    "h264_open": ("libx264", "yuv420p", {**X264, "bf": "3", "x264-params": "open-gop=1:b-adapt=0"}),
    "h264_fields": ("libx264", "yuv420p", {**X264, "bf": "2", "x264-params": "tff=1:b-adapt=0"}),
    "hevc_b": ("libx265", "yuv420p", {**X265, "x265-params": f"{X265_PARAMS}:bframes=3:b-pyramid=1:open-gop=0"}),
    "hevc_open": ("libx265", "yuv420p", {**X265, "x265-params": f"{X265_PARAMS}:bframes=3:open-gop=1"}),
    "mpeg4": ("mpeg4", "yuv420p", {"g": str(GROUP), "qscale": "2"}),
    "mpeg4_b": ("mpeg4", "yuv420p", {"g": str(GROUP), "bf": "2", "qscale": "2"}),
    "mpeg2_b": ("mpeg2video", "yuv420p", {"g": str(GROUP), "bf": "2", "qscale": "2"}),
    "mpeg2_fields": ("mpeg2video", "yuv420p", {"g": str(GROUP), "bf": "2", "qscale": "2", "flags": "+ildct+ilme"}),
    "mpeg1_b": ("mpeg1video", "yuv420p", {"g": str(GROUP), "bf": "2", "qscale": "2"}),
    "vp8": ("libvpx", "yuv420p", {**VPX, "lag-in-frames": "8"}),
    "vp9": ("libvpx-vp9", "yuv420p", {**VPX, "lag-in-frames": "12"}),
    "av1": ("libsvtav1", "yuv420p", {"preset": "12", "g": str(GROUP)}),
    "mjpeg": ("mjpeg", "yuvj420p", {"qscale": "2"}),
    "ffv1": ("ffv1", "yuv420p", {}),
    "prores": ("prores_ks", "yuv422p10le", {}),
    "flv1": ("flv", "yuv420p", {"g": str(GROUP), "qscale": "2"}),
    "wmv2": ("wmv2", "yuv420p", {"g": str(GROUP), "qscale": "2"}),
    "msmpeg4": ("msmpeg4", "yuv420p", {"g": str(GROUP), "qscale": "2"}),
    "gif": ("gif", "rgb8", {}),
    "apng": ("apng", "rgb24", {}),
}
HOLDS: dict[str, tuple[str, ...]] = {
    "mp4": ("h264", "h264_b", "h264_open", "h264_fields", "hevc_b", "hevc_open", "mpeg4", "mpeg4_b", "mpeg2_b", "vp9", "av1", "mjpeg"),
    "mov": ("h264_b", "hevc_b", "mpeg4_b", "mpeg2_b", "mjpeg", "prores"),
    "mkv": (
        *("h264", "h264_b", "h264_open", "h264_fields", "hevc_b", "hevc_open", "mpeg4", "mpeg4_b", "mpeg2_b", "mpeg2_fields", "mpeg1_b"),
        *("vp8", "vp9", "av1", "mjpeg", "ffv1", "prores", "msmpeg4"),
    ),
    "webm": ("vp8", "vp9", "av1"),
    "avi": ("h264", "h264_b", "h264_open", "mpeg4", "mpeg4_b", "mpeg2_b", "mjpeg", "ffv1", "msmpeg4", "vp8"),
    "asf": ("h264", "h264_b", "mpeg4_b", "mpeg2_b", "mpeg1_b", "wmv2", "mjpeg"),
    "mxf": ("h264", "h264_b", "mpeg2_b", "mpeg2_fields"),
    "ts": ("h264", "h264_b", "h264_open", "h264_fields", "hevc_b", "hevc_open", "mpeg4_b", "mpeg2_b", "mpeg2_fields", "mpeg1_b"),
    "mpg": ("h264", "h264_b", "mpeg2_b", "mpeg2_fields", "mpeg1_b"),
    "flv": ("h264", "h264_b", "h264_open", "flv1"),
    "nut": ("h264_b", "hevc_b", "mpeg4_b", "mpeg2_b", "ffv1", "mjpeg"),
    "3gp": ("h264_b", "mpeg4"),
    "ivf": ("vp8", "vp9", "av1"),
    "h264": ("h264", "h264_b"),
    "hevc": ("hevc_b",),
    "m4v": ("mpeg4_b",),
    "m2v": ("mpeg2_b",),
    "gif": ("gif",),
    "apng": ("apng",),
}
KEEPS_TIMES = ("mp4", "mov", "mkv", "ts", "nut", "flv")
# HEVC, VP8, VP9 and AV1 read damage as other pictures, mostly without a sign.
SIGNED = ("h264", "h264_b", "h264_open", "mpeg4", "mpeg4_b", "mpeg2_b", "mjpeg", "ffv1")


@dataclass(frozen=True, slots=True)
class Cell:
    """One film of the matrix. `times_ms` of its pictures; `first` of them are left out by the edit list."""

    container: str
    codec: str
    trait: str
    times_ms: list[int] = field(repr=False, compare=False)
    first: int = 0

    @property
    def name(self) -> str:
        return f"{self.codec}-{self.trait}.{self.container}"


def cells() -> Iterator[Cell]:
    """The whole matrix."""
    even = [n * STEP_MS for n in range(NUM_FRAMES)]
    for container, codecs in HOLDS.items():
        for codec in codecs:
            yield Cell(container, codec, "plain", even)
            if container in KEEPS_TIMES and codec not in ("prores", "ffv1"):
                if container != "flv" and not codec.startswith(("mpeg1", "mpeg2")):  # whose encoders want a fixed rate
                    yield Cell(container, codec, "variable", IRREGULAR_MS)
                yield Cell(container, codec, "late", [3520 + t for t in even])
            if container in ("mp4", "mov"):
                yield Cell(container, codec, "edited", [t - 520 for t in even], first=13)
            if codec in SIGNED and container not in ("3gp", "mxf", "h264", "hevc", "m4v", "m2v", "mpg"):
                yield Cell(container, codec, "damaged", even)


def pictures() -> list[np.ndarray]:
    """RGB uint8 (H, W, 3): a moving ground, and the number in blocks of one bit along the top."""
    rng = np.random.default_rng(5)
    ground = np.kron(rng.integers(60, 200, (HEIGHT // 8, WIDTH // 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    found = []
    for number in range(NUM_FRAMES):
        picture = np.roll(ground, 3 * number, axis=1)[:, :WIDTH].copy()
        for bit in range(BITS):
            picture[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 220 if number >> bit & 1 else 30
        found.append(picture)
    return found


def number_of(luma: np.ndarray) -> int:
    """The number that a picture (H, W) of 8-bit levels shows."""
    blocks = (luma[6 : BLOCK - 6, bit * BLOCK + 6 : (bit + 1) * BLOCK - 6].mean() for bit in range(BITS))
    return sum(int(mean > 125) << bit for bit, mean in enumerate(blocks))


def shown(picture: Picture) -> int:
    return number_of(picture.planes[0] >> (picture.depth - 8))


def write(cell: Cell, path: Path) -> Path:
    """Encodes the film, damages it where the trait says so, and returns its path."""
    encoder, pix_fmt, options = CODECS[cell.codec]
    muxer = {"mp4": {"avoid_negative_ts": "disabled"}, "mov": {"avoid_negative_ts": "disabled"}}.get(cell.container, {})
    with av.open(str(path), "w", format=FORMAT.get(cell.container), options=muxer) as out:
        stream = out.add_stream(encoder, rate=1000 // STEP_MS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        if cell.trait == "variable":
            stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.thread_count = 1
        for picture, time_ms in zip(pictures(), cell.times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            tick = 1 if cell.trait == "variable" else STEP_MS
            frame.pts, frame.time_base = time_ms // tick, Fraction(tick, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    if cell.trait == "damaged":
        hurt(path, DAMAGED)
    return path


FORMAT = {"m2v": "mpeg2video", "3gp": "3gp", "m4v": "m4v", "ts": "mpegts", "mpg": "mpeg"}


def hurt(path: Path, number: int) -> None:
    """Inverts a run of bytes inside a packet, found in the file by its own bytes."""
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data, packet = bytearray(path.read_bytes()), packets[number]
    piece = packet[len(packet) // 3 : len(packet) // 3 + 24]
    place = data.find(piece)
    assert place >= 0 and data.find(piece, place + 1) < 0, "the packet's bytes stand once in the file"
    for at in range(place, place + len(piece)):
        data[at] ^= 0xFF
    path.write_bytes(data)


def cut_numbers(path: Path) -> list[int]:
    """Numbers of a written clip's pictures, by a plain decode."""
    with av.open(str(path)) as container:
        return [number_of(frame.reformat(format="gray").to_ndarray()) for frame in container.decode(video=0)]

