"""The data set card, `README.md`: what an export holds, how it was chosen, what is not in it, how to load it. Any layout may use it.

A block of YAML for the Hugging Face hub, then Markdown that reads well anywhere. Numbers come from the export's index, rules from
the manifest's `policy.json`. The licence is what the user says it is; nothing is guessed from the sources. Nothing is said of the
machine: no path of manifest or export, no workers.

Keys of the YAML: the hub's documentation, pages `datasets-cards` and `datasets-manual-configuration`; licences: its page
`repositories-licenses` (those that fit data and media; any other becomes `license: other` with its name).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from curate import __version__
from curate.export import Finished
from curate.export import histogram as bars
from curate.export.record import plain_fields, record_table

HUB_SPLITS = {"train": "train", "val": "validation"}
UNKNOWN = "unknown"
CC = "by-2.0 by-2.5 by-3.0 by-4.0 by-sa-3.0 by-sa-4.0 by-nd-4.0"
CC_NC = "2.0 3.0 4.0 nd-3.0 nd-4.0 sa-2.0 sa-3.0 sa-4.0"
CDLA = "sharing-1.0 permissive-1.0 permissive-2.0"
OTHERS = "cc cc0-1.0 mit apache-2.0 c-uda gfdl odc-by odbl pddl etalab-2.0 unlicense wtfpl other unknown"
HUB_LICENCES = {
    *(f"cc-{kind}" for kind in CC.split()),
    *(f"cc-by-nc-{kind}" for kind in CC_NC.split()),
    *(f"cdla-{kind}" for kind in CDLA.split()),
    *OTHERS.split(),
}
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")
# Of the settings: what does not change the files, or is said elsewhere in the card.
PASSING = {"manifest", "out", "engine", "workers", "ray_address", "max_attempts", "max_failed_fraction", "retry_failed", "models", "device"}
SAID = {"name", "licence", "select"}
DISTRIBUTIONS = {
    "motion_speed": "Motion",
    "motion_lvd": "Motion, as the LVD data set measured it",
    "aesthetic_score": "Aesthetic score",
    "text_area_max": "Area covered by text",
    "caption_similarity": "Similarity of caption and picture",
    "quality_sharpness": "Sharpness",
}


def card(
    finished: Finished,
    layout: str,
    how_to_load: str,
    data_files: Mapping[str, str] | None = None,
    features: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """The whole card. `how_to_load` is Markdown; the rest is for the YAML, and without it the hub finds out for itself.

    `data_files` maps train and val to the files that `datasets` reads, as a glob; splits without samples are left out. `features` are
    the types of the columns as `datasets` writes them.
    """
    index, facts = finished.index, finished.facts
    is_video = "file_times_ns" in index.column_names
    columns = record_table(index.slice(0, 0)).schema if is_video else pa.schema(plain_fields(index.schema))
    sections = [
        f"# {_text(facts['name'])}\n\n{_summary(index, layout)}",
        _licence(facts["licence"]),
        f"## Load it\n\n{how_to_load}",
        f"## What is in it\n\n{_contents(index)}",
        f"## How it was chosen\n\n{_policy(facts, plain_fields(index.schema))}",
        _left_out(facts),
        f"## Distributions\n\n{_distributions(index)}",
        f"## Columns\n\n{_columns(columns)}",
        f"## Parameters of the export\n\n{_parameters(facts['settings'])}",
    ]
    return f"---\n{_header(finished, layout, data_files, features)}---\n\n" + "\n\n".join(part for part in sections if part) + "\n"


def hub_dtype(kind: pa.DataType) -> str:
    """Name of a plain type as the hub's YAML has it."""
    return {"double": "float64", "float": "float32", "halffloat": "float16"}.get(str(kind), str(kind))


