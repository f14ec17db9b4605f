"""One run over a folder with every kind of broken and strange file: each has exactly its stated row, and nothing is lost."""

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import pyarrow.parquet as pq
import pytest
from faults import kinds, names
from faults.kinds import BUILT, EVERYDAY, KINDS
from faults.material import FRAMES, STEP_NS, Kind

from curate.cli import main
from curate.clip import Fault
from curate.config import Decode, parse_config
from curate.errors import SourceError
from curate.media.decode import DecodedFrame
from curate.media.open import open_reader
from curate.pipelines.curation import run

# Of pictures of a few points the detector takes some for black or faded, which no clip holds.
FLAT = {"one_pixel.mkv", "one_pixel_420.mkv", "two_by_two.mp4"}
# Reasons why a score is null that speak of the clip. A scorer that broke leaves the name of its exception.
TOO_LITTLE = {
    ("motion", "few_samples"),
    ("motion", "few_pairs"),
    ("motion", "no_pairs"),
    ("quality", "SmallPicture"),
    ("synthetic", "TooFewSamples"),
    ("synthetic", "TooFewFrames"),
}


@dataclass(frozen=True)
class Curated:
    """The folder, the manifest, and its rows by source."""

    folder: Path
    manifest: Path
    sources: dict[str, dict[str, Any]]
    clips: dict[str, list[dict[str, Any]]]
    listed: list[dict[str, Any]]


def curate(folder: Path, output: Path, more: Mapping[str, dict[str, Any]] = MappingProxyType({})) -> Curated:
    scorers: dict[str, dict[str, Any]] = {"motion": {}, "quality": {}, "synthetic": {}, **more}
    config = {"input": str(folder), "output": str(output), "engine": "local", "clips": {"min_clip_s": 0.3}, "rules": {}}
    run(parse_config({**config, "scorers": scorers, "max_failed_fraction": 1.0}))
    listed = pq.read_table(output / "sources").to_pylist()
    clips: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(output / "clips").to_pylist():
        clips.setdefault(row["source_key"], []).append(row)
    for rows in clips.values():
        rows.sort(key=lambda row: row["start_ns"])
    return Curated(folder, output, {row["source_key"]: row for row in listed}, clips, listed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Iterator[Curated]:
    """Every kind but the slow ones, curated in one run."""
    level = av.logging.get_level()
    av.logging.set_level(None)
    folder = tmp_path_factory.mktemp("kinds")
    build(folder, [kind for kind in BUILT if not kind.is_slow])
    names.link(folder)
    yield curate(folder, tmp_path_factory.mktemp("out") / "manifest")
    av.logging.set_level(level)


def build(folder: Path, some: list[Kind]) -> None:
    for kind in some:
        path = folder / kind.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kind.build())


def outcome(row: dict[str, Any], kind: Kind) -> list[str]:
    """What of the row is not as stated."""
    least, most = kind.least_most
    stated = {"status": kind.status, "fault_kind": kind.fault}
    wrong = [f"{name} is {row[name]!r} and not {value!r}" for name, value in stated.items() if row[name] != value]
    if not least <= row["num_frames"] <= most:
        wrong.append(f"{row['num_frames']} frames and not {kind.frames}")
    if kind.says not in (row["fault_message"] or ""):
        wrong.append(f"{row['fault_message']!r} does not say {kind.says!r}")
    if (row["num_faults"] > 0) != (kind.status != "ok"):
        wrong.append(f"{row['num_faults']} faults")
    return wrong


@pytest.mark.parametrize("kind", EVERYDAY, ids=lambda kind: ascii(kind.name)[1:60])
def test_every_kind_has_its_stated_row(whole, kind):
    assert outcome(whole.sources[kind.name], kind) == []


def test_no_row_says_what_a_library_says_and_nothing_else(whole):
    """Texts of FFmpeg, which name no remedy, stand in brackets."""
    texts = [os.strerror(number) for number in (1, 5, 22)] + ["Invalid data found", "End of file", "patches welcome"]
    said = {key: row["fault_message"] for key, row in whole.sources.items() if row["status"] != "ok"}
    assert sum("(Invalid data found" in message for message in said.values()) > 5
    for key, message in said.items():
        outside = re.sub(r"\([^()]*\)", "", message)
        assert not any(text in outside for text in texts), f"{key}: {message}"


