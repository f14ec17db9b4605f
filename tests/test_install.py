"""How the project is installed: what an editable install puts on the path, configurations by name, systems that are refused."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from curate.cli import main, refused_platform
from curate.config import load_config
from curate.config_text import located, shipped
from curate.extras import DISTRIBUTION

ROOT = Path(__file__).resolve().parent.parent


def test_every_configuration_of_the_checkout_is_found_by_name_and_by_path():
    assert {name: path.resolve() for name, path in shipped().items()} == {path.stem: path for path in ROOT.glob("configs/*.yaml")}
    assert load_config("lvd") == load_config(ROOT / "configs" / "lvd.yaml")


def test_a_file_of_that_name_goes_first_and_a_folder_does_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lvd").write_text("seed: 7\n")
    assert load_config("lvd").seed == 7
    (tmp_path / "demo").mkdir()
    assert located("demo") == shipped()["demo"], "as `make demo` leaves one in the checkout"


def test_a_name_that_is_not_there_lists_those_that_are(capsys):
    assert main(["config", "validate", "lvdd"]) == 1
    error = capsys.readouterr().err
    assert "lvdd" in error and all(name in error for name in shipped())


@pytest.mark.parametrize("name", [name for name in shipped() if not name.startswith("svd_")])
def test_what_config_show_prints_is_the_same_configuration(name, tmp_path, capsys):
    assert main(["config", "show", name]) == 0
    (tmp_path / "my.yaml").write_text(capsys.readouterr().out)
    assert load_config(tmp_path / "my.yaml") == load_config(name)


@pytest.mark.parametrize("name", [name for name in shipped() if name.startswith("svd_")])
def test_a_configuration_of_svd_is_shown_as_it_is(name, capsys):
    assert main(["config", "show", name]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(shipped()[name].read_text())
    assert main(["config", "show", name, "seed=1"]) == 1
    assert "to `curate svd`" in capsys.readouterr().err


def test_config_list_names_each_with_its_purpose(capsys):
    assert main(["config", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped()) and all(len(line.split()) > 4 for line in lines)


def test_windows_is_told_of_wsl_in_one_line(monkeypatch, capsys):
    assert refused_platform("linux") is None and refused_platform("darwin") is None
    monkeypatch.setattr(sys, "platform", "win32")
    assert main(["run", "quickstart"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "WSL" in error


def test_the_folder_has_one_import_name():
    done = subprocess.run([sys.executable, "-c", "__import__('pipelines')"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "import this folder as curate.pipelines" in done.stderr


def test_an_editable_install_brings_one_name_and_the_configurations(tmp_path):
    """The install that `make venv` makes, asked without the checkout on the path; `make wheel-test` makes a fresh one."""
    # The folder of the checkout may hold an egg-info, which is found first and says nothing of how it was installed.
    said = [one.read_text("direct_url.json") for one in importlib.metadata.distributions(name=DISTRIBUTION)]
    if not any(json.loads(text).get("dir_info", {}).get("editable") for text in said if text):
        pytest.skip(f"{DISTRIBUTION} is not installed as editable in this environment; make venv installs it so")
    code = (
        "import importlib.util, curate.pipelines.curation, curate.pipelines.engine.ray\n"
        "from curate.config_text import shipped\n"
        "assert 'lvd' in shipped() and shipped()['lvd'].is_file(), shipped()\n"
        "for name in ('pipelines', 'configs', 'tests', 'benchmarks'):\n"
        "    found = importlib.util.find_spec(name)\n"  # another package may bring a folder `tests`
        f"    assert found is None or {str(ROOT)!r} + '/' + name not in (found.submodule_search_locations or ()), found\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
