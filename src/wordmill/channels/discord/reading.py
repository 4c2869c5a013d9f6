"""A message of Discord as an `Incoming`: where it was said, by whom, what it replies to.

A direct channel is a place, a thread is one, and in company a chain of replies is one: it is known
by its first message. The chain is walked back where it is not known yet.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, TypeAlias

import discord

from wordmill.channels.discord.failures import wrapped
from wordmill.channels.rooms.base import Attached, Incoming, Place, Quoted
from wordmill.errors import ChannelError, ChannelRefused

CHAIN: Final = "chain-"
_LONGEST: Final = 50
"""Replies that are walked back."""
_KNOWN: Final = 5000
_MENTION: Final = re.compile(r"<@!?(\d+)>|<@&(\d+)>|<#(\d+)>|<a?(:\w+:)\d+>")

Room: TypeAlias = (
    discord.abc.GuildChannel | discord.Thread | discord.abc.PrivateChannel
    | discord.PartialMessageable
)  # fmt: skip


class Chains:
    """Which message begins the chain of replies that another one is in; the last few thousand."""

    def __init__(self) -> None:
        self._roots: OrderedDict[int, int] = OrderedDict()

    def note(self, message: int, root: int) -> None:
        """A message belongs to a chain."""
        self._roots[message] = root
        self._roots.move_to_end(message)
        while len(self._roots) > _KNOWN:
            self._roots.popitem(last=False)

    async def root(self, message: discord.Message) -> int:
        """The first message of its chain; as far back as there is one. Raises ChannelError."""
        seen, at = [message.id], _above(message)
        while at is not None and at not in seen and len(seen) <= _LONGEST:
            known = self._roots.get(at)
            if known is not None:
                seen, at = [*seen, known], None
                break
            seen.append(at)
            try:
                with wrapped():
                    at = _above(await message.channel.fetch_message(at))
            except ChannelRefused:
                at = None  # it was removed
        for one in seen:
            self.note(one, seen[-1])
        return seen[-1]


class Reading:
    """Reads for one bot, whose id it is told when it is known."""

    def __init__(self) -> None:
        self.chains = Chains()
        self.me = 0
        self._started: OrderedDict[int, None] = OrderedDict()

    async def read(self, message: discord.Message, *, edited: bool = False) -> Incoming | None:
        """What was said; None where nobody said it, as who joined. Raises ChannelError."""
        if message.type not in (discord.MessageType.default, discord.MessageType.reply):
            return None
        direct = isinstance(message.channel, discord.DMChannel)
        mentioned = self._mentioned(message)
        replied = await self._replied(message)
        place = place_of(message.channel)
        if not direct and not place.thread:
            ours = mentioned or (replied is not None and replied.own)
            root = await self.chains.root(message) if ours else message.id
            place = Place(place.room, f"{CHAIN}{root}")
        if edited:
            at = message.edited_at or message.created_at
            event, edits = f"{message.id} {at.timestamp():.3f}", str(message.id)
        else:
            event, edits = str(message.id), ""
        author = message.author
        return Incoming(
            event=event, place=place, sender=str(author.id), name=name_of(author),
            text=self.text(message), at=message.created_at, direct=direct,
            mentions_us=mentioned, groups=groups_of(author, message.channel), replied=replied,
            attachments=files_of(message), edits=edits,
            from_bot=author.bot or message.webhook_id is not None,
        )  # fmt: skip

    def text(self, message: discord.Message) -> str:
        """What was said, with names instead of ids, and without the mention of us around it."""
        names = {user.id: f"@{user.display_name}" for user in message.mentions}
        roles = {role.id: f"@{role.name}" for role in message.role_mentions}
        guild = message.guild

        def named(found: re.Match[str]) -> str:
            user, role, channel, emoji = found.groups()
            if user:
                return names.get(int(user), found[0])
            if role:
                return roles.get(int(role), found[0])
            if channel:
                known = guild.get_channel_or_thread(int(channel)) if guild else None
                return f"#{known.name}" if known is not None else found[0]
            return str(emoji)

        ours = [rf"<@!?{self.me}>", *(rf"<@&{role.id}>" for role in self._roles(message))]
        us = rf"(?:{'|'.join(ours)})"
        text = re.sub(rf"\A(?:\s*{us}[\s,:;]*)+|(?:\s*{us})+\s*\Z", "", message.content)
        return _MENTION.sub(named, text).strip()

    async def quoted(self, message: discord.Message) -> Quoted:
        """A message as something that is replied to."""
        return Quoted(
            str(message.id), name_of(message.author), self.text(message),
            message.author.id == self.me, files_of(message),
        )  # fmt: skip

    def _mentioned(self, message: discord.Message) -> bool:
        return any(user.id == self.me for user in message.mentions) or bool(self._roles(message))

    def _roles(self, message: discord.Message) -> list[discord.Role]:
        """Our own role, where somebody took it for us: it has our name."""
        return [
            role
            for role in message.role_mentions
            if role.tags is not None and role.tags.bot_id == self.me
        ]

    async def _replied(self, message: discord.Message) -> Quoted | None:
        """What it replies to; for the first message of a thread, what that was opened on."""
        reference = message.reference
        if message.type is discord.MessageType.reply and reference is not None:
            found = reference.resolved
            if isinstance(found, discord.DeletedReferencedMessage):
                return None
            if found is None and reference.message_id is not None:
                found = await self._fetched(message.channel, reference.message_id)
            return None if found is None else await self.quoted(found)
        channel = message.channel
        if isinstance(channel, discord.Thread) and channel.id not in self._started:
            self._started[channel.id] = None
            while len(self._started) > _KNOWN:
                self._started.popitem(last=False)
            parent = channel.parent
            if channel.message_count <= 1 and isinstance(parent, discord.TextChannel):
                start = await self._fetched(parent, channel.id)  # it has the id of its message
                return None if start is None else await self.quoted(start)
        return None

    async def _fetched(
        self, channel: discord.abc.Messageable, message: int
    ) -> discord.Message | None:
        try:
            with wrapped():
                return await channel.fetch_message(message)
        except ChannelError:
            return None


def place_of(channel: Room) -> Place:
    """The place that a channel is, as far as it alone says."""
    if isinstance(channel, discord.Thread):
        return Place(str(channel.parent_id), str(channel.id))
    return Place(str(channel.id))


def target_of(place: Place) -> int:
    """The channel to write into."""
    if place.thread and not place.thread.startswith(CHAIN):
        return int(place.thread)
    return int(place.room)


def groups_of(author: discord.abc.User, channel: Room | None) -> tuple[str, ...]:
    """What lists of who may talk can name: the server, the roles, where the channel is in."""
    return tuple(_groups(author, channel))


def _groups(author: discord.abc.User, channel: Room | None) -> Iterator[str]:
    if isinstance(author, discord.Member):
        yield f"server:{author.guild.id}"
        for role in author.roles:
            yield f"role:{role.id}"
            if not role.name.isdecimal():  # it would be taken for another role's number
                yield f"role:{role.name}"
    parent: object = channel
    if isinstance(channel, discord.Thread):
        yield f"channel:{channel.parent_id}"
        parent = channel.parent
    if isinstance(parent, discord.abc.GuildChannel) and parent.category_id is not None:
        yield f"category:{parent.category_id}"
    if isinstance(channel, discord.abc.PrivateChannel):
        yield "direct"


def name_of(author: discord.abc.User) -> str:
    """As others see it, with the account's where that differs: two people may show one name."""
    if author.display_name.casefold() == author.name.casefold():
        return author.display_name
    return f"{author.display_name} (@{author.name})"


def files_of(message: discord.Message) -> tuple[Attached, ...]:
    """The files of a message, not fetched."""
    return tuple(
        Attached(file.filename, file.size, file.content_type or "", {"url": file.url})
        for file in message.attachments
    )


def _above(message: discord.Message) -> int | None:
    reference = message.reference
    if reference is None or message.type is not discord.MessageType.reply:
        return None
    return reference.message_id
