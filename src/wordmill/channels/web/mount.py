"""Puts the workbench under an application: one process, one port.

Streamlit keeps one configuration a process, so it is set here, once, before its app is made.
"""

import tomllib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit
from fastapi import FastAPI
from streamlit import config, runtime
from streamlit.runtime import RuntimeState

from wordmill.channels.house import House
from wordmill.channels.web import place
from wordmill.channels.web.connecting import make_connecting
from wordmill.channels.web.entry import make_entry
from wordmill.channels.web.gate import Gate
from wordmill.channels.web.settling import freeze
from wordmill.errors import Unauthenticated
from wordmill.settings import Settings

OPTIONS = Path(__file__).with_name("streamlit.toml")
"""Of Streamlit: its own `config.toml`, which `.streamlit` in a checkout points to."""


def mount(app: FastAPI, house: House) -> None:
    """Add the pages before the workbench, then the workbench itself under everything else."""
    for name, value in options().items():
        config.set_option(name, value)
    place.enter(house)
    house.channels["web"] = _trouble
    app.include_router(make_entry(house))
    app.include_router(make_connecting(house))
    pages = streamlit.App(str(Path(__file__).parent / "main.py"))
    app.mount("/", pages)

    def admits(token: str) -> bool:
        try:
            house.accounts.sessions.check(token)
        except Unauthenticated:
            return False
        return True

    app.add_middleware(Gate, admits=admits, hosts=hosts_of(house.settings))
    app.router.lifespan_context = _beside(app.router.lifespan_context, pages)


def options() -> dict[str, Any]:
    """Streamlit's options by their whole names, as `theme.dark.primaryColor`."""
    return dict(_flat(tomllib.loads(OPTIONS.read_text(encoding="utf-8"))))


def _flat(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield path + name, value


def hosts_of(settings: Settings) -> tuple[str, ...]:
    """The names under which this server answers; () for any.

    A page of somebody else can point a name of its own at 127.0.0.1 and have a browser on this
    machine ask us under it, so where we listen for this machine alone only its own names count.
    """
    own = ("localhost", "127.0.0.1", "::1")
    if settings.hosts:
        return (*settings.hosts, *own)
    return own if settings.host in own else ()


def _trouble() -> str | None:
    """What is wrong with the workbench, if anything."""
    if runtime.exists() and runtime.get_instance().state is RuntimeState.STOPPED:
        return "Streamlit has stopped: the workbench answers again after a restart."
    return None


def _beside(first: Any, pages: streamlit.App) -> Any:
    """The application's lifespan with Streamlit's inside it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        own: AbstractAsyncContextManager[Any] = first(app)
        async with own as state, pages.lifespan()(app):
            freeze()
            yield state

    return lifespan
