"""What a command is, what it is told and what it gives back.

A command is declared once, as a function; its signature gives the arguments:

    @group.command("Set how many of the last messages a model gets.", spoken=("messages",))
    def set_input_buffer_size(
        context: Context, n: Annotated[int, Argument("How many, from 1.", low=1)]
    ) -> Outcome: ...

The typed form (`--set-input-buffer-size 10`), the slash form with its completion, the help, the
documentation, the permission and what plain language can reach all come from there.

Commands have no I/O of their own: they call the services of a house and give an `Outcome`. A door
shows its text, and does what it says besides.
"""

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias, get_args, get_origin
from typing import get_type_hints as hints_of

from wordmill.accounts.types import Scope
from wordmill.commands.context import Context
from wordmill.errors import InvalidInput

Kind: TypeAlias = Literal["word", "whole", "text"]
"""One word; a whole number; all that is left of the message, line breaks too."""


class Suggestion(NamedTuple):
    """What could stand at a place, and a few words on it."""

    value: str
    note: str = ""


Suggest: TypeAlias = Callable[[Context], Iterable[Suggestion]]


@dataclass(frozen=True, slots=True)
class Argument:
    """One value that a command takes; the name and what follows it come from the signature.

    help: what it is.  rest: it takes all that is left of the message.  low: of a whole number.
    suggest: what could be typed for it; only for completion, the service behind decides.
    closed: that is all there is, and the same for everybody.
    """

    help: str
    rest: bool = False
    low: int | None = None
    suggest: Suggest | None = None
    name: str = ""
    kind: Kind = "word"
    optional: bool = False
    closed: bool = False

    @property
    def shown(self) -> str:
        """As a line of usage has it: `NAME`, `[NAME]`."""
        word = self.name.upper().replace("_", "-")
        return f"[{word}]" if self.optional else word

    def read(self, value: object) -> str | int:
        """The value that a text, or what a structured door gave, stands for.

        Raises InvalidInput.
        """
        if self.kind == "whole":
            return self._whole(value)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InvalidInput(f"{self.name} must be a text.", self.name)
        return str(value)

    def _whole(self, value: object) -> int:
        text = str(value).strip()
        digits = text.removeprefix("-")
        number = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None
        if number is None or (self.low is not None and number < self.low):
            wanted = "a whole number" + ("" if self.low is None else f" of {self.low} or more")
            raise InvalidInput(f"{self.name} must be {wanted}, not {text[:80]!r}.", self.name)
        return number


