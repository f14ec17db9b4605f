"""Containers that PyAV cannot write: several films in one, Matroska's crop, Dolby Vision's record,
programs of a transport stream. Elements, boxes and tables are put in by hand."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

NO_FLAGS = Disposition(0)


@dataclass(frozen=True)
class Film:
    """A film of noise that moves, or sound (`codec` aac), as one stream of a container."""

    codec: str = "libx264"
    width: int = 160
    height: int = 90
    num_frames: int = 25
    flags: Disposition = NO_FLAGS
    pix_fmt: str = "yuv420p"
    level: int = 100


PICTURE = Film("mjpeg", 64, 48, 1, pix_fmt="yuvj420p")
SOUND = Film("aac")


def write(path: Path, *films: Film, **options: str) -> Path:
    """Writes the films side by side, in their order."""
    with av.open(str(path), "w", options=options) as container:
        streams = []
        for film in films:
            stream = container.add_stream(film.codec, rate=48_000 if film.codec == "aac" else 25)
            if film.codec != "aac":
                stream.width, stream.height, stream.pix_fmt = film.width, film.height, film.pix_fmt
            stream.disposition = film.flags
            streams.append(stream)
        for stream, film in zip(streams, films, strict=True):
            for number in range(film.num_frames):
                frame = _sound(number) if film.codec == "aac" else _picture(film, number)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


def _picture(film: Film, number: int) -> av.VideoFrame:
    noise = np.random.default_rng(7).integers(-60, 60, (film.height, film.width, 1))
    array = np.roll(film.level + noise, 2 * number, 1).repeat(3, 2).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(array, format="rgb24")
    frame.pts, frame.time_base = number, Fraction(1, 25)
    return frame


def _sound(number: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = 48_000, number * 1024, Fraction(1, 48_000)
    return frame


def copied(source: Path, target: Path) -> Path:
    """The same streams in another container."""
    with av.open(str(source)) as given, av.open(str(target), "w") as container:
        streams = {
            s.index: container.add_stream_from_template(s, opaque=True) for s in given.streams
        }
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                container.mux(packet)
    return target


# Matroska: EBML elements, RFC 8794.


def cropped_mkv(source: Path, target: Path, **crop: int) -> Path:
    """A copy of a Matroska file with PixelCrop* (top, bottom, left, right) or Display* (width,
    height) in its first track, as mkvpropedit sets them."""
    ids = {"top": "54bb", "bottom": "54aa", "left": "54cc", "right": "54dd"}
    ids |= {"width": "54b0", "height": "54ba", "unit": "54b2"}
    crop |= {"unit": 0} if "width" in crop else {}
    new = {bytes.fromhex(ids[k]): v for k, v in crop.items()}
    video = b"\xe0"

    def changed(body: bytes, inside: list[bytes]) -> bytes:
        parts = []
        for name, content in elements(body):
            if inside and name == inside[0]:
                content, inside = changed(content, inside[1:]), []
            elif not inside and name in new:
                continue
            parts.append(element(name, content))
        if not inside and body and is_video(body):
            parts += [element(name, value.to_bytes(2, "big")) for name, value in new.items()]
        return b"".join(parts)

    def is_video(body: bytes) -> bool:
        return any(name == b"\xb0" for name, _ in elements(body))

    segment, tracks, track = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae"
    data = changed(source.read_bytes(), [segment, tracks, track, video])
    target.write_bytes(data)
    return target


def elements(data: bytes) -> list[tuple[bytes, bytes]]:
    """Elements that lie side by side."""
    found, at = [], 0
    while at < len(data):
        length = 9 - data[at].bit_length()
        name, at = data[at : at + length], at + length
        length = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
        is_unknown, at = size == (1 << 7 * length) - 1, at + length
        end = len(data) if is_unknown else at + size
        found.append((name, data[at:end]))
        at = end
    return found


def element(name: bytes, content: bytes) -> bytes:
    return name + ((1 << 56) | len(content)).to_bytes(8, "big") + content


# MP4: boxes, ISO/IEC 14496-12.

PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


def with_box(source: Path, target: Path, box: bytes, track: int = 0) -> Path:
    """A copy of an MP4 whose index is at the end, with a box more in a track's sample entry."""
    data = source.read_bytes()
    starts, low, high = [], 0, len(data)
    for name in (*PATH, None):
        at, skipped = low, track if name == b"trak" else 0
        while (data[at + 4 : at + 8] != name and name is not None) or skipped:
            skipped -= data[at + 4 : at + 8] == name
            at += struct.unpack(">I", data[at : at + 4])[0]
            assert at < high, name
        starts.append(at)
        high = at + struct.unpack(">I", data[at : at + 4])[0]
        low = at + 8 + (8 if name == b"stsd" else 0)
    changed = bytearray(data[:high] + box + data[high:])
    for at in starts:
        size = struct.unpack(">I", changed[at : at + 4])[0] + len(box)
        changed[at : at + 4] = struct.pack(">I", size)
    target.write_bytes(changed)
    return target


