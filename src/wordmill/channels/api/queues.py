"""Where blocks of batches wait, who answers them, and those that were given up."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from wordmill.channels.api.auth import Admins, Reads, Works, house_of
from wordmill.channels.api.batches import batch_shown
from wordmill.channels.api.shared import Json, Sent, shown

router = APIRouter(prefix="/api", tags=["Batches"])


class Replay(Sent):
    """Which blocks are tried again; all that were given up without it."""

    blocks: Annotated[list[int], Field(max_length=10_000)] | None = None


@router.get("/batches/{batch}/dead")
def dead(batch: str, caller: Reads, request: Request) -> list[Json]:
    """Blocks of a batch that were given up, with the reasons; `first`: the number of a line."""
    return [shown(one) for one in house_of(request).queues.dead(caller.person.id, batch)]


@router.post("/batches/{batch}/replay", status_code=202)
def replay(batch: str, caller: Works, request: Request, which: Replay | None = None) -> Json:
    """Let blocks be tried again that were given up."""
    return batch_shown(
        house_of(request).replay_batch(caller.person, batch, which.blocks if which else None)
    )


@router.get("/queues")
def queues(caller: Admins, request: Request) -> Json:
    """Queues with what waits in them, and the processes that answer. For admins.

    A number is null where the broker does not say it; `trouble` says why.
    """
    standing = house_of(request).queues.standing()
    return {
        "queues": [shown(one) for one in standing.queues],
        "workers": [shown(one) for one in standing.workers],
        "trouble": standing.trouble or None,
    }
