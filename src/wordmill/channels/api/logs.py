"""One record in the log for each request, and an id by which it is found: never a text or a key."""

import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wordmill import telemetry

HEADER = b"x-request-id"
_FINE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Logs:
    """Plain ASGI, so that streams pass through as they come."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass through, with an id on the answer and on all that is logged meanwhile."""
        if scope["type"] != "http" or not scope["path"].startswith(("/v1", "/api")):
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        given = headers.get(HEADER.decode(), "")
        name = given if _FINE.fullmatch(given) else uuid.uuid4().hex
        token = telemetry.request_id.set(name)
        method, start, status = scope["method"], time.monotonic(), [0]

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                message["headers"] = [*message["headers"], (HEADER, name.encode())]
            await send(message)

        try:
            with telemetry.serving(method, scope["path"], headers) as span:
                await self._app(scope, receive, marked)
                if span is not None:
                    # Only now is it known which operation it was.
                    route = getattr(scope.get("route"), "path", "")
                    span.update_name(f"{method} {route}".strip())
                    span.set_attribute("http.route", route)
                    span.set_attribute("http.response.status_code", status[0])
        finally:
            telemetry.ended(
                telemetry.REQUEST,
                time.monotonic() - start,
                method=method,
                path=scope["path"],
                status=status[0],
            )
            telemetry.request_id.reset(token)
