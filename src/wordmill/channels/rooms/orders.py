"""Commands that are given in a room, and questions that wait for somebody's yes.

What a command does is the registry's; here is only what a room adds: who may speak for the
conversation that is led there, what is said to one person alone, and what is asked before.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from wordmill.accounts import Person
from wordmill.accounts.identities import is_guest
from wordmill.channels.house import House
from wordmill.channels.rooms.base import Place
from wordmill.channels.rooms.records import Led, Records
from wordmill.commands import COMMANDS, Command, Context, Outcome
from wordmill.commands.conversation import GROUP as CONVERSATION
from wordmill.commands.documents import GROUP as DOCUMENTS
from wordmill.errors import Forbidden, InvalidInput

PATIENCE: Final = 600.0
"""Seconds for which a question waits."""
SETTLE: Final = 5.0
"""Seconds in which a typed yes may still be meant for the question before."""
MARK: Final = "--"
LINK: Final = "link"

_OWN: Final = frozenset(
    [one.name for group in (CONVERSATION, DOCUMENTS) for one in group.commands]
    + ["swap-model", "use", "tools"]
)
"""Commands on the conversation that is led in a place: for whoever it belongs to."""


@dataclass(frozen=True, slots=True)
class Question:
    """Something that is done after a yes. shown: the service's id of the question."""

    place: Place
    sender: str
    yes: Callable[[], Awaitable[None]]
    no: Callable[[], Awaitable[None]] | None
    until: float
    shown: str = ""
    settled: float = 0.0
    """From when on a typed yes means this one: before, it was said to what had been asked."""


class Questions:
    """Those that wait, one in each place for each person. Used in one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], Question] = {}

    def ask(
        self,
        place: Place,
        sender: str,
        yes: Callable[[], Awaitable[None]],
        no: Callable[[], Awaitable[None]] | None = None,
        shown: str = "",
    ) -> None:
        """Wait for an answer, instead of what was asked there before."""
        moment, before = time.monotonic(), self._waiting.get((place.key, sender))
        for key in [key for key, one in self._waiting.items() if one.until < moment]:
            del self._waiting[key]
        settled = moment + SETTLE if before is not None and before.until > moment else 0.0
        self._waiting[place.key, sender] = Question(
            place, sender, yes, no, moment + PATIENCE, shown, settled
        )

    def unsettled(self, place: Place, sender: str) -> bool:
        """Whether another question came so lately that a word cannot be meant for it."""
        found = self._waiting.get((place.key, sender))
        return found is not None and found.settled > time.monotonic()

    def drop(self, place: Place, sender: str) -> None:
        """They went on to something else."""
        self._waiting.pop((place.key, sender), None)

    def withdraw(self, shown: str) -> None:
        """It needs no answer any more, of nobody."""
        for key in [key for key, one in self._waiting.items() if one.shown == shown]:
            del self._waiting[key]

    def take(self, place: Place, sender: str) -> Question | None:
        """What waits for this person there, which it does no more."""
        found = self._waiting.pop((place.key, sender), None)
        return None if found is None or found.until < time.monotonic() else found

    def take_shown(self, sender: str, shown: str) -> Question | None:
        """The same by the message that asks."""
        for key, question in self._waiting.items():
            if question.shown == shown and question.sender == sender:
                del self._waiting[key]
                return None if question.until < time.monotonic() else question
        return None


class Orders:
    """The commands of one channel. Safe from any thread."""

    def __init__(self, house: House, records: Records, kind: str) -> None:
        self._house, self._records, self._kind = house, records, kind

    def context(self, person: Person, led: Led | None) -> Context:
        """Who gives a command, and in which conversation: the one that is led there, if theirs."""
        mine = led is not None and led.person == person.id
        return Context(
            person, self._house, self._kind, led.conversation if led and mine else None, mark=MARK
        )

    def find(self, name: str) -> Command:
        """A command by its name. Raises UnknownName."""
        return COMMANDS.find(name)

    def check(self, command: Command, person: Person, led: Led | None, *, alone: bool) -> None:
        """Raise Forbidden for what may not be given here. alone: nobody else reads the answer."""
        if led is not None and led.person != person.id and command.name in _OWN:
            raise Forbidden(
                "This conversation belongs to somebody else. Begin one of your own: mention me "
                "outside of this thread, or write to me directly."
            )
        if is_guest(person) and command.permission in ("runs", "admin"):
            raise Forbidden(
                f"Guests cannot use `{MARK}{command.name}`. Link your account with `{MARK}link`."
            )
        if command.private and not alone:
            raise Forbidden(
                f"What `{MARK}{command.name}` says is for you alone: ask me in a direct room."
            )

    async def run(
        self,
        person: Person,
        led: Led | None,
        line: str,
        given: Mapping[str, object] | None = None,
    ) -> Outcome:
        """Give a command. Raises whatever it says."""
        return await asyncio.to_thread(COMMANDS.run, self.context(person, led), line, given)

    def costs(self, person: Person, led: Led | None, command: Command, rest: object) -> str | None:
        """What to ask before it is done; None where it needs no yes. Raises InvalidInput."""
        if command.asks is None:
            return None
        values = command.values(rest if isinstance(rest, str | dict) else "")
        return command.asks(self.context(person, led), **values)


def link_code(line: str) -> str | None:
    """The code of `--link CODE`, "" for `--link` alone, None for anything else.

    Raises InvalidInput.
    """
    parsed = COMMANDS.parse(line)
    if parsed is None or parsed.name != LINK:
        return None
    if len(parsed.rest.split()) > 1:
        raise InvalidInput(f"Write it as `{MARK}link CODE`.")
    return parsed.rest.strip()
