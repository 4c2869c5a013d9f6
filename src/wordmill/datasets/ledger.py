"""What a writer counts while rows go by: what was kept, what failed and why, what it cost.

A failure is counted once a cell, or once an item of a linked table. Its cause is the word before
the colon of its sentence, so that causes can be added up.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from wordmill.columns.base import KEEP
from wordmill.types import Value

Record = dict[str, Any]
"""A row record as the run stores it: row, values, errors, kept, lineage, found."""

SHOWN: Final = 10
"""Rows that the report shows in full."""

LONGEST: Final = 20_000
"""Characters of a text that the report shows."""


@dataclass(slots=True)
class Cost:
    """What the cells (or items) of one column took from one model.

    asked: requests, those asked again included.  attempts: sendings, retries included.
    """

    cells: int = 0
    asked: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    money: float = 0.0
    cached: int = 0
    joined: int = 0
    fallback: int = 0


@dataclass
class Ledger:
    """Counts over all rows of a dataset.

    turned_down: by the recipe's `keep`; unsure: rows that it could not judge.
    turned_down_whole, unsure_whole: those of them in which nothing failed.
    """

    seed: int
    rehearsal: frozenset[str]
    rows: int = 0
    turned_down: int = 0
    turned_down_whole: int = 0
    unsure: int = 0
    unsure_whole: int = 0
    failed_rows: int = 0
    failed: int = 0
    rehearsed_rows: int = 0
    causes: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    found: Counter[str] = field(default_factory=Counter)
    costs: defaultdict[tuple[str, str], Cost] = field(default_factory=lambda: defaultdict(Cost))
    shown: dict[int, Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311  (rows to look at, no secret)

    def take(self, records: Sequence[Record], failures: Sequence[Mapping[str, str]]) -> None:
        """Count the next rows; failures: for each row, what failed (`column` or `column[item]`)."""
        self.rows += len(records)
        for record, failure in zip(records, failures, strict=True):
            if KEEP in (record.get("errors") or ()):
                self.unsure += 1
                self.unsure_whole += not failure
            elif record.get("kept") is False:
                self.turned_down += 1
                self.turned_down_whole += not failure
        for failure in filter(None, failures):
            self.failed_rows += 1
            self.failed += len(failure)
            for place, words in failure.items():
                self._fail(place.partition("[")[0], words)
        for found in filter(None, [record.get("found") for record in records]):
            self.found.update(found)
        self._cost([record.get("lineage") or {} for record in records])
        self._show(records, failures)

    def _fail(self, column: str, words: str) -> None:
        cause = words.partition(":")[0]
        self.causes[column][cause] += 1
        self.examples.setdefault((column, cause), words)

    def _cost(self, lineages: Sequence[Mapping[str, Value]]) -> None:
        rehearsed: set[int] = set()
        for column in set().union(*lineages):
            cells = [lineage.get(column) for lineage in lineages]
            several = [cell for cell in cells if type(cell) is list]
            flat = [cell for cell in cells if type(cell) is dict]
            flat += [item for cell in several for item in cell if item]
            models = {cell["model"] for cell in flat}
            for model in sorted(models):
                ours = flat if len(models) == 1 else [c for c in flat if c["model"] == model]
                self._add(self.costs[column, model], ours)
            if not models.isdisjoint(self.rehearsal):
                rehearsed.update(n for n, cell in enumerate(cells) if self._is_rehearsed(cell))
        self.rehearsed_rows += len(rehearsed)

    def _is_rehearsed(self, cell: Value) -> bool:
        return any(item and item["model"] in self.rehearsal for item in items_of(cell))

    @staticmethod
    def _add(cost: Cost, cells: Sequence[Mapping[str, Value]]) -> None:
        cost.cells += len(cells)
        cost.asked += sum([cell.get("asked", 1) for cell in cells])
        cost.attempts += sum([cell.get("attempts", 0) for cell in cells])
        cost.input_tokens += sum([cell.get("input_tokens", 0) for cell in cells])
        cost.output_tokens += sum([cell.get("output_tokens", 0) for cell in cells])
        cost.money += sum([cell.get("cost", 0.0) for cell in cells])
        cost.cached += sum([bool(cell.get("cached")) for cell in cells])
        cost.joined += sum([bool(cell.get("joined")) for cell in cells])
        cost.fallback += sum([bool(cell.get("fallback")) for cell in cells])

    def _show(self, records: Sequence[Record], failures: Sequence[Mapping[str, str]]) -> None:
        """A uniform sample of rows for the report (Knuth's algorithm R), texts shortened."""
        first = self.rows - len(records)
        for n, record in enumerate(records):
            place = len(self.shown)
            if place >= SHOWN:
                place = int(self._random.random() * (first + n + 1))
            if place < SHOWN:
                self.shown[place] = clip(record) | {"errors": dict(failures[n])}

    @property
    def kept(self) -> int:
        """Rows that `keep` keeps; all of them where the recipe has none."""
        return self.rows - self.turned_down - self.unsure

    def shown_rows(self) -> list[Record]:
        """The rows to show in full, in row order."""
        return sorted(self.shown.values(), key=lambda record: record["row"])


def items_of(cell: Value) -> Iterator[Mapping[str, Value] | None]:
    """The lineage of a cell, item by item: one for a plain cell, none where nothing was asked."""
    if isinstance(cell, list):
        yield from cell
    elif cell:
        yield cell


def clip(value: Value) -> Value:
    """The value with texts cut to what a page can show."""
    if isinstance(value, str) and len(value) > LONGEST:
        return f"{value[:LONGEST]} [... {len(value) - LONGEST:,} more characters]"
    if isinstance(value, list):
        return [clip(item) for item in value]
    if isinstance(value, dict):
        return {key: clip(item) for key, item in value.items()}
    return value
