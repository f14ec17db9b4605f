"""Why a source cannot be read, in one line that says what to do. The library's own text stands in
brackets, never alone.

Everything is told when a source has failed: from its streams, and from a few kilobytes of the
file, which are read then.
"""

import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import av
from av.container import InputContainer
from av.stream import Stream

from curate.errors import (
    DolbyVisionOnly,
    Encrypted,
    NoDecoder,
    NotMedia,
    NoVideo,
    SourceError,
    Truncated,
)
from curate.media.boxes import MAX_BOXES, IsoBox, box_at, read_at
from curate.media.contents import HEAD_BYTES, container_of, is_scrambled, other_contents

MAX_INDEX_BYTES = 1 << 22  # of an MP4's index that are searched
SCRAMBLED_BYTES = 1 << 20  # of a transport stream whose packets are looked at
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp", ".!qb", ".!ut")
GET_IT_AGAIN = "get the whole file again"
NO_KEY = "encrypted: no key; get a copy without protection"
# Codecs by the name that a container gives them, where FFmpeg knows none or its name says little.
CODECS = {
    "vvc1": "H.266",
    "vvi1": "H.266",
    "V_MPEGI/ISO/VVC": "H.266",
    "dav1": "Dolby Vision over AV1",
    "evc1": "MPEG-5 EVC",
    "lvc1": "MPEG-5 LCEVC",
    "avs3": "AVS3",
    "apv1": "APV",
    "jxsm": "JPEG XS",
}
# Pillow is installed with us. It takes the first duration for 0 where none are given.
NO_ANIMATED_WEBP = (
    f"animated WebP is not decoded by FFmpeg {av.ffmpeg_version_info}: convert it to animated PNG "
    "with every picture and its time, python -c \"import sys; from PIL import Image, ImageSequence; "
    "f = [(i.copy(), i.info['duration']) for i in ImageSequence.Iterator(Image.open(sys.argv[1]))]; "
    "f[0][0].save(sys.argv[2], save_all=True, append_images=[i for i, _ in f[1:]], "
    'duration=[d for _, d in f])" film.webp film.apng, and where it should be smaller that to MP4 '
    "with ffmpeg -i film.apng -fps_mode vfr -pix_fmt yuv420p film.mp4"
)
WITH_PYAV = {"H.266": 17, "APV": 17}  # whose wheels on the package index decode them
ENCRYPTED_ENTRIES = (b"encv", b"drmi")  # sample entries of ISO/IEC 14496-12, 8.12, and of iTunes


def not_opened(file: object, name: str, error: Exception) -> SourceError:
    """What to raise where no demuxer opens a file."""
    said = _said(error)
    with reopened(file) as opened:
        if opened is None:
            return SourceError(f"{name}: cannot be opened: {_system_reason(error)}")
        size = opened.seek(0, 2)
        head = read_at(opened, 0, HEAD_BYTES)
        if not head:
            return Truncated(f"{name}: cannot be opened: the file is empty: {GET_IT_AGAIN}")
        if contents := other_contents(head):
            return (NoVideo if contents.is_sound else NotMedia)(
                f"{name}: cannot be opened: {contents.text}"
            )
        container = container_of(head)
        if container == "MP4":
            return _mp4_not_opened(opened, size, name, said)
        if is_scrambled(read_at(opened, 0, SCRAMBLED_BYTES)):
            return encrypted(name, " (its transport stream is scrambled)")
    if container:
        text = (
            f"it begins as {container}, but its headers are damaged or cut off ({said}): "
            f"{GET_IT_AGAIN}"
        )
        return Truncated(f"{name}: cannot be opened: {_unfinished(name)}{text}")
    text = (
        f"it is no media file of a format that is read ({said}): convert it to MP4 or Matroska, "
        "or leave it out of the input"
    )
    return NotMedia(f"{name}: cannot be opened: {_unfinished(name)}{text}")


