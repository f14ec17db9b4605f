"""A span between keyframes from one container into an MP4 file, packet by packet, without decoding.

From the keyframe that starts the span, packets are taken in decoding order. Those shown before it (leading pictures of an open group) are
dropped: they need the group before. Taking ends at the first packet that is shown at or behind the span's end; whatever is
decoded after that one but shown inside the span (again leading pictures, of the next group) cannot be had without a picture that
does not belong to the clip, so it is left out as well. Nothing that is outside the span lies hidden in the file.

Presentation times are moved so that the first is 0. Decoding times are made anew, since not every container keeps them: with the
presentation times sorted, packet i is decoded at the time of frame i - d, d the smallest delay with which no frame is shown before it is
decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from curate.clip import NS_PER_S, Span
from curate.errors import ExportError
from curate.media.encode import FORMAT_BITEXACT
from curate.media.outside import Source
from curate.media.picks import LEADS_NS, VideoFile
from curate.media.probe import to_ns
from curate.media.seek import demuxed
from curate.media.verify import Expected

MP4_VIDEO = ("h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video", "mpeg1video")
MP4_AUDIO = ("aac", "mp3", "mp2", "ac3", "eac3", "opus", "flac", "alac")
MAX_LEADING = 16  # pictures: the largest delay for reordering in H.264 and HEVC


@dataclass(frozen=True, slots=True, eq=False)
class _Copied:
    """Packets in decoding order and their times in the source. `ends_source`: it ended them, not a packet behind the span."""

    packets: list[Packet]
    times_ns: list[int]
    ends_source: bool


def write_copy(video: VideoFile, span: Span, times_ns: np.ndarray, path: Path, audio: bool, *, file: object | None = None) -> Expected:
    """Writes the file without reading it back. Returns what it should hold. `file`: see `source_of`."""
    codec = video.stream.codec_context.codec.canonical_name
    if codec not in MP4_VIDEO:
        raise ExportError(f"{video.url}: {codec} video cannot be copied into MP4; cut it exactly (cut=exact)")
    copied_ns, copied = _checked(video, span, times_ns)
    end_ns = span.end_ns if len(copied_ns) == len(times_ns) else int(times_ns[len(copied_ns)])
    _retime(copied, end_ns, video.stream.time_base)
    source = source_of(video, file)
    sound = _sound(video, span.start_ns, end_ns) if audio else []
    context = video.stream.codec_context
    size = (context.width, context.height)
    with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.flags |= FORMAT_BITEXACT
        out = container.add_stream_from_template(video.stream, opaque=True)
        tracks: list[tuple[Stream, list[Packet]]] = [(out, copied.packets)]
        if sound and video.audio is not None:
            tracks.append((container.add_stream_from_template(video.audio, opaque=True), sound))
        _mux(container, tracks)
    return Expected(
        source=source,
        picks_ns=copied_ns,
        end_ns=end_ns,
        times_ns=copied_ns - copied_ns[0],
        duration_s=(end_ns - span.start_ns) / NS_PER_S,
        size=size,
        box=None,
        is_every=True,
        coarseness=None,
        has_sound=audio,
    )


def source_of(video: VideoFile, file: object | None) -> Source:
    """The source for the verifier, which opens it anew: the same streams of the same bytes. `file` is what the video was opened with."""
    sound = video.audio
    opened = video.url if file is None else file
    return Source(opened, video.url, video.container.format.name, video.stream.index, None if sound is None else sound.index)


def _checked(video: VideoFile, span: Span, times_ns: np.ndarray) -> tuple[np.ndarray, _Copied]:
    """The packets to copy, whose times are the first of `times_ns`, or all of them."""
    copied = _collect(video, span)
    found_ns = np.sort(np.array(copied.times_ns, np.int64))
    num_lacking = len(times_ns) - len(found_ns)
    if num_lacking < 0 or (found_ns != times_ns[: len(found_ns)]).any():
        here = times_ns[: len(found_ns)]
        wrong = np.flatnonzero(found_ns[: len(here)] != here)
        time_s = found_ns[wrong[0] if len(wrong) else len(here)] / NS_PER_S
        raise ExportError(f"{video.url}: the packet at {time_s:.6f} s is no scanned frame: the source has changed, or use cut=exact")
    if num_lacking and (copied.ends_source or num_lacking > MAX_LEADING):
        time_s = times_ns[len(found_ns)] / NS_PER_S
        raise ExportError(f"{video.url}: no frame at {time_s:.6f} s: the source has changed since it was scanned, or is damaged there")
    return found_ns, copied


def _collect(video: VideoFile, span: Span) -> _Copied:
    """Raises `ExportError` where no keyframe is at the span's start."""
    leads: tuple[int | None, ...] = (*LEADS_NS, None) if video.has_timestamps else (None,)
    for lead_ns in leads:
        if lead_ns is None:
            video.reopen()
        video.only(video.stream)
        if lead_ns is not None and not video.seek(video.stream, span.start_ns - lead_ns):
            continue
        try:
            copied = _read(video, span)
        except av.error.FFmpegError as error:
            raise ExportError(f"{video.url}: cannot be read after {span.start_ns / NS_PER_S:.6f} s: {error.strerror}") from error
        if copied is not None:
            return copied
    raise ExportError(f"{video.url}: no keyframe at {span.start_ns / NS_PER_S:.6f} s to begin a copy with; cut it exactly (cut=exact)")


def _read(video: VideoFile, span: Span) -> _Copied | None:
    packets: list[Packet] = []
    times_ns: list[int] = []
    for packet in demuxed(video.container, video.stream):
        time_ns = to_ns(packet.pts if packet.pts is not None else packet.dts, packet.time_base)
        if not packet.size or time_ns is None:
            continue
        if not packets:
            if time_ns == span.start_ns and packet.is_keyframe and not packet.is_discard:
                packets, times_ns = [packet], [time_ns]
            elif packet.is_keyframe and time_ns > span.start_ns:
                return None
            continue
        if time_ns >= span.end_ns:
            return _Copied(packets, times_ns, ends_source=False)
        if time_ns >= span.start_ns:
            packets.append(packet)
            times_ns.append(time_ns)
    return _Copied(packets, times_ns, ends_source=True) if packets else None


def _retime(copied: _Copied, end_ns: int, time_base: Fraction | None) -> None:
    assert time_base is not None
    first = _pts(copied.packets[0])
    shown = [_pts(packet) - first for packet in copied.packets]
    ordered = sorted(shown)
    place = {pts: i for i, pts in enumerate(ordered)}
    end = round(Fraction(end_ns, NS_PER_S) / time_base) - first
    delay = max(i - place[pts] for i, pts in enumerate(shown))
    step = max(1, ordered[1] - ordered[0]) if len(ordered) > 1 else 1
    for i, (packet, pts) in enumerate(zip(copied.packets, shown, strict=True)):
        packet.pts, packet.dts = pts, ordered[i - delay] if i >= delay else (i - delay) * step
        following = place[pts] + 1
        packet.duration = max(1, (ordered[following] if following < len(ordered) else end) - pts)


def _pts(packet: Packet) -> int:
    """In containers that keep decoding times only, such as AVI, they are taken for presentation times, as the scan does."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    assert ticks is not None
    return ticks


def _sound(video: VideoFile, start_ns: int, end_ns: int) -> list[Packet]:
    """The packets of sound that reach into the clip, their times moved like the video's; none where MP4 cannot hold the codec."""
    stream = video.audio
    if stream is None or stream.codec_context.codec.canonical_name not in MP4_AUDIO:
        return []
    for seeks in (True, False):
        if not seeks:
            video.reopen()
            stream = video.audio
        assert stream is not None and stream.time_base is not None
        video.only(stream)
        if seeks and not video.seek(stream, start_ns - NS_PER_S // 4):
            continue
        packets = _sound_packets(video, stream, start_ns, end_ns)
        if packets is not None:
            return packets
    return []


def _sound_packets(video: VideoFile, stream: Stream, start_ns: int, end_ns: int) -> list[Packet] | None:
    """None where reading began behind the clip's start and there may be more before."""
    packets: list[Packet] = []
    is_first = True
    try:
        for packet in demuxed(video.container, stream):
            time_ns = to_ns(packet.pts, packet.time_base)
            if not packet.size or time_ns is None:
                continue
            if time_ns >= end_ns:
                break
            if is_first and time_ns > start_ns and time_ns > (to_ns(stream.start_time, stream.time_base) or 0):
                return None
            is_first = False
            if time_ns + (to_ns(packet.duration, packet.time_base) or 0) > start_ns:
                packets.append(packet)
    except av.error.FFmpegError:
        pass  # the sound that could be read is kept: it is the video that decides whether a clip can be cut
    shift = round(Fraction(start_ns, NS_PER_S) / (stream.time_base or Fraction(1, NS_PER_S)))
    for packet in packets:
        packet.pts = packet.dts = (packet.pts or 0) - shift
    return packets


def _mux(container: OutputContainer, tracks: Sequence[tuple[Stream, list[Packet]]]) -> None:
    """All packets in the order of their decoding times."""
    queue = [((packet.dts or 0) * packet.time_base, track, packet) for track, (_, packets) in enumerate(tracks) for packet in packets]
    for _, track, packet in sorted(queue, key=lambda item: item[:2]):
        packet.stream = tracks[track][0]
        container.mux_one(packet)
