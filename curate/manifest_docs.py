"""Writes `docs/manifest.md` from the code: `python -m curate.manifest_docs docs/manifest.md`.

Every column comes from where it is declared, so the page cannot say anything else than the files.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from curate import scorers
from curate.manifest import CLIP_COLUMNS, DECIDED_COLUMNS, FRAME_COLUMNS, INDEX_COLUMNS, SCHEMA_VERSION, SOURCE_COLUMNS
from curate.scorers import Column
from curate.sources import MEDIA_EXTENSIONS
from curate.sources.sidecars import CAPTION_KEYS, MAX_SIDECAR_BYTES

_HEAD = """\
# The manifest

Written by `python -m curate.manifest_docs docs/manifest.md` from the code; a test holds the two together. Schema version
{version}.

    import pandas as pd
    clips = pd.read_parquet("DIR/clips")
    kept = clips[clips.keep]

Each Parquet field carries its `unit`, `description`, `low` and `high` as field metadata
(`pyarrow.parquet.read_schema(...).field("motion_lvd").metadata`). A value that could not be computed is null, never -1, 0 or
`""`, and `faults` says why. Times are int64 nanoseconds on the source's own presentation timeline; spans are half-open,
`[start_ns, end_ns)`.

Nothing but parts is in `clips/` and `sources/`, and no type that readers lack, so other libraries open the folders as well:

    polars.read_parquet("DIR/clips")
    duckdb.sql("SELECT source_key, tags->>'encoder' FROM read_parquet('DIR/sources/*.parquet')")
    daft.read_parquet("DIR/clips")
    datasets.load_dataset("parquet", data_dir="DIR/clips")
    pyarrow.dataset.dataset("DIR/clips")

In pandas a boolean column has the type `bool` where it has no null, and `object` with `None` where it has (flags of clips too
short to be scored). `pandas.read_parquet("DIR/clips", dtype_backend="pyarrow")` has booleans and whole numbers that know null.

## Layout

    DIR/
      run.json                      what made it: schema version, resolved configuration, fingerprints, versions, weights
      policy.json                   the rules as absolute numbers
      clips/part-00000.parquet      one row a clip: keys, scores, keep, drop_reasons
      sources/part-00000.parquet    one row a source: status, faults, probe facts, counts
      published.json                SHA-256 of the parts of clips/ and sources/
      shards/index.parquet          which source belongs to which shard
      shards/index.json             SHA-256 of the index as it is and as it was before
      shards/listing.json           which listing the index holds; there while a run is unfinished
      shards/00000/                 the ledger: one folder a shard
        sources.parquet             one row a source of the shard
        clips.parquet               one row a clip: keys and spans
        frames.parquet              one row a clip: times of its frames, and which repeat the one before
        motion.parquet              one file a scorer: clip_id, its columns, faults; rows as in clips.parquet
        aesthetic.large.parquet     a scorer's large columns (embeddings): clip_id and the columns marked large
        done.json                   written last
        done.motion.json            for a scorer that was added or computed again later

* `clips/` and `sources/` are made from the ledger by deciding and replaced as a whole. Rows are in order of shard, source and
  time; a part has 100,000 rows. Large columns stay in the ledger.
* A shard is complete if and only if `done.json` is there. It holds the size and SHA-256 of every file, the fingerprint of the
  pass and of each scorer, and key, size, etag and mtime of each source. `done.SCORER.json` takes the place of that scorer's
  entry; one whose fingerprint is null was interrupted, and the scorer is computed again.
* Every file is written aside, synced and renamed. A run that dies leaves complete shards and others that are done again,
  nothing in between.
* Names that start with a dot are temporary files or the lock (`.curate-lock`, which names the process that writes). Readers
  ignore them.
* Bytes do not depend on workers, timing or restarts on the same kind of machine. No time of day, process id or attempt count is
  in a row (`mtime_ns` is a fact about the file).
* `curate verify DIR` hashes everything against the marks and says what to do about each damaged file.

## Sources, keys and shards

A source's key is its path below the input folder, with `/` between parts. For a glob, the root is the longest leading folder
without `*?[`. For a list file, an entry in the list's folder or below is named relative to it, any other by its full URL or
path. Listed are files with these extensions; others are counted, names that start with a dot are left alone:

    {extensions}

What is named outright (an entry of a list, a single file) counts whatever its extension. Captions come from the list's
`caption` column, else from `x.txt` or `x.json` beside `x.mp4` (in this order; in JSON the first non-empty of {keys}; up to
{sidecar} KiB of UTF-8).

Shards are cut from the sorted list once and never regrouped. On the next run a new source goes to a new shard, a source whose
size, etag (or, where there is none, mtime) or caption has changed has its shard done again, and one that is gone keeps its
rows. A folder that is found elsewhere under the same keys is the same folder: only the URLs change.

## Kinds of fault

`fault_kind` of `sources/`; `curate retry --reason KIND` tries those again. `fault_message` says what to do in each case.

