"""OpenAI's wire format: any OpenAI client talks to any model of the catalog.

A model is named as the catalog names it. With the header `X-Wordmill-Conversation` (or the field
`conversation`) the last message continues a stored conversation.
"""

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from wordmill.accounts import Person, catalog_of
from wordmill.channels.api.auth import Reads, Talks, house_of
from wordmill.channels.api.bodies import json_object
from wordmill.channels.api.errors import status_of
from wordmill.chat.parameters import PARAMETERS
from wordmill.completions import Answer
from wordmill.completions.gateway import Gateway
from wordmill.errors import InvalidInput, ModelFailed, WordmillError
from wordmill.types import Reply

router = APIRouter(prefix="/v1", tags=["OpenAI"])

CONVERSATION = "x-wordmill-conversation"
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
Json = Mapping[str, Any]


@router.get("/models")
def models(caller: Reads, request: Request) -> dict[str, Any]:
    """All models that can be asked."""
    house = house_of(request)
    found = catalog_of(house.database, house.settings, caller.person.id).all()
    return {"object": "list", "data": [_model(one.name, one.provider) for one, _ in found]}


@router.get("/models/{model:path}")
def model(model: str, caller: Reads, request: Request) -> dict[str, Any]:
    """One model."""
    house = house_of(request)
    found = catalog_of(house.database, house.settings, caller.person.id).get(model)
    return _model(found.name, found.provider)


@router.post("/chat/completions")
async def chat_completions(caller: Talks, request: Request) -> Response:
    """A chat completion, streamed or not; tools, structured output, `n`."""
    body = await json_object(request)
    name, messages = _named(body), _messages(body)
    conversation = request.headers.get(CONVERSATION) or body.pop("conversation", None)
    if conversation is not None:
        return await _continued(request, caller.person, str(conversation), name, messages, body)
    count = body.get("n", 1)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 128:
        raise InvalidInput("n must be a whole number from 1 to 128.", "n")
    streamed = body.get("stream", False)
    if not isinstance(streamed, bool):
        raise InvalidInput("stream must be true or false.", "stream")
    if streamed and count > 1:
        raise InvalidInput("Several answers (n) cannot be streamed: ask without stream.", "n")
    house = house_of(request)
    if count > 1:
        sent = {key: value for key, value in body.items() if key not in ("stream_options",)}
        _, raw = await run_in_threadpool(
            house.completions.post, caller.person, name, "chat", sent, door=caller.door
        )
        return JSONResponse({**raw, "model": name})
    answer = await run_in_threadpool(
        house.completions.stream, caller.person, name, body, door=caller.door
    )
    pieces = _gateway(request).pieces(answer)
    if streamed:
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        first = await anext(pieces, None)
        if first is None:
            _reply(name, answer)
        return StreamingResponse(
            _events(name, answer, first, pieces, usage),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )
    async for _ in pieces:
        if await request.is_disconnected():
            await pieces.aclose()  # type: ignore[attr-defined]  # it is a generator
            return Response(status_code=499)
    return JSONResponse(_completion(name, answer, _reply(name, answer)))


@router.post("/completions")
async def completions(caller: Talks, request: Request) -> Response:
    """A completion of a text; a model that only talks is asked as in a talk."""
    body = await json_object(request)
    name = _named(body)
    house = house_of(request)
    if not house.rehearses(caller.person, name):
        return await _passed(request, caller.person, caller.door, "completions", "prompt", body)
    prompts = body.get("prompt", "")
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if not isinstance(prompts, list) or not all(isinstance(one, str) for one in prompts):
        raise InvalidInput("prompt is a text or a list of texts.", "prompt")
    known = ("max_tokens", "temperature", "seed")
    bounds: dict[str, Any] = {key: body[key] for key in known if key in body}
    choices, read, written = [], 0, 0
    for number, prompt in enumerate(prompts[:128]):
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}]}
        asked |= bounds
        reply, _ = await run_in_threadpool(
            house.completions.ask, caller.person, name, asked, door=caller.door
        )
        read, written = read + reply.usage.input, written + reply.usage.output
        finish = reply.finish or "stop"
        choices.append(
            {"index": number, "text": reply.text, "logprobs": None, "finish_reason": finish}
        )
    return JSONResponse(
        {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": name,
            "choices": choices,
            "usage": _usage(read, written),
        }
    )


