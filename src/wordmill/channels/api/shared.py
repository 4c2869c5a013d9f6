"""What the routes under /api share: bodies that refuse unknown fields, and plain JSON out."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Query
from pydantic import BaseModel, ConfigDict

from wordmill.chat.types import Conversation, Message

Json = dict[str, Any]

UNSTORED: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""Headers of server-sent events: nobody on the way keeps them, or waits for more."""

Limit = Annotated[int, Query(ge=1, le=200)]


class Sent(BaseModel):
    """What somebody sends: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


def plain(values: Json) -> Json:
    """Times as text; what JSON can say otherwise."""
    return {
        key: value.isoformat() if isinstance(value, datetime) else value
        for key, value in values.items()
    }


def shown(value: Any) -> Json:
    """A frozen value as JSON."""
    return plain(asdict(value))


def conversation_shown(conversation: Conversation) -> Json:
    """A conversation as JSON."""
    return {**shown(conversation), "temporary": conversation.temporary}


def message_shown(message: Message) -> Json:
    """A message as JSON, without its request."""
    made = shown(message)
    del made["sent"]  # under /sent, as it was sent
    return made
