"""Pictures and times of a source by a plain decoder, for the verification of exports only. Nothing of `decode` and `picks` is used.

Reading begins a second before the clip, or 10 s, or at the source's start: wherever a keyframe comes early enough and the decoder finds
nothing wrong from there on. (What it has to know may be in the first packet alone: old x264 says there how its 4:4:4 is to be read.) From
the start every packet is given to the decoder and damage is shrugged off. What comes out is taken in the order in which it comes out,
which is that of presentation.

Times. A frame's own presentation time, where all have one and they ascend. Containers that hold decoding times only (`BY_DECODING`) give
a frame that of the packet which pushes it out, as FFmpeg's best effort has it; the last ones follow at equal distances. Elsewhere times
that come out of order are taken for decoding times as well, and sorted they are right but for a constant, the
delay of reordering: a picture is at the k-th of them, or at up to 16 (`MAX_DELAY`, the most that H.264 and HEVC allow) before or
behind. Streams without times are counted from their start by the lengths of their frames, in the same uncertainty. Which of those
places a clip has is for the pictures to tell; that it has all frames in one run is demanded in any case.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curate.clip import NS_PER_S
from curate.errors import ExportError
from curate.media.witness import Small

LEADS_NS = (NS_PER_S, 10 * NS_PER_S)
MAX_DELAY = 16  # frames
KEPT_NS = NS_PER_S  # of pictures before the clip, where times may be out of order
BY_DECODING = ("avi", "asf", "asf_o", "mxf", "rm")
TIMELESS = 0x80  # AVFMT_NOTIMESTAMPS
EXACT_NS = 1000
SAME_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Source:
    """A source as the verifier opens it.

    file       a local path, or an open binary file
    container  names of its format, as libavformat gives them: nothing else is tried, so that a playlist cannot name other files
    video      index of the stream that the clip was cut from
    audio      index of the stream that its sound was taken from, None without
    """

    file: object
    name: str
    container: str
    video: int
    audio: int | None = None

    def open(self, index: int) -> tuple[InputContainer, "av.stream.Stream"]:
        """The container, and one stream of it; the packets of all others are passed over."""
        if not isinstance(self.file, str):
            self.file.seek(0)  # type: ignore[attr-defined]
        target = f"file:{self.file}" if isinstance(self.file, str) else self.file
        options = {"format_whitelist": self.container, "protocol_whitelist": "file"}
        container = av.open(target, options=options, metadata_errors="replace")
        assert isinstance(container, InputContainer)
        for stream in container.streams:
            stream.discard = av.stream.Discard.default if stream.index == index else av.stream.Discard.all
        return container, container.streams[index]


@dataclass(slots=True, eq=False)
class Seen:
    """Consecutive pictures in the order of presentation. `is_timed`: the times are the pictures' own, not known but for a constant."""

    times_ns: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    pictures: list[Small] = field(default_factory=list)
    is_timed: bool = True

    def places(self, picks_ns: np.ndarray) -> np.ndarray | None:
        """int64: which pictures are shown at these times; None where one of the times has none. Not exact where times are uncertain."""
        if not len(self.times_ns):
            return None
        places = np.searchsorted(self.times_ns, picks_ns)
        left, right = np.maximum(places - 1, 0), np.minimum(places, len(self.times_ns) - 1)
        is_left = np.abs(self.times_ns[left] - picks_ns) < np.abs(self.times_ns[right] - picks_ns)
        places = np.where(is_left, left, right)
        if not self.is_timed:
            return places if (np.diff(places) > 0).all() else None
        return places if (np.abs(self.times_ns[places] - picks_ns) <= EXACT_NS).all() else None


def look(source: Source, picks_ns: np.ndarray, end_ns: int, small: Callable[[VideoFrame, VideoStream], Small]) -> Seen:
    """The pictures from one before the first pick to one behind the end, or more. Raises `ExportError` where a pick has none."""
    for lead_ns in (*LEADS_NS, None):
        try:
            container, stream = source.open(source.video)
        except (av.error.FFmpegError, OSError, IndexError) as error:
            raise ExportError(f"{source.name}: cannot be opened again to verify the clip: {error}") from error
        with container:
            assert isinstance(stream, VideoStream)
            stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
            if lead_ns is not None:
                stream.codec_context.options = {"err_detect": "explode"}
            start_ns = int(picks_ns[0])
            seen = _Walk(container, stream, lead_ns, start_ns, end_ns, small).seen()
        places = None if seen is None else seen.places(picks_ns)
        if seen is not None and places is not None and (places[0] > (0 if seen.is_timed else MAX_DELAY) or lead_ns is None):
            return seen
    if seen is not None and len(seen.times_ns):
        at = np.searchsorted(seen.times_ns, picks_ns).clip(0, len(seen.times_ns) - 1)
        apart = np.minimum(np.abs(seen.times_ns[at] - picks_ns), np.abs(seen.times_ns[np.maximum(at - 1, 0)] - picks_ns))
        lost = picks_ns[apart > EXACT_NS]
        if len(lost):
            raise ExportError(f"{source.name}: a plain decoder shows no picture at {lost[0] / NS_PER_S:.6f} s, where the clip has one")
    raise ExportError(f"{source.name}: a plain decoder shows no pictures at {picks_ns[0] / NS_PER_S:.6f} s")


