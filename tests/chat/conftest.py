"""A store of conversations on both databases, and people who own things; a house with a model."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.talking import Talking, talking
from wordmill.accounts import Accounts, Person
from wordmill.channels.house import House, open_house
from wordmill.chat.conversations import Conversations
from wordmill.database import Database, open_database
from wordmill.models import checked
from wordmill.settings import Settings, load


@dataclass(frozen=True)
class Somebody:
    id: str


@pytest.fixture
def settings(tmp_path: Path, either_database: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    return load()


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """An empty database of its own: SQLite, and once more PostgreSQL."""
    with open_database(settings) as opened:
        yield opened


@pytest.fixture
def store(database: Database, settings: Settings) -> Iterator[Conversations]:
    opened = Conversations(database, settings)
    yield opened
    opened.close()


@pytest.fixture
def ada() -> Somebody:
    return Somebody("local")


@pytest.fixture
def ben() -> Somebody:
    return Somebody("somebody-else")


@pytest.fixture
def model() -> Iterator[Talking]:
    """The server behind the model `mock`; `say` may be changed."""
    with talking("Hello there.") as talk:
        yield talk


@pytest.fixture
def open_here(
    model: Talking, either_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], House]]:
    """Opens houses on one database, each as another process would, with the model `mock`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("WORDMILL_DEFAULT_MODEL", "mock")
    monkeypatch.setenv("WORDMILL_TITLES", "false")  # what a model is asked can be counted
    with ExitStack() as stack:

        def opened() -> House:
            house = stack.enter_context(open_house(load()))
            if "mock" not in house.catalog.names():
                entry = {"name": "mock", "base_url": model.url, "model": "mock-1"}
                house.catalog.add(checked(entry))
            return house

        yield opened


@pytest.fixture
def house(open_here: Callable[[], House]) -> House:
    """All services of a process, at work."""
    return open_here()


@pytest.fixture
def me(open_here: Callable[[], House]) -> Person:
    """Whoever runs the command line. No house is opened for it: that one would work, too."""
    settings = load()
    with open_database(settings) as database:
        return Accounts(database, settings).people.local()
