"""A door to a service in memory, in a house with a model; a test talks and looks."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.channels import mill as mills
from tests.channels.surface import Service
from tests.servers.talking import Talking
from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.rooms.admission import Policy
from wordmill.channels.rooms.base import Incoming, Reaction
from wordmill.channels.rooms.door import Door
from wordmill.database import channels, now

ANN = "@ann:example.org"
BEN = "@ben:example.org"
PASSWORD = mills.PASSWORD
model, google = mills.model, mills.google


@pytest.fixture
def opened(
    model: Talking, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], House]]:
    """Opens houses on one data folder, each as another process would."""
    mills.prepared(tmp_path, monkeypatch)
    with ExitStack() as stack:

        def open_one() -> House:
            return stack.enter_context(mills.opened_house(model))

        yield open_one


@pytest.fixture
def house(opened: Callable[[], House]) -> House:
    found = opened()
    with found.database.begin() as connection:
        connection.execute(
            channels.insert().values(
                name="chat", kind="matrix", options={}, sealed=None, memory=None, enabled=True,
                status={}, marker=None, created=now(), updated=now(),
            )
        )  # fmt: skip
    return found


@pytest.fixture
def admin(house: House) -> Person:
    return mills.an_admin(house)


def known(house: House, admin: Person, subject: str = ANN, kind: str = "matrix") -> Person:
    """An account that is linked."""
    local = subject.partition(":")[0].removeprefix("@")
    return mills.linked(house, admin, kind, subject, local)


@pytest.fixture
def ann(house: House, admin: Person) -> Person:
    return known(house, admin)


@pytest.fixture
def ben(house: House, admin: Person) -> Person:
    return known(house, admin, BEN)


class Talk:
    """A door in an event loop of its own, driven from the test's thread."""

    def __init__(
        self, house: House, service: Service, policy: Policy, first: float, name: str = "chat"
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.service = service

        async def made() -> Door:
            door = Door(house, name, service, policy, first)
            await door.open()
            return door

        self.door: Door = self.loop.run_until_complete(made())

    def hear(self, *heard: Incoming, replayed: bool = False) -> None:
        self.loop.run_until_complete(self.door.receive(heard, replayed=replayed))

    def sign(self, reaction: Reaction) -> None:
        self.loop.run_until_complete(self.door.reacted(reaction))

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def until(self, condition: Callable[[], Any], patience: float = 30.0) -> Any:
        """Let it run until something holds."""
        end = time.monotonic() + patience
        while not (found := condition()):
            assert time.monotonic() < end, (self.service.shown, self.service.calls)
            self.loop.run_until_complete(asyncio.sleep(0.01))
        return found

    def settle(self, seconds: float = 0.0) -> None:
        """Until nothing is under way."""
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.until(lambda: not self.door._tasks)

    def close(self) -> None:
        if not self.loop.is_closed():
            self.loop.run_until_complete(self.door.close())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()


@pytest.fixture
def talk(house: House) -> Iterator[Callable[..., Talk]]:
    """Makes doors. `first`: seconds until something is shown of an answer that grows."""
    made: list[Talk] = []

    def make(
        service: Service | None = None, *, first: float = 3.0, on: House | None = None,
        **policy: Any,
    ) -> Talk:  # fmt: skip
        found = Talk(on or house, service or Service(), Policy.of(policy), first)
        made.append(found)
        return found

    yield make
    for one in made:
        one.close()
