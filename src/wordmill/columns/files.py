"""Files that a recipe names: where they are, what they say, and the digest of their contents.

A path is relative to the recipe's folder. `builtin:rlhi/axes/scope.yaml` is a file that ships
with Wordmill, so that a copied recipe still finds it.
"""

import csv
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

import orjson
import yaml

from wordmill.errors import RecipeError
from wordmill.types import Value

BUILT_IN = "builtin:"

_PIECE = 1 << 20


def resolve(folder: Path, path: str, where: str = "") -> Path:
    """The file that a recipe means by a path.

    folder: of the recipe.  where: the option that names it, for messages.
    Raises RecipeError when there is no such file, or it is a folder.
    """
    if path.startswith(BUILT_IN):
        inside = PurePosixPath(path.removeprefix(BUILT_IN))
        if inside.is_absolute() or ".." in inside.parts:
            raise RecipeError(f"{path!r} leaves the files that ship with Wordmill.", where)
        found = Path(__file__).parent.parent / "recipes_data" / inside
        if not found.is_file():
            raise RecipeError(f"no file {str(inside)!r} ships with Wordmill.", where)
        return found
    found = folder / Path(path).expanduser()
    if found.is_dir():
        raise RecipeError(f"{path!r} is a folder; name a file in it.", where)
    if not found.is_file():
        raise RecipeError(
            f"there is no file {path!r}; the recipe's paths start in {str(folder.absolute())!r}.",
            where,
        )
    return found


