"""Columns without a model, filled for some rows, as a run would."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from wordmill.columns.base import Column, Context, Filler
from wordmill.types import CellError, Row, Value

Columns = Mapping[str, Column]


def maker(columns: Columns, name: str, folder: Path = Path(), seed: int = 7) -> Filler:
    """The filler of one of some columns."""
    context = Context(name, seed, None, folder, {"tone": "warm"}, columns)
    made = columns[name].prepare(context)
    assert isinstance(made, Filler)
    return made


def filled(
    columns: Columns,
    rows: Iterable[int] = range(10),
    folder: Path = Path(),
    window: int = 512,
    seed: int = 7,
) -> list[Row]:
    """Rows with all columns, made in windows of so many."""
    made: list[Row] = [{"row": number} for number in rows]
    makers = {name: maker(columns, name, folder, seed) for name in _in_order(columns)}
    for start in range(0, len(made), window):
        part = made[start : start + window]
        for name, filler in makers.items():
            cells = filler.fill(part)
            assert len(cells) == len(part)
            for row, cell in zip(part, cells, strict=True):
                row[name] = cell
    return made


def cells(column: Column, rows: Iterable[int] = range(10), folder: Path = Path()) -> list[Value]:
    """The cells of a column called `cell` that reads no other."""
    return [row["cell"] for row in filled({"cell": column}, rows, folder)]


def cell(column: Column, row: Row, folder: Path = Path()) -> Value | CellError:
    """The cell of a column called `cell` for a row that is there already."""
    (value,) = maker({"cell": column}, "cell", folder).fill([{"row": 0, **row}])
    return value


def _in_order(columns: Columns) -> list[str]:
    done: list[str] = []
    while len(done) < len(columns):
        ready = [
            name
            for name, column in columns.items()
            if name not in done
            and all(need in done or need not in columns for need in column.needs())
        ]
        done += ready
    return done
