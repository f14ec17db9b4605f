"""`shards/listing.json`: which listing the index holds, while the run that made it is not finished.

An unfinished run that is started again goes on with it instead of listing anew. The index only ever grows, so a listing that was taken into
it stays in it. The file is written after the index, replaced by the next listing, and removed when a run has come to its end.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from curate.manifest import files
from curate.manifest.shard import to_json

NAME = "shards/listing.json"


@dataclass(frozen=True, slots=True)
class Listing:
    """What was listed, when (UTC, to the second), and how many sources it gave.

    `stamp`: size, etag and time of change of a list file, as far as they are known; null for all other inputs.
    """

    input: str
    limit_sources: int | None
    seed: int
    stamp: tuple[int | None, str | None, int | None] | None
    time: str
    num_sources: int

    def is_of(self, other: "Listing") -> bool:
        """Whether both list the same, whenever they do."""
        return (self.input, self.limit_sources, self.seed, self.stamp) == (other.input, other.limit_sources, other.seed, other.stamp)


def write(root: Path, listing: Listing) -> None:
    """`root` is the manifest's folder, whose index holds the listing already."""
    files.write_file(root / NAME, to_json(asdict(listing)))


def read(root: Path) -> Listing | None:
    """None where there is none, or none that can be read: what is lost is the time that listing takes."""
    try:
        content = json.loads((root / NAME).read_bytes())
        return _parsed(content)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _parsed(content: Mapping[str, Any]) -> Listing:
    values = {one.name: content[one.name] for one in fields(Listing)}
    if values["stamp"] is not None:
        values["stamp"] = tuple(values["stamp"])
    if not isinstance(values["input"], str) or not isinstance(values["num_sources"], int):
        raise ValueError(f"{NAME}: is not what a manifest writes")
    return Listing(**values)


def remove(root: Path) -> None:
    """Removes it; one that is not there is fine."""
    files.remove_file(root / NAME)
