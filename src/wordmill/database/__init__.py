"""The tables of people's things: SQLite here, PostgreSQL when scaled.

SQLAlchemy Core, no sessions: callers run small transactions with `begin` and `read`. The tables
are in `tables`, their migrations in `migrations`. Opening is fast: one SELECT tells whether the
schema is ours, and Alembic is imported only when it is not.

What goes wrong with the file or the server is raised as StorageError, in a sentence. The records
of a run (replies, finished rows) are the engine's and live elsewhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import event, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from wordmill.database.document_tables import document_choices, drives
from wordmill.database.model_tables import hub_tokens, local_models
from wordmill.database.rooms import (
    channel_answers,
    channel_events,
    channel_places,
    channels,
)
from wordmill.database.tables import (
    LOCAL,
    Instant,
    api_keys,
    attachments,
    audit,
    batches,
    blocks,
    codes,
    conversations,
    feedback,
    files,
    folders,
    grants,
    identities,
    jobs,
    ledger,
    messages,
    metadata,
    models,
    new_id,
    now,
    people,
    person_models,
    preferences,
    provider_keys,
    quotas,
    runs,
    sessions,
    settings,
    shares,
    throttles,
    tool_servers,
    workers,
)
from wordmill.errors import ConfigError, InvalidInput, StorageError
from wordmill.settings import Settings, make_engine

__all__ = [
    "BUSY_MILLISECONDS",
    "HEAD",
    "LOCAL",
    "Database",
    "Instant",
    "api_keys",
    "attachments",
    "audit",
    "batches",
    "blocks",
    "channel_answers",
    "channel_events",
    "channel_places",
    "channels",
    "codes",
    "conversations",
    "document_choices",
    "drives",
    "feedback",
    "files",
    "folders",
    "grants",
    "hub_tokens",
    "identities",
    "jobs",
    "ledger",
    "local_models",
    "messages",
    "metadata",
    "models",
    "new_id",
    "now",
    "open_at",
    "open_database",
    "people",
    "person_models",
    "preferences",
    "provider_keys",
    "quotas",
    "revision",
    "runs",
    "sessions",
    "settings",
    "shares",
    "throttles",
    "tool_servers",
    "workers",
]

HEAD = "0008"
"""The newest migration; a test holds it to be."""

BUSY_MILLISECONDS = 10_000
"""How long one waits for another's transaction."""

_NUL = "cannot contain NUL"
"""What PostgreSQL's driver says of it; SQLite keeps one."""

_ALONE = text(
    "SELECT set_config('lock_timeout', :wait, true), pg_advisory_xact_lock(8606214937283259500)"
)
"""PostgreSQL lets many write at once; this is the one lock that SQLite has."""


class Database:
    """An open database. Safe from any thread; `close` it, or use it as a context manager."""

    def __init__(self, engine: Engine, where: str) -> None:
        self.engine, self.where = engine, where

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction that writes: committed at the end, undone when an exception passes.

        One at a time: what it has read still holds when it writes.
        Raises StorageError for what the database refuses, InvalidInput for a NUL in a text.
        """
        with self._words(), self.engine.connect() as connection:
            # The lock is taken at once: one that was read first and upgraded later could fail.
            connection = connection.execution_options(begin="BEGIN IMMEDIATE")
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.execute(_ALONE, {"wait": str(BUSY_MILLISECONDS)})
                yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: all its queries see the same moment, however long."""
        with self._words(), self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """For one query: without a transaction around it, which to PostgreSQL is two more
        messages there and back.
        """
        with self._words(), self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection

    def close(self) -> None:
        """Let go of the connections; of those that other threads still use, when they are done."""
        event.listen(self.engine, "checkin", _let_go)
        self.engine.dispose()

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _words(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            if _NUL in str(getattr(error, "orig", "")):
                raise InvalidInput("A text holds a NUL, which no name or text may.") from error
            raise StorageError(f"The database {self.where}: {_sentence(error)}.") from error


def open_database(settings: Settings) -> Database:
    """The database of the settings, made or brought up to date when needed.

    An SQLite file of an older schema is copied beside itself before it is changed.
    Raises StorageError when it cannot be opened, is not ours or is of a newer Wordmill;
    ConfigError when `database_url` is no address.
    """
    return _opened(settings, HEAD)


def open_at(settings: Settings, schema: str) -> Database:
    """As `open_database`, but with an older schema where there is none: to restore what is old.

    What is there already is left as it is.
    """
    return _opened(settings, schema)


def _opened(settings: Settings, schema: str) -> Database:
    file = _file(settings.database_url)
    # Also for a database that lies elsewhere: runs, batches and the cache are there.
    _make_home(settings.home)
    engine = _engine(settings.database_url, file)
    database = Database(engine, str(file or settings.shown("database_url")))
    try:
        with database.read() as connection:
            found = revision(connection)
        if found != schema and (found is None or schema == HEAD):
            from wordmill.migrations.upgrade import upgrade

            upgrade(database, file, found, schema)
    except BaseException:
        database.close()
        raise
    return database


def _file(url: str) -> Path | None:
    """The SQLite file of an address, or None for another kind of database."""
    if not url.startswith("sqlite:///"):
        return None
    return Path(url.removeprefix("sqlite:///").partition("?")[0])


def _make_home(home: Path) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The data folder {home} cannot be made: {error.strerror}. "
            "Name another in WORDMILL_HOME."
        ) from error


def _engine(url: str, file: Path | None) -> Engine:
    try:
        engine = make_engine(url)
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(
            f"database_url is no address of a database that SQLAlchemy knows: {error}. "
            "Leave it empty for an SQLite file in the data folder."
        ) from error
    except ModuleNotFoundError as error:
        how = ": pip install 'wordmill[scale]'" if error.name == "psycopg" else ""
        raise ConfigError(
            f"database_url needs the Python package {error.name!r}. Install it{how}, "
            "or leave database_url empty for an SQLite file in the data folder."
        ) from error
    if file is not None:
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # Transactions are begun by `_on_begin`: the driver would begin too late for DDL and reads.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _let_go(_: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    entry.invalidate()


def _on_begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def revision(connection: Connection) -> str | None:
    """The schema's revision; None where there is no Wordmill schema."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _sentence(error: SQLAlchemyError) -> str:
    """The driver's words, without the statement and its values."""
    cause = getattr(error, "orig", None) or error
    words = str(cause).splitlines()[0].rstrip(".") if str(cause) else type(cause).__name__
    held = f"another process held it for {BUSY_MILLISECONDS // 1000} s. Run the command again"
    advice = {
        "canceling statement due to lock timeout": held,
        "database or disk is full": "the disk is full. Make room and run the command again",
        "database is locked": held,
        "attempt to write a readonly database": "it may only be read. Make the file and its "
        "folder writable, or name another folder in WORDMILL_HOME",
        "unable to open database file": "the file cannot be opened or made. Is its folder there "
        "and writable? WORDMILL_HOME names another",
        "file is not a database": "the file is not an SQLite database. Move it away, "
        "or name another folder in WORDMILL_HOME",
    }
    return advice.get(words, words)
