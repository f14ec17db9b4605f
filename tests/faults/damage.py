"""Files that are no video, that end too early, or whose bytes were hurt."""

import gzip
import struct
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np
from faults.material import (
    FRAMES,
    HEIGHT,
    WIDTH,
    X264,
    Kind,
    boxes,
    cut,
    damaged,
    encoded,
    failed,
    film,
    hurt,
    made,
    packets_of,
    remuxed,
    write,
)

from curate.pipelines import footage

AT_END = (("movflags", "0"),)
FRAGMENTS = (("movflags", "frag_keyframe+empty_moov"),)
HEVC = (("preset", "ultrafast"), ("x265-params", "keyint=10:min-keyint=10:scenecut=0:bframes=0:log-level=none:pools=1"))
VP9 = (("g", "10"), ("deadline", "realtime"), ("cpu-used", "8"), ("crf", "20"), ("b", "0"), ("auto-alt-ref", "0"), ("lag-in-frames", "0"))
OPEN_GROUPS = (
    ("preset", "veryfast"),
    ("threads", "1"),
    ("x264-params", "open-gop=1:keyint=20:min-keyint=20:scenecut=0:bframes=3:b-adapt=0:repeat-headers=1"),
)
AV1 = (("preset", "12"), ("crf", "20"), ("svtav1-params", "keyint=10:lp=1"))
VP8 = (("g", "10"), ("deadline", "realtime"), ("cpu-used", "8"), ("crf", "8"), ("b", "2000000"), ("auto-alt-ref", "0"))
FFV1 = (("g", "10"), ("slicecrc", "1"), ("level", "3"))
MPEG = (("g", "10"), ("bf", "0"), ("qscale", "3"), ("flags", "+qscale"), ("global_quality", "354"))


def _h264(suffix: str, *container: tuple[str, str]) -> bytes:
    return encoded(suffix, container=container) if container else encoded(suffix)


def _noise() -> bytes:
    return np.random.default_rng(0).bytes(20_000)


def _jpeg(suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, film()[0])[1].tobytes()


def _cover_only() -> bytes:
    def build(path: Path) -> None:
        with av.open(str(path), "w") as target:
            sound = target.add_stream("aac", rate=44_100)
            picture = target.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44_100, 0
            target.mux(sound.encode(frame))
            target.mux(sound.encode(None))
            target.mux(picture.encode(av.VideoFrame.from_ndarray(film()[0], format="rgb24").reformat(format="yuvj420p")))
            target.mux(picture.encode(None))

    return made("mp4", build)


def _cover_and_video() -> bytes:
    def build(path: Path) -> None:
        with av.open(BytesIO(_h264("mp4"))) as source, av.open(str(path), "w") as target:
            picture = target.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 320, 320, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            stream = target.add_stream_from_template(source.streams.video[0])
            square = cv2.resize(film()[0], (320, 320))
            target.mux(picture.encode(av.VideoFrame.from_ndarray(square, format="rgb24").reformat(format="yuvj420p")))
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)

    return made("mp4", build)


def _sound_only() -> bytes:
    return made("mp4", lambda path: footage.write_tone(path, 1.0) and None)


def _without_index_avi() -> bytes:
    data = encoded("avi", "mpeg4", options=MPEG)
    return data[: data.rindex(b"idx1")]


def _without_cues() -> bytes:
    return _h264("mkv").replace(b"\x1c\x53\xbb\x6b", b"\xec\x53\xbb\x6b")


def _zeros(data: bytes, low: float, high: float) -> bytes:
    first, last = round(len(data) * low), round(len(data) * high)
    return data[:first] + bytes(last - first) + data[last:]


def _lost_ts_packets() -> bytes:
    data = encoded("ts")
    kept = [data[i : i + 188] for i in range(0, len(data), 188)]
    middle = len(kept) // 2
    return b"".join(kept[:middle] + kept[middle + 12 :])


def _begun_inside_a_group() -> bytes:
    """A recording that was switched on six frames before a keyframe."""
    data = encoded("ts", options=(*X264[:-1], ("x264-params", "repeat-headers=1"), ("threads", "1")))
    return remuxed(data, "ts", lambda n, _: n >= 14)


def _begun_inside(codec: str, suffix: str, options: tuple[tuple[str, str], ...]) -> bytes:
    return remuxed(encoded("ts", codec, options=options), suffix, lambda n, _: n >= 14)


def _open_group_first() -> bytes:
    """A broadcast cut at the I-picture of an open group: what it shows first needs a group that is not there."""
    return remuxed(_open_groups(), "ts", lambda n, _: n >= _second_group(_open_groups()))


def _open_groups() -> bytes:
    return encoded("ts", options=OPEN_GROUPS)


