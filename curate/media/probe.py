"""What the container and the stream say of themselves, read from an open PyAV container without decoding."""

from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from curate.clip import NS_PER_S
from curate.media.color import ColorInfo
from curate.media.geometry import Geometry

ENCODER_TAGS = ("encoder", "encoded_by", "com.apple.quicktime.software", "writing_application")


@dataclass(frozen=True, slots=True)
class Probe:
    """Facts of the video stream that is read. None where the file does not say.

    `video_stream` is its index, `audio_stream` that of the sound that belongs to it.
    `duration_s` is what the container declares for the video stream, `container_duration_s` for the longest stream;
    `declared_frames` the count in the container's sample table that its edit list shows (0 where it has none).
    """

    container: str
    codec: str
    pixel_format: str | None
    bit_depth: int
    geometry: Geometry
    color: ColorInfo
    fps: float | None
    start_ns: int | None
    duration_s: float | None
    container_duration_s: float | None
    declared_frames: int
    has_audio: bool
    encoder: str | None
    tags: dict[str, str]
    video_stream: int | None = None
    audio_stream: int | None = None


def probe(container: InputContainer, stream: VideoStream, sound: AudioStream | None, geometry: Geometry, color: ColorInfo) -> Probe:
    """Collects the facts; geometry and colour come from the first decoded frame, which knows the display matrix."""
    context = stream.codec_context
    tags = {str(k): str(v) for k, v in {**stream.metadata, **container.metadata}.items()}
    lowered = {k.lower(): v for k, v in tags.items()}
    rate = stream.average_rate or stream.guessed_rate
    depth = max((c.bits for c in context.format.components), default=8) if context.format else 8
    return Probe(
        container=container.format.name,
        codec=context.name,
        pixel_format=context.pix_fmt,
        bit_depth=depth,
        geometry=geometry,
        color=color,
        fps=float(rate) if rate else None,
        start_ns=to_ns(stream.start_time, stream.time_base),
        duration_s=_stream_duration_s(stream, lowered),
        container_duration_s=container.duration / av.time_base if container.duration else None,
        declared_frames=_declared_frames(container, stream),
        has_audio=any(s.type == "audio" for s in container.streams),
        encoder=next((lowered[k] for k in ENCODER_TAGS if lowered.get(k)), None),
        tags=tags,
        video_stream=stream.index,
        audio_stream=sound.index if sound is not None else None,
    )


def to_ns(ticks: int | None, time_base: Fraction | None) -> int | None:
    """Ticks of a time base as whole nanoseconds, rounded to nearest; None stays None."""
    if ticks is None or time_base is None:
        return None
    # As round(Fraction(ticks * NS_PER_S) * time_base), ties to even, at a tenth of the cost.
    whole, rest = divmod(ticks * NS_PER_S * time_base.numerator, time_base.denominator)
    twice = 2 * rest
    return whole + (twice > time_base.denominator or (twice == time_base.denominator and whole % 2 == 1))


def _declared_frames(container: InputContainer, stream: VideoStream) -> int:
    # An MP4's edit list may leave samples out: then the index of what will be demuxed is shorter than the table.
    num_indexed = len(stream.index_entries) if container.format.name.startswith("mov") else 0
    return min(stream.frames, num_indexed) if num_indexed else stream.frames


def _stream_duration_s(stream: VideoStream, lowered_tags: dict[str, str]) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Matroska keeps the duration of each stream in a tag, HH:MM:SS.fraction.
    text = lowered_tags.get("duration") or lowered_tags.get("duration-eng")
    if not text or text.count(":") != 2:
        return None
    try:
        hours, minutes, seconds = (float(part) for part in text.split(":"))
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds
