"""Captions that lie beside a media file: `x.txt` or `x.json` next to `x.mp4`; where both exist the text file is read.

A text file is the caption. A JSON file is an object whose first non-empty string among the keys `caption`, `text`, `description` is
the caption. A sidecar that is too large, not UTF-8 or not JSON is ignored with a note; white space around a caption is removed.
"""

import json
import os
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from curate.sources.source import MEDIA_EXTENSIONS, ListingNotes, extension_of

SIDECAR_EXTENSIONS = (".txt", ".json")
CAPTION_KEYS = ("caption", "text", "description")
MAX_SIDECAR_BYTES = 64 * 1024


def sidecar_of(name: str, siblings: AbstractSet[str]) -> str | None:
    """Name of the sidecar of a media file among the names in its folder."""
    stem = os.path.splitext(name)[0]
    return next((stem + extension for extension in SIDECAR_EXTENSIONS if stem + extension in siblings), None)


def sidecar_names(path: str) -> set[str]:
    """Names of the sidecars that one file has: cheaper than listing its folder."""
    stem = os.path.splitext(path)[0]
    return {os.path.basename(stem) + extension for extension in SIDECAR_EXTENSIONS if os.path.isfile(stem + extension)}


def media_stems(names: Iterable[str]) -> set[str]:
    """Names of the media files among these, without their extension: `is_sidecar` asks for them."""
    return {os.path.splitext(name)[0] for name in names if extension_of(name) in MEDIA_EXTENSIONS}


def is_sidecar(name: str, stems: AbstractSet[str]) -> bool:
    """True for a `.txt` or `.json` with a media file of the same stem beside it."""
    stem, extension = os.path.splitext(name)
    return extension in SIDECAR_EXTENSIONS and stem in stems


def read_caption(path: str, siblings: AbstractSet[str], notes: ListingNotes) -> str | None:
    """Caption of a local media file, None where it has none. `siblings` are the names in its folder."""
    folder, name = os.path.split(path)
    sidecar = sidecar_of(name, siblings)
    if sidecar is None:
        return None
    sidecar = os.path.join(folder, sidecar)
    try:
        if not os.path.isfile(sidecar):
            return None
        with open(sidecar, "rb") as file:
            data = file.read(MAX_SIDECAR_BYTES + 1)
    except OSError as error:
        notes.say(f"{sidecar}: ignored as a caption: {error.strerror}")
        return None
    return parse_caption(sidecar, data, notes)


def parse_caption(sidecar: str, data: bytes, notes: ListingNotes) -> str | None:
    """Caption in the bytes of a sidecar; `sidecar` is its name, whose extension decides how it is read."""
    if len(data) > MAX_SIDECAR_BYTES:
        notes.say(f"{sidecar}: ignored as a caption: larger than {MAX_SIDECAR_BYTES // 1024} KiB")
        return None
    try:
        text: object = data.decode("utf-8-sig")
        if sidecar.endswith(".json"):
            content = json.loads(str(text))
            found = [content.get(key) for key in CAPTION_KEYS] if isinstance(content, dict) else []
            text = next((value for value in found if isinstance(value, str) and value.strip()), "")
        str(text).encode()
    except (ValueError, RecursionError) as error:
        notes.say(f"{sidecar}: ignored as a caption: {type(error).__name__}: {error}")
        return None
    return str(text).strip() or None
