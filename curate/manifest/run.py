"""`run.json`, the header of a manifest: what made it. It holds no time of day, so two runs can be compared as text."""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from curate import __version__
from curate.manifest.shard import SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Run:
    """Resolved configuration, fingerprints (of the pass, each scorer, the rules), versions of libraries, checksums of weights.

    `absent` names optional scorers whose package or weights were not found: their columns are null. `published_pass` is the pass that
    `clips/` and `sources/` were made from; another than `pass_fingerprint` while sources are being scanned again.
    `names` maps fingerprints to those that they have in this manifest (`curate.fingerprints.known_names`); None in a header
    that was written before there were any.
    """

    config: Mapping[str, Any]
    pass_fingerprint: str
    scorers: Mapping[str, str]
    rules_fingerprint: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    names: Mapping[str, str] | None = field(default_factory=dict)
    published_pass: str | None = None
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Run":
        return cls(**{"names": None, **content, "absent": tuple(content["absent"])})

    @property
    def rescan_note(self) -> str | None:
        """Says, from the moment when another pass was begun until its first decision, that the
        published tables are of the pass before.
        """
        if self.published_pass in (None, self.pass_fingerprint):
            return None
        return (
            "the sources are being scanned again with other settings of the pass; clips/ and sources/ are still of the pass before. "
            "Finish the run, or decide on what it has scanned so far with `curate decide`"
        )


def fingerprint(*parts: object) -> str:
    """16 hex digits of what JSON can hold (mappings in any order): equal parts give equal fingerprints on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of this library, of Python and of those packages that are installed; imports none of them."""
    found = {"curate": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def differences(before: object, after: object, name: str = "") -> list[str]:
    """What differs between two JSON values, one line each: `config.shots.threshold: 27 -> 30`. Only one has it: `(not set)`."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        lines = []
        for key in sorted({*before, *after}):
            lines += differences(before.get(key, _UNSET), after.get(key, _UNSET), f"{name}.{key}" if name else str(key))
        return lines
    return [] if before == after else [f"{name}: {_shown(before)} -> {_shown(after)}"]


_UNSET = object()


def _shown(value: object) -> str:
    return "(not set)" if value is _UNSET else json.dumps(value, sort_keys=True, default=str)
