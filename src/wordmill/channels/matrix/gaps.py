"""What a sync left out: a timeline that was cut is filled up backwards, to what is known."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from nio import AsyncClient, MessageDirection, RoomMessagesResponse

from wordmill.channels.matrix.calls import asking, checked
from wordmill.channels.matrix.hearing import moment

MOST: Final = 2000
"""Events of a gap that are fetched; what lies before them is left."""
_PAGE: Final = 100

log = logging.getLogger(__name__)


async def missing(
    client: AsyncClient,
    room: str,
    before: str,
    since: datetime,
    known: Callable[[list[str]], set[str]],
) -> list[Any]:
    """Events of a room before a token, oldest first, back to those that are known or older.

    before: the timeline's `prev_batch`.  since: what is older is left out, and where nothing else
    comes any more, it ends.
    known: which of some ids were heard before.  Raises ChannelError.
    """
    found: list[Any] = []
    token = before
    while token and len(found) < MOST:
        with asking():
            answer = await client.room_messages(
                room, token, direction=MessageDirection.back, limit=_PAGE
            )
        page: RoomMessagesResponse = checked(answer)
        heard = known([event.event_id for event in page.chunk])
        fresh: list[Any] = []
        for event in page.chunk:
            if event.event_id in heard:
                return (found + fresh)[::-1]
            if moment(event.server_timestamp) >= since:  # else old, or of a clock that is behind
                fresh.append(event)
        found += fresh
        if not fresh or page.end == token:
            break
        token = page.end or ""
    if len(found) >= MOST:
        log.warning("more than %d events of %s were missed; the older ones are left", MOST, room)
    return found[::-1]
