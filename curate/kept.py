"""The kept clips of a manifest, as those who use them see them: spans, frames, the active picture, and every published column.

`read_kept` is the one way from a manifest to clips that are cut, exported or trained on. It reads the ledger's frames beside the published
table, so which frames a clip has is known before any video is opened.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import scorers
from curate.clip import NS_PER_S, Box, Span
from curate.decide.judge import breaks
from curate.decide.quantiles import freeze
from curate.decide.rules import Rule, rule_problem
from curate.errors import ConfigError, ManifestError
from curate.manifest import Manifest, Run
from curate.media.streams import StreamChoice
from curate.scorers import Column, ScorerLike

IDENTITY = ("size_bytes", "etag", "mtime_ns")
STREAMS = ("video_stream", "audio_stream")


@dataclass(frozen=True, slots=True, eq=False)
class KeptClip:
    """One kept clip. `times_ns` int64[N] and `is_duplicate` bool[N] are its decoded frames; `active` the picture inside bars.

    `size_bytes`, `etag` and `mtime_ns` are the source's when it was scanned; `video_stream` and `audio_stream` are the streams that were
    read, None to choose them anew. `columns` holds every published column by name.
    """

    clip_id: str
    source_key: str
    source_url: str
    size_bytes: int | None
    etag: str | None
    mtime_ns: int | None
    span: Span
    snapped: Span | None
    active: Box
    times_ns: np.ndarray
    is_duplicate: np.ndarray
    caption: str | None
    columns: Mapping[str, Any]
    video_stream: int | None = None
    audio_stream: int | None = None

    @property
    def streams(self) -> StreamChoice:
        """The streams that were read."""
        return StreamChoice(self.video_stream, self.audio_stream)

    @property
    def distinct_ns(self) -> np.ndarray:
        """int64[D]: times of the frames that show another picture than the frame before; the clip's first frame always does."""
        keep = ~self.is_duplicate
        keep[:1] = True
        return self.times_ns[keep]

    @property
    def effective_fps(self) -> float:
        """Distinct pictures a second."""
        return len(self.distinct_ns) * NS_PER_S / (self.span.end_ns - self.span.start_ns)


class KeptClips(Sequence[KeptClip]):
    """The kept clips in the manifest's order. Holds one Arrow table; about 2.5 kB a clip of 300 frames.

    `motion_scorer` is the scorer that measured their motion, with its parameters; with the defaults where that is not known.
    """

    def __init__(self, table: pa.Table, motion_scorer: ScorerLike | None = None) -> None:
        self.table = table
        self.motion_scorer = motion_scorer or scorers.load("motion")()
        self._names = [name for name in table.column_names if name not in ("frame_times_ns", "frame_is_duplicate", *IDENTITY, *STREAMS)]

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> KeptClip: ...
    @overload
    def __getitem__(self, index: slice) -> "KeptClips": ...
    def __getitem__(self, index: int | slice) -> "KeptClip | KeptClips":
        if isinstance(index, slice):
            return self.taken(pa.array(np.arange(len(self))[index]))
        row = self.table.slice(range(len(self))[index], 1)
        values = {name: row[name][0].as_py() for name in (*self._names, *IDENTITY, *STREAMS)}
        snapped = None
        if values["snapped_start_ns"] is not None:
            snapped = Span(values["snapped_start_ns"], values["snapped_end_ns"])
        return KeptClip(
            clip_id=values["clip_id"],
            source_key=values["source_key"],
            source_url=values["source_url"],
            size_bytes=values["size_bytes"],
            etag=values["etag"],
            mtime_ns=values["mtime_ns"],
            span=Span(values["start_ns"], values["end_ns"]),
            snapped=snapped,
            active=_active(values),
            times_ns=_flat(row["frame_times_ns"]).to_numpy(),
            is_duplicate=_flat(row["frame_is_duplicate"]).to_numpy(zero_copy_only=False),
            caption=values["caption"],
            columns={name: values[name] for name in self._names},
            video_stream=values["video_stream"],
            audio_stream=values["audio_stream"],
        )

    def taken(self, rows: pa.Array) -> "KeptClips":
        """The clips at these places, in that order."""
        return KeptClips(self.table.take(rows), self.motion_scorer)

    def __iter__(self) -> Iterator[KeptClip]:
        return (self[i] for i in range(len(self)))


