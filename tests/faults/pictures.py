"""Shapes, orientations, pixel formats, colours, and other streams beside the picture."""

import struct
from fractions import Fraction
from functools import partial
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np
from faults.damage import VP9
from faults.material import FRAMES, HEIGHT, WIDTH, X264, Kind, boxes, encoded, failed, film, made, patched, write
from PIL import Image

LOSSLESS = (("level", "3"), ("g", "1"))
ASS_HEADER = b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\nFormat: Name, Fontname, Fontsize\r\nStyle: Default,Arial,16\r\n"
PQ, HLG = (9, 16, 9, 1), (9, 18, 9, 1)
FULL, LIMITED = (1, 1, 1, 2), (1, 1, 1, 1)
X265_10 = (("preset", "ultrafast"), ("crf", "10"), ("x265-params", "keyint=10:min-keyint=10:scenecut=0:bframes=0:log-level=none:pools=1"))


def matrix(a: int, b: int, c: int, d: int, u: int = 0) -> bytes:
    data = encoded("mp4")
    return patched(data, boxes(data, b"tkhd")[0] + 40, ">9i", a << 16, b << 16, u, c << 16, d << 16, 0, 0, 0, 1 << 30)


def of_size(width: int, height: int, suffix: str = "mkv", codec: str = "ffv1", pix_fmt: str = "yuv444p", num_frames: int = FRAMES) -> bytes:
    options = {"ffv1": LOSSLESS, "libx264": X264}.get(codec, ())
    pictures = [cv2.resize(p, (width, height), interpolation=cv2.INTER_AREA) for p in film()[:num_frames]]
    return made(suffix, lambda path: write(path, pictures, codec, pix_fmt, options))


def aspect(num: int, den: int, squeeze: bool = True) -> bytes:
    """Pictures of 120x90 (the film squeezed to 3/4), each sample `num` wide and `den` high."""

    def setup(stream: av.VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(num, den)

    pictures = [cv2.resize(p, (120, 90), interpolation=cv2.INTER_AREA) for p in film()] if squeeze else film()
    return made("mp4", lambda path: write(path, pictures, options=(*X264[:1], ("crf", "8"), *X264[2:]), setup=setup))


def absurd_aspect(width: int, height: int) -> bytes:
    """The `pasp` box of an MP4 rewritten."""
    data = aspect(4, 3)
    for at in boxes(data, b"pasp"):
        data = patched(data, at, ">II", width, height)
    return data


def fields(codec: str, options: tuple[tuple[str, str], ...], top: bool, suffix: str = "mp4") -> bytes:
    """Even lines of one picture and odd lines of the next."""
    woven = []
    frames = film(160, 96)
    for n, picture in enumerate(frames):
        other = frames[min(n + 1, FRAMES - 1)]
        both = picture.copy()
        both[int(top) :: 2] = other[int(top) :: 2]
        woven.append(both)

    return made(suffix, lambda path: write(path, woven, codec, options=options))


def size_change(suffix: str) -> bytes:
    """Twenty pictures of 160x90, then twenty of 128x72."""
    headers = (*X264[:-1], ("threads", "1"), ("x264-params", "repeat-headers=1"))
    first = made("h264", lambda path: write(path, film()[:20], options=headers))
    second = made("h264", lambda path: write(path, film(128, 72)[20:], options=headers))

    def build(path: Path) -> None:
        with av.open(BytesIO(first)) as template, av.open(str(path), "w") as target:
            stream = target.add_stream_from_template(template.streams.video[0])
            n = 0
            for data in (first, second):
                with av.open(BytesIO(data)) as source:
                    for packet in source.demux(video=0):
                        if packet.size:
                            packet.pts = packet.dts = n * 3600
                            packet.duration = 3600
                            packet.time_base, packet.stream = Fraction(1, 90_000), stream
                            n += 1
                            target.mux(packet)

    return made(suffix, build)


def two_videos(suffix: str) -> bytes:
    """The film, and a second stream of other size and rate."""

    def more(target: av.container.OutputContainer):
        second = target.add_stream("mpeg4", rate=10)
        second.width, second.height, second.pix_fmt = 64, 48, "yuv420p"

        def finish() -> None:
            for n in range(16):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 16 * n, np.uint8), format="rgb24")
                frame.pts, frame.time_base = n, Fraction(1, 10)
                target.mux(second.encode(frame))
            target.mux(second.encode(None))

        return finish

    return made(suffix, lambda path: write(path, film(), more=more))