def _header(finished: Finished, layout: str, data_files: Mapping[str, str] | None, features: Sequence[Mapping[str, Any]] | None) -> str:
    index, facts = finished.index, finished.facts
    has_captions = "caption" in index.column_names and index["caption"].null_count < len(index)
    licence = str(facts["licence"]).strip().lower() or UNKNOWN
    header: dict[str, Any] = {"pretty_name": _line(facts["name"])}
    header |= {"license": licence} if licence in HUB_LICENCES else {"license": "other", "license_name": _line(facts["licence"])}
    header["task_categories"] = [*(["text-to-video"] if has_captions else []), "image-to-video"]
    header["size_categories"] = [SIZES[max(0, min(len(str(len(index))) - 3, len(SIZES) - 1))]]
    header["tags"] = ["video", "curate", *(["webdataset"] if layout == "webdataset" else [])]
    if data_files:
        present = set(pc.unique(index["split"]).to_pylist())
        files = [{"split": HUB_SPLITS[split], "path": path} for split, path in data_files.items() if split in present]
        header["configs"] = [{"config_name": "default", "data_files": files}]
    if features:
        header["dataset_info"] = {"features": [dict(feature) for feature in features]}
    return str(yaml.safe_dump(header, allow_unicode=True, sort_keys=False, width=1000))


def _summary(index: pa.Table, layout: str) -> str:
    clips, sources = (pc.count_distinct(index[name]).as_py() for name in ("clip_id", "source_key"))
    what = _many(len(index), "video clip") if clips == len(index) else f"{_many(len(index), 'sample')} of {_many(clips, 'video clip')}"
    length = _length(pc.sum(index["duration_out_s"]).as_py() or 0.0)
    return f"{what} ({length}) from {_many(sources, 'source')}, made by `curate` {__version__} in the layout `{layout}`."


def _licence(licence: str) -> str:
    if (str(licence).strip().lower() or UNKNOWN) == UNKNOWN:
        return (
            "## Licence\n\n**Unknown.** Nobody has said under which terms these videos may be used. Each clip names its source "
            "(`source_key`): check the terms of the sources before you use this data or pass it on."
        )
    return (
        f"## Licence\n\n{_text(licence)}, as stated by whoever made this export. That was not checked against the sources; each clip "
        "names its own (`source_key`)."
    )


def _contents(index: pa.Table) -> str:
    rows = []
    for split in HUB_SPLITS:
        part = index.filter(pc.equal(index["split"], split))
        if len(part):
            rows.append([split, *_counts(part)])
    if len(rows) > 1:
        rows.append(["together", *_counts(index)])
    note = "\n\nNo source has clips in both splits." if len(rows) > 1 else ""
    return _table(("split", "samples", "sources", "length", "mean", "frames", "size"), rows) + note


def _counts(part: pa.Table) -> list[str]:
    seconds = pc.sum(part["duration_out_s"]).as_py()
    size = pc.sum(part["file_bytes"]).as_py() if "file_bytes" in part.column_names else None
    frames, sources = pc.sum(part["num_frames_out"]).as_py(), pc.count_distinct(part["source_key"]).as_py()
    return [f"{len(part):,}", f"{sources:,}", _length(seconds), f"{seconds / len(part):.2f} s", f"{frames:,}", _bytes(size)]


def _policy(facts: Mapping[str, Any], fields: Sequence[pa.Field]) -> str:
    units = {field.name: _fact(field, "unit") for field in fields}
    rows = [_rule(entry["name"], entry, units) for entry in (facts.get("policy") or {}).get("rules", ())]
    rows += [_rule(name, entry, units) for name, entry in (facts["settings"].get("select") or {}).items()]
    if not rows:
        return "No rule was applied: every clip that is long enough was kept."
    head = "A clip is here if it passes every rule. The bounds are absolute: a percentile was measured once and then kept as a number.\n\n"
    return head + _table(("rule", "column", "kept", "where the value is unknown"), rows)


