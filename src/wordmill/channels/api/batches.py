"""Files and batches: OpenAI's own form under /v1, and what goes beyond it under /api."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from wordmill.batches import Batch, File, Upload, Wish
from wordmill.channels.api.auth import Reads, Works, house_of
from wordmill.channels.api.multipart import Form
from wordmill.channels.api.shared import Json, Limit, Sent, shown
from wordmill.errors import InvalidInput
from wordmill.stores.base import Kind
from wordmill.stores.base import Query as Search

openai = APIRouter(prefix="/v1", tags=["OpenAI"])
router = APIRouter(prefix="/api", tags=["Batches"])

Most = Annotated[int, Query(ge=1, le=10_000)]
Metadata = dict[str, str]

WINDOWS: Mapping[str, float] = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Order(BaseModel):
    """A batch, as OpenAI's clients order it; unknown fields are passed over, as there."""

    model_config = ConfigDict(extra="ignore")

    input_file_id: str = Field(examples=["file-0123"])
    endpoint: str = Field(examples=["/v1/chat/completions"])
    completion_window: str = Field(default="24h", examples=["24h"])
    metadata: Metadata | None = None


class NewBatch(Sent):
    """A batch, with all that can be said of one."""

    file: str = Field(examples=["file-0123"])
    endpoint: str = "/v1/chat/completions"
    completion_window: str = "24h"
    dataset: str | None = None
    source: str | None = None
    priority: int = Field(default=4, ge=0, le=9)
    cache: bool = True
    budget: dict[Literal["requests", "tokens", "money"], float] = Field(default_factory=dict)
    metadata: Metadata = Field(default_factory=dict)
    url: str | None = Field(default=None, examples=["https://models.example.org/v1"])
    key: str | None = None
    check: dict[str, Any] | None = Field(
        default=None, alias="validate", examples=[{"choices": ["yes", "no"], "tries": 3}]
    )
    post: str | None = Field(default=None, examples=["house.answers:first_number"])


@openai.post("/files")
async def upload(caller: Works, request: Request) -> Json:
    """Send a file of requests (`purpose` batch), of any length."""
    files = house_of(request).files
    form = Form(lambda name: files.begin(caller.person.id, name))
    await form.read(request)
    if not isinstance(form.sink, Upload):
        raise InvalidInput("The form holds no file.", "file")
    purpose = form.fields.get("purpose", "")
    return _file(await run_in_threadpool(form.sink.commit, purpose))


@openai.get("/files")
def files(
    caller: Reads,
    request: Request,
    purpose: str | None = None,
    after: str | None = None,
    limit: Most = 10_000,
) -> Json:
    """One's files, the newest first."""
    store = house_of(request).files
    found = store.all(caller.person.id, purpose=purpose, after=after, limit=limit + 1)
    return _page([_file(one) for one in found], limit)


@openai.get("/files/{file}")
def file(file: str, caller: Reads, request: Request) -> Json:
    """One file."""
    return _file(house_of(request).files.get(caller.person.id, file))


@openai.get("/files/{file}/content")
def content(file: str, caller: Reads, request: Request) -> StreamingResponse:
    """What is in a file."""
    house = house_of(request)
    found = house.files.get(caller.person.id, file)
    return StreamingResponse(
        house.batches.content(found),
        media_type="application/jsonl",
        headers={"content-length": str(found.bytes)},
    )


@openai.delete("/files/{file}")
def remove_file(file: str, caller: Works, request: Request) -> Json:
    """Forget a file."""
    house_of(request).files.remove(caller.person.id, file)
    return {"id": file, "object": "file", "deleted": True}


