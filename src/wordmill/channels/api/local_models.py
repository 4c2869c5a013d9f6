"""Models on this machine over HTTP: the hub, fetching, keeping, the disk."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field

from wordmill.channels.api.auth import Admins, Reads, house_of
from wordmill.channels.api.shared import Json, Sent, plain, shown
from wordmill.channels.model_shelf import ModelShelf, Order, Task
from wordmill.local_models.fit import Fit
from wordmill.local_models.hub import Sort
from wordmill.local_models.local_models import Ask
from wordmill.local_models.types import LocalModel

router = APIRouter(prefix="/api", tags=["Local models"])

Name = Annotated[str, Field(max_length=200)]
Tokens = Annotated[int | None, Query(ge=1, le=10_000_000)]
Streams = Annotated[int, Query(ge=1, le=1000)]


class Fetch(Sent):
    """A model on the hub, as owner/name. revision: a branch or tag to follow, or a commit.

    name: in the catalog.  file: the one of several GGUF files.  anyway: also where it does not fit.
    """

    repository: Name
    revision: Annotated[str, Field(max_length=100)] = "main"
    name: Name = ""
    file: Annotated[str, Field(max_length=300)] | None = None
    anyway: bool = False


class Import(Sent):
    """A folder or a GGUF file on the server's own disk."""

    path: Annotated[str, Field(min_length=1, max_length=4000)]
    name: Name = ""


class Options(Sent):
    """How a model is run; "auto" takes a choice back."""

    engine: str | None = None
    device: str | None = None
    dtype: str | None = None
    threads: int | str | None = None
    context: int | str | None = None
    pinned: bool | None = None
    follows: str | None = None


class Quantize(Sent):
    """What to make. to: float32, float16, int8 or int4.  text: read before and after."""

    to: str
    name: Name = ""
    text: Annotated[str, Field(max_length=1_000_000)] = ""


class Back(Sent):
    """Which revision, by its first digits; the last one without it."""

    revision: Annotated[str, Field(max_length=64)] = ""


class Ordered(Sent):
    """What is to be done with a model's process."""

    order: Order


class Token(Sent):
    """A token of the hub; it is never shown again."""

    token: str = Field(min_length=1, max_length=1000)


