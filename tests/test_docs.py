"""What the documentation shows works as shown."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from curate import export_docs, scorers, svd_docs
from curate.clip import NS_PER_S, Box, Span
from curate.decide.rules import Rule
from curate.samples import ClipSamples, SourceFacts, Track

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def clip_of(*frames: np.ndarray) -> ClipSamples:
    height, width = frames[0].shape[:2] if frames else (90, 160)
    zeros = np.zeros(1, np.float32)
    track = Track(np.zeros(1, np.int64), NS_PER_S, zeros, np.zeros(1, bool), zeros, zeros, np.zeros(1, bool))
    facts, box = SourceFacts("a.mp4", width, height), Box(0, 0, width, height)
    return ClipSamples(facts, Span(0, NS_PER_S), box, track, frames, tuple(range(len(frames))))


@pytest.fixture
def saturation(tmp_path, monkeypatch):
    """The scorer of docs/scorers.md, named by its dotted path as the page says."""
    package = tmp_path / "mypackage"
    package.mkdir()
    (package / "saturation.py").write_text(blocks("docs/scorers.md", "python")[0])
    monkeypatch.syspath_prepend(tmp_path)
    return scorers.load("mypackage.saturation")


def test_the_scorer_in_the_guide_scores_as_it_says(saturation):
    config = yaml.safe_load(blocks("docs/scorers.md", "yaml")[0])
    scorer = saturation(**config["scorers"]["mypackage.saturation"])
    assert scorer.samples.short_side == 64
    grey, red = np.full((64, 96, 3), 120, np.uint8), np.zeros((64, 96, 3), np.uint8)
    red[:, :, 0] = 255
    clips = [clip_of(grey), clip_of(red), clip_of(grey, red), clip_of()]
    rows = scorer.open(None)(clips)
    scorers.check_rows("saturation", scorer.columns, len(clips), rows)
    assert [row["saturation_mean"] for row in rows] == [0.0, 1.0, 0.5, None]
    assert rows[3]["faults"][0].kind == "NoSample"
    assert scorer.columns["saturation_mean"].type == pa.float32()


def test_the_rule_in_the_guide_is_a_rule():
    rules = yaml.safe_load(blocks("docs/scorers.md", "yaml")[0])["rules"]
    assert Rule(**rules["grey"]).min == 0.05


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?:|mailto:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_of_this_project_that_a_page_names_exists(page):
    named = re.findall(r"`((?:curate|pipelines|configs|tests|benchmarks|docs)/[\w/.-]+?)`", page.read_text(encoding="utf-8"))
    examples = {"curate/scorers/saturation.py", "tests/scorers/test_saturation.py"}
    assert [name for name in named if not (ROOT / name).exists() and name not in examples] == []


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_every_room_is_in_the_tree(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    rooms = {p.parent.name for p in ROOT.glob("curate/*/__init__.py")} | {"engine"}
    assert {room for room in rooms if f"{room}/" not in text} == set()


def test_the_page_on_exports_is_what_the_layouts_say():
    page = ROOT / "docs" / "export.md"
    assert page.read_text(encoding="utf-8") == export_docs.render(), "run: python -m curate.export_docs docs/export.md"


def test_the_page_on_svd_is_what_the_settings_say():
    assert (ROOT / "docs" / "svd.md").read_text(encoding="utf-8") == svd_docs.render(), "run: python -m curate.svd_docs docs/svd.md"
