"""The values that the parts hand to each other: frozen where they can be, and no I/O.

A `Row` is a plain dict of column name to value, because templates read it as it is; its
number stands under `"row"` and counts from 0. A cell that could not be made holds None in
the row and a `CellError` in the row's lineage.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

Value: TypeAlias = Any
"""What JSON can say: None, bool, int, float, str, list, dict with str keys."""

Row: TypeAlias = dict[str, Value]

Role: TypeAlias = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    """One message of a request. `text` None marks a slot that each request fills."""

    role: Role
    text: str | None


@dataclass(frozen=True, slots=True)
class CellError:
    """Why a cell has no value.

    cause: a stable word for counting: `truncated`, `schema`, `choice`, `refused`, `empty`,
        `template`, `needs` (a column it reads failed), `python`, or the engine's error kinds
        (see `_engine.pyi`).
    detail: the rest of the sentence, with the value; may be empty.
    """

    cause: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.cause}: {self.detail}" if self.detail else self.cause


@dataclass(frozen=True, slots=True)
class RequestShape:
    """What all the requests of one kind have in common; the engine gets it once.

    model: a name of the catalog.
    messages: in order; a Message whose text is None is filled by `Ask.texts`, in order.
    parameters: temperature, max_tokens, top_p, ... as OpenAI names them.
    schema: a JSON schema that the answer must follow, or None for free text.
    tools: OpenAI tool definitions, or ().
    """

    model: str
    messages: tuple[Message, ...]
    parameters: tuple[tuple[str, Value], ...] = ()
    schema: str | None = None
    """Canonical JSON text, so that shapes can be dictionary keys."""
    tools: str | None = None

    @property
    def slots(self) -> int:
        """How many texts an Ask of this shape carries."""
        return sum(message.text is None for message in self.messages)


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to a model, for one item of one cell.

    item: which of the cell's answers this becomes, from 0 (a plain prompt has only item 0).
    tries: how often this item was asked before, for another reason than the wire's (a reply
        that broke the schema, say); from 0 to 62.
    salt: tells otherwise equal requests apart; 0 lets equal requests share one answer.
    because: why it is asked again; None the first time.
    """

    shape: RequestShape
    texts: tuple[str, ...]
    item: int = 0
    tries: int = 0
    salt: int = 0
    because: CellError | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a server counted, or that we estimated where it does not count."""

    input: int
    output: int
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request: a text, or `error`.

    error: a kind of `_engine.pyi` (`throttled`, `timeout`, ...), or None.
    detail: the provider's own words for an error, shortened and scrubbed of secrets.
    finish: the server's finish_reason (`stop`, `length`, `tool_calls`, `content_filter`).
    refusal: the text is what the server put into its `refusal` field.
    cost: money in the catalog's currency units (not millionths).
    seconds: from the first attempt's start to the last attempt's end.
    digest: 32 hex digits that name the request (the cache key).
    """

    text: str
    error: str | None
    detail: str
    finish: str | None
    model: str
    usage: Usage
    cost: float
    attempts: int
    seconds: float
    cached: bool
    joined: bool
    refusal: bool
    digest: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One item of a cell, checked and parsed."""

    value: Value
