"""OpenAI's wire format: any OpenAI client talks to any model of the catalog.

A model is named as the catalog names it. With the header `X-Wordmill-Conversation` (or the field
`conversation`) the last message continues a stored conversation.
"""

import threading
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from wordmill.accounts import catalog_of
from wordmill.channels.api import continued, fields, reranking, responses, wire
from wordmill.channels.api.auth import Caller, Reads, Talks, house_of
from wordmill.channels.api.bodies import json_object
from wordmill.channels.api.presence import present
from wordmill.channels.api.shared import UNSTORED
from wordmill.completions import Answer, Delta
from wordmill.completions.gateway import Gateway
from wordmill.errors import InvalidInput, ModelFailed
from wordmill.telemetry import plain
from wordmill.types import Reply

router = APIRouter(prefix="/v1", tags=["OpenAI"])

CONVERSATION: Final = "x-wordmill-conversation"
DEGRADED: Final = "x-wordmill-degraded"
NOTE: Final = "x-wordmill-note"
MOST_PROMPTS: Final = 128
Json: TypeAlias = Mapping[str, Any]


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
    """A chat completion, streamed or not; tools, structured output, `n`.

    The header `X-Wordmill-Conversation`, or the field `conversation`, continues a stored one.
    """
    body = fields.checked(await json_object(request), fields.CHAT)
    name, _ = fields.model_of(body), fields.messages_of(body)
    streamed, counted = _streamed(body)
    conversation = request.headers.get(CONVERSATION) or body.pop("conversation", None)
    if conversation is not None:
        return await _continued(caller, request, conversation, name, body)
    if body.get("n", 1) > 1:
        if streamed:
            raise InvalidInput("Several answers (n) cannot be streamed: ask without stream.", "n")
        several = await _posted(caller, request, name, "chat", body)
        noted = house_of(request).completions.notes
        notes = await run_in_threadpool(noted, caller.person, name, body)
        several.headers.update(_header(NOTE, notes))
        return several
    answer, pieces = await _begun(caller, request, name, body)
    if streamed:
        first = await present(request, _first(name, answer, pieces))
        events = wire.events(name, answer, first, pieces, counted)
        return _stream(events, await _told(answer))
    await present(request, _all(pieces))
    made = wire.completion(name, answer, wire.reply_of(name, answer))
    return JSONResponse(made, headers=await _told(answer))


@router.post("/completions")
async def completions(caller: Talks, request: Request) -> Response:
    """A completion of a text; a model that only talks is asked as in a talk."""
    body = fields.checked(await json_object(request), fields.COMPLETIONS)
    name = fields.model_of(body)
    house = house_of(request)
    if not await run_in_threadpool(house.rehearses, caller.person, name):
        return await _passed(caller, request, "completions", "prompt", body)
    _refuse_stream("completions", body)
    given = body.get("prompt", "")
    prompts = [given] if isinstance(given, str) else given
    if not isinstance(prompts, list) or not all(isinstance(one, str) for one in prompts):
        raise InvalidInput("prompt is a text or a list of texts.", "prompt")
    if len(prompts) > MOST_PROMPTS:
        raise InvalidInput(
            f"prompt has at most {MOST_PROMPTS} texts, not {len(prompts):,}.", "prompt"
        )
    bounds: dict[str, Any] = {
        key: body[key] for key in ("max_tokens", "temperature", "seed") if key in body
    }
    choices, read, written = [], 0, 0
    for number, prompt in enumerate(prompts):
        asked: Json = {"messages": [{"role": "user", "content": prompt}], **bounds}
        reply, _ = await run_in_threadpool(
            house.completions.ask, caller.person, name, asked, door=caller.door
        )
        read, written = read + reply.usage.input, written + reply.usage.output
        choice = {"index": number, "text": reply.text, "logprobs": None}
        choices.append({**choice, "finish_reason": reply.finish or "stop"})
    return JSONResponse(
        {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": name,
            "choices": choices,
            "usage": wire.usage(read, written),
        }
    )


@router.post("/embeddings")
async def embeddings(caller: Talks, request: Request) -> Response:
    """Embeddings."""
    body = fields.checked(await json_object(request), fields.EMBEDDINGS)
    return await _passed(caller, request, "embeddings", "input", body)


@router.post("/rerank")
async def rerank(caller: Talks, request: Request) -> Response:
    """Documents in the order in which they answer a query (the form of Jina and Cohere)."""
    asked = reranking.read(await json_object(request))
    if await run_in_threadpool(house_of(request).rehearses, caller.person, asked.model):
        raise InvalidInput(reranking.REHEARSED, "model")
    try:
        reply, raw = await _asked(caller, request, asked.model, "rerank", asked.body)
    except ModelFailed as error:
        reranking.explain(error)
        raise
    return JSONResponse(reranking.answer(asked, raw, reply.usage))


