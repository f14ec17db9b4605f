"""One clip out of a source into one MP4 file, verified before anybody is told of it.

exact  Frames are decoded from the keyframe before the clip, baked as displayed (`bake`), encoded (`encode`) and compared with what was
       read (`check`): any frame can be first and last, and the picture can be cropped, resized and resampled in time.
copy   Packets between keyframes go into the file as they are (`remux`): no quality is lost and hardly any time.

The source is only read. A file appears under its name when it has been verified; until then it is a hidden one beside it, which a
failure removes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from curate.clip import Box, Span
from curate.errors import ExportError, SourceError
from curate.media.bake import Baker, writable
from curate.media.check import COARSE, EXACT, CutFile, Expected, Witness, check, small_luma
from curate.media.encode import Encoding, Mp4Writer, Timing
from curate.media.picks import VideoFile, frames_at
from curate.media.remux import check_copy, write_copy
from curate.media.sound import sound_between
from curate.media.streams import AUTO, StreamChoice

__all__ = ["CutFile", "Encoding", "Take", "cut_copy", "cut_exact"]


@dataclass(frozen=True, slots=True, eq=False)
class Take:
    """Which frames of a source make a clip, and how they are shown.

    picks_ns   int64[N]: presentation times of the source's frames to write, ascending, all distinct
    end_ns     end of the last one
    box        displayed pixels to keep
    width, height  size to write, both even
    fps        frame k is shown at k / fps; None: frames keep their own times, from the clip's start
    before_ns, after_ns  times of the source's frames just before the first and after the last pick's span, None where unknown or none:
               the verifier compares with them
    streams    those of the source that the scan read
    """

    url: str
    picks_ns: np.ndarray
    end_ns: int
    box: Box
    width: int
    height: int
    fps: Fraction | None = None
    before_ns: int | None = None
    after_ns: int | None = None
    streams: StreamChoice = AUTO

    def __post_init__(self) -> None:
        picks_ns = self.picks_ns
        if picks_ns.ndim != 1 or not len(picks_ns) or (np.diff(picks_ns) <= 0).any():
            raise ValueError(f"picks_ns of {self.url} must be ascending, distinct times of at least one frame")
        if self.end_ns <= picks_ns[-1]:
            raise ValueError(f"end_ns={self.end_ns} must lie after the last pick at {picks_ns[-1]}")
        if min(self.width, self.height) < 2 or self.width % 2 or self.height % 2:
            raise ValueError(f"width={self.width}, height={self.height} must be even: 4:2:0 video holds no other size")
        if min(self.box.width, self.box.height) < 1 or min(self.box.x, self.box.y) < 0:
            raise ValueError(f"box={self.box} must hold at least one pixel of the picture")
        if self.fps is not None and self.fps <= 0:
            raise ValueError(f"fps={self.fps} must be positive")
        for name, time_ns, is_outside in (
            ("before_ns", self.before_ns, self.before_ns is None or self.before_ns < picks_ns[0]),
            ("after_ns", self.after_ns, self.after_ns is None or self.after_ns > picks_ns[-1]),
        ):
            if not is_outside:
                raise ValueError(f"{name}={time_ns} must lie outside the picks, {picks_ns[0]} to {picks_ns[-1]}")


def cut_exact(take: Take, encoding: Encoding, path: Path, *, file: object | None = None) -> CutFile:
    """Re-encodes exactly the frames of a take. `file` is an open binary file to read the source from instead of its URL.

    Raises `SourceError` when the source cannot be opened and `ExportError` when a frame is missing, the encoder fails or the
    written file is not what it should be; then there is no file.
    """
    with _finished(path, take.url) as part:
        expected, witness = write_exact(take, encoding, part, file=file)
        written = check(part, expected, witness, take.url)
    return replace(written, path=path)


def cut_copy(
    url: str,
    snapped: Span,
    times_ns: np.ndarray,
    path: Path,
    *,
    audio: bool,
    file: object | None = None,
    streams: StreamChoice = AUTO,
) -> CutFile:
    """Copies the packets of a span that begins with a keyframe. `times_ns` int64[N] are all frame times of the source inside it.

    Where the source's groups of pictures are open, frames at the end that need the keyframe behind the span are left out: `num_frames`
    and `times_ns` of the result say what is in the file. Raises `SourceError` and `ExportError` as `cut_exact` does; the latter
    also when MP4 cannot hold the codec.
    """
    with _finished(path, url) as part, VideoFile(url, file, streams) as video:
        written = check_copy(video, write_copy(video, snapped, times_ns, part, audio), part)
    return replace(written, path=path)


def write_exact(take: Take, encoding: Encoding, path: Path, *, file: object | None = None) -> tuple[Expected, Witness]:
    """Writes the file without reading it back: what it should hold, and what the source showed."""
    timing = Timing.of(take.picks_ns, take.end_ns, take.fps)
    expected = Expected(timing.times_ns, timing.duration_s, (take.width, take.height))
    witness = Witness(COARSE if encoding.is_coarse else EXACT)
    picks = take.picks_ns.tolist()
    edges = [t for t in (take.before_ns, take.after_ns) if t is not None]
    baker = Baker(take.box, take.width, take.height)
    writer: Mp4Writer | None = None
    tags = None
    with VideoFile(take.url, file, take.streams) as video:
        sound = sound_between(video, picks[0], take.end_ns) if encoding.audio else None
        try:
            for time_ns, frame in frames_at(video, sorted({*picks, *edges}), edges):
                baked, its_tags = baker.bake(frame, video.stream)
                luma = small_luma(writable(baked)[0])
                if time_ns == take.before_ns:
                    witness.before = luma
                elif time_ns == take.after_ns:
                    witness.after = luma
                else:
                    if writer is None:
                        tags = its_tags
                        writer = Mp4Writer(path, encoding, (take.width, take.height), timing, tags)
                        if sound is not None:
                            writer.add_sound(*sound)
                    if its_tags != tags:
                        raise ExportError(f"{take.url}: colours are tagged differently from {time_ns / 1e9:.6f} s on")
                    witness.own[len(witness.own)] = luma
                    writer.write(baked)
        finally:
            if writer is not None:
                writer.close()
    return expected, witness


@contextmanager
def _finished(path: Path, name: str) -> Iterator[Path]:
    """A hidden name beside `path` to write to; it gets its real name at the end, or is removed."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    except (ExportError, SourceError):
        raise
    except (av.error.FFmpegError, OSError) as error:
        raise ExportError(f"{name}: cannot be cut to {path}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
