"""A source that is a list of pictures in memory, for tests of what the pass does with frames that no encoder writes on demand."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from curate.clip import Fault
from curate.config import Clips, Decode, Sampling
from curate.media.color import ColorInfo
from curate.media.decode import DecodedFrame, PacketIndex
from curate.media.geometry import Geometry
from curate.media.picture import Picture
from curate.media.probe import Probe
from curate.samples import Wants
from curate.scan import Pass, ScannedClip, ScanReport, scan
from curate.shots.params import Shots
from curate.sources import Source

COLOR = ColorInfo("bt709", False)


def picture(luma: np.ndarray, sample_aspect: Fraction = Fraction(1)) -> Picture:
    """A grey picture, 4:2:0, of uint8 (H, W) limited-range luma."""
    height, width = luma.shape
    chroma = np.full((-(-height // 2), -(-width // 2)), 128, np.uint8)
    return Picture((luma, chroma, chroma.copy()), 8, COLOR, Geometry(width, height, sample_aspect))


@dataclass
class ListedFrames:
    """A `Reader` of pictures at given times; faults may stand between them."""

    items: Sequence[DecodedFrame | Fault]
    last_end_ns: int
    fps: float | None = 25.0

    def __post_init__(self) -> None:
        first = next(item for item in self.items if isinstance(item, DecodedFrame))
        geometry, color = first.picture.geometry, first.picture.color
        self.probe = Probe("matroska", "ffv1", "yuv420p", 8, geometry, color, self.fps, 0, None, None, 0, False, None, {})
        self.packets = PacketIndex()
        self.end_ns: int | None = None

    def frames(self) -> Iterator[DecodedFrame | Fault]:
        times_ns = [item.time_ns for item in self.items if isinstance(item, DecodedFrame)]
        ends = iter([*times_ns[1:], self.last_end_ns])
        for number, item in enumerate(self.items):
            if isinstance(item, DecodedFrame):
                self.end_ns = next(ends)
                self.packets.add(item.time_ns, 1000, number == 0, item.time_ns)
            yield item

    def account(self) -> None:
        """None: there are no packets."""

    def close(self) -> None:
        pass


def listed(pictures: Iterable[Picture], times_ns: Iterable[int], last_end_ns: int) -> ListedFrames:
    frames = [DecodedFrame(time_ns, one, False) for one, time_ns in zip(pictures, times_ns, strict=True)]
    return ListedFrames(frames, last_end_ns)


def scan_listed(
    monkeypatch: pytest.MonkeyPatch, reader: ListedFrames, wants: Mapping[str, Wants], **changes: Any
) -> tuple[list[ScannedClip], ScanReport]:
    """What the real pass makes of it."""
    opened: Callable[..., ListedFrames] = lambda *_: reader  # noqa: E731
    monkeypatch.setattr("curate.scan.open_reader", opened)
    settings = Pass(**{"decode": Decode(), "sampling": Sampling(), "shots": Shots(), "clips": Clips(min_clip_s=0.1), **changes})
    report = ScanReport()
    clips = list(scan(Source("listed", "/nowhere/listed.mkv"), settings, wants, report))
    return clips, report
