"""An account at Discord: a bot of one's own, known by its token."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final

import discord
from discord.http import Route

from wordmill.channels.discord import slash
from wordmill.channels.discord.client import Client
from wordmill.channels.discord.failures import INTENTS, wrapped
from wordmill.channels.discord.reading import Reading
from wordmill.channels.discord.surface import Surface
from wordmill.channels.rooms.base import Check, Field, Json, Memory
from wordmill.channels.rooms.door import Door
from wordmill.commands import Context
from wordmill.errors import ChannelError, ConfigError

LOOK: Final = 0.5
"""Seconds between looks whether the door had to close."""
_SITE: Final = "https://discord.com"

log = logging.getLogger(__name__)


def permissions() -> discord.Permissions:
    """What the bot needs in a server."""
    return discord.Permissions(
        view_channel=True, send_messages=True, send_messages_in_threads=True,
        read_message_history=True, add_reactions=True, attach_files=True,
    )  # fmt: skip


NEEDED: Final = (
    "View Channels, Send Messages, Send Messages in Threads, Read Message History, "
    "Add Reactions, Attach Files"
)


class Discord:
    """A `Channel`. Several of them run beside each other."""

    FIELDS: ClassVar[Sequence[Field]] = (
        Field("token", "The bot's token, of the page Bot of the application.", secret=True),
        Field(
            "application",
            "The application's id, of its page General Information; for the invite link.",
            needed=False,
        ),
    )

    def __init__(self, options: Json, secrets: Mapping[str, str], memory: Memory) -> None:
        self._token = secrets["token"].strip().removeprefix("Bot ")
        if not self._token.isascii() or any(one.isspace() for one in self._token):
            raise ConfigError(
                "The token of Discord is one word of letters, digits, dots and dashes."
            )
        self._memory = memory
        self._reading = Reading()
        self._surface = Surface(self._reading)

    @property
    def surface(self) -> Surface:
        """How to write there."""
        return self._surface

    async def run(self, door: Door, ready: Callable[[], None]) -> None:
        """Hear what is said, until cancelled. Raises ChannelClosed, ChannelError."""
        client = Client(door, self._surface, self._reading, self._memory, ready)
        working: list[asyncio.Task[None]] = []
        try:
            with wrapped():
                await client.login(self._token)
            if client.user is None:
                raise ChannelError("Discord does not say who the bot is.")
            self._surface.begin(client, client.user)
            await door.open()
            working = [
                asyncio.create_task(client.connect(reconnect=False)),
                asyncio.create_task(self._register(client, door)),
            ]
            await self._until_it_ends(client, door, working[0])
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
            await client.close()

    async def check(self) -> Sequence[Check]:
        """Look at the token, the intents and the permissions."""
        async with discord.Client(intents=discord.Intents.none()) as client:
            try:
                with wrapped():
                    await client.login(self._token)
                    application = await client.application_info()
                    servers = await client.http.get_guilds(limit=200, with_counts=False)
            except ChannelError as error:
                return [Check("token", False, str(error))]
            flags = application.flags
            content = flags.gateway_message_content or flags.gateway_message_content_limited
            found = [
                Check("token", True, f"It is {client.user}."),
                Check(
                    "intents", content,
                    "Message Content Intent is switched on." if content else INTENTS,
                ),
                Check("invitation", True, invite_link(str(application.id))),
            ]  # fmt: skip
            if not servers:
                words = "The bot is in no server yet: open the link. Direct messages need one too."
                found.append(Check("servers", False, words))
            for server in servers:
                has = discord.Permissions(int(str(server.get("permissions", 0))))
                found.append(_permitted(str(server["name"]), has))
            return found

    @classmethod
    def invitation(cls, options: Json) -> str:
        """What somebody has to do at Discord."""
        application = str(options.get("application") or "")
        link = (
            f"Let the bot into a server by this link: {invite_link(application)}"
            if application
            else "Let the bot into a server by the link that `wordmill channels test` shows."
        )
        return (
            f"{link}\n\nIt asks for these permissions: {NEEDED}.\n\nSwitch on **Message Content "
            f"Intent** at {_SITE}/developers/applications, under Bot, Privileged Gateway Intents. "
            "Presence and Server Members are not needed."
        )

    async def _until_it_ends(
        self, client: Client, door: Door, connection: asyncio.Task[None]
    ) -> None:
        while True:
            await asyncio.wait(
                {connection, client.ended}, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED
            )
            door.check()
            if client.ended.done():
                client.ended.result()
            if connection.done():
                with wrapped():
                    connection.result()
                raise ChannelError("Discord closed the connection.")

    async def _register(self, client: Client, door: Door) -> None:
        """Let Discord know the commands, where it does not yet."""
        context = Context(door.house.accounts.people.local(), door.house, self._surface.kind)
        try:
            wanted = await asyncio.to_thread(slash.wanted, context)
            application = client.application_id
            if application is None:
                raise ChannelError("Discord does not say which application this is.")
            with wrapped():
                registered = await client.http.request(
                    Route("GET", f"/applications/{application}/commands"),
                    params={"with_localizations": "true"},
                )
                if slash.differs(registered, wanted):
                    await client.http.bulk_upsert_global_commands(application, wanted)
                    log.info("%s: %d commands were registered", door.name, len(wanted))
        except ChannelError as error:
            log.warning("%s: the commands are not registered: %s", door.name, error)


def invite_link(application: str) -> str:
    """The page on which an admin of a server lets the bot in."""
    return (
        f"{_SITE}/oauth2/authorize?client_id={application}"
        f"&scope=bot+applications.commands&permissions={permissions().value}"
    )


def _permitted(server: str, has: discord.Permissions) -> Check:
    lacking = [name for name, on in permissions() if on and not getattr(has, name)]
    if has.administrator or not lacking:
        return Check(server, True, "All permissions are there.")
    words = ", ".join(name.replace("_", " ") for name in lacking)
    return Check(server, False, f"These permissions are missing: {words}.")
