"""Scorers: each file is one, found by its name. A scorer turns a clip's samples into columns and never drops a clip.

A module here (or a user's, named by its dotted path in the config) holds a class named `Scorer`: a frozen pydantic
dataclass of parameters with

    version   int, raised when the same parameters give other numbers
    columns   name -> `Column`
    samples   the `Wants` that say which samples it reads
    open(models) -> score    loads what is heavy, once, in the worker; `score(list[ClipSamples]) -> list[dict]`

and optionally `weights() -> tuple[Weight, ...]` (see `curate.models`), `extras`, the names of our extras whose packages it imports
(`curate.extras`), and `batch_clips`, how many clips it is handed at most at once (1 unless it says otherwise).

A row holds every declared column, None where the value could not be computed, and may hold `faults`, a list of
`curate.clip.Fault` that says why.

A scorer that can tell more from all clips of a source than from each has two members besides:

    settles         names of the columns that it may still change
    settle(rows)    changes them in place, in the rows of one source's scored clips, in the order of time

A row may then hold `across`, whatever `settle` wants to know of the clip: it pickles to at most `MAX_ACROSS_BYTES`, and is thrown away
afterwards. Rows of clips that could not be scored hold none. Of a source with very many clips, or one scanned in parts, `settle` is given
one stretch after another, never one of fewer than `SETTLED_TOGETHER` clips unless the source or the part has no more. It must depend on
nothing but the rows.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pyarrow as pa

from curate.errors import ConfigError, ScorerError
from curate.samples import ClipSamples, Wants

if TYPE_CHECKING:
    from curate.models import Models

Score = Callable[[Sequence[ClipSamples]], list[dict[str, Any]]]

ACROSS = "across"
MAX_ACROSS_BYTES = 65536
SETTLED_TOGETHER = 256
"""Clips whose rows are settled together: with twice as many waiting, their evidence stays under 32 MiB."""


@dataclass(frozen=True, slots=True)
class Column:
    """Arrow type, unit and meaning of one column. `low` and `high` bound every valid value; None is unbounded.

    `large` columns (embeddings) are stored in a file of their own and stay out of the table that people open.
    """

    type: pa.DataType
    unit: str
    doc: str
    low: float | None = None
    high: float | None = None
    large: bool = False


class ScorerLike(Protocol):
    """What the pass and the manifest ask of a scorer; the module's docstring says what each member is."""

    version: ClassVar[int]

    @property
    def columns(self) -> dict[str, Column]: ...

    @property
    def samples(self) -> Wants: ...

    def open(self, models: "Models") -> Score: ...


def load(name: str) -> type:
    """The `Scorer` class of a scorer: a bare name is a module of this package, a dotted one the user's own module.

    Raises `ConfigError` that lists the names there are.
    """
    module = name if "." in name else f"{__name__}.{name}"
    try:
        return importlib.import_module(module).Scorer
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
            raise ConfigError(f"scorer {name!r} needs the package {error.name!r}, which is not installed") from error
        raise ConfigError(f"no scorer {name!r}; there are: {', '.join(names())}, or a dotted path to your own module") from error
    except AttributeError as error:
        raise ConfigError(f"module {module!r} has no class `Scorer`, so it is not a scorer") from error


def names() -> list[str]:
    """Names of the scorers that come with the package, sorted."""
    return sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))


def check_rows(name: str, columns: dict[str, Column], num_clips: int, rows: list[dict[str, Any]]) -> None:
    """Holds what a scorer returned against what it declares; raises `ScorerError` naming scorer, column and value."""
    if len(rows) != num_clips:
        raise ScorerError(f"scorer {name}: {num_clips} clips went in, {len(rows)} rows came back")
    for row in rows:
        extra = set(row) - set(columns) - {"faults", ACROSS}
        lacking = set(columns) - set(row)
        if extra or lacking:
            raise ScorerError(f"scorer {name}: undeclared columns {sorted(extra)}, missing columns {sorted(lacking)}")
        for key, column in columns.items():
            value = row[key]
            if value is None or column.large or isinstance(value, (str, list, tuple)):
                continue
            if value != value or (column.low is not None and value < column.low) or (column.high is not None and value > column.high):
                raise ScorerError(f"scorer {name}: {key} = {value!r} lies outside [{column.low}, {column.high}]; missing values are null")
