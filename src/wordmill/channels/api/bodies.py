"""Bodies of requests: read with a bound, and JSON of our one profile."""

import orjson
from fastapi import Request
from starlette.exceptions import HTTPException

from wordmill.errors import InvalidInput
from wordmill.types import Value

MOST = 32 * 1024 * 1024
"""Bytes of a body of JSON: a few pictures and a long conversation."""


async def read(request: Request, most: int = MOST) -> bytes:
    """The body. Raises HTTPException 413 as soon as it is too long."""
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > most:
        raise too_long(most)
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > most:
            raise too_long(most)
    return bytes(data)


async def json_object(request: Request) -> dict[str, Value]:
    """A JSON object: no NaN, no half surrogate pairs, UTF-8. Raises InvalidInput."""
    data = await read(request)
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"The body is no JSON that is accepted: {error}.") from error
    if not isinstance(found, dict):
        raise InvalidInput("The body must be a JSON object.")
    return found


def too_long(most: int) -> HTTPException:
    """For a body of more than so many bytes."""
    return HTTPException(413, f"The body is longer than {most:,} bytes.")
