"""Pairs of frames about 1/7 s apart for optical flow, picked while the source streams by.

Time is what a codec and a change of frame rate leave alone, so pairs are chosen by time and never by frame number:

* Frames that repeat the frame before them are collapsed onto the first of their run: a repeated frame shows a moment that has passed.
  A picture held for 175 ms or more is different. No collapsing brings its neighbours within reach; it stands still for as long as a pair
  lasts, and each of its frames is what there is to see at its time. So a frame is *usable* when it starts a run or belongs to a run that
  lasts 175 ms or more. (Pairs inside a held picture see no motion, pairs across its end see all of it: the mean is right.)
* Anchors lie one in every `pair_ms` of the source's own time, at (k + frac(k / golden ratio)) * pair_ms: an even spread that no
  regular cadence (held pictures, steps) can fall in step with.
* Frame a is the first usable frame at or after the anchor. Frame b is the usable frame nearest to a + 148 ms, 120 to 175 ms after a.

148 ms, because the spacing nearest to it changes least when frames are repeated or dropped: 167 ms at 24 and 12 fps, 160 at 25 and 12.5,
133 at 30 and 15, 140 at 50, 150 at 20, 40 and 60, 125 at 8. (150 is a tie at 30 fps, which the rounding of time stamps would decide.)
Such pairs do not exist from 8.4 to 11.4 pictures a second, which includes 10, nor below 5.7.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from curate.clip import Span
from curate.samples import Pair

TARGET_NS = 148_000_000
MIN_NS = 120_000_000
MAX_NS = 175_000_000
HOLD_NS = MAX_NS
_INVERSE_GOLDEN_RATIO_PPB = 618_033_989


class LumaSource(Protocol):
    """A decoded frame held by reference."""

    def analysis_luma(self) -> np.ndarray:
        """uint8 (H, W), the same size for the whole source."""
        ...


@dataclass(slots=True, eq=False)
class _Run:
    """Frames that show one picture, from the first of them to the next picture's first."""

    start_ns: int
    end_ns: int | None = None

    def is_held(self, now_ns: int) -> bool:
        return (now_ns if self.end_ns is None else self.end_ns) - self.start_ns >= HOLD_NS


@dataclass(slots=True, eq=False)
class _Frame:
    time_ns: int
    run: _Run
    picture: LumaSource | None
    _luma: np.ndarray | None = None

    @property
    def starts_run(self) -> bool:
        return self.time_ns == self.run.start_ns

    def luma(self) -> np.ndarray:
        """Converts once, then lets go of the decoder's buffer."""
        if self._luma is None:
            assert self.picture is not None
            self._luma, self.picture = self.picture.analysis_luma(), None
        return self._luma


@dataclass(slots=True, eq=False)
class _Search:
    """A first frame that looks for its second: the nearest start of a run, and the nearest frame that counts only if it is held."""

    a: _Frame
    start: _Frame | None = None
    held: _Frame | None = None

    def offer(self, frame: _Frame) -> None:
        if not MIN_NS <= frame.time_ns - self.a.time_ns <= MAX_NS:
            return
        if frame.starts_run:
            self.start = self._nearer(self.start, frame)
        else:
            self.held = self._nearer(self.held, frame)

    def resolve(self, now_ns: int) -> "_Found | bool":
        """As `_Anchor.resolve`."""
        if now_ns < self.a.time_ns + MAX_NS and (self.start is None or self.start.time_ns < self.a.time_ns + TARGET_NS):
            return True
        b = self.start
        if self.held is not None and self._nearer(self.start, self.held) is self.held:
            if self.held.run.is_held(now_ns):
                b = self.held
            elif self.held.run.end_ns is None:
                return True
        if b is None:
            return False
        a = self.a
        needs_ns = max([a.time_ns + MAX_NS] + [frame.run.start_ns + HOLD_NS for frame in (a, b) if not frame.starts_run])
        return _Found(Pair(a.time_ns, b.time_ns, a.luma(), b.luma()), needs_ns)

    def _nearer(self, best: _Frame | None, frame: _Frame) -> _Frame:
        """The frame nearer to the target, the earlier one where both are as near."""
        target_ns = self.a.time_ns + TARGET_NS
        return min((f for f in (best, frame) if f is not None), key=lambda f: (abs(f.time_ns - target_ns), f.time_ns))


