"""Which room may import what, read from the source; and what importing the package costs, seen in a fresh process."""

import ast
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MEDIA_LIBRARIES = {"av", "decord", "imageio", "moviepy", "skvideo", "torchcodec"}
MODEL_LIBRARIES = {"diffusers", "easyocr", "huggingface_hub", "onnxruntime", "open_clip", "rapidocr", "timm", "torchvision", "transformers"}
SVD_MAY_KNOW = {
    "clip",
    "manifest",
    "dataset",
    "batches",
    "motion_bucket",
    "media",
    "models",
    "config",
    "config_text",
    "config_problems",
    "errors",
    "svd",
}
HEAVY = ("torch", "ray", "pandas", "scenedetect")


@dataclass(frozen=True)
class Import:
    file: str  # relative to the root, with forward slashes
    line: int
    module: str
    lazy: bool  # inside a function

    @property
    def top(self) -> str:
        return self.module.split(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    """Every import of a file but those under `if TYPE_CHECKING`, which never run. `from a import b` counts as `a.b`."""
    file = path.relative_to(root).as_posix()

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            nodes: list[ast.AST] = list(node.orelse)
        else:
            nodes = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = file.split("/")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from (Import(file, node.lineno, f"{base}.{alias.name}", lazy) for alias in node.names)
        for child in nodes:
            yield from walk(child, lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), lazy=False)


def breaches(root: Path) -> list[str]:
    """Every import in `curate` and `pipelines` that goes through a wall."""
    found = []
    for path in sorted([*root.glob("curate/**/*.py"), *root.glob("pipelines/**/*.py")]):
        found += [f"{it}: {why}" for it in imports_of(path, root) for why in forbidden(it)]
        found += [f"{path.relative_to(root)}:{line}: OpenCV opens media outside curate/media" for line in opencv_readers(path, root)]
    return found


def forbidden(it: Import) -> Iterator[str]:
    """What is wrong with one import; nothing where it is allowed."""
    in_curate = it.file.startswith("curate/")
    room = it.file.split("/")[1]
    if it.top == "ray" and not it.file.startswith("pipelines/engine/"):
        yield "ray belongs under pipelines/engine"
    if it.top == "pipelines":
        yield "the folder pipelines/ is imported as curate.pipelines"
    if in_curate and it.module.startswith("curate.pipelines") and not (it.file == "curate/cli.py" and it.lazy):
        yield "the library does not know the pipelines (cli.py may, inside a function)"
    if it.top in MEDIA_LIBRARIES and in_curate and room != "media":
        yield "media is opened in curate/media only"
    if it.top == "av" and not in_curate and it.file not in {"pipelines/footage.py", "pipelines/demo_media.py"}:
        yield "pipelines open media through curate.media"
    if it.top in MODEL_LIBRARIES and in_curate and room not in {"models", "svd"}:
        yield "weights and forward passes live in curate/models"
    if it.top == "scenedetect" and room != "shots":
        yield "scenedetect belongs in curate/shots"
    if it.top == "torch" and room == "scorers":
        yield "scorers hold no tensors; curate/models runs the networks"
    if room == "svd" and in_curate and it.top == "curate" and it.module.split(".")[1] not in SVD_MAY_KNOW:
        yield f"svd knows only {', '.join(sorted(SVD_MAY_KNOW))}"
    if in_curate and not it.lazy and it.top in {"pandas", "torch"} and it.file in {"curate/__init__.py", "curate/cli.py"}:
        yield "too heavy for the command line's start"


def opencv_readers(path: Path, root: Path) -> list[int]:
    """Lines where a file outside curate/media names cv2.VideoCapture or cv2.VideoWriter."""
    if path.relative_to(root).as_posix().startswith("curate/media/"):
        return []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in {"VideoCapture", "VideoWriter"}]


def test_no_import_goes_through_a_wall():
    assert breaches(ROOT) == []


