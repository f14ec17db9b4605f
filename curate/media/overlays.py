"""Everything burnt in over a clip's picture: static logos, watermarks over all of it, subtitles, tickers.

Works on the low-resolution luma that the pass makes for flow anyway (2 Hz, short side 180 to 359 px), and for logos on the pairs of frames
between and on small RGB of the same times, too. The scorer `overlay` reports what is found here, and `curate.media.crop` cuts it off.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np

from curate.clip import Box
from curate.media.captions import Line, find_lines
from curate.media.logos import Group, around, best_groups, find_colour_logos, find_logos
from curate.media.standing import Standing, Watch, standing_colours
from curate.media.tickers import find_ticker
from curate.media.tiles import repetition
from curate.samples import Pair

MIN_SAMPLES = 3
LOGO_STRENGTH, WATERMARK_STRENGTH, SUBTITLES_SHARE, TICKER_SHARE = 2.1, 0.35, 0.15, 0.7
LINE_WORTH = 3.0


@dataclass(frozen=True, slots=True)
class Overlay:
    """One thing burnt in; `box` in pixels of the samples. `strength` is the evidence that `Found` describes for its kind."""

    kind: Literal["logo", "watermark", "subtitles", "ticker"]
    box: Box
    strength: float


@dataclass(frozen=True, slots=True)
class Found:
    """Evidence for each kind of overlay, in samples of one size; boxes in their pixels.

    logos             groups of standing edges, in luma and in colour, by worth, levels per pixel
    watermark         how well standing edges repeat over the picture, in [0, 1] (see `curate.media.tiles`)
    subtitles_share   share of the samples that show a line of burnt-in text
    ticker_share      share of the pairs of frames in which a band of text runs; None where there were no pairs
    standing          share of the scene's strong gradients that stand still: from 0.16 on the camera is fixed
    still             what stands still in the samples
    """

    logos: tuple[Group, ...]
    watermark: float
    subtitles_share: float
    subtitles_box: Box | None
    ticker_share: float | None
    ticker_box: Box | None
    standing: float
    still: Standing


def examine(
    lumas: Sequence[np.ndarray],
    times_ns: Sequence[int],
    pairs: Sequence[Pair],
    line_worth: float = LINE_WORTH,
    previews: Sequence[np.ndarray] = (),
) -> Found:
    """Looks for overlays in `MIN_SAMPLES` or more uint8 (H, W) samples of one clip and its pairs of frames of the same size.

    `previews` are uint8 RGB (h, w, 3) of the samples, reduced; without them coloured logos are looked for in luma alone.
    """
    if len(lumas) < MIN_SAMPLES:
        raise ValueError(f"len(lumas)={len(lumas)}: overlays take {MIN_SAMPLES} samples to tell from the picture")
    watch = Watch(lumas[0].shape)
    watch.add(lumas)
    still = watch.standing()
    watch.add(_between(times_ns, pairs))
    longer = watch.standing() if pairs else still
    ticker_share, ticker_box = find_ticker(pairs)
    band = [ticker_box] if ticker_box is not None and ticker_share >= TICKER_SHARE else []
    lines = [line for line in find_lines(lumas, times_ns, still) if line.worth >= line_worth and not any(_meet(b, line.box) for b in band)]
    text = [line.box for line in lines] + band
    coloured = find_colour_logos(standing_colours(previews), still.edges.shape) if len(previews) >= MIN_SAMPLES else []
    return Found(
        tuple(best_groups([*find_logos(longer, text), *coloured], text)),
        repetition(still),
        _shown(lines, len(lumas)),
        _union([line.box for line in lines]),
        ticker_share if pairs else None,
        ticker_box,
        still.scene_share,
        still,
    )


def find_overlays(lumas: Sequence[np.ndarray], times_ns: Sequence[int], pairs: Sequence[Pair] = ()) -> list[Overlay]:
    """What is burnt in, by the default thresholds; nothing where there are fewer than `MIN_SAMPLES` samples."""
    if len(lumas) < MIN_SAMPLES:
        return []
    found, (height, width) = examine(lumas, times_ns, pairs), lumas[0].shape
    overlays = [Overlay("logo", group.box, group.worth) for group in found.logos if group.worth >= LOGO_STRENGTH]
    if found.watermark >= WATERMARK_STRENGTH:
        overlays.append(Overlay("watermark", Box(0, 0, width, height), found.watermark))
    if found.subtitles_box is not None and found.subtitles_share >= SUBTITLES_SHARE:
        overlays.append(Overlay("subtitles", found.subtitles_box, found.subtitles_share))
    if found.ticker_box is not None and found.ticker_share is not None and found.ticker_share >= TICKER_SHARE:
        overlays.append(Overlay("ticker", found.ticker_box, found.ticker_share))
    return overlays


def _between(times_ns: Sequence[int], pairs: Sequence[Pair]) -> Iterator[np.ndarray]:
    """Each frame of the pairs once, less the samples."""
    seen = set(times_ns)
    for pair in pairs:
        for time_ns, luma in ((pair.time0_ns, pair.luma0), (pair.time1_ns, pair.luma1)):
            if time_ns not in seen:
                seen.add(time_ns)
                yield luma


def _shown(lines: Sequence[Line], num_samples: int) -> float:
    if any(line.first is None for line in lines):
        return 1.0
    return len({sample for line in lines if line.first is not None for sample in (line.first, line.first + 1)}) / num_samples


def _meet(a: Box, b: Box) -> bool:
    return a.y < b.y + b.height and b.y < a.y + a.height and a.x < b.x + b.width and b.x < a.x + a.width


def _union(boxes: Sequence[Box]) -> Box | None:
    return reduce(around, boxes) if boxes else None
