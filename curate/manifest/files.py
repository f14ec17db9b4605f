"""Every byte of a manifest is written, and every name of it removed, through the functions here.

A local file is written aside under a hidden name in its own folder, synced, renamed over the old one, and the folder synced: a reader or a
crash sees the old file or the new one. Object stores need the same functions and nothing else: there a write is one PUT.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from curate.errors import ManifestError

ASIDE_PREFIX = ".curate-aside-"
LOCK_NAME = ".curate-lock"


def write_file(path: Path, data: bytes | memoryview) -> None:
    """Writes a whole file or nothing. Raises `ManifestError` with the system's reason (no space, no permission)."""
    aside = path.with_name(f"{ASIDE_PREFIX}{path.name}-{secrets.token_hex(4)}")
    try:
        try:
            with open(aside, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be written: {error.strerror or error}") from error


def remove_file(path: Path) -> None:
    """Removes a file for good; one that is not there is fine."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    _sync_folder(path.parent)


def rename_folder(source: Path, target: Path) -> None:
    """`target` must not exist, or be an empty folder."""
    source.replace(target)
    _sync_folder(source.parent)
    _sync_folder(target.parent)


def make_folder(path: Path) -> None:
    """Makes a folder and those it lies in. Raises `ManifestError` with the system's reason."""
    if not path.is_dir():
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ManifestError(f"{path}: the folder cannot be made: {error.strerror}") from error
        _sync_folder(path.parent)


def remove_asides(folder: Path) -> None:
    """Removes what writes that were cut short left in a folder."""
    with os.scandir(folder) as entries:
        stale = [entry.path for entry in entries if entry.name.startswith(ASIDE_PREFIX) and entry.is_file(follow_symlinks=False)]
    for path in stale:
        Path(path).unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """A rename is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder against a second writer; raises `ManifestError` that says who has it.

    The lock is an flock on a file that names its holder. The system lets go of it when the last process of the holder dies, so what a
    killed run leaves on this host is taken over. File systems that several hosts share may not pass locks on: a file that another host left
    is believed.
    """
    path = folder / LOCK_NAME
    descriptor = _open_lock(path)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


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