@router.get("/hub/models")
def search(
    caller: Admins,
    request: Request,
    search: Annotated[str, Query(max_length=200)] = "",
    task: str = "",
    license: str = "",  # noqa: A002  # its name in the URL
    author: str = "",
    least: Annotated[int | None, Query(ge=0)] = None,
    most: Annotated[int | None, Query(ge=0)] = None,
    sort: Sort = "downloads",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[Json]:
    """Models on the hub. least, most: parameters."""
    found = _shelf(request).search(
        caller.person, search, task=task, license_=license, author=author, least=least, most=most,
        sort=sort, limit=limit,
    )  # fmt: skip
    return [shown(one) for one in found]


@router.get("/hub/models/{owner}/{name}")
def plan(
    owner: str,
    name: str,
    caller: Admins,
    request: Request,
    revision: str = "main",
    file: str | None = None,
    context: Tokens = None,
    streams: Streams = 1,
) -> Json:
    """A model on the hub: what a fetch would bring, and whether it fits this machine."""
    ask = Ask(f"{owner}/{name}", revision, "", file)
    planned = _shelf(request).plan(caller.person, ask, context, streams)
    return {
        **shown(planned.about.found),
        "commit": planned.about.commit,
        "form": planned.form,
        "files": [asdict(one) for one in planned.files],
        "size": planned.size,
        "facts": asdict(planned.facts),
        "fit": _fit(planned.fit),
        "remote_code": planned.remote_code,
        "notes": list(planned.notes),
    }


@router.get("/hub/models/{owner}/{name}/card")
def card(owner: str, name: str, caller: Admins, request: Request, revision: str = "main") -> Json:
    """What a model's owner wrote about it: Markdown of a stranger, to be shown with care."""
    return {"card": _shelf(request).card(caller.person, f"{owner}/{name}", revision)}


@router.put("/hub/token")
def set_token(new: Token, caller: Admins, request: Request) -> Json:
    """Try a token at the hub and keep it, encrypted."""
    return {"name": _shelf(request).store_token(caller.person, new.token)}


@router.delete("/hub/token", status_code=204)
def remove_token(caller: Admins, request: Request) -> None:
    """Forget the stored token."""
    _shelf(request).remove_token(caller.person)


@router.get("/local-models")
def local_models(caller: Reads, request: Request) -> list[Json]:
    """The models on this machine."""
    return [_model(one) for one in _shelf(request).all()]


@router.post("/local-models", status_code=202)
def fetch(new: Fetch, caller: Admins, request: Request) -> Json:
    """Begin to fetch a model from the hub."""
    ask = Ask(new.repository, new.revision, new.name, new.file)
    return _task(_shelf(request).fetch(caller.person, ask, anyway=new.anyway))


@router.post("/local-models/import", status_code=201)
def take(new: Import, caller: Admins, request: Request) -> Json:
    """Add a folder or a GGUF file of the server's own disk; the files stay where they are."""
    return _model(_shelf(request).take(caller.person, Path(new.path), new.name))


@router.get("/local-models/disk")
def disk(caller: Reads, request: Request) -> list[Json]:
    """What fetched models take of the disk, by revision; `alone`: what deleting it frees."""
    return [
        {
            "repository": one.repository, "commit": one.commit, "size": one.size,
            "alone": one.alone, "models": list(names),
        }
        for one, names in _shelf(request).used()
    ]  # fmt: skip


@router.delete("/local-models/disk/{owner}/{name}/{commit}")
def remove_revision(owner: str, name: str, commit: str, caller: Admins, request: Request) -> Json:
    """Delete a revision that no model uses now."""
    freed = _shelf(request).remove_revision(caller.person, f"{owner}/{name}", commit)
    return {"freed": freed}


@router.get("/local-models/loaded")
def loaded(caller: Reads, request: Request) -> Json:
    """What is in memory, with speed and queue; `loaded` is null where no model server runs."""
    found = _shelf(request).loaded()
    return {"loaded": None if found is None else asdict(found)}


@router.get("/local-models/history")
def history(caller: Reads, request: Request, since: float = 0.0) -> Json:
    """Figures of each model over the last hour. since: Unix seconds."""
    return {"models": dict(_shelf(request).history(since))}


@router.get("/local-models/people")
def people(caller: Admins, request: Request) -> Json:
    """What each person used of each model since the model server began."""
    return {"models": dict(_shelf(request).people(caller.person))}


@router.get("/local-models/tasks")
def tasks(caller: Admins, request: Request) -> list[Json]:
    """What is being fetched and converted, and what was."""
    return [_task(one) for one in _shelf(request).tasks(caller.person)]


@router.get("/local-models/tasks/{task}")
def task(task: str, caller: Admins, request: Request) -> Json:
    """One of them; `done` and `of` are bytes."""
    return _task(_shelf(request).task(caller.person, task))


@router.post("/local-models/tasks/{task}/pause")
def pause(task: str, caller: Admins, request: Request) -> Json:
    """Stop it; what has come stays."""
    return _task(_shelf(request).pause(caller.person, task))


@router.post("/local-models/tasks/{task}/resume", status_code=202)
def resume(task: str, caller: Admins, request: Request) -> Json:
    """Go on with what was paused or failed, as a new task."""
    return _task(_shelf(request).resume(caller.person, task))


@router.delete("/local-models/tasks/{task}")
def discard(task: str, caller: Admins, request: Request) -> Json:
    """Stop it, and throw away what it fetched."""
    return {"freed": _shelf(request).discard(caller.person, task)}


@router.get("/local-models/{model}")
def local_model(model: str, caller: Reads, request: Request) -> Json:
    """One model on this machine."""
    return _model(_shelf(request).find(model))


@router.patch("/local-models/{model}")
def change(model: str, new: Options, caller: Admins, request: Request) -> Json:
    """Change how a model is run, from its next load on."""
    words = {
        name: {True: "yes", False: "no"}.get(value, str(value))
        if isinstance(value, bool)
        else str(value)
        for name, value in new.model_dump(exclude_unset=True, exclude_none=True).items()
    }
    return _model(_shelf(request).set(caller.person, model, words))


@router.delete("/local-models/{model}")
def remove(model: str, caller: Admins, request: Request) -> Json:
    """Forget a model, and what was fetched or made of it."""
    return {"freed": _shelf(request).remove(caller.person, model)}


@router.post("/local-models/{model}/order", status_code=204)
def order(model: str, new: Ordered, caller: Admins, request: Request) -> None:
    """Load a model, unload, restart or warm it; the answer comes when that is done."""
    _shelf(request).order(caller.person, new.order, model)


@router.get("/local-models/{model}/fit")
def fit(
    model: str, caller: Reads, request: Request, context: Tokens = None, streams: Streams = 1
) -> Json:
    """Whether a model that is here fits the memory now."""
    return _fit(_shelf(request).fit(model, context, streams))


@router.post("/local-models/{model}/quantize", status_code=202)
def quantize(model: str, new: Quantize, caller: Admins, request: Request) -> Json:
    """Begin to make a model for OpenVINO out of this one."""
    return _task(_shelf(request).quantize(caller.person, model, new.to, new.name, new.text))


@router.get("/local-models/{model}/update")
def newer(model: str, caller: Admins, request: Request) -> Json:
    """What is newer on the hub; `update` is null where nothing is."""
    found = _shelf(request).newer(caller.person, model)
    return {"update": None if found is None else asdict(found)}


@router.post("/local-models/{model}/update", status_code=202)
def update(model: str, caller: Admins, request: Request) -> Json:
    """Begin to fetch what is newer."""
    return _task(_shelf(request).update(caller.person, model))


@router.post("/local-models/{model}/rollback")
def roll_back(model: str, caller: Admins, request: Request, to: Back | None = None) -> Json:
    """Use an earlier revision again."""
    revision = to.revision if to else ""
    return _model(_shelf(request).roll_back(caller.person, model, revision))


def _shelf(request: Request) -> ModelShelf:
    return house_of(request).shelf


def _model(model: LocalModel) -> Json:
    values: dict[str, Any] = plain(asdict(model))
    values["path"] = str(model.path)
    values["earlier"] = [
        {"revision": one.revision, "at": one.at.isoformat()} for one in model.earlier
    ]
    return {**values, "engines": list(model.engines)}


def _fit(found: Fit) -> Json:
    rows = [
        {**asdict(row.need), "memory": row.need.memory, "verdict": row.verdict}
        for row in found.rows
    ]
    return {**asdict(found), "rows": rows}


def _task(task: Task) -> Json:
    return asdict(task)