def _second_group(data: bytes) -> int:
    return [n for n, packet in enumerate(packets_of(data)) if packet.is_keyframe][1]


def _joined_with_other_pids() -> bytes:
    """Two recordings one after the other, the second under PIDs of its own: streams that turn up when the first have been read."""
    options = (("mpegts_start_pid", "0x300"), ("mpegts_pmt_start_pid", "0x1010"), ("mpegts_service_id", "2"))
    return encoded("ts") + encoded("ts", container=options)


def _begins_before_the_damaged_ends() -> bytes:
    """After a damaged packet the next picture comes sooner than the last good one was to be shown: at 580 ms, not at 600."""
    times_ms = [40 * n if n < 15 else 550 + n if n < 20 else 580 + 40 * (n - 20) for n in range(FRAMES)]
    return hurt(made("mkv", lambda path: write(path, film(), pts=times_ms, base=Fraction(1, 1000))), [15])


def _cut_obu() -> bytes:
    return cut(encoded("obu", "libsvtav1", options=AV1), 60)


def _cut_apng() -> bytes:
    data = encoded("gif", "apng", "rgb24", options=(), muxer="apng", pictures=(WIDTH, HEIGHT, 6))
    return cut(data, 50)


def _every_packet_zero() -> bytes:
    """MPEG-2 pictures without a single slice."""
    data = bytearray(encoded("mp4", "mpeg2video", options=MPEG))
    for packet in packets_of(bytes(data)):
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    return bytes(data)


def _missing_sample_table() -> bytes:
    return _h264("mp4").replace(b"stsz", b"xtsz").replace(b"stco", b"xtco")


def _absurd_box_size() -> bytes:
    data = _h264("mp4")
    at = boxes(data, b"stsz")[0]
    return data[: at + 8] + struct.pack(">I", 0x7FFFFFFF) + data[at + 12 :]


def _truncated() -> list[Kind]:
    whole = {
        "mp4": partial(_h264, "mp4"),
        "index_at_end.mp4": partial(_h264, "mp4", *AT_END),
        "fragments.mp4": partial(_h264, "mp4", *FRAGMENTS),
        "mkv": partial(_h264, "mkv"),
        "ts": partial(_h264, "ts"),
        "avi": partial(encoded, "avi", "mpeg4", options=MPEG),
        "webm": partial(encoded, "webm", "libvpx-vp9", options=VP9),
    }
    # How many whole pictures the first 10, 50 and 90 % hold; None: not one, or nothing says where they are.
    pictures = {
        "mp4": (2, 20, 36),
        "index_at_end.mp4": (None, None, None),
        "fragments.mp4": (2, 20, 36),
        "mkv": (2, 20, 36),
        "ts": (2, 20, 36),
        "avi": (None, 20, 35),
        "webm": (None, 20, 30),
    }
    # Where a picture was cut in two, its damage is met before the end.
    ends = {"mkv": "Truncated", "webm": "Truncated", "ts": "BadFrame", "avi": "BadFrame"}
    kinds = []
    for ending, build in whole.items():
        for percent, frames in zip((10, 50, 90), pictures[ending], strict=True):
            name, start = f"cut_{percent}.{ending}", partial(_cut, build, percent)
            if frames is None:  # an AVI still names its stream, and holds a piece of its first picture
                says, fault = ("breaks off", "SourceError") if ending == "avi" else ("", "Truncated")
                kinds.append(failed(name, start, says, fault))
            else:
                kinds.append(damaged(name, start, frames, ends.get(ending, "InvalidDataError")))
    return kinds


def _cut(build: Callable[[], bytes], percent: int) -> bytes:
    return cut(build(), percent)


