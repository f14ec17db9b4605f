"""Where every packet went: kinds by the packets' own bits, and the identity that no picture escapes."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import pytest
from media import matrix

from curate.clip import Fault
from curate.config import Clips, Decode, Sampling
from curate.media.decode import DecodedFrame, PyAVReader
from curate.media.packets import KINDS, PacketAccount, SentPacket, why_without_picture
from curate.scan import Pass, ScanReport, scan, unaccounted
from curate.shots.params import Shots
from curate.sources import Source


def sent(head: bytes, number: int = 1, time_ns: int | None = 40_000_000, **more: object) -> SentPacket:
    return SentPacket(number, time_ns, False, False, len(head), head, **more)  # type: ignore[arg-type]


def cell(name: str) -> matrix.Cell:
    return next(one for one in matrix.cells() if one.name == name)


def read(path: Path) -> tuple[int, list[Fault], PacketAccount]:
    reader = PyAVReader(str(path), path.name)
    items = list(reader.frames())
    reader.close()
    return sum(isinstance(i, DecodedFrame) for i in items), [i for i in items if isinstance(i, Fault)], reader.account()


def hidden_in(path: Path) -> int:
    """Packets of VP8 without show_frame (RFC 6386, 9.1), by another way of reading the bit."""
    with av.open(str(path)) as container:
        return sum(format(bytes(p)[0], "08b")[3] == "0" for p in container.demux(video=0) if p.size)


def test_hidden_pictures_of_vp8_are_counted_as_such(tmp_path: Path) -> None:
    path = matrix.write(cell("vp8-plain.ivf"), tmp_path / "a.ivf")
    num_frames, faults, account = read(path)
    assert not faults and num_frames == matrix.NUM_FRAMES
    assert account.hidden == hidden_in(path) and account.num_packets == num_frames + account.hidden


@pytest.mark.parametrize(
    ("codec", "head", "kind"),
    [
        ("vp8", b"\x00", "hidden"),
        ("vp8", b"\x10", None),
        ("vp9", bytes([0b10000100, 0]), "hidden"),  # profile 0, a new frame, no key frame, not shown
        ("vp9", bytes([0b10000110, 0]), None),
        ("vp9", bytes([0b10001000, 0]), None),  # shows an earlier frame
        ("vp9", bytes([0b10110010, 0]), "hidden"),  # profile 3 and its reserved bit
        ("gif", b"\x21\xfe\x03abc\x00", "not_coded"),
        ("gif", b"\x21\xf9\x04\x00\x0a\x00\x00\x00\x2c\x00", None),
        ("mpeg4", b"\x00\x00\x01\xb6\x50\x00\x00", "not_coded"),
        ("hevc", b"\x00\x00\x00\x04\x10\x01ab", "before_keyframe"),  # RASL_N
        ("hevc", b"\x00\x00\x00\x01\x46\x01\x50\x00\x00\x01\x12\x01abcd", "before_keyframe"),  # delimiter, RASL_R
        ("hevc", b"\x00\x00\x00\x04\x02\x01ab", None),
        ("prores", b"icpf", None),
    ],
)
def test_the_kind_is_read_from_the_bits(codec: str, head: bytes, kind: str | None) -> None:
    assert why_without_picture(codec, sent(head), None) == kind


def test_a_second_field_follows_a_frame_that_is_interlaced() -> None:
    first = sent(b"", 0, 0, num_frames=1, is_interlaced=True)
    field = b"\x00\x00\x01\x00\x01\x02\x00\x00\x00\x01\xb5\x8f\xff\x01"
    assert why_without_picture("mpeg2video", sent(field), first) == "second_field"
    assert why_without_picture("mpeg2video", sent(field[:-1] + b"\x03"), first) is None
    assert why_without_picture("mpeg2video", sent(field), replace(first, is_interlaced=False)) is None
    assert why_without_picture("h264", sent(b"", time_ns=20_000_000), first) == "second_field"
    assert why_without_picture("h264", sent(b"", time_ns=40_000_000), first) is None, "a whole frame later"
    assert why_without_picture("h264", sent(b"", time_ns=20_000_000), replace(first, num_frames=0)) is None


def test_what_the_edit_list_leaves_out_is_counted_as_such(tmp_path: Path) -> None:
    path = matrix.write(cell("h264_b-edited.mp4"), tmp_path / "a.mp4")
    num_frames, faults, account = read(path)
    assert not faults and num_frames == matrix.NUM_FRAMES - 13
    assert account.outside_edit_list and account.remainder == 0


def settings() -> Pass:
    return Pass(Decode(), Sampling(), Shots(), Clips())


def scanned(path: Path) -> ScanReport:
    report = ScanReport()
    stat = path.stat()
    for _ in scan(Source(path.name, str(path), stat.st_size, None, stat.st_mtime_ns), settings(), {}, report, part=None):
        pass
    return report


def test_a_picture_that_the_reader_loses_makes_the_source_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = matrix.write(cell("h264_b-plain.mp4"), tmp_path / "a.mp4")
    assert not scanned(path).faults
    decode = PyAVReader._decode

    def lossy(self: PyAVReader) -> Iterator[DecodedFrame | Fault]:
        """A reader that swallows the 20th frame, as one did for years."""
        for number, item in enumerate(decode(self)):
            if number != 20:
                yield item

    monkeypatch.setattr(PyAVReader, "_decode", lossy)
    report = scanned(path)
    assert [fault.kind for fault in report.faults] == ["Unaccounted"]
    assert "1 of 60 packets gave no picture" in report.faults[0].message


def test_the_identity_knows_every_kind() -> None:
    for kind, much in itertools.product(KINDS, (1, 3)):
        account = PacketAccount(num_packets=10, num_frames=10 - much, **{kind: much})
        assert account.remainder == 0
        report = ScanReport(num_packets=10, num_frames=10 - much, account=account)
        assert (unaccounted(report) is None) == (kind != "unexplained")
    assert unaccounted(ScanReport(num_packets=10, num_frames=11, account=PacketAccount(10, 11)))
    assert unaccounted(ScanReport(num_packets=10, num_frames=9)) is None, "a library that shows no packets"


def lossy(path: Path, out: Path, number: int) -> None:
    """The same film without one packet, in a container that does not miss it."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for place, packet in enumerate(p for p in source.demux(video=0) if p.size):
            if place != number:
                packet.stream = stream
                target.mux(packet)


