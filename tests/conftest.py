"""Fixtures that all tests share: a home of one's own, a database, a rehearsal server."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import postgres
from wordmill import _engine
from wordmill.database import open_database
from wordmill.settings import load


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder; nothing of the person's own settings reaches a test."""
    for name in [name for name in os.environ if name.startswith("WORDMILL_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("WORDMILL_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server; where it is not installed the test is skipped, in CI it fails."""
    with postgres.serving() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: postgres.Server) -> str:
    """An empty PostgreSQL database."""
    return postgres_server.new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def either_database(
    request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The test runs twice: on the data folder's SQLite file, and on PostgreSQL.

    PostgreSQL has the tables already: they are copied, which is quicker than to make them.
    """
    if request.param == "postgresql":
        server: postgres.Server = request.getfixturevalue("postgres_server")
        monkeypatch.setenv("WORDMILL_DATABASE_URL", server.filled_database(_with_tables))
    return str(request.param)


@pytest.fixture(params=["sqlite", "postgresql"])
def either_empty_database(
    request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The same without any tables."""
    if request.param == "postgresql":
        monkeypatch.setenv("WORDMILL_DATABASE_URL", request.getfixturevalue("postgres_url"))
    return str(request.param)


def _with_tables(url: str) -> None:
    open_database(load({"database_url": url})).close()


@pytest.fixture
def rehearse() -> Iterator[Callable[..., _engine.Rehearsal]]:
    """Start rehearsal servers, each on a port the system chose; stopped at the end."""
    started = []

    def start(**options: Any) -> _engine.Rehearsal:
        server = _engine.Rehearsal(json.dumps(options))
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()
