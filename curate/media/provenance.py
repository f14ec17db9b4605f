"""What a file carries about how it was made, beside its streams and tags: XMP and a C2PA manifest.

Both lie in boxes of ISO media files (MP4, MOV): XMP in a top-level `uuid` BE7ACFCB-97A9-42E8-9C71-999491E3AFAC (XMP specification,
part 3) or in `moov/udta/XMP_` (QuickTime); C2PA in a top-level `uuid` D8FEC3D6-1B0E-483C-9297-5828877EC481 (C2PA specification 2.2,
annex A.5: four bytes of version and flags, a purpose that ends in a zero byte, eight bytes of offset, then the manifest store as JUMBF).
Other containers are not searched.

Only the headers of boxes and those two are read, so that the size of a file does not matter; nothing is executed or fetched, a manifest
that the file only points to is not followed. NOTHING IS VERIFIED: a signature would take a hash of the whole file and a list of trusted
issuers, and anyone can write any of this. It tells what an honest file says.
"""

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any, BinaryIO, cast
from uuid import UUID
from xml.etree import ElementTree as ET

from curate.clip import Fault
from curate.extras import install_command
from curate.media.boxes import MAX_BOXES, boxes, read_at
from curate.media.open import Opener, open_file
from curate.media.remote import SPOOL_GB

XMP_UUID = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac").bytes
C2PA_UUID = UUID("d8fec3d6-1b0e-483c-9297-5828877ec481").bytes
FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"styp", b"pnot"}
MAX_XMP_BYTES, MAX_C2PA_BYTES = 16 << 20, 32 << 20
MAX_TEXT = 512  # characters kept of any string from a file
MAX_DEPTH = 32  # of ingredients within ingredients
AIGC_NAMESPACE = "http://www.tc260.org.cn/ns/AIGC/1.0/"
# Nothing is checked against the asset, which is not at hand, and nothing is asked of the network.
C2PA_SETTINGS = {"verify": {"verify_after_reading": False, "verify_trust": False, "ocsp_fetch": False, "remote_manifest_fetch": False}}