def with_sound(suffix: str, codec: str = "aac") -> bytes:
    def more(target: av.container.OutputContainer):
        stream = target.add_stream(codec, rate=48_000, layout="mono")

        def finish() -> None:
            for start in range(0, 2 * 48_000, 960):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))

        return finish

    return made(suffix, lambda path: write(path, film(), more=more))


def with_text(suffix: str, codec: str) -> bytes:
    """A subtitle stream of three lines, and (in Matroska) an attached file."""

    def more(target: av.container.OutputContainer):
        stream = target.add_stream(codec)
        stream.codec_context.subtitle_header = ASS_HEADER
        if suffix == "mkv":
            target.add_attachment("font.ttf", "application/x-truetype-font", b"no font" * 100)

        def finish() -> None:
            for n in range(3):
                text = f"line {n}".encode()
                packet = av.Packet(text if codec != "mov_text" else struct.pack(">H", len(text)) + text)
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = n * 500
                packet.duration = 400
                target.mux(packet)

        return finish

    return made(suffix, lambda path: write(path, film(), more=more))


def data_stream() -> bytes:
    """A timecode track beside the video, as cameras write."""

    def build(path: Path) -> None:
        with av.open(str(path), "w") as target:
            target.metadata["timecode"] = "01:00:00:00"
            stream = target.add_stream("libx264", rate=25, options=dict(X264))
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for n, picture in enumerate(film()):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = n, Fraction(1, 25)
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))

    return made("mov", build)


def webp() -> bytes:
    memory = BytesIO()
    first, *rest = [Image.fromarray(p) for p in film()[:10]]
    first.save(memory, "WEBP", save_all=True, append_images=rest, duration=40, lossless=False)
    return memory.getvalue()


def ffv1(pix_fmt: str, color: tuple[int, int, int, int] = LIMITED) -> bytes:
    return encoded("mkv", "ffv1", pix_fmt, LOSSLESS, color=color)


