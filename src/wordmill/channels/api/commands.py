"""Commands over HTTP: what there are, one that is run, and what helps a person to type them."""

from fastapi import APIRouter, Request
from pydantic import Field

from wordmill.channels.api.auth import Caller, Reads, Talks, house_of
from wordmill.channels.api.shared import Json, Sent
from wordmill.commands import COMMANDS, Command, Context
from wordmill.commands.language import propose
from wordmill.errors import InvalidInput

router = APIRouter(prefix="/api")


class Place(Sent):
    """Where a command is given. model, temporary: of a conversation that is yet to be begun."""

    conversation: str | None = None
    model: str | None = None
    temporary: bool = False


class Given(Place):
    """A command, as a line or by its name."""

    line: str | None = Field(default=None, examples=["/set-input-buffer-size 10"])
    name: str | None = None
    arguments: dict[str, str | int | None] = Field(default_factory=dict)


class Typed(Place):
    """What somebody has typed."""

    text: str


@router.get("/commands", tags=["Commands"])
def commands(caller: Reads) -> Json:
    """The commands, by group."""
    return {
        "groups": [
            {"title": group.title, "commands": [_command(one) for one in group.commands]}
            for group in COMMANDS.groups
        ]
    }


@router.post("/commands", tags=["Commands"])
def run(given: Given, caller: Reads, request: Request) -> Json:
    """Run a command. Its key needs what `permission` says of it."""
    if (given.line is None) == (given.name is None):
        raise InvalidInput("Say the command either as a line or by its name.", "line")
    text = given.line if given.line is not None else given.name or ""
    line = COMMANDS.parse(text)
    if given.line is not None and line is None:
        raise InvalidInput("This is no command: one begins with / or --.", "line")
    command = COMMANDS.find(line.name if line else text)
    if caller.key is not None:
        caller.key.require(command.permission)
    arguments = None if given.name is None else given.arguments
    outcome = COMMANDS.run(_context(given, caller, request), text, arguments)
    return outcome.as_json()


@router.post("/commands/complete", tags=["Commands"])
def complete(typed: Typed, caller: Reads, request: Request) -> Json:
    """What could stand for the last word of a command that is being typed."""
    found = COMMANDS.complete(_context(typed, caller, request), typed.text)
    return {"suggestions": [one._asdict() for one in found]}


@router.post("/commands/propose", tags=["Commands"])
def proposed(typed: Typed, caller: Talks, request: Request) -> Json:
    """The command that a message in plain language means, if any; run it after a yes."""
    proposal = propose(COMMANDS, _context(typed, caller, request), typed.text)
    return {"proposal": None if proposal is None else proposal.as_json()}


def _context(place: Place, caller: Caller, request: Request) -> Context:
    house = house_of(request)
    if place.conversation is not None:
        house.conversations.get(caller.person, place.conversation)
    return Context(
        caller.person, house, caller.door, place.conversation, place.model, place.temporary
    )


def _command(command: Command) -> Json:
    return {
        "name": command.name,
        "usage": command.usage,
        "help": command.help,
        "permission": command.permission,
        "private": command.private,
        "aliases": list(command.aliases),
        "plain_language": bool(command.spoken),
        "arguments": [
            {"name": one.name, "help": one.help, "kind": one.kind, "optional": one.optional}
            for one in command.arguments
        ],
    }
