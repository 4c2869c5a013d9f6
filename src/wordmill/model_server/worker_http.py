"""The worker's door: OpenAI's API on the loopback interface, for its model server alone.

Every request carries the worker's own token. When the connection of a request closes, its slot is
free within a step.
"""

import asyncio
import base64
import hmac
import struct
import threading
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import orjson

from wordmill.backends.base import Backend, Sampling, not_for
from wordmill.backends.templates import Template
from wordmill.errors import InvalidInput, WordmillError
from wordmill.model_server import worker_requests as requests
from wordmill.model_server.relay import ENDS
from wordmill.model_server.worker_answers import Answer, EngineFailed, failure
from wordmill.model_server.worker_loop import EngineDied, Full, Loop, Parcel, Work

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Result = TypeVar("Result")
Heard: TypeAlias = tuple[list[Result], int]

LARGEST: Final = 64 << 20
"""Bytes of a body."""
CHARACTERS: Final = 32
"""Characters of a token in a prompt, at the most: no text has as many in all of its tokens."""
ROUNDS: Final = 8
"""Rounds of the event loop between two steps: from a new connection to the engine it is five."""
REST: Final = 0.25
"""Seconds that an engine waits for them, at the most."""
SHORT: Final = 16 << 10
"""Characters that are read in a few milliseconds."""
NOTE: Final = b"x-wordmill-note"


class Left(Exception):
    """Nobody listens for the answer any more."""


class TooLarge(WordmillError):
    """A body is larger than `LARGEST`."""


