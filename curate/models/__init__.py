"""Weights and forward passes: where weights come from, which files a run uses, and how a scorer gets its model.

Three steps, in this order:

1. The driver, before any video is opened: `resolve(scorers, search, ...)` asks every scorer that has `weights()` for its
   `Weight`s and locates each (`locate`). A weight that is not there raises `MissingWeightsError`, which names it, every
   place searched, and the command that gets it. A scorer whose `extras` are not installed raises in the same way.
   A scorer named in `optional` becomes "absent" instead. Nothing is ever replaced by a random or a similar file.
   `ResolvedWeights.fingerprints()` is what the manifest's header records.
2. Workers receive the paths (picklable) inside a `Models`. `Scorer.open(models)` says `models.path(weight)` and
   `models.load(ModelSpec(kind, paths, parameters))`, and gets a forward: a callable from numpy arrays (or strings) to numpy.
3. `Models.loader` builds the forward. `load_model` builds it in this process, once per spec; an engine may pass a loader that
   returns a proxy of an actor holding a GPU. The scorer cannot tell: arrays and lists go in and come out, never tensors.

Kinds of model (the module of each says what goes in and out): `clip_image` and `clip_text` (`curate.models.clip`),
`laion_head` (`curate.models.laion`), `ppocr` and `craft` (`curate.models.ocr`).
"""

import functools
import hashlib
import importlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from curate.errors import CurateError, MissingPackageError, MissingWeightsError
from curate.extras import require

Forward = Callable[[Sequence[Any]], Any]
Parameter = str | int | float | bool

_BUILDERS = {
    "clip_image": ("curate.models.clip", "image_forward"),
    "clip_text": ("curate.models.clip", "text_forward"),
    "laion_head": ("curate.models.laion", "head_forward"),
    "ppocr": ("curate.models.ocr", "ppocr_forward"),
    "craft": ("curate.models.ocr", "craft_forward"),
    "svd_vae": ("curate.models.svd", "vae_forward"),
    "svd_image_encoder": ("curate.models.svd", "image_forward"),
}


class WrongWeightsError(CurateError):
    """A weights file is there but is not the file it should be: another checksum, or tensors that do not fit the model."""


class Origin(Protocol):
    """Where a weight comes from when no weights folder has it."""

    def describe(self) -> str:
        """The place in a few words, for messages."""
        ...

    def find(self) -> tuple[Path | None, list[str]]:
        """The file in a package or a cache of this machine, without touching the network; and the places looked at."""
        ...

    def fetch(self, target: Path) -> Path:
        """Puts the file at `target` (or beside it with the suffix it has there), whole or not at all; returns where it is.

        Raises `MissingWeightsError` where it cannot be reached.
        """
        ...


@dataclass(frozen=True, slots=True)
class Weight:
    """One file of weights.

    files       names it may have below a weights folder, the best first; an absolute path is a user's own file
    sha256      of the file, None where it depends on what the origin serves
    size_bytes  about what a download takes, None where not known
    """

    name: str
    files: tuple[str, ...]
    purpose: str
    licence: str
    sha256: str | None = None
    size_bytes: int | None = None
    origin: Origin | None = None

    @property
    def remedy(self) -> str:
        """What to do where it is missing, as one line."""
        if self.origin is None:
            return f"put the file at {self.files[0]}" + ("" if Path(self.files[0]).is_absolute() else " in your weights folder")
        install = getattr(self.origin, "install", None)
        return install or f"curate models pull {self.name}"


def cache_folder() -> Path:
    """Where `pull` puts weights unless told otherwise; always searched, last of the folders."""
    return Path.home() / ".cache" / "curate" / "models"


def locate(weight: Weight, search: Sequence[Path] = (), allow_download: bool = False) -> Path:
    """The file of a weight: the folders of `search` in order, our cache folder, the caches of its origin, then the network.

    Raises `MissingWeightsError` naming every place searched, or `WrongWeightsError` for a file with another checksum.
    """
    places = []
    for folder in (*search, cache_folder()):
        for name in weight.files:
            path = folder.expanduser() / name
            if path.is_file():
                return _checked(weight, path)
            places.append(str(path))
    if weight.origin is not None:
        found, looked = weight.origin.find()
        if found is not None:
            return _checked(weight, found)
        places += looked
        if allow_download:
            try:
                return _checked(weight, weight.origin.fetch(cache_folder() / weight.files[0]))
            except MissingWeightsError as error:
                places.append(str(error))
        else:
            places.append(f"{weight.origin.describe()} (not asked: downloading is not allowed here)")
    listed = "\n  ".join(dict.fromkeys(places))
    raise MissingWeightsError(f"weights {weight.name} ({weight.purpose}) not found. Searched:\n  {listed}\nTo get them: {weight.remedy}")