def _active(values: Mapping[str, Any]) -> Box:
    """The active picture; the whole one where it is not known."""
    if values["active_x"] is None:
        return Box(0, 0, values["width"], values["height"])
    return Box(*(values[f"active_{name}"] for name in ("x", "y", "width", "height")))


def read_kept(folder: str | Path, select: Mapping[str, Rule] | None = None) -> KeptClips:
    """Kept clips of a manifest that also pass the rules of `select` (their percentiles are those of the kept clips).

    Raises `ManifestError` where nothing is decided or the ledger has moved on since, `ConfigError` for a rule that cannot be applied.
    """
    manifest = Manifest.open(folder)
    run = manifest.read_run()
    if run is not None and run.rescan_note:
        raise ManifestError(f"{manifest.root}: {run.rescan_note}")
    kept = manifest.published("clips").to_table(filter=pc.field("keep"))
    kept = select_rows(kept, select or {})
    frames = _frames(manifest, kept)
    published = manifest.published("sources")
    own = [name for name in (*IDENTITY, *STREAMS) if name in published.schema.names]
    sources = published.to_table(columns=["source_key", *own])
    place = pc.index_in(kept["source_key"], value_set=sources["source_key"].combine_chunks())
    for name in (*IDENTITY, *STREAMS):
        # Manifests from before streams were chosen do not name them.
        kept = kept.append_column(name, pc.take(sources[name], place) if name in own else pa.nulls(len(kept), pa.int32()))
    for name in ("frame_times_ns", "frame_is_duplicate"):
        kept = kept.append_column(name, frames[name])
    return KeptClips(kept, motion_scorer(run))


def motion_scorer(run: Run | None) -> ScorerLike:
    """The scorer of a manifest's run with its parameters; with the defaults where none ran under that name."""
    entry = (run.config.get("scorers") or {}).get("motion") if run is not None else None
    found: ScorerLike = scorers.load("motion")(**{name: value for name, value in (entry or {}).items() if name != "optional"})
    return found


def select_rows(kept: pa.Table, select: Mapping[str, Rule]) -> pa.Table:
    """The rows that pass every rule; percentiles are fitted on these rows. Raises `ConfigError` for a rule that cannot be applied."""
    columns = {field.name: _column(field) for field in kept.schema}
    for name, rule in select.items():
        if problem := rule_problem(name, rule, columns):
            raise ConfigError(problem[1].replace("rules.", "select.", 1))
    frozen, _ = freeze(select, {}, [kept], dict.fromkeys(select, ""))
    mask = np.ones(len(kept), bool)
    for one in frozen:
        beyond, null = breaks(kept[one.rule.column], one)
        mask &= ~beyond
        if one.rule.on_null == "drop":
            mask &= ~null
    return kept.filter(pa.array(mask))


def _column(field: pa.Field) -> Column:
    facts = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    low, high = (float(facts[side]) if side in facts else None for side in ("low", "high"))
    return Column(field.type, facts.get("unit", ""), facts.get("description", ""), low, high)


def _frames(manifest: Manifest, kept: pa.Table) -> pa.Table:
    """The ledger's frames of these clips, in their order."""
    wanted = kept["clip_id"].combine_chunks()
    keys = pc.unique(kept["source_key"])
    index = manifest.index()
    found = []
    for shard_id in index.shard_ids:
        if pc.any(pc.is_in(keys, value_set=index.rows(shard_id)["key"].combine_chunks())).as_py():
            frames = manifest.shard(shard_id).read_frames()
            found.append(frames.filter(pc.is_in(frames["clip_id"], value_set=wanted)))
    if not found:
        return pa.table({"frame_times_ns": [], "frame_is_duplicate": []})
    frames = pa.concat_tables(found)
    place = pc.index_in(wanted, value_set=frames["clip_id"].combine_chunks())
    if place.null_count:
        lacking = wanted.filter(pc.is_null(place))[0].as_py()
        raise ManifestError(
            f"{manifest.root}: clip {lacking} was decided on but is not in the ledger any more; "
            f"finish the run, then `curate decide {manifest.root}`"
        )
    return frames.take(place)


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks().flatten() if column.num_chunks != 1 else column.chunk(0).flatten()
