"""How well transitions were found, after the convention of TRECVID's shot boundary task.

Its rules (Smeaton, Over and Doherty, "Video shot boundary detection: seven years of TRECVid activity", CVIU 114(4), 2010, and the
task's guidelines): a transition of at most five mixed frames is a cut, whether true or reported. Cuts match cuts only, gradual ones
gradual ones only, each at most once. A true cut is widened by five frames on each side before it is matched; gradual transitions match
if they share at least one frame. Precision, recall and F1 are given for cuts, for gradual transitions and for both together ("all").

"Found" is the same without the classes: a dissolve reported as a cut inside it is found. Recall by kind and length, and false alarms, are
counted so. A reported transition without a partner is a false alarm; it is laid to the negative within five frames of it, else to a true
transition so near (a second report of it), else to "motion".

Clips are what `curate.shots.assemble` makes of the reported transitions (12 s at most, those under 1 s dropped). One is mixed if, after one
frame is taken off each end, it holds a mixed frame or frames of two shots; visibly mixed if frames mixed by less than a tenth are let pass.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from curate.shots import Transition
from curate.shots.assemble import ShotAssembler
from cuts.compose import Marked, Truth

SHORT = 5
"""Most mixed frames of a cut, and how far a true cut is widened on each side."""
MAX_CLIP_S, MIN_CLIP_S = 12.0, 1.0
CLIP_TOLERANCE = 1
BANDS = ((0, 0), (1, 5), (6, 12), (13, 30), (31, 10_000))

Span = tuple[int, int]


def is_cut(span: Span) -> bool:
    return span[1] - span[0] <= SHORT


def meets(truth: Span, found: Span, by_class: bool) -> bool:
    """Whether a reported transition may explain a true one. Spans are first mixed and first clean frame."""
    if by_class and is_cut(truth) != is_cut(found):
        return False
    if is_cut(truth):
        # From the last frame of the old shot to the first of the new one, both widened.
        return found[0] - 1 <= truth[1] + SHORT and found[1] >= truth[0] - 1 - SHORT
    if is_cut(found):
        return found[0] - 1 < truth[1] and found[1] >= truth[0]
    return max(truth[0], found[0]) < min(truth[1], found[1])


def matched(truth: Sequence[Span], found: Sequence[Span], by_class: bool) -> dict[int, int]:
    """The largest one-to-one assignment, true -> reported, by augmenting paths."""
    near = [[n for n, other in enumerate(found) if meets(one, other, by_class)] for one in truth]
    owner: dict[int, int] = {}

    def placed(one: int, tried: set[int]) -> bool:
        for other in near[one]:
            if other not in tried:
                tried.add(other)
                if other not in owner or placed(owner[other], tried):
                    owner[other] = one
                    return True
        return False

    for one in range(len(truth)):
        placed(one, set())
    return {one: other for other, one in owner.items()}


def frame_spans(found: Sequence[Transition], times_ns: np.ndarray) -> list[Span]:
    return [(int(np.searchsorted(times_ns, one.start_ns)), int(np.searchsorted(times_ns, one.end_ns))) for one in found]


@dataclass
class Tally:
    """Counts of one film, or of several: [hits, missed, false] for each class, found by kind and band, false alarms by cause."""

    counts: dict[str, list[int]] = field(default_factory=lambda: {key: [0, 0, 0] for key in ("hard", "gradual", "found")})
    by_kind: Counter = field(default_factory=Counter)
    by_band: Counter = field(default_factory=Counter)
    causes: Counter = field(default_factory=Counter)
    num_negatives: Counter = field(default_factory=Counter)
    num_struck: Counter = field(default_factory=Counter)
    num_clips: int = 0
    num_mixed: int = 0
    num_visible: int = 0
    num_frames: int = 0
    duration_s: float = 0.0
    cpu_s: float = 0.0
    decode_cpu_s: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        counts = {key: [a + b for a, b in zip(mine, other.counts[key], strict=True)] for key, mine in self.counts.items()}
        rest = {key: getattr(self, key) + getattr(other, key) for key in self.__dataclass_fields__ if key != "counts"}
        return Tally(counts, **rest)

    def rates(self, key: str) -> tuple[float, float, float]:
        """Precision, recall, F1 of `hard`, `gradual`, `found`, or `all` (hard and gradual together); 1 where there is nothing to find."""
        parts = [self.counts["hard"], self.counts["gradual"]] if key == "all" else [self.counts[key]]
        hits, missed, false = (sum(part[n] for part in parts) for n in range(3))
        return share(hits, hits + false), share(hits, hits + missed), share(2 * hits, 2 * hits + missed + false)


def share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def scored(truth: Sequence[Truth], negatives: Sequence[Marked], found: Sequence[Transition], times_ns: np.ndarray, end_ns: int) -> Tally:
    """One film's tally, without costs."""
    tally = Tally()
    true, said = [(one.first, one.clean) for one in truth], frame_spans(found, times_ns)
    pairs = matched(true, said, by_class=True)
    for name, wanted in (("hard", True), ("gradual", False)):
        hits = sum(is_cut(true[one]) == wanted for one in pairs)
        tally.counts[name] = [
            hits,
            sum(is_cut(span) == wanted for span in true) - hits,
            sum(is_cut(span) == wanted for span in said) - hits,
        ]
    pairs = matched(true, said, by_class=False)
    tally.counts["found"] = [len(pairs), len(true) - len(pairs), len(said) - len(pairs)]
    for n, one in enumerate(truth):
        length = one.clean - one.first
        for counter, key in ((tally.by_kind, one.kind), (tally.by_band, next(band for band in BANDS if band[0] <= length <= band[1]))):
            counter[key, "all"] += 1
            counter[key, "found"] += n in pairs
    _blame(tally, true, [span for n, span in enumerate(said) if n not in set(pairs.values())], negatives)
    _count_clips(tally, truth, found, times_ns, end_ns)
    tally.num_frames, tally.duration_s = len(times_ns), (end_ns - int(times_ns[0])) / 1e9
    return tally