@router.post("/embeddings")
async def embeddings(caller: Talks, request: Request) -> Response:
    """Embeddings."""
    body = await json_object(request)
    return await _passed(request, caller.person, caller.door, "embeddings", "input", body)


@router.post("/responses")
async def responses(caller: Talks, request: Request) -> Response:
    """The stateless core of the Responses API: text in, text out."""
    body = await json_object(request)
    name = _named(body)
    if body.get("previous_response_id"):
        raise InvalidInput(
            "Responses are not stored here: send the whole conversation.", "previous_response_id"
        )
    if body.get("stream"):
        raise InvalidInput("Responses cannot be streamed here: /v1/chat/completions can.", "stream")
    house = house_of(request)
    reply, _ = await run_in_threadpool(
        house.completions.ask, caller.person, name, _from_responses(body), door=caller.door
    )
    content = [{"type": "output_text", "text": reply.text, "annotations": []}]
    return JSONResponse(
        {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "metadata": body.get("metadata") or {},
            "model": name,
            "output": [
                {
                    "type": "message",
                    "id": f"msg_{uuid.uuid4().hex}",
                    "status": "completed",
                    "role": "assistant",
                    "content": content,
                }
            ],
            "parallel_tool_calls": True,
            "temperature": body.get("temperature"),
            "tool_choice": "auto",
            "tools": [],
            "top_p": body.get("top_p"),
            "usage": {
                "input_tokens": reply.usage.input,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": reply.usage.output,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": reply.usage.input + reply.usage.output,
            },
        }
    )


async def _passed(
    request: Request, person: Person, door: str, path: str, field: str, body: dict[str, Any]
) -> Response:
    name = _named(body)
    if field not in body:
        raise InvalidInput(f"{field} is missing.", field)
    if body.get("stream"):
        raise InvalidInput(f"/v1/{path} cannot be streamed here.", "stream")
    completions = house_of(request).completions
    _, raw = await run_in_threadpool(completions.post, person, name, path, body, door=door)
    return JSONResponse({**raw, "model": name})


async def _continued(
    request: Request,
    person: Person,
    conversation: str,
    model: str,
    messages: list[dict[str, Any]],
    body: Json,
) -> Response:
    """The last message, said in a stored conversation."""
    house = house_of(request)
    last = messages[-1]
    if last.get("role") != "user" or not isinstance(last.get("content"), str):
        raise InvalidInput(
            "To continue a stored conversation, the last message is a user's text.", "messages"
        )
    unknown = [key for key in body if key in PARAMETERS]
    if unknown:
        raise InvalidInput(
            f"A stored conversation is answered with its own settings; leave out {unknown[0]}.",
            unknown[0],
        )
    turn = await run_in_threadpool(
        house.chat.send, person, conversation, last["content"], door="api", model=model
    )

    def ended() -> Reply | None:
        for _ in house.chat.watch(person, turn.answer):
            pass
        return None

    await run_in_threadpool(ended)
    message = await run_in_threadpool(house.conversations.message, person, turn.answer)
    if message.state == "failed":
        raise ModelFailed(model, "failed", message.error or "no answer came")
    usage = message.usage or {}
    return JSONResponse(
        {
            "id": f"chatcmpl-{message.id}",
            "object": "chat.completion",
            "created": int(message.created.timestamp()),
            "model": model,
            "choices": [_choice({"role": "assistant", "content": message.text}, message.finish)],
            "usage": _usage(usage.get("input", 0), usage.get("output", 0)),
            "conversation": conversation,
        },
        headers={CONVERSATION: conversation},
    )


