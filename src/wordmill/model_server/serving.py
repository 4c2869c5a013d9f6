"""The server's process: its port, its lock, its beginning and its end.

    python -m wordmill.model_server.serving

starts it the way that others start it when they need it (see `providers.local_start`): on a port of
this machine alone, until nobody needs it. There is one for a data folder; a second one that is
started sees the lock and ends.
"""

import asyncio
import contextlib
import fcntl
import logging
import secrets
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from wordmill.database import open_database
from wordmill.errors import ConfigError, ExtraMissing, WordmillError
from wordmill.model_server import memory
from wordmill.model_server.front import Front
from wordmill.model_server.library import Shelf
from wordmill.model_server.pool import Pool
from wordmill.model_server.process import Command
from wordmill.model_server.served import Limits
from wordmill.model_server.types import Described, Library
from wordmill.providers.local_start import FILE, Address, read, write
from wordmill.settings import Settings, load
from wordmill.telemetry import reporting

log = logging.getLogger(__name__)

LOCK: Final = "model-server.lock"
BEGIN, LINGER = 60.0, 5.0
"""Seconds until somebody must have said that the server is needed, and after the last one left."""
LOOK: Final = 0.5
BACKLOG: Final = 2048


@dataclass(frozen=True, kw_only=True)
class Wish:
    """How it is to be served. port: 0 for any, the last one where that is free.  needed: it ends
    when nobody needs it any more.  stop: waits for what else ends it.
    """

    host: str = "127.0.0.1"
    port: int = 0
    needed: bool = False
    linger: float = LINGER
    stop: Callable[[], Awaitable[None]] | None = None


def worker_command(model: Described) -> Sequence[str]:
    """What is run for a model: a worker, in the same Python."""
    import json

    options = {name: value for name, value in model.options.items() if value is not None}
    return [
        sys.executable, "-m", "wordmill.model_server.worker",
        "--folder", str(model.path),
        "--engine", model.engine or "transformers",
        "--name", model.name,
        "--options", json.dumps(options),
    ]  # fmt: skip


def limits_of(settings: Settings) -> Limits:
    """What the settings say."""
    ceiling = settings.local_memory
    return Limits(
        memory=ceiling if ceiling is not None else int(memory.SHARE * memory.total()),
        idle=settings.local_idle or None,
        waiting=settings.local_queue,
        waiting_each=settings.local_person_queue,
        at_once_each=settings.local_person_slots or None,
        load=settings.local_load_seconds,
    )


def serve(
    settings: Settings,
    library: Library,
    wish: Wish,
    *,
    command: Command = worker_command,
    limits: Limits | None = None,
    ready: Callable[[Address], None] = lambda _: None,
) -> bool:
    """Serve until a signal, or until nobody needs it; False where another one serves already.

    ready: called with the address, once requests are taken.
    Raises ConfigError for an address that cannot be had, ExtraMissing.
    """
    with _alone(settings.home) as alone:
        if not alone:
            return False
        before = read(settings.home)
        token = settings.model_server_key or (before.token if before else secrets.token_urlsafe(32))
        with _bound(wish, before) as listening:
            host, port = listening.getsockname()[:2]
            where = Address(f"http://{_shown(host)}:{port}", token)
            running = _Running(settings, library, wish, command, limits or limits_of(settings))
            running.run(listening, where, ready)
        # Whoever has the port next must not be sent the token. After a kill both stay, so that
        # those who go on find the server again.
        (settings.home / FILE).unlink(missing_ok=True)
    return True


class _Running:
    def __init__(
        self, settings: Settings, library: Library, wish: Wish, command: Command, limits: Limits
    ) -> None:
        self._settings, self._library, self._wish = settings, library, wish
        self._command, self._limits = command, limits

    def run(
        self, listening: socket.socket, where: Address, ready: Callable[[Address], None]
    ) -> None:
        """Until the end."""
        try:
            import uvicorn
        except ModuleNotFoundError as error:
            raise ExtraMissing("The model server", "local") from error

        class Server(uvicorn.Server):
            @contextmanager
            def capture_signals(self) -> Iterator[None]:
                """Signals are ours: workers are to end first."""
                yield

        config = uvicorn.Config(
            lambda *_: None,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            lifespan="off",
            backlog=BACKLOG,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )

        async def work() -> None:
            pool = Pool(self._library, self._command, self._limits)
            front = Front(pool, where.token)
            config.app = front
            server = Server(config)
            ending = asyncio.Event()
            _on_signals(ending.set)
            looking = asyncio.create_task(pool.run())
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            needed = asyncio.create_task(self._needed(front))
            ended = asyncio.create_task(ending.wait())
            told = asyncio.create_task(_told(server, lambda: self._ready(where, ready)))
            try:
                await asyncio.wait(
                    (serving, needed, ended, looking), return_when=asyncio.FIRST_COMPLETED
                )
                if looking.done() and (fault := looking.exception()) is not None:
                    log.error("a fault of Wordmill", exc_info=fault)
                log.info("the model server ends")
            finally:
                for task in (needed, ended, looking, told):
                    task.cancel()
                await pool.close(self._settings.grace_seconds / 2)
                front.ended.set()
                server.should_exit = True
                await serving

        factory = config.get_loop_factory()
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(work())

    def _ready(self, where: Address, ready: Callable[[Address], None]) -> None:
        write(self._settings.home, where)
        log.info("the model server is at %s", where.url)
        ready(where)

    async def _needed(self, front: Front) -> None:
        """Until nobody needs it, where that is its end."""
        if self._wish.stop is not None:
            await self._wish.stop()
            return
        until = time.monotonic() + BEGIN
        while not self._wish.needed or front.holders or time.monotonic() < until:
            await asyncio.sleep(LOOK)
            if front.left is not None:
                until = front.left + self._wish.linger


async def _told(server: Any, ready: Callable[[], None]) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    ready()


def _on_signals(end: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread
            loop.add_signal_handler(number, end)


@contextmanager
def _alone(home: Path) -> Iterator[bool]:
    """Whether no other process serves this data folder; none does until the end."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / LOCK).open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextmanager
def _bound(wish: Wish, before: Address | None) -> Iterator[socket.socket]:
    """A socket that listens. Raises ConfigError."""
    last = urlsplit(before.url).port if before is not None and not wish.port else None
    family = socket.AF_INET6 if ":" in wish.host else socket.AF_INET
    for port in (last, wish.port):
        if port is None:
            continue
        with socket.socket(family, socket.SOCK_STREAM) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((wish.host, port))
                listening.listen(BACKLOG)
            except OSError as error:
                if port == last:
                    continue
                raise ConfigError(
                    f"The port {port} of {wish.host} cannot be had: {error.strerror}. --port names "
                    "another."
                ) from error
            listening.setblocking(False)
            yield listening
            return


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104  # it is recognised here, not chosen
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def main() -> None:
    """Start it for those who need it."""
    settings = load(serving=True)
    with reporting(settings), open_database(settings) as database:
        serve(settings, Shelf(database, settings), Wish(needed=True))


if __name__ == "__main__":
    try:
        main()
    except WordmillError as error:
        raise SystemExit(str(error)) from error
