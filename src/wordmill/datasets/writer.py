"""Row records in row order become a dataset folder.

    data/<table>-00000.parquet    every row: row, kept, the recipe's columns, errors, lineage
    data/<linked>-00000.parquet   every item of a linked table: row, item, id, its fields
    failed.jsonl                  the rows where something failed, again
    recipe.yaml, run.json         what was run, and what came of it
    README.md                     the dataset card
    report.html, report.json      pictures, and what they are drawn from

`run.json` is written last: a folder with it is a complete dataset. Rows are taken in batches and
written a row group at a time, so memory does not grow with the dataset.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import orjson

from wordmill.datasets.assembly import Assembly, schema_of
from wordmill.datasets.card import card
from wordmill.datasets.info import DatasetInfo, Summary
from wordmill.datasets.kinds import Kind, scalars
from wordmill.datasets.ledger import Ledger, Record
from wordmill.datasets.manifest import FILE, manifest_of
from wordmill.datasets.pages import compile_pages
from wordmill.datasets.report import FILE as DRAWN
from wordmill.datasets.report import draw, report
from wordmill.datasets.statistics import TableStatistics
from wordmill.datasets.tables import TableFiles
from wordmill.storage import WholeFile, said, write_whole

GROUP_ROWS: Final = 2048
GROUP_BYTES: Final = 4 << 20
"""A row group is written when either is reached; it bounds what is held in memory."""

SHARD_ROWS: Final = 20_000
SHARD_BYTES: Final = 64 << 20
"""A file is finished when either is reached; bytes are those of the records as JSON."""

LABELS: Final = frozenset({"category", "person", "number"})
"""Column types with few different values."""


def warm_up() -> None:
    """Import and compile now what writing a dataset needs (0.1 to 0.3 s, once a process)."""
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet

    pa.array([""])  # Arrow looks for pandas when it first meets a Python list
    compile_pages()


@dataclass(frozen=True, slots=True)
class DatasetResult:
    """What a writer wrote.

    turned_down: rows that the recipe's `keep` refused; unsure: those that it could not judge.
    failed_rows: rows where a cell or an item failed; failed: how many cells and items.
    causes: by column, then cause.
    found: faults that checks saw, those repaired by asking again included.
    rehearsed: rows with an answer of a rehearsal model.  tables: rows of each table.
    """

    folder: Path
    rows: int
    kept: int
    turned_down: int
    unsure: int
    failed_rows: int
    failed: int
    causes: dict[str, dict[str, int]]
    found: dict[str, int]
    rehearsed: int
    tables: dict[str, int]
    files: tuple[Path, ...]


class DatasetWriter:
    """Takes row records in row order; `finish` makes the folder a dataset.

    As a context manager it leaves no part files behind when it is left unfinished. Files that
    were finished stay, but without `run.json` they are no dataset.
    """

    def __init__(
        self,
        folder: Path,
        info: DatasetInfo,
        *,
        then: str = "",
        shard_rows: int = SHARD_ROWS,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        """Prepare the folder; an earlier `run.json` in it goes.

        then: the end of a StorageError's sentence: what is safe and how to go on.
        Raises StorageError when the folder cannot be written.
        """
        self.folder, self.info = folder, info
        self._then, self._shard_rows, self._shard_bytes = then, shard_rows, shard_bytes
        self._assembly = Assembly(info)
        self._ledger = Ledger(info.seed, info.rehearsal)
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._shard: Counter[str] = Counter()
        self._last_row = -1
        self._prepare()
        self._failed = WholeFile(folder / "failed.jsonl", then)
        self._files: dict[str, TableFiles] = {}
        self._statistics: dict[str, TableStatistics] = {}

    def _prepare(self) -> None:
        data = self.folder / "data"
        with said(data, self._then):
            data.mkdir(parents=True, exist_ok=True)
            (self.folder / FILE).unlink(missing_ok=True)
            for left_over in [*self.folder.glob(".*.part"), *data.glob(".*.part")]:
                left_over.unlink(missing_ok=True)

    def _begin(self, first: list[Record]) -> None:
        """Fix the types, by the first records where no schema does."""
        info = self.info
        self._assembly = Assembly(info, first)
        self._files[info.table] = self._table(info.table, self._assembly.kinds())
        self._statistics[info.table] = TableStatistics(self._assembly.pictured(), info.seed)
        by_name = {column.name: column for column in info.columns}
        for table in self._assembly.linked:
            self._files[table.name] = self._table(table.name, table.kinds())
            self._statistics[table.name] = TableStatistics(
                table.pictured(by_name[table.name]), info.seed
            )

    def _table(self, name: str, kinds: Sequence[tuple[str, Kind]]) -> TableFiles:
        sampled = {column.name for column in self.info.columns if column.type in LABELS}
        labels = [
            path
            for column, kind in kinds
            for path, part in scalars(column, kind)
            if part.values or column in sampled
        ]
        return TableFiles(
            self.folder / "data",
            name,
            schema_of(kinds),
            labels=labels,
            sparse=name != self.info.table,
            then=self._then,
        )

    def add(self, records: Iterable[bytes | Record]) -> None:
        """Take the next rows: records as orjson bytes or dicts, row numbers increasing.

        Raises StorageError when a file cannot be written, ValueError for rows out of order.
        """
        for record in records:
            text = record if isinstance(record, bytes) else orjson.dumps(record)
            self._pending.append(text)
            self._pending_bytes += len(text)
            room = min(GROUP_ROWS, self._shard_rows - self._shard["rows"])
            if len(self._pending) >= room or self._pending_bytes >= GROUP_BYTES:
                self._write_group()

    def _write_group(self) -> None:
        texts, size = self._pending, self._pending_bytes
        self._pending, self._pending_bytes = [], 0
        self._write([orjson.loads(text) for text in texts])
        self._shard += Counter(rows=len(texts), bytes=size)
        if self._shard["rows"] >= self._shard_rows or self._shard["bytes"] >= self._shard_bytes:
            self._cut()

    def _write(self, records: list[Record]) -> None:
        numbers = [self._last_row, *(record["row"] for record in records)]
        if any(low >= high for low, high in pairwise(numbers)):
            raise ValueError(f"row records must come in row order, after row {self._last_row}")
        self._last_row = numbers[-1]
        if not self._files:
            self._begin(records)
        batch = self._assembly.batch(records)
        tables = {self.info.table: batch.main, **batch.linked}
        for name, arrays in tables.items():
            self._files[name].write(list(arrays.values()))
            self._statistics[name].take(arrays)
        self._ledger.take(records, batch.failures)
        lines = [
            orjson.dumps(
                {"row": record["row"], "values": record["values"], "errors": failure},
                option=orjson.OPT_APPEND_NEWLINE,
            )
            for record, failure in zip(records, batch.failures, strict=True)
            if failure
        ]
        with said(self._failed.path, self._then):
            self._failed.file.writelines(lines)

    def _cut(self) -> None:
        for files in self._files.values():
            files.cut()
        self._shard.clear()

    def finish(self, summary: Summary) -> DatasetResult:
        """Write what is left, the card, the report and, last, `run.json`.

        Raises StorageError. A writer is finished once.
        """
        if self._pending or not self._files:
            self._write_group()  # without any row: a file that has the columns
        self._cut()
        self._failed.commit()
        self._files = {name: files for name, files in self._files.items() if files.paths}
        manifest = manifest_of(self.info, summary, self._ledger, self._files)
        then = self._then
        write_whole(self.folder / "recipe.yaml", self.info.recipe, then)
        write_whole(self.folder / "README.md", card(self.info, manifest, self._assembly), then)
        drawn = draw(self.info, manifest, self._ledger, self._statistics)
        page = report(self.info, manifest, self._ledger, self._statistics, drawn)
        write_whole(self.folder / "report.html", page, then)
        write_whole(self.folder / DRAWN, orjson.dumps(drawn), then)
        self._remove_stale()
        text = orjson.dumps(manifest.model_dump(), option=orjson.OPT_INDENT_2)
        write_whole(self.folder / FILE, text + b"\n", then)
        ledger = self._ledger
        return DatasetResult(
            folder=self.folder,
            rows=ledger.rows,
            kept=ledger.kept,
            turned_down=ledger.turned_down,
            unsure=ledger.unsure,
            failed_rows=ledger.failed_rows,
            failed=ledger.failed,
            causes={column: dict(causes) for column, causes in ledger.causes.items()},
            found=dict(ledger.found),
            rehearsed=ledger.rehearsed_rows,
            tables={name: files.rows for name, files in self._files.items()},
            files=tuple(path for files in self._files.values() for path in files.paths),
        )

    def _remove_stale(self) -> None:
        """Files of these tables that an earlier, longer dataset left in the folder."""
        ours = {path for files in self._files.values() for path in files.paths}
        names = [self.info.table, *(table.name for table in self._assembly.linked)]
        shard = re.compile("(?:" + "|".join(map(re.escape, names)) + r")-\d{5}\.parquet")
        with said(self.folder / "data", self._then):
            for path in (self.folder / "data").iterdir():
                if shard.fullmatch(path.name) and path not in ours:
                    path.unlink()

    def discard(self) -> None:
        """Leave no part files behind. Harmless after `finish`."""
        for files in self._files.values():
            files.abort()
        self._failed.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()
