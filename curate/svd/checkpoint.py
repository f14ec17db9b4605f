"""Loading and saving Stable Video Diffusion: folders in diffusers' layout, hub ids, single files in the original naming.

    folder, hub id stabilityai/stable-video-...   `unet/`, `vae/`, `image_encoder/`, each `config.json` and weights in `.safetensors`
    svd.safetensors, svd_xt.safetensors           one file as Stability publishes it, and as ComfyUI and Forge read it

Folders are looked for as paths; ids below the weights folders and in the hub's cache; files as paths and below the weights folders. Every
tensor of a part that was asked for has to be there in its shape and none may be left over, or nothing is built: no number is ever made up.
"""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from curate.errors import MissingWeightsError
from curate.models import Weight, WrongWeightsError, cache_folder, locate, sha256_file
from curate.models.svd import IMAGE_CONFIG, IMAGE_FILES, VAE_CONFIG, VAE_FILES, HubFolder, loaded
from curate.svd import single_file
from curate.svd.encode import Encoders
from curate.svd.fitting import compare, dtype_of, empty_network, header, network_class, opened, read_config, shapes_of

PARTS = ("unet", "vae", "image_encoder")
UNET_CONFIG = "unet/config.json"
UNET_FILES = ("unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors")
_FILES = {"unet": (UNET_CONFIG, UNET_FILES), "vae": (VAE_CONFIG, VAE_FILES), "image_encoder": (IMAGE_CONFIG, IMAGE_FILES)}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model's weights lie: one file with all of it, or part -> (configuration, weights)."""

    single: Path | None
    folders: Mapping[str, tuple[Path, Path]]

    def fingerprints(self) -> dict[str, str]:
        """Part (or `single_file`) -> sha256 of the file; a full-size file takes seconds, once a process."""
        if self.single is not None:
            return {"single_file": sha256_file(self.single)}
        return {part: sha256_file(weights) for part, (_, weights) in self.folders.items()}

    @property
    def weights_sha256(self) -> str:
        """One digest of all files in use; a single file's own."""
        prints = self.fingerprints()
        if list(prints) == ["single_file"]:
            return prints["single_file"]
        return hashlib.sha256("\n".join(f"{part} {digest}" for part, digest in sorted(prints.items())).encode()).hexdigest()

    @property
    def num_frames(self) -> int:
        """What the UNet was trained on, by its configuration; no weight is read. Raises `WrongWeightsError` where that does not say."""
        if self.single is not None:
            return single_file.num_frames(self.single)
        config = self.folders["unet"][0]
        found = read_config(config).get("num_frames")
        if not isinstance(found, int):
            raise WrongWeightsError(f"{config} has num_frames={found!r}; a UNet of Stable Video Diffusion says its number of frames there")
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """The networks, in eval mode, of diffusers and transformers; None where a part was not asked for."""

    unet: Any
    vae: Any
    image_encoder: Any
    name: str
    files: ModelFiles

    @property
    def scaling_factor(self) -> float:
        return float(self.vae.config.scaling_factor)

    @property
    def num_frames(self) -> int:
        """What the UNet was trained on: 14, or 25 for XT. It runs on other numbers too."""
        return int(self.unet.config.num_frames)

    @property
    def encoders(self) -> Encoders:
        return Encoders(self.vae, self.image_encoder)

    @property
    def weights_sha256(self) -> str:
        """One digest of all files in use; a single file's own."""
        return self.files.weights_sha256


def find_model(model: str, parts: Sequence[str] = PARTS, search: Sequence[Path] = (), allow_download: bool = False) -> ModelFiles:
    """The files of a model; opens none of them. Raises `MissingWeightsError` naming every place searched and how to get them."""
    path = Path(model).expanduser()
    if path.suffix == ".safetensors":
        places = [path, *(folder.expanduser() / path for folder in (*search, cache_folder()))]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            listed = "\n  ".join(dict.fromkeys(str(place.absolute()) for place in places))
            raise MissingWeightsError(f"the model {model} was not found. Searched:\n  {listed}")
        return ModelFiles(found, {})
    if path.is_file():
        raise WrongWeightsError(f"{path} is no .safetensors file; a model is such a file, a folder in the layout of diffusers, or a hub id")
    folders, faults = {}, []
    for part in parts:
        config, files = _FILES[part]
        try:
            one, two = (locate(_weight(model, part, names), search, allow_download) for names in ((config,), files))
            folders[part] = (one, two)
        except MissingWeightsError as error:
            faults.append(str(error))
    if faults:
        others = sorted(entry.name for entry in path.glob("*.safetensors")) if path.is_dir() else []
        hint = f"\nThe folder holds {', '.join(others)}: to load one of these, give its path" if others else ""
        raise MissingWeightsError("\n".join(faults) + hint)
    return ModelFiles(None, folders)


@dataclass(frozen=True, slots=True)
class _HubModel(HubFolder):
    """All three parts of a repository of the hub."""

    @property
    def install(self) -> str:
        wanted = " ".join(f"--include '{part}/*'" for part in PARTS)
        return (
            f"hf download {self.repository} {wanted} --local-dir WEIGHTS_FOLDER/{self.repository} "
            f"(where the hub refuses: agree to the licence at https://huggingface.co/{self.repository}, then hf auth login)"
        )


