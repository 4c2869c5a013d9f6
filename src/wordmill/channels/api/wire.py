"""Chat completions as OpenAI writes them: whole, and in pieces."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeAlias

from wordmill.channels.api.errors import status_of
from wordmill.completions import Answer, Delta
from wordmill.errors import ModelFailed, WordmillError
from wordmill.types import Reply

Json: TypeAlias = Mapping[str, Any]

DONE = "data: [DONE]\n\n"


def reply_of(model: str, answer: Answer) -> Reply:
    """The record of an answer that has ended. Raises ModelFailed."""
    reply = answer.reply
    if reply is None:
        raise ModelFailed(model, "dropped", "the answer ended without a record")
    if reply.error is not None:
        raise ModelFailed(model, reply.error, reply.detail)
    return reply


def completion(model: str, answer: Answer, reply: Reply) -> dict[str, Any]:
    """A whole answer."""
    return whole(
        f"chatcmpl-{uuid.uuid4().hex}",
        model,
        message(answer, reply),
        reply.finish,
        usage(reply.usage.input, reply.usage.output),
    )


def whole(
    name: str, model: str, said: Json, finish: str | None, used: Mapping[str, int]
) -> dict[str, Any]:
    """A completion of these parts."""
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": finish or "stop"}
    return {
        "id": name,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        "usage": used,
    }


def message(answer: Answer, reply: Reply) -> dict[str, Any]:
    """What the model said, or the tools that it calls."""
    made: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.refusal:
        made |= {"content": None, "refusal": reply.text}
    if calls := calls_of(answer):
        made |= {"content": reply.text or None, "tool_calls": calls}
    return made


def calls_of(answer: Answer) -> list[dict[str, Any]]:
    """The tools that an answer calls."""
    choices = (answer.body or {}).get("choices") or [{}]
    calls: list[dict[str, Any]] = (choices[0].get("message") or {}).get("tool_calls") or []
    return calls


def usage(read: int, written: int) -> dict[str, int]:
    """Tokens."""
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


class Chunks:
    """The pieces of one streamed completion, as server-sent events."""

    def __init__(self, model: str, *, counted: bool, name: str = "") -> None:
        self._base = {
            "id": name or f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._counted = counted

    def begin(self) -> str:
        """The first one, which says who speaks."""
        return self.piece({"role": "assistant", "content": ""})

    def piece(self, delta: Json, finish: str | None = None) -> str:
        """One with something new."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        more = {"usage": None} if self._counted else {}
        return _event({**self._base, "choices": [choice], **more})

    def said(self, text: str, reasoning: str) -> str:
        """One with words."""
        delta = {}
        if text:
            delta["content"] = text
        if reasoning:
            delta["reasoning_content"] = reasoning
        return self.piece(delta)

    def end(self, finish: str | None, used: Mapping[str, int]) -> str:
        """The last ones."""
        made = self.piece({}, finish or "stop")
        if self._counted:
            made += _event({**self._base, "choices": [], "usage": used})
        return made + DONE


async def events(
    model: str, answer: Answer, first: Delta | None, pieces: AsyncIterator[Delta], counted: bool
) -> AsyncIterator[str]:
    """A streamed answer, as the official clients read it.

    first: its first piece, which was waited for so that a failure could still be an error.
    """
    chunks = Chunks(model, counted=counted)
    yield chunks.begin() + ("" if first is None else chunks.said(*first))
    if first is not None:
        async for piece in pieces:
            yield chunks.said(*piece)
    try:
        reply = reply_of(model, answer)
    except WordmillError as error:
        yield fault(error)
        return
    if calls := calls_of(answer):
        numbered = [{"index": number, **call} for number, call in enumerate(calls)]
        yield chunks.piece({"tool_calls": numbered})
    yield chunks.end(reply.finish, usage(reply.usage.input, reply.usage.output))


def fault(error: WordmillError) -> str:
    """An error in the middle of a stream: an event that the official clients raise."""
    _, kind, code = status_of(error)
    return _event({"error": {"message": str(error), "type": kind, "param": None, "code": code}})


def _event(value: Json) -> str:
    return f"data: {json.dumps(value)}\n\n"