def without_video(name: str, streams: list[Stream]) -> SourceError:
    """What to raise for a container without a video stream."""
    kinds = {stream.type for stream in streams}
    has_cover = "video" in kinds
    if not kinds:
        text = f"its headers name no stream: the file was cut off in them; {GET_IT_AGAIN}"
        return Truncated(f"{name}: no video stream: {text}")
    if "audio" in kinds:
        codecs = sorted(
            {
                stream.codec_context.name
                for stream in streams
                if stream.type == "audio" and _has_codec(stream)
            }
        )
        what = (
            "sound only"
            + (f" ({', '.join(codecs)})" if codecs else "")
            + (" with a cover picture" if has_cover else "")
        )
    elif has_cover:
        what = "a cover picture only"
    elif "subtitle" in kinds:
        what = "subtitles only"
    else:
        what = (
            f"only {' and '.join(sorted(kinds))} streams, of no codec that FFmpeg "
            f"{av.ffmpeg_version_info} knows"
        )
    return NoVideo(f"{name}: {what}, no video stream: leave it out of the input")


def without_decoder(file: object, name: str) -> SourceError:
    """What to raise for a video stream that no decoder is built for."""
    with reopened(file) as opened:
        tag = _codec_tag(opened) if opened else None
    codec = CODECS.get(tag or "", tag or "this video codec")
    called = f"{codec} ({tag})" if tag and codec != tag else codec
    newer = WITH_PYAV.get(codec)
    remedy = (
        f"{codec} needs PyAV {newer} as the package index has it"
        if newer
        else "convert it to H.264, VP9 or AV1 with what plays it"
    )
    return NoDecoder(
        f"{name}: no decoder for {called} in PyAV {av.__version__} (FFmpeg "
        f"{av.ffmpeg_version_info}): {remedy}"
    )


def animated_webp(name: str) -> SourceError:
    """What to raise for an animation of which FFmpeg shows nothing, or one picture."""
    return NoDecoder(f"{name}: {NO_ANIMATED_WEBP}")


def dolby_vision_only(name: str, profile: int) -> SourceError:
    """What to raise for a base layer that only Dolby Vision's own metadata give colours."""
    return DolbyVisionOnly(
        f"{name}: Dolby Vision profile {profile}: its colours (IPT-PQ-c2) are right only after "
        "Dolby Vision's own processing, which FFmpeg's decoders leave out: convert it with ffmpeg "
        "-i IN -vf libplacebo=apply_dolbyvision=1:colorspace=bt709:color_primaries=bt709:"
        "color_trc=bt709:range=limited:format=yuv420p OUT.mp4, or get a copy of profile 8"
    )


def encrypted(name: str, how: str = "") -> SourceError:
    """What to raise where all pictures are encrypted."""
    return Encrypted(f"{name}: {NO_KEY}{how}")


def without_frames(
    file: object, name: str, codec: str, num_packets: int, why: str | None
) -> SourceError:
    """What to raise where not one picture was decoded; `why` is what was first wrong."""
    with reopened(file) as opened:
        head = read_at(opened, 0, SCRAMBLED_BYTES) if opened else b""
        if is_scrambled(head):
            return encrypted(name, " (its transport stream is scrambled)")
        is_headers = (
            bool(opened)
            and container_of(head) == "MP4"
            and _is_headers_only(cast(BinaryIO, opened))
        )
    begun = f"{name}: no frame could be decoded: "
    if num_packets:
        none = f"none of its {num_packets} packets gives a picture"
        none += (
            f" to the {codec} decoder: they are damaged, or its edit list leaves them out; "
            f"{GET_IT_AGAIN}"
        )
        return SourceError(begun + (why or none))
    if is_headers:
        return NoVideo(
            f"{begun}it is the beginning of a stream that comes in segments (moov without media): "
            "join it with them"
        )
    if why:
        return SourceError(begun + why)
    text = (
        "the video stream holds no packets: the file was cut off after its headers, or nothing "
        "was recorded"
    )
    return Truncated(f"{begun}{text}; {GET_IT_AGAIN}")


