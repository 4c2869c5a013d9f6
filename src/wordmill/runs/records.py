"""The stored rows of a run, a page at a time."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from wordmill._engine import Engine
from wordmill.columns.base import KEEP
from wordmill.types import Value

_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Page:
    """records: of the page, in row order.  total: rows that could be shown."""

    records: list[Mapping[str, Value]]
    total: int


def page(
    engine: Engine, number: int, size: int, *, row: int | None = None, failed: bool = False
) -> Page:
    """One page of the rows, counted from 1; or the one row of a number.

    failed: only rows in which a cell or an item failed.
    """
    if row is not None:
        records = [orjson.loads(text) for _, text in engine.rows(row, row + 1)]
        return Page(records, len(engine.row_numbers()))
    numbers = engine.row_numbers()
    if failed:
        numbers = [one for one, record in _all(engine, numbers) if _failed(record)]
    shown = numbers[(number - 1) * size : number * size]
    return Page([record for one in shown for record in _one(engine, one)], len(numbers))


def following(engine: Engine, after: int, size: int, *, failed: bool = False) -> Page:
    """The rows whose number is above `after` (-1 for the first), at most `size`.

    failed: only rows in which a cell or an item failed. `total` is then of all rows all the same.
    """
    numbers = engine.row_numbers()
    later = numbers[bisect_right(numbers, after) :]
    found: list[Mapping[str, Value]] = []
    for _, record in _all(engine, later):
        if not failed or _failed(record):
            found.append(record)
            if len(found) == size:
                break
    return Page(found, len(numbers))


def _one(engine: Engine, number: int) -> Iterator[Mapping[str, Value]]:
    for _, text in engine.rows(number, number + 1):
        yield orjson.loads(text)


def _all(engine: Engine, numbers: Sequence[int]) -> Iterator[tuple[int, Mapping[str, Value]]]:
    if not numbers:
        return
    for low in range(numbers[0], numbers[-1] + 1, _BLOCK):
        for number, text in engine.rows(low, low + _BLOCK):
            yield number, orjson.loads(text)


def _failed(record: Mapping[str, Value]) -> bool:
    return bool(record["errors"].keys() - {KEEP})
