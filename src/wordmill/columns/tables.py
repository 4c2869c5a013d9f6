"""Files of seed rows: any row at once, without the file in memory.

A file is read once from end to end when it is opened, and everything wrong in it is found then,
with its line: before anything is asked of a model. What stays in memory is where each row begins
(8 bytes a row); of Parquet, the row groups last used.

JSONL is taken as JSON is defined: no NaN, no lone surrogates, UTF-8. CSV may have line breaks
inside quotes; a `.csv` whose first line has semicolons and no comma is read with semicolons. All
its values are text.
"""

import csv
import io
import math
import os
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from wordmill.columns.files import decoded, unreadable
from wordmill.errors import RecipeError, nearest
from wordmill.types import CellError, Value

if TYPE_CHECKING:
    import pyarrow as pa

_MARK = b"\xef\xbb\xbf"  # that some editors put before UTF-8
_FIELD = 1 << 26  # longest field of a CSV file, in characters
_GROUPS = 64 << 20  # bytes of Parquet row groups that stay in memory, and always one group

Picked = Mapping[str, str]
"""Names in the dataset -> names in the file."""


class SeedTable(ABC):
    """Rows of a file, by number from 0. `name` is what messages call the file."""

    name: str

    @abstractmethod
    def __len__(self) -> int:
        """How many rows there are."""

    @abstractmethod
    def read(self, places: Sequence[int]) -> list[Value] | CellError:
        """Rows as objects, in the order of `places`; a CellError if the file is not as it was."""


