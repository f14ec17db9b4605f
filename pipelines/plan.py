"""What a run would take, from a seeded pilot on a few of its sources: processor time, disk, yield,
each with an interval.

    list -> headers of `MAX_HEADERS` sources -> predicted cost -> pilot: the run on a few -> totals

Headers say how long and how large the pictures are, which bytes do not. The pilot is the run itself,
in a folder that is thrown away; `pipelines.estimate` says how it is drawn and what follows from it.
`benchmarks/plan.py` holds the intervals against totals that were measured.
"""

import pickle
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from queue import SimpleQueue
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from curate.config import Config, Limits
from curate.errors import ConfigError
from curate.manifest import parquet
from curate.media.headers import Headers
from curate.media.open import stream_choice
from curate.models import Models
from curate.pipelines.curation import RunResult, num_cores, run
from curate.pipelines.estimate import Range, draw, scaled, total
from curate.pipelines.worker.decoder import ChildDied, Decoder
from curate.sources import Source, list_sources, shard_sizes

DEFAULT_PILOT = 16  # sources, where limit_sources does not say
MAX_HEADERS = 1000  # read of more sources than that
HEADER_CHILDREN, HEADER_S = 4, 60.0  # at a time; what one file may take
# Seconds of a processor that a pass takes, about (`benchmarks/scan.py`, `benchmarks/models.py`).
# Only their ratios count: the pilot says how long it takes here.
S_A_SOURCE, S_A_FRAME, S_A_MEGAPIXEL, S_A_SECOND = 0.03, 0.0012, 0.0025, 0.12
S_TO_REFUSE = 0.01  # a source that cannot be opened
FPS, MIN_FPS, MAX_FPS = 25.0, 1.0, 120.0  # where headers say none; what is believed of them


@dataclass(frozen=True, slots=True)
class Predicted:
    """What headers predict of one source; 0 of what cannot be opened."""

    cost_s: float
    duration_s: float
    num_clips: float
    num_bytes: float


@dataclass(frozen=True, slots=True)
class Pilot:
    """What the pilot found of one source."""

    size_bytes: int
    processor_s: float
    decoded_s: float
    num_clips: int
    exact_s: float
    kept_clips: int
    kept_s: float
    kept_bytes: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A quantity for the whole input, with the ends of its interval."""

    name: str
    unit: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Quantity:
    """A quantity: the column of `Pilot` it sums, that of `Predicted` it goes with, and that of
    `Pilot` it cannot exceed.
    """

    name: str
    unit: str
    column: str
    predictor: str
    most: str | None
    factor: float = 1.0


QUANTITIES = (
    Quantity("video", "h", "decoded_s", "duration_s", None, 1 / 3600),
    Quantity("computing", "processor hours", "processor_s", "cost_s", None, 1 / 3600),
    Quantity("clips", "", "num_clips", "num_clips", None),
    Quantity("kept clips", "", "kept_clips", "num_clips", "num_clips"),
    Quantity("kept video", "h", "kept_s", "duration_s", "exact_s", 1 / 3600),
    Quantity(
        "kept clips on disk, as coded in the sources",
        "GB",
        "kept_bytes",
        "num_bytes",
        "size_bytes",
        1e-9,
    ),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The pilot's size compared with the whole, and the estimates."""

    num_pilot: int
    num_headers: int
    num_sources: int
    total_bytes: int
    num_workers: int
    estimates: list[Estimate]


def plan(config: Config) -> Plan:
    """Runs the pilot and extrapolates; raises `CurateError` for what would stop the run itself."""
    if not config.input:
        raise ConfigError(
            "input is not set; add input=... to the command or `input:` to the configuration"
        )
    sources = list(list_sources(config.input))
    some = _even_sample(len(sources), config.seed)
    read = [sources[place] for place in some]
    urls, wanted = [source.url for source in read], stream_choice(config.decode).video
    predictions = predicted(read, all_headers(urls, config.limits, wanted))
    drawn = draw(
        [one.cost_s for one in predictions], config.limit_sources or DEFAULT_PILOT, config.seed
    )
    with tempfile.TemporaryDirectory(prefix="curate-plan-") as folder:
        pilots, disk = run_pilot(config, [read[place] for place in drawn.places], Path(folder))
    ranges = estimate(pilots, predictions, drawn.places, drawn.chances)
    sizes = np.array([source.size_bytes or 0 for source in sources], dtype=np.float64)
    weights = sizes if sizes.sum() else np.ones(len(sources))
    found = []
    for quantity in QUANTITIES:
        column = np.array([getattr(one, quantity.predictor) for one in predictions])
        factor, spread = scaled(column, weights[some], float(weights.sum()))
        whole = ranges[quantity.name].times(factor, spread)
        found.append(_estimate(quantity.name, quantity.unit, whole.times(quantity.factor)))
    num_shards = len(shard_sizes((source.size_bytes for source in sources), config.shard_sources))
    found.append(disk.estimate(found, len(sources), num_shards))
    num_workers = config.workers or num_cores()
    found.insert(2, _wall(found[1], num_workers))
    return Plan(len(pilots), len(read), len(sources), int(sizes.sum()), num_workers, found)