def _blame(tally: Tally, true: Sequence[Span], false: Sequence[Span], negatives: Sequence[Marked]) -> None:
    struck = set()
    tally.num_negatives.update(one.kind for one in negatives)
    for first, end in false:
        beside: Callable[[int, int], bool] = lambda a, b, first=first, end=end: first <= b + SHORT and end >= a - SHORT  # noqa: E731
        guilty = [n for n, one in enumerate(negatives) if beside(one.first, one.end)]
        struck.update(guilty)
        if guilty:
            tally.causes[negatives[guilty[0]].kind] += 1
        else:
            tally.causes["second report" if any(beside(*span) for span in true) else "motion"] += 1
    tally.num_struck.update(negatives[n].kind for n in struck)


def clips(found: Sequence[Transition], times_ns: np.ndarray, end_ns: int) -> list[Span]:
    """First frame and end of each clip that the pass would make."""
    assembler = ShotAssembler(MAX_CLIP_S)
    for time_ns in times_ns.tolist():
        assembler.push(time_ns)
    spans = [one.span for one in (*assembler.advance(list(found), end_ns), *assembler.finish(end_ns, "source"))]
    ends = np.append(times_ns, end_ns)
    return [
        (int(np.searchsorted(ends, one.start_ns)), int(np.searchsorted(ends, one.end_ns)))
        for one in spans
        if one.end_ns - one.start_ns >= MIN_CLIP_S * 1e9
    ]


def _count_clips(tally: Tally, truth: Sequence[Truth], found: Sequence[Transition], times_ns: np.ndarray, end_ns: int) -> None:
    for first, end in clips(found, times_ns, end_ns):
        first, end = first + CLIP_TOLERANCE, end - CLIP_TOLERANCE
        tally.num_clips += 1
        tally.num_mixed += any(holds(first, end, one.first, one.clean) for one in truth)
        tally.num_visible += any(holds(first, end, one.visible_first, one.visible_clean) for one in truth)


def holds(first: int, end: int, mixed: int, clean: int) -> bool:
    """Whether frames `first <= n < end` hold a mixed one, or the last of one shot and the first of the next."""
    return first < clean and end > mixed if mixed < clean else first < clean < end


def interval(tallies: Sequence[Tally], figure: Callable[[Tally], float], rounds: int = 1000) -> tuple[float, float]:
    """95 % bootstrap interval of a figure over films (seeded)."""
    random = np.random.default_rng(0)
    picks = random.integers(len(tallies), size=(rounds, len(tallies)))
    drawn = [figure(sum((tallies[n] for n in pick), Tally())) for pick in picks]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
