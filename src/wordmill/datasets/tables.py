"""The Parquet files of one table, written a row group at a time and never half.

A shard is a `WholeFile`: it has its name only when it is complete and on the disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wordmill.storage import WholeFile, said

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

COMPRESSION: Final = "zstd"
LEVEL: Final = 3


class TableFiles:
    """Shards `<folder>/<table>-00000.parquet`, ... of one schema.

    labels: columns with few different values, which are stored as a dictionary.
    sparse: without any row there is no file.
    then: the end of a StorageError's sentence: what is safe and how to go on.
    """

    def __init__(
        self,
        folder: Path,
        table: str,
        schema: "pa.Schema",
        *,
        labels: list[str],
        sparse: bool,
        then: str,
    ) -> None:
        self.schema, self.sparse = schema, sparse
        self.rows = 0
        self.paths: list[Path] = []
        self._folder, self._table, self._labels, self._then = folder, table, labels, then
        self._open: tuple[WholeFile, pq.ParquetWriter] | None = None

    def write(self, arrays: "list[pa.Array]") -> None:
        """Append a row group to the open shard, or begin one; nothing for no rows.

        Raises StorageError.
        """
        import pyarrow as pa

        if not len(arrays[0]) and self.sparse:
            return
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        with self._guarded():
            self._writer().write_batch(batch)
        self.rows += len(batch)

    def cut(self) -> None:
        """Finish the open shard, if one is; the next row begins another. Raises StorageError."""
        if self._open is None:
            return
        whole, writer = self._open
        with self._guarded():
            writer.close()
        whole.commit()
        self.paths.append(whole.path)
        self._open = None

    def abort(self) -> None:
        """Leave no part of the open shard behind; finished ones stay."""
        if self._open is None:
            return
        (whole, writer), self._open = self._open, None
        with suppress(OSError):  # it flushes, and the disk may be full
            writer.close()
        whole.abort()

    def _path(self) -> Path:
        return self._folder / f"{self._table}-{len(self.paths):05d}.parquet"

    def _writer(self) -> "pq.ParquetWriter":
        import pyarrow.parquet as pq

        if self._open is None:
            whole = WholeFile(self._path(), self._then)
            writer = pq.ParquetWriter(
                whole.file,
                self.schema,
                compression=COMPRESSION,
                compression_level=LEVEL,
                use_dictionary=self._labels,
                write_statistics=["row"],
            )
            self._open = (whole, writer)
        return self._open[1]

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with said(self._path(), self._then):
            try:
                yield
            except BaseException:
                self.abort()
                raise
