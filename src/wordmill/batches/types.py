"""What a batch is, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, cast

from sqlalchemy import RowMapping

from wordmill.errors import InvalidInput

State: TypeAlias = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired",
    "cancelling", "cancelled",
]  # fmt: skip
ENDED: Final[tuple[State, ...]] = ("failed", "completed", "expired", "cancelled")

Endpoint: TypeAlias = Literal[
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank"
]
KINDS: Final[Mapping[str, str]] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/rerank": "rerank",
}
"""The kind of request (as providers know it) of each endpoint."""
WORDLESS: Final = ("embeddings", "rerank")
"""Kinds whose answers are numbers."""

BEYOND: Final = ("url", "key", "validate", "post")
"""Options that a batch only has when they were asked for."""

Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class File:
    """A file that somebody sent, or that a batch wrote.

    bytes: how long it is.  digest: SHA-256 of what was sent, "" of what a batch wrote.
    """

    id: str
    owner: str
    name: str
    purpose: str
    bytes: int
    digest: str
    place: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    """Lines of a batch and what became of them; all blocks together.

    total: known when all are validated.  rejected: bad lines, among the failed ones.
    money: as prices are.  seconds: of all requests together.
    """

    total: int = 0
    completed: int = 0
    failed: int = 0
    rejected: int = 0
    cached: int = 0
    retried: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    money: float = 0.0
    seconds: float = 0.0
    causes: Mapping[str, int] = field(default_factory=dict)
    """Failed lines by the kind of error."""
    output_bytes: int = 0
    failure_bytes: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """The sum; `total` stays."""
        causes = dict(self.causes)
        for kind, number in other.causes.items():
            causes[kind] = causes.get(kind, 0) + number
        summed = {
            name: getattr(self, name) + getattr(other, name)
            for name in self.__slots__
            if name not in ("total", "causes")
        }
        return Counts(total=self.total, causes=causes, **summed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """A batch as somebody orders it.

    file: a file's id.  window: seconds until it expires.  priority: 0 to 9, higher goes first.
    budget: ceilings on requests, tokens and money.  once: an idempotency key.
    metadata: up to 16 texts of the client's own.  url: the server of lines that name none, instead
    of a model of the catalog; key: the name of its key.  validate, post: of lines that say nothing
    of these (see `python`).
    """

    file: str
    endpoint: str = "/v1/chat/completions"
    window: float = 86400.0
    dataset: str | None = None
    source: str | None = None
    priority: int = 4
    cache: bool = True
    budget: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    once: str | None = None
    url: str | None = None
    key: str | None = None
    validate: Json | None = None
    post: str | None = None

    def checked(self) -> "Wish":
        """Itself. Raises InvalidInput."""
        if self.endpoint not in KINDS:
            raise InvalidInput(f"endpoint is one of {', '.join(KINDS)}.", "endpoint")
        if not 0 <= self.priority <= 9:
            raise InvalidInput("priority is a whole number from 0 to 9.", "priority")
        if not 60 <= self.window <= 30 * 86400:
            raise InvalidInput(
                "completion_window is from a minute to 30 days.", "completion_window"
            )
        for name in ("dataset", "source", "once"):
            value = getattr(self, name)
            if value is not None and not 1 <= len(value) <= 200:
                raise InvalidInput(f"{name} has 1 to 200 characters.", name)
        if len(self.metadata) > 16 or any(
            len(key) > 64 or len(value) > 512 for key, value in self.metadata.items()
        ):
            raise InvalidInput(
                "metadata has at most 16 entries, names of 64 characters and texts of 512.",
                "metadata",
            )
        if self.url is not None:
            address = self.url.rstrip("/")
            if "@" in address or not 1 <= len(address) <= 150:
                raise InvalidInput(
                    "url is the address of a server, as https://host/v1, without user and "
                    "password, of at most 150 characters.",
                    "url",
                )
        for name, value in self.budget.items():
            if name not in ("requests", "tokens", "money"):
                raise InvalidInput("budget has requests, tokens and money.", "budget")
            if value < 0:
                raise InvalidInput(f"budget.{name} is 0 or more.", "budget")
        return self


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it stands. `times`: when it entered each state, by the state's name."""

    id: str
    owner: str
    file: str
    endpoint: str
    state: State
    dataset: str | None
    source: str | None
    priority: int
    options: Json
    counts: Counts
    errors: tuple[Json, ...]
    times: Mapping[str, float]
    output: str | None
    failures: str | None
    created: datetime
    expires: datetime
    index: str = ""
    """The part of the store that its consumers write to; "" where there are none."""

    @property
    def beyond(self) -> Json:
        """What was asked of it beyond a model of the catalog: url, key, validate, post."""
        return {name: self.options[name] for name in BEYOND if self.options.get(name) is not None}

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in ENDED

    @property
    def kind(self) -> str:
        """The kind of its requests, as providers know it."""
        return KINDS[self.endpoint]


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines of a batch's file. offset, size: bytes.  bad: JSON of the lines not sent."""

    number: int
    offset: int
    size: int
    first: int
    lines: int
    models: Mapping[str, int]
    bad: tuple[Json, ...]
    done: bool
    counts: Counts
    ended: float
    """When its segment was kept, in Unix seconds; 0.0 before."""


def batch_of(row: RowMapping | Json) -> Batch:
    """A row of the table."""
    return Batch(
        id=row["id"], owner=row["owner"], file=row["file"], endpoint=row["endpoint"],
        state=cast(State, row["state"]), dataset=row["dataset"], source=row["source"],
        priority=row["priority"], options=row["options"], counts=Counts(**row["counts"]),
        errors=tuple(row["errors"]), times=row["times"], output=row["output"],
        failures=row["failures"], created=row["created"], expires=row["expires"],
        index=(row.get("plan") or {}).get("index", ""),
    )  # fmt: skip


def block_of(row: RowMapping | Json) -> Block:
    """A row of the table."""
    return Block(
        number=row["number"], offset=row["offset"], size=row["size"], first=row["first"],
        lines=row["lines"], models=row["models"], bad=tuple(row["bad"]), done=row["done"],
        counts=Counts(**row["counts"]),
        ended=0.0 if row["ended"] is None else row["ended"].timestamp(),
    )  # fmt: skip
