"""Holds written clips against their sources, with nothing of what read the source and wrote the clip.

A reader that loses frames would agree with itself. So both sides are read anew, each from its first frame to its last: the source by a
plain decoder that skips nothing (`outside`), the written file by its packets, by a plain decoder, and by OpenCV, which has its own
FFmpeg. Its sound is decoded as well (`hearing`). No module here imports `decode`, `planes`, `seek`, `picks`, `access`, `bake` or
`timeline`, directly or through others; a test says so.

Counts and times  packets of the file are as many as expected, each at its time to within one tick; it is as long as it should be; the
                  decoder and OpenCV find as many frames. The source's pictures from the clip's first to its end are as many, and none
                  lies between them (clips at a frame rate of their own choose among them).
Pictures          each is compared with the source's picture of its time, in luma and chroma (`witness`), and with the neighbours of both
                  sides: it must not be nearer to one of those. Then all together: colours, box, and a shift by one frame (`likeness`).
Tags              colours, rotation and sample aspect are those that the pictures have.
Sound             is where it should be to within 10 ms, as long as the clip, and the source's.
"""

import hashlib
import itertools
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curate.clip import NS_PER_S, Box
from curate.errors import ExportError
from curate.media import hearing
from curate.media.likeness import Limits, compare, difference, fault
from curate.media.outside import MAX_DELAY, Seen, Source, look
from curate.media.side_data import side_data
from curate.media.witness import Scale, Shrinker, Small, Tags, Turn, Window, cropped_edges

LENGTH_SLACK_S = 0.0015  # MP4 states the length of an edited track in whole milliseconds
NOT_IN_OPENCV = ("av1",)  # its own FFmpeg has no decoder
OPENCV_EVERY = 16  # frames; the first and the last in any case
OPENCV_LUMA = 40.0  # levels: it takes all for BT.601 of limited range, HDR too, and clips saturated colours on their way through RGB


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


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """What a written clip should hold.

    picks_ns    int64[N]: times in the source of the frames in it, ascending
    end_ns      end of the last one there
    times_ns    int64[N]: their times in the file
    duration_s  length of the file
    size        (width, height) as coded
    box         displayed pixels of the source that it shows; None: a copy, which keeps the coded picture and how it is to be turned
    is_every    the picks are all frames of the source from the first to `end_ns`
    coarseness  CRF of x264 or x265 or what is as coarse; None for a copy
    has_sound   the source's sound is wanted
    """

    source: Source
    picks_ns: np.ndarray
    end_ns: int
    times_ns: np.ndarray
    duration_s: float
    size: tuple[int, int]
    box: Box | None
    is_every: bool
    coarseness: float | None
    has_sound: bool


@dataclass(slots=True, eq=False)
class _Written:
    """What a plain decoder sees in the written file."""

    times_ns: list[int] = field(default_factory=list)
    pictures: list[Small] = field(default_factory=list)
    tags: Tags = field(default_factory=lambda: Tags(1, 1, 1, False))
    turn: Turn = field(default_factory=Turn)
    aspect: Fraction = Fraction(1)
    shown: tuple[int, int] = (0, 0)
    has_audio: bool = False
    is_interlaced: bool = False


def verify(path: Path, expected: Expected) -> CutFile:
    """Raises `ExportError` that begins with the source's name and says what is wrong and at which time."""
    name = expected.source.name
    scale = Scale.of(expected.size, expected.box)
    try:
        with av.open(f"file:{path}", format="mp4") as container:
            _check_packets(container, expected)
        with av.open(f"file:{path}", format="mp4") as container:
            written = _read(container, expected, scale)
    except av.error.FFmpegError as error:
        raise ExportError(f"{name}: the written file cannot be read: {error.strerror}") from error
    except IndexError as error:
        raise ExportError(f"{name}: the written file holds no video") from error
    side = _SourceSide(expected, scale, written)
    seen = look(expected.source, expected.picks_ns, expected.end_ns, side.small)
    places = _placed(seen, written.pictures, expected)
    findings = compare(written.pictures, seen.pictures, places)
    limits = Limits.of(expected.coarseness, scale.factor)
    if side.is_rgb:  # the writer's swscale takes the chroma of RGB from every second pixel, here it is the mean of all
        limits = replace(limits, colour=2 * limits.colour)
    if (what := fault(findings, limits, [t / NS_PER_S for t in written.times_ns])) is not None:
        raise ExportError(f"{name}: {what}")
    _check_opencv(path, written, expected)
    if expected.has_sound:
        hearing.check(path, expected.source, int(expected.picks_ns[0]), expected.end_ns, expected.coarseness is None)
    elif written.has_audio:
        raise ExportError(f"{name}: the written file has sound, which was not wanted")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    times_ns = np.array(written.times_ns, np.int64)
    size_bytes = path.stat().st_size
    return CutFile(path, size_bytes, len(times_ns), expected.duration_s, *written.shown, times_ns, written.has_audio, digest.hexdigest())


