"""A recipe: a dataset described, checked, and never changed after.

YAML and Python are two doors to the same object: the same columns give the same digest and the same
rows. What was read from a file keeps its places, so that every fault names a line.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from wordmill import _engine
from wordmill.columns import files
from wordmill.columns.base import Asker, Column, Context, Filler
from wordmill.columns.faults import Fault, path_of
from wordmill.errors import RecipeError, RecipeErrors, UnknownName, nearest
from wordmill.recipes.building import Parts, build, of_text
from wordmill.recipes.parameters import Parameter
from wordmill.recipes.reading import Document, read
from wordmill.recipes.writing import write
from wordmill.types import Value

BUILT_IN = Path(__file__).parent.parent / "recipes_data"
FILE = "recipe.yaml"

_VERSION = 1  # of the digest: raised when equal options begin to give other rows


class Recipe:
    """A dataset described: columns, a seed, a model, what to keep, what others may choose.

        Recipe("tickets", seed=7, model="mock", columns={
            "mood": Category(["calm", "angry"]),
            "ticket": Prompt("A {{ mood }} customer writes."),
        })

    columns: by name, made ones or mappings of options.  keep: an expression; rows for which it is
    false are turned down.  parameters: by name.  table: the name of the main table.
    folder: where relative paths start; the current folder if not given.
    Raises RecipeErrors with everything that is wrong.
    """

    def __init__(
        self,
        name: str,
        *,
        columns: Mapping[str, Column | Mapping[str, Value]],
        seed: int = 0,
        model: str | None = None,
        keep: str | None = None,
        parameters: Mapping[str, Parameter | Mapping[str, Value]] | None = None,
        description: str = "",
        table: str = "rows",
        folder: str | Path | None = None,
    ) -> None:
        written = {
            "name": name,
            "description": description,
            "seed": seed,
            "model": model,
            "table": table,
            "parameters": parameters,
            "columns": columns,
            "keep": keep,
        }
        parts, faults = build(written)
        if parts is None:
            raise _errors(faults, None)
        self._fill(parts, None, Path(folder) if folder is not None else Path())

    def _fill(self, parts: Parts, document: Document | None, folder: Path) -> None:
        self._parts, self._document = parts, document
        self.folder = folder
        """Where relative paths start."""
        self.columns: Mapping[str, Column] = MappingProxyType(dict(parts.columns))
        """Configs by name, in writing order."""
        self.declared: Mapping[str, Parameter] = MappingProxyType(dict(parts.parameters))
        """What others may choose; a default is the value."""
        self._frozen = True

    def __setattr__(self, name: str, value: object) -> None:
        if getattr(self, "_frozen", False):
            raise AttributeError(f"A recipe does not change: make another one to set {name!r}.")
        super().__setattr__(name, value)

    # The doors

    @classmethod
    def load(cls, what: str | Path) -> "Recipe":
        """A recipe from a file, from a folder that holds `recipe.yaml`, or a built-in by name.

        A path that exists wins over a name. Raises RecipeError, UnknownName.
        """
        return cls._from(*find(what))

    @classmethod
    def _from(cls, path: Path, source: str) -> "Recipe":
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise RecipeError(f"it cannot be read: {error.strerror}.", source) from error
        return cls.from_yaml(raw, source, path.parent)

    @classmethod
    def from_yaml(
        cls, text: str | bytes, source: str = "", folder: str | Path | None = None
    ) -> "Recipe":
        """A recipe from YAML.

        source: what messages call the text.  folder: where its relative paths start.
        """
        document = read(text, source)
        return cls._built(document.root.value, document, Path(folder) if folder else Path())

    @classmethod
    def from_values(cls, written: Value, folder: str | Path | None = None) -> "Recipe":
        """A recipe from plain values, as `written` gives them. Its faults have no lines."""
        return cls._built(written, None, Path(folder) if folder else Path())

    @classmethod
    def _built(
        cls,
        written: Value,
        document: Document | None,
        folder: Path,
        sets: Mapping[tuple[str | int, ...], str] | None = None,
    ) -> "Recipe":
        parts, faults = build(written)
        if parts is None:
            raise _errors(faults, document, sets or {})
        recipe = cls.__new__(cls)
        recipe._fill(parts, document, folder)
        return recipe

    # What it says

    @property
    def name(self) -> str:
        """What it is called."""
        return self._parts.head.name

    @property
    def description(self) -> str:
        """What it makes, in a line or two; may be empty."""
        return self._parts.head.description

    @property
    def seed(self) -> int:
        """What every draw follows from."""
        return self._parts.head.seed

    @property
    def model(self) -> str | None:
        """A name of the catalog, for the columns that name none."""
        return self._parts.head.model

    @property
    def table(self) -> str:
        """The name of the main table."""
        return self._parts.head.table

    @property
    def keep(self) -> str | None:
        """The expression that a row must pass, or None."""
        return self._parts.head.keep

    @property
    def source(self) -> str:
        """What messages call the text it was read from; "" for one made in Python."""
        return self._document.source if self._document else ""

    @property
    def order(self) -> tuple[str, ...]:
        """Names of the columns in the order of making: after what they read, else as written."""
        return self._parts.order

    def needs(self, column: str) -> frozenset[str]:
        """The columns that a column reads, in its `when` too."""
        return self._parts.needs[column]

    @cached_property
    def parameters(self) -> Mapping[str, Value]:
        """Values of the parameters. Raises RecipeError for one that has none."""
        for name, parameter in self.declared.items():
            if parameter.default is None:
                help_text = f" ({parameter.help})" if parameter.help else ""
                raise self.error(
                    Fault(
                        ("parameters", name),
                        f"the parameter {name!r}{help_text} has no default: give it a value, "
                        f"{parameter.wanted()}, with --param {name}=VALUE.",
                    )
                )
        return {name: parameter.default for name, parameter in self.declared.items()}

    def models(self) -> frozenset[str]:
        """Names of all models that are asked; none for columns that have no model yet."""
        names: set[str] = set()
        for column in self.columns.values():
            if column.asks_model:
                names |= column.models() or ({self.model} if self.model else set())
        return frozenset(names)

    def requests_per_row(self, column: str) -> float:
        """How many requests a row costs for a column, without asking again."""
        return self.columns[column].requests_per_row(self.parameters, self.columns)

    def context(self, column: str) -> Context:
        """What `prepare` of a column is told."""
        return Context(
            name=column,
            seed=self.seed,
            model=self.model,
            folder=self.folder,
            parameters=self.parameters,
            columns=self.columns,
        )

    def makers(self) -> Mapping[str, Filler | Asker]:
        """Every column's maker, in the order of making. Reads the files that columns read.

        Raises RecipeErrors with what all the columns refuse.
        """
        makers: dict[str, Filler | Asker] = {}
        errors: list[RecipeError] = []
        contexts = {name: self.context(name) for name in self.order}
        if fault := self._nameless():
            errors.append(self.error(fault))
            # With any model they are looked at for what else is wrong.
            contexts = {name: replace(one, model=self.name) for name, one in contexts.items()}
        for name, context in contexts.items():
            try:
                makers[name] = self.columns[name].prepare(context)
            except RecipeError as error:
                errors.append(self.error(of_text(error, ("columns", name))))
        if errors:
            raise RecipeErrors(sorted(errors, key=lambda error: (error.line, error.column)))
        return makers

    def _nameless(self) -> Fault | None:
        """The fault that several columns ask a model and none is named; one says it itself."""
        if self.model is not None:
            return None
        names = [
            name
            for name, column in self.columns.items()
            if column.asks_model and not column.models()
        ]
        if len(names) < 2:
            return None
        return Fault(
            ("columns", names[0]),
            f"it and {', '.join(names[1:])} ask a model, and neither they nor the recipe name one. "
            "Write `model: NAME`, or run with --model NAME (`wordmill models list`).",
        )

    def error(self, fault: Fault) -> RecipeError:
        """A fault of this recipe as an error that names its file, line and column."""
        return _error(fault, self._document, {})

    def written(self) -> dict[str, Value]:
        """The recipe as plain values: what YAML would say, without defaults."""
        head = self._parts.head.model_dump(
            mode="json", exclude={"columns", "parameters", "keep"}, exclude_defaults=True
        )
        written: dict[str, Value] = dict(head)
        if self.declared:
            written["parameters"] = {name: each.written() for name, each in self.declared.items()}
        written["columns"] = {name: column.written() for name, column in self.columns.items()}
        if self.keep is not None:
            written["keep"] = self.keep
        return written

    def to_yaml(self, beside: Path | None = None) -> str:
        """The recipe as YAML that gives this recipe again.

        beside: the folder in which the text will lie, so that relative paths are found from there;
        without it they start where this recipe's do.
        """
        written = self.written()
        if beside is not None:
            for name, column in self.columns.items():
                moved = {path: _moved(path, self.folder, beside) for path in column.reads()}
                written["columns"][name] = {
                    **_replaced(written["columns"][name], moved),
                    **column.moved(self.folder, beside),
                }
        return write(written)

    @cached_property
    def digest(self) -> str:
        """32 hex digits: equal for two recipes that make the same rows with the same models.

        It follows columns, seed, `keep`, the parameters' values, the models' names, and the
        contents of the files that columns read and of the modules that they call, wherever these
        are; not the name, descriptions, or the writing order. Raises RecipeErrors for files that
        cannot be read.
        """
        default_model = any(
            column.asks_model and not column.models() for column in self.columns.values()
        )
        columns: dict[str, Value] = {}
        errors: list[RecipeError] = []
        for name, column in self.columns.items():
            try:
                found = column.contents(self.folder, f"columns.{name}")
            except RecipeError as error:
                errors.append(self.error(of_text(error, ("columns", name))))
            else:
                columns[name] = _replaced(column.identity(), found)
        if errors:
            raise RecipeErrors(errors)
        said = {
            "version": _VERSION,
            "seed": self.seed,
            "keep": self.keep,
            "model": self.model if default_model else None,
            "parameters": dict(self.parameters),
            "columns": columns,
        }
        return _engine.digest(json.dumps(said, ensure_ascii=False, allow_nan=False))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.written() == other.written()

    def __hash__(self) -> int:
        return hash((self.name, self.seed, self.order))

    def __reduce__(self) -> tuple[Callable[..., "Recipe"], tuple[Value, ...]]:
        """Pickled as plain values; the places in its text are left behind."""
        return Recipe._built, (self.written(), None, self.folder)

    def __repr__(self) -> str:
        return f"Recipe({self.name!r}, seed={self.seed}, columns=[{', '.join(self.columns)}])"

    # Another one

    def with_values(
        self,
        parameters: Mapping[str, Value] | None = None,
        sets: Sequence[tuple[str, str]] = (),
        seed: int | None = None,
        model: str | None = None,
    ) -> "Recipe":
        """The recipe with other choices, all checked.

        parameters: values by name; a text is read by the parameter's type.
        sets: (path into a column, YAML) such as ("ticket.parameters.temperature", "0.2").
        Raises RecipeErrors, whose places are `--param NAME=...` and `--set PATH=...`.
        """
        written = self.written()
        faults: list[RecipeError] = []
        for name, value in (parameters or {}).items():
            try:
                written["parameters"][name]["default"] = self._value(name, value)
            except RecipeError as error:
                faults.append(error)
        places: dict[tuple[str | int, ...], str] = {}
        for path_text, text in sets:
            source = f"--set {path_text}={text}"
            try:
                path = ("columns", *path_of(path_text))
                _set(written, path, read(text or "null", source).root.value, source)
                places[path] = source
            except RecipeError as error:
                faults.append(error)
        if faults:
            raise faults[0] if len(faults) == 1 else RecipeErrors(faults)
        written |= {"seed": seed} if seed is not None else {}
        written |= {"model": model} if model is not None else {}
        return self._built(written, self._document, self.folder, places)

    def _value(self, name: str, value: Value) -> Value:
        source = f"--param {name}={value}"
        parameter = self.declared.get(name)
        if parameter is None:
            known = nearest(name, self.declared) if self.declared else ": it declares none."
            raise RecipeError(f"the recipe has no parameter {name!r}{known}", source)
        try:
            return parameter.read(value) if isinstance(value, str) else parameter.checked(value)
        except ValueError as error:
            raise RecipeError(str(error), source) from error


def find(what: str | Path) -> tuple[Path, str]:
    """The file of a recipe, and what messages call it.

    what: a file, a folder with `recipe.yaml`, or the name of a built-in, tried in this order.
    """
    path = Path(what).expanduser()
    text = str(what)
    if path.is_dir() and (path / FILE).is_file():
        return path / FILE, str(path / FILE)
    if path.suffix == ".py" and path.is_file():
        raise RecipeError(
            "this is Python: run it with python. A recipe made there runs itself with "
            "`wordmill.generate(recipe, rows=...)`.",
            text,
        )
    if path.exists() and not path.is_dir():
        return path, text
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        here = _recipes_in(path.parent) if path.parent.is_dir() else []
        kind = f"there is no {FILE} in this folder." if path.is_dir() else "there is no such file"
        raise RecipeError(
            kind if path.is_dir() else f"{kind}{nearest(path.name, [one.name for one in here])}",
            text,
        )
    built_in = BUILT_IN / text / FILE
    if text.isidentifier() and built_in.is_file():
        return built_in, f"built-in recipe {text}"
    known = {folder.name for folder in BUILT_IN.iterdir() if (folder / FILE).is_file()}
    known |= {str(each) for each in _recipes_in(Path())}
    hint = "A recipe is a file, a folder with a recipe.yaml, or the name of a built-in one."
    raise UnknownName("recipe", text, known, hint)


def _replaced(value: Value, texts: Mapping[str, str]) -> Value:
    """Plain values in which some texts are others."""
    if isinstance(value, str):
        return texts.get(value, value)
    if isinstance(value, list | tuple):
        return [_replaced(part, texts) for part in value]
    if isinstance(value, Mapping):
        return {key: _replaced(part, texts) for key, part in value.items()}
    return value


def _moved(path: str, folder: Path, to: Path) -> str:
    """A path as it is found from another folder."""
    if path.startswith((files.BUILT_IN, "~")) or Path(path).is_absolute():
        return path
    place = (folder / path).resolve()
    if place.is_relative_to(BUILT_IN):
        return files.BUILT_IN + place.relative_to(BUILT_IN).as_posix()
    return Path(os.path.relpath(place, to.resolve())).as_posix()


def _recipes_in(folder: Path) -> list[Path]:
    """YAML files of a folder, but for hidden ones; at most a thousand."""
    found = (
        each
        for pattern in ("*.yaml", "*.yml")
        for each in folder.glob(pattern)
        if not each.name.startswith(".")
    )
    return list(islice(found, 1000))


def _set(written: dict[str, Value], path: tuple[str | int, ...], value: Value, source: str) -> None:
    """Put a value at a path, which begins with ("columns", a column's name)."""
    if len(path) < 3:
        raise RecipeError("write --set COLUMN.OPTION=VALUE.", source)
    columns = written["columns"]
    if path[1] not in columns:
        raise RecipeError(f"there is no column {path[1]!r}{nearest(str(path[1]), columns)}", source)
    inside: Value = columns[path[1]]
    for depth, part in enumerate(path[2:], 2):
        last = depth == len(path) - 1
        if isinstance(inside, list):
            if not isinstance(part, int) or part >= len(inside):
                raise RecipeError(f"the list has {len(inside)} entries, counted from 0.", source)
        elif not isinstance(inside, dict):
            raise RecipeError(f"{part!r} cannot be set in {inside!r}.", source)
        else:
            part = str(part)
        if last:
            inside[part] = value
        elif isinstance(inside, dict):
            inside = inside.setdefault(part, {})
        else:
            inside = inside[part]


def _errors(
    faults: Sequence[Fault],
    document: Document | None,
    sets: Mapping[tuple[str | int, ...], str] | None = None,
) -> RecipeError:
    """All faults as one error, in the order of their lines."""
    errors = [_error(fault, document, sets or {}) for fault in faults]
    errors.sort(key=lambda error: (error.line, error.column))
    return RecipeErrors(errors)


def _error(
    fault: Fault, document: Document | None, sets: Mapping[tuple[str | int, ...], str]
) -> RecipeError:
    for path, source in sets.items():
        if fault.path[: len(path)] == path[: len(fault.path)]:
            return RecipeError(str(fault), source)
    if document is None:
        return RecipeError(str(fault))
    line, column = document.place(fault.path, fault.key, fault.word, fault.line, fault.at)
    return RecipeError(str(fault), document.source, line, column)