KINDS = [
    Kind("rotated_90.mp4", partial(matrix, 0, 1, -1, 0)),
    Kind("rotated_180.mp4", partial(matrix, -1, 0, 0, -1)),
    Kind("rotated_270.mp4", partial(matrix, 0, -1, 1, 0)),
    Kind("mirrored.mp4", partial(matrix, -1, 0, 0, 1)),
    Kind("upside_down.mp4", partial(matrix, 1, 0, 0, -1)),
    Kind("matrix_of_zeros.mp4", partial(matrix, 0, 0, 0, 0)),
    Kind("wide_samples.mp4", partial(aspect, 4, 3)),
    Kind("absurd_aspect.mp4", partial(absurd_aspect, 2_000_000_000, 1)),
    Kind("absurd_tall.mp4", partial(absurd_aspect, 1, 2_000_000_000)),
    Kind("zero_aspect.mp4", partial(absurd_aspect, 0, 0)),
    Kind("top_field_first.mp4", partial(fields, "libx264", (*X264[:-1], ("x264-params", "tff=1"), ("threads", "1")), True)),
    Kind("bottom_field_first.mp4", partial(fields, "libx264", (*X264[:-1], ("x264-params", "bff=1"), ("threads", "1")), False)),
    Kind("fields.mpg", partial(fields, "mpeg2video", (("g", "10"), ("bf", "0"), ("flags", "+ildct+ilme"), ("b", "3000000")), True, "mpg")),
    Kind("odd_size.mkv", partial(of_size, 161, 91)),
    Kind("odd_size_420.mkv", partial(of_size, 161, 91, pix_fmt="yuv420p")),
    Kind("one_pixel.mkv", partial(of_size, 1, 1)),
    Kind("one_pixel_420.mkv", partial(of_size, 1, 1, pix_fmt="yuv420p")),
    Kind("two_by_two.mp4", partial(of_size, 2, 2, "mp4", "libx264", "yuv420p")),
    failed("one_column.mov", partial(of_size, 1, 90, "mov", "png", "rgb24"), "times as long"),
    failed("one_row.mkv", partial(of_size, 160, 1), "times as long"),
    Kind("ribbon.mkv", partial(of_size, 800, 20)),
    failed("very_wide.mkv", partial(of_size, 2000, 4, num_frames=10), "times as long"),
    Kind("8k.mp4", partial(of_size, 7680, 4320, "mp4", "libx264", "yuv420p", 2), frames=2, is_slow=True),
    Kind("gray.mkv", partial(ffv1, "gray", FULL)),
    Kind("gray_10_bit.mkv", partial(ffv1, "gray10le", FULL)),
    Kind("gray_16_bit.mkv", partial(ffv1, "gray16le", FULL)),
    Kind("yuv422.mp4", lambda: encoded("mp4", pix_fmt="yuv422p")),
    Kind("yuv444.mp4", lambda: encoded("mp4", pix_fmt="yuv444p")),
    Kind("yuv411.mkv", partial(ffv1, "yuv411p")),
    Kind("yuv440.mkv", partial(ffv1, "yuv440p")),
    Kind("yuv410.mkv", partial(ffv1, "yuv410p")),
    Kind("h264_10_bit.mp4", lambda: encoded("mp4", pix_fmt="yuv420p10le")),
    Kind("hevc_10_bit.mp4", lambda: encoded("mp4", "libx265", "yuv420p10le", X265_10)),
    Kind("hevc_12_bit.mp4", lambda: encoded("mp4", "libx265", "yuv420p12le", X265_10)),
    Kind("yuv420_16_bit.mkv", partial(ffv1, "yuv420p16le")),
    Kind("rgb.mkv", partial(ffv1, "bgr0")),
    Kind("rgb_16_bit.mkv", partial(ffv1, "rgb48le")),
    Kind("gbr_10_bit.mkv", partial(ffv1, "gbrp10le")),
    Kind("rgb_h264.mp4", lambda: encoded("mp4", "libx264rgb", "rgb24", color=(1, 1, 0, 2))),
    Kind("hdr10.mp4", lambda: encoded("mp4", "libx265", "yuv420p10le", X265_10, color=PQ)),
    Kind("hlg.mp4", lambda: encoded("mp4", "libx265", "yuv420p10le", X265_10, color=HLG)),
    Kind("full_range.mp4", lambda: encoded("mp4", color=FULL)),
    Kind("alpha.mov", lambda: encoded("mov", "prores_ks", "yuva444p10le", (("profile", "4444"),))),
    Kind("alpha.mkv", partial(ffv1, "yuva420p")),
    Kind("alpha_rgb.mov", lambda: encoded("mov", "qtrle", "argb", ())),
    Kind("alpha.webm", lambda: encoded("webm", "libvpx-vp9", "yuva420p", VP9)),
    Kind("alpha_gray.mov", lambda: encoded("mov", "png", "ya8", ())),
    Kind("palette.gif", lambda: encoded("gif", "gif", "bgr8", ())),
    Kind("one_bit.mov", lambda: encoded("mov", "png", "monob", ())),
    Kind("size_change.ts", partial(size_change, "ts")),
    Kind("size_change.mkv", partial(size_change, "mkv")),
    Kind("two_videos.mp4", partial(two_videos, "mp4")),
    Kind("two_videos.mkv", partial(two_videos, "mkv")),
    Kind("two_videos.ts", partial(two_videos, "ts")),
    Kind("with_sound.mp4", partial(with_sound, "mp4")),
    Kind("with_text.mp4", partial(with_text, "mp4", "mov_text")),
    Kind("with_text_and_font.mkv", partial(with_text, "mkv", "srt")),
    Kind("with_timecode.mov", data_stream),
    failed("animated_webp.gif", webp, "animated WebP is not decoded", "NoDecoder"),
]
