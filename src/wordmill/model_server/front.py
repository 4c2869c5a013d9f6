"""OpenAI's API over HTTP: a request stands in the queue of its model and goes to a worker.

What a worker answers is handed on byte by byte, not read and written anew. Whoever waits for a
stream is told the place in the queue in comments of the event stream (`: wordmill {"place": 3,
"seconds": 20.0, "state": "ready"}`), which clients leave out; `GET /v1/waiting` says the same by
names: a request says in `user` whose it is and how it is called, as `PERSON/NAME`. Whoever goes
away gives the slot free at once.

An ASGI application without a framework, since there are few routes and much goes through them.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import orjson

from wordmill.model_server import relay
from wordmill.model_server.admin import Admin
from wordmill.model_server.fairness import QueueFull
from wordmill.model_server.metrics import Figures
from wordmill.model_server.pool import Pool
from wordmill.model_server.process import KNOW, Process
from wordmill.model_server.relay import WorkerLost
from wordmill.model_server.served import Refused, Served, Ticket, ending
from wordmill.model_server.types import ANSWERS, PERSON

Scope: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
Send: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None]]

HANDED: Final = (
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank", "/tokenize",
)  # fmt: skip
"""What goes to a worker."""
LARGEST: Final = 64 << 20
"""Bytes of a request."""
TELL: Final = 1.0
"""Seconds after which somebody who waits is told the place, and between two such words."""
NAME: Final = 200
"""Characters of a person or of a request's name."""
FULL: Final = 5
"""Seconds after which somebody may come again who found the queue full."""
NOTE: Final = b"x-wordmill-note"
"""The header in which a worker says what it did otherwise than asked."""

_JSON: Final = [(b"content-type", b"application/json")]
_EVENTS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]


class Gone(Exception):
    """Whoever asked has closed the connection."""


