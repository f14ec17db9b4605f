"""The decoder of one video stream, lenient and single-threaded: frames with their packets and
times, signs of damage, and which frames can be believed.

FFmpeg goes on after damage: it conceals, and predicts further pictures from what it concealed. The
switch that makes damage an error (`err_detect=explode`) refuses valid streams too: field pictures of
MPEG-2, open groups of pictures, headers that break a rule which nobody keeps. So nothing is refused
here. Signs of damage are gathered (an error, a packet or picture marked as corrupt, a line in the
decoder's log), and from a sign on frames are withheld until the next keyframe comes out.

Damage is told packet by packet, since each frame names the packet that it was made of. One thread
decodes: frame threads give other pictures from run to run on damaged files, and slice threads pass
over damage.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curate.media.clock import FrameClock
from curate.media.packets import (
    ONE_PICTURE,
    PacketAccount,
    SentPacket,
    is_closed,
    why_without_picture,
)

# Containers without a header that a recording could have begun with: switched on at any time, and
# cut anywhere.
BROADCASTS = frozenset(
    {"mpegts", "mpegtsraw", "mpeg", "mpegvideo", "m4v", "h264", "hevc", "vvc", "obu", "flv"}
    | {"live_flv", "wtv", "dv"}
)
# Lines about headers that a decoder reads past, and about references that a first group may lack.
HARMLESS = re.compile(
    r"SEI type|Overread VUI|No start code is found|TIFF header|first frame is no keyframe|EXIF", re.I
)
REFERENCES = re.compile(
    r"mmco|co located POCs|reference|find ref with POC|frame RPS|illegal short term|"
    r"MVs not available",
    re.I,
)
OPEN_PACKETS = 32  # after such a keyframe that may still name pictures of the group before
TIMED = frozenset({"mpeg1video", "mpeg2video", "h264", "hevc"})
"""Codecs of which a picture is missed as soon as a later one is shown, if both have times."""
PENDING = 48  # packets: a frame has come out when so many more went in (16 frames of two fields)
MAX_SIGNS = 256


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of damage at one packet."""

    sent: SentPacket
    message: str
    kind: str = "BadFrame"
    is_missing: bool = False  # no frame came of it, and nothing else is known


@dataclass(frozen=True, slots=True, eq=False)
class TimedFrame:
    """A frame that can be believed; `time_ns` None where its time leaves it no place."""

    frame: VideoFrame
    sent: SentPacket
    time_ns: int | None


