"""Options as YAML could say them: text, numbers, true, false, null, lists, and objects of these.

Python can say more. What YAML has a word for is turned into that (a tuple into a list, the key
`True` into `true`); anything else is refused, since a recipe must give the same rows when it is
written out and read.
"""

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel

from wordmill.columns.faults import Fault, Path, shown
from wordmill.types import Value

DEPTH: Final = 50
"""Lists and objects are nested no deeper; as in YAML (`recipes.reading`)."""

LEAST: Final = -(2**63)
MOST: Final = 2**63 - 1
"""Whole numbers are stored in 64 bits, with a sign."""

_LOOKED_INTO: Final = (str, int, list, tuple, Mapping, set, frozenset)

_HINTS: Mapping[type, str] = {
    set: "a set has no order, so write a list",
    frozenset: "a set has no order, so write a list",
}
_HINT = "write text, a number, true, false or null, or a list or an object of these"


class NotPlain(ValueError):
    """A value that no recipe can hold; carries the fault, with its place."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault

    def __str__(self) -> str:
        return str(self.fault)


def plain(options: Mapping[str, Value]) -> dict[str, Value]:
    """Options with plain values; copies, so that nobody changes them later.

    Models of pydantic stay as they are, and so do options that are no list and no object: their
    own types say what fits. Raises NotPlain.
    """
    return {name: _option(value, (name,)) for name, value in options.items()}


def _option(value: Value, path: Path) -> Value:
    return _plain(value, path) if isinstance(value, _LOOKED_INTO) else value


def _plain(value: Value, path: Path) -> Value:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, int):
        if not LEAST <= value <= MOST:
            message = "a whole number has at most 64 bits, sign included; put others in quotes."
            raise NotPlain(Fault(path, message))
        return int(value)
    if len(path) > DEPTH:
        raise NotPlain(Fault(path[:1], f"it is nested more than {DEPTH} deep."))
    if isinstance(value, list | tuple):
        return [_plain(part, (*path, place)) for place, part in enumerate(value)]
    if isinstance(value, Mapping):
        return _object(value, path)
    if isinstance(value, BaseModel) or (isinstance(value, type) and issubclass(value, BaseModel)):
        return value
    hint = _HINTS.get(type(value), _HINT)
    raise NotPlain(Fault(path, f"{shown(value)} is nothing that a recipe can hold: {hint}."))


def _object(value: Mapping[Value, Value], path: Path) -> dict[str, Value]:
    made: dict[str, Value] = {}
    for key, part in value.items():
        name = _key(key, path)
        if name in made:
            raise NotPlain(Fault(path, f"the key {name!r} stands there twice."))
        made[name] = _plain(part, (*path, name))
    return made


def _key(key: Value, path: Path) -> str:
    """A key as YAML and JSON write it: `true`, `1`, `null`."""
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, bool):
        return "true" if key else "false"
    if key is None:
        return "null"
    if isinstance(key, int | float):
        return str(key)
    raise NotPlain(Fault(path, f"{shown(key)} is no key: keys are texts."))
