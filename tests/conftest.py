"""Fixtures that all tests share: a home of one's own, a database, a rehearsal server."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import elasticsearch, postgres, rabbitmq, redis, s3
from wordmill import _engine
from wordmill.database import open_database
from wordmill.settings import load


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=("sqlite", "postgresql", "both"),
        default="both",
        help="what tests stand on; both: those that choose it run on either, the others on SQLite",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = metafunc.config.getoption("database")
    for name in ("either_database", "either_empty_database"):
        if name in metafunc.fixturenames:
            kinds = ["sqlite", "postgresql"] if chosen == "both" else [chosen]
            metafunc.parametrize(name, kinds, indirect=True)


@pytest.fixture(autouse=True)
def home(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """An empty data folder; nothing of the person's own settings reaches a test.

    With `--database postgresql` a database goes with it, but for tests that choose one themselves
    and those of the SQLite file (marked `sqlite`).
    """
    for name in [name for name in os.environ if name.startswith("WORDMILL_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("WORDMILL_HOME", str(folder))
    if request.config.getoption("database") != "postgresql" or not _stands_on_one(request):
        yield folder
        return
    server: postgres.Server = request.getfixturevalue("postgres_server")
    url = server.filled_database(_with_tables)
    monkeypatch.setenv("WORDMILL_DATABASE_URL", url)
    yield folder
    server.drop_database(url)


ON_A_DATABASE = (
    "api", "batches", "chat", "cli", "commands", "local_models", "runs", "shell", "web",
)  # fmt: skip
"""Folders of tests that stand on a database."""
CHOOSERS = frozenset(("either_database", "either_empty_database", "postgres_url"))


def _stands_on_one(request: pytest.FixtureRequest) -> bool:
    if CHOOSERS & set(request.fixturenames) or request.node.get_closest_marker("sqlite"):
        return False
    return request.path.parent.name in ON_A_DATABASE


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server; where it is not installed the test is skipped, in CI it fails."""
    with postgres.serving() as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[rabbitmq.Server]:
    """A RabbitMQ; where it is not installed the test is skipped, in CI it fails."""
    with rabbitmq.serving() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[redis.Server]:
    """A Redis; where it is not installed the test is skipped, in CI it fails."""
    with redis.serving() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[s3.Server]:
    """A server that speaks S3."""
    with s3.serving() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: postgres.Server) -> str:
    """An empty PostgreSQL database."""
    return postgres_server.new_database()


@pytest.fixture
def either_database(
    request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The test runs on the data folder's SQLite file, and on PostgreSQL.

    PostgreSQL has the tables already: they are copied, which is quicker than to make them.
    """
    if request.param == "postgresql":
        server: postgres.Server = request.getfixturevalue("postgres_server")
        monkeypatch.setenv("WORDMILL_DATABASE_URL", server.filled_database(_with_tables))
    return str(request.param)


@pytest.fixture
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


@pytest.fixture(scope="session")
def elasticsearch_server() -> Iterator[elasticsearch.Server]:
    """An Elasticsearch, one for a whole session (and for each worker of pytest-xdist that needs
    one, so that whoever kills it disturbs nobody); where it is missing the test is skipped, in CI
    it fails.
    """
    with elasticsearch.serving() as server:
        yield server


@pytest.fixture
def elasticsearch_prefix(elasticsearch_server: elasticsearch.Server) -> Iterator[str]:
    """What the names of a test's own indices begin with; they are gone after it."""
    prefix = elasticsearch_server.new_prefix()
    yield prefix
    elasticsearch_server.wipe(prefix)