def predicted(sources: Sequence[Source], headers: Sequence[Headers | None]) -> list[Predicted]:
    """Predicts cost and length of each source. Where headers name no length, the bytes stand for
    it.
    """
    pairs = list(zip(sources, headers, strict=True))
    rates = [(h.duration_s / s.size_bytes) for s, h in pairs if h and h.duration_s and s.size_bytes]
    s_a_byte = median(rates) if rates else 1e-6
    found = []
    for source, one in pairs:
        if one is None:
            found.append(Predicted(S_TO_REFUSE, 0.0, 0.0, 0.0))
            continue
        size_bytes = source.size_bytes or 0
        duration_s = one.duration_s or s_a_byte * size_bytes
        num_frames = duration_s * min(MAX_FPS, max(MIN_FPS, one.fps or FPS))
        frame_s = S_A_FRAME + S_A_MEGAPIXEL * one.width * one.height / 1e6
        cost_s = S_A_SOURCE + num_frames * frame_s + S_A_SECOND * duration_s
        found.append(Predicted(cost_s, duration_s, 1 + duration_s, float(size_bytes)))
    return found


def estimate(
    pilots: Sequence[Pilot],
    predictions: Sequence[Predicted],
    places: np.ndarray,
    chances: np.ndarray,
) -> dict[str, Range]:
    """Totals over the sources that `predictions` speaks of, in the units of `Pilot`; exact where
    the pilot is all of them.
    """
    found = {}
    for quantity in QUANTITIES:
        sizes = np.array(
            [getattr(one, quantity.predictor) for one in predictions], dtype=np.float64
        )
        values = _column(pilots, quantity.column)
        most = _column(pilots, quantity.most) if quantity.most else None
        found[quantity.name] = total(values, sizes[places], chances, float(sizes.sum()), most)
    return found


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes of a manifest: of its fixed parts, of any shard, and what a source and a clip add."""

    base_bytes: float
    shard_bytes: float
    source_bytes: float
    clip_bytes: float

    def estimate(self, found: Sequence[Estimate], num_sources: int, num_shards: int) -> Estimate:
        """The manifest on disk, from the estimate of clips."""
        clips = next(one for one in found if one.name == "clips")
        base = self.base_bytes + self.shard_bytes * num_shards
        base += self.source_bytes * num_sources
        sizes = [
            (base + self.clip_bytes * count) * 1e-6
            for count in (clips.value, clips.low, clips.high)
        ]
        return Estimate("manifest on disk", "MB", *sizes)


def _even_sample(num: int, seed: int) -> np.ndarray:
    if num <= MAX_HEADERS:
        return np.arange(num)
    return np.sort(np.random.default_rng(seed).choice(num, MAX_HEADERS, replace=False))


def all_headers(
    urls: Sequence[str], limits: Limits, stream: int | None = None
) -> list[Headers | None]:
    """Read the headers of all sources (of the film, or of that stream), in children of their own: a file may crash FFmpeg or hang it.
    None for those that cannot be read.
    """
    if not urls:
        return []
    num_children = min(HEADER_CHILDREN, num_cores(), len(urls))
    setup = pickle.dumps(None)
    decoders = [
        Decoder(setup, Models(), HEADER_S, limits.worker_gb, limits.spool_gb)
        for _ in range(num_children)
    ]
    idle: SimpleQueue[Decoder] = SimpleQueue()
    for decoder in decoders:
        idle.put(decoder)

    def headers(url: str) -> Headers | None:
        decoder = idle.get()
        try:
            return decoder.headers(url, stream)
        except ChildDied:
            return None
        finally:
            idle.put(decoder)

    with ThreadPoolExecutor(num_children) as pool:
        try:
            return list(pool.map(headers, urls))
        finally:
            for decoder in decoders:
                decoder.stop()
            pool.shutdown(cancel_futures=True)
            for decoder in decoders:
                decoder.close()


def run_pilot(config: Config, sources: Sequence[Source], folder: Path) -> tuple[list[Pilot], Disk]:
    """The pilot's numbers in the order of `sources`."""
    listed = pa.table(
        {
            "url": [source.url for source in sources],
            "caption": pa.array([source.caption for source in sources], pa.string()),
        }
    )
    (folder / "sources.parquet").write_bytes(parquet.encode(listed))
    # A shard for each source, so that all workers have something to do.
    changes = {
        "input": str(folder / "sources.parquet"),
        "output": str(folder / "pilot"),
        "limit_sources": None,
        "shard_sources": 1,
    }
    result = run(config.model_copy(update=changes))
    return _pilots(folder / "pilot", result, sources), _disk(folder / "pilot")


