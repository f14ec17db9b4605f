"""From transitions to clip spans: shots are what lies between transitions, long ones divided on frame times."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from curate.clip import Span
from curate.shots import Transition

EdgeKind = Literal["cut", "dissolve", "fade", "division", "part", "source", "fault"]


@dataclass(frozen=True, slots=True)
class ShotSpan:
    """One clip's place: which shot of the source, which piece of that shot, and why it starts and ends where it does."""

    span: Span
    shot_index: int
    clip_index: int
    start_kind: EdgeKind
    end_kind: EdgeKind


class ShotAssembler:
    """Streaming. Holds the frame times of the open clip only. Every frame outside a transition lands in exactly one span.

    part        only frames in it count; a shot that is open at its ends is divided there. None: the whole source
    start_kind  why the first clip starts where it does, unless frames before the part are pushed
    is_over     the part is closed: nothing that comes can add to it
    """

    def __init__(self, max_clip_s: float, part: Span | None = None, start_kind: EdgeKind = "source") -> None:
        self._max_ns = round(max_clip_s * 1e9)
        self._part = part
        self._times: deque[int] = deque()
        self._start_kind: EdgeKind = start_kind
        self._clip_index = 0
        self.num_shots = 0
        self.is_over = False

    @property
    def open_start_ns(self) -> int | None:
        """Where the open clip starts; nothing before it is needed any more. None before the first frame of a shot."""
        return self._times[0] if self._times else None

    def push(self, time_ns: int) -> None:
        if self._part is None or time_ns in self._part:
            self._times.append(time_ns)
        elif time_ns < self._part.start_ns:
            self._start_kind = "part"

    def advance(self, transitions: list[Transition], settled_ns: int) -> Iterator[ShotSpan]:
        """Closes what the transitions end, then divides what is certain to be one shot by now."""
        for transition in transitions:
            if self._part is not None and not (self._part.start_ns <= transition.end_ns and transition.start_ns <= self._part.end_ns):
                continue
            yield from self._close_shot(transition.start_ns, transition.kind)
            self._drop_before(transition.end_ns)
            self._start_kind = transition.kind
        if self._part is not None and settled_ns > self._part.end_ns:
            yield from self.finish(settled_ns, "part")
        yield from self._divide(settled_ns)

    def finish(self, end_ns: int, kind: EdgeKind) -> Iterator[ShotSpan]:
        """Closes the open shot at the end of the source or at a fault; what comes next starts a new shot."""
        if self._part is not None and end_ns > self._part.end_ns:
            end_ns, kind, self.is_over = self._part.end_ns, "part", True
        yield from self._close_shot(end_ns, kind)
        self._times.clear()
        self._start_kind = kind

    def _divide(self, settled_ns: int) -> Iterator[ShotSpan]:
        while self._times and settled_ns > self._times[0] + self._max_ns:
            limit = self._times[0] + self._max_ns
            end_ns = next((t for t in self._times if t > limit), None)
            if end_ns is None or end_ns > settled_ns:
                return
            # The last frame time inside the limit ends the clip, unless a single frame lasts longer than the limit.
            inside = [t for t in self._times if self._times[0] < t <= limit]
            if not inside and end_ns == settled_ns:
                return  # a transition there ends it, and must find it open
            yield self._emit(inside[-1] if inside else end_ns, "division")

    def _close_shot(self, end_ns: int, kind: EdgeKind) -> Iterator[ShotSpan]:
        if self._times and self._times[0] < end_ns:
            yield from self._divide(end_ns)
            yield self._emit(end_ns, kind)
        if self._clip_index:
            self.num_shots += 1
            self._clip_index = 0

    def _emit(self, end_ns: int, kind: EdgeKind) -> ShotSpan:
        found = ShotSpan(Span(self._times[0], end_ns), self.num_shots, self._clip_index, self._start_kind, kind)
        self._clip_index += 1
        self._start_kind = kind
        self._drop_before(end_ns)
        return found

    def _drop_before(self, time_ns: int) -> None:
        while self._times and self._times[0] < time_ns:
            self._times.popleft()
