"""Text in the picture: how much of it is covered, and how much of that is burnt in rather than part of the scene.

LVD drops clips by "sum of text box areas / frame area" over CRAFT boxes on the first, middle and last frame (arXiv 2311.15127, appendix;
7 % is its bound, whether on the mean or the maximum is not published, so both are columns). The area here is that of the union of the
boxes within the picture: the same number where boxes do not overlap, and never above 1.

Burnt-in text stays where it is while the picture behind it moves. A box of one sample is in place in another sample where a box lies on
the same line (vertical centre and height agree) and shares its left edge, right edge or centre, as subtitles of different length do.
It counts as overlay where, between those two samples, the picture around it changed: at least `CHANGED_SHARE` of the pixels in a ring
around the box differ by more than `CHANGED_LEVELS` from the best linear fit to the other sample (exposure and fades fit). Where no ring of
any box changed, nothing can be told and the value is null: a sign before a fixed camera looks the same as a title. Text that shows in
one sample alone, or scrolls, is not seen as overlay; `frames: grid` looks every 0.5 s and misses less.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from curate.clip import Fault
from curate.models import Models, ModelSpec, Weight
from curate.models.catalog import CRAFT, PPOCR_DET, PPOCR_REC
from curate.samples import ClipSamples, Wants
from curate.scorers import Column, Score

CHANGED_LEVELS = 8  # 8-bit luma; compression noise of a still picture stays under about 4
CHANGED_SHARE = 0.5
RING_HEIGHTS = 0.75  # how far the ring reaches out, in heights of the box
LINE_TOLERANCE = 0.25  # of the box's height; detectors place the same line again within about a tenth

Rect = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Scorer:
    """Text area by PP-OCR (0.13 s a frame on one core) or CRAFT, which LVD used (3.2 s)."""

    reader: Literal["ppocr", "craft"] = Field(
        "ppocr", description="text detector: ppocr comes with rapidocr, craft needs EasyOCR's weights"
    )
    short_side: int = Field(480, ge=160, le=2160, description="size at which text is looked for", json_schema_extra={"unit": "px"})
    frames: Literal["first_middle_last", "grid"] = Field("first_middle_last", description="which samples are looked at")

    version: ClassVar[int] = 1

    @property
    def columns(self) -> dict[str, Column]:
        share = "fraction of the active picture"
        return {
            "text_area_mean": Column(pa.float32(), share, "area covered by text, mean over the samples", 0, 1),
            "text_area_max": Column(pa.float32(), share, "area covered by text, largest over the samples", 0, 1),
            "text_areas": Column(pa.list_(pa.float32()), share, "area covered by text in each sample, in time order"),
            "text_boxes_max": Column(pa.int32(), "boxes", "text boxes, largest count over the samples", 0),
            "text_overlay_area": Column(
                pa.float32(),
                share,
                "area of text that stays in place while the picture around it changes, largest over the samples; 0 where there is no text, "
                "null where nothing around the text changed, so that burnt-in and scene text look alike",
                0,
                1,
            ),
        }

    @property
    def samples(self) -> Wants:
        return Wants(frames=self.frames, pixels="rgb", short_side=self.short_side)

    def weights(self) -> tuple[Weight, ...]:
        if self.reader == "ppocr":
            return PPOCR_DET, PPOCR_REC
        return (CRAFT,)

    @property
    def extras(self) -> tuple[str, ...]:
        return ("easyocr",) if self.reader == "craft" else ()

    def open(self, models: Models) -> Score:
        paths = tuple(str(models.path(weight)) for weight in self.weights())
        detect = models.load(ModelSpec(self.reader, paths, (("short_side", self.short_side),)))

        def score(clips: Sequence[ClipSamples]) -> list[dict[str, Any]]:
            return [self._row(clip.frames, detect(clip.frames) if clip.frames else []) for clip in clips]

        return score

    def _row(self, frames: Sequence[np.ndarray], quads: Sequence[np.ndarray]) -> dict[str, Any]:
        if not frames:
            fault = Fault("text", "NoSamples", "the clip has no sample to look for text in")
            return dict.fromkeys(self.columns) | {"faults": [fault]}
        areas = [text_area(found, *frame.shape[1::-1]) for frame, found in zip(frames, quads, strict=True)]
        return {
            "text_area_mean": float(np.mean(areas)),
            "text_area_max": max(areas),
            "text_areas": areas,
            "text_boxes_max": max(len(found) for found in quads),
            "text_overlay_area": overlay_area(frames, quads),
        }


def text_area(quads: np.ndarray, width: int, height: int) -> float:
    """Area of the union of float32 (N, 4, 2) quadrilaterals inside a picture, as a fraction of the picture."""
    from shapely import MultiPoint, box, union_all

    hulls = [MultiPoint(quad).convex_hull for quad in quads]
    return float(union_all(hulls).intersection(box(0, 0, width, height)).area / (width * height)) if hulls else 0.0


def overlay_area(frames: Sequence[np.ndarray], quads: Sequence[np.ndarray]) -> float | None:
    """Largest area over the samples of text that stays in place while the picture around it changes; None where it cannot be told.

    `frames` are uint8 RGB (H, W, 3); `quads` the boxes in each, float32 (N, 4, 2).
    """
    if not any(len(found) for found in quads):
        return 0.0
    lumas = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    rects = [[_rect(quad) for quad in found] for found in quads]
    told, areas = False, [0.0]
    for i, luma in enumerate(lumas):
        overlay = np.zeros(len(rects[i]), bool)
        for j, other in enumerate(lumas):
            if i == j or other.shape != luma.shape:
                continue
            text = _mask([*rects[i], *rects[j]], luma.shape)
            for index, rect in enumerate(rects[i]):
                if _surroundings_changed(rect, luma, other, text):
                    told = True
                    overlay[index] |= any(_same_line(rect, candidate) for candidate in rects[j])
        areas.append(text_area(quads[i][overlay], luma.shape[1], luma.shape[0]))
    return max(areas) if told else None


def _rect(quad: np.ndarray) -> Rect:
    (left, top), (right, bottom) = quad.min(axis=0), quad.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _mask(rects: Sequence[Rect], shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for left, top, right, bottom in rects:
        mask[max(0, int(top)) : int(np.ceil(bottom)) + 1, max(0, int(left)) : int(np.ceil(right)) + 1] = True
    return mask


def _surroundings_changed(rect: Rect, luma: np.ndarray, other: np.ndarray, text: np.ndarray) -> bool:
    left, top, right, bottom = rect
    reach = max(4.0, RING_HEIGHTS * (bottom - top))
    window = np.s_[max(0, int(top - reach)) : int(bottom + reach) + 1, max(0, int(left - reach)) : int(right + reach) + 1]
    here, there = luma[window][~text[window]].astype(np.float64), other[window][~text[window]].astype(np.float64)
    if here.size < 64:
        return False
    variance = there.var()
    gain = max(0.0, float(np.mean((here - here.mean()) * (there - there.mean())) / variance)) if variance > 0 else 0.0
    unexplained = here - here.mean() - gain * (there - there.mean())
    return float(np.mean(np.abs(unexplained) > CHANGED_LEVELS)) >= CHANGED_SHARE


def _same_line(a: Rect, b: Rect) -> bool:
    height = a[3] - a[1]
    tolerance = LINE_TOLERANCE * height
    if abs((b[3] - b[1]) - height) > 2 * tolerance or abs((a[1] + a[3]) - (b[1] + b[3])) / 2 > tolerance:
        return False
    return min(abs(a[0] - b[0]), abs(a[2] - b[2]), abs((a[0] + a[2]) - (b[0] + b[2])) / 2) <= tolerance
