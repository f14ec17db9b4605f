"""Opens a source by its URL with the decoder the configuration names."""

from curate.config import Decode
from curate.errors import SourceError
from curate.media.decode import PyAVReader, Reader


def open_reader(url: str, decode: Decode) -> Reader:
    """A `Reader` on the source, positioned before its first frame.

    Raises `SourceError` with a plain reason when the source cannot be opened, holds no video, or no frame of it decodes.
    """
    is_remote = "://" in url
    if decode.decoder == "decord":
        from curate.media.decord_reader import DecordReader

        if is_remote:
            raise SourceError(f"{url}: decord reads local files only; use decode.decoder=pyav")
        return DecordReader(url, decode.threads)
    if not is_remote:
        return PyAVReader(url, url, decode.threads)
    import fsspec

    try:
        file = fsspec.open(url, "rb").open()
    except (OSError, ValueError, ImportError) as error:
        raise SourceError(f"{url}: cannot be opened: {error}") from error
    return PyAVReader(file, url, decode.threads)
