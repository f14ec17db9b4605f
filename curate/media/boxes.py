"""Boxes of ISO media files (ISO/IEC 14496-12): their headers, without what they hold."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_BOXES = 256  # headers read of one file


@dataclass(frozen=True, slots=True)
class IsoBox:
    """One box: its kind, where what it holds begins, and where it says that it ends."""

    kind: bytes
    start: int
    end: int


def boxes(file: BinaryIO, start: int, end: int, budget: list[int]) -> Iterator[IsoBox]:
    """Boxes that lie side by side; ends at the first that cannot be one, and where the budget of
    headers is spent.
    """
    while budget[0] > 0:
        budget[0] -= 1
        box = box_at(file, start, end)
        if box is None or box.end > end:
            return
        yield box
        start = box.end


def box_at(file: BinaryIO, start: int, end: int) -> IsoBox | None:
    """The box whose header begins there, None for bytes that are no header. It may say that it
    reaches beyond `end`.
    """
    header = read_at(file, start, 16) if start + 8 <= end else b""
    if len(header) < 8:
        return None
    length, kind = struct.unpack(">I4s", header[:8])
    head = 8
    if length == 1 and len(header) == 16:
        length, head = struct.unpack(">Q", header[8:])[0], 16
    elif length == 0:
        length = end - start
    return IsoBox(kind, start + head, start + length) if length >= head else None


def read_at(file: BinaryIO, start: int, length: int) -> bytes:
    """Up to `length` bytes from a place on."""
    file.seek(start)
    return file.read(length)
