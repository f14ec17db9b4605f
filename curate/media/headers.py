"""What a source's headers say of its pictures, without decoding any: for estimates, which no row of a manifest rests on."""

from dataclasses import dataclass

import av

from curate.errors import SourceError
from curate.media.decode import open_video
from curate.media.open import Opener, open_file
from curate.media.remote import SPOOL_GB, SourceFile


@dataclass(frozen=True, slots=True)
class Headers:
    """Size, rate and length as declared; `duration_s` and `fps` are None where the container does not say."""

    codec: str
    width: int
    height: int
    fps: float | None
    duration_s: float | None


def read_headers(url: str, opener: Opener = open_file, stream: int | None = None) -> Headers | None:
    """Reads the headers of one source, of the film or of that stream; None where it cannot be opened or holds no such video."""
    try:
        file = opener(url, SPOOL_GB)
    except SourceError:
        return None
    try:
        return _headers(file, url, stream)
    except Exception:  # noqa: BLE001  headers only weigh a draw; the scan says what is wrong
        return None
    finally:
        if isinstance(file, SourceFile):
            file.close()


def _headers(file: object, url: str, wanted: int | None) -> Headers:
    container, stream = open_video(file, url, wanted=wanted)
    with container:
        rate = stream.average_rate or stream.guessed_rate
        length: float | None = None
        if stream.duration and stream.time_base:
            length = float(stream.duration * stream.time_base)
        elif container.duration:
            length = container.duration / av.time_base
        context = stream.codec_context
        return Headers(
            context.name,
            context.width,
            context.height,
            float(rate) if rate else None,
            length if length and length > 0 else None,
        )
