"""Presentation times of frames, by best effort as FFmpeg has it.

A container that keeps presentation times gives each packet its own (`pts`), and a frame has that
of its packet. Some keep decoding times only: AVI, ASF, MXF and RealMedia, and MP4 files without a
`ctts` box. What stands in `pts` there runs backward as soon as pictures are reordered. The frame
then has the decoding time of the packet that made it come out (`dts` of the frame; FFmpeg's
best_effort_timestamp and its players do the same). Frames that come out at the very end, which no
packet pushes out, follow each other at the distance of the ones before.
"""

from fractions import Fraction

from av.packet import Packet
from av.video.frame import VideoFrame

from curate.clip import NS_PER_S
from curate.media.probe import to_ns

DECODE_TIMES = frozenset({"avi", "asf", "asf_o", "mxf", "rm"})
"""Containers whose times are those of decoding, or from which both come out the same."""
MAX_TIME_NS = 2**62  # 146 years: nanoseconds stay well inside 64 bits
DEFAULT_STEP_NS = 40_000_000  # of streams that time neither their frames nor their rate
SAME_NS = 200_000_000  # a time that runs back by no more is a little wrong, or the same time again
NUDGE_NS = 1_000_000  # after the frame before: where a frame of the same time is put
MAX_NUDGED = 16  # in a row, as many as codecs reorder; more frames of no later time are left out


class FrameClock:
    """Times the frames of one stream in the order in which they come out of the decoder.

    end_ns  end of the last frame that was timed, None before the first
    """

    def __init__(self, container: str, time_base: Fraction | None) -> None:
        # A frame that is drained does not know its own.
        self._time_base = time_base
        # None: presentation times, until frames come out in another order than their packets
        # while the packets' times only go forward.
        self._is_by_decoding: bool | None = True if container in DECODE_TIMES else None
        self._is_patchy = False  # some packets have no presentation time (MPEG-PS), and those of others may be theirs
        self._latest_pts: int | None = None
        self._latest_number = -1
        self._is_draining = False
        self._num_nudged = 0
        self._last_step_ns = 0
        self.last_ns: int | None = None
        self.end_ns: int | None = None

    @property
    def is_by_decoding(self) -> bool:
        return self._is_by_decoding is True

    def begin(self) -> None:
        """Forget the frames before: the decoder begins anew at another place of the stream."""
        self._latest_number = -1
        self._is_draining = False
        self._num_nudged = self._last_step_ns = 0
        self.last_ns = self.end_ns = None

    def drain(self) -> None:
        """Note that no packet pushes out the frames that come now."""
        self._is_draining = True

    def note(self, packet: Packet) -> None:
        """Note a packet before the decoder gets it; one without bytes is the last."""
        if not packet.size:
            self.drain()
        elif packet.pts is None:
            self._is_patchy = True
        elif self._is_by_decoding is None:
            if self._latest_pts is not None and packet.pts < self._latest_pts:
                self._is_by_decoding = False
            self._latest_pts = max(packet.pts, self._latest_pts or packet.pts)

    def time_ns(self, frame: VideoFrame, number: int) -> int | None:
        """Return when a frame is shown: later than the frame before. None for a time that runs back,
        or lies a century away: the frame has no place. `number` is that of its packet.

        A frame's packet went in before the one that pushes it out, so what has been timed by its
        own packet until the first frame out of order lies before what is timed by the other.
        """
        if self._is_by_decoding is None and number < self._latest_number:
            self._is_by_decoding = True
        self._latest_number = max(number, self._latest_number)
        ticks: int | None
        if not self._is_by_decoding and not self._is_patchy:
            ticks = frame.pts if frame.pts is not None else frame.dts
        elif self._is_draining and self._is_by_decoding:
            ticks = None
        else:
            ticks = frame.dts if frame.dts is not None else frame.pts
        time_ns = to_ns(ticks, self._time_base)
        if time_ns is None and self.last_ns is not None and self._last_step_ns:
            time_ns = self.last_ns + self._last_step_ns
        return self._placed(self.end_ns or 0 if time_ns is None else time_ns, frame)

    def _placed(self, time_ns: int, frame: VideoFrame) -> int | None:
        if not -MAX_TIME_NS < time_ns < MAX_TIME_NS:
            return None
        if self.last_ns is not None and time_ns <= self.last_ns:
            if self.last_ns - time_ns > SAME_NS or self._num_nudged >= MAX_NUDGED:
                self._num_nudged = MAX_NUDGED  # a clock that was set back: until it has caught up
                return None
            self._num_nudged += 1
            time_ns = self.last_ns + NUDGE_NS
        else:
            self._num_nudged = 0
            if self.last_ns is not None:
                self._last_step_ns = time_ns - self.last_ns
        own_ns = to_ns(frame.duration, self._time_base)
        self.last_ns = time_ns
        self.end_ns = time_ns + (own_ns or self._last_step_ns or DEFAULT_STEP_NS)
        return time_ns


def time_problem(frame: VideoFrame, last_ns: int | None) -> tuple[str, str]:
    """Return message and kind of the fault for frames that are left out because of their times."""
    ticks = frame.pts if frame.pts is not None else frame.dts
    time_ns = to_ns(ticks, frame.time_base) or 0
    if last_ns is None or abs(time_ns) >= MAX_TIME_NS:
        far = f"their times ({time_ns / NS_PER_S:.3g} s) are more than a century away"
        return f"frames are left out: {far}", "AbsurdTime"
    times = f"{time_ns / NS_PER_S:.3f} s after {last_ns / NS_PER_S:.3f} s"
    back = f"their times do not lie after those of the frames before ({times})"
    return f"frames are left out: {back}", "TimesGoBack"
