"""What every column type promises.

A column is two things: a **config**, a frozen pydantic model that both doors (YAML and Python)
fill in, and a **maker**, which `prepare` builds once a run from the config and the run's context.
There are two kinds of maker:

* a `Filler` computes values here, for a window of rows at once (category, template, python);
* an `Asker` asks a model (prompt, judge, candidates). It only says what to ask and what to make of
  a reply: sending, retrying, counting and caching are the engine's.

Neither keeps anything between rows: a value is a function of (seed, row, column) and of the
values that the column reads. So any window of rows, in any order, gives the same dataset.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from wordmill.columns.faults import Fault, faults_of
from wordmill.columns.files import fingerprint, resolve
from wordmill.columns.plain import NotPlain, plain
from wordmill.errors import RecipeError, RecipeErrors
from wordmill.types import Answer, Ask, CellError, Reply, Row, Value


@dataclass(frozen=True)
class Context:
    """What a run tells its columns.

    name: of the column.  seed: of the recipe.  model: the recipe's, for columns that name none.
    folder: relative paths in the recipe start here.  parameters: the recipe's, with their values.
    columns: the configs of all columns, so that one can refer to another's values or items.
    """

    name: str
    seed: int
    model: str | None
    folder: Path
    parameters: Mapping[str, Value] = field(default_factory=dict)
    columns: Mapping[str, "Column"] = field(default_factory=dict)


KEEP = "recipe.keep"
"""Where a row's errors say why the recipe's `keep` could not judge it; no column has this name."""


class Filler(ABC):
    """Computes values without a model."""

    @abstractmethod
    def fill(self, rows: Sequence[Row]) -> list[Value | CellError]:
        """One value a row, in the order of `rows`; each row holds all that the column reads."""

    def shortage(self, rows: int) -> str:
        """Why the first so many rows cannot all have a value, in a sentence; "" if they can."""
        return ""


class Asker(ABC):
    """Says what to ask for a cell, and what to make of the replies."""

    @abstractmethod
    def asks(self, row: Row) -> list[Ask] | CellError:
        """The first questions of a cell, one an item, items counted from 0 without gaps.

        An empty list goes straight to `finish`. A CellError fails the cell unasked.
        """

    @abstractmethod
    def take(self, row: Row, ask: Ask, reply: Reply) -> Answer | Ask | CellError:
        """What a reply means: an answer, the same item asked again (tries + 1), or a failed item.

        `reply.error` may be set: then nothing came back, and the usual thing is
        CellError(reply.error, reply.detail).
        """

    def finish(self, row: Row, items: Sequence[Answer | CellError]) -> Value | CellError:
        """The cell's value, once every item has ended. The default is the only item's value."""
        (only,) = items
        return only.value if isinstance(only, Answer) else only


class Config(BaseModel):
    """Options that somebody writes, in YAML or Python.

    In Python the main option may come first, unnamed: `Category(["laptop", "phone"])`. It is the
    field that a subclass declares with `Field(kw_only=False)`; type checkers read it so too.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=False,
        ser_json_inf_nan="constants",  # no silent null: whoever writes JSON refuses them
    )

    def __init__(self, /, *main: Value, **options: Value) -> None:
        """Fill in the options. Raises RecipeError with every fault, the reader's own as its cause:
        pydantic's, or NotPlain.
        """
        fields = type(self).model_fields.items()
        names = [field.alias or name for name, field in fields if field.kw_only is False][:1]
        kind = type(self).__name__
        if len(main) > len(names):
            which = f"only {names[0]!r}" if names else "none"
            raise RecipeError(f"{kind}: of its options, {which} may come without a name.")
        for name, value in zip(names, main, strict=False):
            if name in options:
                raise RecipeError(f"{kind} got its option {name!r} twice.")
            options[name] = value
        try:
            options = plain(options)
            self._refuse_truth(options)
            super().__init__(**options)
        except NotPlain as error:
            raise RecipeError(f"{kind}: {error}") from error
        except ValidationError as error:
            faults = faults_of(error, type(self), options)
            raise RecipeErrors([RecipeError(f"{kind}: {fault}") for fault in faults]) from error

    @classmethod
    def _refuse_truth(cls, options: Mapping[str, Value]) -> None:
        """Raise NotPlain for `true` where a number belongs; pydantic would take it for 1."""
        truths = {name for name, value in options.items() if isinstance(value, bool)}
        for name, option in cls.model_fields.items() if truths else ():
            called = option.alias or name
            kinds = set(_leaves(option.annotation)) if called in truths else set()
            if kinds & {int, float} and not kinds & {bool, Any}:
                what = f"must be a number, not {str(options[called]).lower()}."
                raise NotPlain(Fault((called,), what))

    def written(self) -> dict[str, Value]:
        """The options that differ from their defaults, as YAML would say them; `type` first."""
        options = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {"type": self.model_dump(include={"type"})["type"], **options}


