"""Arrays to an MP4 that any player opens: H.264, 4:2:0, BT.709 limited range and tagged so, with metadata."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from curate.media.bake import ColorTags
from curate.media.color import ColorInfo
from curate.media.encode import Encoding, Mp4Writer, Timing
from curate.media.geometry import Geometry
from curate.media.picture import Picture


class TaggedMp4Writer(Mp4Writer):
    """An `Mp4Writer` whose file holds metadata: MP4 has places for `title`, `comment`, `artist`, `copyright` and some more, no others."""

    def __init__(self, path: Path, encoding: Encoding, size: tuple[int, int], timing: Timing, metadata: Mapping[str, str]) -> None:
        super().__init__(path, encoding, size, timing, ColorTags())
        self._container.metadata.update(metadata)


def write_mp4(path: Path, frames_THWC: np.ndarray, fps: Fraction, crf: int = 16, metadata: Mapping[str, str] | None = None) -> None:
    """Writes uint8 (T, H, W, 3) RGB with even sides at a constant rate. Raises `ValueError` for arrays that are none."""
    in_420 = _in_420(frames_THWC)
    height, width = frames_THWC.shape[1:3]
    timing = Timing.of(np.arange(len(frames_THWC)), len(frames_THWC), fps)
    writer = TaggedMp4Writer(path, Encoding(crf=crf, preset="medium"), (width, height), timing, metadata or {})
    try:
        for frame in in_420:
            writer.write(frame)
    finally:
        writer.close()


def as_written(frames_THWC: np.ndarray) -> list[Picture]:
    """What a decoder would hand out of `write_mp4`'s file but for the losses of H.264: the same planes. Raises as `write_mp4` does."""
    in_420 = _in_420(frames_THWC)
    height, width = frames_THWC.shape[1:3]
    color, geometry = ColorInfo("bt709", full_range=False), Geometry(width, height)
    pictures = []
    for frame in in_420:
        y, chroma = np.split(frame.to_ndarray(), [height])
        u, v = chroma.reshape(2, height // 2, width // 2)
        pictures.append(Picture((y, u, v), 8, color, geometry))
    return pictures


def _in_420(frames_THWC: np.ndarray) -> Iterator[av.VideoFrame]:
    """Frames in 4:2:0, BT.709, limited range, one by one; what is wrong with the array is raised by the call itself."""
    if frames_THWC.dtype != np.uint8 or frames_THWC.ndim != 4 or frames_THWC.shape[3] != 3 or not len(frames_THWC):
        raise ValueError(f"frames must be uint8 (T, H, W, 3) with T at least 1, got {frames_THWC.dtype} {frames_THWC.shape}")
    height, width = frames_THWC.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"frames are {width}x{height}; 4:2:0 needs even sides")
    reformatter = VideoReformatter()  # one for all: it keeps its tables from frame to frame
    rgb = (av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24") for picture in frames_THWC)
    return (
        reformatter.reformat(one, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1)
        for one in rgb
    )


def read_metadata(path: Path) -> dict[str, str]:
    """What a container says of itself. Raises `ValueError` where the file is no media."""
    try:
        with av.open(f"file:{path}") as container:
            return {str(key): str(value) for key, value in container.metadata.items()}
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{path} cannot be opened as media: {error}") from error
