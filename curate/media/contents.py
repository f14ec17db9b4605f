"""What a file is that is no video: told by its first bytes, in words that say what to do.

Signatures are those of the formats' own specifications, as `file` (libmagic) knows them.
"""

import re
from dataclasses import dataclass

HEAD_BYTES = 1 << 16
# Brands of ISO files that hold pictures (ISO/IEC 23008-12, AVIF).
IMAGE_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"avif": "AVIF"}
ISO_BOXES = frozenset(b"ftyp moov mdat free skip wide uuid styp pnot moof sidx".split())
PICTURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
)
SOUNDS = (
    (b"ID3", "MP3"),
    (b"fLaC", "FLAC"),
    (b"\xff\xfb", "MP3"),
    (b"\xff\xf1", "AAC"),
    (b"FORM", "AIFF"),
    (b"#!AMR", "AMR"),
)
ARCHIVES = (
    (b"PK\x03\x04", "ZIP"),
    (b"Rar!\x1a", "RAR"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
)
OTHERS = (
    (b"%PDF", "a PDF document"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
)
PLAYLISTS = (
    (b"#extm3u", "HLS or M3U"),
    (b"ffconcat", "FFmpeg concat"),
    (b"[playlist]", "PLS"),
    (b"v=0\r\no=", "SDP"),
    (b"v=0\no=", "SDP"),
    (b"<smil", "SMIL"),
    (b"<asx", "ASX"),
    (b"<mpd", "DASH"),
    (b"<playlist", "XSPF"),
    (b"<smoothstreamingmedia", "Smooth Streaming"),
)
CONTAINERS = (
    (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (b"FLV\x01", "FLV"),
    (b"\x30\x26\xb2\x75", "ASF (WMV)"),
    (b"OggS", "Ogg"),
    (b"\0\0\x01\xba", "MPEG program stream"),
    (b"\x06\x0e\x2b\x34", "MXF"),
    (b"DKIF", "IVF"),
)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file is instead of a video; `is_sound` where it is a media file all the same."""

    text: str
    is_sound: bool = False


def other_contents(head: bytes) -> Contents | None:
    """Names what is no video by its first `HEAD_BYTES`; None for what may be one."""
    if not head.strip(b"\0"):
        return Contents(
            "it begins with zeros: the download or copy never wrote them; get the file again"
        )
    if head[4:8] == b"ftyp" and (image := IMAGE_BRANDS.get(head[8:12])):
        return Contents(_picture(image))
    if head.startswith(b"RIFF") and head[8:12] in (b"WEBP", b"WAVE"):
        return (
            Contents(_picture("WebP"))
            if head[8:12] == b"WEBP"
            else Contents(_sound("WAV"), is_sound=True)
        )
    if head[:3] in (b"FWS", b"CWS", b"ZWS"):
        return Contents(
            "it is a Flash program (SWF), which draws and does not hold a film: record it from a "
            "Flash player"
        )
    for signatures, words in ((PICTURES, _picture), (ARCHIVES, _archive), (OTHERS, _other)):
        if kind := _begins(head, signatures):
            return Contents(words(kind))
    if kind := _begins(head, SOUNDS):
        return Contents(_sound(kind), is_sound=True)
    if head[257:262] == b"ustar":
        return Contents(_archive("tar"))
    return _text(head)


def container_of(head: bytes) -> str | None:
    """The container that a file begins as."""
    if head[4:8] in ISO_BOXES:
        return "MP4"
    if head.startswith(b"RIFF"):
        return "AVI" if head[8:12] in (b"AVI ", b"AVIX") else None
    if head[:1] == b"G" and head[188:189] == b"G":
        return "MPEG transport stream"
    return _begins(head, CONTAINERS)


def is_scrambled(data: bytes) -> bool:
    """Tells whether most packets of a transport stream that carry a payload are scrambled (ISO/IEC
    13818-1, 2.4.3.3).
    """
    first = next(
        (
            n
            for n in range(min(len(data), 204))
            if data[n : n + 1] == data[n + 188 : n + 189] == b"G"
        ),
        None,
    )
    if first is None:
        return False
    flags = [
        data[at + 3]
        for at in range(first, len(data) - 4, 188)
        if data[at] == 0x47 and data[at + 3] & 0x10
    ]
    return sum(flag >= 0x80 for flag in flags) > len(flags) / 2


def _text(head: bytes) -> Contents | None:
    """Names texts: pages and answers of servers, playlists, pointers to files that lie
    elsewhere.
    """
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    lowered = start[:4096].lower()
    if start.startswith(b"version https://git-lfs"):
        return Contents(
            "it is a pointer of Git LFS and not the file: run `git lfs pull` where it was cloned"
        )
    if start.startswith((b"/annex/", b"../.git/annex/", b".git/annex/")):
        return Contents(
            "it is a pointer of git-annex and not the file: run `git annex get` where it was cloned"
        )
    body = re.sub(rb"^<\?xml[^>]*>\s*(<!--.*?-->\s*)*", b"", lowered, flags=re.DOTALL)
    if kind := _begins(body, PLAYLISTS):
        return Contents(
            f"it is a playlist ({kind}), which is refused since it opens other files: download "
            "the video that it names"
        )
    if body.startswith((b"<!doctype html", b"<html")) or b"<body" in body:
        return Contents(
            f"it is a web page{_title(start)} and no video: the download got an error or a login "
            "page; download it again"
        )
    if code := re.search(rb"<error>.{0,200}?<code>(\w+)</code>", body, re.DOTALL):
        name = start[start.lower().index(code[1]) :][: len(code[1])].decode()
        return Contents(
            f"it is a storage's answer that it gives no file ({name}): check address and "
            "credentials, and download it again"
        )
    if not _is_text(head):
        return None
    kinds = (
        (b"webvtt", "subtitles (WebVTT)"),
        (b"<?xml", "an XML text"),
        (b"<", "an XML text"),
        (b"{", "a JSON text"),
    )
    kind = _begins(lowered, kinds) or "a text"
    return Contents(
        f"it is {kind} that begins {_quoted(start)}, no video: download it again, or leave it out "
        "of the input"
    )


def _is_text(head: bytes) -> bool:
    """Printable UTF-8 throughout; a character that is cut at the end of what was read does not
    count.
    """
    try:
        text = head[: max(1, len(head) - 3)].decode()
    except UnicodeDecodeError as error:
        return error.start > len(head) - 8 > 0
    return all(one.isprintable() or one in "\t\r\n\f" for one in text)


def _title(page: bytes) -> str:
    found = re.search(rb"<title[^>]*>([^<]{1,200})<|<h1[^>]*>([^<]{1,200})<", page, re.IGNORECASE)
    return f" ({_quoted(found[1] or found[2])})" if found else ""


def _quoted(text: bytes) -> str:
    words = " ".join(text[:200].decode("utf-8", "replace").split())
    return f'"{words[:40]}..."' if len(words) > 40 else f'"{words}"'


def _begins(head: bytes, signatures: tuple[tuple[bytes, str], ...]) -> str | None:
    return next((kind for start, kind in signatures if head.startswith(start)), None)


def _picture(kind: str) -> str:
    return f"it is a still picture ({kind}) and no video: leave it out of the input"


def _sound(kind: str) -> str:
    return f"sound only ({kind}), no video stream: leave it out of the input"


def _archive(kind: str) -> str:
    return f"it is an archive ({kind}): unpack it, and name what it holds as the input"


def _other(kind: str) -> str:
    return f"it is {kind} and no video: leave it out of the input"
