"""A stored conversation that is continued through OpenAI's wire format.

The last message is said in it, and the answer is a turn like any other: it is made with the
conversation's own settings, stored as it grows, and goes on when the client has gone.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, TypeAlias

from starlette.concurrency import run_in_threadpool

from wordmill.channels.api import wire
from wordmill.channels.api.auth import Caller
from wordmill.channels.house import House
from wordmill.chat.turns import Turn
from wordmill.chat.types import Message
from wordmill.errors import InvalidInput, ModelFailed

Json: TypeAlias = Mapping[str, Any]

_TAKEN: Final = ("model", "messages", "conversation", "stream", "stream_options", "user", "n")
"""What such a request may hold; the rest are settings of the conversation."""


async def begin(
    house: House, caller: Caller, conversation: str, model: str, body: Json, once: str | None
) -> Turn:
    """Say the last message. once: an idempotency key.

    Raises InvalidInput, NotFound.
    """
    last = body["messages"][-1]
    if last["role"] != "user" or not isinstance(last.get("content"), str):
        raise InvalidInput(
            "To continue a stored conversation, the last message is a user's text.", "messages"
        )
    for name in body:
        if name not in _TAKEN or (name == "n" and body[name] != 1):
            raise InvalidInput(
                f"A stored conversation is answered with its own settings; leave out {name}.", name
            )
    return await run_in_threadpool(
        house.chat.send, caller.person, conversation, last["content"],
        door=caller.door, model=model, once=once,
    )  # fmt: skip


async def whole(house: House, caller: Caller, model: str, turn: Turn) -> dict[str, Any]:
    """The answer, when it has ended. Raises ModelFailed."""
    said, last = [], turn.answer
    async for event in house.chat.watch_async(caller.person, turn.answer):
        said.append(event.text)
        last = event.message or last
    message = await _ended(house, caller, model, last)
    made = {"role": "assistant", "content": "".join(said), "refusal": None}
    name, used = f"chatcmpl-{turn.answer}", _used(message)
    return {
        **wire.whole(name, model, made, _finish(message), used),
        "conversation": turn.conversation,
    }


async def events(
    house: House, caller: Caller, model: str, turn: Turn, counted: bool
) -> AsyncIterator[str]:
    """The answer as it grows."""
    chunks = wire.Chunks(model, counted=counted, name=f"chatcmpl-{turn.answer}")
    yield chunks.begin()
    last = turn.answer
    async for event in house.chat.watch_async(caller.person, turn.answer):
        last = event.message or last
        if event.text or event.reasoning:
            yield chunks.said(event.text, event.reasoning)
    try:
        message = await _ended(house, caller, model, last)
    except ModelFailed as error:
        yield wire.fault(error)
        return
    yield chunks.end(_finish(message), _used(message))


async def _ended(house: House, caller: Caller, model: str, name: str) -> Message:
    message = await run_in_threadpool(house.conversations.message, caller.person, name)
    if message.state in ("failed", "interrupted"):
        raise ModelFailed(model, "failed", message.error or "the answer was interrupted")
    return message


def _finish(message: Message) -> str:
    """A call that waits for a yes is given that elsewhere, and the answer goes on then."""
    return "tool_calls" if message.role == "tool" else message.finish or "stop"


def _used(message: Message) -> dict[str, int]:
    counted = message.usage or {}
    return wire.usage(counted.get("input", 0), counted.get("output", 0))
