"""Messages over HTTP: an answer as it grows, its siblings, what was sent, what people think."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from wordmill.channels.api.auth import Reads, Talks, house_of
from wordmill.channels.api.shared import (
    UNSTORED,
    Json,
    Sent,
    conversation_shown,
    message_shown,
    shown,
)

router = APIRouter(prefix="/api")

_PLACE: Final = re.compile(r"(\d{1,12}),(\d{1,12}),([0-9a-z-]{1,64})")
"""Of an event of an answer."""


class Edited(Sent):
    """A message, said differently."""

    text: str


class Judged(Sent):
    """What somebody thinks of an answer. score: 1, -1, or 0 to take it back."""

    score: Literal[-1, 0, 1]
    reason: str | None = None
    comment: str | None = None


class Preferred(Sent):
    """Of several answers to one message, the better one."""

    prompt: str
    chosen: str
    rejected: list[str]


@router.get("/messages/{message}", tags=["Messages"])
def message(message: str, caller: Reads, request: Request) -> Json:
    """One message."""
    return message_shown(house_of(request).conversations.message(caller.person, message))


@router.get("/messages/{message}/sent", tags=["Messages"])
def sent(message: str, caller: Reads, request: Request) -> Json:
    """The exact request that an answer was made from."""
    return house_of(request).chat.sent(caller.person, message)


@router.get("/messages/{message}/siblings", tags=["Messages"])
def siblings(message: str, caller: Reads, request: Request) -> list[Json]:
    """The other edits of a question, or the other answers."""
    found = house_of(request).conversations.siblings(caller.person, message)
    return [message_shown(one) for one in found]


@router.post("/messages/{message}/switch", tags=["Messages"])
def switch(message: str, caller: Talks, request: Request) -> Json:
    """Show the branch through this message."""
    return conversation_shown(house_of(request).conversations.switch(caller.person, message))


@router.post("/messages/{message}/fork", status_code=201, tags=["Messages"])
def fork(message: str, caller: Talks, request: Request) -> Json:
    """A conversation of its own, up to this message."""
    return conversation_shown(house_of(request).conversations.fork(caller.person, message))


@router.post("/messages/{message}/regenerate", status_code=202, tags=["Messages"])
def regenerate(
    message: str,
    caller: Talks,
    request: Request,
    model: Annotated[str | None, Body(embed=True)] = None,
) -> Json:
    """Another answer."""
    chat = house_of(request).chat
    return asdict(chat.regenerate(caller.person, message, model=model, door=caller.door))


@router.post("/messages/{message}/edit", status_code=202, tags=["Messages"])
def edit(message: str, new: Edited, caller: Talks, request: Request) -> Json:
    """The message said differently, with an answer of its own; the old branch stays."""
    chat = house_of(request).chat
    return asdict(chat.edit(caller.person, message, new.text, door=caller.door))


@router.post("/messages/{message}/continue", status_code=202, tags=["Messages"])
def continue_(message: str, caller: Talks, request: Request) -> Json:
    """Go on with an answer that was cut."""
    return asdict(house_of(request).chat.continue_(caller.person, message, door=caller.door))


@router.post("/messages/{message}/stop", tags=["Messages"])
def stop_one(message: str, caller: Talks, request: Request) -> Json:
    """Stop this answer."""
    return {"stopped": house_of(request).chat.stop(caller.person, message)}


class Decided(Sent):
    """A yes or a no to a tool's call. call: which, of an answer with several."""

    yes: bool
    call: str | None = None


@router.post("/messages/{message}/confirm", status_code=202, tags=["Messages"])
def confirm(message: str, said: Decided, caller: Talks, request: Request) -> Json:
    """Allow a tool's call, or not; the answer goes on when each has been decided."""
    return asdict(house_of(request).chat.confirm(caller.person, message, said.call, said.yes))


@router.put("/messages/{message}/feedback", tags=["Messages"])
def judge(message: str, said: Judged, caller: Talks, request: Request) -> Json:
    """Say what one thinks of an answer."""
    found = house_of(request).conversations.feedback(
        caller.person, message, said.score, said.reason, said.comment
    )
    return shown(found) if found else {}


@router.post("/preferences", status_code=201, tags=["Messages"])
def prefer(said: Preferred, caller: Talks, request: Request) -> Json:
    """Say which of several answers is the better one."""
    found = house_of(request).conversations.prefer(
        caller.person, said.prompt, said.chosen, said.rejected
    )
    return shown(found)


@router.get(
    "/messages/{message}/events",
    tags=["Messages"],
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def events(
    message: str,
    caller: Reads,
    request: Request,
    after: Annotated[int, Query(ge=0)] = 0,
    thought: Annotated[int, Query(ge=0)] = 0,
) -> StreamingResponse:
    """An answer as it grows (server-sent events), from `after` characters on.

    Each event's id is `text,reasoning,message`: characters so far, of an answer that may go on in
    another message. `Last-Event-ID` takes it up again. `waiting`: its place in the queue of a local
    model (`place` from 1, `seconds` about how long, `state` of the model), null where it does not
    wait.
    """
    if found := _PLACE.fullmatch(request.headers.get("last-event-id", "")):
        after, thought, message = int(found[1]), int(found[2]), found[3]
    house = house_of(request)
    await run_in_threadpool(house.conversations.message, caller.person, message)

    async def pieces() -> AsyncIterator[str]:
        thoughts = {message: thought}
        async for event in house.chat.watch_async(caller.person, message, after, thought):
            said = event.offset + len(event.text)
            thoughts[event.message] = thoughts.get(event.message, 0) + len(event.reasoning)
            place = f"{said},{thoughts[event.message]},{event.message}"
            waiting = None if event.waiting is None else event.waiting._asdict()
            told = json.dumps({**event._asdict(), "waiting": waiting})
            yield f"id: {place}\ndata: {told}\n\n"

    return StreamingResponse(pieces(), media_type="text/event-stream", headers=UNSTORED)
