"""What the pass hands to a scorer: the samples it asked for, and the per-frame track that comes for free.

Every picture here is as displayed (rotation and sample aspect applied, HDR tone-mapped to BT.709) and already cropped to
the active picture inside bars or blurred margins (and, with `sampling.crop: overlays`, to what burnt-in text and logos leave of it).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from curate.clip import Box, Span

if TYPE_CHECKING:
    from curate.media.provenance import Provenance


@dataclass(frozen=True, slots=True)
class Wants:
    """Which samples a scorer reads.

    frames      "none", "first_middle_last" (of the grid samples inside the clip; a clip with one grid sample gives one frame),
                or "grid" (all of them, one every `sampling.grid_ms`).
    pixels      "rgb": uint8 (H, W, 3), full range BT.709 display values; "luma": uint8 (H, W), full range.
    short_side  upper bound of the shorter side in pixels, reached by area averaging; a smaller picture is never enlarged.
                None: as held (native resolution unless the cap on held bytes made the pass reduce it).
    motion      the low-resolution luma frames and pairs of `MotionFrames`.
    previews    every grid sample as small RGB, whatever `frames` asks for.
    provenance  what the file says of its making outside its tags (`SourceFacts.provenance`), read once per source.
    """

    frames: Literal["none", "first_middle_last", "grid"] = "none"
    pixels: Literal["rgb", "luma"] = "rgb"
    short_side: int | None = None
    motion: bool = False
    previews: bool = False
    provenance: bool = False


PREVIEW_SHORT_SIDE = 96  # px
THUMB_SIZE = 18, 32  # rows, columns


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What a scorer may know of the source. Sizes are displayed pixels; `fps` is the container's nominal rate or None.

    `provenance` is there where `Wants.provenance` asked.
    """

    key: str
    width: int
    height: int
    fps: float | None = None
    bit_depth: int = 8
    caption: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    provenance: "Provenance | None" = None


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One entry for every decoded frame of the clip, N frames in presentation order.

    times_ns       int64[N] presentation times, strictly increasing
    end_ns         end of the last frame
    change         float32[N] mean absolute luma difference to the frame before, in 8-bit levels; NaN for a source's first frame.
                   Entry 0 compares with the last frame before the clip.
    energy         float32[N] mean squared luma difference to the frame before, in squared 8-bit levels; NaN as in `change`
    energy2        float32[N] the same, to the frame two before; NaN for the first two frames of the clip
    is_duplicate   bool[N] the frame shows the same picture as the frame before it (see `curate.media.track`)
    luma_mean      float32[N] mean luma of the picture, full-range 8-bit levels
    luma_std       float32[N] standard deviation of luma over the picture, same unit
    is_interlaced  bool[N]
    thumbs         uint8[N, 18, 32] luma averaged over the cells of a grid of 18 x 32, in coded orientation, aspect not kept

    What a track does not know is empty, of length 0.
    """

    times_ns: np.ndarray
    end_ns: int
    change: np.ndarray
    is_duplicate: np.ndarray
    luma_mean: np.ndarray
    luma_std: np.ndarray
    is_interlaced: np.ndarray
    energy: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    energy2: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    thumbs: np.ndarray = field(default_factory=lambda: np.zeros((0, *THUMB_SIZE), np.uint8))


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two distinct frames 0.120 to 0.175 s apart, as luma uint8 (H, W), H and W the same for the whole clip.

    Frames that repeat the picture before them are collapsed onto the first of their run first; a picture held for 0.175 s or more
    stands still and shows each of its frames, so that both frames of a pair may show it. Pairs across its end are included.
    """

    time0_ns: int
    time1_ns: int
    luma0: np.ndarray
    luma1: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class MotionFrames:
    """Luma for flow. `grid` is the 2 Hz grid (times int64[G], frames uint8 (H, W)); `pairs` come up to four a second.

    The picture has been reduced by a whole-number area average so that the uncropped frame's short side is at least 180 px
    (or native where it is smaller), then cropped to the active picture.
    """

    grid_times_ns: np.ndarray
    grid: tuple[np.ndarray, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Surround:
    """What lies around the active picture.

    box           the picture inside bars or blurred margins, in displayed pixels of the source; None where neither was found
    fill          "none"; "black" or "coloured" bars of one level; "blurred" margins that show the picture enlarged; "mixed"
    contrast      levels by which the picture differs from its bars at their edge; None without bars (see `curate.media.bars`)
    softness      displayed pixels in which the softest edge of the bars goes from 20 to 80 % of its height; None without bars
    change        share of the frame's area that is bars for a part of the clip only
    likeness      correlation of blurred margins with the picture enlarged; None without them (see `curate.media.fill`)
    overlays_cut  kinds of overlays that the pass cut off inside `box` (`sampling.crop: overlays`)
    """

    box: Box | None = None
    fill: Literal["none", "black", "coloured", "blurred", "mixed"] = "none"
    contrast: float | None = None
    softness: float | None = None
    change: float = 0.0
    likeness: float | None = None
    overlays_cut: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ClipSamples:
    """One clip as one scorer sees it. `frames` and `times_ns` are what its `Wants` asked for, in time order.

    `previews` are uint8 RGB (H, W, 3) of every grid sample, short side at most `PREVIEW_SHORT_SIDE`, where `Wants.previews` asked.
    `box` is the active picture in displayed pixels of the source, and `surround` says what lies around it.
    """

    source: SourceFacts
    span: Span
    box: Box
    track: Track
    frames: tuple[np.ndarray, ...] = ()
    times_ns: tuple[int, ...] = ()
    motion: MotionFrames | None = None
    previews: tuple[np.ndarray, ...] = ()
    surround: Surround = field(default_factory=Surround)
