"""What was found and is not certain: it waits until what follows has been seen, is judged, and becomes a transition or nothing.

Doubts about one place compete. A cut between frames that are compressed together looks like a short ramp, so the greatest step of a
short span is a doubt of its own; and what begins or ends beside a cut is a move of the camera or a figure more often than a wipe, so a
span that would run into a cut must be the more probable of the two. Spans therefore wait for the cuts that they could run into.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from curate.shots import Transition, TransitionKind
from curate.shots.evidence import STAYS_NS, Answers, Doubt, Source, evidence
from curate.shots.judge import probability
from curate.shots.pending import JOIN_NS, Pending
from curate.shots.ring import Ring
from curate.shots.track import Track, rms

Judge = Callable[[Doubt, np.ndarray], float]
"""The probability that a doubt is a transition, of its evidence."""

MIXED_FRAMES, MIXED_SHARE, LEAST_MIXED = 1, 0.15, 5
"""A gradual transition is reported so much longer on each side: frames and, but for fades, share of its length; not very short ones."""

BAR, SURE_BAR, SURE = 0.5, 0.15, ("fade", "plain")
"""Least probability of what is reported. Fades and plain cuts are nearly always right (920 of 924 cuts): only the clearly wrong go."""

SHORT, LEAST_STEP = 12, 10.0
"""A span of at most so many frames may be a cut, if its greatest step (rms, 8-bit levels) is this great."""

SAID_BEFORE = 0.5
"""What the network marks faintly is nothing more than a span that was reported, if so much of it lies in that."""
MOST_REMEMBERED = 20


class Doubts:
    """The doubts about one source.

    pending      takes what is decided
    quick, slow  what the network has said of frames of the ring, of every one and of some; filled by the caller
    """

    def __init__(self, track: Track, ring: Ring, pending: Pending, quick: Answers, slow: Answers, judge: Judge = probability) -> None:
        self._track, self._ring, self._pending = track, ring, pending
        self._quick, self._slow, self._judge = quick, slow, judge
        self._waiting: list[Doubt] = []
        self._cuts: list[tuple[int, float]] = []
        self._spans: list[tuple[int, int]] = []

    @property
    def first_ns(self) -> int | None:
        """The last frame before any of what waits."""
        track = self._track
        return min((track.time_ns(max(one.start - 1, track.first)) for one in self._waiting), default=None)

    def add(self, start: int, stop: int, source: Source) -> None:
        """Frames `start <= n < stop` of the track may be mixed; a cut before `start` where they are equal."""
        track = self._track
        start = max(start, track.first + 1)
        stop = min(max(stop, start), track.next - 1)
        self._wait(Doubt(start, stop, source))
        if 0 < stop - start <= SHORT and source != "fade":
            _, features = track.window(start - 1, stop + 1)
            steps = rms(np.diff(features, axis=0))
            at = start + int(np.argmax(steps))
            if steps.max() >= LEAST_STEP and not any(one.is_cut and one.start == at for one in self._waiting):
                self._wait(Doubt(at, at, "faint"))

    def _wait(self, one: Doubt) -> None:
        if one not in self._waiting:
            self._waiting.append(one)

    def settle(self, now_ns: int | None, asked_ns: int | None) -> None:
        """Decides what is ripe: cuts before spans, and what the network marks faintly last.

        now_ns    time of the newest frame; None: the source has ended
        asked_ns  from here on the network is still to be asked, if anywhere
        """
        left = []
        for one in sorted(self._waiting, key=lambda one: (not one.is_cut, one.source == "faint", one.stop, one.start)):
            held = replace(one, start=max(one.start, self._track.first + 1), stop=max(one.stop, self._track.first + 1))
            end_ns = self._reach(held)[1]
            if now_ns is None or (end_ns + STAYS_NS <= now_ns and (asked_ns is None or asked_ns > end_ns)):
                self._decide(held)
            else:
                left.append(one)
        self._waiting = left

    def _reach(self, one: Doubt) -> tuple[int, int]:
        """From when to when other transitions would become one with it."""
        start_ns, end_ns = self._track.time_ns(one.start), self._track.time_ns(one.stop)
        if one.is_cut:
            return start_ns, end_ns
        start_ns, end_ns = self._widened(start_ns, end_ns, MIXED_SHARE)
        return start_ns - JOIN_NS, end_ns + JOIN_NS

    def _decide(self, one: Doubt) -> None:
        probable = self._judge(one, evidence(one, self._track, self._ring, self._quick, self._slow))
        if probable < (SURE_BAR if one.source in SURE else BAR):
            return
        start_ns, end_ns = self._track.time_ns(one.start), self._track.time_ns(one.stop)
        if one.is_cut:
            # Whatever moves beside a plain cut, it is no part of a ramp.
            self._cuts = [*self._cuts[-MOST_REMEMBERED:], (start_ns, 1.0 if one.source == "plain" else probable)]
            self._pending.add(Transition(start_ns, start_ns, "cut"))
        elif one.source == "fade":
            self.report(start_ns, end_ns, "fade", 0.0)
        elif not self._meets_a_cut(one, probable):
            is_known = one.source == "faint" and self._was_said(start_ns, end_ns)
            self._spans = [*self._spans[-MOST_REMEMBERED:], (start_ns, end_ns)]
            self.report(start_ns, end_ns, "dissolve", 0.0 if is_known else MIXED_SHARE)

    def _meets_a_cut(self, one: Doubt, probable: float) -> bool:
        start_ns, end_ns = self._reach(one)
        return any(start_ns <= cut_ns <= end_ns and of_cut >= probable for cut_ns, of_cut in self._cuts)

    def _was_said(self, start_ns: int, end_ns: int) -> bool:
        least_ns = SAID_BEFORE * (end_ns - start_ns)
        return any(min(end_ns, last_ns) - max(start_ns, first_ns) >= least_ns for first_ns, last_ns in self._spans)

    def report(self, start_ns: int, end_ns: int, kind: TransitionKind, share: float) -> None:
        """A gradual transition, whatever the judge would say of it."""
        self._pending.add(Transition(*self._widened(start_ns, end_ns, share), kind))

    def _widened(self, start_ns: int, end_ns: int, share: float) -> tuple[int, int]:
        """With the frames beside it in which so little is mixed that nothing marks them."""
        track, more_ns = self._track, round(share * (end_ns - start_ns))
        if track.at_or_after(end_ns) - track.at_or_after(start_ns) < LEAST_MIXED:
            return start_ns, end_ns
        start = track.at_or_after(start_ns - more_ns) - MIXED_FRAMES
        end = track.at_or_after(end_ns + more_ns) + MIXED_FRAMES
        return min(start_ns, track.time_ns(max(start, track.first))), max(end_ns, track.time_ns(min(end, track.next - 1)))