@dataclass(frozen=True, slots=True)
class File:
    """A file for the person: a door saves, uploads or offers it."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did.

    text: for the person, in Markdown.  data: the same for a program, as JSON has it.
    conversation: where the door goes on, when that is another one than before.
    answer: a message that is being answered now; the door watches it.
    file: for the person.  attachments: ids of files that go with the next message.
    """

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    conversation: str | None = None
    answer: str | None = None
    file: File | None = None
    attachments: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For doors whose other side is elsewhere; the bytes of a file in Base64."""
        file = self.file
        return {
            "text": self.text,
            "data": dict(self.data),
            "conversation": self.conversation,
            "answer": self.answer,
            "attachments": list(self.attachments),
            "file": file
            and {
                "name": file.name,
                "media_type": file.media_type,
                "data": base64.b64encode(file.data).decode(),
            },
        }

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Outcome":
        """What `as_json` gave."""
        file = value.get("file")
        return cls(
            value["text"],
            value.get("data") or {},
            value.get("conversation"),
            value.get("answer"),
            file and File(file["name"], file["media_type"], base64.b64decode(file["data"])),
            tuple(value.get("attachments") or ()),
        )


@dataclass(frozen=True, slots=True)
class Command:
    """A command.

    help: a sentence.  permission: the scope that an API key needs; `admin` needs an admin too.
    aliases: other names, which help does not list.
    spoken: words of a message that may mean this command in plain language, as beginnings of words
        in lower case (up to three letters: whole words); () keeps it out of plain language.
    private: what it says is for the person alone, also where others read along.
    asks: what to ask before it is done, where money would be spent; it is given what `act` is.
    """

    name: str
    help: str
    arguments: tuple[Argument, ...]
    act: Callable[..., Outcome]
    permission: Scope = "chat"
    aliases: tuple[str, ...] = ()
    spoken: tuple[str, ...] = ()
    private: bool = False
    asks: Callable[..., str | None] | None = None

    @property
    def usage(self) -> str:
        """`set-config NAME VALUE`."""
        return " ".join([self.name, *(argument.shown for argument in self.arguments)])

    def values(self, given: str | Mapping[str, object]) -> dict[str, str | int]:
        """The arguments by name, from what was typed after the name or from a mapping.

        Raises InvalidInput with the usage.
        """
        texts = self._split(given.strip()) if isinstance(given, str) else dict(given)
        values = {}
        for argument in self.arguments:
            value = texts.pop(argument.name, None)
            if value is None or (isinstance(value, str) and not value.strip()):
                if not argument.optional:
                    raise self._refused(f"{argument.shown} is missing.", argument.name)
                continue
            try:
                values[argument.name] = argument.read(value)
            except InvalidInput as error:
                raise self._refused(str(error), argument.name) from None
        if texts:
            more = " ".join(f"{text}" for text in texts.values())
            raise self._refused(f"{more[:80]!r} is more than it takes.", next(iter(texts)))
        return values

    def _split(self, text: str) -> dict[str, object]:
        found: dict[str, object] = {}
        for argument in self.arguments:
            if argument.rest:
                found[argument.name], text = text, ""
                break
            word, *left = text.split(maxsplit=1) or [""]
            found[argument.name] = word
            text = left[0] if left else ""
        return {**found, "": text} if text else found

    def _refused(self, sentence: str, name: str) -> InvalidInput:
        return InvalidInput(f"{sentence} Write it as `/{self.usage}`.", name)


class Group:
    """Commands that belong together, in the order in which they are declared."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.commands: list[Command] = []

    def command(
        self,
        help: str,  # noqa: A002  # the field's name
        *,
        permission: Scope = "chat",
        aliases: tuple[str, ...] = (),
        spoken: tuple[str, ...] = (),
        private: bool = False,
        asks: Callable[..., str | None] | None = None,
    ) -> Callable[[Callable[..., Outcome]], Callable[..., Outcome]]:
        """Declare a function as a command; its name with dashes is the command's."""

        def declare(act: Callable[..., Outcome]) -> Callable[..., Outcome]:
            name = act.__name__.strip("_").replace("_", "-")
            self.commands.append(
                Command(
                    name, help, _arguments(act), act, permission, aliases, spoken, private, asks
                )
            )
            return act

        return declare


_KINDS: Final[Mapping[object, Kind]] = {str: "word", int: "whole"}


def _arguments(act: Callable[..., Outcome]) -> tuple[Argument, ...]:
    """From a signature. Raises TypeError for one that cannot be typed on a line."""
    found: list[Argument] = []
    defaults = len(act.__defaults__ or ())
    hints = hints_of(act, include_extras=True)
    named = [(name, hint) for name, hint in hints.items() if name not in ("context", "return")]
    for place, (name, hint) in enumerate(named):
        if get_origin(hint) is not Annotated:
            raise TypeError(f"{act.__name__}: {name} has no Argument")
        plain, argument = get_args(hint)[:2]
        kinds = [kind for kind in get_args(plain) or (plain,) if kind is not type(None)]
        if len(kinds) != 1 or (found and found[-1].rest):
            raise TypeError(f"{act.__name__}: {name} cannot be read from a line")
        found.append(
            replace(
                argument,
                name=name,
                kind="text" if argument.rest else _KINDS[kinds[0]],
                optional=place >= len(named) - defaults,
            )
        )
    return tuple(found)
