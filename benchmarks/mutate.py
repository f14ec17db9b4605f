"""Damages files: flipped bits, runs of bytes, chunks moved or lost, early ends, lying sizes and counts, two files in one.

A mutant depends on nothing but the seeds, their order, `seed` and its number, so that any of them can be made again alone.
Numbers that say how long something is are what parsers trust most: of MP4 boxes and the tables in them, of EBML elements (Matroska), of
RIFF chunks (AVI) they are found by the names beside them; others are hit by chance with the values on which arithmetic breaks.
"""

import random
import struct
from collections.abc import Callable, Sequence

Seed = tuple[str, bytes]
"""Name, of which the ending is kept, and content."""

BOX_NAMES = (
    "ftyp moov mvhd trak tkhd edts elst mdia mdhd hdlr minf dinf dref stbl stsd stts ctts stsc stsz stco co64 stss sgpd sbgp avc1 avcC "
    "hvcC esds colr pasp clap mdat moof mfhd traf tfhd tfdt trun sidx mfra udta meta ilst free uuid mvex trex"
)
EBML_NAMES = (
    "1a45dfa3 18538067 114d9b74 1549a966 1654ae6b 1f43b675 1c53bb6b 1254c367 2ad7b1 4489 ae d7 83 86 63a2 23e383 e0 b0 ba a0 a3 a1 e7 fb "
    "55b0 536e 4484 5741"
)
RIFF_NAMES = "RIFF LIST hdrl avih strl strh strf JUNK movi idx1 00dc 00db indx"
BOXES = tuple(name.encode() for name in BOX_NAMES.split())
EBML = tuple(bytes.fromhex(name) for name in EBML_NAMES.split())
RIFF = tuple(name.encode() for name in RIFF_NAMES.split())
EDGES = (0, 1, 2, 7, 8, 15, 16, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
WIDE = (0, 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)

VINTS = (b"\x80", b"\x81", b"\xff", b"\x01" + b"\xff" * 7, b"\x01" + bytes(7), b"\x40\x00", b"\x1f\xff\xff\xfe")


def mutant(seeds: Sequence[Seed], seed: int, number: int) -> tuple[str, bytes, list[str]]:
    """Name of the seed it comes from, its bytes, and what was done to it in turn."""
    rng = random.Random(f"{seed}/{number}")
    name, content = rng.choice(seeds)
    data, done = bytearray(content), []
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        act = rng.choices(tuple(ACTS), tuple(ACTS.values()))[0]
        if act is splice:
            splice(rng, data, rng.choice(seeds)[1])
        else:
            act(rng, data)
        done.append(act.__name__)
    return name, bytes(data), done


def place(rng: random.Random, data: bytearray) -> int:
    """Headers and indexes lie at the ends of files; there most of the damage is done."""
    size = len(data)
    if size == 0:
        return 0
    kind = rng.random()
    if kind < 0.3:
        return rng.randrange(min(size, 2048))
    if kind < 0.4:
        return size - 1 - rng.randrange(min(size, 4096))
    return rng.randrange(size)


def length(rng: random.Random, most: int) -> int:
    """1 to `most`, short ones as likely as long ones."""
    return max(1, min(most, int(2 ** rng.uniform(0, max(1, most).bit_length()))))


def flip_bits(rng: random.Random, data: bytearray) -> None:
    for _ in range(length(rng, 64) if data else 0):
        data[place(rng, data)] ^= 1 << rng.randrange(8)


def set_bytes(rng: random.Random, data: bytearray) -> None:
    at, size = place(rng, data), length(rng, 4096)
    new = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size), bytes(data[at : at + 1]) * size))
    data[at : at + size] = new[: len(data[at : at + size])]


def insert_bytes(rng: random.Random, data: bytearray) -> None:
    at, size = place(rng, data), length(rng, 1024)
    data[at:at] = rng.choice((bytes(size), rng.randbytes(size)))


def delete_chunk(rng: random.Random, data: bytearray) -> None:
    at = place(rng, data)
    del data[at : at + length(rng, 65536)]


