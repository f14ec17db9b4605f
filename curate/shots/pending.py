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
            if _touch(merged, other):
                merged = _join(merged, other)
            else:
                apart.append(other)
        self._waiting = sorted([*apart, merged])

    def advance(self, frames_ns: Sequence[int], open_ns: int | None = None, limit_ns: int | None = None) -> list[Transition]:
        """What is certain by the newest of the held frame times.

        open_ns   start of a fade that has not ended yet
        limit_ns  something may still be found from this time on, however late
        """
        horizon_ns = frames_ns[-1] - self._lag_ns
        if limit_ns is not None:
            horizon_ns = min(horizon_ns, limit_ns)
        ongoing = None if open_ns is None else Transition(max(open_ns, self.settled_ns), frames_ns[-1], "fade")
        out = []
        while self._waiting and self._waiting[0].end_ns + JOIN_NS <= horizon_ns and not _touch(self._waiting[0], ongoing):
            out.append(self._waiting.pop(0))
        out += self._piece(frames_ns, horizon_ns, ongoing)
        if out:
            self.settled_ns = max(self.settled_ns, out[-1].end_ns)
        starts_ns = [one.start_ns for one in (*self._waiting[:1], ongoing) if one is not None]
        self.settled_ns = max(self.settled_ns, min([horizon_ns, *starts_ns]))
        return out

    def finish(self, end_ns: int) -> list[Transition]:
        out, self._waiting = self._waiting, []
        self.settled_ns = max(self.settled_ns, end_ns)
        return out

    def _piece(self, frames_ns: Sequence[int], horizon_ns: int, ongoing: Transition | None) -> list[Transition]:
        """The part of a stretch without end that lies before the horizon."""
        first = self._waiting[0] if self._waiting else ongoing
        if first is not None and ongoing is not None and _touch(first, ongoing):
            first = _join(first, ongoing)
        if first is None or first.start_ns >= horizon_ns - self._lag_ns:
            return []
        index = bisect.bisect_right(frames_ns, min(horizon_ns, first.end_ns)) - 1
        if index < 0 or frames_ns[index] <= first.start_ns:
            return []
        cut_ns = frames_ns[index]
        rest = (Transition(max(one.start_ns, cut_ns), one.end_ns, one.kind) for one in self._waiting if one.end_ns > cut_ns)
        self._waiting = list(rest)
        return [Transition(first.start_ns, cut_ns, first.kind)]


def _touch(one: Transition, other: Transition | None) -> bool:
    return other is not None and one.start_ns - JOIN_NS <= other.end_ns and other.start_ns - JOIN_NS <= one.end_ns


def _join(one: Transition, other: Transition) -> Transition:
    start_ns, end_ns = min(one.start_ns, other.start_ns), max(one.end_ns, other.end_ns)
    kind = max(one.kind, other.kind, key=_RANK.__getitem__)
    # Two hard cuts a frame or two apart hold a blended frame between them: together they are a gradual transition.
    return Transition(start_ns, end_ns, "dissolve" if kind == "cut" and start_ns < end_ns else kind)
