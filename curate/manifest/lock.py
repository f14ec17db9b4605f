"""One writer at a time: the lock of a manifest's folder."""

import contextlib
import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from curate.errors import ManifestError
from curate.manifest.files import is_remote, remove_file, store
from curate.sources.retry import explained, retried

LOCK_NAME = ".curate-lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder against a second writer; raises `ManifestError` that says who has it.

    The lock is an flock on a file that names its holder. The system lets go of it when the last process of the holder dies, so what a
    killed run leaves on this host is taken over. File systems that several hosts share may not pass locks on: a file that another host left
    is believed. In an object store the lock is an object that only one writer can create; there too, what a killed run of this host left
    is taken over.
    """
    if is_remote(folder):
        with _locked_object(folder):
            yield
        return
    path = folder / LOCK_NAME
    descriptor = _open_lock(path)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def holder_of(folder: Path) -> str | None:
    """Who writes to a folder at this moment, as far as this host can tell; None where nobody does."""
    path = folder / LOCK_NAME
    if is_remote(folder):
        content = _read_object(path)
        if content:
            try:
                _take_over(path, content)
            except ManifestError:
                found = json.loads(content)
                return f"process {found.get('pid')} on {found.get('host')}"
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        host, pid = _holder(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return f"process {pid} on {host}"
        return f"process {pid} on {host}" if host not in ("", socket.gethostname()) else None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked_object(folder: Path) -> Iterator[None]:
    path = folder / LOCK_NAME
    fs, name = store(path)
    own = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8)}).encode()
    try:
        retried(lambda: fs.pipe_file(name, own, mode="create"))
    except FileExistsError:
        content = _read_object(path)
        # A retried request may have been answered: then the lock is ours already.
        if content != own:
            _take_over(path, content)
            fs.pipe_file(name, own)
    except ManifestError:
        raise
    except Exception as error:  # each storage has its own exceptions
        raise ManifestError(f"{folder}: cannot be written: {explained(error)}") from error
    try:
        yield
    except BaseException:
        # The storage may be what failed: another try must not hide that, nor take minutes. What is left is recognised as stale.
        with contextlib.suppress(Exception):
            if _read_object(path, attempts=1) == own:
                remove_file(path, attempts=1)
        raise
    if _read_object(path) == own:
        remove_file(path)


def _read_object(path: Path, attempts: int | None = None) -> bytes:
    fs, name = store(path)
    try:
        return bytes(retried(lambda: fs.cat_file(name), attempts))
    except FileNotFoundError:
        return b""
    except Exception as error:
        raise ManifestError(f"{path}: cannot be read: {explained(error)}") from error


def _take_over(path: Path, content: bytes) -> None:
    """Raises `ManifestError` unless the holder is a process of this host that has gone."""
    try:
        found = json.loads(content or b"{}")
        host, pid = str(found.get("host", "")), int(found.get("pid", 0))
    except ValueError:
        host, pid = "", 0
    if host == socket.gethostname():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        except PermissionError:
            pass
    raise ManifestError(
        f"{path.parent}: a run on the host {host or 'unknown'} (process {pid}) is writing here, or was when it died; "
        f"if it is gone, remove {path}"
    )


def _open_lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _claim(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        # The holder before may have removed the file between our open and our lock: then we hold a name nobody sees.
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _claim(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_free = True
    except BlockingIOError:
        is_free = False
    except OSError as error:
        raise ManifestError(f"{path}: this file system cannot lock files ({error.strerror}); write the manifest to a local disk") from error
    host, pid = _holder(descriptor)
    if not is_free:
        raise ManifestError(
            f"{path.parent}: another run is writing here (process {pid} on {host}, or a worker it left behind); wait for it or end it"
        )
    if host not in ("", socket.gethostname()):
        raise ManifestError(
            f"{path.parent}: a run on the host {host} (process {pid}) is writing here, or was when it died; if it is gone, remove {path}"
        )


def _holder(descriptor: int) -> tuple[str, int | None]:
    """Host and process id in the lock file; ("", None) in one that its holder did not get to fill."""
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
        return str(content["host"]), int(content["pid"])
    except (ValueError, KeyError, TypeError):
        return "", None
