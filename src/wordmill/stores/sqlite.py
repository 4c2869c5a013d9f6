"""An index of results in SQLite: a file a batch, removed with it.

Texts are found by FTS5, without their order and without the texts themselves: an excerpt is cut
out of the segment by whoever shows it.
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from wordmill.errors import StorageError
from wordmill.storage import Folder
from wordmill.stores.base import PERCENTILES, WORD, Entry, Hit, Point, Query, Statistics, Store

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS blocks(number INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS results(
    line INTEGER PRIMARY KEY, custom_id TEXT NOT NULL, status TEXT NOT NULL, model TEXT NOT NULL,
    ended REAL NOT NULL, seconds REAL NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,
    money REAL NOT NULL, attempts INTEGER NOT NULL, cached INTEGER NOT NULL,
    block INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS results_custom_id ON results(custom_id);
CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(
    asked, answered, content='', detail='none');
"""

_COLUMNS: Final = "line, custom_id, status, model, ended, seconds, attempts, cached, block"


class Sqlite(Store):
    """See the module. folder: where `batches/<id>/index.db` lie."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def add(self, batch: str, block: int, entries: Sequence[Entry]) -> None:
        """See Store."""
        with self._open(batch) as db, db:
            db.execute("BEGIN IMMEDIATE")
            if db.execute("SELECT 1 FROM blocks WHERE number=?", (block,)).fetchone():
                return
            db.executemany(
                "INSERT INTO results VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
                [
                    (
                        one.line, one.custom_id, one.status, one.model, one.ended, one.seconds,
                        one.input_tokens, one.output_tokens, one.money, one.attempts, one.cached,
                        one.block,
                    )
                    for one in entries
                ],
            )  # fmt: skip
            db.executemany(
                "INSERT INTO texts(rowid, asked, answered) VALUES(?,?,?)",
                [(one.line, one.asked, one.answered) for one in entries],
            )
            db.execute("INSERT INTO blocks VALUES(?)", (block,))

    def blocks(self, batch: str) -> Collection[int]:
        """See Store."""
        with self._open(batch) as db:
            return {number for (number,) in db.execute("SELECT number FROM blocks")}

    def search(self, batch: str, query: Query, *, after: int = 0, limit: int = 50) -> list[Hit]:
        """See Store."""
        wanted, values = ["line > ?"], [after]
        for words, value in _conditions(query):
            wanted.append(words)
            values += value
        # Only our own words: what is looked for is bound.
        where = " AND ".join(wanted)
        statement = f"SELECT {_COLUMNS} FROM results WHERE {where} ORDER BY line LIMIT ?"  # noqa: S608
        with self._open(batch) as db:
            rows = db.execute(statement, [*values, limit])
            return [
                Hit(batch, line, name, status, model, ended, seconds, attempts, bool(cached), block)
                for line, name, status, model, ended, seconds, attempts, cached, block in rows
            ]

    def statistics(self, batch: str) -> Statistics:
        """See Store."""
        with self._open(batch) as db:
            row = db.execute(
                "SELECT count(*), coalesce(sum(status='ok'),0), coalesce(sum(cached),0),"
                " coalesce(sum(max(0, attempts - 1)),0), coalesce(sum(input),0),"
                " coalesce(sum(output),0), coalesce(sum(money),0.0) FROM results"
            ).fetchone()
            lines, completed, cached, retried, read, written, money = row
            by = "SELECT {0}, count(*) FROM results WHERE {0} != ? GROUP BY 1".format
            causes, models = db.execute(by("status"), ["ok"]), db.execute(by("model"), [""])
            return Statistics(
                lines=lines,
                completed=completed,
                failed=lines - completed,
                cached=cached,
                retried=retried,
                input_tokens=read,
                output_tokens=written,
                money=money,
                latency=_latency(db),
                causes=dict(causes.fetchall()),
                models=dict(models.fetchall()),
            )

    def series(self, batch: str, points: int = 60) -> list[Point]:
        """See Store."""
        with self._open(batch) as db:
            first, last = db.execute("SELECT min(ended), max(ended) FROM results").fetchone()
            if first is None:
                return []
            step = max(1.0, (last - first) / points)
            rows = db.execute(
                "WITH timed AS"
                " (SELECT *, CAST((ended - ?) / ? AS INTEGER) AS stretch FROM results),"
                " ranked AS (SELECT *, percent_rank() OVER"
                "   (PARTITION BY stretch ORDER BY seconds) AS rank FROM timed)"
                " SELECT stretch, sum(status='ok'), sum(status!='ok'), sum(input), sum(output),"
                " sum(money), max(CASE WHEN rank <= 0.5 THEN seconds END),"
                " max(CASE WHEN rank <= 0.95 THEN seconds END)"
                " FROM ranked GROUP BY stretch ORDER BY stretch",
                (first, step),
            )
            return [Point(first + row[0] * step, *row[1:]) for row in rows]

    def remove(self, batch: str) -> None:
        """See Store."""
        for suffix in ("", "-wal", "-shm"):
            self._path(batch, suffix).unlink(missing_ok=True)

    def _path(self, batch: str, suffix: str = "") -> Path:
        return self._folder.path(f"batches/{batch}/index.db{suffix}")

    @contextmanager
    def _open(self, batch: str) -> Iterator[sqlite3.Connection]:
        path = self._path(batch)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as db:
                # It can be made again out of the segments: it need not survive a power cut.
                db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; {_SCHEMA}")
                yield db
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"The index {path}: {error}.") from error


def _conditions(query: Query) -> Iterator[tuple[str, list[Any]]]:
    if query.text.strip():
        words = [f'"{word}"' for word in WORD.findall(query.text)]
        if words:
            yield "line IN (SELECT rowid FROM texts WHERE texts MATCH ?)", [" ".join(words)]
    if query.status is not None:
        yield "status = ?", [query.status]
    if query.failed is not None:
        yield "(status != 'ok') = ?", [query.failed]
    if query.model is not None:
        yield "model = ?", [query.model]
    if query.custom_id is not None:
        yield "custom_id = ?", [query.custom_id]
    if query.since is not None:
        yield "ended >= ?", [query.since]
    if query.until is not None:
        yield "ended <= ?", [query.until]


def _latency(db: sqlite3.Connection) -> dict[int, float]:
    sent = "FROM results WHERE attempts > 0 AND NOT cached"
    count = db.execute(f"SELECT count(*) {sent}").fetchone()[0]
    if not count:
        return {}
    found = {}
    for percent in PERCENTILES:
        place = min(count - 1, int(count * percent / 100))
        row = db.execute(f"SELECT seconds {sent} ORDER BY seconds LIMIT 1 OFFSET ?", (place,))
        found[percent] = float(row.fetchone()[0])
    return found
