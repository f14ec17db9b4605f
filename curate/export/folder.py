"""The folder that an export is written to: local, or in an object store through fsspec. Every file appears as a whole or not at all.

Locally a file is written aside, synced and renamed; an object store makes one visible only when its upload is complete.
"""

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import CurateError, ExportError
from curate.manifest import files


@dataclass(frozen=True, slots=True)
class OutFolder:
    """Cheap to make and to send to a worker. `url` is a path or an fsspec URL; names inside use `/`."""

    url: str

    @property
    def is_local(self) -> bool:
        return "://" not in self.url

    def path(self, name: str) -> str:
        """Path or URL of a file inside."""
        return f"{self.url.rstrip('/')}/{name}"

    def write_bytes(self, name: str, data: bytes | memoryview) -> None:
        """Raises `ExportError` with the system's reason (no space, no permission)."""
        try:
            if self.is_local:
                target = Path(self.path(name))
                files.make_folder(target.parent)
                files.write_file(target, data)
            else:
                fs, path = self._remote(name)
                fs.pipe_file(path, bytes(data))
        except (CurateError, OSError) as error:
            raise ExportError(f"{self.path(name)}: cannot be written: {error}") from error

    def write_text(self, name: str, text: str) -> None:
        self.write_bytes(name, text.encode())

    def write_json(self, name: str, content: Any) -> None:
        self.write_text(name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def put(self, local: Path, name: str) -> None:
        """Moves a finished local file to its place."""
        try:
            if self.is_local:
                _move(local, Path(self.path(name)))
            else:
                fs, path = self._remote(name)
                fs.put_file(str(local), path)
                local.unlink()
        except (CurateError, OSError) as error:
            raise ExportError(f"{self.path(name)}: cannot be written: {error}") from error

    def read_bytes(self, name: str) -> bytes | None:
        """None where there is no such file."""
        try:
            if self.is_local:
                return Path(self.path(name)).read_bytes()
            fs, path = self._remote(name)
            return bytes(fs.cat_file(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ExportError(f"{self.path(name)}: cannot be read: {error}") from error

    def read_json(self, name: str) -> Any | None:
        """None where there is no such file. Raises `ExportError` for one that is damaged."""
        data = self.read_bytes(name)
        try:
            return None if data is None else json.loads(data)
        except ValueError as error:
            raise ExportError(f"{self.path(name)}: is damaged: {error}") from error

    def list(self, folder: str = "") -> list[str]:
        """Names of files and folders directly inside, sorted; empty where there is no such folder."""
        try:
            if self.is_local:
                return sorted(os.listdir(self.path(folder)))
            fs, path = self._remote(folder)
            fs.invalidate_cache()
            return sorted(name.rstrip("/").rpartition("/")[2] for name in fs.ls(path.rstrip("/"), detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise ExportError(f"{self.path(folder)}: cannot be listed: {error}") from error

    def remove(self, name: str) -> None:
        """A file or folder; one that is not there is fine."""
        if self.is_local:
            local = Path(self.path(name))
            shutil.rmtree(local) if local.is_dir() else local.unlink(missing_ok=True)
            return
        fs, path = self._remote(name)
        if fs.exists(path):
            fs.rm(path, recursive=True)

    def _remote(self, name: str) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        try:
            return url_to_fs(self.path(name))
        except (ImportError, ValueError) as error:
            raise ExportError(f"out={self.url}: {error}") from error


def _move(local: Path, target: Path) -> None:
    files.make_folder(target.parent)
    aside = target.with_name(f"{files.ASIDE_PREFIX}{target.name}-{secrets.token_hex(4)}")
    try:
        try:
            local.replace(aside)
        except OSError:  # another file system
            shutil.copyfile(local, aside)
            local.unlink()
        descriptor = os.open(aside, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def text_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
