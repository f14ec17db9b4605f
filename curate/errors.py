"""The exception tree. Every class takes one message, so that each survives pickling between processes.

A `CurateError` is somebody's mistake or misfortune, not a bug: the command line prints its message without a trace.
"""


class CurateError(Exception):
    """Base of everything this library raises on purpose."""


class ConfigError(CurateError):
    """The configuration names something unknown, out of range or contradictory."""


class MissingPackageError(ConfigError):
    """An optional package that the work asked for is not installed; the message holds the command that installs it."""


class SourceError(CurateError):
    """A source cannot be opened or holds no video. The class' name is the kind of its fault."""


class NotMedia(SourceError):
    """A source is something else under the name of a video: a web page, a playlist, an archive."""


class NoVideo(SourceError):
    """A media file without moving pictures: sound, subtitles or data only, or mere headers."""


class Truncated(SourceError):
    """A source ends before what is needed to read any of it."""


class Encrypted(SourceError):
    """A source's pictures are encrypted, and there is no key."""


class NoDecoder(SourceError):
    """A source's video codec is one that this build of FFmpeg does not decode."""


class NoSuchStream(SourceError):
    """A source has no stream of the index and kind that the configuration names."""


class DolbyVisionOnly(SourceError):
    """A source's colours are right only after Dolby Vision's processing, which no decoder here does."""


class MissingWeightsError(CurateError):
    """Weights that a scorer needs were not found; the message names the command that gets them."""


class ManifestError(CurateError):
    """A manifest is absent, damaged, or was written by a run that this one does not continue."""


class ScorerError(CurateError):
    """A scorer returned something other than the columns it declares."""


class ExportError(CurateError):
    """A clip cannot be cut or held by a layout, or an export cannot be written, continued or read."""