class VideoDecoder:
    """Gives packets of one stream to its decoder and says what came of each.

    clock    times of the frames
    account  what became of the packets whose time `is_counted` holds
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        says: Callable[[Packet, Exception | None, str | None], tuple[str, str]] = (
            lambda *_: ("damaged data", "BadFrame")
        ),
        is_counted: Callable[[int | None], bool] = lambda _: True,
    ) -> None:
        """`says` words a sign: message and kind for a packet, with an error or a line of the log."""
        self._context = stream.codec_context
        self.codec = self._context.name
        self._context.flags |= Flags.copy_opaque
        _listen()
        self._is_broadcast = container.format.name in BROADCASTS
        self.clock = FrameClock(container.format.name, stream.time_base)
        self.account = PacketAccount()
        self._says, self._is_counted = says, is_counted
        self._num_sent = 0
        self._is_all_timed = True  # where packets have no time, those of others may be wrong too
        self._last_sent: SentPacket | None = None
        self._pending: dict[int, SentPacket] = {}  # whose frame has not come
        self._recent: dict[int, SentPacket] = {}
        self.begin(is_seek=False)

    def begin(self, is_seek: bool = True) -> None:
        """Begin anew at another place of the stream; frames come from the next keyframe's on."""
        if is_seek:
            self._context.flush_buffers()
        self.clock.begin()
        self._num_sent = 0
        self._pending.clear()
        self._recent.clear()
        self._signs: list[Sign] = []
        self._lost_since: int | None = None
        self._waits = True
        self._is_first_closed = False
        self._first_key: SentPacket | None = None
        self._begins_with_key = is_seek

    @property
    def has_shown(self) -> bool:
        """Tell whether a frame has come that can be believed."""
        return not self._waits

    def send(
        self,
        packet: Packet,
        protected: tuple[str, str] | None = None,
        is_idle: bool = False,
    ) -> list[TimedFrame | Sign]:
        """Return the frames that come out when a packet goes in, in the order of presentation, and
        before the frames that damage takes away the sign of it.

        One that is `protected` does not go in: message and kind of the sign that it is. Of one that
        `is_idle` no frame is wanted, and the decoder may leave it out.
        """
        if not packet.size and not is_flush(packet):
            return []
        self.clock.note(packet)
        sent = self._note(packet, is_idle) if packet.size else None
        if sent is not None and protected is not None:
            self._add(Sign(sent, *protected))
            return []
        frames = self._decode(packet, sent)
        found: list[TimedFrame | Sign] = []
        for frame in frames:
            found += self._believed(frame)
        if sent is None:
            found += self.finish()
        return found

    def drain(self) -> list[TimedFrame | Sign]:
        """Return the frames that the decoder holds back. It has to `begin` anew afterwards."""
        self.clock.drain()
        found: list[TimedFrame | Sign] = []
        try:
            frames = self._context.decode(None)
        except av.error.FFmpegError:  # what it could not finish is missing, and says so by itself
            return found
        for frame in frames:
            found += self._believed(frame)
        return found

    def finish(self) -> list[TimedFrame | Sign]:
        """Settle every packet that is still out; signs that no frame has shown so far."""
        for number in sorted(self._pending):
            self._settle(self._pending.pop(number))
        found: list[TimedFrame | Sign] = list(self._signs[:1]) if self._lost_since is None else []
        self._signs.clear()
        return found

    def _note(self, packet: Packet, is_idle: bool) -> SentPacket:
        sent = SentPacket.of(packet, self._num_sent, self.codec)
        self._is_all_timed &= sent.is_timed
        if sent.is_keyframe and self._first_key is None:
            self._first_key = sent
            self._begins_with_key |= sent.number == 0
            self._is_first_closed = is_closed(self.codec, bytes(packet))
        self._num_sent += 1
        if not is_idle:
            self._pending[sent.number] = sent
        self._recent[sent.number] = sent
        self._recent.pop(sent.number - 2 * PENDING, None)
        self._last_sent = sent
        self.account.num_packets += self._is_counted(sent.time_ns)
        packet.opaque = sent
        return sent

    def _decode(self, packet: Packet, sent: SentPacket | None) -> list[VideoFrame]:
        with av.logging.Capture() as lines:
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                frames = []
                if sent is not None:
                    self._sign(sent, packet, error, None)
                    self._settle(self._pending.pop(sent.number, sent))
        line = next((one[2] for one in lines if self._is_sign(*one)), None)
        about = sent or self._last_sent
        if line is not None and about is not None:
            self._sign(about, packet, None, line.strip())
        return frames

    def _is_sign(self, level: int, name: str, text: str) -> bool:
        if level > av.logging.ERROR or name != self.codec or HARMLESS.search(text):
            return False
        return not (self._may_lack_references and REFERENCES.search(text))

    @property
    def _may_lack_references(self) -> bool:
        """Tell whether decoding has just begun at a keyframe behind which lies an open group."""
        key = self._first_key
        if key is None:
            return True
        return not self._is_first_closed and self._num_sent - key.number <= OPEN_PACKETS

    def _sign(
        self, sent: SentPacket, packet: Packet, error: Exception | None, line: str | None
    ) -> None:
        if not (self._waits and self._is_leading(sent)):
            self._add(Sign(sent, *self._says(packet, error, line)))

    def _is_leading(self, sent: SentPacket) -> bool:
        """Tell whether a packet is shown before the keyframe at which decoding began, though it
        follows it: it may be predicted from what lies before.
        """
        key = self._first_key
        if key is None or sent.number < key.number:
            return self._is_broadcast or self._begins_with_key
        if sent.time_ns is None or key.time_ns is None:
            return False
        return sent.number > key.number and sent.time_ns < key.time_ns

    def _believed(self, frame: VideoFrame) -> list[TimedFrame | Sign]:
        sent = frame.opaque
        if not isinstance(sent, SentPacket):
            sent = self._last_sent
        assert sent is not None, "a frame comes out of a packet"
        if sent.num_frames and self._last_sent is not None and not self._last_sent.num_frames:
            sent = self._last_sent  # shows the picture of an earlier packet again (VP9, AV1)
        sent.is_interlaced = bool(frame.interlaced_frame)
        time_ns = self.clock.time_ns(frame, sent.number)
        if sent.settled:
            self._unsettle(sent)
        self._settle_before(sent)
        if frame.is_corrupt and self.has_shown:
            self._add(Sign(sent, f"damaged data: {self.codec} marked a picture as corrupt"))
        found: list[TimedFrame | Sign] = []
        if self._is_early(sent, frame):
            kind = "before_keyframe"
        else:
            kind = "lost" if self._is_lost(sent, frame, found) else "frame"
        if kind == "frame" and time_ns is None:
            kind = "misplaced"
        self._count(sent, kind)
        if kind in ("frame", "misplaced"):
            found.append(TimedFrame(frame, sent, time_ns))
        return found

    def _is_early(self, sent: SentPacket, frame: VideoFrame) -> bool:
        """Tell whether no frame so far could be believed, and this one cannot be either."""
        if not self._waits:
            return False
        if frame.is_corrupt:
            return True
        if not (sent.is_keyframe or frame.key_frame):
            key = self._first_key
            if key is None or sent.number < key.number:
                if self._begins_with_key or self._is_broadcast:
                    return True
            # H.264's decoder shows what an open group has before its keyframe, out of nothing.
            # Others leave out what they cannot predict. (The edit list may leave out the keyframe.)
            elif self.codec == "h264" and (self.clock.is_by_decoding or self._is_leading(sent)):
                return True
        self._waits = False
        return False

    def _is_lost(
        self, sent: SentPacket, frame: VideoFrame, found: list[TimedFrame | Sign]
    ) -> bool:
        """Tell whether damage before it takes a frame away; its first sign is put into `found`."""
        due = [sign for sign in self._signs if sign.sent.number <= sent.number]
        if due:
            self._signs = [sign for sign in self._signs if sign.sent.number > sent.number]
            if self._lost_since is None:
                found.append(due[0])
            self._lost_since = max(sign.sent.number for sign in due)
        if self._lost_since is None:
            return False
        is_key = sent.is_keyframe or frame.key_frame
        if is_key and sent.number > self._lost_since:
            self._lost_since = None
            return False
        return True

    def _count(self, sent: SentPacket, kind: str) -> None:
        """Settle a packet that gave a frame."""
        self._pending.pop(sent.number, None)
        sent.num_frames += 1
        if not self._is_counted(sent.time_ns):
            return
        if kind == "frame":
            self.account.num_frames += 1
            self.account.num_repeated += sent.num_frames > 1
        elif sent.num_frames == 1:
            self.account.count(kind)

    def _settle_before(self, sent: SentPacket) -> None:
        """Settle the packets whose frame should have come before that of `sent`."""
        for number in [number for number in self._pending if number != sent.number]:
            one = self._pending[number]
            is_past = number < sent.number - PENDING or (
                self.codec in TIMED
                and self._is_all_timed
                and not self.clock.is_by_decoding
                and one.is_timed
                and sent.is_timed
                and (one.time_ns or 0) < (sent.time_ns or 0)
            )
            if is_past:
                del self._pending[number]
                self._settle(one)

    def _settle(self, sent: SentPacket) -> None:
        """Say why a packet gave no frame; one without a reason is a sign of damage."""
        kind = why_without_picture(self.codec, sent, self._recent.get(sent.number - 1))
        if kind is None:
            if self._lost_since is not None or any(sign.sent is sent for sign in self._signs):
                kind = "lost"
            elif self._waits or self._is_leading(sent):
                kind = "before_keyframe"
            elif self.codec in ONE_PICTURE:
                kind = "lost"
                text = f"damaged data: {self.codec} gave no picture for a packet"
                self._add(Sign(sent, text, is_missing=True))
            else:
                kind = "unexplained"
        sent.settled = kind
        if self._is_counted(sent.time_ns):
            self.account.count(kind)

    def _unsettle(self, sent: SentPacket) -> None:
        """Take back what was said of a packet whose frame comes after all, its time being wrong."""
        self._signs = [sign for sign in self._signs if sign.sent is not sent or not sign.is_missing]
        kind = sent.settled or ""
        if self._is_counted(sent.time_ns):
            self.account.count(kind, -1)
        sent.settled = None

    def leave_out(self, item: TimedFrame) -> None:
        """Count a frame that was given as one whose time leaves it no place."""
        if self._is_counted(item.sent.time_ns):
            self.account.num_frames -= 1
            if item.sent.num_frames > 1:
                self.account.num_repeated -= 1
            else:
                self.account.misplaced += 1

    def _add(self, sign: Sign) -> None:
        self._signs.append(sign)
        if len(self._signs) > MAX_SIGNS:  # nothing comes out: the first says why, the last how far
            del self._signs[1:-1]


def _listen() -> None:
    """Lets decoders' lines about damage be heard (`av.logging`, for the whole process).

    Lines that no decoder here takes go to Python's logger `libav`, where PyAV puts them, which is
    silent unless somebody has set PyAV's level.
    """
    if av.logging.get_level() is None:
        av.logging.set_level(av.logging.ERROR)
        logging.getLogger("libav").setLevel(logging.CRITICAL + 1)
    av.logging.set_skip_repeated(False)  # the same line of two packets is two signs


def is_flush(packet: Packet) -> bool:
    """Tell the packet after the last from one without bytes, which stands for the same picture
    again.
    """
    return not packet.size and packet.pts is None and packet.dts is None
