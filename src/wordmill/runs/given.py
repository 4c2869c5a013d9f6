"""Rows of an earlier run that a new one completes (`--from`).

A value that is whole is taken over with its lineage; a list of pairs in which one failed is not. Of
a column with items (`candidates`, or one that is asked for each of them) the items that were made
stay, and only the others are asked. A column that reads one that was made anew is made anew itself;
a value that is computed here counts as new only if it is another one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from wordmill._engine import Engine
from wordmill.columns.asking import made_items
from wordmill.columns.base import Asker
from wordmill.runs.plan import Step
from wordmill.runs.row import Cell, OpenRow
from wordmill.types import Ask, CellError, Value

KNOWN = CellError("given")
"""Stands for an item's answer that an earlier run has; never seen outside a cell in the making."""


@dataclass(frozen=True, slots=True)
class EarlierRows:
    """Row records, read as windows of rows need them."""

    engine: Engine

    def rows(self, numbers: Sequence[int]) -> Mapping[int, Mapping[str, Value]]:
        """The records of those numbers (ascending), as far as there are any."""
        found = self.engine.rows(numbers[0], numbers[-1] + 1)
        return {number: orjson.loads(record) for number, record in found}


def take_whole(step: Step, row: OpenRow) -> bool:
    """Take over a cell that an earlier run made, if it is whole; whether that was done."""
    given = row.given
    if given is None:
        return False
    name = step.name
    value = given["values"].get(name)
    if step.items:
        return False  # whether it has all of its items is known when they are asked for
    failed = any(place.partition("[")[0] == name for place in given["errors"])
    if value is None or failed or not row.fresh.isdisjoint(step.needs):
        if isinstance(step.maker, Asker):
            row.fresh.add(name)
        return False
    row.values[name] = value
    if name in given["lineage"]:
        row.lineage[name] = given["lineage"][name]
    return True


def note_computed(step: Step, rows: Sequence[OpenRow]) -> None:
    """Mark the cells of a computed column whose values are not those of the earlier run."""
    for row in rows:
        if row.given is not None and row.given["values"].get(step.name) != row.values[step.name]:
            row.fresh.add(step.name)


def take_items(step: Step, row: OpenRow, cell: Cell, asks: Sequence[Ask]) -> list[Ask]:
    """Take over the items that an earlier run made; the questions that are still to be asked."""
    given = row.given
    value = given["values"].get(step.name) if given is not None and step.items else None
    if given is None or not isinstance(value, list):
        row.fresh.add(step.name)
        return list(asks)
    before = made_items(given["values"].get(step.each)) if step.each else []
    lineage = given["lineage"].get(step.name)
    missing: list[Ask] = []
    for ask in asks:
        place = place_of(step, row, ask.item)
        if not _made(step, value, place):
            missing.append(ask)
            continue
        cell.items[ask.item] = KNOWN
        cell.known[ask.item] = place
        cell.left -= 1
        entry = before.index(place) if place in before else ask.item
        if isinstance(lineage, list) and entry < len(lineage):
            cell.lineage[ask.item] = lineage[entry]
    if missing or len(asks) != len(value):
        row.fresh.add(step.name)
    return missing


def merge_items(
    step: Step, row: OpenRow, cell: Cell, value: Value | CellError
) -> Value | CellError:
    """A finished cell with the items that were taken over in their places."""
    if not cell.known or row.given is None:
        return value
    earlier = row.given["values"][step.name]
    if isinstance(value, CellError):  # none of the new ones was made
        return earlier
    merged = list(value)
    for place in cell.known.values():
        merged[place] = earlier[place]
    return merged


def place_of(step: Step, row: OpenRow, item: int) -> int:
    """Where an item stands in the list that the cell becomes."""
    if step.each is None:
        return item
    return made_items(row.values[step.each])[item]


def _made(step: Step, value: list[Value], place: int) -> bool:
    if place >= len(value) or value[place] is None:
        return False
    return step.each is not None or place in made_items(value)
