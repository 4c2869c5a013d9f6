"""What every index of results can do. It is filled from segments, and can be filled again.

Words are made in one place (`wordmill._engine.words`), so that every index finds the same: a text
is looked for by its words, all of them, whole, and nothing in it is a command.
"""

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal, TypeAlias, get_args

import orjson

from wordmill._engine import texts, words

Json: TypeAlias = Mapping[str, Any]

PERCENTILES: Final = (50, 90, 95, 99)
WORDS: Final = 200
"""Words of a query that count."""
AROUND: Final = 60
"""Characters of an excerpt on each side of a word."""

OPEN: Final = ("", "validating", "in_progress", "finalizing", "cancelling")
"""States of a batch to which lines may still come; "" is one that nobody has told."""

Kind: TypeAlias = Literal["state", "retry", "metrics", "dead", "log"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Whose:
    """A batch, and by what its lines are found beside what is in them.

    index: the part of the store its lines go to; "" for where the store has put it.
    """

    batch: str
    owner: str
    dataset: str | None = None
    source: str | None = None
    index: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a batch and what became of it.

    line: its number, from 1.  status: `ok`, or the kind of its error.  ended: when its block was
    kept (Unix seconds).  seconds: its request's, all attempts.  text: what it is found by.
    block: where its result is.  request: the body that was sent, JSON.  result: its line of the
    segment, without the newline.
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
    text: str
    block: int
    request: str = ""
    result: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose results are looked at: one batch, or all of a person's that have these labels.

    batches: their ids, the newest first; only a store asks that does not know them itself.
    """

    owner: str
    batch: str | None = None
    dataset: str | None = None
    source: str | None = None
    batches: Iterable[str] = ()


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

    def words(self) -> list[str]:
        """The words of its text, each once."""
        found = words(self.text.encode("utf-8", "replace").decode()).split(" ")
        return [one for one in dict.fromkeys(found) if one][:WORDS]


@dataclass(frozen=True, slots=True)
class Hit:
    """A line that was found.

    excerpt: what stands around the words, they between ⟦ and ⟧; None from a store that does not
    keep texts.
    """

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
    excerpt: str | None = None


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


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a batch.

    at: Unix seconds.  kind: `state` (it entered another), `retry` (requests were sent again, with
    the causes), `metrics` (how it stands, some times a minute), `dead` (a block was given up),
    `log`.  source: who says so.  cursor: where it stands among the others, once it is kept.
    """

    at: float
    kind: Kind
    source: str
    message: str
    detail: Json = field(default_factory=dict)
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a store: an index of Elasticsearch, or a file. open: new batches go there."""

    name: str
    documents: int
    bytes: int
    open: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How a store stands. trouble: what is wrong with it, a sentence; "" where nothing is."""

    kind: str
    parts: Sequence[Part]
    trouble: str = ""


class Store(ABC):
    """An index of results and of events, by batch. Safe from any thread. Raises StorageError.

    fed: whoever answers lines writes them here himself, as they come.  shared: it is one for all
    batches and knows them, so that it does not ask a Scope which there are.
    """

    fed: bool = False
    shared: bool = False

    @abstractmethod
    def open(self) -> None:
        """Make what has to be there. Harmless when repeated; done by itself at the first use."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections."""

    @abstractmethod
    def place(self, whose: Whose) -> str:
        """The part that a batch's lines go to, now and later; "" where there are no parts."""

    @abstractmethod
    def describe(self, whose: Whose, state: str, facts: Json) -> None:
        """How a batch stands and what it is, without secrets; over what was said before."""

    @abstractmethod
    def add(self, whose: Whose, block: int, entries: Sequence[Entry]) -> None:
        """The lines of a block; one that is here stays as it is."""

    @abstractmethod
    def count(self, owner: str, batch: str) -> int:
        """Lines of a batch that are here: all that were written before this was asked."""

    @abstractmethod
    def blocks(self, owner: str, batch: str) -> Mapping[int, int]:
        """How many lines of each block of a batch are here."""

    @abstractmethod
    def search(
        self, scope: Scope, query: Query, *, after: tuple[str, int] | None = None, limit: int = 50
    ) -> list[Hit]:
        """Lines that fit: the newest batch first, in each the first line first.

        after: batch and line of the last one seen.
        """

    @abstractmethod
    def whole(self, owner: str, batch: str, line: int) -> tuple[str, str] | None:
        """Request and result of a line, as Entry has them; None where they are not kept here."""

    @abstractmethod
    def statistics(self, owner: str, batch: str) -> Statistics:
        """All lines of a batch together."""

    @abstractmethod
    def series(self, owner: str, batch: str, points: int = 60) -> list[Point]:
        """The same over time, in at most so many stretches of equal length."""

    @abstractmethod
    def note(self, whose: Whose, events: Sequence[Event]) -> None:
        """What happened to a batch."""

    @abstractmethod
    def events(
        self,
        owner: str,
        batch: str,
        *,
        after: str = "",
        limit: int = 100,
        kinds: Sequence[Kind] = (),
        newest: bool = False,
    ) -> list[Event]:
        """What happened, in order. after: the cursor of the last one seen.  kinds: none for all.

        newest: the last ones of all, instead of the first after the cursor.
        """

    @abstractmethod
    def forgotten(self, batch: str) -> bool:
        """Whether a batch's lines were let go by `retain`, so that they are not missing."""

    @abstractmethod
    def remember(self, batch: str) -> None:
        """They are wanted again."""

    @abstractmethod
    def retain(self, before: float | None, documents: int | None) -> list[str]:
        """Let go what is older than `before` (Unix seconds), and the oldest beyond so many lines.

        Whole parts go, and none that new batches go to; the names of those that went.
        """

    @abstractmethod
    def roll(self) -> list[str]:
        """Begin new parts where the open ones are large or old; their names."""

    @abstractmethod
    def standing(self) -> Standing:
        """How it stands."""

    @abstractmethod
    def remove(self, batch: str) -> None:
        """Forget a batch, and what happened to it."""


def text_of(request: bytes, result: Json) -> str:
    """What a line is found by: the texts of its request, and of its answer or its error.

    request: the body that was sent, JSON.  result: its line of the segment.
    """
    error = result["error"]
    answered = error["message"] if error else result["response"]["body"]
    return texts(request) + "\n" + texts(orjson.dumps(answered))


def excerpt(text: str, wanted: Sequence[str]) -> str:
    """What stands around the first of the words, with all of them between ⟦ and ⟧."""
    flat = " ".join(text.split())
    if not wanted:
        return flat[: 2 * AROUND]
    looked_for = set(wanted)
    start, end, shown, last = 0, 3 * AROUND, "", 0
    found = False
    for run in _runs().finditer(flat):
        if found and run.end() > end:
            break
        if looked_for.isdisjoint(words(run[0]).split(" ")):
            continue
        if not found:
            found = True
            start = last = max(0, run.start() - AROUND)
            end = start + 3 * AROUND
        shown += f"{flat[last : run.start()]}⟦{run[0]}⟧"
        last = run.end()
    shown += flat[last : max(last, end)]
    return ("…" if start else "") + shown + ("…" if max(last, end) < len(flat) else "")


@cache
def _runs() -> re.Pattern[str]:
    """What may be a word as it is written."""
    letters = map(chr, range(0x300, 0x1100))
    marks = "".join(one for one in letters if unicodedata.category(one).startswith("M"))
    alone = "\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
    return re.compile(f"[{alone}]|[^\\W_{alone}](?:[^\\W_{alone}]|[{marks}])*")


def stretch(first: int, last: int, points: int) -> int:
    """The length of each of at most so many stretches of a time; all in milliseconds."""
    return max(1000, (last - first) // points + 1)
