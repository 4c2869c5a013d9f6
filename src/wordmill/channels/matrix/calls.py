"""What a homeserver refuses, in our errors; what the library cannot ask, asked through it."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from nio import AsyncClient, ErrorResponse, LocalProtocolError, Response, SendRetryError
from nio.exceptions import OlmUnverifiedDeviceError

from wordmill.errors import ChannelClosed, ChannelError, ChannelLimited, ChannelRefused

_CLOSED: Final = {"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_DEACTIVATED", "M_USER_LOCKED"}
_LATER: Final = {"M_UNKNOWN", "M_LIMIT_EXCEEDED", "M_RESOURCE_LIMIT_EXCEEDED", "M_UNRECOGNIZED"}
_PAUSE: Final = 5.0
_ANEW: Final = (
    "Give the channel a new password or token: `wordmill channels add matrix NAME --replace "
    "--secret password`."
)
LOST: Final = (aiohttp.ClientError, TimeoutError, ConnectionError, OSError)
"""What the library raises when a homeserver does not answer."""
FAULTS: Final = (LocalProtocolError, SendRetryError, OlmUnverifiedDeviceError)


def error_of(response: ErrorResponse, status: int | None = None) -> ChannelError:
    """A refusal of the homeserver as an error of ours. status: of HTTP, where it is not in it."""
    if status is None and response.transport_response is not None:
        status = response.transport_response.status
    code, words = response.status_code or "", response.message or "unknown error"
    sentence = f"The homeserver says {code or 'no'}: {words}."
    if code == "M_LIMIT_EXCEEDED":
        return ChannelLimited(sentence, (response.retry_after_ms or _PAUSE * 1000) / 1000)
    if code in _CLOSED or response.soft_logout:
        return ChannelClosed(f"{sentence} {_ANEW}")
    if code == "M_UNKNOWN" and status is not None and 400 <= status < 500:
        return ChannelRefused(sentence)  # what it has no code for, and will not take later either
    if code.startswith("M_") and code not in _LATER:
        return ChannelRefused(sentence)
    return ChannelError(sentence)


def checked(response: object) -> Any:
    """The response, unless it is a refusal. Raises ChannelError."""
    if isinstance(response, ErrorResponse):
        raise error_of(response)
    if not isinstance(response, Response):
        raise ChannelError(f"The homeserver answered nothing that is known: {response!r:.80}.")
    return response


class asking:  # reads as a word where it is used
    """Turns what the library raises into our errors."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LOST):
            words = str(error) or type(error).__name__
            raise ChannelError(f"The homeserver does not answer: {words}.") from error
        if isinstance(error, FAULTS):
            raise ChannelRefused(f"The message cannot be sent: {error}.") from error


async def ask(
    client: AsyncClient, method: str, path: str, body: Mapping[str, Any] | None = None
) -> tuple[int, dict[str, Any]]:
    """A request that the library has no method for; the status and the JSON.

    path: after the homeserver's address, as `/_matrix/client/v3/...`.
    Raises ChannelError when no answer comes.
    """
    headers = {"Authorization": f"Bearer {client.access_token}"}
    data = None if body is None else json.dumps(body)
    if data is not None:
        headers["Content-Type"] = "application/json"
    if client.client_session is None:
        raise ChannelError("The homeserver was not asked anything yet.")
    with asking():
        async with asyncio.timeout(60):
            response = await client.send(method, path, data, headers)
            try:
                found = json.loads(await response.read() or b"{}")
            except ValueError as error:
                raise ChannelError(
                    f"The homeserver answered {response.status} without JSON."
                ) from error
    return response.status, found if isinstance(found, dict) else {}


def refused(status: int, found: Mapping[str, Any]) -> ChannelError:
    """A refusal that `ask` gave."""
    return error_of(
        ErrorResponse(
            str(found.get("error", f"status {status}")), found.get("errcode"),
            found.get("retry_after_ms"), bool(found.get("soft_logout")),
        ),
        status,
    )  # fmt: skip


def part(text: str) -> str:
    """A text as a part of a path."""
    return quote(text, safe="")
