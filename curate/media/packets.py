"""Packets of the video stream: an index of their times, sizes and keyframes, and an account of what
became of each.

The account is an identity that is checked for every source:

    packets with bytes = frames - frames of a packet that gave one before + packets without a frame

and each packet without a frame has a reason out of `KINDS`. The reason is read from the packet's
own first bytes, from what the container says of it, or from an error. A packet without a reason is
`unexplained`, and a source with one is not ok.

Sources of the header bits: VP8, RFC 6386 section 9.1; VP9, bitstream specification 6.2; MPEG-2,
ISO/IEC 13818-2 6.2.3.1; MPEG-4, ISO/IEC 14496-2 6.2.5; HEVC, ITU-T H.265 7.4.2.2; GIF89a.
"""

import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace

from av.packet import Packet

from curate.clip import Span
from curate.media.probe import to_ns

KINDS = {
    "outside_edit_list": "decoded for others to be predicted from, and left out by the edit list",
    "second_field": "the second field of a picture whose first field is another packet",
    "hidden": "a reference picture that is never shown",
    "not_coded": "no picture: the one before is shown on",
    "before_keyframe": "needs a picture from before the first usable keyframe",
    "lost": "lost to damage: refused by the decoder, or predicted from what was",
    "misplaced": "decoded, and left out since its time runs back, or is none",
    "unexplained": "no picture came, and nothing says why",
}
HEAD_BYTES = 192  # of a packet that are kept until its frame has come
ONE_PICTURE = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vc1", "wmv3", "vp8", "vp9"})
"""Codecs with one picture a packet, but for the kinds above. Others do as they like."""
FIELD_CODECS = frozenset({"h264", "vc1"})  # that code fields, and of which no header is read here
NOT_CODED_BYTES = 16  # of MPEG-4: a picture that is coded has at least a bit for each macroblock


@dataclass(slots=True)
class PacketIndex:
    """Presentation times, sizes and keyframes of the packets demuxed so far and not forgotten, in
    demux order; counts of all.

    num_empty      packets without bytes: the picture before is shown on
    streams_end_s  end of the last packet of any stream
    """

    times_ns: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    keyframes_ns: list[int] = field(default_factory=list)
    num_packets: int = 0
    num_empty: int = 0
    num_keyframes: int = 0
    streams_end_s: float = 0.0

    def add(
        self,
        time_ns: int | None,
        size: int,
        is_keyframe: bool,
        shown_ns: int | None,
        is_counted: bool = True,
    ) -> None:
        """Add a packet. `shown_ns` None: when it is shown is not known yet (`add_keyframe`).
        `is_counted`: it belongs to the part that is read.
        """
        if time_ns is not None:
            self.times_ns.append(time_ns)
            self.sizes.append(size)
        self.num_packets += is_counted
        if is_keyframe:
            self.num_keyframes += is_counted
            if shown_ns is not None:
                self.add_keyframe(shown_ns)

    def add_keyframe(self, time_ns: int) -> None:
        """Add when a keyframe is shown."""
        bisect.insort(self.keyframes_ns, time_ns)

    def num_bytes(self, span: Span) -> int:
        """Return how many bytes the packets shown in the span have."""
        return sum(
            size
            for time_ns, size in zip(self.times_ns, self.sizes, strict=True)
            if time_ns in span
        )

    def forget_before(self, time_ns: int) -> None:
        """Forget packets shown before a time; the counts stay."""
        keep = [i for i, t in enumerate(self.times_ns) if t >= time_ns]
        self.times_ns = [self.times_ns[i] for i in keep]
        self.sizes = [self.sizes[i] for i in keep]
        del self.keyframes_ns[: bisect.bisect_left(self.keyframes_ns, time_ns)]

    def taken(self) -> "PacketIndex":
        """Return what was added since the last time, and the counts of all. Only the counts stay
        here.
        """
        new = replace(self)
        self.times_ns, self.sizes, self.keyframes_ns = [], [], []
        return new

    def join(self, new: "PacketIndex") -> None:
        """Add what another index, which saw the packets, handed over by `taken`."""
        self.times_ns += new.times_ns
        self.sizes += new.sizes
        for time_ns in new.keyframes_ns:
            bisect.insort(self.keyframes_ns, time_ns)
        self.num_packets, self.num_empty = new.num_packets, new.num_empty
        self.num_keyframes, self.streams_end_s = new.num_keyframes, new.streams_end_s


@dataclass(slots=True, eq=False, weakref_slot=True)
class SentPacket:
    """A packet with bytes of the video stream, numbered from 0 where reading began.

    FFmpeg hands it on to the frame that is made of it (AV_CODEC_FLAG_COPY_OPAQUE).
    """

    number: int
    time_ns: int | None
    is_keyframe: bool
    is_discard: bool
    size: int
    head: bytes
    is_timed: bool = False  # it has a presentation time of its own
    num_frames: int = 0
    is_interlaced: bool = False
    settled: str | None = None  # why no frame of it was expected any more

    @classmethod
    def of(cls, packet: Packet, number: int, codec: str) -> "SentPacket":
        """Note what is needed of a packet after the decoder has taken it."""
        ticks = packet.pts if packet.pts is not None else packet.dts
        length = packet.size if codec == "gif" else HEAD_BYTES
        return cls(
            number,
            to_ns(ticks, packet.time_base),
            packet.is_keyframe,
            packet.is_discard,
            packet.size,
            bytes(memoryview(packet)[:length]),
            packet.pts is not None,
        )


