r"""Propose and verify: the cascade, set for recall, says where to look, TransNetV2 looks there, and trees judge what all of them say.

    every frame, 64x36 --> full-rate pass --> steps ------------------\
                       \                         \--doubtful--> network --> marked runs --\
                        \-> slower passes --> ramps, wipes --/                            +--> doubts --> judge --> merged, in order
                         \-> contrast track --> fades -----------------------------------/

A step is a plain cut if it towers over all others around it and the pictures on both sides have nothing in common (correlation of
their 16x9 luma); flashes, titles and changes of light keep the structure, fast motion has no single tallest step. An interval of
a slower pass is doubtful where its frames lie near the line between the two pictures, as a dissolve's do, or where each block goes
straight from its old colour to its new one, as in a wipe. The network is asked about the doubtful frames and the few around them, those of
neighbouring doubts in one window, so no frame is answered twice and the worst film costs what the network on every frame costs.

Whatever is found, by whomever, is a doubt (`curate.shots.doubts`) until what follows has been seen; then `curate.shots.judge` decides.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from curate.extras import require
from curate.shots import Transition
from curate.shots.blend import Blend
from curate.shots.content import CascadeDetector
from curate.shots.doubts import Doubts, Judge
from curate.shots.fades import DARK
from curate.shots.judge import probability
from curate.shots.likeness import alike, kept_share, spread_of
from curate.shots.params import NEEDS_NETWORK, DetectorPass, Shots
from curate.shots.passes import Proposal
from curate.shots.ring import Ring
from curate.shots.track import Track, rms
from curate.shots.transnet import MARGIN, Runs, network, predicted
from curate.shots.wipe import found_wipe

PROPOSERS = (
    DetectorPass(detector="adaptive", fps=None, threshold=2.0, min_content=8.0),
    DetectorPass(detector="content", fps=4.0, threshold=8.0),
    DetectorPass(detector="content", fps=2.0, threshold=8.0),
    DetectorPass(detector="content", fps=1.0, threshold=8.0),
)

BESIDE_NS = 300_000_000
"""How far on each side a step is compared with others."""

PLAIN_STEP, PLAIN_TALL = 15.0, 2.0
"""A plain cut's least step (rms, 8-bit levels), and over the tallest other step beside it."""
PLAIN_ALIKE, PLAIN_ALIKE_BESIDE = 0.4, 0.6
"""A plain cut's most correlation of the luma before and behind it, and at the ends of what is beside it."""

STEP, STEP_TALL = 10.0, 1.5
"""From here on a step that is not plain is a doubt of its own."""
ASK_STEP, ASK_TALL, ASK_ALIKE, ASK_SPREAD, ASK_KEPT = 9.0, 0.9, 0.9, 0.12, 0.4
"""A step that is worth asking about: its size, over the tallest beside it, what the pictures have in common, what changes, what stays."""

MIX_ALIKE, MIX_RESIDUAL, MIX_DRIFT = 0.7, 0.1, 1.2
"""A ramp is worth asking about if its ends are less alike, its frames nearer to the line, and its surroundings calmer than this."""
LINE_ALIKE, LINE_RESIDUAL = 0.6, 0.05
"""Or, however much goes on beside it, if its frames lie on the line."""
FAR_ALIKE, FAR_RESIDUAL, FAR_CHANGE = 0.3, 0.3, 50.0
"""Or, in fast motion, if the pictures have less in common and the change is greater."""
RAMP_RESIDUAL, RAMP_SHARE = 0.05, 0.6
"""A ramp this near to the line says where a dissolve begins and ends, if the network sees one in so much of it."""
MIX_CHANGE, MIX_SPREAD, MIX_FRAMES = 8.0, 0.15, 3

WIPE_MARGINS = 0.25, 1.0
"""How far beyond an interval a wipe is first looked for, in intervals."""
WIPE_BESIDE_NS = 1_200_000_000
LONGEST_WIPE_NS = 3_500_000_000
"""With what was seen on both sides. Slower moves of a camera turn blocks in order too."""

SAME_PICTURE = 0.75
"""Correlation of the luma from which the pictures on both sides of something bright are one shot's."""
KEPT = 0.18
"""Share of the picture that is the same but for a change of light, from which it is the same shot under a title (cuts: up to 0.17)."""

RAMP, MAX_STRIDE = 20, 4
"""Of a longer ramp every second (third, ...) frame is fed, so that it has at most so many: the network was trained on short ones."""

FAINT_CUT, FAINT_MIXED, FAINT_PEAK = 0.2, 0.35, 0.5
"""A run of frames that a head marks so much is a doubt, if the first head is so sure or the second reaches the peak."""
LONGEST_DOUBT_NS = 3_000_000_000
"""A fade that lasts longer is one."""

