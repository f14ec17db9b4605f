"""The data set card: its YAML as the hub's own library reads it, its tables as a Markdown parser does."""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from huggingface_hub import DatasetCard
from markdown_it import MarkdownIt

from curate.decide.quantiles import freeze, policy_json
from curate.decide.rules import Rule
from curate.export import Finished
from curate.export import histogram as bars
from curate.export.card import card
from curate.scorers import Column

MOTION = {b"unit": b"% of diagonal / s", b"description": b"all motion"}
FILES = {"train": "train-*.tar", "val": "val-*.tar"}


def index_of(splits: list[str], captions: list[str | None] | None = None) -> pa.Table:
    """An index as a layout of video files makes it: 4 s of 25 frames/s each, one source for two clips, motion 0, 1, 2, ..."""
    count = len(splits)
    ids = [f"{i:016x}" for i in range(count)]
    columns: dict[str, Any] = {
        "sample_id": ids,
        "split": splits,
        "file": [f"{i}.mp4" for i in ids],
        "num_frames_out": [100] * count,
        "width_out": pa.array([640] * count, pa.int32()),
        "height_out": pa.array([360] * count, pa.int32()),
        "duration_out_s": [4.0] * count,
        "file_times_ns": [[0, 1]] * count,
        "file_bytes": [1_500_000] * count,
        "clip_id": ids,
        "source_key": [f"source {i // 2}.mp4" for i in range(count)],
        "caption": pa.array(captions or [None] * count, pa.string()),
    }
    table = pa.table(columns)
    return table.append_column(pa.field("motion_speed", pa.float32(), metadata=MOTION), [np.arange(count, dtype=np.float32)])


def make(index: pa.Table, data_files: Any = FILES, **facts: Any) -> str:
    known: dict[str, Any] = {
        "name": "my set",
        "licence": "unknown",
        "policy": None,
        "settings": {},
        "refused": {},
        "failed": {},
        "manifest": "/home/me/set",
    }
    return card(Finished(index, {**known, **facts}), "webdataset", "```python\nload()\n```", data_files)


def tables(text: str) -> list[list[list[str]]]:
    """Tables of a card's Markdown, as rows of cells."""
    found: list[list[list[str]]] = []
    body = text.split("\n---\n", 1)[1]
    for token in MarkdownIt("commonmark").enable("table").parse(body):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and found and found[-1] and token.level > 3:
            found[-1][-1].append(token.content)
    return found


def table(text: str, first: str) -> list[list[str]]:
    return next(rows for rows in tables(text) if rows[0][0] == first)


@pytest.mark.parametrize(
    ("licence", "keys"),
    [
        ("unknown", {"license": "unknown"}),
        (" ", {"license": "unknown"}),
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("CC0-1.0", {"license": "cc0-1.0"}),
        ("Our own terms: ask", {"license": "other", "license_name": "Our own terms: ask"}),
    ],
)
def test_the_hub_reads_the_licence_that_was_given(licence: str, keys: dict[str, str]) -> None:
    text = make(index_of(["train"]), licence=licence)
    data = DatasetCard(text).data.to_dict()
    assert {key: value for key, value in data.items() if key.startswith("license")} == keys
    assert ("**Unknown.**" in text) == (keys["license"] == "unknown")


def test_the_yaml_lists_the_splits_that_have_clips_and_the_tasks_that_the_captions_allow() -> None:
    both = DatasetCard(make(index_of(["train", "val"], ["a", None]))).data.to_dict()
    files = [{"split": "train", "path": "train-*.tar"}, {"split": "validation", "path": "val-*.tar"}]
    assert both["configs"] == [{"config_name": "default", "data_files": files}]
    assert both["task_categories"] == ["text-to-video", "image-to-video"]
    only = DatasetCard(make(index_of(["val"]))).data.to_dict()
    assert only["configs"][0]["data_files"] == files[1:]
    assert only["task_categories"] == ["image-to-video"]
    assert "configs" not in DatasetCard(make(index_of(["val"]), None)).data.to_dict()


