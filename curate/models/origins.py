"""Places weights come from when no weights folder has them: an installed package, a URL, open_clip's registry.

Looking (`find`) never touches the network; fetching gives up after seconds where nothing answers, and a file appears under its
name whole or not at all.
"""

import contextlib
import importlib.util
import os
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import ConfigError, MissingWeightsError
from curate.extras import install_command, missing, require

CONNECT_TIMEOUT_S = 10
# open_clip prefers the first name of a hub repository and falls back to the second (open_clip.constants).
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A file that an installed package carries; found without importing the package."""

    package: str
    file: str
    requirement: str

    @property
    def install(self) -> str:
        return f"pip install '{self.requirement}'"

    def describe(self) -> str:
        return f"inside the package {self.requirement}"

    def find(self) -> tuple[Path | None, list[str]]:
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            return None, [f"package {self.package} (not installed)"]
        path = Path(spec.submodule_search_locations[0]) / self.file
        return (path, []) if path.is_file() else (None, [str(path)])

    def fetch(self, target: Path) -> Path:
        raise MissingWeightsError(f"{target.name} comes with a package: {self.install}")


@dataclass(frozen=True, slots=True)
class UrlFile:
    """A file behind a URL, inside a zip archive where `member` is given. `caches`: where other tools keep it, below home."""

    url: str
    member: str | None = None
    caches: tuple[str, ...] = ()

    def describe(self) -> str:
        return self.url

    def find(self) -> tuple[Path | None, list[str]]:
        return _first([Path.home() / name for name in self.caches])

    def fetch(self, target: Path) -> Path:
        with _aside(target) as part:
            _download(self.url, part)
            if self.member is not None:
                archive = part.rename(part.with_suffix(".zip"))
                with zipfile.ZipFile(archive) as box, box.open(self.member) as source, open(part, "wb") as file:
                    shutil.copyfileobj(source, file)
        return target


@dataclass(frozen=True, slots=True)
class OpenClipTag:
    """The checkpoint that open_clip's registry names for (model, tag): a file of a Hugging Face repository, or a URL."""

    model: str
    tag: str

    def describe(self) -> str:
        return f"open_clip's registry, model {self.model}, tag {self.tag}"

    def registry(self) -> dict[str, Any]:
        """The registry's entry. Raises `ConfigError` naming the tags there are."""
        from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

        entry = get_pretrained_cfg(self.model.replace("/", "-"), self.tag)
        if not entry:
            tags = ", ".join(list_pretrained_tags_by_model(self.model.replace("/", "-"))) or "none"
            raise ConfigError(f"open_clip has no weights {self.tag!r} for {self.model!r}; it has: {tags}")
        return entry

    def _hub(self) -> tuple[str, tuple[str, ...]]:
        """(repository, file names to try) on the Hugging Face hub; empty where it is not there."""
        repository, _, file = self.registry().get("hf_hub", "").rpartition("/")
        return repository, (((file,) if file else HUB_FILES) if repository else ())

    def find(self) -> tuple[Path | None, list[str]]:
        if missing("clip"):
            return None, [f"{self.describe()} (open_clip is not installed: {install_command('clip')})"]
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.constants import HF_HUB_CACHE

        looked: list[str] = []
        repository, files = self._hub()
        if repository:
            for file in files:
                cached = try_to_load_from_cache(repository, file)
                if isinstance(cached, str):
                    return Path(cached), []
            looked.append(f"Hugging Face cache {HF_HUB_CACHE}, repository {repository}")
        url = self.registry().get("url", "")
        found, paths = _first([Path.home() / ".cache" / "clip" / url.rsplit("/", 1)[1]] if url else [])
        return found, looked + paths

    def fetch(self, target: Path) -> Path:
        require([(f"to find its file, {self.model} {self.tag}", "clip")])
        (repository, files), url = self._hub(), self.registry().get("url")
        faults = []
        for file in files:
            try:
                return from_hub(repository, file, target.with_suffix(Path(file).suffix))
            except MissingWeightsError as error:
                faults.append(str(error))
        if url:
            target = target.with_suffix(Path(url).suffix)
            try:
                with _aside(target) as part:
                    _download(url, part)
                return target
            except MissingWeightsError as error:
                faults.append(str(error))
        raise MissingWeightsError("; ".join(faults))


def _first(paths: list[Path]) -> tuple[Path | None, list[str]]:
    return next((path for path in paths if path.is_file()), None), [str(path) for path in paths]


@contextlib.contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A path in a folder of its own beside `target`; what lies there at the end becomes `target` in one rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pull-") as folder:
        part = Path(folder) / "part"
        yield part
        os.replace(part, target)


def _download(url: str, part: Path) -> None:
    quoted = urllib.parse.quote(url, safe=":/?=&%")
    try:
        with urllib.request.urlopen(quoted, timeout=CONNECT_TIMEOUT_S) as source, open(part, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            expected = source.headers.get("Content-Length")
    except OSError as error:  # URLError, timeouts and broken connections
        raise MissingWeightsError(f"{url} cannot be fetched: {error}") from error
    if expected is not None and part.stat().st_size != int(expected):
        raise MissingWeightsError(f"{url} broke off after {part.stat().st_size} of {expected} bytes")


def from_hub(repository: str, file: str, target: Path) -> Path:
    """Downloads through huggingface_hub, which knows mirrors and tokens. A quick HEAD goes first: its own retries offline take 23 s."""
    from huggingface_hub import hf_hub_download, hf_hub_url
    from huggingface_hub.constants import HF_HUB_OFFLINE

    where = f"Hugging Face hub {repository}/{file}"
    if HF_HUB_OFFLINE:
        raise MissingWeightsError(f"{where}: HF_HUB_OFFLINE is set")
    try:
        urllib.request.urlopen(urllib.request.Request(hf_hub_url(repository, file), method="HEAD"), timeout=CONNECT_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        pass  # it answers; what it objects to, a missing token or a missing file, the download itself says
    except OSError as error:
        raise MissingWeightsError(f"{where} cannot be reached: {error}") from error
    try:
        with _aside(target) as part:
            os.replace(hf_hub_download(repository, file, local_dir=part.parent / "hub"), part)
    except OSError as error:  # huggingface_hub's errors for absent entries, refusals and broken connections derive from it
        raise MissingWeightsError(f"{where}: {str(error).splitlines()[0]}") from error
    return target
