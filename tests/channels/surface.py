"""A chat service in memory, for what all channels have in common; what it lets through is a test's.

It knows a message by its nonce as real services do, keeps what is shown, and can be told to refuse.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from wordmill.channels.rooms.base import Attached, Incoming, Limits, Place, Post, Standing
from wordmill.channels.rooms.budget import Budget
from wordmill.errors import ChannelRefused, InvalidInput

ME = "mill"


@dataclass
class Shown:
    """A message that stands in a room. edits: the posts that it was before."""

    id: str
    place: Place
    post: Post
    reply_to: str = ""
    edits: list[Post] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.post.text


class Service:
    """A `Surface`. refuse: raises what the service would, for (verb, place, nonce)."""

    kind = "matrix"

    def __init__(self, **limits: Any) -> None:
        self.me = ME
        self.limits = Limits(size=4000, **limits)
        self.budget = Budget(rate=1000.0, burst=1000.0)
        self.shown: dict[str, Shown] = {}
        self.by_nonce: dict[str, str] = {}
        self.signs: list[tuple[str, str]] = []
        self.typings: dict[str, list[bool]] = defaultdict(list)
        self.files: dict[str, bytes] = {}
        self.given: list[tuple[Place, str, bytes]] = []
        self.calls: list[tuple[str, str]] = []
        self.fetched: list[str] = []
        self.refuse: Callable[[str, Place, str], None] = lambda *_: None
        self.delay = 0.0

    async def send(
        self, place: Place, post: Post, *, nonce: str, reply_to: str = "", fresh: bool = False
    ) -> str:
        await self._pass("send", place, nonce)
        if nonce not in self.by_nonce:
            name = f"$m{len(self.shown)}"
            self.by_nonce[nonce] = name
            self.shown[name] = Shown(name, place, post, reply_to)
        return self.by_nonce[nonce]

    async def edit(self, place: Place, message: str, post: Post, *, nonce: str) -> None:
        await self._pass("edit", place, nonce)
        if nonce in self.by_nonce:
            return
        if message not in self.shown:
            raise ChannelRefused("The message is gone.")
        self.by_nonce[nonce] = message
        shown = self.shown[message]
        shown.edits.append(shown.post)
        shown.post = post

    async def react(self, place: Place, message: str, sign: str, *, nonce: str) -> None:
        await self._pass("react", place, nonce)
        self.signs.append((message, sign))

    async def typing(self, place: Place, on: bool) -> None:
        self.typings[place.key].append(on)

    async def send_file(
        self, place: Place, name: str, media_type: str, data: bytes, *, nonce: str,
        reply_to: str = "", fresh: bool = False,
    ) -> str:  # fmt: skip
        await self._pass("file", place, nonce)
        if nonce not in self.by_nonce:
            self.by_nonce[nonce] = f"$f{len(self.given)}"
            self.given.append((place, name, data))
        return self.by_nonce[nonce]

    async def fetch(self, file: Attached, most: int) -> bytes:
        self.fetched.append(file.name)
        data = self.files[file.name]
        if len(data) > most:
            raise InvalidInput(f"{file.name!r} is too large.")
        return data

    def standing(self) -> Standing:
        return Standing(True, "", "mill", "on, and this device is verified (cross-signed)")

    async def _pass(self, verb: str, place: Place, nonce: str) -> None:
        self.calls.append((verb, nonce))
        if self.delay:
            await asyncio.sleep(self.delay)
        self.refuse(verb, place, nonce)

    # What a test asks.

    def texts(self, room: str = "!room") -> list[str]:
        """Of what stands in a room, in order; not the notices."""
        return [
            one.text
            for one in self.shown.values()
            if one.place.room == room and one.post.kind != "notice"
        ]

    def notices(self, room: str = "!room") -> list[str]:
        return [
            one.text
            for one in self.shown.values()
            if one.place.room == room and one.post.kind == "notice"
        ]


_COUNT = iter(range(1_000_000))


def said(text: str, sender: str = "@ann:example.org", **values: Any) -> Incoming:
    """A message of somebody; in the direct room `!room` unless it is said otherwise."""
    fields: dict[str, Any] = {
        "event": f"$e{next(_COUNT)}",
        "place": Place("!room"),
        "sender": sender,
        "name": sender.partition(":")[0].removeprefix("@").title(),
        "text": text,
        "at": datetime.now(UTC),
        "direct": True,
    }
    return Incoming(**{**fields, **values})
