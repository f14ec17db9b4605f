"""Parts of a source, and demuxing from one of its keyframes on."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from curate.clip import NS_PER_S, Span
from curate.media.clock import MAX_TIME_NS
from curate.media.probe import to_ns

FIRST_STEP_NS = NS_PER_S  # back, where a seek landed too late; four times as far each time after
MAX_SEEKS = 8
PASSED_NS = 5 * NS_PER_S  # a keyframe is demuxed before a packet that is decoded so long after the keyframe is shown


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a source that is scanned on its own: the frames with times in `span`.

    from_ns  presentation time of the keyframe at which decoding begins, some time before the span; None: the source's beginning
    """

    span: Span
    from_ns: int | None


def demuxed(container: InputContainer, *streams: Stream) -> Iterator[Packet]:
    """Packets of the streams (of all, without any), the empty flush packets last.

    Streams that turn up late, as in joined recordings with other PIDs, are left alone. PyAV stumbles over them once all has been read
    (`IndexError`, or not, by what lies behind its table of streams in memory), after the flush packets of those that it knew.
    """
    try:
        yield from container.demux(*streams)
    except IndexError:
        return


def packet_ns(packet: Packet) -> int | None:
    """When a packet is shown; when it is decoded, where the container does not say."""
    return to_ns(packet.pts if packet.pts is not None else packet.dts, packet.time_base)


def keyframe_ns(packet: Packet, stream: VideoStream) -> int | None:
    """When a keyframe of the stream is shown; None for every other packet, and for a time that is none."""
    time_ns = packet_ns(packet) if packet.stream.index == stream.index and packet.size and packet.is_keyframe else None
    return time_ns if time_ns is not None and abs(time_ns) < MAX_TIME_NS else None


def packets_before(container: InputContainer, stream: VideoStream, limit_ns: int) -> Iterator[Iterator[Packet]]:
    """Packets of all streams from further and further before a time on: each try begins earlier than the one before.

    Where the first keyframe lies is for the caller to see. Nothing more comes where the container cannot seek.
    """
    first_ns = to_ns(stream.start_time, stream.time_base) or 0
    target_ns, step_ns = limit_ns, FIRST_STEP_NS
    for _ in range(MAX_SEEKS):
        try:
            container.seek(round(Fraction(target_ns, NS_PER_S) / (stream.time_base or Fraction(1, av.time_base))), stream=stream)
        except av.error.FFmpegError:
            return
        yield demuxed(container)
        if target_ns <= first_ns:
            return
        target_ns, step_ns = target_ns - step_ns, 4 * step_ns


def packets_from(container: InputContainer, stream: VideoStream, from_ns: int) -> Iterator[Packet] | None:
    """Packets of all streams from the keyframe shown at that very time on; None where seeking does not lead to it."""
    for packets in packets_before(container, stream, from_ns):
        try:
            if (found := _at(packets, stream, from_ns)) is not None:
                return found
        except av.error.FFmpegError:
            continue
    return None


def packets_after_reading(container: InputContainer, stream: VideoStream, from_ns: int) -> Iterator[Packet] | None:
    """The same from a container that has just been opened, without a seek: everything before is read and not decoded."""
    return _at(demuxed(container), stream, from_ns, gives_up=False)


def _at(packets: Iterator[Packet], stream: VideoStream, from_ns: int, gives_up: bool = True) -> Iterator[Packet] | None:
    for packet in packets:
        if keyframe_ns(packet, stream) == from_ns:
            return chain([packet], packets)
        if gives_up and packet.stream.index == stream.index and packet.size and _is_past(packet, from_ns):
            return None
    return None


def _is_past(packet: Packet, time_ns: int) -> bool:
    decoded_ns = to_ns(packet.dts, packet.time_base)
    return decoded_ns is not None and decoded_ns > time_ns + PASSED_NS
