"""Puts the workbench under an application: one process, one port.

Streamlit keeps one configuration a process, so it is set here, once, before its app is made.
"""

import gc
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import streamlit
from fastapi import FastAPI
from streamlit import config, runtime
from streamlit.runtime import RuntimeState

from wordmill.channels.house import House
from wordmill.channels.web import place
from wordmill.channels.web.entry import make_entry
from wordmill.channels.web.gate import Gate
from wordmill.errors import Unauthenticated
from wordmill.settings import Settings

OPTIONS: dict[str, Any] = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "runner.magicEnabled": False,
    "server.enableStaticServing": False,
    "server.fileWatcherType": "none",
    "server.maxUploadSize": 20,
    "theme.primaryColor": "#a6451f",
    "theme.baseRadius": "0.45rem",
    "theme.headingFontSizes": ["1.75rem", "1.4rem", "1.2rem", "1.1rem", "1rem", "1rem"],
    "theme.chartCategoricalColors": [
        "#a6451f",
        "#3f6f8f",
        "#7a8b3c",
        "#8a5a9e",
        "#c08a2d",
        "#4d8b7a",
        "#b0577a",
        "#6b6f76",
    ],
    "theme.dark.primaryColor": "#e0855c",
    "theme.dark.chartCategoricalColors": [
        "#e0855c",
        "#7fb2d3",
        "#b3c46f",
        "#c59ad6",
        "#e3b866",
        "#83c4b1",
        "#e193b4",
        "#a9afb8",
    ],
}
"""Of Streamlit. Uploads in MB: what an attachment may have."""

_HEAVY = ("altair", "numpy", "pandas", "pyarrow")


def mount(app: FastAPI, house: House) -> None:
    """Add the pages before the workbench, then the workbench itself under everything else."""
    for name, value in OPTIONS.items():
        config.set_option(name, value)
    place.enter(house)
    house.channels["web"] = _trouble
    app.include_router(make_entry(house))
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
            # Streamlit collects garbage after every run of a page, and that takes longer the more
            # there is: what is loaded now stays for good and need not be looked at again.
            for name in _HEAVY:
                import_module(name)
            gc.collect()
            gc.freeze()
            yield state

    return lifespan
