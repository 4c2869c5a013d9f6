"""A dataset folder, read again: tables, rows, and items joined to their rows.

Reading is batched and lazy: nothing is held but the batch at hand, and rows of one number are
found without reading the files before them. JSON text comes back as the value it stands for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wordmill.columns.base import Asker
from wordmill.columns.templates import compile_template
from wordmill.datasets.info import ColumnInfo
from wordmill.datasets.kinds import decoder
from wordmill.datasets.manifest import Manifest, read_manifest
from wordmill.errors import RecipeError, StorageError, UnknownName
from wordmill.recipes import Recipe
from wordmill.storage import said
from wordmill.types import Ask, CellError, Message, Row, Value

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH: Final = 1024

Joined = tuple[Row, Mapping[str, list[Row]]]
"""A row of the main table, and its items by linked table."""


class Table:
    """One table of a dataset, in row order.

    count: rows of the table.  files: its Parquet files.
    """

    def __init__(self, name: str, count: int, files: Sequence[Path]) -> None:
        self.name, self.count, self.files = name, count, tuple(files)

    def schema(self) -> "pa.Schema":
        """The Arrow schema. Raises StorageError."""
        with self._open(self.files[0]) as file:
            return file.schema_arrow

    def arrow(
        self, columns: Sequence[str] | None = None, size: int = BATCH
    ) -> "Iterator[pa.RecordBatch]":
        """The table as Arrow batches of at most `size` rows, those columns or all.

        Raises StorageError.
        """
        for path in self.files:
            with self._open(path) as file:
                yield from file.iter_batches(size, columns=columns)

    def rows(self, low: int = 0, high: int | None = None) -> Iterator[Row]:
        """The rows whose `row` is at least `low` and below `high`, in order.

        Raises StorageError.
        """
        for path in self.files:
            with self._open(path) as file:
                groups = [
                    n
                    for n in range(file.num_row_groups)
                    if _overlaps(file.metadata.row_group(n).column(0).statistics, low, high)
                ]
                if not groups:
                    continue
                decoders = {
                    field.name: decode
                    for field in file.schema_arrow
                    if (decode := decoder(field)) is not None
                }
                for batch in file.iter_batches(BATCH, row_groups=groups):
                    for row in batch.to_pylist():
                        if row["row"] < low:
                            continue
                        if high is not None and row["row"] >= high:
                            return
                        for name, decode in decoders.items():
                            row[name] = decode(row[name])
                        yield row

    @contextmanager
    def _open(self, path: Path) -> "Iterator[pq.ParquetFile]":
        import pyarrow as pa
        import pyarrow.parquet as pq

        with said(path):
            try:
                with pq.ParquetFile(path) as file:
                    yield file
            except pa.ArrowInvalid as error:
                raise StorageError(
                    f"{path} is damaged ({error}). Copy it again, or generate the dataset again: "
                    "answers that are in the cache are not paid twice."
                ) from error


class Dataset:
    """A finished dataset folder.

    name: the recipe's.  main: name of the main table.  columns: of the recipe, in order.
    tables: by name, the main one first.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.name, self.main, self.run = manifest.recipe.name, manifest.main, manifest.run
        self.columns: tuple[ColumnInfo, ...] = manifest.column_infos()
        self.tables = {
            name: Table(name, table.rows, [folder / file for file in table.files])
            for name, table in manifest.tables.items()
        }

    @property
    def rehearsed(self) -> int:
        """Rows that hold an answer of a rehearsal model."""
        return self.manifest.rehearsal.rows

    def table(self, name: str = "") -> Table:
        """The table of that name, or the main one. Raises UnknownName."""
        found = self.tables.get(name or self.main)
        if found is None:
            raise UnknownName("table", name, self.tables)
        return found

    @property
    def about(self) -> Mapping[str, Value]:
        """Where the rows come from, for whoever takes them."""
        manifest = self.manifest
        return {
            "folder": str(self.folder.absolute()),
            "run": manifest.run,
            "recipe": manifest.recipe.name,
            "digest": manifest.recipe.digest,
            "seed": manifest.recipe.seed,
            "models": [model.name for model in manifest.models],
            "rows": manifest.rows.made,
            "ended": manifest.ended,
        }

    def walk(self, low: int = 0, high: int | None = None) -> Iterator[Joined]:
        """Each row of the main table with its items, in row order. Raises StorageError."""
        linked = {
            name: _Items(table.rows(low, high))
            for name, table in self.tables.items()
            if name != self.main
        }
        for row in self.table().rows(low, high):
            yield row, {name: items.of(row["row"]) for name, items in linked.items()}

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe as run. Raises RecipeError, StorageError."""
        path = self.folder / "recipe.yaml"
        with said(path):
            text = path.read_bytes()
        return Recipe.from_yaml(text, source=str(path), folder=self.folder)

    def option(self, column: str, name: str) -> Value:
        """What the recipe says for an option of a column; None where it says nothing.

        Raises RecipeError, StorageError.
        """
        return self.recipe.columns[column].written().get(name)

    def template(self, text: str, where: str) -> Callable[[Row], str | CellError]:
        """A template over rows, as those of the recipe. Raises RecipeError."""
        return compile_template(text, where, self.manifest.recipe.parameters).render

    def asked(self, column: str) -> Callable[[Row], Sequence[Message] | CellError]:
        """The messages that the column's model was first sent for a row.

        Raises RecipeError where the recipe cannot be prepared here, as when it reads files that
        are elsewhere.
        """
        maker = self.recipe.columns[column].prepare(self.recipe.context(column))
        if not isinstance(maker, Asker):
            raise RecipeError(f"the column {column!r} asks no model.", "recipe.yaml")

        def messages(row: Row) -> Sequence[Message] | CellError:
            asks = maker.asks(row)
            return asks if isinstance(asks, CellError) else _messages(asks[0])

        return messages


def _messages(ask: Ask) -> list[Message]:
    texts = iter(ask.texts)
    return [
        Message(role, next(texts) if text is None else text) for role, text in ask.shape.messages
    ]


class _Items:
    """The items of a linked table, handed out as the rows that they belong to come by."""

    def __init__(self, items: Iterator[Row]) -> None:
        self._groups = groupby(items, itemgetter("row"))
        self._next = self._advance()

    def _advance(self) -> tuple[int, list[Row]] | None:
        group = next(self._groups, None)
        return None if group is None else (group[0], list(group[1]))

    def of(self, row: int) -> list[Row]:
        """The items of a row; rows must be asked for in order."""
        while self._next is not None and self._next[0] < row:
            self._next = self._advance()
        if self._next is None or self._next[0] != row:
            return []
        return self._next[1]


def open_dataset(folder: Path) -> Dataset:
    """A finished dataset folder. Raises StorageError for what is none."""
    return Dataset(folder, read_manifest(folder))


def _overlaps(statistics: "pq.Statistics | None", low: int, high: int | None) -> bool:
    """Whether a row group may hold rows from `low` to below `high`."""
    if statistics is None or not statistics.has_min_max:
        return True
    return statistics.max >= low and (high is None or statistics.min < high)
