"""Spans that start and end on keyframes, as LVD cut them."""

import bisect
from collections.abc import Sequence

from curate.clip import Span


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
