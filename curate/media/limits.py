"""What a source may cost before it is given up: hostile and broken files must not take a worker's memory, or its whole day.

Dimensions are refused before a picture is allocated, by ffmpeg itself (`max_pixels`). Length, rate and slowness are watched while frames
come: the source ends there with a fault of kind `LimitExceeded`, and the clips before it stand. Whoever takes the frames may be told
that they still come (`alive`), since a decoder that hangs in C can only be ended from outside (`pipelines.engine.ray`).
"""

import time
from collections.abc import Callable, Iterator

from curate.clip import NS_PER_S, Fault
from curate.config import Limits
from curate.errors import CurateError
from curate.media import reasons
from curate.media.decode import DecodedFrame, Reader
from curate.media.packets import PacketAccount, PacketIndex
from curate.media.probe import Probe
from curate.media.remote import SourceFile, reason

RATE_WINDOW = 10_000  # frames: the rate is looked at over so many


class LimitedReader:
    """A `Reader` around another one that ends it at the limits, and where the storage behind it fails."""

    def __init__(self, reader: Reader, limits: Limits, alive: Callable[[int | None], None], file: SourceFile | None = None) -> None:
        self._reader, self._limits, self._alive, self._file = reader, limits, alive, file
        self.probe: Probe = reader.probe
        self.packets: PacketIndex = reader.packets
        self.end_ns: int | None = None

    def frames(self) -> Iterator[DecodedFrame | Fault]:
        begun_s = time.monotonic()
        first_ns: int | None = None
        window_ns = 0
        for count, item in enumerate(self._items()):
            self._alive(self.end_ns)
            if isinstance(item, Fault):
                self.end_ns = self._reader.end_ns
                if self._file is not None and self._file.error is not None:
                    break
                yield item
                continue
            if first_ns is None:
                first_ns = window_ns = item.time_ns
            exceeded = self._exceeded(item.time_ns - first_ns, time.monotonic() - begun_s)
            if exceeded is None and count and count % RATE_WINDOW == 0:
                fps = RATE_WINDOW * NS_PER_S / max(1, item.time_ns - window_ns)
                window_ns = item.time_ns
                if fps > self._limits.max_fps:
                    exceeded = f"it has {fps:,.0f} frames a second, more than limits.max_fps={self._limits.max_fps:g}"
            if exceeded is not None:
                self.end_ns = item.time_ns
                yield Fault("decode", "LimitExceeded", exceeded, item.time_ns)
                return
            self.end_ns = self._reader.end_ns
            yield item
        self.end_ns = self._reader.end_ns
        if self._file is not None and self._file.error is not None:
            yield Fault("read", "Unreachable", f"reading failed: {reason(self._file.error)}", self.end_ns)

    def _items(self) -> Iterator[DecodedFrame | Fault]:
        """What the reader gives. Anything that a library raises on a file is the file's fault: one file does not end a run of millions."""
        try:
            yield from self._reader.frames()
        except (CurateError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - recorded
            yield Fault("decode", type(error).__name__, reasons.unexpected(error), self._reader.end_ns)

    def account(self) -> PacketAccount | None:
        return self._reader.account()

    def close(self) -> None:
        self._reader.close()
        if self._file is not None:
            self._file.close()

    def _exceeded(self, decoded_ns: int, taken_s: float) -> str | None:
        limits, decoded_s = self._limits, decoded_ns / NS_PER_S
        if decoded_s > limits.max_hours * 3600:
            return f"it is longer than limits.max_hours={limits.max_hours:g}: raise the limit to read on"
        if limits.min_speed and taken_s > limits.stall_s + decoded_s / limits.min_speed:
            return f"{decoded_s:.1f} s of it took {taken_s:.0f} s, slower than limits.min_speed={limits.min_speed:g}"
        return None