def damaged(
    codec: str, container: str, packet: av.Packet, error: Exception | None, line: str | None
) -> str:
    """What to say of a packet that the decoder refuses (`error`), complains about (a `line` of its
    log), or that was marked as corrupt on the way.
    """
    said = _said(error) if error is not None else line or "marked as corrupt"
    if codec == "webp":
        return f"{NO_ANIMATED_WEBP} ({said})"
    if isinstance(error, av.error.PatchWelcomeError):
        return (
            f"the {codec} decoder lacks what this video uses ({said}): convert it, or update PyAV"
        )
    if packet.is_corrupt and not container.startswith("mpegts"):
        return f"the file breaks off inside a picture ({codec}: {said}); {GET_IT_AGAIN}"
    if packet.is_corrupt:
        return f"packets were lost in recording or on the way ({codec}: {said})"
    if error is None:
        return f"damaged data: the {codec} decoder says: {said}"
    return (
        f"damaged data: the {codec} decoder refuses a packet ({said}); get the file again if "
        "there is a better copy"
    )


def broken_container(container: str, error: Exception) -> str:
    """What to say where a demuxer cannot go on."""
    if isinstance(error, av.error.InvalidDataError | av.error.EOFError):
        return (
            f"damaged data: the container ({container}) cannot be read on ({_said(error)}); "
            f"{GET_IT_AGAIN}"
        )
    return f"reading fails ({_said(error)}): check the disk or the network, then `curate retry`"


def unexpected(error: Exception) -> str:
    """What to say of an exception that no reader should raise."""
    said = f"{type(error).__name__}: {_said(error)}"
    return (
        f"PyAV {av.__version__} fails on this file ({said}): convert it, or report it with the file"
    )


def is_encrypted(container: InputContainer, stream: Stream) -> bool:
    """Tells whether the container says that its pictures are encrypted: Matroska's
    ContentEncKeyID, ASF's content encryption.
    """
    return "enc_key_id" in stream.metadata or not {"ASF_Protection_Type", "encryption"}.isdisjoint(
        container.metadata
    )


def is_protected(packet: av.Packet) -> bool:
    """Tells whether any byte of a packet is encrypted, by the side data that FFmpeg's demuxers add
    (libavutil/encryption_info.c).
    """
    if not packet.has_sidedata("encryption_info"):
        return False
    data = bytes(packet.get_sidedata("encryption_info"))
    _, _, _, key_bytes, iv_bytes, count = struct.unpack(">6I", data[:24])
    start = 24 + key_bytes + iv_bytes
    subsamples = struct.iter_unpack(">2I", data[start : start + 8 * count])
    return count == 0 or any(protected for _, protected in subsamples)


def is_encrypted_mp4(file: object) -> bool:
    """Tells whether an MP4's index has encrypted sample entries, whatever the packets say. Leaves
    the file where it was.
    """
    with reopened(file) as opened:
        return opened is not None and any(entry in _index(opened) for entry in ENCRYPTED_ENTRIES)


def _mp4_not_opened(file: BinaryIO, size: int, name: str, said: str) -> SourceError:
    """Looks for the index (`moov`) among the boxes of the file."""
    begun = f"{name}: cannot be opened: {_unfinished(name)}"
    kinds, broken = _top_level(file, size)
    is_index = broken is not None and broken.kind == b"moov"
    if broken and broken.end > size and (is_index or kinds.isdisjoint({"moov", "moof"})):
        text = (
            f"it ends {'inside' if is_index else 'before'} its index (moov): {size:,} of at least "
            f"{broken.end:,} bytes are there"
        )
        return Truncated(f"{begun}{text}; {GET_IT_AGAIN}")
    if "moov" in kinds or "moof" in kinds:
        if any(entry in _index(file) for entry in ENCRYPTED_ENTRIES):
            return encrypted(name, f" (its index cannot be read: {said})")
        if "moov" not in kinds:
            return NoVideo(
                f"{begun}it is a segment of a stream (moof without moov): join it with the "
                "stream's first segment"
            )
        return SourceError(f"{begun}its index (moov) is damaged ({said}): {GET_IT_AGAIN}")
    if broken is None:
        text = (
            "it has no index (moov): the recording was not finished, or the file was cut off "
            f"({said}); {GET_IT_AGAIN}"
        )
        return Truncated(f"{begun}{text}, or repair it with a tool that rebuilds the index")
    return SourceError(
        f"{begun}no MP4 box at byte {broken.start:,}, where one should be ({said}): {GET_IT_AGAIN}"
    )