def _weight(model: str, part: str, files: tuple[str, ...]) -> Weight:
    folder = Path(model).expanduser()
    is_folder = folder.is_dir() or not _HUB_ID.fullmatch(model)
    name = folder.absolute().name if is_folder else model
    places = tuple(str(folder.absolute() / file) if is_folder else f"{model}/{file}" for file in files)
    origin = None if is_folder else _HubModel(model, files)
    purpose = f"{'configuration of ' if files[0].endswith('.json') else ''}SVD's {part.replace('_', ' ')}"
    return Weight(
        f"svd/{name}/{files[0].rpartition('.')[0]}", places, purpose, "yours" if is_folder else "see its model card", origin=origin
    )


def load_model(
    model: str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    parts: Sequence[str] = PARTS,
    search: Sequence[Path] = (),
    allow_download: bool = False,
) -> Model:
    """The model, or `parts` of it, in `dtype`; a VAE whose configuration says `force_upcast`, as SVD's does, stays in float32.

    Raises `MissingWeightsError` before anything is loaded, `WrongWeightsError` where tensors do not fit: which, and the shapes expected.
    """
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise ValueError(f"parts={unknown}: a model has {', '.join(PARTS)}")
    files = find_model(model, parts, search, allow_download)
    built = single_file.read(files.single, parts, dtype, device) if files.single is not None else _from_folders(files, dtype)
    for network in built.values():
        network.to(device).eval().requires_grad_(False)
    return Model(built.get("unet"), built.get("vae"), built.get("image_encoder"), model, files)


def _from_folders(files: ModelFiles, dtype: torch.dtype) -> dict[str, Any]:
    for part, (config, weights) in files.folders.items():
        _check_folder(part, config, weights)
    built = {}
    for part, (config, weights) in files.folders.items():
        built[part] = loaded(network_class(part), (str(config), str(weights)), dtype_of(part, read_config(config), dtype))
    return built


def _check_folder(part: str, config: Path, weights: Path) -> None:
    """Compares the file's header with the configuration, before gigabytes are read."""
    expected = shapes_of(empty_network(part, read_config(config), config))
    with opened(weights) as file:
        found = {name: shape for name, shape in header(file).items() if not name.endswith("position_ids")}  # transformers before 4.31
    compare(found, expected, f"{weights}, {part} of {config}")


# ---- saving


def save_diffusers(folder: Path, model: Model) -> Path:
    """Writes the parts that are there in diffusers' layout; with all three, diffusers' `StableVideoDiffusionPipeline` loads the folder.

    Appears whole under its name. Raises `FileExistsError` where there is something already, `ValueError` while a LoRA is in the UNet.
    """
    _check_plain(model)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; give a folder that does not exist")
    with _aside(folder) as part:
        if model.unet is not None and model.vae is not None and model.image_encoder is not None:
            _pipeline(model).save_pretrained(part)
        else:
            for name in PARTS:
                if getattr(model, name) is not None:
                    getattr(model, name).save_pretrained(part / name)
        if folder.exists():
            folder.rmdir()
        os.replace(part, folder)
    return folder


def _pipeline(model: Model) -> Any:
    """With the scheduler and the picture preparation that Stability publishes."""
    from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
    from transformers import CLIPImageProcessor

    from curate.models.svd import CLIP_MEAN, CLIP_STD

    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        interpolation_type="linear",
        use_karras_sigmas=True,
        timestep_spacing="leading",
        timestep_type="continuous",
        sigma_min=0.002,
        sigma_max=700.0,
        steps_offset=1,
    )
    side = model.image_encoder.config.image_size
    processor = CLIPImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, image_mean=list(CLIP_MEAN), image_std=list(CLIP_STD)
    )
    return StableVideoDiffusionPipeline(
        vae=model.vae, image_encoder=model.image_encoder, unet=model.unet, scheduler=scheduler, feature_extractor=processor
    )


def save_single_file(path: Path, model: Model, dtype: torch.dtype | None = None) -> Path:
    """Writes all three parts under the original names: what ComfyUI, Forge and Stability's code read. `dtype` None keeps each part's.

    What nothing reads (`keys.UNUSED`) is not in it. Appears whole under its name, over what was there. Raises `ValueError` where a part is
    missing or a LoRA is in the UNet.
    """
    _check_plain(model)
    networks = {part: getattr(model, part) for part in PARTS}
    absent = [part for part, network in networks.items() if network is None]
    if absent:
        raise ValueError(f"a single file holds the whole model; this one was loaded without {', '.join(absent)}")
    with _aside(path) as part_path:
        single_file.write(part_path, networks, dtype)
        os.replace(part_path, path)
    return path


def _check_plain(model: Model) -> None:
    if model.unet is not None and any("lora_" in name for name, _ in model.unet.named_parameters()):
        raise ValueError("the UNet carries a LoRA: merge_lora(unet) puts it into the weights, save_lora saves it alone")


@contextlib.contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A path beside `target`, gone at the end unless it was moved."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".saving-") as folder:
        yield Path(folder) / "part"
