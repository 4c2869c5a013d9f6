"""The stand-in is a Discord to discord.py as it is: what these tests see holds for the service."""

import asyncio
import io
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import discord
import pytest

from tests.servers.discord import Bot, StandIn, standing_in


class Plain(discord.Client):
    """Hears everything, and does what a test asks of it in its loop."""

    def __init__(self, **more: Any) -> None:
        intents = discord.Intents.default()
        intents.message_content = True
        super().__init__(intents=intents, **more)
        self.heard: list[discord.Message] = []
        self.ended: BaseException | None = None

    async def on_message(self, message: discord.Message) -> None:
        self.heard.append(message)

    async def on_interaction(self, interaction: discord.Interaction) -> None:
        try:
            await interaction.response.defer(ephemeral=True)
        except discord.NotFound as error:
            self.ended_late = error
            return
        await interaction.edit_original_response(content="done")


@contextmanager
def running(bot: Bot) -> Iterator[Any]:
    client, loops = Plain(), []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        try:
            await client.start(bot.token)
        except (discord.DiscordException, OSError) as error:
            client.ended = error
        finally:
            await client.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)

    def do(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loops[0]).result(30)

    client.do = do  # type: ignore[attr-defined]
    thread.start()
    try:
        yield client
    finally:
        if client.ended is None:
            do(client.close())
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def service() -> Iterator[StandIn]:
    with standing_in() as server, server.used():
        yield server


def test_messages_replies_edits_files_threads_and_reactions(service):
    bot, ann = service.add_bot("wordmill"), service.add_user("ann")
    with running(bot) as client:
        service.until(lambda: client.guilds)
        said = service.say(
            service.general, ann, f"<@{bot.id}> hi", files=[("a.txt", "text/plain", b"abc")]
        )
        service.until(lambda: client.heard)
        message = client.heard[0]
        assert client.user in message.mentions
        assert client.do(message.attachments[0].read()) == b"abc"
        answer = client.do(message.reply("hello", nonce=7))
        assert client.do(message.reply("hello again", nonce=7)).id == answer.id
        client.do(answer.edit(content="hello!"))
        client.do(message.add_reaction("👀"))
        client.do(message.channel.typing().__aenter__())
        thread = client.do(message.create_thread(name="talk"))
        client.do(thread.send(file=discord.File(io.BytesIO(b"x" * 10), "x.md")))
        assert [one["content"] for one in service.replies(said)] == ["hello!"]
        assert len(service.edits(str(answer.id))) == 2
        assert (said, bot.id, "👀") in service.reactions
        assert service.said_by(bot.id, said)[0]["attachments"][0]["filename"] == "x.md"
        with pytest.raises(discord.HTTPException, match="Must be 2000 or fewer in length"):
            client.do(message.reply("x" * 2001))


def test_a_session_is_resumed_with_what_it_missed(service):
    bot, ann = service.add_bot("wordmill"), service.add_user("ann")
    with running(bot) as client:
        service.until(lambda: client.guilds)
        service.cut(bot)
        service.say(service.general, ann, "missed")
        service.until(lambda: bot.resumed)
        service.until(lambda: [one.content for one in client.heard] == ["missed"])
        service.forget_sessions(bot)
        service.until(lambda: bot.identified == 2)


def test_limits_are_announced_and_then_enforced(service):
    bot, ann = service.add_bot("wordmill"), service.add_user("ann")
    service.limits["send"] = (2, 0.5)
    with running(bot) as client:
        service.until(lambda: client.guilds)
        service.say(service.general, ann, "hi")
        service.until(lambda: client.heard)
        channel = client.heard[0].channel

        async def many() -> None:
            await asyncio.gather(*(channel.send(str(n)) for n in range(9)))

        service.limit("POST channels/.*/messages", 0.1)
        client.do(many())
        assert len(service.said_by(bot.id)) == 9
        # One is refused whatever it does; on a busy machine it is now and then a moment too early.
        assert 1 <= len(service.refused) <= 4, "discord.py heeds the headers: else 7 and more"


def test_bad_tokens_and_intents_close_the_gateway(service):
    bot = service.add_bot("wordmill")
    bot.content = False
    with running(bot) as client:
        service.until(lambda: client.ended)
        assert isinstance(client.ended, discord.PrivilegedIntentsRequired)
    bot.content, bot.refused_with = True, 4004
    with running(bot) as client:
        service.until(lambda: client.ended)
        assert isinstance(client.ended, discord.ConnectionClosed)
        assert client.ended.code == 4004
    stranger = Bot("1", "nobody", "2", "wrong")
    with running(stranger) as client:
        service.until(lambda: client.ended)
        assert isinstance(client.ended, discord.LoginFailure)


def test_interactions_are_answered_in_three_seconds_or_not_at_all(service):
    bot, ann = service.add_bot("wordmill"), service.add_user("ann")
    with running(bot) as client:
        service.until(lambda: client.guilds)
        one = {"name": "help", "description": "Help.", "type": 1}
        client.do(client.http.bulk_upsert_global_commands(client.application_id, [one]))
        asking = service.slash(bot, "help", ann, service.general)
        service.until(lambda: [one["content"] for one in service.told(asking)] == ["done"])
        assert asking.private
        service.interaction_seconds = 0.0
        late = service.slash(bot, "help", ann, service.general)
        service.until(lambda: any("callback" in call.path for call in service.refused))
        assert late.first is None
