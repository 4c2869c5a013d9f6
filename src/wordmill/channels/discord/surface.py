"""How the door writes on Discord.

What could be left out (an edit of an answer that grows) is left out where it would come less than a
second after the one before it in its channel, or would take the last of what the headers of Discord
allow. What must be said waits; discord.py itself keeps to the headers.

A message that was sent before a crash is known again by its nonce, for some minutes; after that by
what stands in the channel: our button with the nonce under it, or our very words below the message
that they answer.
"""

import asyncio
import io
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import discord

from wordmill import outbound
from wordmill.channels.discord.failures import wrapped
from wordmill.channels.discord.reading import CHAIN, Reading, target_of
from wordmill.channels.discord.rendering import render
from wordmill.channels.rooms.base import Attached, Limits, Place, Post, Sign, Standing
from wordmill.channels.rooms.budget import Budget
from wordmill.channels.rooms.splitting import utf16_units
from wordmill.errors import ChannelError, InvalidInput

SIZE: Final = 1950
"""Of a message as it is split: what rendering adds has room up to 2,000."""
APART: Final = 1.0
"""Seconds between two edits in a channel."""
SPARE: Final = 2
"""Requests of a route that growing answers leave to last words."""
_FILE_SECONDS: Final = 120.0
_HISTORY: Final = 100
_CHANNELS: Final = 2000
_NOBODY: Final = discord.AllowedMentions.none()
_ASKER: Final = discord.AllowedMentions(everyone=False, users=False, roles=False, replied_user=True)
"""Who is told of a message: whoever it replies to, whatever its text says."""

PREFIX: Final = "wm"
"""Of the ids of our buttons."""
_LOOKS: Final[Mapping[Sign, tuple[str, str]]] = {
    "stop": ("Stop", "⏹️"), "retry": ("Retry", "🔁"), "up": ("", "👍"), "down": ("", "👎"),
}  # fmt: skip


def button(sign: Sign, target: str = "", nonce: str = "") -> discord.ui.Button[discord.ui.View]:
    """A button. target: the message that it is about; "" for the one that it is under."""
    label, emoji = _LOOKS[sign]
    return discord.ui.Button(
        style=discord.ButtonStyle.secondary, label=label or None, emoji=emoji,
        custom_id=f"{PREFIX}:{sign}:{target}:{nonce}",
    )  # fmt: skip


def row(*buttons: discord.ui.Button[discord.ui.View]) -> discord.ui.View:
    """Buttons side by side. Nobody waits for them here: what is pressed comes to the client."""
    view = discord.ui.View(timeout=None)
    for one in buttons:
        view.add_item(one)
    view.stop()
    return view


def controls(post: Post, nonce: str) -> discord.ui.View | None:
    """What belongs under a message of an answer."""
    if not post.buttons:
        return None
    signs: tuple[Sign, ...] = ("stop",) if post.kind == "growing" else ("retry", "up", "down")
    if post.kind in ("failed", "stopped"):
        signs = ("retry",)
    return row(*(button(sign, nonce=nonce) for sign in signs))


@dataclass
class _Allowance:
    """What the headers said last of a route."""

    left: int
    until: float


