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
    """A source cannot be opened or holds no video."""


class MissingWeightsError(CurateError):
    """Weights that a scorer needs were not found; the message names the command that gets them."""


class ManifestError(CurateError):
    """A manifest is absent, damaged, or was written by a run that this one does not continue."""


class ScorerError(CurateError):
    """A scorer returned something other than the columns it declares."""


class ExportError(CurateError):
    """A clip cannot be cut or held by a layout, or an export cannot be written, continued or read."""
