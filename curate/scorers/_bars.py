"""Bars and blurred margins around the picture, from the active picture that the pass found (`curate.media.active`)."""

from typing import Any

import pyarrow as pa

from curate.samples import ClipSamples
from curate.scorers import Column

BARS_COLUMNS = {
    "synthetic_has_bars": Column(pa.bool_(), "", "bars or blurred margins were found around the picture"),
    "synthetic_bars": Column(pa.string(), "", "none, letterbox (above, below), pillarbox (at the sides) or windowbox (both)"),
    "synthetic_bars_share": Column(pa.float32(), "share", "area of the frame that is bars or blurred margins", 0, 1),
    "synthetic_bars_contrast": Column(
        pa.float32(), "levels", "how far the picture differs from its bars at their edge; null without bars", 0, 255
    ),
    "synthetic_bars_fill": Column(
        pa.string(), "", "what the bars show: none, black, coloured (any other flat colour), blurred (the picture, enlarged) or mixed"
    ),
    "synthetic_bars_likeness": Column(
        pa.float32(), "1", "correlation of blurred margins with the picture enlarged; null without blurred margins", -1, 1
    ),
    "synthetic_bars_soft": Column(pa.bool_(), "", "the bars' edges are soft: synthetic_bars_softness reaches bars_soft_px"),
    "synthetic_bars_softness": Column(
        pa.float32(), "px", "in which the softest edge goes from 20 to 80 % of its height, in displayed pixels; null without bars", 0
    ),
    "synthetic_bars_change": Column(pa.bool_(), "", "bars come or go inside the clip: synthetic_bars_change_share is above 0"),
    "synthetic_bars_change_share": Column(pa.float32(), "share", "area of the frame that is bars for a part of the clip only", 0, 1),
    "synthetic_overlays_cut": Column(
        pa.string(), "", "overlays that the pass cut off before anything was scored, joined by + (sampling.crop=overlays), or none"
    ),
}


def bars_row(clip: ClipSamples, soft_px: float) -> dict[str, Any]:
    """The columns of `BARS_COLUMNS`; edges from `soft_px` on are soft."""
    around = clip.surround
    box = around.box or clip.box
    across, above = box.width < clip.source.width, box.height < clip.source.height
    found = around.fill != "none" and (across or above)
    kind = "none" if not found else "windowbox" if across and above else "letterbox" if above else "pillarbox"
    area = box.width * box.height / (clip.source.width * clip.source.height)
    return {
        "synthetic_has_bars": found,
        "synthetic_bars": kind,
        "synthetic_bars_share": min(1.0, max(0.0, 1.0 - area)) if found else 0.0,
        "synthetic_bars_contrast": around.contrast if found else None,
        "synthetic_bars_fill": around.fill if found else "none",
        "synthetic_bars_likeness": around.likeness if found else None,
        "synthetic_bars_soft": found and around.softness is not None and around.softness >= soft_px,
        "synthetic_bars_softness": around.softness if found else None,
        "synthetic_bars_change": found and around.change > 0,
        "synthetic_bars_change_share": min(1.0, max(0.0, around.change)) if found else 0.0,
        "synthetic_overlays_cut": "+".join(around.overlays_cut) or "none",
    }
