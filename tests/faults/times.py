"""Clocks, lengths, orders of pictures, and edit lists. `TIMES` says when the frames are shown where that is not 40 ms apart from 0 on."""

import struct
from fractions import Fraction
from functools import partial

import av
from faults.damage import HEVC, MPEG
from faults.material import FPS, FRAMES, STEP_NS, X264, Kind, boxes, damaged, encoded, failed, film, made, patched, remuxed, shifted, write

MS = Fraction(1, 1000)
UNEVEN_MS = [n * 40 + (n * 7) % 23 for n in range(FRAMES)]
SLOW_264 = (("preset", "veryfast"), ("crf", "14"), ("threads", "1"))
B_FRAMES = (*SLOW_264, ("x264-params", "bframes=3:b-adapt=0:b-pyramid=normal:keyint=20:scenecut=0"))
OPEN_GROUPS = (*SLOW_264, ("x264-params", "open-gop=1:keyint=20:min-keyint=20:scenecut=0:bframes=3:b-adapt=0"))
WRAP_TICKS = 2**33
EVEN_NS = [n * STEP_NS for n in range(FRAMES)]


def at_ms(times_ms: list[int], suffix: str = "mkv") -> bytes:
    return made(suffix, lambda path: write(path, film()[: len(times_ms)], pts=times_ms, base=MS))


def some(num_frames: int, suffix: str = "mp4") -> bytes:
    return made(suffix, lambda path: write(path, film()[:num_frames]))


def with_duration(seconds: float) -> bytes:
    """Matroska's Duration, a float of milliseconds in the segment's information."""
    data = encoded("mkv")
    at = data.index(b"\x44\x89\x88") + 3
    return patched(data, at, ">d", seconds * 1000)


def with_mp4_durations(ticks: int) -> bytes:
    """The three durations of an MP4's headers; its sample table says something else."""
    data = encoded("mp4")
    for kind, at in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20)):
        data = patched(data, boxes(data, kind)[0] + at, ">I", ticks)
    return data


def with_deltas(*deltas: tuple[int, int]) -> bytes:
    """A sample table whose (count, ticks) entries are these, of 12800 ticks a second; as many as fit into the one that is there."""
    data = encoded("mp4")
    at = boxes(data, b"stts")[0]
    table = struct.pack(">II", 0, len(deltas)) + b"".join(struct.pack(">II", *delta) for delta in deltas)
    old = 8 + 8 * struct.unpack(">I", data[at + 4 : at + 8])[0]
    return inserted(data, at, old, table)


def inserted(data: bytes, at: int, old: int, content: bytes) -> bytes:
    """Replaces `old` bytes inside the moov box (before the media data), and mends the sizes of the boxes around and the chunk offsets."""
    more = len(content) - old
    out = bytearray(data[:at] + content + data[at + old :])
    pending = [(0, len(data))]
    while pending:
        start, end = pending.pop()
        while start + 8 <= end:
            size, kind = struct.unpack(">I4s", data[start : start + 8])
            if size < 8:
                break
            if start < at <= start + size:
                out[start : start + 4] = struct.pack(">I", size + more)
                if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf"):
                    pending.append((start + 8, start + size))
            start += size
    for place in boxes(bytes(out), b"stco"):
        (count,) = struct.unpack(">I", out[place + 4 : place + 8])
        for n in range(count):
            offset = place + 8 + 4 * n
            out[offset : offset + 4] = struct.pack(">I", struct.unpack(">I", out[offset : offset + 4])[0] + more)
    return bytes(out)


def edited(*segments: tuple[int, int], options: tuple[tuple[str, str], ...] = X264) -> bytes:
    """An edit list of (length in ms, start in ticks of 1/12800 s; -1: nothing is shown)."""
    data = encoded("mp4", options=options)
    at = boxes(data, b"elst")[0]
    table = struct.pack(">II", 0, len(segments)) + b"".join(struct.pack(">IiI", length, start, 1 << 16) for length, start in segments)
    old = 8 + 12 * struct.unpack(">I", data[at + 4 : at + 8])[0]
    return inserted(data, at, old, table)


