"""A few rows in full, before a run: nothing is kept but what the cache keeps anyway."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from wordmill.runs.execute import Executor
from wordmill.runs.meter import Meter, Reading
from wordmill.runs.outbox import Outbox
from wordmill.runs.session import End, Session
from wordmill.runs.sitting import Job, start_engine
from wordmill.settings import Settings
from wordmill.types import Ask, Value

LIMIT: Final = 1000
"""Rows of a preview, at most: they are held in memory."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One question as it was asked. column, item: of which cell."""

    row: int
    column: str
    item: int
    tries: int
    model: str
    messages: tuple[tuple[str, str], ...]
    parameters: Mapping[str, Value]
    schema: str | None


@dataclass(frozen=True, slots=True)
class Preview:
    """The rows, and why there are fewer than asked for, if there are."""

    records: list[Mapping[str, Value]]
    sent: list[Sent]
    end: End
    reading: Reading


@dataclass(slots=True)
class _Shelf:
    """Keeps rows in memory."""

    records: dict[int, Mapping[str, Value]] = field(default_factory=dict)
    ended: int = 0

    def keep(self, numbers: list[int], records: list[bytes]) -> None:
        self.ended += len(numbers)
        self.records.update(zip(numbers, map(orjson.loads, records), strict=True))

    def write_ready(self) -> None:
        return


class _Listening(Outbox):
    """An outbox that remembers what went through it."""

    def __init__(self, *args: object, names: tuple[str, ...]) -> None:
        super().__init__(*args)  # type: ignore[arg-type]  # handed on as they came
        self.names, self.sent = names, list[Sent]()

    def add(self, number: int, ask: Ask) -> None:
        super().add(number, ask)
        self.sent.append(_sent(number, ask, self.names))
