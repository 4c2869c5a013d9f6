"""`seed`: rows of a file, one a row of the dataset.

    person: {type: seed, file: people.csv}
    hello:  {type: template, template: "Hello {{ person.name }}"}

A value is an object with the file's columns. CSV, JSONL and Parquet are read; how, and what is
refused, is in `tables`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from wordmill.columns.base import Column, Context, Filler
from wordmill.columns.crossing import crossing
from wordmill.columns.files import resolve
from wordmill.columns.sampling import Shuffle
from wordmill.columns.tables import SeedTable, open_table
from wordmill.types import CellError, Row, Value

_SHUFFLES = 4  # cycles remembered


class Seed(Column):
    """Rows of a file.

    file: .csv, .tsv, .jsonl or .parquet, relative to the recipe's folder.
    columns: which of the file's columns, or a mapping of new names to the file's; all if not given.
    order: `in_order`; `sampled`, shuffled by the recipe's seed, each row once before any comes
        again; `crossed` with all other crossed columns (see `crossing`).
    repeat: what happens when all are used: `error` fails the cells, `cycle` begins again.
    """

    type: Literal["seed"] = "seed"
    file: str = Field(kw_only=False, min_length=1)
    columns: tuple[str, ...] | dict[str, str] | None = None
    order: Literal["in_order", "sampled", "crossed"] = "in_order"
    repeat: Literal["error", "cycle"] = "error"

    @field_validator("columns")
    @classmethod
    def _some(
        cls, columns: tuple[str, ...] | dict[str, str] | None
    ) -> tuple[str, ...] | dict[str, str] | None:
        if columns is not None and not columns:
            raise ValueError("name at least one column, or leave `columns` out for all")
        return columns

    def needs(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()

    def reads(self) -> tuple[str, ...]:
        """The file."""
        return (self.file,)

    def crossed(self, folder: Path, where: str) -> int | None:
        """Rows of the file, if they are crossed with others."""
        return len(self._table(folder, where)) if self.order == "crossed" else None

    def prepare(self, context: Context) -> Filler:
        """The maker. Reads the file once, from end to end, and refuses what is wrong in it."""
        table = self._table(context.folder, f"columns.{context.name}")
        cycle = self.repeat == "cycle"
        if self.order == "crossed":
            part = crossing(context)
            return _Rows(table, part.places, part.total, cycle)
        if self.order == "sampled":
            return _Rows(table, _Shuffled(context, len(table)).places, len(table), cycle)
        count = len(table)
        return _Rows(table, lambda rows: [row % count for row in rows], count, cycle)

    def _table(self, folder: Path, where: str) -> SeedTable:
        names = self.columns
        picked = {name: name for name in names} if isinstance(names, tuple) else names
        return open_table(resolve(folder, self.file, f"{where}.file"), picked, where)

    def value_schema(self) -> Mapping[str, Any]:
        """An object; of texts, where it is known that the file has nothing else."""
        if self.columns is None:
            return {}
        text = {"type": "string"} if self.file.lower().endswith((".csv", ".tsv")) else {}
        return {"type": "object", "properties": dict.fromkeys(self.columns, text)}


class _Shuffled:
    """Places in shuffled cycles: each cycle is another permutation of all rows."""

    def __init__(self, context: Context, count: int) -> None:
        self._seed, self._name, self._count = context.seed, context.name, count
        self._cycles: dict[int, Shuffle] = {}

    def places(self, rows: Sequence[int]) -> list[int]:
        """Which of the file's rows each row takes."""
        return [self._cycle(row // self._count)[row % self._count] for row in rows]

    def _cycle(self, number: int) -> Shuffle:
        shuffle = self._cycles.get(number)
        if shuffle is None:
            while len(self._cycles) >= _SHUFFLES:
                self._cycles.pop(next(iter(self._cycles)), None)
            shuffle = Shuffle(self._count, self._seed, self._name, number)
            self._cycles[number] = shuffle
        return shuffle


class _Rows(Filler):
    def __init__(
        self,
        table: SeedTable,
        places: Callable[[Sequence[int]], list[int]],
        total: int,
        cycle: bool,
    ) -> None:
        self._table, self._places, self._total, self._cycle = table, places, total, cycle

    def fill(self, rows: Sequence[Row]) -> list[Value | CellError]:
        """An object a row."""
        numbers = [row["row"] for row in rows]
        total = self._total
        if self._cycle or all(number < total for number in numbers):
            return self._read(self._places(numbers))
        inside = self._places([number for number in numbers if number < total])
        values = iter(self._read(inside))
        return [next(values) if number < total else self._used_up() for number in numbers]

    def shortage(self, rows: int) -> str:
        """More rows than the file has, or than its crossing."""
        total = self._total
        if self._cycle or rows <= total:
            return ""
        of = "" if total == len(self._table) else ", crossed,"
        return (
            f"{self._table.name}{of} has {total:,} row{'s' if total > 1 else ''}, and {rows:,} are "
            f"asked for: ask for "
            f"{total:,} at most (`--rows {total}`), or write `repeat: cycle`."
        )

    def _read(self, places: list[int]) -> list[Value | CellError]:
        if not places:
            return []
        values = self._table.read(places)
        return [values] * len(places) if isinstance(values, CellError) else values

    def _used_up(self) -> CellError:
        return CellError(
            "seed",
            f"{self._table.name} is used up after {self._total:,} rows; ask for fewer rows, or "
            "write `repeat: cycle`",
        )
