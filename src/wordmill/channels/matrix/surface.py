"""How the door writes on Matrix: threads, notices, edits, reactions, typing, files.

Every event has the transaction id that the door fixed before, by which the homeserver knows a
repetition. An edit is an event of its own that carries the text twice, so a message is kept small
enough that it fits into an event also encrypted and with its HTML.
"""

import json
from collections import OrderedDict
from typing import Any, Final

from nio import AsyncClient, RoomGetEventResponse

from wordmill.channels.matrix import media
from wordmill.channels.matrix.calls import ask, asking, checked, part
from wordmill.channels.matrix.formatting import html
from wordmill.channels.matrix.hearing import CHAIN
from wordmill.channels.rooms.base import Attached, Limits, Place, Post, Standing
from wordmill.channels.rooms.budget import Budget
from wordmill.errors import ChannelRefused

EVENT_BYTES: Final = 65_536
SIZE: Final = 12_000
"""Bytes of a message's text as JSON: twice that, and its HTML if there is room, is one event."""
_ROOM: Final = 44_000
"""Bytes of a content that fit into an event when Base64 and the envelope are added."""
TYPING: Final = 20.0
_SENDERS: Final = 2000
"""Messages whose senders are known without being asked for."""


def escaped(text: str) -> int:
    """Bytes of a text as JSON, which is how it is sent and encrypted."""
    return len(json.dumps(text)) - 2


class MatrixSurface:
    """The rooms of one account. Used in the channel's event loop only."""

    kind = "matrix"

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.me = ""
        self.limits = Limits(size=SIZE, measure=escaped, typing=TYPING)
        self.budget = Budget()
        self.shown = Standing()
        self._senders: OrderedDict[str, str] = OrderedDict()

    async def send(
        self, place: Place, post: Post, *, nonce: str, reply_to: str = "", fresh: bool = False
    ) -> str:
        """Say something in the room or thread."""
        content = _content(post, await self._told(place, post))
        if relation := _relation(place, reply_to):
            content["m.relates_to"] = relation
        return await self._event(place.room, "m.room.message", content, nonce)

    async def edit(self, place: Place, message: str, post: Post, *, nonce: str) -> None:
        """Put something else in place of a message: always related to the first one."""
        new = _content(post, await self._told(place, post))
        content = {**new, "body": f"* {new['body']}", "m.new_content": new}
        if "formatted_body" in new:
            content["formatted_body"] = f"* {new['formatted_body']}"
        if len(json.dumps(content)) > _ROOM:
            for one in (new, content):
                one.pop("formatted_body", None)
                one.pop("format", None)
        content["m.relates_to"] = {"rel_type": "m.replace", "event_id": message}
        await self._event(place.room, "m.room.message", content, nonce)

    async def react(self, place: Place, message: str, sign: str, *, nonce: str) -> None:
        """Put a sign on a message."""
        relation = {"rel_type": "m.annotation", "event_id": message, "key": sign}
        await self._event(place.room, "m.reaction", {"m.relates_to": relation}, nonce)

    async def typing(self, place: Place, on: bool) -> None:
        """Show that we are writing, a little longer than until it is said again."""
        with asking():
            answer = await self.client.room_typing(
                place.room, on, timeout=int((TYPING + 10) * 1000)
            )
        checked(answer)

    async def send_file(
        self, place: Place, name: str, media_type: str, data: bytes, *, nonce: str,
        reply_to: str = "", fresh: bool = False,
    ) -> str:  # fmt: skip
        """Give a file, encrypted where the room is."""
        room = self.client.rooms.get(place.room)
        content = await media.upload(
            self.client, name, media_type, data, encrypted=bool(room and room.encrypted)
        )
        content["m.mentions"] = {}
        if relation := _relation(place, reply_to):
            content["m.relates_to"] = relation
        return await self._event(place.room, "m.room.message", content, nonce)

    async def fetch(self, file: Attached, most: int) -> bytes:
        """The bytes of a file."""
        return await media.fetch(self.client, file, most)

    async def read(self, place: Place, event: str) -> None:
        """A receipt that we have seen something, in its thread."""
        threaded = place.thread and not place.thread.startswith(CHAIN)
        body = {"thread_id": place.thread if threaded else "main"}
        path = f"/_matrix/client/v3/rooms/{part(place.room)}/receipt/m.read/{part(event)}"
        await ask(self.client, "POST", path, body)

    def standing(self) -> Standing:
        """How it is now."""
        return self.shown

    def heard(self, event: str, sender: str) -> None:
        """Who sent a message, to be told of what answers it."""
        self._senders[event] = sender
        while len(self._senders) > _SENDERS:
            self._senders.popitem(last=False)

    async def _told(self, place: Place, post: Post) -> str:
        """Whom a post mentions: in a thread, of its last words; a direct room tells by itself."""
        if not post.tells or not place.thread or post.kind == "growing":
            return ""
        if post.tells not in self._senders:  # it was heard before this process began
            with asking():
                found = await self.client.room_get_event(place.room, post.tells)
            if not isinstance(found, RoomGetEventResponse):
                return ""
            self.heard(post.tells, found.event.sender)
        return self._senders[post.tells]

    async def _event(self, room: str, kind: str, content: dict[str, Any], nonce: str) -> str:
        if room not in self.client.rooms:
            raise ChannelRefused(f"The room {room} was left.")
        with asking():
            answer = await self.client.room_send(
                room, kind, content, tx_id=nonce, ignore_unverified_devices=True
            )
        event: str = checked(answer).event_id
        return event


def _content(post: Post, told: str = "") -> dict[str, Any]:
    """A message's content: what is no answer is a notice, and nobody is mentioned by any text.

    told: who alone is mentioned.
    """
    text = "".join(c for c in post.text if c >= " " or c in "\n\t")
    content: dict[str, Any] = {
        "msgtype": "m.notice" if post.kind == "notice" else "m.text",
        "body": text,
        "m.mentions": {"user_ids": [told]} if told else {},
    }
    formatted = html(text)
    if len(json.dumps(formatted)) < EVENT_BYTES // 3:
        content |= {"format": "org.matrix.custom.html", "formatted_body": formatted}
    return content


def _relation(place: Place, reply_to: str) -> dict[str, Any]:
    if place.thread.startswith(CHAIN):
        return {"m.in_reply_to": {"event_id": reply_to or place.thread.removeprefix(CHAIN)}}
    if place.thread:
        return {
            "rel_type": "m.thread", "event_id": place.thread, "is_falling_back": True,
            "m.in_reply_to": {"event_id": reply_to or place.thread},
        }  # fmt: skip
    return {"m.in_reply_to": {"event_id": reply_to}} if reply_to else {}
