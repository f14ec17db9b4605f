"""Decoding, once and in order: frames with true presentation times, faults where they happened, keyframes and packet sizes.

Damage is silent in ffmpeg's libraries (a truncated file simply ends), so the end of what was decoded is held against what the
container declares. Scans decode with one thread: frame threading gives different pixels from run to run on damaged files, and slice
threading passes over damage in H.264 and VP9 without a word (`curate.media.ahead` uses a second core in another way).
"""

import bisect
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curate.clip import NS_PER_S, Fault, Span
from curate.errors import SourceError
from curate.media import reasons
from curate.media.picture import Picture
from curate.media.planes import PlaneReader
from curate.media.probe import Probe, probe, to_ns
from curate.media.seek import Part, demuxed, packet_ns, packets_after_reading, packets_from
from curate.media.streams import AUTO, StreamChoice, choose_audio, choose_video
from curate.media.timeline import LONGEST_NS, MAX_BEHIND, MAX_TIME_NS, Awaited, Groups, time_problem

# Demuxers of real containers. Playlists and concat lists (hls, dash, concat, ...) could open other files or the network.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,matroska,webm,avi,mpegts,mpegtsraw,mpeg,mpegvideo,flv,live_flv,asf,asf_o,ogg,gif,apng,mxf,nut,rm,ivf,"
    "yuv4mpegpipe,h264,hevc,vvc,m4v,h263,obu,av1,dv,mjpeg,mjpeg_2000,wtv,roq,bink,swf,dirac,vc1,cavsvideo,webp_pipe,webp,gxf,lxf,nsv,mpjpeg,dnxhd,r3d,ea"
)
# Those without a header that a recording could have been begun with: switched on at any time, cut anywhere.
BROADCASTS = frozenset({"mpegts", "mpegtsraw", "mpeg", "mpegvideo", "h264", "hevc", "vvc", "m4v", "flv", "live_flv", "wtv", "obu", "dv"})
MAX_PIXELS = 150_000_000  # the default of limits.max_megapixels
MAX_RATIO = 40  # of a picture's sides: what scorers enlarge to a fixed short side would not fit into memory
MAX_FAULTS = 32  # a source with more is given up at that point


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """One frame: presentation time, pixels, and whether the coder marked it interlaced."""

    time_ns: int
    picture: Picture
    is_interlaced: bool


