"""What a training run is at one moment: trained weights, their running average, the optimizer's moments, and how far the data is read.

A checkpoint is a folder `step-00001000/` with `state.pt` and `mark.json` (size and SHA-256 of it). It is written aside, synced and
renamed, so that a name that is there is a whole checkpoint, whatever moment the process was killed at. No generator has a state that is
kept: every draw is seeded by what it is for (`curate.svd.data`), and torch's own generator anew at each step.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from curate.errors import CurateError
from curate.manifest.files import ASIDE_PREFIX, make_folder, rename_folder, sha256

STATE, MARK = "state.pt", "mark.json"
_NAME = re.compile(r"step-(\d{8})")


class TrainingError(CurateError):
    """Training cannot begin, go on or be continued."""


class Ema:
    """float32 running average of named parameters: a <- d a + (1 - d) p, with d = min(decay, (1 + n) / (10 + n)) at the n-th update.

    The ramp keeps a short run's average from being mostly the weights that it began with.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], decay: float) -> None:
        self.decay, self.num_updates = decay, 0
        self.average = {name: parameter.detach().float().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        for name, average in self.average.items():
            average.lerp_(parameters[name].detach().to(average), 1 - decay)

    @contextmanager
    def applied(self, parameters: Mapping[str, torch.nn.Parameter]) -> Iterator[None]:
        """Inside, the parameters hold the average; afterwards, bit for bit what they held before."""
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        try:
            _copy(self.average, parameters)
            yield
        finally:
            _copy(before, parameters)

    def state_dict(self) -> dict[str, Any]:
        return {"num_updates": self.num_updates, "average": self.average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.num_updates = int(state["num_updates"])
        for name, average in self.average.items():
            average.copy_(state["average"][name])


@torch.no_grad()
def _copy(values: Mapping[str, torch.Tensor], parameters: Mapping[str, torch.nn.Parameter]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])


@dataclass(slots=True)
class TrainState:
    """Everything that changes while training. `parameters` are the trained ones, by name; `step` counts finished optimizer steps.

    `position` is `BucketBatches.state_dict` after the last batch that was trained on; None before the first.
    """

    parameters: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    step: int = 0
    position: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {
            "weights": {name: parameter.detach() for name, parameter in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "step": self.step,
            "position": self.position,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises `TrainingError` where other weights are trained than those of the state."""
        theirs = {name: tuple(value.shape) for name, value in state["weights"].items()}
        ours = {name: tuple(value.shape) for name, value in self.parameters.items()}
        if theirs != ours or (state["ema"] is None) != (self.ema is None):
            differing = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
            what = (
                f"{len(differing)} weights differ, such as {differing[0]}" if differing else "one has averaged weights, the other has none"
            )
            raise TrainingError(f"the checkpoint is of another training: {what}; name another out=, or set the configuration back")
        _copy(state["weights"], self.parameters)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.step, self.position = int(state["step"]), state["position"]


def write_checkpoint(folder: Path, state: TrainState, keep: int) -> Path:
    """Adds `step-NNNNNNNN` to the folder and removes all but the last `keep`. Raises `TrainingError` with the system's reason."""
    target = folder / f"step-{state.step:08d}"
    make_folder(folder)
    remove_cut_short(folder)
    if not target.exists():
        aside = folder / f"{ASIDE_PREFIX}{target.name}-{secrets.token_hex(4)}"
        try:
            aside.mkdir()
            digest = _write(aside / STATE, lambda file: torch.save(state.state_dict(), file))
            mark = {"step": state.step, "sha256": digest, "size_bytes": (aside / STATE).stat().st_size}
            _write(aside / MARK, lambda file: file.write(json.dumps(mark).encode()))
            rename_folder(aside, target)
        except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as a RuntimeError
            shutil.rmtree(aside, ignore_errors=True)
            raise TrainingError(f"{target}: the checkpoint cannot be written: {error}; the one before it is whole") from error
    for old in checkpoints(folder)[:-keep]:
        _remove(old)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, the oldest first."""
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state, on the CPU. Raises `TrainingError` for one that is damaged; it names the one before it."""
    try:
        mark = json.loads((path / MARK).read_bytes())
        if sha256(path / STATE) != mark["sha256"]:
            raise ValueError(f"{STATE} does not match its checksum")
        state: dict[str, Any] = torch.load(path / STATE, map_location="cpu", weights_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, EOFError) as error:
        others = [other.name for other in checkpoints(path.parent) if other != path]
        remedy = f"remove it to go on from {others[-1]}" if others else "remove it to begin again"
        raise TrainingError(f"{path}: the checkpoint is damaged: {error}; {remedy}") from error
    return state


def remove_cut_short(folder: Path) -> None:
    """Removes what a killed write, or a killed removal, left behind."""
    for path in folder.glob(f"{ASIDE_PREFIX}step-*"):
        shutil.rmtree(path, ignore_errors=True)


def _remove(path: Path) -> None:
    """Loses its name first, so that half a checkpoint is never seen."""
    aside = path.with_name(f"{ASIDE_PREFIX}{path.name}-{secrets.token_hex(4)}")
    rename_folder(path, aside)
    shutil.rmtree(aside, ignore_errors=True)


def _write(path: Path, fill: Any) -> str:
    """Writes and syncs a file; its SHA-256."""
    with path.open("xb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
