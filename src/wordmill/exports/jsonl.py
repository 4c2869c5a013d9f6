"""JSON Lines: one object a line, nested values as they are.

Linked tables are files of their own; `row`, `item` and `id` join them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import orjson

from wordmill.exports.tables import RowByRow, TableOptions, differs
from wordmill.types import Row


class Jsonl(RowByRow[TableOptions]):
    """JSON Lines."""

    name = "jsonl"
    ending = ".jsonl"
    options = TableOptions

    def begin(
        self, file: BinaryIO, columns: list[str], options: TableOptions
    ) -> Callable[[Row], None]:
        """A line a row."""

        def write(row: Row) -> None:
            values = {name: row[name] for name in columns}
            file.write(orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE))

        return write

    def check(self, path: Path, rows: int, columns: list[str]) -> None:
        """Each line is an object with the columns."""
        found = 0
        with path.open("rb") as file:
            for line in file:
                found += list(orjson.loads(line)) == columns
        if found != rows:
            raise differs(path, rows, f"{found:,} lines hold the columns")
