"""What every index of results can do. It is filled from segments, and can be filled again."""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Json = Mapping[str, Any]

WORD: Final = re.compile(r"[^\W_]+")
"""A word of a text that is looked for."""
PERCENTILES: Final = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a batch and what became of it.

    line: its number, from 1.  status: `ok`, or the kind of its error.  ended: when its block was
    kept (Unix seconds).  seconds: its request's, all attempts.  asked, answered: texts to be found
    by.  block: where its result is.
    """

    line: int
    custom_id: str
    status: str
    model: str
    ended: float
    seconds: float
    input_tokens: int
    output_tokens: int
    money: float
    attempts: int
    cached: bool
    asked: str
    answered: str
    block: int


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for. All that is given must hold.

    text: words that stand in the request or the answer.  since, until: Unix seconds.
    """

    text: str = ""
    status: str | None = None
    failed: bool | None = None
    model: str | None = None
    custom_id: str | None = None
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A line that was found. excerpt: what stands around the words, they between ⟦ and ⟧."""

    batch: str
    line: int
    custom_id: str
    status: str
    model: str
    ended: float
    seconds: float
    attempts: int
    cached: bool
    block: int
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Lines together. latency: seconds by percentile, of requests that were really sent."""

    lines: int = 0
    completed: int = 0
    failed: int = 0
    cached: int = 0
    retried: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    money: float = 0.0
    latency: Mapping[int, float] = field(default_factory=dict)
    causes: Mapping[str, int] = field(default_factory=dict)
    models: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Point:
    """What ended in a stretch of time that begins `at` (Unix seconds)."""

    at: float
    completed: int
    failed: int
    input_tokens: int
    output_tokens: int
    money: float
    p50: float
    p95: float


class Store(ABC):
    """An index of results, by batch. Safe from any thread. Raises StorageError."""

    @abstractmethod
    def add(self, batch: str, block: int, entries: Sequence[Entry]) -> None:
        """The lines of a block; one that is here stays as it is."""

    @abstractmethod
    def blocks(self, batch: str) -> Collection[int]:
        """The blocks of a batch that are here."""

    @abstractmethod
    def search(self, batch: str, query: Query, *, after: int = 0, limit: int = 50) -> list[Hit]:
        """Lines that fit, in order. after: the number of the last one seen."""

    @abstractmethod
    def statistics(self, batch: str) -> Statistics:
        """All lines of a batch together."""

    @abstractmethod
    def series(self, batch: str, points: int = 60) -> list[Point]:
        """The same over time, in at most so many stretches of equal length."""

    @abstractmethod
    def remove(self, batch: str) -> None:
        """Forget a batch."""
