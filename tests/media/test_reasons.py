"""What is said of files that cannot be read: each kind is made here, and named with what to do
about it.
"""

import gzip
import io
import re
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import UUID

import av
import cv2
import numpy as np
import pytest

from curate.clip import Fault
from curate.config import Decode
from curate.errors import Encrypted, NoDecoder, NotMedia, NoVideo, SourceError, Truncated
from curate.media import reasons
from curate.media.decode import PyAVReader
from curate.media.open import open_reader

KEY = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "00" * 16,
    "encryption_kid": "01" * 16,
}
# Texts of FFmpeg that say nothing by themselves.
LIBRARY_TEXTS = [
    "Invalid data found when processing input",
    "Operation not permitted",
    "Invalid argument",
    "End of file",
    "Input/output error",
    "Not yet implemented",
]


def film(
    suffix: str, codec: str = "libx264", title: str = "", frames: int = 12, **container: str
) -> bytes:
    """A moving square, as the bytes of a file."""
    out = io.BytesIO()
    out.name = f"a.{suffix}"
    muxer = {"mkv": "matroska", "ts": "mpegts", "wmv": "asf"}.get(suffix, suffix)
    with av.open(out, "w", format=muxer, options=container) as target:
        stream = target.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        if title:
            stream.metadata["title"] = title
        if codec == "libx264":
            stream.options = {"g": "12", "bf": "0", "sc_threshold": "0", "threads": "1"}
        for n in range(frames):
            picture = np.zeros((64, 96, 3), np.uint8)
            picture[10:40, 4 * n : 4 * n + 30] = 200
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        target.mux(stream.encode())
    return out.getvalue()


def sound(suffix: str, codec: str) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=suffix) as target:
        stream = target.add_stream(codec, rate=44_100)
        shape, kind = ((1, 44_100), np.float32) if codec == "aac" else ((1, 44_100), np.int16)
        frame = av.AudioFrame.from_ndarray(
            np.zeros(shape, kind), format="fltp" if codec == "aac" else "s16", layout="mono"
        )
        frame.sample_rate = 44_100
        target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return out.getvalue()


def encrypted_mkv() -> bytes:
    """A track with ContentEncodings in the place of its title, of the same length (RFC 9559,
    5.1.4.1.31).
    """

    def element(name: str, content: bytes) -> bytes:
        return bytes.fromhex(name) + bytes([0x80 | len(content)]) + content

    encryption = element("5035", element("47E1", b"\x05") + element("47E2", bytes(range(16))))
    encodings = element("6D80", element("6240", element("5033", b"\x01") + encryption))
    data, title = film("mkv", title="t" * 33), element("536E", b"t" * 33)
    assert data.count(title) == 1 and len(encodings) == len(title)
    return data.replace(title, encodings)


def encrypted_wmv() -> bytes:
    """A Content Encryption Object in the header (ASF specification, 3.14)."""
    data = film("wmv", "wmv2")
    fields = b"".join(
        struct.pack("<I", len(text)) + text
        for text in (b"secret", b"DRM\0", b"key\0", b"http://127.0.0.1/\0")
    )
    inserted = (
        UUID("2211b3fb-bd23-11d2-b4b7-00a0c955fc6e").bytes_le
        + struct.pack("<Q", 24 + len(fields))
        + fields
    )
    size, count = struct.unpack("<QI", data[16:28])
    return (
        data[:16]
        + struct.pack("<QI", size + len(inserted), count + 1)
        + data[28:30]
        + inserted
        + data[30:]
    )


def scrambled_ts() -> bytes:
    """The payload of every packet but the tables scrambled, and marked so."""
    data = bytearray(film("ts", frames=60))
    for at in range(0, len(data), 188):
        pid = struct.unpack(">H", data[at + 1 : at + 3])[0] & 0x1FFF
        if pid >= 0x100 and data[at + 3] & 0x10:
            start = at + 4 + (data[at + 4] + 1 if data[at + 3] & 0x20 else 0)
            data[at + 3] |= 0x80
            data[start : at + 188] = bytes(b ^ 0xA5 for b in data[start : at + 188])
    return bytes(data)


def cover_only() -> bytes:
    return _with_cover(sound_too=False)


