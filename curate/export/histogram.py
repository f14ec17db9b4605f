"""Histograms as text: bars of block characters, to an eighth of a character. Every page that shows text shows them."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

WIDTH = 40  # characters of the longest bar
MIN_BINS, MAX_BINS = 4, 12
MAX_WORDS = 10
TAIL_PERCENT = 1.0  # what lies beyond the 1st and 99th percentile may share the outermost bins
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def of_numbers(values: np.ndarray) -> list[str]:
    """Lines of a histogram of numbers, in bins of a round width. Bins at the ends take in what lies beyond them, and say so."""
    values = values[np.isfinite(values)]
    if not len(values):
        return []
    edges = _edges(values)
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(places, minlength=len(edges) - 1)
    decimals = max(0, -int(np.floor(np.log10(edges[1] - edges[0]) + 1e-9)))
    texts = [f"{edge:,.{decimals}f}" for edge in edges]
    labels = [f"{low} to {high}" for low, high in pairwise(texts)]
    if values.min() < edges[0]:
        labels[0] = f"below {texts[1]}"
    if values.max() >= edges[-1]:
        labels[-1] = f"{texts[-2]} or more"
    return bars(labels, counts.tolist())


def of_words(words: Sequence[str], counts: Sequence[int]) -> list[str]:
    """Lines of a histogram of words, the most frequent first, the rare ones together."""
    order = sorted(zip(words, counts, strict=True), key=lambda item: (-item[1], item[0]))
    shown, rest = order[:MAX_WORDS], order[MAX_WORDS:]
    if rest:
        shown.append((f"{len(rest)} others", sum(count for _, count in rest)))
    return bars([word for word, _ in shown], [count for _, count in shown])


def bars(labels: Sequence[str], counts: Sequence[int]) -> list[str]:
    """One line a bin: label, bar, count, share of all."""
    most, total = max(counts), sum(counts)
    left = max(len(label) for label in labels)
    right = len(f"{most:,}")
    lines = []
    for label, count in zip(labels, counts, strict=True):
        eighths = max(round(count / most * WIDTH * 8), 1 if count else 0) if most else 0
        bar = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
        share = f"{100 * count / total:.1f} %" if total else ""
        lines.append(f"{label:>{left}}  {bar:<{WIDTH}}  {count:>{right},}  {share:>7}")
    return lines


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges of bins as wide as 1, 2 or 5 times a power of ten, over all values but far outliers; at most 2 n^(1/3) bins (Rice's rule)."""
    num_bins = int(np.clip(np.ceil(2 * len(values) ** (1 / 3)), MIN_BINS, MAX_BINS))
    low, high = (float(edge) for edge in np.percentile(values, (TAIL_PERCENT, 100 - TAIL_PERCENT)))
    span = high - low or max(abs(high), 1.0) * 0.1
    power = 10.0 ** np.floor(np.log10(span / num_bins))
    for factor in (1, 2, 5, 10, 20):
        step = power * factor
        first, last = np.floor(low / step + 1e-9), np.floor(high / step + 1e-9) + 1
        if last - first <= num_bins:
            break
    return np.arange(first, last + 1) * step
