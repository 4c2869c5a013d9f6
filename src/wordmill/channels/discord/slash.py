"""The commands of the registry as Discord's, and the menu of a message.

They are registered for all servers at once, and only where they differ from what is registered:
Discord counts registrations. Names and arguments are those of the registry; what a command takes
one of a few fixed values for is a choice, and what can be suggested is completed while it is typed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from wordmill.commands import COMMANDS, Argument, Command, Context, Suggestion
from wordmill.commands.help import line

Json: TypeAlias = dict[str, Any]

SLASH: Final = 1
MENU: Final = 3
_TEXT, _WHOLE = 3, 4
_LONGEST: Final = 100
"""Characters of a description, and of a choice."""
MOST: Final = 25
"""Choices."""

GOOGLE: Final = "Save to Google Docs"
WORD: Final = "Save as Word"
RETRY: Final = "Retry"
RATE: Final = "Rate"
MENUS: Final = (GOOGLE, WORD, RETRY, RATE)


def wanted(context: Context) -> list[Json]:
    """All that should be registered. context: anybody's; only fixed values are asked for."""
    return [
        *(_slash(command, context) for command in COMMANDS),
        *({"name": name, "type": MENU, "contexts": [0, 1]} for name in MENUS),
    ]


def differs(registered: Sequence[Mapping[str, Any]], wanted: Sequence[Json]) -> bool:
    """Whether what Discord has is not what is wanted."""
    return _plain(registered) != _plain(wanted)


def completed(command: Command, option: str, begun: str, context: Context) -> list[Json]:
    """The choices for an option that is being typed."""
    argument = next((one for one in command.arguments if _named(one) == option), None)
    if argument is None or argument.suggest is None:
        return []
    found = [
        one
        for one in argument.suggest(context)
        if begun.casefold() in f"{one.value} {one.note}".casefold()
    ]
    found.sort(key=lambda one: not one.value.casefold().startswith(begun.casefold()))
    return [_choice(one) for one in found if len(one.value) <= _LONGEST][:MOST]


def values(command: Command, options: Iterable[Mapping[str, Any]]) -> Json:
    """The arguments of a command by their own names."""
    names = {_named(argument): argument.name for argument in command.arguments}
    return {names[one["name"]]: one["value"] for one in options if one["name"] in names}


def _slash(command: Command, context: Context) -> Json:
    return {
        "name": command.name,
        **_described(command.help),
        "type": SLASH,
        "contexts": [0, 1],
        "options": [_option(argument, context) for argument in command.arguments],
    }


def _option(argument: Argument, context: Context) -> Json:
    option: Json = {
        "name": _named(argument),
        **_described(argument.help),
        "type": _WHOLE if argument.kind == "whole" else _TEXT,
        "required": not argument.optional,
    }
    if argument.kind == "whole" and argument.low is not None:
        option["min_value"] = argument.low
    if argument.suggest is not None:
        if argument.closed:
            option["choices"] = [_choice(one) for one in argument.suggest(context)][:MOST]
        else:
            option["autocomplete"] = True
    return option


def _described(text: str) -> Json:
    """In English, and as each person's Discord shows it in German."""
    english, german = (_cut(one.replace("`", "")) for one in (text, line(text, "de")))
    return {"description": english, "description_localizations": {"de": german}}


def _choice(suggestion: Suggestion) -> Json:
    note = f" - {suggestion.note}" if suggestion.note else ""
    return {"name": _cut(f"{suggestion.value}{note}"), "value": suggestion.value}


def _named(argument: Argument) -> str:
    return argument.name.replace("_", "-")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1].rstrip()}…"


def _plain(commands: Iterable[Mapping[str, Any]]) -> list[Json]:
    """What matters of commands, in one order, without what Discord fills in."""
    found = [
        {
            "name": one["name"],
            "type": one.get("type", SLASH),
            "description": one.get("description") or "",
            "localized": one.get("description_localizations") or {},
            "contexts": sorted(one.get("contexts") or ()),
            "options": [_plain_option(option) for option in one.get("options") or ()],
        }
        for one in commands
    ]
    return sorted(found, key=lambda one: (one["type"], one["name"]))


def _plain_option(option: Mapping[str, Any]) -> Json:
    return {
        "name": option["name"],
        "type": option["type"],
        "description": option["description"],
        "localized": option.get("description_localizations") or {},
        "required": option.get("required", False),
        "autocomplete": option.get("autocomplete", False),
        "min_value": option.get("min_value"),
        "choices": [
            {"name": one["name"], "value": one["value"]} for one in option.get("choices") or ()
        ],
    }
