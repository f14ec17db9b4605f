"""What a decoder's output owes to its input: groups of pictures, times that go forward, and pictures that never come."""

import bisect
from dataclasses import dataclass, field

from av.packet import Packet

from curate.clip import NS_PER_S

MAX_BEHIND = 3  # frames in a row whose times do not lie after those before them; more is a fault
MAX_TIME_NS = 2**62  # 146 years: nanoseconds stay well inside 64 bits
LONGEST_NS = 60 * NS_PER_S  # that a frame is taken to be shown: after more, nothing is known of what there was


@dataclass(slots=True)
class Groups:
    """Counts the groups of pictures whose keyframe has come, and knows what a group shows before its keyframe."""

    num: int = 0
    keyframe_pts: int | None = None

    def add(self, packet: Packet) -> None:
        if packet.size and packet.is_keyframe:
            self.num, self.keyframe_pts = self.num + 1, packet.pts

    def is_leading(self, packet: Packet) -> bool:
        return packet.pts is not None and self.keyframe_pts is not None and packet.pts < self.keyframe_pts


@dataclass(slots=True)
class Awaited:
    """Pictures that were sent to the decoder and have not come out.

    The MPEG-1 and MPEG-2 decoder passes over a picture without a single good slice in silence, and shows what was predicted from it.
    Every packet of theirs is one picture; of other codecs that is not so (VP8 has pictures that are never shown), and they are not asked.
    """

    codec: str
    _times: list[int] = field(default_factory=list)

    def sent(self, packet: Packet) -> None:
        if packet.size and packet.pts is not None and not packet.is_discard and self.codec in ("mpeg1video", "mpeg2video"):
            bisect.insort(self._times, packet.pts)

    def num_lost(self, pts: int | None) -> int:
        """How many pictures should have come before the one shown at `pts`, which has now come."""
        if pts is None:
            return 0
        num_lost = bisect.bisect_left(self._times, pts)
        del self._times[: bisect.bisect_right(self._times, pts)]
        return num_lost

    def forget(self) -> None:
        self._times.clear()


def time_problem(time_ns: int, last_ns: int | None) -> tuple[str, str]:
    """Message and kind of the fault for frames that are left out because of their times."""
    if last_ns is None or abs(time_ns) >= MAX_TIME_NS:
        return f"frames are left out: their times ({time_ns / NS_PER_S:.3g} s) are more than a century away", "AbsurdTime"
    times = f"{time_ns / NS_PER_S:.3f} s after {last_ns / NS_PER_S:.3f} s"
    return f"frames are left out: their times do not lie after those of the frames before ({times})", "TimesGoBack"