def _rule(name: str, entry: Mapping[str, Any], units: Mapping[str, str]) -> list[str]:
    unit = _unit(units.get(entry["column"], ""))
    kept = []
    for side, word in (("min", "at least"), ("max", "at most")):
        fit = (entry.get("fitted") or {}).get(side)
        if entry.get(side) is not None:
            origin = f" (percentile {fit['percentile']:g} of {_many(fit['num_clips'], 'clip')})" if fit else ""
            kept.append(f"{word} {entry[side]:.6g}{' ' + unit if unit else ''}{origin}")
        elif entry.get(f"{side}_percentile") is not None:
            kept.append(f"{word} percentile {entry[f'{side}_percentile']:g} of the kept clips")
    if entry.get("is") is not None:
        kept.append(str(entry["is"]).lower())
    if entry.get("in"):
        kept.append(" or ".join(f"`{word}`" for word in entry["in"]))
    return [name, f"`{entry['column']}`", ", ".join(kept), {"keep": "kept"}.get(str(entry.get("on_null")), "dropped")]


def _left_out(facts: Mapping[str, Any]) -> str:
    rows = [["the layout cannot hold it", reason, f"{count:,}"] for reason, count in _most_first(facts["refused"])]
    rows += [["could not be made", reason, f"{count:,}"] for reason, count in _most_first(facts["failed"])]
    if not rows:
        return "## What is not in it\n\nEvery clip that was kept is in it."
    note = "\n\nEach of them is named in `left_out.jsonl`."
    return "## What is not in it\n\nClips that the rules kept and that are not here:\n\n" + _table(("why", "reason", "clips"), rows) + note


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _distributions(index: pa.Table) -> str:
    seconds = index["duration_out_s"].to_numpy()
    rates = np.rint(index["num_frames_out"].to_numpy() / np.maximum(seconds, 1e-9)).astype(np.int64)
    blocks = [("Length (s)", bars.of_numbers(seconds)), ("Frame rate (frames/s, to the nearest)", bars.of_words(*_counted(rates)))]
    sizes = index.group_by(["width_out", "height_out"], use_threads=False).aggregate([([], "count_all")]).to_pylist()
    words = [f"{row['width_out']}x{row['height_out']}" for row in sizes]
    blocks.append(("Size (px)", bars.of_words(words, [row["count_all"] for row in sizes])))
    fields = {field.name: field for field in plain_fields(index.schema)}
    for name in (name for name in DISTRIBUTIONS if name in fields):
        column = index[name].drop_null()
        unit, lacking = _unit(_fact(fields[name], "unit")), len(index) - len(column)
        head = f"{DISTRIBUTIONS[name]} (`{name}`{', ' + unit if unit else ''})"
        blocks.append((head + (f"; unknown for {lacking:,}" if lacking else ""), bars.of_numbers(column.to_numpy().astype(np.float64))))
    return "\n\n".join(f"{title}\n\n```text\n" + "\n".join(lines) + "\n```" for title, lines in blocks if lines)


def _counted(values: np.ndarray) -> tuple[list[str], list[int]]:
    found, counts = np.unique(values, return_counts=True)
    return [f"{value:g}" for value in found], counts.tolist()


def _columns(schema: pa.Schema) -> str:
    rows = [[f"`{field.name}`", str(field.type), _fact(field, "unit"), _fact(field, "description")] for field in schema]
    return _table(("column", "type", "unit", "meaning"), rows)


def _parameters(settings: Mapping[str, Any]) -> str:
    rows = [[f"`{key}`", _value(value)] for key, value in settings.items() if key not in PASSING | SAID]
    return _table(("parameter", "value"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_text(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _line(text: Any) -> str:
    return " ".join(str(text).split())


def _text(text: Any) -> str:
    """One line of Markdown that no angle bracket turns into HTML."""
    return _line(text).replace("<", "&lt;")


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fact(field: pa.Field, key: str) -> str:
    return (field.metadata or {}).get(key.encode(), b"").decode()


def _unit(unit: str) -> str:
    return "" if unit == "1" else unit


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _bytes(size: int | None) -> str:
    if size is None:
        return ""
    for limit, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if size >= limit:
            return f"{size / limit:,.2f} {unit}"
    return f"{size / 1000:,.1f} kB"