@dataclass(slots=True, eq=False)
class _Anchor:
    """One stretch of time that may give one pair, from its first frame (`held`, when it repeats another) or its first run start."""

    next_ns: int
    held: _Search | None = None
    fresh: _Search | None = None

    def offer(self, frame: _Frame) -> None:
        if frame.time_ns < self.next_ns and self.fresh is None:
            if frame.starts_run:
                self.fresh = _Search(frame)
            elif self.held is None:
                self.held = _Search(frame)
        for search in (self.held, self.fresh):
            if search is not None:
                search.offer(frame)

    def resolve(self, now_ns: int) -> "_Found | bool":
        """The pair; False when there will be none; True while that is open. `now_ns`: every frame before it has been offered."""
        if self.held is not None:
            if self.held.a.run.is_held(now_ns):
                self.fresh = None
                return self.held.resolve(now_ns)
            if self.held.a.run.end_ns is None:
                return True
            self.held = None
        if self.fresh is None:
            return now_ns < self.next_ns
        return self.fresh.resolve(now_ns)


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    pair: Pair
    needs_ns: int  # nothing after this time had a say in the choice


class PairPicker:
    """Takes every frame of one source in order; holds the luma of pairs not yet forgotten, and a handful of frames by reference."""

    def __init__(self, pair_ms: int) -> None:
        self._pair_ns = pair_ms * 1_000_000
        self._run: _Run | None = None
        self._open: list[_Anchor] = []
        self._found: list[_Found] = []
        self._next_ns: int | None = None

    def push(self, time_ns: int, is_duplicate: bool, picture: LumaSource) -> None:
        """`is_duplicate`: the picture is that of the frame before (see `FrameTrack.push`).

        Where it raises, what it was about to pair is given up, and the next frame is as a source's first.
        """
        try:
            self._push(time_ns, is_duplicate, picture)
        except Exception:
            self._run, self._open, self._next_ns = None, [], self._anchor_after(time_ns)
            raise

    def _push(self, time_ns: int, is_duplicate: bool, picture: LumaSource) -> None:
        if self._run is None or not is_duplicate:
            if self._run is not None:
                self._run.end_ns = time_ns
            self._run = _Run(time_ns)
        frame = _Frame(time_ns, self._run, picture)
        if self._next_ns is None or time_ns >= self._next_ns:
            self._next_ns = self._anchor_after(time_ns)
            self._open.append(_Anchor(self._next_ns))
        still_open = []
        for anchor in self._open:
            anchor.offer(frame)
            outcome = anchor.resolve(time_ns)
            if isinstance(outcome, _Found):
                self._found.append(outcome)
            elif outcome:
                still_open.append(anchor)
        self._open = still_open

    def cut(self, span: Span) -> tuple[Pair, ...]:
        """Pairs inside the span, in order of time.

        What comes after the span has no say: a pair counts only when the span reaches 175 ms beyond its first frame and beyond
        the start of any held picture it uses. Every frame of the span must have been pushed; how many after it does not matter.
        """
        found = [*self._found, *(o for o in (anchor.resolve(span.end_ns) for anchor in self._open) if isinstance(o, _Found))]
        inside = [f.pair for f in found if f.pair.time0_ns in span and f.needs_ns <= span.end_ns]
        return tuple(sorted(inside, key=lambda pair: pair.time0_ns))

    def forget_before(self, time_ns: int) -> None:
        """Drops pairs that begin before the time."""
        self._found = [f for f in self._found if f.pair.time0_ns >= time_ns]

    def _anchor_after(self, time_ns: int) -> int:
        """The first anchor later than the time, in nanoseconds."""
        k = time_ns // self._pair_ns - 1
        while self._anchor_ns(k) <= time_ns:
            k += 1
        return self._anchor_ns(k)

    def _anchor_ns(self, k: int) -> int:
        return k * self._pair_ns + k * _INVERSE_GOLDEN_RATIO_PPB % 1_000_000_000 * self._pair_ns // 1_000_000_000
