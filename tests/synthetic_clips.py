"""Films for the tests of the scorer `synthetic`: encoded, decoded by the pass as one span, scored."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curate.clip import NS_PER_S, Span
from curate.config import Clips, Decode, Sampling
from curate.models import Models
from curate.pipelines import footage
from curate.samples import ClipSamples, Wants
from curate.scan import Pass, ScanReport, scan
from curate.scorers import check_rows
from curate.scorers.synthetic import Scorer
from curate.shots.params import Shots
from curate.sources import Source

Pictures = list[np.ndarray]


def encoded(path: Path, pictures: Sequence[np.ndarray], crf: int = 23, fps: int | Fraction = 25, preset: str = "superfast") -> Path:
    return footage.write_video(path, pictures, fps, options={"preset": preset, "crf": str(crf), "threads": "1"})


def scanned(path: Path) -> ClipSamples:
    """What the pass hands to the scorer for the whole file as one clip."""
    source = Source(key=path.name, url=str(path), size_bytes=0, etag=None, mtime_ns=0, caption=None)
    settings = Pass(Decode(threads=1), Sampling(), Shots(), Clips())
    (clip,) = scan(source, settings, {"synthetic": Wants(motion=True)}, ScanReport(), spans=[Span(0, 600 * NS_PER_S)])
    return clip.samples["synthetic"]


def score(clip: ClipSamples, **parameters: float) -> dict[str, Any]:
    scorer = Scorer(**parameters)
    rows = scorer.open(Models())([clip])
    check_rows("synthetic", scorer.columns, 1, rows)
    return rows[0]


def flags(row: dict[str, Any]) -> set[str]:
    return {name.removeprefix("synthetic_") for name, value in row.items() if value is True}


def photograph(name: str) -> np.ndarray:
    """RGB picture that comes with scikit-image."""
    picture = cv2.imread(str(footage.package_file("skimage", "data", name)))
    assert picture is not None
    return np.ascontiguousarray(picture[:, :, ::-1])


def camera_over(pictures: Pictures, start: tuple[float, float, float], end: tuple[float, float, float], size: tuple[int, int]) -> Pictures:
    """A camera that goes straight from one view to the other: (zoom, x, y), x and y in 0..1 of the room that the zoom leaves."""
    seen = []
    for i, picture in enumerate(pictures):
        zoom, x, y = ((1 - i / (len(pictures) - 1)) * np.array(start) + i / (len(pictures) - 1) * np.array(end)).tolist()
        height, width = picture.shape[:2]
        scale = min(width / size[0], height / size[1]) / zoom
        left, top = x * (width - scale * size[0]), y * (height - scale * size[1])
        # Averaged over the pixels that it covers, as a renderer does.
        large = cv2.GaussianBlur(picture, (0, 0), 0.4 * scale) if scale > 1 else picture
        warp = np.array([[scale, 0, left + (scale - 1) / 2], [0, scale, top + (scale - 1) / 2]])
        seen.append(cv2.warpAffine(large, warp, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE))
    return seen