class Front:
    """The application. token: what a client must send as a bearer token."""

    def __init__(self, pool: Pool, token: str) -> None:
        self._pool, self._token = pool, token.encode()
        self._admin = Admin(pool)
        self._waiting: dict[str, tuple[Served, Ticket]] = {}
        self.holders = 0
        """How many need this server, and say so by an open connection."""
        self.left: float | None = None
        """When the last of them went away (monotonic)."""
        self.ended = asyncio.Event()
        """Set where the server ends: holders are let go."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's way in."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        if path == "/health" and method == "GET":
            await _reply(send, 200, {"state": "ready"})
            return
        headers = dict(scope["headers"])
        if not self._may(headers):
            words = "The key is missing or wrong: send the model server's as a bearer token."
            await _reply(send, 401, _error(words, "invalid_api_key"))
            return
        try:
            if method == "POST" and path in HANDED:
                await self._handed(scope, headers, receive, send)
            elif method == "GET" and path == "/admin/hold":
                await self._hold(receive, send)
            elif method == "GET" and path == "/v1/models":
                await _reply(send, 200, await self._models())
            elif method == "GET" and path == "/v1/waiting":
                await _reply(send, 200, self._places())
            elif path == "/metrics" or path.startswith("/admin/"):
                body = await _body(receive) if method == "POST" else b""
                status, content, kind = await self._admin.answer(
                    method, path, scope["query_string"], body
                )
                await _write(send, status, content, [(b"content-type", kind)])
            else:
                words = f"There is no {method} {path} here."
                await _reply(send, 404, _error(words, "not_found"))
        except Refused as why:
            await _refuse(send, why)
        except Gone:
            return

    def _may(self, headers: Mapping[bytes, bytes]) -> bool:
        scheme, _, told = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(told.strip(), self._token)

    async def _models(self) -> Mapping[str, Any]:
        names = await asyncio.to_thread(self._pool.library.names)
        return {"object": "list", "data": [self._model(name) for name in names]}

    def _model(self, name: str) -> Mapping[str, Any]:
        """One model; with what it can do, as its worker says it, while it is loaded."""
        one = {"id": name, "object": "model", "owned_by": "local"}
        served = self._pool.models.get(name)
        can = served.worker.told.get("capabilities") if served and served.worker else None
        return {**one, "capabilities": can} if can else one

    def _places(self) -> Mapping[str, Any]:
        """Where those stand who wait and have a name."""
        found: dict[str, Any] = {}
        for name, (served, ticket) in self._waiting.items():
            place = served.place(ticket)
            if place is not None:
                found[name] = place._asdict()
        return {"waiting": found}

    async def _hold(self, receive: Receive, send: Send) -> None:
        """Somebody needs this server for as long as the connection is open."""
        self.holders += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _JSON})
            await send({"type": "http.response.body", "body": b"{}\n", "more_body": True})
            gone = asyncio.create_task(_gone(receive))
            ended = asyncio.create_task(self.ended.wait())
            await asyncio.wait((gone, ended), return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            ended.cancel()
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.holders -= 1
            self.left = time.monotonic()

    async def _handed(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        """Read a request, and hand it to a worker while somebody listens for its answer."""
        asked = _asked(scope["path"], await _body(receive), headers.get(PERSON, b""))
        work = asyncio.create_task(self._work(asked, send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait((work,))
                return
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
        await work  # for what it raised

    async def _work(self, asked: "_Asked", send: Send) -> None:
        if self._pool.closing:
            raise ending()
        served = await self._pool.model(asked.model)
        figures = self._pool.metrics.of(served.name, asked.person)
        try:
            ticket = served.enter(asked.person, asked.name, asked.answers)
        except QueueFull as full:
            raise _full(full, served.name) from full
        if asked.name:
            self._waiting[asked.name] = (served, ticket)
        handing = _Handing(served, ticket, asked, figures, send)
        figures.requests += 1
        try:
            await handing.run()
        except asyncio.CancelledError:
            figures.cancelled += 1
            raise
        except Refused as why:
            figures.failed += 1
            if not handing.begun:
                raise
            await handing.fail(why.message, why.status)
        finally:
            served.leave(ticket)
            self._waiting.pop(asked.name, None)


@dataclass(frozen=True)
class _Asked:
    """A request, read. answers: how many it asks for.  body: as the worker gets it."""

    path: str
    model: str
    person: str
    name: str
    streamed: bool
    answers: int
    body: bytes


@dataclass
class _Handing:
    """One request on its way. begun: whether the answer's head is sent."""

    served: Served
    ticket: Ticket
    asked: _Asked
    figures: Figures
    send: Send
    begun: bool = False
    held: list[bytes] = field(default_factory=list)
    """What came and says nothing yet: it may still come again from another worker."""
    first: float = 0.0
    last: float = 0.0
    pieces: int = 0
    notes: list[tuple[bytes, bytes]] = field(default_factory=list)
    """What the worker says beside its answer."""

    async def run(self) -> None:
        """Wait for a slot, and hand on what comes. Raises Refused."""
        while True:
            worker = await self._slot()
            if self.ticket.tries == 1:
                self.figures.waited.add(time.monotonic() - self.ticket.arrived)
            try:
                await self._through(worker)
            except WorkerLost as lost:
                worker.ending = worker.ending or lost.ends
                await self._lost(worker)
                continue
            self.served.answered(time.monotonic() - self.ticket.taken)
            return

    async def fail(self, words: str, status: int) -> None:
        """Say in the stream that it broke off, and end it."""
        kind = _KINDS.get(status, "server_error")
        error = {"error": {"message": words, "type": kind, "code": status}}
        await self._piece(b"data: " + orjson.dumps(error) + b"\n\n", more=False)

    async def _slot(self) -> Process:
        """Wait until it is granted a worker; told the place meanwhile, where it is a stream."""
        granted = self.ticket.granted
        every = TELL if self.asked.streamed else None
        while not granted.done():
            # Not awaited itself: whoever goes away would cancel what may be granted just now.
            await asyncio.wait((granted,), timeout=every)
            place = None if granted.done() else self.served.place(self.ticket)
            if place is not None:
                await self._begin()
                told = orjson.dumps(place._asdict())
                await self._piece(b": wordmill " + told + b"\n\n")
        return granted.result()

    async def _through(self, worker: Process) -> None:
        """Send it to a worker, and what comes to whoever asked. Raises WorkerLost, Refused."""
        asked = self.asked
        answer = await relay.ask(worker.port, worker.token, "POST", asked.path, asked.body)
        self.notes = [(NOTE, answer.headers[NOTE])] if NOTE in answer.headers else []
        if self.begun:  # the head is gone: whoever waited hears it in the stream
            for name, note in self.notes:
                await self._piece(b": " + name + b": " + note + b"\n\n")
        try:
            if not asked.streamed or answer.status != 200:
                body = await answer.whole()
                await self._whole(answer, body)
                return
            tail = b""
            async for piece in answer.pieces():
                tail = (tail + piece)[-TAIL:]
                if not self.pieces and _silent(piece):
                    self.held.append(piece)
                    continue
                self._count(piece)
                if self.held:
                    piece = b"".join((*self.held, piece))
                    self.held.clear()
                await self._begin()
                await self._piece(piece)
            await self._begin()
            await self._piece(b"".join(self.held), more=False)
            self._used(_usage(tail))
        finally:
            answer.close()

    async def _whole(self, answer: relay.Answer, body: bytes) -> None:
        """An answer in one piece, or a refusal."""
        if answer.status != 200:
            self.figures.failed += 1
            if self.begun:
                await self.fail(_words(body), answer.status)
                return
        else:
            self.figures.first.add(time.monotonic() - self.ticket.arrived)
            self._used(_usage(body[-TAIL:]))
        kind = answer.headers.get(b"content-type", b"application/json")
        await _write(self.send, answer.status, body, [(b"content-type", kind), *self.notes])

    async def _lost(self, worker: Process) -> None:
        """A worker broke off: wait for the next one, or say so. Raises Refused."""
        try:
            async with asyncio.timeout(KNOW):
                await worker.wait()
            why = worker.why()
        except TimeoutError:
            why = "the connection to it broke"
        self.held.clear()
        if self.served.closed:
            raise ending()
        if not self.pieces and self.served.once_more(self.ticket):
            return
        raise Refused(
            f"The process of the model {self.served.name!r} ended in mid-answer: {why}. It is "
            "started again; ask once more.",
            503,
            5.0,
        )

    async def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            headers = [*_EVENTS, *self.notes]
            start = {"type": "http.response.start", "status": 200, "headers": headers}
            await self.send(start)

    async def _piece(self, piece: bytes, more: bool = True) -> None:
        await self.send({"type": "http.response.body", "body": piece, "more_body": more})

    def _count(self, piece: bytes) -> None:
        now = time.monotonic()
        if not self.pieces:
            self.first = now
            self.figures.first.add(now - self.ticket.arrived)
        self.last = now
        self.pieces += piece.count(b"data: ")

    def _used(self, usage: Mapping[str, Any] | None) -> None:
        """Add what was used: as the worker counted, else as pieces came."""
        read, said = 0, self.pieces
        if usage is not None:
            read = _whole_number(usage, "prompt_tokens", "total_tokens")
            said = _whole_number(usage, "completion_tokens")
        self.figures.tokens_in += read
        self.figures.tokens_out += said
        if said > 1 and self.last > self.first:
            self.figures.between.add((self.last - self.first) / (said - 1), said - 1)


