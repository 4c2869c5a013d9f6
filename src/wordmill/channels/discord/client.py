"""What Discord says: over the gateway as it happens, over REST what happened while nobody listened.

The library resumes a session by itself, with all that was missed. Where a session is lost or this
process was not there, the channels are looked through from the time up to which everything was
heard; until that is done, what is said meanwhile waits, so that everything comes in its order.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import discord

from wordmill.channels.discord.failures import wrapped
from wordmill.channels.discord.pressing import Pressing
from wordmill.channels.discord.reading import Reading, groups_of, name_of, place_of
from wordmill.channels.discord.surface import Surface
from wordmill.channels.rooms.base import Incoming, Memory, Reaction, Standing, meaning
from wordmill.channels.rooms.door import TOLERANCE, Door
from wordmill.channels.rooms.turns import Turns
from wordmill.database import now
from wordmill.errors import ChannelError, ChannelRefused

LONGEST_WAIT: Final = 600.0
"""Seconds that discord.py waits for a limit by itself, in the channel that has it; a longer one is
told to the door, where all wait.
"""
SERVERS: Final = 0.5
"""Seconds without another server after which all are taken to be known; a later one is seen to."""
MISSED: Final = 500
"""Messages of one channel that are caught up with at a time."""
MOST_DIRECT: Final = 200
_TRIES: Final = 4

log = logging.getLogger(__name__)


def intents() -> discord.Intents:
    """What is heard: messages and reactions. Nothing about who is a member, or is there."""
    wanted = discord.Intents.none()
    wanted.guilds = wanted.guild_messages = wanted.dm_messages = True
    wanted.guild_reactions = wanted.dm_reactions = wanted.message_content = True
    return wanted


class Client(discord.Client):
    """One connection. `ended` is set with what ends it from within."""

    def __init__(
        self, door: Door, surface: Surface, reading: Reading, memory: Memory,
        ready: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(
            intents=intents(), allowed_mentions=discord.AllowedMentions.none(),
            http_trace=surface.trace, max_ratelimit_timeout=LONGEST_WAIT, max_messages=None,
            guild_ready_timeout=SERVERS,
            member_cache_flags=discord.MemberCacheFlags.none(), chunk_guilds_at_startup=False,
        )  # fmt: skip
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._door, self._surface, self._reading = door, surface, reading
        self._memory, self._tell_ready = memory, ready
        self._pressing = Pressing(door, reading)
        self._held: list[discord.Message] | None = []
        self._turns = Turns()
        self._direct: dict[str, int] = {}
        self._since: datetime | None = None

    # Its state.

    async def on_connect(self) -> None:
        """A new session: what was said before it is looked for when the servers are known."""
        if self._held is None:
            self._held = []
        self._stands(True)

    async def on_resumed(self) -> None:
        """The session goes on; all that was missed has come."""
        self._stands(True)

    async def on_disconnect(self) -> None:
        """Discord is not heard."""
        self._stands(False)

    async def on_ready(self) -> None:
        """The servers are known."""
        try:
            await self._catch_up()
        except ChannelError as error:
            self._end(error)

    async def on_guild_available(self, guild: discord.Guild) -> None:
        """A server came later than the others, or is back."""
        if self._held is None and self._since is not None:
            try:
                await self._look_through(self._written(guild), self._since)
            except ChannelError as error:
                self._end(error)

    def _stands(self, connected: bool) -> None:
        account = "" if self.user is None else f"{self.user} ({self.user.id})"
        self._surface.state = Standing(connected, account=account)
        if connected:
            self._tell_ready()

    def _end(self, error: ChannelError) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)

    # What happens.

    async def on_message(self, message: discord.Message) -> None:
        """Somebody said something."""
        if self._held is not None:
            self._held.append(message)
            if isinstance(message.channel, discord.DMChannel):  # else a crash would take it from us
                await self._note_direct(message.channel.id)
        elif message.author.id != self._reading.me:
            await self._take(message)

    async def on_raw_message_edit(self, payload: discord.RawMessageUpdateEvent) -> None:
        """Somebody changed a message; or Discord did, as to show a link's picture."""
        message = payload.message
        if message.author.id == self._reading.me or message.edited_at is None:
            return
        if "edited_timestamp" in payload.data:
            await self._take(message, edited=True)

    async def on_raw_reaction_add(self, payload: discord.RawReactionActionEvent) -> None:
        """Somebody put a sign on a message; only those on ours mean something."""
        sign = meaning(payload.emoji.name or "")
        if sign is None or payload.user_id == self._reading.me:
            return
        if payload.message_author_id not in (None, self._reading.me):
            return
        try:
            channel = await self._room(payload.channel_id)
            member = payload.member
            user = member or await self._person(payload.user_id)
        except ChannelError as error:
            log.info("%s: a reaction is not known: %s", self._door.name, error)
            return
        if user.bot:
            return
        moment = now().timestamp()  # a sign can be taken away and put again
        await self._door.reacted(
            Reaction(
                event=f"{payload.message_id} {payload.user_id} {payload.emoji.name} {moment:.3f}",
                place=place_of(channel), sender=str(user.id), name=name_of(user),
                message=str(payload.message_id), sign=sign, groups=groups_of(user, channel),
            )
        )  # fmt: skip

    async def on_interaction(self, interaction: discord.Interaction) -> None:
        """Somebody gave a command, chose from a menu or pressed a button."""
        await self._pressing.pressed(interaction)

    async def on_error(self, event_method: str, /, *args: object, **kwargs: object) -> None:
        """A fault of ours in one event ends nothing."""
        log.exception("%s met a fault of Wordmill in %s", self._door.name, event_method)

    # How it is taken.

    async def _take(self, message: discord.Message, *, edited: bool = False) -> None:
        """Hand a message to the door, in the order of its channel."""
        async with self._turns.of(message.channel.id):
            incoming = await self._read(message, edited=edited)
            if incoming is not None:
                await self._door.receive([incoming])

    async def _read(self, message: discord.Message, *, edited: bool = False) -> Incoming | None:
        if isinstance(message.channel, discord.DMChannel):
            await self._note_direct(message.channel.id)
        if isinstance(message.channel, discord.PartialMessageable):
            message.channel = await self._room(message.channel.id)  # type: ignore[assignment]
        for attempt in range(_TRIES):
            try:
                return await self._reading.read(message, edited=edited)
            except ChannelError as error:
                log.info("%s: a message cannot be read yet: %s", self._door.name, error)
                await asyncio.sleep(0.5 * 2**attempt)
        self._end(ChannelError("Discord does not give the messages that somebody replied to."))
        return None

    async def _room(self, channel: int) -> discord.abc.GuildChannel | discord.Thread | (
        discord.abc.PrivateChannel
    ):  # fmt: skip
        """A channel, also one that nothing was said of before. Raises ChannelError."""
        known = self.get_channel(channel)
        if known is not None:
            return known
        with wrapped():
            return await self.fetch_channel(channel)

    async def _person(self, user: int) -> discord.User:
        with wrapped():
            return self.get_user(user) or await self.fetch_user(user)

    # What was missed.

    async def _catch_up(self) -> None:
        """Take what was said since the last time, then what was said meanwhile."""
        records = self._door.records
        marker = await asyncio.to_thread(records.marker)
        first = await asyncio.to_thread(self._first)
        if marker is None:
            await asyncio.to_thread(records.mark, now())
        else:
            self._since = max(first, marker - TOLERANCE)
            rooms = [room for guild in self.guilds for room in self._written(guild)]
            await self._look_through([*rooms, *await self._directs()], self._since)
        while self._held:
            held, self._held = self._held, []
            for message in held:
                if message.author.id != self._reading.me:
                    await self._take(message)
        self._held = None

    async def _look_through(
        self, rooms: Sequence[discord.abc.Messageable], since: datetime
    ) -> None:
        """Take what was said there since, in its order."""
        start = discord.utils.time_snowflake(since)
        seen = {
            room: start
            for room in rooms
            if (getattr(room, "last_message_id", None) or start) >= start
        }
        missed: list[discord.Message] = []
        while True:
            # Nothing is taken before what was said earlier elsewhere: the marker would lie.
            whole = min(seen.values(), default=None)
            for room in [one for one, place in seen.items() if place == whole]:
                found = await self._history(room, discord.Object(seen.pop(room)))
                missed += found
                if len(found) >= MISSED:
                    seen[room] = found[-1].id
                    log.info(
                        "%s: more than %d messages were missed in %s; the next are fetched",
                        self._door.name, MISSED, getattr(room, "id", room),
                    )  # fmt: skip
            whole = min(seen.values(), default=None)
            ready = [one for one in missed if whole is None or one.id <= whole]
            missed = [one for one in missed if whole is not None and one.id > whole]
            ready.sort(key=lambda message: message.id)
            others = [one for one in ready if one.author.id != self._reading.me]
            read = [await self._read(message) for message in others]
            await self._door.receive([one for one in read if one is not None])
            if whole is None:
                return

    def _written(self, guild: discord.Guild) -> list[discord.abc.Messageable]:
        """The channels of a server in which something was said."""
        channels: list[discord.TextChannel | discord.VoiceChannel | discord.Thread]
        channels = [*guild.text_channels, *guild.voice_channels, *guild.threads]
        return [one for one in channels if one.last_message_id is not None]

    async def _directs(self) -> list[discord.abc.Messageable]:
        self._direct = {**await asyncio.to_thread(self._known_direct), **self._direct}
        return [self.get_partial_messageable(int(one)) for one in self._direct]

    async def _history(
        self, channel: discord.abc.Messageable, after: discord.Object
    ) -> list[discord.Message]:
        for attempt in range(_TRIES):
            try:
                with wrapped():
                    messages = channel.history(after=after, limit=MISSED, oldest_first=True)
                    return [message async for message in messages]
            except ChannelRefused:
                return []  # nothing of it may be read
            except ChannelError as error:
                log.info("%s: what was missed cannot be read yet: %s", self._door.name, error)
                await asyncio.sleep(0.5 * 2**attempt)
        raise ChannelError("Discord does not give what was said while nobody listened.")

    # Direct channels: Discord does not list them.

    def _first(self) -> datetime:
        """When this channel heard something for the first time: what is older is history."""
        kept = self._memory.read()
        if "first" not in kept:
            self._memory.write({**kept, "first": now().isoformat()})
            return now()
        return datetime.fromisoformat(kept["first"])

    def _known_direct(self) -> dict[str, int]:
        found = self._memory.read().get("direct", {})
        return {str(channel): int(at) for channel, at in found.items()}

    async def _note_direct(self, channel: int) -> None:
        async with self._turns.of("direct"):  # what one writes down, the next must not undo
            if str(channel) in self._direct:
                return
            known = {**await asyncio.to_thread(self._known_direct), **self._direct}
            self._direct = known
            if str(channel) in known:
                return
            known[str(channel)] = int(now().timestamp())
            newest = sorted(known, key=lambda one: known[one])[-MOST_DIRECT:]
            self._direct = {one: known[one] for one in newest}
            await asyncio.to_thread(self._remember, self._direct)

    def _remember(self, direct: dict[str, int]) -> None:
        self._memory.write({**self._memory.read(), "direct": direct})
