"""Generated clips as files that say how they were made, and that they were made by a model.

    MP4   settings as JSON in the tag `comment`; the mark as XMP in a box of its own (XMP specification part 3: `uuid` BE7ACFCB...)
    PNG   settings as JSON in the text chunk `parameters`, where picture tools look; the mark in the chunk `XML:com.adobe.xmp`

The mark is IPTC's Digital Source Type `trainedAlgorithmicMedia` (Iptc4xmpExt:DigitalSourceType of the IPTC Photo Metadata Standard); in
an MP4 the comment names it too, since many tools show only that. Metadata are lost where a service strips them: this is a label and no
watermark. Files are written aside and renamed.
"""

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from curate.errors import CurateError
from curate.media.write import read_metadata, write_mp4

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP_UUID = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac")
XMP_CHUNK, SETTINGS_CHUNK = "XML:com.adobe.xmp", "parameters"
MARK_KEY = "digital_source_type"
SHEET_COLUMNS, SHEET_CELL_WIDTH, SHEET_TEXT_HEIGHT, SHEET_MARGIN = 6, 256, 18, 6  # pictures; px
SHEET_HEIGHT = 20_000  # px, from which the next clip begins a new sheet
MAX_SIDE = 60_000  # px of a contact sheet; PNG viewers give up somewhere beyond


class OutputError(CurateError):
    """A generated file cannot be written or read."""


@dataclass(frozen=True, slots=True, eq=False)
class SheetRow:
    """One clip of a contact sheet: uint8 (T, H, W, 3), and what is written below it."""

    frames_THWC: np.ndarray
    label: str


def xmp_packet(creator: str) -> str:
    """The XMP that marks what a trained model made. `creator` is the program."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'xmp:CreatorTool={quoteattr(creator)} Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )


def write_clip(path: Path, frames_THWC: np.ndarray, fps: float, settings: Mapping[str, Any], creator: str, crf: int = 16) -> None:
    """An H.264 MP4 of uint8 (T, H, W, 3) RGB. Raises `OutputError` where it cannot be written."""
    comment = _json({**settings, MARK_KEY: SOURCE_TYPE})

    def write(aside: Path) -> None:
        write_mp4(aside, frames_THWC, Fraction(fps).limit_denominator(1001), crf, {"comment": comment, "encoder": creator})
        with open(aside, "ab") as file:
            payload = xmp_packet(creator).encode()
            file.write(struct.pack(">I4s", 24 + len(payload), b"uuid") + XMP_UUID.bytes + payload)

    _aside(path, write)


def write_frames(folder: Path, frames_THWC: np.ndarray, settings: Mapping[str, Any], creator: str) -> list[Path]:
    """PNG files 0000.png and on in a folder, each with all settings. Raises `OutputError`."""
    paths = [folder / f"{index:04d}.png" for index in range(len(frames_THWC))]
    _made(folder)
    for path, picture in zip(paths, frames_THWC, strict=True):
        _write_png(path, Image.fromarray(picture), settings, creator)
    return paths


def write_sheet(path: Path, rows: Sequence[SheetRow], settings: Mapping[str, Any], creator: str) -> None:
    """A contact sheet as a PNG file. Raises `OutputError`."""
    _write_png(path, sheet_image(rows), settings, creator)


def sheets(rows: Iterable[SheetRow]) -> Iterator[list[SheetRow]]:
    """The rows of one contact sheet after the other, each not much higher than `SHEET_HEIGHT`."""
    waiting: list[SheetRow] = []
    height = 0
    for row in rows:
        waiting.append(row)
        height += _cell_height(row.frames_THWC) + SHEET_TEXT_HEIGHT + 2 * SHEET_MARGIN
        if height >= SHEET_HEIGHT:
            yield waiting
            waiting, height = [], 0
    if waiting:
        yield waiting


def _cell_height(frames_THWC: np.ndarray) -> int:
    height, width = frames_THWC.shape[1:3]
    return max(1, round(height * SHEET_CELL_WIDTH / width))


def sheet_image(rows: Sequence[SheetRow]) -> Image.Image:
    """A contact sheet: of every clip up to six frames, the first and the last among them, and its label. Raises `OutputError`."""
    if not rows:
        raise ValueError("a contact sheet needs at least one clip")
    bands = [_band(row) for row in rows]
    height, width = sum(band.height for band in bands), max(band.width for band in bands)
    if height > MAX_SIDE:
        raise OutputError(f"{len(rows)} clips make a contact sheet {height} px high, more than {MAX_SIDE}; sweep fewer values at a time")
    sheet = Image.new("RGB", (width, height), "white")
    top = 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height
    return sheet


def read_settings(path: Path) -> dict[str, Any]:
    """The settings that an MP4 or PNG of ours was made with. Raises `OutputError` where it holds none."""
    try:
        if path.suffix.lower() == ".png":
            with Image.open(path) as image:
                text = image.info.get(SETTINGS_CHUNK, "")
        else:
            text = read_metadata(path).get("comment", "")
        found = json.loads(text)
    except (ValueError, OSError) as error:
        raise OutputError(f"{path} holds no settings of a generated clip: {error}") from error
    if not isinstance(found, dict):
        raise OutputError(f"{path} holds no settings of a generated clip")
    return found


def picked(num_frames: int, count: int = SHEET_COLUMNS) -> list[int]:
    """Up to `count` frames, evenly spread, from the first to the last."""
    return sorted({round(k * (num_frames - 1) / max(1, count - 1)) for k in range(count)})


def _band(row: SheetRow) -> Image.Image:
    cell = (SHEET_CELL_WIDTH, _cell_height(row.frames_THWC))
    frames = picked(len(row.frames_THWC))
    size = (SHEET_COLUMNS * (cell[0] + SHEET_MARGIN) + SHEET_MARGIN, cell[1] + SHEET_TEXT_HEIGHT + 2 * SHEET_MARGIN)
    band = Image.new("RGB", size, "white")
    for column, frame in enumerate(frames):
        picture = Image.fromarray(row.frames_THWC[frame]).resize(cell, Image.Resampling.LANCZOS)
        band.paste(picture, (SHEET_MARGIN + column * (cell[0] + SHEET_MARGIN), SHEET_MARGIN))
    ImageDraw.Draw(band).text(
        (SHEET_MARGIN, cell[1] + SHEET_MARGIN + 2), row.label, fill="black", font=ImageFont.load_default(SHEET_TEXT_HEIGHT - 5)
    )
    return band


def _write_png(path: Path, image: Image.Image, settings: Mapping[str, Any], creator: str) -> None:
    info = PngInfo()
    info.add_itxt(SETTINGS_CHUNK, _json(settings))
    info.add_itxt(XMP_CHUNK, xmp_packet(creator))
    _aside(path, lambda aside: image.save(aside, format="PNG", pnginfo=info))


def _json(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, ensure_ascii=False, allow_nan=False)


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from error


def _aside(path: Path, write: Callable[[Path], None]) -> None:
    _made(path.parent)
    aside = path.with_name(f".{path.name}.part")
    try:
        write(aside)
        os.replace(aside, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)