PAD = 6
"""Fed frames asked about on each side of a doubt."""
MAX_ASKED = 100
"""Most frames that one window gives answers for."""
MOST_ANSWERS = 800
"""From here on answers about frames that are no longer held are forgotten."""
LATE_NS = 250_000_000
"""The cascade's latency beyond `max_transition_s`."""


class VerifyDetector(CascadeDetector):
    """See `curate.shots.ShotDetector`. Holds `max_transition_s` and a window of frames at 64x36, 2 MB, and twice that at 16x9.

    Late by `max_transition_s`, and by the frames of the window that a doubt is in; from a doubt on it waits at least until `STAYS_NS` after
    it. The network is loaded when it is first asked.

    judge  says how probable a doubt is; another one sees every doubt
    """

    def __init__(self, params: Shots, judge: Judge = probability) -> None:
        lag_ns = round(params.max_transition_s * 1e9) + LATE_NS
        super().__init__(params.model_copy(update={"passes": PROPOSERS}), Track(2 * lag_ns, 2 * MAX_ASKED))
        require([(NEEDS_NETWORK, "transnetv2")])
        self._lag_ns = lag_ns
        self._cut_wait_ns = max(self._cut_wait_ns, BESIDE_NS)
        self._runs = Runs(self._track, params)
        self._ring = Ring(round(params.transnet_step_ms * 1e6))
        self._asked: list[tuple[int, int]] = []
        self._answered = 0
        self._slow: list[tuple[int, int, int]] = []
        self._slowly_answered = 0
        self._ramps: list[tuple[int, int]] = []
        self._quick: dict[int, tuple[float, float]] = {}
        self._slowly: dict[int, tuple[float, float]] = {}
        self._doubts = Doubts(self._track, self._ring, self._pending, self._quick, self._slowly, judge)

    def _judge_cut(self, at: int) -> None:
        track = self._track
        now_ns, before_ns = track.time_ns(at), track.time_ns(at - 1)
        start = track.at_or_after(before_ns - BESIDE_NS)
        _, features = track.window(start, min(track.at_or_after(now_ns + BESIDE_NS) + 1, track.next))
        steps = rms(np.diff(features, axis=0))
        here = at - 1 - start
        step, other = float(steps[here]), float(np.delete(steps, here).max(initial=0.0))
        old, new = features[here], features[here + 1]
        likeness, kept = alike(old, new), kept_share(old, new)
        is_tall = step >= max(PLAIN_STEP, PLAIN_TALL * other)
        if kept <= KEPT and is_tall and likeness < PLAIN_ALIKE and alike(features[0], features[-1]) < PLAIN_ALIKE_BESIDE:
            self._cuts.append(at)
            self._doubts.add(at, at, "plain")
            return
        is_worth_it = step >= max(ASK_STEP, ASK_TALL * other) and likeness < ASK_ALIKE and spread_of(new - old) > ASK_SPREAD
        if not is_worth_it or self._in_fade(before_ns, now_ns):
            return
        if step >= max(STEP, STEP_TALL * other):
            self._doubts.add(at, at, "faint")
        if kept <= ASK_KEPT and not self._is_flash(at, at):
            self._ask(before_ns, now_ns)

    def _place(self, found: Proposal) -> None:
        track, before = self._track, max(found.before, self._track.first)
        # The judge and the network know frames that follow each other.
        found = replace(found, at=self._cut_slides(before, found.at))
        if found.at <= before or any(before < cut <= found.at for cut in self._cuts):
            return
        if self._in_fade(track.time_ns(before), track.time_ns(found.at)):
            return
        if self._finds_wipe(before, found.at):
            return
        fitted = self._fitted(before, found)
        if fitted is None:
            return
        start, blend = fitted
        if blend.end - blend.start < MIX_FRAMES:
            self._judge_cut(start + blend.end)
        elif self._may_be_mix(start, blend):
            start_ns, end_ns = track.time_ns(start + blend.start + 1), track.time_ns(start + blend.end)
            if blend.residual < RAMP_RESIDUAL:
                self._ramps.append((start_ns, end_ns))
            self._doubts.add(start + blend.start + 1, start + blend.end, "ramp")
            self._ask(start_ns, end_ns)

    def _may_be_mix(self, start: int, blend: Blend) -> bool:
        if blend.change < MIX_CHANGE or blend.spread < MIX_SPREAD:
            return False
        _, features = self._track.window(start + blend.start, start + blend.end + 1)
        likeness = alike(features[0], features[-1])
        if blend.residual < MIX_RESIDUAL and likeness < MIX_ALIKE and blend.drift < MIX_DRIFT:
            return True
        if blend.residual < LINE_RESIDUAL and likeness < LINE_ALIKE:
            return True
        return blend.residual < FAR_RESIDUAL and likeness < FAR_ALIKE and blend.change > FAR_CHANGE and blend.drift < MIX_DRIFT

    def _finds_wipe(self, before: int, at: int) -> bool:
        """Looks for wipes in and around an interval; whether one is plain, so that nobody else need be asked."""
        track = self._track
        gap_ns = track.time_ns(at) - track.time_ns(before)
        first, last = self._window(before, at, max(WIPE_BESIDE_NS, gap_ns))
        _, features = track.window(first, last)
        for share in WIPE_MARGINS:
            start = max(track.at_or_after(track.time_ns(before) - round(share * gap_ns)), first)
            stop = min(track.at_or_after(track.time_ns(at) + round(share * gap_ns)) + 1, last)
            seen = found_wipe(features, start - first, stop - first)
            if seen is None:
                continue
            begin, end, wipe = seen[0] + first, seen[1] - 1 + first, seen[2]
            if track.time_ns(end) - track.time_ns(begin) > LONGEST_WIPE_NS:
                continue
            start, stop = begin + math.floor(wipe.start), begin + math.ceil(wipe.end) + 1
            if stop - start >= MIX_FRAMES:
                self._doubts.add(start, stop, "wipe")
                if wipe.is_plain:
                    return True
        return False

    def _ask(self, start_ns: int, end_ns: int) -> None:
        """Wants the network's answers from `start_ns` to `end_ns` and a little around."""
        first, last = self._ring.at_or_after(start_ns), self._ring.at_or_after(end_ns)
        stride = min(-(-(last - first) // RAMP), MAX_STRIDE)
        if stride > 1:
            self._ask_slowly(first - PAD * stride, last + PAD * stride, stride)
        elif last + PAD > self._answered:
            self._asked = sorted([*self._asked, (max(first - PAD, self._answered), last + PAD)])

    def _ask_slowly(self, start: int, stop: int, stride: int) -> None:
        """The same of every `stride`-th frame; what several passes ask about one ramp is one question."""
        start = max(start, self._slowly_answered)
        for other in self._slow:
            if min(stop, other[1]) - max(start, other[0]) > (stop - start) // 2:
                self._slow.remove(other)
                start, stop, stride = min(start, other[0]), max(stop, other[1]), max(stride, other[2])
                break
        if stop - start > 2 * PAD * stride:
            self._slow = sorted([*self._slow, (start, stop, stride)])

    def _look(self, time_ns: int, tiny_bgr: np.ndarray) -> int | None:
        ring = self._ring
        ring.push(time_ns, tiny_bgr)
        # What starts before this frame has been asked for by now.
        known = ring.at_or_after(time_ns - self._lag_ns)
        while self._asked and self._asked[0][0] < known:
            start, stop = self._stretch()
            if known < stop or ring.next < stop + MARGIN:
                break
            self._answer(start, stop)
        while self._slow and self._slow[0][0] < known and ring.next >= self._slow[0][1] + MARGIN * self._slow[0][2]:
            self._answer_slowly(*self._slow.pop(0))
        waiting = [start for start, *_ in (*self._asked[:1], *self._slow[:1])]
        ring.forget(min([known, *waiting]) - (MARGIN + PAD) * MAX_STRIDE)
        limits_ns = [ring.time_ns(max(start - 1, ring.first)) for start in waiting if start <= ring.next]
        if self._runs.is_open and self._runs.settled_ns is not None:
            limits_ns.append(self._runs.settled_ns)
        limits_ns += [first_ns for first_ns, last_ns in self._ramps if last_ns >= min(limits_ns, default=last_ns + 1)]
        waiting = [start for start, *_ in (*self._asked[:1], *self._slow[:1]) if start < ring.next]
        self._doubts.settle(time_ns, min((ring.time_ns(max(start, ring.first)) for start in waiting), default=None))
        if self._doubts.first_ns is not None:
            limits_ns.append(self._doubts.first_ns)
        return min(limits_ns, default=None)

    def _look_at_rest(self, end_ns: int) -> None:
        while self._asked:
            start, stop = self._stretch()
            if start >= self._ring.next:
                break
            self._answer(start, min(stop, self._ring.next))
        for start, stop, stride in self._slow:
            if start < self._ring.next:
                self._answer_slowly(start, min(stop, self._ring.next), stride)
        self._add(self._runs.end(end_ns))
        self._doubts.settle(None, None)

    def _stretch(self) -> tuple[int, int]:
        """The first frames asked about, with those that are cheaper to answer along with them than in a window of their own."""
        start, stop = self._asked[0]
        for first, last in self._asked[1:]:
            if first > stop + 2 * MARGIN:
                break
            stop = max(stop, last)
        return start, min(stop, start + MAX_ASKED)

    def _answer(self, start: int, stop: int) -> None:
        ring, runs = self._ring, self._runs
        if start > self._answered:
            self._add(runs.end(ring.time_ns(max(self._answered, ring.first))))
            runs.skip_to(ring.time_ns(start))
        change, member = predicted(network(), ring.rgb(start - MARGIN, stop + MARGIN))
        self._hear(range(start, stop), change, member, self._quick)
        for n, of_change, of_member in zip(range(start, stop), change.tolist(), member.tolist(), strict=True):
            self._add(runs.answer(ring.time_ns(n), of_change, of_member))
        self._answered = stop
        self._asked = [(max(first, stop), last) for first, last in self._asked if last > stop]
        if runs.is_open:
            # A run goes on where the window ends.
            self._asked = sorted([*self._asked, (stop, stop + PAD)])

    def _answer_slowly(self, start: int, stop: int, stride: int) -> None:
        ring, start = self._ring, max(start, self._slowly_answered)
        if start >= stop:
            return
        runs = Runs(self._track, self._params)
        runs.skip_to(ring.time_ns(start))
        asked = range(start, stop, stride)
        margin = MARGIN * stride
        change, member = predicted(network(), ring.rgb(start - margin, start + stride * len(asked) + margin, stride))
        self._hear(asked, change, member, self._slowly)
        for n, of_change, of_member in zip(asked, change.tolist(), member.tolist(), strict=True):
            self._add(runs.answer(ring.time_ns(n), of_change, of_member))
        self._add(runs.end(ring.time_ns(min(stop, ring.next - 1))))
        self._slowly_answered = stop

    def _hear(self, asked: range, change: np.ndarray, member: np.ndarray, answers: dict[int, tuple[float, float]]) -> None:
        """Keeps what the network says of frames of the ring; runs of marked ones are doubts."""
        answers.update(zip(asked, zip(change.tolist(), member.tolist(), strict=True), strict=True))
        if len(answers) > MOST_ANSWERS:
            for n in [n for n in answers if n < self._ring.first]:
                del answers[n]
        marked = np.concatenate([[False], (change > FAINT_CUT) | (member > FAINT_MIXED), [False]])
        begins, ends = np.flatnonzero(np.diff(marked.astype(np.int8))).reshape(-1, 2).T
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            if end - begin > 1 and (change[begin:end].max() > FAINT_CUT or member[begin:end].max() > FAINT_PEAK):
                start = self._on_track(asked[begin])
                stop = self._on_track(asked[end] if end < len(asked) else asked[-1] + 1)
                if stop > start:
                    self._doubts.add(start, stop, "faint")

    def _on_track(self, fed: int) -> int:
        ring = self._ring
        return self._track.at_or_after(ring.time_ns(min(max(fed, ring.first), ring.next - 1)))

    def _add(self, found: list[Transition]) -> None:
        track = self._track
        for one in found:
            start_ns, end_ns = (one.start_ns, one.end_ns) if one.kind == "cut" else self._whole_ramp(one)
            self._doubts.add(track.at_or_after(start_ns), track.at_or_after(end_ns), "net")

    def _whole_ramp(self, one: Transition) -> tuple[int, int]:
        """From when to when a dissolve lasts, with the rest of the ramps that it lies in."""
        self._ramps = [ramp for ramp in self._ramps if ramp[1] > self._track.times_ns[0]]
        start_ns, end_ns = one.start_ns, one.end_ns
        for first_ns, last_ns in self._ramps:
            if min(one.end_ns, last_ns) - max(one.start_ns, first_ns) >= RAMP_SHARE * (last_ns - first_ns):
                start_ns, end_ns = min(start_ns, first_ns), max(end_ns, last_ns)
        return start_ns, end_ns

    def _add_fades(self, found: Sequence[Transition]) -> None:
        for fade in found:
            if not self._is_glare(fade):
                self._fade_spans.append(fade)
                track = self._track
                start = track.at_or_after(fade.start_ns)
                if start <= track.first or fade.end_ns - fade.start_ns > LONGEST_DOUBT_NS:
                    self._doubts.report(fade.start_ns, fade.end_ns, "fade", 0.0)
                else:
                    self._doubts.add(start, track.at_or_after(fade.end_ns), "fade")

    def _is_glare(self, fade: Transition) -> bool:
        """Whether the same picture is on both sides of something bright. One that goes black and comes back is a fade all the same."""
        track = self._track
        first, last = track.at_or_after(fade.start_ns), track.at_or_after(fade.end_ns)
        if first <= track.first or last >= track.next or min(float(track.feature(n).mean()) for n in range(first, last)) <= DARK:
            return False
        return self._is_one_shot(first - 1, last)

    def _is_one_shot(self, before: int, after: int) -> bool:
        old, new = self._track.feature(before), self._track.feature(after)
        return alike(old, new) >= SAME_PICTURE or kept_share(old, new) > KEPT
