"""What is wrong with options that somebody wrote, as sentences with a place.

Pydantic finds the faults; here they become our words, with the nearest right name, and a path
into what was written. Whoever read the text (`wordmill.recipes`) turns the path into a line.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from wordmill.errors import nearest
from wordmill.types import Value

Path: TypeAlias = tuple[str | int, ...]
"""Keys and list places from the top of what was written: ("columns", "ticket", "prompt")."""

_EXPECTED: Mapping[str, str] = {
    "bool": "true or false",
    "bytes": "text",
    "dict": "a mapping of names to values",
    "finite": "a finite number",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "mapping": "a mapping of names to values",
    "model": "a mapping of options",
    "string": "text",
    "tuple": "a list",
}
"""By the first word of pydantic's error type: what the value must be."""

_PARTS = re.compile(r"[^.\[\]]+")

_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    path: where.  message: a sentence without the place.  key: the last key of `path` itself is
    wrong, not its value.  word: a word within the value that the sentence is about, or "".
    line, at: of the value's own text, from 1, and the letter in it, from 1; 0 where not known.
    """

    path: Path
    message: str
    key: bool = False
    word: str = ""
    line: int = 0
    at: int = 0

    def within(self, *path: str | int) -> "Fault":
        """The same fault, seen from further up."""
        return replace(self, path=(*path, *self.path))

    def __str__(self) -> str:
        where = place(self.path[:-1] if self.key else self.path)
        message = self.message if self.message.endswith((".", "?")) else f"{self.message}."
        return f"{where}: {message}" if where else message


def place(path: Path) -> str:
    """A path as a person reads it: ("values", 0) -> `values[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def path_of(text: str) -> Path:
    """The path that `place` wrote."""
    return tuple(int(part) if part.isdecimal() else part for part in _PARTS.findall(text))


def shown(value: Value, limit: int = 60) -> str:
    """A value in a sentence: as Python writes it, shortened."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def faults_of(
    error: ValidationError, model: type[BaseModel], written: Mapping[str, Value]
) -> list[Fault]:
    """Pydantic's findings about `written` as faults, one for each place."""
    found: dict[tuple[Path, str], list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        location = details["loc"]
        path = _within(written, location)
        if details["type"] in ("missing", "extra_forbidden"):
            path = (*_within(written, location[:-1]), str(location[-1]))
        found.setdefault((path, _kind(details)), []).append(details)
    return [
        _fault(path, kind, details, model)
        for (path, kind), details in found.items()
        if kind != "expected" or not any(_deeper(other, path) for other, _ in found)
    ]


def _deeper(path: Path, than: Path) -> bool:
    """The branch of a union that got furthest is the one that was meant."""
    return len(path) > len(than) and path[: len(than)] == than


def _kind(details: ErrorDetails) -> str:
    """Errors of the same kind at one place are branches of one union, told in one sentence."""
    kind = details["type"]
    return "expected" if kind not in _BOUNDS and _expected(kind) else kind


def _expected(kind: str) -> str | None:
    if kind.endswith(("_short", "_long", "_mismatch")):
        return None
    return _EXPECTED.get(kind.partition("_")[0])


def _fault(path: Path, kind: str, details: list[ErrorDetails], model: type[BaseModel]) -> Fault:
    first = details[0]
    if kind == "extra_forbidden":
        options = _options(model, path[:-1])
        near = nearest(str(path[-1]), options)
        return Fault(path, f"there is no option {path[-1]!r}{near}", key=True)
    if kind == "missing":
        return Fault(path[:-1], f"the option {path[-1]!r} is missing.")
    value, context = shown(first["input"]), first.get("ctx", {})
    if kind == "expected":
        wanted = " or ".join(dict.fromkeys(_expected(each["type"]) or "" for each in details))
        hint = ""
        if wanted == "text" and isinstance(first["input"], bool | int | float):
            hint = f' Put it in quotes: "{first["input"]}".'
        return Fault(path, f"must be {wanted}, not {value}.{hint}")
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return Fault(path, f"must be {words} {context[bound]}, not {value}.")
    if kind == "literal_error":
        near = nearest(str(first["input"]), _alternatives(str(context["expected"])))
        return Fault(path, f"cannot be {value}{near}")
    if kind in ("too_short", "string_too_short"):
        return Fault(path, f"must not be empty, or shorter than {context['min_length']}.")
    if kind == "value_error":
        return Fault(path, str(context["error"]))
    message = first["msg"]
    return Fault(path, f"{message[0].lower()}{message[1:]}, not {value}.")


def _alternatives(expected: str) -> list[str]:
    """Pydantic's `'a', 'b' or 'c'` as a list."""
    return [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]


def _within(written: Value, location: Sequence[str | int]) -> Path:
    """The part of a location that is in what was written: unions add names of their branches."""
    path: list[str | int] = []
    for part in location:
        try:
            written = written[part]
        except (KeyError, IndexError, TypeError):
            continue
        path.append(part)
    return tuple(path)


def _options(model: type[BaseModel], path: Path) -> list[str]:
    """The names of the options at a path into a model."""
    inner: type[BaseModel] | None = model
    for part in path:
        if inner is None:
            return []
        if isinstance(part, str):
            for name, field in inner.model_fields.items():
                if part in (name, field.alias):
                    inner = _model_of(field.annotation)
                    break
    if inner is None:
        return []
    return [field.alias or name for name, field in inner.model_fields.items()]


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The first model within an annotation: of `list[Turn] | None`, Turn."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if found := _model_of(argument):
            return found
    return None
