"""Accounts on each database, with passwords that are hashed quickly."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, text, update

from wordmill import database as tables
from wordmill.accounts import Accounts, Person, passwords
from wordmill.database import Database, open_database
from wordmill.settings import Settings, load

PASSWORD = "correct horse 7"


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One pass over 1 MiB, except in tests marked as being about that."""
    if request.module.__name__.endswith("test_passwords"):
        yield
        return
    monkeypatch.setattr(passwords, "TIME", 1)
    monkeypatch.setattr(passwords, "MEMORY", 1024)
    passwords._hasher.cache_clear()
    monkeypatch.setattr(passwords, "NOBODY", passwords.hashed("nobody has this one"))
    yield
    passwords._hasher.cache_clear()


@pytest.fixture
def settings(either_database: str) -> Settings:
    return load()


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with open_database(settings) as database:
        yield database


@pytest.fixture
def accounts(database: Database, settings: Settings) -> Accounts:
    return Accounts(database, settings)


@pytest.fixture
def ann(accounts: Accounts) -> Person:
    """The first admin."""
    return accounts.people.create(None, "ann@example.org", "Ann", PASSWORD, "admin")


@pytest.fixture
def bob(accounts: Accounts, ann: Person) -> Person:
    """A member."""
    return accounts.people.create(ann, "bob@example.org", "Bob", PASSWORD)


@pytest.fixture
def later(database: Database) -> Callable[..., None]:
    """`later(table, hours=13)`: that much time goes by, for all that a table holds."""

    def pass_by(table: Any, **time: float) -> None:
        moved = {
            column: column - timedelta(**time) for column in table.c
            if isinstance(column.type, tables.Instant)
        }  # fmt: skip
        with database.begin() as connection:
            for row in connection.execute(select(table)).mappings().all():
                keys = [key == row[key.name] for key in table.primary_key]
                values = {
                    column.name: row[column.name] - timedelta(**time)
                    for column in moved
                    if row[column.name] is not None
                }
                connection.execute(update(table).where(*keys).values(**values))

    return pass_by


@pytest.fixture
def kept(database: Database) -> Callable[[], str]:
    """All that the database holds, as one text."""

    def read() -> str:
        with database.read() as connection:
            return "\n".join(
                repr(row)
                for table in tables.metadata.sorted_tables
                for row in connection.execute(text(f"SELECT * FROM {table.name}"))
            )

    return read


@pytest.fixture
def statements(database: Database) -> list[str]:
    """Every statement that is sent to the database from now on, but for the begin and the end."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    return sent
