"""Writes a case's pictures with PyAV: H.264, MPEG-4, VP9 and HEVC at qualities from good to poor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

PRESETS = ("superfast", "superfast", "superfast", "veryfast", "veryfast", "medium")
BITEXACT = 0x0400  # AVFMT_FLAG_BITEXACT


@dataclass(frozen=True)
class Encoding:
    """`quality` is a CRF, for MPEG-4 a quantiser."""

    codec: str
    quality: int
    preset: str = ""
    suffix: str = ".mp4"

    @property
    def name(self) -> str:
        return f"{self.codec.removeprefix('lib')} {self.quality} {self.preset}".strip()

    def options(self) -> dict[str, str]:
        if self.codec == "mpeg4":
            return {"qmin": str(self.quality), "qmax": str(self.quality), "g": "60", "threads": "1"}
        if self.codec == "libvpx-vp9":
            return {"crf": str(self.quality), "b": "0", "deadline": "realtime", "cpu-used": "8", "threads": "1", "g": "120"}
        if self.codec == "libx265":
            return {"crf": str(self.quality), "preset": self.preset, "x265-params": "log-level=none:pools=none:frame-threads=1"}
        return {"crf": str(self.quality), "preset": self.preset, "threads": "1", "g": "100"}


def drawn(random: np.random.Generator, codec: str = "") -> Encoding:
    """H.264 in four cases of five; always that if `codec` says so."""
    draw = 1.0 if codec == "libx264" else random.random()
    if draw < 0.1:
        return Encoding("mpeg4", int(random.choice([3, 5, 8])), suffix=str(random.choice([".mp4", ".avi"])))
    if draw < 0.17:
        return Encoding("libvpx-vp9", int(random.choice([32, 40, 50])), suffix=".webm")
    if draw < 0.22:
        return Encoding("libx265", int(random.choice([24, 28, 33])), "ultrafast")
    quality = int(random.choice([18, 20, 23, 26, 30, 35], p=[0.12, 0.18, 0.28, 0.18, 0.14, 0.1]))
    return Encoding("libx264", quality, str(random.choice(PRESETS)))


def write(path: Path, frames: Sequence[np.ndarray], fps: float, encoding: Encoding, tags: Mapping[str, str] | None = None) -> None:
    """BGR pictures at a constant rate as BT.709 limited range; sizes are cut to even numbers."""
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", options={"movflags": "+faststart+use_metadata_tags"} if path.suffix == ".mp4" else {}) as container:
        container.flags |= BITEXACT
        container.metadata.update(dict(tags or {}))
        stream = container.add_stream(encoding.codec, rate=rate, options=encoding.options())
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1
        context.color_range = 1
        reformatter = VideoReformatter()
        for k, bgr in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(bgr[:height, :width]), format="bgr24")
            frame = reformatter.reformat(
                frame, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1
            )
            frame.pts, frame.time_base = k, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
