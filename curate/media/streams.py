"""Which streams of a container are read: the film and the sound that belongs to it.

FFmpeg's own choice (`av_find_best_stream`) looks at flags, at five probed packets and at the bit
rate. It takes the alpha channel of an animated AVIF for the film, and sound from another program
where a program has none. Containers do not say what is the film; these rules do.

Video, the first difference decides:
1. no cover, still image or thumbnails, by their flags;
2. not a part of another stream (tiles, the enhancement layer of Dolby Vision);
3. moving: not a tenth of the pictures of the stream that has most (still pictures of animated
   AVIF and of motion photos, covers without their flag);
4. the default flag, which a disabled track of MP4 lacks;
5. a codec that can be decoded: only now, since to read a preview for a film is worse than to say
   that there is no decoder for it;
6. the larger picture, then more pictures, then the longer;
7. colour before grey (alpha channels), then the order in the container.

Sound, of the streams in the same program (where the container has programs) that can be decoded:
1. not commentary, not for the visually or hearing impaired, no part of another stream;
2. the default flag, then the original language;
3. the nearest in the order of the container, which writes together what belongs together.
The language is no criterion.
"""

from collections.abc import Callable
from dataclasses import dataclass

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from curate.errors import NoSuchStream, SourceError
from curate.media import reasons
from curate.media.side_data import side_data

PICTURES = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
SIDE_SOUND = (
    Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.dependent
    | Disposition.descriptions
    | Disposition.karaoke
    | Disposition.clean_effects
    | Disposition.non_diegetic
)
FEWEST = 10  # a stream with less than one picture for so many of another does not move


@dataclass(frozen=True, slots=True)
class StreamChoice:
    """Indexes of the streams to read, as ffprobe counts them; None: chosen by the rules above."""

    video: int | None = None
    audio: int | None = None

    @property
    def is_free(self) -> bool:
        return self.video is None and self.audio is None


AUTO = StreamChoice()


def choose_video(
    container: InputContainer, file: object, name: str, wanted: int | None = None
) -> VideoStream:
    """The stream that is the film, or the one of index `wanted`.

    Raises `SourceError` where there is none, where it cannot be decoded, and where what would
    come out is not what its makers show: Dolby Vision's own colours, animated WebP.
    """
    video = list(container.streams.video)
    if wanted is not None and wanted not in (stream.index for stream in video):
        raise _without(container, name, "decode.stream", wanted, "video")
    shown = [stream for stream in video if not stream.disposition & Disposition.attached_pic]
    if wanted is not None:
        chosen = next(stream for stream in video if stream.index == wanted)
    elif shown:
        chosen = max(shown, key=_rank_among(shown)) if len(shown) > 1 else shown[0]
    else:
        raise reasons.without_video(name, list(container.streams))
    if not _has_decoder(chosen):
        raise reasons.without_decoder(file, name)
    if container.format.name.startswith("webp") and is_animated_webp(file):
        raise reasons.animated_webp(name)
    dolby_vision = side_data(chosen).dolby_vision
    if dolby_vision is not None and dolby_vision.is_ipt:
        raise reasons.dolby_vision_only(name, dolby_vision.profile)
    return chosen


def choose_audio(
    container: InputContainer, video: VideoStream, name: str, wanted: int | None = None
) -> AudioStream | None:
    """The sound that belongs to a video stream, or the one of index `wanted`; None for no sound.

    Raises `NoSuchStream` where `wanted` is no sound that can be decoded.
    """
    sound = [stream for stream in container.streams.audio if _has_decoder(stream)]
    if wanted is not None:
        for stream in sound:
            if stream.index == wanted:
                return stream
        raise _without(container, name, "decode.audio_stream", wanted, "audio")

    def rank(stream: AudioStream) -> tuple[int | bool, ...]:
        flags = Disposition(stream.disposition)
        return (
            bool(stream.codec_context.sample_rate),
            not flags & SIDE_SOUND,
            bool(flags & Disposition.default),
            bool(flags & Disposition.original),
            -abs(stream.index - video.index),
            -stream.index,
        )

    return max(_of_program(container, video, sound), key=rank, default=None)