def _check_packets(container: av.container.InputContainer, expected: Expected) -> None:
    """The table of contents: one picture a packet, each at its time, and the file's length."""
    name = expected.source.name
    if len(container.streams.video) != 1 or len(container.streams.audio) > 1:
        raise ExportError(f"{name}: the written file has {len(container.streams.video)} videos and {len(container.streams.audio)} sounds")
    stream = container.streams.video[0]
    base = stream.time_base or Fraction(1)
    packets = [(p.pts, p.dts, p.duration or 0) for p in container.demux(stream) if p.size and p.pts is not None]
    times_ns = np.sort(np.array([round(pts * base * NS_PER_S) for pts, *_ in packets], np.int64))
    tick_ns = float(base * NS_PER_S) + 1
    num, wanted = len(times_ns), len(expected.times_ns)
    if num > wanted:
        raise ExportError(f"{name}: the written file has more than {wanted} frames, the next one at {times_ns[wanted] / NS_PER_S:.6f} s")
    late = np.flatnonzero(np.abs(times_ns - expected.times_ns[:num]) > tick_ns)
    if len(late):
        times = f"shown at {times_ns[late[0]] / NS_PER_S:.6f} s, not {expected.times_ns[late[0]] / NS_PER_S:.6f} s"
        raise ExportError(f"{name}: frame {late[0]} of the written file is {times}")
    if num < wanted:
        end_s = times_ns[-1] / NS_PER_S if num else 0.0
        raise ExportError(f"{name}: the written file ends after {num} of {wanted} frames, at {end_s:.6f} s")
    length_s = max(float((pts + duration) * base) for pts, _, duration in packets)
    slack_s = LENGTH_SLACK_S + tick_ns / NS_PER_S
    if expected.coarseness is None and any(pts != dts for pts, dts, _ in packets):
        # MP4 keeps lengths in decoding order: the last shown of reordered frames may have that of another.
        slack_s += float(np.diff(times_ns).max(initial=0)) / NS_PER_S
    if abs(length_s - expected.duration_s) > slack_s:
        raise ExportError(f"{name}: the written file lasts {length_s:.6f} s, not {expected.duration_s:.6f} s")


def _read(container: av.container.InputContainer, expected: Expected, scale: Scale) -> _Written:
    """Decodes the file from first frame to last. In a re-encoded one, whatever the decoder finds wrong is an error."""
    name, stream = expected.source.name, container.streams.video[0]
    stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
    is_strict = expected.coarseness is not None
    if is_strict:
        stream.codec_context.options = {"err_detect": "explode"}
    written = _Written(has_audio=bool(container.streams.audio), aspect=Fraction(stream.sample_aspect_ratio or 1))
    shrinker: Shrinker | None = None
    last_ns = 0
    try:
        for frame in container.decode(stream):
            if frame.pts is None or (is_strict and frame.is_corrupt):
                raise ExportError(f"{name}: the frame after {last_ns / NS_PER_S:.6f} s of the written file is damaged or has no time")
            last_ns = round(frame.pts * (frame.time_base or Fraction(1)) * NS_PER_S)
            if (frame.width, frame.height) != expected.size:
                size = f"{frame.width}x{frame.height}, not {expected.size[0]}x{expected.size[1]}"
                raise ExportError(f"{name}: the written picture is {size}")
            if shrinker is None:
                written.tags, written.turn = Tags.of(frame), Turn.of(frame)
                left, top, right, bottom = cropped_edges(side_data(stream).crop, frame)
                written.shown = written.turn.shown((frame.width - left - right, frame.height - top - bottom), written.aspect)
                shrinker = Shrinker(scale, Window(0, 0, *scale.used), Turn(), None)
            written.is_interlaced |= bool(frame.interlaced_frame)
            written.times_ns.append(last_ns)
            written.pictures.append(shrinker.small(frame))
    except av.error.FFmpegError as error:
        raise ExportError(f"{name}: the written file does not decode after {last_ns / NS_PER_S:.6f} s: {error.strerror}") from error
    if len(written.times_ns) != len(expected.times_ns):
        frames = f"{len(written.times_ns)} frames, of {len(expected.times_ns)} that its packets hold"
        raise ExportError(f"{name}: the written file decodes to {frames}, at {last_ns / NS_PER_S:.6f} s")
    return written


