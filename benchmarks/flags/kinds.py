"""All kinds of cases: how many, at which strengths, on which footage, and from which strength on the gate asks for them.

`first` kinds are made first. A negative kind has no strength that counts; its levels only vary it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from flags import kinds_clean, kinds_damage, kinds_drawn, kinds_film, kinds_frame, kinds_overlay, kinds_time
from flags.stage import Made, Stage


@dataclass(frozen=True)
class Kind:
    """`levels` are strengths, of `unit`; those with `gate_from` <= level <= `gate_to` count for the gate, the others are reported only.

    footage  "any" piece, "lively" ones (much of the picture moves), "photo" (no piece)
    min_frames  of a piece
    codec    the only one that will do
    """

    name: str
    make: Callable[[Stage, float], Made]
    count: int
    levels: Sequence[float]
    unit: str = ""
    flag: str = ""
    gate_from: float = float("-inf")
    gate_to: float = float("inf")
    footage: Literal["any", "lively", "photo"] = "any"
    codec: str = ""
    min_frames: int = 0

    def is_gated(self, level: float) -> bool:
        return self.gate_from <= level <= self.gate_to


GATED_KINDS = (
    Kind("still", kinds_time.still, 80, (0, 0.7, 1.5, 3, 5), "levels of grain", "synthetic_is_still", gate_to=3, footage="photo"),
    Kind("slideshow", kinds_time.slideshow, 66, (0.8, 1.2, 1.8, 2.5), "s a still", "synthetic_is_slideshow", footage="photo"),
    Kind(
        "ken-burns", kinds_time.ken_burns, 80, (0.8, 1.5, 3, 5, 9), "% a second", "synthetic_is_ken_burns", gate_from=1.5, footage="photo"
    ),
    Kind(
        "duplicates",
        kinds_time.duplicates,
        84,
        (0.06, 0.2, 0.33, 0.5, 0.6),
        "of frames",
        "synthetic_has_duplicates",
        gate_from=0.2,
        footage="lively",
    ),
    Kind("bars", kinds_frame.bars, 96, (1, 2, 3, 5, 8, 12, 18, 25), "% of the side", "synthetic_has_bars", gate_from=2),
    Kind("black", kinds_time.black, 80, (0, 4, 8, 12, 18), "levels", "synthetic_is_black", gate_to=12),
    Kind("fade", kinds_time.fade, 80, (0.25, 0.5, 0.8, 1.2, 2), "s", "synthetic_is_fade", gate_from=0.5),
    Kind("flash", kinds_time.flash, 90, (15, 30, 50, 80, 120), "levels", "synthetic_is_flash", gate_from=30),
    Kind("freeze", kinds_time.freeze, 80, (0.3, 0.5, 0.8, 1.3, 2, 3), "s", "synthetic_has_freeze", gate_from=0.5, footage="lively"),
    Kind("loop", kinds_time.loop, 66, (0.5, 0.8, 1.2, 1.8), "s a turn", "synthetic_is_loop", footage="lively"),
    Kind("logo", kinds_overlay.logo, 120, (0.15, 0.3, 0.45, 0.6, 0.8, 1), "opacity", "overlay_has_logo", gate_from=0.3, footage="lively"),
    Kind(
        "subtitles",
        kinds_overlay.subtitles,
        100,
        (25, 50, 75, 100),
        "% of the time",
        "overlay_has_subtitles",
        gate_from=50,
        footage="lively",
    ),
)
OTHER_KINDS = (
    Kind("pulldown", kinds_time.pulldown, 16, (29.97, 59.94), "frames/s", "synthetic_has_pulldown", min_frames=64, footage="lively"),
    Kind("blends", kinds_time.blends, 24, (1.25, 2, 4), "x the rate", "synthetic_has_blends", footage="lively"),
    Kind("slow-motion", kinds_time.slow_motion, 18, (-4, -2, 2, 4), "x, mixed below 0", "synthetic_is_slow_motion", footage="lively"),
    Kind("boomerang", kinds_time.boomerang, 18, (0.6, 1, 1.6, 2.2), "s one way", "synthetic_is_boomerang", footage="lively"),
    Kind("strobe", kinds_time.strobe, 16, (4, 6, 8, 12), "Hz", "synthetic_is_strobe"),
    Kind("coloured-bars", kinds_frame.coloured, 20, (3, 6, 12, 20), "% of the side", "synthetic_bars_fill=coloured"),
    Kind("one-sided-bar", kinds_frame.one_sided, 12, (4, 8, 16), "% of the side", "synthetic_has_bars"),
    Kind("soft-bars", kinds_frame.soft_edged, 12, (4, 8, 16), "per mille of blur", "synthetic_bars_soft"),
    Kind("changing-bars", kinds_frame.changing, 15, (5, 10, 15), "% of the side", "synthetic_bars_change"),
    Kind("blurred-sides", kinds_frame.blurred_sides, 24, (1, 2.5, 5, 8), "% of blur", "synthetic_bars_fill=blurred"),
    Kind("inset", kinds_frame.inset, 20, (15, 22, 30, 40), "% of the width", "overlay_has_inset"),
    Kind("watermark", kinds_overlay.watermark, 24, (0.1, 0.2, 0.3, 0.5), "opacity", "overlay_has_watermark", footage="lively"),
    Kind("screen", kinds_drawn.screen, 20, (1, 2, 3), "busy", "footage_is_screen", footage="photo"),
    Kind("presentation", kinds_drawn.presentation, 18, (1.0, 1.8, 3.0), "s a slide", "footage_is_presentation", footage="photo"),
    Kind("game-display", kinds_drawn.game_display, 20, (2, 3, 5), "parts", "footage_has_hud", footage="lively"),
    Kind("animation", kinds_drawn.animation, 20, (3, 6, 12), "shapes", "footage_is_animation", footage="photo"),
    Kind("test-card", kinds_drawn.test_card, 16, (1, 2, 3, 4), "design", "footage_is_test_card", footage="photo"),
    Kind("shifted-blocks", kinds_damage.shifted_blocks, 20, (1, 3, 8, 20), "% of the picture", "damage_has_blocks"),
    Kind("lost-packets", kinds_damage.lost_packets, 20, (2, 5, 15), "% of packets", "damage_has_blocks"),
    Kind("green", kinds_damage.green, 18, (2, 10, 30, 60), "% of the time", "damage_has_green"),
    Kind("combs", kinds_damage.combs, 20, (1, 2), "frames apart", "damage_has_combs", footage="lively"),
    Kind("banding", kinds_damage.banding, 18, (3, 4, 6, 8, 12), "levels", "damage_has_banding"),
    Kind("upscaled", kinds_damage.upscaled, 24, (1.5, 2, 3, 4), "x", "damage_is_upscaled"),
    Kind("said-generated", kinds_damage.said_generated, 12, (0, 1, 2, 3), "way", "provenance_is_generated", codec="libx264"),
    Kind("said-ordinary", kinds_damage.said_ordinary, 12, (0, 1, 2, 3), "way", codec="libx264"),
    Kind("ticker", kinds_overlay.ticker, 18, (6, 12, 25), "% a second", "overlay_has_ticker", footage="lively"),
)
CLEAN_KINDS = (
    Kind("clean", kinds_clean.clean, 210, (0,)),
    Kind("grainy", kinds_clean.grainy, 16, (2, 4, 8), "levels"),
    Kind("camera-move", kinds_clean.camera_move, 36, (2, 4, 8, 14), "% a second", footage="lively"),
    Kind("hand-held", kinds_clean.handheld, 16, (0.3, 0.8, 2), "% of the width"),
    Kind("scene-text", kinds_clean.scene_text, 36, (0, 3, 6, 12), "% a second", footage="lively"),
    Kind("fixed-sign", kinds_clean.fixed_sign, 14, (0, 0, 1.5), "per mille"),
    Kind("sky", kinds_clean.sky, 22, (8, 15, 30), "% of the height"),
    Kind("hard-edge", kinds_clean.hard_edge, 22, (4, 8, 14), "% of the height"),
    Kind("vignette", kinds_clean.vignette, 14, (0, 15, 40), "% of the light"),
    Kind("dark", kinds_clean.dark, 24, (16, 22, 30), "% of the light"),
    Kind("old-film", kinds_clean.old_film, 16, (2, 4, 6), "% flicker"),
    Kind("exposure", kinds_clean.exposure, 16, (25, 45, 70), "%"),
    Kind("passing", kinds_clean.passing, 20, (0,), footage="lively"),
    Kind("time-lapse", kinds_clean.time_lapse, 14, (3, 5, 8), "x", min_frames=220, footage="lively"),
    Kind("low-rate", kinds_clean.low_rate, 14, (8, 10, 12), "frames/s", min_frames=60),
)
FILM_KINDS = (
    Kind("film-logo", kinds_film.film_logo, 30, (0.2, 0.3, 0.5, 0.8, 1), "opacity", "overlay_has_logo", gate_from=0.3, min_frames=58),
    Kind("film-watermark", kinds_film.film_watermark, 16, (0.1, 0.2, 0.3, 0.5), "opacity", "overlay_has_watermark", min_frames=58),
    Kind("film-clean", kinds_film.film_clean, 30, (4, 5, 6, 7), "shots", min_frames=58),
    Kind("film-sign", kinds_film.film_sign, 20, (4, 5, 6, 7), "shots", min_frames=58),
)
"""Whole sources, which are scored only as a run would (`run.py score --pipeline`)."""
FILM_NAMES = tuple(kind.name for kind in FILM_KINDS)
KINDS = GATED_KINDS + CLEAN_KINDS + OTHER_KINDS + FILM_KINDS
NAMES = tuple(kind.name for kind in KINDS)
