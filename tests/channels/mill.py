"""A house whose model echoes, and its channels: what tests of rooms have in common."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.servers.gdrive import GDrive, serving
from tests.servers.talking import Talking, talking
from wordmill.accounts import LOCAL_PERSON, Person
from wordmill.channels.house import House, open_house
from wordmill.channels.rooms.accounts import ChannelAccounts
from wordmill.channels.rooms.manager import Manager
from wordmill.models import checked
from wordmill.settings import load

PASSWORD = "a long one, this"


@pytest.fixture
def model() -> Iterator[Talking]:
    """The server behind the model `mock`; `say` may be changed."""
    with talking(lambda body: [f"You said: {body['messages'][-1]['content']}"]) as talk:
        yield talk


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GDrive]:
    """Google Drive, for houses that are opened from here on."""
    with serving() as found:
        monkeypatch.setenv("WORDMILL_GDRIVE_URL", found.url)
        monkeypatch.setenv("WORDMILL_GDRIVE_CLIENT_ID", found.client)
        monkeypatch.setenv("WORDMILL_GDRIVE_CLIENT_SECRET", found.secret)
        yield found


def prepared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of houses that are opened from here on: `mock` answers, and titles cost nothing."""
    monkeypatch.chdir(folder)
    (folder / ".git").mkdir()
    monkeypatch.setenv("WORDMILL_DEFAULT_MODEL", "mock")
    monkeypatch.setenv("WORDMILL_TITLES", "false")


@contextmanager
def opened_house(model: Talking) -> Iterator[House]:
    """A house on the data folder of the test, as each process opens it."""
    with open_house(load()) as house:
        if "mock" not in house.catalog.names():
            house.catalog.add(checked({"name": "mock", "base_url": model.url, "model": "mock-1"}))
        yield house


def an_admin(house: House) -> Person:
    return house.accounts.people.create(
        LOCAL_PERSON, "admin@example.org", "Admin", PASSWORD, "admin"
    )


def linked(house: House, admin: Person, kind: str, subject: str, name: str) -> Person:
    """An account for somebody who is known by `subject` at a service. name: in small letters."""
    address = f"{name}{len(subject)}@example.org"
    person = house.accounts.people.create(admin, address, name.title(), PASSWORD)
    code = house.accounts.identities.code(person)
    house.accounts.identities.redeem(code, kind, subject)
    return person


@dataclass(kw_only=True)
class Mill:
    """A house with one channel. people: by their ids at the service."""

    house: House
    admin: Person
    accounts: ChannelAccounts
    name: str = "chat"
    manager: Manager | None = None
    people: dict[str, Person] = field(default_factory=dict)

    def manager_start(self) -> None:
        """Run the channels, until the test ends or `stop`; returns at once."""
        self.manager = Manager(self.house)
        self.manager.__enter__()

    def start(self) -> None:
        """Run the channels; returns when the first one hears."""
        self.manager_start()
        self.wait(lambda: self.status().get("connected"), "the connection")

    def stop(self) -> None:
        if self.manager is not None:
            manager, self.manager = self.manager, None
            manager.__exit__(None, None, None)

    def status(self) -> Any:
        return self.accounts.get(self.admin, self.name).status

    def wait(
        self, condition: Callable[[], Any], what: str = "something", patience: float = 60.0
    ) -> Any:
        """Wait until something holds; what it gives."""
        end = time.monotonic() + patience
        while not (found := condition()):
            assert time.monotonic() < end, f"waited in vain for {what}: {self.status()}"
            time.sleep(0.02)
        return found
