"""`python`: a function of yours.

    total: {type: python, function: "shop:total", needs: [price, count]}

The function's module is looked for in the recipe's folder first. It gets a dict with the values
that `needs` names and the row's number under `row`, and returns a JSON value; what it raises
becomes the cell's error. With `batch: true` it gets a list of such dicts and returns a list.

This is code that runs with your rights. Generate from a stranger's recipe only after reading it.
"""

import copy
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import ConfigDict, Field, field_validator

from wordmill.columns.base import Column, Context, Filler
from wordmill.errors import RecipeError, nearest
from wordmill.types import CellError, Row, Value

_Function = Callable[[Value], Value]


class Python(Column):
    """A function by its import path.

    function: `package.module:name`.  needs: the columns it reads.
    batch: it takes a list of dicts and returns a list of as many values.
    """

    model_config = ConfigDict(populate_by_name=True)

    type: Literal["python"] = "python"
    function: str = Field(kw_only=False)
    needs_: tuple[str, ...] = Field(default=(), alias="needs")
    batch: bool = False

    @field_validator("function")
    @classmethod
    def _has_both(cls, function: str) -> str:
        module, colon, name = function.partition(":")
        if not (colon and name.isidentifier() and all(map(str.isidentifier, module.split(".")))):
            raise ValueError(f"a function is written `package.module:name`, not {function!r}")
        return function

    def needs(self) -> frozenset[str]:
        """As the recipe says."""
        return frozenset(self.needs_)

    def prepare(self, context: Context) -> Filler:
        """The maker. Imports the function's module."""
        function = _imported(self.function, context.folder, f"columns.{context.name}.function")
        return _Called(function, ("row", *self.needs_), self.batch)

    def value_schema(self) -> Mapping[str, Any]:
        """Not known."""
        return {}


def _imported(path: str, folder: Path, where: str) -> _Function:
    """The function behind `package.module:name`."""
    module_name, _, name = path.partition(":")
    _look_in(folder.absolute(), module_name)
    try:
        module = import_module(module_name)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == module_name
        if missing:
            raise RecipeError(
                f"there is no module {module_name!r} in {str(folder.absolute())!r}, the recipe's "
                "folder, and none is installed.",
                where,
            ) from error
        raise RecipeError(
            f"the module {module_name!r} does not import: {_words(error)}.", where
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [word for word, part in vars(module).items() if inspect.isfunction(part)]
        raise RecipeError(
            f"the module {module_name!r} has no function {name!r}{nearest(name, known)}", where
        )
    if inspect.iscoroutinefunction(function):
        raise RecipeError(f"{path!r} is an async function; a column calls plain ones.", where)
    return cast(_Function, function)


def _look_in(folder: Path, module_name: str) -> None:
    """Put the recipe's folder first, also before a module of that name from another folder."""
    top = module_name.partition(".")[0]
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    invalidate_caches()
    if not ((folder / f"{top}.py").is_file() or (folder / top).is_dir()):
        return
    loaded = sys.modules.get(top)
    origin = getattr(loaded, "__file__", None)
    if loaded is not None and origin and not Path(origin).is_relative_to(folder):
        for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
            del sys.modules[name]
        sys.path.remove(str(folder))
        sys.path.insert(0, str(folder))


class _Called(Filler):
    def __init__(self, function: _Function, names: Sequence[str], batch: bool) -> None:
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
        except Exception as error:  # noqa: BLE001 - the function is the user's and may raise anything
            return CellError("python", _words(error))
        if not many:
            return _checked(made)
        if isinstance(made, list | tuple):
            return list(made)
        return CellError("python", f"the function returned {_article(made)}, not a list of values")


def _copied(value: Value) -> Value:
    return copy.deepcopy(value) if isinstance(value, dict | list) else value


def _words(error: BaseException) -> str:
    """An exception in one line: its type and message."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}"[:500] if message else type(error).__name__


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
