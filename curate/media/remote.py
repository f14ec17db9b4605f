"""Sources behind a URL as open files: read by range with a bounded cache that fetches ahead, or from a spool.

Blocks of `BLOCK_BYTES` are fetched as they are asked for, the next one ahead in a thread while this one is decoded, and `MAX_BLOCKS` of
them are kept (fsspec's `BackgroundBlockCache`), so that an index at the end of a file costs two more requests, and memory does not grow
with the file. `benchmarks/remote.py` says why not through a copy on disk. Each request is tried again where the fault may pass
(`curate.sources.retry`); S3 is asked for the very object that was opened (its etag), so that two versions of it never mix.

A web server that does not answer ranges can only be read from its start to its end: what it sends is first copied to a file without a
name, of `limits.spool_gb` at most, which is gone when it is closed, or when the process dies.
"""

import io
import posixpath
import re
import tempfile
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from curate.errors import CurateError, SourceError
from curate.sources.retry import explained, retried

BLOCK_BYTES, MAX_BLOCKS = 2**20, 32
COPY_BYTES = 2**20
SPOOL_GB = 50.0  # the default of limits.spool_gb
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


class SourceFile(io.RawIOBase):
    """An open source that ends where reading it fails; `error` is then why.

    An exception would not come through ffmpeg's libraries. `name` has the suffix of the source and nothing else of it: some formats have
    no signature, and ffmpeg knows them by that alone.
    """

    def __init__(self, size: int, name: str) -> None:
        self.size, self.name = size, name
        self.error: Exception | None = None
        self._at = 0

    @abstractmethod
    def _data(self, offset: int, size: int) -> bytes:
        """Read at most so many bytes at a place; none at the end. Whatever it raises is kept as `error`."""

    def read(self, size: int = -1) -> bytes:
        if self.error is not None:
            return b""
        try:
            data = self._data(self._at, size if size >= 0 else max(0, self.size - self._at))
        except Exception as error:  # noqa: BLE001  each storage has its own exceptions
            self.error = error
            return b""
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if begin + offset < 0:
            return -1  # an error to ffmpeg's libraries, which try such places in short files
        self._at = begin + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class RemoteFile(SourceFile):
    """A source that a library of its storage reads."""

    def __init__(self, file: BinaryIO, url: str) -> None:
        super().__init__(file.seek(0, io.SEEK_END), name_of(url))
        file.seek(0)
        self._file = file

    def _data(self, offset: int, size: int) -> bytes:
        if self._file.tell() != offset:
            self._file.seek(offset)
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()
        super().close()


def name_of(url: str) -> str:
    """Return what ffmpeg's libraries may know of a source's name: its suffix."""
    suffix = posixpath.splitext(url.partition("?")[0])[1]
    return f"source{suffix}" if _SUFFIX.fullmatch(suffix) else "source"


def open_remote(url: str, spool_gb: float = SPOOL_GB) -> RemoteFile:
    """A seekable binary file. Raises `SourceError` with the storage's reason."""
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(url)
        file = retried(
            lambda: fs.open(path, "rb", block_size=BLOCK_BYTES, cache_type="background", cache_options={"maxblocks": MAX_BLOCKS})
        )
        if not _has_ranges(file):
            file.close()
            return RemoteFile(_spooled(lambda: fs.open(path, "rb", block_size=0), url, spool_gb), url)
    except SourceError:
        raise
    except Exception as error:  # each storage has its own exceptions, and every one of them means the same to the user
        raise SourceError(f"{url}: cannot be opened: {reason(error)}") from error
    return RemoteFile(file, url)


def reason(error: BaseException) -> str:
    """What a storage's exception says, in a line, and what to do about it."""
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, CurateError):
        return str(error)
    return explained(error, "list and read")


def _has_ranges(file: Any) -> bool:
    """Whether the open file can be read from anywhere; makes its requests be tried again."""
    cache = getattr(file, "cache", None)
    if cache is None or not file.seekable():
        return not hasattr(file, "session")  # a web server's stream; files of other kinds are what they are
    fetch: Callable[..., bytes] = cache.fetcher
    cache.fetcher = lambda *place, **more: retried(lambda: fetch(*place, **more))
    if not hasattr(file, "session"):
        return True
    try:
        cache.fetcher(max(0, file.size - 1), file.size)  # what web servers say of ranges and what they do are two things
    except ValueError:
        return False
    return True


def _spooled(opened: Callable[[], Any], url: str, spool_gb: float) -> BinaryIO:
    def copy() -> BinaryIO:
        spool = tempfile.TemporaryFile()  # noqa: SIM115  it is what is returned
        try:
            with opened() as stream:
                while data := stream.read(COPY_BYTES):
                    spool.write(data)
                    if spool.tell() > spool_gb * 1e9:
                        raise SourceError(f"{url}: its server answers no ranges, and it is larger than limits.spool_gb={spool_gb:g}")
            spool.seek(0)
        except BaseException:
            spool.close()
            raise
        return cast(BinaryIO, spool)

    return retried(copy)
