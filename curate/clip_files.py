"""Where the frames of clips lie: in the sources of a manifest, or in the video files of an export. One table for both.

Reading back needs of a clip: a file (or bytes inside a tar), the times of its frames and which of them repeat, the picture inside bars,
what the source was when it was scanned. Everything else of the manifest is let go.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate import scorers
from curate.clip import Box
from curate.decide.rules import Rule
from curate.errors import ConfigError, ExportError, SourceError
from curate.export.folder import OutFolder
from curate.kept import motion_scorer, read_kept, select_rows
from curate.manifest import Manifest
from curate.sources import Source

NEEDED = ("file", "file_times_ns", "file_is_duplicate", "file_width", "file_height")
BOX = ("x", "y", "width", "height")


@dataclass(frozen=True, slots=True, eq=False)
class ClipFile:
    """One clip: `member` is (offset, size) of its bytes inside the file at `url`, None where it is the whole file or a span of it.

    `video_stream` is the stream of a source that was read; None: of a file whose film is to be chosen.
    `scanned` names the source and what it was; `score` is the clip's own motion score, None where there is none.
    """

    clip_id: str
    url: str
    member: tuple[int, int] | None
    scanned: Source
    active: Box
    caption: str | None
    score: float | None
    times_ns: np.ndarray
    is_duplicate: np.ndarray
    video_stream: int | None = None


class ClipFiles:
    """Clips by number, from one Arrow table; pickles as that.

    `motion_scorer` and `made_from` are those of the manifest, where known. `taken_by` says what was done to a file before it changed, and
    what to do about it.
    """

    def __init__(self, table: pa.Table, motion_scorer: scorers.ScorerLike, made_from: Mapping[str, Any], taken_by: str) -> None:
        self.motion_scorer, self.made_from, self.taken_by = motion_scorer, dict(made_from), taken_by
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, i: int) -> ClipFile:
        times_ns, is_duplicate = self.frames(i)
        row = {name: self._table[name][i].as_py() for name in self._table.column_names if name not in ("times_ns", "is_duplicate")}
        member = None if row["member_offset"] is None else (row["member_offset"], row["member_size"])
        scanned = Source(row["source_key"], row["url"], row["size_bytes"], row["etag"], row["mtime_ns"])
        box = Box(*(row[name] for name in BOX))
        shown = (times_ns, is_duplicate, row["video_stream"])
        return ClipFile(row["clip_id"], row["url"], member, scanned, box, row["caption"], row["score"], *shown)

    def frames(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """int64[N] times of the frames of clip i, bool[N] which of them repeat the one before."""
        return (
            self._table["times_ns"][i].values.to_numpy(),
            self._table["is_duplicate"][i].values.to_numpy(zero_copy_only=False),
        )

    def column(self, name: Literal["clip_id", "score", "x", "y", "width", "height"]) -> np.ndarray:
        """One value a clip; null scores are NaN."""
        return self._table[name].to_numpy()

    def iter_frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`frames` of every clip in order, several times faster than one by one."""
        for batch in self._table.select(["times_ns", "is_duplicate"]).to_batches(max_chunksize=4096):
            times, repeats = batch.column(0), batch.column(1)
            offsets = times.offsets.to_numpy() - times.offsets[0].as_py()
            all_ns, all_repeats = times.flatten().to_numpy(), repeats.flatten().to_numpy(zero_copy_only=False)
            for start, end in pairwise(offsets):
                yield all_ns[start:end], all_repeats[start:end]


def read_clip_files(
    path: str | Path, select: Mapping[str, Rule | Mapping[str, Any]] | None, split: Literal["train", "val"] | None, column: str
) -> ClipFiles:
    """Clips of a manifest or of an export (local, or an fsspec URL) whose samples are video files; `column` is their motion score.

    Raises `ExportError` for an export that holds no video files, `ManifestError` and `ConfigError` as `read_kept` does.
    """
    rules = {name: rule if isinstance(rule, Rule) else Rule.model_validate(rule) for name, rule in (select or {}).items()}
    folder = OutFolder(str(path))
    names = [name for name in folder.list("index") if name.endswith(".parquet") and not name.startswith(".")]
    if names:
        return _of_export(folder, names, rules, split, column)
    if split is not None:
        raise ConfigError(f"split={split!r}: {path} is no export; a manifest has no splits, leave it out")
    return _of_manifest(path, rules, column)


