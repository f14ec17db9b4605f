"""One source, what listing says beside the sources, and which file names count as media."""

import posixpath
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

# fmt: off
MEDIA_EXTENSIONS = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".dav", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264", ".h265", ".hevc", ".insv", ".ivf", ".m1v",
    ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg",
    ".mpv", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".ogx", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".wtv",
    ".y4m",
})
# fmt: on
MAX_MESSAGES = 1000


@dataclass(frozen=True, slots=True)
class Source:
    """One media file. Size, etag and mtime tell a changed file from a known one; None where the storage does not say."""

    key: str
    url: str
    size_bytes: int | None = None
    etag: str | None = None
    mtime_ns: int | None = None
    caption: str | None = None

    def is_same_file(self, other: "Source") -> bool:
        """False when size, or etag (where both have one), or else mtime tells that the content changed."""
        if None not in (self.size_bytes, other.size_bytes) and self.size_bytes != other.size_bytes:
            return False
        if self.etag and other.etag:
            return self.etag == other.etag
        return self.mtime_ns is None or other.mtime_ns is None or self.mtime_ns == other.mtime_ns


@dataclass(slots=True)
class ListingNotes:
    """What listing saw and did not take. `skipped` counts files by extension; the first `MAX_MESSAGES` messages are kept.

    While it goes on, `num_objects` are looked at, of them `num_sources` taken, and `num_captions` files beside them read; `watch` is called
    whenever these have grown, which is often.
    """

    skipped: Counter[str] = field(default_factory=Counter)
    num_hidden: int = 0
    num_messages: int = 0
    messages: list[str] = field(default_factory=list)
    num_objects: int = 0
    num_sources: int = 0
    num_captions: int = 0
    watch: "Callable[[ListingNotes], None] | None" = None

    def saw(self, objects: int = 0, sources: int = 0, captions: int = 0) -> None:
        self.num_objects += objects
        self.num_sources += sources
        self.num_captions += captions
        if self.watch:
            self.watch(self)

    def say(self, message: str) -> None:
        self.num_messages += 1
        if len(self.messages) < MAX_MESSAGES:
            self.messages.append(message)

    def summary(self) -> str:
        """One line: how many files were skipped and of what kind; empty when none was."""
        if not self.skipped and not self.num_hidden:
            return ""
        kinds = ", ".join(f"{count} {extension or 'without extension'}" for extension, count in self.skipped.most_common(6))
        if len(self.skipped) > 6:
            kinds += ", ..."
        parts = [f"{self.skipped.total()} files that are not video ({kinds})"] if self.skipped else []
        parts += [f"{self.num_hidden} hidden files and folders"] if self.num_hidden else []
        return "skipped " + " and ".join(parts)


def extension_of(url: str) -> str:
    """Lower-case extension with its dot; the query and fragment of an http URL do not count."""
    if url.startswith(("http://", "https://")):
        url = url.partition("?")[0].partition("#")[0]
    return posixpath.splitext(url)[1].lower()
