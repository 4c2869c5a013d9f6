"""`run.json`: what a dataset folder says about itself.

Written last and read first. Whoever reads a folder trusts only this file for what the columns
are; the Parquet files hold the same names and types.
"""

import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wordmill.datasets.info import ColumnInfo, DatasetInfo, ModelFacts, Summary
from wordmill.datasets.ledger import Cost, Ledger
from wordmill.datasets.tables import TableFiles
from wordmill.errors import StorageError

FILE: Final = "run.json"
FORMAT: Final = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Versions(_Part):
    """What made the dataset."""

    wordmill: str
    python: str
    platform: str


class RecipeRecord(_Part):
    """The recipe; its text is `recipe.yaml`."""

    name: str
    digest: str
    seed: int
    description: str
    keep: str | None
    parameters: dict[str, Any]


class ModelRecord(_Part):
    """A model as the run used it. Prices are money per million tokens, null where unknown."""

    name: str
    provider: str
    model: str
    base_url: str
    price_in: float | None
    price_out: float | None


class RowCounts(_Part):
    """wanted: asked for, null where nobody said.  failed: rows; failed_cells: cells and items.

    unsure: rows that `keep` could not judge, neither kept nor turned down; it says why in `errors`.
    """

    wanted: int | None
    made: int
    kept: int
    turned_down: int
    unsure: int = 0
    failed: int
    failed_cells: int


class RequestCounts(_Part):
    """See `info.Summary`."""

    sent: int
    cached: int
    joined: int
    resumed: int
    retried: dict[str, int]
    failed: dict[str, int]


class CostRecord(_Part):
    """What the cells of one column took from one model; see `ledger.Cost`."""

    column: str
    model: str
    cells: int
    asked: int
    attempts: int
    input_tokens: int
    output_tokens: int
    money: float
    cached: int
    joined: int
    fallback: int


class ColumnRecord(_Part):
    """A column of the recipe; see `info.ColumnInfo`."""

    name: str
    type: str
    values: dict[str, Any]
    table: dict[str, Any] | None
    joins: str | None


class TableRecord(_Part):
    """The files of a table, in order, below the folder."""

    rows: int
    files: list[str]


class Rehearsed(_Part):
    """Rows that hold an answer of a rehearsal model, and which models these are."""

    rows: int
    models: list[str]


class LatencyRecord(_Part):
    """How long the answers of a column took; see `info.Latency`."""

    answers: int
    p50: float
    p95: float


class TimingRecord(_Part):
    """When the run was worked on; see `info.Timings`."""

    started: str = ""
    first_request: str = ""
    ended: str = ""
    seconds: float = 0.0
    columns: dict[str, LatencyRecord] = Field(default_factory=dict)


class Manifest(_Part):
    """All of `run.json`."""

    format: Literal[1] = FORMAT
    made_by: Versions
    run: str
    recipe: RecipeRecord
    models: list[ModelRecord]
    rehearsal: Rehearsed
    ended: str
    rows: RowCounts
    causes: dict[str, dict[str, int]]
    found: dict[str, int]
    requests: RequestCounts
    tokens: dict[str, int]
    money: float
    currency: str
    budget: dict[str, float]
    started: str
    seconds: float
    timings: TimingRecord
    costs: list[CostRecord]
    main: str
    tables: dict[str, TableRecord]
    columns: list[ColumnRecord] = Field(default_factory=list)

    def column_infos(self) -> tuple[ColumnInfo, ...]:
        """The recipe's columns, as `info` knows them."""
        return tuple(
            ColumnInfo(column.name, column.type, column.values, column.table, column.joins)
            for column in self.columns
        )


def manifest_of(
    info: DatasetInfo, summary: Summary, ledger: Ledger, files: dict[str, TableFiles]
) -> Manifest:
    """What `run.json` will say."""
    return Manifest(
        made_by=Versions(
            wordmill=version("wordmill"),
            python=platform.python_version(),
            platform=platform.platform(),
        ),
        run=info.run,
        recipe=_recipe(info),
        models=[_model(model) for model in summary.models],
        rehearsal=Rehearsed(
            rows=ledger.rehearsed_rows,
            models=sorted({model for _, model in ledger.costs} & ledger.rehearsal),
        ),
        ended=summary.ended,
        rows=_rows(summary, ledger),
        causes={column: dict(causes) for column, causes in ledger.causes.items()},
        found=dict(ledger.found),
        requests=_requests(summary),
        tokens={"input": summary.tokens_in, "output": summary.tokens_out},
        money=summary.money,
        currency=summary.currency,
        budget=dict(summary.budget),
        started=summary.started,
        seconds=summary.seconds,
        timings=TimingRecord.model_validate(asdict(summary.timings)),
        costs=[_cost(*key, cost) for key, cost in sorted(ledger.costs.items())],
        main=info.table,
        tables={name: _table(table) for name, table in files.items()},
        columns=[_column(column) for column in info.columns],
    )


def read_manifest(folder: Path) -> Manifest:
    """The `run.json` of a dataset folder. Raises StorageError in words."""
    path = folder / FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise StorageError(f"There is no folder {folder}.") from error
        raise StorageError(
            f"{folder} holds no finished dataset: it has no {FILE}. A run that was stopped writes "
            "it when it is done; `wordmill runs list` shows which runs can go on."
        ) from error
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise StorageError(
            f"{path} is not what this version of Wordmill writes ({place}: {first['msg']}). "
            "Was it changed by hand, or written by a newer version?"
        ) from error


def _recipe(info: DatasetInfo) -> RecipeRecord:
    return RecipeRecord(
        name=info.name,
        digest=info.digest,
        seed=info.seed,
        description=info.description,
        keep=info.keep,
        parameters=dict(info.parameters),
    )


def _rows(summary: Summary, ledger: Ledger) -> RowCounts:
    return RowCounts(
        wanted=summary.wanted,
        made=ledger.rows,
        kept=ledger.kept,
        turned_down=ledger.turned_down,
        unsure=ledger.unsure,
        failed=ledger.failed_rows,
        failed_cells=ledger.failed,
    )


def _requests(summary: Summary) -> RequestCounts:
    return RequestCounts(
        sent=summary.requests,
        cached=summary.cached,
        joined=summary.joined,
        resumed=summary.resumed,
        retried=dict(summary.retried),
        failed=dict(summary.failed),
    )


def _cost(column: str, model: str, cost: Cost) -> CostRecord:
    money = round(cost.money, 9)
    return CostRecord(column=column, model=model, **{**asdict(cost), "money": money})


def _table(table: TableFiles) -> TableRecord:
    return TableRecord(rows=table.rows, files=[f"data/{path.name}" for path in table.paths])


def _column(column: ColumnInfo) -> ColumnRecord:
    return ColumnRecord(
        name=column.name,
        type=column.type,
        values=dict(column.schema),
        table=None if column.table is None else dict(column.table),
        joins=column.joins,
    )


def _model(model: ModelFacts) -> ModelRecord:
    return ModelRecord(
        name=model.name,
        provider=model.provider,
        model=model.model,
        base_url=without_secrets(model.base_url),
        price_in=model.price_in,
        price_out=model.price_out,
    )


def without_secrets(url: str) -> str:
    """The URL without user, password, query and fragment: any of them may be a key."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
