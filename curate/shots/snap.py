"""Spans that start and end on keyframes, as LVD cut them, and the division of long shots."""

import bisect
from collections.abc import Sequence

from curate.clip import NS_PER_S, Span


def snap(span: Span, keyframe_times_ns: Sequence[int], ends_source: bool = False) -> Span | None:
    """The largest span between keyframes inside `span`, so that it can be copied without decoding; None if there is none.

    LVD (arXiv 2311.15127) moves a start forward to the next keyframe and an end back to the previous one; a cut is never crossed.
    `keyframe_times_ns` is sorted. `ends_source`: the stream stops at the span's end, so that needs no keyframe behind it.
    """
    first = bisect.bisect_left(keyframe_times_ns, span.start_ns)
    if first == len(keyframe_times_ns) or keyframe_times_ns[first] >= span.end_ns:
        return None
    start_ns = keyframe_times_ns[first]
    end_ns = span.end_ns if ends_source else keyframe_times_ns[bisect.bisect_right(keyframe_times_ns, span.end_ns) - 1]
    return Span(start_ns, end_ns) if start_ns < end_ns else None


def divide(span: Span, min_clip_s: float, max_clip_s: float) -> list[Span]:
    """Consecutive spans of `max_clip_s`, from the start on, and what remains.

    A remainder under `min_clip_s` is a span of its own like any other: it is recorded as dropped, not forgotten, and the last
    full clip is not shortened to save it.
    """
    max_ns = round(max_clip_s * NS_PER_S)
    if max_ns <= 0 or max_clip_s <= min_clip_s:
        raise ValueError(f"max_clip_s={max_clip_s} must be positive and greater than min_clip_s={min_clip_s}")
    starts = range(span.start_ns, span.end_ns, max_ns)
    return [Span(start_ns, min(start_ns + max_ns, span.end_ns)) for start_ns in starts]