def _with_cover(sound_too: bool) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as target:
        stream = target.add_stream("aac", rate=44_100) if sound_too else None
        picture = target.add_stream("mjpeg", rate=1)
        picture.width, picture.height, picture.pix_fmt = 96, 64, "yuvj420p"
        picture.disposition = av.stream.Disposition.attached_pic
        if stream:
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 4410), np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate = 44_100
            target.mux(stream.encode(frame))
            target.mux(stream.encode())
        target.mux(
            picture.encode(
                av.VideoFrame.from_ndarray(
                    np.zeros((64, 96, 3), np.uint8), format="rgb24"
                ).reformat(format="yuvj420p")
            )
        )
        target.mux(picture.encode())
    return out.getvalue()


def subtitles_only() -> bytes:
    """The video track of a Matroska file renamed into one of subtitles."""
    data = film("mkv", "ffv1")
    track, codec = b"\x83\x81\x01", b"\x86\x86V_FFV1"
    assert data.count(codec) == 1
    return data.replace(codec, b"\x86\x86S_TEXT").replace(track, b"\x83\x81\x11")


def picture(suffix: str) -> bytes:
    return cv2.imencode(suffix, np.zeros((64, 96, 3), np.uint8))[1].tobytes()


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        target.writestr("a.mp4", film("mp4"))
    return out.getvalue()


def segment(is_first: bool) -> bytes:
    """The first segment of a fragmented MP4 (headers), or what follows."""
    data = film("mp4", movflags="frag_keyframe+empty_moov+default_base_moof")
    at = data.index(b"moof") - 4
    return data[:at] if is_first else data[at:]


def renamed(suffix: str, codec: str, old: bytes, new: bytes) -> bytes:
    data = film(suffix, codec)
    assert old in data
    return data.replace(old, new)


INDEX_LAST = {"movflags": "0"}
TEXT = "1\n00:00:01,000 --> 00:00:02,000\nHello\n"
ERROR = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'
MPD = b'<?xml version="1.0"?>\n<!-- made -->\n<MPD type="static"></MPD>'
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in to   continue</title></head></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"

