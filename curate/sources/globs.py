"""Patterns with `*`, `?`, `[...]` and `**`, matched part by part. A pattern that matches a folder takes all that lies in it."""

import fnmatch

GLOB_CHARACTERS = frozenset("*?[")


def is_glob(url: str) -> bool:
    """True for patterns. In an http URL only a `*` before the query counts: `?` and `[` are ordinary there."""
    return "*" in url.partition("?")[0] if url.startswith(("http://", "https://")) else bool(GLOB_CHARACTERS & set(url))


def split_glob(url: str, separator: str = "/") -> tuple[str, tuple[str, ...]]:
    """The longest leading folder without glob characters, and the pattern's parts below it."""
    parts = url.split(separator)
    first = next(i for i, part in enumerate(parts) if is_glob(part))
    return separator.join(parts[:first]) or separator, tuple(parts[first:])


def matches(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """True when the path, or a folder it lies in, matches; `**` stands for any number of folders, none included."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(matches(pattern[1:], parts[i:]) for i in range(len(parts) + (len(pattern) == 1)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and matches(pattern[1:], parts[1:])


def may_hold(pattern: tuple[str, ...], folder: tuple[str, ...]) -> bool:
    """True when something below the folder can match, so that a walk need not enter the others."""
    if not pattern or not folder or pattern[0] == "**":
        return True
    return fnmatch.fnmatchcase(folder[0], pattern[0]) and may_hold(pattern[1:], folder[1:])
