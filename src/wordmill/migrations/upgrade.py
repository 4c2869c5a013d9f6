"""Bring a database to the newest schema, all in one transaction.

Two processes may start at once on an empty folder: the second waits for the first one's lock and
finds the work done. Imported by `database.open_database` only when there is something to do.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from wordmill.database import BUSY_MILLISECONDS, HEAD, Database, revision
from wordmill.errors import StorageError


def configuration() -> Config:
    """Alembic's, without a file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def upgrade(database: Database, file: Path | None, found: str | None, wanted: str = HEAD) -> None:
    """From revision `found` (None: an empty database) to `wanted`.

    What holds an older schema is kept first as it was: an SQLite `file` is copied, the tables of
    PostgreSQL go into a schema of their own.
    Raises StorageError for a schema that this Wordmill does not know.
    """
    config = configuration()
    if found is not None:
        _check_known(database, config, found)
        if file is not None:
            _copy(file, file.with_name(f"{file.name}.before-{HEAD}"))
    if file is not None:
        _write_ahead(file)
    with database.begin() as connection:
        now = revision(connection)
        if now == wanted:
            return
        if now is None:
            _check_empty(database, connection)
        elif file is None:
            _keep_tables(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, wanted)


def _check_known(database: Database, config: Config, found: str) -> None:
    try:
        ScriptDirectory.from_config(config).get_revision(found)
    except CommandError as error:
        raise StorageError(
            f"The database {database.where} has the schema {found}, which is newer than this "
            f"Wordmill's ({HEAD}). Upgrade Wordmill, or name another folder in WORDMILL_HOME."
        ) from error


def _check_empty(database: Database, connection: Connection) -> None:
    tables = connection.dialect.get_table_names(connection)
    if tables:
        raise StorageError(
            f"The database {database.where} is not Wordmill's: it holds the tables "
            f"{', '.join(sorted(tables)[:6])}. Name another in WORDMILL_DATABASE_URL, "
            "or another folder in WORDMILL_HOME."
        )


def _keep_tables(connection: Connection) -> None:
    """The tables and their rows in the schema `before_HEAD`, in the transaction that changes them.

    What an earlier start kept there is replaced.
    """
    quoted = connection.dialect.identifier_preparer.quote
    kept = quoted(f"before_{HEAD}")
    connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {kept} CASCADE")
    connection.exec_driver_sql(f"CREATE SCHEMA {kept}")
    for name in sorted(connection.dialect.get_table_names(connection)):
        table = quoted(name)
        connection.exec_driver_sql(f"CREATE TABLE {kept}.{table} AS TABLE {table}")


def _write_ahead(file: Path) -> None:
    """Put an SQLite file into WAL mode, which it keeps.

    SQLite does not wait for others when it changes the mode, so we do.
    """
    patience = time.monotonic() + BUSY_MILLISECONDS / 1000
    while True:
        try:
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if time.monotonic() > patience:
                raise StorageError(f"The database {file} cannot be changed: {error}.") from error
            time.sleep(0.02)


def _copy(file: Path, copy: Path) -> None:
    """A whole copy, also while others write. An older copy of the same name is replaced."""
    try:
        part = copy.with_name(copy.name + ".part")
        part.unlink(missing_ok=True)
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)
        part.chmod(0o600)
        part.replace(copy)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(
            f"The database {file} must be brought up to date, and the copy that is kept of it "
            f"cannot be written to {copy}: {error}."
        ) from error