@router.post("/responses")
async def respond(caller: Talks, request: Request) -> Response:
    """The stateless core of the Responses API, streamed or not: text, functions, schemas."""
    body = fields.checked(await json_object(request), fields.RESPONSES)
    name = fields.model_of(body)
    response = responses.Response(name, body)
    answer, pieces = await _begun(caller, request, name, responses.as_chat(body))
    if body.get("stream"):
        first = await present(request, _first(name, answer, pieces))
        events = responses.events(response, name, answer, first, pieces)
        return _stream(events, await _told(answer))
    await present(request, _all(pieces))
    made = response.ended(answer, wire.reply_of(name, answer))
    return JSONResponse(made, headers=await _told(answer))


async def _begun(
    caller: Caller, request: Request, model: str, body: Json
) -> tuple[Answer, AsyncIterator[Delta]]:
    """A request on its way, and what comes of it. Whoever leaves the latter ends the former."""
    answer = await run_in_threadpool(
        house_of(request).completions.stream, caller.person, model, body, door=caller.door
    )
    gateway: Gateway = request.app.state.gateway
    return answer, gateway.pieces(answer)


async def _first(model: str, answer: Answer, pieces: AsyncIterator[Delta]) -> Delta | None:
    """The first piece; until it has come a failure can still be told as an error."""
    first = await anext(pieces, None)
    if first is None:
        wire.reply_of(model, answer)
    return first


async def _all(pieces: AsyncIterator[Delta]) -> None:
    """Wait for the end."""
    async for _ in pieces:
        pass


def _stream(
    events: AsyncIterator[str], headers: Mapping[str, str] | None = None
) -> StreamingResponse:
    told = {**UNSTORED, **(headers or {})}
    return StreamingResponse(events, media_type="text/event-stream", headers=told)


async def _told(answer: Answer) -> dict[str, str]:
    """What the model's server refused and was not asked again, and what it made of the rest, for
    whoever wants to know.
    """
    notes = await run_in_threadpool(answer.notes) if answer.tells else ()
    return {**_header(DEGRADED, answer.degraded), **_header(NOTE, notes)}


def _header(name: str, sentences: Sequence[str]) -> dict[str, str]:
    said = " ".join(sentences)[:1000].encode("ascii", "replace").decode()
    return {name: plain(said)} if said else {}


def _streamed(body: Json) -> tuple[bool, bool]:
    """Whether an answer is streamed, and its tokens counted at the end."""
    options = body.get("stream_options") or {}
    return body.get("stream", False), bool(options.get("include_usage"))


def _refuse_stream(path: str, body: Json) -> None:
    if body.get("stream"):
        raise InvalidInput(f"/v1/{path} cannot be streamed here.", "stream")


async def _passed(
    caller: Caller, request: Request, path: str, field: str, body: dict[str, Any]
) -> Response:
    """A request that the model's server answers as it likes."""
    name = fields.model_of(body)
    if field not in body:
        raise InvalidInput(f"{field} is missing.", field)
    _refuse_stream(path, body)
    return await _posted(caller, request, name, path, body)


async def _posted(caller: Caller, request: Request, model: str, path: str, body: Json) -> Response:
    _, raw = await _asked(caller, request, model, path, body)
    return JSONResponse({**raw, "model": model})


async def _asked(
    caller: Caller, request: Request, model: str, path: str, body: Json
) -> tuple[Reply, Json]:
    """What the model's server answers, as it said it. Ended where the client goes away."""
    gone = threading.Event()

    def post() -> tuple[Reply, Json]:
        return house_of(request).completions.post(
            caller.person, model, path, body, door=caller.door, unwanted=gone.is_set
        )

    return await present(request, run_in_threadpool(post), gone.set)


async def _continued(
    caller: Caller, request: Request, conversation: str, model: str, body: Json
) -> Response:
    """The last message, said in a stored conversation."""
    house, (streamed, counted) = house_of(request), _streamed(body)
    once = request.headers.get("idempotency-key")
    turn = await continued.begin(house, caller, conversation, model, body, once)
    headers = {CONVERSATION: conversation}
    if not streamed:
        made = await continued.whole(house, caller, model, turn)
        return JSONResponse(made, headers=headers)
    answer = _stream(continued.events(house, caller, model, turn, counted))
    answer.headers.update(headers)
    return answer


def _model(name: str, provider: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": provider}
