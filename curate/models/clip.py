"""CLIP towers through open_clip: pictures or captions in, L2-normalised embeddings out.

    image_forward   list of uint8 (H, W, 3) RGB of any sizes  ->  float32 (N, D)
    text_forward    list of str                               ->  float32 (N, D)

The checkpoint is loaded strictly. OpenAI's weights were trained with QuickGELU; open_clip's `ViT-L-14` has plain GELU and only warns
about `pretrained=openai` (3.3.0), so the activation is taken from the registry's entry for the tag, as are mean, std and resizing.
Pictures go through open_clip's own evaluation transform: bicubic with antialias, short side to the model's size, centre crop.

A row must not depend on its neighbours, but matrix products of another shape take other code paths, which moves the last bits of an
embedding. So every batch of a device has one size, padded with zeros, and runs in float32, on the CPU with one thread: `GPU_BATCH` entries
on a GPU, one on the CPU, where 1 and 16 cost the same per picture (0.41 s, ViT-B-16) and padding would be work thrown away.

With `precision` int8 the image tower's linear layers are computed in whole numbers (`curate.models.int8`), on a CPU only: 0.24 s.
"""

import contextlib
import hashlib
import importlib.util
import json
import logging
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curate.errors import ConfigError, MissingPackageError
from curate.extras import install_command
from curate.models import ModelSpec, WrongWeightsError

GPU_BATCH = 16
Precision = Literal["float32", "int8"]
REMEMBERED = 256  # embeddings kept by the digest of their picture: two scorers that see one sample pay for it once
_TORCHSCRIPT_EXTRAS = ("input_resolution", "context_length", "vocab_size")


def model_config(model: str) -> dict[str, Any]:
    """The configuration of an open_clip model (`embed_dim`, `vision_cfg`, `text_cfg`), read without importing torch.

    Raises `ConfigError` for a model that open_clip does not know, `MissingPackageError` where open_clip is not installed.
    """
    if model.startswith("local-dir:"):
        path = Path(model.removeprefix("local-dir:")).expanduser() / "open_clip_config.json"
        if not path.is_file():
            raise ConfigError(f"model {model!r}: there is no {path}")
        return json.loads(path.read_text())["model_cfg"]
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(f"CLIP models need open_clip, which is not installed: {install_command('clip')}")
    folder = Path(spec.submodule_search_locations[0]) / "model_configs"
    path = folder / f"{model.replace('/', '-')}.json"
    if not path.is_file():
        names = sorted(entry.stem for entry in folder.glob("*.json"))
        raise ConfigError(f"open_clip has no model {model!r}; it has: {', '.join(names)}, or local-dir:FOLDER for one of yours")
    return json.loads(path.read_text())


def embed_dim(model: str) -> int:
    """Dimension of the embeddings of an open_clip model."""
    return int(model_config(model)["embed_dim"])


def image_spec(model: str, pretrained: str, path: Path, precision: Precision = "float32") -> ModelSpec:
    """The spec of an image tower. Scorers that make the same one share the model and what it remembers."""
    return ModelSpec("clip_image", (str(path),), (("model", model), ("pretrained", pretrained), ("precision", precision)))


def text_spec(model: str, pretrained: str, path: Path) -> ModelSpec:
    """The spec of a text tower."""
    return ModelSpec("clip_text", (str(path),), (("model", model), ("pretrained", pretrained)))


def image_forward(spec: ModelSpec) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """Builds the image tower; a file whose name ends in `_visual` holds that tower alone."""
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from PIL import Image

    clip = _load(spec)
    tower = _at_precision(clip.visual, spec).to(spec.device).eval()
    transform = image_transform_v2(PreprocessCfg(**tower.preprocess_cfg), is_train=False)
    dimension = embed_dim(spec["model"])
    remembered: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def embed(pictures: list[np.ndarray]) -> np.ndarray:
        inputs = torch.stack([transform(Image.fromarray(picture)) for picture in pictures])
        return _padded(tower, inputs, spec.device)

    def forward(pictures: Sequence[np.ndarray]) -> np.ndarray:
        digests = [_digest(picture) for picture in pictures]
        known = {digest: remembered[digest] for digest in digests if digest in remembered}
        new = {digest: picture for digest, picture in zip(digests, pictures, strict=True) if digest not in known}
        pending = list(new)
        for part in _batches(pending, spec.device):
            known.update(zip(part, embed([new[digest] for digest in part]), strict=True))
        for digest in digests:
            remembered[digest] = known[digest]
            remembered.move_to_end(digest)
        while len(remembered) > REMEMBERED:
            remembered.popitem(last=False)
        return np.stack([known[digest] for digest in digests]) if digests else np.empty((0, dimension), np.float32)

    return forward