@dataclass(slots=True)
class PacketIndex:
    """Presentation times, sizes and keyframes of the packets demuxed so far and not forgotten, in demux order; counts of all.

    streams_end_s  end of the last packet of any stream
    """

    times_ns: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    keyframes_ns: list[int] = field(default_factory=list)
    num_packets: int = 0
    num_keyframes: int = 0
    streams_end_s: float = 0.0

    def add(self, time_ns: int, size: int, is_keyframe: bool, is_counted: bool = True) -> None:
        """`is_counted`: the packet belongs to the part that is read."""
        self.times_ns.append(time_ns)
        self.sizes.append(size)
        self.num_packets += is_counted
        if is_keyframe:
            self.num_keyframes += is_counted
            bisect.insort(self.keyframes_ns, time_ns)

    def num_bytes(self, span: Span) -> int:
        return sum(size for time_ns, size in zip(self.times_ns, self.sizes, strict=True) if time_ns in span)

    def forget_before(self, time_ns: int) -> None:
        keep = [i for i, t in enumerate(self.times_ns) if t >= time_ns]
        self.times_ns = [self.times_ns[i] for i in keep]
        self.sizes = [self.sizes[i] for i in keep]
        del self.keyframes_ns[: bisect.bisect_left(self.keyframes_ns, time_ns)]

    def taken(self) -> "PacketIndex":
        """What was added since the last time, and the counts of all. Only the counts stay here."""
        new = replace(self)
        self.times_ns, self.sizes, self.keyframes_ns = [], [], []
        return new

    def join(self, new: "PacketIndex") -> None:
        """Adds what another index, which saw the packets, handed over by `taken`."""
        self.times_ns += new.times_ns
        self.sizes += new.sizes
        for time_ns in new.keyframes_ns:
            bisect.insort(self.keyframes_ns, time_ns)
        self.num_packets, self.num_keyframes, self.streams_end_s = new.num_packets, new.num_keyframes, new.streams_end_s


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
        self._codec = self._stream.codec_context.name
        self._is_encrypted: bool | None = None  # not asked yet
        self._part = part
        self._from_ns = part.from_ns if part else None
        self._packets = self._first_packets(file, name, threads)
        self._convert = PlaneReader()
        self.packets = PacketIndex()
        self.end_ns: int | None = None
        self._last_ns: int | None = None
        self._last_step_ns = 0
        self._closed_ns = -MAX_TIME_NS  # the end of what came before the last fault: no clip after it begins earlier
        self._num_behind = 0
        self._size: tuple[int, int] | None = None
        self._groups, self._awaited = Groups(), Awaited(self._codec)
        # Packets until the next keyframe are not given to the decoder. MPEG-4's shows pictures that were predicted from nothing.
        self._needs_keyframe = self._codec == "mpeg4" and self._container.format.name in BROADCASTS
        self._is_resyncing = False  # a fault has been reported and no good picture has come since
        self._has_picture = False
        self._num_faults = 0
        self._is_over = False
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
        if self._part is None and (fault := missing_end(Declared.by(self.probe), self.packets, self.end_ns)):
            yield fault

    def close(self) -> None:
        self._container.close()

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
                yield packet
                return
            self._groups.add(packet)
            if self._needs_keyframe and packet.size and not packet.is_keyframe:
                continue
            if reasons.is_protected(packet):
                yield from self._protected(packet)
                continue
            self._awaited.sent(packet)
            try:
                decoded = packet.decode()
                self._needs_keyframe = False
            except av.error.FFmpegError as error:
                decoded = []
                yield from self._refused(packet, error)
            for frame in decoded:
                if not self._needs_keyframe:
                    yield from self._shown(frame)
            if self._is_over:
                return

    def _protected(self, packet: av.Packet) -> Iterator[DecodedFrame | Fault]:
        """Keeps an encrypted packet from the decoder, which would show noise.

        What the decoder still holds of the packets before is shown.
        """
        self._is_encrypted = True
        if not self._is_resyncing:
            with suppress(av.error.FFmpegError):  # a fault follows in any case
                for frame in self._stream.codec_context.decode(None):
                    yield from self._shown(frame)
        yield from self._refused(packet, None)

    def _refused(self, packet: av.Packet, error: av.error.FFmpegError | None) -> Iterator[Fault]:
        """Reports a packet that the decoder refused, or (None) that it was not given: an encrypted one."""
        message, kind = self._why_refused(packet, error)
        self._why_none = message
        # An open group may name pictures of the group before. Begun at in its middle a source has none; the part has not come yet.
        if self._groups.num == 1 and (self._from_ns is not None or self._groups.is_leading(packet)):
            return
        # Before the first keyframe a recording that was begun in the middle of a group of pictures is ordinary.
        if self._groups.num or self._container.format.name not in BROADCASTS:
            yield from self._blame(message, kind)
        self._resync()

    def _why_refused(self, packet: av.Packet, error: av.error.FFmpegError | None) -> tuple[str, str]:
        """Message and kind of the fault."""
        if self._is_encrypted is None:
            is_mp4 = self._container.format.name.startswith("mov")
            self._is_encrypted = is_mp4 and reasons.is_encrypted_mp4(self._file)
        if self._is_encrypted or error is None:
            return reasons.NO_KEY, "Encrypted"
        text = reasons.refused(self._codec, self._container.format.name, packet, error)
        return text, type(error).__name__

    def _shown(self, frame: VideoFrame) -> Iterator[DecodedFrame | Fault]:
        num_lost = self._awaited.num_lost(frame.pts)
        if frame.is_corrupt:
            if self._has_picture:
                yield from self._blame(f"damaged data: {self._codec} marked a picture as corrupt")
            return
        if num_lost and self._has_picture and not self._is_resyncing:
            text = f"damaged data: {self._codec} gave no picture for {num_lost} packets"
            yield from self._blame(text)
            self._resync()
            return
        for item in self._placed(frame):
            if isinstance(item, DecodedFrame):
                self._has_picture, self._is_resyncing = True, False
            yield item

    def _blame(self, message: str, kind: str = "BadFrame") -> Iterator[Fault]:
        """One fault for all that is wrong until a good picture comes."""
        if not self._is_resyncing:
            self._is_resyncing = True
            self._num_faults += 1
            self._is_over = self._num_faults > MAX_FAULTS
            yield self._fault("decode", message, kind)

    def _resync(self) -> None:
        """Nothing is given to the decoder until the next keyframe."""
        self._needs_keyframe = self._is_resyncing = True
        self._stream.codec_context.flush_buffers()
        self._awaited.forget()

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
                if packet.size and time_ns is not None:
                    is_counted = self._part is None or time_ns in self._part.span
                    self.packets.add(time_ns, packet.size, packet.is_keyframe, is_counted)
                yield packet
        except av.error.FFmpegError as error:
            text = reasons.broken_container(self._container.format.name, error)
            yield self._fault("demux", text, type(error).__name__)

    def _placed(self, frame: VideoFrame) -> Iterator[DecodedFrame | Fault]:
        """The frame where its time lies after that of the frame before it; a fault where the timeline breaks, before or instead of it."""
        size = (frame.width, frame.height)
        self._size = self._size or size
        if size != self._size:
            sizes = f"from {self._size[0]}x{self._size[1]} to {size[0]}x{size[1]}"
            text = f"the picture size changes {sizes}: split the file there"
            yield self._fault("decode", text, "SizeChange")
            self._is_over = True
            return
        time_ns = to_ns(frame.pts if frame.pts is not None else frame.dts, frame.time_base)
        if time_ns is None:
            time_ns = self.end_ns or 0
        is_absurd = not -MAX_TIME_NS < time_ns < MAX_TIME_NS
        if is_absurd or (self._last_ns is not None and time_ns <= self._last_ns) or time_ns < self._closed_ns:
            self._num_behind += 1
            if self._num_behind == (1 if is_absurd else MAX_BEHIND + 1):
                yield self._fault("decode", *time_problem(time_ns, self._last_ns))
            return
        self._num_behind = 0
        if self._last_ns is not None:
            self._last_step_ns = time_ns - self._last_ns
            if self._last_step_ns > LONGEST_NS:
                yield self._fault("decode", f"no picture follows for {self._last_step_ns / NS_PER_S:.1f} s", "Gap")
                self._last_step_ns = 0
        duration_ns = min(to_ns(frame.duration, frame.time_base) or self._last_step_ns or 40_000_000, LONGEST_NS)
        self._last_ns = time_ns
        self.end_ns = time_ns + duration_ns
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
    if declared.num_frames and packets.num_packets < declared.num_frames:
        text = f"the file ends after {packets.num_packets} of {declared.num_frames} declared frames, at {decoded_s:.2f} s"
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

    Only real containers, no network and no other file; slice threading only; a damaged packet is an error, and so is a picture of more
    than `max_pixels`, before memory is taken for it, or of sides that are no picture's. Raises `SourceError`.
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
    stream.codec_context.options = {"err_detect": "explode", "max_pixels": str(max_pixels)}
    return container, stream


def _is_special(path: str) -> bool:
    """A pipe, a device or a socket: to open one may wait for ever, and to read it may never end."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
