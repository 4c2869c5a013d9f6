"""The values of talk: frozen, and without I/O.

A conversation is a tree of messages; what a page shows is one branch of it, from a root to a leaf.
A message that has ended never changes: an edit and another answer are siblings, messages with the
same parent.

A message's text is what was said. The rest that belongs to it are its `parts`, each a mapping with
a `type`. The types that the stored side knows:

    attachment    id, name, media_type, size
    tool_call     id, name, arguments (JSON text)      of an assistant's message
    tool_result   id (of the call), name               of a tool's message; its text is the result
    structured    schema, value                        an answer that followed a schema

Others are kept as they stand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
State: TypeAlias = Literal["waiting", "answering", "done", "stopped", "failed", "interrupted"]

ROLES: Final[tuple[Role, ...]] = ("system", "user", "assistant", "tool")
OPEN: Final[tuple[State, ...]] = ("waiting", "answering")
"""The states of a message that may still change."""
ENDED: Final[tuple[State, ...]] = ("done", "stopped", "failed", "interrupted")

AT_HEAD: Final = "head"
"""As a parent: under the last message of the branch that is shown. None makes a root."""

Part: TypeAlias = Mapping[str, Any]
Json: TypeAlias = Mapping[str, Any]

Item = TypeVar("Item")


class Owner(Protocol):
    """Whoever acts: an `accounts.Person`. Only the id matters here."""

    @property
    def id(self) -> str:
        """As in the table `people`."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some of many. `cursor`: what gives the next page; None on the last one."""

    items: tuple[Item, ...]
    cursor: str | None = None


class Fence(NamedTuple):
    """What a worker holds of a job: a write with a number that is the job's no more is refused."""

    job: str
    number: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation without its messages.

    head: the last message of the branch that is shown; None while there is none.
    titled_by: "" (no title yet, or what the first message gave), "model" or "person".
    settings: of this conversation alone, over those of the person and the model.
    source: what it was imported from, as `chatgpt:ID`, `claude:ID` or `wordmill:ID`.
    updated: when its last message came.
    """

    id: str
    owner: str
    title: str
    titled_by: str
    folder: str | None
    tags: tuple[str, ...]
    pinned: bool
    archived: bool
    model: str | None
    system: str
    settings: Json
    head: str | None
    document_title: str | None
    drive_folder: str | None
    source: str | None
    created: datetime
    updated: datetime

    @property
    def temporary(self) -> bool:
        """Whether it is kept in memory only."""
        return is_temporary(self.id)


@dataclass(frozen=True, slots=True)
class Message:
    """A node of a conversation's tree.

    parent: the message that it follows; None for a root.
    author: the id of the person who wrote it; "" for what a model or a tool said.
    door: where it came in: web, shell, api, import, ...
    sent: the request that was made for it.  finish: the server's finish_reason.
    usage: input and output tokens, cost, as `completions` counted them.  timing: seconds.
    origin: what it is a copy of: `message:ID` in a fork, `chatgpt:ID` and the like when imported.
    place, siblings: it is the `place`-th, from 1, of so many messages with the same parent.
    """

    id: str
    conversation: str
    parent: str | None
    role: Role
    state: State
    text: str
    reasoning: str
    parts: tuple[Part, ...]
    author: str
    door: str
    model: str | None
    sent: Json | None
    finish: str | None
    error: str | None
    usage: Json | None
    timing: Json | None
    created: datetime
    updated: datetime
    origin: str | None = None
    place: int = 1
    siblings: int = 1

    @property
    def ended(self) -> bool:
        """Whether it no longer changes."""
        return self.state not in OPEN

    @property
    def attachments(self) -> tuple[str, ...]:
        """The ids of its attachments, in order."""
        return tuple(part["id"] for part in self.parts if part.get("type") == "attachment")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of conversations. `count`: of the conversations that lie in it directly."""

    id: str
    owner: str
    name: str
    parent: str | None
    created: datetime
    count: int = 0


@dataclass(frozen=True, slots=True)
class Snippet:
    """A passage. `marks`: (start, end) of what was found, counted in characters of `text`."""

    text: str
    marks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """Something found: a message, or a conversation by its title (`message` and `role` None)."""

    conversation: str
    title: str
    message: str | None
    role: Role | None
    model: str | None
    created: datetime
    snippet: Snippet


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that somebody brought. `text`: what it says, None for an image.

    media_type: by its content, never by what the sender called it.
    digest: SHA-256 of its bytes, in hex.  size: bytes.
    """

    id: str
    owner: str
    conversation: str | None
    name: str
    media_type: str
    size: int
    digest: str
    text: str | None
    created: datetime

    @property
    def image(self) -> bool:
        """Whether a model must see it rather than read it."""
        return self.text is None


@dataclass(frozen=True, slots=True)
class Share:
    """A read-only link to a branch as it was when it was shared."""

    id: str
    conversation: str
    head: str
    created: datetime
    revoked: datetime | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """What whoever has the link sees: the branch, without names, settings or requests."""

    id: str
    title: str
    messages: tuple[Message, ...]
    created: datetime


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person thinks of an answer. `score`: 1 or -1."""

    message: str
    person: str
    score: int
    reason: str | None
    comment: str | None
    created: datetime
    updated: datetime


@dataclass(frozen=True, slots=True)
class Preference:
    """Of several answers to the message `prompt`, the better one."""

    id: str
    owner: str
    conversation: str
    prompt: str
    chosen: str
    rejected: tuple[str, ...]
    created: datetime


@dataclass(frozen=True, slots=True)
class Totals:
    """What a conversation has used, all its branches together. `cost`: in the catalog's money."""

    messages: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. `problems`: sentences on what could not be read, at most a hundred."""

    made: int = 0
    grown: int = 0
    known: int = 0
    messages: int = 0
    problems: tuple[str, ...] = field(default=())


TEMPORARY: Final = "tmp-"
"""How the ids of what is kept in memory only begin."""


def is_temporary(name: str) -> bool:
    """Whether an id is that of something kept in memory only."""
    return name.startswith(TEMPORARY)