KINDS = [
    failed("zero_bytes.mp4", lambda: b"", "the file is empty", "Truncated"),
    failed("random.mp4", _noise, "no media file of a format that is read", "NotMedia"),
    failed("text.mp4", lambda: b"this is not a video\n" * 200, "a text that begins", "NotMedia"),
    failed("web_page.mp4", lambda: b"<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>\n" * 20, "404 Not Found", "NotMedia"),
    failed("archive.mp4", lambda: gzip.compress(_noise(), mtime=0), "gzip", "NotMedia"),
    failed("photo.mp4", _jpeg, "JPEG", "NotMedia"),
    failed("png.mp4", lambda: _jpeg(".png"), "PNG", "NotMedia"),
    failed("zeros.mp4", lambda: bytes(50_000), "begins with zeros", "NotMedia"),
    *_truncated(),
    failed("sound_only.mp4", _sound_only, "sound only (aac)", "NoVideo"),
    failed("cover_only.m4v", _cover_only, "with a cover picture", "NoVideo"),
    Kind("cover_and_video.m4v", _cover_and_video),
    Kind("no_index.avi", _without_index_avi),
    Kind("no_cues.mkv", _without_cues),
    failed("no_moov.mp4", lambda: _h264("mp4", *AT_END).replace(b"moov", b"xoov"), "no index", "Truncated"),
    failed("no_sample_table.mp4", _missing_sample_table, "index (moov) is damaged"),
    failed("absurd_sample_count.mp4", _absurd_box_size, "index (moov) is damaged"),
    damaged("hurt_h264.mp4", lambda: hurt(_h264("mp4"), [15]), 35, "BadFrame"),
    damaged("hurt_hevc.mp4", lambda: hurt(encoded("mp4", "libx265", options=HEVC), [15]), 35, "BadFrame"),
    damaged("hurt_vp9.webm", lambda: hurt(encoded("webm", "libvpx-vp9", options=VP9), [15], skip=4), 35, "InvalidDataError"),
    damaged("hurt_mpeg4.avi", lambda: hurt(encoded("avi", "mpeg4", options=MPEG), [15]), 35, "BadFrame"),
    damaged("hurt_mpeg2.mkv", lambda: hurt(encoded("mkv", "mpeg2video", options=MPEG), [15]), 35, "BadFrame", "no picture"),
    # What an arithmetic decoder reads from other bytes is other pictures, and no error: no decoder can tell.
    Kind("hurt_vp8.webm", lambda: hurt(encoded("webm", "libvpx", options=VP8), [15])),
    damaged("hurt_mjpeg.avi", lambda: hurt(encoded("avi", "mjpeg", "yuvj420p", options=()), [15], skip=0), 39, "InvalidDataError"),
    damaged("hurt_ffv1.mkv", lambda: hurt(encoded("mkv", "ffv1", options=FFV1), [15]), 35, "InvalidDataError"),
    damaged("hurt_twice.avi", lambda: hurt(encoded("avi", "mpeg4", options=MPEG), [13, 28]), 31, "BadFrame"),
    damaged("hurt_first_keyframe.mp4", lambda: hurt(_h264("mp4"), [0]), 30, "InvalidDataError"),
    damaged("hurt_second_frame.mp4", lambda: hurt(_h264("mp4"), [1]), 31, "BadFrame"),
    failed("all_hurt.mkv", lambda: hurt(encoded("mkv"), range(FRAMES), skip=0), "holds no packets", "Truncated"),
    failed("all_hurt.mp4", lambda: hurt(_h264("mp4"), range(FRAMES), skip=0), "the h264 decoder refuses a packet (Invalid data"),
    failed("all_zero.mp4", _every_packet_zero, "none of its 40 packets gives a picture"),
    damaged("zeros_inside.mkv", lambda: _zeros(_h264("mkv"), 0.4, 0.5), 26, "BadFrame"),
    damaged("half_downloaded.mp4", lambda: _zeros(_h264("mp4"), 0.5, 1.0), 20, "BadFrame"),
    damaged("half_downloaded.mkv", lambda: _zeros(_h264("mkv"), 0.5, 1.0), 20, "BadFrame"),
    damaged("half_downloaded.avi", lambda: _zeros(encoded("avi", "mpeg4", options=MPEG), 0.5, 1.0), 20, "BadFrame"),
    damaged("lost_packets.ts", _lost_ts_packets, 30, "BadFrame"),
    Kind("begun_inside_a_group.ts", _begun_inside_a_group, frames=20),
    Kind("begun_inside_hevc.ts", partial(_begun_inside, "libx265", "ts", HEVC), frames=20),
    Kind("begun_inside_mpeg4.ts", partial(_begun_inside, "mpeg4", "ts", MPEG), frames=20),
    Kind("begun_inside_mpeg2.ts", partial(_begun_inside, "mpeg2video", "ts", MPEG), frames=20),
    Kind("begun_inside_mpeg2.mpg", partial(_begun_inside, "mpeg2video", "mpg", MPEG), frames=20),
    Kind("open_groups.ts", _open_groups),
    Kind("open_group_first.ts", _open_group_first, frames=20),
    Kind("garbage_after.mp4", lambda: _h264("mp4") + _noise()),
    Kind("joined_with_other_pids.ts", _joined_with_other_pids),
    damaged("begins_before_the_damaged_ends.mkv", _begins_before_the_damaged_ends, 34, "BadFrame"),
    # Neither says how long it is, and both end in an error wherever one seeks to.
    damaged("cut_inside.obu", _cut_obu, (20, 30), "Unaccounted"),
    damaged("cut_inside_apng.gif", _cut_apng, (1, 4), "InvalidDataError"),
    Kind("garbage_before.ts", lambda: _noise()[:1000] + encoded("ts")),
]
