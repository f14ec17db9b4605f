"""Messages between a worker and its child over a socket: a JSON head and buffers behind it.

    uint32 length of the head | head: {"kind": ..., "sizes": [bytes of each buffer], ...} | buffers

What the worker says may hold pickles, since it is trusted; the child's messages hold none, since it has read strangers' files.
"""

import json
import pickle
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_HEAD_BYTES, MAX_BUFFER_BYTES = 64 << 20, 4 << 30
RECEIVE_BYTES = 1 << 20
_LENGTH = struct.Struct("!I")

Buffer = bytes | bytearray | memoryview


class ChannelClosed(Exception):
    """The other end is gone, or said what no message is."""


@dataclass(frozen=True, slots=True)
class Message:
    """`head["kind"]` says what the message is about."""

    head: Mapping[str, Any]
    buffers: tuple[memoryview, ...] = ()

    @property
    def kind(self) -> str:
        return str(self.head["kind"])

    def unpickled(self) -> Any:
        """Return the object of a trusted sender."""
        return pickle.loads(self.buffers[0])


class Channel:
    """One end. Not for several threads at a time."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._data = bytearray()

    def send(self, kind: str, buffers: Sequence[Buffer] = (), **head: Any) -> None:
        """Send a message whole. Raises `ChannelClosed`."""
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        text = json.dumps({**head, "kind": kind, "sizes": [view.nbytes for view in views]}).encode()
        try:
            self._socket.settimeout(None)
            self._socket.sendall(_LENGTH.pack(len(text)) + text)
            for view in views:
                self._socket.sendall(view)
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def send_object(self, kind: str, content: Any) -> None:
        """Send a pickled object to one who trusts this end."""
        self.send(kind, [pickle.dumps(content, protocol=5)])

    def receive(self, timeout_s: float | None = None) -> Message | None:
        """Return the next message; None where it has not come, or not whole, in time. Raises `ChannelClosed`."""
        while (message := self._parsed()) is None:
            try:
                self._socket.settimeout(timeout_s)
                data = self._socket.recv(RECEIVE_BYTES)
            except TimeoutError:
                return None
            except OSError as error:
                raise ChannelClosed(str(error)) from error
            if not data:
                raise ChannelClosed("the other end is gone")
            self._data += data
        return message

    def close(self) -> None:
        self._socket.close()

    def _parsed(self) -> Message | None:
        if len(self._data) < _LENGTH.size:
            return None
        head_bytes = _LENGTH.unpack_from(self._data)[0]
        if head_bytes > MAX_HEAD_BYTES:
            raise ChannelClosed(f"a message's head of {head_bytes} bytes")
        start = _LENGTH.size + head_bytes
        if len(self._data) < start:
            return None
        try:
            head = json.loads(self._data[_LENGTH.size : start])
            sizes = [int(size) for size in head["sizes"]]
            head["kind"]
        except (ValueError, KeyError, TypeError) as error:
            raise ChannelClosed(f"no message: {error}") from error
        if min(sizes, default=0) < 0 or sum(sizes) > MAX_BUFFER_BYTES:
            raise ChannelClosed(f"a message of {sum(sizes)} bytes")
        end = start + sum(sizes)
        if len(self._data) < end:
            return None
        content, self._data = memoryview(bytes(self._data[:end])), self._data[end:]
        buffers = []
        for size in sizes:
            buffers.append(content[start : start + size])
            start += size
        return Message(head, tuple(buffers))
