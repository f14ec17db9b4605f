"""The weights this library knows by name, for scorers and for `curate models list` and `pull`."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from curate.errors import ConfigError, MissingWeightsError
from curate.extras import DISTRIBUTION
from curate.models import Weight, cache_folder, locate
from curate.models.origins import OpenClipTag, PackageFile, UrlFile

PPOCR_DET = Weight(
    name="rapidocr/PP-OCRv6_det_small",
    files=("rapidocr/PP-OCRv6_det_small.onnx",),
    purpose="text detection, scorer text with reader ppocr",
    licence="Apache-2.0",
    size_bytes=9_929_594,
    origin=PackageFile("rapidocr", "models/PP-OCRv6_det_small.onnx", "rapidocr>=3.10"),
)
PPOCR_REC = Weight(
    name="rapidocr/PP-OCRv6_rec_small",
    files=("rapidocr/PP-OCRv6_rec_small.onnx",),
    purpose="tells text from texture, scorer text with reader ppocr",
    licence="Apache-2.0",
    size_bytes=21_234_383,
    origin=PackageFile("rapidocr", "models/PP-OCRv6_rec_small.onnx", "rapidocr>=3.10"),
)
CRAFT = Weight(
    name="easyocr/craft_mlt_25k",
    files=("easyocr/craft_mlt_25k.pth", "craft_mlt_25k.pth"),
    purpose="text detection, scorer text with reader craft",
    licence="Apache-2.0",
    sha256="4a5efbfb48b4081100544e75e1e2b57f8de3d84f213004b14b85fd4b3748db17",
    size_bytes=83_152_330,
    origin=UrlFile(
        "https://github.com/JaidedAI/EasyOCR/releases/download/pre-v1.1.6/craft_mlt_25k.zip",
        member="craft_mlt_25k.pth",
        caches=(".EasyOCR/model/craft_mlt_25k.pth",),
    ),
)
TRANSNET = Weight(
    name="transnetv2/transnetv2-pytorch-weights",
    files=("transnetv2/transnetv2-pytorch-weights.pth",),
    purpose="shot boundaries, detector transnetv2",
    licence="MIT",
    size_bytes=30_506_391,
    origin=PackageFile("transnetv2_pytorch", "transnetv2-pytorch-weights.pth", f"{DISTRIBUTION}[transnetv2]"),
)


@dataclass(frozen=True, slots=True)
class Head:
    """A LAION aesthetic head and the CLIP whose embeddings it was trained on (always OpenAI's weights)."""

    weight: Weight
    model: str
    dimension: int


def _head(name: str, model: str, dimension: int, repository: str, licence: str, sha256: str, size_bytes: int) -> Head:
    file = f"{name}.pth"
    origin = UrlFile(
        f"https://github.com/{repository}/raw/main/{file}", caches=(f".cache/emb_reader/{file}", f".cache/torch/hub/checkpoints/{file}")
    )
    purpose = f"aesthetic score from OpenAI's {model}, scorer aesthetic"
    return Head(Weight(f"laion/{name}", (f"laion/{file}", file), purpose, licence, sha256, size_bytes, origin), model, dimension)


HEADS: dict[str, Head] = {
    "sac+logos+ava1-l14-linearMSE": _head(
        "sac+logos+ava1-l14-linearMSE", "ViT-L-14", 768, "christophschuhmann/improved-aesthetic-predictor", "see its repository",
        "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0", 3_714_759,
    ),
    "sa_0_4_vit_l_14_linear": _head(
        "sa_0_4_vit_l_14_linear", "ViT-L-14", 768, "LAION-AI/aesthetic-predictor", "MIT",
        "2cd4e60f4f24ae3bcd57b847b13c1f3ba27edc28cc1a7f9ce74ee9f421243cba", 4_071,
    ),
    "sa_0_4_vit_b_16_linear": _head(
        "sa_0_4_vit_b_16_linear", "ViT-B-16", 512, "LAION-AI/aesthetic-predictor", "MIT",
        "8ad3923d7ecf019df20ecd2ab5542a3075fbba0278d239c0371345f3d7fcbde0", 3_047,
    ),
}  # fmt: skip


def open_clip(model: str, tag: str, text: bool = False) -> Weight:
    """The checkpoint of an open_clip model and tag; without `text` a file that holds the image tower alone will do too.

    With `text` the name ends in `/text`, because it may be another file; what is pulled under either name has both towers.

    `model` may also be `local-dir:FOLDER` with `open_clip_config.json` and `open_clip_model.safetensors` (or
    `open_clip_pytorch_model.bin`) in it; the tag is then not used.
    """
    if model.startswith("local-dir:"):
        folder = Path(model.removeprefix("local-dir:")).expanduser().absolute()
        return Weight(f"open_clip/{folder.name}", tuple(str(folder / file) for file in (
            "open_clip_model.safetensors", "open_clip_pytorch_model.bin")), "CLIP embeddings from a folder of yours", "yours")  # fmt: skip
    base = model.replace("/", "-").removesuffix("-quickgelu")
    # OpenAI's weights are one file for both names (see `curate.models.clip`); other tags differ between them.
    names = (base, f"{base}-quickgelu") if tag == "openai" else (model.replace("/", "-"),)
    suffixes = [".safetensors", ".bin", ".pt", ".pth"] + ([] if text else ["_visual.safetensors"])
    return Weight(
        name=f"open_clip/{model}/{tag}" + ("/text" if text else ""),
        files=tuple(f"open_clip/{name}_{tag}{suffix}" for suffix in suffixes for name in names),
        purpose="CLIP embeddings of pictures and captions" if text else "CLIP embeddings of pictures",
        licence="MIT" if tag == "openai" else "see its model card",
        origin=OpenClipTag(model, tag),
    )


def own_config(model: str) -> tuple[Weight, ...]:
    """The configuration beside a model of one's own, which decides its numbers as the weights do; empty for open_clip's models."""
    if not model.startswith("local-dir:"):
        return ()
    path = Path(model.removeprefix("local-dir:")).expanduser().absolute() / "open_clip_config.json"
    return (Weight(f"open_clip/{path.parent.name}/config", (str(path),), "configuration of your CLIP model", "yours"),)


def known() -> tuple[Weight, ...]:
    """The weights of the shipped configurations. Any other `open_clip/MODEL/TAG` can be pulled too."""
    heads = tuple(head.weight for head in HEADS.values())
    return PPOCR_DET, PPOCR_REC, CRAFT, TRANSNET, open_clip("ViT-L-14", "openai"), open_clip("ViT-B-16", "openai"), *heads


def named(name: str) -> Weight:
    """The weight of a name. Raises `ConfigError` that names the nearest."""
    weights = {weight.name: weight for weight in known()}
    if name in weights:
        return weights[name]
    match name.split("/"):
        case ["open_clip", model, tag]:
            return open_clip(model, tag)
        case ["open_clip", model, tag, "text"]:
            return open_clip(model, tag, text=True)
    near = get_close_matches(name, weights, n=1, cutoff=0.3)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"no weights {name!r}{hint} There are: {', '.join(weights)}, and open_clip/MODEL/TAG for any model of open_clip")


def pull(name: str, folder: Path | None = None) -> Path:
    """Gets a weight into a weights folder (our cache folder unless told) and returns its path; one that lies there stays.

    Raises `MissingWeightsError` where it cannot be fetched, `WrongWeightsError` where what came is another file.
    """
    weight = named(name)
    folder = folder or cache_folder()
    if any((folder / file).is_file() for file in weight.files) or isinstance(weight.origin, PackageFile):
        return locate(weight, (folder,))
    assert weight.origin is not None, name
    try:
        path = weight.origin.fetch(folder / weight.files[0])
    except MissingWeightsError as error:
        raise MissingWeightsError(f"weights {weight.name} cannot be fetched: {error}") from error
    if weight.sha256 is not None:
        locate(weight, (folder,))
    return path


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of `curate models list`; `path` is None where the weight is not on this machine."""

    weight: Weight
    path: Path | None


def listing(search: Sequence[Path] = ()) -> list[Listed]:
    """Every known weight and where it was found; looks at this machine only."""
    lines = []
    for weight in known():
        try:
            lines.append(Listed(weight, locate(weight, search)))
        except MissingWeightsError:
            lines.append(Listed(weight, None))
    return lines