def fingerprint(path: Path, where: str = "") -> str:
    """32 hex digits (BLAKE2b) of a file's contents, read in pieces."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        raise unreadable(path, error, where) from error
    return digest.hexdigest()


def unreadable(path: Path, error: OSError, where: str) -> RecipeError:
    """The sentence about a file that the system does not let us read."""
    return RecipeError(f"{path.name!r} cannot be read: {error.strerror or error}.", where)


def decoded(raw: bytes, name: str, line: int, where: str) -> str:
    """Bytes of a file as text. `line`: the number of their first line, for the message.

    Raises RecipeError for what is not UTF-8.
    """
    try:
        return raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line += raw.count(b"\n", 0, error.start)
        raise RecipeError(
            f"{name!r}, line {line}: the byte {raw[error.start]:#04x} is not UTF-8. "
            "Save the file as UTF-8.",
            where,
        ) from error


@dataclass(frozen=True, slots=True)
class Listed:
    """Values of a list, in order, and their weights (1 where none is written)."""

    values: tuple[Value, ...]
    weights: tuple[float, ...]
    weighted: bool = False
    """Some weight was written with its value."""


def listed(entries: Sequence[Value], what: str) -> Listed:
    """Entries of a list as values and weights.

    An entry is a value, or an object with a field `value`, and maybe `weight` and others. Where
    any entry has others, all the values are objects with `value` and these; so a template can
    count on the form. what: how messages call the list.
    Raises ValueError in words: no entries, one twice, a weight that is none.
    """
    if not entries:
        raise ValueError(f"{what} is empty; give at least one value")
    kinds = {type(entry) for entry in entries}
    if str in kinds and (bool in kinds or type(None) in kinds):
        odd = next(e for e in entries if isinstance(e, bool) or e is None)
        raise ValueError(
            f"{what} has {_written(odd)} among texts; put it in quotes if it is meant as a text"
        )
    marked = [isinstance(entry, dict) and "value" in entry for entry in entries]
    rich = any(
        mark and not entry.keys() <= {"value", "weight"}
        for mark, entry in zip(marked, entries, strict=True)
    )
    values: list[Value] = []
    weights: list[float] = []
    weighted = False
    for entry, mark in zip(entries, marked, strict=True):
        weight = 1.0
        value = entry
        if mark:
            if "weight" in entry:
                weighted, weight = True, checked_weight(entry["weight"], what)
            rest = {name: part for name, part in entry.items() if name != "weight"}
            value = rest if rich else entry["value"]
        elif rich:
            value = {"value": entry}
        values.append(value)
        weights.append(weight)
    seen: set[str] = set()
    for value in values:
        key = key_of(value)
        if key in seen:
            raise ValueError(f"{what} has {_written(value)} twice; give it a weight instead")
        seen.add(key)
    if not any(weights):
        raise ValueError(f"{what} has no weight above 0")
    return Listed(tuple(values), tuple(weights), weighted)


def checked_weight(weight: Value, what: str) -> float:
    """A weight as it was written; ValueError unless it is a finite number, 0 or more."""
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise ValueError(f"{what} has the weight {_written(weight)}, which is no number")
    if not math.isfinite(weight) or weight < 0:
        raise ValueError(f"{what} has the weight {weight}; a weight is 0 or more")
    return weight


def key_of(value: Value) -> str:
    """How a value is called where options name it: a text itself, else its JSON.

    An object with a field `value` is called by that.
    """
    if type(value) is str:
        return value
    if type(value) is dict and "value" in value:
        return key_of(value["value"])
    if type(value) is int:
        return str(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _written(value: Value) -> str:
    return repr(value) if isinstance(value, str) else key_of(value)


# Lists of values in files ---------------------------------------------------------------------


def read_list(path: Path, where: str) -> Listed:
    """The values of a file: YAML or JSON (a list), CSV (a column `value`), or text (one a line).

    Raises RecipeError in words, with the line where there is one.
    """
    suffix = path.suffix.lower()
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error, where) from error
    text = decoded(raw, path.name, 1, where)
    try:
        if suffix in (".yaml", ".yml"):
            entries = _yaml_entries(text)
        elif suffix == ".json":
            entries = _entries(orjson.loads(text))
        elif suffix == ".csv":
            entries = _csv_entries(text)
        elif suffix == ".txt":
            entries = [line.strip() for line in text.splitlines() if line.strip()]
        else:
            raise ValueError(f"a list of values is .yaml, .json, .csv or .txt, not {suffix!r}")
        return listed(entries, "it")
    except ValueError as error:
        raise RecipeError(f"{path.name!r}: {error}.", where) from error


def _entries(document: Value) -> list[Value]:
    if isinstance(document, dict) and isinstance(document.get("values"), list):
        document = document["values"]
    if not isinstance(document, list):
        raise ValueError("it must hold a list of values, or a mapping with `values`")
    return document


def _yaml_entries(text: str) -> list[Value]:
    try:
        return _entries(yaml.load(text, _CoreLoader))  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"line {line}: it is not YAML ({error.problem})") from error
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML ({error})") from error


def _csv_entries(text: str) -> list[Value]:
    rows = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = next(rows, [])
        if "value" not in header:
            raise ValueError(f"line 1: there is no column `value`; it has {', '.join(header)}")
        entries: list[Value] = []
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise ValueError(
                    f"line {rows.line_num}: it has {len(row)} fields, and the first line has "
                    f"{len(header)}"
                )
            entry: dict[str, Value] = dict(zip(header, row, strict=True))
            if "weight" in entry:
                entry["weight"] = _number(entry["weight"], rows.line_num)
            entries.append(entry)
    except csv.Error as error:
        raise ValueError(f"line {rows.line_num}: it is not CSV ({error})") from error
    return entries


def _number(text: str, line: int) -> float:
    try:
        return float(text) if not text.strip().isdigit() else int(text)
    except ValueError:
        raise ValueError(f"line {line}: the weight {text!r} is no number") from None


class _CoreLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The core schema of YAML 1.2: `no`, `on` and dates are the texts that they look like."""

    yaml_implicit_resolvers = cast(dict[str, list[tuple[str, re.Pattern[str]]]], {})


for _kind, _pattern, _first in (
    ("null", r"(?:null|Null|NULL|~|)\Z", ["n", "N", "~", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", ["t", "T", "f", "F"]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)\Z", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+)\Z",
     list("-+.0123456789")),
):  # fmt: skip
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), _first)
