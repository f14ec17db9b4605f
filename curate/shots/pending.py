"""Transitions on their way out: overlapping ones are merged, each leaves once, in order, when nothing can change it any more."""

import bisect
from collections.abc import Sequence

from curate.shots import Transition, TransitionKind

_RANK: dict[TransitionKind, int] = {"cut": 0, "dissolve": 1, "fade": 2, "fault": 3}


JOIN_NS = 100_000_000
"""Transitions this close are one: a picture shown for a tenth of a second is no shot."""


class Pending:
    """Holds what was found until it is `lag_ns` old.

    lag_ns   nothing is ever found that starts more than this before the newest frame (what does is clipped)

    A stretch that goes on for more than twice `lag_ns` (minutes of black) leaves in pieces that touch, so that the wait stays bounded.
    """

    def __init__(self, lag_ns: int) -> None:
        self._lag_ns = lag_ns
        self._waiting: list[Transition] = []
        self.settled_ns = 0

    def start(self, time_ns: int) -> None:
        """The source's first frame: nothing starts before it."""
        self.settled_ns = time_ns

    def add(self, found: Transition) -> None:
        merged = Transition(max(found.start_ns, self.settled_ns), found.end_ns, found.kind)
        if merged.end_ns < merged.start_ns:
            return
        apart = []
        for other in self._waiting:
            if other.start_ns - JOIN_NS <= merged.end_ns and merged.start_ns - JOIN_NS <= other.end_ns:
                merged = _join(merged, other)
            else:
                apart.append(other)
        self._waiting = sorted([*apart, merged])

    def advance(self, frames_ns: Sequence[int], open_ns: int | None = None, limit_ns: int | None = None) -> list[Transition]:
        """What is certain by the newest of the held frame times.

        open_ns   start of a fade that has not ended yet
        limit_ns  something may still be found from this time on, however late
        """
        if open_ns is not None:
            self.add(Transition(open_ns, frames_ns[-1], "fade"))
        horizon_ns = frames_ns[-1] - self._lag_ns
        if limit_ns is not None:
            horizon_ns = min(horizon_ns, limit_ns)
        out = []
        while self._waiting and self._waiting[0].end_ns + JOIN_NS <= horizon_ns:
            out.append(self._waiting.pop(0))
        if self._waiting and self._waiting[0].start_ns < horizon_ns - self._lag_ns:
            out += self._piece(frames_ns, horizon_ns)
        if self._waiting:
            horizon_ns = min(horizon_ns, self._waiting[0].start_ns)
        self.settled_ns = max(self.settled_ns, horizon_ns)
        return out

    def finish(self, end_ns: int) -> list[Transition]:
        out, self._waiting = self._waiting, []
        self.settled_ns = max(self.settled_ns, end_ns)
        return out

    def _piece(self, frames_ns: Sequence[int], horizon_ns: int) -> list[Transition]:
        whole = self._waiting[0]
        index = bisect.bisect_right(frames_ns, min(horizon_ns, whole.end_ns)) - 1
        if index < 0 or frames_ns[index] <= whole.start_ns:
            return []
        self._waiting[0] = Transition(frames_ns[index], whole.end_ns, whole.kind)
        return [Transition(whole.start_ns, frames_ns[index], whole.kind)]


def _join(one: Transition, other: Transition) -> Transition:
    start_ns, end_ns = min(one.start_ns, other.start_ns), max(one.end_ns, other.end_ns)
    kind = max(one.kind, other.kind, key=_RANK.__getitem__)
    # Two hard cuts a frame or two apart hold a blended frame between them: together they are a gradual transition.
    return Transition(start_ns, end_ns, "dissolve" if kind == "cut" and start_ns < end_ns else kind)
