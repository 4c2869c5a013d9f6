"""What a channel into chat rooms promises, and the values that pass between it and the door.

A channel knows its service and nothing else: it hands what was said to the door as an `Incoming`,
and writes for the door through its `Surface`. Whom to answer, what a command does, which
conversation a thread is: all that is the door's, and so the same everywhere.

All text is Markdown. What comes in has been freed of the mention of us; what goes out is rendered
by the surface, which never lets it ping anybody or carry HTML of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol, TypeAlias

from wordmill.channels.rooms.budget import Budget
from wordmill.channels.rooms.splitting import Measure, characters

if TYPE_CHECKING:
    from wordmill.channels.rooms.door import Door

Json: TypeAlias = Mapping[str, Any]
Sign: TypeAlias = Literal["stop", "retry", "up", "down"]

SIGNS: Final[Mapping[str, Sign]] = {
    "⏹": "stop", "🛑": "stop", "✋": "stop", "⛔": "stop",
    "🔁": "retry", "🔄": "retry", "♻": "retry",
    "👍": "up", "❤": "up", "👎": "down",
}  # fmt: skip
"""What a reaction means, without its variation selector and skin colour."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is said.

    room: the service's id of the room or channel.
    thread: of the thread in it; "" for the room itself. What a thread is, the surface decides: on
    Discord it may be the first message of a chain of replies.
    """

    room: str
    thread: str = ""

    @property
    def key(self) -> str:
        """Both in one text; ids hold no spaces."""
        return f"{self.room} {self.thread}" if self.thread else self.room

    @classmethod
    def of(cls, key: str) -> "Place":
        """What `key` stands for."""
        room, _, thread = key.partition(" ")
        return cls(room, thread)


@dataclass(frozen=True, slots=True)
class Attached:
    """A file that came with a message, not fetched yet.

    size: bytes, as the sender says; 0 where nobody says.  media_type: as the sender says.
    reference: what the surface needs to fetch it, as JSON.
    """

    name: str
    size: int
    media_type: str = ""
    reference: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quoted:
    """The message that another one replies to. own: it is one of ours."""

    event: str
    name: str
    text: str
    own: bool = False
    attachments: tuple[Attached, ...] = ()


@dataclass(frozen=True, slots=True)
class Incoming:
    """Something that was said in a room.

    event: the service's id of the message.  sender: the full Matrix id, the numeric Discord id.
    name: what the sender is called there, told apart from others of the room of the same name.
    text: Markdown, without the mention of us.  at: by the service's clock.
    direct: nobody else is in the room.  mentions_us: as the service itself marks it.
    groups: what lists of who may talk can name beside sender and room: homeserver, server, roles.
    replied: the message that it replies to.  edits: the event that it is a new version of.
    from_bot: a program sent it, as far as the service says.
    """

    event: str
    place: Place
    sender: str
    name: str
    text: str
    at: datetime
    direct: bool = False
    mentions_us: bool = False
    groups: tuple[str, ...] = ()
    replied: Quoted | None = None
    attachments: tuple[Attached, ...] = ()
    edits: str = ""
    from_bot: bool = False

    def as_json(self) -> dict[str, Any]:
        """As it is kept until it has been handled."""
        return {**asdict(self), "at": self.at.isoformat()}

    @classmethod
    def of(cls, value: Json) -> "Incoming":
        """What `as_json` gave."""
        replied = value["replied"]
        return cls(
            **{
                **value,
                "place": Place(**value["place"]),
                "at": datetime.fromisoformat(value["at"]),
                "groups": tuple(value["groups"]),
                "replied": replied
                and Quoted(**{**replied, "attachments": _attached(replied["attachments"])}),
                "attachments": _attached(value["attachments"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Reaction:
    """A sign that somebody put on a message of ours, or took a button of it for.

    event: the id of the reaction.  message: the service's id of the message.
    """

    event: str
    place: Place
    sender: str
    name: str
    message: str
    sign: Sign
    groups: tuple[str, ...] = ()


PostKind: TypeAlias = Literal["growing", "answer", "stopped", "failed", "notice"]


@dataclass(frozen=True, slots=True)
class Post:
    """A message of ours.

    text: Markdown, within the limits.  kind: `notice` is anything but an answer, and services that
    can say so tell other programs not to answer it. `growing`: more of it is coming.
    buttons: whether an answer's controls (stop, retry, thumbs) belong under it.
    tells: the message whose author the service tells of this one, and nobody else; "" for nobody.
    """

    text: str
    kind: PostKind = "answer"
    buttons: bool = False
    tells: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service takes.

    size: of one message, by `measure`.  file_bytes: of one file.  file_from: an answer longer than
    that many characters comes as a file too.  typing: seconds after which it must be said again.
    gaps: seconds between edits of a message, the last for all that follow.  most_edits: of one
    message, the last one not counted.
    names_bots: it says of each message whether a program sent it, so that nobody is taken for one.
    """

    size: int
    measure: Measure = characters
    file_bytes: int = 20 * 1024 * 1024
    file_from: int = 40_000
    typing: float = 20.0
    gaps: tuple[float, ...] = (2.0, 4.0, 8.0, 15.0, 30.0)
    most_edits: int = 60
    names_bots: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How a channel is, for people.

    connected: it hears what is said.  words: what is wrong, in a sentence; "" for nothing.
    account: whom it is there.  encryption: in a few words; "" where the service has none.
    """

    connected: bool = False
    words: str = ""
    account: str = ""
    encryption: str = ""


class Surface(Protocol):
    """How the door writes in the rooms of one service. Used in the channel's event loop only.

    Every method may raise ChannelLimited (ask again after some seconds), ChannelRefused (never
    again), ChannelClosed (the account is no longer good) or another ChannelError (ask again later).

    nonce: the same one is the same message: the service must not show it twice.
    fresh: nobody has tried to send it, so an earlier process cannot have.
    """

    kind: str
    """matrix or discord; the provider of identities, and the door of messages."""
    me: str
    """Our own id, as the service says it."""
    limits: Limits
    budget: Budget

    async def send(
        self, place: Place, post: Post, *, nonce: str, reply_to: str = "", fresh: bool = False
    ) -> str:
        """Say something; the id of the message. reply_to: the message that it answers."""

    async def edit(self, place: Place, message: str, post: Post, *, nonce: str) -> None:
        """Put something else in place of a message of ours."""

    async def react(self, place: Place, message: str, sign: str, *, nonce: str) -> None:
        """Put a sign (an emoji) on somebody's message."""

    async def typing(self, place: Place, on: bool) -> None:
        """Show that we are writing, or no more."""

    async def send_file(
        self, place: Place, name: str, media_type: str, data: bytes, *, nonce: str,
        reply_to: str = "", fresh: bool = False,
    ) -> str:  # fmt: skip
        """Give a file; the id of the message."""

    async def fetch(self, file: Attached, most: int) -> bytes:
        """The bytes of a file. Raises InvalidInput for one of more than `most`, while reading."""

    def standing(self) -> Standing:
        """How it is now. From any thread."""