def is_animated_webp(file: object) -> bool:
    """Tells whether a WebP says in its header that it is animated (RFC 9649, 2.7.1)."""
    with reasons.reopened(file) as opened:
        head = opened.read(21) if opened and opened.seek(0) == 0 else b""
    return head[12:16] == b"VP8X" and len(head) == 21 and bool(head[20] & 2)


def _rank_among(streams: list[VideoStream]) -> Callable[[VideoStream], tuple[float, ...]]:
    """Makes the key by which the film is the greatest, as the module's first lines have it."""
    most = max(map(_num_pictures, streams))

    def rank(stream: VideoStream) -> tuple[float, ...]:
        flags = Disposition(stream.disposition)
        has_decoder = _has_decoder(stream)
        count = _num_pictures(stream)
        context = stream.codec_context
        pixels = context.width * context.height if has_decoder else 0
        seconds = float((stream.duration or 0) * (stream.time_base or 0))
        is_grey = has_decoder and (context.pix_fmt or "").startswith("gray")
        return (
            not flags & PICTURES,
            not flags & Disposition.dependent and not _is_enhancement(stream),
            not most or count * FEWEST >= most,
            bool(flags & Disposition.default),
            has_decoder,
            pixels,
            count,
            seconds,
            not is_grey,
            -stream.index,
        )

    return rank


def _num_pictures(stream: VideoStream) -> int:
    """How many the container counts (mkvmerge in a tag); 0 where it does not."""
    if stream.frames:
        return stream.frames
    counts = (v for k, v in stream.metadata.items() if k.upper().startswith("NUMBER_OF_FRAMES"))
    text = next(counts, "")
    return int(text) if text.isdecimal() and len(text) < 12 else 0


def _is_enhancement(stream: VideoStream) -> bool:
    """Tells whether a stream is only what Dolby Vision adds to another one."""
    found = side_data(stream).dolby_vision
    return found is not None and found.has_enhancement_layer and not found.has_base_layer


def _of_program(
    container: InputContainer, video: VideoStream, sound: list[AudioStream]
) -> list[AudioStream]:
    """The sound in the program of a video stream; all of it in containers without programs.

    PyAV does not show programs. FFmpeg's choice beside a stream is made within that stream's
    program, so two sound streams with the same choice are of one program. Where a program has
    nothing of a kind, FFmpeg chooses nothing or among all: then the choice has another film.
    """
    best = container.streams.best
    main = best("audio", related=video)
    if main is None:  # none in the program, or none whose parameters were found
        return sound if best("audio") is None else []
    film, own = best("video", related=main), best("video", related=video)
    if film is not None and own is not None and film.index != own.index:
        return []

    def is_beside(stream: Stream) -> bool:
        other = best("audio", related=stream)
        return other is not None and other.index == main.index

    return [stream for stream in sound if is_beside(stream)]


def _without(
    container: InputContainer, name: str, key: str, wanted: int, kind: str
) -> SourceError:
    listed = ", ".join(_described(stream) for stream in container.streams)
    return NoSuchStream(
        f"{name}: {key}={wanted} is no {kind} stream that can be decoded; its streams are "
        f"{listed or 'none'}: name one of them, or auto"
    )


def _described(stream: Stream) -> str:
    if not _has_decoder(stream):
        return f"{stream.index} {stream.type}"
    codec = stream.codec_context.name
    if isinstance(stream, VideoStream):
        codec += f" {stream.codec_context.width}x{stream.codec_context.height}"
    return f"{stream.index} {stream.type} ({codec})"


def _has_decoder(stream: Stream) -> bool:
    return getattr(stream, "codec_context", None) is not None
