"""Decoding ahead in a thread of its own, so that a second core decodes while the pass looks at what has been decoded.

FFmpeg and OpenCV let go of Python's lock while they work, so decoding and the rest of the pass overlap. Threads inside the decoder would
help less (most H.264 has one slice a frame) and change what is seen of damaged files. What comes out here is what the reader alone
gives, item by item: packets and the end of the last frame are handed over with the item that followed them.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from curate.clip import Fault
from curate.media.decode import DecodedFrame, Reader
from curate.media.packets import PacketAccount, PacketIndex

MAX_AHEAD_BYTES = 48_000_000  # of decoded pictures: 34 frames of 720p, enough to decode on while a clip is scored
MAX_AHEAD_FRAMES = 64


@dataclass(frozen=True, slots=True, eq=False)
class _Handed:
    """What the reader knew when it gave an item; `item` is None after the last."""

    item: DecodedFrame | Fault | None
    packets: PacketIndex
    end_ns: int | None
    error: BaseException | None = None


class AheadReader:
    """A `Reader` around another one, which belongs to the thread from `frames()` on."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.probe = reader.probe
        self.end_ns: int | None = None
        self.packets = reader.packets.taken()
        self._stops = threading.Event()
        self._room = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    def frames(self) -> Iterator[DecodedFrame | Fault]:
        handed: queue.SimpleQueue[_Handed] = queue.SimpleQueue()
        frames = self._reader.frames()
        for item in frames:
            # The first items are taken here: a picture's size says how many fit.
            self._follow(_Handed(item, self._reader.packets.taken(), self._reader.end_ns))
            yield item
            if isinstance(item, DecodedFrame):
                num_ahead = max(2, min(MAX_AHEAD_FRAMES, MAX_AHEAD_BYTES // max(1, item.picture.num_bytes)))
                self._room.release(num_ahead)
                break
        self._thread = threading.Thread(target=self._decode, args=(frames, handed), name="decode ahead", daemon=True)
        self._thread.start()
        while (one := handed.get()).item is not None:
            self._follow(one)
            yield one.item
            self._room.release()
        self._follow(one)
        if one.error is not None:
            raise one.error

    def account(self) -> PacketAccount | None:
        return self._reader.account()

    def close(self) -> None:
        self._stops.set()
        self._room.release()
        if self._thread is not None:
            self._thread.join()
        self._reader.close()

    def _follow(self, one: _Handed) -> None:
        self.packets.join(one.packets)
        self.end_ns = one.end_ns

    def _decode(self, frames: Iterator[DecodedFrame | Fault], handed: "queue.SimpleQueue[_Handed]") -> None:
        error: BaseException | None = None
        try:
            for item in frames:
                self._room.acquire()
                if self._stops.is_set():
                    return
                handed.put(_Handed(item, self._reader.packets.taken(), self._reader.end_ns))
        except BaseException as caught:  # noqa: BLE001  raised again where the frames are taken
            error = caught
        handed.put(_Handed(None, self._reader.packets.taken(), self._reader.end_ns, error))
