"""Events of a room as what was said: who, where, in reply to what, and whether it means us."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from nio import AsyncClient, MatrixRoom, MegolmEvent, RoomGetEventResponse

from wordmill.channels.matrix import media
from wordmill.channels.matrix.calls import LOST
from wordmill.channels.rooms.base import Incoming, Place, Quoted, Reaction, meaning

_TEXTS: Final = ("m.text", "m.emote", *media.KINDS)
CHAIN: Final = "chain-"
"""Before a message's id: what answers it is a reply, in no thread."""
_LONGEST: Final = 1_000_000
_LATEST: Final = 253_402_214_400_000
"""Milliseconds; a day before the last that a date can be, whatever the zone."""


async def said(client: AsyncClient, room: MatrixRoom, source: Mapping[str, Any]) -> Incoming | None:
    """What an event says; None for one that says nothing to anybody, as a notice."""
    content = source.get("content")
    if source.get("type") != "m.room.message" or not isinstance(content, Mapping):
        return None
    relation = _mapping(content.get("m.relates_to"))
    edits = ""
    if relation.get("rel_type") == "m.replace":
        edits = _text(relation.get("event_id"))
        content = _mapping(content.get("m.new_content"))
        if not edits:
            return None
    if content.get("msgtype") not in _TEXTS:
        return None  # a notice is never answered
    sender, event = _text(source.get("sender")), _text(source.get("event_id"))
    direct = is_direct(room)
    file = media.attached(content)
    body = _text(content.get("body"))[:_LONGEST]
    if file is not None and (not content.get("filename") or content.get("filename") == body):
        body = ""  # a file's name is no text
    replied_id = _text(_mapping(relation.get("m.in_reply_to")).get("event_id"))
    threaded = relation.get("rel_type") == "m.thread"
    if threaded and relation.get("is_falling_back", False):
        replied_id = ""
    if replied_id:
        body = _without_fallback(body)
    place = _place(room, event, relation, threaded, direct, edits)
    mine = mentions(client, room, content, body)
    return Incoming(
        event=event,
        place=place,
        sender=sender,
        name=room.user_name(sender) or sender,
        text=stripped(client, room, body),
        at=moment(source.get("origin_server_ts")),
        direct=direct,
        mentions_us=mine,
        groups=(sender.partition(":")[2],),
        replied=await _quoted(client, room, replied_id) if replied_id and not edits else None,
        attachments=(file,) if file is not None else (),
        edits=edits,
    )


def sign(room: MatrixRoom, source: Mapping[str, Any]) -> Reaction | None:
    """What a reaction asks for, if anything."""
    relation = _mapping(_mapping(source.get("content")).get("m.relates_to"))
    wanted = meaning(_text(relation.get("key")))
    if relation.get("rel_type") != "m.annotation" or wanted is None:
        return None
    sender = _text(source.get("sender"))
    return Reaction(
        event=_text(source.get("event_id")), place=Place(room.room_id), sender=sender,
        name=room.user_name(sender) or sender, message=_text(relation.get("event_id")),
        sign=wanted, groups=(sender.partition(":")[2],),
    )  # fmt: skip


def moment(milliseconds: object) -> datetime:
    """When something was said, by the word of the sender's server, which may say anything."""
    since = milliseconds if isinstance(milliseconds, int) else 0
    return datetime.fromtimestamp(min(max(0, since), _LATEST) / 1000, UTC)


def is_direct(room: MatrixRoom) -> bool:
    """Whether there is nobody else but one other: also one who has been invited counts."""
    return len(room.users) <= 2


def mentions(client: AsyncClient, room: MatrixRoom, content: Mapping[str, Any], body: str) -> bool:
    """Whether a message mentions us: by its list of mentions, and by its text where it has none."""
    listed = content.get("m.mentions")
    if isinstance(listed, Mapping):
        ids = listed.get("user_ids")
        return isinstance(ids, list) and client.user_id in ids
    return client.user_id in body or any(
        re.search(rf"(?<!\w)@?{re.escape(name)}(?!\w)", body, re.IGNORECASE)
        for name in _names(client, room)
    )


def stripped(client: AsyncClient, room: MatrixRoom, body: str) -> str:
    """A text without the mention of us at its beginning, however the client spells that."""
    text = body.strip()
    for name in sorted((client.user_id, *_names(client, room)), key=len, reverse=True):
        spelt = re.escape(name)
        found = re.match(
            rf"(?:\[@?{spelt}\]\([^)\s]*\)|@?{spelt})(?!\w)\s*[:,]?\s*", text, re.IGNORECASE
        )
        if found and found.end():
            return text[found.end() :]
    return text


def _names(client: AsyncClient, room: MatrixRoom) -> list[str]:
    """What we are called there, beside the whole id: the display name and the localpart."""
    user = room.users.get(client.user_id)
    shown = user.display_name if user is not None else None
    local = client.user_id.partition(":")[0].removeprefix("@")
    return [name for name in (shown, local) if name]


def _place(
    room: MatrixRoom,
    event: str,
    relation: Mapping[str, Any],
    threaded: bool,
    direct: bool,
    edits: str,
) -> Place:
    """A thread is a conversation, and so is a direct room; elsewhere a message begins a thread, or
    a chain of replies where the service lets it begin none.
    """
    if threaded:
        return Place(room.room_id, _text(relation.get("event_id")))
    if direct:
        return Place(room.room_id)
    related = not edits and bool(relation.get("rel_type"))  # at such a one no thread can begin
    return Place(room.room_id, f"{CHAIN if related else ''}{edits or event}")


async def _quoted(client: AsyncClient, room: MatrixRoom, event: str) -> Quoted | None:
    """The message that is replied to, with its newest text; None where it cannot be had."""
    try:
        answer = await client.room_get_event(room.room_id, event)
    except LOST:
        return None
    if not isinstance(answer, RoomGetEventResponse) or isinstance(answer.event, MegolmEvent):
        return None
    source = answer.event.source
    content, sender = _mapping(source.get("content")), _text(source.get("sender"))
    newest = _mapping(
        _mapping(_mapping(_mapping(source.get("unsigned")).get("m.relations")).get("m.replace"))
        .get("content")
    )  # fmt: skip
    content = _mapping(newest.get("m.new_content")) or content
    file = media.attached(content)
    return Quoted(
        event=event,
        name=room.user_name(sender) or sender,
        text=_without_fallback(_text(content.get("body"))) if file is None else "",
        own=sender == client.user_id,
        attachments=(file,) if file is not None else (),
    )


def _without_fallback(body: str) -> str:
    """A text without the quotation that older clients put before a reply."""
    if not body.startswith("> <"):
        return body
    lines = body.split("\n")
    first = next((n for n, line in enumerate(lines) if not line.startswith(">")), len(lines))
    return "\n".join(lines[first:]).lstrip("\n")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
