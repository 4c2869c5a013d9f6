"""Who may talk in a channel, when there is an answer, and how often machines may answer each other.

No I/O: the door asks here before anything else happens.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Final

from wordmill.channels.rooms.base import Incoming
from wordmill.errors import InvalidInput

QUICK: Final = 2.0
"""Seconds within which what follows an answer comes from a machine, if it does again and again."""
MOST_BOUNCES: Final = 10
"""Messages in a row that come so quickly; after them it is quiet in the place."""
MOST_TURNS: Final = 40
"""Messages in a row of one or two senders, each within a minute of our answer to the one before,
in as much time as it is quiet then: people do not go on like that, slow machines do."""
SLOW: Final = 60.0
QUIET: Final = 600.0
"""Seconds of that quiet, unless a person does what machines do not: wait."""
_PLACES: Final = 2000
_PAIR: Final = 2


@dataclass(frozen=True, slots=True)
class Policy:
    """What an admin says about who may talk.

    prefix: what a message in company may begin with instead of a mention, as `!ai`.
    allow, deny: patterns (`*` for anything) over sender, room, homeserver, server, role; whoever a
    deny list names may not, and where there is an allow list whoever it does not name. A room of
    Matrix (`!...`) is named by patterns that begin with `!` alone. An allow list names a role by
    its number: anybody can have a server of their own with a role of some name.
    guests: whether people without an account may talk, as guests.
    guest_requests: how many answers a guest gets a day.
    speakers: whether the model is told who says what where several talk.
    bots: whether programs that say that they are some are answered, up to the bounce cap.
    """

    prefix: str = ""
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    guests: bool = False
    guest_requests: int = 20
    speakers: bool = True
    bots: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Policy":
        """From options as JSON or the command line has them. Raises InvalidInput."""
        known = {one.name for one in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in options.items():
            if name not in known:
                continue
            values[name] = _read(name, value, getattr(cls(), name))
        for pattern in values.get("allow", ()):
            if _by_name(pattern):
                raise InvalidInput(
                    f"allow: {pattern!r} names a role that anybody can make in a server of their "
                    "own. Name it by its number: role:1234.", "allow"
                )  # fmt: skip
        return cls(**values)

    def as_json(self) -> dict[str, Any]:
        """What differs from the default."""
        plain = asdict(Policy())
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value != plain[name]
        }

    def admits(self, *names: str) -> bool:
        """Whether somebody may talk. names: of the sender, the room, groups of both."""
        if any(_matches(name, pattern) for pattern in self.deny for name in names):
            return False
        return not self.allow or any(
            _matches(name, pattern)
            for pattern in self.allow
            for name in names
            if not _by_name(name)
        )


POLICY_HELP: Final[Mapping[str, str]] = {
    "prefix": "What a message in company may begin with instead of a mention, as `!ai`.",
    "allow": "Who alone may talk: patterns over sender, room, homeserver, server, role.",
    "deny": "Who may not: patterns, as `*:spam.example` or `role:1234`.",
    "guests": "Whether people without an account may talk, as guests.",
    "guest_requests": "How many answers a guest gets a day.",
    "speakers": "Whether a model is told who says what where several talk.",
    "bots": "Whether other programs are answered, up to the bounce cap.",
}


def addressed(incoming: Incoming, policy: Policy, own_thread: bool) -> bool:
    """Whether a message is meant for us: alone with the sender, mentioned, replied to, called by
    the prefix, or in a thread in which we talk already.
    """
    return (
        incoming.direct
        or incoming.mentions_us
        or (incoming.replied is not None and incoming.replied.own)
        or own_thread
        or called(incoming.text, policy.prefix) is not None
    )


def called(text: str, prefix: str) -> str | None:
    """What follows the prefix; None for a text that does not begin with it."""
    start = text.lstrip()
    if not prefix or not start.casefold().startswith(prefix.casefold()):
        return None
    rest = start[len(prefix) :]
    return None if rest[:1].isalnum() and prefix[-1].isalnum() else rest.lstrip(" :,\n")


class Bounces:
    """Messages that come back within moments of our answer, in places. Used in one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._places: OrderedDict[str, _Bouncing] = OrderedDict()

    def answered(self, place: str) -> None:
        """We have said our last words there."""
        state = self._of(place)
        state.answered, state.ours = self._clock(), True

    def allows(
        self, place: str, sender: str, told_bot: bool, *, guess: bool = True
    ) -> tuple[bool, bool]:
        """Whether a message there is answered, and whether to say that it is quiet now.

        told_bot: the service says that a program sent it.  guess: it may not say so of each.
        """
        state, moment = self._of(place), self._clock()
        quick = guess and state.answered is not None and moment - state.answered < QUICK
        if state.quiet_until > moment:
            return not told_bot and sender not in state.machines, False
        if not quick and not told_bot:
            state.count, state.quick = 0, set()
        elif not told_bot and len(state.quick | {sender}) > _PAIR:  # many who talk at once
            state.count, state.quick = 1, {sender}
        else:
            state.count, state.quick = state.count + 1, state.quick | {sender}
        slow = guess and self._goes_on(state, sender, moment)
        if state.count > MOST_BOUNCES or slow:
            state.machines = {one for _, one in state.turns} if slow else state.quick
            state.quiet_until, state.count = moment + QUIET, 0
            state.quick, state.turns = set(), []
            return False, True
        return True, False

    def _goes_on(self, state: "_Bouncing", sender: str, moment: float) -> bool:
        """Whether they and we take turns for longer than people do."""
        unbroken = state.ours and state.answered is not None and moment - state.answered < SLOW
        state.ours = False
        turns = [one for one in state.turns if moment - one[0] < QUIET] if unbroken else []
        if len({one for _, one in turns} | {sender}) > _PAIR:
            turns = []
        state.turns = [*turns, (moment, sender)]
        return len(state.turns) > MOST_TURNS

    def _of(self, place: str) -> "_Bouncing":
        found = self._places.pop(place, None) or _Bouncing()
        self._places[place] = found
        while len(self._places) > _PLACES:
            self._places.popitem(last=False)
        return found


