"""The frames of a source that are shown at given times, in order, with as little decoding as is safe.

Decoding begins at the keyframe at or before the first wanted time. A frame is trusted from the keyframe on at which decoding began:
what an open group of pictures shows before it needs the group before. Where a frame does not come (a seek that lands late, as in
transport streams and files without an index; damage), it is looked for again from 2 s earlier, from 10 s earlier, and at last from the
start of the source, read as the scan read it. Streams without time stamps are read from the start only, because after a seek nobody
knows where they are.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from types import TracebackType
from typing import Self

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curate.clip import NS_PER_S
from curate.errors import ExportError
from curate.media.decode import open_video
from curate.media.decoder import Sign, VideoDecoder
from curate.media.probe import to_ns
from curate.media.remote import open_remote
from curate.media.seek import demuxed
from curate.media.streams import AUTO, StreamChoice, choose_audio

LEADS_NS = (0, 2 * NS_PER_S, 10 * NS_PER_S)  # how far before the wanted frame each seek aims
NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS


class VideoFile:
    """A source opened for cutting, as safely as the scan opens it. `file` is an open binary file to read instead of `url`; `streams` are
    those that the scan read.

    Raises `SourceError` when it cannot be opened. A file that was passed in stays open when this closes.
    """

    container: InputContainer
    stream: VideoStream

    def __init__(self, url: str, file: object | None = None, streams: StreamChoice = AUTO) -> None:
        self.url, self._streams = url, streams
        self._own: object | None = None
        if file is None and "://" in url:
            self._own = file = open_remote(url)
        self._file = file
        self._has_moved = False
        try:
            self.reopen()
        except BaseException:
            self._close_own()
            raise

    def reopen(self) -> None:
        """Back to the very start, with nothing remembered."""
        if self._has_moved:
            self.container.close()
        if self._file is not None:
            self._file.seek(0)  # type: ignore[attr-defined]
        file = self.url if self._file is None else self._file
        self.container, self.stream = open_video(file, self.url, 1, wanted=self._streams.video)
        self._has_moved = True

    @property
    def audio(self) -> Stream | None:
        """The sound that belongs to the film."""
        return choose_audio(self.container, self.stream, self.url, self._streams.audio)

    @property
    def has_timestamps(self) -> bool:
        return not self.container.format.flags & NO_TIMESTAMPS

    def seek(self, stream: Stream, time_ns: int) -> bool:
        """Goes to the keyframe of `stream` at or before a time, as far as the container knows; False where it cannot."""
        assert stream.time_base is not None
        ticks = round(Fraction(time_ns, NS_PER_S) / stream.time_base)  # to nearest, as times are: a keyframe's own time finds itself
        try:
            self.container.seek(ticks, backward=True, stream=stream)
        except (av.error.FFmpegError, OSError):
            return False
        return True

    def only(self, *streams: Stream | None) -> None:
        """Lets the demuxer skip the packets of all other streams."""
        kept = {s.index for s in streams if s is not None}
        for stream in self.container.streams:
            stream.discard = av.stream.Discard.default if stream.index in kept else av.stream.Discard.all

    def close(self) -> None:
        self.container.close()
        self._close_own()

    def _close_own(self) -> None:
        if self._own is not None:
            self._own.close()  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def frames_at(video: VideoFile, times_ns: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    """(time, frame) for each of the ascending, distinct times.

    Raises `ExportError` that names the first time at which the source shows no frame.
    """
    pending = 0
    leads: tuple[int | None, ...] = (*LEADS_NS, None) if video.has_timestamps else (None,)
    for lead_ns in leads:
        for time_ns, frame in _decode(video, None if lead_ns is None else times_ns[pending] - lead_ns, times_ns[pending]):
            if time_ns > times_ns[pending]:
                break
            if time_ns == times_ns[pending]:
                yield time_ns, frame
                pending += 1
                if pending == len(times_ns):
                    return
    if pending < len(times_ns):
        where = f"no frame at {times_ns[pending] / NS_PER_S:.6f} s"
        raise ExportError(f"{video.url}: {where}: the source has changed since it was scanned, or is damaged there")


def _decode(video: VideoFile, seek_ns: int | None, wanted_ns: int) -> Iterator[tuple[int, VideoFrame]]:
    """(time, frame) in presentation order, strictly increasing: from the keyframe that a seek to `seek_ns` finds, or (None) from the start.

    Ends at once where the seek did not lead to a keyframe at or before `wanted_ns`, or the stream proves not to tell the times.
    """
    if seek_ns is None:
        video.reopen()
    video.only(video.stream)
    if seek_ns is not None and not video.seek(video.stream, seek_ns):
        return
    decoder = VideoDecoder(video.container, video.stream)
    if seek_ns is not None:
        decoder.begin()
    entry_ns: int | None = None
    for packet in _packets(video):
        if seek_ns is not None and entry_ns is None:
            if not packet.is_keyframe:
                continue
            entry_ns = to_ns(packet.pts, packet.time_base)
            if entry_ns is None or entry_ns > wanted_ns:
                return
        for item in decoder.send(packet):
            if isinstance(item, Sign) or item.time_ns is None:
                continue
            if item.frame.pts is None and item.frame.dts is None and seek_ns is not None:
                return
            if entry_ns is None or item.time_ns >= entry_ns:
                yield item.time_ns, item.frame


def _packets(video: VideoFile) -> Iterator[Packet]:
    """Packets of the video stream, the empty flush packet last; ends where the container cannot be read on."""
    try:
        yield from demuxed(video.container, video.stream)
    except av.error.FFmpegError:
        return
