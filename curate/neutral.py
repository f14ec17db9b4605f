"""The neutral value of every parameter that a fingerprint covers. A fingerprint is made of what
differs from these, so a new parameter whose neutral value changes nothing refuses no manifest that
was written without it.

They are the defaults of the day when each parameter came, written down. An entry is never changed,
nor removed while the parameter exists. A new parameter gets its entry here: the value at which
everything is as it was without it. Where a default changes later, the entry stays, and the new
default counts as a difference, as it must: other clips or numbers come of it.
`tests/test_fingerprints.py` compares all of this with the code.

A scorer that is not listed here, a user's own, has all its parameters covered.
"""

from typing import Any

PASS: dict[str, dict[str, Any]] = {
    "decode": {"decoder": "pyav", "threads": 1, "part_s": 900.0, "stream": "auto", "audio_stream": "auto"},
    "sampling": {
        "grid_ms": 500,
        "pair_ms": 250,
        "max_held_mb": 128,
        "crop": "bars",
        "crop_min_area": 0.7,
    },
    "shots": {
        "detector": "cascade",
        "passes": [
            {"detector": "adaptive", "threshold": 3.0},
            {"detector": "content", "fps": 4.0, "threshold": 18.0},
            {"detector": "content", "fps": 2.0, "threshold": 12.0},
        ],
        "max_transition_s": 4.0,
        "blend_residual": 0.3,
        "min_change": 8.0,
        "flat_contrast": 2.5,
        "flat_share": 0.15,
        "flash_s": 0.12,
        "transnet_threshold": 0.5,
        "transnet_step_ms": 30.0,
    },
    "clips": {"min_clip_s": 2.0, "max_clip_s": 12.0},
}

DETECTOR_PASS: dict[str, Any] = {"fps": None, "min_content": 15.0, "window": 2}

SCORERS: dict[str, dict[str, Any]] = {
    "aesthetic": {
        "model": "ViT-L-14",
        "pretrained": "openai",
        "head": None,
        "precision": "float32",
    },
    "caption_similarity": {"model": "ViT-L-14", "pretrained": "openai", "precision": "float32"},
    "damage": {
        "block_share": 0.01,
        "green_share": 0.22,
        "comb_share": 0.001,
        "banding_share": 0.008,
        "upscaled_share": 0.375,
    },
    "footage": {
        "drawn_share": 0.45,
        "bar_share": 0.004,
        "standing_share": 0.45,
        "line_length": 1.6,
        "hud_cells": 3,
    },
    "motion": {"short_side": 96, "still_below": 0.25},
    "overlay": {
        "logo_strength": 2.1,
        "watermark_strength": 0.35,
        "line_worth": 3.0,
        "subtitles_share": 0.15,
        "ticker_share": 0.7,
        "inset_strength": 0.6,
    },
    "provenance": {
        "generated_types": [
            "trainedAlgorithmicMedia",
            "compositeWithTrainedAlgorithmicMedia",
            "algorithmicMedia",
            "compositeSynthetic",
        ],
        "generator_names": [
            "sora",
            "veo",
            "kling",
            "runway",
            "runwayml",
            "pika",
            "luma dream machine",
            "hailuo",
            "minimax",
            "pixverse",
            "jimeng",
            "seedance",
            "vidu",
            "hunyuanvideo",
            "cogvideo",
            "cogvideox",
            "wan2",
            "ltx-video",
            "mochi",
            "stable video diffusion",
            "animatediff",
            "comfyui",
            "deforum",
            "invokeai",
            "midjourney",
            "firefly",
            "synthesia",
            "heygen",
        ],
    },
    "quality": {},
    "synthetic": {
        "still_change": 6.0,
        "slideshow_share": 0.5,
        "ken_burns_change": 2.4,
        "ken_burns_share": 0.6,
        "black_level": 28.0,
        "black_share": 0.5,
        "fade_depth": 0.35,
        "fade_share": 0.03,
        "flash_levels": 20.0,
        "flashes_per_s": 0.2,
        "strobe_rate": 4.0,
        "duplicate_share": 0.13,
        "pulldown_share": 0.5,
        "blend_share": 0.2,
        "freeze_s": 0.35,
        "loop_share": 0.5,
        "reverse_share": 0.4,
        "slow_motion": 1.5,
        "bars_soft_px": 1.8,
    },
    "text": {"reader": "ppocr", "short_side": 480, "frames": "first_middle_last"},
}

RULE: dict[str, Any] = {"on_null": "drop"}
