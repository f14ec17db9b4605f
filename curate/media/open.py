"""Opens a source by its URL with the decoder the configuration names."""

import os
from collections.abc import Callable

from curate.config import Decode, Limits
from curate.errors import CurateError, SourceError
from curate.media.ahead import AheadReader
from curate.media.decode import PyAVReader, Reader
from curate.media.limits import LimitedReader
from curate.media.remote import SPOOL_GB, SourceFile, open_remote, reason
from curate.media.seek import Part
from curate.media.streams import StreamChoice

Opener = Callable[[str, float], "str | SourceFile"]
"""Opens a source by its URL, with a bound on what is copied to disk for it in gigabytes; as `open_file` does."""


def open_reader(
    url: str,
    decode: Decode,
    part: Part | None = None,
    limits: Limits | None = None,
    alive: Callable[[int | None], None] | None = None,
    opener: Opener | None = None,
) -> Reader:
    """A `Reader` on the source, or (PyAV only) on one part of it, positioned before its first frame, that keeps to `limits`.

    `alive` is called at each frame with the end of the frame before. Bytes come from `opener`; decord opens what it reads by itself.

    Raises `SourceError` with a plain reason when the source cannot be opened, holds no video, or no frame of it decodes.
    """
    limits, alive = limits or Limits(), alive or (lambda _: None)
    if decode.decoder == "decord":
        from curate.media.decord_reader import DecordReader

        if not stream_choice(decode).is_free:
            raise SourceError(f"{url}: decord chooses the stream by itself; use decode.decoder=pyav, or decode.stream=auto")
        if "://" in url:
            raise SourceError(f"{url}: decord reads local files only; use decode.decoder=pyav")
        # Of a relative name decord would take the beginning for a protocol.
        return LimitedReader(DecordReader(os.path.abspath(url), decode.threads), limits, alive)
    file = (opener or open_file)(url, limits.spool_gb)
    try:
        # One thread in the decoder whatever `threads` says: slice threads pass over damage in H.264 and VP9 without a word.
        reader = PyAVReader(file, url, 1, part, round(limits.max_megapixels * 1e6), stream_choice(decode))
    except Exception as error:  # whatever a library raises on a file is that file's fault
        if isinstance(file, SourceFile):
            file.close()
            if file.error is not None:
                raise SourceError(f"{url}: cannot be read: {reason(file.error)}") from error
        if isinstance(error, (CurateError, MemoryError)):
            raise
        raise SourceError(f"{url}: cannot be read ({type(error).__name__}: {error})") from error
    ahead = AheadReader(reader) if decode.threads > 1 else reader
    return LimitedReader(ahead, limits, alive, file if isinstance(file, SourceFile) else None)


def stream_choice(decode: Decode) -> StreamChoice:
    """The streams that a configuration names."""
    video, audio = (None if one == "auto" else one for one in (decode.stream, decode.audio_stream))
    return StreamChoice(video, audio)


def open_file(url: str, spool_gb: float = SPOOL_GB) -> str | SourceFile:
    """What PyAV opens: the path of a local file, or an open file for any other URL. Raises `SourceError`."""
    if "://" not in url:
        return url
    return open_remote(url, spool_gb)
