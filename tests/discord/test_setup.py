"""Setting a bot up: the link, what it needs, and whether that is there."""

import asyncio

import discord
import pytest
from click.testing import CliRunner

from tests.discord.conftest import Mill
from tests.servers.discord import StandIn
from wordmill.channels.discord.channel import Discord, invite_link, permissions
from wordmill.channels.discord.failures import INTENTS, SIGNED_OUT
from wordmill.channels.rooms.base import Check
from wordmill.cli.channels import channels
from wordmill.errors import ConfigError


class Nothing:
    """A memory that keeps nothing."""

    def read(self) -> dict[str, object]:
        return {}

    def write(self, value: object) -> None:
        raise AssertionError("nothing is kept by a check")

    def key(self) -> str:
        return ""

    def folder(self) -> str:
        return ""


def checked(token: str) -> list[Check]:
    async def check() -> list[Check]:
        return list(await Discord({}, {"token": token}, Nothing()).check())

    return asyncio.run(check())


def test_a_bot_that_is_set_up_is_fine(service: StandIn) -> None:
    bot = service.add_bot("wordmill")
    found = checked(bot.token)
    assert all(one.fine for one in found)
    assert [one.name for one in found] == ["token", "intents", "invitation", "The workshop"]
    assert found[2].words == invite_link(bot.application)


def test_what_is_missing_is_named(service: StandIn) -> None:
    bot = service.add_bot("wordmill")
    bot.content = False
    allowed = permissions()
    allowed.attach_files = False
    bot.permissions = str(allowed.value)
    found = {one.name: one for one in checked(bot.token)}
    assert not found["intents"].fine
    assert found["intents"].words == INTENTS
    assert found["The workshop"].words == "These permissions are missing: attach files."
    assert checked("wrong") == [Check("token", False, SIGNED_OUT)]


def test_the_link_asks_for_no_more_than_is_needed() -> None:
    words = Discord.invitation({"application": "1234"})
    assert "client_id=1234&scope=bot+applications.commands&permissions=" in words
    assert "Message Content Intent" in words
    assert not permissions().administrator
    assert not permissions().mention_everyone
    asked = discord.Permissions(int(words.split("permissions=")[1].split()[0]))
    assert asked == permissions()


def test_a_token_of_two_words_is_refused() -> None:
    with pytest.raises(ConfigError, match="one word"):
        Discord({}, {"token": "two words"}, Nothing())


def test_channels_add_prints_the_link_and_tests_what_is_needed(mill: Mill) -> None:
    mill.bot.content = False
    application = mill.bot.application
    run = CliRunner().invoke(
        channels,
        ["add", "discord", "team", "--set", f"application={application}"],
        input=f"{mill.bot.token}\n",
    )
    assert run.exit_code == 0, run.output
    assert invite_link(application) in run.output
    assert "Message Content Intent" in run.output
    assert mill.bot.token not in run.output
    listed = CliRunner().invoke(channels, ["list"])
    assert "team" in listed.output
    tested = CliRunner().invoke(channels, ["test", "team"])
    assert tested.exit_code == 2
    assert "4014" in tested.output
