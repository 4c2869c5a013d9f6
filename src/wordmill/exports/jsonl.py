"""JSON Lines: one object a line, nested values as they are.

Linked tables are files of their own; `row`, `item` and `id` join them.
"""

from collections.abc import Callable
from typing import BinaryIO

import orjson

from wordmill.exports.tables import RowByRow, TableOptions
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

    def fitting(self, file: BinaryIO, columns: list[str]) -> int:
        """Lines that are objects with the columns."""
        return sum(list(orjson.loads(line)) == columns for line in file)
