"""The files of a child: it asks for the source in hand, by no name, and gets a descriptor or bytes.

    OPEN   a local file: its descriptor; another: a number and its size; or why not
    READ   bytes of a numbered file, read by the worker with the credentials that only the worker has
    CLOSE  a numbered file

A thread of the worker answers, so that bytes come while the worker computes with a model.
"""

import contextlib
import io
import os
import socket
import stat
import struct
import threading

from curate.errors import SourceError
from curate.media.remote import RemoteFile, SourceFile, name_of, open_remote, reason

OPEN, READ, CLOSE = 1, 2, 3
FAILED, DESCRIPTOR, NUMBERED, DATA = 0, 1, 2, 3
READ_BYTES = 1 << 18  # asked for at least, so that a request pays
MAX_READ_BYTES = 64 << 20
_REQUEST = struct.Struct("!BIqI")  # what, number, offset, size
_REPLY = struct.Struct("!BIqI")  # how, number, size of the file (-1: not known), bytes that follow


class FileServer:
    """The worker's end. Opens nothing but the source that `allow` named last."""

    def __init__(self, end: socket.socket, spool_gb: float) -> None:
        self._socket, self._spool_gb = end, spool_gb
        self._url: str | None = None
        self._files: dict[int, RemoteFile] = {}
        self._thread = threading.Thread(target=self._serve, name="files of a child", daemon=True)
        self._thread.start()

    def allow(self, url: str | None) -> None:
        self._url = url

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        try:
            while request := _exactly(self._socket, _REQUEST.size):
                self._answer(*_REQUEST.unpack(request))
        except OSError:
            pass  # the child is gone, which its worker sees for itself
        finally:
            for file in self._files.values():
                file.close()
            self._files.clear()

    def _answer(self, what: int, number: int, offset: int, size: int) -> None:
        if what == OPEN:
            self._open()
        elif what == READ and number in self._files:
            self._read(self._files[number], offset, min(size, MAX_READ_BYTES))
        elif what == CLOSE and number in self._files:
            self._files.pop(number).close()
            self._reply(DATA)
        else:
            self._reply(FAILED, b"no such file is open")

    def _open(self) -> None:
        url = self._url
        if url is None:
            self._reply(FAILED, b"no source is in hand")
            return
        try:
            if "://" not in url:
                descriptor = open_local(url)
                try:
                    self._reply(DESCRIPTOR, descriptor=descriptor)
                finally:
                    os.close(descriptor)
                return
            file = open_remote(url, self._spool_gb)
            number = max(self._files, default=0) + 1
            self._files[number] = file
            self._reply(NUMBERED, number=number, length=file.seek(0, io.SEEK_END))
        except SourceError as error:
            self._reply(FAILED, str(error).encode())

    def _read(self, file: RemoteFile, offset: int, size: int) -> None:
        file.seek(offset)
        data = file.read(size)
        if file.error is not None:
            self._reply(FAILED, reason(file.error).encode())
        else:
            self._reply(DATA, data)

    def _reply(
        self, how: int, data: bytes = b"", number: int = 0, length: int = -1, descriptor: int | None = None
    ) -> None:
        head = _REPLY.pack(how, number, length, len(data))
        if descriptor is None:
            self._socket.sendall(head + data)
        else:
            socket.send_fds(self._socket, [head], [descriptor])


def open_local(path: str) -> int:
    """Return a descriptor of a regular file, to read. Raises `SourceError`."""
    try:
        # A pipe that nobody writes to would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(f"{path}: cannot be opened: {error.strerror or error}") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        why = "it is a folder" if stat.S_ISDIR(mode) else "it is no regular file"
        raise SourceError(f"{path}: cannot be opened: {why}")
    return descriptor


class FileClient:
    """The child's end; the function that `scan` opens sources with."""

    def __init__(self, end: socket.socket) -> None:
        self._socket, self._lock = end, threading.Lock()

    def __call__(self, url: str, _spool_gb: float = 0.0) -> SourceFile:
        """Open the source in hand, of which `url` is but the name for messages. Raises `SourceError`."""
        how, number, size, data, descriptor = self.ask(OPEN)
        if how == FAILED:
            raise SourceError(data.decode(errors="replace"))
        if how == DESCRIPTOR and descriptor is not None:
            return DescriptorFile(descriptor, name_of(url))
        return PipedFile(self, number, size, name_of(url))

    def ask(self, what: int, number: int = 0, offset: int = 0, size: int = 0) -> tuple[int, int, int, bytes, int | None]:
        """Return how, number, size, data and descriptor of the reply. Raises `OSError` where the worker is gone."""
        with self._lock:
            self._socket.sendall(_REQUEST.pack(what, number, offset, size))
            head, descriptors, _, _ = socket.recv_fds(self._socket, _REPLY.size, 1)
            head += _exactly(self._socket, _REPLY.size - len(head))
            if len(head) < _REPLY.size:
                raise OSError("the worker is gone")
            how, number, length, num_bytes = _REPLY.unpack(head)
            data = _exactly(self._socket, num_bytes)
        return how, number, length, data, descriptors[0] if descriptors else None


class DescriptorFile(SourceFile):
    """A file behind a descriptor, with a place of its own: others may read the same descriptor."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(os.fstat(descriptor).st_size, name)
        self._descriptor = descriptor

    def _data(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:  # it may still grow
            self.size = os.fstat(self._descriptor).st_size
        return super().seek(offset, whence)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


class PipedFile(SourceFile):
    """A file that the worker reads."""

    def __init__(self, client: FileClient, number: int, size: int, name: str) -> None:
        super().__init__(size, name)
        self._client, self._number = client, number
        self._from, self._block = 0, b""

    def _data(self, offset: int, size: int) -> bytes:
        start = offset - self._from
        if not 0 <= start < len(self._block):
            how, _, _, data, _ = self._client.ask(READ, self._number, offset, max(size, READ_BYTES))
            if how == FAILED:
                raise OSError(data.decode(errors="replace"))
            self._from, self._block, start = offset, data, 0
        return self._block[start : start + size]

    def close(self) -> None:
        if not self.closed:
            with contextlib.suppress(OSError):
                self._client.ask(CLOSE, self._number)
        super().close()


def _exactly(end: socket.socket, size: int) -> bytes:
    """Return so many bytes; fewer where the other end is gone."""
    parts = bytearray()
    while len(parts) < size:
        data = end.recv(size - len(parts))
        if not data:
            break
        parts += data
    return bytes(parts)
