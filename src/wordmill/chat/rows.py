"""Rows of the tables as values, and whose they are.

`of_owner` and its like read a row and check its owner in one statement: what is somebody else's is
not found, in the same words as what does not exist.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.engine import Connection, Row

from wordmill.chat.inputs import checked_id
from wordmill.chat.types import Conversation, Message, Part
from wordmill.database import conversations, messages
from wordmill.errors import NotFound

ORIGIN = "origin"
"""The type of the part that holds a message's `origin`; it never leaves the stored side."""


def conversation_of(row: Row[Any]) -> Conversation:
    """A row of the table `conversations`."""
    values = dict(row._mapping)
    values["tags"] = tuple(values["tags"])
    return Conversation(**values)


def message_of(row: Row[Any]) -> Message:
    """A row of the table `messages`, with `place` and `siblings` where it has them."""
    values = dict(row._mapping)
    del values["number"]
    parts: Sequence[Part] = values["parts"]
    values["origin"] = origin_of(parts)
    values["parts"] = tuple(part for part in parts if part.get("type") != ORIGIN)
    return Message(**values)


def origin_of(parts: Sequence[Part]) -> str | None:
    """What a message is a copy of, from its parts as the table keeps them."""
    return next((part["id"] for part in parts if part.get("type") == ORIGIN), None)


def stored_parts(parts: Sequence[Part], origin: str | None) -> list[Part]:
    """The parts as the table keeps them."""
    kept: list[Part] = [dict(part) for part in parts if part.get("type") != ORIGIN]
    return [*kept, {"type": ORIGIN, "id": origin}] if origin else kept


def of_owner(owner: str, conversation: str) -> Select[Any]:
    """The conversation with that id, if it is that person's."""
    return select(conversations).where(
        conversations.c.id == conversation, conversations.c.owner == owner
    )


def conversation_row(
    connection: Connection, owner: str, conversation: str, *, lock: bool = False
) -> Row[Any]:
    """A conversation of that person. `lock`: nobody else adds to it until the transaction ends.

    Raises NotFound.
    """
    query = of_owner(owner, checked_id("conversation", conversation))
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound("conversation", conversation)
    return row


def message_row(connection: Connection, owner: str, message: str) -> Row[Any]:
    """A message of a conversation of that person. Raises NotFound."""
    row = connection.execute(
        select(messages)
        .join(conversations, conversations.c.id == messages.c.conversation)
        .where(messages.c.id == checked_id("message", message), conversations.c.owner == owner)
    ).one_or_none()
    if row is None:
        raise NotFound("message", message)
    return row