def ticks(frame: int) -> int:
    return frame * 12_800 // FPS


def at_the_wrap(before_s: float) -> bytes:
    """A transport stream whose 33-bit clock starts again from zero `before_s` after its first picture."""
    first = WRAP_TICKS - round(before_s * 90_000)

    def move(n: int, packet: av.Packet) -> bool:
        packet.pts = packet.dts = first + n * 3600
        packet.time_base = Fraction(1, 90_000)
        return True

    return remuxed(encoded("ts"), "ts", move, container=(("mpegts_copyts", "1"),))


def joined_recordings() -> bytes:
    """Two recordings one after the other, each with a clock that starts at the same time."""
    return encoded("ts") + encoded("ts")


def reordered(data: bytes, suffix: str) -> bytes:
    """Two neighbouring times swapped, twice: the pictures come in order, their times do not."""
    swap = {11: 12, 12: 11, 30: 31, 31: 30}

    def move(n: int, packet: av.Packet) -> bool:
        packet.dts, packet.pts = n, 40 + swap.get(n, n) * 40
        return True

    return remuxed(data, suffix, move)


def repeated_times() -> bytes:
    def move(n: int, packet: av.Packet) -> bool:
        packet.pts = packet.dts = (n - (n == 21)) * 40
        return True

    return remuxed(encoded("mkv"), "mkv", move)


def backward(suffix: str = "mkv") -> bytes:
    """The clock goes back by 0.4 s in the middle, as when a recorder's clock is set."""

    def move(n: int, packet: av.Packet) -> bool:
        packet.dts, packet.pts = n, 40 + (n if n < 20 else n - 10) * 40
        return True

    return remuxed(encoded("mkv"), suffix, move)


def before_zero() -> bytes:
    """A second of pictures before zero, which Matroska cannot say: they come without times."""
    return shifted(encoded("mp4"), "mkv", -1.0, container=(("avoid_negative_ts", "disabled"),))


def long_group() -> bytes:
    options = (*X264[:2], ("g", "1000"), ("sc_threshold", "0"), ("threads", "1"))
    return made("mp4", lambda path: write(path, [film()[n % FRAMES] for n in range(1000)], options=options))


def absurd_times() -> bytes:
    """The last ten pictures a hundred thousand years later."""
    data = encoded("nut", "mpeg4", options=MPEG)

    def move(n: int, packet: av.Packet) -> bool:
        if n >= 30:
            packet.pts = packet.dts = packet.pts + 2**58
        return True

    return remuxed(data, "nut", move)


def raw(codec: str, suffix: str, options: tuple[tuple[str, str], ...]) -> bytes:
    return encoded(suffix, codec, options=options)


