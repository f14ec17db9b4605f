"""What `curate svd evaluate` takes and refuses, before anything is opened."""

from pathlib import Path

import pytest

from curate.errors import ConfigError
from curate.svd.evaluate_config import Network, evaluate_schema, load_evaluate
from curate.svd.generate_config import Job
from curate.svd.knobs import Knobs

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "svd_evaluate.yaml"


def refused(*words: str) -> str:
    with pytest.raises(ConfigError) as found:
        load_evaluate(None, words)
    return str(found.value)


def test_the_shipped_configuration_needs_pictures_only():
    with pytest.raises(ConfigError, match=r"image=FILE_OR_FOLDER or of data=MANIFEST_OR_EXPORT; neither is given"):
        load_evaluate(CONFIG)
    settings = load_evaluate(CONFIG, ["data=set", "before=runs/old/", "seed=3,1,3"])
    assert settings.question.motion_bucket == (10, 50, 90, 130, 170, 210, 250)
    assert settings.question.seed == (3, 1) and settings.job.out == "evaluation"
    assert [one.name for one in settings.question.networks] == ["stable-video-diffusion-img2vid-xt", "old"]
    assert settings.sizes == ((1024, 576), (576, 1024))


def test_words_make_lists_and_knobs_stay_unset_until_given():
    settings = load_evaluate(None, ["model=m", "image=x.jpg", "motion_bucket=200,30,200", "seed=5", "size=128x64", "steps=3"])
    assert settings.question.motion_bucket == (30, 200) and settings.question.seed == (5,)
    assert settings.knobs.model_fields_set == {"size", "steps"} and settings.sizes == ((128, 64),)
    assert settings.settings()["steps"] == 3 and "fps" not in settings.settings()


def test_every_problem_is_reported_at_once():
    text = refused(
        "model=m", "image=x", "steps=0", "stepz=1", "motion_buckets=map.json", "motion=2", "scores=false", "seed=-1", "select.a.min=1"
    )
    assert text.startswith("svd evaluate: 7 problems")
    for part in (
        "steps = 0: must be a whole number from 1",
        "stepz: unknown key. Nearest: steps",
        "motion_buckets: `evaluate` writes such a map",
        "motion: `evaluate` asks for motion_bucket",
        "scores: `evaluate` scores every clip",
        "seed holds -1",
        "select.a",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["image=x"], "model must be given"),
        (["model=m"], "neither is given"),
        (["model=m", "image=x", "data=y"], "both are given"),
        (["model=m", "image=x", "motion_bucket=127"], "shows with two or more"),
        (["model=m", "image=x", "motion_bucket=10,300"], "motion_bucket holds 300"),
        (["model=m", "image=x", "seed=[]"], "every clip needs a seed"),
        (["model=m", "image=x", "fvd=i3d.pt"], "fvd compares with real windows"),
        (["model=m", "image=x", "held_out=0.1"], "held_out is a share of data's clips"),
        (["model=m", "image=x", "before=m"], "model and before are the same"),
        (["model=m", "image=x", "before_lora=a.safetensors"], "before_lora needs before"),
        (["model=m", "data=x", "clips=4000"], "28,000 clips, more than 10,000"),
        (["model=m", "data=x", "size=100x64"], "multiples of 64"),
    ],
)
def test_what_cannot_be_evaluated_says_why(words, message):
    text = refused(*words)
    assert message in text and "  : " not in text


def test_one_model_with_and_without_an_adapter_are_two():
    settings = load_evaluate(None, ["model=m", "lora=style.safetensors", "before=m", "image=x"])
    assert [one.name for one in settings.question.networks] == ["m+style", "m"]


@pytest.mark.parametrize(
    ("model", "name"),
    [("stabilityai/svd-xt", "svd-xt"), ("/runs/a/model/", "model"), ("weights/svd_xt.safetensors", "svd_xt"), ("/m/svd-1.1", "svd-1.1")],
)
def test_a_model_is_called_by_the_end_of_its_name(model, name):
    assert Network(model=model).name == name


def test_the_schema_has_every_key_once_and_those_of_generate_that_mean_something_here():
    keys = set(evaluate_schema()["properties"])
    assert keys >= (set(Job.model_fields) | set(Knobs.model_fields)) - {"motion_buckets", "scores", "motion"}
    assert not keys & {"motion_buckets", "scores", "motion"}
    assert evaluate_schema()["properties"]["seed"]["type"] == "array" and evaluate_schema()["properties"]["out"]["default"] == "evaluation"
