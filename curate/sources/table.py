"""Sources as columns: a listing of a million takes a few hundred megabytes that way, and a multiple of it as objects."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, overload

from curate.sources.source import Source

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FIELDS = ("key", "url", "size_bytes", "etag", "mtime_ns", "caption")
BLOCK_ROWS = 10_000


class SourceTable(Sequence[Source]):
    """A sequence of sources; each is made when it is asked for. `table` has the columns `FIELDS`, text and int64."""

    def __init__(self, table: "pa.Table") -> None:
        self.table = table

    @classmethod
    def of(cls, sources: Iterable[Source]) -> "SourceTable":
        if isinstance(sources, SourceTable):
            return sources
        rows = SourceRows()
        for source in sources:
            rows.add(source)
        return rows.table()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, place: int) -> Source: ...
    @overload
    def __getitem__(self, place: slice) -> "SourceTable": ...
    def __getitem__(self, place: int | slice) -> "Source | SourceTable":
        if isinstance(place, slice):
            first, last, step = place.indices(len(self))
            if step != 1:
                raise ValueError(f"a step of {step}: only neighbouring sources can be taken at once")
            return SourceTable(self.table.slice(first, max(0, last - first)))
        row = range(len(self))[place]
        return next(iter(SourceTable(self.table.slice(row, 1))))

    def __iter__(self) -> Iterator[Source]:
        for first in range(0, len(self), BLOCK_ROWS):
            block = self.table.slice(first, BLOCK_ROWS)
            for row in zip(*(block[name].to_pylist() for name in FIELDS), strict=True):
                yield Source(*row)

    def keys(self) -> Iterator[str]:
        """As `iter`, but only the keys."""
        for first in range(0, len(self), BLOCK_ROWS):
            yield from self.table["key"].slice(first, BLOCK_ROWS).to_pylist()

    def take(self, places: "Sequence[int] | np.ndarray") -> "SourceTable":
        """The sources at these places, in this order."""
        import pyarrow as pa

        return SourceTable(self.table.take(pa.array(places, pa.int64())))

    def by_key(self) -> "SourceTable":
        """Sorted by key. UTF-8 sorts as its characters do, so the order is that of `sorted`."""
        import pyarrow.compute as pc

        keys = self.table["key"]
        if len(self) < 2 or pc.all(pc.less_equal(keys.slice(0, len(self) - 1), keys.slice(1))).as_py():
            return self
        return SourceTable(self.table.take(pc.sort_indices(self.table, [("key", "ascending")])))

    def with_captions(self, captions: "pa.ChunkedArray") -> "SourceTable":
        return SourceTable(self.table.set_column(len(FIELDS) - 1, "caption", captions))


class SourceRows:
    """Collects sources; what it holds of a block of them are its columns."""

    def __init__(self) -> None:
        self._rows: list[Source] = []
        self._blocks: list[pa.Table] = []

    def add(self, source: Source) -> None:
        self._rows.append(source)
        if len(self._rows) == BLOCK_ROWS:
            self._pack()

    def __len__(self) -> int:
        return sum(map(len, self._blocks)) + len(self._rows)

    def table(self) -> SourceTable:
        """All of them in the order they came."""
        import pyarrow as pa

        self._pack()
        return SourceTable(pa.concat_tables(self._blocks))

    def _pack(self) -> None:
        import pyarrow as pa

        types = {"size_bytes": pa.int64(), "mtime_ns": pa.int64()}
        names = {name: pa.array([getattr(row, name) for row in self._rows], types.get(name, pa.string())) for name in FIELDS}
        self._blocks.append(pa.table(names))
        self._rows = []
