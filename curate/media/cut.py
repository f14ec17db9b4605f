"""One clip out of a source into one MP4 file, verified before anybody is told of it.

exact  Frames are decoded from the keyframe before the clip, baked as displayed (`bake`) and encoded (`encode`): any frame can be first
       and last, and the picture can be cropped, resized and resampled in time.
copy   Packets between keyframes go into the file as they are (`remux`): no quality is lost and hardly any time.

Then both sides are read anew, by a verifier that shares no line with the reader and the writer (`verify`). The source is only read. A file
appears under its name when it has been verified; until then it is a hidden one beside it, which a failure removes.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from curate.clip import Box, Span
from curate.errors import ExportError, SourceError
from curate.media.bake import Baker
from curate.media.encode import Encoding, Mp4Writer, Timing
from curate.media.picks import VideoFile, frames_at
from curate.media.remote import open_remote
from curate.media.remux import source_of, write_copy
from curate.media.sound import sound_between
from curate.media.streams import AUTO, StreamChoice
from curate.media.verify import CutFile, Expected, verify

__all__ = ["CutFile", "Encoding", "Take", "cut_copy", "cut_exact"]


@dataclass(frozen=True, slots=True, eq=False)
class Take:
    """Which frames of a source make a clip, and how they are shown.

    picks_ns   int64[N]: presentation times of the source's frames to write, ascending, all distinct
    end_ns     end of the last one
    box        displayed pixels to keep
    width, height  size to write, both even
    fps        frame k is shown at k / fps; None: frames keep their own times, from the clip's start
    streams    those of the source that the scan read
    """

    url: str
    picks_ns: np.ndarray
    end_ns: int
    box: Box
    width: int
    height: int
    fps: Fraction | None = None
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


def cut_exact(take: Take, encoding: Encoding, path: Path, *, file: object | None = None) -> CutFile:
    """Re-encodes exactly the frames of a take. `file` is an open binary file to read the source from instead of its URL.

    Raises `SourceError` when the source cannot be opened and `ExportError` when a frame is missing, the encoder fails or the
    written file is not what it should be; then there is no file.
    """
    with _finished(path, take.url) as part, _opened(take.url, file) as source:
        written = verify(part, write_exact(take, encoding, part, file=source))
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
    with _finished(path, url) as part, _opened(url, file) as source:
        with VideoFile(url, source, streams) as video:
            expected = write_copy(video, snapped, times_ns, part, audio, file=source)
        written = verify(part, expected)
    return replace(written, path=path)


def write_exact(take: Take, encoding: Encoding, path: Path, *, file: object | None = None) -> Expected:
    """Writes the file without reading it back. Returns what it should hold."""
    timing = Timing.of(take.picks_ns, take.end_ns, take.fps)
    baker = Baker(take.box, take.width, take.height)
    writer: Mp4Writer | None = None
    tags = None
    with VideoFile(take.url, file, take.streams) as video:
        sound = sound_between(video, int(take.picks_ns[0]), take.end_ns) if encoding.audio else None
        try:
            for time_ns, frame in frames_at(video, take.picks_ns.tolist()):
                baked, its_tags = baker.bake(frame, video.stream)
                if writer is None:
                    tags = its_tags
                    writer = Mp4Writer(path, encoding, (take.width, take.height), timing, tags)
                    if sound is not None:
                        writer.add_sound(*sound)
                if its_tags != tags:
                    raise ExportError(f"{take.url}: colours are tagged differently from {time_ns / 1e9:.6f} s on")
                writer.write(baked)
        finally:
            if writer is not None:
                writer.close()
        source = source_of(video, file)
    return Expected(
        source=source,
        picks_ns=take.picks_ns,
        end_ns=take.end_ns,
        times_ns=timing.times_ns,
        duration_s=timing.duration_s,
        size=(take.width, take.height),
        box=take.box,
        is_every=take.fps is None,
        coarseness=encoding.coarseness,
        has_sound=encoding.audio,
    )


@contextmanager
def _opened(url: str, file: object | None) -> Iterator[object | None]:
    """An open file for a source behind a URL, fetched once for writing and verifying; None for a local path."""
    if file is not None or "://" not in url:
        yield file
        return
    with closing(open_remote(url)) as opened:
        yield opened


@contextmanager
def _finished(path: Path, name: str) -> Iterator[Path]:
    """A hidden name beside `path` to write to; it gets its real name at the end, or is removed."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    except (ExportError, SourceError):
        raise
    except MemoryError:
        raise
    except Exception as error:  # whatever a library or we stumble over is this clip's misfortune; the other clips go on
        raise ExportError(f"{name}: cannot be cut to {path}: {_said(error)}") from error
    finally:
        part.unlink(missing_ok=True)


def _said(error: Exception) -> str:
    """What went wrong; an exception that nobody foresaw is named."""
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
