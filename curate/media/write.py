"""Arrays to an MP4 that any player opens: H.264, 4:2:0, BT.709 limited range and tagged so, with metadata."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from curate.media.bake import ColorTags
from curate.media.encode import Encoding, Mp4Writer, Timing


class TaggedMp4Writer(Mp4Writer):
    """An `Mp4Writer` whose file holds metadata: MP4 has places for `title`, `comment`, `artist`, `copyright` and some more, no others."""

    def __init__(self, path: Path, encoding: Encoding, size: tuple[int, int], timing: Timing, metadata: Mapping[str, str]) -> None:
        super().__init__(path, encoding, size, timing, ColorTags())
        self._container.metadata.update(metadata)


def write_mp4(path: Path, frames_THWC: np.ndarray, fps: Fraction, crf: int = 16, metadata: Mapping[str, str] | None = None) -> None:
    """Writes uint8 (T, H, W, 3) RGB with even sides at a constant rate. Raises `ValueError` for arrays that are none."""
    if frames_THWC.dtype != np.uint8 or frames_THWC.ndim != 4 or frames_THWC.shape[3] != 3 or not len(frames_THWC):
        raise ValueError(f"frames must be uint8 (T, H, W, 3) with T at least 1, got {frames_THWC.dtype} {frames_THWC.shape}")
    height, width = frames_THWC.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"frames are {width}x{height}; 4:2:0 needs even sides")
    timing = Timing.of(np.arange(len(frames_THWC)), len(frames_THWC), fps)
    writer = TaggedMp4Writer(path, Encoding(crf=crf, preset="medium"), (width, height), timing, metadata or {})
    reformatter = VideoReformatter()  # one for the file: it keeps its tables from frame to frame
    try:
        for picture in frames_THWC:
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            writer.write(
                reformatter.reformat(rgb, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1)
            )
    finally:
        writer.close()


def read_metadata(path: Path) -> dict[str, str]:
    """What a container says of itself. Raises `ValueError` where the file is no media."""
    try:
        with av.open(f"file:{path}") as container:
            return {str(key): str(value) for key, value in container.metadata.items()}
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{path} cannot be opened as media: {error}") from error
