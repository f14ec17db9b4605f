"""What a training run writes down as it goes: `train.csv`, `validation.csv`, and TensorBoard's files where that is installed.

A run that goes on from a checkpoint first takes back the rows after it, so that every step stands in the file once.
"""

import csv
import importlib.util
import io
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from curate.manifest.files import write_file

TRAIN = ("step", "epoch", "loss", "grad_norm", "lr", "num_windows", "seconds", "windows_per_s", "peak_gib")
VALIDATION = ("step", "loss", "loss_ema", "num_windows", "seconds")


class CsvLog:
    """A CSV file whose first column is the step. Rows after `step` are taken out when it is opened."""

    def __init__(self, path: Path, columns: tuple[str, ...], step: int) -> None:
        self._path, self._columns = path, columns
        kept = [row for row in read_rows(path) if int(row["step"]) <= step]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
        write_file(path, text.getvalue().encode())
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, columns, lineterminator="\n")

    def add(self, row: Mapping[str, Any]) -> None:
        """Missing values are empty; a row is in the file when this returns."""
        self._writer.writerow({name: _shown(row.get(name)) for name in self._columns})
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TrainLog:
    """Both tables and TensorBoard, in one folder, from `step` on."""

    def __init__(self, folder: Path, step: int) -> None:
        self._train = CsvLog(folder / "train.csv", TRAIN, step)
        self._validation = CsvLog(folder / "validation.csv", VALIDATION, step)
        self._board = _board(folder, step)

    def train(self, row: Mapping[str, Any]) -> None:
        self._train.add(row)
        self._show("train", row)

    def validation(self, row: Mapping[str, Any]) -> None:
        self._validation.add(row)
        self._show("validation", row)

    def _show(self, group: str, row: Mapping[str, Any]) -> None:
        if self._board is not None:
            for name, value in row.items():
                if name != "step" and value is not None:
                    self._board.add_scalar(f"{group}/{name}", value, row["step"])

    def __enter__(self) -> "TrainLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._train.close()
        self._validation.close()
        if self._board is not None:
            self._board.close()


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a log; a last line that was cut short is left out, and a file that is not there has none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    return [row for row in csv.DictReader(io.StringIO(whole)) if (row.get("step") or "").isdecimal()]


def _board(folder: Path, step: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)


def _shown(value: Any) -> Any:
    # 17 digits give the same float back: two runs are compared by their files.
    return repr(value) if isinstance(value, float) else value