def test_there_are_as_many_kinds_as_is_said():
    keys = [kind.name for kind in KINDS]
    assert len(set(keys)) == len(keys) >= 200
    print(f"{len(KINDS)} kinds of input")


def test_every_file_is_listed_once_and_has_one_row(whole):
    assert sorted(row["source_key"] for row in whole.listed) == sorted(kind.name for kind in EVERYDAY)
    assert {name.replace("\udcff", "") for name in names.NOT_LISTED}.isdisjoint(whole.sources)
    for name in names.NOT_LISTED:
        assert (whole.folder / name).is_symlink() or (whole.folder / name).exists(), "what is not listed is there"


def test_every_decoded_frame_lies_in_exactly_one_clip(whole):
    for key, row in whole.sources.items():
        clips = whole.clips.get(key, [])
        assert all(a["end_ns"] <= b["start_ns"] for a, b in pairwise(clips)), key
        assert row["num_clips"] == len(clips), key
        if key not in FLAT:
            assert sum(clip["num_frames"] for clip in clips) == row["num_frames"], key


def test_no_value_stands_for_a_missing_one(whole):
    for key, clips in whole.clips.items():
        for clip in clips:
            for name, value in clip.items():
                assert not isinstance(value, float) or math.isfinite(value), f"{key}: {name} is {value}"
                assert isinstance(value, bool) or not isinstance(value, (int, float)) or value != -1, f"{key}: {name} is {value}"
    for key, row in whole.sources.items():
        assert all(not isinstance(value, float) or math.isfinite(value) for value in row.values()), key


def test_no_clip_makes_a_scorer_fail(whole):
    """What is too short or too small for a score has a null; a score that broke has a fault, and no kind here breaks one."""
    faults = {(fault["stage"], fault["kind"]) for clips in whole.clips.values() for clip in clips for fault in clip["faults"]}
    assert faults <= TOO_LITTLE


def test_the_clips_before_a_fault_stand_as_in_the_undamaged_file(whole):
    num_compared = 0
    for kind in EVERYDAY:
        row, clips = whole.sources[kind.name], whole.clips.get(kind.name, [])
        if kind.status != "damaged" or row["fault_ns"] is None:
            continue
        assert clips, kind.name
        before = [clip for clip in clips if clip["end_ns"] <= row["fault_ns"]]
        assert before and before[0]["start_ns"] == row["start_ns"], kind.name
        assert before[-1]["end_ns"] == row["fault_ns"], f"{kind.name}: the clip reaches to the fault"
        assert all(clip["is_after_fault"] == (clip["start_ns"] >= row["fault_ns"]) for clip in clips), kind.name
        num_compared += 1
    assert num_compared >= 20


def test_the_manifest_is_what_was_written_and_is_not_done_again(whole, capsys):
    assert main(["verify", str(whole.manifest)]) == 0
    files = {path: path.read_bytes() for path in sorted(whole.manifest.rglob("*.parquet"))}
    again = curate(whole.folder, whole.manifest)
    assert {path: path.read_bytes() for path in sorted(whole.manifest.rglob("*.parquet"))} == files
    assert again.sources == whole.sources


@pytest.mark.slow
def test_the_large_kinds_have_their_stated_rows(tmp_path):
    slow = [kind for kind in kinds.KINDS if kind.is_slow]
    (tmp_path / "in").mkdir()
    build(tmp_path / "in", slow)
    found = curate(tmp_path / "in", tmp_path / "out")
    assert {kind.name: outcome(found.sources[kind.name], kind) for kind in slow} == {kind.name: [] for kind in slow}


def test_the_folder_holds_what_the_kinds_are_made_of(whole):
    assert whole.sources["h264.mp4"]["num_frames"] == FRAMES
    assert whole.sources["h264.mp4"]["decoded_s"] == FRAMES * STEP_NS / 1e9


@pytest.mark.slow
def test_decord_reads_a_kind_or_says_that_it_cannot(tmp_path):
    pytest.importorskip("decord")
    num_read = 0
    for n, kind in enumerate(kind for kind in BUILT if not kind.is_slow):
        path = tmp_path / f"{n}{Path(kind.name).suffix}"
        path.write_bytes(kind.build())
        try:
            reader = open_reader(str(path), Decode(decoder="decord"))
        except SourceError:
            continue
        items = list(reader.frames())
        reader.close()
        assert any(isinstance(item, DecodedFrame) for item in items) or any(isinstance(item, Fault) for item in items), kind.name
        num_read += 1
    assert num_read > 150
