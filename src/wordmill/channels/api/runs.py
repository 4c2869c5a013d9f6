"""Runs over HTTP: begun, watched, cancelled, taken up again, read and taken away."""

import asyncio
import json
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from wordmill.channels.api.auth import Caller, Reads, Works, house_of
from wordmill.channels.api.recipes import NewRun
from wordmill.channels.api.shared import UNSTORED, Json, plain
from wordmill.jobs import ENDED, Job
from wordmill.runs.registry import Run

router = APIRouter(prefix="/api", tags=["Runs"])

Form: TypeAlias = Literal["jsonl", "csv", "parquet", "sft", "dpo"]
_ENDINGS: Final = {"sft": "jsonl", "dpo": "jsonl"}
"""Of files, where it is not the form's own name."""

LOOK: Final = 0.5
"""Seconds between looks at a run that is watched."""
QUIET: Final = 15.0
"""Seconds after which a comment says that the watcher is still heard."""


@router.get("/runs")
def runs(caller: Reads, request: Request) -> list[Json]:
    """One's runs, the newest first."""
    found = house_of(request).desk(caller.person).registry.all()
    return [_run(one) for one in found]


@router.post("/runs", status_code=202)
def start(wish: NewRun, caller: Works, request: Request) -> Json:
    """Begin a run; it is worked on by the server."""
    return _run(house_of(request).start_run(caller.person, wish.wish()))


@router.get("/runs/{run}")
def run(run: str, caller: Reads, request: Request) -> Json:
    """How a run stands."""
    return _standing(caller, request, run)


@router.get(
    "/runs/{run}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def events(run: str, caller: Reads, request: Request) -> StreamingResponse:
    """How a run stands, whenever that changes (server-sent events), until nobody works on it."""
    first = await run_in_threadpool(_standing, caller, request, run)

    async def changes() -> AsyncIterator[str]:
        shown, heard, now = None, time.monotonic(), first
        while True:
            if now != shown:
                shown, heard = now, time.monotonic()
                yield f"data: {json.dumps(now)}\n\n"
            elif time.monotonic() - heard > QUIET:
                heard = time.monotonic()
                yield ": still at work\n\n"
            if not now["open"]:
                return
            await asyncio.sleep(LOOK)
            now = await run_in_threadpool(_standing, caller, request, run)

    return StreamingResponse(changes(), media_type="text/event-stream", headers=UNSTORED)


@router.get("/runs/{run}/rows")
def rows(
    run: str,
    caller: Reads,
    request: Request,
    cursor: Annotated[int | None, Query(ge=0)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    failed: bool = False,
) -> Json:
    """Its rows, with where each cell came from. `cursor`: of the page before; null on the last."""
    desk = house_of(request).desk(caller.person)
    found = desk.rows_after(run, -1 if cursor is None else cursor, limit, failed=failed)
    more = len(found.records) == limit
    return {
        "items": found.records,
        "cursor": found.records[-1]["row"] if more else None,
        "total": found.total,
    }


@router.get("/runs/{run}/recipe", response_class=PlainTextResponse)
def recipe_of(run: str, caller: Reads, request: Request) -> PlainTextResponse:
    """The YAML that a run was begun with."""
    found = house_of(request).desk(caller.person).recipe_of(run)
    return PlainTextResponse(found, media_type="application/yaml")


@router.get("/runs/{run}/dataset")
def dataset(run: str, caller: Reads, request: Request) -> Json:
    """What a run has made: its tables and columns, and the counts of its manifest."""
    found = house_of(request).desk(caller.person).dataset(run)
    return {
        "name": found.name,
        "main": found.main,
        "tables": {name: table.count for name, table in found.tables.items()},
        "rehearsed": found.rehearsed,
        "manifest": found.manifest.model_dump(mode="json"),
    }


@router.post("/runs/{run}/cancel", status_code=202)
def cancel(run: str, caller: Works, request: Request) -> Json:
    """Stop a run; it can go on later."""
    house_of(request).cancel_run(caller.person, run)
    return _standing(caller, request, run)


@router.post("/runs/{run}/resume", status_code=202)
def resume(run: str, caller: Works, request: Request) -> Json:
    """Go on with a run."""
    house_of(request).resume_run(caller.person, run)
    return _standing(caller, request, run)


@router.delete("/runs/{run}", status_code=204)
def remove_run(run: str, caller: Works, request: Request) -> None:
    """Forget a run, and its dataset where that lies in the data folder."""
    house_of(request).desk(caller.person).remove(run)


@router.get("/runs/{run}/export", response_class=FileResponse)
def export_run(run: str, caller: Reads, request: Request, form: Form = "jsonl") -> FileResponse:
    """Its rows as a file; as a zip file where the form makes several."""
    folder = tempfile.TemporaryDirectory()
    try:
        name = f"{run}.{_ENDINGS.get(form, form)}"
        path = Path(folder.name) / name
        house_of(request).desk(caller.person).export(run, form, path)
        if path.is_dir():
            path = _zipped(path)
        answer = FileResponse(path, filename=path.name, background=BackgroundTask(folder.cleanup))
    except BaseException:
        folder.cleanup()
        raise
    return answer


def _zipped(folder: Path) -> Path:
    made = folder.with_suffix(".zip")
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for one in sorted(folder.rglob("*")):
            file.write(one, one.relative_to(folder))
    return made


def _standing(caller: Caller, request: Request, run: str) -> Json:
    found, job = house_of(request).open_run(caller.person, run)
    return {**_run(found), **_job(job)}


def _job(job: Job | None) -> Json:
    """Whether somebody works on it or will, and why it could not be worked on."""
    if job is None:
        return {"open": False, "error": None}
    return {"open": job.state not in ENDED, "error": job.error}


def _run(run: Run) -> Json:
    fields = ("id", "name", "recipe", "rows", "state", "counts", "created", "started", "ended")
    return plain({name: getattr(run, name) for name in fields})
