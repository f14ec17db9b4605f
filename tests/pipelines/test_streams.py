"""The stream that the scan read is in the manifest, and every later reader reads that one."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from containers import Film, write
from curated import curate_films

from curate.config import Decode, Limits, parse_config
from curate.dataset import CuratedClips
from curate.export.config import parse_export
from curate.kept import read_kept
from curate.pipelines.curation import run
from curate.pipelines.export import export
from curate.pipelines.plan import all_headers
from curate.pipelines.worker.child import Order
from curate.scan import Pass
from curate.sources import Source

LARGE, SMALL = Film(width=320, height=240, num_frames=50), Film(width=192, height=128, num_frames=50)
CLIPS = {"min_clip_s": 1.0, "max_clip_s": 4.0}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    sound = Film("aac", num_frames=94)
    write(folder / "two.mkv", SMALL, LARGE, sound, sound)
    return folder


@pytest.fixture(scope="module")
def named(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of the stream that is not the film."""
    output = tmp_path_factory.mktemp("named") / "set"
    return curate_films(films, output, decode={"stream": 0, "audio_stream": 3})


def test_the_choice_is_in_the_table_of_sources(films: Path, tmp_path: Path, named: Path) -> None:
    free = curate_films(films, tmp_path / "set")
    for manifest, width, streams in ((free, 320, (1, 2)), (named, 192, (0, 3))):
        row = pd.read_parquet(manifest / "sources").iloc[0]
        assert (row.status, row.width, row.video_stream, row.audio_stream) == ("ok", width, *streams)
        (clip,) = read_kept(manifest)
        assert (clip.video_stream, clip.audio_stream) == streams


def test_exports_and_loaders_read_the_stream_of_the_manifest(named: Path, tmp_path: Path) -> None:
    item = CuratedClips(named, num_frames=8, fps=25.0, sizes=((192, 128),))[0]
    assert item["size"] == (192, 128) and item["num_skipped"] == 0
    (clip,) = read_kept(named)
    for cut in ("exact", "copy"):
        settings = {"manifest": str(named), "out": str(tmp_path / cut), "layout": "huggingface"}
        assert not export(parse_export({**settings, "cut": cut, "audio": True})).failed
        (row,) = pq.read_table(tmp_path / cut / "index").to_pylist()
        shown = (row["file_width"], row["file_height"], row["file_has_audio"], row["num_frames"])
        assert shown == (192, 128, True, len(clip.times_ns))


def test_a_wrong_index_fails_the_source_and_lists_its_streams(films: Path, tmp_path: Path) -> None:
    settings = {"input": str(films), "output": str(tmp_path / "set"), "decode": {"stream": 2}}
    run(parse_config({**settings, "clips": CLIPS, "scorers": {}, "rules": {}}))
    row = pd.read_parquet(tmp_path / "set" / "sources").iloc[0]
    assert (row.status, row.fault_kind) == ("failed", "NoSuchStream")
    assert row.fault_message.startswith("decode.stream=2 is no video stream that can be decoded")


def test_a_plan_weighs_the_stream_that_will_be_read(films: Path) -> None:
    url = str(films / "two.mkv")
    found = all_headers([url, url], Limits(), 0) + all_headers([url], Limits())
    assert [one and (one.width, one.height) for one in found] == [(192, 128)] * 2 + [(320, 240)]
    assert all_headers([url], Limits(), 2) == [None]


def test_scorers_that_come_later_read_the_stream_that_was_read(films: Path) -> None:
    config = parse_config({})
    settings = Pass(Decode(), config.sampling, config.shots, config.clips)
    source = Source("two.mkv", str(films / "two.mkv"))
    assert Order(source, None, [], (), {}).settings(settings) is settings
    assert Order(source, None, [], (), {}, stream=0).settings(settings).decode.stream == 0