@pytest.mark.parametrize(
    ("file", "source", "reason"),
    [
        ("curate/scan.py", "def f():\n    import ray\n", "ray belongs"),
        ("pipelines/curation.py", "from ray.util import state\n", "ray belongs"),
        ("curate/scan.py", "def f():\n    from curate.pipelines import curation\n", "does not know the pipelines"),
        ("curate/scan.py", "def f():\n    from curate import pipelines\n", "does not know the pipelines"),
        ("curate/cli.py", "import curate.pipelines.curation\n", "does not know the pipelines"),
        ("pipelines/curation.py", "from pipelines import work\n", "is imported as curate.pipelines"),
        ("curate/scorers/motion.py", "def open():\n    import torch\n", "scorers hold no tensors"),
        ("curate/scorers/motion.py", "import torch.nn as nn\n", "scorers hold no tensors"),
        ("curate/scorers/text.py", "from rapidocr import RapidOCR\n", "curate/models"),
        ("curate/report/sheet.py", "import av\n", "curate/media only"),
        ("pipelines/curation.py", "import av\n", "through curate.media"),
        ("curate/report/sheet.py", "import cv2\ncv2.VideoCapture('x')\n", "OpenCV opens media"),
        ("curate/scan.py", "from scenedetect import detect\n", "belongs in curate/shots"),
        ("curate/svd/train.py", "from curate import scorers\n", "svd knows only"),
        ("curate/svd/train.py", "from ..decide import rules\n", "svd knows only"),
        ("curate/cli.py", "import pandas as pd\n", "too heavy"),
    ],
)
def test_each_wall_stops_what_it_is_for(tmp_path, file, source, reason):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert [text for text in breaches(tmp_path) if reason in text], f"{source!r} in {file} was let through"


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("curate/cli.py", "def run():\n    from curate.pipelines import curation\n    return curation\n"),
        ("pipelines/engine/ray.py", "import ray\n"),
        ("curate/media/decode.py", "import av\n"),
        ("curate/svd/train.py", "from curate.svd import loss\nfrom curate import dataset\nfrom ..clip import Span\n"),
        ("curate/scorers/text.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"),
    ],
)
def test_walls_let_the_allowed_through(tmp_path, file, source):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert breaches(tmp_path) == []


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running the code."""
    ending = "\nimport sys; print('\\n' + ' '.join(sorted({name.split('.')[0] for name in sys.modules})))"
    result = subprocess.run([sys.executable, "-c", code + ending], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
    return set(result.stdout.splitlines()[-1].split())


def test_the_fresh_interpreter_sees_a_heavy_import():
    assert "pandas" in loaded_after("import curate.errors, pandas")


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_after("import curate").intersection([*HEAVY, "numpy", "cv2", "av", "pyarrow"])


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(words):
    code = f"from curate.cli import main\ntry:\n    main({words!r})\nexcept SystemExit as stop:\n    assert not stop.code, stop.code"
    assert not loaded_after(code).intersection(HEAVY)


def test_opening_a_cpu_scorer_loads_no_network_library():
    code = (
        "from curate import scorers\n"
        "from curate.models import Models\n"
        "for name in ('motion', 'quality', 'synthetic'):\n"
        "    scorers.load(name)().open(Models())\n"
    )
    assert not loaded_after(code).intersection({"torch", *MODEL_LIBRARIES})


def test_exactly_one_opencv_is_installed_and_it_is_headless():
    installed = {dist.metadata["Name"].lower() for dist in importlib.metadata.distributions()}
    assert {name for name in installed if name.startswith("opencv")} == {"opencv-python-headless"}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads the process's loaded libraries from /proc")
def test_opencv_loads_no_display_library():
    code = "import cv2; print(open('/proc/self/maps').read())"
    maps = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "cv2" in maps
    display = ("libX11", "libxcb", "libGL.", "libgtk", "libQt", "libwayland")
    assert not [line for line in maps.splitlines() if any(name in line for name in display)]