class Surface:
    """A `Surface` of the rooms. Used in the channel's event loop, but for `standing`."""

    kind = "discord"

    def __init__(self, reading: Reading) -> None:
        self.me = ""
        self.limits = Limits(
            size=SIZE, measure=utf16_units, file_bytes=10 * 1024 * 1024, file_from=3 * SIZE,
            typing=8.0, gaps=(1.0, 1.0, 1.5, 2.0, 3.0), most_edits=60, names_bots=True,
        )  # fmt: skip
        self.budget = Budget(rate=5.0, burst=20.0)
        self.state = Standing()
        self.trace = self._traced()
        self._reading = reading
        self._client: discord.Client | None = None
        self._begun = 0
        self._edited: OrderedDict[int, float] = OrderedDict()
        self._allowed: OrderedDict[str, _Allowance] = OrderedDict()
        self._claimed: OrderedDict[int, None] = OrderedDict()

    def begin(self, client: discord.Client, me: discord.abc.User) -> None:
        """It can be written now. me: who we are, by Discord's word."""
        self._client, self.me = client, str(me.id)
        self._reading.me = me.id
        self._begun = discord.utils.time_snowflake(discord.utils.utcnow())

    def standing(self) -> Standing:
        """How it is now."""
        return self.state

    async def send(
        self, place: Place, post: Post, *, nonce: str, reply_to: str = "", fresh: bool = False
    ) -> str:
        """Say something; the id of the message."""
        channel, text = self._channel(place), render(post.text)
        said = None if fresh else await self._said_before(channel, text, nonce, reply_to)
        with wrapped():
            if said is None:
                said = await channel.send(
                    text, nonce=nonce, suppress_embeds=True,
                    allowed_mentions=_ASKER if post.tells else _NOBODY,
                    **_optional(
                        view=controls(post, nonce), reference=_reference(channel, reply_to)
                    ),
                )  # fmt: skip
            if said.content.split() != text.split():  # it was sent before, with other words
                await self._waited(channel.id)
                await said.edit(content=text, view=controls(post, nonce), allowed_mentions=_NOBODY)
        self._claim(said.id)
        if place.thread.startswith(CHAIN):
            self._reading.chains.note(said.id, int(place.thread.removeprefix(CHAIN)))
        return str(said.id)

    async def edit(self, place: Place, message: str, post: Post, *, nonce: str) -> None:
        """Put something else in place of a message of ours; one that grows may be left as it is."""
        channel = self._channel(place)
        self._claim(int(message))
        if post.kind == "growing" and not self._spare(channel.id):
            return
        await self._waited(channel.id)
        with wrapped():
            await channel.get_partial_message(int(message)).edit(
                content=render(post.text), view=controls(post, nonce), allowed_mentions=_NOBODY
            )

    async def react(self, place: Place, message: str, sign: str, *, nonce: str) -> None:
        """Put a sign on a message; a second time it is the same one."""
        with wrapped():
            await self._channel(place).get_partial_message(int(message)).add_reaction(sign)

    async def typing(self, place: Place, on: bool) -> None:
        """Show that we are writing; Discord ends that with our message, or after ten seconds."""
        if on and self._spare_of("POST typing", target_of(place)):
            with wrapped():
                await self._channel(place).typing()

    async def send_file(
        self, place: Place, name: str, media_type: str, data: bytes, *, nonce: str,
        reply_to: str = "", fresh: bool = False,
    ) -> str:  # fmt: skip
        """Give a file; the id of the message."""
        channel = self._channel(place)
        if not fresh:
            known = await self._said_before(channel, "", nonce, reply_to, file=name)
            if known is not None:
                return str(known.id)
        with wrapped():
            said = await channel.send(
                file=discord.File(io.BytesIO(data), name), nonce=nonce,
                allowed_mentions=_NOBODY, **_optional(reference=_reference(channel, reply_to)),
            )  # fmt: skip
        self._claim(said.id)
        return str(said.id)

    async def fetch(self, file: Attached, most: int) -> bytes:
        """The bytes of a file, from Discord's own store."""
        limits = outbound.Limits(total=_FILE_SECONDS, reply=most)
        url = str(file.reference["url"])
        found = await asyncio.to_thread(outbound.send, "GET", url, limits=limits)
        if isinstance(found, outbound.Failure):
            if found.kind == "too_large":
                raise InvalidInput(
                    f"{file.name!r} is too large: {most / 2**20:,.1f} MiB is the most."
                )
            raise ChannelError(f"Discord's store does not give {file.name!r}: {found.detail}.")
        if found.status != 200:
            raise ChannelError(f"Discord's store does not give {file.name!r} ({found.status}).")
        return found.body

    # Where, and when.

    def _channel(self, place: Place) -> discord.PartialMessageable:
        if self._client is None or self._client.is_closed():
            raise ChannelError("The bot is not connected to Discord.")
        return self._client.get_partial_messageable(target_of(place))

    def _spare(self, channel: int) -> bool:
        """Whether an edit that could be left out may be made now."""
        since = time.monotonic() - self._edited.get(channel, -APART)
        return since >= APART and self._spare_of("PATCH messages", channel)

    def _spare_of(self, route: str, channel: int) -> bool:
        allowed = self._allowed.get(f"{route} {channel}")
        return allowed is None or allowed.left >= SPARE or allowed.until <= time.monotonic()

    async def _waited(self, channel: int) -> None:
        """Wait for the next edit in a channel, and take its turn."""
        now = time.monotonic()
        turn = max(now, self._edited.get(channel, now - APART) + APART)
        self._edited[channel] = turn
        self._edited.move_to_end(channel)
        while len(self._edited) > _CHANNELS:
            self._edited.popitem(last=False)
        await asyncio.sleep(turn - now)

    def _traced(self) -> aiohttp.TraceConfig:
        """What Discord says of its limits with each answer."""
        config = aiohttp.TraceConfig()
        config.on_request_end.append(self._heard)
        return config

    async def _heard(
        self, session: aiohttp.ClientSession, context: object,
        params: aiohttp.TraceRequestEndParams,
    ) -> None:  # fmt: skip
        headers, path = params.response.headers, params.url.path
        _, found, rest = path.partition("/channels/")
        channel, _, what = rest.partition("/")
        if not found or "X-RateLimit-Remaining" not in headers:
            return
        key = f"{params.method} {what.partition('/')[0]} {channel}"
        after = float(headers.get("X-RateLimit-Reset-After", 1.0))
        left = int(headers["X-RateLimit-Remaining"])
        self._allowed[key] = _Allowance(left, time.monotonic() + after)
        self._allowed.move_to_end(key)
        while len(self._allowed) > _CHANNELS:
            self._allowed.popitem(last=False)

    # What was said before a crash.

    def _claim(self, message: int) -> None:
        """A message that this process has written, and takes for no other."""
        self._claimed[message] = None
        while len(self._claimed) > _CHANNELS:
            self._claimed.popitem(last=False)

    async def _said_before(
        self, channel: discord.PartialMessageable, text: str, nonce: str, reply_to: str,
        file: str = "",
    ) -> discord.Message | None:  # fmt: skip
        """Our answer to an older message, if an earlier process has sent it."""
        if not reply_to or int(reply_to) >= self._begun:
            return None
        with wrapped():
            after = discord.Object(int(reply_to))
            async for message in channel.history(limit=_HISTORY, after=after):
                if str(message.author.id) != self.me or message.id in self._claimed:
                    continue
                reference = message.reference
                answers = reference is not None and str(reference.message_id) == reply_to
                same = (
                    any(one.filename == file for one in message.attachments)
                    if file
                    else message.content.split() == text.split()
                )
                if answers and (_bears(message, nonce) or same):
                    return message
        return None


def _bears(message: discord.Message, nonce: str) -> bool:
    """Whether a button under a message has this nonce."""
    return any(
        isinstance(one, discord.Button) and str(one.custom_id).endswith(f":{nonce}")
        for line in message.components
        if isinstance(line, discord.ActionRow)
        for one in line.children
    )


def _reference(
    channel: discord.PartialMessageable, reply_to: str
) -> discord.MessageReference | None:
    if not reply_to:
        return None
    return discord.MessageReference(
        message_id=int(reply_to), channel_id=channel.id, fail_if_not_exists=False
    )


def _optional(**values: object) -> dict[str, Any]:
    """Those that are there: discord.py tells `None` from nothing."""
    return {name: value for name, value in values.items() if value is not None}
