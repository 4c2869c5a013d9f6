"""Open connections to tool servers, by the official MCP client.

The client lives in an event loop; one loop in a thread of its own carries all of them, and is
started with the first. A connection is held by one task from its beginning to its end, since that
is what the client's scopes want; it is closed when nobody has used it for a while.

A server at an address is reached at the addresses that were looked up and checked, and not at what
a name says a moment later. Those where machines keep their secrets (link-local ones) are refused.
"""

import asyncio
import ipaddress
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from wordmill.errors import ConfigError, ExtraMissing, InvalidInput
from wordmill.processes import bounded, environment, found

if TYPE_CHECKING:
    import httpx2
    from mcp import Client

IDLE: Final = 300.0
"""Seconds after which an unused connection is closed."""
CONNECT: Final = 30.0
"""Seconds that a server may take to begin."""

_METADATA: Final = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200")))

Result = TypeVar("Result")


@dataclass(frozen=True)
class Reach:
    """How a server is reached. target: a program or an address.  secrets: variables or headers."""

    name: str
    transport: str
    target: str
    arguments: tuple[str, ...]
    secrets: Mapping[str, str]
    folder: Path


class Sessions:
    """The connections of a process. Safe from any thread; `close` it at the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._held: dict[Reach, _Held] = {}

    def do(
        self,
        reach: Reach,
        what: "Callable[[Client], Awaitable[Result]]",
        seconds: float,
        stop: Callable[[], bool] = lambda: False,
    ) -> Result:
        """Do something with a server, connected to as needed.

        stop: asked now and then; when it says yes, the call is cancelled.
        Raises ConfigError in words for a server that does not answer, TimeoutError, and
        InterruptedError after a `stop`.
        """
        future = asyncio.run_coroutine_threadsafe(self._do(reach, what, seconds), self._running())
        while True:
            try:
                return future.result(0.1)
            except TimeoutError:
                if future.done():
                    raise
            if stop():
                future.cancel()
                raise InterruptedError

    def forget(self, name: str) -> None:
        """Close the connections to a server: it is reached differently from now on."""
        if self._loop is not None:
            for held in [held for reach, held in self._held.items() if reach.name == name]:
                self._loop.call_soon_threadsafe(held.end)

    def close(self) -> None:
        """Close all; programs that were started end."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end_all(), loop).result(10.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10.0)
        if not thread.is_alive():
            loop.close()

    # In the loop.

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                try:
                    import mcp  # noqa: F401
                except ImportError as error:
                    raise ExtraMissing("What speaks to tool servers", "web") from error
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="wordmill-tools", daemon=True
                )
                self._thread.start()
            return self._loop

    async def _do(
        self, reach: Reach, what: "Callable[[Client], Awaitable[Result]]", seconds: float
    ) -> Result:
        held = self._held.get(reach)
        if held is None or held.ended:
            held = self._held[reach] = _Held(reach, self._held)
        client = await held.client()
        held.users += 1
        try:
            return await asyncio.wait_for(what(client), seconds)
        finally:
            held.users -= 1
            held.used = time.monotonic()

    async def _end_all(self) -> None:
        tasks = [held.task for held in self._held.values()]
        for held in list(self._held.values()):
            held.end()
        if tasks:
            await asyncio.wait(tasks, timeout=8.0)


class _Held:
    """One connection, and the task that holds it."""

    def __init__(self, reach: Reach, all_of_them: dict[Reach, "_Held"]) -> None:
        self.users, self.used = 0, time.monotonic()
        self._reach, self._all = reach, all_of_them
        self._begun: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self.task = asyncio.create_task(self._hold())

    @property
    def ended(self) -> bool:
        """Whether it is of no use any more."""
        return self.task.done() or self._over.is_set()

    async def client(self) -> "Client":
        """Who speaks to the server. Raises ConfigError."""
        try:
            return await asyncio.wait_for(asyncio.shield(self._begun), CONNECT)
        except TimeoutError:
            self.task.cancel()
            raise ConfigError(
                f"The tool server {self._reach.name!r} did not answer within {CONNECT:g} s."
            ) from None

    def end(self) -> None:
        """Close it."""
        self._over.set()

    async def _hold(self) -> None:
        from mcp import Client

        try:
            async with AsyncExitStack() as stack:
                transport = await _transport(self._reach, stack)
                client = await stack.enter_async_context(
                    Client(transport, read_timeout_seconds=600)
                )
                self._begun.set_result(client)
                while not self._over.is_set():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._over.wait(), 5.0)
                    if not self.users and time.monotonic() - self.used > IDLE:
                        break
        except BaseException as error:
            if not self._begun.done():
                words = f"The tool server {self._reach.name!r} does not answer: {_said(error)}"
                self._begun.set_exception(ConfigError(words))
                with suppress(ConfigError):
                    self._begun.exception()  # looked at, in case nobody waits for it any more
            if not isinstance(error, Exception):
                raise
        finally:
            if self._all.get(self._reach) is self:
                del self._all[self._reach]


async def _transport(reach: Reach, stack: AsyncExitStack) -> Any:
    if reach.transport == "http":
        from mcp.client.streamable_http import streamable_http_client

        client = await stack.enter_async_context(_http(reach.secrets))
        return streamable_http_client(reach.target, http_client=client)
    from mcp.client.stdio import StdioServerParameters, stdio_client

    program = found(reach.target)
    if program is None:
        raise InvalidInput(f"there is no program {reach.target!r} here")
    reach.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    command, *arguments = bounded(program, reach.arguments)
    said = stack.enter_context((reach.folder / "stderr.log").open("w", encoding="utf-8"))
    started = StdioServerParameters(
        command=command,
        args=arguments,
        env=environment(reach.secrets),
        cwd=reach.folder,
        encoding_error_handler="replace",
    )
    return stdio_client(started, errlog=said)


def _http(headers: Mapping[str, str]) -> "httpx2.AsyncClient":
    import httpcore2
    import httpx2

    class Checked(httpcore2.AsyncNetworkBackend):
        """Looks a name up once, checks what it means, and connects there."""

        def __init__(self) -> None:
            self._real = httpcore2.AnyIOBackend()

        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,
            local_address: str | None = None,
            socket_options: Iterable[Any] | None = None,
        ) -> httpcore2.AsyncNetworkStream:
            found = await asyncio.get_running_loop().getaddrinfo(host, port)
            addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
            for address in addresses:
                check_address(address)
            failure: Exception | None = None
            for address in addresses:
                try:
                    return await self._real.connect_tcp(
                        address, port, timeout, local_address, socket_options
                    )
                except httpcore2.ConnectError as error:
                    failure = error
            raise failure or httpcore2.ConnectError(f"{host} has no address")

    transport = httpx2.AsyncHTTPTransport(trust_env=False)
    # The transport has no argument for it.
    transport._pool._network_backend = Checked()
    return httpx2.AsyncClient(
        transport=transport,
        headers=dict(headers),
        timeout=httpx2.Timeout(30.0, read=600.0),
        trust_env=False,
    )


def check_address(address: str) -> None:
    """Raises InvalidInput for an address at which no tool server is, but perhaps secrets are."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found
    if found.is_link_local or found.is_multicast or found.is_unspecified or found in _METADATA:
        raise InvalidInput(f"{address} is no address at which a tool server may be")


def _said(error: BaseException) -> str:
    """The first words of what went wrong, out of the groups that tasks put it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    words = " ".join(str(error).split()) or type(error).__name__
    return words[:300].rstrip(".") + "."
