"""A stand-in Discord, a bot of ours on it in a house with a model, and people who talk to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.channels import mill as mills
from tests.servers.discord import Bot, StandIn, standing_in
from tests.servers.talking import Talking
from wordmill.channels.rooms.accounts import ChannelAccounts

model, google = mills.model, mills.google


@pytest.fixture
def service() -> Iterator[StandIn]:
    with standing_in() as server, server.used():
        yield server


@dataclass(kw_only=True)
class Mill(mills.Mill):
    """With one bot."""

    service: StandIn
    bot: Bot
    model: Talking

    def configure(self, name: str = "", bot: Bot | None = None, **options: Any) -> None:
        """Add a channel."""
        hidden = {"token": (bot or self.bot).token}
        self.accounts.add(self.admin, name or self.name, "discord", options, hidden)

    def knows(self, name: str, **more: Any) -> str:
        """Somebody on Discord with an account here; their id there."""
        user = self.service.add_user(name, **more)
        self.people[user] = mills.linked(self.house, self.admin, "discord", user, name)
        return user

    def direct(self, user: str) -> str:
        """The channel of this person and the bot."""
        return self.service.add_direct(self.bot, user)

    @property
    def mention(self) -> str:
        return f"<@{self.bot.id}>"

    def answers(self, channel: str = "") -> list[str]:
        """What the bot has said, as it stands now."""
        return [message["content"] for message in self.service.said_by(self.bot.id, channel)]

    def hears(self, text: str, channel: str = "", times: int = 1) -> Any:
        """Wait for the bot to say something; the last message of it."""

        def look() -> Any:
            said = [
                message
                for message in self.service.said_by(self.bot.id, channel)
                if message["content"] == text
            ]
            return said[-1] if len(said) >= times else None

        try:
            return self.service.until(look)
        except AssertionError as error:
            raise AssertionError(f"{text!r} was not said, but {self.answers()}") from error

    def conversations(self, user: str) -> int:
        return len(self.house.conversations.all(self.people[user]).items)


@pytest.fixture
def mill(
    service: StandIn,
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
            house=house, admin=mills.an_admin(house), accounts=accounts, service=service,
            bot=service.add_bot("wordmill"), model=model,
        )  # fmt: skip
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture
def running(mill: Mill) -> Mill:
    """With one channel, which hears."""
    mill.configure()
    mill.start()
    return mill