| kind | the source |
|---|---|
| `Truncated` | is empty, or ends before what is needed to read it, or before what it declares |
| `NotMedia` | is something else under the name of a video: a web page, a playlist, an archive, a picture, bytes of no format |
| `NoVideo` | has sound, subtitles or data only, or is one segment of a stream |
| `Encrypted` | is encrypted, and there is no key |
| `NoDecoder` | has a codec that this build of FFmpeg does not decode, animated WebP among them |
| `DolbyVisionOnly` | has colours that are right only after Dolby Vision's own processing (profile 5) |
| `NoSuchStream` | has no stream of the index that `decode.stream` or `decode.audio_stream` names |
| `SourceError` | cannot be opened or decoded for another reason: not there, no permission, damaged throughout |
| `InvalidDataError` and other classes of PyAV | is damaged where the decoder or the container could not go on |
| `BadFrame` | has damaged data: the decoder says so, marks a picture as corrupt, or gives none |
| `Gap`, `TimesGoBack`, `AbsurdTime` | has no picture for an hour (a broadcast: a minute), or a clock that was set back |
| `Unaccounted` | lacks a picture, or has one too many, and nothing says why |
| `LimitExceeded` | costs more than `limits` allow |
| `Unreachable`, `SourceChanged` | could not be read to its end, or changed meanwhile |
| `Quarantined` | killed its worker |

A class of Python's (`IndexError`, ...) under the stage `shots`, `box`, `track`, `samples`, `pairs`, `packets`, `scan` or a scorer's name is
a mistake of ours. What it cost is null in that clip, or is one frame of it; please report it. Only `shots` and `scan` are faults of
the source: where the shot detector fails, the shot ends, and another detector begins with that frame.

## Fingerprints

16 hex digits of SHA-256 over the parameters that matter: one for the pass (decoder, sampling, shots, clips), one for each
scorer (parameters and version), one for the rules. A changed rule is decided again from the ledger; a changed or new scorer is
computed again and touches no other file.

A fingerprint covers what differs from neutral values that never change (`curate/neutral.py`), so a parameter that comes with a
later version refuses no manifest. A parameter of a user's own scorer always counts.

A changed pass makes other clips. `curate run` and `curate retry` then say what has changed and how many sources and hours of
video would be scanned again, and wait for a yes: on the terminal, or `--yes`. Without it they end with an error, and nothing has
changed. With it, each shard stays as it is until it is done again, and a run that is stopped goes on without asking.
`clips/` and `sources/` stay those of the pass before until the run ends; until then `curate status`, `stats` and `show` say so,
and `curate export` and training refuse. `curate decide` in between publishes what has been scanned anew, and says how many
shards are not in it.

## Manifests of older versions

Schema version 3 differs from 2 in `published.json` (2: a `_checksums.json` in `clips/` and in `sources/`), in `tags` (2: a map)
and in what fingerprints cover; the ledger is the same. A manifest of version 2 opens, verifies, exports and resumes as it is, and
its next decision publishes it as version 3. Its marks stay: `names` in `run.json` says which fingerprints of today have which
older name in it.
"""


def render(bundled: Mapping[str, tuple[str, Mapping[str, Column]]]) -> str:
    """The page. `bundled`: scorer name -> (sentence, columns)."""
    head = _HEAD.format(
        version=SCHEMA_VERSION,
        extensions=_wrapped(sorted(MEDIA_EXTENSIONS), 125),
        keys=", ".join(f"`{key}`" for key in CAPTION_KEYS),
        sidecar=MAX_SIDECAR_BYTES // 1024,
    )
    parts = [head, "## Columns of `clips/`\n", "### Keys and spans\n", _table(CLIP_COLUMNS)]
    parts += ["### Decision\n", "In `clips/` only; the ledger's files hold no decisions.\n", _table(DECIDED_COLUMNS)]
    for name, (sentence, columns) in sorted(bundled.items()):
        parts += [f"### `{name}`\n", sentence + "\n", _table(columns)]
    parts += ["## Columns of `shards/NNNNN/frames.parquet`\n", _table(FRAME_COLUMNS)]
    parts += ["## Columns of `sources/`\n", _table(SOURCE_COLUMNS), "## Columns of `shards/index.parquet`\n", _table(INDEX_COLUMNS)]
    return "\n".join(parts)


def bundled_scorers() -> dict[str, tuple[str, Mapping[str, Column]]]:
    """Every scorer of the package at its default parameters, with the first sentence of its module."""
    found = {}
    for name in scorers.names():
        scorer = scorers.load(name)
        found[name] = (_first_sentence(sys.modules[scorer.__module__].__doc__ or ""), scorer().columns)
    return found


def main(arguments: list[str]) -> int:
    """Writes the page to the path given; 2 when it is not one path."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m curate.manifest_docs docs/manifest.md\n")
        return 2
    Path(arguments[0]).write_text(render(bundled_scorers()), encoding="utf-8")
    return 0


def _table(columns: Mapping[str, Column]) -> str:
    lines = ["| column | type | unit | range | meaning |", "|---|---|---|---|---|"]
    for name, column in columns.items():
        meaning = column.doc + (" (large: in the ledger only)" if column.large else "")
        cells = (f"`{name}`", _type(column.type), column.unit, _range(column), meaning)
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _type(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "struct<" + ", ".join(f"{kind.field(i).name}: {_type(kind.field(i).type)}" for i in range(kind.num_fields)) + ">"
    if pa.types.is_fixed_size_list(kind):
        return f"list<{_type(kind.value_type)}>[{kind.list_size}]"
    if pa.types.is_list(kind):
        return f"list<{_type(kind.value_type)}>"
    if pa.types.is_map(kind):
        return "string"  # as it is published
    return str(kind).replace("halffloat", "float16").replace("double", "float64")


def _range(column: Column) -> str:
    if column.low is not None and column.high is not None:
        return f"{column.low:g} to {column.high:g}"
    if column.low is not None:
        return f">= {column.low:g}"
    return "" if column.high is None else f"<= {column.high:g}"


def _first_sentence(doc: str) -> str:
    paragraph = " ".join(doc.strip().split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".") + "."


def _wrapped(words: list[str], width: int) -> str:
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] += f"{word} "
    return "\n    ".join(line.strip() for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
