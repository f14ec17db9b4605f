"""Is a written clip what it should be? Decoded from first frame to last with one thread and held against what was read from the source.

Every file: no error and no frame marked corrupt, the right number of frames, each at its time to within one tick of the file's clock,
the right size and length. Then the pictures, as luma averaged down to a short side of 96 px or somewhat more, in 8-bit levels, against
witnesses: the source's own frames (exact cuts: all; copies: the first and the last), kept while cutting.

* A written frame differs from its own source frame by at most `limit` on average.
* At both edges it is nearer to its own frame than to the source's frame across the edge, unless those two are less than `alike` apart. So
  a frame of the neighbouring shot is caught, whatever its cause: twelve cuts in real films were 50 to 121 levels wide.
* The clip as a whole is not nearer to its source when that is shifted by one frame either way, by more than a fifth.

Where the limits come from: 18 clips of real video (web, film, fixed cameras, screens, generated; up to 75 frames each) at every quality.
Largest difference to the own frame: 0.9 at CRF 18, 2.2 at 28, 4.3 at 35, 10.5 at 45 and 13.1 at 51 (x264 veryfast); 5.2 for x265
ultrafast at 40; 6.2 for SVT-AV1 at 50. Widest pair of neighbours of which a coder showed the wrong one, because it repeats pictures
where little moves: 0.1 at CRF 18, 2.3 at 28, 4.3 at 35, 8.5 at 45 and 51. Shifted by a frame, a good clip was at best 4 % nearer.
Copies decode to what the source decodes to, so for them any difference is a fault.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curate.clip import NS_PER_S
from curate.errors import ExportError, SourceError
from curate.media.decode import open_video
from curate.media.planes import PlaneReader
from curate.media.probe import to_ns
from curate.media.seek import demuxed

SHORT_SIDE = 96  # px
SHIFTED = 0.8  # of the clip's difference; less means that its frames are its neighbours
LENGTH_SLACK_S = 0.0015  # MP4 states the length of an edited track in whole milliseconds


@dataclass(frozen=True, slots=True, eq=False)
class CutFile:
    """A clip that was written and verified, with its size as shown. `times_ns` int64[N] are the times in the file; the first is 0."""

    path: Path
    size_bytes: int
    num_frames: int
    duration_s: float
    width: int
    height: int
    times_ns: np.ndarray
    has_audio: bool
    sha256: str


@dataclass(frozen=True, slots=True)
class Limits:
    """In 8-bit levels of averaged luma; the module's docstring says what they mean."""

    limit: float
    alike: float


EXACT = Limits(limit=8.0, alike=6.0)
COARSE = Limits(limit=20.0, alike=12.0)  # above CRF 35, for AV1 above 45
COPIED = Limits(limit=0.25, alike=0.0)


@dataclass(slots=True, eq=False)
class Witness:
    """What the source shows: `own[k]` for written frame k, and the source's frames across both edges. All from `small_luma`."""

    limits: Limits
    own: dict[int, np.ndarray] = field(default_factory=dict)
    before: np.ndarray | None = None
    after: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """`times_ns` int64[N] since the first frame, `size` (width, height) as coded."""

    times_ns: np.ndarray
    duration_s: float
    size: tuple[int, int]


