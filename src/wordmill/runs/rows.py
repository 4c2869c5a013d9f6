"""Finished rows: into the run's records at once, into the dataset in order.

Rows end in any order; a dataset holds them by number. They are read back from the records in
whole groups as soon as none is missing before them, so most of a dataset is written while models
are still being waited for, and memory does not grow with the run.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from wordmill._engine import Engine
from wordmill.errors import ConfigError

if TYPE_CHECKING:
    from wordmill.datasets import DatasetResult, DatasetWriter, Summary

GROUP: Final = 2048
"""Rows read back and written at once."""


class RowStore:
    """The sink of a run that lasts.

    rows: how many the run has.  writer: makes the dataset's writer when the first rows are ready,
    so that pyarrow is not imported before the first requests are out.
    """

    def __init__(self, engine: Engine, rows: int, writer: "Callable[[], DatasetWriter]") -> None:
        self._engine, self._rows, self._make_writer = engine, rows, writer
        self._writer: DatasetWriter | None = None
        try:
            self._ended = bytearray(rows)
        except MemoryError as error:
            raise ConfigError(
                f"{rows:,} rows need as many bytes of memory, and this machine does not give them: "
                "make several runs, each with a seed of its own."
            ) from error
        self._written = 0
        self.ended = 0

    def mark(self, number: int) -> None:
        """A row that an earlier sitting has finished."""
        self.ended += not self._ended[number]
        self._ended[number] = 1

    def unmark(self, number: int) -> None:
        """A row that is made again."""
        self.ended -= self._ended[number]
        self._ended[number] = 0

    def has(self, number: int) -> bool:
        """Whether a row is finished."""
        return bool(self._ended[number])

    def missing(self) -> Iterator[int]:
        """The numbers of the rows that are not finished, ascending, as of now."""
        number = self._ended.find(0)
        while number >= 0:
            yield number
            number = self._ended.find(0, number + 1)

    def keep(self, numbers: list[int], records: list[bytes]) -> None:
        """Store finished rows."""
        self._engine.keep_rows(numbers, records)
        ended = self._ended
        for number in numbers:
            ended[number] = 1
        self.ended += len(numbers)

    def write_ready(self) -> None:
        """Write one group, if all of its rows have ended."""
        high = self._written + GROUP
        if high <= self._rows and self._ended.find(0, self._written, high) < 0:
            self._write(high)

    def finish(self, summary: "Summary") -> "DatasetResult":
        """Write all that is left; rows that were not made are left out."""
        high = self._ended.rfind(1) + 1
        while self._written < high:
            self._write(min(self._written + GROUP, high))
        return self._open().finish(summary)

    def discard(self) -> None:
        """Leave no part files in the dataset's folder. Harmless after `finish`."""
        if self._writer is not None:
            self._writer.discard()

    def _write(self, high: int) -> None:
        self._open().add(record for _, record in self._engine.rows(self._written, high))
        self._written = high

    def _open(self) -> "DatasetWriter":
        if self._writer is None:
            self._writer = self._make_writer()
        return self._writer