def _checked(weight: Weight, path: Path) -> Path:
    if weight.sha256 is not None and (found := sha256_file(path)) != weight.sha256:
        raise WrongWeightsError(
            f"{path} is not the {weight.name} this version knows: sha256 {found}, expected {weight.sha256}. "
            f"Delete it, then: {weight.remedy}"
        )
    return path


def sha256_file(path: Path) -> str:
    """Hex digest of a file; hashed once a process as long as size and modification time stay."""
    status = os.stat(path)
    return _sha256((str(path), status.st_size, status.st_mtime_ns))


@functools.lru_cache(maxsize=64)
def _sha256(state: tuple[str, int, int]) -> str:
    with open(state[0], "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class ResolvedWeights:
    """What `resolve` found: the path of every weight, and for each absent optional scorer the reason. Pickles."""

    paths: Mapping[Weight, Path] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)

    def fingerprints(self) -> dict[str, str]:
        """Name -> sha256 of the file in use, sorted by name."""
        return {weight.name: sha256_file(path) for weight, path in sorted(self.paths.items(), key=lambda item: item[0].name)}


def resolve(
    scorers: Mapping[str, Any],
    search: Sequence[Path] = (),
    allow_download: bool = False,
    optional: Collection[str] = (),
    what: str = "scorer",
) -> ResolvedWeights:
    """Locates the weights of everything that declares `weights()`, so that a run starts with all of them or not at all.

    `what` is what the bearers are called in messages.

    Raises one `MissingWeightsError` that holds every message of the scorers that are not `optional`.
    """
    paths: dict[Weight, Path] = {}
    absent: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name, scorer in scorers.items():
        try:
            require(package_needs(name, scorer, what))
            found = {weight: locate(weight, search, allow_download) for weight in needs(scorer)}
        except (MissingPackageError, MissingWeightsError) as error:
            (absent if name in optional else missing)[name] = str(error)
        else:
            paths.update(found)
    if missing:
        raise MissingWeightsError("\n".join(f"{what} {name}: {message}" for name, message in missing.items()))
    return ResolvedWeights(paths, absent)


def needs(scorer: Any) -> tuple[Weight, ...]:
    """The weights a scorer declares; none where it has no `weights()`."""
    return tuple(scorer.weights()) if hasattr(scorer, "weights") else ()


def package_needs(name: str, scorer: Any, what: str = "scorer") -> list[tuple[str, str]]:
    """Lists the extras a scorer declares, as `curate.extras.require` takes them; none where it has no `extras`."""
    return [(f"{what} {name}", extra) for extra in getattr(scorer, "extras", ())]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything a forward is made from; hashable and picklable, so that it can name the model in another process."""

    kind: str
    paths: tuple[str, ...]
    parameters: tuple[tuple[str, Parameter], ...] = ()
    device: str = "cpu"

    def __getitem__(self, name: str) -> Any:
        return dict(self.parameters)[name]


def build_model(spec: ModelSpec) -> Forward:
    """Builds the forward of a spec. Not for several threads at a time."""
    module, function = _BUILDERS[spec.kind]
    return getattr(importlib.import_module(module), function)(spec)


@functools.cache
def load_model(spec: ModelSpec) -> Forward:
    """Builds the forward of a spec in this process; the same spec gives the same object."""
    return build_model(spec)


@dataclass(frozen=True, slots=True)
class Models:
    """What `Scorer.open` gets: the resolved paths, the device, and the loader that the engine chose."""

    paths: Mapping[Weight, Path] = field(default_factory=dict)
    device: str = "cpu"
    loader: Callable[[ModelSpec], Forward] = load_model

    def path(self, weight: Weight) -> Path:
        """Where the weight lies. Raises `MissingWeightsError` where it was not resolved before the run."""
        try:
            return self.paths[weight]
        except KeyError:
            raise MissingWeightsError(f"weights {weight.name} were not resolved before the run; to get them: {weight.remedy}") from None

    def load(self, spec: ModelSpec) -> Forward:
        """The forward of a spec, on this run's device."""
        return self.loader(replace(spec, device=self.device))

    def for_one_worker(self) -> "Models":
        """The same with forwards that no other thread of this process has, where this process holds them."""
        return replace(self, loader=functools.cache(build_model)) if self.loader is load_model else self
