"""Random access to frames by presentation time: what a training loader stands on.

A wanted frame costs the frames between the keyframe before it and itself. What is saved of them, without changing a bit of the result:

* reading goes on from where it was when no keyframe lies between, and seeks when one does;
* packets that nobody wants and no other frame is predicted from are not decoded (`skip_frame`, set packet by packet; see `_Skip`);
* decoding stops at the last wanted packet: what the decoder still holds back for reordering is drained, not pushed out by more frames.
  Then the decoder has to begin again at a keyframe, so that a reader who walks through a source in order is served without it;
* only wanted frames become `Picture`s, and those stay planes until somebody asks for pixels.

A frame is trusted from the keyframe on at which decoding began: what an open group of pictures shows before it needs the group
before. A frame that does not come is looked for again with everything decoded, from the keyframe before that one, and at last from
the start of the source, just as the scan read it.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from io import BytesIO
from itertools import chain, pairwise
from typing import Literal

import av
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from curate.clip import NS_PER_S
from curate.errors import SourceError
from curate.media.decode import open_video
from curate.media.decoder import TimedFrame, VideoDecoder, is_flush
from curate.media.picture import Picture
from curate.media.planes import PlaneReader
from curate.media.probe import to_ns
from curate.media.remote import open_remote
from curate.media.seek import demuxed

FOLLOWS_NS = 2 * NS_PER_S  # a read that begins so soon after the one before it walks through the source
MIN_SAVED_NS = NS_PER_S // 4  # of decoding: to save less does not pay for a seek
UNKNOWN_GROUP_NS = 5 * NS_PER_S  # a container without an index is taken to have a keyframe in every stretch this long
FIRST_STEP_NS = NS_PER_S  # back, where a seek landed too late; four times as far each time after
MAX_SEEKS = 8

Effort = Literal["near", "all", "earlier", "start"]
EFFORTS: tuple[Effort, ...] = ("near", "all", "earlier", "start")


class FrameAccess:
    """Frame-exact random access to the frames of many sources; keeps the last `max_open` open.

    One for each process and thread. After a fork the child opens sources anew: the parent's file positions stay as they are.
    Pickling carries the settings only. `check` is called with the URL each time a source is opened, and raises what it likes.
    """

    def __init__(self, max_open: int = 8, threads: int = 1, check: Callable[[str], None] | None = None) -> None:
        if max_open < 1:
            raise ValueError(f"max_open={max_open} must be at least 1: the source being read is open")
        self.max_open, self.threads, self.check = max_open, threads, check
        self._pid = os.getpid()
        self._sources: OrderedDict[tuple[str, str], _Source] = OrderedDict()
        self._of_the_parent: list[object] = []

    def read(self, url: str, times_ns: Sequence[int], stream: int | None = None) -> list[Picture]:
        """The frames shown at these presentation times, ascending and distinct, as `curate.media.decode` gives them; of the video stream
        of that index (None: the film).

        Raises `SourceError` when the source cannot be opened or one of the times has no frame.
        """

        def file() -> object:
            if self.check is not None:
                self.check(url)
            return _file(url)

        return self._read(("url" if stream is None else f"stream {stream}", url), file, times_ns, stream)

    def read_bytes(self, key: str, data: Callable[[], bytes], times_ns: Sequence[int]) -> list[Picture]:
        """The same from a file in memory, such as a member of a tar shard; `data` is called when `key` is not open."""
        return self._read(("bytes", key), lambda: BytesIO(data()), times_ns)

    def close(self) -> None:
        """Closes every source; the next read opens what it needs."""
        self._disown()
        while self._sources:
            self._sources.popitem()[1].close()

    def __reduce__(self) -> tuple[object, ...]:
        return FrameAccess, (self.max_open, self.threads, self.check)

    def _read(self, key: tuple[str, str], file: Callable[[], object], times_ns: Sequence[int], stream: int | None = None) -> list[Picture]:
        times = [int(time_ns) for time_ns in times_ns]
        if any(b <= a for a, b in pairwise(times)):
            raise ValueError(f"times_ns={times} must be ascending and distinct: sort them and take each once")
        self._disown()
        source = self._sources.pop(key, None) or _Source(key[1], file, self.threads, stream)
        self._sources[key] = source
        while len(self._sources) > self.max_open:
            self._sources.popitem(last=False)[1].close()
        try:
            return source.read(times)
        except BaseException:
            self._sources.pop(key, None)
            source.close()
            raise

    def _disown(self) -> None:
        """In a forked child: sets the parent's sources aside. To close one could wait for threads of its decoder that the child has not."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._of_the_parent.append(self._sources)
            self._sources = OrderedDict()