@pytest.mark.parametrize(("count", "category"), [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K")])
def test_the_size_category_is_the_hubs(count: int, category: str) -> None:
    assert DatasetCard(make(index_of(["train"] * count))).data.to_dict()["size_categories"] == [category]


def test_counts_are_those_of_the_index() -> None:
    rows = table(make(index_of(["train"] * 6 + ["val"] * 2)), "split")
    assert rows[1:] == [
        ["train", "6", "3", "24.0 s", "4.00 s", "600", "9.00 MB"],
        ["val", "2", "1", "8.0 s", "4.00 s", "200", "3.00 MB"],
        ["together", "8", "4", "32.0 s", "4.00 s", "800", "12.00 MB"],
    ]


def test_rules_are_told_as_the_numbers_that_were_frozen() -> None:
    clips = pa.table({"is_scored": [True] * 101, "motion_speed": np.arange(101.0), "bars": ["none"] * 101, "black": [False] * 101})
    rules = {
        "slow": Rule(column="motion_speed", min_percentile=25),
        "fast": Rule(column="motion_speed", max=90, on_null="keep"),
        "dark": Rule.model_validate({"column": "black", "is": False}),
        "barred": Rule.model_validate({"column": "bars", "in": ["none", "letterbox"]}),
    }
    frozen, _ = freeze(rules, {}, [clips], dict.fromkeys(rules, ""))
    select = {"calm": Rule(column="motion_speed", max_percentile=50).model_dump()}
    text = make(index_of(["train"] * 3), policy=policy_json(frozen), settings={"select": select})
    assert table(text, "rule")[1:] == [
        ["slow", "`motion_speed`", "at least 25 % of diagonal / s (percentile 25 of 101 clips)", "dropped"],
        ["fast", "`motion_speed`", "at most 90 % of diagonal / s", "kept"],
        ["dark", "`black`", "false", "dropped"],
        ["barred", "`bars`", "`none` or `letterbox`", "dropped"],
        ["calm", "`motion_speed`", "at most percentile 50 of the kept clips", "dropped"],
    ]


def test_what_was_left_out_is_told_with_its_reasons_most_frequent_first() -> None:
    text = make(index_of(["train"]), refused={"too short": 3, "no caption": 1200}, failed={"a | b\n<script>": 1})
    rows = table(text, "why")
    assert rows[1:3] == [["the layout cannot hold it", "no caption", "1,200"], ["the layout cannot hold it", "too short", "3"]]
    assert rows[3][1:] == ["a | b &lt;script>", "1"]
    assert "Every clip that was kept is in it" in make(index_of(["train"]))


def test_a_hostile_name_stays_inside_its_place() -> None:
    name = 'a "set": #1\n---\n# other | <b>'
    text = make(index_of(["train"]), name=name)
    assert DatasetCard(text).data.to_dict()["pretty_name"] == 'a "set": #1 --- # other | <b>'
    assert DatasetCard(text).text.count("\n# ") == 1


def test_nothing_of_the_machine_is_told() -> None:
    settings = {"manifest": "/home/me/set", "out": "/home/me/out", "models": "/home/me/w", "ray_address": "10.0.0.1", "crf": 18}
    text = make(index_of(["train"]), settings=settings)
    assert "/home/me" not in text and "10.0.0.1" not in text
    assert table(text, "parameter")[1:] == [["`crf`", "18"]]


def test_every_column_has_its_unit_and_meaning() -> None:
    rows = {row[0]: row[1:] for row in table(make(index_of(["train"])), "column")}
    assert rows["`motion_speed`"] == ["float", "% of diagonal / s", "all motion"]
    assert rows["`width`"] == ["int32", "px", "width of the file's pictures"]
    assert "`file_times_ns`" not in rows and "`split`" not in rows


def test_the_layouts_of_windows_have_a_card_too() -> None:
    index = index_of(["train"] * 4).drop_columns(["file_times_ns", "file_bytes"])
    windows = index.set_column(index.column_names.index("clip_id"), "clip_id", [["a", "a", "b", "b"]])
    text = make(windows.append_column("fps_id", [[6, 6, 6, 6]]))
    assert "4 samples of 2 video clips (16.0 s) from 2 sources" in text
    assert ["`fps_id`", "int64", "", ""] in table(text, "column")


def test_histograms_count_every_value_once_and_unknown_ones_apart() -> None:
    values = [float(value) for value in range(50)] + [None] * 7
    index = index_of(["train"] * 57)
    place = index.column_names.index("motion_speed")
    text = make(index.set_column(place, index.schema.field("motion_speed"), pa.chunked_array([pa.array(values, pa.float32())])))
    block = re.search(r"Motion \(`motion_speed`, % of diagonal / s\); unknown for 7\n\n```text\n(.*?)```", text, re.DOTALL)
    assert block
    lines = block[1].strip("\n").split("\n")
    assert sum(int(line.split()[-3]) for line in lines) == 50
    assert lines[0].split()[:3] == ["0", "to", "10"] and len(lines) <= bars.MAX_BINS


@pytest.mark.parametrize("seed", range(5))
def test_bins_hold_what_their_labels_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 40, 500).astype(float) if seed == 0 else rng.lognormal(0, 1.5, 3000) * 10.0 ** rng.integers(-3, 4)
    lines = bars.of_numbers(values)
    assert 2 <= len(lines) <= bars.MAX_BINS
    for line in lines:
        label = line[: line.index("  ", len(line) - len(line.lstrip()))].strip().replace(",", "")
        count = int(line.split()[-3].replace(",", ""))
        if label.startswith("below"):
            expected = values < float(label.split()[1])
        elif label.endswith("or more"):
            expected = values >= float(label.split()[0])
        else:
            low, high = map(float, label.split(" to "))
            expected = (values >= low) & (values < high)
        assert count == expected.sum(), line


def test_bars_are_as_long_as_their_counts() -> None:
    lines = bars.bars(["a", "b", "c", "d"], [80, 40, 1, 0])
    full = [line.count("█") for line in lines]
    assert full == [bars.WIDTH, bars.WIDTH // 2, 0, 0]
    assert "▌" in lines[2]  # half of a character: 40 / 80 of one
    assert not set("▏▎▍▌▋▊▉█") & set(lines[3])


def test_one_value_nothing_and_rare_words() -> None:
    assert bars.of_numbers(np.array([])) == [] == bars.of_numbers(np.array([np.nan]))
    assert [line.split()[-3] for line in bars.of_numbers(np.full(9, 3.5)) if line.split()[-3] != "0"] == ["9"]
    lines = bars.of_words([f"w{i}" for i in range(30)], [30 - i for i in range(30)])
    assert len(lines) == bars.MAX_WORDS + 1 and lines[-1].split()[:2] == ["20", "others"]
    assert sum(int(line.split()[-3]) for line in lines) == sum(range(31))


def test_the_unit_of_a_share_is_not_told_as_one() -> None:
    assert Column(pa.float32(), "1", "x").unit == "1"
    index = index_of(["train"]).append_column(
        pa.field("text_area_max", pa.float32(), metadata={b"unit": b"1"}), pa.array([0.5], pa.float32())
    )
    assert "Area covered by text (`text_area_max`)\n" in make(index)
