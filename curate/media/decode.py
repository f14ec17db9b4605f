"""Decoding, once and in order: frames with true presentation times, faults where they happened, keyframes and packet sizes.

A truncated file simply ends for ffmpeg's libraries, so the end of what was decoded is compared with what the container declares. What is
damaged between is for `curate.media.decoder` to find, and `curate.media.packets` accounts for every packet. Scans decode with one
thread (`curate.media.ahead` uses a second core in another way).
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from curate.clip import NS_PER_S, Fault
from curate.errors import SourceError
from curate.media import reasons
from curate.media.clock import MAX_TIME_NS, time_problem
from curate.media.decoder import BROADCASTS, Sign, TimedFrame, VideoDecoder, is_flush
from curate.media.packets import PacketAccount, PacketIndex
from curate.media.picture import Picture
from curate.media.planes import PlaneReader
from curate.media.probe import Probe, probe, to_ns
from curate.media.seek import Part, demuxed, packet_ns, packets_after_reading, packets_from
from curate.media.streams import AUTO, StreamChoice, choose_audio, choose_video

# Demuxers of real containers. Playlists and concat lists (hls, dash, concat, ...) could open other files or the network.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,matroska,webm,avi,mpegts,mpegtsraw,mpeg,mpegvideo,flv,live_flv,asf,asf_o,ogg,gif,apng,mxf,nut,rm,ivf,"
    "yuv4mpegpipe,h264,hevc,vvc,m4v,h263,obu,av1,dv,mjpeg,mjpeg_2000,wtv,roq,bink,swf,dirac,vc1,cavsvideo,webp_pipe,webp,gxf,lxf,nsv,mpjpeg,dnxhd,r3d,ea"
)
MAX_PIXELS = 150_000_000  # the default of limits.max_megapixels
MAX_RATIO = 40  # of a picture's sides: what scorers enlarge to a fixed short side would not fit into memory
MAX_FAULTS = 256  # a source with more is given up at that point
# A frame is shown for so long at most. A broadcast without a picture for a minute has lost it; elsewhere a slide may stand for an hour.
LONGEST_OF_BROADCAST_NS, LONGEST_NS = 60 * NS_PER_S, 3600 * NS_PER_S


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """One frame: presentation time, pixels, and whether the coder marked it interlaced."""

    time_ns: int
    picture: Picture
    is_interlaced: bool


class Reader(Protocol):
    """An open source. `frames()` is consumed once; `probe` is valid from the start, the rest once the frames have passed.

    end_ns  end of the last good frame so far, None before the first
    """

    probe: Probe
    packets: PacketIndex
    end_ns: int | None

    def frames(self) -> Iterator[DecodedFrame | Fault]:
        """Frames in presentation order, strictly increasing in time; a `Fault` stands where frames are missing."""
        ...

    def account(self) -> PacketAccount | None:
        """What became of every packet, once the frames have been taken and the source is closed; None where the library does not tell."""
        ...

    def close(self) -> None: ...


class PyAVReader:
    """Reads one local file or open binary file with PyAV (ffmpeg's libraries). Raises `SourceError` with a plain reason.

    With a `part` the frames from its keyframe on come, to the end of the source: who takes them stops when the part is complete. Packets
    are counted inside its span only, and whether an end is missing is for `missing_end` to say when all parts are known.
    """

    def __init__(
        self,
        file: object,
        name: str,
        threads: int = 1,
        part: Part | None = None,
        max_pixels: int = MAX_PIXELS,
        streams: StreamChoice = AUTO,
    ) -> None:
        self._file, self._max_pixels, self._streams = file, max_pixels, streams
        self._container, self._stream = open_video(file, name, threads, max_pixels, streams.video)
        self._is_encrypted: bool | None = None  # not asked yet
        self._part = part
        self._from_ns = part.from_ns if part else None
        self._packets = self._first_packets(file, name, threads)
        self._decoder = VideoDecoder(self._container, self._stream, self._why, self._is_counted)
        self._codec = self._decoder.codec
        is_broadcast = self._container.format.name in BROADCASTS
        self._longest_ns = LONGEST_OF_BROADCAST_NS if is_broadcast else LONGEST_NS
        self._convert = PlaneReader()
        self.packets = PacketIndex()
        self.end_ns: int | None = None
        self._held_ns: int | None = None  # the end of the last packet without bytes
        self._last_ns: int | None = None
        self._closed_ns = -MAX_TIME_NS  # the end of what came before the last fault: no clip after it begins earlier
        self._is_behind = False
        self._num_faults = 0
        self._why_none: str | None = None
        self._iterator = self._decode()
        self._head: list[DecodedFrame | Fault] = []
        self.probe = self._read_head(name)

    def _read_head(self, name: str) -> Probe:
        for item in self._iterator:
            self._head.append(item)
            if isinstance(item, DecodedFrame):
                picture = item.picture
                sound = choose_audio(self._container, self._stream, name, self._streams.audio)
                return probe(self._container, self._stream, sound, picture.geometry, picture.color)
        first = next((f for f in self._head if isinstance(f, Fault)), None)
        self.close()
        why = first.message if first else self._why_none
        if self._is_encrypted:
            raise reasons.encrypted(name)
        raise reasons.without_frames(self._file, name, self._codec, self.packets.num_packets, why)

    def frames(self) -> Iterator[DecodedFrame | Fault]:
        yield from self._head
        self._head.clear()
        yield from self._iterator
        if self.end_ns is not None and self._held_ns is not None:
            self.end_ns = max(self.end_ns, min(self._held_ns, self.end_ns + self._longest_ns))
        if self._part is None and (fault := missing_end(Declared.by(self.probe), self.packets, self.end_ns)):
            yield fault

    def account(self) -> PacketAccount:
        """What became of the packets; whole when all frames have been taken."""
        return self._decoder.account

    def close(self) -> None:
        self._container.close()

    def _is_counted(self, time_ns: int | None) -> bool:
        return self._part is None or (time_ns is not None and time_ns in self._part.span)

    def _first_packets(self, file: object, name: str, threads: int) -> Iterator[av.Packet]:
        if self._from_ns is None:
            return demuxed(self._container)
        packets = packets_from(self._container, self._stream, self._from_ns)
        if packets is None:
            self._container.close()
            if not isinstance(file, str):
                file.seek(0)  # type: ignore[attr-defined]
            self._container, self._stream = open_video(file, name, threads, self._max_pixels, self._streams.video)
            packets = packets_after_reading(self._container, self._stream, self._from_ns)
        if packets is None:
            self._container.close()
            raise SourceError(f"{name}: no keyframe at {self._from_ns / NS_PER_S:.6f} s, where there was one")
        return packets

    def _decode(self) -> Iterator[DecodedFrame | Fault]:
        for packet in self._demux():
            if isinstance(packet, Fault):
                # The container cannot be read on. What the decoder holds back came before.
                yield from self._given([*self._decoder.drain(), *self._decoder.finish()])
                yield packet
                return
            if not packet.size and not is_flush(packet):
                self._hold(packet)
                continue
            yield from self._given(self._decoder.send(packet, self._protection(packet)))
            if self._num_faults > MAX_FAULTS:
                return

    def _protection(self, packet: av.Packet) -> tuple[str, str] | None:
        """Keeps an encrypted packet from the decoder, which would show noise."""
        if not reasons.is_protected(packet):
            return None
        self._is_encrypted = True
        return reasons.NO_KEY, "Encrypted"

    def _hold(self, packet: av.Packet) -> None:
        """A packet without bytes: the picture before is shown on."""
        self.packets.num_empty += 1
        if (time_ns := packet_ns(packet)) is not None:
            self._held_ns = time_ns + (to_ns(packet.duration, packet.time_base) or 0)

    def _why(self, packet: av.Packet, error: Exception | None, line: str | None) -> tuple[str, str]:
        """Message and kind of the fault that a sign of damage is."""
        if self._is_encrypted is None:
            is_mp4 = self._container.format.name.startswith("mov")
            self._is_encrypted = is_mp4 and reasons.is_encrypted_mp4(self._file)
        if self._is_encrypted:
            return reasons.NO_KEY, "Encrypted"
        text = reasons.damaged(self._codec, self._container.format.name, packet, error, line)
        return text, "BadFrame" if error is None else type(error).__name__

    def _given(self, items: list[TimedFrame | Sign]) -> Iterator[DecodedFrame | Fault]:
        for item in items:
            if isinstance(item, Sign):
                self._why_none = self._why_none or item.message
                self._num_faults += 1
                yield self._fault("decode", item.message, item.kind)
            else:
                yield from self._placed(item)

    def _demux(self) -> Iterator[av.Packet | Fault]:
        """Packets of the video stream, the empty flush packet last; every stream's end is noted on the way."""
        try:
            for packet in self._packets:
                if packet.pts is not None and packet.time_base is not None:
                    base = packet.time_base
                    end_s = (packet.pts + (packet.duration or 0)) * base.numerator / base.denominator
                    self.packets.streams_end_s = max(self.packets.streams_end_s, end_s)
                if packet.stream.index != self._stream.index:
                    continue
                time_ns = packet_ns(packet)
                if packet.size:
                    is_counted = self._is_counted(time_ns)
                    # Where only decoding times are kept, the frame tells when a keyframe is shown.
                    shows = None if self._decoder.clock.is_by_decoding else time_ns
                    self.packets.add(time_ns, packet.size, packet.is_keyframe, shows, is_counted)
                yield packet
        except av.error.FFmpegError as error:
            text = reasons.broken_container(self._container.format.name, error)
            yield self._fault("demux", text, type(error).__name__)

    def _placed(self, item: TimedFrame) -> Iterator[DecodedFrame | Fault]:
        """The frame, and before it, or instead of it, a fault where the timeline breaks."""
        frame, time_ns = item.frame, item.time_ns
        if time_ns is None or time_ns < self._closed_ns:
            if time_ns is not None:
                self._decoder.leave_out(item)
            if not self._is_behind:
                self._is_behind = True
                yield self._fault("decode", *time_problem(frame, self._last_ns))
            return
        self._is_behind = False
        step_ns = time_ns - self._last_ns if self._last_ns is not None else 0
        if step_ns > self._longest_ns:
            yield self._fault("decode", f"no picture follows for {step_ns / NS_PER_S:.1f} s", "Gap")
        self._last_ns = time_ns
        self.end_ns = min(self._decoder.clock.end_ns or time_ns, time_ns + self._longest_ns)
        if item.sent.is_keyframe and self._decoder.clock.is_by_decoding:
            self.packets.add_keyframe(time_ns)
        yield DecodedFrame(time_ns, self._convert.picture(frame, self._stream), bool(frame.interlaced_frame))

    def _fault(self, stage: str, message: str, kind: str) -> Fault:
        if self.end_ns is not None:
            self._closed_ns = self.end_ns
        return Fault(stage, kind, message, self.end_ns)


@dataclass(frozen=True, slots=True)
class Declared:
    """What a container says of its contents, see `Probe`: its own length, and how many frames the video stream has (0: not known)."""

    container: str
    start_ns: int | None
    duration_s: float | None
    num_frames: int

    @classmethod
    def by(cls, probe: Probe) -> "Declared":
        return cls(probe.container, probe.start_ns, probe.container_duration_s, probe.declared_frames)


def missing_end(declared: Declared, packets: PacketIndex, end_ns: int | None) -> Fault | None:
    """A fault if the stream ended before what the container declares; containers that only guess are not held to it.

    `packets` counts those of the whole source; `end_ns` is the end of its last frame.
    """
    if end_ns is None or declared.container.startswith("mpegts"):
        return None
    decoded_s = (end_ns - (declared.start_ns or 0)) / 1e9
    ends_s = max(packets.streams_end_s, end_ns / 1e9)
    slack_s = min(1.0, max(0.1, 0.05 * (declared.duration_s or 0.0)))
    num_packets = packets.num_packets + packets.num_empty
    # AVI counts chunks without bytes at its beginning too, which nobody sees: there the time has to be short as well.
    is_reached = declared.container == "avi" and ends_s >= (declared.duration_s or 0.0) - slack_s
    if declared.num_frames and num_packets < declared.num_frames and not is_reached:
        text = f"the file ends after {num_packets} of {declared.num_frames} declared frames, at {decoded_s:.2f} s"
    elif not declared.num_frames and declared.duration_s and ends_s < declared.duration_s - slack_s:
        text = f"the file ends at {ends_s:.2f} s of {declared.duration_s:.2f} s declared"
    else:
        return None
    return Fault("demux", "Truncated", f"{text}: {reasons.GET_IT_AGAIN}", end_ns)


def open_video(
    file: object, name: str, threads: int = 1, max_pixels: int = MAX_PIXELS, wanted: int | None = None
) -> tuple[InputContainer, VideoStream]:
    """The container and the stream that is the film, or (`wanted`) the one of that index, of a local path or an open binary file; `name` is
    what messages call it.

    Only real containers, no network and no other file; slice threading only. A picture of more than `max_pixels` is an error before
    memory is taken for it, and so is one of sides that are no picture's. Raises `SourceError`.
    """
    if isinstance(file, str) and _is_special(file):
        raise SourceError(f"{name}: cannot be opened: it is no regular file")
    target = f"file:{file}" if isinstance(file, str) else file
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        container = av.open(target, options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise reasons.not_opened(file, name, error) from error
    assert isinstance(container, InputContainer)
    try:
        stream = choose_video(container, file, name, wanted)
    except SourceError:
        container.close()
        raise
    if reasons.is_encrypted(container, stream):
        container.close()
        raise reasons.encrypted(name)
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > max_pixels:
        container.close()
        raise SourceError(f"{name}: its picture of {width}x{height} is more than limits.max_megapixels={max_pixels / 1e6:g}")
    if max(width, height) > MAX_RATIO * min(width, height) > 0:
        container.close()
        raise SourceError(f"{name}: its picture of {width}x{height} has one side more than {MAX_RATIO} times as long as the other")
    stream.thread_type = "SLICE"
    stream.codec_context.thread_count = threads
    stream.codec_context.options = {"max_pixels": str(max_pixels)}
    return container, stream


def _is_special(path: str) -> bool:
    """A pipe, a device or a socket: to open one may wait for ever, and to read it may never end."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