def dolby_vision(profile: int, compatibility: int, layers: int = 0b101) -> bytes:
    """The record's box in MP4."""
    record = dolby_vision_record(profile, compatibility, layers) + bytes(19)
    return struct.pack(">I", 8 + len(record)) + (b"dvcC" if profile < 8 else b"dvvC") + record


def dolby_vision_record(profile: int, compatibility: int, layers: int = 0b101) -> bytes:
    """The configuration; `layers`: metadata, enhancement layer, base layer."""
    return bytes([1, 0, profile << 1, 1 << 3 | layers, compatibility << 4])


def clean_aperture(width: int, height: int, left_of_middle: int = 0) -> bytes:
    values = (width, 1, height, 1, -left_of_middle & 0xFFFFFFFF, 2, 0, 1)
    return struct.pack(">I4s8I", 40, b"clap", *values)


# Transport streams: ISO/IEC 13818-1.


def in_programs(
    source: Path, target: Path, *programs: tuple[int, ...], descriptor: bytes = b""
) -> Path:
    """A copy of a transport stream whose streams (by index) are divided among programs; the first
    stream of each gets the descriptor."""
    packets = source.read_bytes()
    packets = [packets[at : at + 188] for at in range(0, len(packets), 188)]
    pmt_pid = next(_pid(p) for p in packets if _pid(p) >= 0x1000 or _is_table(p, 2))
    table = _section(next(p for p in packets if _pid(p) == pmt_pid))
    streams = _streams(table)
    pids = [0x1500 + k for k in range(len(programs))]
    pat = table_packet(0, 0, b"".join(struct.pack(">HH", k + 1, 0xE000 | p) for k, p in enumerate(pids)))
    out = []
    for packet in packets:
        if _pid(packet) == 0:
            out.append(pat)
        elif _pid(packet) == pmt_pid:
            for number, (pid, indexes) in enumerate(zip(pids, programs, strict=True), 1):
                own = [streams[i] for i in indexes]
                size = (struct.unpack(">H", own[0][3:5])[0] & 0xFFF) + len(descriptor)
                own[0] = own[0][:3] + struct.pack(">H", 0xF000 | size) + own[0][5:] + descriptor
                clock = struct.unpack(">H", own[0][1:3])[0]
                body = struct.pack(">HH", clock, 0xF000) + b"".join(own)
                out.append(table_packet(pid, 2, body, number))
        else:
            out.append(packet)
    target.write_bytes(b"".join(out))
    return target


def table_packet(pid: int, table: int, body: bytes, number: int = 1) -> bytes:
    """One packet that holds one section, with its checksum."""
    section = struct.pack(">BHHBBB", table, 0xB000 | len(body) + 9, number, 0xC1, 0, 0) + body
    section += struct.pack(">I", crc32_mpeg(section))
    return (struct.pack(">BHBB", 0x47, 0x4000 | pid, 0x10, 0) + section).ljust(188, b"\xff")


def crc32_mpeg(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 1 << 31 else crc << 1) & 0xFFFFFFFF
    return crc


def _pid(packet: bytes) -> int:
    return struct.unpack(">H", packet[1:3])[0] & 0x1FFF


def _is_table(packet: bytes, number: int) -> bool:
    return bool(packet[1] & 0x40) and packet[4] == 0 and packet[5] == number


def _section(packet: bytes) -> bytes:
    size = struct.unpack(">H", packet[6:8])[0] & 0xFFF
    return packet[5 : 8 + size]


def _streams(table: bytes) -> list[bytes]:
    """Entries of a program's table: type, packet identifier, descriptors."""
    at = 12 + (struct.unpack(">H", table[10:12])[0] & 0xFFF)
    found = []
    while at < len(table) - 4:
        size = 5 + (struct.unpack(">H", table[at + 3 : at + 5])[0] & 0xFFF)
        found.append(table[at : at + size])
        at += size
    return found