@dataclass(frozen=True, slots=True)
class C2pa:
    """A manifest store: who wrote the claim, who signed it, the IPTC source types it and its ingredients name (last part of the URI)."""

    generator: str | None
    issuer: str | None
    source_types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What was found; empty where there was nothing.

    xmp_source_types  IPTC digital source types in the XMP, the last part of the URI: `trainedAlgorithmicMedia`
    xmp_creator       `xmp:CreatorTool`
    xmp_aigc          the label of GB 45438-2025 (China), JSON text
    has_c2pa          a C2PA box is there, read or not
    faults            what is there and could not be read
    """

    xmp_source_types: tuple[str, ...] = ()
    xmp_creator: str | None = None
    xmp_aigc: str | None = None
    has_c2pa: bool = False
    c2pa: C2pa | None = None
    faults: tuple[Fault, ...] = field(default=())


def read_provenance(url: str, opener: Opener = open_file) -> Provenance:
    """Reads a source of its own accord, beside whoever decodes it. Whatever goes wrong is a fault of what is returned."""
    try:
        file = opener(url, SPOOL_GB)
        with open(file, "rb") if isinstance(file, str) else cast(BinaryIO, file) as opened:
            return provenance(opened)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - boxes hold anything; what is said beside the picture does not cost the picture
        return Provenance(faults=(Fault("provenance", type(error).__name__, f"the file's boxes cannot be read: {error}"),))


def provenance(file: BinaryIO) -> Provenance:
    """The same of an open binary file that can seek."""
    found = Provenance()
    for kind, payload in _payloads(file):
        try:
            if payload is None:
                raise ValueError("it is larger than any that is read")
            if kind == "XMP" and not found.xmp_source_types:
                types, creator, aigc = parse_xmp(payload)
                found = replace(found, xmp_source_types=types, xmp_creator=creator, xmp_aigc=aigc)
            elif kind == "C2PA" and not found.has_c2pa:
                found = replace(found, has_c2pa=True)
                found = replace(found, c2pa=parse_c2pa(payload))
        except ModuleNotFoundError:
            text = f"the file holds a C2PA manifest; to read it: {install_command('provenance')}"
            found = replace(found, faults=(*found.faults, Fault("provenance", "MissingPackage", text)))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - the same: one box does not cost the others
            text = f"{kind} cannot be read: {str(error)[:MAX_TEXT]}"
            found = replace(found, has_c2pa=found.has_c2pa or kind == "C2PA")
            found = replace(found, faults=(*found.faults, Fault("provenance", "BadMetadata", text)))
    return found


def _payloads(file: BinaryIO) -> Iterator[tuple[str, bytes | None]]:
    """("XMP" or "C2PA", bytes) in the order of the file; None for the bytes of one that is too large."""
    size = file.seek(0, 2)
    budget = [MAX_BOXES]
    for index, box in enumerate(boxes(file, 0, size, budget)):
        if index == 0 and box.kind not in FIRST_BOXES:
            return
        if box.kind == b"moof":
            return  # fragments, maybe thousands: what speaks of the whole file comes before them
        if box.kind == b"uuid" and box.end - box.start >= 16:
            name = read_at(file, box.start, 16)
            if name == XMP_UUID:
                yield "XMP", _limited(file, box.start + 16, box.end, MAX_XMP_BYTES)
            elif name == C2PA_UUID:
                yield "C2PA", _jumbf(_limited(file, box.start + 16, box.end, MAX_C2PA_BYTES))
        elif box.kind == b"moov":
            for inner in boxes(file, box.start, box.end, budget):
                if inner.kind == b"udta":
                    for leaf in boxes(file, inner.start, inner.end, budget):
                        if leaf.kind == b"XMP_":
                            yield "XMP", _limited(file, leaf.start, leaf.end, MAX_XMP_BYTES)


def _limited(file: BinaryIO, start: int, end: int, limit: int) -> bytes | None:
    return read_at(file, start, end - start) if end - start <= limit else None


def _jumbf(payload: bytes | None) -> bytes | None:
    """The manifest store inside a C2PA box; other purposes (Merkle trees of fragments) give no bytes."""
    if payload is None:
        return None
    purpose, _, rest = payload[4:].partition(b"\0")
    return rest[8:] if purpose in {b"manifest", b"original", b"update"} else b""


def parse_xmp(packet: bytes) -> tuple[tuple[str, ...], str | None, str | None]:
    """(IPTC digital source types, creator tool, GB 45438 label) of an XMP packet. Raises `ValueError` or `ParseError`."""
    text = packet.decode("utf-8", "replace").strip("\ufeff\0 \t\r\n")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("XMP with a document type is not XMP")
    root = ET.fromstring(text)
    types: list[str] = []
    creator = aigc = None
    for name, value in _xmp_values(root):
        namespace, _, local = name.removeprefix("{").rpartition("}")
        if local == "DigitalSourceType":
            types.append(source_type(value))
        elif local == "CreatorTool":
            creator = value[:MAX_TEXT]
        elif local == "AIGC" and namespace == AIGC_NAMESPACE:
            aigc = value[: 4 * MAX_TEXT]
    return tuple(dict.fromkeys(types)), creator, aigc


def _xmp_values(root: ET.Element) -> Iterator[tuple[str, str]]:
    """(name, value) of properties, written as attributes, as text, as `rdf:resource` or as a list of `rdf:li`."""
    for element in root.iter():
        yield from element.attrib.items()
        resource = next((v for k, v in element.attrib.items() if k.endswith("}resource")), None)
        for text in (resource, element.text, *(item.text for item in element.findall("*/*"))):
            if text and text.strip():
                yield element.tag, text.strip()


def source_type(uri: str) -> str:
    """The last part of an IPTC URI, `http://cv.iptc.org/newscodes/digitalsourcetype/NAME`; short forms are left as they are."""
    return uri.strip().rstrip("/").rpartition("/")[2][:MAX_TEXT]


def parse_c2pa(store: bytes) -> C2pa | None:
    """What a manifest store (JUMBF) says, unverified; None for one without bytes.

    Raises `ValueError` for one that the library cannot read and `ModuleNotFoundError` without the library.
    """
    if not store:
        return None
    library = importlib.import_module("c2pa")
    try:
        with library.Reader("application/c2pa", BytesIO(store), context=library.Context.from_dict(C2PA_SETTINGS)) as reader:
            said = json.loads(reader.json())
    except (library.C2paError, RecursionError) as error:
        raise ValueError(str(error)) from error
    manifests = said.get("manifests") or {}
    active = manifests.get(said.get("active_manifest")) or {}
    types: list[str] = []
    for manifest in _with_ingredients(manifests, str(said.get("active_manifest"))):
        for assertion in manifest.get("assertions") or ():
            types += [source_type(text) for text in _source_types(assertion.get("data"), 0)]
    issuer = (active.get("signature_info") or {}).get("issuer")
    return C2pa(_generator(active), str(issuer)[:MAX_TEXT] if issuer else None, tuple(dict.fromkeys(types)))


def _with_ingredients(manifests: dict[str, Any], label: str) -> list[dict[str, Any]]:
    """The manifest and those of what it was made from; what merely informed it (`inputTo`: prompts, references) is left out."""
    found, waiting = dict[str, dict[str, Any]](), [label]
    while waiting and len(found) < MAX_BOXES:
        name = waiting.pop(0)
        manifest = manifests.get(name)
        if name in found or not isinstance(manifest, dict):
            continue
        found[name] = manifest
        waiting += [
            str(i.get("active_manifest")) for i in manifest.get("ingredients") or () if i.get("relationship") in {"parentOf", "componentOf"}
        ]
    return list(found.values())


def _source_types(data: object, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        return
    if isinstance(data, dict):
        for key, value in data.items():
            if str(key).rpartition(":")[2].lower() == "digitalsourcetype" and isinstance(value, str):
                yield value
            else:
                yield from _source_types(value, depth + 1)
    elif isinstance(data, list):
        for value in data:
            yield from _source_types(value, depth + 1)


def _generator(manifest: dict[str, Any]) -> str | None:
    """`Name Version` of the first claim generator, or the older one-line form."""
    told = manifest.get("claim_generator_info") or ()
    if told and isinstance(told[0], dict) and told[0].get("name"):
        return " ".join(str(told[0][key]) for key in ("name", "version") if told[0].get(key))[:MAX_TEXT]
    text = manifest.get("claim_generator")
    return str(text)[:MAX_TEXT] if text else None
