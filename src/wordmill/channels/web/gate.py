"""The door before the workbench: nobody comes in without a session.

Plain ASGI, because a middleware of the framework does not see websockets. The API is behind its own
lock (bearer keys); here the pages, their websocket and their uploads are guarded. A websocket is
looked at only when it opens, so each page checks the session again on every run. What goes out has
the headers that keep a browser from doing what nobody asked for.
"""

from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE: Final = "wordmill"
"""The session's cookie: HttpOnly, SameSite=Lax."""

OPEN: Final = (
    "/v1/", "/api/", "/health/", "/metrics", "/login", "/logout", "/first", "/sign-up", "/password",
    "/shared/", "/openapi.json", "/docs",
)  # fmt: skip
"""Paths with a lock of their own, or that show nothing of anybody's."""

ASSETS: Final = ("/static/", "/_stcore/health", "/favicon", "/manifest.json")

_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), payment=(), microphone=(self)"),
)
_POLICY: Final = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; "
    b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    b"font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; object-src 'none'; "
    b"base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""No unsafe-eval; no picture, frame or request that leaves this server, so that what a model says
cannot carry anything away."""


class Gate:
    """The ASGI application `app`, for those whose session `admits`.

    admits: whether a session's token is good now; may block, so it is called in a thread.
    hosts: names under which this server may be called; () for any.
    """

    def __init__(self, app: ASGIApp, admits: Callable[[str], bool], hosts: tuple[str, ...]) -> None:
        self._app, self._admits, self._hosts = app, admits, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through, send to the sign-in page, or close the websocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if not self._host_is_ours(scope):
            await self._refuse(scope, receive, send, PlainTextResponse("No such host.", 421))
            return
        path: str = scope["path"]
        if not path.startswith((*OPEN, *ASSETS)) and not await self._in(scope):
            back = "" if path == "/" else f"?next={quote(path)}"
            await self._refuse(scope, receive, send, RedirectResponse(f"/login{back}", 303))
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                headers = [*message["headers"], *(pair for pair in _HEADERS if pair[0] not in own)]
                if b"content-security-policy" not in own:
                    headers.append((b"content-security-policy", _POLICY))
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, dressed)

    async def _in(self, scope: Scope) -> bool:
        token = token_of(scope)
        return bool(token) and await run_in_threadpool(self._admits, token)

    def _host_is_ours(self, scope: Scope) -> bool:
        if not self._hosts:
            return True
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode(
            "latin-1"
        )
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        return name.strip("[]").lower() in self._hosts

    async def _refuse(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        response: RedirectResponse | PlainTextResponse,
    ) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 4401})
        else:
            await response(scope, receive, send)


def token_of(scope: Scope) -> str:
    """The session's token of a request, or ""."""
    for name, value in scope["headers"]:
        if name == b"cookie":
            try:
                found = SimpleCookie(value.decode("latin-1")).get(COOKIE)
            except CookieError:
                continue
            if found is not None:
                return found.value
    return ""
