"""What a dataset needs to be told: its columns before the first row, its run after the last.

Plain frozen values, filled in by `runs`. What a dataset folder says about itself on disk
(`run.json`) is `manifest.Manifest`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wordmill.columns.base import Column
from wordmill.columns.category import Category
from wordmill.columns.files import read_list, resolve
from wordmill.datasets.kinds import schema_of_values
from wordmill.errors import RecipeError
from wordmill.types import Value

RESERVED = frozenset({"row", "kept", "errors", "lineage"})
"""Columns that every main table has; a recipe's column cannot take their names."""

KEYS = ("row", "item", "id")
"""The first columns of every linked table; they join it to the main table."""

TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """A column of the recipe as a dataset sees it.

    type: its name in the recipe (`category`, `prompt`, ...).
    schema: JSON schema of its values; the Arrow type follows it.
    table: JSON schema of a row of its linked table, or None; the table is called as the column.
    joins: the column whose linked table its values belong to, item by item, or None.
    """

    name: str
    type: str
    schema: Mapping[str, Value] = field(default_factory=dict)
    table: Mapping[str, Value] | None = None
    joins: str | None = None


def describe(columns: Mapping[str, Column], folder: Path | None = None) -> tuple[ColumnInfo, ...]:
    """What a dataset must know of a recipe's columns, in their order.

    folder: of the recipe, or None for the current one; values of categories may stand in files
    there. Where such a file cannot be read now, the rows will show what its values are.
    """
    return tuple(
        ColumnInfo(
            name=name,
            type=str(column.written()["type"]),
            schema=_drawn_from(column, folder or Path()) or column.value_schema(),
            table=column.table_schema(name),
            joins=column.joins(),
        )
        for name, column in columns.items()
    )


def _drawn_from(column: Column, folder: Path) -> Mapping[str, Value]:
    """A schema that lists what a category draws from its file; {} for other columns."""
    if not isinstance(column, Category) or column.file is None:
        return {}
    try:
        return schema_of_values(read_list(resolve(folder, column.file), "").values)
    except RecipeError:
        return {}


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A dataset before its first row.

    name: the recipe's.  columns: in order (see `describe`).  table: name of the main table.
    digest: of the recipe, 32 hex digits.  recipe: the text of `recipe.yaml` as run.
    keep: the recipe's `keep` expression, or None.
    run: the run's id.  rehearsal: names of the models whose answers are rehearsed.
    license, language: for the card, as Hugging Face names them (`other`, `apache-2.0`; `en`).
    Raises RecipeError for names that a dataset cannot hold.
    """

    name: str
    columns: tuple[ColumnInfo, ...]
    table: str = "rows"
    seed: int = 0
    digest: str = ""
    recipe: str = ""
    description: str = ""
    keep: str | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)
    run: str = ""
    rehearsal: frozenset[str] = frozenset({"rehearsal"})
    license: str = "other"
    language: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not TABLE_NAME.fullmatch(self.table):
            raise RecipeError(
                f"The table {self.table!r} becomes the name of files: "
                "it may hold letters, digits, _ and -, and begins with a letter."
            )
        for column in self.columns:
            if column.name in RESERVED:
                raise RecipeError(
                    f"The column {column.name!r} has the name of one that every dataset has "
                    f"({', '.join(sorted(RESERVED))}). Rename it."
                )
            if column.table is not None:
                self._check_table(column)
            if column.joins is not None:
                self._check_joined(column, column.joins)

    def _check_table(self, column: ColumnInfo) -> None:
        if column.name == self.table:
            raise RecipeError(
                f"The column {column.name!r} becomes a table of its own, "
                "and the main table has that name already. Rename one of them."
            )
        if not TABLE_NAME.fullmatch(column.name):
            raise RecipeError(
                f"The column {column.name!r} becomes a table and so the name of files: "
                "it may hold letters, digits, _ and -, and begins with a letter."
            )

    def _check_joined(self, column: ColumnInfo, items: str) -> None:
        table = next((other.table for other in self.columns if other.name == items), None)
        if table is None:
            raise RecipeError(
                f"The column {column.name!r} belongs to the items of {items!r}, "
                "which is no column with items."
            )
        taken = {*KEYS, *table.get("properties", {})}
        if column.name in taken:
            raise RecipeError(
                f"The column {column.name!r} belongs to the items of {items!r}, and these have a "
                f"field of that name already ({', '.join(sorted(taken))}). Rename it."
            )


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model of the catalog as a run used it. Prices are money per million tokens."""

    name: str
    provider: str = ""
    model: str = ""
    base_url: str = ""
    price_in: float | None = None
    price_out: float | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the answers of a column took. p50, p95: quantiles, in seconds."""

    answers: int
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Timings:
    """When a run was worked on; moments as ISO 8601, "" where not known.

    started: its first sitting.  first_request: the first question that went to a server.
    ended: its last sitting.  seconds: at work, all sittings together.
    columns: by name, how long a server's answers took; those of the cache are not in it, nor those
    of a sitting that was killed.
    """

    started: str = ""
    first_request: str = ""
    ended: str = ""
    seconds: float = 0.0
    columns: Mapping[str, Latency] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """What only the run knows, told to `DatasetWriter.finish`.

    started: ISO 8601.  seconds: from start to end, all sittings together.
    wanted: rows asked for.  ended: a sentence why it stopped short, or "" when all was made.
    requests: sent to a server.  cached, joined: answered without sending.
    resumed: answered by an earlier sitting of the run.
    retried, failed: how many attempts and requests, by cause.
    tokens_in, tokens_out, money: of what was sent, by the engine's count.
    budget: the ceilings that were set (`requests`, `tokens`, `money`).
    timings: more of when it was, and how long answers took.
    """

    models: tuple[ModelFacts, ...] = ()
    started: str = ""
    seconds: float = 0.0
    wanted: int | None = None
    ended: str = ""
    requests: int = 0
    cached: int = 0
    joined: int = 0
    resumed: int = 0
    retried: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    money: float = 0.0
    currency: str = "USD"
    budget: Mapping[str, float] = field(default_factory=dict)
    timings: Timings = field(default_factory=Timings)
