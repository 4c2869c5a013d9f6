"""Whether a message is a command, and which.

A command stands at the very beginning of a message: `--name` or `/name`, alone or before a space.
`/usr/bin`, `--- a line` and `// a comment` are messages, and so is what begins with a space. A
phone's autocorrect makes one dash of two: an en or em dash counts too, but only right before a
name that there is or nearly is, since dialogues begin with a dash as well.
"""

import re
from collections.abc import Collection
from difflib import get_close_matches
from typing import Final, NamedTuple

_LINE: Final = re.compile(r"(--|/|[–—])([A-Za-z][A-Za-z0-9_-]*)(?:\s+(.*))?", re.DOTALL)
_NEAR: Final = 0.75


class Line(NamedTuple):
    """A command as it was typed. `mark`: how it begins; `name`: in lower case, with dashes."""

    mark: str
    name: str
    rest: str


def parse(text: str, known: Collection[str]) -> Line | None:
    """The command that a message is; None for a message that is meant for a model.

    known: the names that there are. Others come back too, so that they can be named to the person.
    """
    match = _LINE.fullmatch(text.rstrip())
    if match is None:
        return None
    mark, name, rest = match[1], plain(match[2]), match[3] or ""
    if mark not in ("--", "/"):
        if name not in known and not get_close_matches(name, known, 1, _NEAR):
            return None
        mark = "--"
    return Line(mark, name, rest)


def plain(name: str) -> str:
    """A name as the registry has it: lower case, with dashes."""
    return name.lower().replace("_", "-")