@dataclass
class _Bouncing:
    """Of one place.

    answered: when we did last.  ours: and nobody said anything since.  count: of what came quickly.
    quick: who said that.  turns: what was said in turns with us, and by whom.
    machines: who is not answered until `quiet_until`.
    """

    answered: float | None = None
    ours: bool = False
    count: int = 0
    quick: set[str] = field(default_factory=set)
    turns: list[tuple[float, str]] = field(default_factory=list)
    machines: set[str] = field(default_factory=set)
    quiet_until: float = 0.0


def _matches(name: str, pattern: str) -> bool:
    """A room's id ends with a server too, which says nothing of who talks in it."""
    return fnmatchcase(name, pattern) and (pattern[:1] == "!" or name[:1] != "!")


def _by_name(role: str) -> bool:
    head, _, rest = role.partition(":")
    return head == "role" and not rest.isdecimal()


def _read(name: str, value: object, default: object) -> object:
    """One option of a policy, of the kind of its default."""
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
        raise InvalidInput(f"{name} must be true or false, not {value!r}.", name)
    if isinstance(default, int):
        try:
            number = int(str(value))
        except ValueError:
            number = -1
        if not 0 <= number <= 1_000_000:
            raise InvalidInput(f"{name} must be a whole number from 0, not {value!r}.", name)
        return number
    if isinstance(default, tuple):
        if isinstance(value, str):
            value = [one.strip() for one in value.split(",") if one.strip()]
        if not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
            raise InvalidInput(f"{name} must be a list of patterns.", name)
        return tuple(value)
    if not isinstance(value, str) or len(value) > 40:
        raise InvalidInput(f"{name} must be a text of at most 40 characters.", name)
    return value.strip()
