"""What the exports of whole tables share: their options, and writing row by row."""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydantic import Field

from wordmill.errors import ExportError
from wordmill.exports.base import (
    Counted,
    Export,
    Options,
    Source,
    Target,
    Written,
    checked_file,
    kept,
)
from wordmill.types import Row


class TableOptions(Options):
    """Options of the exports that write whole tables."""

    columns: str = Field("", description="columns of the main table, by comma; all if not given")
    lineage: bool = Field(True, description="also the column that says who made each cell")

    def chosen(self, dataset: Source) -> list[str]:
        """Columns of the main table to write, in order. Raises ExportError for unknown ones."""
        names: list[str] = dataset.tables[dataset.main].schema().names
        asked = [name.strip() for name in self.columns.split(",") if name.strip()]
        for name in asked:
            if name not in names:
                raise ExportError(
                    f"There is no column {name!r} in {dataset.main!r}; it has {', '.join(names)}."
                )
        return asked or [name for name in names if self.lineage or name != "lineage"]


T = TypeVar("T", bound=TableOptions)


class RowByRow(Export[T]):
    """One file a table, one row after the other."""

    @abstractmethod
    def begin(self, file: BinaryIO, columns: list[str], options: T) -> Callable[[Row], None]:
        """Write what comes before the first row; what is returned writes a row."""

    @abstractmethod
    def fitting(self, file: BinaryIO, columns: list[str]) -> int:
        """Read a file back: how many of its rows hold these columns."""

    def fill(self, dataset: Source, target: Target, options: T) -> Written:
        """Write all tables in one walk over the dataset."""
        counted = Counted()
        columns = {name: table.schema().names for name, table in dataset.tables.items()}
        columns[dataset.main] = options.chosen(dataset)
        paths = {name: target.file(name) for name in columns}
        rows = dict.fromkeys(columns, 0)
        with ExitStack() as files:
            write = {
                name: self.begin(
                    files.enter_context(checked_file(path, self._checking(name, rows, columns))),
                    columns[name],
                    options,
                )
                for name, path in paths.items()
            }
            for row, linked in kept(dataset, options, counted):
                write[dataset.main](row)
                rows[dataset.main] += 1
                for name, items in linked.items():
                    for item in items:
                        write[name](item)
                    rows[name] += len(items)
        return Written(rows[dataset.main], counted.skipped, tuple(paths.values()))

    def _checking(
        self, name: str, rows: dict[str, int], columns: dict[str, list[str]]
    ) -> Callable[[Path], None]:
        def check(path: Path) -> None:
            with path.open("rb") as file:
                found = self.fitting(file, columns[name])
            if found != rows[name]:
                raise differs(path, rows[name], f"{found:,} hold its columns")

        return check


def differs(path: Path, rows: int, found: str) -> ExportError:
    """The error of a file that does not read back as it was written."""
    name = path.name.removeprefix(".").rpartition(".")[0].rpartition(".")[0]
    return ExportError(
        f"{name} does not read back: {rows:,} rows were written, and {found}. Nothing was left "
        "behind; please report this with the dataset's run.json."
    )