# name: file, class, what the line says
CASES: dict[str, tuple[Callable[[], bytes], type[SourceError], tuple[str, ...]]] = {
    "empty.mp4": (bytes, Truncated, ("the file is empty", "get the whole file again")),
    "zeros.mp4": (lambda: bytes(5000), NotMedia, ("begins with zeros", "get the file again")),
    "page.mp4": (
        lambda: PAGE,
        NotMedia,
        ('a web page ("Sign in to continue")', "download it again"),
    ),
    "denied.mp4": (
        lambda: ERROR,
        NotMedia,
        ("gives no file (AccessDenied)", "check address and credentials"),
    ),
    "answer.mp4": (lambda: b'{"error": "quota"}', NotMedia, ("a JSON text", '"quota"')),
    "words.mp4": (lambda: TEXT.encode(), NotMedia, ("a text that begins", "leave it out")),
    "lfs.mp4": (lambda: LFS, NotMedia, ("Git LFS", "git lfs pull")),
    "annex.mp4": (
        lambda: b"/annex/objects/SHA256E-s1--00.mp4\n",
        NotMedia,
        ("git-annex", "git annex get"),
    ),
    "hls.mp4": (
        lambda: b"#EXTM3U\n#EXTINF:4,\na.ts\n",
        NotMedia,
        ("a playlist (HLS or M3U)", "download the video that it names"),
    ),
    "concat.mp4": (
        lambda: b"ffconcat version 1.0\nfile 'a.mp4'\n",
        NotMedia,
        ("a playlist (FFmpeg concat)",),
    ),
    "dash.mp4": (lambda: MPD, NotMedia, ("a playlist (DASH)",)),
    "zip.mp4": (archive, NotMedia, ("an archive (ZIP)", "unpack it")),
    "gzip.mp4": (lambda: gzip.compress(film("mp4")), NotMedia, ("an archive (gzip)",)),
    "rar.mp4": (
        lambda: b"Rar!\x1a\x07\x01\x00" + bytes(range(256)),
        NotMedia,
        ("an archive (RAR)",),
    ),
    "7z.mp4": (lambda: b"7z\xbc\xaf\x27\x1c" + bytes(range(256)), NotMedia, ("an archive (7z)",)),
    "photo.mp4": (partial(picture, ".jpg"), NotMedia, ("a still picture (JPEG)",)),
    "shot.mp4": (partial(picture, ".png"), NotMedia, ("a still picture (PNG)",)),
    "flash.mp4": (lambda: b"CWS\x0f" + bytes(range(256)), NotMedia, ("Flash program",)),
    "report.mp4": (lambda: b"%PDF-1.7\n" + bytes(range(256)), NotMedia, ("a PDF document",)),
    "noise.mp4": (
        lambda: np.random.default_rng(0).bytes(5000),
        NotMedia,
        ("no media file of a format that is read", "convert it"),
    ),
    "noise.mp4.part": (
        lambda: np.random.default_rng(0).bytes(5000),
        NotMedia,
        ("an unfinished download (.part)",),
    ),
    "wave.mp4": (partial(sound, "wav", "pcm_s16le"), NoVideo, ("sound only (WAV)",)),
    "sound.mp4": (
        partial(sound, "mp4", "aac"),
        NoVideo,
        ("sound only (aac)", "no video stream", "leave it out"),
    ),
    "album.mp4": (
        partial(_with_cover, sound_too=True),
        NoVideo,
        ("sound only (aac) with a cover picture",),
    ),
    "cover.mp4": (cover_only, NoVideo, ("a cover picture only",)),
    "subtitles.mkv": (subtitles_only, NoVideo, ("subtitles only",)),
    "first_segment.mp4": (partial(segment, True), NoVideo, ("comes in segments", "join it")),
    "segment.mp4": (partial(segment, False), NoVideo, ("a segment of a stream", "join it")),
    "cenc.mp4": (
        lambda: film("mp4", **KEY),
        Encrypted,
        ("encrypted: no key", "without protection"),
    ),
    "drm.mkv": (encrypted_mkv, Encrypted, ("encrypted: no key",)),
    "drm.wmv": (encrypted_wmv, Encrypted, ("encrypted: no key",)),
    "pay.ts": (scrambled_ts, Encrypted, ("encrypted: no key", "scrambled")),
    "codec.mp4": (
        lambda: renamed("mp4", "libx264", b"avc1", b"dav1"),
        NoDecoder,
        ("no decoder for Dolby Vision over AV1 (dav1)",),
    ),
    "codec.mkv": (
        lambda: renamed("mkv", "ffv1", b"V_FFV1", b"V_XYZ1"),
        NoDecoder,
        ("no decoder for V_XYZ1", "convert it"),
    ),
    "codec.avi": (
        lambda: renamed("avi", "ffv1", b"FFV1", b"XYZ1"),
        NoDecoder,
        ("no decoder for XYZ1", "convert it"),
    ),
    "cut.mp4": (
        lambda: film("mp4", **INDEX_LAST)[:1000],
        Truncated,
        ("ends before its index (moov): 1,000 of at least",),
    ),
    "cut_inside.mp4": (
        lambda: film("mp4", **INDEX_LAST)[:1500],
        Truncated,
        ("ends inside its index (moov): 1,500 of at least",),
    ),
    "no_index.mp4": (
        lambda: film("mp4", **INDEX_LAST).replace(b"moov", b"xoov"),
        Truncated,
        ("no index (moov)", "not finished"),
    ),
    "bad_index.mp4": (
        lambda: film("mp4").replace(b"stsz", b"xtsz").replace(b"stco", b"xtco"),
        SourceError,
        ("index (moov) is damaged",),
    ),
    "headers.mkv": (
        lambda: film("mkv")[:700],
        Truncated,
        ("holds no packets", "get the whole file again"),
    ),
    "begun.mkv": (
        lambda: film("mkv")[:30],
        Truncated,
        ("begins as Matroska", "get the whole file again"),
    ),
}


def why(path: Path) -> SourceError:
    with pytest.raises(SourceError) as caught:
        open_reader(str(path), Decode())
    return caught.value


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path, name: str) -> None:
    build, kind, says = CASES[name]
    path = tmp_path / name
    path.write_bytes(build())
    error = why(path)
    assert type(error) is kind, error
    message = str(error).removeprefix(f"{path}: ")
    assert "\n" not in message and len(message) < 300
    for part in says:
        assert part in message
    assert not is_bare(message)


@pytest.mark.parametrize(
    "name", ["page.mp4", "cut.mp4", "cenc.mp4", "codec.mp4", "headers.mkv", "pay.ts"]
)
def test_an_open_file_is_told_the_same_as_a_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(CASES[name][0]())
    with path.open("rb") as file, pytest.raises(SourceError) as caught:
        PyAVReader(file, str(path))
    assert str(caught.value) == str(why(path))