def _leaves(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is put together from."""
    arguments = get_args(annotation)
    if not arguments:
        yield annotation
    for argument in arguments:
        yield from _leaves(argument)


class Column(Config, ABC):
    """A column as a recipe writes it. Subclasses add `type: Literal["..."]` and their options."""

    asks_model: ClassVar[bool] = False
    """True for columns whose maker is an Asker."""

    when: str | None = None
    """A Jinja expression; where it is false the cell is null and nothing is asked."""

    def identity(self) -> Value:
        """What the recipe's digest takes of the column: `written`, but for what changes no value.

        Keys are sorted in a digest. Where the order of keys changes values, say it with a list.
        """
        return self.written()

    def reads(self) -> tuple[str, ...]:
        """Files that the values come from, as the recipe writes them; relative to its folder."""
        return ()

    def contents(self, folder: Path, where: str) -> Mapping[str, str]:
        """What texts of the options stand for outside the recipe: fingerprints, by text.

        The recipe's digest takes them in place of the texts. By default, of the files of `reads`.
        folder: of the recipe.  where: the column, for messages.  Raises RecipeError.
        """
        option = f"{where}.file"
        return {path: fingerprint(resolve(folder, path, option), option) for path in self.reads()}

    def moved(self, folder: Path, to: Path) -> Mapping[str, Value]:
        """Options that change when the recipe's text is moved, besides the paths of `reads`.

        folder: of the recipe.  to: where its text will lie.
        """
        return {}

    @abstractmethod
    def needs(self) -> frozenset[str]:
        """Root names that the column's templates and options read (not those of `when`)."""

    @abstractmethod
    def prepare(self, context: Context) -> Filler | Asker:
        """The maker. Reads files and compiles templates; raises RecipeError in words."""

    def models(self) -> frozenset[str]:
        """Names of the catalog that the column itself names; empty means the recipe's model."""
        return frozenset()

    def requests_per_row(
        self, parameters: Mapping[str, Value], columns: Mapping[str, "Column"]
    ) -> float:
        """How many requests a row costs, without asking again; 0 for columns made here.

        parameters: the recipe's, with their values.  columns: all of the recipe.
        """
        return 1.0 if self.asks_model else 0.0

    def items_per_row(
        self, parameters: Mapping[str, Value], columns: Mapping[str, "Column"]
    ) -> int:
        """How many items of its linked table a row has, at most; 1 for columns without one."""
        return 1

    def value_schema(self) -> Mapping[str, Any]:
        """JSON schema of the column's values; `{}` where nothing is known.

        Parquet types follow it.
        """
        return {"type": "string"}

    def table_schema(self, name: str) -> Mapping[str, Any] | None:
        """JSON schema of a row of the linked table that this column becomes; None for most.

        A column with a linked table has a list of objects (or None) as its value, one a row of
        the table; the table is called as the column. `each` columns add theirs to another's.
        """
        return None

    def joins(self) -> str | None:
        """The candidates column whose linked table this column's values belong to, item by item."""
        return None

    def items_of(self) -> str | None:
        """The column whose items this one reads, if any: it must have a linked table."""
        return self.joins()