async def _events(
    model: str, answer: Answer, first: Any, pieces: AsyncIterator[Any], usage: bool
) -> AsyncIterator[str]:
    """Server-sent events, as the official clients read them."""
    base = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
    }

    def event(delta: Json, finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        more = {"usage": None} if usage else {}
        return f"data: {json.dumps({**base, 'choices': [choice], **more})}\n\n"

    yield event({"role": "assistant", "content": ""})
    if first is not None:
        yield event(_delta(first))
        async for piece in pieces:
            yield event(_delta(piece))
    try:
        reply = _reply(model, answer)
    except WordmillError as error:
        _, kind, code = status_of(error)
        fault = {"message": str(error), "type": kind, "param": None, "code": code}
        yield f"data: {json.dumps({'error': fault})}\n\n"
        return
    message = _message(answer, reply)
    if message.get("tool_calls"):
        calls = [{"index": n, **call} for n, call in enumerate(message["tool_calls"])]
        yield event({"tool_calls": calls})
    yield event({}, reply.finish or "stop")
    if usage:
        counted = _usage(reply.usage.input, reply.usage.output)
        yield f"data: {json.dumps({**base, 'choices': [], 'usage': counted})}\n\n"
    yield "data: [DONE]\n\n"


def _delta(piece: Any) -> dict[str, str]:
    delta = {}
    if piece.text:
        delta["content"] = piece.text
    if piece.reasoning:
        delta["reasoning_content"] = piece.reasoning
    return delta


def _reply(model: str, answer: Answer) -> Reply:
    reply = answer.reply
    if reply is None:
        raise ModelFailed(model, "dropped", "the answer ended without a record")
    if reply.error is not None:
        raise ModelFailed(model, reply.error, reply.detail)
    return reply


def _completion(model: str, answer: Answer, reply: Reply) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [_choice(_message(answer, reply), reply.finish)],
        "usage": _usage(reply.usage.input, reply.usage.output),
    }


def _message(answer: Answer, reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.refusal:
        message |= {"content": None, "refusal": reply.text}
    choices = (answer.body or {}).get("choices") or [{}]
    calls = (choices[0].get("message") or {}).get("tool_calls")
    if calls:
        message |= {"content": reply.text or None, "tool_calls": calls}
    return message


def _choice(message: Json, finish: str | None) -> dict[str, Any]:
    return {"index": 0, "message": message, "logprobs": None, "finish_reason": finish or "stop"}


def _usage(read: int, written: int) -> dict[str, int]:
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _model(name: str, provider: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": provider}


def _named(body: dict[str, Any]) -> str:
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise InvalidInput("model is missing: the name of a model of the catalog.", "model")
    return name


def _messages(body: Json) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("messages must be a list with at least one message.", "messages")
    for number, message in enumerate(messages):
        place = f"messages.{number}"
        if not isinstance(message, dict):
            raise InvalidInput(f"{place} must be an object.", place)
        if message.get("role") not in _ROLES:
            raise InvalidInput(f"{place}.role is one of {', '.join(_ROLES)}.", f"{place}.role")
        content = message.get("content")
        if not isinstance(content, str | list | None):
            raise InvalidInput(f"{place}.content is a text or a list of parts.", f"{place}.content")
        if isinstance(content, list) and not all(isinstance(part, dict) for part in content):
            raise InvalidInput(f"{place}.content: each part is an object.", f"{place}.content")
    return messages


def _from_responses(body: Json) -> dict[str, Any]:
    """A request of the Responses API as one of chat completions."""
    said = body.get("input")
    messages: list[dict[str, Any]] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": str(body["instructions"])})
    if isinstance(said, str):
        messages.append({"role": "user", "content": said})
    elif isinstance(said, list):
        for item in said:
            if not isinstance(item, dict) or item.get("type", "message") != "message":
                raise InvalidInput("input holds messages only.", "input")
            content = item.get("content")
            if isinstance(content, list):
                content = "\n".join(
                    str(part.get("text", "")) for part in content if isinstance(part, dict)
                )
            messages.append({"role": item.get("role", "user"), "content": content})
    _messages({"messages": messages})
    made: dict[str, Any] = {"messages": messages}
    for name, to in (("temperature",) * 2, ("top_p",) * 2, ("max_output_tokens", "max_tokens")):
        if body.get(name) is not None:
            made[to] = body[name]
    form = (body.get("text") or {}).get("format") or {}
    if form.get("type") == "json_schema":
        made["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": form.get("name", "answer"), "schema": form.get("schema", {})},
        }
    return made


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway
