"""Where a long source is cut into parts, so that several workers can scan it: always at the same keyframes.

With o the presentation time of the stream's start and p = `part_s`, the boundary between parts k-1 and k is the first keyframe shown at
or after o + k p. Decoding of part k begins at the last keyframe shown at or before o + k p - w, w being the warm-up that detectors
want. Both are keyframes that were met in the file, so parts follow each other without a gap or an overlap whatever the time stamps are,
and each can be found again. What an open group of pictures shows before the boundary's keyframe belongs to the part before.

Finding them reads w seconds of packets and a group of pictures around each boundary, and decodes nothing. Where seeking leads to no
keyframe before a boundary, everything is read once from the start.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from curate.clip import NS_PER_S, Span
from curate.config import Decode
from curate.media.decode import open_video
from curate.media.open import Opener, open_file, stream_choice
from curate.media.probe import Probe, to_ns
from curate.media.remote import SPOOL_GB
from curate.media.seek import Part, demuxed, keyframe_ns, packets_before

WHOLE = Part(Span(-(2**62), 2**62), None)
"""A source that is scanned in one go."""


def may_be_long(probe: Probe, decode: Decode) -> bool:
    """Whether the source may outlast `decode.part_s`, by what its container declares; true where it declares nothing.

    decord neither begins at a keyframe of our choice nor shows packets: what it reads is never cut into parts.
    """
    duration_s = probe.duration_s or probe.container_duration_s
    return decode.decoder != "decord" and (duration_s is None or duration_s > decode.part_s)


def parts_of(url: str, decode: Decode, warm_up_s: float, opener: Opener = open_file) -> tuple[Part, ...]:
    """The parts of a source in order of time, which together hold every frame; (WHOLE,) for one that is not cut.

    Raises `SourceError` where it cannot be opened.
    """
    part_ns, warm_up_ns = round(decode.part_s * NS_PER_S), round(warm_up_s * NS_PER_S)
    with _opened(url, decode, opener) as (container, stream):
        origin_ns = to_ns(stream.start_time, stream.time_base) or 0
        duration_ns = _duration_ns(container, stream)
        bounds = _bounds_by_seeking(container, stream, origin_ns, part_ns, warm_up_ns, duration_ns)
    # What neither can be sought in nor declares its length (a GIF, a bare stream) stays whole: most are short.
    if bounds is None and duration_ns is not None:
        with _opened(url, decode, opener) as (container, stream):
            bounds = _bounds_by_reading(demuxed(container), stream, origin_ns, part_ns, warm_up_ns)
    starts = [WHOLE.span.start_ns, *(start for _, start in bounds or ())]
    places = [None, *(place for place, _ in bounds or ())]
    ends = [*starts[1:], WHOLE.span.end_ns]
    return tuple(Part(Span(start, end), place) for start, end, place in zip(starts, ends, places, strict=True))


@contextmanager
def _opened(url: str, decode: Decode, opener: Opener) -> Iterator[tuple[InputContainer, VideoStream]]:
    file = opener(url, SPOOL_GB)
    try:
        container, stream = open_video(file, url, wanted=stream_choice(decode).video)
        with container:
            yield container, stream
    finally:
        if not isinstance(file, str):
            file.close()


def _duration_ns(container: InputContainer, stream: VideoStream) -> int | None:
    if stream.duration:
        return to_ns(stream.duration, stream.time_base)
    return container.duration * (NS_PER_S // av.time_base) if container.duration else None


def _bounds_by_seeking(
    container: InputContainer, stream: VideoStream, origin_ns: int, part_ns: int, warm_up_ns: int, duration_ns: int | None
) -> list[tuple[int, int]] | None:
    """(decoding begins, boundary) in order; None where seeking led to no keyframe before one of the boundaries."""
    bounds: list[tuple[int, int]] = []
    place_ns: int | None = None
    target_ns = origin_ns + part_ns
    while duration_ns is None or target_ns < origin_ns + duration_ns:
        before_ns = place_ns
        for packets in packets_before(container, stream, target_ns - warm_up_ns):
            place_ns, bound_ns, is_end = _around(packets, stream, target_ns - warm_up_ns, target_ns)
            if place_ns is not None:
                break
        else:
            return None
        # Damage that cannot be sought across is the end, however long the source says that it is.
        if bound_ns is None and (is_end or place_ns == before_ns):
            break
        # A keyframe may be so far away that it serves more than one boundary; damage on the way leaves a boundary out.
        if bound_ns is not None and (not bounds or bound_ns > bounds[-1][1]):
            bounds.append((place_ns, bound_ns))
        target_ns = _next_target(target_ns, bound_ns, part_ns)
    return bounds


def _next_target(target_ns: int, time_ns: int | None, part_ns: int) -> int:
    """The first target after this one and after the keyframe that was met, in one step: a clock may jump by centuries."""
    behind_ns = max(0, time_ns - target_ns) if time_ns is not None else 0
    return target_ns + part_ns * (behind_ns // part_ns + 1)


def _around(packets: Iterator[Packet], stream: VideoStream, low_ns: int, high_ns: int) -> tuple[int | None, int | None, bool]:
    """The last keyframe shown at or before `low_ns`, the first at or after `high_ns`, and whether the packets came to their end."""
    low: int | None = None
    try:
        for packet in packets:
            time_ns = keyframe_ns(packet, stream)
            if time_ns is None:
                continue
            if time_ns <= low_ns:
                low = time_ns if low is None else max(low, time_ns)
            elif time_ns >= high_ns or low is None:
                return low, time_ns if time_ns >= high_ns else None, False
    except av.error.FFmpegError:
        return low, None, False
    return low, None, True


def _bounds_by_reading(
    packets: Iterator[Packet], stream: VideoStream, origin_ns: int, part_ns: int, warm_up_ns: int
) -> list[tuple[int, int]]:
    """The same from the packets of the whole source."""
    bounds: list[tuple[int, int]] = []
    target_ns = origin_ns + part_ns
    place: int | None = None  # last keyframe at or before target_ns - warm_up_ns
    last: int | None = None
    try:
        for packet in packets:
            time_ns = keyframe_ns(packet, stream)
            if time_ns is None:
                continue
            if time_ns >= target_ns:
                if place is not None:
                    bounds.append((place, time_ns))
                target_ns = _next_target(target_ns, time_ns, part_ns)
                # A part is longer than the warm-up, so the keyframe before this one is early enough.
                place = time_ns if time_ns <= target_ns - warm_up_ns else last
            elif time_ns <= target_ns - warm_up_ns:
                place = time_ns
            last = time_ns
    except av.error.FFmpegError:
        return bounds
    return bounds