class _SourceSide:
    """Makes small pictures of the source as the clip should show them; checks what the first one says of size, turn and colours."""

    def __init__(self, expected: Expected, scale: Scale, written: _Written) -> None:
        self._expected, self._scale, self._written = expected, scale, written
        self._shrinker: Shrinker | None = None
        self._coded = (0, 0)
        self.is_rgb = False

    def small(self, frame: VideoFrame, stream: VideoStream) -> Small:
        coded = (frame.width, frame.height)
        if self._shrinker is None or coded != self._coded:
            self._coded, self._shrinker = coded, self._made(frame, stream)
            self.is_rgb = frame.format.is_rgb or frame.format.name == "pal8"
        return self._shrinker.small(frame)

    def _made(self, frame: VideoFrame, stream: VideoStream) -> Shrinker:
        box, written, name = self._expected.box, self._written, self._expected.source.name
        tags, turn, aspect = Tags.of(frame), Turn.of(frame), Fraction(stream.sample_aspect_ratio or 1)
        if box is None:
            if (turn, aspect) != (written.turn, written.aspect):
                raise ExportError(f"{name}: the copy is turned or stretched in another way than its source")
            if tags != written.tags:
                raise ExportError(f"{name}: the copy is tagged with the colours {written.tags}, its source with {tags}")
            return Shrinker(self._scale, Window(0, 0, *self._scale.used), Turn(), None)
        if written.turn != Turn() or written.aspect != 1:
            raise ExportError(f"{name}: the written file asks to be turned or stretched, which its pictures already are")
        wanted = Tags(1, 1, 1, False) if tags.is_light else Tags(tags.matrix, tags.primaries, tags.transfer, False)
        if wanted != written.tags:
            raise ExportError(f"{name}: the written file is tagged with the colours {written.tags}, not {wanted}")
        edges, coded = cropped_edges(side_data(stream).crop, frame), (frame.width, frame.height)
        shown = (coded[0] - edges[0] - edges[2], coded[1] - edges[1] - edges[3])
        window = Window.of(box, self._scale.used, turn, aspect, shown).within(edges, coded)
        return Shrinker(self._scale, window, turn, wanted)


def _placed(seen: Seen, written: list[Small], expected: Expected) -> np.ndarray:
    """Which of the source's pictures each written one should be. Raises `ExportError` where the clip has not all of them."""
    name, picks_ns = expected.source.name, expected.picks_ns
    places = seen.places(picks_ns)
    assert places is not None  # `look` has made sure
    if expected.is_every:
        holes = np.flatnonzero(np.diff(places) != 1)
        if len(holes):
            num = int(places[-1] - places[0]) + 1
            where = f"the first is lost after {picks_ns[holes[0]] / NS_PER_S:.6f} s"
            raise ExportError(f"{name}: the clip has {len(places)} of the {num} pictures that a plain decoder shows: {where}")
        behind = places[-1] + 1
        if seen.is_timed and behind < len(seen.times_ns) and seen.times_ns[behind] < expected.end_ns - 1000:
            where = f"at {seen.times_ns[behind] / NS_PER_S:.6f} s"
            raise ExportError(f"{name}: a plain decoder shows a picture {where}, which the clip has not")
    if seen.is_timed:
        return places
    sample = np.unique(np.linspace(0, len(places) - 1, 24).round().astype(int))
    shifts = [by for by in range(-MAX_DELAY, MAX_DELAY + 1) if places[0] + by >= 0 and places[-1] + by < len(seen.pictures)]
    apart = [sum(difference(written[k].luma, seen.pictures[places[k] + by].luma) for k in sample) for by in shifts]
    return places + shifts[int(np.argmin(apart))]


def _check_opencv(path: Path, written: _Written, expected: Expected) -> None:
    """Another library, with a demuxer and a decoder of its own, finds the same number of frames at the same times, and shows the same."""
    name = expected.source.name
    with av.open(f"file:{path}", format="mp4") as container:
        if container.streams.video[0].codec_context.codec.canonical_name in NOT_IN_OPENCV:
            return
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        for k in itertools.count():
            if not capture.grab():
                break
            if k == len(written.times_ns):
                raise ExportError(f"{name}: OpenCV reads more than {k} frames of the written file")
            time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if abs(time_s - written.times_ns[k] / NS_PER_S) > 0.001:
                raise ExportError(f"{name}: OpenCV shows frame {k} at {time_s:.6f} s, not {written.times_ns[k] / NS_PER_S:.6f} s")
            # Of interlaced frames, as copies may have, it shows what lay in its memory before.
            if not written.is_interlaced and (k % OPENCV_EVERY == 0 or k == len(written.times_ns) - 1):
                is_shown, picture = capture.retrieve()
                if not is_shown:
                    raise ExportError(f"{name}: OpenCV cannot show frame {k} of the written file")
                luma, scale = written.pictures[k].luma, Scale.of(expected.size, expected.box)
                height, width = (side * scale.factor for side in luma.shape)
                grey = cv2.cvtColor(picture[:height, :width], cv2.COLOR_BGR2GRAY)
                grey = cv2.resize(grey, luma.shape[::-1], interpolation=cv2.INTER_AREA)
                apart = difference((16 + grey * (219 / 255)).round().astype(np.uint8), luma)
                if apart > OPENCV_LUMA:
                    raise ExportError(f"{name}: OpenCV shows another picture at {time_s:.6f} s: luma differs by {apart:.2f} levels")
        if k != len(written.times_ns):
            raise ExportError(f"{name}: OpenCV reads {k} of {len(written.times_ns)} frames of the written file")
    finally:
        capture.release()
