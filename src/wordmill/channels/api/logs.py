"""One line in the log for each request, and an id by which it is found: never a text or a key."""

import logging
import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"
_FINE = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger("wordmill.requests")


class Logs:
    """Plain ASGI, so that streams pass through as they come."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass through, with an id on the answer."""
        if scope["type"] != "http" or not scope["path"].startswith(("/v1", "/api")):
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(HEADER, b"").decode("latin-1")
        name = given if _FINE.fullmatch(given) else uuid.uuid4().hex
        start, status = time.monotonic(), [0]

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                message["headers"] = [*message["headers"], (HEADER, name.encode())]
            await send(message)

        try:
            await self._app(scope, receive, marked)
        finally:
            log.info(
                "%s %s %d %.3f s",
                scope["method"],
                scope["path"],
                status[0],
                time.monotonic() - start,
                extra={"request": name},
            )
