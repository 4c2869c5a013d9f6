"""How much anybody may send: a body that is too long is refused before it is held."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wordmill.channels.api.bodies import MOST, too_long
from wordmill.settings import Settings

ROOM = 1024 * 1024
"""Bytes of a form beside its file."""


class Bounds:
    """Plain ASGI. A file of requests has bounds of its own, where it is read."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._most: Mapping[str, int | None] = {
            "/api/attachments": settings.attachment_bytes + ROOM,
            "/api/import": settings.import_bytes,
            "/v1/files": None,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass through, and count."""
        most = None
        if scope["type"] == "http" and scope["path"].startswith(("/v1", "/api")):
            most = self._most.get(scope["path"], MOST)
        if most is None:
            await self._app(scope, receive, send)
            return
        bound, came = most, 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > bound:
                raise too_long(bound)
            return message

        await self._app(scope, counted, send)
