"""`from curate.svd import ...`: the names are there, are what they are at home, and cost nothing before they are asked for."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import curate.svd

FILE = Path(curate.svd.__file__)


def typed() -> dict[str, str]:
    """Name -> module, as type checkers read the file."""
    [block] = [node for node in ast.parse(FILE.read_text(encoding="utf-8")).body if isinstance(node, ast.If)]
    return {alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_every_name_is_the_one_that_type_checkers_see() -> None:
    assert set(typed()) == set(curate.svd.__all__)
    for name, module in typed().items():
        assert getattr(curate.svd, name) is getattr(importlib.import_module(module), name)
    modules = {path.stem for path in FILE.parent.glob("*.py")}
    assert not modules.intersection(typed()), "a name that is a module as well would change its meaning when that is imported"


def test_a_name_that_is_not_there_is_said_as_python_says_it() -> None:
    with pytest.raises(ImportError, match=r"cannot import name 'Pipeline' from 'curate\.svd'"):
        from curate.svd import Pipeline  # noqa: F401
    assert not hasattr(curate.svd, "pipeline")


@pytest.mark.parametrize(
    ("code", "is_light"),
    [("import curate.svd", True), ("from curate.svd import Finetune, Knobs", True), ("from curate.svd import Denoiser", False)],
)
def test_torch_is_loaded_by_the_names_that_need_it(code: str, is_light: bool) -> None:
    ending = "; import sys; print(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers')))"
    found = subprocess.run([sys.executable, "-c", code + ending], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.split() == [str(not is_light)]
