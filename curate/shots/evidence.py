"""What is known of a doubt, as numbers: what `curate.shots.judge` tells a transition from its look-alikes by.

A doubt is a span of frames that somebody took for a transition, or a place between two frames: a step on the track, a ramp, a wipe, a
fade, a run of frames that the network marked. The same numbers are taken of each, whoever found it: how the pictures on both sides
compare, how frames go from one to the other, what moves beside it, whether either picture is seen again, what the network said.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from curate.shots.blend import described
from curate.shots.likeness import alike, kept_share
from curate.shots.moves import left_by_shift
from curate.shots.ring import Ring
from curate.shots.track import Track, rms
from curate.shots.wipe import swept

Source = Literal["plain", "net", "faint", "ramp", "wipe", "fade"]
Answers = Mapping[int, tuple[float, float]]

NAMES = (
    "is_cut", "is_faint", "is_ramp", "is_wipe", "is_plain", "frames", "seconds", "change", "residual", "detour", "spread", "drift",
    "step", "before", "after", "tallest", "alike", "alike_beside", "kept", "back", "forth", "order", "stray", "turns", "edge", "covers",
    "brighter", "darker", "light", "glare", "shift", "asked", "cut", "mixed", "mixed_mean", "slow_cut", "slow_mixed", "beside_mixed",
    "is_fade", "kept_beside",
)  # fmt: skip
"""In the order of the numbers; sizes of steps and returns are shares of the change from one picture to the other."""

BESIDE_NS = 400_000_000
"""How far on each side is beside."""
STAYS_NS = 1_200_000_000
"""How long before and behind a doubt is searched for a picture that is seen again."""
GLARE = 235.0


@dataclass(frozen=True, slots=True)
class Doubt:
    """Frames `start <= n < stop` of the track may be mixed, or the shot change before `start` where they are equal."""

    start: int
    stop: int
    source: Source

    @property
    def is_cut(self) -> bool:
        return self.start == self.stop


def evidence(doubt: Doubt, track: Track, ring: Ring, quick: Answers, slow: Answers) -> np.ndarray:
    """float32 (40,), named by NAMES. `quick`, `slow`: both heads' answers for frames of the ring, of every frame and of some."""
    old, new = max(doubt.start - 1, track.first), min(doubt.stop, track.next - 1)
    if new <= old:
        new = min(old + 1, track.next - 1)
        old = new - 1
    first, last = ring.at_or_after(track.time_ns(old)), ring.at_or_after(track.time_ns(new))
    sources = (doubt.is_cut, doubt.source == "faint", doubt.source == "ramp", doubt.source == "wipe", doubt.source == "plain")
    pictures, kept_beside = _of_pictures(doubt, track, old, new)
    shown = [ring.frame(n) for n in range(max(first if last > first else first - 1, ring.first), min(last + 1, ring.next))]
    answers = _of_answers(first, last, quick, slow)
    found = (*sources, *pictures, left_by_shift(shown), *answers, doubt.source == "fade", kept_beside)
    return np.nan_to_num(np.array(found, np.float32), posinf=10.0, neginf=-10.0)


def _of_pictures(doubt: Doubt, track: Track, old: int, new: int) -> tuple[tuple[float, ...], float]:
    """From `frames` to `glare`, and `kept_beside`."""
    old_ns, new_ns = track.time_ns(old), track.time_ns(new)
    times_s, inside = track.window(old, new + 1)
    change = float(rms(inside[-1] - inside[0])) + 1e-3
    low, high = max(track.at_or_after(old_ns - STAYS_NS), track.first), min(track.at_or_after(new_ns + STAYS_NS) + 1, track.next)
    before, after = track.window(low, old + 1)[1], track.window(new, high)[1]
    start, stop = max(track.at_or_after(old_ns - BESIDE_NS), track.first), min(track.at_or_after(new_ns + BESIDE_NS) + 1, track.next)
    near_s, near = track.window(start, stop)
    steps = rms(np.diff(near, axis=0))
    ahead, during, behind = steps[: old - start], steps[old - start : new - start], steps[new - start :]
    blend = described(near, near_s, old - start, new - start)
    luma = inside.mean(axis=1)
    values = (
        min(doubt.stop - doubt.start, 100),
        times_s[-1],
        change,
        min(blend.residual, 3.0),
        min(blend.detour, 5.0),
        blend.spread,
        min(blend.drift, 5.0),
        during.max() / change,
        (ahead.mean() if len(ahead) else 0.0) / change,
        (behind.mean() if len(behind) else 0.0) / change,
        max(ahead.max(initial=0.0), behind.max(initial=0.0)) / change,
        alike(inside[0], inside[-1]),
        alike(near[0], near[-1]),
        kept_share(inside[0], inside[-1]),
        min(rms(after - inside[0]).min() / change, 2.0),
        min(rms(before - inside[-1]).min() / change, 2.0),
        *_of_wipe(doubt, track, old, new),
        luma.max() - max(luma[0], luma[-1]),
        min(luma[0], luma[-1]) - luma.min(),
        luma[-1] - luma[0],
        (inside > GLARE).mean(axis=1).max(),
    )
    return values, kept_share(near[0], near[-1])


def _of_wipe(doubt: Doubt, track: Track, old: int, new: int) -> tuple[float, ...]:
    """From `order` to `covers`."""
    beside = max(1, (new - old) // 8)
    _, around = track.window(max(old - beside, track.first), min(new + beside + 1, track.next))
    wipe = swept(around) if len(around) >= 5 and not doubt.is_cut else None
    if wipe is None:
        return 0.0, 1.0, 5.0, 2.0, 0.0
    covers = min((wipe.end - wipe.start) / len(around), 3.0)
    return wipe.order, min(wipe.stray, 1.0), min(wipe.detour, 5.0), min(wipe.edge, 2.0), covers


def _of_answers(first: int, last: int, quick: Answers, slow: Answers) -> tuple[float, ...]:
    """From `asked` to `beside_mixed`: most of what the heads said of frames `first` to `last` of the ring, and beside them."""
    inside = [quick[n] for n in range(first, last + 1) if n in quick]
    slowly = [slow[n] for n in range(first, last + 1) if n in slow]
    beside = [quick[n][1] for n in (*range(first - 7, first - 1), *range(last + 2, last + 8)) if n in quick]
    return (
        len(inside) / (last - first + 1),
        max((cut for cut, _ in inside), default=0.0),
        max((mixed for _, mixed in inside), default=0.0),
        sum(mixed for _, mixed in inside) / max(len(inside), 1),
        max((cut for cut, _ in slowly), default=0.0),
        max((mixed for _, mixed in slowly), default=0.0),
        max(beside, default=0.0),
    )