def open_table(path: Path, picked: Picked | None, where: str) -> SeedTable:
    """The rows of a CSV, TSV, JSONL or Parquet file.

    picked: the columns to give, or None for all.  where: the option, for messages.
    Raises RecipeError, with the line, for what cannot be read.
    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise RecipeError(
            f"{path.name!r} is no file of rows that we read: .csv, .tsv, .jsonl or .parquet.",
            f"{where}.file",
        )
    try:
        table = kind(path, picked, where)
    except OSError as error:
        raise unreadable(path, error, f"{where}.file") from error
    if not len(table):
        raise RecipeError(f"{path.name!r} has no rows; give it at least one.", f"{where}.file")
    return table


def _check_names(known: Sequence[str], picked: Picked | None, name: str, where: str) -> None:
    for wanted in (picked or {}).values():
        if wanted not in known:
            raise RecipeError(
                f"{name!r} has no column {wanted!r}{nearest(wanted, known)}", f"{where}.columns"
            )


class _Lines(SeedTable):
    """A file of text: where each row begins, and which line that is."""

    def __init__(self, path: Path, picked: Picked | None, where: str) -> None:
        self.name = path.name
        self._path, self._picked, self._where = path, picked, f"{where}.file"
        self._starts = array("Q")
        with path.open("rb") as file:
            self._seen = _stamp(file)
            self._index(file)

    @abstractmethod
    def _index(self, file: io.BufferedReader) -> None:
        """Go through the file, check every row, and note where each begins and the last ends."""

    @abstractmethod
    def _row(self, raw: bytes) -> Value:
        """One row from its bytes."""

    def __len__(self) -> int:
        return max(0, len(self._starts) - 1)

    def read(self, places: Sequence[int]) -> list[Value] | CellError:
        """Rows as objects; opens the file for each call, so that none stays open."""
        starts, row = self._starts, self._row
        try:
            with self._path.open("rb", buffering=0) as file:
                if _stamp(file) != self._seen:
                    return _written_to(self.name)
                low, high = min(places), max(places) + 1
                if high - low <= 2 * len(places):
                    base = starts[low]
                    block = os.pread(file.fileno(), starts[high] - base, base)
                    return [
                        row(block[starts[place] - base : starts[place + 1] - base])
                        for place in places
                    ]
                number = file.fileno()
                return [
                    row(os.pread(number, starts[place + 1] - starts[place], starts[place]))
                    for place in places
                ]
        except (OSError, ValueError) as error:
            return _gone(self.name, error)

    def _fault(self, line: int, what: str) -> RecipeError:
        end = "" if what.endswith((".", "?")) else "."
        return RecipeError(f"{self.name!r}, line {line}: {what}{end}", self._where)


def _written_to(name: str) -> CellError:
    return CellError("seed", f"{name} was written to while the run was going; start a new run")


def _gone(name: str, error: Exception) -> CellError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return CellError("seed", f"{name} cannot be read any more: {reason}")


def _stamp(file: io.IOBase) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


class _Jsonl(_Lines):
    """One JSON object a line; blank lines are passed over."""

    def _index(self, file: io.BufferedReader) -> None:
        position, end = 0, 0
        for line, raw in enumerate(file, 1):
            mark = len(_MARK) if line == 1 and raw.startswith(_MARK) else 0
            if raw[mark:].strip():
                self._check(raw[mark:], line)
                self._starts.append(position + mark)
                end = position + len(raw)
            position += len(raw)
        if self._starts:
            self._starts.append(end)

    def _check(self, raw: bytes, line: int) -> None:
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            decoded(raw, self.name, line, self._where)
            raise self._fault(line, f"it is no JSON that we read: {_reason(raw, error)}") from error
        if not isinstance(value, dict):
            raise self._fault(
                line, f"it must be a JSON object, not {raw.strip()[:40].decode(errors='replace')}"
            )
        for wanted in (self._picked or {}).values():
            if wanted not in value:
                raise self._fault(line, f"there is no {wanted!r} in it{nearest(wanted, value)}")

    def _row(self, raw: bytes) -> Value:
        value = orjson.loads(raw)
        if self._picked is None:
            return value
        return {name: value[own] for name, own in self._picked.items()}


def _reason(raw: bytes, error: orjson.JSONDecodeError) -> str:
    for word in (b"NaN", b"Infinity"):
        if word in raw:
            return f"{word.decode()} is no JSON number; write null, or leave it out"
    if b"\\ud" in raw.lower():
        return "a lone surrogate (half of a \\ud83d\\ude00 pair) stands for no character"
    return str(error).partition(": line")[0]


class _Csv(_Lines):
    """A header, and rows with as many fields."""

    _delimiter = ","

    def _index(self, file: io.BufferedReader) -> None:
        csv.field_size_limit(_FIELD)
        first = file.readline()
        if self._delimiter == "," and b"," not in first and b";" in first:
            self._delimiter = ";"
        file.seek(0)
        self._position, self._line = 0, 0
        reader = csv.reader(self._decoded_lines(file), delimiter=self._delimiter, strict=True)
        header: list[str] | None = None
        line = start = end = 0
        try:
            while True:
                # Reading a record takes whole lines, so it begins where the last one ended.
                line, start = self._line + 1, self._position
                record = next(reader, None)
                if record is None:
                    break
                if not record:
                    continue
                if header is None:
                    header = self._header(record)
                    continue
                if len(record) != len(header):
                    raise self._fault(
                        line, f"it has {len(record)} fields, and the header has {len(header)}"
                    )
                self._starts.append(start)
                end = self._position
        except csv.Error as error:
            raise self._fault(line, f"it is no CSV: {error}") from error
        if self._starts:
            self._starts.append(end)
        self._names = header or []

    def _decoded_lines(self, file: io.BufferedReader) -> Iterator[str]:
        for raw in file:
            self._line += 1
            self._position += len(raw)
            yield decoded(raw, self.name, self._line, self._where)

    def _header(self, names: list[str]) -> list[str]:
        for name in names:
            if not name.strip():
                raise self._fault(1, "a column has no name; the first line names the columns")
            if names.count(name) > 1:
                raise self._fault(1, f"the column {name!r} stands there twice")
        _check_names(names, self._picked, self.name, self._where.removesuffix(".file"))
        return names

    def _row(self, raw: bytes) -> Value:
        text = raw.decode().rstrip("\r\n")  # blank lines after it are passed over
        record = next(csv.reader((text,), delimiter=self._delimiter))
        row = dict(zip(self._names, record, strict=True))
        if self._picked is None:
            return row
        return {name: row[own] for name, own in self._picked.items()}


class _Tsv(_Csv):
    _delimiter = "\t"


class _Parquet(SeedTable):
    """Row groups, read when a row of theirs is wanted."""

    def __init__(self, path: Path, picked: Picked | None, where: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.name, self._path = path.name, path
        try:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
                _check_names(schema.names, picked, self.name, where)
                self._names = dict(picked or {name: name for name in schema.names})
                self._check(file, schema, where)
        except pa.ArrowInvalid as error:
            raise RecipeError(
                f"{self.name!r} is no Parquet file: {error}.", f"{where}.file"
            ) from error
        self._ends = [sum(groups[: number + 1]) for number in range(len(groups))]
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()
        status = path.stat()
        self._seen = status.st_size, status.st_mtime_ns

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _check(self, file: Any, schema: "pa.Schema", where: str) -> None:
        """Refuse binary columns and numbers that JSON does not know."""
        import pyarrow as pa
        import pyarrow.compute as pc

        floats: list[str] = []
        for own in self._names.values():
            kind = schema.field(own).type
            if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
                raise RecipeError(
                    f"the column {own!r} of {self.name!r} is binary; leave it out with `columns`.",
                    f"{where}.columns",
                )
            if pa.types.is_floating(kind):
                floats.append(own)
        row = 0
        for number in range(file.num_row_groups if floats else 0):
            table = file.read_row_group(number, columns=floats)
            for own in floats:
                finite = pc.fill_null(pc.is_finite(table.column(own)), True)
                place = pc.index(finite, False).as_py()
                if place >= 0:
                    raise RecipeError(
                        f"{self.name!r}, row {row + place} (from 0): {own!r} is "
                        f"{table.column(own)[place].as_py()}, and JSON has no such number; make "
                        "it null, or leave the column out with `columns`.",
                        f"{where}.file",
                    )
            row += table.num_rows

    def read(self, places: Sequence[int]) -> list[Value] | CellError:
        """Rows as objects: of each group all that are wanted, at once."""
        by_group: dict[int, list[int]] = {}
        for place in places:
            by_group.setdefault(bisect_right(self._ends, place), []).append(place)
        found: dict[int, Value] = {}
        for number, wanted in by_group.items():
            table = self._group(number)
            if isinstance(table, CellError):
                return table
            start = self._ends[number - 1] if number else 0
            rows = table.take([place - start for place in wanted]).to_pylist()
            found.update(zip(wanted, map(_plain, rows), strict=True))
        return [found[place] for place in places]

    def _group(self, number: int) -> "pa.Table | CellError":
        import pyarrow as pa
        import pyarrow.parquet as pq

        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        own = list(dict.fromkeys(self._names.values()))
        try:
            status = self._path.stat()
            if (status.st_size, status.st_mtime_ns) != self._seen:
                return _written_to(self.name)
            with pq.ParquetFile(self._path) as file:
                table = file.read_row_group(number, columns=own)
        except (OSError, pa.ArrowException) as error:
            return _gone(self.name, error)
        table = table.select(list(self._names.values())).rename_columns(list(self._names))
        while self._kept and table.nbytes + sum(t.nbytes for t in self._kept.values()) > _GROUPS:
            self._kept.popitem(last=False)
        self._kept[number] = table
        return table


def _plain(value: Any) -> Value:
    """What Arrow gives for a value, as JSON has it: times and decimals as text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value) if isinstance(value, Decimal) else None


_KINDS: Mapping[str, type[_Lines] | type[_Parquet]] = {
    ".csv": _Csv,
    ".tsv": _Tsv,
    ".jsonl": _Jsonl,
    ".ndjson": _Jsonl,
    ".parquet": _Parquet,
}