@dataclass(slots=True)
class PacketAccount:
    """Counts of the identity: packets with bytes, frames, and packets without a frame by `KINDS`.

    `num_repeated`: frames of packets that had given a frame before.
    """

    num_packets: int = 0
    num_frames: int = 0
    num_repeated: int = 0
    outside_edit_list: int = 0
    second_field: int = 0
    hidden: int = 0
    not_coded: int = 0
    before_keyframe: int = 0
    lost: int = 0
    misplaced: int = 0
    unexplained: int = 0

    @property
    def remainder(self) -> int:
        """The packets that no term of the identity holds; 0 where it is whole."""
        without = sum(getattr(self, kind) for kind in KINDS)
        return self.num_packets - (self.num_frames - self.num_repeated) - without

    def count(self, name: str, more: int = 1) -> None:
        """Add to one of the counts, such as a kind."""
        setattr(self, name, getattr(self, name) + more)

    def add(self, other: Mapping[str, int]) -> None:
        """Add the counts of another part of the same source."""
        for one in fields(self):
            self.count(one.name, other[one.name])


def why_without_picture(codec: str, sent: SentPacket, before: SentPacket | None) -> str | None:
    """Return the kind of a packet that gave no picture and no error, by its own bits; None where
    they do not say. `before` is the packet before it.
    """
    head = sent.head
    if sent.is_discard:
        return "outside_edit_list"
    if codec == "vp8":
        return "hidden" if head and not head[0] & 0x10 else None
    if codec == "vp9":
        return "hidden" if _is_hidden_vp9(head) else None
    if codec == "gif":
        return None if _has_gif_image(head) else "not_coded"
    if codec == "mpeg4":
        is_short = sent.size <= NOT_CODED_BYTES and b"\x00\x00\x01\xb6" in head
        return "not_coded" if is_short else None
    if codec == "hevc":
        return "before_keyframe" if _hevc_slice(head) in (8, 9) else None  # RASL_N, RASL_R
    if before is not None and before.num_frames and before.is_interlaced:
        if codec == "mpeg2video":
            return "second_field" if _mpeg2_structure(head) in (1, 2) else None
        if codec in FIELD_CODECS and _is_half_a_frame(sent, before):
            return "second_field"
    return None


def is_closed(codec: str, data: bytes) -> bool:
    """Tell whether no picture after this keyframe may name one before it: H.264 and HEVC by the type
    of a NAL unit (IDR); MPEG-1 and MPEG-2 by closed_gop; all others.
    """
    if codec == "h264":
        return any(data[place] & 31 == 5 for place in _nal_units(data))
    if codec == "hevc":
        return any(data[place] >> 1 & 63 in (19, 20) for place in _nal_units(data))
    if codec in ("mpeg1video", "mpeg2video"):
        place = data.find(b"\x00\x00\x01\xb8")
        return 0 <= place < len(data) - 7 and bool(data[place + 7] & 0x40)
    return True


def _nal_units(data: bytes) -> Iterator[int]:
    """Yield where NAL units begin, Annex B or with lengths of four bytes."""
    if data[:3] == b"\x00\x00\x01" or data[:4] == b"\x00\x00\x00\x01":
        place = data.find(b"\x00\x00\x01")
        while 0 <= place < len(data) - 3:
            yield place + 3
            place = data.find(b"\x00\x00\x01", place + 3)
        return
    place = 0
    while place + 5 <= len(data):
        yield place + 4
        place += 4 + int.from_bytes(data[place : place + 4], "big")


def _is_hidden_vp9(head: bytes) -> bool:
    """Read show_frame of the uncompressed header."""
    if not head or head[0] >> 6 != 2:
        return False
    bits = f"{int.from_bytes(head[:2].ljust(2, b'0'), 'big'):016b}"
    place = 5 if bits[2:4] == "11" else 4  # profile 3 has a reserved bit
    return bits[place] == bits[place + 2] == "0"  # show_existing_frame, show_frame


def _has_gif_image(data: bytes) -> bool:
    """Tell whether an image descriptor follows the extensions that a GIF packet begins with."""
    place = 0
    while place + 1 < len(data) and data[place] == 0x21:
        place += 2
        while place < len(data) and data[place]:
            place += data[place] + 1
        place += 1
    return place < len(data) and data[place] == 0x2C


def _mpeg2_structure(head: bytes) -> int | None:
    """Read picture_structure: 1 top field, 2 bottom field, 3 frame."""
    place = head.find(b"\x00\x00\x01\xb5")
    while place >= 0 and place + 6 < len(head):
        if head[place + 4] >> 4 == 8:
            return head[place + 6] & 3
        place = head.find(b"\x00\x00\x01\xb5", place + 4)
    return None


def _hevc_slice(head: bytes) -> int | None:
    """Read the type of the first NAL unit that is a slice."""
    return next((kind for place in _nal_units(head) if (kind := head[place] >> 1 & 63) < 32), None)


def _is_half_a_frame(sent: SentPacket, before: SentPacket) -> bool:
    """Tell by the times whether a packet follows the one before within the same frame: it has no
    time, the same, or one less than 25 ms after (half a frame of 20 frames per second).
    """
    if sent.time_ns is None or before.time_ns is None:
        return True
    return 0 <= sent.time_ns - before.time_ns < 25_000_000
