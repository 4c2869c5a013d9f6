"""What a person reads about commands: all of them, one of them, the page of the documentation."""

from collections.abc import Iterator

from wordmill.commands.base import Argument, Command
from wordmill.commands.german import LINES
from wordmill.commands.registry import Registry
from wordmill.commands.words import row


def line(text: str, language: str | None) -> str:
    """A line of help in a language, as `de` or `de-AT`; English where there is no other."""
    return LINES.get(text, text) if (language or "").partition("-")[0] == "de" else text


def overview(registry: Registry, mark: str = "/", language: str | None = None) -> str:
    """All commands with their lines of help, by group, in Markdown."""
    return "\n\n".join(
        f"**{line(group.title, language)}**\n\n"
        + "\n".join(
            f"- `{mark}{command.usage}` - {line(command.help, language)}"
            for command in group.commands
        )
        for group in registry.groups
        if group.commands
    )


def explanation(command: Command, mark: str = "/", language: str | None = None) -> str:
    """One command with its arguments, in Markdown."""
    lines = [f"`{mark}{command.usage}` - {line(command.help, language)}"]
    if command.arguments:
        lines.append("")
        lines += [
            f"- `{argument.shown}` {line(argument.help, language)}"
            for argument in command.arguments
        ]
    if command.aliases:
        lines += [
            "",
            f"{line('Also', language)} "
            + ", ".join(f"`{mark}{name}`" for name in command.aliases)
            + ".",
        ]
    if command.permission == "admin":
        lines += ["", line("For admins.", language)]
    return "\n".join(lines)


def markdown(registry: Registry) -> str:
    """The tables of docs/commands.md."""
    return "\n".join(_page(registry))


def _page(registry: Registry) -> Iterator[str]:
    for group in registry.groups:
        yield f"## {group.title}\n"
        yield "| command | what it does | a key needs | in plain language |"
        yield "|---|---|---|---|"
        for command in group.commands:
            words = [command.help]
            words += [
                f"`{argument.shown}`: {_sentence(argument)}" for argument in command.arguments
            ]
            plain = "yes" if command.spoken else ""
            yield row(f"`{command.usage}`", " ".join(words), f"`{command.permission}`", plain)
        yield ""


def _sentence(argument: Argument) -> str:
    return argument.help[0].lower() + argument.help[1:]
