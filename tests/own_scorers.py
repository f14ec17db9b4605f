"""Users' own scorers, which run where sources are decoded: in a child of the worker."""

import os
import textwrap
from pathlib import Path

import pytest

# Does something to a file while it is read: `WHEN` names its suffix, `CHANGE` is code over `path`.
CHANGING = """
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import pyarrow as pa
from curate.media.decode import PyAVReader
from curate.samples import Wants
from curate.scorers import Column

frames, start = PyAVReader.frames, PyAVReader.__init__

def opening(self, file, name, *more):
    self.own_name = name
    start(self, file, name, *more)

def changing(self):
    path, changed = Path(self.own_name), Path(__file__).with_name("changed")
    for count, item in enumerate(frames(self)):
        yield item
        if count == 5 and self.own_name.endswith("WHEN") and not changed.exists():
            changed.touch()
            CHANGE

PyAVReader.__init__, PyAVReader.frames = opening, changing

@dataclass(frozen=True)
class Scorer:
    version: ClassVar[int] = 1
    columns = {"changing_ok": Column(pa.bool_(), "", "it was scored")}
    samples = Wants()
    def open(self, models):
        return lambda clips: [{"changing_ok": True} for _ in clips]
"""


def own_scorer(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> None:
    """Writes own_NAME.NAME; a package name of its own, since a process keeps the first package of a name that it imports."""
    package = folder / f"own_{name}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / f"{name}.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