def _top_level(file: BinaryIO, size: int) -> tuple[set[str], IsoBox | None]:
    """Kinds of the boxes from the start on, and the first that does not fit into the file, or is
    none.
    """
    kinds: set[str] = set()
    at = 0
    for _ in range(MAX_BOXES):
        if at >= size:
            break
        box = box_at(file, at, size)
        if box is None:
            return kinds, IsoBox(b"", at, at)
        kinds.add(box.kind.decode("latin-1"))
        if box.end > size:
            return kinds, box
        at = box.end
    return kinds, None


def _is_headers_only(file: BinaryIO) -> bool:
    kinds, _ = _top_level(file, file.seek(0, 2))
    return "moov" in kinds and kinds.isdisjoint({"mdat", "moof"})


def _index(file: BinaryIO) -> bytes:
    """The beginning of what an MP4's `moov` holds; empty where there is none."""
    size, at = file.seek(0, 2), 0
    for _ in range(MAX_BOXES):
        box = box_at(file, at, size)
        if box is None or box.end <= at:
            return b""
        if box.kind == b"moov":
            return read_at(file, box.start, min(MAX_INDEX_BYTES, box.end - box.start))
        at = box.end
    return b""


def _codec_tag(file: BinaryIO) -> str | None:
    """What the container calls its video codec."""
    head = read_at(file, 0, HEAD_BYTES)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        found = re.search(rb"\x86[\x80-\xff](V_[A-Z0-9/_]+)", head)
        return found[1].decode() if found else None
    if head.startswith(b"RIFF"):
        at = head.find(b"vids")
        return _printable(head[at + 4 : at + 8]) if at >= 0 else None
    index, handler = _index(file), b""
    for found in re.finditer(
        rb"hdlr.{8}(vide|soun|text|sbtl|subt|hint|tmcd|meta)|stsd.{12}(.{4})", index, re.DOTALL
    ):
        if found[1]:
            handler = found[1]
        elif handler == b"vide":
            return _printable(found[2])
    return None


def _printable(tag: bytes) -> str | None:
    text = tag.decode("latin-1").strip()
    return text if text.isprintable() and text else None


@contextmanager
def reopened(file: object) -> Iterator[BinaryIO | None]:
    """The file for another look, None where it cannot be had. One that was handed in open is left
    where it was.
    """
    if isinstance(file, str):
        try:
            opened = open(file, "rb")  # noqa: SIM115  closed below
        except OSError:
            yield None
            return
        with opened:
            yield opened
        return
    handed = cast(BinaryIO, file)
    at = handed.tell()
    yield handed
    handed.seek(at)


def _has_codec(stream: Stream) -> bool:
    return getattr(stream, "codec_context", None) is not None


def _unfinished(name: str) -> str:
    ending = os.path.splitext(name)[1].lower()
    return f"it is an unfinished download ({ending}): " if ending in UNFINISHED else ""


def _system_reason(error: Exception) -> str:
    said = _said(error)
    if isinstance(error, FileNotFoundError):
        return (
            f"it does not exist ({said}): it was removed after it was listed, or its link leads "
            "nowhere"
        )
    if isinstance(error, PermissionError):
        return f"it may not be read ({said}): check its permissions"
    if isinstance(error, IsADirectoryError):
        return f"it is a folder ({said}): name it as the input, or leave it out"
    return f"the system does not open it ({said})"


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