def test_a_lost_reference_is_damage_also_in_the_only_group(tmp_path: Path) -> None:
    """Of a film with one keyframe nothing may be missing that its decoder only complains about."""
    whole = tmp_path / "whole.mkv"
    with av.open(str(whole), "w") as out:
        options = {"preset": "veryfast", "g": "250", "x264-params": "ref=4:bframes=3:b-pyramid=normal:b-adapt=0:scenecut=0"}
        stream = out.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = matrix.WIDTH, matrix.HEIGHT, "yuv420p"
        for picture in matrix.pictures():
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    assert not scanned(whole).faults
    lossy(whole, tmp_path / "lossy.mkv", 25)
    num_frames, faults, account = read(tmp_path / "lossy.mkv")
    assert len(faults) == 1 and faults[0].kind == "BadFrame" and "h264 decoder says" in faults[0].message
    assert account.lost > 20 and account.remainder == 0 and num_frames + account.lost == matrix.NUM_FRAMES - 1


@pytest.mark.parametrize("number", [0, 1])
def test_packets_without_times_are_timed_by_their_order(tmp_path: Path, number: int) -> None:
    """MPEG-PS gives times to some packets only, and FFmpeg's muxer wrong ones to others."""
    path = tmp_path / "a.mpg"
    refs = ("1", "4")[number]
    with av.open(str(path), "w") as out:
        options = {"preset": "veryfast", "g": "12", "x264-params": f"ref={refs}:bframes=3:b-pyramid=normal:b-adapt=0:scenecut=0"}
        stream = out.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = matrix.WIDTH, matrix.HEIGHT, "yuv420p"
        for picture in matrix.pictures():
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    reader = PyAVReader(str(path), "a.mpg")
    frames = list(reader.frames())
    assert [matrix.shown(frame.picture) for frame in frames] == list(range(matrix.NUM_FRAMES))  # type: ignore[union-attr]
    steps = {b.time_ns - a.time_ns for a, b in itertools.pairwise(frames)}  # type: ignore[operator]
    assert steps == {40_000_000}
