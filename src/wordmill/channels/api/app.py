"""The HTTP API: one FastAPI application over a house."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from wordmill.channels.api import (
    batches,
    channels,
    commands,
    conversations,
    documents,
    errors,
    exchange,
    folders,
    health,
    local_models,
    me,
    messages,
    models,
    openai,
    people,
    queues,
    recipes,
    runs,
    settings,
)
from wordmill.channels.api.bounds import Bounds
from wordmill.channels.api.examples import describing
from wordmill.channels.api.logs import Logs
from wordmill.channels.house import House
from wordmill.completions.gateway import Gateway


def make_app(house: House) -> FastAPI:
    """The application. The house stays open until after its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.gateway = Gateway()
        yield
        app.state.gateway.close()

    app = FastAPI(
        title="Wordmill",
        version=version("wordmill"),
        summary="Talk to models, keep conversations, make datasets.",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.house = house
    errors.install(app)
    # A request is held against one route after the other: first what programs ask often.
    app.include_router(batches.openai)
    for part in (
        openai, batches, messages, conversations, runs, exchange, documents, folders, commands,
        channels, recipes, queues, models, local_models, me, people, settings, health,
    ):  # fmt: skip
        app.include_router(part.router)
    app.openapi = describing(app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    app.add_middleware(Bounds, settings=house.settings)
    app.add_middleware(Logs)
    return app
