"""`python`: a function of yours.

    total: {type: python, function: "shop:total", needs: [price, count]}

The function's module is looked for in the recipe's folder first, or in the one that `folder`
names, and its text is part of the recipe's digest (see `modules`). It gets a dict with the values
that `needs` names and the row's number under `row`, and returns a JSON value; what it raises
becomes the cell's error. With `batch: true` it gets a list of such dicts and returns a list.

This is code that runs with your rights. Generate from a stranger's recipe only after reading it.
"""

import copy
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from wordmill.columns import modules
from wordmill.columns.base import Column, Context, Filler
from wordmill.types import CellError, Row, Value


class Python(Column):
    """A function by its import path.

    function: `package.module:name`.  needs: the columns it reads.
    batch: it takes a list of dicts and returns a list of as many values.
    folder: where its module is looked for first, from the recipe's folder.
    """

    model_config = ConfigDict(populate_by_name=True)

    type: Literal["python"] = "python"
    function: str = Field(kw_only=False)
    needs_: tuple[str, ...] = Field(default=(), alias="needs")
    batch: bool = False
    folder: str = ""

    @field_validator("function")
    @classmethod
    def _has_both(cls, function: str) -> str:
        modules.split(function)
        return function

    def needs(self) -> frozenset[str]:
        """As the recipe says."""
        return frozenset(self.needs_)

    def contents(self, folder: Path, where: str) -> Mapping[str, str]:
        """The text of the function's module, so that a changed function is another recipe."""
        return {self.function: modules.source_of(self.function, self._place(folder))}

    def identity(self) -> Value:
        """Without the place of the module: its text is what counts."""
        return {name: value for name, value in self.written().items() if name != "folder"}

    def moved(self, folder: Path, to: Path) -> Mapping[str, Value]:
        """The way back to the module, where it is not installed."""
        place = self._place(folder)
        if not modules.is_local(self.function, place) or Path(self.folder).is_absolute():
            return {}
        return {"folder": Path(os.path.relpath(place.resolve(), to.resolve())).as_posix()}

    def _place(self, folder: Path) -> Path:
        return folder / Path(self.folder).expanduser()

    def prepare(self, context: Context) -> Filler:
        """The maker. Imports the function's module."""
        place = self._place(context.folder)
        function = modules.load(self.function, place, f"columns.{context.name}.function")
        return _Called(function, ("row", *self.needs_), self.batch)

    def value_schema(self) -> Mapping[str, Any]:
        """Not known."""
        return {}


class _Called(Filler):
    def __init__(self, function: modules.Function, names: Sequence[str], batch: bool) -> None:
        self._function, self._names, self._batch = function, names, batch

    def fill(self, rows: Sequence[Row]) -> list[Value | CellError]:
        """A value a row."""
        given = [{name: _copied(row[name]) for name in self._names} for row in rows]
        if not self._batch:
            return [self._called(values) for values in given]
        made = self._called(given, many=True)
        if isinstance(made, CellError):
            return [made] * len(rows)
        if len(made) != len(rows):
            detail = f"the function got {len(rows)} rows and returned {len(made)} values"
            return [CellError("python", detail)] * len(rows)
        return [_checked(value) for value in made]

    def _called(self, given: Value, many: bool = False) -> Value | CellError:
        try:
            made = self._function(given)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's: it may raise anything
            return CellError("python", modules.words(error))
        if not many:
            return _checked(made)
        if isinstance(made, list | tuple):
            return list(made)
        return CellError("python", f"the function returned {_article(made)}, not a list of values")


def _copied(value: Value) -> Value:
    return copy.deepcopy(value) if isinstance(value, dict | list) else value


def _checked(value: Value) -> Value | CellError:
    """What a function returned as a JSON value, tuples as lists."""
    try:
        return _json(value)
    except (TypeError, ValueError, RecursionError) as error:
        return CellError("python", f"the function returned {error}")


def _json(value: Value) -> Value:
    if value is None or isinstance(value, bool) or type(value) is int:
        return value
    if type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            what = "a text with half a surrogate pair, which is no JSON value"
            raise ValueError(what) from None
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise ValueError(f"{value}, which is no JSON value")
        return value
    if isinstance(value, list | tuple):
        return [_json(part) for part in value]
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise TypeError("a dict with keys that are no texts")
        return {name: _json(part) for name, part in value.items()}
    raise TypeError(f"{_article(value)}, which is no JSON value")


def _article(value: Value) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
