"""From what was written to the checked parts of a recipe, or to everything that is wrong with it.

Both doors come through here: YAML with plain values, Python with columns that are made already.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wordmill import plugins
from wordmill.columns.answers import encodable
from wordmill.columns.base import Column, Config
from wordmill.columns.faults import Fault, Path, faults_of, path_of, place, shown
from wordmill.columns.plain import NotPlain
from wordmill.columns.templates import Expression, compile_expression, compile_template
from wordmill.errors import ConfigError, RecipeError, nearest
from wordmill.recipes.ordering import circles, ordered
from wordmill.recipes.parameters import Parameter
from wordmill.types import Value

MOST_COLUMNS = 500

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}\Z")
_RESERVED: Mapping[str, str] = {
    "errors": "every row has a field of that name",
    "item": "templates see an item by that name",
    "kept": "every row has a field of that name",
    "lineage": "every row has a field of that name",
    "parameters": "templates see the recipe's parameters by that name",
    "row": "templates see the row's number by that name",
    "variant": "templates see an item's variant by that name",
    **dict.fromkeys(
        ("and", "else", "false", "for", "if", "in", "is", "none", "not", "or", "true"),
        "it is a word of the template language",
    ),
}


class Head(BaseModel):
    """What a recipe says besides columns and parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}$")
    description: str = ""
    seed: int = Field(default=0, ge=0, lt=2**63, strict=True)
    model: str | None = Field(default=None, min_length=1)
    table: str = Field(default="rows", pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")
    keep: str | None = Field(default=None, min_length=1)
    columns: Value = None
    parameters: Value = None


@dataclass(frozen=True, slots=True)
class Parts:
    """A recipe in its parts. needs: what each column reads, `when` included; order: of making."""

    head: Head
    columns: Mapping[str, Column]
    parameters: Mapping[str, Parameter]
    needs: Mapping[str, frozenset[str]]
    order: tuple[str, ...]


def build(written: Value) -> tuple[Parts | None, list[Fault]]:
    """The parts of what was written, and its faults; the parts are None where there are any."""
    if not isinstance(written, Mapping):
        return None, [Fault((), f"a recipe is a mapping with `columns:`, not {shown(written)}.")]
    faults: list[Fault] = []
    head = _head(written, faults)
    parameters = _parameters(written.get("parameters"), faults)
    columns = _columns(written.get("columns"), faults)
    known = _keys(written.get("columns"))
    chosen = _keys(written.get("parameters"))
    needs = {name: _needs(name, column, known, faults) for name, column in columns.items()}
    faults += circles(needs)
    for name, column in columns.items():
        _check_items(name, column, columns, known, faults)
        faults += _parameters_of(name, column, chosen)
        if head and column.table_schema(name) is not None and name == head.table:
            message = f"the main table is called {name!r} too. Name one of them otherwise."
            faults.append(Fault(("columns", name), message, key=True))
    if isinstance(text := written.get("keep"), str) and text:
        keep = _expression(text, ("keep",), faults)
        if keep is not None:
            faults += _unknown_columns(keep.names, known, ("keep",))
            faults += _unknown_parameters(keep.parameters, chosen, ("keep",))
    faults += _texts(head, columns, parameters)
    if faults or head is None:
        return None, faults
    return Parts(head, columns, parameters, needs, ordered(needs)), []


def _keys(written: Value) -> set[str]:
    """Names that are written, whatever else is wrong with them."""
    return set(map(str, written)) if isinstance(written, Mapping) else set()


def _head(written: Mapping[str, Value], faults: list[Fault]) -> Head | None:
    try:
        return Head.model_validate(dict(written))
    except ValidationError as error:
        faults += [_about_names(fault) for fault in faults_of(error, Head, written)]
        return None


def _about_names(fault: Fault) -> Fault:
    """Words for the two patterns."""
    if "match pattern" not in fault.message:
        return fault
    rule = "a name has letters, digits, spaces and ._- and begins with a letter or digit"
    if fault.path == ("table",):
        rule = "it becomes the name of files: letters, digits, _ and -, and a letter first"
    return Fault(fault.path, f"{rule}.")


def _parameters(written: Value, faults: list[Fault]) -> dict[str, Parameter]:
    made: dict[str, Parameter] = {}
    for name, value in _entries(written, "parameters", "{size: {type: integer}}", faults):
        path = ("parameters", name)
        if not _NAME.match(name):
            faults.append(Fault(path, _BAD_NAME.format(name=name), key=True))
        elif isinstance(value, Parameter):
            made[name] = value
        elif not isinstance(value, Mapping):
            message = f"must be options, as in {{type: integer, default: 3}}, not {shown(value)}."
            faults.append(Fault(path, message))
        else:
            parameter = _config(Parameter, value, path, faults)
            if isinstance(parameter, Parameter):
                made[name] = parameter
    return made


_BAD_NAME = "{name!r} is no name here: letters, digits and _, at most 63, and a letter first."


def _columns(written: Value, faults: list[Fault]) -> dict[str, Column]:
    made: dict[str, Column] = {}
    entries = list(_entries(written, "columns", "{text: {type: prompt, prompt: ...}}", faults))
    if not entries and not any(fault.path[:1] == ("columns",) for fault in faults):
        faults.append(Fault(("columns",), "a recipe needs at least one column."))
    if len(entries) > MOST_COLUMNS:
        faults.append(Fault(("columns",), f"a recipe can have {MOST_COLUMNS} columns."))
        return {}
    for name, value in entries:
        path = ("columns", name)
        if not _NAME.match(name):
            faults.append(Fault(path, _BAD_NAME.format(name=name), key=True))
        elif reason := _RESERVED.get(name.lower()):
            message = f"a column cannot be called {name!r}: {reason}."
            faults.append(Fault(path, message, key=True))
        elif (column := _column(value, path, faults)) is not None:
            made[name] = column
    return made


def _entries(
    written: Value, option: str, example: str, faults: list[Fault]
) -> Iterator[tuple[str, Value]]:
    """The entries of a mapping of names."""
    if written is None:
        return
    if not isinstance(written, Mapping):
        message = f"must be a mapping of names, as in {option}: {example}, not {shown(written)}."
        faults.append(Fault((option,), message))
        return
    for name, value in written.items():
        yield str(name), value


def _column(value: Value, path: Path, faults: list[Fault]) -> Column | None:
    if isinstance(value, Column):
        return value
    if not isinstance(value, Mapping):
        message = f"must be options, as in {{type: prompt, prompt: ...}}, not {shown(value)}."
        faults.append(Fault(path, message))
        return None
    kind = value.get("type")
    known = plugins.names("columns")
    if kind is None:
        faults.append(Fault(path, f"the option 'type' is missing{nearest('', known)}"))
        return None
    if not isinstance(kind, str) or kind not in known:
        message = f"there is no column type {shown(kind)}{nearest(str(kind), known)}"
        faults.append(Fault((*path, "type"), message))
        return None
    try:
        model = plugins.load("columns", kind)
    except ConfigError as error:
        faults.append(Fault((*path, "type"), str(error)))
        return None
    column = _config(model, value, path, faults)
    return column if isinstance(column, Column) else None


def _config(
    model: type[Config], value: Mapping[str, Value], path: Path, faults: list[Fault]
) -> Config | None:
    """A config from plain values."""
    try:
        return model(**value)
    except RecipeError as error:
        cause = error.__cause__
        if isinstance(cause, ValidationError):
            faults += [fault.within(*path) for fault in faults_of(cause, model, value)]
        elif isinstance(cause, NotPlain):
            faults.append(cause.fault.within(*path))
        else:
            faults.append(Fault(path, error.message))
        return None


# What parts say about each other ---------------------------------------------------------------


def _needs(name: str, column: Column, known: set[str], faults: list[Fault]) -> frozenset[str]:
    """The columns that a column reads."""
    path = ("columns", name)
    needs = frozenset[str]()
    try:
        needs |= column.needs()
    except RecipeError as error:
        faults.append(of_text(error, path))
    when = None if column.when is None else _expression(column.when, (*path, "when"), faults)
    if when is not None:
        needs |= when.names
    faults += _unknown_columns(needs, known, path)
    return needs & known


def _expression(text: str, path: Path, faults: list[Fault]) -> Expression | None:
    try:
        return compile_expression(text, str(path[-1]))
    except RecipeError as error:
        faults.append(of_text(error, path[:-1]))
        return None


def of_text(error: RecipeError, above: Path) -> Fault:
    """The fault of an option; the error's source says which option, below `above`."""
    option = path_of(error.source)
    if option[: len(above)] == above:
        option = option[len(above) :]
    return Fault((*above, *option), error.message, line=error.line, at=error.column)


def _unknown_columns(needs: frozenset[str], known: set[str], path: Path) -> list[Fault]:
    return [
        Fault(path, f"there is no column {name!r}{nearest(name, known)}", word=name)
        for name in sorted(needs - known)
    ]


def _unknown_parameters(read: frozenset[str], known: set[str], path: Path) -> list[Fault]:
    return [
        Fault(
            path,
            f"there is no parameter {name!r}{nearest(name, known)}",
            word=f"parameters.{name}",
        )
        for name in sorted(read - known)
    ]


def _parameters_of(name: str, column: Column, known: set[str]) -> list[Fault]:
    """Parameters that a column's templates name and the recipe does not have."""
    faults: list[Fault] = []
    for path, text in _strings(column.written(), ()):
        if "parameters." not in text:
            continue
        compiled = compile_expression if path == ("when",) else compile_template
        try:
            read = compiled(text, place(path)).parameters
        except RecipeError:
            continue  # no template, or told already
        faults += _unknown_parameters(read, known, ("columns", name, *path))
    return faults


def _strings(value: Value, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _strings(part, (*path, key))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _strings(part, (*path, number))


def _check_items(
    name: str,
    column: Column,
    columns: Mapping[str, Column],
    known: set[str],
    faults: list[Fault],
) -> None:
    """A column that reads items needs a column that has some, and a name that they leave free."""
    of = column.items_of()
    if of is None or of not in known or of not in columns:
        return
    table = columns[of].table_schema(of)
    if table is None:
        able = [
            other
            for other, made in columns.items()
            if other != name and made.table_schema(other) is not None
        ]
        message = f"{of!r} has no items; a column of type candidates has{nearest(of, able)}"
        faults.append(Fault(("columns", name), message, word=of))
    elif column.joins() == of and name in {"row", *table.get("properties", {})}:
        message = f"the items of {of!r} have a field {name!r} already: call the column otherwise."
        faults.append(Fault(("columns", name), message, key=True))


def _texts(
    head: Head | None, columns: Mapping[str, Column], parameters: Mapping[str, Parameter]
) -> list[Fault]:
    """Values that JSON or a text file cannot hold; only Python can write them."""
    faults: list[Fault] = []
    said: dict[Path, Value] = {}
    if head is not None:
        for option in ("description", "keep", "model"):
            said[(option,)] = getattr(head, option)
    for name, column in columns.items():
        said["columns", name] = column.written()
    for name, parameter in parameters.items():
        said["parameters", name] = parameter.written()
    for path, value in said.items():
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        except ValueError:
            faults.append(Fault(path, "it holds a number that JSON does not know, as NaN."))
            continue
        if not encodable(text):
            faults.append(Fault(path, "a text in it holds half a surrogate pair."))
        if any("\0" in string for _, string in _strings(value, ())):
            faults.append(Fault(path, "a text in it holds a NUL character."))
    return faults
