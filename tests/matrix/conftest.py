"""A real homeserver, an account of ours on it in a house with a model, and people."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from tests.channels import mill as mills
from tests.matrix.somebody import Somebody, somebody
from tests.servers import synapse
from tests.servers.talking import Talking
from wordmill.accounts import Person
from wordmill.channels.rooms.accounts import ChannelAccounts

model, google = mills.model, mills.google


@pytest.fixture(scope="session")
def homeserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[synapse.Server]:
    with synapse.serving(tmp_path_factory.mktemp("synapse")) as server:
        yield server


@dataclass(kw_only=True)
class Mill(mills.Mill):
    """With one account on the homeserver. user: its id there."""

    homeserver: synapse.Server
    user: str

    def configure(self, **options: Any) -> None:
        """Add the channel; `hidden` are its secrets."""
        hidden = {"password": "a long secret", **options.pop("hidden", {})}
        known = {"homeserver": self.homeserver.url, "user": self.user}
        self.accounts.add(self.admin, self.name, "matrix", {**known, **options}, hidden)

    def knows(self, who: Somebody) -> Person:
        """An account for somebody, linked to theirs on Matrix."""
        local = who.user.partition(":")[0].removeprefix("@")
        person = mills.linked(self.house, self.admin, "matrix", who.user, local)
        self.people[who.user] = person
        return person


@pytest.fixture
def mill(
    homeserver: synapse.Server,
    model: Talking,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Mill]:
    """Not configured and not started yet."""
    mills.prepared(tmp_path, monkeypatch)
    with mills.opened_house(model) as house:
        accounts = ChannelAccounts(house.database, house.settings)
        made = Mill(
            house=house, admin=mills.an_admin(house), accounts=accounts, homeserver=homeserver,
            user=homeserver.register(f"mill{token_hex(4)}"),
        )  # fmt: skip
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture
def someone(homeserver: synapse.Server, tmp_path: Path) -> Iterator[Callable[..., Somebody]]:
    """Makes people on the homeserver."""
    with ExitStack() as stack:

        def make(name: str = "ann") -> Somebody:
            user = homeserver.register(f"{name}{token_hex(4)}")
            return stack.enter_context(somebody(homeserver.url, user, tmp_path / "people" / name))

        yield make