def _at_precision(tower: Any, spec: ModelSpec) -> Any:
    if spec["precision"] == "float32":
        return tower
    if spec.device != "cpu":
        raise ConfigError("precision int8 is for device=cpu; use precision float32 on a GPU")
    from curate.models.int8 import quantised

    return quantised(tower, spec["model"])


def text_forward(spec: ModelSpec) -> Callable[[Sequence[str]], np.ndarray]:
    """Builds the text tower and its tokenizer; captions longer than the model's context (77 tokens for OpenAI's) are cut there."""
    import open_clip

    clip = _load(spec)
    del clip.visual
    clip = clip.to(spec.device).eval()
    tokenizer = open_clip.get_tokenizer(spec["model"])
    dimension = embed_dim(spec["model"])

    def forward(captions: Sequence[str]) -> np.ndarray:
        rows = [_padded(clip.encode_text, tokenizer(list(part)), spec.device) for part in _batches(captions, spec.device)]
        return np.concatenate(rows) if rows else np.empty((0, dimension), np.float32)

    return forward


def _padded(network: Callable[[Any], Any], inputs: Any, device: str) -> np.ndarray:
    """Runs one batch, padded to the device's size; rows float32, length 1."""
    import torch

    batch = torch.zeros((_batch_size(device), *inputs.shape[1:]), dtype=inputs.dtype)
    batch[: len(inputs)] = inputs
    with torch.inference_mode(), one_thread():
        rows = torch.nn.functional.normalize(network(batch.to(device)).float(), dim=-1)[: len(inputs)]
        return rows.cpu().numpy()


def _batch_size(device: str) -> int:
    return 1 if device == "cpu" else GPU_BATCH


def _batches(items: Sequence[Any], device: str) -> list[Sequence[Any]]:
    size = _batch_size(device)
    return [items[start : start + size] for start in range(0, len(items), size)]


class _OneThread:
    """How many threads of Python are inside `one_thread`, and how many torch had before the first."""

    def __init__(self) -> None:
        self.lock, self.num_inside, self.before = threading.Lock(), 0, 0


_inside = _OneThread()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Holds torch to one thread inside: workers run side by side, and sums split over threads round differently."""
    import torch

    with _inside.lock:
        if not _inside.num_inside:
            _inside.before = torch.get_num_threads()
        _inside.num_inside += 1
        torch.set_num_threads(1)  # OpenMP keeps a number for each thread of Python
    try:
        yield
    finally:
        with _inside.lock:
            _inside.num_inside -= 1
            if not _inside.num_inside:
                torch.set_num_threads(_inside.before)


def _digest(picture: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(picture).tobytes(), digest_size=16, person=str(picture.shape).encode()[:16]).digest()


def _load(spec: ModelSpec) -> Any:
    """An open_clip model in float32 on the CPU with the checkpoint of `spec` in it."""
    import open_clip
    from open_clip.factory import load_checkpoint

    path, model = spec.paths[0], spec["model"]
    quick_gelu, preprocess = tag_settings(model, spec["pretrained"])
    with _silent_root_logger():  # open_clip warns about random weights here; the checkpoint follows
        clip = open_clip.create_model(
            model, load_weights=False, force_quick_gelu=quick_gelu, pretrained_text=False, force_preprocess_cfg=preprocess or None
        )
    try:
        if Path(path).stem.endswith("_visual"):
            clip.visual.load_state_dict(open_clip.factory.load_state_dict(path), strict=True)
        elif _is_torchscript(path):
            clip.load_state_dict(_torchscript_state(path), strict=True)
        else:
            load_checkpoint(clip, path, strict=True, weights_only=True)
    except (RuntimeError, KeyError) as error:
        raise WrongWeightsError(f"{path} does not fit the open_clip model {model}: {str(error).splitlines()[0]}") from error
    return clip.float()


def tag_settings(model: str, pretrained: str) -> tuple[bool, dict[str, Any]]:
    """(QuickGELU?, preprocessing) that open_clip's registry notes for the weights; (False, {}) leaves both to the model's configuration."""
    if model.startswith("local-dir:"):
        return False, {}
    from open_clip.pretrained import get_pretrained_cfg

    entry = get_pretrained_cfg(model.replace("/", "-"), pretrained)
    preprocess = {key: entry[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in entry}
    return bool(entry.get("quick_gelu", False)), preprocess


def _is_torchscript(path: str) -> bool:
    """OpenAI published its models as TorchScript archives."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _torchscript_state(path: str) -> dict[str, Any]:
    import torch

    state = torch.jit.load(path, map_location="cpu").state_dict()
    return {name: value for name, value in state.items() if name not in _TORCHSCRIPT_EXTRAS}


@contextlib.contextmanager
def _silent_root_logger() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
