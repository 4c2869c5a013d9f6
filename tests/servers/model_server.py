"""A model server in this process, whose workers run true models."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wordmill.model_server.library import Named
from wordmill.model_server.process import Command
from wordmill.model_server.serving import Wish, serve, worker_command
from wordmill.providers import local_start
from wordmill.settings import load


@contextmanager
def serving(models: Mapping[str, Path], command: Command = worker_command) -> Iterator[None]:
    """Of the data folder, so that the provider `local` finds it. models: folders and files."""
    up = threading.Event()
    begun: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def stop() -> None:
        begun.append((asyncio.get_running_loop(), asyncio.Event()))
        up.set()
        await begun[0][1].wait()

    thread = threading.Thread(
        target=serve,
        args=(load(), Named(models), Wish(stop=stop)),
        kwargs={"command": command},
        daemon=True,
    )
    thread.start()
    assert up.wait(30)
    try:
        yield
    finally:
        local_start.release(load())  # before its end, which would start another
        loop, event = begun[0]
        loop.call_soon_threadsafe(event.set)
        thread.join(30)
