"""Columns with `crossed` order: together they go through every combination, once.

With cities (3 rows) and tones (2 values) crossed, rows 0 to 5 are the six pairs; with row 6 it
begins again. The columns count like the digits of a number, in the order of their names, and the
last one changes fastest. (In the order of names, because a recipe's columns have no other that
survives being written and read.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol, runtime_checkable

from wordmill.columns.base import Context


@runtime_checkable
class Crossable(Protocol):
    """A column that may be crossed with others."""

    def crossed(self, folder: Path, where: str) -> int | None:
        """How many values it goes through, or None if it is not crossed.

        Raises RecipeError as `prepare` does.
        """


@dataclass(frozen=True, slots=True)
class Crossing:
    """One column's part of the product.

    stride: rows for which it keeps a value.  count: its values.  total: rows of the product.
    """

    stride: int
    count: int
    total: int

    def places(self, rows: Sequence[int]) -> list[int]:
        """Which value each row takes, from 0."""
        stride, count = self.stride, self.count
        return [row // stride % count for row in rows]


def crossing(context: Context) -> Crossing:
    """The part of the column that the context is for."""
    counts: dict[str, int] = {}
    for name in sorted(context.columns):
        column = context.columns[name]
        if isinstance(column, Crossable):
            count = column.crossed(context.folder, f"columns.{name}")
            if count is not None:
                counts[name] = count
    later = [count for name, count in counts.items() if name > context.name]
    return Crossing(prod(later), counts[context.name], prod(counts.values()))