def is_bare(message: str) -> bool:
    """Whether a text of the library stands outside brackets."""
    outside = re.sub(r"\([^()]*\)", "", message)
    return any(text in outside for text in LIBRARY_TEXTS)


def clear_lead() -> bytes:
    """Fragments of one keyframe each, all of an encrypted track: the samples of the first are in
    the clear, and their `senc` says so.
    """
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    clear, data = (
        film("mp4", frames=36, **options),
        bytearray(film("mp4", frames=36, **options, **KEY)),
    )
    place, source = data.index(b"mdat"), clear.index(b"mdat")
    (size,) = struct.unpack(">I", data[place - 4 : place])
    assert clear[source - 4 : source] == data[place - 4 : place]
    data[place : place + size - 4] = clear[source : source + size - 4]
    at = data.index(b"senc") + 8
    (count,) = struct.unpack(">I", data[at : at + 4])
    at += 4
    for _ in range(count):
        (num,) = struct.unpack(">H", data[at + 8 : at + 10])
        at += 10
        for _ in range(num):
            open_bytes, protected = struct.unpack(">HI", data[at : at + 6])
            data[at : at + 6] = struct.pack(">HI", open_bytes + protected, 0)
            at += 6
    return bytes(data)


def test_a_clear_beginning_stands_and_the_encrypted_rest_is_a_fault(tmp_path: Path) -> None:
    """Packets that are marked as encrypted are not given to the decoder, which would show noise."""
    (tmp_path / "a.mp4").write_bytes(clear_lead())
    items = list(open_reader(str(tmp_path / "a.mp4"), Decode()).frames())
    faults = [item for item in items if isinstance(item, Fault)]
    assert len(items) - len(faults) == 12
    assert (faults[0].kind, faults[0].message, faults[0].time_ns) == (
        "Encrypted",
        reasons.NO_KEY,
        12 * 40_000_000,
    )


def test_a_damaged_packet_is_said_in_words(tmp_path: Path) -> None:
    data = bytearray(film("mp4", frames=40))
    with av.open(io.BytesIO(bytes(data))) as container:
        packet = [p for p in container.demux(video=0) if p.size][20]
        data[packet.pos + 12 : packet.pos + packet.size] = bytes(packet.size - 12)
    (tmp_path / "a.mp4").write_bytes(data)
    faults = [
        item
        for item in open_reader(str(tmp_path / "a.mp4"), Decode()).frames()
        if isinstance(item, Fault)
    ]
    assert faults and faults[0].kind == "InvalidDataError"
    assert "damaged data: the h264 decoder refuses a packet (Invalid data" in faults[0].message
    assert not is_bare(faults[0].message)


def test_an_open_file_is_read_on_after_a_damaged_packet(tmp_path: Path) -> None:
    """To say why, the index is looked at through the very file that the container reads."""
    noise = np.random.default_rng(0).integers(0, 255, (36, 360, 640, 3), np.uint8)
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as target:
        stream = target.add_stream("mpeg4", rate=25, options={"g": "6", "qscale": "2"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for picture in noise:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        target.mux(stream.encode())
    data = bytearray(out.getvalue())
    with av.open(io.BytesIO(bytes(data))) as container:
        packet = [p for p in container.demux(video=0) if p.size][8]
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    (tmp_path / "a.mp4").write_bytes(data)

    def read(file: object) -> list[object]:
        reader = PyAVReader(file, "a.mp4")
        items = [item if isinstance(item, Fault) else item.time_ns for item in reader.frames()]
        reader.close()
        return items

    with (tmp_path / "a.mp4").open("rb") as file:
        items = read(file)
    assert items == read(str(tmp_path / "a.mp4"))
    assert sum(isinstance(item, Fault) for item in items) == 1 and len(items) > 28


def test_a_codec_that_a_newer_pyav_reads_is_said_to_need_it(tmp_path: Path) -> None:
    """This PyAV has the decoder, so the words are asked for by themselves."""
    (tmp_path / "a.mp4").write_bytes(renamed("mp4", "libx264", b"avc1", b"vvc1"))
    error = reasons.without_decoder(str(tmp_path / "a.mp4"), "a.mp4")
    assert "no decoder for H.266 (vvc1)" in str(error) and "H.266 needs PyAV 17" in str(error)
