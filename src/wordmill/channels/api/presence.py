"""Whether whoever asked is still there: when they go, what is done for them ends."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.exceptions import HTTPException

Result = TypeVar("Result")

GONE = 499
"""The status of an answer that nobody gets."""


async def present(
    request: Request, work: Coroutine[Any, Any, Result], end: Callable[[], object] | None = None
) -> Result:
    """What `work` gives. Its request's body has been read.

    When the client goes it is cancelled, or asked to `end` where a thread does it and cannot be.
    Raises HTTPException 499 then.
    """
    task, gone = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HTTPException(GONE, "The client has gone.")
        return task.result()
    finally:
        gone.cancel()
        if end is None:
            task.cancel()
        elif not task.done():
            end()
        # Nothing is left behind: what was cancelled has put its things away.
        await asyncio.wait((task, gone))


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
