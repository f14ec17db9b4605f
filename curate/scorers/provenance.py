"""What a file says of its making: generated or recorded, by what, encoded by what. Nothing here is verified, and most files say nothing.

is_generated  Said by, in this order (`provenance_source`):
    c2pa     an IPTC digital source type in a C2PA manifest or in that of an ingredient (see `curate.media.provenance`);
    xmp      the same in XMP (Iptc4xmpExt:DigitalSourceType of the IPTC Photo Metadata Standard); `curate svd generate` writes it;
    aigc     the label that China's GB 45438-2025 demands since September 2025, JSON under the tag or XMP property `AIGC`:
             Label 1 generated, 2 possibly, 3 suspected;
    comment  a JSON comment that names a digital source type (`curate svd generate`), however it spells the key, or that holds the node
             graph of ComfyUI (keys `prompt` and `workflow`);
    tag      a tag that names software (encoder, software, ...; never a title or a description) holds the name of a generator.
    Types that count are `generated_types`: of the IPTC NewsCodes digital source types those for media that a model or an algorithm
    made, in whole or in part. "Edited", "enhanced" and screen captures are not among them.
capture_fps   tag com.android.capture.fps: above the file's rate it is slow motion.

False means that nothing in the file says so. Labels are lost whenever a service re-encodes, so that False is no evidence of a camera.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass as plain_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.clip import Fault
from curate.media.probe import ENCODER_TAGS
from curate.samples import ClipSamples, SourceFacts, Wants
from curate.scorers import Column, Score

if TYPE_CHECKING:
    from curate.media.provenance import Provenance
    from curate.models import Models

SOFTWARE_TAGS = (*ENCODER_TAGS, "software", "creation_tool", "creator_tool", "generator")
COMMENT_TAGS = ("comment", "description", "prompt", "workflow", "com.apple.quicktime.comment")
CAPTURE_FPS_TAG = "com.android.capture.fps"
AIGC_LABELS = {"1": "generated", "2": "possibly generated", "3": "suspected"}
# Products that only generate: editors with a generator inside (Photoshop, CapCut) say so by the source type, where they do.
GENERATOR_NAMES = (
    *("sora", "veo", "kling", "runway", "runwayml", "pika", "luma dream machine", "hailuo", "minimax", "pixverse", "jimeng", "seedance"),
    *("vidu", "hunyuanvideo", "cogvideo", "cogvideox", "wan2", "ltx-video", "mochi", "stable video diffusion", "animatediff", "comfyui"),
    *("deforum", "invokeai", "midjourney", "firefly", "synthesia", "heygen"),
)
MAX_JSON_CHARS = 4_000_000
MAX_TEXT = 512


@plain_dataclass(frozen=True, slots=True)
class _Said:
    """One statement: where it stands, the IPTC source type or other word for it, and who made the file."""

    where: str
    word: str | None
    generator: str | None
    is_generated: bool


@dataclass(frozen=True)
class Scorer:
    """Which statements count as "generated"."""

    generated_types: tuple[str, ...] = Field(
        ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia", "compositeSynthetic"),
        description="IPTC digital source types that make a clip generated",
    )
    generator_names: tuple[str, ...] = Field(
        GENERATOR_NAMES, description="names that make a clip generated where a tag for software holds one as a word of its own"
    )

    version: ClassVar[int] = 1

    @property
    def columns(self) -> dict[str, Column]:
        return _COLUMNS

    @property
    def samples(self) -> Wants:
        return Wants(provenance=True)

    def open(self, models: "Models") -> Score:  # noqa: ARG002
        return lambda clips: [self._row(clip) for clip in clips]

    def _row(self, clip: ClipSamples) -> dict[str, Any]:
        source = clip.source
        said = list(self._statements(source))
        found = next((one for one in said if one.is_generated), next((one for one in said if one.word or one.generator), None))
        tags = {key.lower(): value for key, value in source.tags.items()}
        row: dict[str, Any] = {
            "provenance_is_generated": any(one.is_generated for one in said),
            "provenance_source": found.where if found else None,
            "provenance_source_type": found.word if found else None,
            "provenance_generator": next((one.generator for one in said if one.generator and one.is_generated), None),
            "provenance_encoder": next((tags[key][:MAX_TEXT] for key in ENCODER_TAGS if tags.get(key)), None),
            "provenance_capture_fps": _positive(tags.get(CAPTURE_FPS_TAG)),
            "provenance_c2pa": "none",
            "provenance_c2pa_issuer": None,
        }
        read = source.provenance
        faults = list(read.faults) if read else [Fault("provenance", "NotRead", "the file's boxes were not looked at")]
        if read and read.c2pa:
            row |= {"provenance_c2pa": read.c2pa.generator or "unnamed", "provenance_c2pa_issuer": read.c2pa.issuer}
        elif read is None or read.has_c2pa or faults:
            row["provenance_c2pa"] = None
        if faults and not row["provenance_is_generated"]:
            row["provenance_is_generated"] = None  # what could not be read may have said so
        return row | ({"faults": faults} if faults else {})

    def _statements(self, source: SourceFacts) -> Iterator[_Said]:
        read = source.provenance
        if read is not None:
            yield from self._attached(read)
        tags = {key.lower(): value for key, value in source.tags.items()}
        yield from _aigc("aigc", tags.get("aigc"))
        for key in COMMENT_TAGS:
            yield from self._comment(key, tags.get(key))
        for key in SOFTWARE_TAGS:
            if (name := self._named(tags.get(key))) is not None:
                yield _Said("tag", None, name, True)

    def _attached(self, read: "Provenance") -> Iterator[_Said]:
        if read.c2pa:
            word = self._strongest(read.c2pa.source_types)
            yield _Said("c2pa", word, read.c2pa.generator, word in self.generated_types)
        if read.xmp_source_types or read.xmp_creator:
            word = self._strongest(read.xmp_source_types)
            is_named = self._named(read.xmp_creator) is not None
            yield _Said("xmp", word, read.xmp_creator, word in self.generated_types or is_named)
        yield from _aigc("aigc", read.xmp_aigc)

    def _strongest(self, types: tuple[str, ...]) -> str | None:
        return next((t for t in types if t in self.generated_types), types[0] if types else None)

    def _comment(self, key: str, text: str | None) -> Iterator[_Said]:
        """A comment in JSON: our own settings, the label of GB 45438, or the graph of ComfyUI."""
        held = _json_object(text)
        if held is None:
            return
        if isinstance(held.get("AIGC"), dict):
            yield from _aigc("aigc", json.dumps(held["AIGC"]))
        uri = next((value for name, value in held.items() if name.rpartition(":")[2].replace("_", "").lower() == "digitalsourcetype"), None)
        if isinstance(uri, str):
            word = uri.rstrip("/").rpartition("/")[2][:MAX_TEXT]
            yield _Said("comment", word, _text(held.get("creator")), word in self.generated_types)
        if (key == "workflow" and isinstance(held.get("nodes"), list)) or _is_graph(held if key == "prompt" else held.get("prompt")):
            yield _Said("comment", None, "ComfyUI", True)

    def _named(self, text: str | None) -> str | None:
        if not text:
            return None
        names = "|".join(re.escape(name) for name in self.generator_names)
        return text[:MAX_TEXT] if names and re.search(rf"(?<![a-z0-9])(?:{names})(?![a-z])", text[:MAX_TEXT].lower()) else None


def _aigc(where: str, text: str | None) -> Iterator[_Said]:
    held = _json_object(text)
    if held is not None:
        label = _text(held.get("Label")) or ""
        producer = _text(held.get("ContentProducer"))
        yield _Said(where, AIGC_LABELS.get(label, label or None), producer, label in AIGC_LABELS)


def _is_graph(value: object) -> bool:
    """Whether it is a prompt of ComfyUI: nodes by number, each with the class that runs it."""
    nodes = _json_object(value) or {}
    return any(isinstance(node, dict) and "class_type" in node for node in nodes.values())


def _json_object(text: object) -> dict[str, Any] | None:
    if isinstance(text, dict):
        return text
    if not isinstance(text, str) or len(text) > MAX_JSON_CHARS or not text.lstrip().startswith("{"):
        return None
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return None  # a comment that only looks like JSON is a comment
    return held if isinstance(held, dict) else None


def _text(value: object) -> str | None:
    return str(value)[:MAX_TEXT] if isinstance(value, (str, int)) and str(value) else None


def _positive(text: str | None) -> float | None:
    try:
        value = float(text or 0)
    except ValueError:
        return None
    return value if 0 < value < 1e6 else None


_COLUMNS = {
    "provenance_is_generated": Column(pa.bool_(), "", "the file says that a model made the picture, in whole or in part"),
    "provenance_source": Column(pa.string(), "", "what spoke of the making: c2pa, xmp, aigc, comment or tag; null where nothing did"),
    "provenance_source_type": Column(pa.string(), "", "its word for it, an IPTC digital source type or a label of GB 45438-2025"),
    "provenance_generator": Column(pa.string(), "", "program or service named as the maker of generated content"),
    "provenance_encoder": Column(pa.string(), "", "program that wrote the file, by its tags"),
    "provenance_capture_fps": Column(pa.float32(), "1/s", "rate at which the camera captured, where its tag says", 0, 1e6),
    "provenance_c2pa": Column(pa.string(), "", "claim generator of the C2PA manifest, not verified; `none` without one"),
    "provenance_c2pa_issuer": Column(pa.string(), "", "organisation in the certificate that signed the manifest, not verified"),
}
