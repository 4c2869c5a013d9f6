"""A store of conversations on both databases, and people who own things."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from wordmill.chat.conversations import Conversations
from wordmill.database import Database, open_database
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