def _file(url: str) -> object:
    """What PyAV opens: the path of a local file, or an open file for any other URL."""
    return open_remote(url) if "://" in url else url


class _Source:
    """One source, open, and a decoder that stands somewhere in it or, once drained, nowhere."""

    def __init__(self, name: str, new_file: Callable[[], object], threads: int, wanted: int | None = None) -> None:
        self._name, self._new_file, self._threads, self._wanted = name, new_file, threads, wanted
        self._convert = PlaneReader()
        self._is_turned = False  # whether the converter has been shown a frame from the start of a group, which knows the display matrix
        self._delay_ns = 0  # most that a packet is shown after it is decoded
        self._previous_ns: int | None = None
        self._open()

    def _open(self) -> None:
        self._file = self._new_file()
        try:
            self._container, self._stream = open_video(self._file, self._name, self._threads, wanted=self._wanted)
        except SourceError:
            self._close_file()
            raise
        self._time_base = self._stream.time_base or Fraction(1, av.time_base)
        self._first_ns = to_ns(self._stream.start_time, self._time_base) or 0
        self._skip = _Skip(self._stream.codec_context)
        self._decoder = VideoDecoder(self._container, self._stream)
        self._begin(demuxed(self._container, self._stream), None)

    def _begin(self, packets: Iterator[Packet], trusted_ns: int | None) -> None:
        """The decoder will be given these packets, from the keyframe at `trusted_ns` or (None) from the source's first."""
        self._packets = packets
        self._trusted_ns = trusted_ns
        self._is_placed = True
        self._done_ns: int | None = None  # the latest time that has come out of the decoder or was skipped
        if trusted_ns is not None:
            self._decoder.begin()
        self._ahead: dict[int, VideoFrame] = {}  # came out together with the last wanted one, and lie after it

    def _reopen(self) -> None:
        self.close()
        self._open()

    def close(self) -> None:
        self._ahead = {}
        self._is_placed = False
        self._container.close()
        self._close_file()

    def _close_file(self) -> None:
        if not isinstance(self._file, str):
            self._file.close()  # type: ignore[attr-defined]

    def read(self, times: list[int]) -> list[Picture]:
        if not times:
            return []
        walks = self._previous_ns is not None and 0 < times[0] - self._previous_ns <= FOLLOWS_NS
        self._previous_ns = times[-1]
        found: dict[int, Picture] = {}
        effort = 0
        while missing := [t for t in times if t not in found]:
            group = self._up_to_jump(missing)
            self._place(group[0], EFFORTS[effort])
            self._collect(group, found, skips=effort == 0, drains=not walks or len(group) < len(missing))
            effort = 0 if group[0] in found else self._more(effort, group[0])
        return [found[t] for t in times]

    def _more(self, effort: int, time_ns: int) -> int:
        """The next effort for a time that had no frame. Raises `SourceError` where nothing is left to try."""
        self._is_placed = False
        if effort + 1 == len(EFFORTS) or (EFFORTS[effort + 1] == "start" and not self._has_packet(time_ns)):
            where = f"no frame at {time_ns / NS_PER_S:.6f} s"
            raise SourceError(f"{self._name}: {where}: the source has changed since it was scanned, or is damaged there")
        return effort + 1

    def _has_packet(self, time_ns: int) -> bool:
        """Whether some packet may be shown at that time. Demuxing alone tells: what cannot be there is not decoded for from the start."""
        self._reopen()
        for packet in self._packets:
            if packet.size and (packet.pts is None or self._ns(packet) == time_ns):
                return True
            decoded_ns = to_ns(packet.dts, self._time_base)
            if decoded_ns is not None and decoded_ns > time_ns + UNKNOWN_GROUP_NS:
                return False
        return False

    def _up_to_jump(self, times: list[int]) -> list[int]:
        """The first of the times, up to where it pays to seek to the next."""
        for i in range(1, len(times)):
            if self._seek_pays(times[i - 1], times[i]):
                return times[:i]
        return times

    def _seek_pays(self, from_ns: int, until_ns: int) -> bool:
        """Whether a keyframe, by the container's index or by guess, saves decoding on the way."""
        if until_ns - from_ns <= MIN_SAVED_NS:
            return False
        entries = getattr(self._stream, "index_entries", None)
        if entries and entries.search_timestamp(self._ticks(until_ns), backward=False, any_frame=True) >= 0:
            # The index has times of decoding in some containers and of presentation in others: taken as the former, it errs by the delay.
            place = entries.search_timestamp(self._ticks(until_ns - self._delay_ns), backward=True, any_frame=False)
            return place >= 0 and (to_ns(entries[place].timestamp, self._time_base) or 0) > from_ns + MIN_SAVED_NS
        return until_ns - from_ns > UNKNOWN_GROUP_NS

    def _place(self, time_ns: int, effort: Effort) -> None:
        """Puts the decoder where going on leads to the frame at `time_ns`."""
        if effort == "start" or (effort == "earlier" and self._trusted_ns is None):
            self._reopen()
        elif effort == "earlier":
            self._seek(min(time_ns, self._trusted_ns or 0) - 1)
        elif effort == "all" or not self._leads_to(time_ns):
            self._seek(time_ns)

    def _leads_to(self, time_ns: int) -> bool:
        if not self._is_placed or (self._trusted_ns is not None and time_ns < self._trusted_ns):
            return False
        if time_ns in self._ahead:
            return True
        done_ns = self._done_ns if self._done_ns is not None else self._first_ns - 1
        return time_ns > done_ns and not self._seek_pays(done_ns, time_ns)

    def _seek(self, limit_ns: int) -> None:
        """Goes to a keyframe that is shown at or before `limit_ns`; where seeking does not lead to one, to the start of the source."""
        target_ns, step_ns = limit_ns, FIRST_STEP_NS
        for _ in range(MAX_SEEKS):
            try:
                self._container.seek(self._ticks(target_ns), stream=self._stream)
                packets = demuxed(self._container, self._stream)
                keyframe = self._next_keyframe(packets, limit_ns)
            except av.error.FFmpegError:
                break
            if keyframe is not None:
                self._begin(chain([keyframe], packets), self._ns(keyframe))
                return
            if target_ns <= self._first_ns:
                break
            target_ns, step_ns = target_ns - step_ns, 4 * step_ns
        self._reopen()

    def _next_keyframe(self, packets: Iterator[Packet], limit_ns: int) -> Packet | None:
        """The first keyframe among the packets; None where it is shown after the limit."""
        for packet in packets:
            time_ns = self._ns(packet)
            decoded_ns = to_ns(packet.dts, self._time_base)
            if packet.size and packet.is_keyframe and time_ns is not None:
                self._delay_ns = max(self._delay_ns, time_ns - (time_ns if decoded_ns is None else decoded_ns))
                return packet if time_ns <= limit_ns else None
            if not packet.size or (decoded_ns is not None and decoded_ns > limit_ns):
                return None
        return None

    def _collect(self, times: list[int], found: dict[int, Picture], *, skips: bool, drains: bool) -> None:
        """Decodes up to the last of the times and adds what was found; stops early where the source ends or breaks off."""
        last_ns, clock = times[-1], self._decoder.clock
        due = {t for t in times if t not in found}
        found |= {t: self._convert.picture(frame, self._stream) for t, frame in self._ahead.items() if t in due}
        due -= found.keys()
        self._ahead = {t: frame for t, frame in self._ahead.items() if t > last_ns}
        unsent = set(due)
        while due and (clock.last_ns is None or clock.last_ns <= last_ns):
            # Where a frame's time is that of the packet that pushes it out, every packet has to be decoded.
            is_by_decoding = clock.is_by_decoding
            packet = self._next_packet() if unsent or not drains or is_by_decoding else None
            if packet is None:
                self._is_placed = False
                for given in self._decoder.drain():
                    if isinstance(given, TimedFrame):
                        self._take(given, due, last_ns, found)
                return
            time_ns = self._ns(packet)
            may_skip = skips and not is_by_decoding and packet.pts is not None
            is_idle = may_skip and time_ns not in unsent and (drains or (time_ns or 0) < last_ns)
            unsent.discard(time_ns or 0)
            if is_idle and time_ns is not None:
                self._done_ns = time_ns if self._done_ns is None else max(self._done_ns, time_ns)
            self._skip.set(is_idle)
            for given in self._decoder.send(packet, is_idle=is_idle):
                if isinstance(given, TimedFrame):  # after damage none comes until the next keyframe, as in the scan
                    self._take(given, due, last_ns, found)

    def _next_packet(self) -> Packet | None:
        """None at the end, and where the container is damaged: the scan saw nothing after that either."""
        try:
            for packet in self._packets:
                if packet.size:
                    return packet
                if is_flush(packet):
                    return None
        except av.error.FFmpegError:
            return None
        return None

    def _take(self, item: TimedFrame, due: set[int], last_ns: int, found: dict[int, Picture]) -> None:
        """Keeps the frame if it is due, or lies after all that are."""
        frame, time_ns = item.frame, item.time_ns
        if time_ns is None or (self._trusted_ns is not None and time_ns < self._trusted_ns):
            return
        self._done_ns = time_ns if self._done_ns is None else max(self._done_ns, time_ns)
        if not self._is_turned:
            self._convert.picture(frame, self._stream)
            self._is_turned = True
        if time_ns in due:
            found[time_ns] = self._convert.picture(frame, self._stream)
            due.remove(time_ns)
        elif time_ns > last_ns:
            self._ahead[time_ns] = frame

    def _ns(self, packet: Packet) -> int | None:
        return to_ns(packet.pts if packet.pts is not None else packet.dts, self._time_base)

    def _ticks(self, time_ns: int) -> int:
        return round(Fraction(time_ns, NS_PER_S) / self._time_base)


