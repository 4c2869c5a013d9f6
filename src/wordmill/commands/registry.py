"""All commands, found by name: read from a line, completed, run, explained.

Every door asks here. `run` is the only way into a command, and the permission is asked there.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from wordmill.accounts.types import need_admin
from wordmill.commands.base import Argument, Command, Group, Outcome, Suggestion
from wordmill.commands.context import Context
from wordmill.commands.parsing import Line, parse, plain
from wordmill.errors import Forbidden, UnknownName
from wordmill.telemetry import measured

_MOST_SUGGESTIONS: Final = 50


class Registry:
    """Groups of commands, in order. Raises ValueError for a name that is given twice."""

    def __init__(self, *groups: Group) -> None:
        self.groups = groups
        self._by_name: dict[str, Command] = {}
        for command in self:
            for name in (command.name, *command.aliases):
                if name in self._by_name:
                    raise ValueError(f"there are two commands {name!r}")
                self._by_name[name] = command

    def __iter__(self) -> Iterator[Command]:
        for group in self.groups:
            yield from group.commands

    def find(self, name: str) -> Command:
        """A command by its name or an alias. Raises UnknownName with the nearest ones."""
        command = self._by_name.get(plain(name))
        if command is None:
            hint = "A message that should begin like this begins with a space."
            raise UnknownName("command", name, [command.name for command in self], hint)
        return command

    def parse(self, text: str) -> Line | None:
        """The command that a message is; None for a message that is meant for a model."""
        return parse(text, self._by_name)

    def run(
        self, context: Context, text_or_name: str, given: Mapping[str, object] | None = None
    ) -> Outcome:
        """Do what a typed line says, or the command of a name with arguments by name.

        Raises UnknownName, InvalidInput for arguments that it does not take, Forbidden, and
        whatever the services say.
        """
        line = self.parse(text_or_name)
        if line is None:
            line = Line("/", plain(text_or_name.strip()), "")
        command = self.find(line.name)
        self.check(context, command)
        values = command.values(line.rest if given is None else given)
        with measured(
            "command", name=command.name, person=context.person.id, door=context.door,
            conversation=context.conversation_id,
        ):  # fmt: skip
            return command.act(context, **values)

    def check(self, context: Context, command: Command) -> None:
        """Raise Forbidden for whoever may not give a command."""
        person = context.person
        if person.disabled or person.role == "pending":
            raise Forbidden("Your account waits for an admin, who must let you in first.")
        if command.permission == "admin":
            need_admin(person, f"use `{context.mark}{command.name}`")

    def complete(self, context: Context, text: str) -> list[Suggestion]:
        """What could stand for the last word of a line that begins a command.

        Names while there is no space yet, with their mark; then the values of the argument at the
        cursor. () for a message that is no command.
        """
        head, space, _ = text.partition(" ")
        if not space:
            mark = next((mark for mark in ("--", "/", "-") if text.startswith(mark)), "")
            if not mark or "\n" in text:
                return []
            mark, written = ("--", text[1:]) if mark == "-" else (mark, text[len(mark) :])
            return [
                Suggestion(mark + command.name, command.help)
                for command in self
                if command.name.startswith(plain(written))
            ]
        line = self.parse(head)
        command = self._by_name.get(line.name) if line else None
        if command is None:
            return []
        argument, begun = _at_cursor(command, text[len(head) + 1 :])
        if argument is None or argument.suggest is None:
            return []
        found = [
            suggestion
            for suggestion in argument.suggest(context)
            if suggestion.value.lower().startswith(begun.lower())
        ]
        return found[:_MOST_SUGGESTIONS]


def _at_cursor(command: Command, rest: str) -> tuple[Argument | None, str]:
    """The argument that is being typed, and what there is of it."""
    rest = rest.lstrip()
    for argument in command.arguments:
        _, space, after = rest.partition(" ")
        if argument.rest or not space:
            return argument, rest
        rest = after.lstrip()
    return None, ""
