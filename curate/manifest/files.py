"""Every byte of a manifest is written, and every name of it removed, through the functions here.

A local file is written aside under a hidden name in its own folder, synced, renamed over the old one, and the folder synced: a reader or a
crash sees the old file or the new one. On an object store (`s3://`, `gs://`, anything that fsspec writes) a write is one PUT, which is seen
whole or not at all; folders are nothing but the beginning of names. A path there is a `upath.UPath`, which has what is used here of
`pathlib.Path` and is typed as one.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from curate.errors import ManifestError
from curate.extras import require, store_needs
from curate.sources.retry import explained, retried

if TYPE_CHECKING:
    import pyarrow.dataset as ds

ASIDE_PREFIX = ".curate-aside-"


STAYS = "What was committed stays: start the same command again to go on"


def located(path: str | Path) -> Path:
    """The absolute local path, or the place in an object store that a URL names.

    Raises `MissingPackageError` for a store whose package is not installed, `ManifestError` for one that is not known.
    """
    if isinstance(path, Path) or is_remote(path):  # type: ignore[arg-type]
        return path.absolute() if isinstance(path, Path) else cast(Path, path)
    if "://" not in path:
        return Path(path).absolute()
    from upath import UPath

    require(store_needs(manifest=path))
    try:
        # Other processes write here: what was listed before is not what is there now.
        return cast(Path, UPath(path.rstrip("/"), use_listings_cache=False))
    except (ImportError, ValueError) as error:
        raise ManifestError(f"{path}: {error}") from error


def is_remote(path: Path) -> bool:
    """Whether the path lies in an object store."""
    return not isinstance(path, (Path, str))


def store(path: Path) -> tuple[Any, str]:
    """Fsspec's file system and its own name of a place in an object store."""
    return path.fs, path.path  # type: ignore[attr-defined]


def check_reachable(folder: Path) -> None:
    """Raises `ManifestError` where an object store does not answer, or not to us. Says nothing of local folders."""
    if not is_remote(folder):
        return
    with _storage(folder, "reached"):
        retried(folder.exists, attempts=3)


@contextlib.contextmanager
def _storage(path: Path, what: str) -> Iterator[None]:
    """Each storage has its own exceptions, and every one of them means the same to the user."""
    try:
        yield
    except Exception as error:
        raise ManifestError(f"{path}: cannot be {what}: {explained(error)}. {STAYS}") from error


def dataset(folder: Path) -> "ds.Dataset":
    """The Parquet files of a folder."""
    import pyarrow.dataset as ds

    if not is_remote(folder):
        return ds.dataset(folder, format="parquet")
    fs, path = store(folder)
    return ds.dataset(path, filesystem=fs, format="parquet")


def names(folder: Path) -> list[str]:
    """Names of the files and folders in a folder, sorted; none where it is not there."""
    return sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []


def write_file(path: Path, data: bytes | memoryview) -> None:
    """Writes a whole file or nothing. Raises `ManifestError` with the system's reason (no space, no permission)."""
    if is_remote(path):
        fs, name = store(path)
        with _storage(path, "written"):
            retried(lambda: fs.pipe_file(name, bytes(data)))
        return
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
        raise ManifestError(f"{path}: cannot be written: {error.strerror or error}. {STAYS}") from error


def remove_file(path: Path, attempts: int | None = None) -> None:
    """Removes a file for good; one that is not there is fine."""
    if is_remote(path):
        with _storage(path, "removed"):
            retried(lambda: path.unlink(missing_ok=True), attempts)
        return
    try:
        path.unlink()
    except FileNotFoundError:
        return
    _sync_folder(path.parent)


def remove_folder(path: Path, attempts: int | None = None) -> None:
    """Removes a folder and all that is in it; one that is not there is fine."""
    if is_remote(path):
        fs, name = store(path)
        with _storage(path, "removed"), contextlib.suppress(FileNotFoundError):
            retried(lambda: fs.rm(name, recursive=True), attempts)
    else:
        shutil.rmtree(path, ignore_errors=True)


def copy_file(source: Path, target: Path) -> None:
    """Within one object store, by the store itself."""
    (fs, one), (_, other) = store(source), store(target)
    with _storage(target, "written"):
        retried(lambda: fs.cp_file(one, other))


def rename_folder(source: Path, target: Path) -> None:
    """`target` must not exist, or be an empty folder."""
    source.replace(target)
    _sync_folder(source.parent)
    _sync_folder(target.parent)


def make_folder(path: Path) -> None:
    """Makes a folder and those it lies in. Raises `ManifestError` with the system's reason."""
    if not is_remote(path) and not path.is_dir():
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ManifestError(f"{path}: the folder cannot be made: {error.strerror}") from error
        _sync_folder(path.parent)


def remove_asides(folder: Path) -> None:
    """Removes what writes that were cut short left in a folder."""
    if is_remote(folder):
        return
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