def repeat_chunk(rng: random.Random, data: bytearray) -> None:
    at = place(rng, data)
    chunk = bytes(data[at : at + length(rng, 65536)])
    to = place(rng, data)
    data[to:to] = chunk * rng.choice((1, 1, 2, 16 if len(chunk) < 4096 else 2))


def swap_chunks(rng: random.Random, data: bytearray) -> None:
    size = length(rng, 16384)
    one, other = sorted((place(rng, data), place(rng, data)))
    size = min(size, other - one, len(data) - other)
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]


def end_early(rng: random.Random, data: bytearray) -> None:
    del data[rng.choice((place(rng, data), rng.randrange(len(data) + 1))) :]


def write_number(rng: random.Random, data: bytearray) -> None:
    """A number of a common width where there may be one."""
    layout = rng.choice((">I", "<I", ">H", "<H", ">Q", "<Q", ">I"))
    value = rng.choice(WIDE if layout[1] == "Q" else EDGES) % (1 << 8 * struct.calcsize(layout))
    put(data, place(rng, data), struct.pack(layout, value))


def write_box(rng: random.Random, data: bytearray) -> None:
    """The size of an MP4 box, its name, or a number among its first ones: versions, counts of tables, times, sides."""
    at = found(rng, data, BOXES)
    if at is None or at < 4:
        write_number(rng, data)
        return
    (size,) = struct.unpack(">I", data[at - 4 : at])
    kind = rng.random()
    if kind < 0.45:
        value = rng.choice((*EDGES, size - 1, size + 1, size * 2, size // 2)) % 2**32
        put(data, at - 4, struct.pack(">I", value))
    elif kind < 0.55:
        put(data, at, rng.choice(BOXES))
    else:
        put(data, at + 4 + 4 * rng.randrange(12), struct.pack(">I", rng.choice((*EDGES, rng.getrandbits(32)))))


def write_ebml(rng: random.Random, data: bytearray) -> None:
    """The length of a Matroska element, or the first bytes of what it holds."""
    name = rng.choice(EBML)
    at = found(rng, data, (name,))
    if at is None:
        write_number(rng, data)
        return
    after = at + len(name)
    if rng.random() < 0.7:
        put(data, after, rng.choice((*VINTS, rng.randbytes(4))))
    else:
        put(data, after + 1, rng.randbytes(length(rng, 8)))


def write_riff(rng: random.Random, data: bytearray) -> None:
    """The size of an AVI chunk, or a number among its first ones."""
    at = found(rng, data, RIFF)
    if at is None:
        write_number(rng, data)
        return
    after = at + 4 if rng.random() < 0.5 else at + 8 + 4 * rng.randrange(12)
    put(data, after, struct.pack("<I", rng.choice((*EDGES, rng.getrandbits(32)))))


def splice(rng: random.Random, data: bytearray, other: bytes) -> None:
    """The beginning of one file and the end of another, or a piece of the other inside."""
    if rng.random() < 0.5:
        data[place(rng, data) :] = other[rng.randrange(len(other) + 1) :]
    else:
        at, start = place(rng, data), rng.randrange(len(other) + 1)
        data[at:at] = other[start : start + length(rng, 65536)]


def found(rng: random.Random, data: bytearray, names: Sequence[bytes]) -> int | None:
    """Where one of the names stands, by chance which and where."""
    for name in rng.sample(names, min(len(names), 6)):
        start = data.find(name, rng.choice((0, place(rng, data))))
        if start >= 0:
            return start
    return None


def put(data: bytearray, at: int, new: bytes) -> None:
    """Overwrites; never makes the file longer."""
    new = new[: max(0, len(data) - at)]
    data[at : at + len(new)] = new


ACTS: dict[Callable[..., None], int] = {
    flip_bits: 4,
    set_bytes: 3,
    insert_bytes: 1,
    delete_chunk: 2,
    repeat_chunk: 2,
    swap_chunks: 2,
    end_early: 1,
    write_number: 4,
    write_box: 5,
    write_ebml: 3,
    write_riff: 2,
    splice: 2,
}
"""What is done to a file, and how often against the others."""