class _Walk:
    """One reading of a stretch of the source."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        lead_ns: int | None,
        start_ns: int,
        end_ns: int,
        small: Callable[[VideoFrame, VideoStream], Small],
    ) -> None:
        self._container, self._stream, self._lead_ns = container, stream, lead_ns
        self._start_ns, self._end_ns, self._small = start_ns, end_ns, small
        self._is_doubtful = False
        self._entry_ns: int | None = None  # the first keyframe: what is shown before it needs pictures that are not there

    def seen(self) -> Seen | None:
        """None where reading from here cannot tell."""
        if self._lead_ns is not None:
            if self._container.format.flags & TIMELESS:
                return None
            try:
                target = Fraction(self._start_ns - self._lead_ns, NS_PER_S) / (self._stream.time_base or Fraction(1))
                self._container.seek(round(target), stream=self._stream)
            except (av.error.FFmpegError, OSError):
                return None
        times: list[int] = []
        pictures: list[Small | VideoFrame] = []
        is_timed, num_behind, top_ns = True, 0, -(2**62)
        is_by_decoding = self._container.format.name in BY_DECODING
        for frame in self._frames():
            if self._lead_ns is not None and (self._is_doubtful or frame.is_corrupt):
                return None
            time_ns = _ns(frame.dts if is_by_decoding else frame.pts, frame.time_base)
            if time_ns is None and is_by_decoding and len(times) > 1:
                time_ns = 2 * times[-1] - times[-2]
            if time_ns is None:
                if self._lead_ns is not None:
                    return None
                is_timed = False
                time_ns = _ns(frame.dts, frame.time_base)
                time_ns = times[-1] + self._length_ns(frame) if time_ns is None and times else time_ns or 0
            if time_ns < top_ns - NS_PER_S:
                break  # the timeline begins anew: what follows is another stretch under the same times
            if self._entry_ns is not None and time_ns < self._entry_ns:
                continue
            if time_ns == top_ns and is_timed:
                time_ns += SAME_NS  # two pictures at one time: the second is taken to follow the first
            is_timed = is_timed and time_ns > top_ns
            top_ns = max(top_ns, time_ns)
            self._shrink(times, pictures, time_ns)
            times.append(time_ns)
            pictures.append(frame)
            num_behind += time_ns >= self._end_ns
            if num_behind > (2 * MAX_DELAY + 4 if not is_timed else 4):
                break
        if self._lead_ns is not None and self._is_doubtful:
            return None
        shrunk = [self._small(p, self._stream) if isinstance(p, VideoFrame) else p for p in pictures]
        return Seen(np.sort(np.array(times, np.int64)), shrunk, is_timed)

    def _shrink(self, times: list[int], pictures: list[Small | VideoFrame], next_ns: int) -> None:
        """Makes the latest picture small, or drops what lies too long before the clip; the decoder's memory is let go of."""
        if not pictures:
            return
        if next_ns < self._start_ns - KEPT_NS:
            times.clear()
            pictures.clear()
        elif isinstance(latest := pictures[-1], VideoFrame):
            pictures[-1] = self._small(latest, self._stream)

    def _length_ns(self, frame: VideoFrame) -> int:
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        return _ns(frame.duration, frame.time_base) or round(NS_PER_S / rate)

    def _frames(self) -> Iterator[VideoFrame]:
        try:
            for packet in self._container.demux(self._stream):
                if self._entry_ns is None and self._lead_ns is not None and packet.size:
                    if not packet.is_keyframe:
                        continue
                    self._entry_ns = _ns(packet.pts, packet.time_base)
                try:
                    yield from packet.decode()
                except av.error.FFmpegError:
                    self._is_doubtful = True
        except (av.error.FFmpegError, IndexError):  # PyAV has an IndexError for streams that turn up late
            return


def _ns(ticks: int | None, time_base: Fraction | None) -> int | None:
    return None if ticks is None or time_base is None else round(ticks * time_base * NS_PER_S)
