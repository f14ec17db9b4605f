"""The flags under test: column, evidence, and whether a gate is set on it.

A derived flag compares a text column with a value (`synthetic_bars_fill=blurred`). `rising` says that more evidence speaks for the flag;
without `evidence`, or where the flag is read from several numbers, there is no average precision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_FALSE_RATE = 0.005
MIN_RECALL = 0.90


@dataclass(frozen=True)
class Flag:
    """`column` or `column=value`; the name up to the first underscore is the scorer's."""

    name: str
    evidence: str = ""
    is_gated: bool = False
    rising: bool = True
    box: str = ""

    @property
    def scorer(self) -> str:
        return self.name.partition("_")[0]

    @property
    def column(self) -> str:
        return self.name.partition("=")[0]

    def said(self, row: Mapping[str, Any]) -> bool | None:
        value = row.get(self.column)
        _, _, wanted = self.name.partition("=")
        return None if value is None else value == wanted if wanted else bool(value)

    def weight(self, row: Mapping[str, Any]) -> float | None:
        """The evidence, so signed that more of it speaks for the flag."""
        value = row.get(self.evidence)
        return None if value is None else float(value) if self.rising else -float(value)


FLAGS = (
    Flag("synthetic_is_still", "synthetic_still_change", True, rising=False),
    Flag("synthetic_is_slideshow", "synthetic_slideshow_share", True),
    Flag("synthetic_is_ken_burns", "synthetic_ken_burns_share", True),
    Flag("synthetic_has_duplicates", "synthetic_duplicate_share", True),
    Flag("synthetic_has_bars", "synthetic_bars_contrast", True, box="picture"),
    Flag("synthetic_is_black", "synthetic_black_share", True),
    Flag("synthetic_is_fade", "synthetic_fade_share", True),
    Flag("synthetic_is_flash", "synthetic_flash_rate", True),
    Flag("synthetic_has_freeze", "synthetic_freeze_s", True),
    Flag("synthetic_is_loop", "synthetic_loop_share", True),
    Flag("overlay_has_logo", "overlay_logo_strength", True, box="overlay_logo_box"),
    Flag("overlay_has_subtitles", "overlay_subtitles_share", True, box="overlay_subtitles_box"),
    Flag("synthetic_is_strobe", "synthetic_strobe_rate"),
    Flag("synthetic_has_pulldown", "synthetic_pulldown_share"),
    Flag("synthetic_has_blends", "synthetic_blend_share"),
    Flag("synthetic_is_slow_motion", "synthetic_slow_motion"),
    Flag("synthetic_is_boomerang", "synthetic_reverse_share"),
    Flag("synthetic_bars_fill=blurred", "synthetic_bars_likeness"),
    Flag("synthetic_bars_fill=coloured"),
    Flag("synthetic_bars_soft", "synthetic_bars_softness"),
    Flag("synthetic_bars_change", "synthetic_bars_change_share"),
    Flag("overlay_has_watermark", "overlay_watermark_strength"),
    Flag("overlay_has_ticker", "overlay_ticker_share"),
    Flag("overlay_has_inset", "overlay_inset_strength", box="overlay_inset_box"),
    Flag("footage_is_screen"),
    Flag("footage_is_presentation"),
    Flag("footage_has_hud", "footage_hud_cells"),
    Flag("footage_is_animation"),
    Flag("footage_is_test_card", "footage_bar_share"),
    Flag("provenance_is_generated"),
    Flag("damage_has_blocks", "damage_block_share"),
    Flag("damage_has_green", "damage_green_share"),
    Flag("damage_has_combs", "damage_comb_share"),
    Flag("damage_has_banding", "damage_banding_share"),
    Flag("damage_is_upscaled", "damage_true_height_share", rising=False),
)
NAMES = tuple(flag.name for flag in FLAGS)
GATED = tuple(flag.name for flag in FLAGS if flag.is_gated)


def wanted(only: list[str]) -> tuple[Flag, ...]:
    """The flags that a list of flag names, columns or scorers picks; all if it is empty. Raises `ValueError` for an unknown word."""
    unknown = [word for word in only if not any(word in (flag.name, flag.column, flag.scorer) for flag in FLAGS)]
    if unknown:
        raise ValueError(f"--only {unknown[0]}: no flag, column or scorer of that name; flags: {', '.join(NAMES)}")
    return tuple(flag for flag in FLAGS if not only or {flag.name, flag.column, flag.scorer} & set(only))
