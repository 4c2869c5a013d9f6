"""Parquet: the tables of the dataset, kept rows only, each in one file.

The types and their marks for JSON text are those of the dataset.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wordmill.exports.base import (
    TURNED_DOWN,
    Export,
    Source,
    Target,
    Written,
    checked_file,
)
from wordmill.exports.tables import TableOptions, differs

if TYPE_CHECKING:
    import pyarrow as pa

GROUP: Final = 16_384
"""Rows of a row group."""


class Parquet(Export[TableOptions]):
    """Parquet, zstd."""

    name = "parquet"
    ending = ".parquet"
    options = TableOptions

    def fill(self, dataset: Source, target: Target, options: TableOptions) -> Written:
        """One file a table; the rows that were turned down go from all of them."""
        columns = options.chosen(dataset)
        dropped = [] if options.everything else _turned_down(dataset)
        paths = {name: target.file(name) for name in dataset.tables}
        rows = {
            name: _write(path, dataset, name, columns if name == dataset.main else None, dropped)
            for name, path in paths.items()
        }
        skipped = {TURNED_DOWN: len(dropped)} if dropped else {}
        return Written(rows[dataset.main], skipped, tuple(paths.values()))


def _turned_down(dataset: Source) -> list[int]:
    import pyarrow.compute as pc

    dropped: list[int] = []
    for batch in dataset.tables[dataset.main].arrow(["row", "kept"]):
        down = pc.equal(batch["kept"], False)  # null where the recipe has no `keep`
        dropped += batch["row"].filter(down).to_pylist()
    return dropped


def _write(
    path: Path, dataset: Source, name: str, columns: list[str] | None, dropped: list[int]
) -> int:
    """Write a table, those columns or all; how many rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = dataset.tables[name]
    whole = table.schema()
    names = columns or whole.names
    schema = pa.schema([whole.field(column) for column in names])
    rows = 0

    def check(part: Path) -> None:
        with pq.ParquetFile(part) as file:
            found, same = file.metadata.num_rows, file.schema_arrow.equals(schema)
        if found != rows or not same:
            raise differs(part, rows, f"{found:,} are there")

    with (
        checked_file(path, check) as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for batch in _kept(table.arrow(size=GROUP), dropped):
            writer.write_batch(batch.select(names))
            rows += len(batch)
    return rows


def _kept(batches: "Iterator[pa.RecordBatch]", dropped: list[int]) -> "Iterator[pa.RecordBatch]":
    """The batches without the rows of `dropped`; both are in row order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for batch in batches:
        rows = batch["row"]
        low = bisect_left(dropped, rows[0].as_py())
        here = dropped[low : bisect_right(dropped, rows[-1].as_py())]
        if here:
            batch = batch.filter(pc.invert(pc.is_in(rows, pa.array(here, pa.int64()))))
        yield batch
