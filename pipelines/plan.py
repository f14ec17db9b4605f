"""What a run would take, from a seeded pilot on a few of its sources: hours of computing, disk, yield, each with an interval.

The pilot is the run itself on a sample of the sources, in a folder that is thrown away. Every quantity is estimated as a ratio to the
bytes of the sources (which listing knows for all of them), and its interval is the 5th to 95th percentile of a bootstrap over sources.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from curate.config import Config
from curate.errors import ConfigError
from curate.sources import list_sources
from pipelines.curation import RunResult, run

NUM_BOOTSTRAPS = 2000
DEFAULT_PILOT = 16  # sources, where limit_sources does not say


@dataclass(frozen=True, slots=True)
class Pilot:
    """One source of the pilot."""

    size_bytes: int
    worker_s: float
    decoded_s: float
    num_clips: int
    exact_s: float
    kept_clips: int
    kept_s: float
    manifest_bytes: float
    kept_bytes: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A quantity for the whole input: the point estimate and the 5th and 95th percentiles of the bootstrap."""

    name: str
    unit: str
    value: float
    low: float
    high: float


QUANTITIES = (
    ("video", "h", "decoded_s", 1 / 3600),
    ("computing", "worker hours", "worker_s", 1 / 3600),
    ("clips", "", "num_clips", 1.0),
    ("kept clips", "", "kept_clips", 1.0),
    ("kept video", "h", "kept_s", 1 / 3600),
    ("manifest on disk", "MB", "manifest_bytes", 1e-6),
    ("kept clips on disk, as coded in the sources", "GB", "kept_bytes", 1e-9),
)


def estimate(pilots: Sequence[Pilot], total_bytes: int, seed: int) -> list[Estimate]:
    """Ratio estimates for an input of `total_bytes`; exact where the pilot is the whole input."""
    sizes = np.array([p.size_bytes for p in pilots], dtype=np.float64)
    is_whole = int(sizes.sum()) >= total_bytes
    picks = np.random.default_rng(seed).integers(0, len(pilots), (NUM_BOOTSTRAPS, len(pilots)))
    found = []
    for name, unit, attribute, factor in QUANTITIES:
        values = np.array([getattr(p, attribute) for p in pilots], dtype=np.float64) * factor
        value = values.sum() / max(sizes.sum(), 1) * total_bytes
        resampled = values[picks].sum(1) / np.maximum(sizes[picks].sum(1), 1) * total_bytes
        low, high = (value, value) if is_whole else np.percentile(resampled, [5, 95])
        found.append(Estimate(name, unit, float(value), float(low), float(high)))
    return found


@dataclass(frozen=True, slots=True)
class Plan:
    """The pilot's size against the whole, and the estimates."""

    num_pilot: int
    num_sources: int
    total_bytes: int
    estimates: list[Estimate]


def plan(config: Config) -> Plan:
    """Runs the pilot and extrapolates; raises `CurateError` for what would stop the run itself."""
    if not config.input:
        raise ConfigError("input is not set; add input=... to the command or `input:` to the configuration")
    sources = list(list_sources(config.input))
    total_bytes = sum(source.size_bytes or 0 for source in sources)
    limit = min(config.limit_sources or DEFAULT_PILOT, len(sources))
    with tempfile.TemporaryDirectory(prefix="curate-plan-") as folder:
        # A shard for each source: batches do not mix sources, so that the time of each is its own.
        changes = {"output": str(Path(folder) / "pilot"), "limit_sources": limit, "shard_sources": 1}
        result = run(config.model_copy(update=changes))
        pilots = _pilots(Path(changes["output"]), result)  # type: ignore[arg-type]
    return Plan(len(pilots), len(sources), total_bytes, estimate(pilots, total_bytes, config.seed))


def _pilots(output: Path, result: RunResult) -> list[Pilot]:
    sources = ds.dataset(output / "sources").to_table().to_pylist()
    clips = ds.dataset(output / "clips").to_table()
    seconds = {event.key: event.seconds for event in result.sources}
    disk = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    total = max(1, sum(row["num_clips"] for row in sources))
    found = []
    for row in sources:
        own = clips.filter(pa.compute.equal(clips["source_key"], row["source_key"])).to_pylist()
        kept = [clip for clip in own if clip["keep"]]
        pixels = (row["coded_width"] or 0) * (row["coded_height"] or 0)
        found.append(
            Pilot(
                size_bytes=row["size_bytes"] or 0,
                worker_s=seconds.get(row["source_key"], 0.0),
                decoded_s=row["decoded_s"] or 0.0,
                num_clips=len(own),
                exact_s=row["exact_s"],
                kept_clips=len(kept),
                kept_s=sum(clip["duration_s"] for clip in kept),
                manifest_bytes=disk * row["num_clips"] / total,
                kept_bytes=sum((clip["bits_per_pixel"] or 0) * pixels * clip["num_frames"] / 8 for clip in kept),
            )
        )
    return found