TAIL: Final = 2048
"""Bytes at the end of an answer, in which what it used is looked for."""


def _silent(piece: bytes) -> bool:
    """Whether the piece is only a head, as the one that says the role: nobody would miss it."""
    return b'"content":""' in piece.replace(b'": "', b'":"') and piece.count(b"data: ") == 1


def _usage(tail: bytes) -> Mapping[str, Any] | None:
    """The last `usage` object of an answer."""
    at = tail.rfind(b'"usage"')
    opened = tail.find(b"{", at)
    if at < 0 or opened < 0 or tail[at + 7 : opened].strip(b": \t") != b"":
        return None
    depth = 0
    for index in range(opened, len(tail)):
        depth += (tail[index] == 0x7B) - (tail[index] == 0x7D)
        if depth == 0:
            try:
                found = orjson.loads(tail[opened : index + 1])
            except orjson.JSONDecodeError:
                return None
            return found if isinstance(found, dict) else None
    return None


def _whole_number(usage: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int):
            return value
    return 0


def _asked(path: str, body: bytes, person: bytes) -> _Asked:
    """A request, read. Raises Refused."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(f"The body is not JSON: {error}.", 400, None) from error
    if not isinstance(told, dict) or not isinstance(told.get("model"), str):
        raise Refused("The body must be an object with the name of a model.", 400, None)
    user = told.pop("user", None)
    whose, _, name = (user if isinstance(user, str) else "").partition("/")
    return _Asked(
        path,
        told["model"],
        (person.decode("latin-1") or whose)[:NAME],
        name[:NAME],
        told.get("stream") is True,
        _answers(told),
        orjson.dumps(told),
    )


def _answers(told: Mapping[str, Any]) -> int:
    """How many answers a request asks for; what is no number is the worker's to refuse."""
    each, prompts = told.get("n"), told.get("prompt")
    count = each if isinstance(each, int) and 1 <= each <= ANSWERS else 1
    several = isinstance(prompts, list) and any(isinstance(one, str) for one in prompts)
    return count * len(prompts) if several and isinstance(prompts, list) else count


def _words(body: bytes) -> str:
    """The message of an error."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body[:500].decode("utf-8", "replace")
    error = told.get("error", told) if isinstance(told, dict) else told
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])
    return str(error)[:500]


def _full(full: QueueFull, model: str) -> Refused:
    if full.whose == "person":
        words = (
            f"{full.waiting:,} of your requests wait for the model {model!r} already, the most "
            "that one person may have there (setting local_person_queue)."
        )
    else:
        words = (
            f"{full.waiting:,} requests wait for the model {model!r} already, the most that are "
            "taken (setting local_queue)."
        )
    return Refused(words, 429, FULL)


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST:
            raise Refused(f"The request has more than {LARGEST:,} bytes.", 413, None)
        if not message.get("more_body"):
            return b"".join(parts)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _error(message: str, kind: str) -> Mapping[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": kind}}


_KINDS: Final = {
    400: "invalid_request_error", 404: "model_not_found", 413: "too_large",
    429: "rate_limit_exceeded", 507: "insufficient_memory",
}  # fmt: skip


async def _refuse(send: Send, why: Refused) -> None:
    headers = list(_JSON)
    if why.again is not None:
        headers.append((b"retry-after", str(max(1, round(why.again))).encode()))
    body = orjson.dumps(_error(why.message, _KINDS.get(why.status, "server_error")))
    await _write(send, why.status, body, headers)


async def _reply(send: Send, status: int, value: Mapping[str, Any]) -> None:
    await _write(send, status, orjson.dumps(value), _JSON)


async def _write(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers + length})
    await send({"type": "http.response.body", "body": body})