KINDS = [
    Kind("one_frame.mp4", partial(some, 1), frames=1),
    Kind("one_frame.mkv", partial(some, 1, "mkv"), frames=1),
    Kind("two_frames.mp4", partial(some, 2), frames=2),
    Kind("zero_length.mp4", partial(with_mp4_durations, 0)),
    Kind("no_length.mkv", lambda: encoded("mkv", container=(("live", "1"),))),
    damaged("all_at_once.mp4", partial(with_deltas, (FRAMES, 0)), 17, "TimesGoBack"),
    damaged("too_long.mkv", partial(with_duration, 3600.0), FRAMES, says="3600"),
    Kind("too_short.mkv", partial(with_duration, 0.2)),
    Kind("too_long.mp4", partial(with_mp4_durations, 3_600_000)),
    Kind("too_short.mp4", partial(with_mp4_durations, 100)),
    damaged("negative_times.mkv", before_zero, 25, "TimesGoBack"),
    Kind("starts_at_10_s.mkv", lambda: shifted(encoded("mp4"), "mkv", 10.0)),
    Kind("starts_at_10_h.ts", lambda: shifted(encoded("mp4"), "ts", 36_000.0, container=(("mpegts_copyts", "1"),))),
    Kind("starts_at_10_s.mp4", lambda: shifted(encoded("mp4"), "mp4", 10.0)),
    Kind("clock_wraps.ts", partial(at_the_wrap, 0.8)),
    Kind("clock_wraps_late.ts", partial(at_the_wrap, 100.0)),
    damaged("joined_recordings.ts", joined_recordings, FRAMES, "TimesGoBack"),
    damaged("clock_goes_back.mkv", backward, 30, "TimesGoBack"),
    Kind("times_swapped.mkv", lambda: reordered(encoded("mkv"), "mkv")),
    Kind("times_repeated.mkv", repeated_times),
    damaged("absurd_times.nut", absurd_times, 30, "AbsurdTime"),
    Kind("gap_of_3_s.mkv", partial(at_ms, [n * 40 + 3000 * (n >= 20) for n in range(FRAMES)])),
    damaged("gap_of_30_h.mkv", partial(at_ms, [n * 40 + 108_000_000 * (n >= 20) for n in range(FRAMES)]), FRAMES, "Gap", "108000.0 s"),
    Kind("uneven.mkv", partial(at_ms, UNEVEN_MS)),
    Kind("uneven.mp4", partial(at_ms, UNEVEN_MS, "mp4")),
    Kind("slide_every_2_s.mp4", partial(at_ms, [n * 2000 for n in range(6)], "mp4"), frames=6),
    Kind("last_frame_for_a_day.mp4", partial(with_deltas, (FRAMES - 1, 512), (1, 12_800 * 86_400))),
    Kind("frame_for_a_day.mp4", partial(with_deltas, (20, 512), (1, 12_800 * 86_400), (FRAMES - 21, 512)), frames=21),
    Kind("a_thousand_a_second.mp4", partial(with_deltas, (FRAMES, 13))),
    Kind("edit_starts_later.mp4", partial(edited, (1200, ticks(10))), frames=30),
    Kind("edit_ends_sooner.mp4", partial(edited, (800, 0)), frames=20),
    Kind("edit_inside_a_group.mp4", partial(edited, (1000, ticks(13))), frames=25),
    Kind("edit_begins_empty.mp4", partial(edited, (2000, -1), (1600, 0))),
    Kind("edit_of_two_pieces.mp4", partial(edited, (400, 0), (400, ticks(30))), frames=20),
    Kind("edit_plays_twice.mp4", partial(edited, (800, 0), (800, 0))),
    Kind("edit_b_frames.mp4", partial(edited, (1000, 1024), options=B_FRAMES), frames=25),
    failed("edit_of_nothing.mp4", partial(edited, (1600, ticks(1000))), "no frame could be decoded"),
    Kind("b_frames.mp4", lambda: encoded("mp4", options=B_FRAMES)),
    Kind("b_frames.mkv", lambda: encoded("mkv", options=B_FRAMES)),
    Kind("b_frames.ts", lambda: encoded("ts", options=B_FRAMES)),
    Kind("b_frames.avi", lambda: encoded("avi", "mpeg4", options=(("g", "12"), ("bf", "2")))),
    Kind("b_frames_mpeg2.mpg", lambda: encoded("mpg", "mpeg2video", options=(("g", "12"), ("bf", "2")))),
    Kind("b_frames_mpeg2.mkv", lambda: encoded("mkv", "mpeg2video", options=(("g", "12"), ("bf", "2")))),
    Kind("open_groups.mp4", lambda: encoded("mp4", options=OPEN_GROUPS)),
    Kind("every_frame_a_keyframe.mp4", lambda: encoded("mp4", options=(*X264[:2], ("g", "1"), ("threads", "1")))),
    Kind("one_keyframe_in_1000.mp4", long_group, frames=1000, is_slow=True),
    Kind("bare.h264", lambda: raw("libx264", "h264", X264)),
    Kind("bare_b_frames.h264", lambda: raw("libx264", "h264", B_FRAMES)),
    Kind("bare.hevc", lambda: raw("libx265", "hevc", HEVC)),
    Kind("bare.m2v", lambda: raw("mpeg2video", "m2v", MPEG)),
    Kind("bare.mjpeg", lambda: encoded("mjpeg", "mjpeg", "yuvj420p", options=())),
]
