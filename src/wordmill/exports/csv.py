"""CSV (RFC 4180): UTF-8, commas, a header, nested values as JSON.

Null is an empty cell, as is an empty text. Texts are written as they are: a text that begins with
`=`, `+`, `-` or `@` is a formula to a spreadsheet, and whoever opens untrusted rows in one wants
the option `safe`, which puts an apostrophe before it.
"""

import csv
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

import orjson
from pydantic import Field

from wordmill.exports.tables import RowByRow, TableOptions
from wordmill.types import Row, Value

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings that spreadsheets take for a formula (OWASP, "CSV Injection")."""


class CsvOptions(TableOptions):
    """Options of CSV."""

    safe: bool = Field(False, description="an apostrophe before texts that look like a formula")


class Csv(RowByRow[CsvOptions]):
    """Comma-separated values."""

    name = "csv"
    ending = ".csv"
    options = CsvOptions

    def begin(
        self, file: BinaryIO, columns: list[str], options: CsvOptions
    ) -> Callable[[Row], None]:
        """The header, then a record a row."""
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\r\n")

        def write(values: list[Value]) -> None:
            writer.writerow(values)
            file.write(buffer.getvalue().encode())
            buffer.seek(0)
            buffer.truncate()

        write(columns)
        return lambda row: write([_cell(row[name], options.safe) for name in columns])

    def fitting(self, file: BinaryIO, columns: list[str]) -> int:
        """Records with as many cells as the header; none under another header."""
        with io.TextIOWrapper(file, "utf-8", newline="") as text, _any_length():
            reader = csv.reader(text, strict=True)
            if next(reader) != columns:
                return 0
            return sum(len(record) == len(columns) for record in reader)


def _cell(value: Value, safe: bool) -> Value:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if safe and value.startswith(FORMULA) else value
    return orjson.dumps(value).decode()


@contextmanager
def _any_length() -> Iterator[None]:
    """The csv module refuses long cells by default; texts of models may be long."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
