"""A row while it is made, and the record that remains of it.

The record is what `datasets` reads (see `datasets.ledger.Record`), as JSON:

    {"row": n, "values": {column: value}, "errors": {column: words}, "kept": true|false|null,
     "lineage": {column: {...} or [{...} or null, ...]}, "found": {cause: n}}

`errors` also has `column[place]` for an item that failed in a cell that did not, and
`columns.base.KEEP`.
"""

from collections.abc import Mapping

import orjson

from wordmill.types import Answer, Ask, CellError, Reply, Row, Value

WIRE = frozenset({
    "throttled", "timeout", "overloaded", "connect", "server_error", "dropped", "cut",
    "invalid_json", "rejected", "too_large", "unauthorized", "payment", "unknown_model",
})  # fmt: skip
"""Causes that asking again another day may cure."""


class Cell:
    """A cell of several items in the making.

    items: None where the answer is missing.  lineage: one entry an item.
    known: by item, where an earlier run's value has its answer (`given`).
    """

    __slots__ = ("items", "known", "left", "lineage")

    def __init__(self, count: int) -> None:
        self.items: list[Answer | CellError | None] = [None] * count
        self.lineage: list[dict[str, Value] | None] = [None] * count
        self.known: dict[int, int] = {}
        self.left = count


class OpenRow:
    """A row in the making.

    waits: for each column, how many late columns it still waits for.
    left: late columns without an end.  begun: an answer has come.
    given: its record of an earlier run.  fresh: columns that are made although there is one.
    """

    __slots__ = (
        "begun", "cells", "errors", "found", "fresh", "given", "left", "lineage", "number",
        "values", "waits",
    )  # fmt: skip

    def __init__(self, number: int, waits: list[int], left: int) -> None:
        self.number, self.waits, self.left = number, waits, left
        self.values: Row = {"row": number}
        self.errors: dict[str, CellError] = {}
        self.lineage: dict[str, Value] = {}
        self.cells: dict[int, Cell] = {}
        self.found: dict[str, int] = {}
        self.given: Mapping[str, Value] | None = None
        self.fresh: set[str] = set()
        self.begun = False

    def find(self, cause: str) -> None:
        """Count a fault that a check saw."""
        self.found[cause] = self.found.get(cause, 0) + 1

    def record(self, kept: bool | None) -> bytes:
        """The record of the finished row."""
        try:
            return self._record(kept)
        except TypeError:
            # A function of the recipe's own gave something that is no JSON.
            for name, value in self.values.items():
                if fault := _no_json(value):
                    self.values[name] = None
                    self.errors[name] = CellError("json", fault)
            return self._record(kept)

    def _record(self, kept: bool | None) -> bytes:
        values = {name: value for name, value in self.values.items() if name != "row"}
        return orjson.dumps(
            {
                "row": self.number,
                "errors": {name: str(error) for name, error in self.errors.items()},
                "values": values,
                "kept": kept,
                "lineage": self.lineage,
                "found": self.found,
            }
        )


def _no_json(value: Value) -> str:
    """Why a value is no JSON; "" if it is."""
    try:
        orjson.dumps(value)
    except TypeError as error:
        return str(error)
    return ""


def traced(entry: dict[str, Value] | None, ask: Ask, reply: Reply) -> dict[str, Value]:
    """The lineage of an item after one more reply: sums, and what is true of the last request."""
    usage = reply.usage
    if entry is None:
        return {
            "model": reply.model,
            "digest": reply.digest,
            "attempts": reply.attempts,
            "input_tokens": usage.input,
            "output_tokens": usage.output,
            "cost": reply.cost,
            "cached": reply.cached,
            "joined": reply.joined,
            "fallback": reply.model != ask.shape.model,
            "asked": 1,
        }
    entry["model"], entry["digest"] = reply.model, reply.digest
    entry["attempts"] += reply.attempts
    entry["input_tokens"] += usage.input
    entry["output_tokens"] += usage.output
    entry["cost"] += reply.cost
    entry["cached"], entry["joined"] = reply.cached, reply.joined
    entry["fallback"] = reply.model != ask.shape.model
    entry["asked"] += 1
    return entry


def failed_on_the_wire(record: bytes) -> bool:
    """Whether a row record has a cell that asking again may cure."""
    # `errors` comes second, so most records are known at a glance.
    if record.startswith(b'"errors":{}', record.index(b",") + 1):
        return False
    errors = orjson.loads(record)["errors"]
    return any(words.partition(":")[0] in WIRE for words in errors.values())
