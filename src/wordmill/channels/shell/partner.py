"""Whom a shell speaks to: the house on this machine, or a server elsewhere.

Both are a `Partner`, so that the shell is one. Every method may raise WordmillError, whose sentence
is for the person.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from wordmill.chat.types import OPEN, State
from wordmill.commands import Outcome, Suggestion
from wordmill.commands.language import Proposal
from wordmill.commands.words import count


@dataclass(frozen=True, slots=True)
class Place:
    """Where the shell is: what a command needs to know, and the next message.

    conversation: None until something is said.  model: what it is begun with; None is the default.
    """

    conversation: str | None = None
    model: str | None = None
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """A message, as far as a shell shows it. tool: whose result it is, of a tool's message."""

    id: str
    role: str
    state: State
    text: str
    reasoning: str = ""
    model: str | None = None
    error: str | None = None
    finish: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    tool: str = ""
    notes: tuple[str, ...] = ()
    """Sentences on what was left out or done otherwise for it."""

    @property
    def open(self) -> bool:
        """Whether it is still being written, or waits."""
        return self.state in OPEN


@dataclass(frozen=True, slots=True)
class Found:
    """A conversation that is gone on with, and the last messages of its branch."""

    id: str
    title: str
    model: str | None
    last: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """What came of an answer since the last one. message: its id, or where it goes on.

    waiting: where its request stands in a queue, in words.
    """

    message: str
    text: str = ""
    reasoning: str = ""
    state: State = "answering"
    waiting: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A tool that a model wants called, and the message that waits for the person's yes."""

    message: str
    server: str
    tool: str
    arguments: str


def notes(sent: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Sentences on what a request left out, from what is kept of it."""
    made = sent or {}
    dropped = made.get("dropped") or 0
    said = [str(sentence) for sentence in made.get("degraded") or ()]
    if dropped:
        said.append(f"{count(dropped, 'earlier message')} did not go with it.")
    return tuple(said)


def tool_of(parts: Sequence[Mapping[str, Any]]) -> str:
    """The tool that a message is the result of; "" for any other message."""
    return next((str(one["name"]) for one in parts if one.get("type") == "tool_result"), "")


class Partner(Protocol):
    """Whom a shell speaks to. Closed by whoever opened it."""

    name: str
    """Who the person is there, for the first line."""
    person: str
    """Their id there."""
    address: str
    """Of the server; "" for this machine."""

    def newest(self) -> Found | None:
        """The conversation that was used last."""

    def find(self, conversation: str) -> Found:
        """A conversation by its id. Raises NotFound."""

    def begin(self, place: Place) -> str:
        """A new conversation."""

    def complete(self, place: Place, text: str) -> Sequence[Suggestion]:
        """What could stand for the last word of a command."""

    def run(
        self, place: Place, line: str, arguments: Mapping[str, object] | None = None
    ) -> Outcome:
        """Run a command as it was typed, or by its name with arguments."""

    def propose(self, place: Place, text: str) -> Proposal | None:
        """The command that a message means in plain language, if any."""

    def attach(self, place: Place, name: str, data: bytes) -> str:
        """Bring a file into the conversation; its id."""

    def send(self, place: Place, text: str, attachments: Sequence[str]) -> str:
        """Say something in the place's conversation; the id of the answer."""

    def watch(self, answer: str) -> Iterator[Piece]:
        """An answer from its beginning, as it grows, until it has ended or asks for a yes.

        After calls of tools it goes on in further messages.
        """

    def message(self, answer: str) -> Said:
        """A message as it stands now."""

    def asked(self, place: Place) -> Sequence[Asked]:
        """The calls of tools that wait for a yes."""

    def confirm(self, place: Place, message: str, yes: bool) -> None:
        """Allow a call, or not; the answer goes on when each has been decided."""

    def stop(self, place: Place, answer: str) -> None:
        """End an answer and keep what there is of it."""

    def close(self) -> None:
        """Let go of everything."""