class _Skip:
    """Leaves out packets that no other frame is predicted from, where the decoder can tell them at once and drop them without a trace.

    H.264 (nal_ref_idc 0) and the B-pictures of MPEG-1, 2 and 4. HEVC marks pictures that no other of the same temporal layer is
    predicted from (H.265 section 7.4.2.2), which says enough only where there is one layer. VP9 and AV1 decode everything.
    """

    def __init__(self, context: VideoCodecContext) -> None:
        name = context.name
        self._can = name in ("h264", "mpeg4", "mpeg2video", "mpeg1video") or (name == "hevc" and num_hevc_layers(context.extradata) == 1)
        self._context = context
        self._is_on = False

    def set(self, is_on: bool) -> None:
        """Whether the next packet may be left out."""
        if self._can and is_on != self._is_on:
            self._context.skip_frame = "NONREF" if is_on else "DEFAULT"
            self._is_on = is_on


def num_hevc_layers(extradata: bytes | None) -> int | None:
    """Temporal layers that HEVC parameter sets announce, hvcC (ISO/IEC 14496-15 section 8.3.3) or Annex B; None where they do not say."""
    if not extradata or len(extradata) < 23:
        return None
    if extradata[0] == 1:
        return (extradata[21] >> 3 & 7) or None
    # sps_max_sub_layers_minus1 lies in bits 4 to 6 of the first byte after the header of the sequence parameter set (type 33).
    place = extradata.find(b"\x00\x00\x01\x42\x01")
    return None if place < 0 or place + 5 >= len(extradata) else (extradata[place + 5] >> 1 & 7) + 1