@dataclass(frozen=True, slots=True)
class Check:
    """A thing that `channels test` looked at. fine: as it must be."""

    name: str
    fine: bool
    words: str


@dataclass(frozen=True, slots=True)
class Field:
    """Something that a kind of channel has to be told. secret: sealed, and never shown."""

    name: str
    help: str
    secret: bool = False
    needed: bool = True


class Memory(Protocol):
    """What a channel keeps between starts, sealed: a device, tokens, keys. From any thread."""

    def read(self) -> dict[str, Any]:
        """What was written last; {} at first."""

    def write(self, value: Json) -> None:
        """Instead of what was there, at once and for good."""

    def key(self) -> str:
        """A password for stores of its own, that stays the same."""

    def folder(self) -> str:
        """A folder for files of its own, private, made now."""


class Channel(Protocol):
    """One account at a service. Made by the manager, in the thread that runs it."""

    FIELDS: ClassVar[Sequence[Field]]

    def __init__(self, options: Json, secrets: Mapping[str, str], memory: Memory) -> None:
        """options, secrets: the values of FIELDS. Raises ConfigError for what cannot be used."""

    @property
    def surface(self) -> Surface:
        """How to write there."""

    async def run(self, door: "Door", ready: Callable[[], None]) -> None:
        """Hear what is said and hand it to the door, until cancelled. `ready`: it hears now.

        Raises ChannelClosed when only a person can mend it, another ChannelError to be started
        again.
        """

    async def check(self) -> Sequence[Check]:
        """Look whether it could run: the account, the permissions, the encryption."""

    @classmethod
    def invitation(cls, options: Json) -> str:
        """What somebody has to do at the service to let the account in, in Markdown."""


def meaning(reaction: str) -> Sign | None:
    """What a reaction asks for, if anything."""
    plain = reaction.replace("\ufe0f", "")
    return SIGNS.get(plain) or SIGNS.get(plain[:1])


def _attached(values: Sequence[Json]) -> tuple[Attached, ...]:
    return tuple(Attached(**one) for one in values)