def member_bytes(url: str, member: tuple[int, int]) -> bytes:
    """The bytes of a file inside another. Raises `SourceError`."""
    offset, size = member
    try:
        if "://" in url:
            from fsspec.core import url_to_fs

            fs, path = url_to_fs(url)
            data = bytes(fs.cat_file(path, start=offset, end=offset + size))
        else:
            with open(url, "rb") as file:
                file.seek(offset)
                data = file.read(size)
    except (OSError, ValueError) as error:
        raise SourceError(f"{url}: cannot be read: {error}") from error
    if len(data) != size:
        raise SourceError(f"{url}: ends {size - len(data)} bytes before the clip at byte {offset} does: the file is cut short")
    return data


def _of_manifest(path: str | Path, rules: Mapping[str, Rule], column: str) -> ClipFiles:
    kept = read_kept(path, rules).table
    own = {"url": kept["source_url"], "times_ns": kept["frame_times_ns"], "is_duplicate": kept["frame_is_duplicate"]}
    own |= {name: kept[name] for name in ("size_bytes", "etag", "mtime_ns", "video_stream")}
    # What is not known of the active picture is a mistake of ours: the clip has the whole one then.
    whole = {"x": pa.scalar(0, pa.int32()), "y": pa.scalar(0, pa.int32()), "width": kept["width"], "height": kept["height"]}
    own |= {name: pc.coalesce(kept[f"active_{name}"], whole[name]) for name in BOX}
    own |= dict.fromkeys(("member_offset", "member_size"), pa.nulls(len(kept), pa.int64()))
    run = Manifest.open(path).read_run()
    made_from = {} if run is None else {"pass": run.pass_fingerprint, "scorer": run.scorers.get("motion")}
    return ClipFiles(_table(kept, own, column), motion_scorer(run), made_from, "scanned; run the same `curate run` again")


def _of_export(
    folder: OutFolder, names: list[str], rules: Mapping[str, Rule], split: Literal["train", "val"] | None, column: str
) -> ClipFiles:
    tables = []
    for name in names:
        data = folder.read_bytes(f"index/{name}")
        if data is None:
            raise ExportError(f"{folder.path('index')}/{name} has gone while it was read; is an export being written there?")
        tables.append(pq.read_table(pa.BufferReader(data)))
    index = pa.concat_tables(tables, promote_options="permissive")
    lacking = [name for name in NEEDED if name not in index.column_names]
    if lacking or index["file"].null_count:
        raise ExportError(
            f"{folder.url}: its layout does not hold one video file a clip (index lacks {', '.join(lacking) or 'names of files'}); "
            "read the manifest itself, or an export of a layout of video files"
        )
    if split is not None:
        index = index.filter(pc.equal(index["split"], split))
    index = select_rows(index, rules)
    none = pa.nulls(len(index), pa.int64())
    is_member = index["member_offset"].is_valid()
    own: dict[str, Any] = {
        "url": pc.binary_join_element_wise(folder.url.rstrip("/"), index["file"].cast(pa.string()), "/"),
        "times_ns": index["file_times_ns"],
        "is_duplicate": index["file_is_duplicate"],
        "member_offset": index["member_offset"],
        "member_size": index["member_size"],
        "size_bytes": pc.if_else(is_member, none, index["file_bytes"]) if "file_bytes" in index.column_names else none,
        "etag": pa.nulls(len(index), pa.string()),
        "mtime_ns": none,
        "video_stream": none,
    }
    return ClipFiles(_table(index, own | _picture_of_file(index), column), motion_scorer(None), {}, "exported; export again")


def _picture_of_file(index: pa.Table) -> dict[str, Any]:
    """The picture inside bars. Files are cropped to it; a copy of the stream, as large as its source, still has its bars."""
    is_copy = pc.and_(pc.equal(index["file_width"], index["width"]), pc.equal(index["file_height"], index["height"]))
    whole = {"x": pa.scalar(0, pa.int32()), "y": pa.scalar(0, pa.int32()), "width": index["file_width"], "height": index["file_height"]}
    return {name: pc.if_else(is_copy, index[f"active_{name}"], whole[name]) for name in BOX}


def _table(clips: pa.Table, own: Mapping[str, Any], column: str) -> pa.Table:
    shared = {name: clips[name] for name in ("clip_id", "source_key", "caption")}
    has_score = column in clips.column_names
    score = clips[column].cast(pa.float64()) if has_score else pa.nulls(len(clips), pa.float64())
    return pa.table({**shared, "score": score, **own})