def small_luma(luma: np.ndarray, depth: int = 8) -> np.ndarray:
    """float32 (h, w) of code values (H, W) of `depth` bits: averaged over whole blocks down to `SHORT_SIDE`, in 8-bit levels."""
    factor = max(1, min(luma.shape) // SHORT_SIDE)
    height, width = (max(1, side // factor) for side in luma.shape)
    small = cv2.resize(luma[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA)
    return small if depth == 8 else np.multiply(small, 2.0 ** (8 - depth), dtype=np.float32)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference in levels; infinite where the sizes differ."""
    return cv2.norm(a, b, cv2.NORM_L1) / a.size if a.shape == b.shape and a.dtype == b.dtype else float("inf")


def check(path: Path, expected: Expected, witness: Witness, name: str, is_strict: bool = True) -> CutFile:
    """Raises `ExportError` that begins with `name` and says what is wrong and at which time.

    `is_strict`: whatever the decoder finds wrong in the stream is an error, also where it can go on.
    """
    try:
        container, stream = open_video(str(path), name, 1)
    except SourceError as error:
        raise ExportError(f"{name}: the written file cannot be opened: {error}") from error
    with container:
        if not is_strict:
            stream.codec_context.options = {}
        has_audio = bool(container.streams.audio)
        ends_s: list[float] = []
        times_ns, displayed = _check_frames(_frames(stream, ends_s, name), stream, expected, witness, name)
        _check_length(max(ends_s), float(stream.time_base or 0), expected, name)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    size_bytes = path.stat().st_size
    return CutFile(path, size_bytes, len(times_ns), expected.duration_s, *displayed, times_ns, has_audio, digest.hexdigest())


def _frames(stream: VideoStream, ends_s: list[float], name: str) -> Iterator[tuple[int, VideoFrame]]:
    """Times and frames; `ends_s` gets the end of what each packet shows."""
    last_ns = -1
    try:
        for packet in demuxed(stream.container, stream):  # type: ignore[arg-type]
            if packet.pts is not None:
                ends_s.append(float((packet.pts + (packet.duration or 0)) * packet.time_base))
            for frame in packet.decode():
                time_ns = to_ns(frame.pts, frame.time_base)
                if frame.is_corrupt or time_ns is None:
                    raise ExportError(f"{name}: the frame after {last_ns / NS_PER_S:.6f} s of the written file is damaged or has no time")
                last_ns = time_ns
                yield time_ns, frame
    except av.error.FFmpegError as error:
        raise ExportError(f"{name}: the written file does not decode after {max(0, last_ns) / NS_PER_S:.6f} s: {error.strerror}") from error


def _check_frames(
    frames: Iterator[tuple[int, VideoFrame]], stream: VideoStream, expected: Expected, witness: Witness, name: str
) -> tuple[np.ndarray, tuple[int, int]]:
    """Times of all frames; width and height as shown, which a copy has turned, stretched or cropped as its source has."""
    assert stream.time_base is not None
    tick_ns = float(stream.time_base * NS_PER_S) + 1
    reader = PlaneReader()
    times: list[int] = []
    alignment = _Alignment()
    displayed = expected.size
    for time_ns, frame in frames:
        k = len(times)
        if k == len(expected.times_ns):
            raise ExportError(f"{name}: the written file has more than {k} frames, the next one at {time_ns / NS_PER_S:.6f} s")
        wanted_ns = int(expected.times_ns[k])
        if abs(time_ns - wanted_ns) > tick_ns:
            shown = f"shown at {time_ns / NS_PER_S:.6f} s, not {wanted_ns / NS_PER_S:.6f} s"
            raise ExportError(f"{name}: frame {k} of the written file is {shown}")
        if (frame.width, frame.height) != expected.size:
            raise ExportError(f"{name}: the written picture is {frame.width}x{frame.height}, not {expected.size[0]}x{expected.size[1]}")
        if k in witness.own:
            picture = reader.picture(frame, stream)
            displayed = picture.geometry.displayed
            luma = small_luma(picture.planes[0], picture.depth)
            _check_picture(luma, k, len(expected.times_ns), witness, f"{name}: at {time_ns / NS_PER_S:.6f} s")
            alignment.add(luma, k, witness)
        times.append(time_ns)
    if len(times) < len(expected.times_ns):
        end_s = times[-1] / NS_PER_S if times else 0.0
        raise ExportError(f"{name}: the written file ends after {len(times)} of {len(expected.times_ns)} frames, at {end_s:.6f} s")
    alignment.check(name)
    return np.array(times, np.int64), displayed


@dataclass(slots=True, eq=False)
class _Alignment:
    """Sums of the differences of written frames to their own source frames and to those one frame earlier and later."""

    own: float = 0.0
    shifted: dict[str, float] = field(default_factory=lambda: {"earlier": 0.0, "later": 0.0})
    num_frames: int = 0

    def add(self, luma: np.ndarray, k: int, witness: Witness) -> None:
        before, after = _neighbours(k, witness)
        if before is not None and after is not None:
            self.own += difference(luma, witness.own[k])
            self.shifted["earlier"] += difference(luma, before)
            self.shifted["later"] += difference(luma, after)
            self.num_frames += 1

    def check(self, name: str) -> None:
        for side, apart in self.shifted.items():
            if apart < SHIFTED * self.own:
                means = f"{apart / self.num_frames:.2f} levels, against {self.own / self.num_frames:.2f}"
                raise ExportError(f"{name}: the written pictures are those of the source one frame {side} than their times ({means})")


def _neighbours(k: int, witness: Witness) -> tuple[np.ndarray | None, np.ndarray | None]:
    before = witness.before if k == 0 else witness.own.get(k - 1)
    after = witness.own.get(k + 1) if k + 1 in witness.own else witness.after
    return before, after


def _check_picture(luma: np.ndarray, k: int, num_frames: int, witness: Witness, where: str) -> None:
    own, limits = witness.own[k], witness.limits
    apart = difference(luma, own)
    if apart > limits.limit:
        raise ExportError(f"{where} the written picture is not the source's: luma differs by {apart:.2f} levels, {limits.limit:g} allowed")
    for neighbour, side in ((witness.before if k == 0 else None, "before"), (witness.after if k == num_frames - 1 else None, "after")):
        if neighbour is not None and difference(own, neighbour) > limits.alike and difference(luma, neighbour) <= apart:
            raise ExportError(f"{where} the written picture shows the source's frame {side} the clip, not its own")


def _check_length(length_s: float, tick_s: float, expected: Expected, name: str) -> None:
    if abs(length_s - expected.duration_s) > LENGTH_SLACK_S + tick_s:
        raise ExportError(f"{name}: the written file lasts {length_s:.6f} s, not {expected.duration_s:.6f} s")
