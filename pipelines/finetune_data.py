"""Which clips a fine-tune trains on and which it is judged by: held-out sources, or the export's own validation split."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.dataset import CuratedClips
from curate.decide.rules import Rule
from curate.errors import ConfigError, ExportError
from curate.export.folder import OutFolder
from curate.export.plan import connected, split
from curate.kept import read_kept, select_rows
from curate.motion_bucket import MotionBuckets
from curate.pipelines.finetune_latents import LatentExport, is_latent_export
from curate.svd.data import DTYPES, LatentCache, Windows, WindowSource
from curate.svd.settings import Finetune

IDENTITY = ("clip_id", "size_bytes", "etag", "mtime_ns", "file_bytes", "file_sha256")
Split = Literal["train", "val"]


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Windows to train on and, where some are held out, to validate with. `digest` names clips and files; `notes` are for people."""

    train: Windows
    validation: Windows | None
    digest: str
    notes: tuple[str, ...]


def read_data(settings: Finetune, motion_buckets: MotionBuckets | None, vae_sha256: str) -> Data:
    """Raises `CurateError` where the data cannot be read, holds no clip that is long enough, or too few to hold some out."""
    rows = _rows(settings)
    digest = _digest(rows)
    if is_latent_export(rows):
        return _latents(settings, rows, motion_buckets, digest)
    has_split = "split" in rows.column_names and bool(pc.any(pc.equal(rows["split"], "val")).as_py())
    rules: dict[Split, dict[str, Rule]] = {"train": dict(settings.windows.select), "val": dict(settings.windows.select)}
    is_held_out = has_split or settings.validation.fraction > 0
    if is_held_out and not has_split:
        rules = _held_out(settings, rows)
    train = _clips(settings, rules["train"], "train" if has_split else None, motion_buckets)
    validation = None
    if is_held_out:
        try:
            validation = _clips(settings, rules["val"], "val" if has_split else None, train.motion_buckets)
        except ExportError as error:
            raise ExportError(f"none of the held-out clips gives a window: {error}; raise validation.fraction, or set it to 0") from error
    return Data(
        _windows(settings, train, digest, vae_sha256),
        None if validation is None else _windows(settings, validation, digest, vae_sha256),
        digest,
        tuple(_notes(train, validation)),
    )


def _latents(settings: Finetune, rows: pa.Table, motion_buckets: MotionBuckets | None, digest: str) -> Data:
    """An export of encoded windows. Its own motion buckets are those of the clips, so nothing is fitted."""
    folder = OutFolder(settings.data)
    buckets = motion_buckets or MotionBuckets.load(folder.path("motion_buckets.json"))
    is_val = np.array([name == "val" for name in rows["split"].to_pylist()], bool)
    if not is_val.any() and settings.validation.fraction > 0:
        is_val = _is_held_out(settings, rows)
    num_frames = settings.windows.num_frames
    train = LatentExport(folder, rows.filter(pa.array(~is_val)), num_frames, buckets)
    validation = LatentExport(folder, rows.filter(pa.array(is_val)), num_frames, buckets) if is_val.any() else None
    held = None if validation is None else Windows(validation, takes_all=True)
    return Data(Windows(train, takes_all=True), held, digest, tuple(_notes(train, validation)))


def _rows(settings: Finetune) -> pa.Table:
    """Rows of the manifest's kept clips, or of the export's index, that pass `select`."""
    folder = OutFolder(settings.data)
    names = [name for name in folder.list("index") if name.endswith(".parquet") and not name.startswith(".")]
    if not names:
        return read_kept(Path(settings.data).expanduser(), settings.windows.select).table
    tables = [pq.read_table(pa.BufferReader(folder.read_bytes(f"index/{name}"))) for name in names]
    return select_rows(pa.concat_tables(tables, promote_options="permissive"), settings.windows.select)


def _held_out(settings: Finetune, rows: pa.Table) -> dict[Split, dict[str, Rule]]:
    """Rules that divide the clips by their sources; sources that share near-duplicates stay together."""
    is_val = _is_held_out(settings, rows)
    keys = np.array(rows["source_key"].to_pylist(), object)
    found: dict[Split, dict[str, Rule]] = {}
    parts: tuple[tuple[Split, np.ndarray], ...] = (("train", ~is_val), ("val", is_val))
    for name, chosen in parts:
        own = Rule.model_validate({"column": "source_key", "in": tuple(sorted(set(keys[chosen])))})
        found[name] = {**settings.windows.select, f"sources of {name}": own}
    return found


def _is_held_out(settings: Finetune, rows: pa.Table) -> np.ndarray:
    """bool[N]. Raises `ConfigError` where there are too few clips to hold some out."""
    fraction = settings.validation.fraction
    is_val = split(rows, settings.seed, fraction)
    if len(rows) and not is_val.any():
        smallest = min(Counter(connected(rows)).values())
        need = f"the smallest group of connected sources has {smallest} of {len(rows)} clips"
        raise ConfigError(f"validation.fraction={fraction:g} holds out no clip: {need}; raise it (to 0.5 at most), or set it to 0 for none")
    return is_val


def _clips(settings: Finetune, select: Mapping[str, Rule], part: Split | None, motion_buckets: MotionBuckets | None) -> CuratedClips:
    windows = settings.windows
    return CuratedClips(
        settings.data if "://" in settings.data else Path(settings.data).expanduser(),
        num_frames=windows.num_frames,
        fps=windows.fps,
        fps_tolerance=windows.fps_tolerance,
        sizes=windows.pixels,
        select=select,
        motion_buckets=motion_buckets,
        split=part,
        windows=windows.take,
        seed=settings.seed,
        max_enlarge=windows.max_enlarge,
        on_error=windows.on_error,
    )


def _windows(settings: Finetune, clips: CuratedClips, digest: str, vae_sha256: str) -> Windows:
    given, cache = settings.windows, None
    if given.cache is not None:
        kept = given.model_dump(mode="json", include={"num_frames", "fps", "fps_tolerance", "sizes", "max_enlarge", "take"})
        words = [digest, clips.motion_buckets.sha256, vae_sha256, settings.seed, kept, clips.clip_ids()]
        made_of = hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()
        cache = LatentCache(Path(given.cache).expanduser(), made_of, DTYPES[given.cache_dtype])
    return Windows(clips, takes_all=given.take == "all", repeat_epochs=given.epochs, cache=cache)


def _digest(rows: pa.Table) -> str:
    """Of the clips and of the files that they lie in."""
    digest = hashlib.sha256()
    for name in IDENTITY:
        if name in rows.column_names:
            digest.update(json.dumps([name, rows[name].to_pylist()]).encode())
    return digest.hexdigest()


def _notes(train: WindowSource, validation: WindowSource | None) -> Iterator[str]:
    yield f"{len(train.clip_ids()):,} clips to train on, {0 if validation is None else len(validation.clip_ids()):,} held out"
    refused = {**train.refused, **({} if validation is None else validation.refused)}
    for reason, count in Counter(text.partition(":")[0] for text in refused.values()).most_common():
        example = next(text for text in refused.values() if text.startswith(reason))
        yield f"{count:,} clips left out: {example if count == 1 else reason}"