@openai.post("/batches")
def order(
    sent: Order,
    caller: Works,
    request: Request,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> Json:
    """Order a batch. The same `Idempotency-Key` twice is one batch."""
    wish = Wish(
        file=sent.input_file_id,
        endpoint=sent.endpoint,
        window=_window(sent.completion_window),
        metadata=sent.metadata or {},
        once=idempotency_key,
    )
    return _openai(house_of(request).order_batch(caller.person, wish)[0])


@openai.get("/batches")
def all_batches(
    caller: Reads, request: Request, after: str | None = None, limit: Limit = 20
) -> Json:
    """One's batches, the newest first."""
    found = house_of(request).batches.all(caller.person.id, after=after, limit=limit + 1)
    return _page([_openai(one) for one in found], limit)


@openai.get("/batches/{batch}")
def one_batch(batch: str, caller: Reads, request: Request) -> Json:
    """How a batch stands."""
    return _openai(house_of(request).batches.get(caller.person.id, batch))


@openai.post("/batches/{batch}/cancel")
def stop_batch(batch: str, caller: Works, request: Request) -> Json:
    """Cancel a batch; what is answered stays."""
    return _openai(house_of(request).cancel_batch(caller.person, batch))


@router.post("/batches", status_code=202)
def begin(
    sent: NewBatch,
    caller: Works,
    request: Request,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> JSONResponse:
    """Order a batch: 202, or 200 when this idempotency key has ordered it before."""
    told = sent.model_dump()
    window, validate = _window(told.pop("completion_window")), told.pop("check")
    wish = Wish(**told, window=window, validate=validate, once=idempotency_key)
    found, new = house_of(request).order_batch(caller.person, wish)
    return JSONResponse(batch_shown(found), 202 if new else 200)


@router.get("/batches")
def listed(
    caller: Reads,
    request: Request,
    dataset: str | None = None,
    source: str | None = None,
    state: str | None = None,
    after: str | None = None,
    limit: Limit = 50,
) -> list[Json]:
    """One's batches, the newest first; by their labels and their state."""
    found = house_of(request).batches.all(
        caller.person.id, dataset=dataset, source=source, state=state, after=after, limit=limit
    )
    return [batch_shown(one) for one in found]


@router.get("/batches/{batch}")
def stands(batch: str, caller: Reads, request: Request) -> Json:
    """How a batch stands, with all that was counted."""
    return batch_shown(house_of(request).batches.get(caller.person.id, batch))


@router.get("/batches/{batch}/results")
def results(
    batch: str,
    caller: Reads,
    request: Request,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    failed: bool | None = None,
) -> Json:
    """Results that are there, also while it runs, in the order of the lines.

    after: the number of the last line seen.  failed: only those, or only the others.
    """
    batches = house_of(request).batches
    found = batches.results(caller.person.id, batch, after=after, limit=limit, failed=failed)
    last = found[-1]["wordmill"]["line"] if found else after
    return {"items": found, "next": last if len(found) == limit else None}


@router.get("/batches/{batch}/statistics")
def statistics(
    batch: str,
    caller: Reads,
    request: Request,
    points: Annotated[int, Query(ge=1, le=500)] = 60,
) -> Json:
    """What was counted of a batch: all together, and over time."""
    results = house_of(request).results
    return {
        "totals": asdict(results.statistics(caller.person.id, batch)),
        "series": [asdict(one) for one in results.series(caller.person.id, batch, points)],
    }


@router.get("/batches/{batch}/events", response_model=None)
async def events(
    batch: str,
    caller: Reads,
    request: Request,
    form: Literal["live", "list"] = "live",
    kind: Annotated[list[Kind] | None, Query()] = None,
    after: Annotated[str, Query(pattern="^([0-9]{1,15}-[0-9]{1,15})?$")] = "",
    limit: Limit = 100,
) -> StreamingResponse | Json:
    """How a batch stands, as server-sent events: one when it changes, the last at its end.

    form: `list` gives what has happened until now instead, by pages: states that it entered,
    requests that were sent again with the causes, figures once a second, blocks that were given up,
    words of the log.  kind: only such ones.  after: `next` of the page before.
    """
    house = house_of(request)
    if form == "list":
        found = await run_in_threadpool(
            house.results.events, caller.person.id, batch, after=after, limit=limit,
            kinds=kind or (),
        )  # fmt: skip
        return {
            "items": [asdict(one) for one in found],
            "next": found[-1].cursor if len(found) == limit else None,
        }
    batches = house.batches
    first = await run_in_threadpool(batches.get, caller.person.id, batch)

    async def told() -> AsyncIterator[str]:
        found, before = first, None
        while True:
            if found != before:
                yield f"data: {json.dumps(batch_shown(found))}\n\n"
            else:
                yield ": still here\n\n"
            if found.ended:
                return
            before = found
            await asyncio.sleep(0.5)
            found = await run_in_threadpool(batches.get, caller.person.id, batch)

    return StreamingResponse(
        told(), media_type="text/event-stream", headers={"cache-control": "no-store"}
    )


@router.get("/batches/{batch}/export")
def export_batch(
    batch: str, caller: Reads, request: Request, form: Literal["jsonl", "parquet"] = "jsonl"
) -> StreamingResponse:
    """All results that are there, each with its request."""
    exported = house_of(request).results.export(caller.person.id, batch, form)
    return StreamingResponse(
        exported,
        media_type="application/octet-stream",
        headers={"content-disposition": f'attachment; filename="{batch}.{form}"'},
    )


@router.get("/results")
def find(
    caller: Reads,
    request: Request,
    text: Annotated[str, Query(max_length=1000)] = "",
    batch: str | None = None,
    dataset: str | None = None,
    source: str | None = None,
    status: str | None = None,
    failed: bool | None = None,
    model: str | None = None,
    custom_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: Annotated[str | None, Query(pattern="^batch_[0-9a-f]{24}:[0-9]{1,12}$")] = None,
    limit: Limit = 50,
) -> Json:
    """Results by the words of their requests and answers, by state, label, model and time.

    after: `next` of the page before.
    """
    query = Search(
        text, status, failed, model, custom_id,
        None if since is None else since.timestamp(), None if until is None else until.timestamp(),
    )  # fmt: skip
    seen = None if after is None else (after.partition(":")[0], int(after.partition(":")[2]))
    hits = house_of(request).results.search(
        caller.person.id,
        query,
        batch=batch,
        dataset=dataset,
        source=source,
        after=seen,
        limit=limit,
    )
    last = f"{hits[-1].batch}:{hits[-1].line}" if len(hits) == limit else None
    return {"items": [asdict(hit) for hit in hits], "next": last}


@router.post("/batches/{batch}/cancel", status_code=202)
def cancel_batch(batch: str, caller: Works, request: Request) -> Json:
    """Cancel a batch; what is answered stays."""
    return batch_shown(house_of(request).cancel_batch(caller.person, batch))


@router.post("/batches/{batch}/resume", status_code=202)
def resume_batch(batch: str, caller: Works, request: Request) -> Json:
    """Let a batch go on that a fault stopped."""
    return batch_shown(house_of(request).resume_batch(caller.person, batch))


@router.post("/batches/{batch}/retry", status_code=202)
def again(batch: str, caller: Works, request: Request) -> Json:
    """A new batch out of the requests that failed."""
    return batch_shown(house_of(request).retry_batch(caller.person, batch))


@router.delete("/batches/{batch}", status_code=204)
def remove_batch(batch: str, caller: Works, request: Request) -> None:
    """Forget a batch that has ended, with its results."""
    house_of(request).batches.remove(caller.person.id, batch)


def _window(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or len(number) > 9 or unit not in WINDOWS:
        raise InvalidInput(
            "completion_window is a time as `24h`, `30m` or `7d`.", "completion_window"
        )
    return int(number) * WINDOWS[unit]


def _page(found: list[Json], limit: int) -> Json:
    shown = found[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(found) > limit,
    }


def _file(file: File) -> Json:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created.timestamp()),
        "expires_at": None,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


TIMES = {
    "in_progress_at": "in_progress", "finalizing_at": "finalizing", "completed_at": "completed",
    "failed_at": "failed", "expired_at": "expired", "cancelling_at": "cancelling",
    "cancelled_at": "cancelled",
}  # fmt: skip


def _openai(batch: Batch) -> Json:
    times = {
        name: int(batch.times[state]) if state in batch.times else None
        for name, state in TIMES.items()
    }
    counts = batch.counts
    errors: Any = None
    if batch.errors:
        errors = {"object": "list", "data": [dict(one) for one in batch.errors]}
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": None,
        "errors": errors,
        "input_file_id": batch.file,
        "completion_window": f"{batch.options['window'] / 3600:g}h",
        "status": batch.state,
        "output_file_id": batch.output,
        "error_file_id": batch.failures,
        "created_at": int(batch.created.timestamp()),
        **times,
        "expires_at": int(batch.expires.timestamp()),
        "request_counts": {
            "total": counts.total, "completed": counts.completed, "failed": counts.failed,
        },
        "usage": {
            "input_tokens": counts.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": counts.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": counts.input_tokens + counts.output_tokens,
        },
        "metadata": dict(batch.options["metadata"]) or None,
    }  # fmt: skip


def batch_shown(batch: Batch) -> Json:
    """A batch as JSON."""
    made = shown(batch)
    del made["owner"], made["index"]
    return made