class Door:
    """An ASGI application for one loaded model."""

    def __init__(
        self, name: str, token: str, loop: Loop, template: Template, notes: Sequence[str]
    ) -> None:
        self._name, self._token, self._loop = name, token.encode(), loop
        self._backend: Backend = loop.backend
        self._template, self._notes = template, notes
        self._routes = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/completions"): self._completion,
            ("POST", "/v1/embeddings"): self._embeddings,
            ("POST", "/v1/rerank"): self._rerank,
            ("POST", "/tokenize"): self._tokenize,
            ("GET", "/v1/models"): self._models,
            ("GET", "/health"): self._health,
            ("GET", "/stats"): self._stats,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        headers = dict(scope["headers"])
        given = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        if not hmac.compare_digest(given, self._token):
            words = "This is a worker of a Wordmill model server; ask that server."
            await _json(send, 401, failure(words, kind="authentication_error"))
            return
        route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            await _json(send, 404, failure(f"There is nothing at {scope['path']}."))
            return
        try:
            await route(await _body(receive), receive, send)
        except TooLarge as error:
            await _json(send, 413, failure(str(error), kind="invalid_request_error"))
        except InvalidInput as error:
            await _json(send, 400, failure(str(error), error.field, "invalid_request_error"))
        except Full as error:
            busy = failure(str(error), kind="rate_limit_error")
            await _json(send, 429, busy, [(b"retry-after", b"1")])
        except Left:
            return
        except EngineDied as error:
            await _json(send, 500, failure(str(error)), [(ENDS, b"1")])
        except EngineFailed as error:
            await _json(send, 500, failure(str(error)))
        except MemoryError:
            await _json(send, 500, failure("There is not enough memory for this request."))
        except WordmillError as error:
            await _json(send, 503, failure(str(error)))

    # -- answers --------------------------------------------------------------------------

    async def _chat(self, raw: bytes, receive: Receive, send: Send) -> None:
        body = requests.read(requests.Chat, raw)
        self._must("chat")
        tools = body.tools if body.tool_choice != "none" else None
        if tools and not self._template.tools:
            raise InvalidInput(
                "This model's chat template knows no tools. Leave `tools` out, or run a model that "
                "was made for them.",
                "tools",
            )
        asked = requests.messages(body.messages)
        text = await _beside(len(raw), self._template.render, asked, tools)
        prompt = await self._tokens(text, "messages", special=self._template.plain)
        form = requests.forced(body)
        answer = Answer(
            self._name,
            self._backend.words,
            len(prompt),
            chat=True,
            logprobs=bool(body.logprobs),
            usage=bool((body.stream_options or {}).get("include_usage")),
            tools=[str(one.get("function", {}).get("name")) for one in tools or []],
            forced=form is not None,
        )
        sampling = requests.sampling(self._backend.facts, body, len(prompt), form)
        self._works(answer, body, prompt, sampling, keep=bool(tools))
        await self._answer(answer, body.stream, receive, send)

    async def _completion(self, raw: bytes, receive: Receive, send: Send) -> None:
        body = requests.read(requests.Completion, raw)
        self._must("chat")
        if isinstance(body.prompt, list) and body.prompt and isinstance(body.prompt[0], int):
            prompts = [[int(one) for one in body.prompt]]
        else:
            texts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
            prompts = [await self._tokens(str(text), "prompt", special=True) for text in texts]
        if not prompts or not all(prompts):
            raise InvalidInput("The prompt is empty.", "prompt")
        answer = Answer(
            self._name,
            self._backend.words,
            sum(map(len, prompts)),
            chat=False,
            logprobs=body.logprobs is not None,
            usage=bool((body.stream_options or {}).get("include_usage")),
        )
        for prompt in prompts:
            sampling = requests.sampling(self._backend.facts, body, len(prompt))
            self._works(answer, body, prompt, sampling)
        await self._answer(answer, body.stream, receive, send)

    async def _tokens(self, text: str, name: str, *, special: bool) -> list[int]:
        """Tokens of a prompt. name: of its field.

        Raises InvalidInput, before it is read, for one that fits no window.
        """
        context = self._backend.facts.context
        if len(text) > CHARACTERS * context:
            raise InvalidInput(
                f"The prompt has {len(text)} characters, and the model's context window is "
                f"{context} tokens. Shorten it.",
                name,
            )
        return await _beside(len(text), self._backend.words.encode, text, special=special)

    @staticmethod
    def _works(
        answer: Answer,
        body: requests.Ways,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        keep: bool = False,
    ) -> None:
        for way in requests.each(sampling, body.n or 1):
            answer.choice(Work(prompt, way, sink=_nobody, stops=body.stops, keep=keep))

    async def _answer(self, answer: Answer, stream: bool, receive: Receive, send: Send) -> None:
        self._loop.submit(answer.works)
        watching = asyncio.create_task(_watch(answer, receive))
        try:
            # What the engine refuses is known now, and can still be told as a status.
            await answer.begun()
            if not stream:
                whole = await answer.whole()
                if whole is not None:
                    await _json(send, 200, whole, self._noted())
                return
            headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
            await _start(send, 200, [*headers, *self._noted()])
            async for events in answer.events():
                await send({"type": "http.response.body", "body": events, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            watching.cancel()
            if works := answer.works:
                self._loop.cancel(works)

    def _noted(self) -> list[tuple[bytes, bytes]]:
        return [(NOTE, note.encode()) for note in self._notes]

    def _must(self, task: Any) -> None:
        if task not in self._backend.facts.tasks:
            raise not_for(self._backend.facts, task)

    # -- the other tasks ------------------------------------------------------------------

    async def _embeddings(self, raw: bytes, receive: Receive, send: Send) -> None:
        body = requests.read(requests.Embeddings, raw)
        self._must("embeddings")
        texts = body.texts
        if not texts or not all(texts):
            raise InvalidInput("A text to embed is empty.", "input")
        vectors, tokens = await _heard(self._loop.embed(texts), receive)
        if body.dimensions is not None and vectors and body.dimensions != len(vectors[0]):
            raise InvalidInput(
                f"This model's vectors have {len(vectors[0])} dimensions; it cannot shorten them.",
                "dimensions",
            )
        data = [
            {"object": "embedding", "index": number, "embedding": _vector(one, body)}
            for number, one in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        whole = {"object": "list", "model": self._name, "data": data, "usage": usage}
        await _json(send, 200, whole)

    async def _rerank(self, raw: bytes, receive: Receive, send: Send) -> None:
        body = requests.read(requests.Rerank, raw)
        self._must("rerank")
        scores, tokens = await _heard(self._loop.rank(body.query, body.documents), receive)
        order = sorted(range(len(scores)), key=lambda one: -scores[one])[: body.top_n]
        results = []
        for index in order:
            one: dict[str, Any] = {"index": index, "relevance_score": scores[index]}
            if body.return_documents:
                one["document"] = {"text": body.documents[index]}
            results.append(one)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        await _json(send, 200, {"model": self._name, "results": results, "usage": usage})

    async def _tokenize(self, raw: bytes, receive: Receive, send: Send) -> None:
        body = requests.read(requests.Tokenize, raw)
        if body.messages is not None:
            asked = requests.messages(body.messages)
            text = await _beside(len(raw), self._template.render, asked, body.tools)
            special = self._template.plain
        else:
            text, special = body.text or "", True
        tokens = await _beside(len(text), self._backend.words.encode, text, special=special)
        context = self._backend.facts.context
        await _json(send, 200, {"count": len(tokens), "context": context, "tokens": tokens})

    # -- what is told ---------------------------------------------------------------------

    async def _models(self, raw: bytes, receive: Receive, send: Send) -> None:
        one = {"id": self._name, "object": "model", "owned_by": "wordmill", **self.told()}
        await _json(send, 200, {"object": "list", "data": [one]})

    async def _health(self, raw: bytes, receive: Receive, send: Send) -> None:
        slots, running = self._backend.facts.slots, self._loop.running
        health = {
            "state": "ready",
            "slots": {"all": slots, "free": max(0, slots - running)},
            "queue": self._loop.waiting,
        }
        await _json(send, 200, health)

    async def _stats(self, raw: bytes, receive: Receive, send: Send) -> None:
        figures = self._loop.stats.figures()
        cache = self._loop.cache
        now = {"running": self._loop.running, "queue": self._loop.waiting, "cache": cache}
        now["still"] = self._loop.still
        await _json(send, 200, {**figures, **now})

    def told(self) -> dict[str, Any]:
        """What the model is and can."""
        facts = self._backend.facts
        return {
            "engine": facts.engine,
            "context": facts.context,
            "slots": facts.slots,
            "device": facts.device,
            "dtype": facts.dtype,
            "capabilities": {
                "tasks": sorted(facts.tasks),
                "modes": sorted(facts.modes),
                "system_role": self._template.system,
                "tools": self._template.tools,
                "notes": list(self._notes),
            },
        }


async def _beside(size: int, act: Callable[..., Result], *given: Any, **named: Any) -> Result:
    """Do something with so many characters: in a thread where that takes long enough for the other
    answers to stand meanwhile. Else here: an engine may keep the interpreter to itself for a whole
    step, and a thread would wait for its turn twice.
    """
    if size < SHORT:
        return act(*given, **named)
    return await asyncio.to_thread(act, *given, **named)


async def _watch(answer: Answer, receive: Receive) -> None:
    await _gone(receive)
    answer.leave()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _heard(future: "Future[tuple[list[Result], int]]", receive: Receive) -> Heard[Result]:
    """What is read, while somebody listens. Raises Left."""
    reading = asyncio.wrap_future(future)
    leaving = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            raise Left
        return reading.result()
    finally:
        leaving.cancel()
        reading.cancel()


def _nobody(_: object) -> None:
    """What comes before an answer is there to take it: nothing does."""


def _vector(values: list[float], body: requests.Embeddings) -> "str | list[float]":
    if body.encoding_format == "float":
        return values
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


async def _body(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        part = message.get("body", b"")
        size += len(part)
        if size > LARGEST:
            raise TooLarge(f"The body has more than {LARGEST >> 20} MiB.")
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def _start(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _json(
    send: Send, status: int, value: Any, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    body = orjson.dumps(value)
    length = str(len(body)).encode()
    kinds = [(b"content-type", b"application/json"), (b"content-length", length)]
    await _start(send, status, [*kinds, *headers])
    await send({"type": "http.response.body", "body": body})


def posting(running: asyncio.AbstractEventLoop) -> Callable[[Parcel], None]:
    """What brings a parcel of the engine's thread to the event loop."""
    return partial(_post, running)


def rounds(running: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """What the engine's thread calls between two steps: it returns when the event loop has gone
    round a few times.

    An engine may keep the interpreter to itself for a whole step. The loop gets it for one round
    then, and a request needs several from the connection to the engine: it would wait for a step at
    each of them.
    """
    done = threading.Event()

    def round_(left: int) -> None:
        if left:
            running.call_soon(round_, left - 1)
        else:
            done.set()

    def rest() -> None:
        done.clear()
        with suppress(RuntimeError):  # the loop has ended
            running.call_soon_threadsafe(round_, ROUNDS)
            done.wait(REST)

    return rest


def _post(running: asyncio.AbstractEventLoop, parcel: Parcel) -> None:
    running.call_soon_threadsafe(_deliver, parcel)


def _deliver(parcel: Parcel) -> None:
    for sink, told in parcel:
        sink(told)
