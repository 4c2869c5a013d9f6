"""The house on this machine, in this process."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from wordmill.channels.house import House
from wordmill.channels.shell.partner import Asked, Found, Piece, Place, Said, notes, tool_of
from wordmill.chat.types import Conversation, Message
from wordmill.commands import COMMANDS, Context, Outcome, Suggestion
from wordmill.commands.language import Proposal, propose

DOOR: Final = "shell"
_SHOWN: Final = 4
"""Messages of a conversation that is gone on with."""


class Local:
    """A `Partner` without a network: whoever runs the command line, with an open house."""

    address = ""

    def __init__(self, house: House) -> None:
        self._house = house
        self._who = house.accounts.people.local()
        self.person, self.name = self._who.id, self._who.name

    def newest(self) -> Found | None:
        """The conversation that was used last, of those in which something was said."""
        page = self._house.conversations.all(self._who, limit=20)
        found = next((one for one in page.items if one.head is not None), None)
        return None if found is None else self._found(found)

    def find(self, conversation: str) -> Found:
        """A conversation by its id."""
        return self._found(self._house.conversations.get(self._who, conversation))

    def begin(self, place: Place) -> str:
        """A new conversation. Raises UnknownName for a model that is not there."""
        if place.model is not None:
            self._house.catalog.get(place.model)
        return self._house.conversations.create(
            self._who, model=place.model, temporary=place.temporary
        ).id

    def complete(self, place: Place, text: str) -> Sequence[Suggestion]:
        """What could stand for the last word of a command."""
        return COMMANDS.complete(self._context(place), text)

    def run(
        self, place: Place, line: str, arguments: Mapping[str, object] | None = None
    ) -> Outcome:
        """Run a command."""
        return COMMANDS.run(self._context(place), line, arguments)

    def propose(self, place: Place, text: str) -> Proposal | None:
        """The command that a message means in plain language, if any."""
        return propose(COMMANDS, self._context(place), text)

    def attach(self, place: Place, name: str, data: bytes) -> str:
        """Keep a file."""
        return self._house.conversations.attachments.add(
            self._who, name, data, conversation=place.conversation
        ).id

    def send(self, place: Place, text: str, attachments: Sequence[str]) -> str:
        """Say something; the id of the answer."""
        turn = self._house.chat.send(
            self._who, place.conversation or "", text, attachments=attachments, door=DOOR
        )
        return turn.answer

    def watch(self, answer: str) -> Iterator[Piece]:
        """An answer from its beginning."""
        for event in self._house.chat.watch(self._who, answer):
            waiting = "" if event.waiting is None else event.waiting.words()
            yield Piece(event.message, event.text, event.reasoning, event.state, waiting)

    def message(self, answer: str) -> Said:
        """A message as it stands now."""
        return _said(self._house.conversations.message(self._who, answer))

    def asked(self, place: Place) -> Sequence[Asked]:
        """The calls of tools that wait for a yes."""
        return [
            Asked(call.message, call.server, call.tool, call.arguments)
            for call in self._house.chat.asks(self._who, place.conversation or "")
        ]

    def confirm(self, place: Place, message: str, yes: bool) -> None:
        """Allow a call, or not."""
        self._house.chat.confirm(self._who, message, None, yes)

    def stop(self, place: Place, answer: str) -> None:
        """End an answer."""
        self._house.chat.stop(self._who, answer)

    def close(self) -> None:
        """Nothing: the house is closed by whoever opened it."""

    def _found(self, conversation: Conversation) -> Found:
        branch = self._house.conversations.branch(self._who, conversation.id, limit=_SHOWN)
        return Found(
            conversation.id, conversation.title, conversation.model, tuple(map(_said, branch))
        )

    def _context(self, place: Place) -> Context:
        return Context(
            self._who, self._house, DOOR, place.conversation, place.model, place.temporary
        )


def _said(message: Message) -> Said:
    return Said(
        id=message.id,
        role=message.role,
        state=message.state,
        text=message.text,
        reasoning=message.reasoning,
        model=message.model,
        error=message.error,
        finish=message.finish,
        usage=message.usage or {},
        tool=tool_of(message.parts),
        notes=notes(message.sent),
    )
