"""Options that follow another column's value.

    weights: {by: mood, calm: [3, 1], angry: [1, 3], else: [1, 1]}

`by` names a column, or a field of its value (`buyer.country`). The other keys are values that it
may have, as `files.key_of` calls them; `else` stands for all the others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from wordmill.columns.files import key_of
from wordmill.errors import nearest
from wordmill.types import CellError, Row, Value

OTHERWISE = "else"

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Branches(Generic[T]):
    """An option's content by another column's value, or one content for all rows (`path` ()).

    path: the column and the fields below it.  branches: by the value's name.
    """

    path: tuple[str, ...]
    branches: Mapping[str, T]

    @property
    def needs(self) -> frozenset[str]:
        """The column that decides, if one does."""
        return frozenset(self.path[:1])

    def key(self, row: Row) -> str | CellError:
        """The branch that a row takes; a CellError where there is none for its value."""
        if not self.path:
            return ""
        if len(self.path) == 1:
            value = row[self.path[0]]
            if type(value) is str and value in self.branches and value != OTHERWISE:
                return value
        value = field_of(row, self.path)
        if isinstance(value, CellError):
            return value
        key = key_of(value)
        if key in self.branches and key != OTHERWISE:
            return key
        if OTHERWISE in self.branches:
            return OTHERWISE
        known = [name for name in self.branches if name != OTHERWISE]
        return CellError(
            "sampling",
            f"nothing is given for {'.'.join(self.path)} = {key!r}"
            + nearest(key, known).rstrip(".")
            + f", and there is no `{OTHERWISE}`",
        )

    def map(self, change: Callable[[T], U]) -> "Branches[U]":
        """The same branches with other contents."""
        return Branches(self.path, {key: change(part) for key, part in self.branches.items()})


def read_branches(option: Value) -> Branches[Value]:
    """An option as it is written, with `by` or without.

    Raises ValueError, in words, for a `by` without branches.
    """
    if not (isinstance(option, dict) and "by" in option):
        return Branches((), {"": option})
    path = option["by"]
    if not isinstance(path, str) or not all(path.split(".")):
        raise ValueError(f"`by` names a column, or a field of one (buyer.country), not {path!r}")
    branches = {str(key): part for key, part in option.items() if key != "by"}
    if not branches:
        raise ValueError(f"after `by: {path}` give what each of its values stands for")
    return Branches(tuple(path.split(".")), branches)


def field_of(row: Row, path: tuple[str, ...]) -> Value | CellError:
    """The value of a column, or of a field below it."""
    value = row[path[0]]
    for depth, name in enumerate(path[1:], 1):
        if not isinstance(value, dict) or name not in value:
            return CellError("sampling", f"{'.'.join(path[:depth])} has no field {name!r}")
        value = value[name]
    return value
