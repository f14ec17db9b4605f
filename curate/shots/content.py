r"""The cascade: PySceneDetect detectors at several rates on one decode, merged and placed on the full-rate track.

    every frame, 64x36 BGR --> full-rate pass ---------------------------> hard cuts --\
                           \-> low-rate passes --> intervals --> placed on the track ---> merged, in order, each once
                            \-> contrast track ------------------------> fades --------/

LVD (arXiv 2311.15127, section 3) uses three PySceneDetect detectors at three frame rates with three thresholds, so that slow
changes are found as well as cuts; how their answers are merged is not published. Here a cut of a low-rate pass is the interval
between two of its samples. Where a full-rate cut lies in it, it is that cut. Otherwise the track of every frame says what happened
there: a dissolve (its span is measured), a hard cut that motion hid from the full-rate pass, or only motion, which is dropped.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from curate.shots import Transition
from curate.shots.blend import Blend, located
from curate.shots.fades import RETURNED, FadeFinder
from curate.shots.likeness import is_other_picture, spread_of
from curate.shots.params import Shots
from curate.shots.passes import Proposal, RatedPass
from curate.shots.pending import Pending
from curate.shots.track import Track, rms

SLACK_S = 0.25
MIN_SPREAD = 0.18
"""A change confined to less of the picture is an object or a title, not another shot (title over a shot: 0.12; dissolves: 0.25 up)."""
FREE_DRIFT, DRIFT_COST = 0.7, 0.75
"""Beside a dissolve the picture rests (drift 0.1 to 1); beside a piece of a camera move it goes on as fast as on it (1 to 3)."""

SAME = 3.0
"""Interval ends that differ by less (rms, 8-bit levels) show the same; the hue of grey pictures is noise to the detectors."""

JUMP = 2.5
"""How much a hidden hard cut must stand out over every other step within `JUMP_BESIDE_S`."""
JUMP_BESIDE_S = 0.25
JUMP_SPREAD = 0.15

AT_AN_END = 2
"""Frames: so many the adaptive detector looks at on either side."""
SPARSE_NS = 180_000_000
"""From here on between two frames, nothing beside a step can say whether it stands out: slides that are one frame each, time lapses."""


class CascadeDetector:
    """See `curate.shots.ShotDetector`. Holds `max_transition_s` of frames at 16x9 and nothing that grows with the source."""

    size = (64, 36)

    def __init__(self, params: Shots, track: Track | None = None) -> None:
        self._params = params
        self._passes = [RatedPass(one) for one in params.passes]
        self._track = track or Track(round((params.max_transition_s + 1) * 1e9))
        self._flash_ns = round(params.flash_s * 1e9)
        self._cut_wait_ns = 2 * self._flash_ns
        self._fades = FadeFinder(self._track, params)
        self._pending = Pending(round((params.max_transition_s + SLACK_S) * 1e9))
        self._exact: list[Proposal] = []
        self._intervals: list[Proposal] = []
        self._cuts: list[int] = []
        self._dissolve = (0, 0)
        self._fade_spans: list[Transition] = []

    @property
    def settled_ns(self) -> int:
        return self._pending.settled_ns

    def push(self, time_ns: int, tiny_bgr: np.ndarray) -> list[Transition]:
        if not self._track.takes(time_ns):
            return []
        tiny_bgr = np.ascontiguousarray(tiny_bgr)
        index = self._track.next
        if index == 0:
            self._pending.start(time_ns)
        self._track.push(time_ns, tiny_bgr)
        self._add_fades(self._fades.push(tiny_bgr))
        for one in self._passes:
            self._take(one.push(index, time_ns, tiny_bgr))
        self._resolve(time_ns)
        limit_ns = self._look(time_ns, tiny_bgr)
        self._track.forget()
        return self._pending.advance(self._track.times_ns, self._fades.open_ns, limit_ns)

    def finish(self, end_ns: int) -> list[Transition]:
        for one in self._passes:
            self._take(one.finish())
        self._add_fades(self._fades.finish(end_ns))
        self._resolve(None)
        self._look_at_rest(end_ns)
        return self._pending.finish(end_ns)

    def _look(self, time_ns: int, tiny_bgr: np.ndarray) -> int | None:  # noqa: ARG002 (what a second look needs)
        """A second look at what was found; returns from when on it may still find something, None where that is no question."""
        return None

    def _look_at_rest(self, end_ns: int) -> None:
        """The second look at all that waits for one."""

    def _take(self, proposals: Sequence[Proposal]) -> None:
        for found in proposals:
            (self._exact if found.is_exact else self._intervals).append(found)

    def _add_fades(self, found: Sequence[Transition]) -> None:
        for fade in found:
            self._pending.add(fade)
            self._fade_spans.append(fade)

    def _resolve(self, now_ns: int | None) -> None:
        """Judges every proposal whose surroundings are complete by now; None: the source has ended."""
        while self._exact and (now_ns is None or self._track.time_ns(self._exact[0].at) + self._cut_wait_ns <= now_ns):
            self._judge_cut(self._exact.pop(0).at)
        while self._intervals and (now_ns is None or self._due_ns(self._intervals[0]) <= now_ns):
            self._place(self._intervals.pop(0))
        if now_ns is not None:
            self._cuts = [cut for cut in self._cuts if cut >= self._track.first]
            self._fade_spans = [fade for fade in self._fade_spans if fade.end_ns >= self._track.times_ns[0]]

    def _judge_cut(self, at: int) -> None:
        if not self._is_flash(at, at) and not self._is_unfounded(at):
            self._add_cut(at)

    def _is_unfounded(self, at: int) -> bool:
        """Whether a step far from other frames, at an end of the source, stands out over nothing but the copies that pad it there."""
        track = self._track
        is_inside = AT_AN_END < at < track.next - AT_AN_END
        if is_inside or track.first >= at or track.time_ns(at) - track.time_ns(at - 1) < SPARSE_NS:
            return False
        return not is_other_picture(track.feature(at - 1), track.feature(at))

    def _add_cut(self, at: int) -> None:
        self._cuts.append(at)
        time_ns = self._track.time_ns(at)
        self._pending.add(Transition(time_ns, time_ns, "cut"))

    def _margin_ns(self, found: Proposal) -> int:
        """How far beyond an interval the transition is looked for: twice its length, inside what the latency allows."""
        gap_ns = self._track.time_ns(found.at) - self._track.time_ns(max(found.before, self._track.first))
        longest_ns = round(self._params.max_transition_s * 1e9)
        return max(round(0.25e9), min(2 * gap_ns, (longest_ns - gap_ns) // 2))

    def _due_ns(self, found: Proposal) -> int:
        return self._track.time_ns(found.at) + self._margin_ns(found)

    def _place(self, found: Proposal) -> None:
        """What happened in an interval that no full-rate cut and no fade explains."""
        track, before = self._track, max(found.before, self._track.first)
        found = replace(found, at=self._cut_slides(before, found.at))
        if found.at <= before or any(before < cut <= found.at for cut in self._cuts):
            return
        if self._in_fade(track.time_ns(before), track.time_ns(found.at)):
            return
        first, last = self._dissolve
        if (first <= before and found.at <= last) or rms(track.feature(found.at) - track.feature(before)) < SAME:
            return
        start, stop = self._window(before, found.at, self._margin_ns(found))
        hidden = self._hidden_cut(before, found.at, start, stop)
        if hidden is not None:
            self._add_cut(hidden)
            return
        fitted = self._fitted(before, found)
        if fitted is None:
            return
        start, blend = fitted
        span = start + blend.start + 1, start + blend.end
        if self._is_dissolve(blend) and not self._is_flash(*span):
            self._dissolve = span
            start_ns, end_ns = (track.time_ns(index) for index in span)
            self._pending.add(Transition(start_ns, end_ns, "dissolve"))

    def _cut_slides(self, before: int, at: int) -> int:
        """Cuts where a picture follows another one, with no frame between them for so long that the two must tell by themselves.

        Returns the last frame of the interval before the first of them.
        """
        track, last = self._track, at
        for one in range(before + 1, at + 1):
            before_ns, now_ns = track.time_ns(one - 1), track.time_ns(one)
            if now_ns - before_ns < SPARSE_NS or one in self._cuts or self._in_fade(before_ns, now_ns):
                continue
            if is_other_picture(track.feature(one - 1), track.feature(one)):
                self._add_cut(one)
                last = min(last, one - 1)
        return last

    def _fitted(self, before: int, found: Proposal) -> tuple[int, Blend] | None:
        """The best ramp near an interval, and the index that its positions count from; None where there are too few frames."""
        for part in (1, 4):
            start, stop = self._window(before, found.at, self._margin_ns(found) // part)
            if stop - start < 3:
                return None
            times_s, features = self._track.window(start, stop)
            blend = located(features, times_s, self._params.max_transition_s)
            # A greater change near the interval draws the fit away from it; a closer look leaves that out.
            if start + blend.start < found.at and start + blend.end > before:
                break
        return start, blend

    def _window(self, before: int, at: int, margin_ns: int) -> tuple[int, int]:
        """Frames around an interval, up to a margin, that no known cut or fade divides from it."""
        track = self._track
        before_ns, at_ns = track.time_ns(before), track.time_ns(at)
        starts_ns = [before_ns - margin_ns, *(fade.end_ns for fade in self._fade_spans if fade.end_ns <= before_ns)]
        stops_ns = [at_ns + margin_ns + 1, *(fade.start_ns for fade in self._fade_spans if fade.start_ns >= at_ns)]
        if self._fades.open_ns is not None and self._fades.open_ns >= at_ns:
            stops_ns.append(self._fades.open_ns)
        start = max([track.at_or_after(max(starts_ns)), *(cut for cut in self._cuts if cut <= before)])
        stop = min([track.at_or_after(min(stops_ns)), *(cut for cut in self._cuts if cut > at)])
        return start, stop

    def _is_dissolve(self, blend: Blend) -> bool:
        if blend.end - blend.start < 2 or blend.change < self._params.min_change or blend.spread < MIN_SPREAD:
            return False
        trust = 1 - DRIFT_COST * max(0.0, blend.drift - FREE_DRIFT)
        return blend.residual <= self._params.blend_residual * blend.spread * trust

    def _in_fade(self, start_ns: int, end_ns: int) -> bool:
        open_ns = self._fades.open_ns
        if open_ns is not None and end_ns > open_ns:
            return True
        return any(fade.start_ns < end_ns and start_ns < fade.end_ns for fade in self._fade_spans)

    def _hidden_cut(self, before: int, at: int, start: int, stop: int) -> int | None:
        """A step in the interval that stands out over all others near it, which the rolling mean of the full-rate pass did not see."""
        times_s, features = self._track.window(start, stop)
        steps = rms(np.diff(features, axis=0))
        inside = slice(before - start, at - start)
        if not len(steps[inside]):
            return None  # frame `at` is a fade's first one
        best = int(np.argmax(steps[inside])) + inside.start
        near = np.abs(times_s[1:] - times_s[best + 1]) <= JUMP_BESIDE_S
        near[best] = False
        others = steps[near]
        if steps[best] < self._params.min_change or len(others) < 2 or steps[best] < JUMP * others.max():
            return None
        found = start + best + 1
        return found if spread_of(features[best + 1] - features[best]) >= JUMP_SPREAD and not self._is_flash(found, found) else None

    def _is_flash(self, first: int, last: int) -> bool:
        """Whether the picture before frame `first` is back soon after frame `last`, or the one from `last` on was there just before."""
        track = self._track
        if first - 1 < track.first:
            return False
        first_ns, last_ns = track.time_ns(first), track.time_ns(last)
        jump = float(rms(track.feature(last) - track.feature(first - 1)))
        befores = range(max(track.first, track.at_or_after(first_ns - self._flash_ns) - 1), first)
        afters = range(last, min(track.next, track.at_or_after(last_ns + self._flash_ns + 1) + 1))
        longest_ns = self._flash_ns + last_ns - first_ns
        for one in befores:
            for other in afters:
                is_short = track.time_ns(other) - track.time_ns(one + 1) <= longest_ns
                if is_short and (one, other) != (first - 1, last) and rms(track.feature(other) - track.feature(one)) < RETURNED * jump:
                    return True
        return False
