"""An index of results in SQLite: a file a batch, removed with it.

Texts are found by FTS5, without their order and without the texts themselves: an excerpt is cut
out of the segment by whoever shows it.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, cast

import orjson

from wordmill._engine import words
from wordmill.errors import StorageError
from wordmill.storage import Folder
from wordmill.stores.base import (
    OPEN,
    PERCENTILES,
    Entry,
    Event,
    Hit,
    Json,
    Kind,
    Part,
    Point,
    Query,
    Scope,
    Standing,
    Statistics,
    Store,
    Whose,
    stretch,
)

_VERSION: Final = 2
_TABLES: Final = ("results", "texts", "blocks")
"""Those that can be made again out of the segments."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS about(
    one INTEGER PRIMARY KEY CHECK (one = 1), owner TEXT NOT NULL, state TEXT NOT NULL,
    facts TEXT NOT NULL, forgotten INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS events(
    number INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL,
    message TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_at ON events(at);
CREATE TABLE IF NOT EXISTS blocks(number INTEGER PRIMARY KEY, lines INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS results(
    line INTEGER PRIMARY KEY, custom_id TEXT NOT NULL, status TEXT NOT NULL, model TEXT NOT NULL,
    ended INTEGER NOT NULL, seconds REAL NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,
    money REAL NOT NULL, attempts INTEGER NOT NULL, cached INTEGER NOT NULL,
    block INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS results_custom_id ON results(custom_id);
CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(
    text, content='', detail='none', tokenize='ascii');
"""
# The words come whole and folded, so the tokenizer splits at spaces and does no more.

_COLUMNS: Final = "line, custom_id, status, model, ended, seconds, attempts, cached, block"


class Sqlite(Store):
    """See the module. folder: where `batches/<id>/index.db` lie."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def open(self) -> None:
        """See Store."""

    def close(self) -> None:
        """See Store."""

    def place(self, whose: Whose) -> str:
        """See Store."""
        return ""

    def describe(self, whose: Whose, state: str, facts: Json) -> None:
        """See Store."""
        with self._open(whose.batch) as db:
            _about(db, whose)
            db.execute("UPDATE about SET state=?, facts=?", (state, orjson.dumps(facts).decode()))

    def add(self, whose: Whose, block: int, entries: Sequence[Entry]) -> None:
        """See Store."""
        with self._open(whose.batch) as db, db:
            db.execute("BEGIN IMMEDIATE")
            _about(db, whose)
            if db.execute("SELECT 1 FROM blocks WHERE number=?", (block,)).fetchone():
                return
            db.executemany(
                "INSERT INTO results VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
                [
                    (
                        one.line, one.custom_id, one.status, one.model, round(one.ended * 1000),
                        one.seconds, one.input_tokens, one.output_tokens, one.money, one.attempts,
                        one.cached, one.block,
                    )
                    for one in entries
                ],
            )  # fmt: skip
            db.executemany(
                "INSERT INTO texts(rowid, text) VALUES(?,?)",
                [(one.line, words(one.text)) for one in entries],
            )
            db.execute("INSERT INTO blocks VALUES(?,?)", (block, len(entries)))

    def count(self, owner: str, batch: str) -> int:
        """See Store."""
        return sum(self.blocks(owner, batch).values())

    def blocks(self, owner: str, batch: str) -> Mapping[int, int]:
        """See Store."""
        with self._of(owner, batch) as db:
            return {} if db is None else dict(db.execute("SELECT number, lines FROM blocks"))

    def search(
        self, scope: Scope, query: Query, *, after: tuple[str, int] | None = None, limit: int = 50
    ) -> list[Hit]:
        """See Store."""
        found: list[Hit] = []
        for batch in scope.batches if scope.batch is None else (scope.batch,):
            if after is not None and batch > after[0]:
                continue
            line = after[1] if after is not None and batch == after[0] else 0
            found += self._search(scope.owner, batch, query, line, limit - len(found))
            if len(found) >= limit:
                break
        return found

    def _search(self, owner: str, batch: str, query: Query, after: int, limit: int) -> list[Hit]:
        wanted, values = ["line > ?"], [after]
        for condition, value in _conditions(query):
            wanted.append(condition)
            values.append(value)
        # Only our own words: what is looked for is bound.
        where = " AND ".join(wanted)
        statement = f"SELECT {_COLUMNS} FROM results WHERE {where} ORDER BY line LIMIT ?"  # noqa: S608
        with self._of(owner, batch) as db:
            rows = () if db is None else db.execute(statement, [*values, limit])
            return [
                Hit(batch, line, name, status, model, ended / 1000, seconds, attempts, bool(cached),
                    block)
                for line, name, status, model, ended, seconds, attempts, cached, block in rows
            ]  # fmt: skip

    def whole(self, owner: str, batch: str, line: int) -> tuple[str, str] | None:
        """See Store."""
        return None

    def statistics(self, owner: str, batch: str) -> Statistics:
        """See Store."""
        with self._of(owner, batch) as db:
            if db is None:
                return Statistics()
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

    def series(self, owner: str, batch: str, points: int = 60) -> list[Point]:
        """See Store."""
        with self._of(owner, batch) as db:
            if db is None:
                return []
            first, last = db.execute("SELECT min(ended), max(ended) FROM results").fetchone()
            if first is None:
                return []
            step = stretch(first, last, points)
            rows = db.execute(
                "WITH timed AS"
                " (SELECT *, (ended - ?) / ? AS stretch FROM results),"
                " ranked AS (SELECT *, percent_rank() OVER"
                "   (PARTITION BY stretch ORDER BY seconds) AS rank FROM timed)"
                " SELECT stretch, sum(status='ok'), sum(status!='ok'), sum(input), sum(output),"
                " sum(money), max(CASE WHEN rank <= 0.5 THEN seconds END),"
                " max(CASE WHEN rank <= 0.95 THEN seconds END)"
                " FROM ranked GROUP BY stretch ORDER BY stretch",
                (first, step),
            )
            return [Point((first + row[0] * step) / 1000, *row[1:]) for row in rows]

    def note(self, whose: Whose, events: Sequence[Event]) -> None:
        """See Store."""
        with self._open(whose.batch) as db, db:
            db.execute("BEGIN IMMEDIATE")
            _about(db, whose)
            db.executemany(
                "INSERT INTO events(at, kind, source, message, detail) VALUES(?,?,?,?,?)",
                [
                    (round(one.at * 1000), one.kind, one.source, one.message,
                     orjson.dumps(one.detail).decode())
                    for one in events
                ],
            )  # fmt: skip

    def events(
        self,
        owner: str,
        batch: str,
        *,
        after: str = "",
        limit: int = 100,
        kinds: Sequence[Kind] = (),
        newest: bool = False,
    ) -> list[Event]:
        """See Store."""
        at, _, number = after.partition("-")
        among = ",".join("?" * len(kinds)) or "kind"
        order = "at DESC, number DESC" if newest else "at, number"
        statement = (
            "SELECT number, at, kind, source, message, detail FROM events"  # noqa: S608
            f" WHERE (at, number) > (?, ?) AND kind IN ({among}) ORDER BY {order} LIMIT ?"
        )
        values = (int(at or -1), int(number or 0), *kinds, limit)
        with self._of(owner, batch) as db:
            rows = () if db is None else db.execute(statement, values)
            found = [
                Event(at / 1000, cast(Kind, kind), source, message, orjson.loads(detail),
                      f"{at}-{number}")
                for number, at, kind, source, message, detail in rows
            ]  # fmt: skip
        return found[::-1] if newest else found

    def forgotten(self, batch: str) -> bool:
        """See Store."""
        if not self._path(batch, "").exists():
            return False
        with self._open(batch) as db:
            return db.execute("SELECT 1 FROM about WHERE forgotten").fetchone() is not None

    def remember(self, batch: str) -> None:
        """See Store."""
        if self.forgotten(batch):
            with self._open(batch) as db:
                db.execute("UPDATE about SET forgotten=0")

    def retain(self, before: float | None, documents: int | None) -> list[str]:
        """See Store."""
        kept = []
        for batch in self._batches():
            with self._open(batch) as db:
                lines, last = db.execute("SELECT count(*), max(ended) FROM results").fetchone()
                state = db.execute("SELECT state FROM about").fetchone()
            if lines and state is not None and state[0] not in OPEN:
                kept.append((last / 1000, batch, lines))
        left, gone = sum(lines for _, _, lines in kept), []
        for last, batch, lines in sorted(kept):
            old = before is not None and last < before
            if old or (documents is not None and left > documents):
                left -= lines
                gone.append(batch)
                with self._open(batch) as db:
                    for table in _TABLES:
                        db.execute(f"DROP TABLE {table}")
                    db.execute("UPDATE about SET forgotten=1")
                    db.execute("VACUUM")
        return gone

    def roll(self) -> list[str]:
        """See Store."""
        return []

    def standing(self) -> Standing:
        """See Store."""
        parts = []
        for batch in self._batches():
            with self._open(batch) as db:
                lines = db.execute("SELECT coalesce(sum(lines), 0) FROM blocks").fetchone()[0]
            size = self._path(batch, "").stat().st_size
            parts.append(Part(f"{batch}/index.db", lines, size, False))
        return Standing("SQLite", parts)

    def remove(self, batch: str) -> None:
        """See Store."""
        for suffix in ("", "-wal", "-shm"):
            self._path(batch, suffix).unlink(missing_ok=True)

    def _batches(self) -> list[str]:
        found = (self._folder.root / "batches").glob("*/index.db")
        return sorted(path.parent.name for path in found)

    def _path(self, batch: str, suffix: str) -> Path:
        return self._folder.path(f"batches/{batch}/index.db{suffix}")

    @contextmanager
    def _of(self, owner: str, batch: str) -> Iterator[sqlite3.Connection | None]:
        """The index of a batch, if it is this person's."""
        if not self._path(batch, "").exists():
            yield None
            return
        with self._open(batch) as db:
            mine = db.execute("SELECT 1 FROM about WHERE owner = ?", (owner,)).fetchone()
            yield None if mine is None else db

    @contextmanager
    def _open(self, batch: str) -> Iterator[sqlite3.Connection]:
        path = self._path(batch, "")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as db:
                # It can be made again out of the segments: it need not survive a power cut.
                db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;")
                if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                    drop = "".join(f"DROP TABLE IF EXISTS {table};" for table in _TABLES)
                    made = f"PRAGMA user_version={_VERSION};"
                    db.executescript(f"BEGIN IMMEDIATE; {drop} {made} COMMIT;")
                db.executescript(_SCHEMA)
                yield db
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"The index {path}: {error}.") from error


def _about(db: sqlite3.Connection, whose: Whose) -> None:
    db.execute("INSERT INTO about VALUES(1, ?, '', '{}', 0) ON CONFLICT DO NOTHING", (whose.owner,))


def _conditions(query: Query) -> Iterator[tuple[str, Any]]:
    if found := query.words():
        match = " ".join(f'"{word}"' for word in found)
        yield "line IN (SELECT rowid FROM texts WHERE texts MATCH ?)", match
    if query.status is not None:
        yield "status = ?", query.status
    if query.failed is not None:
        yield "(status != 'ok') = ?", query.failed
    if query.model is not None:
        yield "model = ?", query.model
    if query.custom_id is not None:
        yield "custom_id = ?", query.custom_id
    if query.since is not None:
        yield "ended >= ?", round(query.since * 1000)
    if query.until is not None:
        yield "ended <= ?", round(query.until * 1000)


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