def _pilots(output: Path, result: RunResult, sources: Sequence[Source]) -> list[Pilot]:
    rows = {row["source_url"]: row for row in ds.dataset(output / "sources").to_table().to_pylist()}
    clips = ds.dataset(output / "clips").to_table()
    seconds = {event.key: event.seconds for event in result.sources}
    found = []
    for source in sources:
        row = rows[source.url]
        own = clips.filter(pc.equal(clips["source_key"], row["source_key"])).to_pylist()
        kept = [clip for clip in own if clip["keep"]]
        pixels = (row["coded_width"] or 0) * (row["coded_height"] or 0)
        found.append(
            Pilot(
                size_bytes=row["size_bytes"] or 0,
                processor_s=seconds.get(row["source_key"], 0.0),
                decoded_s=row["decoded_s"] or 0.0,
                num_clips=len(own),
                exact_s=row["exact_s"],
                kept_clips=len(kept),
                kept_s=sum(clip["duration_s"] for clip in kept),
                kept_bytes=sum(
                    (clip["bits_per_pixel"] or 0) * pixels * clip["num_frames"] / 8 for clip in kept
                ),
            )
        )
    return found


def _disk(output: Path) -> Disk:
    """How a manifest grows, by writing the pilot's tables as one and their first half."""
    shards = sorted((output / "shards").glob("*/"))
    others = (path for path in output.rglob("*") if path.parent not in shards and path.is_file())
    base = float(sum(path.stat().st_size for path in others if not path.match("part-*.parquet")))
    shard = float(sum(path.stat().st_size for path in shards[0].glob("*.json")))
    rows = {"sources": 0.0, "clips": 0.0}
    for name in sorted({path.name for one in shards for path in one.glob("*.parquet")}):
        fixed, a_row = _growth(pa.concat_tables(parquet.read(one / name) for one in shards))
        shard += fixed
        rows["sources" if name == "sources.parquet" else "clips"] += a_row
    for name in rows:
        fixed, a_row = _growth(ds.dataset(output / name).to_table())
        base += fixed
        rows[name] += a_row
    return Disk(base, shard, rows["sources"], rows["clips"])


def _growth(table: pa.Table) -> tuple[float, float]:
    """Bytes of a file without rows, and of a row."""
    num_rows = len(table)
    size = len(parquet.encode(table))
    if num_rows < 2:
        return float(size), 0.0
    half = num_rows // 2
    a_row = max(0.0, (size - len(parquet.encode(table.slice(0, half)))) / (num_rows - half))
    return max(0.0, size - a_row * num_rows), a_row


def _wall(computing: Estimate, num_workers: int) -> Estimate:
    name = f"time, {num_workers} worker{'s' if num_workers > 1 else ''} busy throughout"
    hours = (
        computing.value / num_workers,
        computing.low / num_workers,
        computing.high / num_workers,
    )
    return Estimate(name, "h", *hours)


def _estimate(name: str, unit: str, one: Range) -> Estimate:
    return Estimate(name, unit, *astuple(one))


def _column(pilots: Sequence[Pilot], name: str) -> np.ndarray:
    return np.array([getattr(one, name) for one in pilots], dtype=np.float64)
