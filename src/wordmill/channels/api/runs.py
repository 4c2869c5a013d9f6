"""Recipes and runs over HTTP."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from wordmill.channels.api.auth import Reads, Works, house_of
from wordmill.channels.api.shared import Json, Sent, plain
from wordmill.runs.desk import Wish
from wordmill.runs.registry import Run

router = APIRouter(prefix="/api")

FORMS = {"jsonl": "jsonl", "csv": "csv", "sft": "jsonl", "dpo": "jsonl"}


class NewRun(Sent):
    """A run to be begun: a built-in recipe's name, or the YAML of one."""

    recipe: str = Field(examples=["rlhi"])
    rows: int | None = Field(default=None, ge=1)
    parameters: Json = Field(default_factory=dict)
    model: str | None = None
    seed: int | None = None
    budget: str = ""
    rest_of: str | None = None
    cache: bool = True


@router.get("/recipes", tags=["Runs"])
def recipes(caller: Reads, request: Request) -> list[str]:
    """The built-in recipes."""
    return house_of(request).desk(caller.person).recipes()


@router.post("/recipes/estimate", tags=["Runs"])
def estimate(wish: NewRun, caller: Works, request: Request) -> Json:
    """What a run would take; nothing is asked."""
    desk = house_of(request).desk(caller.person)
    return {"estimate": desk.estimate(Wish(**wish.model_dump()))}


@router.get("/runs", tags=["Runs"])
def runs(caller: Reads, request: Request) -> list[Json]:
    """One's runs, the newest first."""
    found = house_of(request).desk(caller.person).registry.all()
    return [_run(one) for one in found]


@router.post("/runs", status_code=202, tags=["Runs"])
def start(wish: NewRun, caller: Works, request: Request) -> Json:
    """Begin a run; it is worked on by the server."""
    return _run(house_of(request).start_run(caller.person, Wish(**wish.model_dump())))


@router.get("/runs/{run}", tags=["Runs"])
def run(run: str, caller: Reads, request: Request) -> Json:
    """How a run stands."""
    return _run(house_of(request).desk(caller.person).registry.get(run))


@router.get("/runs/{run}/rows", tags=["Runs"])
def rows(
    run: str,
    caller: Reads,
    request: Request,
    page: Annotated[int, Query(ge=1)] = 1,
    size: Annotated[int, Query(ge=1, le=1000)] = 50,
    failed: bool = False,
) -> Json:
    """Its rows, with where each cell came from."""
    found = house_of(request).desk(caller.person).rows(run, page, size, failed=failed)
    return {"items": found.records, "total": found.total}


@router.post("/runs/{run}/cancel", status_code=202, tags=["Runs"])
def cancel(run: str, caller: Works, request: Request) -> Json:
    """Stop a run; it can go on later."""
    house = house_of(request)
    house.cancel_run(caller.person, run)
    return _run(house.desk(caller.person).registry.get(run))


@router.post("/runs/{run}/resume", status_code=202, tags=["Runs"])
def resume(run: str, caller: Works, request: Request) -> Json:
    """Go on with a run."""
    return _run(house_of(request).resume_run(caller.person, run))


@router.delete("/runs/{run}", status_code=204, tags=["Runs"])
def remove_run(run: str, caller: Works, request: Request) -> None:
    """Forget a run, and its dataset where that lies in the data folder."""
    house_of(request).desk(caller.person).remove(run)


@router.get("/runs/{run}/export", tags=["Runs"])
def export_run(
    run: str,
    caller: Reads,
    request: Request,
    form: Literal["jsonl", "csv", "sft", "dpo"] = "jsonl",
) -> Response:
    """Its rows as a file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{run}.{FORMS[form]}"
        house_of(request).desk(caller.person).export(run, form, path)
        files = [path] if path.is_file() else sorted(path.rglob(f"*.{FORMS[form]}"))
        data = b"".join(file.read_bytes() for file in files)
    return Response(data, media_type="application/octet-stream")


def _run(run: Run) -> Json:
    fields = ("id", "name", "recipe", "rows", "state", "counts", "created", "started", "ended")
    return plain({name: getattr(run, name) for name in fields})
